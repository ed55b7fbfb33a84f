// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/host_settings.h"

#include "agent/dataplane/host_links.h"
#include "agent/netlink/link.h"
#include "agent/netlink/socket.h"
#include "agent/netlink/sysctl.h"

#include <fmt/format.h>

#include <net/if.h>

namespace manx::dataplane {

namespace {

// A kernel without IPv6 lacks its settings; that is no error.
Result<void> write_if_there(std::string_view path, std::string_view value) {
    auto written = netlink::write_sysctl(path, value);
    if (!written && written.error().kind != ErrorKind::NotFound) {
        return written;
    }
    return {};
}

Result<void> keep_router_advertisements(std::string_view device) {
    auto path = fmt::format("net/ipv6/conf/{}/accept_ra", device);
    auto value = netlink::read_sysctl(path);
    if (value && *value == "1") {
        return write_if_there(path, "2");
    }
    return {};
}

} // namespace

Result<void> apply_host_settings() {
    TRY_ASSIGN(auto socket, netlink::Socket::open());
    TRY_ASSIGN(auto links, netlink::list_links(socket));
    for (const auto& link : links) {
        if ((link.flags & IFF_LOOPBACK) == 0 && !is_workload_device(link.name)) {
            TRY(keep_router_advertisements(link.name));
        }
    }
    TRY(netlink::write_sysctl("net/ipv4/ip_forward", "1"));
    TRY(netlink::write_sysctl("net/ipv4/conf/all/rp_filter", "0"));
    TRY(write_if_there("net/ipv6/conf/all/forwarding", "1"));
    return {};
}

Result<void> apply_uplink_settings(std::string_view device) {
    TRY(keep_router_advertisements(device));
    return netlink::write_sysctl(fmt::format("net/ipv4/conf/{}/rp_filter", device), "2");
}

} // namespace manx::dataplane
