// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/rule_registry.h"

#include "agent/calc/class_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace manx::calc {

std::string RuleName::text() const {
    if (index < 0) {
        return fmt::format("{} {} default action", policy, to_string(direction));
    }
    return fmt::format("{} {}[{}]{}{}", policy, to_string(direction), index,
                       name.empty() ? "" : " ", name);
}

uint32_t RuleRegistry::acquire(const RuleName& name) {
    std::string key =
        fmt::format("{}\t{}\t{}", name.policy, static_cast<int>(name.direction), name.index);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
        Entry& entry = entries_[found->second];
        ++entry.users;
        entry.name = name;
        return found->second;
    }
    if (entries_.size() + 1 >= capacity_) {
        return 0;
    }
    uint64_t hash = 14695981039346656037ULL;
    for (const char c : key) {
        hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ULL;
    }
    auto id = static_cast<uint32_t>(scramble(hash) % capacity_);
    while (id == 0 || entries_.contains(id)) {
        id = (id + 1) % capacity_;
    }
    by_key_.emplace(key, id);
    entries_.emplace(id, Entry{name, std::move(key), 1});
    return id;
}

void RuleRegistry::release(uint32_t id) {
    const auto found = entries_.find(id);
    if (found != entries_.end() && --found->second.users == 0) {
        by_key_.erase(found->second.key);
        entries_.erase(found);
        released_.push_back(id);
    }
}

std::vector<uint32_t> RuleRegistry::take_released() {
    std::erase_if(released_, [this](uint32_t id) { return entries_.contains(id); });
    return std::exchange(released_, {});
}

const RuleName* RuleRegistry::find(uint32_t id) const {
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : &found->second.name;
}

std::vector<std::pair<uint32_t, const RuleName*>> RuleRegistry::all() const {
    std::vector<std::pair<uint32_t, const RuleName*>> out;
    out.reserve(entries_.size());
    for (const auto& [id, entry] : entries_) {
        out.emplace_back(id, &entry.name);
    }
    std::ranges::sort(out, {}, &std::pair<uint32_t, const RuleName*>::first);
    return out;
}

} // namespace manx::calc
