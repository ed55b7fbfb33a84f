// SPDX-License-Identifier: Apache-2.0
// The core v1 Service and discovery.k8s.io/v1 EndpointSlice, as far as the network needs them.
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <string>
#include <vector>

namespace manx::api {

struct ServicePort {
    std::string name;     // empty: the only one
    uint8_t protocol = 6; // IP protocol number
    uint16_t port = 0;

    auto operator<=>(const ServicePort&) const = default;
};

struct Service {
    ObjectMeta meta;
    std::string type = "ClusterIP";
    std::vector<IpAddress> cluster_ips; // none for a headless service
    std::vector<IpAddress> external_ips;
    std::vector<IpAddress> load_balancer_ips; // status.loadBalancer.ingress
    std::vector<ServicePort> ports;
    bool external_policy_local = false;

    static Result<Service> from_json(const nlohmann::json& object);
};

struct SlicePort {
    std::string name;     // of the service's port; empty: the only one
    uint8_t protocol = 6; // IP protocol number
    uint16_t port = 0;

    auto operator<=>(const SlicePort&) const = default;
};

struct SliceEndpoint {
    std::vector<IpAddress> addresses;
    std::string node; // empty: unknown
    bool ready = true;
};

struct EndpointSlice {
    ObjectMeta meta;
    std::string service; // of the same namespace; empty: of none
    std::vector<SlicePort> ports;
    std::vector<SliceEndpoint> endpoints;

    static Result<EndpointSlice> from_json(const nlohmann::json& object);
};

} // namespace manx::api
