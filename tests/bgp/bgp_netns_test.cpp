// SPDX-License-Identifier: Apache-2.0
// BIRD as the agent runs it, against FRR and GoBGP, in the topology of the wikikube scenario: two
// racks with a switch each, and a row behind two core routers that are peers by their loopbacks.
#include "agent/bgp/render.h"
#include "tests/bgp/lab.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <sstream>
#include <unistd.h>

namespace manx::bgp {
namespace {

using namespace lab;
using testing::HasSubstr;
using testing::Not;

Cidr cidr(std::string_view text) {
    return Cidr::parse(text).value();
}

Node node(std::string name, std::string_view v4, std::string_view v6) {
    Node n;
    n.name = std::move(name);
    n.ipv4 = InterfaceAddress::parse(v4).value();
    n.ipv6 = InterfaceAddress::parse(v6).value();
    return n;
}

// One node's inputs, as the scenario's objects give them.
Inputs wikikube(const std::string& name) {
    Inputs in;
    in.node_name = name;
    in.nodes = {node("w1", "10.64.133.10/24", "2620:0:861:10c:10:64:133:10/64"),
                node("w2", "10.64.130.20/24", "2620:0:861:109:10:64:130:20/64"),
                node("k3", "10.64.16.55/22", "2620:0:861:102:10:64:16:55/64")};
    in.settings.as_number = 64601;
    in.settings.node_mesh = false;
    in.settings.prefix_advertisements = {
        {cidr("10.67.128.0/17"), {Community::parse("14907:14").value()}},
        {cidr("2620:0:861:cabe::/64"), {Community::parse("14907:14").value()}}};
    in.pools = {{.name = "ipv4", .cidr = cidr("10.67.128.0/17")},
                {.name = "ipv6", .cidr = cidr("2620:0:861:cabe::/64")}};
    in.timers = {.connect_delay = 1, .connect_retry = 2, .error_wait_min = 1, .error_wait_max = 2};
    in.graceful_restart_wait = 20;
    auto peer = [&](std::string_view on, std::string_view address) {
        Peer p;
        p.name = std::string(on) + "-" + std::string(address);
        p.node = on;
        p.peer_ip = IpAddress::parse(address).value();
        p.as_number = 14907;
        p.allowed_local_as = 1;
        p.keepalive_time = std::chrono::seconds(3);
        in.peers.push_back(std::move(p));
    };
    peer("w1", "10.64.133.1");
    peer("w1", "2620:0:861:10c::1");
    peer("w2", "10.64.130.1");
    peer("w2", "2620:0:861:109::1");
    for (const char* router :
         {"208.80.154.196", "208.80.154.197", "2620:0:861:ffff::1", "2620:0:861:ffff::2"}) {
        peer("k3", router);
    }
    if (name == "w1") {
        in.blocks = {{cidr("10.67.128.0/26")}, {cidr("2620:0:861:cabe::/122")}};
    } else if (name == "w2") {
        in.blocks = {{cidr("10.67.130.0/26")}, {cidr("2620:0:861:cabe::100/122")}};
    } else {
        in.blocks = {{cidr("10.67.128.64/26")}, {cidr("2620:0:861:cabe::40/122")}};
    }
    return in;
}

std::string config(const Inputs& inputs) {
    auto rendered = render_bird_config(inputs);
    EXPECT_TRUE(rendered) << rendered.error().text();
    return rendered ? rendered->text : "";
}

// The parts of a router's configuration that all of them share.
std::string frr_common(const std::string& router_id, const std::string& neighbors,
                       const std::string& v4, const std::string& v6) {
    return fmt::format("ip prefix-list PODS seq 5 permit 10.67.128.0/17 ge 18\n"
                       "ipv6 prefix-list PODS6 seq 5 permit 2620:0:861:cabe::/64 ge 65\n"
                       "router bgp 14907\n"
                       " bgp router-id {}\n"
                       " no bgp ebgp-requires-policy\n"
                       " no bgp default ipv4-unicast\n"
                       " bgp graceful-restart-disable\n"
                       " timers bgp 3 9\n"
                       "{} address-family ipv4 unicast\n{} exit-address-family\n"
                       " address-family ipv6 unicast\n{} exit-address-family\n",
                       router_id, neighbors, v4, v6);
}

class Wikikube : public testing::Test {
protected:
    void TearDown() override { reset(); }

