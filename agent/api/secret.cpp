// SPDX-License-Identifier: Apache-2.0
#include "agent/api/secret.h"

#include "agent/api/fields.h"
#include "base/digest.h"

#include <nlohmann/json.hpp>

#include <optional>

namespace manx::api {

Result<Secret> Secret::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::Secret, object), {}};
    Secret secret;
    secret.meta = read_meta(Kind::Secret, object, problems);
    Fields fields(&object, "", problems);
    StringMap encoded;
    fields.get("data", encoded);
    for (auto& [key, value] : encoded) {
        auto decoded = base64_decode(value);
        if (!decoded) {
            problems.add("data." + key, "expected base64");
            break;
        }
        secret.data[key] = std::move(*decoded);
    }
    StringMap plain;
    fields.get("stringData", plain);
    for (auto& [key, value] : plain) {
        secret.data[key] = std::move(value);
    }
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return secret;
}

} // namespace manx::api
