// SPDX-License-Identifier: Apache-2.0
// No object, however broken, takes a codec down: every truncation of valid objects, and many
// mutations of them, are read by every codec. Worth most under -fsanitize=address,undefined.
#include "agent/api/bgp.h"
#include "agent/api/cluster_information.h"
#include "agent/api/felix_configuration.h"
#include "agent/api/host_endpoint.h"
#include "agent/api/ipam.h"
#include "agent/api/meta.h"
#include "agent/api/namespace.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/policy.h"
#include "agent/api/pool.h"
#include "agent/api/service.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <random>

namespace manx::api {
namespace {

using nlohmann::json;

const std::vector<std::string>& samples() {
    static const std::vector<std::string> kSamples{
        R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n","uid":"u",
            "resourceVersion":"1","labels":{"a":"b"},"annotations":{
            "cni.projectcalico.org/podIPs":"10.0.0.1/32,fd00::1/128",
            "cni.projectcalico.org/ipv4pools":"[\"a\"]","cni.projectcalico.org/hwAddr":"02:0:0"}},
            "spec":{"nodeName":"n","hostNetwork":false,"serviceAccountName":"s","containers":
            [{"ports":[{"name":"h","containerPort":80,"protocol":"TCP"}]}]},
            "status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}]}})",
        R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"n","annotations":{
            "projectcalico.org/IPv4Address":"10.0.0.5/24","projectcalico.org/ASNumber":"1.2",
            "projectcalico.org/labels":"{\"a\":\"b\"}"}},"spec":{"podCIDRs":["10.1.0.0/24"]},
            "status":{"addresses":[{"type":"InternalIP","address":"10.0.0.5"}]}})",
        R"({"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"n"},"spec":{
            "bgp":{"ipv4Address":"10.0.0.5/24","asNumber":"64512"},
            "vxlanTunnelMACAddr":"02:00:00:00:00:01",
            "addresses":[{"type":"InternalIP","address":"10.0.0.5"}]}})",
        R"({"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"p",
            "annotations":{"projectcalico.org/metadata":"{\"labels\":{\"a\":\"b\"}}"},
            "ownerReferences":[{"apiVersion":"projectcalico.org/v3","uid":"x"}]},
            "spec":{"cidr":"10.0.0.0/16","blockSize":26,"ipipMode":"Always","natOutgoing":true,
            "allowedUses":["Workload"]},"status":{"conditions":[{"type":"Allocatable",
            "status":"False"}]}})",
        R"({"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMBlock","metadata":{"name":"b"},
            "spec":{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,null,0,null],
            "unallocated":[3,1],"attributes":[{"handle_id":"h","secondary":{"node":"n"}}],
            "sequenceNumber":1787392800123456789,"sequenceNumberForAllocation":{"0":5,"2":6},
            "strictAffinity":false,"deleted":false}})",
        R"({"apiVersion":"crd.projectcalico.org/v1","kind":"BlockAffinity","metadata":{"name":"b"},
            "spec":{"cidr":"10.0.0.0/26","node":"n","state":"pending","deleted":"false"}})",
        R"({"apiVersion":"crd.projectcalico.org/v1","kind":"IPAMHandle","metadata":{"name":"h"},
            "spec":{"handleID":"H","block":{"10.0.0.0/26":1},"deleted":false}})",
        R"({"apiVersion":"projectcalico.org/v3","kind":"BGPPeer","metadata":{"name":"p"},"spec":{
            "peerIP":"[fd00::1]:179","asNumber":"1.2","nodeSelector":"a == 'b'","password":{
            "secretKeyRef":{"name":"s","key":"k"}},"ttlSecurity":1,"filters":["f"]}})",
        R"({"apiVersion":"projectcalico.org/v3","kind":"BGPFilter","metadata":{"name":"f"},"spec":{
            "exportV4":[{"cidr":"10.0.0.0/8","matchOperator":"In","prefixLength":{"min":8,"max":9},
            "communities":{"values":["1:2"]},"asPathPrefix":[1,"1.2"],"action":"Accept",
            "operations":[{"prependASPath":{"prefix":[1]}}]}]}})",
        R"({"apiVersion":"projectcalico.org/v3","kind":"BGPConfiguration","metadata":{
            "name":"default"},"spec":{"asNumber":64512,"serviceClusterIPs":[{"cidr":"10.96.0.0/12"}],
            "communities":[{"name":"c","value":"1:2"}],"prefixAdvertisements":[{"cidr":"10.0.0.0/8",
            "communities":["c"]}],"programClusterRoutes":"Enabled"}})",
        R"json({"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","metadata":{"name":"p",
            "namespace":"n"},"spec":{"order":1.5,"selector":"a == 'b' && has(c)","types":["Ingress"],
            "ingress":[{"action":"Allow","protocol":"TCP","source":{"nets":["10.0.0.0/8"],
            "selector":"all()","namespaceSelector":"x in {'y'}"},"destination":{"ports":[80,"1:9",
            "http"]},"icmp":{"type":8}}]}})json",
        R"({"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p",
            "namespace":"n"},"spec":{"podSelector":{"matchLabels":{"a":"b"},"matchExpressions":[{
            "key":"k","operator":"In","values":["v"]}]},"policyTypes":["Egress"],"egress":[{"to":[{
            "ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,
            "endPort":90}]}]}})",
        R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"clusterIPs":["None"],
            "externalIPs":["1.2.3.4"],"ports":[{"port":80,"targetPort":"x"}]},
            "status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}})",
        R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s",
            "labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","endpoints":[{
            "addresses":["10.0.0.1"],"conditions":{"ready":true}}],"ports":[{"port":80}]})",
        R"({"apiVersion":"projectcalico.org/v3","kind":"FelixConfiguration","metadata":{
            "name":"default","annotations":{"config.projectcalico.org/VXLANPort":"1"}},"spec":{
            "vxlanVNI":4096,"defaultEndpointToHostAction":"Drop"}})",
    };

    return kSamples;
}

