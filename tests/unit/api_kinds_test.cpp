// SPDX-License-Identifier: Apache-2.0
// Codecs of the kinds: what is read, what is written again, what is refused and in which words.
#include "agent/api/bgp.h"
#include "agent/api/cluster_information.h"
#include "agent/api/felix_configuration.h"
#include "agent/api/ipam.h"
#include "agent/api/namespace.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/pool.h"
#include "agent/api/service.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::api {
namespace {

using nlohmann::json;

json calico(const char* kind, const char* name, json spec) {
    return {{"apiVersion", "projectcalico.org/v3"},
            {"kind", kind},
            {"metadata", {{"name", name}}},
            {"spec", std::move(spec)}};
}

IpAddress ip(const char* text) {
    return *IpAddress::parse(text);
}

TEST(PodKind, WhatTheNetworkNeeds) {
    auto pod = Pod::from_json(json::parse(R"({
      "apiVersion": "v1", "kind": "Pod",
      "metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"},
        "annotations": {"cni.projectcalico.org/containerID": "c1", "kubectl.kubernetes.io/x": "y"}},
      "spec": {"nodeName": "n1", "serviceAccountName": "sa",
        "initContainers": [{"ports": [{"name": "init", "containerPort": 1}]}],
        "containers": [{"ports": [{"name": "http", "containerPort": 8080},
                                  {"containerPort": 9, "hostPort": 99, "protocol": "UDP"},
                                  {"containerPort": 10}]}]},
      "status": {"phase": "Running", "podIP": "10.65.0.2",
        "podIPs": [{"ip": "10.65.0.2"}, {"ip": "fd00::2"}]}})"));
    ASSERT_TRUE(pod) << pod.error().text();
    EXPECT_TRUE(pod->is_endpoint());
    EXPECT_EQ(pod->ips, (std::vector{ip("10.65.0.2"), ip("fd00::2")}));
    EXPECT_EQ(pod->service_account, "sa");
    EXPECT_EQ(pod->meta.annotations.size(), 1U);
    ASSERT_EQ(pod->named_ports.size(), 3U);
    EXPECT_EQ(pod->named_ports[0], (ContainerPort{"http", 6, 8080, 0}));
    EXPECT_EQ(pod->named_ports[1], (ContainerPort{"", 17, 9, 99}));
    EXPECT_EQ(pod->named_ports[2], (ContainerPort{"init", 6, 1, 0}));
}

TEST(PodKind, AddressesFallBackToTheAnnotations) {
    json object = {
        {"metadata",
         {{"name", "p"},
          {"annotations",
           {{kPodIpAnnotation, "10.0.0.1/32"}, {kPodIpsAnnotation, "10.0.0.1/32,fd00::1/128"}}}}},
        {"spec", {{"nodeName", "n1"}}}};
    auto pod = Pod::from_json(object);
    ASSERT_TRUE(pod);
    EXPECT_EQ(pod->meta.ns, "default");
    EXPECT_EQ(pod->ips, (std::vector{ip("10.0.0.1"), ip("fd00::1")}));
    EXPECT_FALSE(pod->finished);
    // The plugin has taken the network down, the object still lives.
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
    EXPECT_FALSE(Pod::from_json(object)->finished);
    object["metadata"]["annotations"][kPodIpAnnotation] = "";
    EXPECT_TRUE(Pod::from_json(object)->finished);
}

TEST(PodKind, FinishedAndHostNetwork) {
    json object = {{"metadata", {{"name", "p"}}},
                   {"spec", {{"nodeName", "n1"}}},
                   {"status", {{"phase", "Succeeded"}, {"podIP", "10.0.0.1"}}}};
    EXPECT_FALSE(Pod::from_json(object)->is_endpoint());
    object["status"]["phase"] = "Running";
    EXPECT_TRUE(Pod::from_json(object)->is_endpoint());
    object["spec"]["hostNetwork"] = true;
    EXPECT_FALSE(Pod::from_json(object)->is_endpoint());
}

