// SPDX-License-Identifier: Apache-2.0
// The life of flows: where packets go, where they may come from, how flows begin and end.
#include "tests/bpf/hook_test.h"
#include "tests/harness/sandbox.h"

#include <chrono>
#include <thread>

namespace manx {
namespace {

using namespace harness;
using std::chrono::milliseconds;

class FlowTest : public HookTest {
protected:
    static void must_run_route(const std::string& verb) {
        must_run("ip route " + verb + " default via " + (v4() ? "192.0.2.1" : "2001:db8::1"));
    }

    static void must_mtu(const std::string& device, unsigned mtu) {
        must_run("ip link set " + device + " mtu " + std::to_string(mtu));
    }
};

INSTANTIATE_TEST_SUITE_P(Families, FlowTest, testing::ValuesIn(kFamilies), family_name);

TEST_P(FlowTest, LocalTcpConnectionGoesPeerToPeer) {
    connect(1000, 80);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    EXPECT_FALSE(node_.new_flow(at().a, at().b, kTcp, 1000, 80));
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)) / payload(100), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000)) / payload(1000), kMacA);
}

TEST_P(FlowTest, UdpIsProvenByAnswersAfterTwoSeconds) {
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, udp(53, 1000)), kMacA);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, kUdp, 1000, 53)->flags & MANX_FLOW_ANSWERED);
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kUdp, 1000, 53));
    std::this_thread::sleep_for(milliseconds(2100));
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kUdp, 1000, 53));
    EXPECT_FALSE(node_.new_flow(at().a, at().b, kUdp, 1000, 53));
    to_peer(kCaliB, between(at().b, at().a, udp(53, 1000)), kMacA);
}

TEST_P(FlowTest, AHalfOpenConnectionStaysWhereItCanBeEvicted) {
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80, kSyn)), kMacB);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80, kSyn)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000, kSyn | kAck)), kMacA);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, kTcp, 1000, 80));
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
}

TEST_P(FlowTest, RefusedConnectionIsClosedAtOnce) {
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80, kSyn)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000, kRst | kAck)), kMacA);
    const auto flow = node_.new_flow(at().a, at().b, kTcp, 1000, 80);
    ASSERT_TRUE(flow);
    EXPECT_EQ(flow->timeout, MANX_TIMEOUT_TCP_CLOSING);
}

TEST_P(FlowTest, ClosedByBothLeavesTheLiveTable) {
    connect(1000, 80);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80, kFin | kAck)), kMacB);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000, kFin | kAck)), kMacA);
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    // Late packets still find it.
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000, kFin | kAck)), kMacA);
    // The same ports again: a new connection, in place.
    connect(1000, 80);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
}

TEST_P(FlowTest, ResetLeavesTheLiveTable) {
    connect(1000, 80);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000, kRst)), kMacA);
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    EXPECT_TRUE(node_.new_flow(at().a, at().b, kTcp, 1000, 80));
}

TEST_P(FlowTest, ASynOnAnEstablishedFlowIsJudgedAnew) {
    connect(1000, 80);
    node_.set_policy(kSet, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 3}});
    Workload workload = b();
    workload.ingress = kSet;
    node_.put(workload);
    // The connection goes on, a new one with its ports does not begin.
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    drop(kCaliA, between(at().a, at().b, tcp(1000, 80, kSyn)), MANX_DROP_POLICY_INGRESS);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    // Nor one in the other direction, if that is denied.
    workload.ingress = MANX_SET_ALLOW;
    workload.egress = kSet;
    node_.put(workload);
    drop(kCaliB, between(at().b, at().a, tcp(80, 1000, kSyn)), MANX_DROP_POLICY_EGRESS);
    // Recycled where it is, it keeps its ticket.
    const auto before = node_.live_flow(at().a, at().b, kTcp, 1000, 80);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80, kSyn)), kMacB);
    const auto after = node_.live_flow(at().a, at().b, kTcp, 1000, 80);
    ASSERT_TRUE(before && after);
    EXPECT_EQ(before->created, after->created);
    EXPECT_FALSE(after->flags & MANX_FLOW_ANSWERED);
}

TEST_P(FlowTest, ConnectionFromBeforeUsIsTakenOver) {
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)) / payload(10), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000)) / payload(10), kMacA);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)) / payload(10), kMacB);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    drop(kCaliA, between(at().a, at().b, tcp(1001, 80, kRst)), MANX_DROP_TCP_NOT_SYN);
}