// Every codec reads every object; whatever it makes of it, it comes back, and what was read can be
// written.
void feed(const json& object) {
    (void)network_request("Pod a/b", {{"cni.projectcalico.org/ipv4pools", object.dump()}});
    for (const auto& kind : all_kinds()) {
        (void)subject_of(kind.kind, object);
        auto v3 = to_v3(kind.kind, object);
        auto stored = to_stored(kind.kind, object);
        if (v3 && stored) {
            EXPECT_TRUE(to_v3(kind.kind, *stored)) << object.dump();
        }
        if (is_policy(kind.kind)) {
            (void)parse_policy(kind.kind, object);
            (void)validate_policy(kind.kind, object);
        }
    }
    (void)Pod::from_json(object);
    (void)Node::from_json(object);
    (void)node_to_v3(object);
    (void)node_to_core(object);
    (void)Namespace::from_json(object);
    (void)ServiceAccount::from_json(object);
    (void)Service::from_json(object);
    (void)EndpointSlice::from_json(object);
    (void)HostEndpoint::from_json(object);
    (void)FelixConfiguration::from_json(object);
    (void)ClusterInformation::from_json(object);
    if (auto pool = IpPool::from_json(object)) {
        (void)pool->validate();
    }
    if (auto peer = BgpPeer::from_json(object)) {
        (void)peer->validate();
    }
    if (auto filter = BgpFilter::from_json(object)) {
        (void)filter->validate();
    }
    if (auto config = BgpConfiguration::from_json(object)) {
        (void)config->validate();
    }
    if (auto block = IpamBlock::from_json(object)) {
        EXPECT_TRUE(IpamBlock::from_json(*block->to_json()));
    }
    if (auto affinity = BlockAffinity::from_json(object)) {
        EXPECT_TRUE(BlockAffinity::from_json(*affinity->to_json()));
    }
    if (auto handle = IpamHandle::from_json(object)) {
        EXPECT_TRUE(handle->to_json());
    }
    if (auto config = IpamConfig::from_json(object)) {
        (void)config->validate();
        EXPECT_TRUE(config->to_json());
    }
    if (auto reservation = IpReservation::from_json(object)) {
        EXPECT_TRUE(reservation->to_json());
    }
}

TEST(Robustness, SamplesAreValidJson) {
    for (const auto& text : samples()) {
        auto object = parse_json(text);
        ASSERT_TRUE(object) << text;
        feed(*object);
    }
}

TEST(Robustness, EveryTruncation) {
    for (const auto& text : samples()) {
        for (size_t length = 0; length < text.size(); length++) {
            EXPECT_FALSE(parse_json(std::string_view(text).substr(0, length)));
        }
    }
}

// Bytes changed in the text: most are no JSON any more, the rest are odd objects.
TEST(Robustness, MutatedTexts) {
    std::mt19937 random(20261124); // NOLINT: the same cases in every run
    constexpr std::string_view kBytes = "{}[],:\"0123456789-.eE/\\ntrufalsx\x80\xff";
    for (const auto& text : samples()) {
        for (int round = 0; round < 400; round++) {
            std::string mutant = text;
            for (unsigned changes = 1 + random() % 4; changes > 0; changes--) {
                mutant[random() % mutant.size()] = kBytes[random() % kBytes.size()];
            }
            if (auto object = parse_json(mutant)) {
                feed(*object);
            }
        }
    }
}

// All pointers to values of a document.
void collect(const json& value, const json::json_pointer& at,
             std::vector<json::json_pointer>& out) {
    out.push_back(at);
    if (value.is_object()) {
        for (const auto& [key, item] : value.items()) {
            collect(item, at / key, out);
        }
    } else if (value.is_array()) {
        for (size_t i = 0; i < value.size(); i++) {
            collect(value[i], at / i, out);
        }
    }
}

// Each value in turn replaced by values of all types and of extreme size, or removed.
TEST(Robustness, EveryValueReplaced) {
    const std::vector<json> strange{nullptr,
                                    true,
                                    -1,
                                    0,
                                    4294967296LL,
                                    18446744073709551615ULL,
                                    INT64_MIN,
                                    1e308,
                                    "",
                                    "x",
                                    "0.0.0.0/0",
                                    "::/0",
                                    "fe80::%eth0",
                                    "[",
                                    std::string(300, 'a'),
                                    json::array(),
                                    json::array({nullptr}),
                                    json::array({json::object()}),
                                    json::object(),
                                    json{{"", ""}},
                                    json{{"name", json::array()}}};
    for (const auto& text : samples()) {
        json object = *parse_json(text);
        std::vector<json::json_pointer> places;
        collect(object, json::json_pointer(), places);
        for (const auto& place : places) {
            for (const auto& value : strange) {
                json mutant = object;
                mutant[place] = value;
                feed(mutant);
            }
            if (!place.empty()) {
                json mutant = object;
                json& parent = mutant[place.parent_pointer()];
                if (parent.is_object()) {
                    parent.erase(place.back());
                    feed(mutant);
                }
            }
        }
    }
}

} // namespace
} // namespace manx::api
