// SPDX-License-Identifier: Apache-2.0
// Bursts, agents and plugins that are killed, and what a reboot leaves behind.
#include "agent/api/names.h"
#include "agent/api/pod.h"
#include "agent/cni/remover.h"
#include "agent/netlink/link.h"
#include "tests/cni/cni_fixture.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace manx {
namespace {

using netlink::Socket;
using nlohmann::json;
using test::RunningPlugin;

class CniCrash : public test::CniTest {
protected:
    // Handles whose counts differ from what the blocks say.
    std::vector<std::string> wrong_handles() {
        using Counts = std::map<std::string, std::map<std::string, int>>; // by handle, block
        Counts counted;
        Counts held;
        const auto handles = store_->list(api::Kind::IpamHandle);
        const auto blocks = store_->list(api::Kind::IpamBlock);
        for (const auto& object : handles->objects) {
            const auto spec = json::parse(object.json)["spec"];
            counted[spec["handleID"]] = spec["block"];
        }
        for (const auto& object : blocks->objects) {
            const auto spec = json::parse(object.json)["spec"];
            for (const auto& one : spec["allocations"]) {
                if (!one.is_null()) {
                    const auto& attributes = spec["attributes"][one.get<size_t>()];
                    ++held[attributes["handle_id"]][spec["cidr"]];
                }
            }
        }
        std::vector<std::string> wrong;
        for (const auto* one : {&counted, &held}) {
            for (const auto& [handle, counts] : *one) {
                if (counted[handle] != held[handle]) {
                    wrong.push_back(handle);
                }
            }
        }
        return wrong;
    }

    json annotations_of(const std::string& pod) {
        const auto object = store_->get({api::Kind::Pod, "default", pod});
        return object ? json::parse(object->json)["metadata"]["annotations"] : json();
    }
};

TEST_F(CniCrash, fifty_at_once) {
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
TEST_F(CniCrash, agent_killed_in_the_middle) {
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

// A former sandbox's addresses are on their way back, or new ones on their way to it, when the
// agent dies, before each of its writes: the next start ends what was begun, without another call.
TEST_F(CniCrash, killed_at_each_write_for_a_former_sandbox) {
    const std::string die = folder_ + "/state/die";
    for (const std::string command : {"DEL", "ADD"}) {
        bool died = true;
        for (int writes = 0; died; ++writes) {
            SCOPED_TRACE(command + ", killed after " + std::to_string(writes) + " writes");
            ASSERT_LT(writes, 30);
            start_agent();
            const std::string number = command + std::to_string(writes);
            const auto former = sandbox("pod-0", "former-" + number);
            const auto newer = sandbox("pod-0", "newer-" + number);
            ASSERT_TRUE(run("ADD", former).ok());
            ASSERT_TRUE(run("ADD", newer).ok());
            std::ofstream(die) << writes;
            const auto result = run(command, former);
            died = !std::filesystem::exists(die);
            std::filesystem::remove(die);
            EXPECT_NE(result.ok(), died) << result.text;
            kill_agent(SIGKILL);
            start_agent();
            const bool answered_add = !died && command == "ADD";
            const int wanted = answered_add ? 4 : 2; // the newer one's stay until its own DEL
            const size_t left = answered_add || command == "DEL" ? 1U : 0U;
            for (int i = 0; i < 100 && (allocated() != wanted || !wrong_handles().empty() ||
                                        devices() != left);
                 ++i) {
                usleep(20000); // less in all than the time until something is tried again
            }
            EXPECT_EQ(allocated(), wanted);
            EXPECT_EQ(wrong_handles(), std::vector<std::string>());
            EXPECT_EQ(devices(), left);
            if (answered_add) {
                EXPECT_TRUE(run("DEL", former).ok());
            }
            EXPECT_TRUE(run("DEL", newer).ok());
            EXPECT_EQ(allocated(), 0);
            EXPECT_EQ(wrong_handles(), std::vector<std::string>());
            EXPECT_EQ(records(), 0U);
            kill_agent(SIGTERM);
        }
    }
}

// Others take them for the pod's, and the addresses may be another pod's by then.
TEST_F(CniCrash, annotations_go_with_a_former_sandbox_that_none_has_followed) {
    start_agent();
    const auto former = sandbox("pod-0", "former");
    ASSERT_TRUE(run("ADD", former).ok());
    ASSERT_NE(annotations_of("pod-0")[api::kPodIpsAnnotation], "");
    const auto newer = sandbox("pod-0", "newer");
    auto refused = call("ADD", newer);
    refused.conf["mtu"] = 1000; // too small for IPv6, which is found when it has its addresses
    EXPECT_EQ(test::run_plugin(refused).code(), 7);
    EXPECT_TRUE(run("DEL", newer).ok());
    EXPECT_EQ(annotations_of("pod-0")[api::kContainerIdAnnotation], "former");
    EXPECT_NE(annotations_of("pod-0")[api::kPodIpsAnnotation], "");
    EXPECT_EQ(allocated(), 2);
    EXPECT_TRUE(run("DEL", former).ok());
    EXPECT_EQ(annotations_of("pod-0")[api::kPodIpsAnnotation], "");
    EXPECT_EQ(annotations_of("pod-0")[api::kPodIpAnnotation], "");
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
}

// Its runtime gave it up, and its DEL may have been served before.
TEST_F(CniCrash, call_of_a_plugin_that_is_gone_is_not_carried_out) {
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

TEST_F(CniCrash, leftovers_of_a_reboot_are_collected) {
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
TEST_F(CniCrash, device_that_cannot_be_looked_up_is_no_device_that_is_gone) {
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
TEST_F(CniCrash, addresses_of_a_device_that_stays_are_kept) {
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

TEST_F(CniCrash, device_of_another_boot_is_somebody_elses) {
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

TEST_F(CniCrash, broken_state_is_set_aside) {
    std::filesystem::create_directory(folder_ + "/state/endpoints");
    std::ofstream(folder_ + "/state/endpoints/cali1.json") << "{";
    start_agent();
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/state/endpoints/cali1.json.broken"));
    EXPECT_TRUE(run("ADD", sandbox("pod-0", "c0")).ok());
}

} // namespace
} // namespace manx
