// SPDX-License-Identifier: Apache-2.0
// First match over ranges of (protocol, port), resolved into the disjoint sorted entries that BPF
// searches. Pure; no knowledge of policies.
#pragma once

#include "agent/calc/table_update.h"

#include <cstdint>
#include <span>
#include <vector>

namespace manx::calc {

// A range of protocol << 16 | port, both ends included.
struct Range {
    uint32_t first = 0;
    uint32_t last = 0;

    auto operator<=>(const Range&) const = default;
};

inline constexpr Range kEverything{0, 0xffffffffU};

enum class StepAction : uint8_t { Allow, Deny, Log, Pass, TierEndDeny, TierEndPass };

// One rule (or the end of a tier) that concerns the pair at hand.
struct RuleStep {
    StepAction action = StepAction::Deny;
    uint32_t rule = 0;               // id that is reported
    std::vector<Range> ranges;       // by destination port; sorted, disjoint
    std::vector<Range> source_ports; // by source port; empty: any
};

// Bounds of what source ports may cost. A list of steps beyond one of them gives a table that is
// too_big: it denies what steps with source ports might have denied, from any source port, and
// none of them allows.
inline constexpr size_t kMaxSourceIntervals = 16384;
inline constexpr size_t kMaxTableEntries = size_t{1} << 18;
inline constexpr size_t kMaxSourceWork = size_t{1} << 25; // intervals times destination ranges

// Of count and entries.
uint64_t content_hash(const PortTable& table);

// What no step decides is allowed: the default profile of workloads.
PortTable compile_port_table(std::span<const RuleStep> steps);

struct Verdict {
    bool allow = false;
    uint32_t rule = 0;
    bool log = false;
};

// As the BPF programs search. source and destination: protocol << 16 | port.
Verdict search(const PortTable& table, uint32_t source, uint32_t destination);

// a without b; both sorted and disjoint.
std::vector<Range> subtract(std::span<const Range> a, std::span<const Range> b);
std::vector<Range> intersect(std::span<const Range> a, std::span<const Range> b);
void normalize(std::vector<Range>& ranges); // sorts and joins

} // namespace manx::calc
