// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/services.h"
#include "agent/bgp/sessions.h"
#include "tests/unit/bgp_support.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace manx::bgp {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(BgpRender, OwnNodeMustBeKnown) {
    Inputs in = small_cluster();
    in.node_name = "elsewhere";
    auto rendered = render_bird_config(in);
    ASSERT_FALSE(rendered);
    EXPECT_EQ(rendered.error().kind, ErrorKind::ConfigReality);
    EXPECT_THAT(rendered.error().text(), HasSubstr("Node elsewhere"));
}

TEST(BgpRender, RouterIdByModeAndHashVector) {
    Inputs in = small_cluster();
    EXPECT_THAT(render(in).text, HasSubstr("router id 192.0.2.1;\n"));
    in.router_id_mode = RouterIdMode::Hash;
    EXPECT_THAT(render(in).text, HasSubstr("router id 202.18.243.27;\n"));
    in.router_id_mode = RouterIdMode::Literal;
    in.router_id = ip("198.51.100.9");
    EXPECT_THAT(render(in).text, HasSubstr("router id 198.51.100.9;\n"));
    in.router_id_mode = RouterIdMode::NodeIp;
    in.nodes[0].ipv4.reset(); // an IPv6-only node still needs an id
    EXPECT_THAT(render(in).text, HasSubstr("router id 202.18.243.27;\n"));
}

TEST(BgpRender, DevicesKernelAndBlocks) {
    Inputs in = small_cluster();
    in.settings.ignored_interfaces = {"eth9", "dock*"};
    in.blocks.push_back({cidr("10.65.7.7/32")});
    in.blocks.push_back({cidr("10.65.1.0/26"), BlockState::Pending});
    in.blocks.push_back({cidr("10.65.2.0/26"), BlockState::PendingDeletion});
    std::string text = render(in).text;
    EXPECT_EQ(block(text, "protocol direct"),
              "protocol direct {\n  ipv4;\n  ipv6;\n"
              "  interface -\"cali*\", -\"kube-ipvs*\", -\"dock*\", -\"eth9\", \"*\";\n}\n");
    EXPECT_EQ(block(text, "protocol static blocks_v4"),
              "protocol static blocks_v4 {\n  ipv4;\n  route 10.65.0.64/26 blackhole;\n"
              "  route 10.65.2.0/26 blackhole;\n}\n");
    EXPECT_EQ(block(text, "protocol static blocks_v6"),
              "protocol static blocks_v6 {\n  ipv6;\n  route fd00:65::40/122 blackhole;\n}\n");
    std::string kernel = block(text, "protocol kernel kernel_v6");
    for (const char* line : {"  learn;\n", "  persist;\n", "  scan time 60;\n", "  metric 0;\n",
                             "  merge paths on;\n", "  graceful restart on;\n"}) {
        EXPECT_THAT(kernel, HasSubstr(line));
    }
    // A block that is given back is no aggregate any more, one that is not ours yet neither.
    std::string exported = block(text, "function manx_export_v4(");
    EXPECT_THAT(exported, HasSubstr("  if net = 10.65.0.64/26 then accept; # own block\n"
                                    "  if net ~ [ 10.65.0.64/26+ ] && krt_metric >= 1024 then "
                                    "reject;\n"));
    EXPECT_THAT(exported, HasSubstr("  if net = 10.65.7.7/32 then accept; # own block\n"));
    EXPECT_THAT(exported, Not(HasSubstr("10.65.1.0")));
    EXPECT_THAT(exported, Not(HasSubstr("10.65.2.0")));
}

TEST(BgpRender, TextDoesNotDependOnOrder) {
    Inputs in = small_cluster();
    in.settings.node_mesh = true;
    in.blocks.push_back({cidr("10.65.9.0/26")});
    in.peers = {peer_ip("b", "203.0.113.2", 65002), peer_ip("a", "203.0.113.1", 65001)};
    std::string first = render(in).text;
    std::reverse(in.nodes.begin(), in.nodes.end());
    std::reverse(in.blocks.begin(), in.blocks.end());
    std::reverse(in.pools.begin(), in.pools.end());
    std::reverse(in.peers.begin(), in.peers.end());
    EXPECT_EQ(render(in).text, first);
}

