// SPDX-License-Identifier: Apache-2.0
// The rules of blocks, pools and block order, against what Calico's published algorithm gives.
#include "agent/ipam/block.h"
#include "agent/ipam/go_random.h"
#include "agent/ipam/pools.h"
#include "agent/ipam/time.h"
#include "agent/ipam/walk.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <chrono>

namespace manx::ipam {
namespace {

using namespace std::chrono_literals;

Cidr cidr(const char* text) {
    return *Cidr::parse(text);
}

IpAddress ip(const char* text) {
    return *IpAddress::parse(text);
}

Time at(const char* text) {
    return *parse_rfc3339(text);
}

std::vector<std::string> texts(const std::vector<IpAddress>& addresses) {
    std::vector<std::string> out;
    for (const auto& address : addresses) {
        out.push_back(address.text());
    }
    return out;
}

using Texts = std::vector<std::string>;

const Time kNow = at("2026-08-22T10:00:00Z");

TEST(IpamTime, Texts) {
    EXPECT_EQ(rfc3339(kNow + 999ms), "2026-08-22T10:00:00Z");
    EXPECT_EQ(go_time(kNow), "2026-08-22 10:00:00 +0000 UTC");
    EXPECT_EQ(go_time(kNow + 123ms), "2026-08-22 10:00:00.123 +0000 UTC");
    EXPECT_EQ(go_time(kNow + 1us), "2026-08-22 10:00:00.000001 +0000 UTC");
    EXPECT_EQ(*parse_go_time("2026-08-22 10:00:00.123 +0000 UTC"), kNow + 123ms);
    EXPECT_EQ(*parse_go_time("2026-08-22 10:00:00.5 +0000 UTC m=+0.1"), kNow + 500ms);
    EXPECT_EQ(*parse_rfc3339("2026-08-22T12:30:00.25+02:30"), kNow + 250ms);
    for (const char* bad : {"", "2026-08-22", "2026-13-01T00:00:00Z", "2026-08-22T10:00:00",
                            "2026-08-22T10:00:00+2", "x026-08-22T10:00:00Z"}) {
        EXPECT_FALSE(parse_rfc3339(bad)) << bad;
    }
}

TEST(IpamBlock, IsCreatedAsCalicoDoes) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow + 123456789ns);
    const auto& data = block.data();
    EXPECT_EQ(data.affinity, "host:node1");
    EXPECT_EQ(data.affinity_claim_time, "2026-08-22T10:00:00Z");
    EXPECT_EQ(data.sequence_number, 1787392800123456789U);
    EXPECT_EQ(data.allocations.size(), 8U);
    EXPECT_EQ(data.unallocated, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
    EXPECT_TRUE(block.empty());
    EXPECT_EQ(Block::create(cidr("fd00::/122"), "", kNow).data().allocations.size(), 64U);
}

TEST(IpamBlock, AddressesComeFromTheHeadAndGoBackToTheTail) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow);
    Owner a{"h.a", {{"pod", "a"}}};
    Owner b{"h.b", {{"pod", "b"}}};
    EXPECT_EQ(texts(block.allocate(2, a, {})), (Texts{"10.65.0.0", "10.65.0.1"}));
    EXPECT_EQ(texts(block.allocate(1, b, {})), (Texts{"10.65.0.2"}));
    auto outcome = block.release_handle("h.a", kNow, 0s);
    EXPECT_EQ(texts(outcome.released), (Texts{"10.65.0.0", "10.65.0.1"}));
    EXPECT_EQ(outcome.handles, (std::map<std::string, unsigned>{{"h.a", 2}}));
    EXPECT_EQ(block.data().unallocated, (std::vector<int>{3, 4, 5, 6, 7, 0, 1}));
    EXPECT_EQ(texts(block.allocate(6, a, {})), (Texts{"10.65.0.3", "10.65.0.4", "10.65.0.5",
                                                      "10.65.0.6", "10.65.0.7", "10.65.0.0"}));
}

TEST(IpamBlock, EqualAttributesAreSharedAndUnusedOnesDropped) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow);
    Owner a{"h.a", {{"pod", "a"}}};
    Owner b{"h.b", {{"pod", "b"}}};
    block.allocate(1, a, {});
    block.allocate(1, b, {});
    block.allocate(1, a, {});
    auto allocations = [&] {
        return std::vector<int>{block.data().allocations[0].value_or(-1),
                                block.data().allocations[1].value_or(-1),
                                block.data().allocations[2].value_or(-1)};
    };
    EXPECT_EQ(block.data().attributes.size(), 2U);
    EXPECT_EQ(allocations(), (std::vector<int>{0, 1, 0}));
    block.release_handle("h.a", kNow, 0s);
    EXPECT_EQ(block.data().attributes.size(), 1U);
    EXPECT_EQ(block.data().attributes[0].handle_id, "h.b");
    EXPECT_EQ(allocations(), (std::vector<int>{-1, 0, -1}));
}

