// SPDX-License-Identifier: Apache-2.0
// policy explain: what the live programs, and the objects (with those of a manifest that is not
// applied yet), make of a flow: both sides, with the walk through tiers and rules; and which
// existing flows the manifest would cut.
#include "agent/api/pod.h"
#include "agent/ctl/policy_commands.h"
#include "agent/ctl/policy_live.h"
#include "agent/ctl/policy_world.h"
#include "agent/ctl/service_backends.h"
#include "agent/ctl/table.h"
#include "maps/reason.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <netinet/in.h>

#include <algorithm>
#include <optional>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

constexpr uint16_t kFirstSourcePort = 40000;

struct Options {
    std::string from;
    std::string to;
    std::string protocol = "tcp";
    std::optional<uint16_t> port;
    std::optional<uint16_t> source_port;
    std::optional<uint8_t> type;
    std::optional<uint8_t> code;
    std::vector<std::string> manifests;
    std::vector<std::string> deleted;
    std::string bpffs = "/sys/fs/bpf/manx";

    [[nodiscard]] bool changes() const { return !manifests.empty() || !deleted.empty(); }
};

// An end of the flow: a pod's addresses, or one address.
struct End {
    std::string text;
    std::vector<IpAddress> addresses;
    std::string node; // of a pod
};

// Everything that is asked of one flow, in one place.
struct Inquiry {
    Context& context;
    const Options& options;
    uint8_t protocol = 0;
    PolicyObjects objects{}; // with the manifest's
    std::optional<LiveNode> live{};
    std::unique_ptr<calc::PolicyCalculator> now{};
    std::unique_ptr<calc::PolicyCalculator> then{}; // with the manifest; null: there is none
    std::optional<RuleNames> rules{};
    std::optional<PodNames> pods{};
};

Result<End> find_end(const std::string& text, const PolicyObjects& objects) {
    if (const auto address = IpAddress::parse(text)) {
        return End{text, {*address}, ""};
    }
    const size_t slash = text.find('/');
    if (slash == std::string::npos) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("\"{}\": expected namespace/pod or an address", text));
    }
    const auto found =
        objects.find({api::Kind::Pod, text.substr(0, slash), text.substr(slash + 1)});
    if (found == objects.end()) {
        return fail(ErrorKind::NotFound, fmt::format("Pod {}: not found", text));
    }
    TRY_ASSIGN(const auto pod, api::Pod::from_json(found->second));
    if (pod.ips.empty()) {
        return fail(ErrorKind::ConfigReality, fmt::format("Pod {}: has no address yet", text));
    }
    return End{text, pod.ips, pod.node_name};
}

bool is_icmp(uint8_t protocol) {
    return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

bool has_ports(uint8_t protocol) {
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
           protocol == IPPROTO_UDPLITE;
}

// The port as policy sees it.
Result<uint16_t> policy_port(const Options& options, uint8_t protocol) {
    if (!is_icmp(protocol)) {
        if (options.type || options.code) {
            return fail(ErrorKind::ConfigInvalid, "--type, --code: only with icmp or icmpv6");
        }
        if (!options.port && has_ports(protocol)) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("--port: expected with {}", api::protocol_name(protocol)));
        }
        return options.port.value_or(0);
    }
    if (options.port) {
        return fail(ErrorKind::ConfigInvalid, "--port: icmp has --type and --code");
    }
    constexpr uint8_t kEcho4 = 8;
    constexpr uint8_t kEcho6 = 128;
    const uint8_t type = options.type.value_or(protocol == IPPROTO_ICMP ? kEcho4 : kEcho6);
    return static_cast<uint16_t>(type << 8 | options.code.value_or(0));
}

std::string flow_text(const calc::Packet& packet) {
    if (is_icmp(packet.protocol)) {
        return fmt::format("{} type {} code {}", api::protocol_name(packet.protocol),
                           packet.destination_port >> 8, packet.destination_port & 0xff);
    }
    return fmt::format("{} port {}", api::protocol_name(packet.protocol), packet.destination_port);
}

std::string verdict(bool allow) {
    return allow ? "allow" : "deny";
}

void print_side(std::ostream& out, const char* side, const calc::Judgement& judged) {
    out << fmt::format("  {:<8} {}: {}{}\n", side, verdict(judged.allow), judged.reason,
                       judged.log ? " (logged)" : "");
    for (const auto& step : judged.walk) {
        out << fmt::format("    {} {}\n", step.matched ? '*' : ' ', step.text);
    }
}

