// SPDX-License-Identifier: Apache-2.0
// Calico's IPAM objects, as they are stored: what is read and written again is equal, member for
// member, so that Calico's own IPAM can go on with it. The rules of change are in agent/ipam.
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manx::api {

// Why an address of a block is taken; shared by addresses with equal reasons.
struct AllocationAttribute {
    std::optional<std::string> handle_id;
    StringMap secondary;       // namespace, pod, node, timestamp, ...
    StringMap alternate_owner; // alternateOwnerAttrs, of live migration
    std::string released_at;   // RFC 3339; cooling down: not in use, not yet free

    bool operator==(const AllocationAttribute&) const = default;
};

struct IpamBlock {
    ObjectMeta meta;
    Cidr cidr;
    std::string affinity; // "host:node1", "virtual:load-balancer", empty: none
    std::string affinity_claim_time;
    std::vector<std::optional<int>> allocations; // by ordinal; index into attributes
    std::vector<int> unallocated;                // ordinals, in the order of handing out
    std::vector<AllocationAttribute> attributes;
    uint64_t sequence_number = 0;
    std::map<int, uint64_t> sequence_number_for_allocation; // by ordinal
    bool strict_affinity = false;                           // unused, but the schema wants it
    bool deleted = false;

    // Takes lists that contradict each other, and numbers that mean nothing (a large one becomes
    // -1): a block that others have damaged must be readable to be mended, and to be kept out of.
    static Result<IpamBlock> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<nlohmann::json> to_json() const; // stored form
    // Each ordinal is free, once, or taken by an attribute that exists.
    [[nodiscard]] Result<void> validate() const;
};

enum class AffinityState : uint8_t { Confirmed, Pending, PendingDeletion };

struct BlockAffinity {
    ObjectMeta meta; // to_json() sets the three labels that every affinity must have
    Cidr cidr;
    std::string node;
    std::string type = "host"; // or "virtual"
    AffinityState state = AffinityState::Confirmed;
    bool deleted = false; // stored as a string

    static Result<BlockAffinity> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<nlohmann::json> to_json() const;
    [[nodiscard]] bool labelled() const; // as to_json() will have it
};

struct IpamHandle {
    ObjectMeta meta;
    std::string handle_id;            // case kept; the object's name is its lower case
    std::map<std::string, int> block; // CIDR text -> number of addresses
    bool deleted = false;

    static Result<IpamHandle> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<nlohmann::json> to_json() const;
};

struct IpamConfig {
    ObjectMeta meta;
    bool strict_affinity = false;
    bool auto_allocate_blocks = true;
    int max_blocks_per_host = 0;                 // 0: not set
    int ip_cooldown_seconds = 0;                 // up to 1200
    std::string kubevirt_vm_address_persistence; // Enabled, Disabled; empty: Enabled

    static Result<IpamConfig> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<nlohmann::json> to_json() const;
    [[nodiscard]] Result<void> validate() const;
};

struct IpReservation {
    ObjectMeta meta;
    std::vector<Cidr> reserved_cidrs;

    static Result<IpReservation> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<nlohmann::json> to_json() const;
};

} // namespace manx::api
