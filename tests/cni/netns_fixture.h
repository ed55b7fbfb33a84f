// SPDX-License-Identifier: Apache-2.0
// Network namespaces without names: they vanish with the last descriptor, so nothing is left
// behind however a test ends.
#pragma once

#include "agent/netlink/netns.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sched.h>
#include <thread>

namespace manx::test {

inline Result<UniqueFd> new_netns() {
    Result<UniqueFd> made;
    std::thread([&] {
        if (unshare(CLONE_NEWNET) != 0) {
            made = fail_errno("new network namespace");
            return;
        }
        made = netlink::open_netns("/proc/thread-self/ns/net");
    }).join();
    return made;
}

// The test's thread is on a node of its own; pods are made by new_netns().
class NetnsTest : public testing::Test {
protected:
    void SetUp() override {
        auto node = new_netns();
        if (!node && node.error().err == EPERM) {
            GTEST_SKIP() << "needs the right to make network namespaces";
        }
        ASSERT_TRUE(node) << node.error().text();
        node_ = std::move(*node);
        auto scope = netlink::NetnsScope::enter(node_.get());
        ASSERT_TRUE(scope) << scope.error().text();
        scope_.emplace(std::move(*scope));
    }

    UniqueFd node_;
    std::optional<netlink::NetnsScope> scope_;
};

} // namespace manx::test
