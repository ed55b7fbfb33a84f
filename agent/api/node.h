// SPDX-License-Identifier: Apache-2.0
// The core v1 Node with what Calico keeps in its annotations (which carry other parts' data too:
// invalid values are ignored, not errors).
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace manx::api {

struct Node {
    ObjectMeta meta; // labels: Kubernetes' over those that exist for Calico only
    // With the length of the subnet, which decides CrossSubnet.
    std::optional<InterfaceAddress> ipv4;
    std::optional<InterfaceAddress> ipv6;
    std::optional<uint32_t> as_number;
    std::string route_reflector_cluster_id; // dotted IPv4; empty: not a route reflector
    std::optional<IpAddress> ipip_tunnel4;
    std::optional<IpAddress> vxlan_tunnel4;
    std::optional<IpAddress> vxlan_tunnel6;
    std::optional<MacAddress> vxlan_mac4;
    std::optional<MacAddress> vxlan_mac6;
    std::vector<IpAddress> addresses; // status.addresses InternalIP, then ExternalIP
    std::vector<Cidr> pod_cidrs;

    static Result<Node> from_json(const nlohmann::json& object);

    [[nodiscard]] const std::optional<InterfaceAddress>& address(Family family) const {
        return family == Family::V4 ? ipv4 : ipv6;
    }
};

// Annotations of a Node, without the values' formats (see the fields above).
inline constexpr const char* kNodeIpv4 = "projectcalico.org/IPv4Address";
inline constexpr const char* kNodeIpv6 = "projectcalico.org/IPv6Address";
inline constexpr const char* kNodeAsNumber = "projectcalico.org/ASNumber";
inline constexpr const char* kNodeClusterId = "projectcalico.org/RouteReflectorClusterID";
inline constexpr const char* kNodeIpipTunnel4 = "projectcalico.org/IPv4IPIPTunnelAddr";
inline constexpr const char* kNodeVxlanTunnel4 = "projectcalico.org/IPv4VXLANTunnelAddr";
inline constexpr const char* kNodeVxlanTunnel6 = "projectcalico.org/IPv6VXLANTunnelAddr";
inline constexpr const char* kNodeVxlanMac4 = "projectcalico.org/VXLANTunnelMACAddr";
inline constexpr const char* kNodeVxlanMac6 = "projectcalico.org/VXLANTunnelMACAddrV6";
inline constexpr const char* kNodeWireguard4 = "projectcalico.org/IPv4WireguardInterfaceAddr";
inline constexpr const char* kNodeWireguard6 = "projectcalico.org/IPv6WireguardInterfaceAddr";
inline constexpr const char* kNodeWireguardKey4 = "projectcalico.org/WireguardPublicKey";
inline constexpr const char* kNodeWireguardKey6 = "projectcalico.org/WireguardPublicKeyV6";
inline constexpr const char* kNodeInterfaces = "projectcalico.org/Interfaces";

// Calico's view (projectcalico.org/v3) of the core object, as calicoctl prints it.
Result<nlohmann::json> node_to_v3(const nlohmann::json& core);
// The core v1 object that holds what Calico's view says. Also validates: ConfigInvalid names the
// field. Objects that are core v1 already pass unchanged.
Result<nlohmann::json> node_to_core(const nlohmann::json& object);

// "64512", or dotted "1.10" as RFC 5396's asdot+.
Result<uint32_t> parse_as_number(std::string_view text);

} // namespace manx::api
