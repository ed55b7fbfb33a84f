// SPDX-License-Identifier: Apache-2.0
// IPPool. Old objects lack fields: defaults are applied on every read.
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <span>
#include <string>

namespace manx::api {

enum class EncapMode : uint8_t { Never, Always, CrossSubnet };

enum class AssignmentMode : uint8_t { Automatic, Manual };

enum class PoolUse : uint8_t { Workload = 1, Tunnel = 2, LoadBalancer = 4 };

constexpr unsigned default_block_size(Family family) {
    return family == Family::V4 ? 26 : 122;
}

struct IpPool {
    ObjectMeta meta;
    Cidr cidr;
    unsigned block_size = 26; // prefix length of a block
    EncapMode ipip = EncapMode::Never;
    EncapMode vxlan = EncapMode::Never;
    bool nat_outgoing = false;
    bool disabled = false;
    bool disable_bgp_export = false;
    bool allocatable = true; // false only by its condition
    AssignmentMode assignment_mode = AssignmentMode::Automatic;
    uint8_t uses = 3;                    // of PoolUse, or-ed
    std::string node_selector = "all()"; // an expression, see selector.h
    std::string namespace_selector;      // empty: every namespace

    // Lenient where the datastore may hold what validate() would refuse.
    static Result<IpPool> from_json(const nlohmann::json& object);
    // What a person's object must obey, besides its JSON types. Errors name object and field.
    [[nodiscard]] Result<void> validate() const;

    // Whether addresses may be taken from it.
    [[nodiscard]] bool usable() const {
        return !disabled && allocatable && meta.deletion_timestamp.empty();
    }

    [[nodiscard]] bool allows(PoolUse use) const { return (uses & static_cast<uint8_t>(use)) != 0; }

    [[nodiscard]] std::string subject() const { return "IPPool " + meta.name; }
};

// A pool that came or changed, against the others that exist (its own old state is skipped, but
// for what must not change).
Result<void> validate_among(const IpPool& pool, std::span<const IpPool> others);

} // namespace manx::api
