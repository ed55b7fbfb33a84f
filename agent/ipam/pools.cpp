// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/pools.h"

#include "agent/api/selector.h"
#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::ipam {

namespace {

bool matches(const api::IpPool& pool, const char* field, const std::string& text,
             const api::StringMap& labels) {
    auto selector = api::Selector::parse(text);
    if (!selector) {
        log::get("ipam")->error("{} {}: {}", pool.subject(), field, selector.error().text());
        return false;
    }
    return selector->matches(labels);
}

bool is_named(const api::IpPool& pool, const std::string& name) {
    if (pool.meta.name == name) {
        return true;
    }
    auto cidr = Cidr::parse(name);
    return cidr && *cidr == pool.cidr;
}

} // namespace

bool is_allocatable(const api::IpPool& pool) {
    constexpr unsigned kMaxHostBits = 12; // blocks of 4,096 addresses
    unsigned bits = address_bits(pool.cidr.family());
    return pool.usable() && pool.block_size >= pool.cidr.length() && pool.block_size <= bits &&
           bits - pool.block_size <= kMaxHostBits;
}

bool selects_node(const api::IpPool& pool, const api::StringMap& node_labels) {
    return matches(pool, "nodeSelector", pool.node_selector, node_labels);
}

Result<std::vector<const api::IpPool*>> select_pools(std::span<const api::IpPool> pools,
                                                     const PoolQuery& query) {
    static const api::StringMap kNoLabels;
    const auto& node = query.node_labels == nullptr ? kNoLabels : *query.node_labels;
    const auto& ns = query.namespace_labels == nullptr ? kNoLabels : *query.namespace_labels;
    auto enabled = [&](const api::IpPool& pool) {
        return pool.cidr.family() == query.family && is_allocatable(pool);
    };
    std::vector<const api::IpPool*> chosen;
    for (const std::string& name : query.named) {
        auto found = std::find_if(pools.begin(), pools.end(), [&](const api::IpPool& pool) {
            return enabled(pool) && is_named(pool, name);
        });
        if (found == pools.end()) {
            return fail(ErrorKind::ConfigReality,
                        fmt::format("the given pool ({}) does not exist, or is not enabled", name));
        }
        if (std::find(chosen.begin(), chosen.end(), &*found) == chosen.end()) {
            chosen.push_back(&*found);
        }
    }
    if (query.named.empty()) {
        for (const api::IpPool& pool : pools) {
            if (enabled(pool) && pool.assignment_mode == api::AssignmentMode::Automatic &&
                selects_node(pool, node) &&
                (pool.namespace_selector.empty() ||
                 matches(pool, "namespaceSelector", pool.namespace_selector, ns))) {
                chosen.push_back(&pool);
            }
        }
    }
    if (chosen.empty()) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("no configured Calico pools for node {}", query.node));
    }
    std::erase_if(chosen, [&](const api::IpPool* pool) { return !pool->allows(query.use); });
    if (chosen.empty()) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("no pools match the required use on node {}", query.node));
    }
    return chosen;
}

const api::IpPool* pool_of(std::span<const api::IpPool> pools, const IpAddress& address) {
    const api::IpPool* found = nullptr;
    for (const api::IpPool& pool : pools) {
        if (pool.cidr.contains(address) && (found == nullptr || !found->usable())) {
            found = &pool;
        }
    }
    return found;
}

} // namespace manx::ipam
