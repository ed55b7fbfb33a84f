// SPDX-License-Identifier: Apache-2.0
// Objects that become unreadable while they are in force: what was good before stays, and what
// was never good does not open.
#include "tests/policy/memory_world.h"

#include <set>

namespace manx::testing_policy {
namespace {

constexpr const char* kCalicoApi = "projectcalico.org/v3";

json pod(const char* name, const char* address, const char* node) {
    return {{"kind", "Pod"},
            {"metadata", {{"name", name}, {"namespace", "a"}, {"labels", {{"app", name}}}}},
            {"spec", {{"nodeName", node}}},
            {"status", {{"podIPs", {{{"ip", address}}}}}}};
}

json calico(const char* kind, const char* name, json spec) {
    return {{"apiVersion", kCalicoApi},
            {"kind", kind},
            {"metadata", {{"name", name}, {"labels", {{"set", name}}}}},
            {"spec", std::move(spec)}};
}

json subject_of_kubernetes(json pod_selector) {
    return {{"apiVersion", "networking.k8s.io/v1"},
            {"kind", "NetworkPolicy"},
            {"metadata", {{"name", "p"}, {"namespace", "a"}}},
            {"spec", {{"podSelector", std::move(pod_selector)}, {"policyTypes", {"Ingress"}}}}};
}

// A server here, a client elsewhere, and the question whether the one reaches the other.
class LastGood : public testing::Test {
protected:
    LastGood() {
        world_.put(pod("server", "10.0.0.1", "n1"));
        world_.put(pod("client", "10.0.0.2", "n2"));
    }

    void put(const json& object) {
        world_.put(object);
        world_.flush();
    }

    bool reaches() { return world_.ask(query_).ingress; }

    TableWorld world_;
    const oracle::Query query_{.from = *IpAddress::parse("10.0.0.2"),
                               .to = *IpAddress::parse("10.0.0.1"),
                               .protocol = 6,
                               .source_port = 1,
                               .port = 80};
};

TEST_F(LastGood, ATierOfTheFutureDenies) {
    put(calico("GlobalNetworkPolicy", "last",
               {{"selector", "all()"}, {"order", 1}, {"ingress", {{{"action", "Allow"}}}}}));
    put(calico(
        "GlobalNetworkPolicy", "first",
        {{"tier", "early"},
         {"selector", "all()"},
         {"types", {"Ingress"}},
         {"ingress", {{{"action", "Deny"}, {"source", {{"selector", "app == 'client'"}}}}}}}));
    EXPECT_TRUE(reaches()) << "its tier is not there: after all others";
    put(calico("Tier", "early", {{"order", 10}, {"defaultAction", "Reject"}}));
    EXPECT_FALSE(reaches());
}

TEST_F(LastGood, ATierKeepsItsDefaultAction) {
    put(calico("Tier", "early", {{"order", 10}, {"defaultAction", "Pass"}}));
    put(calico("GlobalNetworkPolicy", "first",
               {{"tier", "early"},
                {"selector", "all()"},
                {"types", {"Ingress"}},
                {"ingress", {{{"action", "Deny"}, {"source", {{"selector", "app == 'x'"}}}}}}}));
    EXPECT_TRUE(reaches());
    put(calico("Tier", "early", {{"order", 10}, {"defaultAction", "Reject"}}));
    EXPECT_TRUE(reaches());
    put(calico("Tier", "early", {{"order", 10}, {"defaultAction", "Deny"}}));
    EXPECT_FALSE(reaches());
}

TEST_F(LastGood, ASetKeepsItsNets) {
    put(calico("GlobalNetworkPolicy", "deny-set",
               {{"selector", "app == 'server'"},
                {"types", {"Ingress"}},
                {"ingress",
                 {{{"action", "Deny"}, {"source", {{"selector", "set == 'bad'"}}}},
                  {{"action", "Allow"}}}}}));
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"10.0.0.2/32"}}}));
    EXPECT_FALSE(reaches());
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"10.0.0.2/33", "192.0.2.1/32"}}}));
    EXPECT_FALSE(reaches());
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"192.0.2.1/32"}}}));
    EXPECT_TRUE(reaches());
}

