// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/survey.h"

#include "agent/api/names.h"
#include "agent/api/node.h"
#include "agent/ipam/pools.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace manx::ipam {

namespace {

std::string attribute_text(const api::AllocationAttribute& attribute, const char* name) {
    auto at = attribute.secondary.find(name);
    return at == attribute.secondary.end() ? "" : at->second;
}

template <typename T, typename Fn>
Result<void> read_all(datastore::Store& store, api::Kind kind, LeftOut& left_out, Fn add) {
    TRY_ASSIGN(auto found, store.list(kind));
    for (const auto& object : found.objects) {
        auto json = api::parse_json(object.json);
        auto value = json ? T::from_json(*json) : Result<T>(Unexpected(json.error()));
        if (value) {
            add(std::move(*value));
        } else {
            auto error = json ? value.error() : value.error().within(object.key.text());
            left_out.broken.push_back(error.text());
        }
    }
    return {};
}

BlockFinding finding(const Block& block) {
    return {block.cidr(), block.affinity(), block.data().sequence_number};
}

void survey_leaks(const Snapshot& snapshot, Survey& out) {
    std::set<std::string> used_handles;
    for (const auto& stored : snapshot.blocks) {
        for (const Allocation& allocation : stored.value.allocations()) {
            const auto& attribute = *allocation.attribute;
            auto pod = snapshot.pods.find(pod_of(attribute));
            Use use = judge(allocation.address, attribute,
                            pod == snapshot.pods.end() ? nullptr : &pod->second,
                            snapshot.nodes.contains(node_of(attribute)));
            if (use == Use::InUse) {
                if (attribute.handle_id) {
                    used_handles.emplace(clean_handle(*attribute.handle_id));
                }
                continue;
            }
            out.leaks.push_back({allocation.address, stored.value.cidr(), attribute,
                                 allocation.sequence_number, use == Use::NodeGone, true});
        }
    }
    for (Leak& leak : out.leaks) {
        leak.whole_handle =
            !leak.attribute.handle_id ||
            !used_handles.contains(std::string(clean_handle(*leak.attribute.handle_id)));
    }
}

void survey_handles(const Snapshot& snapshot, Survey& out) {
    std::map<std::string, std::pair<std::string, std::map<Cidr, int>>> actual; // by object name
    for (const auto& stored : snapshot.blocks) {
        for (const auto& [id, count] : stored.value.handles()) {
            if (id == kWindowsHandle) {
                continue;
            }
            auto& entry = actual[id];
            entry.first = id;
            entry.second[stored.value.cidr()] += static_cast<int>(count);
        }
    }
    for (const auto& stored : snapshot.handles) {
        HandleFault fault{stored.value.handle_id, stored.resource_version, {}, false};
        auto found = actual.find(std::string(clean_handle(stored.value.handle_id)));
        if (found != actual.end()) {
            fault.actual = std::move(found->second.second);
            actual.erase(found);
        }
        bool unknown = std::ranges::any_of(stored.value.block, [&](const auto& entry) {
            auto cidr = Cidr::parse(entry.first);
            return cidr && snapshot.left_out.broken_blocks.contains(api::block_name(*cidr));
        });
        if (unknown) {
            continue; // what such a block holds nobody knows
        }
        bool too_little = false;
        std::map<Cidr, int> rest = fault.actual;
        for (const auto& [text, counted] : stored.value.block) {
            auto cidr = Cidr::parse(text);
            auto there = cidr ? rest.find(*cidr) : rest.end();
            int real = there == rest.end() ? 0 : there->second;
            if (there != rest.end()) {
                rest.erase(there);
            }
            fault.too_much = fault.too_much || counted > real || counted == 0;
            too_little = too_little || counted < real;
        }
        fault.too_much = fault.too_much || stored.value.block.empty();
        if (fault.too_much || too_little || !rest.empty()) {
            out.handles.push_back(std::move(fault));
        } else {
            out.good_handles++;
        }
    }
    for (auto& [name, entry] : actual) {
        out.handles.push_back({entry.first, "", std::move(entry.second), false});
    }
}

void survey_owners(const Snapshot& snapshot, Survey& out) {
    std::map<Cidr, const Block*> blocks;
    std::map<std::pair<std::string, Family>, unsigned> owned;
    for (const auto& stored : snapshot.blocks) {
        blocks[stored.value.cidr()] = &stored.value;
        owned[{stored.value.affinity(), stored.value.cidr().family()}]++;
    }
    std::set<std::pair<std::string, Cidr>> with_affinity;
    for (const auto& stored : snapshot.affinities) {
        const auto& affinity = stored.value;
        BlockOwner owner{affinity.node, affinity.type};
        with_affinity.emplace(owner.text(), affinity.cidr);
        AffinityFinding found{owner, affinity.cidr, stored.resource_version, {}};
        auto block = blocks.find(affinity.cidr);
        if (owner.type == "host" && !snapshot.nodes.contains(owner.name)) {
            found.fault = AffinityFault::NodeGone;
        } else if (snapshot.left_out.broken_blocks.contains(api::block_name(affinity.cidr))) {
            continue; // whose it is nobody knows
        } else if (block == blocks.end()) {
            found.fault = AffinityFault::NoBlock;
        } else if (block->second->affinity() != owner.text()) {
            found.fault = AffinityFault::OtherOwner;
        } else if (affinity.state != api::AffinityState::Confirmed) {
            found.fault = AffinityFault::Unfinished;
        } else if (!affinity.labelled()) {
            found.fault = AffinityFault::NoLabels;
        } else {
            continue;
        }
        out.affinities.push_back(std::move(found));
    }
    for (const auto& stored : snapshot.blocks) {
        const Block& block = stored.value;
        BlockOwner owner = BlockOwner::parse(block.affinity());
        bool gone = owner.type == "host" && !snapshot.nodes.contains(owner.name);
        if (block.cooling()) {
            out.cooled.push_back(finding(block));
        }
        if (block.affinity().empty()) {
            if (block.empty()) {
                out.unowned.push_back(finding(block));
            }
        } else if (gone) {
            out.of_gone.push_back(finding(block));
        } else if (!with_affinity.contains({block.affinity(), block.cidr()})) {
            out.no_affinity.push_back(finding(block));
        } else if (block.empty() && owner.type == "host" &&
                   owned[{block.affinity(), block.cidr().family()}] > 1) {
            out.empty.push_back(finding(block));
        }
        if (block.damaged()) {
            out.damaged.push_back(finding(block));
        }
    }
    const Cidr* widest = nullptr; // of those before, the one that reaches furthest
    for (const auto& [cidr, block] : blocks) {
        if (widest != nullptr && widest->overlaps(cidr)) {
            out.overlapping.emplace_back(*widest, cidr);
        }
        if (widest == nullptr || widest->family() != cidr.family() ||
            cidr.last() > widest->last()) {
            widest = &cidr;
        }
    }
}

void survey_pods(const Snapshot& snapshot, Survey& out) {
    std::map<IpAddress, std::set<std::string>> users;
    for (const auto& [name, seen] : snapshot.pods) {
        const api::Pod& pod = seen.pod;
        if (pod.is_endpoint()) {
            for (const IpAddress& address : pod.ips) {
                users[address].insert(name);
            }
        }
    }
    std::map<IpAddress, const Block*> blocks; // by first address
    for (const auto& stored : snapshot.blocks) {
        blocks[stored.value.cidr().address()] = &stored.value;
    }
    for (const auto& [address, pods] : users) {
        if (pods.size() > 1) {
            out.used_twice[address] = pods;
        }
        const api::IpPool* pool = pool_of(snapshot.pools, address);
        if (pool == nullptr || !pool->usable()) {
            out.outside_pools[address] = *pods.begin();
            continue;
        }
        auto after = blocks.upper_bound(address);
        bool held = after != blocks.begin() && std::prev(after)->second->find(address);
        bool unknown =
            snapshot.left_out.broken_blocks.contains(api::block_name({address, pool->block_size}));
        if (!held && !unknown) {
            out.unallocated[address] = *pods.begin();
        }
    }
}

} // namespace

