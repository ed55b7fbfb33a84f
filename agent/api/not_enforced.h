// SPDX-License-Identifier: Apache-2.0
// What objects ask for that this dataplane does not do. Such a field is valid, and the object is in
// force but for it; so it is no problem of the object's (Policy::problems isolates), but somebody
// who counts on it has to hear that it does nothing here.
#pragma once

#include "agent/api/felix_configuration.h"
#include "agent/api/host_endpoint.h"
#include "agent/api/pod.h"
#include "agent/api/policy.h"

#include <string>
#include <vector>

namespace manx::api {

struct NotEnforced {
    std::string field;   // "spec.doNotTrack"
    std::string meaning; // what holds instead, for people

    bool operator==(const NotEnforced&) const = default;
};

// Staged policies decide nothing anywhere, and ask for nothing.
std::vector<NotEnforced> not_enforced(const Policy& policy);
// Of objects whose fields are read here, whether or not the configuration is this node's.
std::vector<NotEnforced> not_enforced(const FelixConfiguration& config);
// Objects of other nodes are those nodes' to tell of.
std::vector<NotEnforced> not_enforced(const HostEndpoint& endpoint, const std::string& node);
std::vector<NotEnforced> not_enforced(const Pod& pod, const std::string& node);

} // namespace manx::api
