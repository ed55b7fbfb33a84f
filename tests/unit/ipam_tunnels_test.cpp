// SPDX-License-Identifier: Apache-2.0
// Addresses of tunnels: which the node needs, what stays, what is released and when; and a process
// that dies at every call of the datastore on the way.
#include "agent/api/node.h"
#include "agent/ipam/tunnels.h"
#include "tests/unit/ipam_world.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace manx::ipam::test {
namespace {

const nlohmann::json kVxlan = {{"vxlanMode", "Always"}};

class IpamTunnels : public testing::Test {
protected:
    void SetUp() override { world.add_node("node1"); }

    // Writes what a pass wants, as the node writer does.
    void write_node(const TunnelPass& pass) {
        for (const auto& [name, value] : pass.annotations) {
            annotate(name, value);
        }
    }

    void annotate(const std::string& name, const std::string& value) {
        world.edit(api::Kind::Node, "node1", [&](auto&, auto& metadata) {
            if (value.empty()) {
                metadata["annotations"].erase(name);
            } else {
                metadata["annotations"][name] = value;
            }
        });
    }

    std::string annotation(const std::string& name) {
        const auto& object = world.memory->entries.at({api::Kind::Node, "", "node1"}).object;
        nlohmann::json::json_pointer at("/metadata/annotations");
        return object.contains(at) ? object.at(at).value(name, "") : "";
    }

    // Passes of a fresh process until nothing is to be written; then one more.
    void settle(bool host_encryption = false) {
        auto process = world.process("node1");
        Tunnels tunnels(process->store, process->allocator, "node1");
        for (int i = 0; i < 4; i++) {
            process->allocator.invalidate();
            auto pass = tunnels.pass(host_encryption);
            ASSERT_TRUE(pass) << pass.error().text();
            EXPECT_TRUE(pass->errors.empty()) << pass->errors.front().text();
            write_node(*pass);
            world.check();
        }
    }

    TunnelPass pass() {
        auto process = world.process("node1");
        auto done = Tunnels(process->store, process->allocator, "node1").pass(false);
        EXPECT_TRUE(done) << done.error().text();
        return done ? *done : TunnelPass{};
    }

    // Handle, type and node of an allocation; empty: not allocated.
    std::tuple<std::string, std::string, std::string> owner_of(const std::string& address) {
        for (const auto& stored : world.blocks()) {
            if (auto found = stored.value.find(ip(address))) {
                auto attrs = found->attribute->secondary;
                return {found->attribute->handle_id.value_or(""), attrs["type"], attrs["node"]};
            }
        }
        return {};
    }

    size_t allocated() {
        size_t sum = 0;
        for (const auto& stored : world.blocks()) {
            sum += stored.value.allocations().size();
        }
        return sum;
    }

