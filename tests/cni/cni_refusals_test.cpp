// SPDX-License-Identifier: Apache-2.0
// Calls that the agent refuses, and what they leave alone.
#include "agent/api/names.h"
#include "agent/netlink/link.h"
#include "agent/netlink/route.h"
#include "agent/netlink/sysctl.h"
#include "tests/cni/cni_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace manx {
namespace {

using netlink::Socket;
using nlohmann::json;
using test::run_plugin;
using test::RunningPlugin;

class CniRefusals : public test::CniTest {};

// The runtime deletes what it could not add; the pod's only interface is not that.
TEST_F(CniRefusals, del_of_a_refused_second_interface_leaves_the_first) {
    start_agent();
    for (const char* pod : {"pod-0", ""}) {
        const auto box = sandbox(pod, "c0");
        const auto added = run("ADD", box);
        ASSERT_TRUE(added.ok()) << added.text;
        auto second = call("ADD", box);
        second.interface = "net1";
        const auto refused = run_plugin(second);
        EXPECT_EQ(refused.code(), 4) << refused.text;
        EXPECT_THAT(refused.text, testing::HasSubstr("as eth0"));
        second.command = "DEL";
        for (const char* network : {"net", "other"}) {
            second.conf["name"] = network;
            EXPECT_TRUE(run_plugin(second).ok());
        }
        EXPECT_TRUE(in_pod(box, "eth0"));
        EXPECT_EQ(allocated(), 2);
        EXPECT_EQ(run("ADD", box).json, added.json);
        EXPECT_TRUE(run("DEL", box).ok());
        EXPECT_EQ(allocated(), 0);
        EXPECT_EQ(records(), 0U);
    }
}

// Addresses that do not come from IPAM are not taken from others.
TEST_F(CniRefusals, address_of_another_pod_is_not_taken_over) {
    start_agent();
    const auto own = [&](const std::string& pod, const json& addresses) {
        ASSERT_TRUE(test::put_pod(*store_, kNode, pod,
                                  {{"cni.projectcalico.org/ipAddrsNoIpam", addresses.dump()}}));
    };
    const auto with_own = [&](const Sandbox& box) {
        auto add = call("ADD", box);
        add.conf["feature_control"] = {{"ip_addrs_no_ipam", true}};
        return run_plugin(add);
    };
    const auto victim = run("ADD", sandbox("pod-0", "c0"));
    ASSERT_TRUE(victim.ok()) << victim.text;
    const std::string held = victim.json["ips"][0]["address"].get<std::string>();
    own("thief", {held.substr(0, held.find('/'))});
    own("first", {"192.0.2.77", "2001:db8::77"});
    own("second", {"2001:db8::77"});
    const auto stolen = with_own(sandbox("thief", "c1"));
    EXPECT_EQ(stolen.code(), 11) << stolen.text;
    EXPECT_THAT(stolen.text, testing::HasSubstr("pod default/pod-0"));
    const auto first = with_own(sandbox("first", "c2"));
    EXPECT_TRUE(first.ok()) << first.text;
    const auto second = with_own(sandbox("second", "c3"));
    EXPECT_EQ(second.code(), 11) << second.text;
    EXPECT_THAT(second.text, testing::HasSubstr("2001:db8::77 is the address of"));

    // A route of somebody whom the agent does not know.
    auto node = Socket::open();
    ASSERT_TRUE(node->send(netlink::create_veth({.name = "other0",
                                                 .mac = {},
                                                 .peer_name = "other1",
                                                 .peer_mac = {},
                                                 .peer_netns = -1,
                                                 .mtu = 0,
                                                 .group = 0})));
    const auto other = find_link(*node, "other0");
    netlink::LinkChange up;
    up.up = true;
    for (const char* name : {"other0", "other1"}) {
        ASSERT_TRUE(node->send(netlink::change_link(find_link(*node, name)->ifindex, up)));
    }
    netlink::Route route;
    route.ifindex = other->ifindex;
    route.metric = 1024;
    for (const char* address : {"192.0.2.78", "2001:db8::78"}) {
        route.destination = Cidr::host(*IpAddress::parse(address));
        route.scope = route.destination.family() == Family::V4 ? netlink::kScopeLink
                                                               : netlink::kScopeUniverse;
        route.protocol = netlink::kProtocolBoot;
        ASSERT_TRUE(node->send(netlink::add_route(route)));
        const std::string pod = route.destination.family() == Family::V4 ? "third4" : "third6";
        own(pod, {address});
        const auto refused = with_own(sandbox(pod, pod));
        EXPECT_EQ(refused.code(), 11) << refused.text;
        EXPECT_THAT(refused.text, testing::HasSubstr("is routed to other0 already"));
        // Routing's own knowledge of where the address was gives way.
        route.protocol = netlink::kProtocolBird;
        ASSERT_TRUE(node->send(netlink::replace_route(route)));
        const auto moved = with_own(sandbox(pod, pod));
        EXPECT_TRUE(moved.ok()) << moved.text;
    }
    EXPECT_EQ(records(), 4U);
}

// Its default route would be the pod's, and its forwarding off.
TEST_F(CniRefusals, nodes_own_namespace_is_no_containers) {
    start_agent();
    auto box = sandbox("pod-0", "c0");
    auto add = call("ADD", box);
    add.netns = "/proc/self/ns/net";
    const auto before = netlink::read_sysctl("net/ipv4/ip_forward").value_or("");
    const auto refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 4) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("node's own network namespace"));
    EXPECT_EQ(devices(), 0U);
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(netlink::read_sysctl("net/ipv4/ip_forward").value_or("gone"), before);
    add.command = "DEL";
    EXPECT_TRUE(run_plugin(add).ok());
}

