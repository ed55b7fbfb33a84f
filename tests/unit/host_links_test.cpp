// SPDX-License-Identifier: Apache-2.0
// HostLinks against the kernel, in a network namespace of its own.
#include "agent/dataplane/host_links.h"
#include "agent/dataplane/host_settings.h"
#include "agent/netlink/sysctl.h"

#include <gtest/gtest.h>

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <functional>
#include <sched.h>
#include <thread>

namespace manx::dataplane {
namespace {

using std::chrono::milliseconds;

// Runs body in a thread with a new network namespace, which vanishes with it.
bool in_new_namespace(const std::function<void()>& body) {
    bool entered = false;
    std::thread([&] {
        entered = unshare(CLONE_NEWNET) == 0;
        if (entered) {
            body();
        }
    }).join();
    return entered;
}

Result<uint32_t> make_veth(netlink::Socket& socket, const std::string& name) {
    netlink::VethSpec spec;
    spec.name = name;
    spec.peer_name = name + "p";
    TRY(socket.send(netlink::create_veth(spec)));
    TRY_ASSIGN(auto link, netlink::find_link(socket, name));
    netlink::LinkChange up;
    up.up = true;
    TRY(socket.send(netlink::change_link(link.ifindex, up)));
    return link.ifindex;
}

struct Seen {
    std::set<std::string> attached;
    int gone = 0;
    int ways = 0;
    std::vector<std::string> workload;
    std::set<IpAddress> addresses;
    bool refuse = false;
};

HostLinksHandler handler_of(Seen& seen) {
    HostLinksHandler handler;
    handler.attach_uplink = [&](const netlink::LinkInfo& link) -> Result<void> {
        if (seen.refuse) {
            return fail(ErrorKind::ConfigReality, "not now");
        }
        seen.attached.insert(link.name);
        return {};
    };
    handler.uplink_gone = [&](uint32_t) { seen.gone++; };
    handler.host_addresses = [&](const std::set<IpAddress>& a) { seen.addresses = a; };
    handler.ways_changed = [&] { seen.ways++; };
    handler.workload_routes = [&](uint32_t) { seen.workload.emplace_back("routes"); };
    handler.workload_hooks = [&](uint32_t) { seen.workload.emplace_back("hooks"); };
    handler.workload_state = [&](uint32_t, bool up) {
        seen.workload.emplace_back(up ? "up" : "down");
    };
    handler.workload_gone = [&](uint32_t) { seen.workload.emplace_back("gone"); };
    return handler;
}

// Turns the loop until the condition holds; false after two seconds.
bool turn_until(EventLoop& loop, const std::function<bool()>& condition) {
    bool met = false;
    auto check = loop.add_periodic(milliseconds(2), [&] {
        met = condition();
        if (met) {
            loop.quit();
        }
    });
    auto limit = loop.add_timer(std::chrono::seconds(2), [&] { loop.quit(); });
    (void)loop.run();
    return met;
}

TEST(HostLinks, AttachesByNameAndByNodeAddress) {
    bool entered = in_new_namespace([] {
        auto socket = netlink::Socket::open();
        ASSERT_TRUE(socket);
        auto eth0 = make_veth(*socket, "eth0");
        auto mgmt = make_veth(*socket, "mgmt");
        auto pod = make_veth(*socket, "cali1234567");
        ASSERT_TRUE(eth0 && mgmt && pod);
        auto address = InterfaceAddress::parse("2001:db8::5/64");
        ASSERT_TRUE(socket->send(netlink::add_address(*mgmt, *address)));
        auto loop = EventLoop::create();
        Seen seen;
        auto links = HostLinks::create(**loop, "eth.*", handler_of(seen));
        ASSERT_TRUE(links) << links.error().text();
        EXPECT_EQ(seen.attached, (std::set<std::string>{"eth0", "eth0p"}));
        EXPECT_TRUE(seen.addresses.contains(address->address));
        (*links)->set_node_addresses({address->address});
        EXPECT_EQ(seen.attached, (std::set<std::string>{"eth0", "eth0p", "mgmt"}));
        EXPECT_EQ((*links)->prefix_length(address->address), 64U);
    });
    if (!entered) {
        GTEST_SKIP() << "no right to make a network namespace";
    }
}

TEST(HostLinks, TellsWhatHappensToWorkloadsDevices) {
    bool entered = in_new_namespace([] {
        auto socket = netlink::Socket::open();
        ASSERT_TRUE(socket);
        auto pod = make_veth(*socket, "cali1234567");
        ASSERT_TRUE(pod);
        auto loop = EventLoop::create();
        Seen seen;
        auto links = HostLinks::create(**loop, "eth0", handler_of(seen));
        ASSERT_TRUE(links) << links.error().text();
        netlink::Message qdisc(RTM_NEWQDISC, NLM_F_CREATE, "ingress qdisc");
        tcmsg fixed{};
        fixed.tcm_ifindex = static_cast<int>(*pod);
        fixed.tcm_parent = TC_H_INGRESS;
        qdisc.append(fixed);
        qdisc.put_string(TCA_KIND, "ingress");
        ASSERT_TRUE(socket->send(std::move(qdisc)));
        auto address = InterfaceAddress::parse("fe80::5/64");
        ASSERT_TRUE(socket->send(netlink::add_address(*pod, *address)));
        ASSERT_TRUE(socket->send(netlink::delete_address(*pod, *address)));
        netlink::LinkChange change;
        change.up = false;
        ASSERT_TRUE(socket->send(netlink::change_link(*pod, change)));
        change.up = true;
        ASSERT_TRUE(socket->send(netlink::change_link(*pod, change)));
        ASSERT_TRUE(socket->send(netlink::delete_link(*pod)));
        const auto told = [&](const char* what) {
            return std::ranges::count(seen.workload, what) > 0;
        };
        EXPECT_TRUE(turn_until(**loop, [&] { return told("gone"); }));
        for (const char* what : {"hooks", "routes", "down", "up"}) {
            EXPECT_TRUE(told(what)) << what;
        }
    });
    if (!entered) {
        GTEST_SKIP() << "no right to make a network namespace";
    }
}

TEST(HostLinks, RetriesAndFollowsTheKernel) {
    bool entered = in_new_namespace([] {
        auto socket = netlink::Socket::open();
        ASSERT_TRUE(socket);
        auto loop = EventLoop::create();
        Seen seen;
        seen.refuse = true;
        auto links = HostLinks::create(**loop, "eth0", handler_of(seen));
        ASSERT_TRUE(links);
        auto eth0 = make_veth(*socket, "eth0");
        ASSERT_TRUE(eth0);
        ASSERT_TRUE(turn_until(**loop, [&] { return (*links)->uplinks().contains(*eth0); }));
        EXPECT_FALSE((*links)->uplinks().at(*eth0).attached);
        EXPECT_EQ((*links)->uplinks().at(*eth0).trouble, "not now");
        seen.refuse = false;

        loop = EventLoop::create();
        links = HostLinks::create(**loop, "eth0", handler_of(seen));
        ASSERT_TRUE(links);
        EXPECT_TRUE(seen.attached.contains("eth0"));
        int ways = seen.ways;
        netlink::Route route;
        route.destination = *Cidr::parse("192.0.2.0/24");
        route.ifindex = *eth0;
        route.scope = netlink::kScopeLink;
        ASSERT_TRUE(socket->send(netlink::add_route(route)));
        loop = EventLoop::create();
        links = HostLinks::create(**loop, "eth0", handler_of(seen));
        EXPECT_GT(seen.ways, ways);
        ASSERT_TRUE(socket->send(netlink::delete_link(*eth0)));
        EXPECT_TRUE(turn_until(**loop, [&] { return seen.gone == 1; }));
    });
    if (!entered) {
        GTEST_SKIP() << "no right to make a network namespace";
    }
}

TEST(HostLinks, PatternThatIsNoExpressionIsNamed) {
    auto loop = EventLoop::create();
    Seen seen;
    auto links = HostLinks::create(**loop, "eth(", handler_of(seen));
    ASSERT_FALSE(links);
    EXPECT_NE(links.error().text().find("uplinks: \"eth(\""), std::string::npos);
}

TEST(HostSettings, ForwardingIsOnAndAdvertisementsStay) {
    bool entered = in_new_namespace([] {
        auto socket = netlink::Socket::open();
        ASSERT_TRUE(socket);
        ASSERT_TRUE(make_veth(*socket, "eth0"));
        // /proc/sys/net follows the thread's namespace.
        ASSERT_TRUE(netlink::write_sysctl("net/ipv6/conf/eth0/accept_ra", "1"));
        auto applied = apply_host_settings();
        ASSERT_TRUE(applied) << applied.error().text();
        EXPECT_EQ(*netlink::read_sysctl("net/ipv4/ip_forward"), "1");
        EXPECT_EQ(*netlink::read_sysctl("net/ipv6/conf/all/forwarding"), "1");
        EXPECT_EQ(*netlink::read_sysctl("net/ipv6/conf/eth0/accept_ra"), "2");
        ASSERT_TRUE(apply_uplink_settings("eth0"));
        EXPECT_EQ(*netlink::read_sysctl("net/ipv4/conf/eth0/rp_filter"), "2");
    });
    if (!entered) {
        GTEST_SKIP() << "no right to make a network namespace";
    }
}

} // namespace
} // namespace manx::dataplane
