// SPDX-License-Identifier: Apache-2.0
// PolicyTables, step by step: whose room is whose, and when it is free again.
#include "tests/policy/raw_tables.h"

#include <gtest/gtest.h>

#include <vector>

namespace manx::testing_policy {
namespace {

using Steps = std::vector<calc::TableStep>;
using std::chrono::milliseconds;

constexpr uint32_t kAny = MANX_CLASS_ANY;

class PolicyTablesTest : public ::testing::Test {
protected:
    explicit PolicyTablesTest(dataplane::MemoryTables::Limits limits = {}) : memory(limits) {
        EXPECT_TRUE(tables.resync({}));
    }

    void TearDown() override { expect_counted(); }

    void apply(const Steps& steps) {
        const auto done = tables.apply({steps});
        ASSERT_TRUE(done) << done.error().text();
        expect_counted();
    }

    void pass(milliseconds time) {
        now += time;
        const auto done = tables.collect();
        ASSERT_TRUE(done) << done.error().text();
        expect_counted();
    }

    void expect_counted() { EXPECT_EQ(miscounted(tables, memory), std::nullopt); }

    uint32_t rule(uint32_t set, uint32_t class_id) const {
        const auto verdict = memory.judge(set, class_id, 6, 1, 80);
        return verdict.broken ? 0 : verdict.rule;
    }

    std::chrono::steady_clock::time_point now;
    dataplane::MemoryTables memory;
    dataplane::PolicyTables tables{memory, [this] { return now; }};
    calc::PortTablePtr a = port_table(1, 3);
    calc::PortTablePtr b = port_table(2, 2);
    calc::PortTablePtr c = port_table(3, 4);
};

// A table whose last user goes in an earlier batch of the update that wants it.
TEST_F(PolicyTablesTest, ATableOfTheUpdateStaysThroughoutIt) {
    apply({put(2, 7, a), put(2, kAny, b), put(11, 1, c), put(11, kAny, b)});
    apply({drop(2, kAny), drop(2, 7)});
    apply({put(2, kAny, c), drop(11, 1), put(3, kAny, a)});
    EXPECT_EQ(rule(2, 7), 3U) << "what the number had before does not speak for it";
    EXPECT_EQ(rule(3, 1), 1U);
    EXPECT_EQ(tables.usage().tables, 3U);
    pass(milliseconds(500));
    EXPECT_EQ(rule(11, 1), 2U);
}

// The same, where the table is overwritten and nothing else has it for a while.
TEST_F(PolicyTablesTest, ATableThatIsOverwrittenAndComesBackInTheSameUpdate) {
    apply({put(2, kAny, a), address("10.0.0.1/32", 1)});
    apply({put(2, kAny, b), address("10.0.0.1/32", 2), put(3, kAny, a)});
    EXPECT_EQ(rule(2, 1), 2U);
    EXPECT_EQ(rule(3, 1), 1U);
    EXPECT_EQ(tables.usage().port_entries, 5U) << "nothing was written twice";
    EXPECT_FALSE(tables.waiting());
}

class SmallPolicyTables : public PolicyTablesTest {
protected:
    SmallPolicyTables() : PolicyTablesTest({.ports = 20, .policies = 8}) {}