    World world;
};

TEST_F(IpamTunnels, EveryKindGetsCalicosHandleAndAttributes) {
    world.add_pool("four", "10.0.0.0/24", 26,
                   {{"vxlanMode", "CrossSubnet"}, {"ipipMode", "Never"}});
    world.add_pool("ipip", "10.1.0.0/24", 26, {{"ipipMode", "Always"}});
    world.add_pool("six", "fd00::/112", 122, kVxlan);
    annotate(api::kNodeWireguardKey4, "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=");
    annotate(api::kNodeWireguardKey6, "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=");
    settle();
    using Owner = std::tuple<std::string, std::string, std::string>;
    EXPECT_EQ(owner_of(annotation("projectcalico.org/IPv4VXLANTunnelAddr")),
              Owner("vxlan-tunnel-addr-node1", "vxlanTunnelAddress", "node1"));
    EXPECT_EQ(owner_of(annotation("projectcalico.org/IPv6VXLANTunnelAddr")),
              Owner("vxlan-v6-tunnel-addr-node1", "vxlanV6TunnelAddress", "node1"));
    EXPECT_EQ(owner_of(annotation("projectcalico.org/IPv4IPIPTunnelAddr")),
              Owner("ipip-tunnel-addr-node1", "ipipTunnelAddress", "node1"));
    EXPECT_EQ(owner_of(annotation("projectcalico.org/IPv4WireguardInterfaceAddr")),
              Owner("wireguard-tunnel-addr-node1", "wireguardTunnelAddress", "node1"));
    EXPECT_EQ(owner_of(annotation("projectcalico.org/IPv6WireguardInterfaceAddr")),
              Owner("wireguard-v6-tunnel-addr-node1", "wireguardV6TunnelAddress", "node1"));
    EXPECT_TRUE(cidr("10.0.0.0/24").contains(ip(annotation(api::kNodeVxlanTunnel4))));
    EXPECT_TRUE(cidr("10.1.0.0/24").contains(ip(annotation(api::kNodeIpipTunnel4))));
    EXPECT_EQ(allocated(), 5U);
    EXPECT_EQ(world.collect().leaks_released, 0U) << "a tunnel's address is no leak";
    EXPECT_EQ(allocated(), 5U);
    world.remove(api::Kind::Node, "", "node1");
    EXPECT_EQ(world.collect().leaks_released, 5U) << "a node that is gone has none";
}

TEST_F(IpamTunnels, WithoutEncapsulationThereIsNone) {
    world.add_pool("four", "10.0.0.0/24", 26);
    world.add_pool("six", "fd00::/112", 122);
    EXPECT_TRUE(pass().annotations.empty());
    EXPECT_TRUE(world.blocks().empty());
}

TEST_F(IpamTunnels, HostEncryptionNeedsNoWireguardAddress) {
    world.add_pool("four", "10.0.0.0/24", 26);
    annotate(api::kNodeWireguardKey4, "key");
    settle();
    ASSERT_NE(annotation(api::kNodeWireguard4), "");
    settle(true);
    EXPECT_EQ(annotation(api::kNodeWireguard4), "");
    EXPECT_EQ(allocated(), 0U);
}

TEST_F(IpamTunnels, WhatCalicoAllocatedIsKept) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    auto calico = world.process("node1");
    // Not the one that would be handed out next.
    ASSERT_TRUE(calico->allocator.assign_ip({ip("10.0.0.77"),
                                             "vxlan-tunnel-addr-node1",
                                             {{"node", "node1"}, {"type", "vxlanTunnelAddress"}},
                                             api::PoolUse::Tunnel}));
    annotate(api::kNodeVxlanTunnel4, "10.0.0.77");
    const auto writes = world.memory->writes();
    EXPECT_TRUE(pass().annotations.empty());
    EXPECT_EQ(world.memory->writes(), writes) << "what is as it should be is not written";
}

TEST_F(IpamTunnels, OldAddressesWithoutOwnerAreKeptAndGetOne) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    auto calico = world.process("node1");
    ASSERT_TRUE(calico->allocator.assign_ip({ip("10.0.0.77"), "", {}, api::PoolUse::Tunnel}));
    annotate(api::kNodeVxlanTunnel4, "10.0.0.77");
    settle();
    EXPECT_EQ(annotation(api::kNodeVxlanTunnel4), "10.0.0.77");
    EXPECT_EQ(std::get<0>(owner_of("10.0.0.77")), "vxlan-tunnel-addr-node1");
    world.add_pool("four", "10.0.0.0/24", 26);
    settle();
    EXPECT_EQ(allocated(), 0U);
}

TEST_F(IpamTunnels, AnAddressThatIsNotAllocatedIsAllocated) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    annotate(api::kNodeVxlanTunnel4, "10.0.0.77");
    settle();
    EXPECT_EQ(annotation(api::kNodeVxlanTunnel4), "10.0.0.77");
    EXPECT_EQ(std::get<0>(owner_of("10.0.0.77")), "vxlan-tunnel-addr-node1");
}

TEST_F(IpamTunnels, SomebodyElsesAddressIsLeftToThem) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    auto process = world.process("node1");
    auto pod = world.request("a", "node1");
    auto got = process->allocator.auto_assign(pod);
    ASSERT_TRUE(got);
    world.remember(pod.handle, *got); // world.check(): the pod still has it
    annotate(api::kNodeVxlanTunnel4, got->v4[0].address.text());
    settle();
    EXPECT_NE(annotation(api::kNodeVxlanTunnel4), got->v4[0].address.text());
    EXPECT_EQ(std::get<0>(owner_of(annotation(api::kNodeVxlanTunnel4))), "vxlan-tunnel-addr-node1");
    EXPECT_EQ(allocated(), 2U);
}

