// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/rule_registry.h"

#include "agent/calc/class_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace manx::calc {

std::string RuleName::text() const {
    if (index < 0) {
        return fmt::format("{} {} default action", policy, to_string(direction));
    }
    return fmt::format("{} {}[{}]{}{}", policy, to_string(direction), index,
                       name.empty() ? "" : " ", name);
}

RuleRegistry::RuleRegistry(uint32_t capacity) : capacity_(capacity), free_((capacity + 63) / 64) {
    for (uint32_t id = 1; id < capacity; ++id) {
        set_free(id, true);
    }
}

void RuleRegistry::set_free(uint32_t id, bool is_free) {
    const uint64_t bit = uint64_t{1} << (id % 64);
    free_[id / 64] = is_free ? free_[id / 64] | bit : free_[id / 64] & ~bit;
}

uint32_t RuleRegistry::free_from(uint32_t id) const {
    uint32_t place = id / 64;
    uint64_t word = free_[place] & (~uint64_t{0} << (id % 64));
    while (word == 0) {
        place = place + 1 == free_.size() ? 0 : place + 1;
        word = free_[place];
    }
    return place * 64 + static_cast<uint32_t>(std::countr_zero(word));
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
    const uint32_t id = free_from(static_cast<uint32_t>(scramble(hash) % capacity_));
    set_free(id, false);
    by_key_.emplace(key, id);
    entries_.emplace(id, Entry{name, std::move(key), 1});
    return id;
}

void RuleRegistry::release(uint32_t id) {
    const auto found = entries_.find(id);
    if (found != entries_.end() && --found->second.users == 0) {
        by_key_.erase(found->second.key);
        entries_.erase(found);
        set_free(id, true);
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
