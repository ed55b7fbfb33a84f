// SPDX-License-Identifier: Apache-2.0
// apply, create, replace, delete, validate: what is written, in which order, and what is said.
#include "agent/api/meta.h"
#include "agent/ctl/commands.h"
#include "agent/ctl/manifest.h"
#include "agent/ctl/pool_removal.h"
#include "agent/ctl/validate.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <set>

namespace manx::ctl {

namespace {

using datastore::Key;
using datastore::Object;
using datastore::Store;
using nlohmann::json;

enum class Verb { Apply, Create, Replace, Delete };

struct Options {
    ManifestOptions manifest;
    std::string kind;               // delete KIND NAME...
    std::vector<std::string> names; // delete KIND NAME...
    bool skip_exists = false;
    bool skip_not_exists = false;
};

std::string_view present(Verb verb) {
    constexpr std::array<std::string_view, 4> kWords{"apply", "create", "replace", "delete"};
    return kWords.at(static_cast<size_t>(verb));
}

std::string_view past(Verb verb) {
    constexpr std::array<std::string_view, 4> kWords{"applied", "created", "replaced", "deleted"};
    return kWords.at(static_cast<size_t>(verb));
}

bool is_calico(api::Kind kind) {
    return api::info(kind).api_version == "crd.projectcalico.org/v1";
}

// "3 'IPPool' resource(s)", or without the kind where there are several.
std::string count_text(std::span<const Resource> resources, size_t count) {
    std::set<api::Kind> kinds;
    for (const auto& resource : resources) {
        kinds.insert(resource.key.kind);
    }
    if (kinds.size() == 1) {
        return fmt::format("{} '{}' resource(s)", count, api::info(*kinds.begin()).name);
    }
    return fmt::format("{} resource(s)", count);
}

// A manifest of a Kubernetes object over the stored one: what other parts have written into it
// (annotations of the network, status, the node that a pod is on) stays, unless the author says
// otherwise. Calico's own kinds are replaced, as calicoctl does.
json merged(const Resource& resource, const Object& stored, const json& old) {
    json object = resource.object;
    if (old.contains("status") && !object.contains("status")) {
        object["status"] = old["status"];
    }
    if (is_calico(resource.key.kind) || !old.contains("metadata")) {
        return object;
    }
    json& metadata = object["metadata"];
    if (old["metadata"].contains("annotations")) {
        json annotations = old["metadata"]["annotations"];
        if (metadata.contains("annotations") && metadata["annotations"].is_object()) {
            annotations.update(metadata["annotations"]);
        }
        metadata["annotations"] = std::move(annotations);
    }
    if (stored.key.kind == api::Kind::Pod && old.contains("spec") &&
        old["spec"].contains("nodeName") && object["spec"].is_object() &&
        !object["spec"].contains("nodeName")) {
        object["spec"]["nodeName"] = old["spec"]["nodeName"];
    }
    return object;
}

Result<void> update(Store& store, const Resource& resource) {
    constexpr int kAttempts = 5;
    bool author_gave_version = resource.object["metadata"].contains("resourceVersion");
    for (int attempt = 1;; attempt++) {
        TRY_ASSIGN(Object stored, store.get(resource.key));
        auto old = api::parse_json(stored.json);
        json object = merged(resource, stored, old ? *old : json::object());
        object["metadata"].erase("uid"); // v3 form of another writer: not a precondition
        if (!author_gave_version) {
            object["metadata"]["resourceVersion"] = stored.resource_version;
        }
        auto updated = store.update(resource.key, object);
        if (updated) {
            return {};
        }
        bool retry = updated.error().kind == ErrorKind::Conflict && !author_gave_version;
        if (!retry || attempt == kAttempts) {
            return Unexpected(updated.error());
        }
    }
}

Result<void> create(Store& store, const Resource& resource) {
    json object = resource.object;
    object["metadata"].erase("resourceVersion");
    object["metadata"].erase("uid");
    TRY(store.create(resource.key, object));
    return {};
}

Result<void> remove(Store& store, const Key& key, std::ostream& notes) {
    TRY(validate_removal(key, store));
    return key.kind == api::Kind::IpPool ? delete_pool(store, key, notes) : store.remove(key);
}

Result<void> write_one(Verb verb, Store& store, const Resource& resource, std::ostream& notes) {
    switch (verb) {
    case Verb::Create:
        return create(store, resource);
    case Verb::Replace:
        return update(store, resource);
    case Verb::Delete:
        return remove(store, resource.key, notes);
    case Verb::Apply:
        break;
    }
    auto created = create(store, resource);
    if (!created && created.error().kind == ErrorKind::AlreadyExists) {
        return update(store, resource);
    }
    return created;
}

// What can be known before the first write: existence.
Result<void> check_existence(Verb verb, const Options& options, Store& store,
                             std::vector<Resource>& resources) {
    if (verb == Verb::Apply) {
        return {};
    }
    bool must_exist = verb != Verb::Create;
    bool skip = must_exist ? options.skip_not_exists : options.skip_exists;
    std::vector<Resource> kept;
    for (auto& resource : resources) {
        auto found = store.get(resource.key);
        if (!found && found.error().kind != ErrorKind::NotFound) {
            return Unexpected(found.error());
        }
        if (found.has_value() == must_exist) {
            kept.push_back(std::move(resource));
        } else if (!skip) {
            const Key& key = resource.key;
            std::string named = fmt::format("{}({}{}{})", api::info(key.kind).name, key.ns,
                                            key.ns.empty() ? "" : "/", key.name);
            return fail(must_exist ? ErrorKind::NotFound : ErrorKind::AlreadyExists,
                        must_exist ? fmt::format("resource does not exist: {}", named)
                                   : fmt::format("resource already exists: {}", named));
        }
    }
    resources = std::move(kept);
    return {};
}

Error failed_to(Verb verb, const Key& key, const Error& error) {
    return error.within(
        fmt::format("failed to {} '{}' resource", present(verb), api::info(key.kind).name));
}

Result<void> write_all(Verb verb, const Options& options, Context& context,
                       std::vector<Resource> resources) {
    TRY_ASSIGN(Store * store, context.store());
    if (verb != Verb::Delete) {
        TRY(validate_all(resources, *store));
    }
    if (auto good = check_existence(verb, options, *store, resources); !good) {
        return Unexpected(
            good.error().within(fmt::format("failed to {} any resource", present(verb))));
    }
    if (verb == Verb::Delete) { // what a manifest lists first is needed by what follows
        std::ranges::reverse(resources);
    }
    for (size_t done = 0; done < resources.size(); done++) {
        const Resource& resource = resources[done];
        auto written = write_one(verb, *store, resource, context.err);
        if (written) {
            continue;
        }
        if (done > 0) {
            context.out << fmt::format("Partial success: {} the first {} of {}\n", past(verb), done,
                                       count_text(resources, resources.size()));
            return Unexpected(failed_to(verb, resource.key, written.error()).within("hit error"));
        }
        return Unexpected(failed_to(verb, resource.key, written.error()));
    }
    context.out << fmt::format("Successfully {} {}\n", past(verb),
                               count_text(resources, resources.size()));
    return {};
}

Result<void> write_manifests(Verb verb, const Options& options, Context& context) {
    TRY_ASSIGN(auto resources, read_manifests(options.manifest, context.in));
    return write_all(verb, options, context, std::move(resources));
}

Result<void> delete_by_name(const Options& options, Context& context) {
    TRY_ASSIGN(auto kind, api::find_alias(options.kind));
    std::vector<Resource> resources;
    for (const auto& name : options.names) {
        std::string ns;
        if (api::info(kind).namespaced) {
            ns = options.manifest.ns.empty() ? "default" : options.manifest.ns;
        }
        resources.push_back({{kind, ns, name}, {}, {}});
    }
    return write_all(Verb::Delete, options, context, std::move(resources));
}

Result<void> run_delete(const Options& options, Context& context) {
    if (!options.manifest.sources.empty()) {
        return write_manifests(Verb::Delete, options, context);
    }
    if (options.kind.empty() || options.names.empty()) {
        return fail(ErrorKind::ConfigInvalid, "delete: expected KIND NAME..., or -f FILE");
    }
    return delete_by_name(options, context);
}

Result<void> run_validate(const Options& options, Context& context) {
    TRY_ASSIGN(auto resources, read_manifests(options.manifest, context.in));
    for (const auto& resource : resources) {
        if (auto good = validate_object(resource); !good) {
            return Unexpected(good.error().within(resource.source));
        }
    }
    context.out << fmt::format("Successfully validated {}\n",
                               count_text(resources, resources.size()));
    return {};
}

void add_manifest_options(CLI::App* command, Options& options, bool required) {
    auto* file = command->add_option("-f,--filename", options.manifest.sources,
                                     "File or folder of objects; - is the standard input");
    if (required) {
        file->required();
    }
    command->add_flag("-R,--recursive", options.manifest.recursive, "Folders below folders too");
    command->add_option("-n,--namespace", options.manifest.ns,
                        "Namespace of objects that name none (default: default)");
}

} // namespace

void add_write_commands(CLI::App& app, Context& context) {
    struct Command {
        Verb verb;
        const char* name;
        const char* text;
    };

    for (const Command& entry :
         {Command{Verb::Apply, "apply", "Create objects, or change those that exist"},
          Command{Verb::Create, "create", "Create objects"},
          Command{Verb::Replace, "replace", "Change objects that exist"}}) {
        auto options = std::make_shared<Options>();
        auto* command = app.add_subcommand(entry.name, entry.text);
        add_manifest_options(command, *options, true);
        if (entry.verb == Verb::Create) {
            command->add_flag("--skip-exists", options->skip_exists, "Leave those that exist");
        }
        command->callback([&context, options, verb = entry.verb] {
            context.finish(write_manifests(verb, *options, context));
        });
    }

    auto options = std::make_shared<Options>();
    auto* remove = app.add_subcommand("delete", "Delete objects");
    remove->add_option("kind", options->kind, "Kind, by its name or a short one");
    remove->add_option("names", options->names, "Names");
    add_manifest_options(remove, *options, false);
    remove->add_flag("-s,--skip-not-exists", options->skip_not_exists, "Absent ones are no error");
    remove->callback([&context, options] { context.finish(run_delete(*options, context)); });

    options = std::make_shared<Options>();
    auto* validate = app.add_subcommand("validate", "Check objects without a datastore");
    add_manifest_options(validate, *options, true);
    validate->callback([&context, options] { context.finish(run_validate(*options, context)); });
}

} // namespace manx::ctl
