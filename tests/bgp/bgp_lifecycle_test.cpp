// SPDX-License-Identifier: Apache-2.0
// A node and one router: what stays when the agent or BIRD goes, and what a peer sees of the rules.
#include "agent/bgp/render.h"
#include "tests/bgp/lab.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>
#include <unistd.h>

namespace manx::bgp {
namespace {

using namespace lab;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Cidr cidr(std::string_view text) {
    return Cidr::parse(text).value();
}

class OneRouter : public testing::Test {
protected:
    void TearDown() override { reset(); }

    void SetUp() override {
        if (geteuid() != 0) {
            GTEST_SKIP() << "needs the right to make network namespaces";
        }
        reset();
        add_ns("n");
        add_ns("r");
        add_link("n", "eth0", "r", "eth0");
        add_address("n", "eth0", "192.0.2.1/24");
        add_address("n", "eth0", "2001:db8::1/64");
        add_address("r", "eth0", "192.0.2.254/24");
        add_address("r", "eth0", "2001:db8::fe/64");

        in_.node_name = "n";
        Node self;
        self.name = "n";
        self.ipv4 = InterfaceAddress::parse("192.0.2.1/24").value();
        self.ipv6 = InterfaceAddress::parse("2001:db8::1/64").value();
        in_.nodes = {self};
        in_.settings.node_mesh = false;
        in_.settings.as_number = 64601;
        in_.pools = {{.name = "v4", .cidr = cidr("10.65.0.0/16")},
                     {.name = "v6", .cidr = cidr("fd00:65::/64")},
                     {.name = "hidden", .cidr = cidr("10.66.0.0/16"), .disable_bgp_export = true}};
        in_.blocks = {{cidr("10.65.0.64/26")}, {cidr("fd00:65::40/122")}};
        in_.timers = {
            .connect_delay = 1, .connect_retry = 1, .error_wait_min = 1, .error_wait_max = 2};
        in_.graceful_restart_wait = 30;
        for (const char* address : {"192.0.2.254", "2001:db8::fe"}) {
            Peer peer;
            peer.name = address;
            peer.peer_ip = IpAddress::parse(address).value();
            peer.as_number = 14907;
            peer.allowed_local_as = 1;
            peer.keepalive_time = std::chrono::seconds(3);
            in_.peers.push_back(std::move(peer));
        }
    }

    void set_peer_as(uint32_t as) {
        for (Peer& peer : in_.peers) {
            peer.as_number = as;
        }
    }

    [[nodiscard]] std::string config() const {
        auto rendered = render_bird_config(in_);
        EXPECT_TRUE(rendered) << rendered.error().text();
        return rendered ? rendered->text : "";
    }

    // extra: lines for both neighbors, with {0} for the address.
    static std::string frr(uint32_t as, const std::string& extra = "") {
        std::string text = fmt::format("router bgp {}\n bgp router-id 192.0.2.254\n"
                                       " no bgp ebgp-requires-policy\n"
                                       " no bgp network import-check\n"
                                       " no bgp default ipv4-unicast\n"
                                       " timers bgp 3 9\n",
                                       as);
        for (const char* address : {"192.0.2.1", "2001:db8::1"}) {
            text += fmt::format(" neighbor {0} remote-as 64601\n neighbor {0} timers connect 1\n",
                                address);
            text += fmt::format(fmt::runtime(extra), address);
        }
        text += " address-family ipv4 unicast\n  network 10.65.9.0/26\n"
                "  neighbor 192.0.2.1 activate\n"
                " exit-address-family\n"
                " address-family ipv6 unicast\n  network fd00:65::900/122\n"
                "  neighbor 2001:db8::1 activate\n"
                " exit-address-family\n";
        return text;
    }

    static size_t established(const Agent& agent) {
        std::string text = agent.birdc("show protocols");
        size_t count = 0;
        for (auto at = text.find("Established"); at != std::string::npos;
             at = text.find("Established", at + 1)) {
            count++;
        }
        return count;
    }

    static void expect_established(const Agent& agent, size_t count = 2) {
        EXPECT_TRUE(wait_for([&] { return established(agent) == count; }))
            << agent.birdc("show protocols all") << vtysh("r", "show bgp summary");
    }

