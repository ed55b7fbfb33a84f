// SPDX-License-Identifier: Apache-2.0
// What objects ask for and is not done: that it is said, and that it has no other effect.
#include "agent/app/settings.h"
#include "agent/app/unenforced.h"
#include "tests/policy/memory_world.h"

#include <gmock/gmock.h>

namespace manx::testing_policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

json pod(const char* name, const char* address, const char* node, json annotations = nullptr) {
    return {{"kind", "Pod"},
            {"metadata",
             {{"name", name},
              {"namespace", "a"},
              {"labels", {{"app", name}}},
              {"annotations", std::move(annotations)}}},
            {"spec", {{"nodeName", node}}},
            {"status", {{"podIPs", {{{"ip", address}}}}}}};
}

json calico(const char* kind, const char* name, json spec) {
    return {{"apiVersion", "projectcalico.org/v3"},
            {"kind", kind},
            {"metadata", {{"name", name}}},
            {"spec", std::move(spec)}};
}

// Denies everything to the server, with more fields.
json closing(const char* kind, json more) {
    json spec = {{"selector", "app == 'server'"},
                 {"types", {"Ingress"}},
                 {"ingress", {{{"action", "Deny"}}}}};
    spec.update(more);
    return calico(kind, "closing", std::move(spec));
}

std::vector<std::string> fields(const std::vector<api::NotEnforced>& all) {
    std::vector<std::string> out;
    for (const auto& one : all) {
        EXPECT_FALSE(one.meaning.empty());
        out.push_back(one.field);
    }
    return out;
}

template <typename T, typename... Node>
std::vector<std::string> fields_of(const json& object, const Node&... node) {
    const auto read = T::from_json(object);
    EXPECT_TRUE(read);
    return read ? fields(api::not_enforced(*read, node...)) : std::vector<std::string>{};
}

using Gnp = api::PolicyOf<api::Kind::GlobalNetworkPolicy>;
using StagedGnp = api::PolicyOf<api::Kind::StagedGlobalNetworkPolicy>;

TEST(NotEnforced, FieldsOfPolicies) {
    const auto of = [](const json& more) {
        return fields_of<Gnp>(closing("GlobalNetworkPolicy", more));
    };
    EXPECT_THAT(of(json::object()), IsEmpty());
    EXPECT_THAT(of({{"doNotTrack", false}, {"preDNAT", false}, {"applyOnForward", false}}),
                IsEmpty());
    EXPECT_THAT(of({{"doNotTrack", true}, {"applyOnForward", true}}),
                ElementsAre("spec.doNotTrack"));
    EXPECT_THAT(of({{"preDNAT", true}, {"applyOnForward", true}}), ElementsAre("spec.preDNAT"));
    EXPECT_THAT(of({{"applyOnForward", true}}), ElementsAre("spec.applyOnForward"));
    EXPECT_THAT(fields_of<StagedGnp>(closing("StagedGlobalNetworkPolicy", {{"preDNAT", true}})),
                IsEmpty());
}

TEST(NotEnforced, HostEndpointsOfThisNode) {
    const json endpoint = calico("HostEndpoint", "eth", {{"node", "n1"}, {"interfaceName", "*"}});
    EXPECT_THAT(fields_of<api::HostEndpoint>(endpoint, std::string("n1")), ElementsAre("spec"));
    EXPECT_THAT(fields_of<api::HostEndpoint>(endpoint, std::string("n2")), IsEmpty());
}

TEST(NotEnforced, AnnotationsOfPodsOfThisNode) {
    const json annotations = {
        {"cni.projectcalico.org/allowedSourcePrefixes", R"(["192.0.2.0/24", "2001:db8::/64"])"},
        {"cni.projectcalico.org/floatingIPs", R"(["192.0.2.9", "2001:db8::9"])"}};
    const json asking = pod("server", "10.0.0.1", "n1", annotations);
    EXPECT_THAT(fields_of<api::Pod>(asking, std::string("n1")),
                ElementsAre("metadata.annotations[cni.projectcalico.org/allowedSourcePrefixes]",
                            "metadata.annotations[cni.projectcalico.org/floatingIPs]"));
    EXPECT_THAT(fields_of<api::Pod>(asking, std::string("n2")), IsEmpty());
    EXPECT_THAT(fields_of<api::Pod>(pod("server", "10.0.0.1", "n1"), std::string("n1")), IsEmpty());
}

