// SPDX-License-Identifier: Apache-2.0
// A cluster for IPAM's tests: nodes with an allocator each, pods, pools, a clock, and what must
// hold of all of them after every step, whoever died where.
#pragma once

#include "agent/ipam/gc.h"
#include "agent/ipam/ipam.h"
#include "agent/ipam/survey.h"
#include "tests/unit/ipam_memory_store.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace manx::ipam::test {

using namespace std::chrono_literals;

inline Cidr cidr(const std::string& text) {
    return *Cidr::parse(text);
}

inline IpAddress ip(const std::string& text) {
    return *IpAddress::parse(text);
}

// One process: its own view of the store, and an allocator.
struct Process {
    Process(const std::shared_ptr<Memory>& memory, const std::string& node, const Clock& clock)
        : store(memory), allocator(store, node, options(clock)) {}

    static Options options(const Clock& clock) {
        Options o;
        o.clock = clock;
        o.backoff = [](unsigned) {};
        o.max_age = std::chrono::hours(1);
        return o;
    }

    MemoryStore store;
    Allocator allocator;
};

class World {
public:
    World() : memory(std::make_shared<Memory>()), store(memory) {}

    std::shared_ptr<Memory> memory;
    MemoryStore store; // of the test itself
    Time now = std::chrono::sys_days(std::chrono::year(2026) / 8 / 22);
    // Addresses that were handed out and not released, by handle: the truth.
    std::map<std::string, std::set<IpAddress>> held;

    Clock clock() {
        return [this] { return now; };
    }

    std::unique_ptr<Process> process(const std::string& node) {
        return std::make_unique<Process>(memory, node, clock());
    }

    void put(api::Kind kind, const std::string& ns, const std::string& name,
             nlohmann::json object) {
        object["apiVersion"] = std::string(api::info(kind).api_version);
        object["kind"] = std::string(api::info(kind).name);
        object["metadata"]["name"] = name;
        if (!ns.empty()) {
            object["metadata"]["namespace"] = ns;
        }
        datastore::Key key{kind, ns, name};
        bool exists = memory->entries.contains(key);
        ASSERT_TRUE(exists ? store.update(key, object) : store.create(key, object));
    }

    void add_node(const std::string& name,
                  const nlohmann::json& labels = nlohmann::json::object()) {
        put(api::Kind::Node, "", name, {{"metadata", {{"labels", labels}}}});
    }

    void remove(api::Kind kind, const std::string& ns, const std::string& name) {
        (void)store.remove({kind, ns, name});
    }

    void add_pool(const std::string& name, const std::string& text, unsigned block_size,
                  nlohmann::json spec = nlohmann::json::object()) {
        spec["cidr"] = text;
        spec["blockSize"] = block_size;
        put(api::Kind::IpPool, "", name, {{"spec", spec}});
    }

    void configure(nlohmann::json spec) {
        put(api::Kind::IpamConfig, "", "default", {{"spec", std::move(spec)}});
    }

    void add_pod(const std::string& name, const std::string& node,
                 const std::set<IpAddress>& addresses = {}) {
        nlohmann::json ips = nlohmann::json::array();
        for (const auto& address : addresses) {
            ips.push_back({{"ip", address.text()}});
        }
        put(api::Kind::Pod, "default", name,
            {{"spec", {{"nodeName", node}, {"containers", nlohmann::json::array()}}},
             {"status", {{"phase", "Running"}, {"podIPs", ips}}}});
    }

    Request request(const std::string& pod, const std::string& node, unsigned num4 = 1,
                    unsigned num6 = 0) {
        Request r;
        r.handle = pod_handle("k8s-pod-network", "c-" + pod);
        r.attrs = pod_attributes(node, "default", pod, now);
        r.num4 = num4;
        r.num6 = num6;
        return r;
    }

    void remember(const std::string& handle, const Assigned& assigned) {
        for (const auto* list : {&assigned.v4, &assigned.v6}) {
            for (const auto& address : *list) {
                for (const auto& [other, addresses] : held) {
                    EXPECT_FALSE(addresses.contains(address.address))
                        << address.address.text() << " of " << other << " was given to " << handle;
                }
                held[handle].insert(address.address);
            }
        }
    }

