// SPDX-License-Identifier: Apache-2.0
// get: objects as tables, YAML or JSON, in the form in which people write them.
#include "agent/api/meta.h"
#include "agent/api/node.h"
#include "agent/api/policy.h"
#include "agent/ctl/columns.h"
#include "agent/ctl/commands.h"
#include "agent/ctl/yaml.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <ostream>
#include <set>

namespace manx::ctl {

namespace {

using api::Kind;
using nlohmann::json;

struct Options {
    std::string kind;
    std::vector<std::string> names;
    std::string ns;
    bool all_namespaces = false;
    std::string output = "ps";

    [[nodiscard]] bool table() const { return output == "ps" || output == "wide"; }

    [[nodiscard]] bool wide() const { return output == "wide"; }
};

bool is_endpoint_word(std::string word) {
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    return word == "wep" || word == "weps" || word == "workloadendpoint" ||
           word == "workloadendpoints";
}

// The stored objects asked for, in order.
Result<std::vector<json>> fetch(Kind kind, const Options& options, datastore::Store& store) {
    std::vector<datastore::Object> found;
    std::string ns;
    if (api::info(kind).namespaced && !options.all_namespaces) {
        ns = options.ns.empty() ? "default" : options.ns;
    }
    if (options.names.empty()) {
        TRY_ASSIGN(auto list, store.list(kind, {ns, {}}));
        found = std::move(list.objects);
    }
    for (const auto& name : options.names) {
        if (api::info(kind).namespaced && ns.empty()) {
            return fail(ErrorKind::ConfigInvalid, "get: a name needs one namespace, not all");
        }
        auto object = store.get({kind, ns, name});
        if (!object) {
            return Unexpected(object.error().within(
                fmt::format("resource does not exist: {}({}{}{}) with error", api::info(kind).name,
                            ns, ns.empty() ? "" : "/", name)));
        }
        found.push_back(std::move(*object));
    }
    std::set<datastore::Key> keys;
    for (const auto& object : found) {
        keys.insert(object.key);
    }
    std::vector<json> objects;
    for (const auto& object : found) {
        auto parsed = api::parse_json(object.json);
        if (!parsed) {
            return Unexpected(parsed.error().within(object.key.text()));
        }
        const auto name = api::name_of_older_form(kind, object.key.name, *parsed);
        if (name && keys.contains({kind, object.key.ns, *name})) {
            continue; // one policy is shown once
        }
        objects.push_back(std::move(*parsed));
    }
    return objects;
}

Result<json> as_written(Kind kind, const json& stored) {
    return kind == Kind::Node ? api::node_to_v3(stored) : api::to_v3(kind, stored);
}

std::string cluster_as_number(datastore::Store& store) {
    ColumnContext context;
    auto object = store.get({Kind::BgpConfiguration, "", "default"});
    auto parsed = object ? api::parse_json(object->json) : Unexpected(object.error());
    json::json_pointer path("/spec/asNumber");
    if (parsed && parsed->contains(path)) {
        const json& number = parsed->at(path);
        return number.is_string() ? number.get<std::string>() : number.dump();
    }
    return context.cluster_as_number;
}

Result<void> print_objects(Kind kind, const Options& options, std::vector<json> objects,
                           Context& context) {
    json out = json::array();
    for (const auto& object : objects) {
        TRY_ASSIGN(json written, as_written(kind, object));
        out.push_back(std::move(written));
    }
    if (options.names.empty()) { // the whole list is one object, as with calicoctl
        std::string version =
            kind == Kind::Node ? "projectcalico.org/v3" : std::string(api::info(kind).api_version);
        if (version == "crd.projectcalico.org/v1") {
            version = "projectcalico.org/v3";
        }
        std::string_view name =
            kind == Kind::IpamConfig ? "IPAMConfiguration" : api::info(kind).name;
        out = {{"apiVersion", version},
               {"kind", fmt::format("{}List", name)},
               {"items", std::move(out)}};
    } else if (out.size() == 1) {
        out = json(out[0]);
    }
    if (options.output == "yaml") {
        context.out << to_yaml(out);
    } else {
        context.out << out.dump(2, ' ', false, json::error_handler_t::replace) << "\n";
    }
    return {};
}

void add_namespace(TableRow& row, const json& object) {
    row.insert(row.begin(), object.value(json::json_pointer("/metadata/namespace"), std::string()));
}

Result<void> print_tables(Kind kind, const Options& options, const std::vector<json>& objects,
                          bool endpoints, Context& context) {
    TRY_ASSIGN(auto* store, context.store());
    ColumnContext columns{kind == Kind::Node ? cluster_as_number(*store) : ""};
    bool with_namespace =
        api::info(kind).namespaced && (options.all_namespaces || !options.ns.empty());
    TableRow header =
        endpoints ? endpoint_column_names(options.wide()) : column_names(kind, options.wide());
    if (with_namespace) {
        header.insert(header.begin(), "NAMESPACE");
    }
    std::vector<TableRow> rows;
    for (const auto& object : objects) {
        TableRow row;
        if (endpoints) {
            row = endpoint_column_values(options.wide(), object);
        } else if (kind == Kind::Node) {
            row = column_values(kind, options.wide(), object, columns);
        } else {
            TRY_ASSIGN(json written, api::to_v3(kind, object));
            row = column_values(kind, options.wide(), written, columns);
        }
        if (row.empty()) {
            continue;
        }
        if (with_namespace) {
            add_namespace(row, object);
        }
        rows.push_back(std::move(row));
    }
    print_table(context.out, header, rows);
    return {};
}

Result<void> run_get(const Options& options, Context& context) {
    if (!options.table() && options.output != "yaml" && options.output != "json") {
        return fail(
            ErrorKind::ConfigInvalid,
            fmt::format("get: output \"{}\": expected ps, wide, yaml or json", options.output));
    }
    bool endpoints = is_endpoint_word(options.kind);
    if (endpoints && !options.table()) {
        return fail(ErrorKind::ConfigInvalid,
                    "get: a WorkloadEndpoint is a view of a pod: expected "
                    "output ps or wide, or kind pod");
    }
    TRY_ASSIGN(Kind kind, api::find_alias(endpoints ? "pod" : options.kind));
    TRY_ASSIGN(auto* store, context.store());
    TRY_ASSIGN(auto objects, fetch(kind, options, *store));
    return options.table() ? print_tables(kind, options, objects, endpoints, context)
                           : print_objects(kind, options, std::move(objects), context);
}

} // namespace

void add_get_command(CLI::App& app, Context& context) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("get", "Show objects");
    command->add_option("kind", options->kind, "Kind, by its name or a short one")->required();
    command->add_option("names", options->names, "Names (default: all)");
    command->add_option("-n,--namespace", options->ns, "Namespace (default: default)");
    command->add_flag("-A,-a,--all-namespaces", options->all_namespaces, "Of all namespaces");
    command->add_option("-o,--output", options->output, "ps, wide, yaml or json");
    command->callback([&context, options] { context.finish(run_get(*options, context)); });
}

} // namespace manx::ctl
