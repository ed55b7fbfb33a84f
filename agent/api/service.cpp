// SPDX-License-Identifier: Apache-2.0
#include "agent/api/service.h"

#include "agent/api/fields.h"

#include <nlohmann/json.hpp>

namespace manx::api {

namespace {

// 0: one that is not known (yet); the port is passed over then.
uint8_t protocol_of(const Fields& port) {
    std::string protocol = "TCP";
    port.get("protocol", protocol);
    return protocol == "TCP" ? 6 : protocol == "UDP" ? 17 : protocol == "SCTP" ? 132 : 0;
}

} // namespace

Result<Service> Service::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::Service, object), {}};
    Service service;
    service.meta = read_meta(Kind::Service, object, problems);
    const Fields root(&object, "", problems);
    const Fields spec = root.at("spec");
    spec.get("type", service.type);
    std::vector<std::string> cluster_ips;
    std::string cluster_ip;
    spec.get("clusterIPs", cluster_ips);
    spec.get("clusterIP", cluster_ip);
    if (cluster_ips.empty() && !cluster_ip.empty()) {
        cluster_ips.push_back(cluster_ip);
    }
    for (const auto& text : cluster_ips) {
        if (text.empty() || text == "None") {
            continue;
        }
        if (auto address = IpAddress::parse(text)) {
            service.cluster_ips.push_back(*address);
        } else {
            spec.wrong("clusterIPs", "expected addresses or None");
        }
    }
    spec.get("externalIPs", service.external_ips);
    spec.each("ports", [&](const Fields& item) {
        ServicePort port{.name = "", .protocol = protocol_of(item), .port = 0};
        item.get("name", port.name);
        item.get("port", port.port);
        if (port.protocol != 0) {
            service.ports.push_back(std::move(port));
        }
    });
    std::string traffic_policy;
    spec.get("externalTrafficPolicy", traffic_policy);
    service.external_policy_local = traffic_policy == "Local";
    root.at("status").at("loadBalancer").each("ingress", [&](const Fields& item) {
        std::string ip; // absent where the load balancer has a host name only
        item.get("ip", ip);
        if (auto address = IpAddress::parse(ip)) {
            service.load_balancer_ips.push_back(*address);
        }
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return service;
}

Result<EndpointSlice> EndpointSlice::from_json(const nlohmann::json& object) {
    Problems problems{subject_of(Kind::EndpointSlice, object), {}};
    EndpointSlice slice;
    slice.meta = read_meta(Kind::EndpointSlice, object, problems);
    const auto found = slice.meta.labels.find("kubernetes.io/service-name");
    slice.service = found == slice.meta.labels.end() ? "" : found->second;
    const Fields root(&object, "", problems);
    std::string type;
    root.get("addressType", type);
    root.each("ports", [&](const Fields& item) {
        SlicePort port{.name = "", .protocol = protocol_of(item), .port = 0};
        item.get("name", port.name);
        if (port.protocol != 0 && item.has("port")) { // without a number it names no port
            item.get("port", port.port);
            slice.ports.push_back(std::move(port));
        }
    });
    root.each("endpoints", [&](const Fields& item) {
        SliceEndpoint endpoint;
        if (type != "FQDN") {
            item.get("addresses", endpoint.addresses);
        }
        item.get("nodeName", endpoint.node);
        item.at("conditions").get("ready", endpoint.ready);
        slice.endpoints.push_back(std::move(endpoint));
    });
    if (problems.first) {
        return Unexpected(*problems.first);
    }
    return slice;
}

} // namespace manx::api
