// SPDX-License-Identifier: Apache-2.0
// Which addresses change their class between two states of the tables of addresses, in the order in
// which they are to be written, and what classes those had that come together in one. Pure.
#pragma once

#include "agent/dataplane/table_writer.h"

#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace manx::dataplane {

using Classes = std::map<Cidr, manx_class>;

struct ClassMove {
    Cidr prefix;
    bool remove = false;
    manx_class value{};    // unless removed
    uint32_t class_id = 0; // that its addresses have afterwards
};

struct ClassOrigins {
    // By the class that addresses are to have: all classes that such addresses have now, that one
    // too where some have it already. Only those to which some address changes.
    std::unordered_map<uint32_t, std::vector<uint32_t>> of;
    // Classes that some address has now and is to have no more.
    std::unordered_set<uint32_t> left;
};

// The longest first, then removals, the longest last: each address goes from its old class to its
// new one, and has no other in between.
std::vector<ClassMove> class_moves(const Classes& now, const Classes& wanted);

// besides: pairs (class to be, class now) of what has its class elsewhere.
ClassOrigins class_origins(const Classes& now, const Classes& wanted,
                           std::span<const std::pair<uint32_t, uint32_t>> besides);

} // namespace manx::dataplane
