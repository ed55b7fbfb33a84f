// SPDX-License-Identifier: Apache-2.0
// What passes the host stack: this host's own traffic, services, what is forwarded there.
#include "tests/bpf/hook_test.h"

namespace manx {
namespace {

using namespace harness;

class StackTest : public HookTest {
protected:
    void deny_egress_to(uint32_t class_id) {
        Workload workload = a();
        workload.egress = kSet;
        node_.put(workload);
        node_.set_policy(kSet, class_id, {{.action = MANX_ACTION_DENY, .rule = 4}});
        node_.set_policy(kSet, MANX_CLASS_ANY, {{.rule = 5}});
    }

    void deny_ingress_to_b(uint32_t class_id) {
        Workload workload = b();
        workload.ingress = kSet + 1;
        node_.put(workload);
        node_.set_policy(kSet + 1, class_id, {{.action = MANX_ACTION_DENY, .rule = 6}});
        node_.set_policy(kSet + 1, MANX_CLASS_ANY, {{.rule = 7}});
    }

    // What a sends to the service's address; more: of its mark.
    void defer(const Layer& transport, uint32_t more = 0) {
        const Outcome out = from(kCaliA, between(at().a, at().service, transport), TC_ACT_UNSPEC,
                                 MANX_PASS_DEFERRED);
        EXPECT_EQ(out.mark, deferred(1) | more);
    }
};

INSTANTIATE_TEST_SUITE_P(Families, StackTest, testing::ValuesIn(kFamilies), family_name);

TEST_P(StackTest, ApprovedPacketsLeave) {
    leaves(kCaliB, between(at().a, at().b, udp(1, 2)), TC_ACT_OK, MANX_PASS_FROM_STACK, kCaliA,
           MANX_MARK_APPROVED);
    leaves(kUplink, between(at().a, at().remote, udp(1, 2)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           kCaliA, MANX_MARK_APPROVED | 0x4000);
}

TEST_P(StackTest, HostReachesItsWorkloadsAlways) {
    deny_ingress_to_b(kClassHost);
    Workload workload = b();
    workload.ingress = kSet + 1;
    workload.egress = kSet + 1;
    node_.put(workload);
    leaves(kCaliB, between(at().host, at().b, tcp(1000, 80, kSyn)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           0);
    to_stack(kCaliB, between(at().b, at().host, tcp(80, 1000, kSyn | kAck)));
    leaves(kCaliB, between(at().host, at().b, tcp(1000, 80)), TC_ACT_OK, MANX_PASS_FROM_STACK, 0);
    const auto flow = node_.live_flow(at().host, at().b, kTcp, 1000, 80);
    ASSERT_TRUE(flow);
    EXPECT_TRUE(flow->flags & MANX_FLOW_FROM_HOST);
    // Its address from elsewhere is not this host.
    leaves(kCaliB, between(at().host, at().b, tcp(1001, 80, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_INGRESS, kUplink);
}

TEST_P(StackTest, AnswersOfTheHostFindTheirFlow) {
    to_this_host(kCaliA, between(at().a, at().host, tcp(1, 22, kSyn)), 1);
    leaves(kCaliA, between(at().host, at().a, tcp(22, 1, kSyn | kAck)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, 0);
    to_this_host(kCaliA, between(at().a, at().host, tcp(1, 22)), 1);
    EXPECT_TRUE(node_.live_flow(at().a, at().host, kTcp, 1, 22));
}

// A node port of this very node: judged as this host on its way in, and as what it becomes.
TEST_P(StackTest, NodePortOfThisNodeIsJudgedByItsBackend) {
    deny_ingress_to_b(kClassA);
    to_this_host(kCaliA, between(at().a, at().host, tcp(1000, 30000, kSyn)), 1);
    leaves(kCaliB, between(at().a, at().b, tcp(1000, 80, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_INGRESS, kCaliA, deferred(1) | MANX_MARK_HOST_ALLOWED);
    deny_egress_to(kClassRemote);
    leaves(kUplink, between(at().a, at().remote, tcp(1000, 80, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_EGRESS, kCaliA, deferred(1) | MANX_MARK_HOST_ALLOWED);
    node_.put(b());
    leaves(kCaliB, between(at().a, at().b, udp(1000, 80)), TC_ACT_OK, MANX_PASS_FROM_STACK, kCaliA,
           deferred(1) | MANX_MARK_HOST_ALLOWED);
    // Its answer goes by the stack, which translates it back.
    to_stack(kCaliB, between(at().b, at().a, udp(80, 1000)));
}

// A direct flow to the backend is none of the service's.
TEST_P(StackTest, AServicesFlowIsNotTheDirectOne) {
    to_peer(kCaliA, between(at().a, at().b, udp(1000, 53)), kMacB);
    defer(udp(1000, 53), MANX_MARK_HOST_ALLOWED);
    leaves(kCaliB, between(at().a, at().b, udp(1000, 53)), TC_ACT_OK, MANX_PASS_FROM_STACK, kCaliA,
           deferred(1));
    to_stack(kCaliB, between(at().b, at().a, udp(53, 1000)));
}

// A flow that is older than the service whose address it goes to.
TEST_P(StackTest, AnAddressBecomesAServices) {
    to_network(kCaliA, between(at().a, at().external, udp(1000, 53)));
    node_.set_class(at().external, kClassService, MANX_CLASS_SERVICE);
    ASSERT_TRUE(node_.loader().bump_epoch());
    const Outcome out = from(kCaliA, between(at().a, at().external, udp(1000, 53)), TC_ACT_UNSPEC,
                             MANX_PASS_DEFERRED);
    EXPECT_EQ(out.mark, deferred(1) | MANX_MARK_HOST_ALLOWED);
}

TEST_P(StackTest, ServiceIsJudgedByItsTranslatedDestination) {
    deny_egress_to(kClassRemote);
    // To a local backend: allowed.
    defer(tcp(1000, 443, kSyn));
    leaves(kCaliB, between(at().a, at().b, tcp(1000, 8443, kSyn)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           kCaliA, deferred(1));
    // Its answers go back by the stack, which translates them.
    to_stack(kCaliB, between(at().b, at().a, tcp(8443, 1000, kSyn | kAck)));
    leaves(kCaliA, between(at().service, at().a, tcp(443, 1000, kSyn | kAck)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kCaliB, MANX_MARK_APPROVED);
    defer(tcp(1000, 443));
    leaves(kCaliB, between(at().a, at().b, tcp(1000, 8443)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           kCaliA, deferred(1));
    EXPECT_TRUE(node_.live_flow(at().a, at().b, kTcp, 1000, 8443));
    // To a remote backend: denied.
    defer(tcp(1001, 443, kSyn));
    leaves(kUplink, between(at().a, at().remote, tcp(1001, 8443, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_EGRESS, kCaliA, deferred(1));
    EXPECT_EQ(node_.rule_hits(4), 1U);
}

TEST_P(StackTest, MasqueradedSourceIsKnownByItsSlot) {
    deny_egress_to(kClassNet);
    defer(tcp(1000, 443, kSyn));
    leaves(kUplink, between(at().host, at().remote, tcp(40000, 8443, kSyn)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kCaliA, deferred(1));
    // The answer is for this host's address, but of a flow that we know.
    to_stack(kUplink, between(at().remote, at().host, tcp(8443, 40000, kSyn | kAck)));
    leaves(kUplink, between(at().host, at().remote, tcp(40000, 8443)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kCaliA, deferred(1));
    EXPECT_TRUE(node_.live_flow(at().host, at().remote, kTcp, 40000, 8443));
    ASSERT_TRUE(node_.loader().bump_epoch());
    leaves(kUplink, between(at().host, at().remote, tcp(40000, 8443)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kCaliA, deferred(1));
    leaves(kUplink, between(at().host, at().net, tcp(40001, 8443, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_EGRESS, kCaliA, deferred(1));
    leaves(kUplink, between(at().host, at().remote, tcp(40002, 8443, kSyn)), TC_ACT_SHOT,
           MANX_DROP_NOT_READY, kCaliA, deferred(9));
}

TEST_P(StackTest, ServiceIngressSeesTheWorkloadsClass) {
    deny_ingress_to_b(kClassA);
    defer(tcp(1000, 443, kSyn), MANX_MARK_HOST_ALLOWED);
    leaves(kCaliB, between(at().a, at().b, tcp(1000, 8443, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_INGRESS, kCaliA, deferred(1) | MANX_MARK_HOST_ALLOWED);
    leaves(kCaliB, between(at().host, at().b, tcp(40000, 8443, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_INGRESS, kCaliA, deferred(1));
}

TEST_P(StackTest, TheMarkSaysWhetherThisHostMayBeReached) {
    defer(udp(1, 2), MANX_MARK_HOST_ALLOWED);
    leaves(kUplink, between(at().a, at().remote, udp(1, 2)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           kCaliA, deferred(1) | MANX_MARK_HOST_ALLOWED);
    Workload workload = a();
    workload.staged_egress = kSet;
    node_.put(workload);
    defer(udp(1, 2), MANX_MARK_HOST_ALLOWED);
    node_.set_flags(MANX_CONFIG_HOST_DROP);
    defer(udp(1, 2));
    node_.set_flags(0);
    deny_egress_to(kClassRemote);
    defer(udp(1, 2));
}

TEST_P(StackTest, AnAnswerOfThisHostOpensNoFlowOfTheServicesAddress) {
    deny_egress_to(kClassRemote);
    leaves(kCaliA, between(at().service, at().a, tcp(443, 1000, kSyn | kAck)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, 0);
    EXPECT_FALSE(node_.new_flow(at().service, at().a, kTcp, 443, 1000));
    defer(tcp(1000, 443)); // so that what is next is judged by its backend
    leaves(kUplink, between(at().a, at().remote, tcp(1000, 8443)), TC_ACT_SHOT,
           MANX_DROP_POLICY_EGRESS, kCaliA, deferred(1));
    leaves(kCaliA, between(at().service, at().a, udp(53, 1000)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           0);
    defer(udp(1000, 53));
    // A connection that this host opens with such an address of its own is its own.
    leaves(kCaliA, between(at().service, at().a, tcp(40000, 80, kSyn)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, 0);
    to_stack(kCaliA, between(at().a, at().service, tcp(80, 40000, kSyn | kAck)));
}

TEST_P(StackTest, HairpinThroughAServiceIsAllowed) {
    Workload workload = a();
    workload.egress = MANX_SET_FIRST + 70; // without tables: would drop
    workload.ingress = MANX_SET_FIRST + 70;
    node_.put(workload);
    defer(tcp(1000, 443, kSyn));
    leaves(kCaliA, between(at().host, at().a, tcp(40000, 8443, kSyn)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kCaliA, deferred(1));
    to_stack(kCaliA, between(at().a, at().host, tcp(8443, 40000, kSyn | kAck)));
}

TEST_P(StackTest, ForwardedFromOutsideIsJudgedByIngress) {
    deny_ingress_to_b(kClassNet);
    leaves(kCaliB, between(at().external, at().b, tcp(1000, 80, kSyn)), TC_ACT_OK,
           MANX_PASS_FROM_STACK, kUplink);
    // A node port's answer: by the stack.
    to_stack(kCaliB, between(at().b, at().external, tcp(80, 1000, kSyn | kAck)));
    leaves(kCaliB, between(at().net, at().b, tcp(1000, 80, kSyn)), TC_ACT_SHOT,
           MANX_DROP_POLICY_INGRESS, kUplink);
    leaves(kCaliB, between(at().a, at().b, tcp(1000, 80, kSyn)), TC_ACT_SHOT,
           MANX_DROP_SPOOFED_SOURCE, kUplink);
}

TEST_P(StackTest, UnmarkedWorkloadTrafficIsJudgedOnItsWayOut) {
    deny_egress_to(kClassRemote);
    leaves(kUplink, between(at().a, at().external, udp(1, 2)), TC_ACT_OK, MANX_PASS_FROM_STACK,
           kCaliA);
    leaves(kUplink, between(at().a, at().remote, udp(1, 2)), TC_ACT_SHOT, MANX_DROP_POLICY_EGRESS,
           kCaliA);
    leaves(kUplink, between(at().a, at().external, udp(3, 2)), TC_ACT_SHOT,
           MANX_DROP_SPOOFED_SOURCE, kCaliB);
}

TEST_P(StackTest, WhatIsForNoWorkload) {
    const std::string elsewhere = v4() ? "10.65.0.99" : "fd65::99";
    leaves(kCaliB, between(at().external, elsewhere, udp(1, 2)), TC_ACT_SHOT, MANX_DROP_NOT_READY,
           kUplink);
    const std::string group = v4() ? "224.0.0.1" : "ff02::1";
    leaves(kCaliB, between(at().host, group, udp(1, 2)), TC_ACT_OK, MANX_PASS_NOT_OURS, 0);
}

} // namespace
} // namespace manx
