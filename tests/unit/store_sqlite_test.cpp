// SPDX-License-Identifier: Apache-2.0
// The SQLite engine behaves as an API server does towards one client.
#include "tests/unit/store_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>

namespace manx::datastore {
namespace {

using nlohmann::json;

class SqliteStoreTest : public testing::Test {
protected:
    void SetUp() override {
        auto opened = open_sqlite(folder.file("store.db"));
        ASSERT_TRUE(opened) << opened.error().text();
        store = std::move(*opened);
    }

    TemporaryFolder folder;
    std::unique_ptr<Store> store;
};

TEST_F(SqliteStoreTest, CreateSetsWhatAServerSets) {
    auto created = store->create(pool_key("a"), object_with({{"cidr", "10.0.0.0/16"}}));
    ASSERT_TRUE(created) << created.error().text();
    json object = json::parse(created->json);
    EXPECT_EQ(object["apiVersion"], "crd.projectcalico.org/v1");
    EXPECT_EQ(object["kind"], "IPPool");
    EXPECT_EQ(object["metadata"]["name"], "a");
    EXPECT_EQ(object["metadata"]["uid"], created->uid);
    EXPECT_EQ(object["metadata"]["resourceVersion"], created->resource_version);
    EXPECT_EQ(object["metadata"]["creationTimestamp"].get<std::string>().size(), 20U);
    EXPECT_EQ(created->uid.size(), 36U);
    auto read = store->get(pool_key("a"));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->json, created->json);
    EXPECT_EQ(read->resource_version, created->resource_version);
}

TEST_F(SqliteStoreTest, CreateOfWhatExists) {
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    auto again = store->create(pool_key("a"), object_with({}));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().kind, ErrorKind::AlreadyExists);
    EXPECT_EQ(again.error().message, "IPPool a: already exists");
}

TEST_F(SqliteStoreTest, AbsentObjects) {
    EXPECT_EQ(store->get(pool_key("a")).error().kind, ErrorKind::NotFound);
    EXPECT_EQ(store->update(pool_key("a"), object_with({})).error().kind, ErrorKind::NotFound);
    EXPECT_EQ(store->patch(pool_key("a"), json::object()).error().kind, ErrorKind::NotFound);
    EXPECT_EQ(store->remove(pool_key("a")).error().kind, ErrorKind::NotFound);
}

TEST_F(SqliteStoreTest, UpdateComparesTheVersionAndKeepsIdentity) {
    auto created = store->create(pool_key("a"), object_with({{"n", 1}}));
    json object = json::parse(created->json);
    object["spec"]["n"] = 2;
    auto updated = store->update(pool_key("a"), object);
    ASSERT_TRUE(updated) << updated.error().text();
    EXPECT_EQ(updated->uid, created->uid);
    EXPECT_NE(updated->resource_version, created->resource_version);

    object["spec"]["n"] = 3; // still with the old version
    auto stale = store->update(pool_key("a"), object);
    ASSERT_FALSE(stale);
    EXPECT_EQ(stale.error().kind, ErrorKind::Conflict);

    // Without a version, the last writer wins.
    auto blind = store->update(pool_key("a"), object_with({{"n", 4}}));
    ASSERT_TRUE(blind);
    EXPECT_EQ(json::parse(blind->json)["metadata"]["creationTimestamp"],
              json::parse(created->json)["metadata"]["creationTimestamp"]);
}

TEST_F(SqliteStoreTest, UpdateThatChangesNothingIsNoChange) {
    auto created = store->create(pool_key("a"), object_with({{"n", 1}}));
    auto updated = store->update(pool_key("a"), json::parse(created->json));
    ASSERT_TRUE(updated);
    EXPECT_EQ(updated->resource_version, created->resource_version);
}