TEST(BgpRender, ExportOrder) {
    Inputs in = small_cluster();
    in.pools.push_back(
        {.name = "hidden", .cidr = cidr("10.66.0.0/16"), .disable_bgp_export = true});
    in.settings.prefix_advertisements = {
        {cidr("10.65.0.0/16"), {*Community::parse("64601:14"), *Community::parse("64601:1:2")}}};
    EXPECT_EQ(block(render(in).text, "function manx_export_v4("),
              "function manx_export_v4(bool internal_peer) {\n"
              "  if net ~ [ 10.66.0.0/16+ ] then reject; # IPPool hidden: disableBGPExport\n"
              "  if defined(ifname) && ifname ~ \"bpf*.cali\" then reject;\n"
              "  if internal_peer && defined(ifname) then {\n"
              "    if ifname ~ \"*.cali\" then reject;\n"
              "    if ifname ~ \"*.calico\" then reject;\n"
              "    if ifname = \"tunl0\" then reject;\n"
              "  }\n"
              "  if net ~ [ 10.65.0.0/16+ ] then {\n"
              "    bgp_community.add((64601, 14));\n"
              "    bgp_large_community.add((64601, 1, 2));\n"
              "  }\n"
              "  if net = 10.65.0.64/26 then accept; # own block\n"
              "  if net ~ [ 10.65.0.64/26+ ] && krt_metric >= 1024 then reject;\n"
              "  if source = RTS_STATIC && proto = \"services_v4\" then accept;\n"
              "  if net ~ [ 10.65.0.0/16+ ] then accept; # IPPool v4\n"
              "  reject;\n}\n");
}

TEST(BgpRender, LocalPrefIsCountedDownFromTheTop) {
    Inputs in = small_cluster();
    in.settings.normal_priority4 = 2000;
    in.peers = {peer_ip("a", "203.0.113.1", 65001)};
    std::string text = render(in).text;
    EXPECT_EQ(block(text, "function manx_export_metric_v6"),
              "function manx_export_metric_v6() {\n"
              "  if source = RTS_BGP then {\n"
              "    krt_metric = 1024;\n"
              "    if defined(bgp_local_pref) && bgp_local_pref < 2147483647 then\n"
              "      krt_metric = 2147483647 - bgp_local_pref;\n"
              "  } else {\n"
              "    if !defined(krt_metric) then krt_metric = 1024;\n"
              "    if krt_metric = 0 then krt_metric = 1024;\n"
              "    bgp_local_pref = 2147483647 - krt_metric;\n"
              "  }\n}\n");
    EXPECT_THAT(block(text, "function manx_export_metric_v4"), HasSubstr("krt_metric = 2000;"));
    EXPECT_THAT(session(text, "Global_203_0_113_1"),
                HasSubstr("bgp_local_pref > 2147481647 then preference = 200;"));
}