TEST(NotEnforced, FelixConfigurationThatSpeaksForThisNode) {
    app::SettingsSource source("n1", {});
    for (const char* name : {"default", "node.n1", "node.n2", "racks"}) {
        json object = calico("FelixConfiguration", name,
                             {{"workloadSourceSpoofing", "any"}, {"floatingIPs", "Enabled"}});
        if (std::string_view(name) == "racks") {
            object["spec"]["nodeSelector"] = "rack == 'a'";
        }
        const auto read = api::FelixConfiguration::from_json(object);
        ASSERT_TRUE(read);
        EXPECT_THAT(source.upsert(*read), IsEmpty());
    }
    const auto told = [&source] {
        std::vector<std::string> out;
        for (const auto& [name, all] : source.not_enforced()) {
            if (!all.empty()) {
                EXPECT_THAT(fields(all),
                            ElementsAre("spec.workloadSourceSpoofing", "spec.floatingIPs"));
                out.push_back(name);
            }
        }
        return out;
    };
    EXPECT_THAT(told(), ElementsAre("default", "node.n1"));
    source.set_node_labels({{"rack", "a"}});
    EXPECT_THAT(told(), ElementsAre("default", "node.n1", "racks"));
    const auto tame = api::FelixConfiguration::from_json(
        calico("FelixConfiguration", "default",
               {{"workloadSourceSpoofing", "Disabled"}, {"floatingIPs", "Disabled"}}));
    ASSERT_TRUE(tame);
    source.upsert(*tame);
    source.remove("node.n1");
    EXPECT_THAT(told(), ElementsAre("racks"));
}

TEST(NotEnforced, AListByObjectAndField) {
    app::Unenforced list;
    const datastore::Key policy{api::Kind::GlobalNetworkPolicy, "", "g"};
    const datastore::Key web{api::Kind::Pod, "shop", "web"};
    list.report(policy, {{"spec.preDNAT", "no effect"}});
    list.report(web, {{"one", "first"}, {"two", "second"}});
    EXPECT_EQ(list.size(), 2U);
    EXPECT_EQ(list.to_json(), json::parse(R"([
        {"kind": "Pod", "namespace": "shop", "name": "web", "field": "one", "meaning": "first"},
        {"kind": "Pod", "namespace": "shop", "name": "web", "field": "two", "meaning": "second"},
        {"kind": "GlobalNetworkPolicy", "namespace": "", "name": "g", "field": "spec.preDNAT",
         "meaning": "no effect"}])"));
    list.report(web, {});
    list.forget(policy);
    EXPECT_EQ(list.size(), 0U);
    EXPECT_EQ(list.to_json(), json::array());
}

// Policies for host endpoints say nothing about workloads; applyOnForward takes nothing from them.
TEST(NotEnforced, WhatItMeansToWorkloads) {
    TableWorld world;
    world.put(pod("server", "10.0.0.1", "n1"));
    world.put(pod("client", "10.0.0.2", "n2"));
    const oracle::Query query{.from = *IpAddress::parse("10.0.0.2"),
                              .to = *IpAddress::parse("10.0.0.1"),
                              .protocol = 6,
                              .source_port = 1,
                              .port = 80};
    const auto reaches = [&](const json& more) {
        world.put(closing("GlobalNetworkPolicy", more));
        world.flush();
        return world.ask(query).ingress;
    };
    EXPECT_FALSE(reaches(json::object()));
    EXPECT_TRUE(reaches({{"doNotTrack", true}, {"applyOnForward", true}}));
    EXPECT_FALSE(reaches({{"applyOnForward", true}}));
    EXPECT_TRUE(reaches({{"preDNAT", true}, {"applyOnForward", true}}));
    EXPECT_TRUE(reaches({{"preDNAT", true}, {"future", 1}})) << "nor where it is not understood";
    EXPECT_FALSE(reaches(json::object()));
}

} // namespace
} // namespace manx::testing_policy
