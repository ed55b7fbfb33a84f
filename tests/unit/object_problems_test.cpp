// SPDX-License-Identifier: Apache-2.0
#include "agent/api/policy.h"
#include "agent/app/object_problems.h"
#include "agent/app/syncer.h"
#include "agent/datastore/sqlite_store.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <unistd.h>

namespace manx::app {
namespace {

using datastore::Key;
using nlohmann::json;

TEST(ObjectProblems, KindsOfOneNameAreToldApart) {
    ObjectProblems problems;
    const Key kubernetes{api::Kind::K8sNetworkPolicy, "a", "p"};
    const Key calico{api::Kind::NetworkPolicy, "a", "p"};
    problems.report(kubernetes, {"spec.podSelector: expected an object"}, InPart::Isolates);
    problems.report(calico, {"spec.order: expected a number"}, InPart::Isolates);
    EXPECT_EQ(invalid_objects({}, problems.all()),
              (std::map<std::string, std::string>{
                  {"KubernetesNetworkPolicy a/p", "spec.podSelector: expected an object"},
                  {"NetworkPolicy a/p", "spec.order: expected a number"}}));
    problems.forget(calico);
    problems.report(kubernetes, {}, InPart::Isolates);
    EXPECT_TRUE(problems.all().empty());
}

TEST(ObjectProblems, AFieldThatIsWrongTwiceIsNamedOnce) {
    ObjectProblems problems;
    const Key key{api::Kind::NetworkPolicy, "a", "p"};
    problems.report(key,
                    {"spec.tier: expected a string", "spec.order: expected a number",
                     "spec.tier: expected a string"},
                    InPart::Isolates);
    EXPECT_EQ(problems.all().at(key),
              "spec.tier: expected a string; spec.order: expected a number");
}

TEST(ObjectProblems, WhatIsRefusedHasTheReasonOfNow) {
    const Key key{api::Kind::GlobalNetworkPolicy, "", "p"};
    const ObjectTexts refused{{key, "GlobalNetworkPolicy p: spec.selector: expected )"}};
    const ObjectTexts in_part{{key, "spec.ingress[0].future: unknown field"}};
    EXPECT_EQ(invalid_objects(refused, in_part),
              (std::map<std::string, std::string>{
                  {"GlobalNetworkPolicy p", "spec.selector: expected )"}}));
}

// No two keys have one text, whatever their kinds.
TEST(ObjectProblems, EveryKindHasATitleOfItsOwn) {
    std::set<std::string_view> titles;
    for (const auto& kind : api::all_kinds()) {
        EXPECT_TRUE(titles.insert(api::title(kind.kind)).second) << api::title(kind.kind);
    }
}

// From a store to the report, by the agent's own way: one policy that is refused and one that is
// understood in part, of one namespace and name.
TEST(ObjectProblems, FromTheDatastore) {
    const auto folder = std::filesystem::path(testing::TempDir()) /
                        ("manx-object-problems-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder);
    auto loop = std::move(*EventLoop::create());
    auto store = std::move(*datastore::open_sqlite(folder / "store.db"));
    const json meta{{"name", "p"}, {"namespace", "a"}};
    ASSERT_TRUE(store->create({api::Kind::StagedNetworkPolicy, "a", "p"},
                              {{"apiVersion", "crd.projectcalico.org/v1"},
                               {"kind", "StagedNetworkPolicy"},
                               {"metadata", meta},
                               {"spec", {{"selector", "(("}}}}));
    ASSERT_TRUE(store->create({api::Kind::NetworkPolicy, "a", "p"},
                              {{"apiVersion", "crd.projectcalico.org/v1"},
                               {"kind", "NetworkPolicy"},
                               {"metadata", meta},
                               {"spec", {{"tier", 7}}}}));
    ASSERT_TRUE(store->create({api::Kind::K8sNetworkPolicy, "a", "p"},
                              {{"apiVersion", "networking.k8s.io/v1"},
                               {"kind", "NetworkPolicy"},
                               {"metadata", meta},
                               {"spec", {{"podSelector", 7}}}}));
    ObjectProblems problems;
    Syncer syncer(*loop, *store);
    const auto follow = [&]<api::Kind kKind>() {
        syncer.on<api::PolicyOf<kKind>>(
            kKind,
            [&](const api::PolicyOf<kKind>& policy, const Key& key) {
                problems.report(key, policy.problems, InPart::Isolates);
            },
            [&](const Key& key) { problems.forget(key); });
    };
    follow.operator()<api::Kind::NetworkPolicy>();
    follow.operator()<api::Kind::K8sNetworkPolicy>();
    follow.operator()<api::Kind::StagedNetworkPolicy>();
    syncer.on_batch([&](bool synced) {
        if (synced) {
            loop->quit(7);
        }
    });
    ASSERT_TRUE(syncer.start());
    auto limit = loop->add_timer(std::chrono::seconds(10), [&] { loop->quit(1); });
    ASSERT_EQ(loop->run(), 7);
    const auto told = invalid_objects(syncer.invalid(), problems.all());
    ASSERT_EQ(told.size(), 3U);
    EXPECT_EQ(told.at("NetworkPolicy a/p"), "spec.tier: expected a string");
    EXPECT_TRUE(told.at("KubernetesNetworkPolicy a/p").starts_with("spec.podSelector: "));
    EXPECT_TRUE(told.at("StagedNetworkPolicy a/p").starts_with("spec.selector: "));
    std::filesystem::remove_all(folder);
}

} // namespace
} // namespace manx::app