Result<SeenPod> SeenPod::from_json(const nlohmann::json& object) {
    SeenPod seen;
    TRY_ASSIGN(seen.pod, api::Pod::from_json(object));
    if (seen.pod.meta.annotations.contains(api::kPodIpsAnnotation) ||
        seen.pod.meta.annotations.contains(api::kPodIpAnnotation)) {
        nlohmann::json bare = object;
        bare.erase("status"); // then the annotations are all that tells of addresses
        TRY_ASSIGN(auto pod, api::Pod::from_json(bare));
        seen.annotated = std::move(pod.ips);
    }
    const auto status = object.value("status", nlohmann::json::object());
    seen.evicted = status.is_object() && status.contains("phase") && status["phase"] == "Failed" &&
                   status.contains("reason") && status["reason"] == "Evicted";
    return seen;
}

std::string pod_of(const api::AllocationAttribute& attribute) {
    std::string ns = attribute_text(attribute, "namespace");
    std::string pod = attribute_text(attribute, "pod");
    return ns.empty() || pod.empty() ? "" : ns + "/" + pod;
}

std::string node_of(const api::AllocationAttribute& attribute) {
    return attribute_text(attribute, "node");
}

bool is_tunnel(const api::AllocationAttribute& attribute) {
    return attribute_text(attribute, "type").ends_with("TunnelAddress");
}

