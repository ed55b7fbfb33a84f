// SPDX-License-Identifier: Apache-2.0
// A service whose backend is this host, as netfilter translates it: real packets of a workload,
// judged where they are delivered.
#include "agent/dataplane/nft.h"
#include "tests/bpf/traffic.h"

#include <filesystem>

namespace manx {
namespace {

using harness::ifindex_of;
using harness::must_run;

class ToHostTest : public Traffic, public testing::WithParamInterface<Family> {
protected:
    static constexpr uint32_t kSet = 5;
    static constexpr uint32_t kHostClass = 14;
    static constexpr uint32_t kAllow = 3; // rules
    static constexpr uint32_t kDeny = 4;

    void SetUp() override {
        Traffic::SetUp();
        auto judged = loader_->attach_to_host();
        ASSERT_TRUE(judged) << judged.error().text();
        if (!*judged) {
            GTEST_SKIP() << "the kernel has no netfilter programs";
        }
        must_run("ip addr add 192.0.2.2/32 dev lo; ip addr add 2001:db8::2/128 dev lo nodad; "
                 "ip link set lo up");
        put_class(host(), kHostClass, MANX_CLASS_LOCAL_HOST);
        put_class(service(), 15, MANX_CLASS_SERVICE);
        nft("add table " + table() + "; add chain " + table() +
            " pre { type nat hook prerouting priority dstnat; }");
        translate("tcp dport 443", 6443);
        translate("udp dport 53", 5353);
        const std::string to = bracketed(host());
        for (const std::string& listen : {"TCP" + n() + "-LISTEN:6443,fork,reuseaddr,bind=" + to,
                                          "UDP" + n() + "-RECVFROM:5353,fork,bind=" + to}) {
            must_run("timeout 60 socat " + listen + " EXEC:cat </dev/null >/dev/null 2>&1 &");
        }
        must_run("for i in $(seq 100); do ss -Hlnt | grep -q 6443 && ss -Hlnu | grep -q 5353 && "
                 "break; sleep 0.05; done");
    }

    [[nodiscard]] static bool v4() { return GetParam() == Family::V4; }

    [[nodiscard]] static std::string n() { return v4() ? "4" : "6"; }

    [[nodiscard]] static std::string host() { return v4() ? "192.0.2.2" : "2001:db8::2"; }

    [[nodiscard]] static std::string service() { return v4() ? "10.96.0.10" : "fd96::10"; }

    [[nodiscard]] static std::string bracketed(const std::string& address) {
        return v4() ? address : "[" + address + "]";
    }

    void put_class(const std::string& text, uint32_t class_id, uint32_t flags) {
        const IpAddress ip = *IpAddress::parse(text);
        const manx_class value{.class_id = class_id, .flags = flags};
        if (v4()) {
            ASSERT_TRUE(loader_->map(maps::kClass4)->update({ip.v4_network_order()}, value));
            return;
        }
        manx_addr6 key{};
        std::memcpy(key.addr, ip.bytes().data(), 16);
        ASSERT_TRUE(loader_->map(maps::kClass6)->update(key, value));
    }

    [[nodiscard]] static std::string table() { return v4() ? "ip t" : "ip6 t"; }

    static void nft(const std::string& commands) {
        const Result<void> done = dataplane::run_nft("test", commands + "\n");
        ASSERT_TRUE(done) << done.error().text();
    }

    // As kube-proxy does: what comes for the service goes to this port of the host.
    static void translate(const std::string& match, uint16_t port) {
        nft("add rule " + table() + " pre " + (v4() ? "ip" : "ip6") + " daddr " + service() + " " +
            match + " dnat to " + bracketed(host()) + ":" + std::to_string(port));
    }

