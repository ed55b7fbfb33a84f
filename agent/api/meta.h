// SPDX-License-Identifier: Apache-2.0
// Object metadata, and the two forms in which Calico's objects exist:
//
//   stored form  apiVersion crd.projectcalico.org/v1. Labels and annotations live inside the
//                annotation projectcalico.org/metadata (JSON of the v3 metadata); the object itself
//                carries only those whose key belongs to Calico. This is what the datastore holds.
//   v3 form      apiVersion projectcalico.org/v3. What a person writes and reads. Its UID is the
//                stored one with the bits of each byte reversed (but bytes 6 and 8).
//
// Kubernetes' own kinds have one form only, and pass through unchanged.
#pragma once

#include "agent/api/kind.h"
#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <string>
#include <string_view>

namespace manx::api {

struct Problems;

using StringMap = std::map<std::string, std::string>;

inline constexpr std::string_view kMetadataAnnotation = "projectcalico.org/metadata";

struct ObjectMeta {
    std::string name; // a policy's v3 name, where storage has another
    std::string ns;   // empty for cluster-scoped kinds
    StringMap labels;
    StringMap annotations; // without projectcalico.org/metadata
    std::string resource_version;
    std::string uid;                // v3 form for Calico's kinds
    std::string creation_timestamp; // RFC 3339 as written, empty: none
    std::string deletion_timestamp;
};

// ConfigInvalid: not JSON, or nested deeper than 100 levels.
Result<nlohmann::json> parse_json(std::string_view text);

// "IPPool default-pool", "NetworkPolicy ns/name": how messages name an object that may be broken.
std::string subject_of(Kind kind, const nlohmann::json& object);

// The metadata of an object in either form, annotation merged.
ObjectMeta read_meta(Kind kind, const nlohmann::json& object, Problems& problems);

// To the v3 form; accepts either form. Adds nothing that is not there.
Result<nlohmann::json> to_v3(Kind kind, const nlohmann::json& object);
// To the stored form; accepts either form. metadata.resourceVersion stays as it is.
Result<nlohmann::json> to_stored(Kind kind, const nlohmann::json& object);

// The stored form of an object made of its metadata and spec (or, for a kind of Kubernetes, the
// object itself).
Result<nlohmann::json> make_stored(Kind kind, const ObjectMeta& meta, nlohmann::json spec);

// K8s <-> v3; its own inverse. What is not a UUID comes back unchanged.
std::string convert_uid(std::string_view uid);

} // namespace manx::api