TEST_F(CniRefusals, errors_name_the_key_and_the_version) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    auto add = call("ADD", box);
    add.conf["cniVersion"] = "1.0.0";
    add.conf["mtu"] = 1200; // families as pools offer them: IPv6 too
    auto refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 7) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("mtu: expected at least 1280 with IPv6"));
    EXPECT_EQ(refused.json["cniVersion"], "1.0.0");
    add.conf["mtu"] = "no number";
    refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 7) << refused.text;
    EXPECT_EQ(refused.json["cniVersion"], "1.0.0");
    add = call("ADD", box);
    add.interface = "lo";
    refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 4) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("CNI_IFNAME: the container has an interface lo"));
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(records(), 0U);
    EXPECT_TRUE(run("ADD", box).ok());
}

// Whoever may connect is root; it shall not hurt by mistake either.
class CniPeer : public test::CniTest {
protected:
    UniqueFd connect_agent() const {
        UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const timeval limit{10, 0};
        EXPECT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socket().copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                  0);
        return fd;
    }

    [[nodiscard]] std::string fds() const { return "/proc/" + std::to_string(agent_) + "/fd/"; }

    [[nodiscard]] size_t agents_descriptors() const {
        const std::filesystem::directory_iterator all(fds());
        return static_cast<size_t>(std::distance(begin(all), end(all)));
    }

    // Others come and go in the agent; what leaks here stays.
    void await_at_most(size_t count) const {
        for (int i = 0; i < 700 && agents_descriptors() > count; ++i) {
            usleep(10000);
        }
        EXPECT_LE(agents_descriptors(), count);
    }
};

TEST_F(CniPeer, descriptors_that_nobody_asked_for_are_closed_and_silence_ends) {
    start_agent();
    ASSERT_TRUE(run("STATUS", {}).ok());
    const size_t before = agents_descriptors();
    const auto peer = connect_agent();
    for (int i = 0; i < 3; ++i) {
        std::array<int, 5> sent{};
        sent.fill(node_.get());
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof sent)> control{};
        char byte = 'M'; // the request's first
        iovec part{&byte, 1};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof sent);
        std::memcpy(CMSG_DATA(rights), sent.data(), sizeof sent);
        ASSERT_EQ(sendmsg(peer.get(), &message, 0), 1);
    }
    char byte = 0;
    EXPECT_EQ(recv(peer.get(), &byte, 1, 0), 0) << "it says no more";
    await_at_most(before);
}

