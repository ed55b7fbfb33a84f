// SPDX-License-Identifier: Apache-2.0
#include "agent/app/policy_names.h"

#include <gtest/gtest.h>

namespace manx::app {
namespace {

const datastore::Key kOld{api::Kind::NetworkPolicy, "ns", "default.web"};
const datastore::Key kNew{api::Kind::NetworkPolicy, "ns", "web"};

TEST(PolicyNames, MigrationLeavesThePolicyInForce) {
    PolicyNames names;
    EXPECT_TRUE(names.put(kOld, "web"));
    EXPECT_TRUE(names.put(kNew, "web"));
    EXPECT_FALSE(names.put(kOld, "web")); // the older form changes once more
    EXPECT_EQ(names.remove(kOld), std::nullopt);
    EXPECT_TRUE(names.put(kNew, "web"));
    EXPECT_EQ(names.remove(kNew), "web");
}

TEST(PolicyNames, TheNewerFormSpeaksInAnyOrder) {
    PolicyNames names;
    EXPECT_TRUE(names.put(kNew, "web"));
    EXPECT_FALSE(names.put(kOld, "web"));
    EXPECT_EQ(names.remove(kNew), std::nullopt);
    EXPECT_TRUE(names.put(kOld, "web")); // it alone is left
    EXPECT_EQ(names.remove(kOld), "web");
}

TEST(PolicyNames, APolicyMayBeNamedLikeAnOldForm) {
    PolicyNames names;
    EXPECT_TRUE(names.put(kOld, "default.web"));
    EXPECT_TRUE(names.put(kNew, "web"));
    EXPECT_EQ(names.remove(kOld), "default.web");
    EXPECT_EQ(names.remove(kNew), "web");
}

TEST(PolicyNames, NamespacesAndKindsAreApart) {
    PolicyNames names;
    EXPECT_TRUE(names.put(kNew, "web"));
    EXPECT_TRUE(names.put({api::Kind::NetworkPolicy, "other", "default.web"}, "web"));
    EXPECT_TRUE(names.put({api::Kind::StagedNetworkPolicy, "ns", "default.web"}, "web"));
    EXPECT_EQ(names.remove({api::Kind::NetworkPolicy, "ns", "unknown"}), "unknown");
}

} // namespace
} // namespace manx::app
