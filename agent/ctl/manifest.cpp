// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/manifest.h"

#include "agent/api/meta.h"
#include "agent/api/node.h"
#include "agent/api/pool.h"
#include "agent/ctl/yaml.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <istream>
#include <iterator>
#include <sstream>

namespace manx::ctl {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string text_member(const json& object, const char* name) {
    if (!object.is_object()) {
        return {};
    }
    auto at = object.find(name);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

bool is_manifest_file(const fs::path& path) {
    auto extension = path.extension();
    return extension == ".yaml" || extension == ".yml" || extension == ".json";
}

// The files that a source stands for, in order of their names.
Result<std::vector<std::string>> files_of(const std::string& source, bool recursive) {
    std::error_code error;
    if (source == "-" || !fs::is_directory(source, error)) {
        return std::vector{source};
    }
    std::vector<std::string> files;
    auto take = [&](const fs::directory_entry& entry) {
        if (entry.is_regular_file(error) && is_manifest_file(entry.path())) {
            files.push_back(entry.path().string());
        }
    };
    if (recursive) {
        for (const auto& entry : fs::recursive_directory_iterator(source, error)) {
            take(entry);
        }
    } else {
        for (const auto& entry : fs::directory_iterator(source, error)) {
            take(entry);
        }
    }
    if (files.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: no .yaml, .yml or .json file in it", source));
    }
    std::ranges::sort(files);
    return files;
}

Result<std::string> read_text(const std::string& file, std::istream& in) {
    if (file == "-") {
        return std::string(std::istreambuf_iterator<char>(in), {});
    }
    std::ifstream stream(file);
    if (!stream) {
        return fail_errno(file);
    }
    std::ostringstream text;
    text << stream.rdbuf();
    if (stream.bad()) {
        return fail_errno(file);
    }
    return text.str();
}

// Lists (v1 List, IPPoolList, a plain sequence) become their items.
Result<void> flatten(const json& document, std::vector<json>& out) {
    if (document.is_array()) {
        for (const auto& item : document) {
            TRY(flatten(item, out));
        }
        return {};
    }
    if (!document.is_object()) {
        return fail(ErrorKind::ConfigInvalid, "expected an object");
    }
    std::string kind = text_member(document, "kind");
    if (kind.ends_with("List")) {
        if (!document.contains("items") || !document["items"].is_array()) {
            return fail(ErrorKind::ConfigInvalid, fmt::format("{}: items: expected a list", kind));
        }
        return flatten(document["items"], out);
    }
    out.push_back(document);
    return {};
}

bool is_dns_name(std::string_view name) {
    auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    return !name.empty() && name.size() <= 253 && alphanumeric(name.front()) &&
           alphanumeric(name.back()) && std::ranges::all_of(name, [&](char c) {
               return alphanumeric(c) || c == '-' || c == '.';
           });
}

// What Calico's own client fills in when it writes.
void fill_pool_defaults(json& object) {
    json& spec = object["spec"];
    auto cidr = Cidr::parse(text_member(spec, "cidr"));
    if (!cidr) {
        return; // refused later, in better words
    }
    spec["cidr"] = cidr->text();
    auto fill = [&](const char* name, json value) {
        if (!spec.contains(name) || spec[name].is_null() || spec[name] == "" || spec[name] == 0) {
            spec[name] = std::move(value);
        }
    };
    fill("blockSize", api::default_block_size(cidr->family()));
    fill("ipipMode", "Never");
    fill("vxlanMode", "Never");
    fill("nodeSelector", "all()");
    fill("allowedUses", {"Workload", "Tunnel"});
    fill("assignmentMode", "Automatic");
}

void fill_policy_defaults(json& object) {
    json& spec = object["spec"];
    if (text_member(spec, "tier").empty()) {
        spec["tier"] = "default";
    }
    if (!spec.contains("types") || spec["types"].empty()) {
        auto has_rules = [&](const char* name) {
            return spec.contains(name) && !spec[name].empty();
        };
        json types = json::array();
        if (has_rules("ingress") || !has_rules("egress")) {
            types.push_back("Ingress");
        }
        if (has_rules("egress")) {
            types.push_back("Egress");
        }
        spec["types"] = std::move(types);
    }
}

void fill_defaults(api::Kind kind, json& object) {
    if (!object.contains("spec") || !object["spec"].is_object()) {
        return;
    }
    switch (kind) {
    case api::Kind::IpPool:
        fill_pool_defaults(object);
        break;
    case api::Kind::NetworkPolicy:
    case api::Kind::GlobalNetworkPolicy:
    case api::Kind::StagedNetworkPolicy:
    case api::Kind::StagedGlobalNetworkPolicy:
        fill_policy_defaults(object);
        break;
    default:
        break;
    }
}

} // namespace

Result<Resource> to_resource(const json& document, const std::string& ns,
                             const std::string& source) {
    Resource resource;
    resource.source = source;
    std::string api_version = text_member(document, "apiVersion");
    std::string kind_name = text_member(document, "kind");
    if (api_version.empty() || kind_name.empty()) {
        return fail(ErrorKind::ConfigInvalid, "expected an object with apiVersion and kind");
    }
    TRY_ASSIGN(resource.key.kind, api::find_kind(api_version, kind_name));
    const auto& info = api::info(resource.key.kind);
    json object = document;
    if (!object.contains("metadata") || !object["metadata"].is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata: expected an object", info.name));
    }
    json& metadata = object["metadata"];
    if (info.namespaced && text_member(metadata, "namespace").empty()) {
        metadata["namespace"] = ns.empty() ? "default" : ns;
    } else if (!info.namespaced) {
        metadata.erase("namespace");
    }
    std::string name = text_member(metadata, "name");
    if (!is_dns_name(name)) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{} \"{}\": metadata.name: expected lower case letters, digits, "
                                "'-' and '.', at most 253 of them",
                                info.name, name));
    }
    resource.key.ns = text_member(metadata, "namespace");
    resource.key.name = name;
    fill_defaults(resource.key.kind, object);
    if (resource.key.kind == api::Kind::Node) {
        TRY_ASSIGN(resource.object, api::node_to_core(object));
    } else {
        TRY_ASSIGN(resource.object, api::to_stored(resource.key.kind, object));
    }
    return resource;
}

Result<std::vector<Resource>> read_manifests(const ManifestOptions& options, std::istream& in) {
    std::vector<Resource> resources;
    for (const auto& source : options.sources) {
        TRY_ASSIGN(auto files, files_of(source, options.recursive));
        for (const auto& file : files) {
            std::string label = file == "-" ? "standard input" : file;
            TRY_ASSIGN(std::string text, read_text(file, in));
            auto documents = parse_yaml(text);
            if (!documents) {
                return Unexpected(documents.error().within(label));
            }
            std::vector<json> objects;
            for (const auto& document : *documents) {
                if (auto flat = flatten(document, objects); !flat) {
                    return Unexpected(flat.error().within(label));
                }
            }
            for (const auto& object : objects) {
                auto resource = to_resource(object, options.ns, label);
                if (!resource) {
                    return Unexpected(resource.error().within(label));
                }
                resources.push_back(std::move(*resource));
            }
        }
    }
    if (resources.empty()) {
        return fail(ErrorKind::ConfigInvalid, "no object in what was given with -f");
    }
    return resources;
}

} // namespace manx::ctl
