// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/remover.h"

#include "agent/cni/device.h"
#include "loader/expedite.h"

#include <algorithm>
#include <fcntl.h>
#include <utility>

namespace manx::cni {

namespace {

// Calls that wait for their barrier at a time; a call of its own every few milliseconds keeps about
// as many of them busy.
constexpr size_t kLanes = 8;

} // namespace

struct Remover::Item {
    std::string name; // on the node; found by the worker where only the container is known
    uint32_t ifindex = 0;
    UniqueFd netns;
    std::string container_interface;
    Done done;
    Lane* lane = nullptr;
    bool concluded = false;
};

// One blocking call at a time.
struct Remover::Lane {
    explicit Lane(netlink::Socket with) : socket(std::move(with)) {}

    netlink::Socket socket; // the worker's
    bool busy = false;
    size_t open = 0; // items of the call whose devices are still in the tables
    Worker worker{"cni-remove"};
};

Remover::Remover(EventLoop& loop) : loop_(loop) {
}

Remover::~Remover() = default;

Result<std::unique_ptr<Remover>> Remover::create(EventLoop& loop) {
    std::unique_ptr<Remover> remover(new Remover(loop));
    netlink::MonitorHandler handler;
    handler.link = [raw = remover.get()](netlink::Change change, const netlink::LinkInfo& link) {
        if (change == netlink::Change::Gone) {
            raw->on_gone(link);
        }
    };
    // Lost events only cost time: the call's own end concludes as well.
    TRY_ASSIGN(remover->monitor_, netlink::Monitor::open(loop, std::move(handler)));
    return remover;
}

void Remover::remove(std::string name, uint32_t ifindex, Done done) {
    auto item = std::make_shared<Item>();
    item->name = std::move(name);
    item->ifindex = ifindex;
    item->done = std::move(done);
    waiting_.push_back(std::move(item));
    start();
}

void Remover::remove_by_container(int netns, std::string container_interface, Done done) {
    auto item = std::make_shared<Item>();
    item->netns = UniqueFd(fcntl(netns, F_DUPFD_CLOEXEC, 0));
    if (!item->netns) {
        done(fail_errno("network namespace of the container"));
        return;
    }
    item->container_interface = std::move(container_interface);
    item->done = std::move(done);
    waiting_.push_back(std::move(item));
    start();
}

Remover::Lane* Remover::free_lane() {
    for (const auto& lane : lanes_) {
        if (lane->open > 0) {
            return nullptr; // what waits goes together after it
        }
    }
    for (const auto& lane : lanes_) {
        if (!lane->busy) {
            return lane.get();
        }
    }
    if (lanes_.size() == kLanes) {
        return nullptr;
    }
    auto socket = netlink::Socket::open();
    if (!socket) {
        return nullptr; // a lane that is busy now will serve
    }
    lanes_.push_back(std::make_unique<Lane>(std::move(*socket)));
    return lanes_.back().get();
}

void Remover::start() {
    if (waiting_.empty()) {
        return;
    }
    Lane* lane = free_lane();
    if (lane == nullptr) {
        if (lanes_.empty()) {
            for (const ItemPtr& item : std::exchange(waiting_, {})) {
                item->done(fail(ErrorKind::Unavailable, "no rtnetlink socket"));
            }
        }
        return;
    }
    auto items = std::exchange(waiting_, {});
    lane->busy = true;
    lane->open = items.size();
    for (const ItemPtr& item : items) {
        item->lane = lane;
    }
    under_way_.insert(under_way_.end(), items.begin(), items.end());
    lane->worker.post(
        [this, lane, items = std::move(items), &loop = loop_, alive = std::weak_ptr(alive_)] {
            work(*lane, items, [this, alive, &loop](ItemPtr item, Result<void> result) {
                loop.post([this, alive, item = std::move(item), result = std::move(result)] {
                    if (!alive.expired()) {
                        conclude(item, result);
                    }
                });
            });
            loop.post([this, lane, alive] {
                if (!alive.expired()) {
                    lane->busy = false;
                    start();
                }
            });
        });
}

// On the lane's worker.
void Remover::work(Lane& lane, const std::vector<ItemPtr>& items, const Report& report) {
    std::vector<uint32_t> found;
    std::vector<ItemPtr> removed;
    for (const ItemPtr& item : items) {
        Result<uint32_t> number = fail(ErrorKind::NotFound, {});
        if (item->netns) {
            number = host_end_of(lane.socket, item->netns.get(), item->container_interface);
        } else if (auto link = find_link(lane.socket, item->name); !link) {
            number = Unexpected(link.error());
        } else if (item->ifindex == 0 || item->ifindex == link->ifindex) {
            number = link->ifindex;
        }
        if (number) {
            found.push_back(*number);
            removed.push_back(item);
        } else if (number.error().kind == ErrorKind::NotFound) {
            report(item, {});
        } else { // it may be there
            report(item, Unexpected(number.error()));
        }
    }
    if (found.empty()) {
        return;
    }
    const loader::Expedite expedite; // programs on the devices
    const auto result = remove_devices(lane.socket, found);
    for (const ItemPtr& item : removed) {
        report(item, result);
    }
}

void Remover::conclude(const ItemPtr& item, const Result<void>& result) {
    if (item->concluded) {
        return;
    }
    item->concluded = true;
    --item->lane->open;
    std::erase(under_way_, item);
    item->done(result);
    start();
}

void Remover::on_gone(const netlink::LinkInfo& link) {
    const auto it = std::find_if(under_way_.begin(), under_way_.end(), [&](const ItemPtr& item) {
        return item->name == link.name && (item->ifindex == 0 || item->ifindex == link.ifindex);
    });
    if (it != under_way_.end()) {
        const ItemPtr item = *it;
        conclude(item, {});
    }
}

} // namespace manx::cni