TEST(BgpRender, KernelFilterPerEncapsulation) {
    Inputs in = small_cluster();
    in.pools = {{.name = "flat", .cidr = cidr("10.65.0.0/16")},
                {.name = "ipip", .cidr = cidr("10.66.0.0/16"), .ipip = EncapMode::Always},
                {.name = "cross", .cidr = cidr("10.67.0.0/16"), .ipip = EncapMode::CrossSubnet},
                {.name = "vxlan", .cidr = cidr("10.68.0.0/16"), .vxlan = EncapMode::CrossSubnet},
                {.name = "vxlan6", .cidr = cidr("fd00:68::/64"), .vxlan = EncapMode::Always}};
    auto kernel = [&](ProgramClusterRoutes program, const char* family) {
        in.settings.program_cluster_routes = program;
        return block(render(in).text, std::string("filter manx_kernel_export_") + family);
    };
    std::string usual = kernel(ProgramClusterRoutes::EnabledNoEncapOnly, "v4");
    EXPECT_THAT(usual, Not(HasSubstr("10.65.0.0/16")));
    EXPECT_THAT(usual, HasSubstr("net ~ [ 10.66.0.0/16+ ] then reject;"));
    EXPECT_THAT(usual, HasSubstr("net ~ [ 10.67.0.0/16+ ] then reject;"));
    EXPECT_THAT(usual, HasSubstr("net ~ [ 10.68.0.0/16+ ] then reject;"));
    EXPECT_THAT(usual, HasSubstr("  krt_metric = 1024;\n"
                                 "  if source = RTS_STATIC && proto = \"blocks_v4\" then accept;"));
    EXPECT_THAT(usual,
                HasSubstr("bgp_local_pref >= 2147418112 && bgp_local_pref < 2147483647 then\n"
                          "      krt_metric = 2147483647 - bgp_local_pref;\n"));
    std::string ipip = kernel(ProgramClusterRoutes::EnabledIpipOnly, "v4");
    EXPECT_THAT(ipip, HasSubstr("net ~ [ 10.65.0.0/16+ ] then reject;"));
    EXPECT_THAT(ipip, HasSubstr("  if net ~ [ 10.66.0.0/16+ ] && source = RTS_BGP then { # IPPool "
                                "ipip: IPIP\n    ifname = \"tunl0\";\n"));
    EXPECT_THAT(ipip, HasSubstr("!(bgp_next_hop ~ 192.0.2.0/24)"));
    std::string all = kernel(ProgramClusterRoutes::Enabled, "v4");
    EXPECT_THAT(all, Not(HasSubstr("10.65.0.0/16")));
    EXPECT_THAT(all, HasSubstr("ifname = \"tunl0\""));
    std::string none = kernel(ProgramClusterRoutes::Disabled, "v4");
    EXPECT_THAT(none, HasSubstr("10.65.0.0/16+ ] then reject"));
    EXPECT_THAT(none, HasSubstr("10.66.0.0/16+ ] then reject"));
    EXPECT_THAT(kernel(ProgramClusterRoutes::Enabled, "v6"),
                HasSubstr("net ~ [ fd00:68::/64+ ] then reject;"));
}

TEST(BgpRender, KernelFilterLeavesWireguardPeersAlone) {
    Inputs in = small_cluster();
    in.nodes[1].wireguard4 = true;
    EXPECT_THAT(render(in).text, Not(HasSubstr("WireGuard")));
    in.nodes[0].wireguard4 = true;
    EXPECT_THAT(block(render(in).text, "filter manx_kernel_export_v4"),
                HasSubstr("source = RTS_BGP && bgp_next_hop = 192.0.2.2 then reject;"));
}

TEST(BgpSession, MeshComparesAddressesAsText) {
    Inputs in = small_cluster();
    in.settings.node_mesh = true;
    in.nodes = {node("node1", "10.0.0.9/24"), node("node2", "10.0.0.10/24"),
                node("node3", "10.0.0.90/24", "2001:db8::3/64")};
    in.settings.mesh_password = "secret";
    in.settings.mesh_max_restart_time = std::chrono::seconds(90);
    in.nodes[2].as_number = 65003;
    in.nodes[2].listen_port = 1790;
    std::string text = render(in).text;
    // Numerically 10.0.0.10 is the greater one; as text "10.0.0.9" is.
    EXPECT_THAT(session(text, "Mesh_10_0_0_10"),
                testing::StartsWith("protocol bgp Mesh_10_0_0_10 from manx_session {\n"
                                    "  description \"node-to-node mesh, node node2\";\n"
                                    "  local 10.0.0.9 as 64512;\n"
                                    "  neighbor 10.0.0.10 as 64512;\n"
                                    "  multihop;\n"
                                    "  ttl security off;\n"
                                    "  password \"secret\";\n"
                                    "  graceful restart time 90;\n"
                                    "  ipv4 {\n"
                                    "    gateway recursive;\n"
                                    "    add paths on;\n"));
    EXPECT_THAT(session(text, "Mesh_10_0_0_90"), HasSubstr("  passive on;\n"));
    EXPECT_THAT(session(text, "Mesh_10_0_0_90"),
                HasSubstr("neighbor 10.0.0.90 port 1790 as 65003"));
    EXPECT_THAT(session_names(text), ElementsAre("Mesh_10_0_0_10", "Mesh_10_0_0_90"));
    in.node_name = "node2";
    EXPECT_THAT(session(render(in).text, "Mesh_10_0_0_9"), HasSubstr("  passive on;\n"));
}

