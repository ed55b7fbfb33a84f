// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_condition.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::app {
namespace {

const NetworkState kUp{true, "Manx is running on this node"};

TEST(NodeCondition, IsAddedBesideTheOthersAndThenLeftAlone) {
    nlohmann::json node = {{"status", {{"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}};
    auto changed = with_network_condition(node, kUp, "2026-01-01T00:00:00Z");
    ASSERT_TRUE(changed);
    const auto& conditions = (*changed)["status"]["conditions"];
    ASSERT_EQ(conditions.size(), 2U);
    EXPECT_EQ(conditions[0]["type"], "Ready");
    EXPECT_EQ(conditions[1]["status"], "False");
    EXPECT_EQ(conditions[1]["reason"], "CalicoIsUp");
    EXPECT_FALSE(with_network_condition(*changed, kUp, "2026-01-02T00:00:00Z"));
}

TEST(NodeCondition, TransitionTimeMovesWithTheStatusOnly) {
    auto first = with_network_condition(nlohmann::json::object(), kUp, "2026-01-01T00:00:00Z");
    auto other = with_network_condition(*first, {true, "other words"}, "2026-01-02T00:00:00Z");
    ASSERT_TRUE(other);
    EXPECT_EQ((*other)["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    auto down =
        with_network_condition(*other, {false, "BIRD is not running"}, "2026-01-03T00:00:00Z");
    ASSERT_TRUE(down);
    const auto& condition = (*down)["status"]["conditions"][0];
    EXPECT_EQ(condition["status"], "True");
    EXPECT_EQ(condition["reason"], "CalicoIsDown");
    EXPECT_EQ(condition["lastTransitionTime"], "2026-01-03T00:00:00Z");
}

// What somebody else wrote there is no reason to die.
TEST(NodeCondition, ConditionsOfOtherShapes) {
    for (const auto* text :
         {R"j({"status": {"conditions": [{"type": 1}, null, "x", {"type": null}]}})j",
          R"j({"status": {"conditions": [{"type": "NetworkUnavailable", "status": true,
                                          "message": null, "lastTransitionTime": 3}]}})j",
          R"j({"status": {"conditions": {}}})j", R"j({"status": []})j"}) {
        const auto changed =
            with_network_condition(nlohmann::json::parse(text), kUp, "2026-01-01T00:00:00Z");
        ASSERT_TRUE(changed) << text;
        EXPECT_EQ(changed->at("status").at("conditions").back().at("status"), "False") << text;
    }
}

} // namespace
} // namespace manx::app
