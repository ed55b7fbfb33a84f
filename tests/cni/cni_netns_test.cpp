// SPDX-License-Identifier: Apache-2.0
// The plugin binary against a running agent, pods being network namespaces.
#include "agent/api/names.h"
#include "agent/cni/device.h"
#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/neighbor.h"
#include "agent/netlink/route.h"
#include "agent/netlink/sysctl.h"
#include "tests/cni/cni_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace manx {
namespace {

using netlink::Socket;
using nlohmann::json;
using test::PluginResult;
using test::run_plugin;

class Cni : public test::CniTest {
protected:
    std::string annotation(const std::string& pod, const std::string& name) {
        auto object = store_->get({api::Kind::Pod, "default", pod});
        EXPECT_TRUE(object);
        const auto parsed = json::parse(object->json);
        const auto annotations = parsed["metadata"].value("annotations", json::object());
        return annotations.value("cni.projectcalico.org/" + name, "<absent>");
    }
};

TEST_F(Cni, add_makes_what_the_contract_says_and_del_takes_it_away) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    const std::string device = api::workload_interface("default", "pod-0");
    const auto& interfaces = added.json["interfaces"];
    ASSERT_EQ(interfaces.size(), 2U);
    EXPECT_EQ(interfaces[0]["name"], device);
    EXPECT_EQ(interfaces[0]["mac"], "ee:ee:ee:ee:ee:ee");
    EXPECT_EQ(interfaces[1]["name"], "eth0");
    EXPECT_EQ(interfaces[1]["sandbox"], call("ADD", box).netns);
    ASSERT_EQ(added.json["ips"].size(), 2U);
    const auto v4 = InterfaceAddress::parse(added.json["ips"][0]["address"].get<std::string>());
    const auto v6 = InterfaceAddress::parse(added.json["ips"][1]["address"].get<std::string>());
    ASSERT_TRUE(v4 && v6);
    EXPECT_EQ(v4->length, 32U);
    EXPECT_EQ(v6->length, 128U);
    EXPECT_EQ(added.json["ips"][0]["interface"], 1);

    auto node = Socket::open();
    const auto host = find_link(*node, device);
    ASSERT_TRUE(host) << host.error().text();
    EXPECT_TRUE(host->running());
    auto routes = list_routes(*node, {.family = Family::V4,
                                      .table = netlink::kTableMain,
                                      .ifindex = host->ifindex,
                                      .protocol = 3});
    ASSERT_EQ(routes->size(), 1U);
    EXPECT_EQ(routes->front().destination, Cidr::host(v4->address));
    EXPECT_EQ(routes->front().metric, 1024U);
    EXPECT_EQ(netlink::read_sysctl("net/ipv4/conf/" + device + "/proxy_arp").value_or(""), "1");
    EXPECT_EQ(netlink::read_sysctl("net/ipv4/conf/" + device + "/route_localnet").value_or(""),
              "1");
    EXPECT_EQ(netlink::read_sysctl("net/ipv6/conf/" + device + "/accept_dad").value_or(""), "0");

    auto inside = Socket::open_in(box.netns.get());
    const auto pod = find_link(*inside, "eth0");
    ASSERT_TRUE(pod);
    auto neighbors = list_neighbors(*inside, pod->ifindex);
    for (const Family family : kFamilies) {
        EXPECT_TRUE(std::any_of(neighbors->begin(), neighbors->end(), [&](const auto& n) {
            return n.permanent() && n.address == cni::host_gateway(family) &&
                   n.mac == cni::kHostMac;
        }));
        auto inner = list_routes(*inside, {.family = family,
                                           .table = netlink::kTableMain,
                                           .ifindex = pod->ifindex,
                                           .protocol = 0});
        EXPECT_TRUE(std::any_of(inner->begin(), inner->end(), [&](const auto& r) {
            return r.destination.length() == 0 && r.gateway == cni::host_gateway(family);
        }));
    }
    EXPECT_EQ(annotation("pod-0", "podIP"), v4->text());
    EXPECT_EQ(annotation("pod-0", "podIPs"), v4->text() + "," + v6->text());
    EXPECT_EQ(annotation("pod-0", "containerID"), "c0");
    EXPECT_EQ(allocated(), 2);

