// SPDX-License-Identifier: Apache-2.0
#include "agent/app/node_addresses.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::app {
namespace {

api::Node node_of(const nlohmann::json& annotations) {
    auto node = api::Node::from_json(
        {{"apiVersion", "v1"},
         {"kind", "Node"},
         {"metadata", {{"name", "n1"}, {"annotations", annotations}}},
         {"status",
          {{"addresses",
            {{{"type", "InternalIP"}, {"address", "10.64.133.10"}},
             {{"type", "InternalIP"}, {"address", "2620:0:861:10c:10:64:133:10"}}}}}}});
    EXPECT_TRUE(node);
    return *node;
}

TEST(NodeAddresses, ComeFromTheDevicesWhereTheAnnotationIsMissing) {
    auto stored = node_of(nlohmann::json::object());
    auto node = with_addresses(stored, [](const IpAddress& a) -> std::optional<unsigned> {
        return a.is_v4() ? std::optional(24U) : std::nullopt;
    });
    ASSERT_TRUE(node.ipv4);
    EXPECT_EQ(node.ipv4->text(), "10.64.133.10/24");
    EXPECT_FALSE(node.ipv6) << "no device of this host holds it";
    auto patch = address_patch(stored, node);
    ASSERT_TRUE(patch);
    EXPECT_EQ(patch->dump(), R"({"metadata":{"annotations":{"projectcalico.org/IPv4Address":)"
                             R"("10.64.133.10/24"}}})");
}

TEST(NodeAddresses, AnnotationsAreKept) {
    auto stored = node_of({{"projectcalico.org/IPv4Address", "10.0.0.1/22"}});
    auto node =
        with_addresses(stored, [](const IpAddress&) -> std::optional<unsigned> { return 24; });
    EXPECT_EQ(node.ipv4->text(), "10.0.0.1/22");
    auto patch = address_patch(stored, node);
    ASSERT_TRUE(patch);
    EXPECT_FALSE((*patch)["metadata"]["annotations"].contains("projectcalico.org/IPv4Address"));
    EXPECT_FALSE(address_patch(node, node));
}

} // namespace
} // namespace manx::app
