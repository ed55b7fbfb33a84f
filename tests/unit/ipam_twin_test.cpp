// SPDX-License-Identifier: Apache-2.0
// What Calico's IPAM made of the same requests on the same objects, replayed:
// tests/data/ipam/*.json holds the objects at the start, each request with the answer that Calico
// gave, and now and then all blocks, affinities and handles as Calico had written them. Ours must
// be equal in each field.
//
// Left out of the comparison: points in time (only whether there is one), and the base of the
// sequence numbers ("writesSinceAllocation": the block's number less the ordinal's).
#include "agent/api/names.h"
#include "tests/unit/ipam_world.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace manx::ipam::test {
namespace {

using nlohmann::json;

class IpamTwin : public testing::TestWithParam<std::string> {
protected:
    void put(const json& object) {
        auto kind = api::find_kind(object["apiVersion"].get<std::string>(),
                                   object["kind"].get<std::string>());
        ASSERT_TRUE(kind) << kind.error().text();
        world.put(*kind, "", object["metadata"]["name"], object);
    }

    Allocator& allocator(const std::string& host) {
        auto& process = processes[host];
        if (!process) {
            process = world.process(host);
        }
        return process->allocator;
    }

    // All blocks are old enough to be taken from their owners.
    void age() {
        for (auto& [key, entry] : world.memory->entries) {
            if (key.kind == api::Kind::IpamBlock &&
                entry.object["spec"].contains("affinityClaimTime")) {
                json object = entry.object;
                object["spec"]["affinityClaimTime"] = "2026-01-01T00:00:00Z";
                ASSERT_TRUE(world.store.update(key, object));
            }
        }
    }

    json play(const json& step);
    json auto_assign(const json& step);
    json release_ips(const json& step);
    json release_host(const std::string& host, bool must_empty);
    json facts();

