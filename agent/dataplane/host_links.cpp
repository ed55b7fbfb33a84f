// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/host_links.h"

#include "base/log.h"

#include <fmt/format.h>

#include <net/if.h>

#include <algorithm>

namespace manx::dataplane {

namespace {

// Long enough to take a burst of events as one, short against a packet's patience.
constexpr auto kSettle = std::chrono::milliseconds(5);
constexpr auto kRetry = std::chrono::seconds(1);

} // namespace

bool is_workload_device(std::string_view name) {
    return name.starts_with("cali");
}

HostLinks::HostLinks(EventLoop& loop, HostLinksHandler handler, netlink::Socket socket)
    : loop_(loop), handler_(std::move(handler)), socket_(std::move(socket)) {
}

Result<std::unique_ptr<HostLinks>> HostLinks::create(EventLoop& loop, const std::string& pattern,
                                                     HostLinksHandler handler) {
    TRY_ASSIGN(auto socket, netlink::Socket::open());
    std::unique_ptr<HostLinks> links(new HostLinks(loop, std::move(handler), std::move(socket)));
    TRY(links->start(pattern));
    return links;
}

Result<void> HostLinks::start(const std::string& pattern) {
    try {
        pattern_ = std::regex("^(?:" + pattern + ")$", std::regex::ECMAScript);
    } catch (const std::regex_error& e) {
        return fail(
            ErrorKind::ConfigInvalid,
            fmt::format("uplinks: \"{}\": expected a regular expression: {}", pattern, e.what()));
    }
    netlink::MonitorHandler events;
    events.link = [this](netlink::Change c, const netlink::LinkInfo& l) { on_link(c, l); };
    events.address = [this](netlink::Change c, const netlink::AddressInfo& a) { on_address(c, a); };
    events.route = [this](netlink::Change c, const netlink::Route& r) { on_route(c, r); };
    events.traffic_control = [this](uint32_t ifindex) {
        if (!links_.contains(ifindex) && handler_.workload_hooks) {
            handler_.workload_hooks(ifindex);
        }
    };
    events.overrun = [this] {
        if (handler_.workloads_unknown) {
            handler_.workloads_unknown();
        }
        if (auto read = read_all(); !read) {
            log::get("links")->error("cannot list devices reason=\"{}\"", read.error().text());
        }
        ways_dirty_ = true;
        schedule();
    };
    TRY_ASSIGN(monitor_, netlink::Monitor::open(loop_, std::move(events)));
    TRY(read_all());
    ways_dirty_ = true;
    settle();
    return {};
}

Result<void> HostLinks::read_all() {
    TRY_ASSIGN(auto links, netlink::list_links(socket_));
    TRY_ASSIGN(auto addresses, netlink::list_addresses(socket_));
    links_.clear();
    addresses_.clear();
    for (auto& link : links) {
        auto ifindex = link.ifindex;
        links_[ifindex] = std::move(link);
    }
    for (const auto& info : addresses) {
        addresses_[info.ifindex].insert(info.address);
    }
    return {};
}

void HostLinks::set_node_addresses(std::set<IpAddress> addresses) {
    if (addresses != node_addresses_) {
        node_addresses_ = std::move(addresses);
        settle();
    }
}

uint32_t HostLinks::mtu() const {
    uint32_t smallest = 0;
    for (const auto& [ifindex, uplink] : uplinks_) {
        smallest = smallest == 0 ? uplink.link.mtu : std::min(smallest, uplink.link.mtu);
    }
    return smallest == 0 ? 1500 : smallest;
}

std::optional<unsigned> HostLinks::prefix_length(const IpAddress& address) const {
    for (const auto& [ifindex, held] : addresses_) {
        for (const auto& candidate : held) {
            if (candidate.address == address) {
                return candidate.length;
            }
        }
    }
    return std::nullopt;
}

bool HostLinks::is_uplink(const netlink::LinkInfo& link) const {
    if (is_workload_device(link.name) || (link.flags & IFF_LOOPBACK) != 0) {
        return false;
    }
    if (std::regex_match(link.name, pattern_)) {
        return true;
    }
    auto held = addresses_.find(link.ifindex);
    return held != addresses_.end() && std::ranges::any_of(held->second, [&](const auto& a) {
               return node_addresses_.contains(a.address);
           });
}

void HostLinks::on_link(netlink::Change change, const netlink::LinkInfo& link) {
    if (is_workload_device(link.name)) {
        if (change == netlink::Change::Present && handler_.workload_state) {
            handler_.workload_state(link.ifindex, link.up());
        } else if (change == netlink::Change::Gone && handler_.workload_gone) {
            handler_.workload_gone(link.ifindex);
        }
        return;
    }
    if (change == netlink::Change::Gone) {
        links_.erase(link.ifindex);
        addresses_.erase(link.ifindex);
    } else {
        links_[link.ifindex] = link;
    }
    ways_dirty_ = true;
    schedule();
}

void HostLinks::on_address(netlink::Change change, const netlink::AddressInfo& info) {
    auto link = links_.find(info.ifindex);
    if (link == links_.end()) {
        // A workload's device: its only address is link-local, and not a host's.
        if (change == netlink::Change::Gone && handler_.workload_routes) {
            handler_.workload_routes(info.ifindex);
        }
        return;
    }
    if (change == netlink::Change::Gone) {
        addresses_[info.ifindex].erase(info.address);
    } else {
        addresses_[info.ifindex].insert(info.address);
    }
    schedule();
}

void HostLinks::on_route(netlink::Change change, const netlink::Route& route) {
    if (route.ifindex != 0 && !links_.contains(route.ifindex)) {
        if (change == netlink::Change::Gone && handler_.workload_routes) {
            handler_.workload_routes(route.ifindex);
        }
        return;
    }
    ways_dirty_ = true;
    schedule();
}

void HostLinks::schedule() {
    if (settle_timer_) {
        return;
    }
    auto timer = loop_.add_timer(kSettle, [this] {
        settle_timer_ = {};
        settle();
    });
    if (timer) {
        settle_timer_ = std::move(*timer);
    } else {
        settle();
    }
}

void HostLinks::settle() {
    std::erase_if(links_, [](const auto& item) { return is_workload_device(item.second.name); });

    std::set<IpAddress> addresses;
    for (const auto& [ifindex, held] : addresses_) {
        if (!links_.contains(ifindex)) {
            continue;
        }
        for (const auto& address : held) {
            addresses.insert(address.address);
        }
    }
    if (addresses != host_addresses_) {
        host_addresses_ = std::move(addresses);
        handler_.host_addresses(host_addresses_);
    }

    for (auto it = uplinks_.begin(); it != uplinks_.end();) {
        auto link = links_.find(it->first);
        if (link == links_.end() || !is_uplink(link->second)) {
            handler_.uplink_gone(it->first);
            it = uplinks_.erase(it);
        } else {
            ++it;
        }
    }
    bool pending = false;
    for (const auto& [ifindex, link] : links_) {
        if (!is_uplink(link)) {
            continue;
        }
        auto& uplink = uplinks_[ifindex];
        uplink.link = link;
        if (uplink.attached) {
            continue;
        }
        auto attached = handler_.attach_uplink(link);
        uplink.attached = attached.has_value();
        auto trouble = attached ? std::string() : attached.error().text();
        if (attached) {
            log::get("links")->info("uplink attached device={} mtu={}", link.name, link.mtu);
        } else if (trouble != uplink.trouble) {
            log::get("links")->error("uplink not attached, retrying device={} reason=\"{}\"",
                                     link.name, trouble);
        }
        uplink.trouble = std::move(trouble);
        pending = pending || !uplink.attached;
    }
    retry_timer_ = {};
    if (pending) {
        if (auto timer = loop_.add_timer(kRetry, [this] { settle(); })) {
            retry_timer_ = std::move(*timer);
        }
    }
    if (ways_dirty_) {
        ways_dirty_ = false;
        handler_.ways_changed();
    }
}

} // namespace manx::dataplane
