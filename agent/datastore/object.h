// SPDX-License-Identifier: Apache-2.0
// What a store does to an object's JSON before it keeps it: the part of an API server that the
// SQLite engine has to do itself.
#pragma once

#include "agent/datastore/store.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <string>

namespace manx::datastore {

// What metadata says about the state that the writer has seen; both may be empty.
Precondition precondition_of(const nlohmann::json& object);

// The object with apiVersion, kind, name and namespace of its key. ConfigInvalid: they are there
// and say something else; the key has no name, or no namespace where its kind needs one.
Result<nlohmann::json> with_identity(const Key& key, const nlohmann::json& object);

// Sets metadata.uid, creationTimestamp and resourceVersion.
void stamp(nlohmann::json& object, const std::string& uid, const std::string& created_at,
           const std::string& resource_version);

// All of the wanted labels are in metadata.labels with these values.
bool has_labels(std::string_view object_json, const std::map<std::string, std::string>& wanted);

std::string random_uid();
std::string now_text(); // RFC 3339, seconds, UTC

// JSON text as the engine keeps it: compact, members sorted; invalid UTF-8 replaced.
std::string text_of(const nlohmann::json& object);

} // namespace manx::datastore
