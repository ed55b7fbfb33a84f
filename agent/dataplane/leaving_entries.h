// SPDX-License-Identifier: Apache-2.0
// Keys of manx_policy as one number, and those of entries that nobody names any more, and since
// when. Lists of keys have the highest first: of each set MANX_CLASS_ANY, so that who is late finds
// nothing rather than what other classes have.
//
// Threading: one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace manx::dataplane {

inline uint64_t policy_key(uint32_t set, uint32_t class_id) {
    return uint64_t{set} << 32 | class_id;
}

inline uint32_t set_of(uint64_t policy_key) {
    return static_cast<uint32_t>(policy_key >> 32);
}

inline uint32_t class_of(uint64_t policy_key) {
    return static_cast<uint32_t>(policy_key & UINT32_MAX);
}

class LeavingEntries {
public:
    using Time = std::chrono::steady_clock::time_point;

    // One that is there already keeps its time. now: not before that of an earlier call.
    void add(uint64_t key, Time now);
    void erase(uint64_t key);

    [[nodiscard]] bool empty() const { return since_.empty(); }

    [[nodiscard]] bool contains(uint64_t key) const { return since_.contains(key); }

    // Those that are there since `until` or longer. Each is to be erased.
    std::vector<uint64_t> due(Time until);
    [[nodiscard]] std::vector<uint64_t> of_set(uint32_t set) const;
    [[nodiscard]] std::vector<uint64_t> of_class(uint32_t class_id) const;
    [[nodiscard]] std::vector<uint64_t> all(const std::function<bool(uint64_t key)>& which) const;

private:
    std::map<uint64_t, Time> since_;
    std::deque<std::pair<Time, uint64_t>> order_; // what was erased meanwhile among it
    std::set<uint64_t> by_class_;                 // class << 32 | set
};

} // namespace manx::dataplane
