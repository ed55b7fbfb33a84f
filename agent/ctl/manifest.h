// SPDX-License-Identifier: Apache-2.0
// Files of objects, as given with -f: read, completed, and checked before anything is written.
#pragma once

#include "agent/datastore/store.h"

#include <nlohmann/json.hpp>

#include <iosfwd>
#include <string>
#include <vector>

namespace manx::ctl {

struct ManifestOptions {
    std::vector<std::string> sources; // files, folders, "-"
    bool recursive = false;           // folders below folders too
    std::string ns;                   // of namespaced objects that name none; empty: "default"
};

// One object of a manifest, in the form in which the datastore holds it.
struct Resource {
    datastore::Key key;
    nlohmann::json object; // metadata.resourceVersion and uid only where the author gave them
    std::string source;    // "pools.yaml", for messages
};

// Reads all sources; lists are taken apart. ConfigInvalid names file, object and field.
Result<std::vector<Resource>> read_manifests(const ManifestOptions& options, std::istream& in);

// One document as a resource: kind known, name well-formed, in stored form, defaults filled in.
Result<Resource> to_resource(const nlohmann::json& document, const std::string& ns,
                             const std::string& source);

} // namespace manx::ctl
