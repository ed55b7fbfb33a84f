// SPDX-License-Identifier: Apache-2.0
// What the allocator does on one store, with several nodes, in the order that Calico's published
// algorithm gives; and what it costs in calls of the store.
#include "agent/api/names.h"
#include "agent/ipam/walk.h"
#include "tests/unit/ipam_world.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace manx::ipam::test {
namespace {

class IpamAllocator : public testing::Test {
protected:
    void SetUp() override {
        world.add_node("node1", {{"zone", "east"}});
        world.add_node("node2", {{"zone", "west"}});
        world.add_pool("pool", "10.65.0.0/16", 26);
    }

    void TearDown() override { world.check(); }

    Assigned assign(Process& process, const Request& request) {
        auto result = process.allocator.auto_assign(request);
        EXPECT_TRUE(result) << result.error().text();
        if (!result) {
            return {};
        }
        world.remember(request.handle, *result);
        return *result;
    }

    void release(Process& process, const Request& request) {
        auto done = process.allocator.release_by_handle(request.handle);
        EXPECT_TRUE(done) << done.error().text();
        world.held.erase(request.handle);
    }

    World world;
};

TEST_F(IpamAllocator, FirstPodsOfANode) {
    auto node1 = world.process("node1");
    auto first = assign(*node1, world.request("a", "node1"));
    ASSERT_EQ(first.v4.size(), 1U);
    // Block 666 of 1024, as Calico chooses for a node of this name.
    EXPECT_EQ(first.v4[0].address.text(), "10.65.166.128");
    EXPECT_EQ(first.v4[0].block.text(), "10.65.166.128/26");
    EXPECT_EQ(assign(*node1, world.request("b", "node1")).v4[0].address.text(), "10.65.166.129");

    auto affinity =
        world.memory->entries.at({api::Kind::BlockAffinity, "", "node1-10-65-166-128-26"});
    EXPECT_EQ(affinity.object["spec"],
              nlohmann::json::parse(R"({"cidr": "10.65.166.128/26", "node": "node1",
                  "type": "host", "state": "confirmed", "deleted": "false"})"));
    EXPECT_EQ(affinity.object["metadata"]["labels"]["projectcalico.org/hostname-hash"],
              "7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A");
    auto handle = world.memory->entries.at({api::Kind::IpamHandle, "", "k8s-pod-network.c-a"});
    EXPECT_EQ(handle.object["spec"], nlohmann::json::parse(R"({"handleID": "k8s-pod-network.c-a",
                  "block": {"10.65.166.128/26": 1}, "deleted": false})"));
    auto block = world.memory->entries.at({api::Kind::IpamBlock, "", "10-65-166-128-26"});
    EXPECT_EQ(block.object["spec"]["affinity"], "host:node1");
    EXPECT_EQ(block.object["spec"]["attributes"][1]["secondary"]["timestamp"],
              "2026-08-22 00:00:00 +0000 UTC");
    uint64_t born = static_cast<uint64_t>(world.now.time_since_epoch().count());
    EXPECT_EQ(block.object["spec"]["sequenceNumber"], born + 2);
    EXPECT_EQ(block.object["spec"]["sequenceNumberForAllocation"],
              (nlohmann::json{{"0", born}, {"1", born + 1}}));

    release(*node1, world.request("a", "node1"));
    EXPECT_EQ(world.memory->entries.count({api::Kind::IpamHandle, "", "k8s-pod-network.c-a"}), 0U);
    EXPECT_EQ(node1->allocator.release_by_handle("k8s-pod-network.c-a").error().kind,
              ErrorKind::NotFound);
    // FIFO: the freed address waits until the others have had their turn.
    EXPECT_EQ(assign(*node1, world.request("c", "node1")).v4[0].address.text(), "10.65.166.130");
}

TEST_F(IpamAllocator, WarmPathListsNothing) {
    auto node1 = world.process("node1");
    assign(*node1, world.request("warm", "node1"));
    world.memory->calls.clear();
    assign(*node1, world.request("a", "node1"));
    EXPECT_EQ(world.memory->calls,
              (std::map<Call, uint64_t>{{Call::Create, 1}, {Call::Update, 1}}));

    // A burst: a handle for each pod, and one write of the block.
    std::vector<Request> burst;
    for (int i = 0; i < 50; i++) {
        burst.push_back(world.request("burst-" + std::to_string(i), "node1"));
    }
    world.memory->calls.clear();
    auto results = node1->allocator.auto_assign_many(burst);
    for (size_t i = 0; i < results.size(); i++) {
        ASSERT_TRUE(results[i]) << results[i].error().text();
        world.remember(burst[i].handle, *results[i]);
    }
    EXPECT_EQ(world.memory->calls,
              (std::map<Call, uint64_t>{{Call::Create, 50}, {Call::Update, 1}}));
    world.check();

    std::vector<std::string> handles;
    for (const auto& request : burst) {
        handles.push_back(request.handle);
        world.held.erase(request.handle);
    }
    world.memory->calls.clear();
    for (const auto& done : node1->allocator.release_by_handles(handles)) {
        EXPECT_TRUE(done);
    }
    EXPECT_EQ(world.memory->calls,
              (std::map<Call, uint64_t>{{Call::Get, 50}, {Call::Update, 1}, {Call::Remove, 50}}));
}

TEST_F(IpamAllocator, DualStackIsAllOrNothing) {
    world.add_pool("six", "fd00:10::/120", 122);
    auto node1 = world.process("node1");
    auto both = assign(*node1, world.request("a", "node1", 1, 1));
    ASSERT_EQ(both.v6.size(), 1U);
    EXPECT_EQ(both.v6[0].block.length(), 122U);
    EXPECT_EQ(node1->allocator.addresses_of(world.request("a", "node1").handle)->size(), 2U);
    world.configure({{"strictAffinity", true}});
    world.add_pool("six", "fd00:10::/120", 122, {{"disabled", true}});
    node1->allocator.invalidate();
    auto request = world.request("b", "node1", 1, 1);
    auto half = node1->allocator.auto_assign(request);
    ASSERT_FALSE(half);
    EXPECT_EQ(half.error().text(), "no configured Calico pools for node node1");
    EXPECT_TRUE(node1->allocator.addresses_of(request.handle)->empty());
    EXPECT_EQ(
        world.memory->entries.count({api::Kind::IpamHandle, "", api::handle_name(request.handle)}),
        0U);
}

TEST_F(IpamAllocator, SecondBlockWhenTheFirstIsFullAndTheLimit) {
    world.add_pool("pool", "10.65.0.0/16", 30);
    world.configure({{"strictAffinity", true}, {"maxBlocksPerHost", 2}});
    auto node1 = world.process("node1");
    std::set<Cidr> blocks;
    for (int i = 0; i < 8; i++) {
        blocks.insert(assign(*node1, world.request(std::to_string(i), "node1")).v4[0].block);
    }
    EXPECT_EQ(blocks.size(), 2U);
    auto ninth = world.request("nine", "node1");
    auto refused = node1->allocator.auto_assign(ninth);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Exhausted);
    EXPECT_EQ(refused.error().text(),
              "Assigned 0 out of 1 requested IPv4 addresses; cannot allocate new block due to per "
              "host block limit (2)");
    release(*node1, world.request("3", "node1"));
    assign(*node1, ninth);
}

