// SPDX-License-Identifier: Apache-2.0
// Last good states over the end of the process: the files, and the syncer with them over the real
// SQLite engine, as an agent that is started again and again.
#include "agent/api/network_set.h"
#include "agent/api/policy.h"
#include "agent/api/pool.h"
#include "agent/api/tier.h"
#include "agent/app/last_good.h"
#include "agent/app/syncer.h"
#include "agent/datastore/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <unistd.h>
#include <utility>

namespace manx::app {
namespace {

using api::Kind;
using datastore::Key;
using nlohmann::json;
using testing::ElementsAre;
using testing::IsEmpty;

const Key kPolicy{Kind::GlobalNetworkPolicy, "", "p"};
const Key kSet{Kind::GlobalNetworkSet, "", "s"};

class LastGoodTest : public testing::Test {
protected:
    LastGoodTest() {
        std::filesystem::create_directories(dir_);
        store_ = std::move(*datastore::open_sqlite(dir_ + "/store.db"));
    }

    ~LastGoodTest() override {
        store_.reset();
        std::filesystem::remove_all(dir_);
    }

    std::unique_ptr<LastGood> open() {
        auto opened = LastGood::open(folder_);
        EXPECT_TRUE(opened) << opened.error().text();
        return opened ? std::move(*opened) : nullptr;
    }

    size_t files() const {
        size_t count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
            count += entry.is_regular_file() ? 1 : 0;
        }
        return count;
    }

    // An agent's life from its start until all that is in the datastore is applied: what it was
    // told, in order, as "NAME TEXT" for objects and "-NAME" for those that are gone. life: what
    // happens meanwhile, step by step; each step is applied before the next.
    std::vector<std::string> live(const std::vector<std::function<void()>>& life = {}) {
        std::vector<std::string> told;
        auto loop = std::move(*EventLoop::create());
        auto last_good = open();
        Syncer syncer(*loop, *store_, last_good.get());
        syncer.on<api::PolicyOf<Kind::GlobalNetworkPolicy>>(
            Kind::GlobalNetworkPolicy,
            [&](const auto& policy, const Key&) {
                told.push_back(policy.name + " " + policy.subject.text());
            },
            [&](const Key& key) { told.push_back("-" + key.name); });
        syncer.on<api::PolicyOf<Kind::NetworkPolicy>>(
            Kind::NetworkPolicy,
            [&](const auto& policy, const Key&) {
                told.push_back(policy.name + (policy.subject_unread ? " unread" : " read"));
            },
            [&](const Key& key) { told.push_back("-" + key.name); });
        syncer.on<api::Tier>(
            Kind::Tier,
            [&](const api::Tier& tier, const Key&) {
                told.push_back(tier.name + (tier.problems.empty() ? " good" : " in part"));
            },
            [&](const Key& key) { told.push_back("-" + key.name); });
        syncer.on<api::NetworkSetOf<Kind::GlobalNetworkSet>>(
            Kind::GlobalNetworkSet,
            [&](const auto& set, const Key&) {
                told.push_back(set.name + " " + std::to_string(set.nets.size()) +
                               (set.problems.empty() ? "" : " in part"));
            },
            [&](const Key& key) { told.push_back("-" + key.name); });
        syncer.on<api::IpPool>(
            Kind::IpPool,
            [&](const api::IpPool& pool, const Key&) {
                told.push_back(pool.meta.name + " " + pool.cidr.text());
            },
            [&](const Key& key) { told.push_back("-" + key.name); });
        size_t step = 0;
        std::function<void()> next = [&] {
            if (step == life.size()) {
                loop->quit(7);
                return;
            }
            life[step++]();
            syncer.when_applied(next);
        };
        EXPECT_TRUE(syncer.start());
        syncer.when_applied(next);
        auto limit = loop->add_timer(std::chrono::seconds(10), [&] { loop->quit(1); });
        EXPECT_EQ(loop->run(), 7);
        invalid_ = syncer.invalid().size();
        return told;
    }

    void put(const Key& key, json spec, const char* api = "crd.projectcalico.org/v1") {
        json object{{"apiVersion", api},
                    {"kind", api::info(key.kind).name},
                    {"metadata", {{"name", key.name}}},
                    {"spec", std::move(spec)}};
        if (!key.ns.empty()) {
            object["metadata"]["namespace"] = key.ns;
        }
        if (!store_->update(key, object)) {
            EXPECT_TRUE(store_->create(key, object));
        }
    }