TEST_P(FlowTest, SourcesMustBeTheirOwn) {
    drop(kCaliB, between(at().a, at().b, tcp(1000, 80, kSyn)), MANX_DROP_SPOOFED_SOURCE);
    drop(kCaliA, between(at().external, at().b, udp(1000, 80)), MANX_DROP_SPOOFED_SOURCE);
    connect(1000, 80);
    drop(kCaliB, between(at().a, at().b, tcp(1000, 80)), MANX_DROP_WRONG_INTERFACE);
    drop(kUplink, between(at().a, at().b, tcp(1000, 80)), MANX_DROP_WRONG_INTERFACE);
    EXPECT_EQ(node_.dropped(kUplink, MANX_HOOK_FROM_UPLINK, MANX_DROP_WRONG_INTERFACE), 1U);
    // A flow with the outside: a workload cannot play the outside.
    to_peer(kUplink, eth() / ip(at().external, at().b) / tcp(1000, 80, kSyn), kMacB);
    drop(kCaliA, between(at().external, at().b, tcp(1000, 80)), MANX_DROP_WRONG_INTERFACE);
    drop(kUplink, between(at().a, at().b, udp(7, 8)), MANX_DROP_SPOOFED_SOURCE);
    drop(kUplink, between(at().host, at().b, udp(7, 8)), MANX_DROP_SPOOFED_SOURCE);
}

TEST_P(FlowTest, RemotePodGoesOutOfTheUplinkAndBack) {
    to_network(kCaliA, between(at().a, at().remote, tcp(1000, 80, kSyn)));
    const auto flow = node_.new_flow(at().a, at().remote, kTcp, 1000, 80);
    ASSERT_TRUE(flow);
    EXPECT_EQ(flow->mtu[flow->flags & MANX_FLOW_FORWARD_IS_0 ? 0 : 1], 1500);
    to_peer(kUplink, between(at().remote, at().a, tcp(80, 1000, kSyn | kAck)), kMacA);
    to_network(kCaliA, between(at().a, at().remote, tcp(1000, 80)));
    EXPECT_TRUE(node_.live_flow(at().a, at().remote, kTcp, 1000, 80));
    to_network(kCaliA, between(at().a, at().remote, tcp(1000, 80)));
    to_peer(kUplink, between(at().remote, at().a, tcp(80, 1000)), kMacA);
}

TEST_P(FlowTest, RemotePodOpensAndTheAnswerFindsItsWay) {
    to_peer(kUplink, between(at().remote, at().a, tcp(1000, 80, kSyn)), kMacA);
    to_network(kCaliA, between(at().a, at().remote, tcp(80, 1000, kSyn | kAck)));
    to_peer(kUplink, between(at().remote, at().a, tcp(1000, 80)), kMacA);
    EXPECT_TRUE(node_.live_flow(at().a, at().remote, kTcp, 80, 1000));
}

TEST_P(FlowTest, WhatIsNotOursIsLeftAlone) {
    const Packet packet = between(at().external, at().host, tcp(1000, 80, kSyn));
    const Outcome out = from(kUplink, packet, TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
    EXPECT_EQ(hex(out.packet), hex(packet.bytes()));
    EXPECT_EQ(out.mark, 0U);
    from(kUplink, between(at().external, at().net, udp(1, 2)), TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
    leaves(kUplink, between(at().host, at().external, udp(1, 2)), TC_ACT_UNSPEC, MANX_PASS_NOT_OURS,
           0);
    leaves(kUplink, between(at().net, at().external, udp(1, 2)), TC_ACT_UNSPEC, MANX_PASS_NOT_OURS,
           kCaliA);
}

TEST_P(FlowTest, NatOutgoingLeavesByTheStack) {
    Workload workload = a();
    workload.flags = MANX_EP_NAT_OUTGOING;
    node_.put(workload);
    to_stack(kCaliA, between(at().a, at().external, tcp(1000, 80, kSyn)));
    // The answer comes back from the stack, translated.
    leaves(kCaliA, between(at().external, at().a, tcp(80, 1000, kSyn | kAck)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kUplink);
    to_stack(kCaliA, between(at().a, at().external, tcp(1000, 80)));
    EXPECT_TRUE(node_.live_flow(at().a, at().external, kTcp, 1000, 80));
    // Inside the pools there is no translation.
    to_network(kCaliA, between(at().a, at().remote, tcp(1000, 80, kSyn)));
    // Nor for answers to what came in directly.
    to_peer(kUplink, between(at().external, at().a, tcp(2000, 80, kSyn)), kMacA);
    to_network(kCaliA, between(at().a, at().external, tcp(80, 2000, kSyn | kAck)));
}

TEST_P(FlowTest, WithoutNatOutgoingTheOutsideIsRoutedTo) {
    to_network(kCaliA, between(at().a, at().external, udp(1000, 53)));
}

TEST_P(FlowTest, NoRouteIsTheStacksAffair) {
    must_run_route("del");
    to_stack(kCaliA, between(at().a, at().external, udp(1000, 53)));
    must_run_route("add");
    to_stack(kCaliA, between(at().a, at().external, udp(1000, 53)));
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_network(kCaliA, between(at().a, at().external, udp(1000, 53)));
}

TEST_P(FlowTest, AnEndpointThatMovesIsFoundByTheNextPacket) {
    connect(1000, 80);
    Workload workload = b();
    workload.mac.bytes[5] = 0x77;
    node_.put(workload);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), workload.mac);
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), workload.mac);
    // Gone: the packet goes where the routes say, here to the network.
    node_.forget(b());
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_network(kCaliA, between(at().a, at().b, tcp(1000, 80)));
    // And its address on another interface is another endpoint's.
    workload.ifindex = kUplink;
    drop(kCaliB, between(at().b, at().a, tcp(80, 1000)), MANX_DROP_WRONG_INTERFACE);
}

