// SPDX-License-Identifier: Apache-2.0
// Real packets between workloads that are namespaces of one node: through the programs, by their
// counters, and across a restart of the loader.
#include "loader/loader.h"
#include "maps/map.h"
#include "tests/harness/dataplane.h"
#include "tests/harness/sandbox.h"

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>

namespace manx {
namespace {

using harness::ifindex_of;
using harness::must_run;

const std::string kBpffs = "/sys/fs/bpf/manx";

class TrafficTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        const Result<void> entered = harness::enter_sandbox();
        ASSERT_TRUE(entered) << entered.error().text();
        must_run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
                 "net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0");
        options_.force_clsact = GetParam();
        options_.workloads_by_tcx = !GetParam();
        options_.sizes.flows4 = 4096;
        options_.sizes.flows6 = 4096;
        options_.sizes.ports = 1024;
        options_.sizes.rules = 64;
        open();
        if (!GetParam() && !loader_->uses_tcx()) {
            GTEST_SKIP() << "the kernel has no tcx";
        }
        for (int pod = 1; pod <= 2; pod++) {
            add_pod(pod);
        }
    }

    void open() {
        loader_.reset();
        Result<loader::Loader> loader = loader::Loader::open(kBpffs, options_);
        if (!loader) {
            throw std::runtime_error(loader.error().text());
        }
        loader_ = std::make_unique<loader::Loader>(std::move(*loader));
    }

    // As the CNI server makes them: a gateway that is the host side, without a neighbour to ask.
    void add_pod(int pod) {
        const std::string n = std::to_string(pod);
        const std::string in = "ip netns exec pod" + n + " ";
        const std::string mac = "02:00:00:00:0a:0" + n;
        must_run("ip netns add pod" + n);
        must_run("ip link add cali" + n +
                 " address ee:ee:ee:ee:ee:ee type veth peer name eth0 "
                 "address " +
                 mac + " netns pod" + n);
        must_run("ip link set cali" + n + " up");
        must_run(in +
                 "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        must_run(in + "ip link set lo up; " + in + "ip link set eth0 up");
        must_run(in + "ip addr add 10.65.0." + n + "/32 dev eth0");
        must_run(in + "ip addr add fd65::" + n + "/128 dev eth0 nodad");
        must_run(in + "ip route add 169.254.1.1 dev eth0; " + in +
                 "ip route add default via 169.254.1.1 dev eth0");
        must_run(in + "ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
        must_run(in + "ip neigh add fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
        must_run(in + "ip route add default via fe80::1 dev eth0");
        must_run("ip route add 10.65.0." + n + "/32 dev cali" + n);
        must_run("ip route add fd65::" + n + "/128 dev cali" + n);
        must_run("ip neigh add 10.65.0." + n + " lladdr " + mac + " dev cali" + n);
        must_run("ip neigh add fd65::" + n + " lladdr " + mac + " dev cali" + n);
        manx_endpoint endpoint{};
        endpoint.ifindex = ifindex_of("cali" + n);
        endpoint.class_id = static_cast<uint32_t>(10 + pod);
        endpoint.slot = static_cast<uint16_t>(pod);
        endpoint.mac[0] = 2;
        endpoint.mac[4] = 0x0a;
        endpoint.mac[5] = static_cast<uint8_t>(pod);
        std::memset(endpoint.host_mac, 0xee, 6);
        const IpAddress four = *IpAddress::parse("10.65.0." + n);
        const IpAddress six = *IpAddress::parse("fd65::" + n);
        manx_addr6 key{};
        std::memcpy(key.addr, six.bytes().data(), 16);
        ASSERT_TRUE(loader_->map(maps::kEp4)->update({four.v4_network_order()}, endpoint));
        ASSERT_TRUE(loader_->map(maps::kEp6)->update(key, endpoint));
        ASSERT_TRUE(loader_->attach_workload(endpoint.ifindex));
    }

    [[nodiscard]] uint64_t total(manx_hook hook, manx_reason reason) const {
        return (*loader_->per_cpu_map(maps::kTotals)->lookup(maps::total_index(hook, reason)))
            ->packets;
    }

    [[nodiscard]] uint64_t redirected() const {
        return total(MANX_HOOK_FROM_WORKLOAD, MANX_PASS_REDIRECT_PEER);
    }

    loader::LoadOptions options_;
    std::unique_ptr<loader::Loader> loader_;
};

INSTANTIATE_TEST_SUITE_P(Attach, TrafficTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& mode) {
                             return mode.param ? "clsact" : "tcx";
                         });

TEST_P(TrafficTest, WorkloadsTalk) {
    const std::string one = "ip netns exec pod1 ";
    const std::string two = "ip netns exec pod2 ";
    for (const std::string to : {"10.65.0.2", "fd65::2"}) {
        const std::string bracketed = to.find(':') == std::string::npos ? to : "[" + to + "]";
        const std::string family = to.find(':') == std::string::npos ? "4" : "6";
        uint64_t before = redirected();
        must_run(one + "ping -q -c 3 -i 0.05 -W 2 " + to);
        EXPECT_GE(redirected(), before + 6) << to;
        before = redirected();
        // A stream larger than any window, counted at the other end.
        must_run(two + "timeout 20 socat -u TCP" + family +
                 "-LISTEN:8000,reuseaddr OPEN:/run/netns/got,creat,trunc & sleep 0.5; " + one +
                 "sh -c 'head -c 20000000 /dev/zero | timeout 20 socat -u - TCP:" + bracketed +
                 ":8000'; wait");
        EXPECT_NE(must_run("stat -c %s /run/netns/got").find("20000000"), std::string::npos) << to;
        EXPECT_GT(redirected(), before) << to;
        must_run(two + "timeout 20 socat UDP" + family +
                 "-RECVFROM:8001 EXEC:cat & sleep 0.5; "
                 "test \"$(" +
                 one + "sh -c 'echo hello | timeout 5 socat -t 2 - UDP:" + bracketed +
                 ":8001')\" = hello; result=$?; wait; exit $result");
    }
    EXPECT_EQ(total(MANX_HOOK_TO_WORKLOAD, MANX_DROP_POLICY_INGRESS), 0U);
}

TEST_P(TrafficTest, HostAndWorkloadTalk) {
    must_run("ip addr add 192.0.2.2/32 dev lo; ip addr add 2001:db8::2/128 dev lo nodad");
    must_run("ping -q -c 2 -i 0.05 -W 2 10.65.0.1");
    must_run("ping -q -c 2 -i 0.05 -W 2 fd65::1");
    must_run("ip netns exec pod1 ping -q -c 2 -i 0.05 -W 2 192.0.2.2");
    must_run("ip netns exec pod1 ping -q -c 2 -i 0.05 -W 2 2001:db8::2");
}

TEST_P(TrafficTest, AHopThatEndsHereIsAnswered) {
    must_run("ip addr add 192.0.2.2/32 dev lo");
    const Result<std::string> output =
        harness::run("ip netns exec pod1 ping -c 1 -t 1 -W 2 10.65.0.2");
    ASSERT_FALSE(output);
    EXPECT_NE(output.error().message.find("Time to live exceeded"), std::string::npos)
        << output.error().message;
}

TEST_P(TrafficTest, RestartLosesNoPacket) {
    must_run("ip netns exec pod1 ping -q -c 1 -W 2 10.65.0.2");
    must_run("ip netns exec pod1 sh -c 'ping -c 200 -i 0.01 -W 2 10.65.0.2 >/run/netns/v4; "
             "touch /run/netns/done4' >/dev/null 2>&1 &");
    must_run("ip netns exec pod1 sh -c 'ping -c 200 -i 0.01 -W 2 fd65::2 >/run/netns/v6; "
             "touch /run/netns/done6' >/dev/null 2>&1 &");
    for (int restart = 0; restart < 3; restart++) {
        if (restart != 0) {
            must_run("rmdir " + kBpffs + "/build_*"); // as if this were another build
        }
        open();
        for (const char* device : {"cali1", "cali2"}) {
            ASSERT_TRUE(loader_->attach_workload(ifindex_of(device)));
        }
    }
    must_run("for i in $(seq 200); do test -e /run/netns/done4 -a -e /run/netns/done6 && break; "
             "sleep 0.1; done");
    for (const char* family : {"v4", "v6"}) {
        const std::string report = must_run(std::string("cat /run/netns/") + family);
        EXPECT_NE(report.find(" 0% packet loss"), std::string::npos) << report;
    }
}

} // namespace
} // namespace manx