    std::string dir_ = testing::TempDir() + "manx-last-good-" + std::to_string(getpid()) + "-" +
                       testing::UnitTest::GetInstance()->current_test_info()->name();
    std::string folder_ = dir_ + "/state/last-good";
    std::unique_ptr<datastore::Store> store_;
    size_t invalid_ = 0;
};

TEST_F(LastGoodTest, IsFoundBeforeAndAfterItIsWritten) {
    auto kept = open();
    EXPECT_FALSE(kept->find(kPolicy));
    kept->keep(kPolicy, {"uid-1", "7", "{\"a\": \"\\n\"}\nb"});
    EXPECT_EQ(kept->find(kPolicy)->object, "{\"a\": \"\\n\"}\nb");
    EXPECT_EQ(files(), 0U) << "until the batch is done";
    kept->write_out();
    kept->hold(kPolicy);
    kept = nullptr; // when all is written
    EXPECT_EQ(files(), 1U);
    kept = open();
    const auto found = kept->find(kPolicy);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->uid, "uid-1");
    EXPECT_EQ(found->version, "7");
    EXPECT_EQ(found->object, "{\"a\": \"\\n\"}\nb");
    kept->hold(kPolicy);
    EXPECT_TRUE(kept->find(kPolicy));
    kept->forget(kPolicy);
    EXPECT_FALSE(kept->find(kPolicy)) << "at once";
    kept = nullptr;
    EXPECT_EQ(files(), 0U);
}

TEST_F(LastGoodTest, KindsOfOneNameDoNotShareAFile) {
    const Key calico{Kind::NetworkPolicy, "a", "p"};
    const Key kubernetes{Kind::K8sNetworkPolicy, "a", "p"};
    auto kept = open();
    kept->keep(calico, {"1", "1", "calico"});
    kept->keep(kubernetes, {"2", "2", "kubernetes"});
    kept = nullptr;
    kept = open();
    EXPECT_EQ(kept->find(calico)->object, "calico");
    EXPECT_EQ(kept->find(kubernetes)->object, "kubernetes");
}

TEST_F(LastGoodTest, WhatAListDoesNotNameIsGone) {
    auto kept = open();
    kept->keep(kPolicy, {"1", "1", "x"});
    kept->keep(kSet, {"2", "2", "x"});
    kept->keep({Kind::GlobalNetworkPolicy, "", "held"}, {"3", "3", "x"});
    kept->keep({Kind::GlobalNetworkPolicy, "", "gone"}, {"4", "4", "x"});
    kept = nullptr;
    kept = open();
    kept->keep(kPolicy, {"1", "1", "x"});
    kept->hold({Kind::GlobalNetworkPolicy, "", "held"});
    kept->end_list(Kind::GlobalNetworkPolicy);
    EXPECT_TRUE(kept->find(kPolicy));
    EXPECT_TRUE(kept->find({Kind::GlobalNetworkPolicy, "", "held"}));
    EXPECT_FALSE(kept->find({Kind::GlobalNetworkPolicy, "", "gone"}));
    EXPECT_TRUE(kept->find(kSet)) << "another kind";
}

TEST_F(LastGoodTest, FilesThatAreNotWholeAreRemoved) {
    auto kept = open();
    kept->keep(kPolicy, {"1", "1", "whole"});
    kept->keep(kSet, {"2", "2", "to be cut"});
    kept = nullptr;
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
        paths.push_back(entry.path());
    }
    for (const auto& path : paths) {
        std::ifstream file(path);
        const std::string text(std::istreambuf_iterator<char>(file), {});
        if (text.ends_with("to be cut")) {
            std::ofstream(path) << text.substr(0, text.size() - 4);
        } else {
            std::ofstream(folder_ + "/elsewhere.object") << text;
        }
    }
    std::ofstream(folder_ + "/half.object.new") << "{\"ver";
    std::ofstream(folder_ + "/rubbish.object") << "rubbish";
    kept = open();
    EXPECT_EQ(files(), 1U);
    EXPECT_TRUE(kept->find(kPolicy));
    EXPECT_FALSE(kept->find(kSet));
}

