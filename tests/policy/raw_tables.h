// SPDX-License-Identifier: Apache-2.0
// PolicyTables without a calculator: port tables and steps by hand, the room of PolicyTables
// counted anew.
#pragma once

#include "agent/calc/table_update.h"
#include "agent/dataplane/policy_tables.h"

#include <cstdint>
#include <optional>
#include <string>

namespace manx::testing_policy {

// Allows everything, by this rule. size: entries of manx_ports, at least 1; by_source: all but the
// first are searched by source port (size at least 2).
calc::PortTablePtr port_table(uint32_t rule, uint32_t size, bool by_source = false);

calc::TableStep put(uint32_t set, uint32_t class_id, const calc::PortTablePtr& table);
calc::TableStep drop(uint32_t set, uint32_t class_id);
calc::TableStep address(const char* prefix, uint32_t class_id);
calc::TableStep no_address(const char* prefix);
// Its class is 0, its egress set MANX_SET_ALLOW.
calc::TableStep endpoint(const char* address, uint32_t ingress_set);

// What does not agree with the tables or with itself; no update is under way.
std::optional<std::string> miscounted(const dataplane::PolicyTables& tables,
                                      dataplane::MemoryTables& memory);

} // namespace manx::testing_policy
