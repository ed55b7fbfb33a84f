// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/route.h"

#include <netlink/attr.h>

#include <sys/socket.h>

#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>

namespace manx::netlink {

namespace {

Message request(uint16_t type, uint16_t flags, const Route& route, const char* verb) {
    Message message(type, flags, std::string(verb) + " route " + route.destination.text());
    rtmsg fixed{};
    fixed.rtm_family = route.destination.family() == Family::V4 ? AF_INET : AF_INET6;
    fixed.rtm_dst_len = static_cast<uint8_t>(route.destination.length());
    fixed.rtm_table = static_cast<uint8_t>(route.table < 256 ? route.table : 0);
    fixed.rtm_protocol = route.protocol;
    fixed.rtm_scope = route.scope;
    fixed.rtm_type = static_cast<uint8_t>(route.type);
    fixed.rtm_flags = route.onlink ? RTNH_F_ONLINK : 0U;
    message.append(fixed);
    if (route.destination.length() != 0) {
        message.put_address(RTA_DST, route.destination.address());
    }
    message.put_u32(RTA_TABLE, route.table);
    if (route.ifindex != 0) {
        message.put_u32(RTA_OIF, route.ifindex);
    }
    if (route.gateway) {
        message.put_address(RTA_GATEWAY, *route.gateway);
    }
    if (route.source) {
        message.put_address(RTA_PREFSRC, *route.source);
    }
    if (route.metric != 0) {
        message.put_u32(RTA_PRIORITY, route.metric);
    }
    return message;
}

std::optional<IpAddress> address_of(const nlattr* attribute) {
    if (attribute == nullptr || (nla_len(attribute) != 4 && nla_len(attribute) != 16)) {
        return std::nullopt;
    }
    return IpAddress::from_bytes({static_cast<const uint8_t*>(nla_data(attribute)),
                                  static_cast<size_t>(nla_len(attribute))});
}

} // namespace

Message add_route(const Route& route) {
    return request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, "add");
}

Message replace_route(const Route& route) {
    return request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, "write");
}

Message delete_route(const Route& route) {
    Message message = request(RTM_DELROUTE, 0, route, "remove");
    message.tolerate({ESRCH});
    return message;
}

Result<Route> parse_route(const nlmsghdr* header) {
    std::array<nlattr*, RTA_MAX + 1> attributes{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(rtmsg), attributes.data(), RTA_MAX,
                    nullptr) < 0) {
        return fail(ErrorKind::Library, "route message that does not parse");
    }
    const auto* fixed = static_cast<const rtmsg*>(nlmsg_data(header));
    if (fixed->rtm_family != AF_INET && fixed->rtm_family != AF_INET6) {
        return fail(ErrorKind::Library, "route of another family");
    }
    Route route;
    const auto any = fixed->rtm_family == AF_INET
                         ? IpAddress::v4(0)
                         : IpAddress::from_bytes(std::array<uint8_t, 16>{});
    route.destination = Cidr(address_of(attributes[RTA_DST]).value_or(any), fixed->rtm_dst_len);
    route.type = static_cast<RouteType>(fixed->rtm_type);
    route.protocol = fixed->rtm_protocol;
    route.scope = fixed->rtm_scope;
    route.onlink = (fixed->rtm_flags & RTNH_F_ONLINK) != 0;
    route.table =
        attributes[RTA_TABLE] != nullptr ? nla_get_u32(attributes[RTA_TABLE]) : fixed->rtm_table;
    route.gateway = address_of(attributes[RTA_GATEWAY]);
    route.source = address_of(attributes[RTA_PREFSRC]);
    if (attributes[RTA_OIF] != nullptr) {
        route.ifindex = nla_get_u32(attributes[RTA_OIF]);
    }
    if (attributes[RTA_PRIORITY] != nullptr) {
        route.metric = nla_get_u32(attributes[RTA_PRIORITY]);
    }
    if (const nlattr* hops = attributes[RTA_MULTIPATH];
        hops != nullptr && nla_len(hops) >= static_cast<int>(sizeof(rtnexthop))) {
        const auto* hop = static_cast<const rtnexthop*>(nla_data(hops));
        route.ifindex = static_cast<uint32_t>(hop->rtnh_ifindex);
        auto* first = reinterpret_cast<nlattr*>(static_cast<uint8_t*>(nla_data(hops)) +
                                                RTNH_ALIGN(sizeof(rtnexthop)));
        const int length = hop->rtnh_len - static_cast<int>(RTNH_ALIGN(sizeof(rtnexthop)));
        if (length > 0 && hop->rtnh_len <= nla_len(hops)) {
            route.gateway = address_of(nla_find(first, length, RTA_GATEWAY));
        }
    }
    return route;
}

Result<std::vector<Route>> list_routes(Socket& socket, const RouteFilter& filter) {
    Message dump(RTM_GETROUTE, NLM_F_DUMP, "list of routes");
    rtmsg fixed{};
    fixed.rtm_family = filter.family == Family::V4 ? AF_INET : AF_INET6;
    fixed.rtm_protocol = filter.protocol;
    dump.append(fixed);
    dump.put_u32(RTA_TABLE, filter.table);
    if (filter.ifindex != 0) {
        dump.put_u32(RTA_OIF, filter.ifindex);
    }
    std::vector<Route> routes;
    auto listed = socket.dump(std::move(dump), [&](const nlmsghdr* header) {
        if (auto route = parse_route(header)) {
            routes.push_back(std::move(*route));
        }
    });
    // A table that was never written to.
    if (!listed && listed.error().err != ENOENT) {
        return Unexpected(listed.error());
    }
    return routes;
}

} // namespace manx::netlink