TEST(BgpSession, MeshNeedsItsPassword) {
    Inputs in = small_cluster();
    in.settings.node_mesh = true;
    in.settings.mesh_password_required = true;
    auto rendered = render(in);
    EXPECT_THAT(session_names(rendered.text), IsEmpty());
    EXPECT_THAT(rendered.problems, ElementsAre(HasSubstr("nodeMeshPassword")));
}

TEST(BgpSession, RouteReflectorsLeaveTheMeshAndReflect) {
    Inputs in = small_cluster();
    in.settings.node_mesh = true;
    in.nodes.push_back(node("rr", "192.0.2.100/24"));
    in.nodes[2].route_reflector_cluster_id = "244.0.0.1";
    in.nodes[2].labels["rr"] = "true";
    Peer to_rr;
    to_rr.name = "to-rr";
    to_rr.node_selector = [](const Labels&) { return true; };
    to_rr.peer_selector = has("rr", "true");
    in.peers = {to_rr};
    EXPECT_THAT(session_names(render(in).text),
                ElementsAre("Mesh_192_0_2_2", "Mesh_2001_db8__2", "Node_192_0_2_100"));
    in.node_name = "rr";
    in.settings.service_cluster_ips = {cidr("10.96.0.0/12")};
    std::string text = render(in).text;
    EXPECT_THAT(session_names(text), ElementsAre("Node_192_0_2_1", "Node_192_0_2_2"));
    EXPECT_THAT(session(text, "Node_192_0_2_1"),
                HasSubstr("  rr client;\n  rr cluster id 244.0.0.1;\n"));
    EXPECT_THAT(block(text, "function manx_export_v4("),
                HasSubstr("net ~ [ 10.96.0.0/12+ ] then accept; # services, reflected"));
    // Of the same cluster: no client of each other. Outside of our AS: nothing to reflect.
    in.nodes[1].route_reflector_cluster_id = "244.0.0.1";
    in.nodes[0].as_number = 65001;
    text = render(in).text;
    EXPECT_THAT(text, Not(HasSubstr("rr client")));
}

TEST(BgpSession, ScopeOfAPeer) {
    Inputs in = small_cluster();
    in.nodes[0].labels["rack"] = "r1";
    Peer global = peer_ip("global", "203.0.113.1", 65001);
    Peer mine = peer_ip("mine", "203.0.113.2", 65001);
    mine.node = "node1";
    Peer other = peer_ip("other", "203.0.113.3", 65001);
    other.node = "node2";
    Peer rack = peer_ip("rack", "2001:db8:1::1", 65001);
    rack.node_selector = has("rack", "r1");
    Peer other_rack = peer_ip("other-rack", "203.0.113.4", 65001);
    other_rack.node_selector = has("rack", "r2");
    in.peers = {global, mine, other, rack, other_rack};
    EXPECT_THAT(session_names(render(in).text),
                ElementsAre("Global_203_0_113_1", "Node_203_0_113_2", "Node_2001_db8_1__1"));
}

