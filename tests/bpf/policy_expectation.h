// SPDX-License-Identifier: Apache-2.0
// What the programs must make of a flow's first packet: the oracle's word on both sides, and what
// docs/design/packet.md says of packets that policy has no say about.
#pragma once

#include "maps/abi/verdict.h"
#include "tests/oracle/oracle.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace manx::testing_policy {

// How a packet is put to the programs of node n1.
enum class Way {
    Ask,        // a question, where it comes in: a workload's device or the uplink
    AskAtStack, // a question, where the host stack forwards it to a workload
    Send,       // a packet, where it comes in
    AtStack,    // a packet that the host stack forwards to a workload
    FromHost,   // a packet of this host's own to a workload
    Deferred,   // a packet that was to a service, and is translated now
};

const char* to_string(Way way);

struct Trial {
    oracle::Query query;
    Way way = Way::Ask;

    [[nodiscard]] bool asks() const { return way == Way::Ask || way == Way::AskAtStack; }

    [[nodiscard]] std::string text() const;
};

struct Expected {
    manx_hook hook = MANX_HOOK_FROM_WORKLOAD;
    manx_reason reason = MANX_REASON_NONE; // of the drop, or PASS_DEFERRED; none: it passes
    std::string egress;                    // rules that decided; empty: none did
    std::string ingress;
    std::vector<std::string> staged; // staged rules that would have decided
    bool log = false;
};

struct NodeFacts {
    uint32_t flags = 0; // enum manx_config_flags
    std::set<IpAddress> services;
};

// Whether the trial makes sense: a packet may come or go that way.
bool possible(const oracle::World& world, const NodeFacts& facts, const Trial& trial);
// Of a trial that is possible.
Expected expect(const oracle::World& world, const NodeFacts& facts, const Trial& trial);

} // namespace manx::testing_policy
