// SPDX-License-Identifier: Apache-2.0
// Items: what has labels and addresses, and so can be selected. A pod, a set of networks, a host
// endpoint; a workload of this node and its pod are one item.
#pragma once

#include "agent/api/kind.h"
#include "agent/api/selector.h"
#include "agent/calc/label_groups.h"
#include "agent/dataplane/local_endpoint.h"
#include "base/ip.h"

#include <string>
#include <vector>

namespace manx::calc {

std::string item_key(api::Kind kind, const std::string& ns, const std::string& name);
// An endpoint that is no pod (no Kubernetes arguments) is an item of its own.
std::string item_key(const dataplane::LocalEndpoint& endpoint);

// Labels as selectors see them: the pod's own and those that Calico adds.
GroupFacts workload_facts(const api::LabelMap& labels, const std::string& ns,
                          const std::string& account);
GroupFacts facts_of(const dataplane::LocalEndpoint& endpoint);

std::vector<Cidr> hosts(const std::vector<IpAddress>& addresses);

} // namespace manx::calc
