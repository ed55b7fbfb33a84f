// SPDX-License-Identifier: Apache-2.0
// Watches: order, completeness, re-listing, and their end.
#include "tests/unit/store_fixture.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <thread>

namespace manx::datastore {
namespace {

using nlohmann::json;

class WatchTest : public testing::Test {
protected:
    void SetUp() override { store = open(); }

    std::unique_ptr<Store> open(int64_t tombstones = 10) {
        auto opened = open_sqlite(folder.file("store.db"), {.tombstones = tombstones});
        EXPECT_TRUE(opened) << opened.error().text();
        return std::move(*opened);
    }

    static std::string text(const Event& event) {
        std::string word = event.type == EventType::Added      ? "+"
                           : event.type == EventType::Modified ? "~"
                                                               : "-";
        return word + event.object.key.name;
    }

    static std::string text(Recorder& recorder) {
        std::lock_guard lock(recorder.mutex);
        std::string out;
        for (const auto& event : recorder.events) {
            out += text(event) + " ";
        }
        return out;
    }

    TemporaryFolder folder;
    std::unique_ptr<Store> store;
};

TEST_F(WatchTest, ListsThenFollows) {
    ASSERT_TRUE(store->create(pool_key("b"), object_with({})));
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    ASSERT_TRUE(store->create({api::Kind::Tier, "", "t"}, object_with({})));
    Recorder recorder;
    auto watch = store->watch(api::Kind::IpPool, recorder.handler());
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    EXPECT_EQ(text(recorder), "+a +b ");
    EXPECT_EQ(recorder.relists, 1);
    ASSERT_TRUE(store->update(pool_key("a"), object_with({{"n", 1}})));
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 3; }));
    ASSERT_TRUE(store->create(pool_key("c"), object_with({})));
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 4; }));
    auto gone = store->get(pool_key("b"));
    ASSERT_TRUE(store->remove(pool_key("b")));
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 5; }));
    EXPECT_EQ(text(recorder), "+a +b ~a +c -b ");
    EXPECT_EQ(recorder.events[4].object.json, gone->json);
}

TEST_F(WatchTest, OtherStoresOfTheFileAreHeard) {
    auto other = open();
    Recorder recorder;
    auto watch = store->watch(api::Kind::IpPool, recorder.handler());
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(other->create(pool_key("a"), object_with({})));
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 1; }));
    // Far below the slow poll, so it came by the announcement.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(500));
}

TEST_F(WatchTest, ALateWatchDoesNotDisturbOthers) {
    Recorder first;
    Recorder second;
    auto one = store->watch(api::Kind::IpPool, first.handler());
    ASSERT_TRUE(first.wait_for([&] { return first.syncs == 1; }));
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    auto two = store->watch(api::Kind::IpPool, second.handler());
    ASSERT_TRUE(second.wait_for([&] { return second.syncs == 1; }));
    ASSERT_TRUE(store->create(pool_key("b"), object_with({})));
    ASSERT_TRUE(first.wait_for([&] { return first.events.size() == 2; }));
    ASSERT_TRUE(second.wait_for([&] { return second.events.size() == 2; }));
    EXPECT_EQ(first.relists, 1);
    EXPECT_EQ(text(first), "+a +b ");
    EXPECT_EQ(text(second), "+a +b ");
}

