// SPDX-License-Identifier: Apache-2.0
// Rules with source ports: what they cost, and what happens beyond the bounds.
#include "agent/calc/port_table.h"
#include "tests/policy/memory_world.h"

#include <chrono>

namespace manx::testing_policy {
namespace {

using calc::Range;
using calc::RuleStep;
using calc::StepAction;

constexpr uint32_t kTcp = 6U << 16;

RuleStep step(StepAction action, uint32_t rule, std::vector<Range> source,
              std::vector<Range> destination = {{kTcp, kTcp | 0xffffU}}) {
    return {.action = action,
            .rule = rule,
            .ranges = std::move(destination),
            .source_ports = std::move(source)};
}

RuleStep denied_end() {
    return {.action = StepAction::TierEndDeny, .rule = 1, .ranges = {}, .source_ports = {}};
}

Range port(uint32_t number) {
    return {kTcp | number, kTcp | number};
}

// First match, one rule after the other; for steps of one tier without Pass.
calc::Verdict first_match(const std::vector<RuleStep>& steps, uint32_t source, uint32_t to) {
    const auto inside = [](const std::vector<Range>& ranges, uint32_t value) {
        return std::ranges::any_of(ranges, [value](const Range& range) {
            return range.first <= value && value <= range.last;
        });
    };
    bool log = false;
    for (const auto& one : steps) {
        if (one.action == StepAction::TierEndDeny) {
            return {false, one.rule, log};
        }
        if (!inside(one.ranges, to) ||
            (!one.source_ports.empty() && !inside(one.source_ports, source))) {
            continue;
        }
        if (one.action != StepAction::Log) {
            return {one.action == StepAction::Allow, one.rule, log};
        }
        log = true;
    }
    return {true, 0, log};
}

TEST(SourcePorts, TheTableSaysWhatTheRulesSay) {
    uint32_t seed = 7;
    const auto random = [&seed](uint32_t below) {
        seed = seed * 1664525 + 1013904223;
        return (seed >> 8) % below;
    };
    const auto ranges = [&] {
        std::vector<Range> out;
        const uint32_t count = random(3) + 1;
        for (uint32_t i = 0; i < count; ++i) {
            const uint32_t protocol = random(8) == 0 ? 17U << 16 : kTcp;
            const uint32_t first = random(8) == 0 ? 0xfff0 + random(16) : random(24);
            out.push_back({protocol | first, protocol | std::min(0xffffU, first + random(9))});
        }
        calc::normalize(out);
        return out;
    };
    for (int round = 0; round < 300; ++round) {
        std::vector<RuleStep> steps;
        for (uint32_t rule = 2; rule < 12; ++rule) {
            const uint32_t kind = random(5);
            steps.push_back(step(kind == 0   ? StepAction::Log
                                 : kind <= 2 ? StepAction::Allow
                                             : StepAction::Deny,
                                 rule, random(3) == 0 ? std::vector<Range>{} : ranges(),
                                 random(4) == 0 ? std::vector{calc::kEverything} : ranges()));
        }
        steps.push_back(denied_end());
        const auto table = calc::compile_port_table(steps);
        ASSERT_FALSE(table.too_big);
        for (const uint32_t protocol : {kTcp, 17U << 16, 1U << 16, 5U << 16, 0xffU << 16}) {
            for (uint32_t from = 0; from < 0x10000; from = from == 40 ? 0xffe8 : from + 1) {
                for (uint32_t to = 0; to < 0x10000; to = to == 40 ? 0xffe8 : to + 1) {
                    const auto is = calc::search(table, protocol | from, protocol | to);
                    const auto should = first_match(steps, protocol | from, protocol | to);
                    ASSERT_EQ(is.rule, should.rule) << round << " " << from << " " << to;
                    ASSERT_EQ(is.allow, should.allow);
                    ASSERT_EQ(is.log, should.log);
                }
            }
        }
    }
}

// Far below what the loop notices; the bound leaves room for a machine that is busy.
TEST(SourcePorts, AThousandRulesAreMadeInMilliseconds) {
    std::vector<RuleStep> steps;
    for (uint32_t i = 0; i < 1000; ++i) {
        steps.push_back(step(StepAction::Allow, i + 2, {port(1000 + 2 * i)}, {port(5000 + 2 * i)}));
    }
    steps.push_back(denied_end());
    const auto begin = std::chrono::steady_clock::now();
    const auto table = calc::compile_port_table(steps);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begin);
    RecordProperty("milliseconds", static_cast<int>(took.count()));
    EXPECT_LT(took.count(), 500);
    EXPECT_FALSE(table.too_big);
    EXPECT_EQ(calc::search(table, kTcp | 1010, kTcp | 5010).rule, 7U);
    EXPECT_EQ(calc::search(table, kTcp | 1010, kTcp | 5012).rule, 1U);
}

// Every second port of all protocols: more intervals than a 16-bit count holds.
TEST(SourcePorts, BeyondTheBoundsNothingOpens) {
    std::vector<Range> odd;
    for (uint32_t number = 1; number < 0x10000; number += 2) {
        odd.push_back(port(number));
    }
    for (const auto& pass_or_deny : {StepAction::Pass, StepAction::Deny}) {
        const std::vector<RuleStep> steps{
            step(pass_or_deny, 2, odd, {port(80)}), step(StepAction::Allow, 3, odd, {port(81)}),
            step(StepAction::Allow, 4, {}, {{kTcp | 80, kTcp | 82}}), denied_end()};
        const auto table = calc::compile_port_table(steps);
        EXPECT_TRUE(table.too_big);
        EXPECT_EQ(calc::search(table, kTcp | 1, kTcp | 80).allow, false);
        EXPECT_EQ(calc::search(table, kTcp | 2, kTcp | 80).allow, false);
        EXPECT_EQ(calc::search(table, kTcp | 1, kTcp | 81).rule, 4U);
        EXPECT_EQ(calc::search(table, kTcp | 1, kTcp | 82).rule, 4U);
        EXPECT_EQ(calc::search(table, kTcp | 1, kTcp | 83).rule, 1U);
    }
}

json allow_from(uint32_t first, uint32_t count) {
    json rules = json::array();
    for (uint32_t number = first; number < first + 2 * count; number += 100) {
        json ports = json::array();
        for (uint32_t one = number; one < std::min(number + 100, first + 2 * count); one += 2) {
            ports.push_back(one);
        }
        rules.push_back(
            {{"action", "Allow"}, {"protocol", "TCP"}, {"source", {{"ports", std::move(ports)}}}});
    }
    return rules;
}

json policy(const std::string& name, json rules, double order) {
    return {{"apiVersion", "projectcalico.org/v3"},
            {"kind", "GlobalNetworkPolicy"},
            {"metadata", {{"name", name}}},
            {"spec",
             {{"selector", "all()"},
              {"order", order},
              {"types", {"Ingress"}},
              {"ingress", std::move(rules)}}}};
}

class ManySourcePorts : public testing::Test {
protected:
    ManySourcePorts() {
        for (const auto& [name, address, node] :
             {std::tuple{"server", "10.0.0.1", "n1"}, std::tuple{"client", "10.0.0.2", "n2"}}) {
            world_.put({{"kind", "Pod"},
                        {"metadata", {{"name", name}, {"namespace", "a"}}},
                        {"spec", {{"nodeName", node}}},
                        {"status", {{"podIPs", {{{"ip", address}}}}}}});
        }
    }

