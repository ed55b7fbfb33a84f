// SPDX-License-Identifier: Apache-2.0
// patch and label: small changes of one object, by compare-and-swap.
#include "agent/api/meta.h"
#include "agent/ctl/commands.h"
#include "agent/ctl/manifest.h"
#include "agent/ctl/validate.h"
#include "agent/ctl/yaml.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <array>
#include <functional>
#include <memory>
#include <ostream>

namespace manx::ctl {

namespace {

using nlohmann::json;

struct Options {
    std::string kind;
    std::string name;
    std::string ns;
    std::string patch;
    std::string type;  // taken and ignored, as calicoctl does
    std::string label; // key=value, or key with remove
    bool overwrite = false;
    bool remove = false;
};

// Reads the object, lets change work on the form that people write, checks and writes it; again
// where someone else was faster.
Result<void> edit(const Options& options, Context& context,
                  const std::function<Result<void>(json& object)>& change) {
    constexpr int kAttempts = 5;
    TRY_ASSIGN(auto kind, api::find_alias(options.kind));
    std::string ns;
    if (api::info(kind).namespaced) {
        ns = options.ns.empty() ? "default" : options.ns;
    }
    TRY_ASSIGN(auto* store, context.store());
    for (int attempt = 1;; attempt++) {
        TRY_ASSIGN(auto stored, store->get({kind, ns, options.name}));
        TRY_ASSIGN(json object, api::parse_json(stored.json));
        TRY_ASSIGN(object, api::to_v3(kind, object));
        TRY(change(object));
        TRY_ASSIGN(Resource resource, to_resource(object, ns, "the changed object"));
        if (resource.key != stored.key) {
            return fail(ErrorKind::ConfigInvalid,
                        fmt::format("{}: metadata.name: cannot change", stored.key.text()));
        }
        TRY(validate_all(std::array{resource}, *store));
        resource.object["metadata"]["resourceVersion"] = stored.resource_version;
        resource.object["metadata"]["uid"] = stored.uid;
        auto updated = store->update(resource.key, resource.object);
        if (updated) {
            return {};
        }
        if (updated.error().kind != ErrorKind::Conflict || attempt == kAttempts) {
            return Unexpected(updated.error());
        }
    }
}

Result<void> run_patch(const Options& options, Context& context) {
    TRY_ASSIGN(auto patches, parse_yaml(options.patch));
    if (patches.size() != 1 || !patches[0].is_object()) {
        return fail(ErrorKind::ConfigInvalid, "patch: expected one JSON object with -p");
    }
    TRY(edit(options, context, [&](json& object) -> Result<void> {
        object.merge_patch(patches[0]);
        return {};
    }));
    TRY_ASSIGN(auto kind, api::find_alias(options.kind));
    context.out << fmt::format("Successfully patched 1 '{}' resource\n", api::info(kind).name);
    return {};
}

Result<void> run_label(const Options& options, Context& context) {
    size_t equals = options.label.find('=');
    std::string key = options.label.substr(0, equals);
    if (key.empty() || (equals == std::string::npos) != options.remove) {
        return fail(
            ErrorKind::ConfigInvalid,
            fmt::format("label \"{}\": expected key=value, or key with --remove", options.label));
    }
    TRY(edit(options, context, [&](json& object) -> Result<void> {
        json& labels = object["metadata"]["labels"];
        if (!labels.is_object()) {
            labels = json::object();
        }
        if (options.remove) {
            if (labels.erase(key) == 0) {
                return fail(ErrorKind::NotFound, fmt::format("label {}: not there", key));
            }
            return {};
        }
        std::string value = options.label.substr(equals + 1);
        if (labels.contains(key) && labels[key] != value && !options.overwrite) {
            return fail(
                ErrorKind::AlreadyExists,
                fmt::format("label {}: is there with another value; --overwrite changes it", key));
        }
        labels[key] = value;
        return {};
    }));
    context.out << fmt::format("Successfully {} label {} on {} {}\n",
                               options.remove ? "removed" : "set", options.label, options.kind,
                               options.name);
    return {};
}

} // namespace

void add_edit_commands(CLI::App& app, Context& context) {
    auto options = std::make_shared<Options>();
    auto* patch = app.add_subcommand("patch", "Change parts of an object (JSON merge patch)");
    patch->add_option("kind", options->kind, "Kind")->required();
    patch->add_option("name", options->name, "Name")->required();
    patch->add_option("-p,--patch", options->patch, "The patch, JSON or YAML")->required();
    patch->add_option("-t,--type", options->type, "For calicoctl's sake; always merge");
    patch->add_option("-n,--namespace", options->ns, "Namespace (default: default)");
    patch->callback([&context, options] { context.finish(run_patch(*options, context)); });

    options = std::make_shared<Options>();
    auto* label = app.add_subcommand("label", "Set or remove a label of an object");
    label->add_option("kind", options->kind, "Kind")->required();
    label->add_option("name", options->name, "Name")->required();
    label->add_option("label", options->label, "key=value, or key with --remove")->required();
    label->add_option("-n,--namespace", options->ns, "Namespace (default: default)");
    label->add_flag("--overwrite", options->overwrite, "Change the value of one that is there");
    label->add_flag("--remove", options->remove, "Remove it");
    label->callback([&context, options] { context.finish(run_label(*options, context)); });
}

} // namespace manx::ctl
