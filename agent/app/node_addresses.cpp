// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_addresses.h"

#include <nlohmann/json.hpp>

namespace manx::app {

api::Node with_addresses(api::Node node, const PrefixLength& prefix_length) {
    for (const auto& address : node.addresses) {
        auto& wanted = address.is_v4() ? node.ipv4 : node.ipv6;
        if (wanted) {
            continue;
        }
        if (auto length = prefix_length(address)) {
            wanted = InterfaceAddress{address, *length};
        }
    }
    return node;
}

std::optional<nlohmann::json> address_patch(const api::Node& stored, const api::Node& completed) {
    nlohmann::json annotations = nlohmann::json::object();
    if (!stored.ipv4 && completed.ipv4) {
        annotations[api::kNodeIpv4] = completed.ipv4->text();
    }
    if (!stored.ipv6 && completed.ipv6) {
        annotations[api::kNodeIpv6] = completed.ipv6->text();
    }
    if (annotations.empty()) {
        return std::nullopt;
    }
    return nlohmann::json{{"metadata", {{"annotations", std::move(annotations)}}}};
}

} // namespace manx::app
