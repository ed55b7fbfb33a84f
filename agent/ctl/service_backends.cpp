// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/service_backends.h"

#include "agent/api/policy.h"
#include "agent/api/service.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::ctl {

namespace {

bool has_address(const api::Service& service, const IpAddress& address) {
    return std::ranges::any_of(
        std::array{&service.cluster_ips, &service.external_ips, &service.load_balancer_ips},
        [&](const auto* list) { return std::ranges::find(*list, address) != list->end(); });
}

} // namespace

std::optional<ServiceRef> find_service(const PolicyObjects& objects, const std::string& text) {
    constexpr std::string_view kPrefix = "service/";
    if (text.starts_with(kPrefix)) {
        const std::string rest = text.substr(kPrefix.size());
        const size_t slash = rest.find('/');
        if (slash != std::string::npos) {
            return ServiceRef{rest.substr(0, slash), rest.substr(slash + 1)};
        }
        return std::nullopt; // a pod of the namespace "service"
    }
    const auto address = IpAddress::parse(text);
    if (!address) {
        return std::nullopt;
    }
    for (const auto& [key, object] : objects) {
        if (key.kind != api::Kind::Service) {
            continue;
        }
        const auto service = api::Service::from_json(object);
        if (service && has_address(*service, *address)) {
            return ServiceRef{key.ns, key.name};
        }
    }
    return std::nullopt;
}

Result<std::vector<Backend>> backends_of(const PolicyObjects& objects, const ServiceRef& ref,
                                         uint8_t protocol, uint16_t port) {
    const auto found = objects.find({api::Kind::Service, ref.ns, ref.name});
    if (found == objects.end()) {
        return fail(ErrorKind::NotFound, fmt::format("Service {}/{}: not found", ref.ns, ref.name));
    }
    TRY_ASSIGN(const auto service, api::Service::from_json(found->second));
    const auto at = std::ranges::find_if(service.ports, [&](const api::ServicePort& one) {
        return one.protocol == protocol && one.port == port;
    });
    if (at == service.ports.end()) {
        return fail(ErrorKind::NotFound, fmt::format("Service {}/{}: has no {} port {}", ref.ns,
                                                     ref.name, api::protocol_name(protocol), port));
    }
    std::vector<Backend> out;
    for (const auto& [key, object] : objects) {
        if (key.kind != api::Kind::EndpointSlice || key.ns != ref.ns) {
            continue;
        }
        TRY_ASSIGN(const auto slice, api::EndpointSlice::from_json(object));
        if (slice.service != ref.name) {
            continue;
        }
        for (const auto& target : slice.ports) {
            if (target.name != at->name || target.protocol != protocol) {
                continue;
            }
            for (const auto& endpoint : slice.endpoints) {
                for (const auto& address : endpoint.addresses) {
                    out.push_back({address, target.port, endpoint.ready, endpoint.node});
                }
            }
        }
    }
    return out;
}

} // namespace manx::ctl
