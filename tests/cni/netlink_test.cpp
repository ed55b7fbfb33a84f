// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/monitor.h"
#include "agent/netlink/neighbor.h"
#include "agent/netlink/netns.h"
#include "agent/netlink/route.h"
#include "agent/netlink/sysctl.h"
#include "tests/cni/netns_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/if_link.h>
#include <linux/ip.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace manx::netlink {
namespace {

const MacAddress kHostMac{{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};

class Netlink : public test::NetnsTest {
protected:
    void SetUp() override {
        NetnsTest::SetUp();
        if (IsSkipped() || HasFatalFailure()) {
            return;
        }
        auto pod = test::new_netns();
        ASSERT_TRUE(pod) << pod.error().text();
        pod_ = std::move(*pod);
        auto socket = Socket::open();
        ASSERT_TRUE(socket) << socket.error().text();
        socket_.emplace(std::move(*socket));
        auto inside = Socket::open_in(pod_.get());
        ASSERT_TRUE(inside) << inside.error().text();
        inside_.emplace(std::move(*inside));
    }

    LinkInfo make(const std::string& name) {
        VethSpec spec{.name = name,
                      .mac = kHostMac,
                      .peer_name = "eth0",
                      .peer_mac = {},
                      .peer_netns = pod_.get(),
                      .mtu = 1450,
                      .group = 0};
        auto made = socket_->send(create_veth(spec));
        EXPECT_TRUE(made) << made.error().text();
        auto found = find_link(*socket_, name);
        EXPECT_TRUE(found) << found.error().text();
        return found.value_or(LinkInfo{});
    }

    void up(Socket& socket, uint32_t ifindex) {
        auto done = socket.send(change_link(
            ifindex,
            {.up = true, .mtu = {}, .group = {}, .ipv4_settings = {}, .ipv6_address_mode = {}}));
        ASSERT_TRUE(done) << done.error().text();
    }

    UniqueFd pod_;
    std::optional<Socket> socket_;
    std::optional<Socket> inside_;
};

TEST_F(Netlink, veth_is_made_with_its_peer_in_the_pod) {
    const LinkInfo host = make("cali0");
    EXPECT_EQ(host.kind, "veth");
    EXPECT_EQ(host.mac, kHostMac);
    EXPECT_EQ(host.mtu, 1450U);
    EXPECT_FALSE(host.up());
    EXPECT_TRUE(host.peer_elsewhere);
    auto peer = find_link(*inside_, "eth0");
    ASSERT_TRUE(peer) << peer.error().text();
    EXPECT_EQ(peer->ifindex, host.peer_ifindex);
    EXPECT_EQ(peer->mtu, 1450U);

    up(*socket_, host.ifindex);
    up(*inside_, peer->ifindex);
    EXPECT_TRUE(find_link(*socket_, "cali0")->running());

    ASSERT_TRUE(socket_->send(delete_link(host.ifindex)));
    auto gone = find_link(*socket_, "cali0");
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().kind, ErrorKind::NotFound);
    EXPECT_FALSE(find_link(*inside_, "eth0"));
}

TEST_F(Netlink, taken_name_is_refused_with_the_name_in_the_message) {
    make("cali0");
    auto again = socket_->send(create_veth({.name = "cali0",
                                            .mac = {},
                                            .peer_name = "eth1",
                                            .peer_mac = {},
                                            .peer_netns = pod_.get(),
                                            .mtu = 0,
                                            .group = 0}));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().err, EEXIST);
    EXPECT_THAT(again.error().text(), testing::HasSubstr("cali0"));
}