TEST_F(IpamTunnels, AnotherNodesTunnelIsSomebodyElse) {
    world.add_node("node2");
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    auto other = world.process("node2");
    auto theirs = Tunnels(other->store, other->allocator, "node2").pass(false);
    ASSERT_TRUE(theirs);
    const auto address = theirs->annotations.at(api::kNodeVxlanTunnel4);
    annotate(api::kNodeVxlanTunnel4, address);
    settle();
    EXPECT_NE(annotation(api::kNodeVxlanTunnel4), address);
    EXPECT_EQ(std::get<2>(owner_of(address)), "node2");
}

TEST_F(IpamTunnels, APoolForOtherUsesOrNodesGivesNone) {
    world.add_pool("pods", "10.0.0.0/24", 26,
                   {{"vxlanMode", "Always"}, {"allowedUses", {"Workload"}}});
    world.add_pool("others", "10.1.0.0/24", 26,
                   {{"vxlanMode", "Always"}, {"nodeSelector", "rack == 'b'"}});
    EXPECT_TRUE(pass().annotations.empty());
    world.add_pool(
        "tunnels", "10.2.0.0/24", 26,
        {{"vxlanMode", "Always"}, {"allowedUses", {"Tunnel"}}, {"assignmentMode", "Manual"}});
    settle();
    EXPECT_TRUE(cidr("10.2.0.0/24").contains(ip(annotation(api::kNodeVxlanTunnel4))));
}

TEST_F(IpamTunnels, ADisabledPoolIsLeftOnceTheNodeNamesAnother) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    settle();
    const auto before = annotation(api::kNodeVxlanTunnel4);
    world.add_pool("four", "10.0.0.0/24", 26, {{"vxlanMode", "Always"}, {"disabled", true}});
    world.add_pool("next", "10.1.0.0/24", 26, kVxlan);
    auto first = pass();
    const auto after = first.annotations.at(api::kNodeVxlanTunnel4);
    EXPECT_TRUE(cidr("10.1.0.0/24").contains(ip(after)));
    EXPECT_EQ(std::get<0>(owner_of(before)), "vxlan-tunnel-addr-node1")
        << "other nodes still send there";
    EXPECT_EQ(pass().annotations, first.annotations) << "the write may be late";
    settle();
    EXPECT_EQ(annotation(api::kNodeVxlanTunnel4), after);
    EXPECT_EQ(std::get<0>(owner_of(before)), "");
    EXPECT_EQ(allocated(), 1U);
}

TEST_F(IpamTunnels, WithoutPoolTheNodeIsClearedThenTheAddressReleased) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    world.add_pool("six", "fd00::/112", 122, kVxlan);
    settle();
    EXPECT_EQ(allocated(), 2U);
    world.remove(api::Kind::IpPool, "", "four");
    world.remove(api::Kind::IpPool, "", "six");
    auto first = pass();
    EXPECT_EQ(first.annotations.at(api::kNodeVxlanTunnel4), "");
    EXPECT_EQ(first.annotations.at(api::kNodeVxlanTunnel6), "");
    EXPECT_EQ(allocated(), 2U);
    settle();
    EXPECT_EQ(annotation(api::kNodeVxlanTunnel4), "");
    EXPECT_EQ(allocated(), 0U);
}

TEST_F(IpamTunnels, NonsenseInTheNodeIsReplacedOrCleared) {
    annotate(api::kNodeVxlanTunnel4, "nonsense");
    annotate(api::kNodeVxlanTunnel6, "10.0.0.1");
    EXPECT_EQ(pass().annotations.at(api::kNodeVxlanTunnel4), "");
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    world.add_pool("six", "fd00::/112", 122, kVxlan);
    settle();
    EXPECT_TRUE(cidr("10.0.0.0/24").contains(ip(annotation(api::kNodeVxlanTunnel4))));
    EXPECT_TRUE(cidr("fd00::/112").contains(ip(annotation(api::kNodeVxlanTunnel6))));
}

TEST_F(IpamTunnels, APoolThatCannotBeReadTakesNothingAway) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    settle();
    for (const nlohmann::json& spec :
         {nlohmann::json{{"cidr", 7}}, nlohmann::json{{"cidr", "10.0.0.0/24"},
                                                      {"vxlanMode", "Always"},
                                                      {"nodeSelector", "a =="}}}) {
        world.put(api::Kind::IpPool, "", "four", {{"spec", spec}});
        EXPECT_TRUE(pass().annotations.empty());
        EXPECT_EQ(allocated(), 1U);
    }
}

