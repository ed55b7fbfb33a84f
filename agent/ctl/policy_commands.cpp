// SPDX-License-Identifier: Apache-2.0
// policy explain: what the objects (and those of a manifest that is not applied yet) make of a
// flow, both sides, with the walk through tiers and rules. policy counters: how often rules
// decided.
#include "agent/api/meta.h"
#include "agent/calc/feed.h"
#include "agent/ctl/commands.h"
#include "agent/ctl/manifest.h"
#include "agent/dataplane/pinned_tables.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

constexpr std::array kKinds{api::Kind::Namespace,
                            api::Kind::ServiceAccount,
                            api::Kind::Pod,
                            api::Kind::EndpointSlice,
                            api::Kind::HostEndpoint,
                            api::Kind::NetworkSet,
                            api::Kind::GlobalNetworkSet,
                            api::Kind::Tier,
                            api::Kind::K8sNetworkPolicy,
                            api::Kind::ClusterNetworkPolicy,
                            api::Kind::NetworkPolicy,
                            api::Kind::GlobalNetworkPolicy,
                            api::Kind::StagedNetworkPolicy,
                            api::Kind::StagedGlobalNetworkPolicy,
                            api::Kind::StagedKubernetesNetworkPolicy};

struct ExplainOptions {
    std::string from;
    std::string to;
    std::string protocol = "tcp";
    uint16_t port = 0;
    uint16_t source_port = 40000;
    std::vector<std::string> manifests;
    std::string bpffs;
};

struct CountersOptions {
    std::string bpffs = "/sys/fs/bpf/manx";
    bool all = false;
};

// An end of the flow: a pod's addresses, or one address.
struct End {
    std::string text;
    std::vector<IpAddress> addresses;
};

// Everything that policy needs, from the datastore and then from the manifests.
Result<std::map<datastore::Key, json>> read_objects(Context& context,
                                                    const std::vector<std::string>& manifests) {
    std::map<datastore::Key, json> out;
    TRY_ASSIGN(auto* store, context.store());
    for (const api::Kind kind : kKinds) {
        TRY_ASSIGN(const auto list, store->list(kind));
        for (const auto& object : list.objects) {
            TRY_ASSIGN(out[object.key], api::parse_json(object.json));
        }
    }
    if (!manifests.empty()) {
        ManifestOptions options;
        options.sources = manifests;
        TRY_ASSIGN(const auto resources, read_manifests(options, context.in));
        for (const auto& resource : resources) {
            out[resource.key] = resource.object;
        }
    }
    return out;
}

Result<End> find_end(const std::string& text, const std::map<datastore::Key, json>& objects) {
    if (const auto address = IpAddress::parse(text)) {
        return End{text, {*address}};
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
    TRY_ASSIGN(const auto local, calc::local_from_pod(found->second, 0));
    if (local.addresses.empty()) {
        return fail(ErrorKind::ConfigReality, fmt::format("Pod {}: has no address yet", text));
    }
    return End{text, local.addresses};
}

void print_side(std::ostream& out, const char* side, const calc::Judgement& judged) {
    out << fmt::format("  {:<8} {}: {}{}\n", side, judged.allow ? "allow" : "deny", judged.reason,
                       judged.log ? " (logged)" : "");
    for (const auto& step : judged.walk) {
        out << fmt::format("    {} {}\n", step.matched ? '*' : ' ', step.text);
    }
}

// What the live tables say, where there are any on this machine.
void print_live(std::ostream& out, dataplane::PinnedTables& tables, const IpAddress& own,
                const IpAddress& other, bool ingress, const calc::Packet& packet) {
    const auto verdict = tables.judge(own, other, ingress, packet.protocol, packet.source_port,
                                      packet.destination_port);
    if (!verdict) {
        out << fmt::format("  live {}: {}\n", ingress ? "ingress" : "egress",
                           verdict.error().text());
    } else if (*verdict) {
        out << fmt::format("  live {}: {}, rule {}\n", ingress ? "ingress" : "egress",
                           (*verdict)->allow ? "allow" : "deny", (*verdict)->rule);
    }
}

Result<void> run_explain(Context& context, const ExplainOptions& options) {
    const auto protocol = api::protocol_number(options.protocol);
    if (!protocol) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("--protocol \"{}\": expected tcp, udp, sctp, icmp, icmpv6 or a "
                                "number",
                                options.protocol));
    }
    TRY_ASSIGN(const auto objects, read_objects(context, options.manifests));
    TRY_ASSIGN(const End from, find_end(options.from, objects));
    TRY_ASSIGN(const End to, find_end(options.to, objects));
    calc::PolicyCalculator calculator({.node_name = ""});
    uint16_t index = 0;
    for (const auto& [key, object] : objects) {
        if (auto fed = calc::feed(calculator, key.kind, object); !fed) {
            context.err << "left out: " << fed.error().text() << "\n";
        }
        if (key.kind == api::Kind::Pod &&
            (key.ns + "/" + key.name == from.text || key.ns + "/" + key.name == to.text)) {
            TRY_ASSIGN(const auto local, calc::local_from_pod(object, index++));
            calculator.upsert_local(local);
        }
    }
    (void)calculator.flush(); // the judgement needs no tables
    std::unique_ptr<dataplane::PinnedTables> live;
    if (!options.bpffs.empty()) {
        TRY_ASSIGN(live, dataplane::PinnedTables::open(options.bpffs));
    }
    const calc::Packet packet{*protocol, options.source_port, options.port};
    bool any = false;
    for (const auto& source : from.addresses) {
        for (const auto& destination : to.addresses) {
            if (source.family() != destination.family()) {
                continue;
            }
            any = true;
            const auto egress =
                calculator.judge(source, api::Direction::Egress, destination, packet);
            const auto ingress =
                calculator.judge(destination, api::Direction::Ingress, source, packet);
            context.out << fmt::format("{} -> {} {} port {}: {}\n", source.text(),
                                       destination.text(), api::protocol_name(*protocol),
                                       options.port,
                                       egress.allow && ingress.allow ? "allow" : "deny");
            print_side(context.out, "egress", egress);
            print_side(context.out, "ingress", ingress);
            if (live) {
                print_live(context.out, *live, source, destination, false, packet);
                print_live(context.out, *live, destination, source, true, packet);
            }
        }
    }
    if (!any) {
        return fail(ErrorKind::ConfigInvalid, "both ends have no address family in common");
    }
    return {};
}