TEST(PodKind, RequestsByAnnotation) {
    StringMap annotations{{"cni.projectcalico.org/ipv4pools", R"(["a", "10.0.0.0/16"])"},
                          {"cni.projectcalico.org/ipAddrs", R"(["10.0.0.7"])"},
                          {"cni.projectcalico.org/ipFamilies", R"(["IPv6"])"},
                          {"cni.projectcalico.org/hwAddr", "02:00:00:00:00:01"}};
    auto request = network_request("Pod a/b", annotations);
    ASSERT_TRUE(request) << request.error().text();
    EXPECT_EQ(request->pools4, (std::vector<std::string>{"a", "10.0.0.0/16"}));
    EXPECT_EQ(request->addresses, (std::vector{ip("10.0.0.7")}));
    EXPECT_EQ(request->families, std::vector{Family::V6});
    EXPECT_TRUE(request->mac);
    annotations["cni.projectcalico.org/ipAddrs"] = "10.0.0.7";
    EXPECT_EQ(network_request("Pod a/b", annotations).error().message,
              "Pod a/b: annotation cni.projectcalico.org/ipAddrs: expected a JSON list of strings");
}

TEST(PodKind, HardwareAddressByAnnotation) {
    const auto read = [](const char* text) {
        return network_request("Pod a/b", {{"cni.projectcalico.org/hwAddr", text}});
    };
    for (const char* text : {"1c:0c:0a:b0:00:01", "1C-0C-0A-B0-00-01", "1c0c.0ab0.0001"}) {
        const auto request = read(text);
        ASSERT_TRUE(request) << request.error().text();
        EXPECT_EQ(request->mac, *MacAddress::parse("1c:0c:0a:b0:00:01")) << text;
    }
    for (const char* text : {"01:00:5e:00:00:01", "00:00:00:00:00:00", "ff-ff-ff-ff-ff-ff",
                             "1c:0c-0a:b0:00:01", "1c0c0ab0.0001.", "1c0c.0ab0.000"}) {
        const auto request = read(text);
        ASSERT_FALSE(request) << text;
        EXPECT_EQ(request.error().kind, ErrorKind::ConfigInvalid);
        EXPECT_NE(request.error().message.find("hwAddr"), std::string::npos);
        EXPECT_NE(request.error().message.find(text), std::string::npos);
    }
}

TEST(NodeKind, CoreAndCalicoViews) {
    json v3 = calico("Node", "n1",
                     {{"bgp", {{"ipv4Address", "10.0.0.5/24"}, {"asNumber", "64513"}}},
                      {"ipv4VXLANTunnelAddr", "10.65.0.0"}});
    v3["metadata"]["labels"] = {{"rack", "r1"}};
    auto core = node_to_core(v3);
    ASSERT_TRUE(core) << core.error().text();
    EXPECT_EQ((*core)["apiVersion"], "v1");
    auto node = Node::from_json(*core);
    ASSERT_TRUE(node) << node.error().text();
    EXPECT_EQ(node->ipv4->text(), "10.0.0.5/24");
    EXPECT_FALSE(node->ipv6);
    EXPECT_EQ(node->as_number, 64513U);
    EXPECT_EQ(node->vxlan_tunnel4, ip("10.65.0.0"));
    EXPECT_EQ(node->meta.labels, (StringMap{{"rack", "r1"}}));
    auto back = node_to_v3(*core);
    ASSERT_TRUE(back);
    EXPECT_EQ((*back)["spec"]["bgp"]["ipv4Address"], "10.0.0.5/24");
    EXPECT_EQ((*back)["spec"]["bgp"]["asNumber"], 64513);

    v3["spec"]["bgp"]["ipv4Address"] = "10.0.0.500/24";
    EXPECT_EQ(node_to_core(v3).error().message,
              "Node n1: spec.bgp.ipv4Address: \"10.0.0.500\": expected an IPv4 or IPv6 address");
    v3["spec"]["bgp"]["ipv4Address"] = "fd00::1/64";
    EXPECT_FALSE(node_to_core(v3));
}

