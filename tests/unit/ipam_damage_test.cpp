// SPDX-License-Identifier: Apache-2.0
// What other software may leave in the datastore: blocks that contradict themselves or cannot be
// read, another block size, objects half deleted or without labels. No address is given twice, no
// pod loses one, nobody else is stopped.
#include "agent/api/names.h"
#include "agent/ipam/repair.h"
#include "tests/unit/ipam_world.h"

#include <algorithm>

namespace manx::ipam::test {
namespace {

using Json = nlohmann::json;

class IpamDamage : public testing::Test {
protected:
    void SetUp() override {
        world.add_node("node1");
        world.add_node("node2");
        world.add_pool("pool", "10.80.0.0/26", 28); // 4 blocks of 16
        world.configure({{"strictAffinity", false}});
    }

    IpAddress assign(Process& process, const std::string& pod) {
        auto request = world.request(pod, "node1");
        auto done = process.allocator.auto_assign(request);
        EXPECT_TRUE(done) << done.error().text();
        if (!done) {
            return {};
        }
        world.remember(request.handle, *done);
        return done->v4.front().address;
    }

    Result<AssignedAddress> fixed(Process& process, const std::string& pod, const char* address) {
        auto request = world.request(pod, "node1");
        return process.allocator.assign_ip(
            {ip(address), request.handle, request.attrs, api::PoolUse::Workload});
    }

    void edit_block(const Cidr& block, const std::function<void(Json&)>& change) {
        world.edit(api::Kind::IpamBlock, api::block_name(block),
                   [&](Json& spec, Json&) { change(spec); });
    }

    size_t count(api::Kind kind) {
        return static_cast<size_t>(std::ranges::count_if(
            world.memory->entries, [&](const auto& entry) { return entry.first.kind == kind; }));
    }

