// SPDX-License-Identifier: Apache-2.0
// networking.k8s.io/v1 NetworkPolicy, and Calico's StagedKubernetesNetworkPolicy with the same
// spec: tier default, order 1000, one rule per protocol and peer.
#pragma once

#include "agent/api/policy.h"

namespace manx::api {

// kind: K8sNetworkPolicy or StagedKubernetesNetworkPolicy. ConfigInvalid.
Result<Policy> parse_k8s_policy(Kind kind, const nlohmann::json& object);

} // namespace manx::api
