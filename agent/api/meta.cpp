// SPDX-License-Identifier: Apache-2.0
#include "agent/api/meta.h"

#include "agent/api/fields.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cctype>

namespace manx::api {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kV3 = "projectcalico.org/v3";
constexpr std::string_view kCrd = "crd.projectcalico.org/v1";

bool is_calico(Kind kind) {
    return info(kind).api_version == kCrd;
}

// Kinds that keep their name inside the metadata annotation.
bool keeps_name(Kind kind) {
    return kind == Kind::NetworkPolicy || kind == Kind::GlobalNetworkPolicy ||
           kind == Kind::StagedNetworkPolicy || kind == Kind::StagedGlobalNetworkPolicy ||
           kind == Kind::StagedKubernetesNetworkPolicy;
}

bool is_policy_with_tier(Kind kind) {
    return keeps_name(kind) && kind != Kind::StagedKubernetesNetworkPolicy;
}

// Labels and annotations that also stay on the object itself.
bool belongs_to_calico(std::string_view key) {
    return key.find("projectcalico.org/") != std::string_view::npos ||
           key.find("operator.tigera.io/") != std::string_view::npos;
}

std::string text_of(const json& object, const char* name) {
    auto at = object.find(name);
    if (at == object.end() || !at->is_string()) {
        return {};
    }
    return at->get<std::string>();
}

const json* object_under(const json& object, const char* name) {
    if (!object.is_object()) {
        return nullptr;
    }
    auto at = object.find(name);
    return at == object.end() || !at->is_object() ? nullptr : &*at;
}

std::string tier_of(const json& object) {
    const json* spec = object_under(object, "spec");
    std::string tier = spec == nullptr ? "" : text_of(*spec, "tier");
    return tier.empty() ? "default" : tier;
}

// The metadata annotation as an object; empty where there is none.
Result<json> annotation_of(const json& metadata) {
    const json* annotations = object_under(metadata, "annotations");
    std::string text =
        annotations == nullptr ? "" : text_of(*annotations, kMetadataAnnotation.data());
    if (text.empty()) {
        return json::object();
    }
    auto parsed = parse_json(text);
    if (!parsed) {
        return Unexpected(parsed.error().within(kMetadataAnnotation));
    }
    if (!parsed->is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: expected an object", kMetadataAnnotation));
    }
    return parsed;
}

void merge_strings(json& target, const json& from, const char* name) {
    const json* more = object_under(from, name);
    if (more == nullptr) {
        return;
    }
    json& into = target[name];
    if (!into.is_object()) {
        into = json::object();
    }
    for (const auto& [key, value] : more->items()) {
        into[key] = value;
    }
}

json convert_owners(const json& owners, std::string_view from, std::string_view to) {
    json out = owners;
    if (out.is_array()) {
        for (auto& owner : out) {
            if (owner.is_object() && text_of(owner, "apiVersion") == from) {
                owner["apiVersion"] = to;
                owner["uid"] = convert_uid(text_of(owner, "uid"));
            }
        }
    }
    return out;
}

// Whether this is the stored form: everything that is not v3 by its own word.
bool is_stored_form(const json& object) {
    return text_of(object, "apiVersion") != kV3;
}

Error named(Kind kind, const json& object, const Error& error) {
    return error.within(subject_of(kind, object) + ": metadata");
}

// Metadata of the v3 form, from the stored form's.
Result<json> v3_metadata(Kind kind, const json& object) {
    const json* stored = object_under(object, "metadata");
    json metadata = stored == nullptr ? json::object() : *stored;
    TRY_ASSIGN(json merged, annotation_of(metadata));
    if (auto at = metadata.find("annotations"); at != metadata.end() && at->is_object()) {
        at->erase(std::string(kMetadataAnnotation));
    }
    merge_strings(metadata, merged, "labels");
    merge_strings(metadata, merged, "annotations");
    if (auto at = metadata.find("annotations"); at != metadata.end() && at->empty()) {
        metadata.erase(at);
    }
    if (keeps_name(kind)) {
        std::string name = text_of(merged, "name");
        std::string own = text_of(metadata, "name");
        if (name.empty() && own.starts_with("default.") && tier_of(object) == "default") {
            name = own.substr(std::string_view("default.").size());
        }
        if (!name.empty()) {
            metadata["name"] = name;
        }
    }
    if (std::string uid = text_of(metadata, "uid"); !uid.empty()) {
        metadata["uid"] = convert_uid(uid);
    }
    if (auto at = metadata.find("ownerReferences"); at != metadata.end()) {
        *at = convert_owners(*at, kCrd, kV3);
    }
    metadata.erase("managedFields");
    return metadata;
}

// What goes into the annotation, in the member order of Kubernetes' own encoder.
std::string annotation_text(Kind kind, const json& metadata) {
    ordered_json out = ordered_json::object();
    auto copy = [&](const char* name) {
        auto at = metadata.find(name);
        if (at != metadata.end() && !at->is_null() && !(at->is_structured() && at->empty())) {
            out[name] = ordered_json(*at);
        }
    };
    if (keeps_name(kind)) {
        copy("name");
    }
    copy("generateName");
    copy("generation");
    out["creationTimestamp"] = nullptr;
    copy("creationTimestamp");
    copy("deletionTimestamp");
    copy("deletionGracePeriodSeconds");
    copy("labels");
    copy("annotations");
    copy("ownerReferences");
    copy("finalizers");
    return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

void keep_own(json& metadata, const char* name) {
    auto at = metadata.find(name);
    if (at == metadata.end()) {
        return;
    }
    json kept = json::object();
    if (at->is_object()) {
        for (const auto& [key, value] : at->items()) {
            if (belongs_to_calico(key)) {
                kept[key] = value;
            }
        }
    }
    if (kept.empty()) {
        metadata.erase(at);
    } else {
        *at = std::move(kept);
    }
}

} // namespace

Result<json> parse_json(std::string_view text) {
    // The depth first: what is nested without bound would be taken apart recursively later.
    constexpr int kMaxDepth = 100;
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > kMaxDepth) {
                return fail(ErrorKind::ConfigInvalid,
                            fmt::format("JSON nested deeper than {} levels", kMaxDepth));
            }
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    auto parsed = json::parse(text, nullptr, false);
    if (parsed.is_discarded()) {
        return fail(ErrorKind::ConfigInvalid, "not valid JSON");
    }
    return parsed;
}

