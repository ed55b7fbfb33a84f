// SPDX-License-Identifier: Apache-2.0
// Which pools a request may take addresses from. Pure.
#pragma once

#include "agent/api/pool.h"
#include "base/ip.h"
#include "base/result.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace manx::ipam {

struct PoolQuery {
    Family family = Family::V4;
    api::PoolUse use = api::PoolUse::Workload;
    std::string_view node; // for messages
    const api::StringMap* node_labels = nullptr;
    const api::StringMap* namespace_labels = nullptr; // null: no namespace, so no labels
    // Pools asked for by annotation or configuration, as names or CIDRs: exactly these, whatever
    // their selectors and assignment mode say. Empty: all that fit.
    std::span<const std::string> named;
};

// In the order of `pools` (or of `named`). ConfigReality: a named pool is not there or not usable,
// no pool is meant for this node, or none for this use.
Result<std::vector<const api::IpPool*>> select_pools(std::span<const api::IpPool> pools,
                                                     const PoolQuery& query);

// Whether addresses can be taken from the pool at all: it is usable, and its block size makes sense
// (the datastore may hold what validation would refuse).
bool is_allocatable(const api::IpPool& pool);

// Whether the pool's nodeSelector matches; a selector that cannot be parsed matches nothing.
bool selects_node(const api::IpPool& pool, const api::StringMap& node_labels);

// The pool that holds the address, usable ones first; null: none.
const api::IpPool* pool_of(std::span<const api::IpPool> pools, const IpAddress& address);

} // namespace manx::ipam
