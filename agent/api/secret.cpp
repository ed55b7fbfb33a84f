// SPDX-License-Identifier: Apache-2.0
#include "agent/api/secret.h"

#include "agent/api/fields.h"

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include <optional>

namespace manx::api {

namespace {

std::optional<std::string> from_base64(const std::string& text) {
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    std::string out(text.size() / 4 * 3, '\0');
    int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                 reinterpret_cast<const unsigned char*>(text.data()),
                                 static_cast<int>(text.size()));
    if (length < 0) {
        return std::nullopt;
    }
    // It counts the padding as bytes.
    size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    out.resize(static_cast<size_t>(length) - padding);
    return out;
}

} // namespace

Result<Secret> Secret::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::Secret, object), {}};
    Secret secret;
    secret.meta = read_meta(Kind::Secret, object, problems);
    Fields fields(&object, "", problems);
    StringMap encoded;
    fields.get("data", encoded);
    for (auto& [key, value] : encoded) {
        auto decoded = from_base64(value);
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