TEST_F(WatchTest, NoCallbackAfterTheEnd) {
    std::atomic<bool> ended = false;
    std::atomic<int> late = 0;
    std::atomic<bool> stop = false;
    std::thread writer([&] {
        for (int i = 0; !stop; i++) {
            (void)store->create(pool_key("p" + std::to_string(i)), object_with({}));
        }
    });
    for (int round = 0; round < 50; round++) {
        ended = false;
        auto watch =
            store->watch(api::Kind::IpPool, {.relist = {},
                                             .event = [&](const Event&) { late += ended ? 1 : 0; },
                                             .synced = {},
                                             .lost = {}});
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        watch->reset();
        ended = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    stop = true;
    writer.join();
    EXPECT_EQ(late, 0);
}

TEST_F(WatchTest, ACallbackMayEndItsOwnWatch) {
    std::mutex mutex;
    std::unique_ptr<Watch> watch;
    std::atomic<int> calls = 0;
    {
        std::lock_guard lock(mutex);
        watch = *store->watch(api::Kind::IpPool, {.relist = {},
                                                  .event = {},
                                                  .synced =
                                                      [&] {
                                                          std::lock_guard inner(mutex);
                                                          calls++;
                                                          watch.reset();
                                                      },
                                                  .lost = {}});
    }
    while (calls == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(calls, 1);
}

TEST_F(WatchTest, LostTombstonesLeadToANewList) {
    for (int i = 0; i < 200; i++) {
        ASSERT_TRUE(store->create(pool_key("p" + std::to_string(i)), object_with({})));
    }
    Recorder recorder;
    std::mutex gate;
    auto handler = recorder.handler();
    auto record = handler.event;
    handler.event = [&](Event event) {
        std::lock_guard wait(gate);
        record(std::move(event));
    };
    auto watch = store->watch(api::Kind::IpPool, handler);
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    {
        std::lock_guard stuck(gate); // the watch lags while more dies than is remembered
        ASSERT_TRUE(store->create(pool_key("q"), object_with({})));
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        for (int i = 0; i < 199; i++) {
            ASSERT_TRUE(store->remove(pool_key("p" + std::to_string(i))));
        }
    }
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 2; }));
    EXPECT_EQ(recorder.relists, 2);
    std::string all = text(recorder);
    EXPECT_TRUE(all.ends_with("+p199 +q ")) << all.substr(all.size() - 40);
}

TEST_F(WatchTest, AReplacedFileIsReportedAndListedAgain) {
    ASSERT_TRUE(store->create(pool_key("old"), object_with({})));
    Recorder recorder;
    auto watch = store->watch(api::Kind::IpPool, recorder.handler());
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    for (const char* name : {"store.db", "store.db-wal", "store.db-shm", "store.db-notify"}) {
        std::filesystem::remove(folder.file(name));
    }
    ASSERT_TRUE(store->create(pool_key("new"), object_with({})));
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 2; }));
    EXPECT_GE(recorder.losses, 1);
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.events.size() == 2; }));
    EXPECT_EQ(text(recorder), "+old +new ");
}

// Four threads create, change and delete; the watch must end with exactly what the store holds,
// never see an object go backwards, and never be told of an object's change before its birth.
TEST_F(WatchTest, CompleteAndInOrderUnderLoad) {
    // More than die here: a watch that lags is not to list anew.
    store.reset();
    store = open(4096);
    Recorder recorder;
    auto watch = store->watch(api::Kind::IpPool, recorder.handler());
    // A list comes by name, changes by revision.
    ASSERT_TRUE(recorder.wait_for([&] { return recorder.syncs == 1; }));
    auto other = open(4096);
    std::vector<std::thread> writers;
    for (int w = 0; w < 4; w++) {
        writers.emplace_back([&, w] {
            Store& mine = w % 2 == 0 ? *store : *other;
            for (int i = 0; i < 300; i++) {
                Key key = pool_key("w" + std::to_string(w) + "-" + std::to_string(i % 17));
                int what = (i * 7 + w) % 5;
                if (what == 0) {
                    (void)mine.remove(key); // absent ones too
                } else if (!mine.create(key, object_with({{"i", i}}))) {
                    (void)mine.update(key, object_with({{"i", i}}));
                }
            }
        });
    }
    for (auto& writer : writers) {
        writer.join();
    }
    ASSERT_TRUE(store->create(pool_key("zz-last"), object_with({})));
    ASSERT_TRUE(recorder.wait_for([&] {
        return !recorder.events.empty() && recorder.events.back().object.key.name == "zz-last";
    }));
    std::map<std::string, std::string> seen; // name -> resource version
    int64_t last = 0;
    std::lock_guard lock(recorder.mutex);
    ASSERT_EQ(recorder.relists, 1);
    for (const auto& event : recorder.events) {
        const auto& name = event.object.key.name;
        int64_t revision = std::stoll(event.object.resource_version);
        EXPECT_GT(revision, last);
        last = revision;
        EXPECT_EQ(seen.contains(name), event.type != EventType::Added) << text(event);
        if (event.type == EventType::Deleted) {
            seen.erase(name);
        } else {
            seen[name] = event.object.resource_version;
        }
    }
    std::map<std::string, std::string> held;
    auto list = store->list(api::Kind::IpPool);
    for (const auto& object : list->objects) {
        held[object.key.name] = object.resource_version;
    }
    EXPECT_EQ(seen, held);
}

} // namespace
} // namespace manx::datastore
