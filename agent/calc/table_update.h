// SPDX-License-Identifier: Apache-2.0
// What the calculator wants written to the policy tables: steps in an order in which every moment
// between two of them is consistent (see maps/abi/policy.h). Port tables are values here; where
// they live in manx_ports is decided by whoever applies the steps.
#pragma once

#include "base/ip.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

namespace manx::calc {

// The main run is entries[0, count); runs that are searched by source port follow it. next is an
// index into entries.
struct PortTable {
    std::vector<manx_port> entries;
    uint32_t count = 0;
    uint64_t hash = 0;    // of the content
    bool too_big = false; // see compile_port_table(); no part of the content

    bool operator==(const PortTable& other) const;
};

// Equal tables of one calculator are one object.
using PortTablePtr = std::shared_ptr<const PortTable>;

struct PolicyStep {
    manx_policy_key key{};
    PortTablePtr table; // null: remove
};

struct ClassStep {
    Cidr prefix; // host prefixes: manx_class4/6; all others: manx_net4/6
    bool remove = false;
    manx_class value{};
};

struct EndpointStep {
    IpAddress address;
    bool remove = false;
    manx_endpoint value{};
};

struct SlotStep {
    uint16_t slot = 0;
    manx_slot_entry value{}; // ifindex 0: empty
};

using TableStep = std::variant<PolicyStep, ClassStep, EndpointStep, SlotStep>;

struct TableUpdate {
    std::vector<TableStep> steps;

    [[nodiscard]] bool empty() const { return steps.empty(); }
};

} // namespace manx::calc
