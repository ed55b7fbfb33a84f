// SPDX-License-Identifier: Apache-2.0
// What a service's address is translated to, by its object and its EndpointSlices.
#pragma once

#include "agent/ctl/policy_world.h"

#include <optional>
#include <string>
#include <vector>

namespace manx::ctl {

struct ServiceRef {
    std::string ns;
    std::string name;
};

// "service/namespace/name", or an address of a service (cluster, external, load balancer);
// nullopt: text is neither.
std::optional<ServiceRef> find_service(const PolicyObjects& objects, const std::string& text);

struct Backend {
    IpAddress address;
    uint16_t port = 0;
    bool ready = true;
    std::string node;
};

// All backends of the service's port, ready or not. NotFound: no such service, or it has no such
// port.
Result<std::vector<Backend>> backends_of(const PolicyObjects& objects, const ServiceRef& service,
                                         uint8_t protocol, uint16_t port);

} // namespace manx::ctl