    // All that an endpoint has is replaced, under another number.
    Steps generation(uint32_t number) {
        const uint32_t set = 10 + number % 3;
        const uint32_t old = 10 + (number + 2) % 3;
        Steps out{put(set, 1, port_table(100 + number, 6)), put(set, kAny, port_table(number, 4)),
                  endpoint("10.0.0.1", set)};
        if (number > 0) {
            out.push_back(drop(old, kAny));
            out.push_back(drop(old, 1));
        }
        return out;
    }
};

// One grace period between naming nobody and being free, not two: the tables of now and those of
// before are all that there is at a time.
TEST_F(SmallPolicyTables, TwoGenerationsAreEnough) {
    for (uint32_t number = 0; number < 50; ++number) {
        apply(generation(number));
        EXPECT_EQ(tables.usage().port_entries, number == 0 ? 10U : 20U);
        now += milliseconds(700);
    }
    pass(milliseconds(0));
    EXPECT_EQ(tables.usage().port_entries, 10U);
    EXPECT_FALSE(tables.waiting());
}

// With programs that can be waited for, not even the pause is needed.
TEST_F(SmallPolicyTables, WhatWaitsGoesAtOnceWhenItsRoomIsNeeded) {
    int waits = 0;
    memory.on_wait = [&]() -> Result<void> {
        ++waits;
        return {};
    };
    for (uint32_t number = 0; number < 10; ++number) {
        apply(generation(number));
    }
    EXPECT_EQ(waits, 8);
    EXPECT_EQ(rule(10, 1), 109U);
}

// Somebody's new policy has no room at all: he keeps the old one, but a workload that comes has its
// own, and addresses go on.
TEST_F(SmallPolicyTables, WhoComesIsNotKeptOutByWhatDoesNotFit) {
    apply({put(2, 1, a), put(2, kAny, b), address("10.0.1.1/32", 1), endpoint("10.0.0.1", 2)});
    const auto large = port_table(9, 19);
    const Steps next{put(3, kAny, large),       put(4, kAny, c),         put(4, 5, b),
                     address("10.0.1.1/32", 5), endpoint("10.0.0.1", 3), endpoint("10.0.0.2", 4)};
    EXPECT_FALSE(tables.apply({next}));
    EXPECT_FALSE(tables.in_force(*IpAddress::parse("10.0.0.2"), 1));
    const auto full = tables.resync({next});
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().kind, ErrorKind::Exhausted);
    EXPECT_TRUE(tables.behind());
    expect_counted();
    EXPECT_TRUE(tables.in_force(*IpAddress::parse("10.0.0.1"), 1));
    EXPECT_TRUE(tables.in_force(*IpAddress::parse("10.0.0.2"), 1));
    EXPECT_EQ(memory.endpoint(*IpAddress::parse("10.0.0.1"))->ingress_set, 2U);
    EXPECT_EQ(memory.endpoint(*IpAddress::parse("10.0.0.2"))->ingress_set, 4U);
    EXPECT_EQ(memory.classify(*IpAddress::parse("10.0.1.1")).class_id, 5U);
    EXPECT_EQ(rule(2, 5), 1U) << "what the old set said of that address";
    EXPECT_EQ(rule(4, 5), 2U);
    // With less it comes into force.
    const Steps less{put(3, kAny, a),           put(4, kAny, c),         put(4, 5, b),
                     address("10.0.1.1/32", 5), endpoint("10.0.0.1", 3), endpoint("10.0.0.2", 4)};
    const auto done = tables.resync({less});
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(memory.endpoint(*IpAddress::parse("10.0.0.1"))->ingress_set, 3U);
    pass(milliseconds(500));
    EXPECT_EQ(tables.usage().policies, 3U);
}

// Old and new have room each alone, not side by side, and there is nobody else whose going would
// make room.
TEST_F(SmallPolicyTables, WhatNeverFitsBesideTheOldTakesItsPlace) {
    for (const bool can_wait : {false, true}) {
        memory.on_wait = can_wait ? []() -> Result<void> { return {}; }
                                  : std::function<Result<void>()>();
        const uint32_t set = can_wait ? 6 : 5;
        const auto big = port_table(set, 14);
        const Steps snapshot{put(set, kAny, big), endpoint("10.0.0.1", set)};
        const bool first = !can_wait;
        if (first) {
            apply({put(2, kAny, port_table(2, 12)), endpoint("10.0.0.1", 2)});
        }
        ASSERT_FALSE(tables.apply({snapshot}));
        const auto done = tables.resync({snapshot});
        EXPECT_EQ(done.has_value(), can_wait);
        if (!can_wait) {
            EXPECT_EQ(memory.endpoint(*IpAddress::parse("10.0.0.1"))->ingress_set,
                      uint32_t{MANX_SET_DENY});
            now += milliseconds(500);
            const auto then = tables.resync({snapshot});
            ASSERT_TRUE(then) << then.error().text();
        }
        EXPECT_EQ(rule(set, 1), set);
        EXPECT_EQ(memory.endpoint(*IpAddress::parse("10.0.0.1"))->ingress_set, set);
        expect_counted();
    }
}

// Without a pause there is no room for a third: the old ones stay, and it comes later.
TEST_F(SmallPolicyTables, WhatDoesNotFitBesideWhatWaitsComesWhenThatIsGone) {
    apply(generation(0));
    apply(generation(1));
    now += milliseconds(100);
    int writes = 0;
    memory.on_write = [&](std::string_view) -> Result<void> {
        ++writes;
        return {};
    };
    const auto full = tables.apply({generation(2)});
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().kind, ErrorKind::Exhausted);
    EXPECT_EQ(writes, 0);
    EXPECT_TRUE(tables.waiting());
    expect_counted();
    auto snapshot = generation(2);
    snapshot.resize(3);
    now += milliseconds(500);
    const auto done = tables.resync({snapshot});
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(rule(12, 1), 102U);
    expect_counted();
    pass(milliseconds(500));
    EXPECT_EQ(tables.usage().port_entries, 10U);
}

// A set that waited to be removed and is wanted again by an update that did not fit.
TEST_F(SmallPolicyTables, WhatWaitsAndIsWantedAgainStays) {
    apply({put(2, 1, a), put(2, kAny, b), endpoint("10.0.0.1", 2)});
    apply({put(3, kAny, c), endpoint("10.0.0.1", 3), drop(2, kAny), drop(2, 1)});
    now += milliseconds(100);
    const auto large = port_table(9, 16);
    const Steps back{put(2, 1, a), put(2, kAny, b), put(4, kAny, large), endpoint("10.0.0.1", 2),
                     drop(3, kAny)};
    ASSERT_FALSE(tables.apply({back}));
    const auto done = tables.resync({{put(2, 1, a), put(2, kAny, b), endpoint("10.0.0.1", 2)}});
    ASSERT_TRUE(done) << done.error().text();
    pass(milliseconds(500));
    pass(milliseconds(500));
    EXPECT_EQ(rule(2, 1), 1U);
    EXPECT_EQ(rule(2, 5), 2U);
    EXPECT_EQ(tables.usage().policies, 2U);
}

// Room that somebody may still read is not written: not when its last entry was overwritten just
// now, whatever went before.
TEST_F(SmallPolicyTables, RoomThatWasNamedJustNowWaits) {
    apply({put(2, 1, a), put(2, kAny, b), address("10.0.0.1/32", 1)});
    apply({no_address("10.0.0.1/32"), drop(2, 1)});
    now += milliseconds(450);
    apply({put(3, kAny, a)});
    apply({put(3, kAny, b)}); // a has one user left, which is leaving
    now += milliseconds(100);
    ASSERT_TRUE(tables.collect()); // and now none
    EXPECT_EQ(tables.usage().port_entries, 5U);
    EXPECT_TRUE(tables.waiting());
    pass(milliseconds(400));
    EXPECT_EQ(tables.usage().port_entries, 2U);
    EXPECT_FALSE(tables.waiting());
}

} // namespace
} // namespace manx::testing_policy
