// SPDX-License-Identifier: Apache-2.0
// policy counters: how often rules decided on this node. policy drops: what was dropped, by device
// and reason.
#include "agent/ctl/agent_client.h"
#include "agent/ctl/policy_commands.h"
#include "agent/ctl/policy_live.h"
#include "agent/ctl/table.h"
#include "maps/map.h"
#include "maps/reason.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <net/if.h>

#include <algorithm>
#include <array>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

struct Options {
    std::string bpffs = "/sys/fs/bpf/manx";
    bool all = false;
};

struct RuleCount {
    uint64_t number = 0;
    std::string rule;
    bool staged = false;
    uint64_t flows = 0;
};

std::vector<RuleCount> from_agent(const json& answer) {
    std::vector<RuleCount> out;
    for (const auto& one : answer) {
        if (one.is_object()) {
            out.push_back({one.value("number", uint64_t{0}), one.value("rule", ""),
                           one.value("staged", false), one.value("flows", uint64_t{0})});
        }
    }
    return out;
}

// Numbers of rules come from their names: the same here as in the agent, but where two collide.
Result<std::vector<RuleCount>> from_objects(Context& context, const std::string& bpffs) {
    TRY_ASSIGN(const auto hits, maps::open_pinned_per_cpu(bpffs, maps::kRuleHits));
    TRY_ASSIGN(const auto objects, read_policy_objects(context));
    std::set<IpAddress> workloads;
    TRY_ASSIGN(const auto live, LiveNode::open(bpffs));
    if (live) {
        for (const auto& [address, endpoint] : live->endpoints()) {
            workloads.insert(address);
        }
    }
    const auto calculator = compile(objects, workloads, nullptr);
    std::vector<RuleCount> out;
    for (const auto& [number, name] : calculator->rules().all()) {
        TRY_ASSIGN(const auto counted, hits.lookup(number));
        out.push_back({number, name->text(), name->staged, counted ? counted->flows : 0});
    }
    return out;
}

Result<void> run_counters(Context& context, const Options& options) {
    std::vector<RuleCount> counts;
    if (const auto answer = ask_agent(context.agent_socket, "/rules")) {
        counts = from_agent(*answer);
    } else {
        context.err << answer.error().text() << "; names of rules are those of the objects\n";
        TRY_ASSIGN(counts, from_objects(context, options.bpffs));
    }
    std::vector<TableRow> rows;
    for (const auto& one : counts) {
        if (one.flows > 0 || options.all) {
            rows.push_back({std::to_string(one.number), std::to_string(one.flows),
                            one.staged ? "staged" : "enforced", one.rule});
        }
    }
    std::ranges::sort(rows, {}, [](const TableRow& row) { return row.back(); });
    print_table(context.out, {"NUMBER", "FLOWS", "STATE", "RULE"}, rows);
    return {};
}

// The workloads behind devices: names where the datastore knows them, else addresses.
Result<std::map<uint32_t, std::string>> workloads_by_device(Context& context,
                                                            const std::string& bpffs) {
    std::map<uint32_t, std::string> out;
    TRY_ASSIGN(const auto live, LiveNode::open(bpffs));
    if (!live) {
        return out;
    }
    const auto objects = read_policy_objects(context);
    const PodNames pods(objects ? *objects : PolicyObjects{});
    for (const auto& [address, endpoint] : live->endpoints()) {
        const std::string name = pods.of(address);
        out.emplace(endpoint.ifindex, name.empty() ? address.text() : name);
    }
    return out;
}

Result<void> run_drops(Context& context, const Options& options) {
    TRY_ASSIGN(const auto counters, maps::open_pinned_per_cpu(options.bpffs, maps::kCounters));
    TRY_ASSIGN(const auto workloads, workloads_by_device(context, options.bpffs));
    std::vector<TableRow> rows;
    TRY(counters.for_each([&](const manx_counter_key& key, const manx_counter& value) {
        std::array<char, IF_NAMESIZE> name{};
        const bool named = if_indextoname(key.ifindex, name.data()) != nullptr;
        const auto workload = workloads.find(key.ifindex);
        rows.push_back({named ? std::string(name.data()) : std::to_string(key.ifindex),
                        workload == workloads.end() ? "-" : workload->second,
                        std::string(maps::hook_name(static_cast<manx_hook>(key.hook))),
                        std::string(maps::reason_name(static_cast<manx_reason>(key.reason))),
                        std::to_string(value.packets), std::to_string(value.bytes)});
    }));
    std::ranges::sort(rows);
    print_table(context.out, {"DEVICE", "WORKLOAD", "HOOK", "REASON", "PACKETS", "BYTES"}, rows);
    return {};
}

} // namespace

void add_policy_counters(CLI::App& policy, Context& context) {
    auto options = std::make_shared<Options>();
    auto* command = policy.add_subcommand("counters", "Flows that each rule decided on this node");
    command->add_option("--bpffs", options->bpffs, "Where the tables are pinned")
        ->capture_default_str();
    command->add_flag("--all", options->all, "Rules without a flow too");
    command->callback([&context, options] { context.finish(run_counters(context, *options)); });
}

void add_policy_drops(CLI::App& policy, Context& context) {
    auto options = std::make_shared<Options>();
    auto* command = policy.add_subcommand(
        "drops", "Dropped packets of this node, by the device that they came by, and reason");
    command->add_option("--bpffs", options->bpffs, "Where the tables are pinned")
        ->capture_default_str();
    command->callback([&context, options] { context.finish(run_drops(context, *options)); });
}

} // namespace manx::ctl