    World world;
    std::map<std::string, std::unique_ptr<Process>> processes;
};

template <typename T>
json answer(const Result<T>& result) {
    return {{"ok", result.has_value()}};
}

std::vector<std::string> texts(const std::vector<AssignedAddress>& list) {
    std::vector<std::string> out;
    for (const auto& assigned : list) {
        out.push_back(assigned.address.text());
    }
    return out;
}

std::map<std::string, std::string> attributes(const json& step) {
    return step.value("attrs", std::map<std::string, std::string>{});
}

json IpamTwin::auto_assign(const json& step) {
    Request request;
    request.handle = step["handle"];
    request.attrs = attributes(step);
    request.num4 = step["num4"];
    request.num6 = step["num6"];
    request.pools4 = step.value("pools4", std::vector<std::string>{});
    request.pools6 = step.value("pools6", std::vector<std::string>{});
    request.namespace_labels = step.value("ns_labels", api::StringMap{});
    request.max_blocks_per_host = step.value("max_blocks", 0U);
    request.use = step.value("use", "") == "Tunnel" ? api::PoolUse::Tunnel : api::PoolUse::Workload;
    allocator(step["host"]).invalidate(); // Calico lists its blocks for each request
    auto assigned = allocator(step["host"]).auto_assign(request);
    json result = answer(assigned);
    if (assigned) {
        result["v4"] = texts(assigned->v4);
        result["v6"] = texts(assigned->v6);
    }
    return result;
}

json IpamTwin::release_ips(const json& step) {
    std::vector<Release> releases;
    for (const auto& address : step["ips"]) {
        releases.push_back({ip(address), std::nullopt, std::nullopt});
        if (step.contains("handle")) {
            releases.back().handle = step["handle"].get<std::string>();
        }
    }
    auto outcome = allocator(step["host"]).release_ips(releases);
    json result = answer(outcome);
    if (outcome) {
        std::vector<std::string> unallocated;
        for (const auto& address : outcome->unallocated) {
            unallocated.push_back(address.text());
        }
        std::ranges::sort(unallocated);
        result["unallocated"] = unallocated;
    }
    return result;
}

json IpamTwin::release_host(const std::string& host, bool must_empty) {
    bool ok = true;
    for (Family family : kFamilies) {
        auto affinities = Repository(world.store).affinities_of({host, "host"}, family);
        EXPECT_TRUE(affinities);
        for (const auto& affinity : *affinities) {
            auto released = allocator(host).release_block(affinity.value.cidr, must_empty);
            ok = ok && (released || released.error().kind == ErrorKind::NotFound);
        }
    }
    return {{"ok", ok}};
}

json IpamTwin::play(const json& step) {
    std::string op = step["op"];
    std::string host = step.value("host", "none");
    allocator(host).note_node_changed();
    if (op == "auto") {
        return auto_assign(step);
    }
    if (op == "assign") {
        return answer(allocator(host).assign_ip(
            {ip(step["ip"]), step["handle"], attributes(step), api::PoolUse::Workload}));
    }
    if (op == "release_ips") {
        return release_ips(step);
    }
    if (op == "release_handle") {
        return answer(allocator(host).release_by_handle(step["handle"].get<std::string>()));
    }
    if (op == "release_host") {
        return release_host(host, step["must_empty"]);
    }
    if (op == "claim") {
        return answer(allocator(host).claim_block(cidr(step["cidr"])));
    }
    if (op == "release_affinity") {
        auto released = allocator(host).release_block(cidr(step["cidr"]), step["must_empty"]);
        return {{"ok", released || released.error().kind == ErrorKind::NotFound}};
    }
    if (op == "ips_by_handle") {
        auto addresses = allocator(host).addresses_of(step["handle"].get<std::string>());
        auto held = texts(addresses.value_or(std::vector<AssignedAddress>{}));
        std::ranges::sort(held);
        return {{"ok", true}, {"ips", held}};
    }
    ADD_FAILURE() << "unknown step " << op;
    return {};
}

json IpamTwin::facts() {
    json all = json::object();
    for (const auto& [key, entry] : world.memory->entries) {
        json spec = entry.object.value("spec", json::object());
        switch (key.kind) {
        case api::Kind::IpamBlock: {
            auto written = spec["sequenceNumber"].get<uint64_t>();
            json since = json::object();
            for (const auto& [ordinal, number] : spec["sequenceNumberForAllocation"].items()) {
                since[ordinal] = written - number.get<uint64_t>();
            }
            spec["writesSinceAllocation"] = since;
            spec.erase("sequenceNumber");
            spec.erase("sequenceNumberForAllocation");
            if (spec.contains("affinityClaimTime")) {
                spec["affinityClaimTime"] = true;
            }
            for (auto& attribute : spec["attributes"]) {
                if (attribute.contains("releasedAt")) {
                    attribute["releasedAt"] = true;
                }
            }
            all["block " + key.name] = spec;
            break;
        }
        case api::Kind::BlockAffinity:
            spec["labels"] = entry.object["metadata"]["labels"];
            all["affinity " + key.name] = spec;
            break;
        case api::Kind::IpamHandle:
            all["handle " + key.name] = spec;
            break;
        default:
            break;
        }
    }
    return all;
}

TEST_P(IpamTwin, WritesWhatCalicoWrote) {
    std::ifstream file(std::filesystem::path(MANX_IPAM_DATA) / (GetParam() + ".json"));
    ASSERT_TRUE(file) << MANX_IPAM_DATA;
    json recorded = json::parse(file);
    world.now = std::chrono::sys_days(std::chrono::year(2026) / 11 / 29);
    for (const auto& object : recorded["start"]) {
        put(object);
    }
    unsigned compared = 0;
    size_t number = 0;
    for (const auto& step : recorded["steps"]) {
        world.now += 10ms;
        number++;
        std::string op = step["op"];
        if (op == "put") {
            put(step["object"]);
            for (auto& [host, process] : processes) {
                process->allocator.invalidate();
            }
        } else if (op == "age") {
            age();
        } else if (op == "compare") {
            json ours = facts();
            ASSERT_EQ(ours, step["objects"])
                << "step " << number << "\n"
                << json::diff(step["objects"], ours).dump(1).substr(0, 2000);
            compared++;
        } else {
            json ours = play(step);
            json theirs = step["result"];
            if (theirs["ok"] == false) {
                theirs = {{"ok", false}};
            }
            ASSERT_EQ(ours, theirs) << "step " << number << ": " << step.dump();
        }
    }
    EXPECT_GT(compared, 1U);
}

INSTANTIATE_TEST_SUITE_P(Recorded, IpamTwin,
                         testing::Values("one-pool", "several-pools", "cooldown"),
                         [](const auto& made) {
                             std::string name = made.param;
                             std::erase(name, '-');
                             return name;
                         });

} // namespace
} // namespace manx::ipam::test