    // What kSet says of this host: one port of a protocol by kAllow, all else by kDeny.
    void allow_only(uint8_t protocol, uint16_t port) {
        const uint32_t key = static_cast<uint32_t>(protocol) << 16 | port;
        auto range = [](uint32_t last, manx_action action, uint32_t rule) {
            manx_port out{};
            out.last = last;
            out.action = static_cast<uint8_t>(action);
            out.rule = rule;
            return out;
        };
        auto table = *loader_->map(maps::kPorts);
        ASSERT_TRUE(table.update(0, range(key - 1, MANX_ACTION_DENY, kDeny)));
        ASSERT_TRUE(table.update(1, range(key, MANX_ACTION_ALLOW, kAllow)));
        ASSERT_TRUE(table.update(2, range(0xffffffff, MANX_ACTION_DENY, kDeny)));
        auto policy = *loader_->map(maps::kPolicy);
        ASSERT_TRUE(
            policy.update({.set = kSet, .class_id = kHostClass}, {.offset = 0, .count = 3}));
        ASSERT_TRUE(
            policy.update({.set = kSet, .class_id = MANX_CLASS_ANY}, {.offset = 2, .count = 1}));
    }

    void set_flags(uint32_t flags) {
        manx_config config = *loader_->config();
        config.flags = flags;
        ASSERT_TRUE(loader_->set_config(config));
    }

    // Whether pod1 has its words back.
    [[nodiscard]] static bool answered(const std::string& protocol, uint16_t port,
                                       const std::string& options = "") {
        const auto echoed = harness::run(
            "ip netns exec pod1 sh -c '(echo hello; sleep 0.3; echo again; sleep 0.3) | timeout 3 "
            "socat -t 0.5 - " +
            protocol + n() + ":" + bracketed(service()) + ":" + std::to_string(port) + options +
            "'");
        return echoed && echoed->find("hello") != std::string::npos;
    }

    [[nodiscard]] uint64_t hits(uint32_t rule) const {
        return (*loader_->per_cpu_map(maps::kRuleHits)->lookup(rule))->flows;
    }