TEST_F(LastGoodTest, AFolderThatCannotBeIsNamed) {
    std::filesystem::create_directories(dir_ + "/state");
    std::ofstream(folder_) << "a file";
    const auto opened = LastGood::open(folder_);
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().text().find(folder_), std::string::npos);
}

TEST_F(LastGoodTest, ARefusedObjectHasItsLastGoodStateAfterARestart) {
    put(kPolicy, {{"selector", "app == 'a'"}});
    EXPECT_THAT(live({[&] { put(kPolicy, {{"selector", "(("}}); }}), ElementsAre("p app == \"a\""));
    EXPECT_EQ(invalid_, 1U);
    for (int i = 0; i < 2; ++i) { // and over the next one
        EXPECT_THAT(live(), ElementsAre("p app == \"a\""));
        EXPECT_EQ(invalid_, 1U) << "it is reported all the same";
    }
    EXPECT_THAT(live({[&] { put(kPolicy, {{"selector", "app == 'b'"}}); },
                      [&] { put(kPolicy, {{"selector", "(("}}); }}),
                ElementsAre("p app == \"a\"", "p app == \"b\""));
    EXPECT_THAT(live({[&] { EXPECT_TRUE(store_->remove(kPolicy)); }}),
                ElementsAre("p app == \"b\"", "-p"));
    EXPECT_EQ(files(), 0U);
    EXPECT_EQ(invalid_, 0U);
}

// Became unreadable while no agent ran: what was good when the last one did.
TEST_F(LastGoodTest, WhatBecomesUnreadableWhileNobodyLooks) {
    put(kPolicy, {{"selector", "app == 'a'"}});
    (void)live();
    put(kPolicy, {{"selector", "(("}});
    EXPECT_THAT(live(), ElementsAre("p app == \"a\""));
}

TEST_F(LastGoodTest, AnObjectThatWasMadeAgainDoesNotGetTheOldOnesState) {
    put(kPolicy, {{"selector", "app == 'a'"}});
    (void)live({[&] { put(kPolicy, {{"selector", "(("}}); }});
    EXPECT_TRUE(store_->remove(kPolicy));
    put(kPolicy, {{"selector", "(("}});
    EXPECT_THAT(live(), IsEmpty());
    EXPECT_EQ(files(), 0U);
    EXPECT_EQ(invalid_, 1U);
}

TEST_F(LastGoodTest, WhatIsReadInPartComesAfterItsLastGoodState) {
    const Key tier{Kind::Tier, "", "t"};
    const Key policy{Kind::NetworkPolicy, "a", "np"};
    put(tier, {{"order", 1}, {"defaultAction", "Pass"}});
    put(kSet, {{"nets", {"192.0.2.0/24", "2001:db8::/32"}}});
    put(policy, {{"selector", "all()"}});
    EXPECT_THAT(live({[&] { put(tier, {{"order", 1}, {"defaultAction", "Reject"}}); },
                      [&] { put(kSet, {{"nets", {"192.0.2.0/33"}}}); },
                      [&] { put(policy, {{"selector", "(("}}); }}),
                testing::UnorderedElementsAre("t good", "s 2", "np read", "t in part",
                                              "s 0 in part", "np unread"));
    const auto told = live();
    EXPECT_EQ(told.size(), 6U);
    for (const auto& [first, then] :
         {std::pair{"t good", "t in part"}, {"s 2", "s 0 in part"}, {"np read", "np unread"}}) {
        const auto one = std::ranges::find(told, first);
        EXPECT_NE(one, told.end()) << first;
        EXPECT_NE(std::find(one, told.end(), then), told.end()) << then << " after " << first;
    }
}

// Nothing was good: nothing is kept, and what can be read is followed as before.
TEST_F(LastGoodTest, WhatNeverWasGoodHasNoState) {
    put(kSet, {{"nets", {"192.0.2.0/33"}}});
    put(kPolicy, {{"selector", "(("}});
    EXPECT_THAT(live(), ElementsAre("s 0 in part"));
    EXPECT_THAT(live(), ElementsAre("s 0 in part"));
    EXPECT_EQ(files(), 0U);
}

TEST_F(LastGoodTest, PoolsToo) {
    const Key pool{Kind::IpPool, "", "pool"};
    put(pool, {{"cidr", "192.0.2.0/24"}});
    (void)live({[&] { put(pool, {{"cidr", "nothing"}}); }});
    EXPECT_THAT(live(), ElementsAre("pool 192.0.2.0/24"));
}

