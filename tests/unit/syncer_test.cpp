// SPDX-License-Identifier: Apache-2.0
// The syncer over the real SQLite engine.
#include "agent/api/pool.h"
#include "agent/app/syncer.h"
#include "agent/datastore/sqlite_store.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <thread>
#include <unistd.h>

namespace manx::app {
namespace {

nlohmann::json pool(const std::string& name, const std::string& cidr) {
    return {{"apiVersion", "crd.projectcalico.org/v1"},
            {"kind", "IPPool"},
            {"metadata", {{"name", name}}},
            {"spec", {{"cidr", cidr}}}};
}

class SyncerTest : public testing::Test {
protected:
    SyncerTest() {
        std::filesystem::create_directories(dir_);
        loop_ = std::move(*EventLoop::create());
        store_ = std::move(*datastore::open_sqlite(dir_ + "/store.db"));
    }

    ~SyncerTest() override {
        store_.reset();
        std::filesystem::remove_all(dir_);
    }

    datastore::Key key(const std::string& name) { return {api::Kind::IpPool, "", name}; }

    std::string dir_ = testing::TempDir() + "manx-syncer-" + std::to_string(getpid()) + "-" +
                       testing::UnitTest::GetInstance()->current_test_info()->name();
    std::unique_ptr<EventLoop> loop_;
    std::unique_ptr<datastore::Store> store_;
};

TEST_F(SyncerTest, DeliversTheSnapshotThenChangesAndKeepsTheLastGoodState) {
    ASSERT_TRUE(store_->create(key("a"), pool("a", "10.0.0.0/16")));
    ASSERT_TRUE(store_->create(key("b"), pool("b", "10.1.0.0/16")));
    std::map<std::string, std::string> pools;
    Syncer syncer(*loop_, *store_);
    syncer.on<api::IpPool>(
        api::Kind::IpPool,
        [&](const api::IpPool& p, const datastore::Key&) { pools[p.meta.name] = p.cidr.text(); },
        [&](const datastore::Key& k) { pools.erase(k.name); });
    int step = 0;
    syncer.on_batch([&](bool synced) {
        if (step == 0 && synced) {
            EXPECT_EQ(pools.size(), 2U);
            EXPECT_TRUE(store_->update(key("a"), pool("a", "not a prefix")));
            EXPECT_TRUE(store_->remove(key("b")));
            step = 1;
        } else if (step == 1 && !pools.contains("b") && !syncer.invalid().empty()) {
            EXPECT_EQ(pools["a"], "10.0.0.0/16") << "the last good state stays";
            EXPECT_NE(syncer.invalid().at(key("a")).find("cidr"), std::string::npos);
            EXPECT_TRUE(store_->update(key("a"), pool("a", "10.9.0.0/16")));
            step = 2;
        } else if (step == 2 && pools["a"] == "10.9.0.0/16") {
            EXPECT_TRUE(syncer.invalid().empty());
            loop_->quit(7);
        }
    });
    ASSERT_TRUE(syncer.start());
    auto limit = loop_->add_timer(std::chrono::seconds(5), [&] { loop_->quit(1); });
    EXPECT_EQ(loop_->run(), 7) << "stopped in step " << step;
}

// What was written before is in force when the mark is reached, however far the watch is behind.
TEST_F(SyncerTest, MarksComeAfterWhatWasWrittenBefore) {
    constexpr int kRounds = 20;
    std::set<std::string> pools;
    size_t told = 0;
    Syncer syncer(*loop_, *store_);
    syncer.on<api::IpPool>(
        api::Kind::IpPool,
        [&](const api::IpPool& p, const datastore::Key&) { pools.insert(p.meta.name); },
        [&](const datastore::Key& k) { pools.erase(k.name); });
    syncer.on_batch([&](bool) { told = pools.size(); });
    int round = 0;
    std::function<void()> next = [&] {
        const auto n = static_cast<size_t>(round);
        EXPECT_TRUE(syncer.synced());
        EXPECT_EQ(told, 3 * n) << "round " << round;
        EXPECT_EQ(pools.size(), 3 * n);
        if (++round > kRounds) {
            loop_->quit(7);
            return;
        }
        for (int i = 0; i < 3; ++i) {
            const std::string name = "p" + std::to_string(3 * round + i);
            EXPECT_TRUE(store_->create(
                key(name), pool(name, "10." + std::to_string(3 * round + i) + ".0.0/16")));
        }
        syncer.when_applied(next);
    };
    ASSERT_TRUE(syncer.start());
    syncer.when_applied(next);
    auto limit = loop_->add_timer(std::chrono::seconds(20), [&] { loop_->quit(1); });
    EXPECT_EQ(loop_->run(), 7) << "stopped in round " << round;
    // One that is never reached does no harm.
    auto gone = std::make_unique<Syncer>(*loop_, *store_);
    gone->when_applied([] { ADD_FAILURE() << "its Syncer has gone"; });
    gone.reset();
}

// More objects than may wait for the loop at once; and an end while the store's thread waits.
TEST_F(SyncerTest, BoundsWhatWaits) {
    constexpr int kPools = 1000;
    for (int i = 0; i < kPools; i++) {
        auto name = "pool-" + std::to_string(i);
        ASSERT_TRUE(store_->create(key(name), pool(name, "10." + std::to_string(i / 250) + "." +
                                                             std::to_string(i % 250) + ".0/24")));
    }
    std::set<std::string> pools;
    size_t most = 0;
    auto syncer = std::make_unique<Syncer>(*loop_, *store_);
    auto follow = [&] {
        syncer->on<api::IpPool>(
            api::Kind::IpPool,
            [&](const api::IpPool& p, const datastore::Key&) { pools.insert(p.meta.name); },
            [&](const datastore::Key& k) { pools.erase(k.name); });
    };
    follow();
    syncer->on_batch([&](bool synced) {
        most = std::max(most, syncer->times().updates);
        if (synced) {
            loop_->quit(7);
        }
    });
    ASSERT_TRUE(syncer->start());
    auto limit = loop_->add_timer(std::chrono::seconds(20), [&] { loop_->quit(1); });
    ASSERT_EQ(loop_->run(), 7);
    EXPECT_EQ(pools.size(), static_cast<size_t>(kPools));
    EXPECT_LE(most, 256U);

    syncer = std::make_unique<Syncer>(*loop_, *store_);
    follow();
    ASSERT_TRUE(syncer->start());
    std::this_thread::sleep_for(std::chrono::milliseconds(100)); // the loop does not run
    syncer.reset();
}

} // namespace
} // namespace manx::app