    [[nodiscard]] uint64_t dropped(manx_reason reason) const {
        const manx_counter_key key{.ifindex = ifindex_of("cali1"),
                                   .hook = MANX_HOOK_TO_HOST,
                                   .reason = static_cast<uint16_t>(reason)};
        const auto found = loader_->per_cpu_map(maps::kCounters)->lookup(key);
        return found && *found ? (*found)->packets : 0;
    }
};

INSTANTIATE_TEST_SUITE_P(Families, ToHostTest, testing::ValuesIn(kFamilies),
                         [](const testing::TestParamInfo<Family>& family) {
                             return family.param == Family::V4 ? "v4" : "v6";
                         });

TEST_P(ToHostTest, WithoutPolicyItIsReached) {
    EXPECT_TRUE(answered("TCP", 443));
    EXPECT_TRUE(answered("UDP", 53));
    EXPECT_GT(total(MANX_HOOK_TO_HOST, MANX_PASS_TO_STACK), 0U);
}

TEST_P(ToHostTest, EgressPolicyNamesTheBackendsPort) {
    put_endpoint(1, kSet, MANX_SET_ALLOW);
    allow_only(6, 6443);
    EXPECT_TRUE(answered("TCP", 443));
    EXPECT_EQ(hits(kAllow), 1U); // of the flow, not of each packet
    EXPECT_EQ(dropped(MANX_DROP_POLICY_EGRESS), 0U);
    EXPECT_FALSE(answered("UDP", 53));
    EXPECT_GT(dropped(MANX_DROP_POLICY_EGRESS), 0U);
    EXPECT_EQ(hits(kDeny), dropped(MANX_DROP_POLICY_EGRESS));
    EXPECT_EQ(total(MANX_HOOK_TO_HOST, MANX_DROP_POLICY_EGRESS), dropped(MANX_DROP_POLICY_EGRESS));
    allow_only(17, 5353);
    EXPECT_TRUE(answered("UDP", 53));
    EXPECT_EQ(hits(kAllow), 2U);
    EXPECT_FALSE(answered("TCP", 443));
    allow_only(6, 443); // the service's own port
    EXPECT_FALSE(answered("TCP", 443));
}

TEST_P(ToHostTest, AFlowDoesNotOutliveItsBackend) {
    put_endpoint(1, kSet, MANX_SET_ALLOW);
    allow_only(17, 5353);
    must_run("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1 "
             "net.netfilter.nf_conntrack_udp_timeout_stream=1");
    ASSERT_TRUE(answered("UDP", 53, ",sourceport=7777"));
    // Another backend for the same source port: nothing of the first may answer for it.
    nft("flush chain " + table() + " pre");
    translate("udp dport 53", 5354);
    must_run("timeout 60 socat UDP" + n() + "-RECVFROM:5354,fork,bind=" + bracketed(host()) +
             " EXEC:cat </dev/null >/dev/null 2>&1 & "
             "for i in $(seq 100); do ss -Hlnu | grep -q 5354 && break; sleep 0.05; done");
    must_run("sleep 2.5"); // connection tracking has forgotten
    EXPECT_FALSE(answered("UDP", 53, ",sourceport=7777"));
    EXPECT_GT(dropped(MANX_DROP_POLICY_EGRESS), 0U);
}

TEST_P(ToHostTest, StagedPolicyIsCountedAndDecidesNothing) {
    put_endpoint(1, MANX_SET_ALLOW, kSet);
    allow_only(17, 5353);
    EXPECT_TRUE(answered("TCP", 443));
    EXPECT_EQ(hits(kDeny), 1U);
}

TEST_P(ToHostTest, EndpointToHostActionDrop) {
    set_flags(MANX_CONFIG_HOST_DROP);
    EXPECT_FALSE(answered("TCP", 443));
    EXPECT_FALSE(answered("UDP", 53));
    EXPECT_GT(dropped(MANX_DROP_ENDPOINT_TO_HOST), 1U);
    put_endpoint(1, kSet, MANX_SET_ALLOW);
    allow_only(6, 6443);
    EXPECT_FALSE(answered("TCP", 443));
    set_flags(0);
    EXPECT_TRUE(answered("TCP", 443));
}

TEST_P(ToHostTest, AnEmptySlotIsNotReady) {
    // Another slot's mark, before the hook.
    nft("add chain " + table() + " tag { type filter hook prerouting priority -400; }; add rule " +
        table() + " tag " + (v4() ? "ip" : "ip6") + " daddr " + service() +
        " meta mark set 0x20090000");
    EXPECT_FALSE(answered("TCP", 443));
    EXPECT_GT(dropped(MANX_DROP_NOT_READY), 0U);
}

TEST_P(ToHostTest, TheProgramIsReplacedWithoutAGap) {
    put_endpoint(1, kSet, MANX_SET_ALLOW);
    allow_only(17, 5353);
    const std::string show = "bpftool -j link show pinned /sys/fs/bpf/manx/links/to_host" + n();
    const std::string before = must_run(show);
    open(); // the same build: nothing changes
    ASSERT_TRUE(loader_->attach_to_host());
    EXPECT_EQ(must_run(show), before);
    must_run("rmdir /sys/fs/bpf/manx/build_*"); // as if another build had pinned it
    open();
    EXPECT_NE(must_run(show), before);
    EXPECT_FALSE(answered("TCP", 443));
    EXPECT_TRUE(answered("UDP", 53));
    EXPECT_EQ(hits(kAllow), 1U); // by one program, not by two
    options_.use_netfilter = false;
    open();
    EXPECT_FALSE(*loader_->attach_to_host());
    EXPECT_FALSE(std::filesystem::exists("/sys/fs/bpf/manx/links/to_host4"));
    EXPECT_TRUE(answered("TCP", 443)); // nothing judges it; the agent's guard is not here
    options_.use_netfilter = true;
    open();
    EXPECT_TRUE(*loader_->attach_to_host());
    EXPECT_FALSE(answered("TCP", 443));
    const std::string last = must_run(show);
    const std::string number = last.substr(last.find(':') + 1, last.find(',') - last.find(':') - 1);
    ASSERT_TRUE(loader_->remove_all());
    EXPECT_FALSE(std::filesystem::exists("/sys/fs/bpf/manx"));
    EXPECT_FALSE(harness::run("bpftool link show id " + number)) << last;
}

} // namespace
} // namespace manx