TEST(IpamBlock, SequenceNumbersAreThoseBeforeTheWrite) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow);
    uint64_t first = block.data().sequence_number;
    block.allocate(1, {"h.a", {}}, {});
    block.begin_write();
    EXPECT_EQ(block.data().sequence_number, first + 1);
    EXPECT_EQ(block.data().sequence_number_for_allocation, (std::map<int, uint64_t>{{0, first}}));
    block.allocate(1, {"h.b", {}}, {});
    block.begin_write();
    EXPECT_EQ(block.data().sequence_number_for_allocation.at(1), first + 1);

    Release stale{ip("10.65.0.1"), "h.b", first};
    EXPECT_EQ(block.release({&stale, 1}, kNow, 0s).error().kind, ErrorKind::ConfigReality);
    Release other{ip("10.65.0.1"), "h.a", std::nullopt};
    EXPECT_EQ(block.release({&other, 1}, kNow, 0s).error().kind, ErrorKind::ConfigReality);
    Release right{ip("10.65.0.1"), "h.b", first + 1};
    EXPECT_EQ(block.release({&right, 1}, kNow, 0s)->released.size(), 1U);
    EXPECT_FALSE(block.data().sequence_number_for_allocation.contains(1));
    auto again = block.release({&right, 1}, kNow, 0s);
    ASSERT_TRUE(again);
    EXPECT_EQ(texts(again->unallocated), (Texts{"10.65.0.1"}));
}

TEST(IpamBlock, ReleasedAddressesCoolDown) {
    Block block = Block::create(cidr("10.65.0.0/30"), "host:node1", kNow);
    block.allocate(3, {"h.a", {}}, {});
    std::vector<Release> two{{ip("10.65.0.2"), {}, {}}, {ip("10.65.0.0"), {}, {}}};
    ASSERT_TRUE(block.release(two, kNow, 60s));
    // One attribute for both, without handle; not free, not in use.
    ASSERT_EQ(block.data().attributes.size(), 2U);
    EXPECT_EQ(block.data().attributes[1].released_at, "2026-08-22T10:00:00Z");
    EXPECT_FALSE(block.data().attributes[1].handle_id);
    EXPECT_EQ(block.free_count({}), 1U);
    EXPECT_TRUE(block.cooling());
    EXPECT_FALSE(block.find(ip("10.65.0.0")));
    EXPECT_EQ(block.assign(ip("10.65.0.0"), {"h.b", {}}).error().kind, ErrorKind::AlreadyExists);
    EXPECT_EQ(block.release(two, kNow, 60s)->unallocated.size(), 2U);
    block.release_handle("h.a", kNow, 60s);
    EXPECT_FALSE(block.empty());
    EXPECT_EQ(block.collect(kNow + 59s, 60s), 0U);
    EXPECT_EQ(block.collect(kNow + 60s, 60s), 3U);
    EXPECT_EQ(block.data().unallocated, (std::vector<int>{3, 0, 1, 2}));
    EXPECT_TRUE(block.data().attributes.empty());
    EXPECT_TRUE(block.data().sequence_number_for_allocation.empty());
    EXPECT_TRUE(block.empty());
}

TEST(IpamBlock, CoolingAddressesKeepTheirNumberWhenReleasedByHandle) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow);
    uint64_t first = block.data().sequence_number;
    block.allocate(1, {"h.a", {}}, {});
    block.begin_write();
    block.allocate(1, {"h.b", {}}, {});
    block.begin_write();
    block.release_handle("h.a", kNow, 60s);
    EXPECT_EQ(block.data().sequence_number_for_allocation.at(0), first);
    Release one{ip("10.65.0.1"), {}, {}};
    ASSERT_TRUE(block.release({&one, 1}, kNow, 60s));
    EXPECT_EQ(block.data().sequence_number_for_allocation.at(1), first + 2);
    // Nobody refers to the owners any more: they are dropped at once.
    ASSERT_EQ(block.data().attributes.size(), 2U);
    EXPECT_FALSE(block.data().attributes[0].handle_id || block.data().attributes[1].handle_id);
    EXPECT_TRUE(block.cooling(ip("10.65.0.1")));
    EXPECT_FALSE(block.cooling(ip("10.65.0.2")));
}