struct Sides {
    calc::Judgement egress;
    calc::Judgement ingress;

    [[nodiscard]] bool allow() const { return egress.allow && ingress.allow; }
};

Sides judge(const calc::PolicyCalculator& calculator, const IpAddress& from, const IpAddress& to,
            const calc::Packet& packet, bool staged = false) {
    return {calculator.judge(from, api::Direction::Egress, to, packet, staged),
            calculator.judge(to, api::Direction::Ingress, from, packet, staged)};
}

// What the live programs say; by_objects: what they should say, by the objects as they are.
Result<void> print_live(const Inquiry& inquiry, const IpAddress& from, const IpAddress& to,
                        const calc::Packet& packet, const Sides& by_objects) {
    auto& out = inquiry.context.out;
    TRY_ASSIGN(const auto reply, inquiry.live->ask({from, to, packet.protocol, packet.source_port,
                                                    packet.destination_port},
                                                   !inquiry.options.source_port));
    if (!reply) {
        out << "  live     neither end is a workload of this node\n";
        return {};
    }
    const auto& answer = reply->answer;
    if (reply->known_flow) {
        out << fmt::format("  live     allow: a packet of a flow that exists, not judged anew, "
                           "{}\n",
                           reply->program);
        return {};
    }
    if (answer.reason == MANX_PASS_DEFERRED) {
        out << fmt::format("  live     to a service's address: judged when it is translated, {}\n",
                           reply->program);
        return {};
    }
    const bool allow = answer.reason == MANX_REASON_NONE;
    std::string rules;
    if (inquiry.live->is_here(from)) {
        rules += ", egress by " + inquiry.rules->of(answer.egress_rule);
    }
    const bool asked_ingress = allow || answer.reason == MANX_DROP_POLICY_INGRESS;
    if (inquiry.live->is_here(to) && asked_ingress) {
        rules += ", ingress by " + inquiry.rules->of(answer.ingress_rule);
    }
    out << fmt::format("  live     {}{}{}{}, {}\n", verdict(allow),
                       allow ? "" : " " + std::string(maps::reason_name(answer.reason)), rules,
                       answer.log ? " (logged)" : "", reply->program);
    const bool expected = (!inquiry.live->is_here(from) || by_objects.egress.allow) &&
                          (!inquiry.live->is_here(to) || by_objects.ingress.allow);
    const bool by_policy = allow || answer.reason == MANX_DROP_POLICY_EGRESS ||
                           answer.reason == MANX_DROP_POLICY_INGRESS;
    if (by_policy && expected != allow) {
        out << "  the live tables say otherwise than the objects: the agent is behind, or cannot "
               "write them (manxctl status)\n";
    }
    return {};
}

void say_where(const Inquiry& inquiry, const char* side, const End& end, const IpAddress& address) {
    if (inquiry.live && !end.node.empty() && !inquiry.live->is_here(address)) {
        inquiry.context.out << fmt::format("  {:<8} is enforced on node {}: ask there for its "
                                           "live tables\n",
                                           side, end.node);
    }
}

Result<void> explain_pair(const Inquiry& inquiry, const End& from, const IpAddress& source,
                          const End& to, const IpAddress& target, const calc::Packet& packet) {
    auto& out = inquiry.context.out;
    if (source == target) {
        out << fmt::format(
            "{} -> {} {}: allow\n  a workload reaches itself, whatever policy says\n",
            source.text(), target.text(), flow_text(packet));
        return {};
    }
    const Sides now = judge(*inquiry.now, source, target, packet);
    const auto& calculator = inquiry.then ? *inquiry.then : *inquiry.now;
    const Sides sides = inquiry.then ? judge(calculator, source, target, packet) : now;
    if (inquiry.live && inquiry.live->is_here(target)) {
        TRY_ASSIGN(const bool from_host, inquiry.live->is_this_host(source));
        if (from_host) {
            out << fmt::format("{} -> {} {}: allow\n  this node reaches its own workloads, "
                               "whatever policy says\n",
                               source.text(), target.text(), flow_text(packet));
            return print_live(inquiry, source, target, packet, {});
        }
    }
    out << fmt::format("{} -> {} {}: {}{}\n", source.text(), target.text(), flow_text(packet),
                       verdict(sides.allow()),
                       inquiry.then && now.allow() != sides.allow()
                           ? fmt::format(" (now: {})", verdict(now.allow()))
                           : "");
    if (inquiry.live) {
        TRY(print_live(inquiry, source, target, packet, now));
    }
    print_side(out, "egress", sides.egress);
    say_where(inquiry, "egress", from, source);
    print_side(out, "ingress", sides.ingress);
    say_where(inquiry, "ingress", to, target);
    const Sides staged = judge(calculator, source, target, packet, true);
    const auto print_staged = [&](const char* side, const calc::Judgement& judged,
                                  const calc::Judgement& enforced) {
        if (judged.allow != enforced.allow) {
            out << fmt::format("  staged   {} would be {}: {}\n", side, verdict(judged.allow),
                               judged.reason);
        }
    };
    print_staged("egress", staged.egress, sides.egress);
    print_staged("ingress", staged.ingress, sides.ingress);
    return {};
}

