// SPDX-License-Identifier: Apache-2.0
// Which setting holds on a node, and whether its datastore is locked.
#include "agent/app/datastore_lock.h"
#include "agent/app/settings.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace manx::app {
namespace {

using nlohmann::json;

api::FelixConfiguration felix(const char* name, json spec) {
    auto object = api::FelixConfiguration::from_json({{"apiVersion", "projectcalico.org/v3"},
                                                      {"kind", "FelixConfiguration"},
                                                      {"metadata", {{"name", name}}},
                                                      {"spec", std::move(spec)}});
    EXPECT_TRUE(object);
    return *object;
}

TEST(Settings, DefaultsWithoutObjects) {
    const auto settings = SettingsSource("n1", {}).current();
    EXPECT_EQ(settings.default_endpoint_to_host_action, "Accept");
    EXPECT_EQ(settings.vxlan_port, 4789);
    EXPECT_EQ(settings.log_level, "info");
}

TEST(Settings, TheMostSpecificWins) {
    SettingsSource source("n1", {});
    source.upsert(felix("default", {{"defaultEndpointToHostAction", "Drop"},
                                    {"vxlanPort", 4000},
                                    {"logSeverityScreen", "Warning"},
                                    {"allowIPIPPacketsFromWorkloads", true}}));
    source.upsert(felix("racks", {{"nodeSelector", "rack == 'a'"}, {"vxlanPort", 4001}}));
    source.upsert(felix("node.n1", {{"allowIPIPPacketsFromWorkloads", false}}));
    source.upsert(felix("node.n2", {{"vxlanPort", 9}}));
    auto settings = source.current();
    EXPECT_EQ(settings.default_endpoint_to_host_action, "Drop");
    EXPECT_EQ(settings.vxlan_port, 4000);
    EXPECT_FALSE(settings.allow_ipip_from_workloads);
    EXPECT_EQ(settings.log_level, "warn");
    source.set_node_labels({{"rack", "a"}});
    EXPECT_EQ(source.current().vxlan_port, 4001);
    source.remove("racks");
    source.remove("default");
    source.remove("node.n1");
    EXPECT_EQ(source.current(), Settings{}) << "and back";
}

TEST(Settings, TheAgentsOwnConfigurationWins) {
    SharedKeys own;
    own.default_endpoint_to_host_action = "Accept";
    own.allow_vxlan_from_workloads = false;
    own.log_level = "debug";
    SettingsSource source("n1", own);
    source.upsert(felix("node.n1", {{"defaultEndpointToHostAction", "Drop"},
                                    {"allowVXLANPacketsFromWorkloads", true},
                                    {"logSeverityScreen", "Error"},
                                    {"allowIPIPPacketsFromWorkloads", true}}));
    const auto settings = source.current();
    EXPECT_EQ(settings.default_endpoint_to_host_action, "Accept");
    EXPECT_FALSE(settings.allow_vxlan_from_workloads);
    EXPECT_EQ(settings.log_level, "debug");
    EXPECT_TRUE(settings.allow_ipip_from_workloads) << "what it does not say is the objects'";
}

TEST(Settings, WhatCannotBeReadStaysAsItWas) {
    SettingsSource source("n1", {});
    EXPECT_TRUE(source.upsert(felix("default", {{"vxlanPort", 4000}})).empty());
    const auto problems =
        source.upsert(felix("default", {{"vxlanPort", "x"}, {"logSeverityScreen", "Debug"}}));
    ASSERT_EQ(problems.size(), 1U);
    EXPECT_EQ(
        problems[0],
        "FelixConfiguration default: spec.vxlanPort: expected a whole number from 0 to 65535");
    EXPECT_EQ(source.current().vxlan_port, 4000);
    EXPECT_EQ(source.current().log_level, "debug");
    (void)source.upsert(felix("default", {{"vxlanPort", "y"}}));
    EXPECT_EQ(source.current().vxlan_port, 4000) << "however often";
    // It was never read: a value that nobody knows closes what it could have closed.
    SettingsSource fresh("n1", {});
    (void)fresh.upsert(felix("default", {{"defaultEndpointToHostAction", "Reject"}}));
    EXPECT_EQ(fresh.current().default_endpoint_to_host_action, "Drop");
}

TEST(Settings, WhatTheProgramsSee) {
    Settings settings;
    settings.default_endpoint_to_host_action = "Drop";
    settings.allow_ipip_from_workloads = true;
    settings.vxlan_port = 4790;
    manx_config before{};
    before.epoch = 7;
    before.flags = MANX_CONFIG_ALLOW_VXLAN | MANX_CONFIG_REJUDGE;
    const auto after = with_settings(before, settings, false);
    EXPECT_EQ(after.flags, uint32_t{MANX_CONFIG_HOST_DROP} | MANX_CONFIG_ALLOW_IPIP);
    EXPECT_EQ(after.vxlan_port, 4790U);
    EXPECT_EQ(after.epoch, 7U);
    settings.default_endpoint_to_host_action = "Return";
    EXPECT_EQ(with_settings(before, settings, true).flags,
              uint32_t{MANX_CONFIG_REJUDGE} | MANX_CONFIG_ALLOW_IPIP);
}

TEST(DatastoreLock, LockedWhileTheObjectSaysSo) {
    DatastoreLock lock;
    std::map<datastore::Key, std::string> invalid;
    EXPECT_EQ(lock.reason(invalid), "") << "without the object";
    api::ClusterInformation object;
    object.meta.name = "other";
    lock.upsert(object);
    EXPECT_EQ(lock.reason(invalid), "") << "one of another name says nothing";
    object.meta.name = "default";
    lock.upsert(object);
    EXPECT_EQ(lock.reason(invalid), "the datastore is locked: ClusterInformation default: "
                                    "spec.datastoreReady is not true");
    object.datastore_ready = true;
    lock.upsert(object);
    EXPECT_EQ(lock.reason(invalid), "");
    const datastore::Key key{api::Kind::ClusterInformation, "", "default"};
    invalid[key] = "spec.datastoreReady: expected a boolean";
    EXPECT_EQ(lock.reason(invalid), "") << "as it was read last";
    lock.remove("default");
    EXPECT_NE(lock.reason(invalid).find("expected a boolean"), std::string::npos);
}

} // namespace
} // namespace manx::app
