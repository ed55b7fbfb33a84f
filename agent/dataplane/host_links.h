// SPDX-License-Identifier: Apache-2.0
// The node's own devices and addresses, kept true by netlink events: which devices are uplinks (to
// be attached), which addresses are the host's, the MTU that pods may have, and when the routes
// changed in a way that makes the way out of existing flows stale.
//
// Threading: the loop's thread. Failure: an uplink that cannot be attached is retried with each
// change and once a second, and reported once.
#pragma once

#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/monitor.h"
#include "agent/netlink/route.h"
#include "agent/netlink/socket.h"
#include "base/event_loop.h"

#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace manx::dataplane {

struct HostLinksHandler {
    std::function<Result<void>(const netlink::LinkInfo&)> attach_uplink;
    std::function<void(uint32_t ifindex)> uplink_gone;
    std::function<void(const std::set<IpAddress>&)> host_addresses;
    // Coalesced: routes or uplinks are not what they were.
    std::function<void()> ways_changed;
    // Of workloads' devices; empty functions: nobody asks. A route or an address vanished:
    std::function<void(uint32_t ifindex)> workload_routes;
    // Its qdiscs or filters are not what they were:
    std::function<void(uint32_t ifindex)> workload_hooks;
    std::function<void(uint32_t ifindex, bool up)> workload_state;
    std::function<void(uint32_t ifindex)> workload_gone;
    // Any of these may have happened to any of them.
    std::function<void()> workloads_unknown;
};

class HostLinks {
public:
    // pattern: ECMAScript regular expression on device names. Error: names the expression.
    static Result<std::unique_ptr<HostLinks>> create(EventLoop& loop, const std::string& pattern,
                                                     HostLinksHandler handler);
    HostLinks(const HostLinks&) = delete;
    HostLinks& operator=(const HostLinks&) = delete;

    // The node's addresses as its Node object says: the devices that hold them are uplinks.
    void set_node_addresses(std::set<IpAddress> addresses);

    struct Uplink {
        netlink::LinkInfo link;
        bool attached = false;
        std::string trouble;
    };

    [[nodiscard]] const std::map<uint32_t, Uplink>& uplinks() const { return uplinks_; }

    // Smallest of the uplinks'; 1500 when there is none.
    [[nodiscard]] uint32_t mtu() const;

    [[nodiscard]] const std::set<IpAddress>& host_addresses() const { return host_addresses_; }

    // The prefix length that the address has on its device, if it is there.
    [[nodiscard]] std::optional<unsigned> prefix_length(const IpAddress& address) const;

private:
    HostLinks(EventLoop& loop, HostLinksHandler handler, netlink::Socket socket);
    Result<void> start(const std::string& pattern);
    Result<void> read_all();
    void schedule();
    void settle();
    [[nodiscard]] bool is_uplink(const netlink::LinkInfo& link) const;
    void on_link(netlink::Change change, const netlink::LinkInfo& link);
    void on_address(netlink::Change change, const netlink::AddressInfo& info);
    void on_route(netlink::Change change, const netlink::Route& route);

    EventLoop& loop_;
    HostLinksHandler handler_;
    netlink::Socket socket_;
    std::regex pattern_;
    std::unique_ptr<netlink::Monitor> monitor_;
    std::map<uint32_t, netlink::LinkInfo> links_;
    std::map<uint32_t, std::set<InterfaceAddress>> addresses_;
    std::set<IpAddress> node_addresses_;
    std::set<IpAddress> host_addresses_;
    std::map<uint32_t, Uplink> uplinks_;
    bool ways_dirty_ = false;
    EventSource settle_timer_;
    EventSource retry_timer_;
};

// The devices of pods.
bool is_workload_device(std::string_view name);

} // namespace manx::dataplane