    const auto removed = run("DEL", box);
    ASSERT_TRUE(removed.ok()) << removed.text;
    EXPECT_EQ(removed.text, "");
    EXPECT_FALSE(on_node(device));
    EXPECT_FALSE(in_pod(box, "eth0"));
    EXPECT_EQ(annotation("pod-0", "podIP"), "");
    EXPECT_EQ(annotation("pod-0", "podIPs"), "");
    EXPECT_EQ(annotation("pod-0", "containerID"), "c0");
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    EXPECT_TRUE(run("DEL", box).ok());
}

TEST_F(Cni, add_again_gives_the_same_answer) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const auto first = run("ADD", box);
    const auto second = run("ADD", box);
    ASSERT_TRUE(first.ok() && second.ok()) << second.text;
    EXPECT_EQ(first.json, second.json);
    EXPECT_EQ(allocated(), 2);

    // Also by an agent that was killed in between.
    kill_agent(SIGKILL);
    start_agent();
    EXPECT_EQ(run("ADD", box).json, first.json);
}

TEST_F(Cni, del_without_a_namespace_and_of_the_unknown_ends_well) {
    start_agent();
    auto box = sandbox("pod-0", "c0");
    ASSERT_TRUE(run("ADD", box).ok());
    box.netns.reset(); // the runtime took it away already
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
    EXPECT_TRUE(run("DEL", sandbox("pod-1", "never-added")).ok());
    EXPECT_TRUE(run("DEL", sandbox("no-such-pod", "x")).ok());
    auto stale = call("DEL", box);
    stale.netns = "/run/netns/no-such-namespace";
    EXPECT_TRUE(run_plugin(stale).ok());
}