Result<void> run_counters(Context& context, const CountersOptions& options) {
    TRY_ASSIGN(const auto hits, maps::open_pinned_per_cpu(options.bpffs, maps::kRuleHits));
    TRY_ASSIGN(const auto objects, read_objects(context, {}));
    // Numbers of rules come from their names: the same here as in the agent.
    calc::PolicyCalculator calculator({.node_name = ""});
    uint16_t index = 0;
    for (const auto& [key, object] : objects) {
        (void)calc::feed(calculator, key.kind, object); // what is invalid has no numbers
        if (key.kind == api::Kind::Pod) {
            if (const auto local = calc::local_from_pod(object, index++);
                local && !local->addresses.empty()) {
                calculator.upsert_local(*local);
            }
        }
    }
    (void)calculator.flush(); // only the numbers are needed
    context.out << fmt::format("{:>8} {:>14}  {}\n", "NUMBER", "FLOWS", "RULE");
    for (const auto& [number, name] : calculator.rules().all()) {
        TRY_ASSIGN(const auto counted, hits.lookup(number));
        const uint64_t flows = counted ? counted->flows : 0;
        if (flows > 0 || options.all) {
            context.out << fmt::format("{:>8} {:>14}  {}{}\n", number, flows, name->text(),
                                       name->staged ? " (staged)" : "");
        }
    }
    return {};
}

} // namespace

void add_policy_commands(CLI::App& app, Context& context) {
    auto* policy = app.add_subcommand("policy", "Explain verdicts, count decisions");
    policy->require_subcommand(1);

    auto explain = std::make_shared<ExplainOptions>();
    auto* command = policy->add_subcommand("explain", "What policy makes of a flow, and why");
    command->add_option("--from", explain->from, "namespace/pod or an address")->required();
    command->add_option("--to", explain->to, "namespace/pod or an address")->required();
    command->add_option("--protocol", explain->protocol, "tcp, udp, sctp, icmp, icmpv6, a number")
        ->capture_default_str();
    command->add_option("--port", explain->port, "Destination port; ICMP: type * 256 + code");
    command->add_option("--source-port", explain->source_port, "Source port")
        ->capture_default_str();
    command->add_option("--manifest", explain->manifests,
                        "Objects that are not applied yet, as if they were");
    command->add_option("--bpffs", explain->bpffs, "Say what the tables pinned there hold, too");
    command->callback([&context, explain] { context.finish(run_explain(context, *explain)); });

    auto counters = std::make_shared<CountersOptions>();
    command = policy->add_subcommand("counters", "Flows that each rule decided on this node");
    command->add_option("--bpffs", counters->bpffs, "Where the tables are pinned")
        ->capture_default_str();
    command->add_flag("--all", counters->all, "Rules without a flow too");
    command->callback([&context, counters] { context.finish(run_counters(context, *counters)); });
}

} // namespace manx::ctl
