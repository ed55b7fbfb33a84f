// SPDX-License-Identifier: Apache-2.0
// Names and metadata against vectors computed from Calico's own rules.
#include "agent/api/fields.h"
#include "agent/api/kind.h"
#include "agent/api/meta.h"
#include "agent/api/names.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::api {
namespace {

using nlohmann::json;

TEST(Names, OfWorkloads) {
    EXPECT_EQ(workload_interface("default", "web-0"), "cali0d7763386da");
    EXPECT_EQ(workload_endpoint_name("node-1", "my-pod"), "node--1-k8s-my--pod-eth0");
    EXPECT_EQ(endpoint_status_file("default", "web-0"), "k8s default%2Fweb-0 eth0");
}

TEST(Names, OfBlocks) {
    EXPECT_EQ(block_name(*Cidr::parse("10.65.0.0/26")), "10-65-0-0-26");
    EXPECT_EQ(block_name(*Cidr::parse("fd00:10:244::/122")), "fd00-10-244---122");
    EXPECT_EQ(affinity_name("node1", *Cidr::parse("10.65.0.0/26")), "node1-10-65-0-0-26");
    EXPECT_EQ(handle_name("k8s-pod-network.ABC"), "k8s-pod-network.abc");
}

TEST(Names, LongHostIsCutAndHashed) {
    std::string host(250, 'h');
    std::string name = affinity_name(host, *Cidr::parse("10.65.0.0/26"));
    EXPECT_EQ(name.size(), 252U);
    EXPECT_TRUE(name.starts_with(std::string(227, 'h') + "-10-65-0-0-26-")) << name;
}

TEST(Names, LabelsOfAffinities) {
    EXPECT_EQ(hostname_hash("node1"), "7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A");
    EXPECT_EQ(hostname_hash("load-balancer"),
              "TAU2RK2F2FG7MIS72DPZYC6FJ3U3BIWIDZAMUTQY7ZXMSKQZ5GSQ");
    auto labels = affinity_labels("node1", "host", Family::V6);
    EXPECT_EQ(labels["projectcalico.org/affinity-type"], "host");
    EXPECT_EQ(labels["projectcalico.org/ip-version"], "6");
}

TEST(Meta, UidIsReversedPerByteAndBack) {
    std::string k8s = "3f8c1b2a-9d4e-4c6f-8a1b-0123456789ab";
    EXPECT_EQ(convert_uid(k8s), "fc31d854-b972-4cf6-8ad8-80c4a2e691d5");
    EXPECT_EQ(convert_uid(convert_uid(k8s)), k8s);
    EXPECT_EQ(convert_uid("not-a-uuid"), "not-a-uuid");
}

TEST(Kinds, AreFoundByBothGroupsAndByAlias) {
    EXPECT_EQ(*find_kind("projectcalico.org/v3", "IPAMConfiguration"), Kind::IpamConfig);
    EXPECT_EQ(*find_kind("crd.projectcalico.org/v1", "IPAMConfig"), Kind::IpamConfig);
    EXPECT_EQ(*find_kind("networking.k8s.io/v1", "NetworkPolicy"), Kind::K8sNetworkPolicy);
    EXPECT_EQ(*find_kind("projectcalico.org/v3", "NetworkPolicy"), Kind::NetworkPolicy);
    EXPECT_FALSE(find_kind("v1", "Toaster"));
    EXPECT_EQ(*find_alias("NetworkPolicies"), Kind::NetworkPolicy);
    EXPECT_EQ(*find_alias("netpol"), Kind::K8sNetworkPolicy);
    EXPECT_EQ(*find_alias("ippool"), Kind::IpPool);
    EXPECT_EQ(*find_alias("GNP"), Kind::GlobalNetworkPolicy);
    EXPECT_FALSE(find_alias("toaster"));
    for (const auto& kind : all_kinds()) {
        EXPECT_EQ(*find_kind(kind.api_version, kind.name), kind.kind);
    }
}

json host_endpoint() {
    return {{"apiVersion", "projectcalico.org/v3"},
            {"kind", "HostEndpoint"},
            {"metadata",
             {{"name", "eth0"},
              {"labels", {{"role", "edge"}, {"projectcalico.org/zone", "a"}}},
              {"annotations", {{"who", "me"}}}}},
            {"spec", {{"node", "n1"}}}};
}

TEST(Meta, LabelsGoIntoTheAnnotationAndComeBack) {
    json stored = *to_stored(Kind::HostEndpoint, host_endpoint());
    EXPECT_EQ(stored["apiVersion"], "crd.projectcalico.org/v1");
    EXPECT_EQ(stored["metadata"]["labels"], json({{"projectcalico.org/zone", "a"}}));
    EXPECT_FALSE(stored["metadata"]["annotations"].contains("who"));
    EXPECT_EQ(stored["metadata"]["annotations"]["projectcalico.org/metadata"],
              R"({"creationTimestamp":null,"labels":{"projectcalico.org/zone":"a","role":"edge"},)"
              R"("annotations":{"who":"me"}})");
    EXPECT_EQ(*to_v3(Kind::HostEndpoint, stored), host_endpoint());
    // Writing what is already in the stored form changes nothing.
    EXPECT_EQ(*to_stored(Kind::HostEndpoint, stored), stored);

    Problems problems{"x", {}};
    ObjectMeta meta = read_meta(Kind::HostEndpoint, stored, problems);
    EXPECT_FALSE(problems.first);
    EXPECT_EQ(meta.labels, (StringMap{{"projectcalico.org/zone", "a"}, {"role", "edge"}}));
    EXPECT_EQ(meta.annotations, (StringMap{{"who", "me"}}));
}

TEST(Meta, PolicyKeepsItsNameAndGetsItsTier) {
    json policy = {{"apiVersion", "projectcalico.org/v3"},
                   {"kind", "GlobalNetworkPolicy"},
                   {"metadata", {{"name", "allow-web"}}},
                   {"spec", {{"selector", "all()"}}}};
    json stored = *to_stored(Kind::GlobalNetworkPolicy, policy);
    EXPECT_EQ(stored["metadata"]["annotations"]["projectcalico.org/metadata"],
              R"({"name":"allow-web","creationTimestamp":null,)"
              R"("labels":{"projectcalico.org/tier":"default"}})");
    EXPECT_EQ(stored["metadata"]["labels"]["projectcalico.org/tier"], "default");
}

TEST(Meta, LegacyPolicyNameLosesItsPrefix) {
    json stored = {{"apiVersion", "crd.projectcalico.org/v1"},
                   {"kind", "NetworkPolicy"},
                   {"metadata", {{"name", "default.web"}, {"namespace", "shop"}}},
                   {"spec", {{"selector", "all()"}}}};
    EXPECT_EQ((*to_v3(Kind::NetworkPolicy, stored))["metadata"]["name"], "web");
    stored["spec"]["tier"] = "security";
    EXPECT_EQ((*to_v3(Kind::NetworkPolicy, stored))["metadata"]["name"], "default.web");
}

TEST(Meta, BrokenAnnotationIsAnErrorThatNamesTheObject) {
    json stored = *to_stored(Kind::HostEndpoint, host_endpoint());
    stored["metadata"]["annotations"]["projectcalico.org/metadata"] = "{";
    auto read = to_v3(Kind::HostEndpoint, stored);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().message,
              "HostEndpoint eth0: metadata: projectcalico.org/metadata: not valid JSON");
}

TEST(Meta, OwnersChangeGroupAndUid) {
    json object = host_endpoint();
    object["metadata"]["ownerReferences"] =
        json::array({{{"apiVersion", "projectcalico.org/v3"},
                      {"kind", "IPPool"},
                      {"name", "p"},
                      {"uid", "fc31d854-b972-4cf6-8ad8-80c4a2e691d5"}}});
    json stored = *to_stored(Kind::HostEndpoint, object);
    EXPECT_EQ(stored["metadata"]["ownerReferences"][0]["apiVersion"], "crd.projectcalico.org/v1");
    EXPECT_EQ(stored["metadata"]["ownerReferences"][0]["uid"],
              "3f8c1b2a-9d4e-4c6f-8a1b-0123456789ab");
}

TEST(Json, DepthIsBounded) {
    EXPECT_TRUE(parse_json(R"({"a":"[[[[\"[["})"));
    EXPECT_FALSE(parse_json("{"));
    EXPECT_FALSE(parse_json(std::string(100000, '[')));
    std::string deep = std::string(101, '[') + std::string(101, ']');
    EXPECT_FALSE(parse_json(deep));
    EXPECT_TRUE(parse_json(deep.substr(1, 200)));
}

} // namespace
} // namespace manx::api