    void SetUp() override {
        if (geteuid() != 0) {
            GTEST_SKIP() << "needs the right to make network namespaces";
        }
        reset();
        for (const char* ns : {"w1", "w2", "k3", "lsw1", "lsw2", "cr1", "cr2"}) {
            add_ns(ns);
        }
        rack("w1", "lsw1", "10.64.133.", "10", "2620:0:861:10c:", "10:64:133:10");
        rack("w2", "lsw2", "10.64.130.", "20", "2620:0:861:109:", "10:64:130:20");
        add_link("k3", "eno1", "cr1", "row-a");
        add_address("k3", "eno1", "10.64.16.55/22");
        add_address("k3", "eno1", "2620:0:861:102:10:64:16:55/64");
        add_address("cr1", "row-a", "10.64.16.1/22");
        add_address("cr1", "row-a", "2620:0:861:102::1/64");
        sh("ip -n k3 route add default via 10.64.16.1 dev eno1 onlink");
        sh("ip -n k3 route add default via 2620:0:861:102::1 dev eno1");
        core_link("lsw1", "cr1", 1);
        core_link("lsw2", "cr1", 2);
        core_link("lsw1", "cr2", 3);
        core_link("lsw2", "cr2", 4);
        core_link("cr1", "cr2", 5);
        for (int i : {1, 2}) {
            auto cr = fmt::format("cr{}", i);
            add_address(cr, "lo", fmt::format("208.80.154.{}/32", 195 + i));
            add_address(cr, "lo", fmt::format("2620:0:861:ffff::{}/128", i));
        }
        // What an interior routing protocol would do: loopbacks, and the row behind cr1.
        sh("ip -n cr1 route add 208.80.154.197/32 via 10.66.5.2");
        sh("ip -n cr1 route add 2620:0:861:ffff::2/128 via fd66:5::2");
        sh("ip -n cr2 route add 208.80.154.196/32 via 10.66.5.1");
        sh("ip -n cr2 route add 2620:0:861:ffff::1/128 via fd66:5::1");
        sh("ip -n cr2 route add 10.64.16.0/22 via 10.66.5.1");
        sh("ip -n cr2 route add 2620:0:861:102::/64 via fd66:5::1");
    }

    static void rack(const std::string& node, const std::string& lsw, const std::string& v4,
                     const std::string& host4, const std::string& v6, const std::string& host6) {
        add_link(node, "eno1", lsw, "rack");
        add_address(node, "eno1", v4 + host4 + "/24");
        add_address(node, "eno1", v6 + host6 + "/64");
        add_address(lsw, "rack", v4 + "1/24");
        add_address(lsw, "rack", v6 + ":1/64");
        sh(fmt::format("ip -n {} route add default via {}1", node, v4));
        sh(fmt::format("ip -n {} route add default via {}:1", node, v6));
    }

    static void core_link(const std::string& a, const std::string& b, int number) {
        add_link(a, "to-" + b, b, "to-" + a);
        for (int end : {1, 2}) {
            const auto& ns = end == 1 ? a : b;
            auto interface = "to-" + (end == 1 ? b : a);
            add_address(ns, interface, fmt::format("10.66.{}.{}/30", number, end));
            add_address(ns, interface, fmt::format("fd66:{}::{}/64", number, end));
        }
    }

