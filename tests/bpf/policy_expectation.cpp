// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/policy_expectation.h"

#include "maps/abi/flow.h"

#include <fmt/format.h>

#include <array>

namespace manx::testing_policy {

namespace {

constexpr const char* kNode = "n1";
constexpr int kVxlanPort = 4789;

const oracle::Thing* local_at(const oracle::World& world, const IpAddress& address) {
    const oracle::Thing* pod = world.pod_at(address);
    return pod != nullptr && pod->node == kNode ? pod : nullptr;
}

// Errors belong to the flow of the packet that they carry; here they carry none.
bool is_icmp_error(const oracle::Query& query) {
    const int type = query.port >> 8;
    return query.protocol == 1 ? type == 3 || type == 11 || type == 12
                               : query.protocol == 58 && type < 128;
}

bool is_tunnel(const oracle::Query& query, uint32_t flags) {
    if (query.protocol == 17) {
        return query.port == kVxlanPort && (flags & MANX_CONFIG_ALLOW_VXLAN) == 0;
    }
    return (query.protocol == 4 || query.protocol == 41) && (flags & MANX_CONFIG_ALLOW_IPIP) == 0;
}

// Both sides, as far as they are here. Staged policies decide nothing, of a side that is judged.
void judge(const oracle::World& world, const oracle::Query& query, Expected& out) {
    const oracle::Thing* from = local_at(world, query.from);
    const oracle::Thing* to = local_at(world, query.to);
    if (from != nullptr && from == to) {
        return; // a workload reaches itself
    }
    for (const bool ingress : {false, true}) {
        const oracle::Thing* pod = ingress ? to : from;
        if (pod == nullptr) {
            continue;
        }
        const auto staged = world.judge(*pod, ingress, query, true);
        if (staged.staged) {
            out.staged.push_back(staged.rule);
        }
        const auto side = world.judge(*pod, ingress, query);
        out.log |= side.log;
        if (side.by_rule) {
            (ingress ? out.ingress : out.egress) = side.rule;
        }
        if (!side.allow) {
            out.reason = ingress ? MANX_DROP_POLICY_INGRESS : MANX_DROP_POLICY_EGRESS;
            return;
        }
    }
}

} // namespace

const char* to_string(Way way) {
    constexpr std::array<const char*, 6> kNames{
        "asked",   "asked at the stack", "sent", "forwarded by the stack", "of the host itself",
        "deferred"};
    return kNames.at(static_cast<size_t>(way));
}

std::string Trial::text() const {
    return fmt::format("{}:{} -> {}:{} protocol {}, {}", query.from.text(), query.source_port,
                       query.to.text(), query.port, query.protocol, to_string(way));
}

bool possible(const oracle::World& world, const NodeFacts& facts, const Trial& trial) {
    const bool from_here = local_at(world, trial.query.from) != nullptr;
    const bool to_here = local_at(world, trial.query.to) != nullptr;
    switch (trial.way) {
    case Way::Ask:
    case Way::Send:
        return from_here || to_here;
    case Way::AskAtStack:
    case Way::AtStack:
    case Way::FromHost:
        return to_here;
    case Way::Deferred:
        return from_here && !facts.services.contains(trial.query.to) &&
               !world.is_host(kNode, trial.query.to);
    }
    return false;
}

Expected expect(const oracle::World& world, const NodeFacts& facts, const Trial& trial) {
    const oracle::Query& query = trial.query;
    const bool from_here = local_at(world, query.from) != nullptr;
    const bool to_here = local_at(world, query.to) != nullptr;
    Expected out;
    switch (trial.way) {
    case Way::Ask:
    case Way::Send:
        out.hook = from_here ? MANX_HOOK_FROM_WORKLOAD : MANX_HOOK_FROM_UPLINK;
        if (!from_here && world.is_host(kNode, query.from)) {
            out.reason = MANX_DROP_SPOOFED_SOURCE;
        } else if (is_icmp_error(query)) {
            out.reason = MANX_DROP_NO_FLOW;
        } else if (from_here && is_tunnel(query, facts.flags)) {
            out.reason = MANX_DROP_TUNNEL_FROM_WORKLOAD;
        } else if (from_here && facts.services.contains(query.to)) {
            out.reason = MANX_PASS_DEFERRED;
        } else {
            judge(world, query, out);
            if (out.reason == MANX_REASON_NONE && world.is_host(kNode, query.to) &&
                (facts.flags & MANX_CONFIG_HOST_DROP) != 0) {
                out.reason = MANX_DROP_ENDPOINT_TO_HOST;
            }
        }
        return out;
    case Way::FromHost:
        out.hook = MANX_HOOK_TO_WORKLOAD;
        return out;
    default:
        out.hook = to_here ? MANX_HOOK_TO_WORKLOAD : MANX_HOOK_TO_UPLINK;
        if (is_icmp_error(query)) {
            out.reason = MANX_DROP_NO_FLOW;
        } else {
            judge(world, query, out);
        }
        return out;
    }
}

} // namespace manx::testing_policy