TEST(BgpSession, GlobalWinsOverNodeAndPortsAreDistinct) {
    Inputs in = small_cluster();
    Peer global = peer_ip("z-global", "203.0.113.1", 65001);
    Peer mine = peer_ip("a-mine", "203.0.113.1", 65002);
    mine.node = "node1";
    Peer port = peer_ip("port", "203.0.113.1", 65003);
    port.peer_port = 1790;
    Peer self = peer_ip("self", "192.0.2.1", 65003);
    self.reverse_peering = false;
    in.peers = {global, mine, port, self};
    std::string text = render(in).text;
    EXPECT_THAT(session_names(text),
                ElementsAre("Global_203_0_113_1", "Global_203_0_113_1_port_1790"));
    EXPECT_THAT(text, HasSubstr("neighbor 203.0.113.1 as 65001;"));
    EXPECT_THAT(text, HasSubstr("neighbor 203.0.113.1 port 1790 as 65003;"));
}

TEST(BgpSession, ReversePeering) {
    Inputs in = small_cluster();
    Peer from_node2 = peer_ip("p", "192.0.2.1", 64512);
    from_node2.node = "node2";
    from_node2.allowed_local_as = 2;
    in.peers = {from_node2};
    std::string text = render(in).text;
    EXPECT_THAT(session_names(text), ElementsAre("Node_192_0_2_2"));
    EXPECT_THAT(text, HasSubstr("allow local as 2;"));
    in.peers[0].reverse_peering = false;
    EXPECT_THAT(session_names(render(in).text), IsEmpty());
    // Global towards a node: it is passive by the comparison, on this side.
    in.peers = {peer_ip("g", "192.0.2.2", 64512)};
    text = render(in).text;
    EXPECT_THAT(session_names(text), ElementsAre("Global_192_0_2_2"));
    EXPECT_THAT(text, HasSubstr("passive on;"));
    in.node_name = "node2";
    EXPECT_THAT(session_names(render(in).text), ElementsAre("Node_192_0_2_1"));
}

TEST(BgpSession, MeshDoesNotDuplicateAnExplicitPeer) {
    Inputs in = small_cluster();
    in.settings.node_mesh = true;
    in.peers = {peer_ip("p", "192.0.2.2", 64512)};
    EXPECT_THAT(session_names(render(in).text),
                ElementsAre("Mesh_2001_db8__2", "Global_192_0_2_2"));
}

TEST(BgpSession, EverySettingOfAPeer) {
    Inputs in = small_cluster();
    Peer p = peer_ip("full", "203.0.113.1", 64512);
    p.node = "node1";
    p.local_as = 64999;
    p.next_hop_mode = NextHopMode::Self;
    p.password_required = true;
    p.password = "it's a 'secret'; { }";
    p.max_restart_time = std::chrono::seconds(240);
    p.keepalive_time = std::chrono::seconds(10);
    p.allowed_local_as = 1;
    p.ttl_security = 3;
    p.reachable_by = ip("192.0.2.254");
    in.peers = {p};
    std::string text = render(in).text;
    EXPECT_EQ(session(text, "Node_203_0_113_1"),
              "protocol bgp Node_203_0_113_1 from manx_session {\n"
              "  description \"BGPPeer full\";\n"
              "  local 192.0.2.1 as 64999;\n"
              "  neighbor 203.0.113.1 as 64512;\n"
              "  multihop 3;\n"
              "  ttl security on;\n"
              "  password \"it's a 'secret'; { }\";\n"
              "  graceful restart time 240;\n"
              "  keepalive time 10;\n"
              "  allow local as 1;\n"
              "  ipv4 {\n"
              "    gateway recursive;\n"
              "    add paths on;\n"
              "    next hop self;\n"
              "    import filter {\n"
              "      if defined(bgp_local_pref) && bgp_local_pref > 2147482623 then preference = "
              "200;\n"
              "      accept;\n"
              "    };\n"
              "    export filter {\n"
              "      manx_export_metric_v4();\n"
              "      manx_export_v4(false);\n"
              "      reject;\n"
              "    };\n"
              "  };\n"
              "}\n");
    EXPECT_EQ(block(text, "protocol static reachable_v4"),
              "protocol static reachable_v4 {\n  ipv4;\n"
              "  route 203.0.113.1/32 via 192.0.2.254;\n}\n");
}