TEST_P(FlowTest, RedirectToTheHostSideWhereAsked) {
    Workload workload = b();
    workload.flags = MANX_EP_REDIRECT_HOST;
    node_.put(workload);
    const Packet packet = between(at().a, at().b, udp(1, 2));
    const Outcome out = from(kCaliA, packet, TC_ACT_REDIRECT, MANX_PASS_REDIRECT_HOST);
    EXPECT_EQ(hex(out.packet), hex(packet.forwarded(kMacB, kMacHost).bytes()));
    leaves(kCaliB, packet, TC_ACT_OK, MANX_PASS_FROM_STACK, kCaliA, out.mark);
}

TEST_P(FlowTest, AShapedWorkloadsFlowsGoByTheStackBothWays) {
    connect(1000, 80); // before there is a shaper
    Workload workload = b();
    workload.flags = MANX_EP_REDIRECT_HOST | MANX_EP_BY_STACK;
    node_.put(workload);
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_stack(kCaliA, between(at().a, at().b, tcp(1000, 80)));
    to_stack(kCaliB, between(at().b, at().a, tcp(80, 1000)));
    to_stack(kCaliA, between(at().a, at().b, udp(1, 2)));
    to_stack(kCaliB, between(at().b, at().a, udp(2, 1)));
    leaves(kCaliB, between(at().a, at().b, udp(1, 2)), TC_ACT_OK, MANX_PASS_FROM_STACK, kCaliA,
           MANX_MARK_APPROVED);
    to_stack(kCaliB, between(at().b, at().remote, udp(1, 2)));
    to_stack(kUplink, between(at().remote, at().b, udp(2, 1)));
    to_stack(kUplink, between(at().remote, at().b, udp(3, 4)));
    to_network(kCaliA, between(at().a, at().remote, udp(1, 2))); // others' do not
    node_.put(b());
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    to_network(kCaliB, between(at().b, at().remote, udp(1, 2)));
}

TEST_P(FlowTest, LastHopIsTheStacks) {
    to_stack(kCaliA, eth() / ip(at().a, at().b).with_hops(1) / udp(1, 2), MANX_PASS_SLOW_PATH);
    to_stack(kCaliA, eth() / ip(at().a, at().remote).with_hops(1) / udp(1, 2), MANX_PASS_SLOW_PATH);
    to_stack(kUplink, eth() / ip(at().remote, at().a).with_hops(1) / udp(7, 2),
             MANX_PASS_SLOW_PATH);
    to_peer(kCaliA, eth() / ip(at().a, at().b).with_hops(2) / udp(1, 2), kMacB);
}

TEST_P(FlowTest, OptionsAreTheStacks) {
    to_stack(kCaliA, eth() / ip(at().a, at().b).with_options() / udp(1, 2), MANX_PASS_SLOW_PATH);
    // But not their ports.
    node_.set_policy(kSet, MANX_CLASS_ANY,
                     {{.last = port_key(kUdp, 8), .rule = 1},
                      {.last = port_key(kUdp, 9), .action = MANX_ACTION_DENY, .rule = 2},
                      {.rule = 1}});
    Workload workload = a();
    workload.egress = kSet;
    node_.put(workload);
    drop(kCaliA, eth() / ip(at().a, at().b).with_options() / udp(1, 9), MANX_DROP_POLICY_EGRESS);
}

TEST_P(FlowTest, LongerThanTheMtuIsTheStacks) {
    must_mtu("up0", 1400);
    to_stack(kCaliA, between(at().a, at().remote, udp(1, 2)) / payload(1400), MANX_PASS_SLOW_PATH);
    to_network(kCaliA, between(at().a, at().remote, udp(1, 2)) / payload(1300));
    // Segments of a large packet are what counts.
    const Packet large = between(at().a, at().remote, tcp(5, 6)) / payload(3000);
    expect(MANX_HOOK_FROM_WORKLOAD, large, TC_ACT_REDIRECT, MANX_PASS_REDIRECT_NEIGH,
           {.ifindex = kCaliA, .gso_size = 1300});
    expect(MANX_HOOK_FROM_WORKLOAD, large, TC_ACT_UNSPEC, MANX_PASS_SLOW_PATH,
           {.ifindex = kCaliA, .gso_size = 1390});
}

