// SPDX-License-Identifier: Apache-2.0
// Workloads of this node that are not pods of the datastore.
#include "tests/policy/memory_world.h"

namespace manx::testing_policy {
namespace {

// Made without Kubernetes' arguments: each has its own policy, and goes without the other.
TEST(PolicyLocals, WorkloadsWithoutAPod) {
    TableWorld world;
    const auto local = [](uint16_t n) {
        dataplane::LocalEndpoint out;
        out.interface = "cali" + std::to_string(n);
        out.ifindex = n;
        out.slot = n;
        out.addresses = {IpAddress::v4(0x0a000000U + n)};
        return out;
    };
    world.put({{"apiVersion", "projectcalico.org/v3"},
               {"kind", "GlobalNetworkPolicy"},
               {"metadata", {{"name", "p"}}},
               {"spec", {{"selector", "all()"}, {"types", {"Ingress"}}}}});
    const auto set_of = [&](uint16_t n) {
        const auto* found = world.memory.endpoint(IpAddress::v4(0x0a000000U + n));
        return found == nullptr ? UINT32_MAX : found->ingress_set;
    };
    world.calculator.upsert_local(local(1));
    world.calculator.upsert_local(local(2));
    world.flush();
    EXPECT_GE(set_of(1), uint32_t{MANX_SET_FIRST});
    EXPECT_EQ(set_of(2), set_of(1)) << "the second is isolated as well";
    EXPECT_EQ(world.memory.classify(IpAddress::v4(0x0a000002U)).flags & MANX_CLASS_POD,
              uint32_t{MANX_CLASS_POD});
    world.calculator.remove_local("cali1");
    world.flush();
    EXPECT_EQ(set_of(1), UINT32_MAX);
    EXPECT_GE(set_of(2), uint32_t{MANX_SET_FIRST});
    world.calculator.remove_local("cali2");
    world.flush();
    EXPECT_EQ(set_of(2), UINT32_MAX);
    EXPECT_EQ(world.tables.usage().policies, 0U);
}

} // namespace
} // namespace manx::testing_policy