// There is no good state to keep: what can be read of the object is followed.
TEST_F(LastGood, ASetThatNeverWasGoodIsFollowed) {
    put(calico("GlobalNetworkPolicy", "deny-set",
               {{"selector", "app == 'server'"},
                {"types", {"Ingress"}},
                {"ingress",
                 {{{"action", "Deny"}, {"source", {{"selector", "set == 'bad'"}}}},
                  {{"action", "Allow"}}}}}));
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"192.0.2.1/33", "192.0.2.1/32"}}}));
    EXPECT_TRUE(reaches());
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"192.0.2.1/33", "10.0.0.2/32"}}}));
    EXPECT_FALSE(reaches());
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"10.0.0.2/32"}}}));
    put(calico("GlobalNetworkSet", "bad", {{"nets", {"192.0.2.1/33"}}}));
    EXPECT_FALSE(reaches()) << "there is a good state now";
}

TEST_F(LastGood, ATierThatNeverWasGoodIsFollowed) {
    put(calico("GlobalNetworkPolicy", "last",
               {{"tier", "late"},
                {"selector", "all()"},
                {"types", {"Ingress"}},
                {"ingress", {{{"action", "Allow"}}}}}));
    put(calico(
        "GlobalNetworkPolicy", "first",
        {{"tier", "early"},
         {"selector", "all()"},
         {"types", {"Ingress"}},
         {"ingress", {{{"action", "Deny"}, {"source", {{"selector", "app == 'client'"}}}}}}}));
    put(calico("Tier", "late", {{"order", 20}, {"defaultAction", "Deny"}}));
    put(calico("Tier", "early", {{"order", 30}, {"defaultAction", "Reject"}}));
    EXPECT_TRUE(reaches());
    put(calico("Tier", "early", {{"order", 10}, {"defaultAction", "Reject"}}));
    EXPECT_FALSE(reaches());
}

TEST_F(LastGood, AKubernetesPolicyKeepsItsSubject) {
    put(subject_of_kubernetes({{"matchLabels", {{"app", 1}}}}));
    EXPECT_FALSE(reaches()) << "new: the namespace is isolated";
    put(subject_of_kubernetes({{"matchLabels", {{"app", "other"}}}}));
    EXPECT_TRUE(reaches());
    put(subject_of_kubernetes({{"matchLabels", {{"app", 1}}}}));
    EXPECT_TRUE(reaches());
}

// In one update a set goes whose net was around an address, and another comes with a net between
// the two: what the first meant to the address is gone with it.
TEST_F(LastGood, ASetThatGoesLeavesNothingBelowOneThatComes) {
    const auto set = [](const char* name, const char* net) {
        return calico("GlobalNetworkSet", name, {{"nets", {net}}});
    };
    put(calico(
        "GlobalNetworkPolicy", "from-friends",
        {{"selector", "all()"},
         {"types", {"Ingress"}},
         {"ingress", {{{"action", "Allow"}, {"source", {{"selector", "set == 'friends'"}}}}}}}));
    put(set("friends", "10.0.0.0/16"));
    EXPECT_TRUE(reaches());
    world_.remove(set("friends", "10.0.0.0/16"));
    put(set("others", "10.0.0.0/29"));
    EXPECT_FALSE(reaches());
}

// Calico's NetworkPolicy and Kubernetes' of one name are two policies, to the counters too.
TEST_F(LastGood, PoliciesOfOneNameHaveRulesOfTheirOwn) {
    put({{"apiVersion", "networking.k8s.io/v1"},
         {"kind", "NetworkPolicy"},
         {"metadata", {{"name", "p"}, {"namespace", "a"}}},
         {"spec",
          {{"podSelector", json::object()}, {"ingress", {{{"ports", {{{"port", 80}}}}}}}}}});
    json calicos = calico("NetworkPolicy", "p",
                          {{"selector", "all()"},
                           {"types", {"Ingress"}},
                           {"ingress", {{{"action", "Deny"}, {"protocol", "UDP"}}}}});
    calicos["metadata"]["namespace"] = "a";
    put(calicos);
    std::set<std::string> names;
    for (const auto& [number, name] : world_.calculator.rules().all()) {
        names.insert(name->text());
    }
    EXPECT_TRUE(names.contains("NetworkPolicy a/p ingress[0]"));
    EXPECT_TRUE(names.contains("KubernetesNetworkPolicy a/p ingress[0]"));
}

} // namespace
} // namespace manx::testing_policy
