// SPDX-License-Identifier: Apache-2.0
// Policy of new flows: sets, classes, port tables, and what is reported.
#include "tests/bpf/hook_test.h"

namespace manx {
namespace {

using namespace harness;

class PolicyTest : public HookTest {
protected:
    void a_egress(uint32_t set, uint32_t staged = MANX_SET_ALLOW) {
        Workload workload = a();
        workload.egress = set;
        workload.staged_egress = staged;
        node_.put(workload);
    }

    void b_ingress(uint32_t set, uint32_t staged = MANX_SET_ALLOW) {
        Workload workload = b();
        workload.ingress = set;
        workload.staged_ingress = staged;
        node_.put(workload);
    }
};

INSTANTIATE_TEST_SUITE_P(Families, PolicyTest, testing::ValuesIn(kFamilies), family_name);

const std::vector<Range> kAllow{{.rule = 7}};
const std::vector<Range> kDeny{{.action = MANX_ACTION_DENY, .rule = 8}};
constexpr uint8_t kTcpNumber = 6;
// TCP 80 to 90 only.
const std::vector<Range> kSomePorts{
    {.last = port_key(kTcpNumber, 79), .action = MANX_ACTION_DENY, .rule = 8},
    {.last = port_key(kTcpNumber, 90), .action = MANX_ACTION_ALLOW, .rule = 7},
    {.action = MANX_ACTION_DENY, .rule = 9}};

TEST_P(PolicyTest, BothSidesAreJudged) {
    a_egress(5);
    b_ingress(6);
    node_.set_policy(5, kClassB, kAllow);
    node_.set_policy(6, kClassA, kDeny);
    drop(kCaliA, between(at().a, at().b, tcp(1, 80, kSyn)), MANX_DROP_POLICY_INGRESS);
    EXPECT_EQ(node_.rule_hits(7), 1U);
    EXPECT_EQ(node_.rule_hits(8), 1U);
    node_.set_policy(5, kClassB, kDeny);
    drop(kCaliA, between(at().a, at().b, tcp(1, 80, kSyn)), MANX_DROP_POLICY_EGRESS);
    EXPECT_FALSE(node_.new_flow(at().a, at().b, kTcp, 1, 80));
    node_.set_policy(5, kClassB, kAllow);
    node_.set_policy(6, kClassA, kAllow);
    connect(1, 80);
    EXPECT_EQ(node_.rule_hits(7), 3U); // per flow, not per packet
    // Answers need no policy of their own; a flow the other way does.
    Workload other = b();
    other.egress = 8;
    node_.put(other);
    node_.set_policy(8, MANX_CLASS_ANY, kDeny);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1)), kMacA);
    drop(kCaliB, between(at().b, at().a, tcp(81, 1, kSyn)), MANX_DROP_POLICY_EGRESS);
}

TEST_P(PolicyTest, PortRanges) {
    a_egress(5);
    node_.set_policy(5, kClassB, kSomePorts);
    drop(kCaliA, between(at().a, at().b, tcp(1, 79, kSyn)), MANX_DROP_POLICY_EGRESS);
    to_peer(kCaliA, between(at().a, at().b, tcp(1, 80, kSyn)), kMacB);
    to_peer(kCaliA, between(at().a, at().b, tcp(1, 90, kSyn)), kMacB);
    drop(kCaliA, between(at().a, at().b, tcp(1, 91, kSyn)), MANX_DROP_POLICY_EGRESS);
    drop(kCaliA, between(at().a, at().b, udp(1, 80)), MANX_DROP_POLICY_EGRESS);
    EXPECT_EQ(node_.rule_hits(9), 2U);
}