TEST_P(FlowTest, LiveTableFullIsNoDrop) {
    for (uint16_t i = 0; i < 1100; i++) {
        const auto port = static_cast<uint16_t>(2000 + i);
        node_.send(MANX_HOOK_FROM_WORKLOAD, between(at().a, at().b, tcp(port, 80, kSyn)),
                   {.ifindex = kCaliA});
        node_.send(MANX_HOOK_FROM_WORKLOAD, between(at().b, at().a, tcp(80, port, kSyn | kAck)),
                   {.ifindex = kCaliB});
        node_.send(MANX_HOOK_FROM_WORKLOAD, between(at().a, at().b, tcp(port, 80)),
                   {.ifindex = kCaliA});
    }
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 2000, 80));
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kTcp, 3099, 80));
    to_peer(kCaliA, between(at().a, at().b, tcp(3099, 80)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 3099)), kMacA);
    // Room again: the next packet takes it.
    to_peer(kCaliA, between(at().a, at().b, tcp(2000, 80, kRst)), kMacB);
    to_peer(kCaliA, between(at().a, at().b, tcp(3099, 80)), kMacB);
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 3099, 80));
}

TEST_P(FlowTest, IdleFlowsExpireInTheKernel) {
    node_.set_timeout(MANX_TIMEOUT_TCP_ESTABLISHED, 4);
    connect(1000, 80);
    connect(1001, 80);
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(12);
    while (node_.live_flow(at().a, at().b, kTcp, 1000, 80) &&
           std::chrono::steady_clock::now() < give_up) {
        to_peer(kCaliA, between(at().a, at().b, tcp(1001, 80)), kMacB);
        std::this_thread::sleep_for(milliseconds(100));
    }
    EXPECT_FALSE(node_.live_flow(at().a, at().b, kTcp, 1000, 80));
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1001, 80));
}

TEST_P(FlowTest, UnprovenFlowsExpireWhenTheyAreLookedAt) {
    node_.set_timeout(MANX_TIMEOUT_UDP, 1);
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    Workload workload = b();
    node_.set_policy(kSet, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 3}});
    workload.ingress = kSet;
    node_.put(workload);
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    std::this_thread::sleep_for(milliseconds(1200));
    drop(kCaliA, between(at().a, at().b, udp(1000, 53)), MANX_DROP_POLICY_INGRESS);
}

TEST_P(FlowTest, OtherTransports) {
    to_peer(kCaliA, between(at().a, at().b, sctp(1000, 3868)), kMacB);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, 132, 1000, 3868));
    to_peer(kCaliB, between(at().b, at().a, sctp(3868, 1000)), kMacA);
    to_peer(kCaliA, eth() / ip(at().a, at().b).with_protocol(47) / payload(20), kMacB);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, 47, 0, 0));
}

// The address goes to another pod: flows of the old one are none of the new one's.
TEST_P(FlowTest, AFlowEndsWithItsWorkload) {
    connect(1000, 80);
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    Workload next = b();
    next.ifindex = kCaliB + 10;
    next.ingress = kSet;
    node_.set_policy(kSet, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 9}});
    node_.put(next);
    ASSERT_TRUE(node_.loader().bump_epoch());
    drop(kCaliA, between(at().a, at().b, udp(1000, 53)), MANX_DROP_POLICY_INGRESS);
    drop(kCaliA, between(at().a, at().b, tcp(1000, 80)), MANX_DROP_POLICY_INGRESS);
    EXPECT_EQ(node_.rule_hits(9), 2U);
    // From the network too.
    node_.put(b());
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_peer(kUplink, between(at().remote, at().b, udp(7, 53)), kMacB);
    node_.put(next);
    ASSERT_TRUE(node_.loader().bump_epoch());
    drop(kUplink, between(at().remote, at().b, udp(7, 53)), MANX_DROP_POLICY_INGRESS);
}

// What changes elsewhere ends no flow, whatever policy says of new ones.
TEST_P(FlowTest, AFlowOutlivesOtherWorkloads) {
    connect(1000, 80);
    Workload other = b();
    other.ingress = kSet;
    node_.set_policy(kSet, MANX_CLASS_ANY, {{.action = MANX_ACTION_DENY, .rule = 9}});
    node_.put(other);
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_peer(kCaliA, between(at().a, at().b, tcp(1000, 80)), kMacB);
    to_peer(kCaliB, between(at().b, at().a, tcp(80, 1000)), kMacA);
}

} // namespace
} // namespace manx