TEST_F(CniPeer, without_descriptors_the_agent_waits_and_goes_on) {
    start_agent();
    ASSERT_TRUE(run("STATUS", {}).ok());
    usleep(300000);  // until what was open for it is closed
    rlim_t free = 3; // the lowest number that is
    while (std::filesystem::exists(fds() + std::to_string(free))) {
        ++free;
    }
    rlimit old{};
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, nullptr, &old), 0);
    const rlimit none{free, old.rlim_max};
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, &none, nullptr), 0);
    const auto ticks = [&] {
        std::ifstream file("/proc/" + std::to_string(agent_) + "/stat");
        std::string text;
        std::getline(file, text);
        std::istringstream rest(text.substr(text.rfind(')') + 2));
        std::vector<std::string> words{std::istream_iterator<std::string>(rest), {}};
        return std::stol(words.at(11)) + std::stol(words.at(12));
    };
    RunningPlugin waiting(call("STATUS", {}));
    usleep(200000);
    const long before = ticks();
    usleep(1000000);
    EXPECT_LE(ticks() - before, 5) << "it tries again and again";
    siginfo_t ended{};
    EXPECT_EQ(waitid(P_PID, static_cast<id_t>(waiting.pid()), &ended, WEXITED | WNOHANG | WNOWAIT),
              0);
    EXPECT_EQ(ended.si_pid, 0) << "it was served";
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, &old, nullptr), 0);
    const auto status = waiting.wait();
    EXPECT_TRUE(status.ok()) << status.text;
}

// Room for the connection, and none for the namespace that comes by it.
TEST_F(CniPeer, a_namespace_that_the_agent_has_no_room_for_is_tried_again) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    ASSERT_TRUE(run("STATUS", {}).ok());
    usleep(300000);  // until what was open for it is closed
    rlim_t free = 3; // the lowest number that is
    while (std::filesystem::exists(fds() + std::to_string(free))) {
        ++free;
    }
    rlimit old{};
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, nullptr, &old), 0);
    const rlimit one{free + 1, old.rlim_max};
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, &one, nullptr), 0);
    for (const char* command : {"ADD", "DEL"}) {
        const auto refused = run(command, box);
        EXPECT_EQ(refused.code(), 11) << refused.text;
        EXPECT_THAT(refused.text, testing::HasSubstr("no free descriptor"));
    }
    ASSERT_EQ(prlimit(agent_, RLIMIT_NOFILE, &old, nullptr), 0);
    EXPECT_TRUE(run("ADD", box).ok());
    EXPECT_TRUE(run("DEL", box).ok());
}

TEST_F(CniRefusals, a_namespace_that_the_plugin_has_no_room_for_is_tried_again) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    auto add = call("ADD", box);
    const std::string script = folder_ + "/plugin";
    std::ofstream(script) << "#!/bin/sh\nexec 3>&-\nulimit -n 4\nexec " << add.binary << "\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    add.binary = script;
    const auto refused = run_plugin(add);
    EXPECT_EQ(refused.code(), 11) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("no free descriptor"));
    EXPECT_TRUE(run("ADD", box).ok());
}

TEST_F(CniRefusals, pod_is_not_up_before_older_policy) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const std::string behind = folder_ + "/state/behind";
    std::ofstream(behind).flush();
    const auto refused = run("ADD", box);
    EXPECT_EQ(refused.code(), 11) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr("older than the pod"));
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
    EXPECT_EQ(records(), 0U);
    std::filesystem::remove(behind);
    EXPECT_TRUE(run("ADD", box).ok());
}

// An answer that the next start would not know of is none.
TEST_F(CniRefusals, add_fails_when_its_record_cannot_be_written) {
    start_agent();
    const auto box = sandbox("pod-0", "c0");
    const std::string device = api::workload_interface("default", "pod-0");
    const std::string hold = folder_ + "/state/hold";
    const std::string fresh = folder_ + "/state/endpoints/" + device + ".json.new";
    std::ofstream(hold).flush();
    RunningPlugin running(call("ADD", box));
    for (int i = 0; i < 500 && !on_node(device); ++i) {
        usleep(10000);
    }
    ASSERT_EQ(records(), 1U);
    std::filesystem::create_directory(fresh); // where its next state would be written
    std::filesystem::remove(hold);
    const auto refused = running.wait();
    EXPECT_EQ(refused.code(), 5) << refused.text;
    EXPECT_THAT(refused.text, testing::HasSubstr(device + ".json.new"));
    EXPECT_EQ(allocated(), 0);
    EXPECT_EQ(devices(), 0U);
    EXPECT_EQ(records(), 0U);
    std::filesystem::remove(fresh);
    EXPECT_TRUE(run("ADD", box).ok());
}

} // namespace
} // namespace manx