TEST_F(SqliteStoreTest, UpdateOfAnotherUidIsAConflict) {
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    json object = object_with({{"n", 1}});
    object["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000";
    EXPECT_EQ(store->update(pool_key("a"), object).error().kind, ErrorKind::Conflict);
}

TEST_F(SqliteStoreTest, PatchMergesAndRemoves) {
    Key pod{api::Kind::Pod, "shop", "web-0"};
    auto created = store->create(
        pod, {{"metadata", {{"annotations", {{"a", "1"}, {"b", "2"}}}}}, {"spec", {{"x", 1}}}});
    ASSERT_TRUE(created) << created.error().text();
    json patch = {{"metadata", {{"annotations", {{"a", nullptr}, {"c", "3"}}}}},
                  {"status", {{"podIP", "10.0.0.1"}}}};
    auto patched = store->patch(pod, patch, {.uid = created->uid, .resource_version = ""});
    ASSERT_TRUE(patched) << patched.error().text();
    json object = json::parse(patched->json);
    EXPECT_EQ(object["metadata"]["annotations"], json({{"b", "2"}, {"c", "3"}}));
    EXPECT_EQ(object["status"]["podIP"], "10.0.0.1");
    EXPECT_EQ(object["spec"]["x"], 1);

    Precondition stale{"", created->resource_version};
    EXPECT_EQ(store->patch(pod, patch, stale).error().kind, ErrorKind::Conflict);
    json with_version = {{"metadata", {{"resourceVersion", created->resource_version}}}};
    EXPECT_EQ(store->patch(pod, with_version).error().kind, ErrorKind::Conflict);
}

TEST_F(SqliteStoreTest, RemoveComparesToo) {
    auto created = store->create(pool_key("a"), object_with({}));
    EXPECT_EQ(store->remove(pool_key("a"), {"other", ""}).error().kind, ErrorKind::Conflict);
    EXPECT_EQ(store->remove(pool_key("a"), {"", "999"}).error().kind, ErrorKind::Conflict);
    EXPECT_TRUE(store->remove(pool_key("a"), {created->uid, created->resource_version}));
    auto again = store->create(pool_key("a"), object_with({}));
    ASSERT_TRUE(again);
    EXPECT_NE(again->uid, created->uid);
}

TEST_F(SqliteStoreTest, ListsByNamespaceAndLabelInOrder) {
    for (const auto& [ns, name, app] :
         {std::tuple{"b", "1", "web"}, {"a", "2", "web"}, {"a", "1", "db"}}) {
        json object = {{"metadata", {{"labels", {{"app", app}, {"tier", "x"}}}}}};
        ASSERT_TRUE(store->create({api::Kind::Pod, ns, name}, object));
    }
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    auto names = [](const Result<ListResult>& list) {
        std::vector<std::string> out;
        for (const auto& object : list->objects) {
            out.push_back(object.key.text());
        }
        return out;
    };
    using Names = std::vector<std::string>;
    EXPECT_EQ(names(store->list(api::Kind::Pod)), (Names{"Pod a/1", "Pod a/2", "Pod b/1"}));
    EXPECT_EQ(names(store->list(api::Kind::Pod, {"a", {}})), (Names{"Pod a/1", "Pod a/2"}));
    EXPECT_EQ(names(store->list(api::Kind::Pod, {"", {{"app", "web"}}})),
              (Names{"Pod a/2", "Pod b/1"}));
    EXPECT_EQ(names(store->list(api::Kind::Pod, {"", {{"tier", "web"}}})), Names{});
    EXPECT_EQ(store->list(api::Kind::Pod)->resource_version, "4");
}

TEST_F(SqliteStoreTest, KindsOfTheSameNameAreApart) {
    Key calico{api::Kind::NetworkPolicy, "ns", "p"};
    Key kubernetes{api::Kind::K8sNetworkPolicy, "ns", "p"};
    ASSERT_TRUE(store->create(calico, object_with({})));
    ASSERT_TRUE(store->create(kubernetes, object_with({})));
    EXPECT_EQ(store->list(api::Kind::NetworkPolicy)->objects.size(), 1U);
}

TEST_F(SqliteStoreTest, RefusesWhatIsNotTheKeysObject) {
    json other = {{"metadata", {{"name", "b"}}}};
    auto created = store->create(pool_key("a"), other);
    ASSERT_FALSE(created);
    EXPECT_EQ(created.error().message, R"(IPPool a: metadata.name: "b", expected "a")");
    EXPECT_FALSE(store->create(pool_key(""), object_with({})));
    EXPECT_FALSE(store->create({api::Kind::Pod, "", "x"}, object_with({})));
    EXPECT_FALSE(store->create({api::Kind::IpPool, "ns", "x"}, object_with({})));
    EXPECT_FALSE(store->create(pool_key("a"), json::array()));
    EXPECT_FALSE(store->create(pool_key("a"), {{"metadata", 1}}));
}

TEST_F(SqliteStoreTest, LargeNumbersStayExact) {
    auto created = store->create(pool_key("a"), object_with({{"n", 1787392800123456789ULL}}));
    EXPECT_NE(created->json.find("1787392800123456789"), std::string::npos);
    EXPECT_EQ(json::parse(store->get(pool_key("a"))->json)["spec"]["n"], 1787392800123456789ULL);
}

TEST_F(SqliteStoreTest, AReplacedFileIsOpenedAnew) {
    ASSERT_TRUE(store->create(pool_key("a"), object_with({})));
    for (const char* name : {"store.db", "store.db-wal", "store.db-shm", "store.db-notify"}) {
        std::filesystem::remove(folder.file(name));
    }
    EXPECT_EQ(store->get(pool_key("a")).error().kind, ErrorKind::NotFound);
    EXPECT_TRUE(store->create(pool_key("a"), object_with({})));
}

// Objects of 8 KiB, two pages and more each: some 25 MB go through the log, without a pause. The
// store is open all the time: SQLite itself moves the log only when the last one closes the file.
TEST_F(SqliteStoreTest, TheLogIsMovedIntoTheFileAndStaysShort) {
    constexpr uintmax_t kObjects = 1500;
    constexpr uintmax_t kBytes = 8192;
    constexpr int kLongLog = 500;
    constexpr uintmax_t kPage = 4096 + 24; // with its head
    constexpr uintmax_t kLongest = 4 * kPage * kLongLog + 32 * kPage;
    auto opened = open_sqlite(folder.file("short.db"), {.log_pages = kLongLog});
    ASSERT_TRUE(opened) << opened.error().text();
    Store& writer = **opened;
    uintmax_t longest = 0;
    for (uintmax_t i = 0; i < kObjects; i++) {
        ASSERT_TRUE(writer.create(pool_key(std::to_string(i)),
                                  object_with({{"text", std::string(kBytes, 'x')}})));
        longest = std::max(longest, std::filesystem::file_size(folder.file("short.db-wal")));
    }
    EXPECT_LE(longest, kLongest);
    EXPECT_GE(longest, kPage * kLongLog); // there was something to move
    const auto moved = [&] { return std::filesystem::file_size(folder.file("short.db")); };
    for (int i = 0; i < 500 && moved() < kObjects * kBytes / 2; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_GE(moved(), kObjects * kBytes / 2);
    EXPECT_EQ(writer.list(api::Kind::IpPool)->objects.size(), kObjects);
}

// A writer with pauses never has to do it.
TEST_F(SqliteStoreTest, TheLogBeginsAnewBesideTheWriter) {
    constexpr int kLongLog = 50;
    constexpr uintmax_t kPage = 4096 + 24;
    auto opened = open_sqlite(folder.file("short.db"), {.log_pages = kLongLog});
    ASSERT_TRUE(opened) << opened.error().text();
    uintmax_t size = 0;
    bool anew = false; // a commit went over the log's beginning
    for (int i = 0; !anew && size < 4 * kPage * kLongLog; i++) {
        ASSERT_TRUE((*opened)->create(pool_key(std::to_string(i)), object_with({})));
        const uintmax_t now = std::filesystem::file_size(folder.file("short.db-wal"));
        anew = now == size;
        size = now;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_TRUE(anew);
    EXPECT_GE(size, kPage * kLongLog);
    EXPECT_LT(size, 4 * kPage * kLongLog);
}

TEST(SqliteStoreOpen, SaysWhatIsWrong) {
    auto store = open_sqlite("/nonexistent/folder/store.db");
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().kind, ErrorKind::Unavailable);
    EXPECT_NE(store.error().message.find("/nonexistent/folder/store.db"), std::string::npos);
}

} // namespace
} // namespace manx::datastore
