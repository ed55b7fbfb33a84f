// SPDX-License-Identifier: Apache-2.0
#include "agent/app/enforce_waiters.h"

#include <gtest/gtest.h>

#include <map>

namespace manx::app {
namespace {

using std::chrono::milliseconds;

class EnforceWaitersTest : public ::testing::Test {
protected:
    void wait(const std::string& interface) {
        waiters.add(interface, now, [this, interface](Result<void> done) {
            EXPECT_TRUE(answers.emplace(interface, done ? "" : done.error().message).second);
        });
    }

    void settle(const Result<void>& written, const std::string& in_force = "") {
        waiters.settle(
            written, [&](const std::string& interface) { return interface == in_force; }, now);
    }

    using Answers = std::map<std::string, std::string>;

    EnforceWaiters waiters;
    EnforceWaiters::Time now;
    Answers answers;
    const Result<void> full = fail(ErrorKind::Exhausted, "full");
};

TEST_F(EnforceWaitersTest, WrittenIsForAll) {
    wait("a");
    wait("b");
    settle({});
    EXPECT_EQ(answers, (Answers{{"a", ""}, {"b", ""}}));
    EXPECT_TRUE(waiters.empty());
}

// Somebody else's policy does not fit: who is in the tables is done, who is not is tried again.
TEST_F(EnforceWaitersTest, OnlyWhoIsNotInForceIsTold) {
    wait("in");
    wait("out");
    settle(full, "in");
    EXPECT_EQ(answers, (Answers{{"in", ""}}));
    now += EnforceWaiters::kPatience - milliseconds(1);
    wait("late");
    settle(full);
    EXPECT_EQ(answers, (Answers{{"in", ""}}));
    now += milliseconds(1);
    settle(full);
    EXPECT_EQ(answers, (Answers{{"in", ""}, {"out", "full"}}));
    settle({});
    EXPECT_EQ(answers, (Answers{{"in", ""}, {"out", "full"}, {"late", ""}}));
    EXPECT_TRUE(waiters.empty());
}

TEST_F(EnforceWaitersTest, AnAnswerMayBringAnotherWaiter) {
    waiters.add("a", now, [this](const Result<void>&) { wait("b"); });
    settle({});
    EXPECT_FALSE(waiters.empty());
    settle({});
    EXPECT_EQ(answers, (Answers{{"b", ""}}));
}

} // namespace
} // namespace manx::app
