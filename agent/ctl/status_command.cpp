// SPDX-License-Identifier: Apache-2.0
// status: what the agent of this node says of itself, for people.
#include "agent/ctl/agent_client.h"
#include "agent/ctl/commands.h"
#include "agent/ctl/table.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

// Members of the answer; an agent of another version may lack some.
std::string text(const json& object, const char* name) {
    if (!object.is_object() || !object.contains(name)) {
        return "";
    }
    const json& value = object[name];
    return value.is_string() ? value.get<std::string>()
                             : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool flag(const json& object, const char* name) {
    return text(object, name) == "true";
}

const json& under(const json& object, const char* name) {
    static const json kNull;
    return object.is_object() && object.contains(name) ? object[name] : kNull;
}

std::string joined(const json& list, std::string_view separator) {
    std::string out;
    for (const auto& item : list) {
        out += (out.empty() ? "" : std::string(separator)) +
               (item.is_string() ? item.get<std::string>() : item.dump());
    }
    return out;
}

void print_table_or_none(std::ostream& out, std::string_view title, const TableRow& header,
                         const std::vector<TableRow>& rows) {
    if (rows.empty()) {
        out << title << ": none\n\n";
        return;
    }
    out << title << ":\n";
    print_table(out, header, rows);
}

void print_head(std::ostream& out, const json& status) {
    const json& store = under(status, "datastore");
    out << fmt::format("Node:        {}\n", text(status, "node"));
    out << fmt::format(
        "Agent:       v{}, {}\n", text(status, "version"),
        flag(status, "ready") ? "ready" : "not ready: " + joined(under(status, "notReady"), "; "));
    std::string trouble = text(store, "trouble");
    std::string locked = text(store, "locked");
    out << fmt::format("Datastore:   {}, {}{}{}\n", text(store, "path"),
                       flag(store, "synced") ? "in sync" : "not in sync",
                       trouble.empty() ? "" : ": " + trouble, locked.empty() ? "" : "; " + locked);
    if (std::string settings = text(status, "settings"); !settings.empty()) {
        out << fmt::format("Settings:    {}\n", settings);
    }
    if (std::string own = text(status, "servicesOfThisHost"); !own.empty()) {
        out << fmt::format("Pods to services of this very node: {}\n", own);
    }
    out << "\n";
}

void print_bgp(std::ostream& out, const json& bgp) {
    if (bgp.is_null()) {
        out << "BGP: off\n\n";
        return;
    }
    if (!flag(bgp, "running")) {
        out << "The BGP backend process (BIRD) is not running.\n\n";
    }
    if (std::string error = text(bgp, "error"); !error.empty()) {
        out << "BGP configuration is not in force: " << error << "\n\n";
    }
    std::vector<TableRow> rows;
    for (const auto& peer : under(bgp, "peers")) {
        rows.push_back({text(peer, "address"), text(peer, "as"), text(peer, "state"),
                        text(peer, "since"), text(peer, "imported"), text(peer, "exported"),
                        text(peer, "name")});
    }
    print_table_or_none(out, "BGP peers",
                        {"ADDRESS", "ASN", "STATE", "SINCE", "IMPORTED", "EXPORTED", "SESSION"},
                        rows);
}

void print_devices(std::ostream& out, const json& status) {
    std::vector<TableRow> rows;
    for (const auto& uplink : under(status, "uplinks")) {
        std::string trouble = text(uplink, "trouble");
        rows.push_back({text(uplink, "device"), text(uplink, "mtu"),
                        flag(uplink, "attached") ? "attached" : "not attached", trouble});
    }
    print_table_or_none(out, "Uplinks", {"DEVICE", "MTU", "STATE", "TROUBLE"}, rows);
    rows.clear();
    for (const auto& endpoint : under(status, "endpoints")) {
        rows.push_back({text(endpoint, "namespace"), text(endpoint, "pod"),
                        joined(under(endpoint, "addresses"), ","), text(endpoint, "device")});
    }
    print_table_or_none(out, "Endpoints", {"NAMESPACE", "POD", "ADDRESSES", "DEVICE"}, rows);
}

void print_packets(std::ostream& out, const json& packets) {
    std::vector<TableRow> rows;
    for (const auto& [hook, reasons] : packets.items()) {
        for (const auto& [reason, counter] : reasons.items()) {
            if (reason.starts_with("drop_")) {
                rows.push_back({hook, reason, text(counter, "packets"), text(counter, "bytes")});
            }
        }
    }
    print_table_or_none(out, "Drops", {"HOOK", "REASON", "PACKETS", "BYTES"}, rows);
}

void print_invalid(std::ostream& out, const json& invalid) {
    std::vector<TableRow> rows;
    for (const auto& [object, reason] : invalid.items()) {
        rows.push_back({object, reason.is_string() ? reason.get<std::string>() : reason.dump()});
    }
    if (!rows.empty()) {
        out << "Objects that are not in force as they stand:\n";
        print_table(out, {"OBJECT", "REASON"}, rows);
    }
}

void print_not_enforced(std::ostream& out, const json& list) {
    std::vector<TableRow> rows;
    for (const auto& one : list) {
        const std::string ns = text(one, "namespace");
        rows.push_back({fmt::format("{} {}{}{}", text(one, "kind"), ns, ns.empty() ? "" : "/",
                                    text(one, "name")),
                        text(one, "field"), text(one, "meaning")});
    }
    if (!rows.empty()) {
        out << "What objects ask for and this node does not do:\n";
        print_table(out, {"OBJECT", "FIELD", "MEANING"}, rows);
    }
}

Result<void> run_status(Context& context, const std::string& output) {
    if (output != "text" && output != "json") {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("status: output \"{}\": expected text or json", output));
    }
    TRY_ASSIGN(json status, ask_agent(context.agent_socket, "/status"));
    if (output == "json") {
        context.out << status.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
        return {};
    }
    if (!status.is_object() || !status.contains("node")) {
        context.out << "Agent:       " << text(status, "state") << "\n";
        return {};
    }
    print_head(context.out, status);
    print_bgp(context.out, under(status, "bgp"));
    print_devices(context.out, status);
    print_packets(context.out, under(status, "packets"));
    print_invalid(context.out, under(status, "invalidObjects"));
    print_not_enforced(context.out, under(status, "notEnforced"));
    return {};
}

} // namespace

void add_status_command(CLI::App& app, Context& context) {
    auto output = std::make_shared<std::string>("text");
    auto* command = app.add_subcommand("status", "What the agent of this node says of itself");
    command->add_option("-o,--output", *output, "text or json");
    command->callback([&context, output] { context.finish(run_status(context, *output)); });
}

} // namespace manx::ctl
