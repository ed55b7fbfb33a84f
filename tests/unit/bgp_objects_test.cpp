// SPDX-License-Identifier: Apache-2.0
// From objects to inputs, and the real cluster's 140 peers: each node ends with its own rack's.
#include "agent/bgp/from_objects.h"
#include "tests/unit/bgp_support.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

namespace manx::bgp {
namespace {

using namespace test;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

template <typename T>
T parse(const json& object) {
    auto parsed = T::from_json(object);
    EXPECT_TRUE(parsed) << parsed.error().text();
    return parsed ? *parsed : T{};
}

json calico(std::string_view kind, std::string_view name, json spec) {
    return {{"apiVersion", "crd.projectcalico.org/v1"},
            {"kind", kind},
            {"metadata", {{"name", name}}},
            {"spec", std::move(spec)}};
}

json node_object(std::string_view name, json annotations) {
    return {{"apiVersion", "v1"},
            {"kind", "Node"},
            {"metadata", {{"name", name}, {"annotations", std::move(annotations)}}}};
}

json affinity(std::string_view cidr, std::string_view node, std::string_view state,
              std::string_view deleted = "false") {
    std::string name = std::string(node) + "-" + std::string(cidr);
    return calico("BlockAffinity", name,
                  {{"cidr", cidr}, {"node", node}, {"state", state}, {"deleted", deleted}});
}

Inputs inputs_of(const ObjectTable& table, std::vector<std::string>* problems = nullptr) {
    std::vector<std::string> found;
    Inputs inputs = table.inputs(found);
    if (problems != nullptr) {
        *problems = found;
    } else {
        EXPECT_THAT(found, IsEmpty());
    }
    return inputs;
}

TEST(BgpObjects, Durations) {
    EXPECT_EQ(parse_duration("120s")->count(), 120);
    EXPECT_EQ(parse_duration("1m30s")->count(), 90);
    EXPECT_EQ(parse_duration("1h0m0s")->count(), 3600);
    EXPECT_EQ(parse_duration("1500ms")->count(), 2);
    for (const char* text : {"", "90", "s", "-5s", "5d", "20h", "5 s"}) {
        EXPECT_FALSE(parse_duration(text)) << text;
    }
}

TEST(BgpObjects, OwnBlocksByTheirState) {
    ObjectTable table("node1", "kube-system");
    EXPECT_TRUE(table.upsert(parse<api::BlockAffinity>(affinity("10.65.0.0/26", "node1", ""))));
    EXPECT_FALSE(table.upsert(parse<api::BlockAffinity>(affinity("10.65.0.0/26", "node1", ""))));
    EXPECT_FALSE(
        table.upsert(parse<api::BlockAffinity>(affinity("10.65.1.0/26", "node2", "confirmed"))));
    EXPECT_FALSE(
        table.upsert(parse<api::BlockAffinity>(affinity("10.65.2.0/26", "node1", "pending"))));
    table.upsert(parse<api::BlockAffinity>(affinity("10.65.3.0/26", "node1", "pendingDeletion")));
    EXPECT_FALSE(table.upsert(
        parse<api::BlockAffinity>(affinity("10.65.4.0/26", "node1", "confirmed", "true"))));
    EXPECT_THAT(inputs_of(table).blocks,
                ElementsAre(Block{cidr("10.65.0.0/26")},
                            Block{cidr("10.65.3.0/26"), BlockState::PendingDeletion}));
    // Given up: confirmed first, then soft-deleted.
    EXPECT_TRUE(table.upsert(
        parse<api::BlockAffinity>(affinity("10.65.0.0/26", "node1", "confirmed", "true"))));
    EXPECT_EQ(inputs_of(table).blocks.size(), 1U);
    EXPECT_TRUE(table.remove(api::Kind::BlockAffinity, "", "node1-10.65.3.0/26"));
    EXPECT_THAT(inputs_of(table).blocks, IsEmpty());
}

TEST(BgpObjects, NodeObjectOverridesOnlyThree) {
    ObjectTable table("node1", "kube-system");
    table.upsert(parse<api::BgpConfiguration>(
        calico("BGPConfiguration", "default",
               {{"asNumber", 64601},
                {"communities", {{{"name", "pods"}, {"value", "64601:14"}}}},
                {"prefixAdvertisements",
                 {{{"cidr", "10.65.0.0/16"}, {"communities", {"pods", "64601:1:2"}}}}}})));
    EXPECT_EQ(
        inputs_of(table).settings.prefix_advertisements[0].communities,
        (std::vector<Community>{*Community::parse("64601:14"), *Community::parse("64601:1:2")}));
    table.upsert(parse<api::Node>(
        node_object("node1", {{"projectcalico.org/IPv4Address", "192.0.2.1/24"}})));
    table.upsert(parse<api::BgpConfiguration>(calico(
        "BGPConfiguration", "node.node1",
        {{"asNumber", 65000},
         {"listenPort", 1790},
         {"logSeverityScreen", "Debug"},
         {"prefixAdvertisements", {{{"cidr", "10.65.0.0/17"}, {"communities", {"64601:99"}}}}}})));
    Inputs in = inputs_of(table);
    EXPECT_EQ(in.settings.as_number, 64601U);
    EXPECT_EQ(in.nodes[0].listen_port, 1790);
    EXPECT_EQ(in.settings.log_severity, LogSeverity::Debug);
    EXPECT_EQ(in.settings.prefix_advertisements.size(), 1U);
    EXPECT_EQ(in.settings.prefix_advertisements[0].cidr, cidr("10.65.0.0/17"));
    EXPECT_TRUE(in.settings.node_mesh);
}

TEST(BgpObjects, NodeWithoutAnnotationPeersByItsInternalIp) {
    ObjectTable table("node1", "kube-system");
    json object = node_object("node1", json::object());
    object["status"]["addresses"] = {{{"type", "Hostname"}, {"address", "node1"}},
                                     {{"type", "InternalIP"}, {"address", "192.0.2.1"}}};
    EXPECT_TRUE(table.upsert(parse<api::Node>(object)));
    EXPECT_EQ(inputs_of(table).nodes[0].ipv4->text(), "192.0.2.1/32");
    object["status"]["conditions"] = {{{"type", "Ready"}, {"status", "True"}}};
    EXPECT_FALSE(table.upsert(parse<api::Node>(object))) << "a heartbeat changes nothing";
}

TEST(BgpObjects, PasswordsComeFromSecretsOfTheirNamespace) {
    ObjectTable table("node1", "kube-system");
    table.upsert(parse<api::Node>(
        node_object("node1", {{"projectcalico.org/IPv4Address", "192.0.2.1/24"}})));
    table.upsert(parse<api::BgpConfiguration>(
        calico("BGPConfiguration", "default", {{"nodeToNodeMeshEnabled", false}})));
    table.upsert(parse<api::BgpPeer>(
        calico("BGPPeer", "p",
               {{"peerIP", "203.0.113.1"},
                {"asNumber", 65001},
                {"password", {{"secretKeyRef", {{"name", "bgp"}, {"key", "rack"}}}}},
                {"maxRestartTime", "2m"}})));
    EXPECT_THAT(session_names(render(inputs_of(table)).text), IsEmpty());
    json secret = {{"apiVersion", "v1"},
                   {"kind", "Secret"},
                   {"metadata", {{"name", "bgp"}, {"namespace", "default"}}},
                   {"data", {{"rack", "czNjcmV0Cg=="}}}};
    EXPECT_FALSE(table.upsert(parse<api::Secret>(secret))) << "another namespace";
    secret["metadata"]["namespace"] = "kube-system";
    EXPECT_TRUE(table.upsert(parse<api::Secret>(secret)));
    std::string text = render(inputs_of(table)).text;
    EXPECT_THAT(text, HasSubstr("  password \"s3cret\";\n"));
    EXPECT_THAT(text, HasSubstr("  graceful restart time 120;\n"));
    secret["data"]["rack"] = "not base64!";
    EXPECT_FALSE(api::Secret::from_json(secret));
    EXPECT_TRUE(table.remove(api::Kind::Secret, "kube-system", "bgp"));
    EXPECT_THAT(session_names(render(inputs_of(table)).text), IsEmpty());
}

TEST(BgpObjects, WrongPartsAreNamedAndTheRestStands) {
    ObjectTable table("node1", "kube-system");
    table.upsert(parse<api::Node>(
        node_object("node1", {{"projectcalico.org/IPv4Address", "192.0.2.1/24"}})));
    api::BgpPeer selector = parse<api::BgpPeer>(
        calico("BGPPeer", "selector", {{"peerIP", "203.0.113.1"}, {"asNumber", 65001}}));
    selector.node_selector = "a ==";
    api::BgpPeer time = parse<api::BgpPeer>(
        calico("BGPPeer", "time", {{"peerIP", "203.0.113.2"}, {"asNumber", 65001}}));
    time.keepalive_time = "soon";
    table.upsert(selector);
    table.upsert(time);
    api::BgpFilter filter;
    filter.meta.name = "bad";
    filter.export_v4.emplace_back().community = "1:2:3:4";
    table.upsert(filter);
    json filtered = calico("BGPPeer", "filtered",
                           {{"peerIP", "203.0.113.3"}, {"asNumber", 65001}, {"filters", {"bad"}}});
    table.upsert(parse<api::BgpPeer>(filtered));
    table.upsert(parse<api::BgpPeer>(
        calico("BGPPeer", "good", {{"peerIP", "203.0.113.4"}, {"asNumber", 65001}})));
    std::vector<std::string> problems;
    Inputs in = inputs_of(table, &problems);
    EXPECT_THAT(problems, ElementsAre(HasSubstr("BGPPeer selector: nodeSelector"),
                                      HasSubstr("BGPPeer time: keepaliveTime")));
    auto rendered = render(in);
    EXPECT_THAT(session_names(rendered.text), ElementsAre("Global_203_0_113_4"));
    EXPECT_THAT(rendered.problems, ElementsAre(HasSubstr("BGPFilter bad: \"1:2:3:4\""),
                                               HasSubstr("BGPPeer filtered")));
}

TEST(BgpObjects, ServicesByTheirSlices) {
    ObjectTable table("node1", "kube-system");
    table.upsert(parse<api::Node>(
        node_object("node1", {{"projectcalico.org/IPv4Address", "192.0.2.1/24"}})));
    table.upsert(parse<api::BgpConfiguration>(calico(
        "BGPConfiguration", "default", {{"serviceClusterIPs", {{{"cidr", "10.96.0.0/12"}}}}})));
    table.upsert(parse<api::Service>({{"apiVersion", "v1"},
                                      {"kind", "Service"},
                                      {"metadata", {{"name", "web"}, {"namespace", "default"}}},
                                      {"spec",
                                       {{"type", "LoadBalancer"},
                                        {"clusterIP", "10.96.0.7"},
                                        {"clusterIPs", {"10.96.0.7"}},
                                        {"externalTrafficPolicy", "Local"}}}}));
    json slice = {{"apiVersion", "discovery.k8s.io/v1"},
                  {"kind", "EndpointSlice"},
                  {"metadata",
                   {{"name", "web-1"},
                    {"namespace", "default"},
                    {"labels", {{"kubernetes.io/service-name", "web"}}}}},
                  {"addressType", "IPv4"},
                  {"endpoints", {{{"addresses", {"10.65.0.2"}}, {"nodeName", "node2"}}}}};
    table.upsert(parse<api::EndpointSlice>(slice));
    EXPECT_THAT(render(inputs_of(table)).text, Not(HasSubstr("10.96.0.7/32")));
    slice["endpoints"].push_back({{"addresses", {"10.65.0.3"}}, {"nodeName", "node1"}});
    EXPECT_TRUE(table.upsert(parse<api::EndpointSlice>(slice)));
    EXPECT_THAT(render(inputs_of(table)).text, HasSubstr("route 10.96.0.7/32 blackhole;"));
    // A pod that moves within the node, or elsewhere, is none of BIRD's business.
    slice["endpoints"][0]["addresses"] = {"10.65.0.9"};
    EXPECT_FALSE(table.upsert(parse<api::EndpointSlice>(slice)));
}

json to_json(const YAML::Node& yaml) {
    if (yaml.IsMap()) {
        json object = json::object();
        for (const auto& item : yaml) {
            object[item.first.as<std::string>()] = to_json(item.second);
        }
        return object;
    }
    if (yaml.IsSequence()) {
        json list = json::array();
        for (const auto& item : yaml) {
            list.push_back(to_json(item));
        }
        return list;
    }
    bool value = false;
    int64_t number = 0;
    if (yaml.Tag() != "!" && YAML::convert<int64_t>::decode(yaml, number)) {
        return number;
    }
    if (yaml.Tag() != "!" && YAML::convert<bool>::decode(yaml, value)) {
        return value;
    }
    return yaml.as<std::string>("");
}

void load(ObjectTable& table, const std::string& file) {
    for (const YAML::Node& document : YAML::LoadAllFromFile(std::string(MANX_EXAMPLES) + file)) {
        if (!document.IsMap()) {
            continue;
        }
        json object = to_json(document);
        std::string kind = object["kind"];
        if (kind == "Node") {
            table.upsert(parse<api::Node>(object));
        } else if (kind == "BGPConfiguration") {
            table.upsert(parse<api::BgpConfiguration>(object));
        } else if (kind == "BGPPeer") {
            table.upsert(parse<api::BgpPeer>(object));
        } else if (kind == "IPPool") {
            table.upsert(parse<api::IpPool>(object));
        }
    }
}

TEST(BgpWikikube, EachNodePeersWithItsOwnRackOnly) {
    for (auto [node, sessions] : std::vector<std::pair<std::string, std::vector<std::string>>>{
             {"wikikube-worker1001", {"Node_10_64_133_1", "Node_2620_0_861_10c__1"}},
             {"wikikube-worker1002", {"Node_10_64_130_1", "Node_2620_0_861_109__1"}},
             {"kubernetes1003",
              {"Node_208_80_154_196", "Node_208_80_154_197", "Node_2620_0_861_ffff__1",
               "Node_2620_0_861_ffff__2"}}}) {
        ObjectTable table(node, "kube-system");
        for (const char* file : {"00-nodes", "10-bgp", "20-pools", "40-bgppeers"}) {
            load(table, std::string("/") + file + ".yaml");
        }
        std::string text = render(inputs_of(table)).text;
        EXPECT_EQ(session_names(text), sessions) << node;
        for (const std::string& name : sessions) {
            EXPECT_THAT(session(text, name), HasSubstr(" as 64601;\n"));
            EXPECT_THAT(session(text, name), HasSubstr(" as 14907;\n"));
            EXPECT_THAT(session(text, name), HasSubstr("  allow local as 1;\n"));
        }
        EXPECT_THAT(block(text, "function manx_export_v4("),
                    HasSubstr("  if net ~ [ 10.67.128.0/17+ ] then {\n"
                              "    bgp_community.add((14907, 14));\n"));
        EXPECT_THAT(block(text, "function manx_export_v6("),
                    HasSubstr("  if net ~ [ 2620:0:861:cabe::/64+ ] then {\n"
                              "    bgp_community.add((14907, 14));\n"));
    }
}

} // namespace
} // namespace manx::bgp