TEST(NodeKind, InvalidAnnotationsAreIgnoredAndCalicoLabelsAdded) {
    auto node = Node::from_json(json::parse(R"({
      "metadata": {"name": "n1", "labels": {"a": "k8s"}, "annotations": {
        "projectcalico.org/IPv4Address": "rubbish", "projectcalico.org/ASNumber": "1.10",
        "projectcalico.org/labels": "{\"a\":\"calico\",\"b\":\"calico\"}"}},
      "spec": {"podCIDR": "10.1.0.0/24"},
      "status": {"addresses": [{"type": "ExternalIP", "address": "203.0.113.9"},
        {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.5"}]}})"));
    ASSERT_TRUE(node) << node.error().text();
    EXPECT_FALSE(node->ipv4);
    EXPECT_EQ(node->as_number, 65546U);
    EXPECT_EQ(node->meta.labels, (StringMap{{"a", "k8s"}, {"b", "calico"}}));
    EXPECT_EQ(node->addresses, (std::vector{ip("10.0.0.5"), ip("203.0.113.9")}));
    EXPECT_EQ(node->pod_cidrs.size(), 1U);
}

TEST(PoolKind, DefaultsOfBothFamilies) {
    auto pool = IpPool::from_json(calico("IPPool", "p", {{"cidr", "10.65.0.9/16"}}));
    ASSERT_TRUE(pool);
    EXPECT_EQ(pool->cidr.text(), "10.65.0.0/16");
    EXPECT_EQ(pool->block_size, 26U);
    EXPECT_EQ(pool->node_selector, "all()");
    EXPECT_TRUE(pool->allows(PoolUse::Workload) && pool->allows(PoolUse::Tunnel));
    EXPECT_FALSE(pool->allows(PoolUse::LoadBalancer));
    EXPECT_TRUE(pool->usable());
    EXPECT_TRUE(pool->validate());
    EXPECT_EQ(IpPool::from_json(calico("IPPool", "p", {{"cidr", "fd00::/48"}}))->block_size, 122U);
}

struct BadPool {
    const char* spec;
    const char* message;
};

class PoolRefusal : public testing::TestWithParam<BadPool> {};

TEST_P(PoolRefusal, NamesTheField) {
    auto pool = IpPool::from_json(calico("IPPool", "p", json::parse(GetParam().spec)));
    std::string message = pool ? "" : pool.error().message;
    if (pool) {
        auto good = pool->validate();
        ASSERT_FALSE(good);
        message = good.error().message;
    }
    EXPECT_EQ(message, std::string("IPPool p: spec.") + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    All, PoolRefusal,
    testing::Values(
        BadPool{"{}", "cidr: is required"},
        BadPool{R"({"cidr":"10.0.0.0/33"})",
                "cidr: \"10.0.0.0/33\": prefix length \"33\": expected a number from 0 to 32"},
        BadPool{R"({"cidr":5})", "cidr: expected a string, found a number"},
        BadPool{R"({"cidr":"10.0.0.0/16","blockSize":33})",
                "blockSize: 33: expected a prefix length up to 32"},
        BadPool{R"({"cidr":"10.0.0.0/16","blockSize":19})",
                "blockSize: 19: expected 20 to 32 for IPv4"},
        BadPool{R"({"cidr":"fd00::/64","blockSize":64})",
                "blockSize: 64: expected 116 to 128 for IPv6"},
        BadPool{R"({"cidr":"10.0.0.0/27"})", "cidr: 10.0.0.0/27 is smaller than a block of /26"},
        BadPool{R"({"cidr":"169.254.0.0/16"})",
                "cidr: 169.254.0.0/16 overlaps the link-local range 169.254.0.0/16"},
        BadPool{R"({"cidr":"fe80::/64"})",
                "cidr: fe80::/64 overlaps the link-local range fe80::/10"},
        BadPool{R"({"cidr":"10.0.0.0/16","ipipMode":"Always","vxlanMode":"Always"})",
                "vxlanMode: ipipMode is set too; expected at most one of them"},
        BadPool{R"({"cidr":"fd00::/64","ipipMode":"Always"})",
                "ipipMode: expected Never: IPIP does not carry IPv6"},
        BadPool{R"({"cidr":"10.0.0.0/16","ipipMode":"always"})",
                "ipipMode: \"always\": expected one of Never, Always, CrossSubnet"},
        BadPool{R"({"cidr":"10.0.0.0/16","natOutgoing":"true"})",
                "natOutgoing: expected true or false, found a string"},
        BadPool{R"({"cidr":"10.0.0.0/16","allowedUses":["Workload","LoadBalancer"]})",
                "allowedUses: LoadBalancer excludes other uses"},
        BadPool{R"j({"cidr":"10.0.0.0/16","namespaceSelector":"has(x)"})j",
                "namespaceSelector: not with allowedUses Tunnel"}));

TEST(PoolKind, AmongOthers) {
    auto pool = [](const char* name, const char* cidr, unsigned size) {
        return *IpPool::from_json(calico("IPPool", name, {{"cidr", cidr}, {"blockSize", size}}));
    };
    std::vector<IpPool> others{pool("a", "10.0.0.0/16", 26), pool("b", "10.1.0.0/16", 26)};
    EXPECT_TRUE(validate_among(pool("a", "10.0.0.0/16", 26), others));
    EXPECT_TRUE(validate_among(pool("c", "10.2.0.0/16", 26), others));
    EXPECT_EQ(validate_among(pool("c", "10.1.128.0/24", 26), others).error().message,
              "IPPool c: spec.cidr: 10.1.128.0/24 overlaps 10.1.0.0/16 of IPPool b");
    EXPECT_EQ(validate_among(pool("a", "10.3.0.0/16", 26), others).error().message,
              "IPPool a: spec.cidr: 10.3.0.0/16: cannot change; it is 10.0.0.0/16");
    EXPECT_EQ(validate_among(pool("a", "10.0.0.0/16", 28), others).error().message,
              "IPPool a: spec.blockSize: 28: cannot change; it is 26");
}

json block_object() {
    json allocations = json::array({0, nullptr, 1, nullptr});
    return {{"apiVersion", "crd.projectcalico.org/v1"},
            {"kind", "IPAMBlock"},
            {"metadata",
             {{"name", "10-65-0-0-30"},
              {"resourceVersion", "7"},
              {"annotations", {{"projectcalico.org/metadata", R"({"creationTimestamp":null})"}}}}},
            {"spec",
             {{"cidr", "10.65.0.0/30"},
              {"affinity", "host:node1"},
              {"affinityClaimTime", "2026-08-22T10:00:00Z"},
              {"allocations", allocations},
              {"unallocated", {3, 1}},
              {"attributes",
               {{{"handle_id", "k8s-pod-network.c1"},
                 {"secondary", {{"namespace", "default"}, {"node", "node1"}, {"pod", "web-0"}}}},
                {{"releasedAt", "2026-08-22T10:05:00Z"}}}},
              {"sequenceNumber", 1787392800123456789ULL},
              {"sequenceNumberForAllocation",
               {{"0", 1787392800123456788ULL}, {"2", 1787392800123456787ULL}}},
              {"strictAffinity", false},
              {"deleted", false}}}};
}

TEST(IpamKinds, BlockIsWrittenAsItWasRead) {
    auto block = IpamBlock::from_json(block_object());
    ASSERT_TRUE(block) << block.error().text();
    EXPECT_EQ(block->sequence_number, 1787392800123456789ULL);
    EXPECT_EQ(block->unallocated, (std::vector{3, 1}));
    EXPECT_EQ(block->attributes[1].released_at, "2026-08-22T10:05:00Z");
    EXPECT_EQ(*block->to_json(), block_object());
}

TEST(IpamKinds, BlockThatContradictsItself) {
    auto message = [](const char* pointer, json value) {
        json object = block_object();
        object["spec"][json::json_pointer(pointer)] = std::move(value);
        auto block = IpamBlock::from_json(object);
        auto good = block ? block->validate() : Result<void>(Unexpected(block.error()));
        return good ? "" : good.error().message;
    };
    EXPECT_EQ(message("/deleted", false), "");
    std::string subject = "IPAMBlock 10-65-0-0-30: spec.";
    EXPECT_EQ(message("/allocations", {0, nullptr}),
              subject + "allocations: 2 entries for 10.65.0.0/30");
    EXPECT_EQ(message("/allocations/1", 9),
              subject + "allocations: expected null or an index into spec.attributes");
    EXPECT_EQ(message("/unallocated", {1, 1}),
              subject + "unallocated: expected ordinals of the block, each once");
    EXPECT_EQ(message("/unallocated", {1, 18446744073709551615ULL}),
              subject + "unallocated: expected ordinals of the block, each once");
    EXPECT_EQ(message("/unallocated", {0, 1, 3}),
              subject + "unallocated: 0 is in spec.allocations");
    EXPECT_EQ(message("/unallocated", {1}),
              subject + "unallocated: lacks 3, which spec.allocations does not have either");
    EXPECT_EQ(message("/sequenceNumber", -1),
              subject + "sequenceNumber: expected a whole number from 0 to 18446744073709551615");
    EXPECT_EQ(message("/sequenceNumberForAllocation", {{"x", 1}}),
              subject + "sequenceNumberForAllocation: expected ordinals with whole numbers");
    EXPECT_NE(message("/cidr", "10.0.0.0/1"), "");
}

TEST(IpamKinds, AffinityHasItsLabels) {
    BlockAffinity affinity;
    affinity.cidr = *Cidr::parse("10.65.0.0/26");
    affinity.node = "node1";
    affinity.state = AffinityState::Pending;
    json object = *affinity.to_json();
    EXPECT_EQ(object["metadata"]["name"], "node1-10-65-0-0-26");
    EXPECT_EQ(object["metadata"]["labels"]["projectcalico.org/hostname-hash"],
              "7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A");
    EXPECT_EQ(object["spec"]["deleted"], "false");
    EXPECT_EQ(object["spec"]["state"], "pending");
    auto read = BlockAffinity::from_json(object);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->state, AffinityState::Pending);
    object["spec"].erase("state");
    object["spec"].erase("type");
    object["spec"]["deleted"] = true; // as projectcalico.org/v3 has it
    read = BlockAffinity::from_json(object);
    EXPECT_EQ(read->state, AffinityState::Confirmed);
    EXPECT_EQ(read->type, "host");
    EXPECT_TRUE(read->deleted);
}

TEST(IpamKinds, HandleConfigReservation) {
    IpamHandle handle;
    handle.handle_id = "k8s-pod-network.ABC";
    handle.block["10.65.0.0/26"] = 2;
    json object = *handle.to_json();
    EXPECT_EQ(object["metadata"]["name"], "k8s-pod-network.abc");
    EXPECT_EQ(IpamHandle::from_json(object)->handle_id, "k8s-pod-network.ABC");
    EXPECT_EQ(IpamHandle::from_json(object)->block, handle.block);

    auto config = IpamConfig::from_json(calico("IPAMConfiguration", "default", json::object()));
    EXPECT_TRUE(config->auto_allocate_blocks && config->validate());
    config->max_blocks_per_host = 4;
    EXPECT_EQ(config->validate().error().message,
              "IPAMConfig default: spec.maxBlocksPerHost: needs strictAffinity true");
    config->strict_affinity = true;
    EXPECT_EQ((*config->to_json())["kind"], "IPAMConfig");
    EXPECT_EQ(IpamConfig::from_json(*config->to_json())->max_blocks_per_host, 4);

    json reservation = calico("IPReservation", "r", {{"reservedCIDRs", {"10.0.0.0/30", "fd::1"}}});
    EXPECT_EQ(IpReservation::from_json(reservation)->reserved_cidrs.size(), 2U);
    reservation["spec"]["reservedCIDRs"][1] = "x";
    EXPECT_FALSE(IpReservation::from_json(reservation));
}

TEST(ServiceKind, AddressesAndPorts) {
    auto service = Service::from_json(json::parse(R"({
      "metadata": {"name": "web", "namespace": "shop"},
      "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7", "fd00:96::7"], "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                  {"port": 53, "protocol": "UDP", "targetPort": 5353}]},
      "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"hostname": "x"}]}}})"));
    ASSERT_TRUE(service) << service.error().text();
    EXPECT_EQ(service->cluster_ips.size(), 2U);
    EXPECT_EQ(service->load_balancer_ips, std::vector{ip("203.0.113.1")});
    EXPECT_TRUE(service->external_policy_local);
    json headless = {{"metadata", {{"name", "h"}}}, {"spec", {{"clusterIP", "None"}}}};
    EXPECT_TRUE(Service::from_json(headless)->cluster_ips.empty());
}

TEST(EndpointSliceKind, AbsentReadyIsReady) {
    auto slice = EndpointSlice::from_json(json::parse(R"({
      "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
      "addressType": "IPv4",
      "endpoints": [{"addresses": ["10.65.0.2"], "nodeName": "n1"},
                    {"addresses": ["10.65.0.3"], "conditions": {"ready": false}}],
      "ports": [{"name": "http", "port": 8080}, {"port": 9, "protocol": "SCTP"}]})"));
    ASSERT_TRUE(slice) << slice.error().text();
    EXPECT_EQ(slice->service, "web");
    EXPECT_TRUE(slice->endpoints[0].ready);
    EXPECT_FALSE(slice->endpoints[1].ready);
    EXPECT_EQ(slice->ports[0].port, 8080);
}

TEST(BgpKinds, PeerAddressesWithPorts) {
    auto peer = [](const char* text) {
        return BgpPeer::from_json(calico("BGPPeer", "p", {{"peerIP", text}, {"asNumber", 64512}}));
    };
    EXPECT_EQ(peer("10.0.0.1")->peer_port, 0);
    EXPECT_EQ(peer("10.0.0.1:1179")->peer_port, 1179);
    EXPECT_EQ(peer("fd00::1")->peer_ip, ip("fd00::1"));
    EXPECT_EQ(peer("[fd00::1]:1179")->peer_ip, ip("fd00::1"));
    EXPECT_EQ(peer("[fd00::1]:1179")->peer_port, 1179);
    for (const char* bad :
         {"10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "[fd00::1", "x", "[::1]9"}) {
        EXPECT_FALSE(peer(bad)) << bad;
    }
}

TEST(BgpKinds, PeerRules) {
    auto refusal = [](json spec) {
        auto peer = BgpPeer::from_json(calico("BGPPeer", "p", std::move(spec)));
        return peer ? (peer->validate() ? "" : peer->validate().error().message)
                    : peer.error().message;
    };
    EXPECT_EQ(refusal({{"peerIP", "10.0.0.1"}, {"asNumber", "1.10"}}), "");
    EXPECT_EQ(refusal({{"peerSelector", "has(rr)"}, {"nodeSelector", "all()"}}), "");
    EXPECT_EQ(refusal({{"peerIP", "10.0.0.1"}}),
              "BGPPeer p: spec.asNumber: expected 1 to 4294967295");
    EXPECT_EQ(refusal({{"peerIP", "10.0.0.1"}, {"asNumber", 4294967296LL}}),
              "BGPPeer p: spec.asNumber: expected a whole number from 0 to 4294967295");
    EXPECT_EQ(refusal({{"peerSelector", "all()"}, {"peerIP", "10.0.0.1"}}),
              "BGPPeer p: spec.peerSelector: excludes peerIP and asNumber");
    EXPECT_EQ(refusal({{"peerSelector", "all()"}, {"node", "a"}, {"nodeSelector", "all()"}}),
              "BGPPeer p: spec.nodeSelector: node is set too; expected at most one of them");
    EXPECT_EQ(refusal({{"asNumber", 1}}), "BGPPeer p: spec.peerIP: is required without "
                                          "peerSelector and localWorkloadSelector");
    EXPECT_NE(refusal({{"peerSelector", "has("}}), "");
    EXPECT_NE(refusal({{"ttlSecurity", 256}}), "");
}

TEST(BgpKinds, ConfigurationAndFilter) {
    auto config = BgpConfiguration::from_json(calico(
        "BGPConfiguration", "default",
        {{"asNumber", 64999},
         {"nodeToNodeMeshEnabled", false},
         {"serviceClusterIPs", {{{"cidr", "10.96.0.0/12"}}}},
         {"communities", {{{"name", "blue"}, {"value", "1:2"}}}},
         {"prefixAdvertisements", {{{"cidr", "10.0.0.0/8"}, {"communities", {"blue", "3:4"}}}}}}));
    ASSERT_TRUE(config) << config.error().text();
    EXPECT_TRUE(config->validate());
    EXPECT_EQ(config->node_mesh, false);
    EXPECT_EQ(config->service_cluster_ips[0].text(), "10.96.0.0/12");
    config->communities.clear();
    EXPECT_FALSE(config->validate());

    auto filter = BgpFilter::from_json(
        calico("BGPFilter", "f",
               {{"exportV4",
                 {{{"cidr", "10.0.0.0/8"},
                   {"matchOperator", "In"},
                   {"prefixLength", {{"min", 16}, {"max", 24}}},
                   {"action", "Accept"},
                   {"operations", {{{"addCommunity", {{"value", "1:2"}}}}}}}}}}));
    ASSERT_TRUE(filter) << filter.error().text();
    EXPECT_TRUE(filter->validate());
    EXPECT_EQ(filter->export_v4[0].max_length, 24);
    filter->export_v4[0].accept = false;
    EXPECT_EQ(filter->validate().error().message,
              "BGPFilter f: spec.exportV4[0].operations: only with action Accept");
    EXPECT_FALSE(
        BgpFilter::from_json(calico("BGPFilter", "f", {{"exportV4", {{{"action", "Maybe"}}}}})));
}

TEST(FelixKind, TheMostSpecificObjectWinsPerField) {
    auto config = [](const char* name, json spec) {
        return *FelixConfiguration::from_json(calico("FelixConfiguration", name, std::move(spec)));
    };
    std::vector<FelixConfiguration> all{
        config("default", {{"vxlanPort", 4000}, {"defaultEndpointToHostAction", "Drop"}}),
        config("gpu", {{"nodeSelector", "has(gpu)"}, {"vxlanPort", 4001}}),
        config("node.n1", {{"vxlanVNI", 7}}), config("node.n2", {{"vxlanPort", 9}})};
    auto effective = effective_felix_configuration(all, "n1", {{"gpu", "yes"}});
    EXPECT_EQ(effective.vxlan_port, 4001);
    EXPECT_EQ(effective.vxlan_vni, 7U);
    EXPECT_EQ(effective.default_endpoint_to_host_action, "Drop");
    EXPECT_EQ(effective_felix_configuration(all, "n1", {}).vxlan_port, 4000);
}

TEST(FelixKind, AnnotationsOverrideFields) {
    json object = calico("FelixConfiguration", "default", {{"vxlanPort", 4000}});
    object["metadata"]["annotations"] = {{"config.projectcalico.org/VXLANPort", "4002"}};
    EXPECT_EQ(FelixConfiguration::from_json(object)->vxlan_port, 4002);
    object["metadata"]["annotations"] = {{"config.projectcalico.org/VXLANPort", "many"}};
    auto config = FelixConfiguration::from_json(object);
    ASSERT_TRUE(config);
    EXPECT_EQ(config->vxlan_port, std::nullopt);
    EXPECT_EQ(config->validate().error().message,
              "FelixConfiguration default: annotation config.projectcalico.org/.vxlanPort: "
              "expected a whole number from 0 to 65535");
}

TEST(FelixKind, WordsInAnyLettersAsCalicoTakesThem) {
    auto config = FelixConfiguration::from_json(
        calico("FelixConfiguration", "default",
               {{"defaultEndpointToHostAction", "DROP"}, {"workloadSourceSpoofing", ""}}));
    ASSERT_TRUE(config);
    EXPECT_EQ(config->default_endpoint_to_host_action, "Drop");
    EXPECT_EQ(config->workload_source_spoofing, std::nullopt);
    EXPECT_TRUE(config->validate());
}

TEST(FelixKind, EachFieldIsReadForItself) {
    auto read = [](json spec) {
        return *FelixConfiguration::from_json(calico("FelixConfiguration", "gpu", std::move(spec)));
    };
    const auto good = read({{"nodeSelector", "has(gpu)"},
                            {"defaultEndpointToHostAction", "Return"},
                            {"allowVXLANPacketsFromWorkloads", true},
                            {"vxlanPort", 4000}});
    const json broken = {{"nodeSelector", "has("},
                         {"defaultEndpointToHostAction", "Reject"},
                         {"allowVXLANPacketsFromWorkloads", "maybe"},
                         {"workloadSourceSpoofing", "Some"},
                         {"vxlanPort", 70000},
                         {"vxlanVNI", 7}};
    auto next = read(broken);
    ASSERT_EQ(next.problems.size(), 5U);
    EXPECT_EQ(next.problems[1].text,
              "FelixConfiguration gpu: spec.defaultEndpointToHostAction: \"Reject\": "
              "expected one of Drop, Accept, Return");
    next.keep_unread(&good);
    EXPECT_EQ(next.node_selector, "has(gpu)");
    EXPECT_EQ(next.default_endpoint_to_host_action, "Return");
    EXPECT_EQ(next.allow_vxlan_from_workloads, true);
    EXPECT_EQ(next.workload_source_spoofing, std::nullopt) << "the last state did not say";
    EXPECT_EQ(next.vxlan_port, 4000);
    EXPECT_EQ(next.vxlan_vni, 7U) << "what can be read holds";
    // Nothing is known of what it said: nothing is opened.
    next = read(broken);
    next.keep_unread(nullptr);
    EXPECT_EQ(next.node_selector, "");
    EXPECT_EQ(next.default_endpoint_to_host_action, "Drop");
    EXPECT_EQ(next.allow_vxlan_from_workloads, false);
    EXPECT_EQ(next.workload_source_spoofing, "Disabled");
    EXPECT_EQ(next.vxlan_port, std::nullopt);
}

TEST(ClusterInformationKind, NotReadyUnlessItSaysSo) {
    json object = calico("ClusterInformation", "default", {{"clusterType", "k8s,bgp"}});
    EXPECT_FALSE(ClusterInformation::from_json(object)->datastore_ready);
    object["spec"]["datastoreReady"] = true;
    EXPECT_TRUE(ClusterInformation::from_json(object)->datastore_ready);
}

} // namespace
} // namespace manx::api