Result<void> explain_flow(const Inquiry& inquiry, const End& from, const End& to, uint16_t port) {
    bool any = false;
    for (const auto& source : from.addresses) {
        for (const auto& target : to.addresses) {
            const bool fits = source.family() == target.family() &&
                              (!is_icmp(inquiry.protocol) ||
                               source.is_v4() == (inquiry.protocol == IPPROTO_ICMP));
            if (fits) {
                any = true;
                TRY(explain_pair(inquiry, from, source, to, target,
                                 {inquiry.protocol,
                                  inquiry.options.source_port.value_or(kFirstSourcePort), port}));
            }
        }
    }
    if (!any) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{} and {} have no address family in common{}", from.text, to.text,
                                is_icmp(inquiry.protocol) ? " that this protocol is for" : ""));
    }
    return {};
}

// The service's address is never judged: the host stack translates it, and policy sees a backend.
Result<void> explain_service(const Inquiry& inquiry, const End& from, const ServiceRef& service,
                             uint16_t port) {
    TRY_ASSIGN(const auto backends, backends_of(inquiry.objects, service, inquiry.protocol, port));
    inquiry.context.out << fmt::format(
        "Service {}/{} {} is translated to a backend, and that is what policy judges: {}\n",
        service.ns, service.name, flow_text({inquiry.protocol, 0, port}),
        backends.empty() ? "it has none" : fmt::format("{} of them", backends.size()));
    for (const auto& backend : backends) {
        const std::string name = inquiry.pods->of(backend.address);
        End end{name.empty() ? backend.address.text() : name, {backend.address}, backend.node};
        if (std::ranges::none_of(from.addresses, [&](const IpAddress& address) {
                return address.family() == backend.address.family();
            })) {
            continue;
        }
        inquiry.context.out << fmt::format("backend {}{}\n", end.text,
                                           backend.ready ? "" : " (not ready)");
        TRY(explain_flow(inquiry, from, end, backend.port));
    }
    return {};
}

Result<void> list_cut_flows(const Inquiry& inquiry) {
    auto& out = inquiry.context.out;
    if (!inquiry.live) {
        out << fmt::format("No dataplane at {}: existing flows are not known\n",
                           inquiry.options.bpffs);
        return {};
    }
    TRY_ASSIGN(const auto cut, inquiry.live->cut_by(*inquiry.now, *inquiry.then));
    const bool cuts = inquiry.live->cuts_flows();
    out << fmt::format("Existing flows on this node that would no longer be allowed{}: {} of {}\n",
                       cuts ? ", and be cut (policy.cutFlows)"
                            : "; they would go on, as policy.cutFlows is off",
                       cut.flows.size(), cut.looked_at);
    if (cut.not_judged > 0) {
        out << fmt::format("Flows of workloads without a Pod object, not judged: {}\n",
                           cut.not_judged);
    }
    const auto end = [&](const IpAddress& address, uint16_t port, bool with_port) {
        const std::string name = inquiry.pods->of(address);
        std::string text =
            address.is_v4() || !with_port ? address.text() : fmt::format("[{}]", address.text());
        text += with_port ? fmt::format(":{}", port) : "";
        return name.empty() ? text : fmt::format("{} ({})", name, text);
    };
    std::vector<TableRow> rows;
    for (const auto& one : cut.flows) {
        const auto& flow = one.flow;
        const bool icmp = is_icmp(flow.protocol);
        rows.push_back(
            {std::string(to_string(one.direction)),
             icmp ? flow_text({flow.protocol, 0, flow.port}) : api::protocol_name(flow.protocol),
             end(flow.from, flow.source_port, !icmp), end(flow.to, flow.port, !icmp), one.reason});
    }
    if (!rows.empty()) {
        std::ranges::sort(rows);
        print_table(out, {"DENIED", "PROTOCOL", "FROM", "TO", "BY"}, rows);
    }
    return {};
}

