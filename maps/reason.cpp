// SPDX-License-Identifier: Apache-2.0
#include "maps/reason.h"

#include <array>
#include <utility>

namespace manx::maps {

namespace {

struct Name {
    manx_reason reason;
    std::string_view name;
};

constexpr std::array kReasons{
    Name{MANX_REASON_NONE, "none"},
    Name{MANX_PASS_REDIRECT_PEER, "pass_redirect_peer"},
    Name{MANX_PASS_REDIRECT_HOST, "pass_redirect_host"},
    Name{MANX_PASS_REDIRECT_NEIGH, "pass_redirect_neigh"},
    Name{MANX_PASS_TO_STACK, "pass_to_stack"},
    Name{MANX_PASS_FROM_STACK, "pass_from_stack"},
    Name{MANX_PASS_NOT_OURS, "pass_not_ours"},
    Name{MANX_PASS_ARP, "pass_arp"},
    Name{MANX_PASS_NEIGHBOR_DISCOVERY, "pass_neighbor_discovery"},
    Name{MANX_PASS_DEFERRED, "pass_deferred"},
    Name{MANX_PASS_RELATED, "pass_related"},
    Name{MANX_PASS_FRAGMENT, "pass_fragment"},
    Name{MANX_PASS_SLOW_PATH, "pass_slow_path"},
    Name{MANX_DROP_POLICY_EGRESS, "drop_policy_egress"},
    Name{MANX_DROP_POLICY_INGRESS, "drop_policy_ingress"},
    Name{MANX_DROP_SPOOFED_SOURCE, "drop_spoofed_source"},
    Name{MANX_DROP_WRONG_INTERFACE, "drop_wrong_interface"},
    Name{MANX_DROP_MALFORMED, "drop_malformed"},
    Name{MANX_DROP_NOT_READY, "drop_not_ready"},
    Name{MANX_DROP_FLOW_TABLE_FULL, "drop_flow_table_full"},
    Name{MANX_DROP_NO_FLOW, "drop_no_flow"},
    Name{MANX_DROP_ENDPOINT_TO_HOST, "drop_endpoint_to_host"},
    Name{MANX_DROP_TCP_NOT_SYN, "drop_tcp_not_syn"},
    Name{MANX_DROP_TUNNEL_FROM_WORKLOAD, "drop_tunnel_from_workload"},
    Name{MANX_DROP_POLICY_TABLE, "drop_policy_table"},
    Name{MANX_DROP_UNKNOWN_PROTOCOL, "drop_unknown_protocol"},
};

constexpr std::array<std::string_view, MANX_HOOKS> kHooks{"from_workload", "to_workload",
                                                          "from_uplink", "to_uplink", "to_host"};

} // namespace

std::string_view reason_name(manx_reason reason) {
    for (const Name& entry : kReasons) {
        if (entry.reason == reason) {
            return entry.name;
        }
    }
    return "unknown";
}

std::optional<manx_reason> reason_from_name(std::string_view name) {
    for (const Name& entry : kReasons) {
        if (entry.name == name) {
            return entry.reason;
        }
    }
    return std::nullopt;
}

bool is_drop(manx_reason reason) {
    return reason >= MANX_DROP_POLICY_EGRESS;
}

std::string_view hook_name(manx_hook hook) {
    const auto index = static_cast<size_t>(hook);
    return index < kHooks.size() ? kHooks[index] : "unknown";
}

} // namespace manx::maps