    World world;
};

TEST_F(IpamDamage, AFixedAddressStaysInTheBlockOfItsSize) {
    auto node1 = world.process("node1");
    auto node2 = world.process("node2");
    auto first = fixed(*node1, "w4", "10.80.0.32");
    ASSERT_TRUE(first) << first.error().text();
    EXPECT_EQ(first->block.text(), "10.80.0.32/28");
    world.held[world.request("w4", "").handle] = {first->address};
    world.add_pool("pool", "10.80.0.0/26", 27);
    for (auto* process : {node1.get(), node2.get()}) {
        process->allocator.invalidate();
        auto again = fixed(*process, "w5", "10.80.0.32");
        ASSERT_FALSE(again);
        EXPECT_EQ(again.error().kind, ErrorKind::AlreadyExists) << again.error().text();
    }
    auto beside = fixed(*node2, "w6", "10.80.0.33"); // borrowed from the old block
    ASSERT_TRUE(beside) << beside.error().text();
    EXPECT_EQ(beside->block.text(), "10.80.0.32/28");
    world.held[world.request("w6", "").handle] = {beside->address};
    auto across = fixed(*node2, "w7", "10.80.0.50"); // its block would lie across the old one
    ASSERT_FALSE(across);
    EXPECT_EQ(across.error().kind, ErrorKind::ConfigReality);
    EXPECT_EQ(across.error().text(), "block 10.80.0.32/27 cannot be claimed: it overlaps block "
                                     "10.80.0.32/28, which exists");
    EXPECT_EQ(node2->allocator.claim_block(cidr("10.80.0.32/27")).error().kind,
              ErrorKind::ConfigReality);
    EXPECT_EQ(count(api::Kind::BlockAffinity), 1U);
    for (int i = 0; i < 46; i++) { // 32 of the new size, and what the old block has left
        assign(*node2, std::to_string(i));
    }
    world.check();
}

TEST_F(IpamDamage, TheRestOfAnUnfinishedClaimIsNotCreatedAcrossAnotherBlock) {
    auto node1 = world.process("node1");
    ASSERT_TRUE(fixed(*node1, "w4", "10.80.0.32"));
    world.add_pool("pool", "10.80.0.0/26", 27);
    api::BlockAffinity pending;
    pending.cidr = cidr("10.80.0.32/27");
    pending.node = "node2";
    pending.state = api::AffinityState::Pending;
    ASSERT_TRUE(Repository(world.store).create(pending));
    auto node2 = world.process("node2");
    assign(*node2, "a");
    world.check();
    EXPECT_EQ(count(api::Kind::BlockAffinity), 2U);
}

TEST_F(IpamDamage, AFreeListThatNamesTakenAddresses) {
    auto node1 = world.process("node1");
    IpAddress a = assign(*node1, "a");
    Cidr block = node1->allocator.own_blocks().front();
    edit_block(block, [](Json& spec) {
        auto& free = spec["unallocated"];
        for (Json wrong : {Json(0), Json(1), Json(4096), Json(-3), Json(18446744073709551615ULL)}) {
            free.insert(free.begin(), wrong);
        }
    });
    auto found = survey(*take_snapshot(world.store));
    ASSERT_EQ(found.damaged.size(), 1U);
    world.may_be_damaged = true;
    auto restarted = world.process("node1");
    IpAddress b = assign(*restarted, "b"); // remember() sees one that is given twice
    EXPECT_NE(a, b);
    EXPECT_TRUE(survey(*take_snapshot(world.store)).damaged.empty()); // that write mended it
    world.may_be_damaged = false;
    for (int i = 0; i < 14; i++) {
        EXPECT_TRUE(block.contains(assign(*node1, std::to_string(i))));
    }
    EXPECT_FALSE(block.contains(assign(*node1, "elsewhere")));
    world.check();
}

TEST_F(IpamDamage, AnAddressThatLostItsAttributeStaysTaken) {
    auto node1 = world.process("node1");
    IpAddress lost = assign(*node1, "a");
    Cidr block = node1->allocator.own_blocks().front();
    for (Json index : {Json(1), Json(7), Json(-1)}) {
        edit_block(block, [&](Json& spec) { spec["allocations"][0] = index; });
        auto restarted = world.process("node1");
        for (int i = 0; i < 6; i++) { // an index of 1 would mean one of these
            std::string pod = fmt::format("{}-{}", index.dump(), i);
            EXPECT_NE(assign(*restarted, pod), lost);
            std::string handle = world.request(pod, "").handle;
            EXPECT_TRUE(restarted->allocator.release_by_handle(handle));
            world.held.erase(handle);
        }
        auto stored = Repository(world.store).block(block);
        ASSERT_TRUE(stored);
        EXPECT_FALSE(stored->value.damaged());
        auto there = stored->value.find(lost);
        ASSERT_TRUE(there);
        EXPECT_EQ(there->attribute->secondary.at("note"), "lost its attribute");
    }
}

TEST_F(IpamDamage, TheDoctorRebuildsABlock) {
    auto node1 = world.process("node1");
    IpAddress a = assign(*node1, "a");
    Cidr block = node1->allocator.own_blocks().front();
    edit_block(block, [](Json& spec) { spec["unallocated"] = {0, 5, 5}; });
    Repair repair(world.store, {});
    auto found = survey(*take_snapshot(world.store));
    ASSERT_EQ(found.damaged.size(), 1U);
    auto mended = repair.rebuild(found.damaged.front());
    ASSERT_TRUE(mended);
    EXPECT_TRUE(*mended);
    auto stored = Repository(world.store).block(block);
    ASSERT_TRUE(stored);
    EXPECT_EQ(stored->value.data().unallocated,
              (std::vector{5, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
    EXPECT_TRUE(stored->value.find(a));
    EXPECT_FALSE(*repair.rebuild(found.damaged.front())); // written since
    world.check();
}

TEST_F(IpamDamage, AnUnreadableBlockIsPassedOver) {
    auto node1 = world.process("node1");
    assign(*node1, "a");
    Cidr block = node1->allocator.own_blocks().front();
    auto key = datastore::Key{api::Kind::IpamBlock, "", api::block_name(block)};
    const Json good = world.memory->entries.at(key).object["spec"];
    const std::vector<std::pair<const char*, Json>> wrong{{"allocations", Json::array({0, 1})},
                                                          {"unallocated", "none"},
                                                          {"cidr", "10.80.0.0/99"},
                                                          {"cidr", "10.99.0.0/28"}};
    for (const auto& [field, value] : wrong) {
        edit_block(block, [&](Json& spec) {
            spec = good;
            spec[field] = value;
        });
        // The node that owns it, and one that walks over it.
        for (const char* node : {"node1", "node2"}) {
            auto process = world.process(node);
            std::string pod = fmt::format("{}-{}-{}", field, value.dump(), node);
            auto request = world.request(pod, node);
            auto done = process->allocator.auto_assign(request);
            ASSERT_TRUE(done) << field << ": " << done.error().text();
            EXPECT_FALSE(block.contains(done->v4.front().address));
            auto inside = fixed(*process, "inside", block.address().plus(5).text().c_str());
            ASSERT_FALSE(inside);
            EXPECT_EQ(inside.error().kind, ErrorKind::ConfigReality) << inside.error().text();
            std::string text = inside.error().text();
            EXPECT_EQ(text.find("IPAMBlock"), text.rfind("IPAMBlock")) << text;
            EXPECT_EQ(process->allocator.claim_block(block).error().kind, ErrorKind::AlreadyExists);
        }
        auto snapshot = take_snapshot(world.store);
        ASSERT_TRUE(snapshot);
        EXPECT_EQ(snapshot->left_out.broken.size(), 1U);
        auto found = survey(*snapshot);
        EXPECT_TRUE(found.affinities.empty()) << found.affinities.front().key();
        EXPECT_TRUE(found.handles.empty()) << found.handles.front().key();
        EXPECT_TRUE(found.overlapping.empty());
    }
}

TEST_F(IpamDamage, ReservationsAndPoolsThatBecomeUnreadable) {
    auto reserve = [&](std::vector<std::string> cidrs) {
        world.put(api::Kind::IpReservation, "", "r", {{"spec", {{"reservedCIDRs", cidrs}}}});
    };
    world.add_pool("pool", "10.80.0.0/28", 28);
    reserve({"10.80.0.0/32", "10.80.0.1/32"});
    auto node1 = world.process("node1");
    EXPECT_EQ(assign(*node1, "a").text(), "10.80.0.2");
    reserve({"10.80.0.3/32", "nonsense"}); // the last good, and what is good of this
    world.put(api::Kind::IpPool, "", "pool",
              {{"spec", {{"cidr", "10.80.0.0/28"}, {"blockSize", "x"}}}});
    node1->allocator.invalidate();
    EXPECT_EQ(assign(*node1, "b").text(), "10.80.0.4");
    world.add_pool("pool", "10.80.0.0/28", 28);
    auto restarted = world.process("node1"); // knows of none before
    EXPECT_EQ(assign(*restarted, "c").text(), "10.80.0.0");
    EXPECT_EQ(assign(*restarted, "d").text(), "10.80.0.1");
    EXPECT_EQ(assign(*restarted, "e").text(), "10.80.0.5");
    reserve({"10.80.0.6/32"}); // good again: no more than this
    node1->allocator.invalidate();
    EXPECT_EQ(assign(*node1, "f").text(), "10.80.0.3");
    EXPECT_EQ(assign(*node1, "g").text(), "10.80.0.7");
}

TEST_F(IpamDamage, AHandleThatIsLostKeepsNoAddress) {
    auto node1 = world.process("node1");
    assign(*node1, "a");
    std::string handle = world.request("a", "").handle;
    world.remove(api::Kind::IpamHandle, "", api::handle_name(handle));
    EXPECT_TRUE(node1->allocator.release_by_handle(handle));
    world.held.erase(handle);
    EXPECT_EQ(node1->allocator.release_by_handle(handle).error().kind, ErrorKind::NotFound);
    world.check();
    world.check_all_came_back();
}

TEST_F(IpamDamage, AffinitiesWithoutLabelsGetThem) {
    auto unlabel = [&] {
        for (const auto& [key, entry] : world.memory->entries) {
            if (key.kind == api::Kind::BlockAffinity) {
                return world.edit(key.kind, key.name, [](Json&, Json& m) {
                    m.erase("labels");
                    m.erase("annotations");
                });
            }
        }
        FAIL() << "no affinity";
    };
    auto labelled = [&] {
        auto affinities = Repository(world.store).affinities();
        return affinities && affinities->size() == 1 && affinities->front().value.labelled();
    };
    auto node1 = world.process("node1");
    assign(*node1, "a");
    unlabel();
    EXPECT_FALSE(labelled());
    auto restarted = world.process("node1"); // finds its block by the walk
    assign(*restarted, "b");
    EXPECT_TRUE(labelled());
    unlabel();
    ASSERT_EQ(survey(*take_snapshot(world.store)).affinities.size(), 1U);
    world.add_pod("a", "node1");
    world.add_pod("b", "node1");
    EXPECT_EQ(world.collect(3).affinities_repaired, 1U);
    EXPECT_TRUE(labelled());
    world.check();
}

TEST_F(IpamDamage, DeletesThatOthersDidNotFinishAreFinished) {
    auto node1 = world.process("node1");
    assign(*node1, "a");
    std::string handle = world.request("a", "").handle;
    ASSERT_TRUE(node1->allocator.release_by_handle(handle));
    world.held.erase(handle);
    for (const auto& [key, entry] : std::map(world.memory->entries)) {
        if (key.kind == api::Kind::BlockAffinity || key.kind == api::Kind::IpamBlock) {
            bool text = key.kind == api::Kind::BlockAffinity;
            world.edit(key.kind, key.name, [&](Json& spec, Json&) {
                spec["deleted"] = text ? Json("true") : Json(true);
            });
        }
    }
    EXPECT_EQ(survey(*take_snapshot(world.store)).deleted.size(), 2U);
    world.collect(3);
    EXPECT_EQ(count(api::Kind::IpamBlock) + count(api::Kind::BlockAffinity), 0U);
}

// The status still has the address of the sandbox before.
TEST_F(IpamDamage, TheAddressOfANewSandboxIsInUse) {
    auto node1 = world.process("node1");
    IpAddress address = assign(*node1, "p");
    auto leaks = [&] { return survey(*take_snapshot(world.store)).leaks.size(); };
    auto pod = [&](const Json& annotations) {
        world.put(api::Kind::Pod, "default", "p",
                  {{"metadata", {{"annotations", annotations}}},
                   {"spec", {{"nodeName", "node1"}, {"containers", Json::array()}}},
                   {"status", {{"phase", "Running"}, {"podIPs", {{{"ip", "10.80.0.63"}}}}}}});
    };
    pod({{"cni.projectcalico.org/podIPs", address.text() + "/32"}});
    EXPECT_EQ(leaks(), 0U);
    pod({{"cni.projectcalico.org/podIP", address.text() + "/32"}});
    EXPECT_EQ(leaks(), 0U);
    pod({{"cni.projectcalico.org/containerID", "c-p"}});
    EXPECT_EQ(leaks(), 0U);
    pod({{"cni.projectcalico.org/containerID", "p"}});
    EXPECT_EQ(leaks(), 1U);
    // The annotations come when the sandbox is ready: until then there may be no trace of it.
    pod(Json::object());
    auto found = survey(*take_snapshot(world.store)).leaks;
    ASSERT_EQ(found.size(), 1U);
    Options options;
    options.clock = world.clock();
    Repair repair(world.store, options);
    EXPECT_EQ(*repair.release(found), 0U);
    world.now += 61s;
    EXPECT_EQ(*repair.release(found), 1U);
    world.held.clear();
    world.check();
}

} // namespace
} // namespace manx::ipam::test
