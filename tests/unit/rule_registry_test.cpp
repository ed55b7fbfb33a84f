// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/rule_registry.h"
#include "maps/abi/policy.h"

#include <gtest/gtest.h>

#include <set>

namespace manx::calc {
namespace {

RuleName name(int index) {
    return {.policy = "NetworkPolicy a/p", .direction = api::Direction::Ingress, .index = index};
}

TEST(RuleRegistry, EveryNumberIsGivenOnceAndAgain) {
    for (const uint32_t capacity : {2U, 64U, 65U, 1000U, uint32_t{MANX_RULES}}) {
        RuleRegistry registry(capacity);
        std::set<uint32_t> numbers;
        for (uint32_t i = 0; i + 1 < capacity; ++i) {
            const uint32_t number = registry.acquire(name(static_cast<int>(i)));
            ASSERT_GT(number, 0U);
            ASSERT_LT(number, capacity);
            ASSERT_TRUE(numbers.insert(number).second) << number;
        }
        EXPECT_EQ(registry.acquire(name(-1)), 0U) << "all are taken";
        const uint32_t first = *numbers.begin();
        registry.release(first);
        EXPECT_EQ(registry.acquire(name(-1)), first) << "the only one";
        registry.release(first);
        const uint32_t last = *numbers.rbegin();
        registry.release(last);
        EXPECT_EQ(registry.find(first), nullptr);
        std::set<uint32_t> again;
        again.insert(registry.acquire(name(-1)));
        again.insert(registry.acquire(name(-2)));
        EXPECT_EQ(again,
                  (capacity == 2 ? std::set<uint32_t>{0, 1} : std::set<uint32_t>{first, last}));
    }
}

// A name keeps its number from process to process; where two would have one, the first does.
TEST(RuleRegistry, NumbersComeFromNames) {
    RuleRegistry one(MANX_RULES);
    RuleRegistry other(MANX_RULES);
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(one.acquire(name(i)), other.acquire(name(i)));
    }
    const uint32_t number = one.acquire(name(7));
    one.release(number);
    EXPECT_NE(one.find(number), nullptr) << "counted";
    one.release(number);
    EXPECT_EQ(one.find(number), nullptr);
    EXPECT_EQ(one.take_released(), std::vector<uint32_t>{number});
    EXPECT_EQ(one.acquire(name(7)), number);
    EXPECT_TRUE(one.take_released().empty());
}

} // namespace
} // namespace manx::calc