TEST_P(PolicyTest, ManyRangesAreSearched) {
    std::vector<Range> ranges;
    for (uint32_t i = 0; i < 1000; i++) {
        ranges.push_back({.last = port_key(kTcpNumber, static_cast<uint16_t>(10 * i + 9)),
                          .action = i % 2 == 0 ? MANX_ACTION_ALLOW : MANX_ACTION_DENY,
                          .rule = i % 2 == 0 ? 7U : 8U});
    }
    ranges.push_back({.action = MANX_ACTION_DENY, .rule = 9});
    a_egress(5);
    node_.set_policy(5, kClassB, ranges);
    for (const uint16_t port : {0, 9, 20, 5009, 9980, 9989}) {
        to_peer(kCaliA, between(at().a, at().b, tcp(1, port, kSyn)), kMacB);
    }
    for (const uint16_t port : {10, 19, 5010, 9999, 10000, 65535}) {
        drop(kCaliA, between(at().a, at().b, tcp(1, port, kSyn)), MANX_DROP_POLICY_EGRESS);
    }
}

TEST_P(PolicyTest, ClassOfAddressNetworkAndNobody) {
    a_egress(5);
    node_.set_policy(5, kClassRemote, kAllow);
    node_.set_policy(5, kClassNet, kAllow);
    node_.set_policy(5, MANX_CLASS_ANY, kDeny);
    to_network(kCaliA, between(at().a, at().remote, udp(1, 2)));
    to_network(kCaliA, between(at().a, at().net, udp(1, 2)));
    drop(kCaliA, between(at().a, at().external, udp(1, 2)), MANX_DROP_POLICY_EGRESS);
    node_.set_policy(5, 0, kAllow);
    to_network(kCaliA, between(at().a, at().external, udp(1, 2)));
}

TEST_P(PolicyTest, IngressFromTheNetworkByTheSourcesClass) {
    b_ingress(6);
    node_.set_policy(6, kClassRemote, kSomePorts);
    node_.set_policy(6, MANX_CLASS_ANY, kDeny);
    to_peer(kUplink, between(at().remote, at().b, tcp(1, 85, kSyn)), kMacB);
    drop(kUplink, between(at().remote, at().b, tcp(1, 91, kSyn)), MANX_DROP_POLICY_INGRESS);
    drop(kUplink, between(at().external, at().b, tcp(1, 85, kSyn)), MANX_DROP_POLICY_INGRESS);
    EXPECT_EQ(node_.dropped(kUplink, MANX_HOOK_FROM_UPLINK, MANX_DROP_POLICY_INGRESS), 2U);
}

TEST_P(PolicyTest, BySourcePort) {
    a_egress(5);
    node_.set_policy(
        5, kClassB,
        {{.last = port_key(kTcpNumber, 79), .action = MANX_ACTION_DENY, .rule = 8},
         {.last = port_key(kTcpNumber, 80),
          .action = MANX_ACTION_BY_SOURCE_PORT,
          .by_source = {{.last = port_key(kTcpNumber, 1023), .action = MANX_ACTION_DENY, .rule = 9},
                        {.last = port_key(kTcpNumber, 2000), .rule = 7},
                        {.action = MANX_ACTION_DENY, .rule = 9}}},
         {.action = MANX_ACTION_DENY, .rule = 8}});
    drop(kCaliA, between(at().a, at().b, tcp(1023, 80, kSyn)), MANX_DROP_POLICY_EGRESS);
    to_peer(kCaliA, between(at().a, at().b, tcp(1024, 80, kSyn)), kMacB);
    drop(kCaliA, between(at().a, at().b, tcp(2001, 80, kSyn)), MANX_DROP_POLICY_EGRESS);
    drop(kCaliA, between(at().a, at().b, tcp(1024, 81, kSyn)), MANX_DROP_POLICY_EGRESS);
    EXPECT_EQ(node_.rule_hits(9), 2U);
    EXPECT_EQ(node_.rule_hits(8), 1U);
}

TEST_P(PolicyTest, NotReadyAndMissingTablesNeverAllow) {
    a_egress(MANX_SET_DENY);
    drop(kCaliA, between(at().a, at().remote, udp(1, 2)), MANX_DROP_NOT_READY);
    a_egress(77);
    drop(kCaliA, between(at().a, at().remote, udp(1, 2)), MANX_DROP_POLICY_TABLE);
    a_egress(MANX_SET_ALLOW);
    b_ingress(MANX_SET_DENY);
    drop(kCaliA, between(at().a, at().b, udp(1, 2)), MANX_DROP_NOT_READY);
    drop(kUplink, between(at().remote, at().b, udp(1, 2)), MANX_DROP_NOT_READY);
}