Use judge(const IpAddress& address, const api::AllocationAttribute& attribute, const SeenPod* seen,
          bool node_exists) {
    Use gone = node_exists || node_of(attribute).empty() ? Use::Leaked : Use::NodeGone;
    if (is_tunnel(attribute)) {
        return node_exists ? Use::InUse : gone;
    }
    if (pod_of(attribute).empty()) {
        return Use::InUse; // service addresses and what others keep here by hand
    }
    if (seen == nullptr || seen->evicted) {
        return gone;
    }
    const api::Pod* pod = &seen->pod;
    if (!node_of(attribute).empty() && pod->node_name != node_of(attribute)) {
        return gone;
    }
    if (pod->ips.empty() || pod->finished) {
        return Use::InUse; // on its way up, or down
    }
    if (std::ranges::find(pod->ips, address) != pod->ips.end() ||
        std::ranges::find(seen->annotated, address) != seen->annotated.end()) {
        return Use::InUse;
    }
    auto container = pod->meta.annotations.find(api::kContainerIdAnnotation);
    bool of_sandbox = container != pod->meta.annotations.end() && !container->second.empty() &&
                      attribute.handle_id &&
                      clean_handle(*attribute.handle_id).ends_with("." + container->second);
    return of_sandbox ? Use::InUse : gone;
}

std::string Leak::key() const {
    return fmt::format("leak {} {} {}", address.text(), attribute.handle_id.value_or(""),
                       sequence_number.value_or(0));
}

std::string AffinityFinding::key() const {
    return fmt::format("affinity {} {} {} {}", owner.text(), block.text(), resource_version,
                       static_cast<int>(fault));
}

std::string BlockFinding::key() const {
    return fmt::format("block {} {} {}", block.text(), affinity, sequence_number);
}

Result<Snapshot> take_snapshot(datastore::Store& store) {
    Snapshot all;
    Repository repository(store);
    TRY_ASSIGN(all.blocks, repository.blocks(&all.left_out));
    TRY_ASSIGN(all.affinities, repository.affinities(&all.left_out));
    TRY_ASSIGN(all.handles, repository.handles(&all.left_out));
    TRY(read_all<SeenPod>(store, api::Kind::Pod, all.left_out, [&](SeenPod seen) {
        std::string name = seen.pod.meta.ns + "/" + seen.pod.meta.name;
        all.pods.emplace(std::move(name), std::move(seen));
    }));
    TRY(read_all<api::Node>(store, api::Kind::Node, all.left_out, [&](api::Node node) {
        all.nodes.emplace(node.meta.name, std::move(node.meta.labels));
    }));
    TRY(read_all<api::IpPool>(store, api::Kind::IpPool, all.left_out,
                              [&](api::IpPool pool) { all.pools.push_back(std::move(pool)); }));
    return all;
}

Survey survey(const Snapshot& snapshot) {
    Survey out;
    survey_leaks(snapshot, out);
    survey_handles(snapshot, out);
    survey_owners(snapshot, out);
    survey_pods(snapshot, out);
    out.deleted = snapshot.left_out.deleted;
    return out;
}

} // namespace manx::ipam
