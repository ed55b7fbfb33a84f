// SPDX-License-Identifier: Apache-2.0
// What comes off the wire: ICMP errors, fragments, extension headers, other protocols, nonsense.
#include "tests/bpf/hook_test.h"

namespace manx {
namespace {

using namespace harness;

class WireTest : public HookTest {};

INSTANTIATE_TEST_SUITE_P(Families, WireTest, testing::ValuesIn(kFamilies), family_name);

TEST_P(WireTest, IcmpErrorsFollowTheirFlow) {
    const Packet first = between(at().a, at().b, udp(1000, 53)) / payload(20);
    to_peer(kCaliA, first, kMacB);
    const Packet error = between(at().b, at().a, unreachable()) / quoted(first);
    const Outcome out = from(kCaliB, error, TC_ACT_REDIRECT, MANX_PASS_RELATED);
    EXPECT_EQ(hex(out.packet), hex(error.forwarded(kMacA, kMacHost).bytes()));
    // Not from elsewhere, not for others, not of flows that are none.
    drop(kCaliA, error, MANX_DROP_SPOOFED_SOURCE);
    drop(kCaliB, between(at().b, at().remote, unreachable()) / quoted(first), MANX_DROP_NO_FLOW);
    drop(kCaliB,
         between(at().b, at().a, unreachable()) / quoted(between(at().a, at().b, udp(1001, 53))),
         MANX_DROP_NO_FLOW);
    drop(kCaliB, between(at().b, at().a, unreachable()) / payload(8), MANX_DROP_NO_FLOW);
    // An error is no answer.
    EXPECT_FALSE(node_.new_flow(at().a, at().b, kUdp, 1000, 53)->flags & MANX_FLOW_ANSWERED);
}

TEST_P(WireTest, IcmpErrorsOfRoutersReachTheSender) {
    const Packet first = between(at().a, at().remote, tcp(1000, 80, kSyn));
    to_network(kCaliA, first);
    const Packet error = between(at().net, at().a, unreachable()) / quoted(first);
    const Outcome out = from(kUplink, error, TC_ACT_REDIRECT, MANX_PASS_RELATED);
    EXPECT_EQ(hex(out.packet), hex(error.forwarded(kMacA, kMacHost).bytes()));
    drop(kUplink,
         between(at().net, at().a, unreachable()) / quoted(between(at().a, at().net, udp(1, 2))),
         MANX_DROP_NO_FLOW);
    // For this host: the stack's.
    from(kUplink,
         between(at().net, at().host, unreachable()) /
             quoted(between(at().host, at().net, udp(1, 2))),
         TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
    // With routes that changed meanwhile.
    ASSERT_TRUE(node_.loader().bump_epoch());
    to_stack(kUplink, error, MANX_PASS_RELATED);
}

TEST_P(WireTest, IcmpErrorsFromTheStack) {
    const Packet first = between(at().a, at().remote, udp(1000, 80));
    to_network(kCaliA, first);
    leaves(kCaliA, between(at().host, at().a, unreachable()) / quoted(first), TC_ACT_OK,
           MANX_PASS_RELATED, 0);
    // This host may say what it likes, others may not.
    const Raw unknown = quoted(between(at().a, at().net, udp(1, 2)));
    leaves(kCaliA, between(at().host, at().a, unreachable()) / unknown, TC_ACT_OK,
           MANX_PASS_RELATED, 0);
    leaves(kCaliA, between(at().net, at().a, unreachable()) / unknown, TC_ACT_SHOT,
           MANX_DROP_NO_FLOW, kUplink);
}

TEST_P(WireTest, IcmpErrorOfAnEcho) {
    const Packet ping = between(at().a, at().remote, echo_request(9));
    to_network(kCaliA, ping);
    from(kUplink, between(at().net, at().a, unreachable()) / quoted(ping), TC_ACT_REDIRECT,
         MANX_PASS_RELATED);
}

TEST_P(WireTest, LaterFragmentsFollowTheFirst) {
    const Ip base = ip(at().a, at().b);
    const Packet first = eth() / base.with_fragment(5, 0, true) / udp(1000, 53) / payload(24);
    const Packet later = eth() / base.with_fragment(5, 32, false).with_protocol(17) / payload(40);
    drop(kCaliA, later, MANX_DROP_NO_FLOW);
    to_peer(kCaliA, first, kMacB);
    const Outcome out = from(kCaliA, later, TC_ACT_REDIRECT, MANX_PASS_FRAGMENT);
    EXPECT_EQ(hex(out.packet), hex(later.forwarded(kMacB, kMacHost).bytes()));
    // Of another datagram.
    drop(kCaliA, eth() / base.with_fragment(6, 32, false).with_protocol(17) / payload(40),
         MANX_DROP_NO_FLOW);
    // From the network as well.
    const Ip inward = ip(at().remote, at().b);
    from(kUplink, eth() / inward.with_fragment(5, 32, false).with_protocol(17) / payload(40),
         TC_ACT_SHOT, MANX_DROP_NO_FLOW);
    to_peer(kUplink, eth() / inward.with_fragment(5, 0, true) / udp(1000, 53) / payload(24), kMacB);
    from(kUplink, eth() / inward.with_fragment(5, 32, false).with_protocol(17) / payload(40),
         TC_ACT_REDIRECT, MANX_PASS_FRAGMENT);
    // Others' fragments are not ours.
    from(kUplink,
         eth() / ip(at().net, at().host).with_fragment(5, 32, false).with_protocol(17) / payload(9),
         TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
}

TEST_P(WireTest, FragmentsToAServiceAreDeferred) {
    from(kCaliA,
         eth() / ip(at().a, at().service).with_fragment(5, 32, false).with_protocol(17) /
             payload(9),
         TC_ACT_UNSPEC, MANX_PASS_DEFERRED);
}

TEST_P(WireTest, ArpAndOthers) {
    Eth arp;
    arp.type = 0x0806;
    from(kCaliA, Packet(arp) / payload(28), TC_ACT_UNSPEC, MANX_PASS_ARP);
    from(kUplink, Packet(arp) / payload(28), TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
    drop(kCaliA, eth() / payload(40), MANX_DROP_UNKNOWN_PROTOCOL);
    leaves(kCaliA, Packet(arp) / payload(28), TC_ACT_OK, MANX_PASS_ARP, 0);
}

TEST_P(WireTest, Malformed) {
    Ip wrong = ip(at().a, at().b);
    wrong.version = 5;
    drop(kCaliA, eth() / wrong / udp(1, 2), MANX_DROP_MALFORMED);
    drop(kCaliA, eth() / ip(at().a, at().b).with_protocol(6) / payload(10), MANX_DROP_MALFORMED);
    drop(kCaliA, eth() / ip(at().a, at().b).with_protocol(17) / payload(3), MANX_DROP_MALFORMED);
    // At an uplink that is the stack's affair.
    wrong.dst = *IpAddress::parse(at().host);
    from(kUplink, eth() / wrong / udp(1, 2), TC_ACT_UNSPEC, MANX_PASS_NOT_OURS);
}

class Wire4Test : public HookTest {};

INSTANTIATE_TEST_SUITE_P(Families, Wire4Test, testing::Values(Family::V4), family_name);

TEST_P(Wire4Test, FragmentThatOverwritesTcpFlags) {
    drop(kCaliA,
         eth() / ip(at().a, at().b).with_fragment(5, 8, true).with_protocol(6) / payload(40),
         MANX_DROP_MALFORMED);
}

class Wire6Test : public HookTest {};

INSTANTIATE_TEST_SUITE_P(Families, Wire6Test, testing::Values(Family::V6), family_name);

TEST_P(Wire6Test, ExtensionHeadersAreWalked) {
    Ip layer = ip(at().a, at().b);
    layer.destination_options = true;
    to_peer(kCaliA, eth() / layer / udp(1000, 53), kMacB);
    EXPECT_TRUE(node_.new_flow(at().a, at().b, kUdp, 1000, 53));
    const Packet deep = eth() / layer.with_fragment(9, 0, true) / udp(1000, 54) / payload(16);
    to_peer(kCaliA, deep, kMacB);
    drop(kCaliA, eth() / ip(at().a, at().b).with_protocol(60) / payload(1), MANX_DROP_MALFORMED);
}

TEST_P(Wire6Test, NeighborDiscoveryAndListenerReports) {
    Ip solicitation = ip("fe80::1", "ff02::1:ff00:1").with_hops(255);
    from(kCaliA, eth() / solicitation / icmp(135, 0) / payload(20), TC_ACT_UNSPEC,
         MANX_PASS_NEIGHBOR_DISCOVERY);
    from(kCaliA, eth() / ip("::", "ff02::16").with_options() / icmp(143, 0) / payload(20),
         TC_ACT_UNSPEC, MANX_PASS_NEIGHBOR_DISCOVERY);
    from(kUplink, eth() / solicitation / icmp(135, 0) / payload(20), TC_ACT_UNSPEC,
         MANX_PASS_NOT_OURS);
    leaves(kCaliA, eth() / solicitation / icmp(136, 0) / payload(20), TC_ACT_OK,
           MANX_PASS_NEIGHBOR_DISCOVERY, 0);
    // With a false source it does not get past this node.
    drop(kCaliA,
         eth() / ip("2001:db8::bad", at().remote).with_hops(255) / icmp(135, 0) / payload(20),
         MANX_DROP_SPOOFED_SOURCE);
    from(kCaliA, eth() / ip(at().a, at().host).with_hops(255) / icmp(136, 0) / payload(20),
         TC_ACT_UNSPEC, MANX_PASS_NEIGHBOR_DISCOVERY);
    // Nothing else may come from a link-local address, and no discovery from afar.
    drop(kCaliA, between("fe80::1", at().b, udp(1, 2)), MANX_DROP_SPOOFED_SOURCE);
    drop(kCaliA, eth() / ip("fe80::1", at().b).with_hops(64) / icmp(135, 0) / payload(20),
         MANX_DROP_SPOOFED_SOURCE);
}

} // namespace
} // namespace manx
