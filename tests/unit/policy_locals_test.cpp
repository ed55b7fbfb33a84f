// SPDX-License-Identifier: Apache-2.0
// Workloads of this node that are not pods of the datastore.
#include "agent/calc/feed.h"
#include "tests/policy/memory_world.h"

#include <set>

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

// A policy that is written again and means the same writes nothing; what only people see of it is
// seen all the same.
TEST(PolicyLocals, APolicyThatMeansTheSameWritesNothing) {
    TableWorld world;
    dataplane::LocalEndpoint local;
    local.interface = "cali1";
    local.ifindex = 1;
    local.slot = 1;
    local.labels = {{"app", "a"}};
    local.addresses = {IpAddress::v4(0x0a000001U), *IpAddress::parse("2001:db8::1")};
    world.calculator.upsert_local(local);
    const json first = {
        {"apiVersion", "projectcalico.org/v3"},
        {"kind", "GlobalNetworkPolicy"},
        {"metadata", {{"name", "p"}}},
        {"spec",
         {{"selector", "app == 'a'"},
          {"order", 10},
          {"types", {"Ingress", "Egress"}},
          {"ingress",
           {{{"action", "Allow"}, {"protocol", "TCP"}, {"source", {{"nets", {"192.0.2.0/24"}}}}},
            {{"action", "Deny"}}}},
          {"egress", {{{"action", "Allow"}, {"destination", {{"selector", "app == 'b'"}}}}}}}}};
    world.put(first);
    json other = first;
    other["metadata"]["name"] = "other";
    other["spec"]["order"] = 20;
    world.put(other);
    EXPECT_FALSE(world.calculator.flush().empty());

    json next = first;
    const auto steps = [&] {
        world.put(next);
        return world.calculator.flush().steps.size();
    };
    EXPECT_EQ(steps(), 0U) << "the very same";
    next["metadata"]["resourceVersion"] = "7";
    next["metadata"]["labels"] = {{"projectcalico.org/tier", "default"}, {"any", "label"}};
    next["metadata"]["annotations"] = {{"any", "annotation"}};
    EXPECT_EQ(steps(), 0U) << "metadata";
    next["spec"]["selector"] = "  app=='a'  ";
    next["spec"]["types"] = {"Egress", "Ingress"};
    next["spec"]["tier"] = "default";
    next["spec"]["performanceHints"] = {"AssumeNeededOnEveryNode"};
    next["spec"]["applyOnForward"] = true;
    EXPECT_EQ(steps(), 0U) << "said otherwise";
    next["spec"]["order"] = 11.5;
    EXPECT_EQ(steps(), 0U) << "its place among others is the same";
    next["spec"]["selector"] = "has(app)";
    EXPECT_EQ(steps(), 0U) << "it applies to the same workloads";
    next["spec"]["ingress"][1]["metadata"] = {{"annotations", {{"name", "the rest"}}}};
    EXPECT_EQ(steps(), 0U) << "a rule's name";
    std::set<std::string> names;
    for (const auto& [number, name] : world.calculator.rules().all()) {
        names.insert(name->text());
    }
    EXPECT_TRUE(names.contains("GlobalNetworkPolicy p ingress[1] the rest"));
    EXPECT_EQ(world.calculator
                  .judge(local.addresses[0], api::Direction::Ingress, IpAddress::v4(0x0a000002U),
                         {.protocol = 6, .source_port = 1, .destination_port = 80})
                  .reason,
              "GlobalNetworkPolicy p ingress[1] the rest");
    EXPECT_TRUE(world.calculator.take_released_rules().empty()) << "counters stay";

    next["spec"]["order"] = 30;
    EXPECT_GT(steps(), 0U) << "now it comes after the other";
    next["spec"]["ingress"][1]["action"] = "Pass";
    EXPECT_GT(steps(), 0U);
    next["spec"]["selector"] = "app == 'c'";
    EXPECT_GT(steps(), 0U);
    world.remove(other);
    EXPECT_GT(world.calculator.flush().steps.size(), 0U);
    const auto stats = world.calculator.stats();
    EXPECT_EQ(stats.sets, 0U);
    EXPECT_EQ(stats.matchers, 0U);
    EXPECT_TRUE(world.calculator.rules().all().empty());
}

// A pod that is finished is nobody's peer any more, on its own node as on others, until its network
// is taken down; its device stays judged. In the order of events of a start, too.
class FinishedPod : public testing::TestWithParam<bool> {
protected:
    static json pod(const char* name, const char* address, const char* address6,
                    const char* phase) {
        return {
            {"kind", "Pod"},
            {"metadata", {{"name", name}, {"namespace", "a"}, {"labels", {{"app", name}}}}},
            {"spec", {{"nodeName", "n1"}}},
            {"status", {{"phase", phase}, {"podIPs", {{{"ip", address}}, {{"ip", address6}}}}}}};
    }

    void tell(const json& pod) { ASSERT_TRUE(calc::feed(world_.calculator, api::Kind::Pod, pod)); }

    void attach(const json& pod, uint16_t slot) {
        world_.calculator.upsert_local(*calc::local_from_pod(pod, slot));
    }

    bool reaches(const char* from, const char* to) {
        world_.flush();
        return world_
            .ask({.from = *IpAddress::parse(from),
                  .to = *IpAddress::parse(to),
                  .protocol = 6,
                  .source_port = 1,
                  .port = 80})
            .ingress;
    }

    TableWorld world_;
};

TEST_P(FinishedPod, IsNobodysPeer) {
    world_.put(
        {{"apiVersion", "projectcalico.org/v3"},
         {"kind", "GlobalNetworkPolicy"},
         {"metadata", {{"name", "p"}}},
         {"spec",
          {{"selector", "all()"},
           {"types", {"Ingress"}},
           {"ingress", {{{"action", "Allow"}, {"source", {{"selector", "app == 'client'"}}}}}}}}});
    const json server = pod("server", "10.0.0.1", "fd00::1", "Running");
    const json client = pod("client", "10.0.0.2", "fd00::2", "Running");
    const json done = pod("client", "10.0.0.2", "fd00::2", "Succeeded");
    attach(server, 1);
    tell(server);
    if (GetParam()) { // while the agent runs
        attach(client, 2);
        tell(client);
        EXPECT_TRUE(reaches("10.0.0.2", "10.0.0.1"));
        EXPECT_TRUE(reaches("fd00::2", "fd00::1"));
        tell(done);
    } else { // before the agent started
        tell(done);
        attach(client, 2);
    }
    EXPECT_FALSE(reaches("10.0.0.2", "10.0.0.1"));
    EXPECT_FALSE(reaches("fd00::2", "fd00::1"));
    const auto* endpoint = world_.memory.endpoint(*IpAddress::parse("10.0.0.2"));
    ASSERT_NE(endpoint, nullptr) << "the device is there";
    EXPECT_GE(endpoint->ingress_set, uint32_t{MANX_SET_FIRST});
    EXPECT_FALSE(reaches("10.0.0.1", "10.0.0.2"));
    // The object goes before the network: still nobody's.
    world_.calculator.remove(api::Kind::Pod, "a", "client");
    EXPECT_FALSE(reaches("10.0.0.2", "10.0.0.1"));
    // The next one of that name.
    tell(client);
    EXPECT_TRUE(reaches("10.0.0.2", "10.0.0.1"));
    EXPECT_TRUE(reaches("fd00::2", "fd00::1"));
    world_.remove(client);
    world_.flush();
    EXPECT_EQ(world_.memory.endpoint(*IpAddress::parse("10.0.0.2")), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Orders, FinishedPod, testing::Bool());

} // namespace
} // namespace manx::testing_policy
