// SPDX-License-Identifier: Apache-2.0
// Questions: the programs answer as they would judge, and leave nothing behind.
#include "agent/dataplane/flows.h"
#include "agent/dataplane/question.h"
#include "tests/bpf/hook_test.h"

namespace manx {
namespace {

using namespace harness;

constexpr const char* kBpffs = "/sys/fs/bpf/manx"; // the harness's

class QuestionTest : public HookTest {
protected:
    void SetUp() override {
        Workload sender = a();
        sender.egress = 5;
        sender.staged_egress = 7;
        node_.put(sender);
        Workload receiver = b();
        receiver.ingress = 6;
        node_.put(receiver);
        for (const uint32_t set : {5U, 6U, 7U}) {
            node_.set_policy(set, MANX_CLASS_ANY,
                             {{.last = port_key(kTcp, 99), .rule = set * 10},
                              {.action = MANX_ACTION_DENY, .rule = set * 10 + 1}});
        }
        node_.set_policy(5, MANX_CLASS_ANY, {{.rule = 50, .log = true}});
    }

    dataplane::Answer ask(manx_hook hook, const std::string& from, const std::string& to,
                          uint16_t port, uint32_t ifindex, uint32_t ingress = 0) {
        const auto programs = dataplane::LivePrograms::open(kBpffs);
        EXPECT_TRUE(programs) << programs.error().text();
        const auto answer = programs->ask(hook,
                                          {.from = *IpAddress::parse(from),
                                           .to = *IpAddress::parse(to),
                                           .protocol = kTcp,
                                           .source_port = 4000,
                                           .port = port},
                                          ifindex, ingress);
        EXPECT_TRUE(answer) << answer.error().text();
        EXPECT_TRUE(*answer) << "not judged";
        return answer->value_or(dataplane::Answer{});
    }