TEST_P(PolicyTest, StagedSetsAreCountedOnly) {
    a_egress(MANX_SET_ALLOW, 5);
    b_ingress(MANX_SET_ALLOW, 6);
    node_.set_policy(5, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 20}});
    node_.set_policy(6, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 21}});
    connect(1, 80);
    EXPECT_EQ(node_.rule_hits(20), 1U);
    EXPECT_EQ(node_.rule_hits(21), 1U);
}

TEST_P(PolicyTest, DropsAndLogRulesMakeEvents) {
    a_egress(5);
    node_.set_policy(5, kClassB,
                     {{.last = port_key(kTcpNumber, 80), .rule = 7, .log = true},
                      {.action = MANX_ACTION_DENY, .rule = 8}});
    connect(1000, 80);
    drop(kCaliA, between(at().a, at().b, udp(1000, 53)), MANX_DROP_POLICY_EGRESS);
    const auto events = node_.take_events();
    ASSERT_EQ(events.size(), 2U); // the log rule's flow once, the drop
    EXPECT_EQ(events[0].rule, 7U);
    EXPECT_EQ(events[0].dst_port, 80);
    EXPECT_EQ(events[0].protocol, kTcp);
    EXPECT_FALSE(maps::is_drop(static_cast<manx_reason>(events[0].reason)));
    EXPECT_EQ(events[1].rule, 8U);
    EXPECT_EQ(events[1].reason, MANX_DROP_POLICY_EGRESS);
    EXPECT_EQ(events[1].hook, MANX_HOOK_FROM_WORKLOAD);
    EXPECT_EQ(events[1].ifindex, kCaliA);
    EXPECT_EQ(events[1].family, v4() ? 4 : 6);
    EXPECT_EQ(events[1].src_port, 1000);
    EXPECT_EQ(node_.dropped(kCaliA, MANX_HOOK_FROM_WORKLOAD, MANX_DROP_POLICY_EGRESS), 1U);
}

TEST_P(PolicyTest, EventsAreLimitedPerSecond) {
    a_egress(MANX_SET_DENY);
    for (int i = 0; i < 2000; i++) {
        (void)run_program(*node_.loader().program_fd("tc_from_workload"),
                          between(at().a, at().b, udp(1, 2)).bytes(), {.ifindex = kCaliA});
    }
    const size_t events = node_.take_events().size();
    EXPECT_GE(events, 256U);
    EXPECT_LT(events, 2000U);
    EXPECT_EQ(node_.dropped(kCaliA, MANX_HOOK_FROM_WORKLOAD, MANX_DROP_NOT_READY), 2000U);
}

TEST_P(PolicyTest, IcmpByTypeAndCode) {
    const uint8_t request = v4() ? 8 : 128;
    a_egress(5);
    node_.set_policy(
        5, kClassB,
        {{.last = port_key(icmp_protocol(), static_cast<uint16_t>(request << 8)) - 1,
          .action = MANX_ACTION_DENY,
          .rule = 8},
         {.last = port_key(icmp_protocol(), static_cast<uint16_t>(request << 8)), .rule = 7},
         {.action = MANX_ACTION_DENY, .rule = 9}});
    to_peer(kCaliA, between(at().a, at().b, echo_request(77)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, echo_reply(77)), kMacA);
    drop(kCaliA, between(at().a, at().b, icmp(request, 1, 78)), MANX_DROP_POLICY_EGRESS);
    drop(kCaliA, between(at().a, at().b, icmp(v4() ? 13 : 139, 0, 77)), MANX_DROP_POLICY_EGRESS);
    // A reply that nobody asked for is judged by its own type.
    drop(kCaliA, between(at().a, at().b, echo_reply(79)), MANX_DROP_POLICY_EGRESS);
    // A request of the other side is a flow of its own, whatever its identifier.
    b_ingress(MANX_SET_ALLOW);
    Workload other = b();
    other.egress = 6;
    node_.put(other);
    node_.set_policy(6, MANX_CLASS_ANY, kDeny);
    drop(kCaliB, between(at().b, at().a, echo_request(77)), MANX_DROP_POLICY_EGRESS);
}

