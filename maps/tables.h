// SPDX-License-Identifier: Apache-2.0
// The names of all pinned maps with the types of their keys and values. What a table means is in
// maps/abi/*.h; where it is pinned: <bpffs>/maps/<name>.
#pragma once

#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/verdict.h"

#include <cstdint>

namespace manx::maps {

template <typename K, typename V>
struct Table {
    using Key = K;
    using Value = V;
    const char* name;
};

inline constexpr Table<manx_addr4, manx_endpoint> kEp4{"manx_ep4"};
inline constexpr Table<manx_addr6, manx_endpoint> kEp6{"manx_ep6"};
inline constexpr Table<uint32_t, manx_slot_entry> kSlot{"manx_slot"};
inline constexpr Table<manx_addr4, manx_class> kClass4{"manx_class4"};
inline constexpr Table<manx_addr6, manx_class> kClass6{"manx_class6"};
inline constexpr Table<manx_prefix4, manx_class> kNet4{"manx_net4"};
inline constexpr Table<manx_prefix6, manx_class> kNet6{"manx_net6"};
inline constexpr Table<manx_policy_key, manx_policy_value> kPolicy{"manx_policy"};
inline constexpr Table<uint32_t, manx_port> kPorts{"manx_ports"};
inline constexpr Table<uint32_t, manx_config> kConfig{"manx_config"};
inline constexpr Table<uint32_t, manx_uplink> kUplinks{"manx_uplinks"};
inline constexpr Table<manx_flow4_key, manx_flow> kFlow4{"manx_flow4"};
inline constexpr Table<manx_flow6_key, manx_flow> kFlow6{"manx_flow6"};
inline constexpr Table<manx_flow4_key, manx_flow> kFlow4New{"manx_flow4_new"};
inline constexpr Table<manx_flow6_key, manx_flow> kFlow6New{"manx_flow6_new"};

// Per-CPU tables: open them as PerCpuMap.
inline constexpr Table<uint32_t, manx_rule_hits> kRuleHits{"manx_rule_hits"};
inline constexpr Table<uint32_t, manx_counter> kTotals{"manx_totals"}; // see total_index()
inline constexpr Table<manx_counter_key, manx_counter> kCounters{"manx_counters"};

// The ring buffer of manx_event: opened with libbpf's ring_buffer by its fd.
inline constexpr const char* kEventsName = "manx_events";

// Index into kTotals.
constexpr uint32_t total_index(manx_hook hook, manx_reason reason) {
    return static_cast<uint32_t>(hook) * MANX_REASON_MAX + static_cast<uint32_t>(reason);
}

} // namespace manx::maps
