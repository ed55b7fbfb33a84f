// SPDX-License-Identifier: Apache-2.0
// ClusterInformation "default": what the cluster says of itself.
#pragma once

#include "agent/api/meta.h"

#include <string>

namespace manx::api {

struct ClusterInformation {
    ObjectMeta meta;
    std::string cluster_guid;
    std::string cluster_type; // comma list: "k8s,bgp,kdd"
    std::string calico_version;
    // False (or absent): nodes keep what they have and take nothing new.
    bool datastore_ready = false;

    static Result<ClusterInformation> from_json(const nlohmann::json& object);
};

} // namespace manx::api
