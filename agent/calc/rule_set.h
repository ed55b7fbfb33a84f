// SPDX-License-Identifier: Apache-2.0
// Rules over matchers, and policy sets: what is left of all tiers, policies and rules of an
// endpoint in one direction, with its own side resolved. A set gives a port table for every class
// of the other side.
#pragma once

#include "agent/api/policy.h"
#include "agent/calc/class_table.h"
#include "agent/calc/port_table.h"
#include "agent/calc/table_update.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace manx::calc {

inline constexpr MatcherId kNoMatcher = UINT32_MAX;

using Atoms = std::span<const Atom>; // sorted

bool has_matcher(Atoms atoms, MatcherId matcher);

// One side of a rule.
struct SideMatch {
    std::vector<MatcherId> all_of;
    std::vector<MatcherId> none_of;
    std::vector<api::PortRange> ports;
    std::vector<api::PortRange> not_ports;
    std::vector<MatcherId> named;         // values are ports
    std::vector<MatcherId> not_named;     // likewise
    MatcherId service_ports = kNoMatcher; // values are protocol << 16 | port

    [[nodiscard]] bool matches(Atoms atoms) const;

    [[nodiscard]] bool limits_ports() const {
        return !ports.empty() || !not_ports.empty() || !named.empty() || !not_named.empty();
    }

    [[nodiscard]] std::vector<Range> port_ranges(uint8_t protocol, Atoms atoms) const;
    // A matcher without which the side cannot match.
    [[nodiscard]] MatcherId needed() const;
    void each_matcher(const std::function<void(MatcherId)>& fn) const;

    bool operator==(const SideMatch&) const = default;
};

struct CompiledRule {
    api::Action action{};
    std::optional<Family> family;
    uint8_t protocol = 0;    // of the ports
    std::vector<Range> base; // by protocol and ICMP type
    SideMatch source;
    SideMatch destination;
    uint32_t number = 0; // in the registry
    uint32_t users = 0;
    uint64_t hash = 0; // of the content
    bool staged = false;
    std::string text; // for people

    // But for what people call it, and who uses it.
    [[nodiscard]] bool same_as(const CompiledRule& other) const;

    [[nodiscard]] const SideMatch& own(api::Direction direction) const {
        return direction == api::Direction::Ingress ? destination : source;
    }

    [[nodiscard]] const SideMatch& other(api::Direction direction) const {
        return direction == api::Direction::Ingress ? source : destination;
    }
};

// nullopt: the rule does not concern this pair.
std::optional<RuleStep> rule_step(const CompiledRule& rule, Atoms source, Atoms destination);

using RuleRef = uint32_t;

struct SetStep {
    RuleRef rule = 0;    // unless it ends a tier
    uint32_t number = 0; // that is reported
    bool tier_end = false;
    bool pass = false; // of a tier's end

    auto operator<=>(const SetStep&) const = default;
};

struct PolicySet {
    api::Direction direction{};
    std::vector<SetStep> steps;
    std::vector<Atom> own; // atoms of the endpoint's own class that the rules ask about
    uint32_t id = 0;       // in the tables
    uint64_t hash = 0;
    uint32_t users = 0;
    bool live = false;
    bool too_big = false;            // a table of it is
    std::vector<MatcherId> matchers; // of the other side; sorted
    std::vector<uint32_t> always;    // places of steps that any class may meet
    std::vector<std::pair<MatcherId, uint32_t>> by_matcher; // sorted; matcher and place
    std::vector<uint32_t> tier_ends;                        // numbers in the registry
    PortTablePtr none; // for a class that the rules do not ask about
    // In the tables for MANX_CLASS_ANY: none; or what most classes have, where that takes fewer
    // entries. All classes that the rules do not ask about have entries of their own then.
    PortTablePtr any;
    std::unordered_map<ClassRef, PortTablePtr> entries; // where it differs from any
    size_t reconsider_at = 0; // entries; whether the other default would take fewer

    [[nodiscard]] bool inverted() const { return any != none; }
};

// Fills matchers, always and by_matcher from steps and own; drops rules that the endpoint's own
// side rules out.
void index_set(PolicySet& set, std::span<const CompiledRule> rules);

// What the rules make of a class of the other side.
PortTable compile_for(const PolicySet& set, std::span<const CompiledRule> rules, Atoms other);

} // namespace manx::calc