TEST_F(Netlink, settings_addresses_routes_and_neighbours) {
    const LinkInfo host = make("cali0");
    auto peer = find_link(*inside_, "eth0");
    ASSERT_TRUE(peer);
    const auto gateway = *IpAddress::parse("169.254.1.1");
    const auto gateway6 = *IpAddress::parse("fe80::ecee:eeff:feee:eeee");
    const auto v4 = *IpAddress::parse("192.0.2.5");
    const auto v6 = *IpAddress::parse("2001:db8::5");
    std::vector<Message> node;
    node.push_back(change_link(host.ifindex, {.up = true,
                                              .mtu = {},
                                              .group = {},
                                              .ipv4_settings = {{IPV4_DEVCONF_PROXY_ARP, 1}},
                                              .ipv6_address_mode = {}}));
    for (const auto& address : {v4, v6}) {
        node.push_back(add_route({.destination = Cidr::host(address),
                                  .ifindex = host.ifindex,
                                  .gateway = {},
                                  .source = {},
                                  .scope = address.is_v4() ? kScopeLink : kScopeUniverse,
                                  .metric = 1024}));
    }
    auto done = socket_->send(node);
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(read_sysctl("net/ipv4/conf/cali0/proxy_arp").value_or("?"), "1");

    std::vector<Message> pod;
    pod.push_back(change_link(
        peer->ifindex,
        {.up = true, .mtu = {}, .group = {}, .ipv4_settings = {}, .ipv6_address_mode = {}}));
    pod.push_back(add_address(peer->ifindex, {v4, 32}));
    pod.push_back(add_address(peer->ifindex, {v6, 128}));
    pod.push_back(set_permanent_neighbor(peer->ifindex, gateway, kHostMac));
    pod.push_back(set_permanent_neighbor(peer->ifindex, gateway6, kHostMac));
    pod.push_back(add_route({.destination = Cidr::host(gateway),
                             .ifindex = peer->ifindex,
                             .gateway = {},
                             .source = {},
                             .scope = kScopeLink}));
    pod.push_back(add_route({.destination = *Cidr::parse("0.0.0.0/0"),
                             .ifindex = peer->ifindex,
                             .gateway = gateway,
                             .source = {}}));
    pod.push_back(add_route({.destination = *Cidr::parse("::/0"),
                             .ifindex = peer->ifindex,
                             .gateway = gateway6,
                             .source = {}}));
    done = inside_->send(pod);
    ASSERT_TRUE(done) << done.error().text();

    auto routes = list_routes(*socket_, {.family = Family::V4,
                                         .table = kTableMain,
                                         .ifindex = host.ifindex,
                                         .protocol = kProtocolBoot});
    ASSERT_TRUE(routes) << routes.error().text();
    ASSERT_EQ(routes->size(), 1U);
    EXPECT_EQ(routes->front().destination.text(), "192.0.2.5/32");
    EXPECT_EQ(routes->front().metric, 1024U);
    EXPECT_EQ(routes->front().scope, kScopeLink);

    auto neighbors = list_neighbors(*inside_, peer->ifindex);
    ASSERT_TRUE(neighbors);
    EXPECT_EQ(std::count_if(neighbors->begin(), neighbors->end(),
                            [](const auto& n) { return n.permanent() && n.mac == kHostMac; }),
              2);
    auto addresses = list_addresses(*inside_, peer->ifindex);
    ASSERT_TRUE(addresses);
    EXPECT_TRUE(std::any_of(addresses->begin(), addresses->end(),
                            [&](const auto& a) { return a.address.address == v6; }));
}

TEST_F(Netlink, blackhole_route_is_replaced_and_deleted_twice) {
    const Route hole{.destination = *Cidr::parse("192.0.2.64/26"),
                     .type = RouteType::Blackhole,
                     .gateway = {},
                     .source = {},
                     .protocol = kProtocolCalico};
    ASSERT_TRUE(socket_->send(add_route(hole)));
    EXPECT_FALSE(socket_->send(add_route(hole)));
    EXPECT_TRUE(socket_->send(replace_route(hole)));
    auto routes = list_routes(
        *socket_,
        {.family = Family::V4, .table = kTableMain, .ifindex = 0, .protocol = kProtocolCalico});
    ASSERT_TRUE(routes);
    ASSERT_EQ(routes->size(), 1U);
    EXPECT_EQ(routes->front().type, RouteType::Blackhole);
    EXPECT_TRUE(socket_->send(delete_route(hole)));
    EXPECT_TRUE(socket_->send(delete_route(hole)));
}

