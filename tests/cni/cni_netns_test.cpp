// SPDX-License-Identifier: Apache-2.0
// The plugin binary against a running agent, pods being network namespaces.
#include "agent/api/names.h"
#include "agent/cni/device.h"
#include "agent/cni/remover.h"
#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/neighbor.h"
#include "agent/netlink/route.h"
#include "agent/netlink/sysctl.h"
#include "tests/cni/cni_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

namespace manx {
namespace {

using netlink::Socket;
using nlohmann::json;
using test::PluginResult;
using test::run_chain;
using test::run_plugin;
using test::RunningPlugin;

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

TEST_F(Cni, annotations_choose_address_mac_and_family) {
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

TEST_F(Cni, one_family_without_addresses_takes_nothing_of_the_other) {
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
TEST_F(Cni, families_are_those_that_the_pods_namespace_is_offered) {
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

TEST_F(Cni, calicos_own_configuration_under_its_own_name) {
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

TEST_F(Cni, fifty_at_once) {
    constexpr int kPods = 50;
    start_agent();
    std::vector<Sandbox> boxes;
    for (int i = 0; i < kPods; ++i) {
        const std::string number = std::to_string(i);
        ASSERT_TRUE(test::put_pod(*store_, kNode, "burst-" + number));
        boxes.push_back(sandbox("burst-" + number, "b" + number));
    }
    for (const char* command : {"ADD", "DEL"}) {
        std::vector<RunningPlugin> running;
        running.reserve(boxes.size());
        for (const auto& box : boxes) {
            running.emplace_back(call(command, box));
        }
        std::set<std::string> addresses;
        for (auto& one : running) {
            const auto result = one.wait();
            ASSERT_TRUE(result.ok()) << result.text;
            if (result.json.is_object()) {
                for (const auto& ip : result.json["ips"]) {
                    EXPECT_TRUE(addresses.insert(ip["address"].get<std::string>()).second);
                }
            }
        }
        EXPECT_EQ(addresses.size(), std::string_view(command) == "ADD" ? 2U * kPods : 0U);
    }
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
    EXPECT_EQ(records(), 0U);
}

// The agent dies at a random point of a burst; after its restart every pod gets its network, or
// goes, and nothing is left over.
TEST_F(Cni, agent_killed_in_the_middle) {
    constexpr int kPods = 12;
    constexpr int kRounds = 6;
    std::vector<std::string> pods;
    for (int i = 0; i < kPods; ++i) {
        pods.push_back("kill-" + std::to_string(i));
        ASSERT_TRUE(test::put_pod(*store_, kNode, pods.back()));
    }
    for (int round = 0; round < kRounds; ++round) {
        start_agent();
        std::vector<Sandbox> boxes;
        for (const auto& pod : pods) {
            boxes.push_back(sandbox(pod, pod + "-" + std::to_string(round)));
        }
        std::vector<RunningPlugin> running;
        running.reserve(boxes.size());
        for (const auto& box : boxes) {
            running.emplace_back(call("ADD", box));
        }
        usleep(static_cast<useconds_t>(4000 * (round + 1)));
        kill_agent(SIGKILL);
        for (auto& one : running) {
            const auto result = one.wait();
            EXPECT_TRUE(result.ok() || result.code() == 11) << result.text;
        }
        start_agent();
        for (const auto& box : boxes) {
            const auto again = run("ADD", box);
            EXPECT_TRUE(again.ok()) << again.text;
        }
        EXPECT_EQ(allocated(), 2 * kPods);
        EXPECT_EQ(devices(), static_cast<size_t>(kPods));
        std::vector<RunningPlugin> going;
        going.reserve(boxes.size());
        for (const auto& box : boxes) {
            going.emplace_back(call("DEL", box));
        }
        usleep(static_cast<useconds_t>(1000 * round));
        kill_agent(SIGKILL);
        for (auto& one : going) {
            (void)one.wait();
        }
        start_agent();
        for (const auto& box : boxes) {
            EXPECT_TRUE(run("DEL", box).ok());
        }
        EXPECT_EQ(allocated(), 0);
        EXPECT_EQ(devices(), 0U);
        EXPECT_EQ(records(), 0U);
        kill_agent(SIGTERM);
    }
}

// Its runtime gave it up, and its DEL may have been served before.
TEST_F(Cni, call_of_a_plugin_that_is_gone_is_not_carried_out) {
    start_agent();
    kill(agent_, SIGSTOP);
    const auto box = sandbox("pod-0", "c0");
    {
        RunningPlugin given_up(call("ADD", box));
        usleep(300000); // until it has sent its request
        kill(given_up.pid(), SIGKILL);
        (void)given_up.wait();
    }
    kill(agent_, SIGCONT);
    EXPECT_EQ(run("CHECK", box).code(), 3);
    usleep(200000);
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    EXPECT_FALSE(in_pod(box, "eth0"));
}

TEST_F(Cni, leftovers_of_a_reboot_are_collected) {
    start_agent();
    ASSERT_TRUE(run("ADD", sandbox("pod-0", "older")).ok());
    ASSERT_TRUE(run("ADD", sandbox("pod-0", "old")).ok());
    auto box = sandbox("pod-0", "c0");
    ASSERT_TRUE(run("ADD", box).ok());
    ASSERT_EQ(allocated(), 6);
    kill_agent(SIGKILL);
    // The machine comes up again: another boot, no device.
    const std::string path =
        folder_ + "/state/endpoints/" + api::workload_interface("default", "pod-0") + ".json";
    auto record = json::parse(std::ifstream(path));
    record["bootID"] = "another";
    std::ofstream(path) << record;
    box.netns.reset();
    auto node = Socket::open();
    const auto host = find_link(*node, api::workload_interface("default", "pod-0"));
    auto removal = netlink::delete_link(host ? host->ifindex : 0);
    removal.tolerate({ENODEV, EINVAL}); // it went with its pod
    ASSERT_TRUE(node->send(std::move(removal)));
    start_agent();
    for (int i = 0; i < 200 && (allocated() != 0 || records() != 0); ++i) {
        usleep(20000);
    }
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    EXPECT_TRUE(run("DEL", box).ok());
}

// A look-up that fails says nothing of the device: it is not taken for gone.
TEST_F(Cni, device_that_cannot_be_looked_up_is_no_device_that_is_gone) {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop);
    auto remover = cni::Remover::create(**loop);
    ASSERT_TRUE(remover);
    std::map<std::string, Result<void>> results;
    for (const std::string name : {"cali-not-there", "a-name-longer-than-any-device-has"}) {
        (*remover)->remove(name, 0, [&, name](Result<void> result) {
            results.emplace(name, std::move(result));
            if (results.size() == 2) {
                (*loop)->quit();
            }
        });
    }
    (*loop)->run();
    EXPECT_TRUE(results.at("cali-not-there"));
    EXPECT_FALSE(results.at("a-name-longer-than-any-device-has"));
}

// lo stands for a device that the kernel does not remove.
TEST_F(Cni, addresses_of_a_device_that_stays_are_kept) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    ASSERT_TRUE(run("ADD", box).ok());
    kill_agent(SIGKILL);
    const std::string endpoints = folder_ + "/state/endpoints/";
    const std::string path = endpoints + api::workload_interface("default", "pod-0") + ".json";
    auto record = json::parse(std::ifstream(path));
    record["endpoint"]["interface"] = "lo";
    record["endpoint"]["ifindex"] = 1;
    std::filesystem::remove(path);
    std::ofstream(endpoints + "lo.json") << record;
    start_agent();
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 2);
    EXPECT_EQ(records(), 1U);
    EXPECT_EQ(json::parse(std::ifstream(endpoints + "lo.json"))["state"], "releasing");
    kill_agent(SIGKILL);
    record["endpoint"]["ifindex"] = 4711; // gone by now
    record["state"] = "releasing";
    std::ofstream(endpoints + "lo.json") << record;
    start_agent();
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

TEST_F(Cni, device_of_another_boot_is_somebody_elses) {
    start_agent();
    auto box = sandbox("pod-0", "c0");
    ASSERT_TRUE(run("ADD", box).ok());
    kill_agent(SIGKILL);
    const std::string interface = api::workload_interface("default", "pod-0");
    const std::string path = folder_ + "/state/endpoints/" + interface + ".json";
    auto record = json::parse(std::ifstream(path));
    record["bootID"] = "another";
    std::ofstream(path) << record;
    start_agent();
    for (int i = 0; i < 200 && records() != 0; ++i) {
        usleep(20000);
    }
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    EXPECT_TRUE(on_node(interface));
}

TEST_F(Cni, broken_state_is_set_aside) {
    std::filesystem::create_directory(folder_ + "/state/endpoints");
    std::ofstream(folder_ + "/state/endpoints/cali1.json") << "{";
    start_agent();
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/state/endpoints/cali1.json.broken"));
    EXPECT_TRUE(run("ADD", sandbox("pod-0", "c0")).ok());
}

TEST_F(Cni, without_kubernetes_the_container_is_the_workload) {
    start_agent();
    const auto box = sandbox("", "some-container");
    const auto added = run("ADD", box);
    ASSERT_TRUE(added.ok()) << added.text;
    EXPECT_EQ(added.json["interfaces"][0]["name"],
              api::workload_interface("some-container", "eth0"));
    EXPECT_TRUE(run("DEL", box).ok());
    EXPECT_EQ(allocated(), 0);
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

TEST_F(Cni, chained_with_portmap_bandwidth_and_tuning) {
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

TEST_F(Cni, after_another_plugin_its_result_is_kept) {
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