TEST_F(IpamAllocator, NoBlocksAreClaimedWhenThatIsOff) {
    world.configure({{"strictAffinity", true}, {"autoAllocateBlocks", false}});
    auto node1 = world.process("node1");
    auto refused = node1->allocator.auto_assign(world.request("a", "node1"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::Exhausted);
    ASSERT_TRUE(node1->allocator.claim_block(cidr("10.65.1.0/26")));
    EXPECT_EQ(assign(*node1, world.request("a", "node1")).v4[0].address.text(), "10.65.1.0");
}

TEST_F(IpamAllocator, ExhaustionUnderStrictAffinity) {
    world.add_pool("pool", "10.65.0.0/29", 30);
    world.configure({{"strictAffinity", true}});
    auto node1 = world.process("node1");
    auto node2 = world.process("node2");
    for (int i = 0; i < 4; i++) {
        assign(*node1, world.request("a" + std::to_string(i), "node1"));
        assign(*node2, world.request("b" + std::to_string(i), "node2"));
    }
    uint64_t writes = world.memory->writes();
    auto request = world.request("more", "node1");
    auto refused = node1->allocator.auto_assign(request);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text(), "Assigned 0 out of 1 requested IPv4 addresses; No more free "
                                      "affine blocks and strict affinity enabled");
    EXPECT_EQ(world.memory->writes(), writes); // no partial state: nothing was written
    // It recovers when addresses come back; those of another node's block do not help.
    release(*node2, world.request("b0", "node2"));
    EXPECT_FALSE(node1->allocator.auto_assign(request));
    release(*node1, world.request("a2", "node1"));
    assign(*node1, request);
    for (int i = 1; i < 4; i++) {
        release(*node2, world.request("b" + std::to_string(i), "node2"));
    }
    // An empty block of the other is taken, but not within its first minute.
    EXPECT_FALSE(node1->allocator.auto_assign(world.request("steal", "node1")));
    world.now += 61s;
    EXPECT_EQ(assign(*node1, world.request("steal", "node1")).v4.size(), 1U);
    // The former owner notices, and keeps out.
    EXPECT_FALSE(node2->allocator.auto_assign(world.request("late", "node2")));
}

