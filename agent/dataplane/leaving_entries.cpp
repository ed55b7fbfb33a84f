// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/leaving_entries.h"

#include <algorithm>

namespace manx::dataplane {

namespace {

// Set and class in each other's place.
uint64_t turned(uint64_t key) {
    return policy_key(class_of(key), set_of(key));
}

} // namespace

void LeavingEntries::add(uint64_t key, Time now) {
    if (since_.try_emplace(key, now).second) {
        order_.emplace_back(now, key);
        by_class_.insert(turned(key));
    }
}

void LeavingEntries::erase(uint64_t key) {
    if (since_.erase(key) > 0) {
        by_class_.erase(turned(key));
    }
}

std::vector<uint64_t> LeavingEntries::due(Time until) {
    std::vector<uint64_t> out;
    while (!order_.empty() && order_.front().first <= until) {
        const auto [since, key] = order_.front();
        order_.pop_front();
        if (const auto at = since_.find(key); at != since_.end() && at->second == since) {
            out.push_back(key);
        }
    }
    std::ranges::sort(out, std::ranges::greater{});
    out.erase(std::ranges::unique(out).begin(), out.end());
    return out;
}

std::vector<uint64_t> LeavingEntries::of_set(uint32_t set) const {
    std::vector<uint64_t> out;
    const uint64_t first = policy_key(set, 0);
    for (auto at = since_.lower_bound(first); at != since_.end() && at->first - first <= UINT32_MAX;
         ++at) {
        out.push_back(at->first);
    }
    std::ranges::reverse(out);
    return out;
}

std::vector<uint64_t> LeavingEntries::of_class(uint32_t class_id) const {
    std::vector<uint64_t> out;
    const uint64_t first = policy_key(class_id, 0);
    for (auto at = by_class_.lower_bound(first); at != by_class_.end() && *at - first <= UINT32_MAX;
         ++at) {
        out.push_back(turned(*at));
    }
    std::ranges::reverse(out);
    return out;
}

std::vector<uint64_t> LeavingEntries::all(const std::function<bool(uint64_t key)>& which) const {
    std::vector<uint64_t> out;
    for (const auto& [key, since] : since_) {
        if (which(key)) {
            out.push_back(key);
        }
    }
    std::ranges::reverse(out);
    return out;
}

} // namespace manx::dataplane