    // Between the core routers a reflected route keeps its next hop, which the other core cannot
    // resolve: with "force" there, each would take the other for a second path to the racks, and
    // packets would go around between them.
    static void start_routers() {
        auto ibgp = [](std::initializer_list<std::pair<int, int>> links, bool reflector,
                       std::string& neighbors, std::string& v4, std::string& v6) {
            for (auto [number, far_end] : links) {
                for (bool six : {false, true}) {
                    auto address = six ? fmt::format("fd66:{}::{}", number, far_end)
                                       : fmt::format("10.66.{}.{}", number, far_end);
                    neighbors += fmt::format(" neighbor {0} remote-as 14907\n"
                                             " neighbor {0} timers connect 1\n",
                                             address);
                    auto& family = six ? v6 : v4;
                    family += fmt::format("  neighbor {0} activate\n"
                                          "  neighbor {0} next-hop-self{1}\n",
                                          address, reflector && number != 5 ? " force" : "");
                    if (reflector && number != 5) {
                        family += fmt::format("  neighbor {} route-reflector-client\n", address);
                    }
                }
            }
        };
        auto ebgp = [](const std::string& n4, const std::string& n6, const std::string& extra,
                       std::string& neighbors, std::string& v4, std::string& v6) {
            for (const auto& n : {n4, n6}) {
                neighbors += fmt::format(" neighbor {0} remote-as 64601\n"
                                         " neighbor {0} timers connect 1\n",
                                         n);
                if (!extra.empty()) {
                    neighbors += fmt::format(" neighbor {0} ebgp-multihop 255\n"
                                             " neighbor {0} update-source lo\n",
                                             n);
                }
            }
            v4 += fmt::format("  neighbor {0} activate\n  neighbor {0} prefix-list PODS out\n"
                              "  neighbor {0} soft-reconfiguration inbound\n",
                              n4);
            v6 +=
                fmt::format("  neighbor {0} activate\n  neighbor {0} prefix-list PODS6 out\n", n6);
        };
        for (int i : {1, 2}) {
            std::string neighbors, v4, v6;
            ibgp({{i, 2}, {i + 2, 2}}, false, neighbors, v4, v6);
            ebgp(i == 1 ? "10.64.133.10" : "10.64.130.20",
                 i == 1 ? "2620:0:861:10c:10:64:133:10" : "2620:0:861:109:10:64:130:20", "",
                 neighbors, v4, v6);
            start_frr(fmt::format("lsw{}", i),
                      frr_common(fmt::format("10.66.0.{}", i), neighbors, v4, v6));
        }
        for (int i : {1, 2}) {
            std::string neighbors, v4, v6;
            ibgp({{2 * i - 1, 1}, {2 * i, 1}, {5, 3 - i}}, true, neighbors, v4, v6);
            ebgp("10.64.16.55", "2620:0:861:102:10:64:16:55", "multihop", neighbors, v4, v6);
            start_frr(fmt::format("cr{}", i),
                      frr_common(fmt::format("208.80.154.{}", 195 + i), neighbors, v4, v6));
        }
    }

    // "Node_10_64_133_1 Established" per BGP protocol.
    static std::set<std::string> sessions(const Agent& agent) {
        std::set<std::string> out;
        std::istringstream lines(agent.birdc("show protocols"));
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            std::string name, proto, table, state, since, info;
            words >> name >> proto >> table >> state >> since >> info;
            if (proto == "BGP") {
                out.insert(name + " " + info);
            }
        }
        return out;
    }

    static bool all_established(const Agent& agent, size_t count) {
        auto list = sessions(agent);
        return list.size() == count && std::all_of(list.begin(), list.end(), [](const auto& s) {
                   return s.ends_with(" Established");
               });
    }

