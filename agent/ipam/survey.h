// SPDX-License-Identifier: Apache-2.0
// Blocks, affinities and handles against each other and against pods and nodes: what does not fit.
// The collector (gc.h) and the doctor (manxctl ipam check) both start from it. Pure, but for
// take_snapshot.
//
// The datastore is not locked: an allocation or a release that is under way looks like a fault for
// a moment. So a finding is a suspicion, until it was found twice, unchanged; and each repair
// (repair.h) looks again.
#pragma once

#include "agent/api/ipam.h"
#include "agent/api/pod.h"
#include "agent/api/pool.h"
#include "agent/datastore/store.h"
#include "agent/ipam/repository.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace manx::ipam {

struct SeenPod {
    api::Pod pod;
    // What the CNI plugin's annotations say, of the latest sandbox; the status may lag behind.
    std::vector<IpAddress> annotated;
    bool evicted = false; // failed for good, though the object lives on

    static Result<SeenPod> from_json(const nlohmann::json& object);
};

struct Snapshot {
    std::vector<Stored<Block>> blocks;
    std::vector<Stored<api::BlockAffinity>> affinities;
    std::vector<Stored<api::IpamHandle>> handles;
    std::map<std::string, SeenPod> pods;         // by "ns/name"
    std::map<std::string, api::StringMap> nodes; // labels by name
    std::vector<api::IpPool> pools;
    LeftOut left_out;
};

// Lists blocks first and handles, pods and nodes after them: whoever holds an address that the
// blocks show existed before it, and would be in the later lists.
Result<Snapshot> take_snapshot(datastore::Store& store);

enum class Use { InUse, Leaked, NodeGone };

// Whether what an allocation was made for still exists. An address is a pod's if status, or the CNI
// plugin's annotations, name it: the status lags behind when a sandbox is made anew. pod: null if
// there is none of that name.
Use judge(const IpAddress& address, const api::AllocationAttribute& attribute, const SeenPod* pod,
          bool node_exists);

// The pod and the node that an attribute names; empty if none.
std::string pod_of(const api::AllocationAttribute& attribute); // "ns/name"
std::string node_of(const api::AllocationAttribute& attribute);
bool is_tunnel(const api::AllocationAttribute& attribute);

struct Leak {
    IpAddress address;
    Cidr block;
    api::AllocationAttribute attribute;
    std::optional<uint64_t> sequence_number;
    bool node_gone = false;
    bool whole_handle = true; // all addresses of the handle are leaked; else it must stay

    [[nodiscard]] std::string key() const;
};

struct HandleFault {
    std::string id;
    std::string resource_version; // empty: the handle does not exist
    std::map<Cidr, int> actual;   // addresses per block that mention it
    bool too_much = false;        // counts more than there is; else less

    [[nodiscard]] std::string key() const { return "handle " + id + " " + resource_version; }
};

enum class AffinityFault { NodeGone, NoBlock, OtherOwner, Unfinished, NoLabels };

struct AffinityFinding {
    BlockOwner owner;
    Cidr block;
    std::string resource_version;
    AffinityFault fault{};

    [[nodiscard]] std::string key() const;
};

struct BlockFinding {
    Cidr block;
    std::string affinity;
    uint64_t sequence_number = 0;

    [[nodiscard]] std::string key() const;
};

struct Survey {
    std::vector<Leak> leaks;
    std::vector<HandleFault> handles;
    std::vector<AffinityFinding> affinities;
    std::vector<BlockFinding> empty;       // of owners that have another block of the family
    std::vector<BlockFinding> no_affinity; // names an owner that has no affinity object for it
    std::vector<BlockFinding> unowned;     // empty, and nobody's
    std::vector<BlockFinding> of_gone;     // owned by a node that is gone
    std::vector<BlockFinding> cooled;      // holds released addresses
    std::map<IpAddress, std::set<std::string>> used_twice; // by these pods
    std::vector<std::pair<Cidr, Cidr>> overlapping;        // blocks
    std::vector<BlockFinding> damaged;                     // Block::damaged
    std::vector<MarkedDeleted> deleted;                    // their delete was not finished
    std::map<IpAddress, std::string> outside_pools;        // of pods, in no active pool
    std::map<IpAddress, std::string> unallocated;          // of pods, in a pool, in no block
    unsigned good_handles = 0;
};

Survey survey(const Snapshot& snapshot);

} // namespace manx::ipam