TEST_P(PolicyTest, AWorkloadReachesItself) {
    Workload workload = a();
    workload.egress = 5;
    workload.ingress = 5;
    node_.put(workload);
    node_.set_policy(5, MANX_CLASS_ANY, kDeny);
    to_peer(kCaliA, between(at().a, at().a, udp(1, 2)), kMacA);
}

TEST_P(PolicyTest, ExistingFlowsAreJudgedAgainIfAsked) {
    connect(1000, 80);
    to_peer(kCaliA, between(at().a, at().b, echo_request(5)), kMacB);
    b_ingress(6);
    node_.set_policy(6, kClassA, kDeny);
    ASSERT_TRUE(node_.loader().bump_policy_epoch());
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    node_.set_flags(MANX_CONFIG_REJUDGE);
    // Seen from either side it is the flow that a opened.
    drop(kCaliB, between(at().b, at().a, tcp(80, 1000)), MANX_DROP_POLICY_INGRESS);
    drop(kCaliA, between(at().a, at().b, tcp(1000, 80)), MANX_DROP_POLICY_INGRESS);
    // b, which may open flows to a, does not open this one again by sending once more.
    drop(kCaliB, between(at().b, at().a, tcp(80, 1000)), MANX_DROP_POLICY_INGRESS);
    drop(kCaliA, between(at().a, at().b, tcp(1000, 80)), MANX_DROP_POLICY_INGRESS);
    const auto request = static_cast<uint16_t>((v4() ? 8 : 128) << 8);
    node_.set_policy(6, kClassA,
                     {{.last = port_key(icmp_protocol(), static_cast<uint16_t>(request - 1)),
                       .action = MANX_ACTION_DENY,
                       .rule = 8},
                      {.last = port_key(icmp_protocol(), request), .rule = 7},
                      {.action = MANX_ACTION_DENY, .rule = 8}});
    to_peer(kCaliB, between(at().b, at().a, echo_reply(5)), kMacA);
    to_peer(kCaliA, between(at().a, at().b, echo_request(5)), kMacB);
}

TEST_P(PolicyTest, HostByEgressAndConfiguration) {
    to_this_host(kCaliA, between(at().a, at().host, tcp(1, 22, kSyn)), 1);
    node_.set_flags(MANX_CONFIG_HOST_DROP);
    drop(kCaliA, between(at().a, at().host, tcp(2, 22, kSyn)), MANX_DROP_ENDPOINT_TO_HOST);
    node_.set_flags(0);
    a_egress(5);
    node_.set_policy(5, kClassHost, kDeny);
    drop(kCaliA, between(at().a, at().host, tcp(3, 22, kSyn)), MANX_DROP_POLICY_EGRESS);
}

TEST_P(PolicyTest, TunnelsFromWorkloads) {
    drop(kCaliA, between(at().a, at().b, udp(1, 4789)), MANX_DROP_TUNNEL_FROM_WORKLOAD);
    const uint8_t ipip = v4() ? 4 : 41;
    drop(kCaliA, eth() / ip(at().a, at().b).with_protocol(ipip) / payload(40),
         MANX_DROP_TUNNEL_FROM_WORKLOAD);
    node_.set_flags(MANX_CONFIG_ALLOW_VXLAN | MANX_CONFIG_ALLOW_IPIP);
    to_peer(kCaliA, between(at().a, at().b, udp(1, 4789)), kMacB);
    to_peer(kCaliA, eth() / ip(at().a, at().b).with_protocol(ipip) / payload(40), kMacB);
}

} // namespace
} // namespace manx