TEST_F(Netlink, a_group_of_devices_goes_at_once) {
    std::vector<Message> requests;
    for (int i = 0; i < 100; ++i) {
        requests.push_back(create_veth({.name = "cali" + std::to_string(i),
                                        .mac = {},
                                        .peer_name = "p" + std::to_string(i),
                                        .peer_mac = {},
                                        .peer_netns = pod_.get(),
                                        .mtu = 0,
                                        .group = 77}));
    }
    auto made = socket_->send(requests);
    ASSERT_TRUE(made) << made.error().text();
    ASSERT_TRUE(socket_->send(delete_group(77)));
    auto links = list_links(*socket_);
    ASSERT_TRUE(links);
    EXPECT_TRUE(
        std::none_of(links->begin(), links->end(), [](const auto& l) { return l.kind == "veth"; }));
}

TEST_F(Netlink, monitor_tells_of_devices_addresses_and_routes) {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    bool link = false;
    bool address = false;
    bool route = false;
    bool gone = false;
    MonitorHandler handler;
    handler.link = [&](Change change, const LinkInfo& info) {
        if (info.name == "cali0") {
            link = link || change == Change::Present;
            gone = gone || change == Change::Gone;
        }
        if (gone) {
            (*loop)->quit();
        }
    };
    handler.address = [&](Change, const AddressInfo& info) {
        address = address || info.address.text() == "2001:db8::1/128";
    };
    handler.route = [&](Change, const Route& info) {
        route = route || info.destination.text() == "192.0.2.9/32";
    };
    auto monitor = Monitor::open(**loop, std::move(handler));
    ASSERT_TRUE(monitor) << monitor.error().text();
    const LinkInfo host = make("cali0");
    up(*socket_, host.ifindex);
    ASSERT_TRUE(
        socket_->send(add_address(host.ifindex, *InterfaceAddress::parse("2001:db8::1/128"))));
    ASSERT_TRUE(socket_->send(add_route({.destination = *Cidr::parse("192.0.2.9/32"),
                                         .ifindex = host.ifindex,
                                         .gateway = {},
                                         .source = {},
                                         .scope = kScopeLink})));
    ASSERT_TRUE(socket_->send(delete_link(host.ifindex)));
    auto timeout = (*loop)->add_timer(std::chrono::seconds(10), [&] { (*loop)->quit(1); });
    ASSERT_TRUE(timeout);
    EXPECT_EQ((*loop)->run(), 0);
    EXPECT_TRUE(link);
    EXPECT_TRUE(address);
    EXPECT_TRUE(route);
}

TEST_F(Netlink, sysctl_of_the_visited_namespace) {
    {
        auto scope = NetnsScope::enter(pod_.get());
        ASSERT_TRUE(scope);
        ASSERT_TRUE(write_sysctl("net/ipv4/ip_forward", "1"));
    }
    ASSERT_TRUE(write_sysctl("net/ipv4/ip_forward", "0"));
    auto scope = NetnsScope::enter(pod_.get());
    ASSERT_TRUE(scope);
    EXPECT_EQ(read_sysctl("net/ipv4/ip_forward").value_or("?"), "1");
    auto missing = write_sysctl("net/ipv4/conf/none/forwarding", "1");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().kind, ErrorKind::NotFound);
}

TEST(NetlinkNames, device_names) {
    EXPECT_TRUE(check_device_name("eth0", "CNI_IFNAME"));
    for (const char* bad : {"", "a/b", "a b", "a:b", "..", "sixteen-bytes-xx"}) {
        auto checked = check_device_name(bad, "CNI_IFNAME");
        ASSERT_FALSE(checked) << bad;
        EXPECT_THAT(checked.error().message, testing::HasSubstr("CNI_IFNAME"));
    }
}

} // namespace
} // namespace manx::netlink