TEST_F(IpamAllocator, BorrowsWhenNoBlockIsLeft) {
    world.add_pool("pool", "10.65.0.0/29", 30);
    auto node1 = world.process("node1");
    auto node2 = world.process("node2");
    assign(*node2, world.request("theirs", "node2"));
    std::map<std::string, int> by_owner;
    for (int i = 0; i < 7; i++) {
        assign(*node1, world.request(std::to_string(i), "node1"));
    }
    for (const auto& block : world.blocks()) {
        by_owner[block.value.affinity()] += static_cast<int>(block.value.allocations().size());
    }
    EXPECT_EQ(by_owner, (std::map<std::string, int>{{"host:node1", 4}, {"host:node2", 4}}));
    auto refused = node1->allocator.auto_assign(world.request("8", "node1"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text(), "Assigned 0 out of 1 requested IPv4 addresses; no free "
                                      "address in pools: pool");
    // The owner's copy of its block is old by now; it notices.
    EXPECT_FALSE(node2->allocator.auto_assign(world.request("late", "node2")));
    release(*node2, world.request("theirs", "node2"));
    assign(*node2, world.request("late", "node2"));
}

TEST_F(IpamAllocator, AnswersAgainForAHandleThatIsFull) {
    auto node1 = world.process("node1");
    auto request = world.request("vm", "node1");
    auto first = assign(*node1, request);
    request.max_per_handle = 1;
    auto again = node1->allocator.auto_assign(request);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->v4, first.v4);
}

TEST_F(IpamAllocator, AssignsTheAddressAskedFor) {
    auto node1 = world.process("node1");
    auto node2 = world.process("node2");
    AssignRequest request{
        ip("10.65.7.9"), "net.fixed", {{"node", "node1"}}, api::PoolUse::Workload};
    auto done = node1->allocator.assign_ip(request);
    ASSERT_TRUE(done) << done.error().text();
    EXPECT_EQ(done->block.text(), "10.65.7.0/26");
    world.held["net.fixed"] = {request.address};
    EXPECT_TRUE(node1->allocator.assign_ip(request)); // the same again
    AssignRequest other{ip("10.65.7.9"), "net.other", {}, api::PoolUse::Workload};
    EXPECT_EQ(node2->allocator.assign_ip(other).error().kind, ErrorKind::AlreadyExists);
    EXPECT_EQ(world.memory->entries.count({api::Kind::IpamHandle, "", "net.other"}), 0U);
    other.address = ip("192.0.2.1");
    EXPECT_EQ(node2->allocator.assign_ip(other).error().kind, ErrorKind::ConfigReality);
    other.address = ip("10.65.7.10");
    world.configure({{"strictAffinity", true}});
    node2->allocator.invalidate();
    EXPECT_EQ(node2->allocator.assign_ip(other).error().kind, ErrorKind::ConfigReality);
    world.configure({{"strictAffinity", false}});
    node2->allocator.invalidate();
    EXPECT_TRUE(node2->allocator.assign_ip(other)); // borrowed
    Release by_address{ip("10.65.7.10"), std::nullopt, std::nullopt};
    auto released = node1->allocator.release_ips({&by_address, 1});
    ASSERT_TRUE(released);
    EXPECT_EQ(released->released.size(), 1U);
    EXPECT_EQ(world.memory->entries.count({api::Kind::IpamHandle, "", "net.other"}), 0U);
    EXPECT_EQ(node1->allocator.release_ips({&by_address, 1})->unallocated.size(), 1U);
}

TEST_F(IpamAllocator, BlocksFollowTheNodeSelector) {
    world.add_pool("pool", "10.65.0.0/16", 26, {{"nodeSelector", "zone == 'east'"}});
    world.add_pool("west", "10.66.0.0/16", 26, {{"nodeSelector", "zone == 'west'"}});
    auto node1 = world.process("node1");
    assign(*node1, world.request("a", "node1"));
    assign(*node1, world.request("b", "node1"));
    world.add_node("node1", {{"zone", "west"}});
    node1->allocator.note_node_changed();
    EXPECT_TRUE(
        cidr("10.66.0.0/16").contains(assign(*node1, world.request("c", "node1")).v4[0].address));
    EXPECT_EQ(world.blocks().size(), 2U); // the old one is in use
    release(*node1, world.request("a", "node1"));
    EXPECT_EQ(world.blocks().size(), 2U);
    release(*node1, world.request("b", "node1"));
    EXPECT_EQ(world.blocks().size(), 1U); // with its last address it went away
}

