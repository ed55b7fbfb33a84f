// SPDX-License-Identifier: Apache-2.0
// policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy: tier Admin is kube-admin, Baseline is
// kube-baseline, order is the priority. A rule that cannot be carried out fails closed: one that
// accepts matches nothing, one that denies or passes denies everything in its direction.
#pragma once

#include "agent/api/policy.h"

namespace manx::api {

// ConfigInvalid.
Result<Policy> parse_cluster_policy(const nlohmann::json& object);

} // namespace manx::api