TEST_F(IpamTunnels, ABlockThatCannotBeReadTakesNothingAway) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    settle();
    const auto name = std::ranges::find_if(world.memory->entries, [](const auto& entry) {
                          return entry.first.kind == api::Kind::IpamBlock;
                      })->first.name;
    world.edit(api::Kind::IpamBlock, name, [](auto& spec, auto&) { spec["allocations"] = "x"; });
    auto done = pass();
    EXPECT_TRUE(done.annotations.empty());
    ASSERT_EQ(done.errors.size(), 1U);
    EXPECT_NE(done.errors[0].text().find("vxlanTunnelAddress"), std::string::npos);
}

TEST_F(IpamTunnels, OneFullPoolDoesNotStopTheOtherKinds) {
    world.add_pool("full", "10.0.0.0/30", 30, kVxlan);
    world.add_pool("six", "fd00::/112", 122, kVxlan);
    auto process = world.process("node1");
    ASSERT_TRUE(process->allocator.auto_assign(world.request("a", "node1", 4)));
    auto done = pass();
    ASSERT_EQ(done.errors.size(), 1U);
    EXPECT_EQ(done.errors[0].kind, ErrorKind::Exhausted);
    EXPECT_TRUE(done.annotations.contains(api::kNodeVxlanTunnel6));
}

TEST_F(IpamTunnels, WithoutNodeNothingHappens) {
    world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
    world.remove(api::Kind::Node, "", "node1");
    EXPECT_TRUE(pass().annotations.empty());
    EXPECT_TRUE(world.blocks().empty());
}

// A process dies at the n-th call, before or after it; or after its pass, before the node is
// written. Another takes over. In the end there is one address of each kind, and no other.
class IpamTunnelsCrash : public IpamTunnels, public testing::WithParamInterface<bool> {};

TEST_P(IpamTunnelsCrash, AtEveryCallTheNextPassMakesUpForIt) {
    const bool after_the_call = GetParam();
    auto move = [](World& w) {
        w.add_pool("four", "10.0.0.0/24", 26, {{"vxlanMode", "Always"}, {"disabled", true}});
        w.add_pool("next", "10.1.0.0/24", 26, kVxlan);
        w.add_pool("six", "fd00::/112", 122);
    };
    uint64_t calls = 0;
    bool died = true;
    for (uint64_t at = 0; died; at++) {
        died = false;
        world.memory->entries.clear();
        world.collector = {};
        world.add_node("node1");
        auto dying_pass = [&] {
            auto process = world.process("node1");
            process->store.before = [&](Call, const datastore::Key&) -> std::optional<Error> {
                if (!after_the_call && calls == at) {
                    throw Died{};
                }
                return std::nullopt;
            };
            process->store.after = [&](Call, const datastore::Key&) -> std::optional<Error> {
                if (calls++ == at && after_the_call) {
                    throw Died{};
                }
                return std::nullopt;
            };
            try {
                auto done = Tunnels(process->store, process->allocator, "node1").pass(false);
                ASSERT_TRUE(done) << done.error().text();
                write_node(*done);
            } catch (const Died&) {
                died = true;
                calls = UINT64_MAX / 2; // one death is enough
            }
            world.check();
        };
        calls = 0;
        world.add_pool("four", "10.0.0.0/24", 26, kVxlan);
        world.add_pool("six", "fd00::/112", 122, kVxlan);
        dying_pass();
        dying_pass();
        move(world);
        dying_pass();
        dying_pass();
        settle();
        EXPECT_TRUE(cidr("10.1.0.0/24").contains(ip(annotation(api::kNodeVxlanTunnel4))))
            << "died at " << at;
        EXPECT_EQ(annotation(api::kNodeVxlanTunnel6), "") << "died at " << at;
        EXPECT_EQ(allocated(), 1U) << "died at " << at;
        (void)world.collect();
        auto snapshot = take_snapshot(world.store);
        ASSERT_TRUE(snapshot);
        EXPECT_TRUE(survey(*snapshot).handles.empty()) << "died at " << at;
        ASSERT_LT(at, 1000U);
        calls = at; // for the record below
    }
    EXPECT_GT(calls, 30U) << "every call of every step";
}

INSTANTIATE_TEST_SUITE_P(Calls, IpamTunnelsCrash, testing::Bool(),
                         [](const auto& one) { return one.param ? "After" : "Before"; });

} // namespace
} // namespace manx::ipam::test