    // What live traffic would leave in the tables.
    void expect_no_trace() {
        EXPECT_TRUE(node_.take_events().empty());
        for (const uint32_t rule : {0U, 50U, 51U, 60U, 61U, 70U, 71U}) {
            EXPECT_EQ(node_.rule_hits(rule), 0U) << rule;
        }
        const auto totals = node_.loader().per_cpu_map(maps::kTotals);
        ASSERT_TRUE(totals);
        ASSERT_TRUE(totals->for_each([](uint32_t index, const manx_counter& value) {
            EXPECT_EQ(value.packets, 0U) << index;
        }));
        const auto drops = node_.loader().per_cpu_map(maps::kCounters);
        ASSERT_TRUE(drops);
        ASSERT_TRUE(drops->for_each([](const manx_counter_key& key, const manx_counter&) {
            ADD_FAILURE() << "a drop by reason " << key.reason;
        }));
        ASSERT_TRUE(dataplane::each_flow(kBpffs, [](const dataplane::LiveFlow& flow) {
            ADD_FAILURE() << "a flow from " << flow.from.text();
        }));
    }
};

INSTANTIATE_TEST_SUITE_P(Families, QuestionTest, testing::ValuesIn(kFamilies), family_name);

TEST_P(QuestionTest, BothSidesAnswerWithTheirRules) {
    const auto allowed = ask(MANX_HOOK_FROM_WORKLOAD, at().a, at().b, 80, kCaliA);
    EXPECT_EQ(allowed.reason, MANX_REASON_NONE);
    EXPECT_EQ(allowed.egress_rule, 50U);
    EXPECT_EQ(allowed.ingress_rule, 60U);
    EXPECT_TRUE(allowed.log);
    const auto denied = ask(MANX_HOOK_FROM_WORKLOAD, at().a, at().b, 100, kCaliA);
    EXPECT_EQ(denied.reason, MANX_DROP_POLICY_INGRESS);
    EXPECT_EQ(denied.egress_rule, 50U);
    EXPECT_EQ(denied.ingress_rule, 61U);
    expect_no_trace();
}

TEST_P(QuestionTest, FromTheNetworkAndFromThisHost) {
    EXPECT_EQ(ask(MANX_HOOK_FROM_UPLINK, at().remote, at().b, 80, kUplink).ingress_rule, 60U);
    EXPECT_EQ(ask(MANX_HOOK_FROM_UPLINK, at().remote, at().b, 100, kUplink).reason,
              MANX_DROP_POLICY_INGRESS);
    EXPECT_EQ(ask(MANX_HOOK_FROM_UPLINK, at().remote, at().external, 80, kUplink).reason,
              MANX_PASS_NOT_OURS);
    EXPECT_EQ(ask(MANX_HOOK_TO_WORKLOAD, at().host, at().b, 100, kCaliB).reason, MANX_REASON_NONE);
    EXPECT_EQ(ask(MANX_HOOK_TO_WORKLOAD, at().remote, at().b, 100, kCaliB, kUplink).reason,
              MANX_DROP_POLICY_INGRESS);
    expect_no_trace();
}

TEST_P(QuestionTest, WhatIsNotPolicyHasItsName) {
    EXPECT_EQ(ask(MANX_HOOK_FROM_WORKLOAD, at().b, at().a, 80, kCaliA).reason,
              MANX_DROP_SPOOFED_SOURCE);
    EXPECT_EQ(ask(MANX_HOOK_FROM_WORKLOAD, at().a, at().service, 80, kCaliA).reason,
              MANX_PASS_DEFERRED);
    node_.set_flags(MANX_CONFIG_HOST_DROP);
    EXPECT_EQ(ask(MANX_HOOK_FROM_WORKLOAD, at().a, at().host, 80, kCaliA).reason,
              MANX_DROP_ENDPOINT_TO_HOST);
    expect_no_trace();
}

TEST_P(QuestionTest, AFlowThatExistsIsToldApartAndUntouched) {
    const auto ip = [](const std::string& text) { return *IpAddress::parse(text); };
    const auto exists = [&](uint16_t source_port) {
        return *dataplane::flow_exists(kBpffs, ip(at().a), ip(at().b), kTcp, source_port, 80);
    };
    EXPECT_FALSE(exists(4000));
    connect(4000, 80);
    EXPECT_TRUE(exists(4000));
    EXPECT_FALSE(exists(4001));
    const auto before = node_.live_flow(at().a, at().b, kTcp, 4000, 80);
    ASSERT_TRUE(before);
    // A SYN of the same ports asks for a new flow; the old one stays as it is.
    EXPECT_EQ(ask(MANX_HOOK_FROM_WORKLOAD, at().a, at().b, 80, kCaliA).reason, MANX_REASON_NONE);
    const auto after = node_.live_flow(at().a, at().b, kTcp, 4000, 80);
    ASSERT_TRUE(after);
    EXPECT_EQ(after->created, before->created);
    EXPECT_EQ(after->way[0].flags | after->way[1].flags, 0);
    size_t flows = 0;
    ASSERT_TRUE(dataplane::each_flow(kBpffs, [&](const dataplane::LiveFlow& flow) {
        ++flows;
        EXPECT_EQ(flow.from.text() + " " + flow.to.text(), at().a + " " + at().b);
        EXPECT_EQ(flow.source_port, 4000);
        EXPECT_EQ(flow.port, 80);
        EXPECT_TRUE(flow.answered);
    }));
    EXPECT_EQ(flows, 1U);
}

TEST_P(QuestionTest, TheMarkAloneIsNoQuestion) {
    const auto packet = between(at().a, at().b, tcp(4000, 80, kSyn));
    const Sent sent = node_.send(MANX_HOOK_FROM_WORKLOAD, packet,
                                 {.ifindex = kCaliA, .mark = MANX_MARK_QUESTION});
    EXPECT_EQ(sent.outcome.verdict, TC_ACT_REDIRECT);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, kTcp, 4000, 80));
}

} // namespace
} // namespace manx
