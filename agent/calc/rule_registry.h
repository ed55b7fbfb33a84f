// SPDX-License-Identifier: Apache-2.0
// Numbers of rules: index into manx_rule_hits, what counters and events name. A rule's number
// comes from its name (policy, direction, index), so that it mostly survives a restart.
#pragma once

#include "agent/api/policy.h"

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace manx::calc {

struct RuleName {
    std::string policy; // "NetworkPolicy ns/name"; "Tier name" for the end of a tier
    api::Direction direction{};
    int index = 0;      // in the object's list; -1: the end of a tier
    std::string name{}; // given by the author
    bool staged = false;

    // "NetworkPolicy ns/name ingress[2]"
    [[nodiscard]] std::string text() const;
};

class RuleRegistry {
public:
    // capacity: entries of manx_rule_hits; number 0 is "no rule".
    explicit RuleRegistry(uint32_t capacity);

    // Counted. 0 where all numbers are taken.
    uint32_t acquire(const RuleName& name);
    void release(uint32_t id);
    // Numbers that were given up since the last call and belong to nobody now.
    std::vector<uint32_t> take_released();
    // nullptr: not a rule.
    [[nodiscard]] const RuleName* find(uint32_t id) const;
    // In order of numbers.
    [[nodiscard]] std::vector<std::pair<uint32_t, const RuleName*>> all() const;

private:
    struct Entry {
        RuleName name;
        std::string key;
        uint32_t users = 0;
    };

    // The first from there on, with the beginning after the end; one is free.
    [[nodiscard]] uint32_t free_from(uint32_t id) const;
    void set_free(uint32_t id, bool is_free);

    uint32_t capacity_;
    std::vector<uint64_t> free_; // bits; a full registry is searched by words
    std::unordered_map<std::string, uint32_t> by_key_;
    std::unordered_map<uint32_t, Entry> entries_;
    std::vector<uint32_t> released_;
};

} // namespace manx::calc
