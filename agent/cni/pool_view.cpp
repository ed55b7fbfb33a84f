// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/pool_view.h"

#include <algorithm>

namespace manx::cni {

void PoolView::upsert(const api::IpPool& pool) {
    Entry entry;
    entry.cidr = pool.cidr;
    // IPAM names a selector that does not parse; here such a pool offers nothing.
    auto nodes = api::Selector::parse(pool.node_selector);
    auto namespaces = api::Selector::parse(pool.namespace_selector);
    entry.usable = pool.usable();
    entry.offered = nodes && namespaces && entry.usable && pool.allows(api::PoolUse::Workload) &&
                    pool.assignment_mode == api::AssignmentMode::Automatic;
    if (entry.offered) {
        entry.nodes = std::move(*nodes);
        entry.namespaces = std::move(*namespaces);
    }
    pools_[pool.meta.name] = std::move(entry);
}

void PoolView::remove(const std::string& name) {
    pools_.erase(name);
}

std::vector<PoolOffer> PoolView::offers() const {
    std::vector<PoolOffer> out;
    for (const auto& [name, pool] : pools_) {
        if (pool.offered && pool.nodes.matches(node_labels_)) {
            out.push_back({pool.cidr.family(), pool.namespaces});
        }
    }
    return out;
}

bool PoolView::has_usable(Family family) const {
    return std::any_of(pools_.begin(), pools_.end(), [&](const auto& entry) {
        const Entry& pool = entry.second;
        return pool.offered && pool.cidr.family() == family && pool.nodes.matches(node_labels_);
    });
}

bool PoolView::has_named(Family family, const std::string& name) const {
    const auto cidr = Cidr::parse(name);
    return std::any_of(pools_.begin(), pools_.end(), [&](const auto& entry) {
        const Entry& pool = entry.second;
        return pool.usable && pool.cidr.family() == family &&
               (entry.first == name || (cidr && *cidr == pool.cidr));
    });
}

} // namespace manx::cni
