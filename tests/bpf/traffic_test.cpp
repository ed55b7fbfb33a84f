// SPDX-License-Identifier: Apache-2.0
// Real packets between workloads that are namespaces of one node: through the programs, by their
// counters, and across a restart of the loader.
#include "tests/bpf/traffic.h"

namespace manx {
namespace {

using harness::ifindex_of;
using harness::must_run;

const std::string kBpffs = "/sys/fs/bpf/manx";

class TrafficTest : public Traffic, public testing::WithParamInterface<bool> {
protected:
    void SetUp() override {
        options_.force_clsact = GetParam();
        Traffic::SetUp();
        if (!GetParam() && !loader_->uses_tcx()) {
            GTEST_SKIP() << "the kernel has no tcx";
        }
    }
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