    bool reaches(int source) {
        world_.flush();
        return world_
            .ask({.from = *IpAddress::parse("10.0.0.2"),
                  .to = *IpAddress::parse("10.0.0.1"),
                  .protocol = 6,
                  .source_port = source,
                  .port = 80})
            .ingress;
    }

    TableWorld world_;
};

TEST_F(ManySourcePorts, APolicyWithTooManyIsolatesAndIsNamed) {
    const auto fits = api::parse_policy(api::Kind::GlobalNetworkPolicy,
                                        policy("p", allow_from(1, api::kMaxSourcePorts), 1));
    ASSERT_TRUE(fits);
    EXPECT_TRUE(fits->problems.empty());
    const json over = policy("p", allow_from(1, api::kMaxSourcePorts + 1), 1);
    const auto parsed = api::parse_policy(api::Kind::GlobalNetworkPolicy, over);
    ASSERT_TRUE(parsed);
    ASSERT_EQ(parsed->problems.size(), 1U);
    EXPECT_EQ(parsed->problems.front(),
              "spec.ingress: expected at most 4096 separate source ports in all rules, found 4097");
    world_.put(policy("p", allow_from(1, api::kMaxSourcePorts), 1));
    EXPECT_TRUE(reaches(1));
    EXPECT_FALSE(reaches(2));
    world_.put(over);
    EXPECT_FALSE(reaches(1));
    EXPECT_TRUE(world_.calculator.take_too_big().empty());
}

TEST_F(ManySourcePorts, PoliciesThatTogetherHaveTooManyAreNamed) {
    for (uint32_t i = 0; i < 2; ++i) {
        world_.put(policy("p" + std::to_string(i), allow_from(1 + i * 8192, 4096), i));
    }
    EXPECT_FALSE(reaches(1));
    EXPECT_EQ(world_.calculator.take_too_big(),
              (std::vector<std::string>{"GlobalNetworkPolicy p0", "GlobalNetworkPolicy p1"}));
    EXPECT_FALSE(world_.calculator
                     .judge(*IpAddress::parse("10.0.0.1"), api::Direction::Ingress,
                            *IpAddress::parse("10.0.0.2"),
                            {.protocol = 6, .source_port = 1, .destination_port = 80})
                     .allow);
    world_.remove(policy("p1", json::array(), 1));
    EXPECT_TRUE(reaches(1));
    EXPECT_FALSE(reaches(2));
}

} // namespace
} // namespace manx::testing_policy