    static std::string routes(const std::string& ns) {
        return sh_quiet("ip -n " + ns + " -4 route; ip -n " + ns + " -6 route");
    }
};

TEST_F(Wikikube, RoutesCommunitiesPeersAndEcmp) {
    start_routers();
    Agent w1("w1"), w2("w2"), k3("k3");
    for (Agent* agent : {&w1, &w2, &k3}) {
        std::string name = agent == &w1 ? "w1" : agent == &w2 ? "w2" : "k3";
        agent->configure(config(wikikube(name)));
        agent->start();
    }
    EXPECT_TRUE(wait_for([&] { return all_established(w1, 2); })) << w1.birdc("show protocols all");
    EXPECT_TRUE(wait_for([&] { return all_established(w2, 2); })) << w2.birdc("show protocols all");
    EXPECT_TRUE(wait_for([&] { return all_established(k3, 4); })) << k3.birdc("show protocols all");
    EXPECT_EQ(sessions(k3), (std::set<std::string>{"Node_208_80_154_196 Established",
                                                   "Node_208_80_154_197 Established",
                                                   "Node_2620_0_861_ffff__1 Established",
                                                   "Node_2620_0_861_ffff__2 Established"}));
    // What the operator sees; there is no agent's socket here, which is said and is status 1.
    std::string status =
        sh_quiet(MANXCTL " --config /nonexistent node status --bird-control " + k3.paths().control);
    EXPECT_THAT(status, HasSubstr("\nIPv4 BGP status\n+-"));
    EXPECT_THAT(status, HasSubstr("| PEER ADDRESS   | PEER TYPE     | STATE | SINCE    | INFO"));
    EXPECT_THAT(status, HasSubstr("| 208.80.154.196 | node specific | up    | "));
    EXPECT_THAT(status, HasSubstr("\nIPv6 BGP status\n+-"));
    EXPECT_THAT(status, HasSubstr("| 2620:0:861:ffff::2 | node specific | up    | "));
    EXPECT_THAT(status, HasSubstr("| Established |"));
    // The blocks of the others, each family; own AS 64601 once in the path is no obstacle.
    for (auto [ns, others] :
         std::initializer_list<std::pair<const char*, std::vector<const char*>>>{
             {"w1",
              {"10.67.130.0/26 via 10.64.133.1 dev eno1 proto bird metric 1024",
               "10.67.128.64/26 via 10.64.133.1 dev eno1 proto bird metric 1024",
               "2620:0:861:cabe::100/122 via 2620:0:861:10c::1 dev eno1 proto bird metric 1024",
               "2620:0:861:cabe::40/122 via 2620:0:861:10c::1 dev eno1 proto bird metric 1024",
               "blackhole 10.67.128.0/26 proto bird",
               "blackhole 2620:0:861:cabe::/122 dev lo "
               "proto bird metric 1024"}},
             {"k3",
              {"10.67.128.0/26 via 10.64.16.1 dev eno1 proto bird metric 1024",
               "10.67.130.0/26 via 10.64.16.1 dev eno1 proto bird metric 1024",
               "2620:0:861:cabe::/122 via 2620:0:861:102::1 dev eno1 proto bird metric 1024",
               "blackhole 10.67.128.64/26 proto bird"}}}) {
        for (const char* route : others) {
            EXPECT_TRUE(wait_for([&] { return routes(ns).find(route) != std::string::npos; }, 15))
                << ns << ": " << route << "\n"
                << routes(ns) << w1.birdc("show route all");
        }
    }
    // On the switch: the node's block with the community, and nothing else of the node's.
    std::string learned = vtysh("lsw1", "show bgp ipv4 unicast 10.67.128.0/26");
    EXPECT_THAT(learned, HasSubstr("Community: 14907:14"));
    EXPECT_THAT(learned, HasSubstr("64601"));
    EXPECT_THAT(vtysh("lsw1", "show bgp ipv6 unicast 2620:0:861:cabe::/122"),
                HasSubstr("Community: 14907:14"));
    std::string received =
        vtysh("lsw1", "show bgp ipv4 unicast neighbors 10.64.133.10 received-routes");
    EXPECT_THAT(received, HasSubstr("10.67.128.0/26"));
    EXPECT_THAT(received, HasSubstr("Total number of prefixes 1"));
    // Two ways out of the rack.
    EXPECT_TRUE(wait_for([&] {
        return in("lsw1", "ip route show 10.67.130.0/26").find("nexthop") != std::string::npos;
    })) << in("lsw1", "ip route");
    // And packets pass, both families: a pod's address on each side.
    for (auto [ns, v4, v6] : {std::tuple{"w1", "10.67.128.5/32", "2620:0:861:cabe::5/128"},
                              {"w2", "10.67.130.5/32", "2620:0:861:cabe::105/128"},
                              {"k3", "10.67.128.69/32", "2620:0:861:cabe::45/128"}}) {
        add_address(ns, "lo", v4);
        add_address(ns, "lo", v6);
    }
    for (const char* ns : {"w2", "k3"}) {
        start_echo(ns);
    }
    EXPECT_TRUE(echo("w1", "10.67.128.5", "10.67.130.5"));
    EXPECT_TRUE(echo("w1", "10.67.128.5", "10.67.128.69"));
    EXPECT_TRUE(echo("w1", "2620:0:861:cabe::5", "2620:0:861:cabe::105"));
    EXPECT_TRUE(echo("w2", "2620:0:861:cabe::105", "2620:0:861:cabe::45"));
    EXPECT_TRUE(echo("w2", "10.67.130.5", "10.67.128.69"));
}

} // namespace
} // namespace manx::bgp