TEST(BgpSession, NextHopModes) {
    Inputs in = small_cluster();
    Peer external = peer_ip("e", "203.0.113.1", 65001);
    Peer internal = peer_ip("i", "203.0.113.2", 64512);
    external.keep_original_next_hop = internal.keep_original_next_hop = true;
    in.peers = {external, internal};
    std::string text = render(in).text;
    EXPECT_THAT(session(text, "Global_203_0_113_1"), HasSubstr("next hop keep;"));
    EXPECT_THAT(session(text, "Global_203_0_113_2"), Not(HasSubstr("next hop")));
    in.peers[1].next_hop_mode = NextHopMode::Keep;
    EXPECT_THAT(session(render(in).text, "Global_203_0_113_2"), HasSubstr("next hop keep;"));
}

TEST(BgpSession, SourceListenPortAndBindMode) {
    Inputs in = small_cluster();
    Peer p = peer_ip("p", "203.0.113.1", 65001);
    p.source_is_node_ip = false;
    in.peers = {p};
    EXPECT_THAT(render(in).text, HasSubstr("  local as 64512;\n"));
    in.settings.listen_port = 1790;
    EXPECT_THAT(render(in).text, HasSubstr("  local port 1790 as 64512;\n"));
    in.nodes[0].listen_port = 1791;
    in.settings.bind_mode = BindMode::NodeIp;
    EXPECT_THAT(render(in).text,
                HasSubstr("  local 192.0.2.1 port 1791 as 64512;\n  strict bind on;\n"));
}

TEST(BgpSession, BadPeersAreLeftOutAndNamed) {
    Inputs in = small_cluster();
    Peer quote = peer_ip("quote", "203.0.113.1", 65001);
    quote.password = "a\"; b";
    Peer missing = peer_ip("missing", "203.0.113.2", 65001);
    missing.password_required = true;
    Peer no_as = peer_ip("no-as", "203.0.113.3", 0);
    Peer good = peer_ip("good", "203.0.113.4", 65001);
    Peer nothing;
    nothing.name = "nothing";
    in.peers = {quote, missing, no_as, good, nothing};
    auto rendered = render(in);
    EXPECT_THAT(session_names(rendered.text), ElementsAre("Global_203_0_113_4"));
    EXPECT_THAT(rendered.problems,
                testing::UnorderedElementsAre(HasSubstr("quote"), HasSubstr("BGPPeer missing"),
                                              HasSubstr("BGPPeer no-as: asNumber"),
                                              HasSubstr("BGPPeer nothing")));
}

TEST(BgpSession, NodeWithoutAFamilyHasNoSessionsInIt) {
    Inputs in = small_cluster();
    in.nodes[0].ipv6.reset();
    in.settings.node_mesh = true;
    in.peers = {peer_ip("p", "2001:db8:1::1", 65001)};
    EXPECT_THAT(session_names(render(in).text), ElementsAre("Mesh_192_0_2_2"));
}

TEST(BgpSession, LocalWorkloads) {
    Inputs in = small_cluster();
    in.settings.local_workload_ipv4 = ip("169.254.1.179");
    Peer p;
    p.name = "pods";
    p.as_number = 65010;
    p.local_workload_selector = has("app", "router");
    in.peers = {p};
    in.workloads = {{"default", "r1", {{"app", "router"}}, {ip("10.65.0.70"), ip("fd00:65::41")}},
                    {"default", "web", {{"app", "web"}}, {ip("10.65.0.71")}}};
    std::string text = render(in).text;
    EXPECT_THAT(session_names(text), ElementsAre("Local_Workload_10_65_0_70"));
    EXPECT_THAT(text, HasSubstr("  local 169.254.1.179 as 64512;\n  neighbor 10.65.0.70 as 65010"));
}

