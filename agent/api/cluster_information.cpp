// SPDX-License-Identifier: Apache-2.0
#include "agent/api/cluster_information.h"

#include "agent/api/fields.h"

#include <nlohmann/json.hpp>

namespace manx::api {

Result<ClusterInformation> ClusterInformation::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::ClusterInformation, object), {}};
    ClusterInformation info;
    info.meta = read_meta(Kind::ClusterInformation, object, problems);
    Fields spec = Fields(&object, "", problems).at("spec");
    spec.get("clusterGUID", info.cluster_guid);
    spec.get("clusterType", info.cluster_type);
    spec.get("calicoVersion", info.calico_version);
    spec.get("datastoreReady", info.datastore_ready);
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return info;
}

} // namespace manx::api
