// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/pool_view.h"

#include <algorithm>

namespace manx::cni {

void PoolView::upsert(const api::IpPool& pool) {
    Entry entry;
    entry.cidr = pool.cidr;
    // IPAM names a selector that does not parse; here such a pool offers nothing.
    auto nodes = api::Selector::parse(pool.node_selector);
    entry.offered = nodes && pool.usable() && pool.allows(api::PoolUse::Workload) &&
                    pool.assignment_mode == api::AssignmentMode::Automatic;
    if (nodes) {
        entry.nodes = std::move(*nodes);
    }
    pools_[pool.meta.name] = std::move(entry);
}

void PoolView::remove(const std::string& name) {
    pools_.erase(name);
}

bool PoolView::has_usable(Family family) const {
    return std::any_of(pools_.begin(), pools_.end(), [&](const auto& entry) {
        const Entry& pool = entry.second;
        return pool.offered && pool.cidr.family() == family && pool.nodes.matches(node_labels_);
    });
}

} // namespace manx::cni
