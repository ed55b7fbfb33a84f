// SPDX-License-Identifier: Apache-2.0
// The datastore's side of an attachment: the facts of the Pod that a call names, the addresses that
// it gets, and the annotations that tell others about them.
//
// Threading: blocking calls, made on workers.
#pragma once

#include "agent/cni/address_source.h"
#include "agent/cni/pool_view.h"
#include "agent/cni/request.h"
#include "agent/dataplane/local_endpoint.h"
#include "agent/datastore/store.h"
#include "base/ip.h"
#include "base/result.h"

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::cni {

struct Workload {
    // Of the pod: labels, service account, named ports. Empty without Kubernetes.
    std::map<std::string, std::string> labels;
    std::string service_account;
    std::vector<dataplane::NamedPort> named_ports;
    std::string pod_uid;
    std::optional<MacAddress> mac;
    std::vector<IpAddress> addresses; // in the end: IPv4 first
};

// One ADD's way through the datastore.
struct AssignItem {
    const CniRequest* request = nullptr; // outlives the item
    // Decide on families of which neither the configuration nor an annotation says anything.
    std::vector<PoolOffer> offers;
    Result<Workload> result;
};

// Looks the pods up and takes addresses for all of them in one call of the source; looked_up is
// called before that, with the place of each item whose request is in order; it has all but its
// addresses. An item's errors: ConfigReality when the pod is not in the datastore (yet);
// ConfigInvalid names the annotation or key; those of AddressSource.
void assign_workloads(datastore::Store& store, AddressSource& source,
                      std::span<AssignItem* const> items,
                      const std::function<void(size_t)>& looked_up);

// cni.projectcalico.org/podIP, podIPs, containerID of the pod with this uid.
Result<void> announce_addresses(datastore::Store& store, const CniRequest& request,
                                const Workload& workload);
// Takes back what announce_addresses() said, unless a newer container of the pod has said
// something since. A pod that is gone is no error.
Result<void> withdraw_addresses(datastore::Store& store, const std::string& ns,
                                const std::string& pod, const std::string& container_id);

} // namespace manx::cni
