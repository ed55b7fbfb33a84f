// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/monitor.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cerrno>

namespace manx::netlink {

namespace {

constexpr size_t kReadSize = 64 * 1024;
// Room for a burst of some thousands of routes while the loop is busy.
constexpr int kReceiveQueue = 4 * 1024 * 1024;
// Reads per turn, so that a storm of events does not starve the rest of the loop.
constexpr int kReadsPerTurn = 16;

} // namespace

Monitor::Monitor(UniqueFd fd, MonitorHandler handler)
    : fd_(std::move(fd)), handler_(std::move(handler)), buffer_(kReadSize) {
}

Result<std::unique_ptr<Monitor>> Monitor::open(EventLoop& loop, MonitorHandler handler) {
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    if (!fd) {
        return fail_errno("rtnetlink event socket");
    }
    // Without the privilege the default queue serves, and overrun() comes earlier.
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveQueue, sizeof kReceiveQueue);
    sockaddr_nl own{};
    own.nl_family = AF_NETLINK;
    // Events pass by a socket without a port of its own.
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
        return fail_errno("rtnetlink event socket");
    }
    std::vector<int> groups;
    if (handler.link) {
        groups.push_back(RTNLGRP_LINK);
    }
    if (handler.address) {
        groups.insert(groups.end(), {RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR});
    }
    if (handler.route) {
        groups.insert(groups.end(), {RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE});
    }
    if (handler.neighbor) {
        groups.push_back(RTNLGRP_NEIGH);
    }
    if (handler.traffic_control) {
        groups.push_back(RTNLGRP_TC);
    }
    for (int group : groups) {
        if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
            return fail_errno("rtnetlink event group " + std::to_string(group));
        }
    }
    std::unique_ptr<Monitor> monitor(new Monitor(std::move(fd), std::move(handler)));
    TRY_ASSIGN(monitor->source_, loop.add_io(monitor->fd_.get(), EPOLLIN,
                                             [raw = monitor.get()](uint32_t) { raw->read(); }));
    return monitor;
}

void Monitor::read() {
    for (int i = 0; i < kReadsPerTurn; ++i) {
        const ssize_t n = recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
        if (n < 0) {
            if (errno == ENOBUFS && handler_.overrun) {
                handler_.overrun();
            }
            return;
        }
        for_each_message({buffer_.data(), static_cast<size_t>(n)},
                         [this](const nlmsghdr* header) { dispatch(header); });
    }
}

void Monitor::dispatch(const nlmsghdr* header) {
    // Messages of other families (bridge ports announce themselves as links) do not parse or say
    // nothing new: they are passed over.
    const auto deliver = [](const auto& fn, Change change, const auto& parsed) {
        if (fn && parsed) {
            fn(change, *parsed);
        }
    };
    switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        if (static_cast<const ifinfomsg*>(nlmsg_data(header))->ifi_family == AF_UNSPEC) {
            deliver(handler_.link,
                    header->nlmsg_type == RTM_NEWLINK ? Change::Present : Change::Gone,
                    parse_link(header));
        }
        break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
        deliver(handler_.address,
                header->nlmsg_type == RTM_NEWADDR ? Change::Present : Change::Gone,
                parse_address(header));
        break;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        deliver(handler_.route, header->nlmsg_type == RTM_NEWROUTE ? Change::Present : Change::Gone,
                parse_route(header));
        break;
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
        deliver(handler_.neighbor,
                header->nlmsg_type == RTM_NEWNEIGH ? Change::Present : Change::Gone,
                parse_neighbor(header));
        break;
    case RTM_NEWQDISC:
    case RTM_DELQDISC:
    case RTM_DELTFILTER:
        if (handler_.traffic_control && nlmsg_valid_hdr(header, sizeof(tcmsg)) != 0) {
            handler_.traffic_control(
                static_cast<uint32_t>(static_cast<const tcmsg*>(nlmsg_data(header))->tcm_ifindex));
        }
        break;
    default:
        break;
    }
}

} // namespace manx::netlink
