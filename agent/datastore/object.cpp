// SPDX-License-Identifier: Apache-2.0
#include "agent/datastore/object.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <sys/random.h>

#include <array>
#include <chrono>
#include <cstdint>

namespace manx::datastore {

namespace {

using nlohmann::json;

std::string member(const json& object, const char* name) {
    if (!object.is_object()) {
        return {};
    }
    auto at = object.find(name);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

Unexpected invalid(const Key& key, std::string_view field, std::string_view found,
                   std::string_view expected) {
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("{}: {}: \"{}\", expected \"{}\"", key.text(), field, found, expected));
}

} // namespace

std::string Key::text() const {
    return fmt::format("{} {}{}{}", api::title(kind), ns, ns.empty() ? "" : "/", name);
}

Precondition precondition_of(const json& object) {
    if (!object.is_object() || !object.contains("metadata")) {
        return {};
    }
    const json& metadata = object["metadata"];
    return {member(metadata, "uid"), member(metadata, "resourceVersion")};
}

Result<json> with_identity(const Key& key, const json& object) {
    const auto& info = api::info(key.kind);
    if (!object.is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: expected a JSON object", key.text()));
    }
    if (key.name.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata.name: is required", info.name));
    }
    if (info.namespaced == key.ns.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata.namespace: {}", key.text(),
                                info.namespaced ? "is required" : "the kind has none"));
    }
    json out = object;
    json& metadata = out["metadata"];
    if (metadata.is_null()) {
        metadata = json::object();
    }
    if (!metadata.is_object()) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: metadata: expected an object", key.text()));
    }

    struct Member {
        json* holder;
        const char* name;
        std::string_view field;
        std::string_view value;
    };

    for (const Member& m : {Member{&out, "apiVersion", "apiVersion", info.api_version},
                            Member{&out, "kind", "kind", info.name},
                            Member{&metadata, "name", "metadata.name", key.name},
                            Member{&metadata, "namespace", "metadata.namespace", key.ns}}) {
        std::string found = member(*m.holder, m.name);
        if (!found.empty() && found != m.value) {
            return invalid(key, m.field, found, m.value);
        }
        if (m.value.empty()) {
            m.holder->erase(m.name);
        } else {
            (*m.holder)[m.name] = m.value;
        }
    }
    return out;
}

void stamp(json& object, const std::string& uid, const std::string& created_at,
           const std::string& resource_version) {
    json& metadata = object["metadata"];
    metadata["uid"] = uid;
    metadata["creationTimestamp"] = created_at;
    metadata["resourceVersion"] = resource_version;
}

bool has_labels(std::string_view object_json, const std::map<std::string, std::string>& wanted) {
    // Nearly all objects of a list fail already here, without being parsed.
    for (const auto& [key, value] : wanted) {
        if (object_json.find(value) == std::string_view::npos) {
            return false;
        }
    }
    json object = json::parse(object_json, nullptr, false);
    if (!object.is_object() || !object.contains("metadata") || !object["metadata"].is_object() ||
        !object["metadata"].contains("labels")) {
        return wanted.empty();
    }
    const json& labels = object["metadata"]["labels"];
    for (const auto& [key, value] : wanted) {
        if (!labels.is_object() || !labels.contains(key) || member(labels, key.c_str()) != value) {
            return false;
        }
    }
    return true;
}

std::string random_uid() {
    std::array<uint8_t, 16> b{};
    size_t filled = 0;
    while (filled < b.size()) { // may be cut short by a signal
        ssize_t n = getrandom(b.data() + filled, b.size() - filled, 0);
        filled += n > 0 ? static_cast<size_t>(n) : 0;
    }
    b[6] = static_cast<uint8_t>((b[6] & 0x0f) | 0x40);
    b[8] = static_cast<uint8_t>((b[8] & 0x3f) | 0x80);
    std::string out;
    for (size_t i = 0; i < b.size(); i++) {
        out += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    }
    return out;
}

std::string now_text() {
    auto now = std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                       fmt::gmtime(std::chrono::system_clock::to_time_t(now)));
}

std::string text_of(const json& object) {
    return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

} // namespace manx::datastore