Service lb_service() {
    Service s;
    s.ns = "default";
    s.name = "web";
    s.type = ServiceType::LoadBalancer;
    s.cluster_ips = {ip("10.96.0.7"), ip("fd00:96::7")};
    s.external_ips = {ip("198.51.100.5"), ip("203.0.113.200")};
    s.load_balancer_ips = {ip("198.51.101.5")};
    s.endpoints = {{"node2", true}};
    return s;
}

TEST(BgpServices, RangesSingleAddressesAndPolicy) {
    Inputs in = small_cluster();
    in.settings.service_cluster_ips = {cidr("10.96.0.0/12")};
    in.settings.service_external_ips = {cidr("198.51.100.0/24"), cidr("198.51.100.9/32")};
    in.settings.service_load_balancer_ips = {cidr("198.51.101.0/24")};
    in.services = {lb_service()};
    auto announced = [&] {
        std::vector<std::string> out;
        for (const Cidr& route : compute_service_routes(in).announced) {
            out.push_back(route.text());
        }
        return out;
    };
    std::vector<std::string> ranges{"10.96.0.0/12", "198.51.100.0/24", "198.51.101.0/24"};
    EXPECT_EQ(announced(), ranges);
    // Local: only the node with a ready endpoint.
    in.services[0].external_policy_local = true;
    EXPECT_EQ(announced(), ranges);
    in.services[0].endpoints = {{"node1", false}};
    EXPECT_EQ(announced(), ranges);
    in.services[0].endpoints = {{"node1", true}};
    EXPECT_THAT(announced(),
                ElementsAre("10.96.0.0/12", "10.96.0.7/32", "198.51.100.0/24", "198.51.100.5/32",
                            "198.51.101.0/24", "198.51.101.5/32", "fd00:96::7/128"));
    // Cluster, but with an address of a single-address entry: its service announces it.
    in.services[0] = lb_service();
    in.services[0].external_ips = {ip("198.51.100.9")};
    EXPECT_THAT(announced(), testing::Contains("198.51.100.9/32"));
    // Without aggregation the range goes, the addresses come.
    in.services[0] = lb_service();
    in.settings.load_balancer_aggregation = false;
    EXPECT_THAT(announced(), Not(testing::Contains("198.51.101.0/24")));
    EXPECT_THAT(announced(), testing::Contains("198.51.101.5/32"));
    in.services[0].endpoints.clear();
    EXPECT_THAT(announced(), Not(testing::Contains("198.51.101.5/32")));
    // The node is excluded: nothing announced, everything still kept out of the kernel.
    in.nodes[0].labels["node.kubernetes.io/exclude-from-external-load-balancers"] = "true";
    EXPECT_THAT(announced(), IsEmpty());
    std::string kernel = block(render(in).text, "filter manx_kernel_export_v4");
    for (const auto& range : ranges) {
        EXPECT_THAT(kernel, HasSubstr("net ~ [ " + range + "+ ] then reject; # services"));
    }
}

TEST(BgpServices, HeadlessAndExternalNameAreNotAnnounced) {
    Inputs in = small_cluster();
    in.settings.service_cluster_ips = {cidr("10.96.0.0/12")};
    in.settings.load_balancer_aggregation = false;
    Service headless = lb_service();
    headless.cluster_ips.clear();
    Service name = lb_service();
    name.type = ServiceType::ExternalName;
    in.services = {headless, name};
    EXPECT_EQ(compute_service_routes(in).announced.size(), 1U);
    in.services = {lb_service()};
    EXPECT_EQ(block(render(in).text, "protocol static services_v4"),
              "protocol static services_v4 {\n  ipv4;\n  route 10.96.0.0/12 blackhole;\n"
              "  route 10.96.0.7/32 blackhole;\n}\n");
}

} // namespace
} // namespace manx::bgp
