// SPDX-License-Identifier: Apache-2.0
// What configurations, annotations and other plugins of a chain ask for.
#include "agent/api/names.h"
#include "agent/netlink/link.h"
#include "tests/cni/cni_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace manx {
namespace {

using netlink::Socket;
using nlohmann::json;
using test::run_chain;
using test::run_plugin;

class CniConfiguration : public test::CniTest {};

TEST_F(CniConfiguration, annotations_choose_address_mac_and_family) {
    start_agent();
    ASSERT_TRUE(test::put_pod(*store_, kNode, "fixed",
                              {{"cni.projectcalico.org/ipAddrs", R"(["10.65.7.7"])"},
                               {"cni.projectcalico.org/hwAddr", "02:00:00:00:00:07"}}));
    const auto box = sandbox("fixed", "c0");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    ASSERT_EQ(added.json["ips"].size(), 1U);
    EXPECT_EQ(added.json["ips"][0]["address"], "10.65.7.7/32");
    EXPECT_EQ(added.json["interfaces"][1]["mac"], "02:00:00:00:00:07");

    // The same address for another pod: refused, and nothing is left of the attempt.
    ASSERT_TRUE(test::put_pod(*store_, kNode, "twin",
                              {{"cni.projectcalico.org/ipAddrs", R"(["10.65.7.7"])"}}));
    const auto twin = run("ADD", sandbox("twin", "c1"));
    EXPECT_FALSE(twin.ok());
    EXPECT_THAT(twin.text, testing::HasSubstr("10.65.7.7"));
    EXPECT_EQ(allocated(), 1);

    ASSERT_TRUE(test::put_pod(*store_, kNode, "six",
                              {{"cni.projectcalico.org/ipFamilies", R"(["IPv6"])"}}));
    const auto six = run("ADD", sandbox("six", "c2"));
    ASSERT_TRUE(six.ok()) << six.text;
    EXPECT_EQ(six.json["ips"].size(), 1U);

    ASSERT_TRUE(
        test::put_pod(*store_, kNode, "broken", {{"cni.projectcalico.org/hwAddr", "no-mac"}}));
    const auto broken = run("ADD", sandbox("broken", "c3"));
    EXPECT_EQ(broken.code(), 7);
    EXPECT_THAT(broken.text, testing::HasSubstr("hwAddr"));
}

TEST_F(CniConfiguration, one_family_without_addresses_takes_nothing_of_the_other) {
    start_agent();
    auto add = call("ADD", sandbox("pod-0", "c0"));
    add.conf["ipam"] = {{"type", "calico-ipam"},
                        {"assign_ipv4", "true"},
                        {"assign_ipv6", "true"},
                        {"ipv6_pools", {"2001:db8:dead::/64"}}};
    const auto refused = run_plugin(add);
    EXPECT_FALSE(refused.ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
    EXPECT_EQ(records(), 0U);
}

// A pool for other namespaces is none for this pod: it gets the family that there is.
TEST_F(CniConfiguration, families_are_those_that_the_pods_namespace_is_offered) {
    ASSERT_TRUE(store_->patch({api::Kind::IpPool, "", "pool6"},
                              {{"spec", {{"namespaceSelector", "team == 'x'"}}}}));
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const auto one = run("ADD", box);
    ASSERT_TRUE(one.ok()) << one.text;
    EXPECT_EQ(one.json["ips"].size(), 1U);
    ASSERT_TRUE(store_->patch({api::Kind::Namespace, "", "default"},
                              {{"metadata", {{"labels", {{"team", "x"}}}}}}));
    const auto both = run("ADD", sandbox("pod-1", "c1"));
    ASSERT_TRUE(both.ok()) << both.text;
    EXPECT_EQ(both.json["ips"].size(), 2U);
}

TEST_F(CniConfiguration, calicos_own_configuration_under_its_own_name) {
    start_agent();
    const std::string calico = folder_ + "/calico";
    std::filesystem::copy_file(test::bin_folder() + "/manx", calico);
    const auto box = sandbox("pod-0", "c0");
    auto add = call("ADD", box);
    add.binary = calico;
    add.conf = json::parse(R"({"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "calico",
        "log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log",
        "datastore_type": "kubernetes", "nodename": "node-1", "mtu": 1440,
        "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
        "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}})");
    add.conf["socket"] = socket();
    const auto added = run_plugin(add);
    ASSERT_TRUE(added.ok()) << added.text;
    EXPECT_EQ(added.json["ips"].size(), 1U) << "assign_ipv6 is false by default";
    auto inside = Socket::open_in(box.netns.get());
    EXPECT_EQ(find_link(*inside, "eth0")->mtu, 1440U);
    auto handles = store_->list(api::Kind::IpamHandle);
    ASSERT_EQ(handles->objects.size(), 1U);
    EXPECT_EQ(handles->objects[0].key.name, "k8s-pod-network.c0");
    const std::string ipam = folder_ + "/calico-ipam";
    std::filesystem::copy_file(test::bin_folder() + "/manx", ipam);
    add.binary = ipam;
    const auto refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 7);
    EXPECT_THAT(refused.text, testing::HasSubstr("calico-ipam"));
}

TEST_F(CniConfiguration, without_kubernetes_the_container_is_the_workload) {
    start_agent();
    const auto box = sandbox("", "some-container");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    EXPECT_EQ(added.json["interfaces"][0]["name"],
              api::workload_interface("some-container", "eth0"));
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 0);
}

