// SPDX-License-Identifier: Apache-2.0
// The collector and a locked datastore: ClusterInformation default without datastoreReady.
#include "tests/unit/ipam_world.h"

#include <gtest/gtest.h>

namespace manx::ipam::test {
namespace {

class Locked : public testing::Test {
protected:
    // Two pods that are gone and whose addresses nobody has given back.
    Locked() {
        world.add_node("node1");
        world.add_pool("four", "10.0.0.0/24", 28);
        auto process = world.process("node1");
        for (const char* pod : {"a", "b"}) {
            EXPECT_TRUE(process->allocator.auto_assign(world.request(pod, "node1")));
        }
    }

    void set_ready(const nlohmann::json& ready) {
        world.put(api::Kind::ClusterInformation, "", "default",
                  {{"spec", {{"datastoreReady", ready}}}});
    }

    size_t allocated() {
        size_t count = 0;
        for (const auto& block : world.blocks()) {
            count += block.value.allocations().size();
        }
        return count;
    }

    Collected pass() {
        auto done = collect_once(world.store, world.now, world.collector);
        EXPECT_TRUE(done) << done.error().text();
        world.now += 16min;
        return done.value_or(Collected{});
    }

    World world;
};

TEST_F(Locked, NothingIsRepairedAndTheGracePeriodBeginsAnew) {
    EXPECT_EQ(pass().leaks_suspected, 2U);
    for (const nlohmann::json& ready :
         {nlohmann::json(false), nlohmann::json(nullptr), nlohmann::json("cannot be read")}) {
        set_ready(ready);
        const auto held = pass();
        EXPECT_TRUE(held.held) << ready;
        EXPECT_EQ(held.total(), 0U);
        EXPECT_EQ(allocated(), 2U);
    }
    set_ready(true);
    const auto first = pass();
    EXPECT_FALSE(first.held);
    EXPECT_EQ(first.leaks_suspected, 2U);
    EXPECT_EQ(first.leaks_released, 0U) << "seen before the lock does not count";
    EXPECT_EQ(pass().leaks_released, 2U);
    EXPECT_EQ(allocated(), 0U);
}

TEST_F(Locked, ALockEndsThePassThatIsUnderWay) {
    (void)pass();
    auto other = world.process("node1"); // whose writes do not come by here
    world.store.after = [&](Call call, const datastore::Key& key) -> std::optional<Error> {
        if (call == Call::Update && key.kind == api::Kind::IpamBlock) {
            const datastore::Key lock{api::Kind::ClusterInformation, "", "default"};
            (void)other->store.create(lock, {{"apiVersion", "projectcalico.org/v3"},
                                             {"kind", "ClusterInformation"},
                                             {"metadata", {{"name", "default"}}},
                                             {"spec", {{"datastoreReady", false}}}});
        }
        return std::nullopt;
    };
    const auto cut = pass();
    EXPECT_EQ(cut.leaks_released, 1U);
    EXPECT_TRUE(cut.held);
    EXPECT_EQ(allocated(), 1U);
}

} // namespace
} // namespace manx::ipam::test