Result<void> run_explain(Context& context, const Options& options) {
    const auto protocol = api::protocol_number(options.protocol);
    if (!protocol) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("--protocol \"{}\": expected tcp, udp, sctp, icmp, icmpv6 or a "
                                "number",
                                options.protocol));
    }
    const bool flow = !options.from.empty() || !options.to.empty();
    if (flow ? options.from.empty() || options.to.empty() : !options.changes()) {
        return fail(ErrorKind::ConfigInvalid, "--from and --to, or --manifest: expected");
    }
    Inquiry inquiry{.context = context, .options = options, .protocol = *protocol};
    TRY_ASSIGN(const auto applied, read_policy_objects(context));
    inquiry.objects = applied;
    TRY(put_manifests(inquiry.objects, context, options.manifests));
    TRY(take_manifests(inquiry.objects, context, options.deleted));
    if (!options.bpffs.empty()) {
        TRY_ASSIGN(inquiry.live, LiveNode::open(options.bpffs));
    }
    inquiry.pods.emplace(inquiry.objects);

    // Both ends are judged, wherever they are; and all of this node's for its flows.
    std::set<IpAddress> workloads;
    std::optional<ServiceRef> service;
    End from;
    End to;
    uint16_t port = 0;
    if (flow) {
        TRY_ASSIGN(from, find_end(options.from, inquiry.objects));
        service = find_service(inquiry.objects, options.to);
        if (!service) {
            TRY_ASSIGN(to, find_end(options.to, inquiry.objects));
        }
        TRY_ASSIGN(port, policy_port(options, *protocol));
        if (service) {
            TRY_ASSIGN(const auto backends,
                       backends_of(inquiry.objects, *service, *protocol, port));
            for (const auto& backend : backends) {
                workloads.insert(backend.address);
            }
        }
        workloads.insert(from.addresses.begin(), from.addresses.end());
        workloads.insert(to.addresses.begin(), to.addresses.end());
    }
    if (inquiry.live && options.changes()) {
        for (const auto& [address, endpoint] : inquiry.live->endpoints()) {
            workloads.insert(address);
        }
    }
    inquiry.now = compile(applied, workloads, options.changes() ? nullptr : &context.err);
    if (options.changes()) {
        inquiry.then = compile(inquiry.objects, workloads, &context.err);
    }
    inquiry.rules.emplace(context.agent_socket, *inquiry.now);
    if (flow) {
        TRY(service ? explain_service(inquiry, from, *service, port)
                    : explain_flow(inquiry, from, to, port));
    }
    return options.changes() ? list_cut_flows(inquiry) : Result<void>{};
}

} // namespace

void add_policy_explain(CLI::App& policy, Context& context) {
    auto options = std::make_shared<Options>();
    auto* command = policy.add_subcommand("explain", "What policy makes of a flow, and why");
    command->add_option("--from", options->from, "namespace/pod or an address");
    command->add_option("--to", options->to,
                        "namespace/pod, an address (of a service too), or service/namespace/name");
    command->add_option("--protocol", options->protocol, "tcp, udp, sctp, icmp, icmpv6, a number")
        ->capture_default_str();
    command->add_option("--port", options->port, "Destination port");
    command->add_option("--source-port", options->source_port, "Source port; default: a free one");
    command->add_option("--type", options->type, "ICMP type; default: echo request");
    command->add_option("--code", options->code, "ICMP code");
    command->add_option("--manifest", options->manifests,
                        "Objects that are not applied yet, as if they were; lists the existing "
                        "flows that they would cut");
    command->add_option("--delete", options->deleted, "The objects that it names, as if deleted");
    command
        ->add_option("--bpffs", options->bpffs,
                     "Where the live programs are pinned; empty: objects only")
        ->capture_default_str();
    command->callback([&context, options] { context.finish(run_explain(context, *options)); });
}

} // namespace manx::ctl