TEST_F(IpamAllocator, HonoursReservationsCooldownAndSoftDelete) {
    world.add_pool("pool", "10.65.0.0/30", 30);
    world.put(api::Kind::IpReservation, "", "r", {{"spec", {{"reservedCIDRs", {"10.65.0.0/31"}}}}});
    world.configure({{"ipCooldownSeconds", 60}});
    auto node1 = world.process("node1");
    EXPECT_EQ(assign(*node1, world.request("a", "node1")).v4[0].address.text(), "10.65.0.2");
    EXPECT_EQ(assign(*node1, world.request("b", "node1")).v4[0].address.text(), "10.65.0.3");
    release(*node1, world.request("a", "node1"));
    EXPECT_FALSE(node1->allocator.auto_assign(world.request("c", "node1")));
    world.now += 60s;
    EXPECT_EQ(assign(*node1, world.request("c", "node1")).v4[0].address.text(), "10.65.0.2");

    // An object that Calico has marked as deleted counts as gone, and goes.
    datastore::Key key{api::Kind::IpamHandle, "", "k8s-pod-network.c-b"};
    auto object = world.memory->entries.at(key).object;
    object["spec"]["deleted"] = true;
    ASSERT_TRUE(world.store.update(key, object));
    EXPECT_TRUE(
        node1->allocator.release_by_handle("k8s-pod-network.c-b")); // its address all the same
    EXPECT_EQ(world.memory->entries.count({api::Kind::IpamHandle, "", "k8s-pod-network.c-b"}), 0U);
    Release leaked{ip("10.65.0.3"), std::nullopt, std::nullopt};
    EXPECT_EQ(node1->allocator.release_ips({&leaked, 1})->unallocated.size(), 1U);
    world.held.erase("k8s-pod-network.c-b");
}

TEST_F(IpamAllocator, TakesEmptyBlocksInTheOrderOfItsWalk) {
    world.configure({{"ipCooldownSeconds", 60}, {"strictAffinity", true}});
    world.add_pool("pool", "10.65.0.0/28", 30);
    auto node2 = world.process("node2");
    Request all = world.request("all", "node2", 16);
    assign(*node2, all);
    release(*node2, all);
    auto node1 = world.process("node1");
    EXPECT_FALSE(node1->allocator.auto_assign(world.request("a", "node1"))); // cooling down
    world.now += 61s;
    EXPECT_EQ(assign(*node1, world.request("a", "node1")).v4[0].block,
              *BlockWalk(cidr("10.65.0.0/28"), 30, "node1", 0).next({}));
}

TEST_F(IpamAllocator, CountsForTheLimitOnlyBlocksThatTheRequestMayUse) {
    world.add_pool("one", "10.67.0.0/28", 30);
    world.add_pool("two", "10.66.0.0/28", 30);
    auto node1 = world.process("node1");
    Request request = world.request("a", "node1");
    request.max_blocks_per_host = 1;
    request.pools4 = {"one"};
    assign(*node1, request);
    request = world.request("b", "node1");
    request.max_blocks_per_host = 1;
    request.pools4 = {"two"};
    EXPECT_TRUE(cidr("10.66.0.0/28").contains(assign(*node1, request).v4[0].address));
}

TEST_F(IpamAllocator, KeepsTheBlocksOfThePoolsThatARequestNames) {
    world.add_pool("west", "10.67.0.0/28", 30, {{"nodeSelector", "zone == 'west'"}});
    auto node1 = world.process("node1");
    ASSERT_TRUE(node1->allocator.claim_block(cidr("10.67.0.12/30")));
    ASSERT_TRUE(node1->allocator.claim_block(cidr("10.67.0.8/30")));
    node1->allocator.invalidate();
    Request request = world.request("a", "node1");
    request.pools4 = {"west"};
    EXPECT_EQ(assign(*node1, request).v4[0].address, ip("10.67.0.12"));
    EXPECT_EQ(world.blocks().size(), 2U);
    node1->allocator.invalidate();
    assign(*node1, world.request("b", "node1")); // by selectors: the empty one goes
    EXPECT_EQ(world.block_names(), (std::vector<std::string>{"10.65.166.128/26 host:node1",
                                                             "10.67.0.12/30 host:node1"}));
}

