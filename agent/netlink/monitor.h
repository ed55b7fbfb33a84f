// SPDX-License-Identifier: Apache-2.0
// What happens to links, addresses, routes, neighbours and traffic control of the node, as it
// happens.
//
// Threading: all on the loop's thread. Failure: when events come faster than they are read the
// kernel drops some; the handler's overrun() then asks for a fresh list of everything.
#pragma once

#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/neighbor.h"
#include "agent/netlink/route.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <functional>
#include <memory>
#include <vector>

namespace manx::netlink {

enum class Change { Present, Gone }; // Present: new, or changed

// Empty functions: events of that kind are not even subscribed to.
struct MonitorHandler {
    std::function<void(Change, const LinkInfo&)> link;
    std::function<void(Change, const AddressInfo&)> address;
    std::function<void(Change, const Route&)> route;
    std::function<void(Change, const NeighborInfo&)> neighbor;
    // Qdiscs of a device came or went, or filters went.
    std::function<void(uint32_t ifindex)> traffic_control;
    std::function<void()> overrun;
};

class Monitor {
public:
    // Subscribed when it returns: list after this call and nothing is missed.
    static Result<std::unique_ptr<Monitor>> open(EventLoop& loop, MonitorHandler handler);
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;
    ~Monitor() = default;

private:
    Monitor(UniqueFd fd, MonitorHandler handler);
    void read();
    void dispatch(const nlmsghdr* header);

    UniqueFd fd_;
    MonitorHandler handler_;
    std::vector<uint8_t> buffer_;
    EventSource source_;
};

} // namespace manx::netlink