    static std::string node_routes() {
        return sh_quiet("ip -n n -4 route show proto bird; ip -n n -6 route show proto bird");
    }

    // All four routes of the node that matter, both families: own and learned.
    static bool node_complete() {
        std::string routes = node_routes();
        for (const char* route : {"blackhole 10.65.0.64/26", "blackhole fd00:65::40/122",
                                  "10.65.9.0/26 via 192.0.2.254", "fd00:65::900/122 via"}) {
            if (routes.find(route) == std::string::npos) {
                return false;
            }
        }
        return true;
    }

    static bool router_complete() {
        return sh_quiet("ip -n r route").find("10.65.0.64/26") != std::string::npos &&
               sh_quiet("ip -n r -6 route").find("fd00:65::40/122") != std::string::npos;
    }

    // Watches both sides' kernels; false as soon as a route is missing.
    static bool complete_for(std::chrono::milliseconds time) {
        auto until = std::chrono::steady_clock::now() + time;
        while (std::chrono::steady_clock::now() < until) {
            if (!node_complete() || !router_complete()) {
                return false;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        return true;
    }

    static bool on_router(const std::string& prefix) {
        return vtysh("r", "show bgp ipv4 unicast " + prefix).find("64601") != std::string::npos;
    }

    Inputs in_;
};

TEST_F(OneRouter, AgentKilledAndReplacedLeavesSessionsAlone) {
    start_frr("r", frr(14907));
    Agent agent("n");
    agent.configure(config());
    agent.start();
    expect_established(agent);
    ASSERT_TRUE(wait_for([] { return node_complete() && router_complete(); })) << node_routes();
    int bird = agent.bird_pid();
    agent.kill9();
    EXPECT_TRUE(complete_for(std::chrono::seconds(2)));
    EXPECT_EQ(kill(bird, 0), 0) << "BIRD died with the agent";

    // While the agent was away a block came; the next agent finds the same BIRD and tells it.
    in_.blocks.push_back({cidr("10.65.1.0/26")});
    agent.configure(config());
    agent.start();
    EXPECT_TRUE(wait_for([] { return on_router("10.65.1.0/26"); }, 10))
        << vtysh("r", "show bgp ipv4 unicast");
    EXPECT_EQ(agent.bird_pid(), bird);
    EXPECT_THAT(vtysh("r", "show bgp neighbors 192.0.2.1"),
                HasSubstr("Connections established 1; dropped 0"));
    // A block that goes is withdrawn, and its blackhole with it.
    in_.blocks.pop_back();
    agent.configure(config());
    EXPECT_TRUE(wait_for([] { return !on_router("10.65.1.0/26"); }, 10));
    // For a moment the router still offers us our own prefix, with our AS once in its path.
    EXPECT_TRUE(
        wait_for([] { return node_routes().find("10.65.1.0/26") == std::string::npos; }, 10))
        << node_routes();
    EXPECT_THAT(vtysh("r", "show bgp neighbors 192.0.2.1"),
                HasSubstr("Connections established 1; dropped 0"));
    // An agent that ends in order takes BIRD with it as little.
    agent.stop();
    EXPECT_EQ(kill(bird, 0), 0);
    EXPECT_TRUE(node_complete());
}

// A router of FRR keeps forwarding to a node whose BIRD restarts.
TEST_F(OneRouter, BirdKilledKeepsTheRoutersRoutes) {
    start_frr("r", frr(14907));
    Agent agent("n");
    agent.configure(config());
    agent.start();
    expect_established(agent);
    ASSERT_TRUE(wait_for([] { return node_complete() && router_complete(); })) << node_routes();
    int first = agent.bird_pid();
    kill(first, SIGKILL);
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(6);
    while (std::chrono::steady_clock::now() < until) {
        ASSERT_TRUE(router_complete()) << sh("ip -n r route") << sh("ip -n r -6 route");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    expect_established(agent);
    EXPECT_NE(agent.bird_pid(), first);
    EXPECT_TRUE(wait_for(node_complete)) << node_routes();
}

TEST_F(OneRouter, RefusedConfigurationLeavesTheLastGoodOne) {
    start_frr("r", frr(14907));
    Agent agent("n");
    std::string good = config();
    agent.configure(good);
    agent.start();
    expect_established(agent);
    agent.configure(good + "protocol nonsense {}\n");
    EXPECT_TRUE(wait_for([&] { return !agent.error().empty(); }, 10));
    EXPECT_THAT(agent.error(), AllOf(HasSubstr("last good one stays"), HasSubstr("syntax error")));
    EXPECT_EQ(established(agent), 2U);
    EXPECT_THAT(sh("cat " + agent.paths().config), Not(HasSubstr("nonsense")));
    in_.blocks.push_back({cidr("10.65.1.0/26")});
    agent.configure(config());
    EXPECT_TRUE(wait_for([] { return on_router("10.65.1.0/26"); }, 10));
    EXPECT_EQ(agent.error(), "");
}

TEST_F(OneRouter, PasswordMustMatch) {
    start_frr("r", frr(14907, " neighbor {0} password s3cret\n"));
    Agent agent("n");
    for (Peer& peer : in_.peers) {
        peer.password = "wrong";
    }
    agent.configure(config());
    agent.start();
    EXPECT_FALSE(wait_for([&] { return established(agent) > 0; }, 4));
    for (Peer& peer : in_.peers) {
        peer.password = "s3cret";
    }
    agent.configure(config());
    expect_established(agent);
}

TEST_F(OneRouter, PeerThatGoesTakesItsRoutes) {
    start_frr("r", frr(14907));
    Agent agent("n");
    agent.configure(config());
    agent.start();
    expect_established(agent);
    ASSERT_TRUE(wait_for(node_complete)) << node_routes();
    vtysh("r", "-c 'configure terminal' -c 'router bgp 14907' -c 'neighbor 192.0.2.1 shutdown'");
    EXPECT_TRUE(wait_for([] { return node_routes().find("10.65.9.0/26") == std::string::npos; }))
        << node_routes();
    EXPECT_THAT(node_routes(),
                AllOf(HasSubstr("blackhole 10.65.0.64/26"), HasSubstr("fd00:65::900/122")));
    vtysh("r", "-c 'configure terminal' -c 'router bgp 14907' -c 'no neighbor 192.0.2.1 shutdown'");
    EXPECT_TRUE(wait_for(node_complete)) << node_routes();
}

// The rules of export as an internal peer sees them, with LOCAL_PREF.
TEST_F(OneRouter, ExportRulesOnTheWire) {
    set_peer_as(64601);
    in_.blocks.push_back({cidr("10.65.7.0/26"), BlockState::PendingDeletion});
    start_frr("r", frr(64601));
    Agent agent("n");
    agent.configure(config());
    agent.start();
    expect_established(agent);
    auto pod = [](const std::string& address, const std::string& tail) {
        sh_quiet("ip -n n link add cali" + tail + " type veth peer name peer" + tail);
        sh_quiet("ip -n n link set cali" + tail + " up; ip -n n link set peer" + tail + " up");
        return "ip -n n route replace " + address + " dev cali" + tail + " proto boot ";
    };
    sh(pod("10.65.0.65/32", "a"));                 // in the own block, metric not set
    sh(pod("10.65.0.66/32", "b") + "metric 1024"); // the same, as Calico sets it
    sh(pod("10.65.0.67/32", "c") + "metric 512");  // moving here
    sh(pod("10.65.7.5/32", "g"));                  // in the block that is given back
    sh(pod("10.65.200.1/32", "d"));                // borrowed from another node's block
    sh(pod("10.66.0.1/32", "e"));                  // of a pool that is not exported
    sh(pod("198.51.100.1/32", "f"));               // of no pool
    auto table = [] { return vtysh("r", "show bgp ipv4 unicast json"); };
    EXPECT_TRUE(wait_for([&] {
        auto text = table();
        return text.find("10.65.200.1/32") != std::string::npos &&
               text.find("10.65.0.67/32") != std::string::npos &&
               text.find("10.65.0.64/26") != std::string::npos;
    })) << table()
        << agent.birdc("show route all");
    std::string text = table();
    for (const char* prefix : {"10.65.0.65/32", "10.65.0.66/32", "10.66.0.1/32", "198.51.100.1/32",
                               "192.0.2.0/24\":[{\"valid\""}) {
        EXPECT_THAT(text, Not(HasSubstr(prefix)));
    }
    EXPECT_THAT(vtysh("r", "show bgp ipv4 unicast 10.65.0.64/26"),
                HasSubstr("localpref 2147482623"));
    EXPECT_THAT(vtysh("r", "show bgp ipv4 unicast 10.65.200.1/32"),
                HasSubstr("localpref 2147482623"));
    EXPECT_THAT(vtysh("r", "show bgp ipv4 unicast 10.65.0.67/32"),
                HasSubstr("localpref 2147483135"));
    // A block that is being given back aggregates no more, and keeps its blackhole until it goes.
    EXPECT_THAT(text, HasSubstr("10.65.7.5/32"));
    EXPECT_THAT(node_routes(), HasSubstr("blackhole 10.65.7.0/26"));
    // A pod that goes is withdrawn at once, without a scan.
    sh("ip -n n route del 10.65.200.1/32");
    EXPECT_TRUE(wait_for([&] { return table().find("10.65.200.1/32") == std::string::npos; }, 5));
}

std::string gobgp_config() {
    std::string config_text = "[global.config]\n  as = 14907\n  router-id = \"192.0.2.254\"\n";
    for (auto [address, family] : {std::pair{"192.0.2.1", "ipv4"}, {"2001:db8::1", "ipv6"}}) {
        config_text += fmt::format(
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n"
            "    peer-as = 64601\n"
            "  [neighbors.timers.config]\n    connect-retry = 1\n    hold-time = 9\n"
            "    idle-hold-time-after-reset = 1\n"
            "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60\n"
            "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n"
            "      afi-safi-name = \"{}-unicast\"\n"
            "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n",
            address, family);
    }
    return config_text;
}

TEST_F(OneRouter, GoBgpAsThePeer) {
    start_gobgp("r", gobgp_config());
    in_.settings.prefix_advertisements = {
        {cidr("10.65.0.0/16"), {Community::parse("14907:14").value()}},
        {cidr("fd00:65::/64"), {Community::parse("14907:14").value()}}};
    Agent agent("n");
    agent.configure(config());
    agent.start();
    EXPECT_TRUE(wait_for([&] { return established(agent) == 2; }))
        << agent.birdc("show protocols all") << sh_quiet("cat /run/gobgp-r/log");
    EXPECT_TRUE(wait_for([] {
        return gobgp("r", "global rib").find("10.65.0.64/26") != std::string::npos &&
               gobgp("r", "global rib -a ipv6").find("fd00:65::40/122") != std::string::npos;
    })) << gobgp("r", "global rib");
    EXPECT_THAT(gobgp("r", "global rib"), AllOf(HasSubstr("64601"), HasSubstr("14907:14")));
    EXPECT_THAT(gobgp("r", "global rib -a ipv6"), HasSubstr("14907:14"));
    // Another node's route: with its AS, that is ours too, in the path.
    gobgp("r", "global rib add 10.65.9.0/26 aspath 65001 community 14907:14");
    gobgp("r", "global rib add -a ipv6 fd00:65::900/122 aspath 65001 nexthop 2001:db8::fe");
    ASSERT_TRUE(wait_for(node_complete)) << node_routes() << agent.birdc("show route all");

    // BIRD is killed: the node's own kernel keeps every route until BIRD has them again, and the
    // peer keeps the node's.
    int first = agent.bird_pid();
    kill(first, SIGKILL);
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(6);
    while (std::chrono::steady_clock::now() < until) {
        ASSERT_TRUE(node_complete()) << node_routes() << sh("tail -20 /run/manx-n/bird.log");
        ASSERT_THAT(gobgp("r", "global rib"), HasSubstr("10.65.0.64/26"));
    }
    EXPECT_TRUE(wait_for([&] { return established(agent) == 2; }));
    EXPECT_NE(agent.bird_pid(), first);
    EXPECT_TRUE(wait_for([&] {
        return agent.birdc("show status").find("Graceful restart") == std::string::npos;
    })) << agent.birdc("show status");
    EXPECT_TRUE(wait_for(node_complete)) << node_routes();
}

} // namespace
} // namespace manx::bgp