TEST_F(CniConfiguration, chained_with_portmap_bandwidth_and_tuning) {
    for (const char* plugin : {"portmap", "bandwidth", "tuning"}) {
        if (access((std::string("/usr/lib/cni/") + plugin).c_str(), X_OK) != 0) {
            GTEST_SKIP() << "Debian's containernetworking-plugins are not installed";
        }
    }
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    json portmap = {
        {"cniVersion", "1.0.0"},
        {"name", "net"},
        {"type", "portmap"},
        {"snat", true},
        {"capabilities", {{"portMappings", true}}},
        {"runtimeConfig",
         {{"portMappings", {{{"hostPort", 8080}, {"containerPort", 80}, {"protocol", "tcp"}}}}}}};
    json bandwidth = {{"cniVersion", "1.0.0"},
                      {"name", "net"},
                      {"type", "bandwidth"},
                      {"ingressRate", 1000000},
                      {"ingressBurst", 1000000}};
    json tuning = {{"cniVersion", "1.0.0"}, {"name", "net"},
                   {"type", "tuning"},      {"sysctl", {{"net.core.somaxconn", "500"}}},
                   {"mtu", 1400},           {"dataDir", folder_ + "/tuning"}};
    const std::string debian = "/usr/lib/cni/";
    const std::vector<std::pair<std::string, json>> chain = {
        {test::bin_folder() + "/manx", conf("1.0.0")},
        {debian + "tuning", tuning},
        {debian + "bandwidth", bandwidth},
        {debian + "portmap", portmap}};
    const auto added = run_chain(call("ADD", box), chain);
    ASSERT_TRUE(added.ok()) << added.text;
    EXPECT_EQ(added.json["ips"].size(), 2U);
    EXPECT_EQ(added.json["interfaces"][0]["name"], api::workload_interface("default", "pod-0"));
    auto inside = Socket::open_in(box.netns.get());
    EXPECT_EQ(find_link(*inside, "eth0")->mtu, 1400U);
    const auto removed = run_chain(call("DEL", box), chain, added.json);
    EXPECT_TRUE(removed.ok()) << removed.text;
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
}

TEST_F(CniConfiguration, after_another_plugin_its_result_is_kept) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    auto add = call("ADD", box);
    add.conf["cniVersion"] = "0.4.0";
    add.conf["prevResult"] = {
        {"cniVersion", "0.4.0"},
        {"interfaces", {{{"name", "net1"}, {"sandbox", "/x"}}}},
        {"ips", {{{"version", "4"}, {"address", "192.0.2.1/24"}, {"interface", 0}}}},
        {"dns", {{"nameservers", {"192.0.2.53"}}}}};
    const auto added = run_plugin(add);
    ASSERT_TRUE(added.ok()) << added.text;
    ASSERT_EQ(added.json["interfaces"].size(), 3U);
    EXPECT_EQ(added.json["interfaces"][0]["name"], "net1");
    ASSERT_EQ(added.json["ips"].size(), 3U);
    EXPECT_EQ(added.json["ips"][0]["address"], "192.0.2.1/24");
    EXPECT_EQ(added.json["ips"][1]["interface"], 2);
    EXPECT_EQ(added.json["ips"][1]["version"], "4");
    EXPECT_EQ(added.json["dns"]["nameservers"][0], "192.0.2.53");
}

} // namespace
} // namespace manx
