// SPDX-License-Identifier: Apache-2.0
// Routes of both families.
#pragma once

#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace manx::netlink {

enum class RouteType : uint8_t {
    Unicast = 1, // RTN_*
    Local = 2,
    Blackhole = 6,
    Unreachable = 7,
};

// Values of the kernel's RTPROT_* and RT_TABLE_*, RT_SCOPE_*.
inline constexpr uint8_t kProtocolBoot = 3;
inline constexpr uint8_t kProtocolBird = 12;
inline constexpr uint8_t kProtocolCalico = 80;
inline constexpr uint32_t kTableMain = 254;
inline constexpr uint8_t kScopeUniverse = 0;
inline constexpr uint8_t kScopeLink = 253;

struct Route {
    Cidr destination;
    RouteType type = RouteType::Unicast;
    uint32_t ifindex = 0; // 0: none (blackhole, or found by the gateway)
    std::optional<IpAddress> gateway;
    std::optional<IpAddress> source; // preferred source address
    uint8_t protocol = kProtocolBoot;
    uint8_t scope = kScopeUniverse; // IPv4 only; IPv6 has none
    uint32_t metric = 0;            // 0: IPv4 none, IPv6 the kernel makes it 1024
    uint32_t table = kTableMain;
    bool onlink = false; // the gateway is reachable on ifindex whatever the addresses say

    auto operator<=>(const Route&) const = default;
};

Message add_route(const Route& route);     // EEXIST when the same destination and metric exist
Message replace_route(const Route& route); // or add
Message delete_route(const Route& route);  // one that is not there is no error

Result<Route> parse_route(const nlmsghdr* header);

struct RouteFilter {
    Family family = Family::V4;
    uint32_t table = kTableMain;
    uint32_t ifindex = 0; // 0: any
    uint8_t protocol = 0; // 0: any
};

// The kernel filters. Multipath routes come with their first hop only.
Result<std::vector<Route>> list_routes(Socket& socket, const RouteFilter& filter);

} // namespace manx::netlink