std::string subject_of(Kind kind, const json& object) {
    const json* metadata = object_under(object, "metadata");
    std::string name = metadata == nullptr ? "" : text_of(*metadata, "name");
    std::string ns = metadata == nullptr ? "" : text_of(*metadata, "namespace");
    return fmt::format("{} {}{}{}", title(kind), ns, ns.empty() ? "" : "/",
                       name.empty() ? "(no name)" : name);
}

ObjectMeta read_meta(Kind kind, const json& object, Problems& problems) {
    ObjectMeta meta;
    Fields root(&object, "", problems);
    const json* metadata = root.find("metadata");
    json merged;
    if (is_calico(kind) && is_stored_form(root.raw())) {
        auto converted = v3_metadata(kind, object);
        if (!converted) {
            problems.add("metadata", converted.error().message);
            return meta;
        }
        merged = std::move(*converted);
        metadata = &merged;
    }
    Fields fields(metadata, "metadata", problems);
    fields.require("name");
    fields.get("name", meta.name);
    if (info(kind).namespaced) {
        fields.get("namespace", meta.ns);
        if (meta.ns.empty()) {
            meta.ns = "default";
        }
    }
    fields.get("labels", meta.labels);
    fields.get("annotations", meta.annotations);
    fields.get("resourceVersion", meta.resource_version);
    fields.get("uid", meta.uid);
    fields.get("creationTimestamp", meta.creation_timestamp);
    fields.get("deletionTimestamp", meta.deletion_timestamp);
    return meta;
}

