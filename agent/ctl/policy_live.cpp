// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/policy_live.h"

#include "agent/netlink/link.h"
#include "maps/map.h"

#include <fmt/format.h>

#include <netinet/in.h>

#include <algorithm>
#include <chrono>

namespace manx::ctl {

Result<std::optional<LiveNode>> LiveNode::open(const std::string& bpffs) {
    auto programs = dataplane::LivePrograms::open(bpffs);
    if (!programs && programs.error().kind == ErrorKind::NotFound) {
        return std::optional<LiveNode>();
    }
    if (!programs) {
        return Unexpected(programs.error());
    }
    LiveNode out;
    out.bpffs_ = bpffs;
    out.programs_.emplace(std::move(*programs));
    TRY_ASSIGN(out.tables_, dataplane::PinnedTables::open(bpffs));
    TRY(out.tables_->each_endpoint([&](const IpAddress& address, const manx_endpoint& value) {
        out.endpoints_.emplace(address, value);
    }));
    TRY(out.tables_->each_slot([&](uint16_t slot, const manx_slot_entry& value) {
        out.slots_.emplace(slot, value.ifindex);
    }));
    TRY_ASSIGN(const auto configs, maps::open_pinned(bpffs, maps::kConfig));
    TRY_ASSIGN(const auto config, configs.lookup(0));
    out.config_ = config.value_or(manx_config{});
    TRY_ASSIGN(const auto uplinks, maps::open_pinned(bpffs, maps::kUplinks));
    TRY(uplinks.for_each([&](uint32_t ifindex, const manx_uplink&) {
        out.uplink_ = ifindex;
        return false;
    }));
    return std::optional<LiveNode>(std::move(out));
}

bool LiveNode::is_over(const dataplane::LiveFlow& flow) const {
    const size_t timeout = std::min<size_t>(flow.entry.timeout, MANX_TIMEOUT_GENERIC);
    return flow.closed || flow.idle > std::chrono::seconds(config_.timeout_s[timeout]);
}

Result<bool> LiveNode::is_this_host(const IpAddress& address) const {
    TRY_ASSIGN(const manx_class found, tables_->classify(address));
    return (found.flags & MANX_CLASS_LOCAL_HOST) != 0;
}

Result<std::optional<LiveNode::Reply>> LiveNode::ask(dataplane::Question question,
                                                     bool any_source_port) const {
    constexpr int kTries = 64;
    for (int i = 0; any_source_port && i < kTries; ++i) {
        TRY_ASSIGN(const bool taken,
                   dataplane::flow_exists(bpffs_, question.from, question.to, question.protocol,
                                          question.source_port, question.port));
        if (!taken) {
            break;
        }
        ++question.source_port;
    }
    const auto from = endpoints_.find(question.from);
    const auto to = endpoints_.find(question.to);
    manx_hook hook{};
    uint32_t ifindex = 0;
    if (from != endpoints_.end()) {
        hook = MANX_HOOK_FROM_WORKLOAD;
        ifindex = from->second.ifindex;
    } else if (to == endpoints_.end()) {
        return std::optional<Reply>();
    } else {
        TRY_ASSIGN(const bool this_host, is_this_host(question.from));
        hook = this_host ? MANX_HOOK_TO_WORKLOAD : MANX_HOOK_FROM_UPLINK;
        ifindex = this_host ? to->second.ifindex : uplink_;
        if (ifindex == 0) {
            return fail(ErrorKind::ConfigReality, "this node has no uplink attached");
        }
    }
    TRY_ASSIGN(const auto answer, programs_->ask(hook, question, ifindex));
    Reply reply;
    reply.program = fmt::format("{} on {}",
                                hook == MANX_HOOK_FROM_WORKLOAD ? "tc_from_workload"
                                : hook == MANX_HOOK_TO_WORKLOAD ? "tc_to_workload"
                                                                : "tc_from_uplink",
                                netlink::device_name(ifindex));
    reply.known_flow = !answer;
    reply.answer = answer.value_or(dataplane::Answer{});
    return std::optional(std::move(reply));
}

Result<LiveNode::Cut> LiveNode::cut_by(const calc::PolicyCalculator& before,
                                       const calc::PolicyCalculator& after) const {
    std::map<std::pair<uint32_t, Family>, IpAddress> address_of; // by device
    for (const auto& [address, endpoint] : endpoints_) {
        address_of.emplace(std::pair{endpoint.ifindex, address.family()}, address);
    }
    Cut out;
    // The workload of this side, if it is one of this node.
    const auto workload = [&](const IpAddress& address) {
        const auto found = endpoints_.find(address);
        return found == endpoints_.end() ? std::optional<IpAddress>() : found->first;
    };
    const auto read = dataplane::each_flow(bpffs_, [&](const dataplane::LiveFlow& flow) {
        if ((flow.entry.flags & MANX_FLOW_FROM_HOST) != 0 || is_over(flow)) {
            return; // never judged; over
        }
        std::optional<IpAddress> source = workload(flow.from);
        if ((flow.entry.flags & MANX_FLOW_BY_SLOT) != 0) { // its source may be translated
            const auto slot = slots_.find(flow.entry.slot);
            const auto at = slot == slots_.end()
                                ? address_of.end()
                                : address_of.find({slot->second, flow.from.family()});
            source = at == address_of.end() ? source : at->second;
        }
        const std::optional<IpAddress> target = workload(flow.to);
        if (source && target && endpoints_.at(*source).ifindex == endpoints_.at(*target).ifindex) {
            return; // to itself
        }
        ++out.looked_at;
        const calc::Packet packet{flow.protocol, flow.source_port, flow.port};
        bool unknown = false;
        const auto side = [&](const std::optional<IpAddress>& own, const IpAddress& other,
                              api::Direction direction) {
            if (!own) {
                return false;
            }
            const auto now = before.judge(*own, direction, other, packet);
            if (!now.known) {
                unknown = true;
                return false;
            }
            const auto then = after.judge(*own, direction, other, packet);
            if (!now.allow || then.allow) {
                return false;
            }
            out.flows.push_back({flow, direction, then.reason});
            return true;
        };
        if (!side(source, flow.to, api::Direction::Egress)) {
            side(target, source.value_or(flow.from), api::Direction::Ingress);
        }
        out.not_judged += unknown ? 1 : 0;
    });
    if (!read) {
        return Unexpected(read.error());
    }
    return out;
}

} // namespace manx::ctl