TEST(IpamBlock, WhatHasCooledDownIsUsedAgainBeforeWhatIsReleasedNow) {
    Block block = Block::create(cidr("10.65.0.0/30"), "host:node1", kNow);
    block.allocate(4, {"h.a", {}}, {});
    Release last{ip("10.65.0.3"), {}, {}};
    Release first{ip("10.65.0.0"), {}, {}};
    ASSERT_TRUE(block.release({&last, 1}, kNow, 60s));
    ASSERT_TRUE(block.release({&first, 1}, kNow + 61s, 0s));
    EXPECT_EQ(block.data().unallocated, (std::vector<int>{3, 0}));
}

TEST(IpamBlock, ReservedAddressesStayInLine) {
    Block block = Block::create(cidr("10.65.0.0/29"), "host:node1", kNow);
    std::vector<Cidr> reserved{cidr("10.65.0.0/31"), cidr("10.65.0.3/32")};
    EXPECT_EQ(block.free_count(reserved), 5U);
    EXPECT_EQ(texts(block.allocate(2, {"h", {}}, reserved)), (Texts{"10.65.0.2", "10.65.0.4"}));
    EXPECT_EQ(block.data().unallocated, (std::vector<int>{0, 1, 3, 5, 6, 7}));
    EXPECT_TRUE(block.assign(ip("10.65.0.0"), {"h", {}})); // on demand: not forbidden
}

TEST(IpamBlock, OldHandlesAreComparedWithoutTheirTail) {
    Block block = Block::create(cidr("10.65.0.0/30"), "host:node1", kNow);
    block.allocate(1, {"net.abc\r\neth0", {}}, {});
    EXPECT_EQ(texts(block.addresses_of("net.abc")), (Texts{"10.65.0.0"}));
    EXPECT_EQ(block.release_handle("net.abc", kNow, 0s).released.size(), 1U);
}

TEST(IpamBlock, WindowsReserveDoesNotCount) {
    Block block = Block::create(cidr("10.65.0.0/30"), "host:node1", kNow);
    block.assign(ip("10.65.0.0"), {std::string(kWindowsHandle), {{"note", "windows host rsvd"}}});
    EXPECT_TRUE(block.empty());
}

TEST(IpamBlock, StoredFormIsCalicos) {
    Block block = Block::create(cidr("10.65.0.0/30"), "host:node1", kNow);
    block.allocate(
        1, {"k8s-pod-network.ab", {{"namespace", "default"}, {"node", "node1"}, {"pod", "web-0"}}},
        {});
    block.begin_write();
    auto json = block.data().to_json();
    ASSERT_TRUE(json);
    EXPECT_EQ((*json)["metadata"]["name"], "10-65-0-0-30");
    auto want = nlohmann::json::parse(R"({
        "cidr": "10.65.0.0/30", "affinity": "host:node1",
        "affinityClaimTime": "2026-08-22T10:00:00Z",
        "allocations": [0, null, null, null], "unallocated": [1, 2, 3],
        "attributes": [{"handle_id": "k8s-pod-network.ab",
            "secondary": {"namespace": "default", "node": "node1", "pod": "web-0"}}],
        "sequenceNumber": 1787392800000000001,
        "sequenceNumberForAllocation": {"0": 1787392800000000000},
        "strictAffinity": false, "deleted": false})");
    EXPECT_EQ((*json)["spec"], want);
}

// Numbers that Go 1.26 printed for rand.New(rand.NewSource(seed)) and big.Int.Rand.
TEST(IpamWalk, RandomNumbersAreThoseOfGo) {
    GoRandom one(1);
    EXPECT_EQ(one.uint64(), 5577006791947779410U);
    EXPECT_EQ(one.uint64(), 8674665223082153551U);
    EXPECT_EQ(one.uint64(), 15352856648520921629U);
    EXPECT_EQ(fnv1_32("node1"), 3957252814U);
    GoRandom node1(fnv1_32("node1"));
    EXPECT_EQ(static_cast<uint64_t>(node1.below(1024)), 666U);
    EXPECT_EQ(static_cast<uint64_t>(node1.below(1000)), 596U);
    uint128 big = node1.below(uint128{1} << 74);
    EXPECT_EQ(static_cast<uint64_t>(big >> 64), 0x37eU);
    EXPECT_EQ(static_cast<uint64_t>(big), 0x6c3ea0cd2955edddU);
}

