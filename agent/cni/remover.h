// SPDX-License-Identifier: Apache-2.0
// Takes devices away. The kernel's call to remove a device returns only after every CPU has passed
// an RCU barrier (some 40 ms), long after the device is out of all tables, its routes are gone and
// its name is free: that it announces by an RTM_DELLINK event, and the event is what a caller
// waits for here. The call itself ends on a worker. Devices that come in while others are being
// taken out of the tables go together, with one grace period for all.
//
// Threading: the loop's thread. What comes back after the object is gone is dropped.
#pragma once

#include "agent/netlink/link.h"
#include "agent/netlink/monitor.h"
#include "agent/netlink/socket.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/worker.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace manx::cni {

class Remover {
public:
    using Done = std::function<void(Result<void>)>;

    static Result<std::unique_ptr<Remover>> create(EventLoop& loop);
    Remover(const Remover&) = delete;
    Remover& operator=(const Remover&) = delete;
    ~Remover();

    // ifindex 0: by name alone; otherwise only if the name still has that number. A device that is
    // not there is no error.
    void remove(std::string name, uint32_t ifindex, Done done);
    // The device to which a container's interface is connected, for containers that nothing is
    // recorded of. Not there, or not connected to this node: no error.
    void remove_by_container(int netns, std::string container_interface, Done done);

private:
    struct Item;
    struct Lane;
    using ItemPtr = std::shared_ptr<Item>;
    using Report = std::function<void(ItemPtr, Result<void>)>;

    explicit Remover(EventLoop& loop);
    void start();
    Lane* free_lane();
    void conclude(const ItemPtr& item, const Result<void>& result);
    void on_gone(const netlink::LinkInfo& link);
    static void work(Lane& lane, const std::vector<ItemPtr>& items, const Report& report);

    EventLoop& loop_;
    std::unique_ptr<netlink::Monitor> monitor_;
    std::vector<ItemPtr> waiting_;
    std::vector<ItemPtr> under_way_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::vector<std::unique_ptr<Lane>> lanes_;
};

} // namespace manx::cni
