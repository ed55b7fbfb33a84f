// SPDX-License-Identifier: Apache-2.0
#include "agent/api/cluster_policy.h"
#include "agent/api/k8s_policy.h"
#include "agent/api/network_set.h"
#include "agent/api/policy.h"
#include "agent/api/tier.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::api {
namespace {

using nlohmann::json;

json object(const char* ns, const char* spec) {
    json out{{"metadata", {{"name", "p"}}}, {"spec", json::parse(spec)}};
    if (ns[0] != '\0') {
        out["metadata"]["namespace"] = ns;
    }
    return out;
}

Policy np(const char* spec) {
    auto policy = Policy::from_json(Kind::NetworkPolicy, object("blue", spec));
    EXPECT_TRUE(policy) << policy.error().text();
    return policy ? *policy : Policy{};
}

Policy gnp(const char* spec) {
    auto policy = Policy::from_json(Kind::GlobalNetworkPolicy, object("", spec));
    EXPECT_TRUE(policy) << policy.error().text();
    return policy ? *policy : Policy{};
}

Policy knp(const char* spec) {
    auto policy = parse_k8s_policy(Kind::K8sNetworkPolicy, object("blue", spec));
    EXPECT_TRUE(policy) << policy.error().text();
    return policy ? *policy : Policy{};
}

Policy cnp(const char* spec) {
    auto policy = parse_cluster_policy(object("", spec));
    EXPECT_TRUE(policy) << policy.error().text();
    return policy ? *policy : Policy{};
}

TEST(PolicyKinds, NetworkPolicySelectorsAreNamespaced) {
    const auto policy = np(R"j({"selector": "a == 'b'", "serviceAccountSelector": "x == 'y'",
        "ingress": [
          {"action": "Allow", "source": {"selector": "c == 'd'"}},
          {"action": "Allow", "source": {"notSelector": "c == 'd'"}},
          {"action": "Allow", "source": {"selector": "c == 'd'", "namespaceSelector": "all()"}
}

                                                                                               ,
          {"action": "Allow", "source": {"namespaceSelector": "global()"}},
          {"action": "Allow", "source": {"serviceAccounts": {"names": ["s"], "selector": "e == 'f'"}}},
          {"action": "Allow", "source": {"nets": ["10.1.2.3/8", "fd00::/8"]}}]
                                                                                               })j");
    EXPECT_TRUE(policy.problems.empty());
    EXPECT_EQ(policy.subject.text(),
              "(projectcalico.org/namespace == \"blue\" && a == \"b\" && pcsa.x == \"y\")");
    ASSERT_EQ(policy.ingress_rules.size(), 6U);
    const auto source = [&](size_t i) { return policy.ingress_rules[i].source; };
    EXPECT_EQ(source(0).selector->text(),
              "(projectcalico.org/namespace == \"blue\" && c == \"d\")");
    EXPECT_EQ(source(1).selector->text(), "projectcalico.org/namespace == \"blue\"");
    EXPECT_EQ(source(1).not_selector->text(), "c == \"d\"");
    EXPECT_EQ(source(2).selector->text(), "(has(projectcalico.org/namespace) && c == \"d\")");
    EXPECT_EQ(source(3).selector->text(), "!has(projectcalico.org/namespace)");
    EXPECT_EQ(source(4).selector->text(),
              "(projectcalico.org/namespace == \"blue\" && projectcalico.org/serviceaccount in "
              "{\"s\"} && pcsa.e == \"f\")");
    EXPECT_FALSE(source(5).selector);
    EXPECT_EQ(source(5).nets.front().text(), "10.0.0.0/8");
    EXPECT_TRUE(policy.ingress && policy.egress) << "no types in an old object: both";
}