    std::vector<Stored<Block>> blocks() { return *Repository(store).blocks(); }

    std::vector<std::string> block_names() {
        std::vector<std::string> out;
        for (const auto& block : blocks()) {
            out.push_back(block.value.cidr().text() + " " + block.value.affinity());
        }
        return out;
    }

    // What holds at any moment, in the middle of everything.
    void check() {
        auto snapshot = take_snapshot(store);
        ASSERT_TRUE(snapshot) << snapshot.error().text();
        ASSERT_TRUE(snapshot->left_out.broken.empty()) << snapshot->left_out.broken.front();
        Survey found = survey(*snapshot);
        EXPECT_TRUE(may_be_damaged || found.damaged.empty());
        EXPECT_TRUE(found.overlapping.empty());
        EXPECT_TRUE(found.no_affinity.empty()) << found.no_affinity.front().key();
        std::map<IpAddress, std::string> in_blocks;
        for (const auto& stored : snapshot->blocks) {
            for (const auto& allocation : stored.value.allocations()) {
                auto [at, fresh] = in_blocks.emplace(allocation.address,
                                                     allocation.attribute->handle_id.value_or(""));
                EXPECT_TRUE(fresh) << allocation.address.text() << " is in two blocks";
            }
        }
        for (const auto& [handle, addresses] : held) {
            for (const auto& address : addresses) {
                EXPECT_EQ(in_blocks[address], handle) << address.text();
            }
        }
        for (const auto& fault : found.handles) {
            EXPECT_TRUE(fault.too_much) << "handle " << fault.id << " counts too little";
        }
        std::map<Cidr, std::string> owners;
        for (const auto& stored : snapshot->blocks) {
            owners[stored.value.cidr()] = stored.value.affinity();
        }
        for (const auto& stored : snapshot->affinities) {
            if (stored.value.state == api::AffinityState::Confirmed) {
                BlockOwner owner{stored.value.node, stored.value.type};
                EXPECT_EQ(owners[stored.value.cidr], owner.text())
                    << "a confirmed affinity to " << stored.value.cidr.text();
            }
        }
    }

    // Passes of the collector, far enough apart.
    Collected collect(unsigned passes = 4) {
        Collected sum;
        for (unsigned i = 0; i < passes; i++) {
            auto done = collect_once(store, now, collector);
            EXPECT_TRUE(done) << done.error().text();
            if (done) {
                sum.leaks_released += done->leaks_released;
                sum.blocks_released += done->blocks_released;
                sum.handles_repaired += done->handles_repaired;
                sum.affinities_repaired += done->affinities_repaired;
                sum.cooled_freed += done->cooled_freed;
                EXPECT_EQ(done->failures, 0U);
            }
            now += 16min;
        }
        return sum;
    }

    // Changes a stored object by hand, as other software may.
    template <typename Fn>
    void edit(api::Kind kind, const std::string& name, Fn change) {
        datastore::Key key{kind, "", name};
        ASSERT_TRUE(memory->entries.contains(key)) << key.text();
        auto object = memory->entries.at(key).object;
        change(object["spec"], object["metadata"]);
        ASSERT_TRUE(store.update(key, object));
    }

    // Nothing is allocated, no handle is left, no affinity is unfinished.
    void check_all_came_back() {
        auto snapshot = take_snapshot(store);
        ASSERT_TRUE(snapshot);
        for (const auto& stored : snapshot->blocks) {
            EXPECT_TRUE(stored.value.empty()) << stored.value.cidr().text();
            EXPECT_EQ(stored.value.data().unallocated.size(),
                      stored.value.data().allocations.size());
            EXPECT_TRUE(stored.value.data().attributes.empty());
        }
        EXPECT_TRUE(snapshot->handles.empty())
            << snapshot->handles.front().value.handle_id << " is left";
        Survey found = survey(*snapshot);
        EXPECT_TRUE(found.affinities.empty()) << found.affinities.front().key();
        EXPECT_TRUE(found.no_affinity.empty());
        EXPECT_TRUE(found.unowned.empty());
    }

    CollectorState collector;
    bool may_be_damaged = false; // somebody writes nonsense into the lists of blocks
};

} // namespace manx::ipam::test
