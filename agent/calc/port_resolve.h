// SPDX-License-Identifier: Apache-2.0
// Between the two halves of compile_port_table(): what steps make of destination ports
// (port_table.cpp), and how that differs by source port (source_ports.cpp). Private to agent/calc.
#pragma once

#include "agent/calc/port_table.h"

namespace manx::calc {

struct Decision {
    uint8_t action = MANX_ACTION_ALLOW;
    uint8_t flags = 0; // MANX_PORT_LOG
    uint32_t rule = 0;

    bool operator==(const Decision&) const = default;
};

// From the end of the one before it, or 0.
struct Segment {
    uint32_t last = 0; // protocol << 16 | port, included
    Decision decision;
};

// First match by destination port among steps, all of which take every source port. The segments
// cover everything.
std::vector<Segment> resolve(std::span<const RuleStep* const> steps);

manx_port port_entry(uint32_t last, const Decision& decision);

// Fills entries and count. False: more than kMaxSourceIntervals or kMaxTableEntries.
bool compile_by_source(std::span<const RuleStep> steps, PortTable& out);

// The same steps for any source port, where none may allow what it did not.
std::vector<RuleStep> without_source_ports(std::span<const RuleStep> steps);

} // namespace manx::calc