// A datastore of which only the watch of one kind is used, by hand.
class HandStore final : public datastore::Store {
public:
    Result<datastore::Object> get(const Key& /*key*/) override { return none(); }

    Result<datastore::ListResult> list(Kind /*kind*/,
                                       const datastore::ListOptions& /*options*/) override {
        return none();
    }

    Result<datastore::Object> create(const Key& /*key*/, const json& /*object*/) override {
        return none();
    }

    Result<datastore::Object> update(const Key& /*key*/, const json& /*object*/) override {
        return none();
    }

    Result<datastore::Object> patch(const Key& /*key*/, const json& /*merge_patch*/,
                                    const datastore::Precondition& /*precondition*/) override {
        return none();
    }

    Result<void> remove(const Key& /*key*/,
                        const datastore::Precondition& /*precondition*/) override {
        return none();
    }

    Result<std::unique_ptr<datastore::Watch>> watch(Kind /*kind*/,
                                                    datastore::WatchHandler handler) override {
        handler_ = std::move(handler);
        return std::make_unique<datastore::Watch>();
    }

    void when_delivered(std::function<void()> fn) override { fn(); }

    // A whole list of policies: name, uid, selector.
    void list(const std::vector<std::array<const char*, 3>>& policies) {
        handler_.relist();
        for (const auto& [name, uid, selector] : policies) {
            const json object{{"apiVersion", "crd.projectcalico.org/v1"},
                              {"kind", "GlobalNetworkPolicy"},
                              {"metadata", {{"name", name}, {"uid", uid}}},
                              {"spec", {{"selector", selector}}}};
            handler_.event({datastore::EventType::Added,
                            {{Kind::GlobalNetworkPolicy, "", name}, object.dump(), "1", uid}});
        }
        handler_.synced();
    }

private:
    static Unexpected none() { return fail(ErrorKind::Unavailable, "not here"); }

    datastore::WatchHandler handler_;
};

// A watch that was lost does not say what came and went meanwhile: the next list does.
TEST_F(LastGoodTest, WhatALostWatchDidNotTell) {
    HandStore store;
    auto loop = std::move(*EventLoop::create());
    auto last_good = open();
    std::vector<std::string> told;
    Syncer syncer(*loop, store, last_good.get());
    syncer.on<api::PolicyOf<Kind::GlobalNetworkPolicy>>(
        Kind::GlobalNetworkPolicy,
        [&](const auto& policy, const Key&) { told.push_back(policy.name); },
        [&](const Key& key) { told.push_back("-" + key.name); });
    ASSERT_TRUE(syncer.start());
    const std::vector<std::function<void()>> life{
        [&] {
            store.list({{"made-again", "1", "all()"},
                        {"same", "2", "all()"},
                        {"unread", "3", "(("},
                        {"well-again", "4", "(("}});
        },
        [&] {
            EXPECT_THAT(std::exchange(told, {}), ElementsAre("made-again", "same"));
            EXPECT_EQ(syncer.invalid().size(), 2U);
            store.list(
                {{"made-again", "9", "(("}, {"same", "2", "(("}, {"well-again", "4", "all()"}});
        },
        [&] {
            EXPECT_THAT(std::exchange(told, {}), ElementsAre("-made-again", "well-again"))
                << "another object's state is not kept";
            EXPECT_EQ(syncer.invalid().size(), 2U) << "and what is gone is not invalid";
            EXPECT_FALSE(last_good->find({Kind::GlobalNetworkPolicy, "", "made-again"}));
            EXPECT_TRUE(last_good->find({Kind::GlobalNetworkPolicy, "", "same"}));
            store.list({});
        },
        [&] {
            EXPECT_THAT(std::exchange(told, {}),
                        testing::UnorderedElementsAre("-same", "-well-again"));
            EXPECT_TRUE(syncer.invalid().empty());
            loop->quit(7);
        }};
    size_t step = 0;
    std::function<void()> next = [&] {
        life[step++]();
        if (step < life.size()) {
            syncer.when_applied(next);
        }
    };
    loop->post(next);
    auto limit = loop->add_timer(std::chrono::seconds(10), [&] { loop->quit(1); });
    ASSERT_EQ(loop->run(), 7) << "stopped in step " << step;
}

} // namespace
} // namespace manx::app