Result<json> to_v3(Kind kind, const json& object) {
    if (!object.is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: expected an object", info(kind).name));
    }
    if (!is_calico(kind) || !is_stored_form(object)) {
        return object;
    }
    json out = object;
    auto metadata = v3_metadata(kind, object);
    if (!metadata) {
        return Unexpected(named(kind, object, metadata.error()));
    }
    out["apiVersion"] = kV3;
    out["kind"] = kind == Kind::IpamConfig ? "IPAMConfiguration" : info(kind).name;
    out["metadata"] = std::move(*metadata);
    return out;
}

Result<json> to_stored(Kind kind, const json& object) {
    TRY_ASSIGN(json out, to_v3(kind, object));
    if (!is_calico(kind)) {
        return out;
    }
    json metadata = json::object();
    if (const json* given = object_under(out, "metadata")) {
        metadata = *given;
    }
    if (is_policy_with_tier(kind)) {
        json& labels = metadata["labels"];
        if (!labels.is_object()) {
            labels = json::object();
        }
        labels["projectcalico.org/tier"] = tier_of(out);
    }
    std::string annotation = annotation_text(kind, metadata);
    keep_own(metadata, "labels");
    keep_own(metadata, "annotations");
    metadata["annotations"][std::string(kMetadataAnnotation)] = std::move(annotation);
    if (std::string uid = text_of(metadata, "uid"); !uid.empty()) {
        metadata["uid"] = convert_uid(uid);
    }
    if (auto at = metadata.find("ownerReferences"); at != metadata.end()) {
        *at = convert_owners(*at, kV3, kCrd);
    }
    out["apiVersion"] = kCrd;
    out["kind"] = info(kind).name;
    out["metadata"] = std::move(metadata);
    return out;
}

Result<json> make_stored(Kind kind, const ObjectMeta& meta, json spec) {
    json metadata = json::object();
    metadata["name"] = meta.name;
    auto put = [&](const char* name, const std::string& value) {
        if (!value.empty()) {
            metadata[name] = value;
        }
    };
    put("namespace", meta.ns);
    put("resourceVersion", meta.resource_version);
    put("uid", meta.uid);
    put("creationTimestamp", meta.creation_timestamp);
    put("deletionTimestamp", meta.deletion_timestamp);
    if (!meta.labels.empty()) {
        metadata["labels"] = meta.labels;
    }
    if (!meta.annotations.empty()) {
        metadata["annotations"] = meta.annotations;
    }
    json object = json::object();
    object["apiVersion"] = is_calico(kind) ? kV3 : info(kind).api_version;
    object["kind"] = info(kind).name;
    object["metadata"] = std::move(metadata);
    object["spec"] = std::move(spec);
    return to_stored(kind, object);
}

std::string convert_uid(std::string_view uid) {
    constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    constexpr std::string_view kHex = "0123456789abcdef";
    if (uid.size() != kShape.size()) {
        return std::string(uid);
    }
    std::array<unsigned, 32> nibbles{};
    size_t n = 0;
    for (size_t i = 0; i < uid.size(); i++) {
        if (kShape[i] == '-') {
            if (uid[i] != '-') {
                return std::string(uid);
            }
            continue;
        }
        size_t value =
            kHex.find(static_cast<char>(std::tolower(static_cast<unsigned char>(uid[i]))));
        if (value == std::string_view::npos) {
            return std::string(uid);
        }
        nibbles[n++] = static_cast<unsigned>(value);
    }
    auto reverse4 = [](unsigned v) {
        return (v & 1) << 3 | (v & 2) << 1 | (v & 4) >> 1 | (v & 8) >> 3;
    };
    for (size_t byte = 0; byte < 16; byte++) {
        if (byte != 6 && byte != 8) { // version and variant stay
            unsigned high = nibbles[byte * 2];
            nibbles[byte * 2] = reverse4(nibbles[byte * 2 + 1]);
            nibbles[byte * 2 + 1] = reverse4(high);
        }
    }
    std::string out(kShape);
    n = 0;
    for (char& c : out) {
        if (c != '-') {
            c = kHex[nibbles[n++]];
        }
    }
    return out;
}

} // namespace manx::api