TEST(PolicyKinds, PortsAndProtocols) {
    const auto policy = gnp(R"j({"types": ["Egress"], "egress": [
        {"action": "Deny", "protocol": "udp", "destination": {"ports": [53, "80:90", "85:100", "dns"]}},
        {"action": "Allow", "protocol": 132, "notProtocol": "6"},
        {"action": "Log", "protocol": "ICMPv6", "icmp": {"type": 128, "code": 0}}]})j");
    EXPECT_TRUE(policy.problems.empty()) << policy.problems.front();
    const auto& ports = policy.egress_rules[0].destination.ports;
    EXPECT_EQ(ports.ranges, (std::vector<PortRange>{{53, 53}, {80, 100}}));
    EXPECT_EQ(ports.names, std::vector<std::string>{"dns"});
    EXPECT_EQ(policy.egress_rules[1].protocol, 132);
    EXPECT_EQ(policy.egress_rules[2].icmp->code, 0);
    EXPECT_FALSE(policy.ingress);
}

struct BrokenCase {
    const char* name;
    const char* spec;
    const char* problem;
};

class BrokenPolicy : public testing::TestWithParam<BrokenCase> {};

TEST_P(BrokenPolicy, IsolatesAndNamesTheField) {
    const auto policy = gnp(GetParam().spec);
    ASSERT_FALSE(policy.problems.empty());
    EXPECT_NE(policy.problems.front().find(GetParam().problem), std::string::npos)
        << policy.problems.front();
    EXPECT_TRUE(policy.ingress);
    for (const auto& rule : policy.ingress_rules) {
        EXPECT_EQ(rule.action, Action::Deny);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Policy, BrokenPolicy,
    testing::Values(
        BrokenCase{"action", R"j({"ingress": [{"action": "Mirror"}, {"action": "Allow"}]})j",
                   "spec.ingress[0].action: expected Allow"},
        BrokenCase{"rule field", R"j({"ingress": [{"action": "Allow", "fqdn": "x"}]})j",
                   "spec.ingress[0].fqdn: unknown field"},
        BrokenCase{"entity field",
                   R"j({"ingress": [{"action": "Allow", "source": {"domains": ["x"]}}]})j",
                   "spec.ingress[0].source.domains: unknown field"},
        BrokenCase{"spec field", R"j({"ingress": [{"action": "Allow"}], "schedule": 1})j",
                   "spec.schedule: unknown field"},
        BrokenCase{"type", R"j({"types": ["Forward"], "ingress": [{"action": "Allow"}]})j",
                   "spec.types[0]: expected Ingress"},
        BrokenCase{"protocol", R"j({"ingress": [{"action": "Allow", "protocol": "QUIC"}]})j",
                   "spec.ingress[0].protocol"},
        BrokenCase{"net",
                   R"j({"ingress": [{"action": "Allow", "source": {"nets": ["10.0.0.300"]}}]})j",
                   "spec.ingress[0].source.nets[0]"},
        BrokenCase{"selector",
                   R"j({"ingress": [{"action": "Allow", "source": {"selector": "a ="}}]})j",
                   "spec.ingress[0].source.selector"},
        BrokenCase{"ports",
                   R"j({"ingress": [{"action": "Allow", "destination": {"ports": [1]}}]})j",
                   "expected protocol"},
        BrokenCase{
            "port number",
            R"j({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, "65537"]}}]})j",
            "spec.ingress[0].destination.ports[1]"},
        BrokenCase{"list", R"j({"ingress": {"action": "Allow"}})j",
                   "spec.ingress: expected a list"},
        BrokenCase{"service",
                   R"j({"ingress": [{"action": "Allow", "source": {"services": {"name": "x"}}}]})j",
                   "services.namespace"}));

TEST(PolicyKinds, OneDirectionBrokenLeavesTheOther) {
    const auto policy =
        gnp(R"j({"ingress": [{"action": "Nope"}], "egress": [{"action": "Allow"}]})j");
    EXPECT_EQ(policy.egress_rules.front().action, Action::Allow);
}

TEST(PolicyKinds, BadSubjectIsRefused) {
    EXPECT_FALSE(
        Policy::from_json(Kind::GlobalNetworkPolicy, object("", R"j({"selector": "x"})j")));
}

TEST(PolicyKinds, BadSubjectIsolatesItsNamespace) {
    for (const auto* spec :
         {R"j({"selector": "x", "types": ["Ingress"], "ingress": [{"action": "Allow"}]})j",
          R"j({"selector": "color in set(red)", "types": ["Ingress"]})j",
          R"j({"serviceAccountSelector": "!", "types": ["Ingress"]})j",
          R"j({"order": "first", "types": ["Ingress"], "ingress": [{"action": "Allow"}]})j"}) {
        const auto policy = np(spec);
        EXPECT_TRUE(policy.subject_unread);
        ASSERT_EQ(policy.problems.size(), 1U) << spec;
        EXPECT_EQ(policy.subject.text(), "projectcalico.org/namespace == \"blue\"");
        EXPECT_TRUE(policy.ingress);
        EXPECT_FALSE(policy.egress);
        ASSERT_EQ(policy.ingress_rules.size(), 1U);
        EXPECT_EQ(policy.ingress_rules.front().action, Action::Deny);
    }
    EXPECT_FALSE(
        Policy::from_json(Kind::StagedNetworkPolicy, object("blue", R"j({"selector": "x"})j")));
}

TEST(PolicyKinds, KubernetesNetworkPolicy) {
    const auto policy = knp(R"j({"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"ports": [{"port": 80}, {"port": "web"}, {"port": 90, "endPort": 99},
                               {"port": 53, "protocol": "UDP"}],
                     "from": [{"podSelector": {}}, {"namespaceSelector": {}},
                              {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
                    {}]})j");
    EXPECT_TRUE(policy.problems.empty());
    EXPECT_EQ(policy.subject.text(), "(projectcalico.org/namespace == \"blue\" && "
                                     "projectcalico.org/orchestrator == \"k8s\" && app == \"db\")");
    EXPECT_TRUE(policy.ingress);
    EXPECT_FALSE(policy.egress);
    ASSERT_EQ(policy.ingress_rules.size(),
              7U); // 2 protocols x 3 peers, and the empty rule
    EXPECT_EQ(policy.ingress_rules[0].destination.ports.ranges.size(), 2U);
    EXPECT_EQ(policy.ingress_rules[1].source.selector->text(),
              "(has(projectcalico.org/namespace) && projectcalico.org/orchestrator == \"k8s\")");
    EXPECT_EQ(policy.ingress_rules[2].source.not_nets.size(), 1U);
    EXPECT_FALSE(policy.ingress_rules[6].protocol);
    EXPECT_EQ(policy.order, 1000);
}

TEST(PolicyKinds, KubernetesUnknownThingsIsolate) {
    for (
        const auto* spec :
        {R"j({"podSelector": {}, "ingress": [{"from": [{"fqdn": "x"}]}, {}]})j",
         R"j({"podSelector": {}, "ingress": [{}], "mode": "x"})j",
         R"j({"podSelector": {}, "ingress": [{"ports": [{"protocol": "FTP"}]}, {}]})j",
         R"j({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}, "ingress": [{}]})j",
         R"j({"podSelector": {}, "ingress": [{"from": [{}]}]})j"}) {
        const auto policy = knp(spec);
        EXPECT_TRUE(policy.ingress);
        EXPECT_TRUE(policy.ingress_rules.empty()) << spec;
        EXPECT_FALSE(policy.problems.empty()) << spec;
    }
}

TEST(PolicyKinds, KubernetesUnreadableSubjectIsolatesItsNamespace) {
    const auto unread = knp(R"j({"podSelector": {"matchLabels": {"app": 1}}, "ingress": [{}]})j");
    EXPECT_TRUE(unread.subject_unread);
    EXPECT_EQ(unread.subject.text(), "(projectcalico.org/namespace == \"blue\" && "
                                     "projectcalico.org/orchestrator == \"k8s\")");
    EXPECT_TRUE(unread.ingress_rules.empty());
    EXPECT_FALSE(knp(R"j({"podSelector": {}, "mode": "x"})j").subject_unread);
}

TEST(PolicyKinds, ClusterNetworkPolicy) {
    const auto policy = cnp(R"j({"tier": "Admin", "priority": 10,
        "subject": {"namespaces": {"matchLabels": {"team": "a"}}},
        "ingress": [
          {"name": "r", "action": "Accept", "from": [{"namespaces": {}}],
           "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
                         {"udp": {"destinationPort": {"range": {"start": 5, "end": 9}}}}]},
          {"action": "Pass", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {}}}]}],
        "egress": [
          {"action": "Accept", "to": [{"domainNames": ["x.org"]}]},
          {"action": "Deny", "to": [{"nodes": {}}]},
          {"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}]})j");
    EXPECT_EQ(policy.tier, "kube-admin");
    EXPECT_EQ(policy.order, 10);
    ASSERT_EQ(policy.ingress_rules.size(), 3U);
    EXPECT_EQ(policy.ingress_rules[0].name, "r");
    EXPECT_EQ(policy.ingress_rules[2].action, Action::Pass);
    ASSERT_EQ(policy.egress_rules.size(), 2U) << "what accepts is left out, what denies denies all";
    EXPECT_TRUE(policy.egress_rules[0].destination.nets.empty());
    EXPECT_EQ(policy.egress_rules[0].action, Action::Deny);
    EXPECT_GE(policy.problems.size(), 2U);
    EXPECT_FALSE(parse_cluster_policy(
        object("", R"j({"tier": "Developer", "priority": 1, "subject": {"namespaces": {}}})j")));
}

