// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/feed.h"

#include "agent/api/host_endpoint.h"
#include "agent/api/names.h"
#include "agent/api/namespace.h"
#include "agent/api/network_set.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/pool.h"
#include "agent/api/service.h"
#include "agent/api/tier.h"

#include <nlohmann/json.hpp>

namespace manx::calc {

namespace {

template <typename T>
Result<void> give(PolicyCalculator& calculator, Result<T> parsed) {
    if (!parsed) {
        return Unexpected(parsed.error());
    }
    calculator.upsert(*parsed);
    return {};
}

} // namespace

Result<void> feed(PolicyCalculator& calculator, api::Kind kind, const nlohmann::json& object) {
    switch (kind) {
    case api::Kind::Pod:
        return give(calculator, api::Pod::from_json(object));
    case api::Kind::Namespace:
        return give(calculator, api::Namespace::from_json(object));
    case api::Kind::ServiceAccount:
        return give(calculator, api::ServiceAccount::from_json(object));
    case api::Kind::Node:
        return give(calculator, api::Node::from_json(object));
    case api::Kind::Service:
        return give(calculator, api::Service::from_json(object));
    case api::Kind::EndpointSlice:
        return give(calculator, api::EndpointSlice::from_json(object));
    case api::Kind::IpPool:
        return give(calculator, api::IpPool::from_json(object));
    case api::Kind::HostEndpoint:
        return give(calculator, api::HostEndpoint::from_json(object));
    case api::Kind::NetworkSet:
    case api::Kind::GlobalNetworkSet:
        return give(calculator, api::NetworkSet::from_json(kind, object));
    case api::Kind::Tier:
        return give(calculator, api::Tier::from_json(object));
    default:
        return api::is_policy(kind) ? give(calculator, api::parse_policy(kind, object))
                                    : Result<void>{};
    }
}

Result<dataplane::LocalEndpoint> local_from_pod(const nlohmann::json& object, uint16_t index) {
    TRY_ASSIGN(const api::Pod pod, api::Pod::from_json(object));
    dataplane::LocalEndpoint out;
    out.ns = pod.meta.ns;
    out.pod = pod.meta.name;
    out.interface = api::workload_interface(pod.meta.ns, pod.meta.name);
    out.ifindex = uint32_t{index} + 1;
    out.slot = index;
    out.addresses = pod.ips;
    out.labels = pod.meta.labels;
    out.service_account = pod.service_account;
    for (const auto& port : pod.named_ports) {
        if (!port.name.empty()) {
            out.named_ports.push_back({port.name, port.protocol, port.port});
        }
    }
    return out;
}

} // namespace manx::calc