TEST_F(Cni, newer_sandbox_takes_over_and_the_old_one_leaves_it_alone) {
    start_agent();
    const auto old_box = sandbox("pod-0", "old");
    const auto new_box = sandbox("pod-0", "new");
    const auto first = run("ADD", old_box);
    const auto second = run("ADD", new_box);
    ASSERT_TRUE(first.ok() && second.ok()) << second.text;
    EXPECT_NE(first.json["ips"], second.json["ips"]);
    EXPECT_EQ(allocated(), 4);
    EXPECT_FALSE(in_pod(old_box, "eth0"));

    ASSERT_TRUE(run("DEL", old_box).ok());
    EXPECT_EQ(allocated(), 2);
    EXPECT_TRUE(in_pod(new_box, "eth0"));
    EXPECT_EQ(annotation("pod-0", "containerID"), "new");
    EXPECT_EQ(annotation("pod-0", "podIP"), second.json["ips"][0]["address"]);
    EXPECT_TRUE(run("DEL", new_box).ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

TEST_F(Cni, old_sandbox_added_again_gives_its_former_addresses_back_first) {
    start_agent();
    const auto old_box = sandbox("pod-0", "old");
    const auto new_box = sandbox("pod-0", "new");
    ASSERT_TRUE(run("ADD", old_box).ok() && run("ADD", new_box).ok());
    const auto again = run("ADD", old_box);
    ASSERT_TRUE(again.ok()) << again.text;
    EXPECT_EQ(allocated(), 4); // two of each
    EXPECT_TRUE(in_pod(old_box, "eth0"));
    EXPECT_FALSE(in_pod(new_box, "eth0"));
    EXPECT_TRUE(run("DEL", old_box).ok());
    EXPECT_EQ(allocated(), 2);
    EXPECT_TRUE(run("DEL", new_box).ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

TEST_F(Cni, add_without_a_namespace_leaves_what_there_is_alone) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    for (const char* container : {"c0", "c1"}) {
        auto nowhere = call("ADD", box);
        nowhere.container = container;
        nowhere.netns = "/run/netns/no-such-namespace";
        EXPECT_EQ(run_plugin(nowhere).code(), 4) << container;
    }
    EXPECT_TRUE(in_pod(box, "eth0"));
    EXPECT_EQ(run("ADD", box).json, added.json);
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

TEST_F(Cni, check_finds_each_difference) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    auto check = call("CHECK", box);
    check.conf["prevResult"] = added.json;
    auto checked = run_plugin(check);
    EXPECT_TRUE(checked.ok()) << checked.text;

    auto inside = Socket::open_in(box.netns.get());
    const auto pod = find_link(*inside, "eth0");
    ASSERT_TRUE(
        inside->send(netlink::delete_neighbor(pod->ifindex, cni::host_gateway(Family::V4))));
    checked = run_plugin(check);
    EXPECT_EQ(checked.code(), 100);
    EXPECT_THAT(checked.text, testing::HasSubstr("neighbour 169.254.1.1"));
    netlink::Route to_gateway;
    to_gateway.destination = Cidr::host(cni::host_gateway(Family::V6));
    to_gateway.ifindex = pod->ifindex;
    ASSERT_TRUE(inside->send(netlink::delete_route(to_gateway)));
    auto node = Socket::open();
    const std::string device = api::workload_interface("default", "pod-0");
    netlink::LinkChange change;
    change.mtu = 1400;
    ASSERT_TRUE(node->send(netlink::change_link(find_link(*node, device)->ifindex, change)));
    checked = run_plugin(check);
    EXPECT_EQ(checked.code(), 100);
    EXPECT_THAT(checked.text, testing::HasSubstr("eth0 has no route to fe80::ecee"));
    EXPECT_THAT(checked.text, testing::HasSubstr(device + " has the MTU 1400, not 1500"));

    auto other = added.json;
    other["ips"] = json::array();
    check.conf["prevResult"] = other;
    EXPECT_EQ(run_plugin(check).code(), 100);
    EXPECT_EQ(run("CHECK", box).code(), 7) << "without prevResult";
    auto unknown = call("CHECK", sandbox("pod-1", "c1"));
    unknown.conf["prevResult"] = added.json;
    EXPECT_EQ(run_plugin(unknown).code(), 3);
}

TEST_F(Cni, garbage_is_what_the_runtime_does_not_list) {
    start_agent();
    const auto keep = sandbox("pod-0", "keep");
    const auto lost = sandbox("pod-1", "lost");
    ASSERT_TRUE(run("ADD", keep).ok());
    ASSERT_TRUE(run("ADD", lost).ok());
    auto collect = call("GC", {});
    collect.conf["cni.dev/valid-attachments"] = {{{"containerID", "keep"}, {"ifname", "eth0"}}};
    collect.conf["name"] = "another-network";
    EXPECT_TRUE(run_plugin(collect).ok());
    EXPECT_EQ(allocated(), 4);
    collect.conf["name"] = "net";
    const auto collected = run_plugin(collect);
    EXPECT_TRUE(collected.ok()) << collected.text;
    EXPECT_EQ(allocated(), 2);
    EXPECT_TRUE(in_pod(keep, "eth0"));
    EXPECT_FALSE(in_pod(lost, "eth0"));
}

TEST_F(Cni, status_tells_the_truth) {
    EXPECT_EQ(run("STATUS", {}).code(), 50) << "no agent";
    start_agent();
    const auto fine = run("STATUS", {});
    EXPECT_TRUE(fine.ok()) << fine.text;
    EXPECT_EQ(fine.text, "");
    for (const auto& [name, code] :
         {std::pair("pool4", 0), std::pair("10.65.0.0/16", 0), std::pair("no-such-pool", 50)}) {
        auto named = call("STATUS", {});
        named.conf["ipam"] = {{"type", "manx"}, {"ipv4_pools", {name}}};
        const auto status = run_plugin(named);
        EXPECT_EQ(status.code(), code) << status.text;
        if (code != 0) {
            EXPECT_THAT(status.text,
                        testing::HasSubstr("ipv4_pools: the given pool (no-such-pool)"));
        }
    }
    for (const char* pool : {"pool4", "pool6"}) {
        ASSERT_TRUE(store_->patch({api::Kind::IpPool, "", pool}, {{"spec", {{"disabled", true}}}}));
    }
    PluginResult later;
    for (int i = 0; i < 100 && later.code() != 50; ++i) {
        usleep(20000);
        later = run("STATUS", {});
    }
    EXPECT_EQ(later.code(), 50) << later.text;
    EXPECT_THAT(later.text, testing::HasSubstr("pool"));
}

// While a migration works on the datastore: ClusterInformation default without datastoreReady.
TEST_F(Cni, locked_datastore_gives_no_addresses_and_takes_pods_away) {
    const datastore::Key key{api::Kind::ClusterInformation, "", "default"};
    const auto lock = [&](const json& spec) { ASSERT_TRUE(store_->patch(key, {{"spec", spec}})); };
    const auto await = [&](const char* command, const Sandbox& box, bool wanted) {
        PluginResult result;
        for (int i = 0; i < 100 && (i == 0 || result.ok() != wanted); ++i) {
            usleep(20000);
            result = run(command, box);
        }
        return result;
    };
    ASSERT_TRUE(test::put(*store_, key.kind, "", key.name, {{"spec", {{"datastoreReady", true}}}}));
    start_agent();
    const auto before = sandbox("pod-0", "c0");
    const auto later = sandbox("pod-1", "c1");
    ASSERT_TRUE(run("ADD", before).ok());

    lock({{"datastoreReady", false}});
    const auto status = await("STATUS", {}, false);
    EXPECT_EQ(status.code(), 50) << status.text;
    EXPECT_THAT(status.text, testing::HasSubstr("datastoreReady is not true"));
    const auto refused = run("ADD", later);
    EXPECT_EQ(refused.code(), 11) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("the datastore is locked: ClusterInformation"));
    EXPECT_EQ(allocated(), 2) << "only those of the pod that was there";
    EXPECT_FALSE(in_pod(later, "eth0"));
    EXPECT_TRUE(run("DEL", later).ok());
    EXPECT_TRUE(run("DEL", before).ok());
    EXPECT_EQ(devices(), 0U);

    // An agent that starts finds it locked.
    kill_agent(SIGTERM);
    start_agent();
    EXPECT_EQ(run("ADD", later).code(), 11);

    lock({{"datastoreReady", true}});
    EXPECT_TRUE(await("STATUS", {}, true).ok());
    const auto added = run("ADD", later);
    EXPECT_TRUE(added.ok()) << added.text;
    // Absent: not locked; there without the word: locked, as for Calico's plugin.
    lock({{"datastoreReady", nullptr}});
    EXPECT_EQ(await("STATUS", {}, false).code(), 50);
    ASSERT_TRUE(store_->remove(key));
    EXPECT_TRUE(await("STATUS", {}, true).ok());
    EXPECT_TRUE(run("DEL", later).ok());
    EXPECT_EQ(allocated(), 0);
}

TEST_F(Cni, without_an_agent_the_runtime_is_told_to_try_again) {
    const auto box = sandbox("pod-0", "c0");
    const auto refused = run("ADD", box);
    EXPECT_EQ(refused.status, 1);
    EXPECT_EQ(refused.code(), 11);
    EXPECT_EQ(refused.json["cniVersion"], "1.1.0");
    start_agent();
    EXPECT_TRUE(run("ADD", box).ok());
}

TEST_F(Cni, pod_that_is_not_there_yet_is_tried_again) {
    start_agent();
    const auto box = sandbox("pod-late", "c0");
    const auto refused = run("ADD", box);
    EXPECT_EQ(refused.code(), 11);
    EXPECT_THAT(refused.text, testing::HasSubstr("Pod default/pod-late"));
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    ASSERT_TRUE(test::put_pod(*store_, kNode, "pod-late"));
    EXPECT_TRUE(run("ADD", box).ok());
}

TEST_F(Cni, interface_name_that_is_taken_in_the_pod) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    auto inside = Socket::open_in(box.netns.get());
    ASSERT_TRUE(inside->send(netlink::create_veth({.name = "eth0",
                                                   .mac = {},
                                                   .peer_name = "other",
                                                   .peer_mac = {},
                                                   .peer_netns = -1,
                                                   .mtu = 0,
                                                   .group = 0})));
    const auto refused = run("ADD", box);
    EXPECT_FALSE(refused.ok());
    EXPECT_THAT(refused.text, testing::HasSubstr("eth0"));
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
}

} // namespace
} // namespace manx