TEST(PolicyKinds, StagedAndHostOnly) {
    auto staged = Policy::from_json(Kind::StagedNetworkPolicy,
                                    object("blue", R"j({"stagedAction": "Delete"})j"));
    ASSERT_TRUE(staged);
    EXPECT_TRUE(staged->staged && staged->ignored);
    EXPECT_TRUE(gnp(R"j({"doNotTrack": true, "applyOnForward": true})j").host_only());
    EXPECT_EQ(np("{}").tie(), "p/blue/NetworkPolicy");
    EXPECT_EQ(knp("{}").tie(), "p/blue/KubernetesNetworkPolicy");
}

TEST(PolicyKinds, TierAndSets) {
    for (const char* name : {"kube-admin", "kube-baseline"}) {
        json builtin = {{"metadata", {{"name", name}}}};
        EXPECT_FALSE(Tier::from_json(builtin)->pass) << "no action is Deny, as for all tiers";
        EXPECT_EQ(Tier::from_json(builtin)->order,
                  std::ranges::find(builtin_tiers(), name, &Tier::name)->order);
        builtin["spec"]["defaultAction"] = "Pass";
        EXPECT_TRUE(Tier::from_json(builtin)->pass);
    }
    const auto tier = Tier::from_json(json::parse(
        R"j({"metadata": {"name": "t"}, "spec": {"order": 5, "defaultAction": "Reject"}})j"));
    ASSERT_TRUE(tier);
    EXPECT_FALSE(tier->pass);
    EXPECT_EQ(tier->order, 5);
    EXPECT_EQ(tier->problems,
              std::vector<std::string>{"spec.defaultAction: expected Deny or Pass"});
    EXPECT_FALSE(Tier::from_json(
        json::parse(R"j({"metadata": {"name": "t"}, "spec": {"order": "first"}})j")))
        << "its place is not known";
    const auto set = NetworkSet::from_json(Kind::NetworkSet,
                                           json::parse(
                                               R"j({"metadata": {"name": "s", "namespace": "blue",
            "annotations": {"projectcalico.org/metadata": "{\"labels\": {\"a\": \"b\"}}"}},
            "spec": {"nets": ["10.0.0.1", "10.0.0.1/32", "x"]}})j"));
    ASSERT_TRUE(set);
    EXPECT_EQ(set->nets.size(), 1U);
    EXPECT_EQ(set->problems.size(), 1U);
    EXPECT_EQ(set->labels.at("a"), "b");
}

} // namespace
} // namespace manx::api
