// SPDX-License-Identifier: Apache-2.0
// Fixture of the packet tables: every case runs for both families.
#pragma once

#include "maps/reason.h"
#include "tests/harness/dataplane.h"

#include <gtest/gtest.h>

#include <linux/pkt_cls.h>

#include <string>

namespace manx {

class HookTest : public testing::TestWithParam<Family> {
protected:
    static constexpr uint32_t kSet = 5; // a policy set for a test to fill
    static constexpr uint8_t kTcp = 6;
    static constexpr uint8_t kUdp = 17;

    [[nodiscard]] static bool v4() { return GetParam() == Family::V4; }

    [[nodiscard]] static const harness::Addresses& at() { return harness::addresses(GetParam()); }

    [[nodiscard]] static harness::Workload a() { return harness::Dataplane::a(GetParam()); }

    [[nodiscard]] static harness::Workload b() { return harness::Dataplane::b(GetParam()); }

    [[nodiscard]] static uint8_t icmp_protocol() { return v4() ? 1 : 58; }

    [[nodiscard]] static harness::Icmp echo_request(uint16_t id) {
        return harness::icmp(v4() ? 8 : 128, 0, id, 1);
    }

    [[nodiscard]] static harness::Icmp echo_reply(uint16_t id) {
        return harness::icmp(v4() ? 0 : 129, 0, id, 1);
    }

    [[nodiscard]] static harness::Icmp unreachable() { return harness::icmp(v4() ? 3 : 1, 4); }

    [[nodiscard]] static harness::Packet between(const std::string& src, const std::string& dst,
                                                 const harness::Layer& transport) {
        return harness::eth() / harness::ip(src, dst) / transport;
    }

    // Sends and checks verdict and reason; the mark's kind follows from the reason.
    harness::Outcome expect(manx_hook hook, const harness::Packet& packet, int verdict,
                            manx_reason reason, harness::Context context) {
        const harness::Sent sent = node_.send(hook, packet, context);
        std::string names;
        for (const manx_reason counted : sent.reasons) {
            names += std::string(maps::reason_name(counted)) + " ";
        }
        EXPECT_EQ(names, std::string(maps::reason_name(reason)) + " ") << packet.text();
        EXPECT_EQ(sent.outcome.verdict, verdict) << packet.text();
        return sent.outcome;
    }

    harness::Outcome from(uint32_t ifindex, const harness::Packet& packet, int verdict,
                          manx_reason reason) {
        return expect(ifindex == harness::kUplink ? MANX_HOOK_FROM_UPLINK : MANX_HOOK_FROM_WORKLOAD,
                      packet, verdict, reason, {.ifindex = ifindex});
    }

    harness::Outcome drop(uint32_t ifindex, const harness::Packet& packet, manx_reason reason) {
        return from(ifindex, packet, TC_ACT_SHOT, reason);
    }

    // What a workload sends goes on to its device's filters; what the network sends stops here.
    static int passed(uint32_t ifindex) {
        return ifindex == harness::kUplink ? TC_ACT_OK : TC_ACT_UNSPEC;
    }

    // Into a local workload's device, rewritten.
    void to_peer(uint32_t ifindex, const harness::Packet& packet, const MacAddress& mac) {
        const harness::Outcome out =
            from(ifindex, packet, TC_ACT_REDIRECT, MANX_PASS_REDIRECT_PEER);
        EXPECT_EQ(harness::hex(out.packet),
                  harness::hex(packet.forwarded(mac, harness::kMacHost).bytes()));
    }

    // Out of the uplink, with one hop less.
    void to_network(uint32_t ifindex, const harness::Packet& packet) {
        const harness::Outcome out =
            from(ifindex, packet, TC_ACT_REDIRECT, MANX_PASS_REDIRECT_NEIGH);
        EXPECT_EQ(harness::hex(out.packet), harness::hex(packet.hop().bytes()));
        EXPECT_EQ(out.mark & MANX_MARK_KIND, MANX_MARK_APPROVED);
    }

    // To the host stack, approved and unchanged.
    void to_stack(uint32_t ifindex, const harness::Packet& packet,
                  manx_reason reason = MANX_PASS_TO_STACK) {
        const harness::Outcome out = from(ifindex, packet, passed(ifindex), reason);
        EXPECT_EQ(harness::hex(out.packet), harness::hex(packet.bytes()));
        EXPECT_EQ(out.mark & MANX_MARK_KIND, MANX_MARK_APPROVED);
    }

    // To this host, which may still translate it: a node port.
    void to_this_host(uint32_t ifindex, const harness::Packet& packet, uint32_t slot) {
        const harness::Outcome out = from(ifindex, packet, TC_ACT_UNSPEC, MANX_PASS_TO_STACK);
        EXPECT_EQ(harness::hex(out.packet), harness::hex(packet.bytes()));
        EXPECT_EQ(out.mark & MANX_MARK_MASK, deferred(slot) | MANX_MARK_HOST_ALLOWED);
    }

    // From the host stack, which got it from ingress (0: made it) and marked it.
    harness::Outcome leaves(uint32_t ifindex, const harness::Packet& packet, int verdict,
                            manx_reason reason, uint32_t ingress, uint32_t mark = 0) {
        return expect(ifindex == harness::kUplink ? MANX_HOOK_TO_UPLINK : MANX_HOOK_TO_WORKLOAD,
                      packet, verdict, reason,
                      {.ifindex = ifindex, .ingress_ifindex = ingress, .mark = mark});
    }

    static uint32_t deferred(uint32_t slot) {
        return MANX_MARK_DEFERRED | slot << MANX_MARK_SLOT_SHIFT;
    }

    // A connection between a and b, up to the handshake's end.
    void connect(uint16_t sport, uint16_t dport) {
        to_peer(harness::kCaliA, between(at().a, at().b, harness::tcp(sport, dport, harness::kSyn)),
                harness::kMacB);
        to_peer(harness::kCaliB,
                between(at().b, at().a, harness::tcp(dport, sport, harness::kSyn | harness::kAck)),
                harness::kMacA);
        to_peer(harness::kCaliA, between(at().a, at().b, harness::tcp(sport, dport)),
                harness::kMacB);
    }

    harness::Dataplane node_;
};

inline std::string family_name(const testing::TestParamInfo<Family>& info) {
    return info.param == Family::V4 ? "v4" : "v6";
}

} // namespace manx