TEST_F(IpamAllocator, ServesEveryBlockOfARelease) {
    world.add_pool("pool", "10.65.0.0/28", 30);
    auto node1 = world.process("node1");
    auto five = assign(*node1, world.request("a", "node1", 5));
    std::string handle = world.request("a", "node1").handle;
    std::vector<Release> releases{{five.v4[0].address, "another", {}},
                                  {five.v4[4].address, handle, {}}};
    EXPECT_EQ(node1->allocator.release_ips(releases).error().kind, ErrorKind::ConfigReality);
    EXPECT_EQ(node1->allocator.addresses_of(handle)->size(), 4U);
    world.held[handle].erase(five.v4[4].address);
}

TEST_F(IpamAllocator, BlocksOfADisabledPoolStay) {
    world.add_pool("pool", "10.65.0.0/28", 30, {{"nodeSelector", "zone == 'east'"}});
    world.add_pool("rest", "10.66.0.0/28", 30);
    auto node1 = world.process("node1");
    assign(*node1, world.request("a", "node1"));
    world.add_pool("pool", "10.65.0.0/28", 30,
                   {{"nodeSelector", "zone == 'west'"}, {"disabled", true}});
    node1->allocator.invalidate();
    release(*node1, world.request("a", "node1"));
    assign(*node1, world.request("b", "node1"));
    EXPECT_EQ(world.blocks().size(), 2U);
}

TEST_F(IpamAllocator, RepairsWhatIsHalfDone) {
    auto node1 = world.process("node1");
    auto first = assign(*node1, world.request("a", "node1"));
    datastore::Key key{api::Kind::BlockAffinity, "", "node1-10-65-166-128-26"};
    for (const char* state : {"pending", "pendingDeletion"}) {
        auto object = world.memory->entries.at(key).object;
        object["spec"]["state"] = state;
        ASSERT_TRUE(world.store.update(key, object));
        auto restarted = world.process("node1");
        EXPECT_EQ(assign(*restarted, world.request(state, "node1")).v4[0].block, first.v4[0].block);
        EXPECT_EQ(world.memory->entries.at(key).object["spec"]["state"], "confirmed");
    }
    // The affinity is lost: the block is found again by its own word.
    ASSERT_TRUE(world.store.remove(key));
    auto restarted = world.process("node1");
    EXPECT_EQ(assign(*restarted, world.request("b", "node1")).v4[0].block, first.v4[0].block);
    // The block is somebody else's by now: the affinity was stale.
    datastore::Key block{api::Kind::IpamBlock, "", "10-65-166-128-26"};
    auto object = world.memory->entries.at(block).object;
    object["spec"]["affinity"] = "host:node2";
    ASSERT_TRUE(world.store.update(block, object));
    ASSERT_TRUE(world.store.create(
        {api::Kind::BlockAffinity, "", "node2-10-65-166-128-26"},
        *api::BlockAffinity{
            {}, first.v4[0].block, "node2", "host", api::AffinityState::Confirmed, false}
             .to_json()));
    auto third = world.process("node1");
    EXPECT_NE(assign(*third, world.request("d", "node1")).v4[0].block, first.v4[0].block);
    EXPECT_EQ(world.memory->entries.count(key), 0U);
}

TEST_F(IpamAllocator, AThousandNodesClaimTheirFirstBlocksAtOnce) {
    world.add_pool("pool", "10.0.0.0/20", 30); // 1,024 blocks
    constexpr int kNodes = 1000;
    constexpr int kThreads = 16;
    for (int i = 0; i < kNodes; i++) {
        world.add_node(fmt::format("worker-{}", i));
    }
    std::vector<std::optional<Result<Assigned>>> results(kNodes);
    std::atomic<int> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; t++) {
        threads.emplace_back([&] {
            for (int i = next++; i < kNodes; i = next++) {
                std::string node = fmt::format("worker-{}", i);
                Process process(world.memory, node, world.clock());
                results[static_cast<size_t>(i)] =
                    process.allocator.auto_assign(world.request(fmt::format("p{}", i), node));
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    std::set<Cidr> blocks;
    for (int i = 0; i < kNodes; i++) {
        const auto& result = *results[static_cast<size_t>(i)];
        ASSERT_TRUE(result) << result.error().text();
        world.remember(world.request(fmt::format("p{}", i), "").handle, *result);
        blocks.insert(result->v4[0].block);
    }
    EXPECT_EQ(blocks.size(), static_cast<size_t>(kNodes));
}

} // namespace
} // namespace manx::ipam::test
