// SPDX-License-Identifier: Apache-2.0
// HostEndpoint: here a labelled host's addresses and named ports, which selectors of rules match.
#pragma once

#include "agent/api/meta.h"
#include "agent/api/pod.h"
#include "base/ip.h"

#include <string>
#include <vector>

namespace manx::api {

struct HostEndpoint {
    ObjectMeta meta;
    std::string node;
    std::string interface_name; // "*": every one
    std::vector<IpAddress> expected_ips;
    std::vector<std::string> profiles;
    std::vector<ContainerPort> ports;

    static Result<HostEndpoint> from_json(const nlohmann::json& object);
};

} // namespace manx::api
