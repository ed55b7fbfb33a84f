// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/services.h"

#include <algorithm>
#include <set>

namespace manx::bgp {

namespace {

bool inside(const std::vector<Cidr>& ranges, const IpAddress& address) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [&](const Cidr& range) { return range.contains(address); });
}

bool inside_single(const std::vector<Cidr>& ranges, const IpAddress& address) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const Cidr& range) {
        return range.is_host() && range.contains(address);
    });
}

// The addresses of a service that are for announcing at all.
std::vector<IpAddress> addresses_of(const Service& service, const Settings& settings) {
    std::vector<IpAddress> addresses;
    if (!settings.service_cluster_ips.empty()) {
        addresses = service.cluster_ips;
    }
    for (const IpAddress& address : service.external_ips) {
        if (inside(settings.service_external_ips, address)) {
            addresses.push_back(address);
        }
    }
    for (const IpAddress& address : service.load_balancer_ips) {
        if (inside(settings.service_load_balancer_ips, address)) {
            addresses.push_back(address);
        }
    }
    return addresses;
}

bool has_single_address(const Service& service, const Settings& settings) {
    auto single = [&](const std::vector<IpAddress>& addresses, const std::vector<Cidr>& ranges) {
        return std::any_of(addresses.begin(), addresses.end(),
                           [&](const IpAddress& a) { return inside_single(ranges, a); });
    };
    return single(service.external_ips, settings.service_external_ips) ||
           single(service.load_balancer_ips, settings.service_load_balancer_ips);
}

bool announces_addresses(const Service& service, const Inputs& inputs) {
    if (service.type == ServiceType::ExternalName || service.cluster_ips.empty()) {
        return false;
    }
    if (service.external_policy_local) {
        return std::any_of(service.endpoints.begin(), service.endpoints.end(),
                           [&](const ServiceEndpoint& endpoint) {
                               return endpoint.ready && endpoint.node == inputs.node_name;
                           });
    }
    if (has_single_address(service, inputs.settings)) {
        return true;
    }
    return !inputs.settings.load_balancer_aggregation &&
           std::any_of(service.endpoints.begin(), service.endpoints.end(),
                       [](const ServiceEndpoint& endpoint) { return endpoint.ready; });
}

} // namespace

ServiceRoutes compute_service_routes(const Inputs& inputs) {
    const Settings& settings = inputs.settings;
    std::set<Cidr> ranges;
    std::set<Cidr> announced;
    auto add_ranges = [&](const std::vector<Cidr>& list, bool announce) {
        for (const Cidr& range : list) {
            ranges.insert(range);
            // A single address is announced with its service, not by every node for ever.
            if (announce && !range.is_host()) {
                announced.insert(range);
            }
        }
    };
    add_ranges(settings.service_cluster_ips, true);
    add_ranges(settings.service_external_ips, true);
    add_ranges(settings.service_load_balancer_ips, settings.load_balancer_aggregation);
    for (const Service& service : inputs.services) {
        if (announces_addresses(service, inputs)) {
            for (const IpAddress& address : addresses_of(service, settings)) {
                announced.insert(Cidr::host(address));
            }
        }
    }
    const Node* self = inputs.own_node();
    if (self != nullptr) {
        auto label = self->labels.find("node.kubernetes.io/exclude-from-external-load-balancers");
        if (label != self->labels.end() && label->second == "true") {
            announced.clear();
        }
    }
    return {{ranges.begin(), ranges.end()}, {announced.begin(), announced.end()}};
}

} // namespace manx::bgp