TEST(IpamWalk, VisitsEveryBlockOnceFromTheNodesStart) {
    BlockWalk walk(cidr("10.65.0.0/16"), 26, "node1", 0);
    std::set<Cidr> seen;
    auto first = walk.next({});
    ASSERT_TRUE(first);
    EXPECT_EQ(first->text(), "10.65.166.128/26"); // number 666 of 1024
    seen.insert(*first);
    std::optional<Cidr> previous = first;
    while (auto next = walk.next({})) {
        EXPECT_TRUE(seen.insert(*next).second);
        EXPECT_EQ(walk.distance(*next), walk.distance(*previous) + 1);
        previous = next;
    }
    EXPECT_EQ(seen.size(), 1024U);
    EXPECT_EQ(previous->text(), "10.65.166.64/26");
}

TEST(IpamWalk, WidePoolsAndReservationsCostNothing) {
    BlockWalk walk(cidr("fd00::/16"), 122, "node1", 0);
    EXPECT_TRUE(walk.next({}));
    std::vector<Cidr> all{cidr("fd00::/8")};
    BlockWalk none(cidr("fd00::/16"), 122, "node1", 0);
    EXPECT_FALSE(none.next(all));
    std::vector<Cidr> halves{cidr("fd00::/17"), cidr("fd00:8000::/18"), cidr("fd00:c000::/19")};
    BlockWalk rest(cidr("fd00::/16"), 122, "node1", 0);
    auto found = rest.next(halves);
    ASSERT_TRUE(found);
    EXPECT_TRUE(cidr("fd00:e000::/19").contains(*found));
    EXPECT_TRUE(fully_reserved(cidr("10.0.0.0/30"),
                               std::vector<Cidr>{cidr("10.0.0.2/31"), cidr("10.0.0.0/31")}));
    EXPECT_FALSE(fully_reserved(cidr("10.0.0.0/30"),
                                std::vector<Cidr>{cidr("10.0.0.3/32"), cidr("10.0.0.0/31")}));
    // Blocks of one address start anywhere, but visit all.
    BlockWalk single(cidr("10.0.0.0/30"), 32, "node1", 12345);
    int count = 0;
    while (single.next({})) {
        count++;
    }
    EXPECT_EQ(count, 4);
}

api::IpPool pool(const char* name, const char* text) {
    api::IpPool p;
    p.meta.name = name;
    p.cidr = cidr(text);
    p.block_size = api::default_block_size(p.cidr.family());
    return p;
}

TEST(IpamPools, AreChosenAsCalicoDoes) {
    std::vector<api::IpPool> pools{pool("a", "10.1.0.0/16"), pool("b", "10.2.0.0/16"),
                                   pool("c", "10.3.0.0/16"), pool("d", "10.4.0.0/16"),
                                   pool("e", "fd00::/64")};
    pools[1].node_selector = "zone == 'east'";
    pools[2].disabled = true;
    pools[3].assignment_mode = api::AssignmentMode::Manual;
    api::StringMap west{{"zone", "west"}};
    api::StringMap east{{"zone", "east"}};
    PoolQuery query;
    query.node = "node1";
    query.node_labels = &west;
    auto names = [&](const PoolQuery& q) {
        Texts out;
        auto chosen = select_pools(pools, q);
        if (!chosen) {
            return Texts{chosen.error().message};
        }
        for (const auto* p : *chosen) {
            out.push_back(p->meta.name);
        }
        return out;
    };
    EXPECT_EQ(names(query), (Texts{"a"}));
    query.node_labels = &east;
    EXPECT_EQ(names(query), (Texts{"a", "b"}));
    query.family = Family::V6;
    EXPECT_EQ(names(query), (Texts{"e"}));
    query.family = Family::V4;

    // Named ones: selectors and mode do not count, being disabled does.
    query.node_labels = &west;
    Texts named{"10.4.0.0/16", "b"};
    query.named = named;
    EXPECT_EQ(names(query), (Texts{"d", "b"}));
    Texts disabled{"c"};
    query.named = disabled;
    EXPECT_EQ(names(query), (Texts{"the given pool (c) does not exist, or is not enabled"}));
    query.named = {};

    pools[0].namespace_selector = "team == 'x'";
    EXPECT_EQ(names(query), (Texts{"no configured Calico pools for node node1"}));
    api::StringMap team{{"team", "x"}};
    query.namespace_labels = &team;
    EXPECT_EQ(names(query), (Texts{"a"}));
    query.use = api::PoolUse::LoadBalancer;
    EXPECT_EQ(names(query), (Texts{"no pools match the required use on node node1"}));
    pools[0].node_selector = "broken ==";
    query.use = api::PoolUse::Workload;
    EXPECT_EQ(names(query), (Texts{"no configured Calico pools for node node1"}));
}

} // namespace
} // namespace manx::ipam
