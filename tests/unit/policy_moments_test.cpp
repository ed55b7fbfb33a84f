// SPDX-License-Identifier: Apache-2.0
// What a packet meets between two writes of an update: the old policy or the new one, and never
// more than both allow. Endpoints are asked first, as the BPF programs do.
#include "tests/policy/generator.h"
#include "tests/policy/memory_world.h"

#include <fmt/format.h>

namespace manx::testing_policy {
namespace {

constexpr const char* kCalicoApi = "projectcalico.org/v3";

json pod(const std::string& name, const std::string& address, const char* node, json labels) {
    return {{"kind", "Pod"},
            {"metadata", {{"name", name}, {"namespace", "a"}, {"labels", std::move(labels)}}},
            {"spec", {{"nodeName", node}}},
            {"status", {{"podIPs", {{{"ip", address}}}}}}};
}

json deny(const std::string& source) {
    return {{"action", "Deny"}, {"source", {{"selector", source}}}};
}

json policy(const std::string& name, const std::string& selector, json rules) {
    return {
        {"apiVersion", kCalicoApi},
        {"kind", "NetworkPolicy"},
        {"metadata", {{"name", name}, {"namespace", "a"}}},
        {"spec", {{"selector", selector}, {"types", {"Ingress"}}, {"ingress", std::move(rules)}}}};
}

oracle::Query query(const std::string& from, const std::string& to) {
    return {.from = *IpAddress::parse(from),
            .to = *IpAddress::parse(to),
            .protocol = 6,
            .source_port = 1,
            .port = 80};
}

std::string text(const oracle::Query& query) {
    return fmt::format("{}:{} -> {}:{} protocol {}", query.from.text(), query.source_port,
                       query.to.text(), query.port, query.protocol);
}

// The answers before each write.
class Moments {
public:
    Moments(TableWorld& world, std::vector<oracle::Query> queries)
        : world_(world), queries_(std::move(queries)), before_(ask()) {
        world_.memory.on_write = [this](std::string_view) -> Result<void> {
            moments_.push_back(ask());
            return {};
        };
    }

    // Ends the watch: the first question that had an answer which is neither the old nor the new
    // one.
    std::optional<std::string> neither() {
        world_.memory.on_write = nullptr;
        const auto after = ask();
        for (size_t m = 0; m < moments_.size(); ++m) {
            for (size_t i = 0; i < queries_.size(); ++i) {
                const auto& now = moments_[m][i];
                if (now.shut) {
                    ++shut_;
                    continue;
                }
                if ((now.egress != before_[i].egress && now.egress != after[i].egress) ||
                    (now.ingress != before_[i].ingress && now.ingress != after[i].ingress)) {
                    return fmt::format("{} before write {} of {}: egress {} ingress {}",
                                       text(queries_[i]), m, moments_.size(), now.egress,
                                       now.ingress);
                }
            }
        }
        return std::nullopt;
    }

    [[nodiscard]] size_t writes() const { return moments_.size(); }

    // Answers that were not given, as the endpoint was shut.
    [[nodiscard]] size_t shut() const { return shut_; }

private:
    struct Answer : TableWorld::Answer {
        bool shut = false; // not ready: MANX_SET_DENY
    };

    using Answers = std::vector<Answer>;

    [[nodiscard]] Answers ask() const {
        Answers out;
        for (const auto& one : queries_) {
            const auto* from = world_.memory.endpoint(one.from);
            const auto* to = world_.memory.endpoint(one.to);
            out.push_back(
                {world_.ask(one), (from != nullptr && from->egress_set == MANX_SET_DENY) ||
                                      (to != nullptr && to->ingress_set == MANX_SET_DENY)});
        }
        return out;
    }

    TableWorld& world_;
    std::vector<oracle::Query> queries_;
    Answers before_;
    std::vector<Answers> moments_;
    size_t shut_ = 0;
};

// Peers on this node are known by their endpoints' entries, which are written one by one: whatever
// their order, a new set never meets the class that a peer had before.
TEST(PolicyMoments, LocalPeersOfAChangedSelector) {
    TableWorld world;
    std::vector<oracle::Query> queries;
    for (const int from : {1, 2, 3}) {
        const auto address = fmt::format("10.0.0.{}", from);
        world.put(pod(fmt::format("p{}", from), address, "n1", {{"x", "1"}, {"y", "1"}}));
        for (const int to : {1, 2, 3}) {
            if (from != to) {
                queries.push_back(query(address, fmt::format("10.0.0.{}", to)));
            }
        }
    }
    const auto rules = [](const char* selector) {
        return json{deny(selector), {{"action", "Allow"}}};
    };
    world.put(policy("p", "all()", rules("x == '1'")));
    world.flush();
    ASSERT_FALSE(world.ask(queries[0]).ingress);
    Moments moments(world, queries);
    world.put(policy("p", "all()", rules("y == '1'")));
    world.flush();
    EXPECT_EQ(moments.neither(), std::nullopt);
    EXPECT_GT(moments.writes(), 5U);
}

// An address inside of two networks that come at once is not in the outer one alone for a moment;
// nor is it when both go.
TEST(PolicyMoments, AnAddressInTwoNetworks) {
    TableWorld world;
    world.put(pod("server", "10.0.0.1", "n1", {{"app", "server"}}));
    const auto set = [](const char* name, json nets) -> json {
        return {{"apiVersion", kCalicoApi},
                {"kind", "GlobalNetworkSet"},
                {"metadata", {{"name", name}, {"labels", {{"set", name}}}}},
                {"spec", {{"nets", std::move(nets)}}}};
    };
    const auto rule = [](const char* action, const char* selector) -> json {
        return {{"action", action},
                {"source", {{"selector", selector}, {"namespaceSelector", "global()"}}}};
    };
    world.put(policy("p", "all()", {rule("Deny", "set == 'bad'"), rule("Allow", "set == 'good'")}));
    world.flush();
    const std::vector<oracle::Query> queries{query("192.0.2.1", "10.0.0.1")};
    for (const bool come : {true, false}) {
        Moments moments(world, queries);
        world.put(set("good", come ? json{"192.0.2.0/24"} : json::array()));
        world.put(set("bad", come ? json{"192.0.2.0/28"} : json::array()));
        world.flush();
        EXPECT_EQ(moments.neither(), std::nullopt) << come;
        EXPECT_FALSE(world.ask(queries[0]).ingress);
        EXPECT_EQ(world.ask(query("192.0.2.100", "10.0.0.1")).ingress, come);
    }
}

// The cluster changed while the agent was away: the class of the bad pod has another number, as a
// new policy asks for a label that it has, and the server's policy is another one.
TEST(PolicyMoments, RestartInAChangedCluster) {
    TableWorld world;
    TableWorld later;
    const std::vector<oracle::Query> queries{query("10.0.1.1", "10.0.0.1"),
                                             query("10.0.1.2", "10.0.0.1")};
    for (auto* one : {&world, &later}) {
        one->put(pod("server", "10.0.0.1", "n1", {{"app", "server"}}));
        one->put(pod("other", "10.0.0.2", "n1", {{"app", "other"}}));
        one->put(pod("bad", "10.0.1.1", "n2", {{"role", "bad"}, {"env", "prod"}}));
        one->put(pod("good", "10.0.1.2", "n2", {{"role", "good"}, {"env", "prod"}}));
    }
    const json allow = {{"action", "Allow"}};
    world.put(policy("p", "app == 'server'", {deny("role == 'bad'"), allow}));
    world.flush();
    later.put(
        policy("p", "app == 'server'", {deny("role == 'bad'"), deny("role == 'worse'"), allow}));
    later.put(policy("q", "app == 'other'", {deny("env == 'prod'")}));
    later.flush();
    Moments moments(world, queries);
    dataplane::PolicyTables adopted(world.memory);
    ASSERT_TRUE(adopted.resync(later.calculator.snapshot()));
    EXPECT_EQ(moments.neither(), std::nullopt);
    EXPECT_FALSE(world.ask(queries[0]).ingress);
    EXPECT_TRUE(world.ask(queries[1]).ingress);
}

// Any cluster, changed in any way: labels, namespaces, nets, policies.
TEST(PolicyMoments, RestartInAnyChangedCluster) {
    size_t writes = 0;
    size_t rounds_with_shut = 0;
    for (uint64_t round = 0; round < 150; ++round) {
        Generator generator(round + 1300000);
        const auto objects = generator.cluster();
        const auto other = generator.cluster(); // same names, other content
        auto queries = generator.queries(30);
        TableWorld first;
        TableWorld later;
        std::set<std::string> pods;
        for (size_t i = 0; i < objects.size(); ++i) {
            first.put(objects[i]);
            if (objects[i]["kind"] == "Pod" || i % 3 != 0) {
                later.put(objects[i]);
            }
        }
        first.flush();
        for (size_t i = 0; i < other.size(); i += 2) {
            if (other[i]["kind"] != "Pod") {
                later.put(other[i]);
                continue;
            }
            // Other labels; everything else stays.
            for (auto object : objects) {
                if (object["kind"] == "Pod" && other[i]["metadata"].contains("labels") &&
                    object["metadata"]["name"] == other[i]["metadata"]["name"]) {
                    object["metadata"]["labels"] = other[i]["metadata"]["labels"];
                    later.put(object);
                }
            }
        }
        later.flush();
        Moments moments(first, queries);
        dataplane::PolicyTables adopted(first.memory, [&first] { return first.now; });
        ASSERT_TRUE(adopted.resync(later.calculator.snapshot()));
        first.now += std::chrono::seconds(1);
        ASSERT_TRUE(adopted.collect());
        ASSERT_EQ(moments.neither(), std::nullopt) << "round " << round;
        for (const auto& one : queries) {
            ASSERT_EQ(first.ask(one).ingress, later.ask(one).ingress) << round;
            ASSERT_EQ(first.ask(one).egress, later.ask(one).egress) << round;
        }
        writes += moments.writes();
        rounds_with_shut += moments.shut() > 0 ? 1 : 0;
    }
    EXPECT_GT(writes, 1000U);
    // Endpoints are shut only where old sets are shared, classes merge and new sets disagree.
    EXPECT_LT(rounds_with_shut, 20U);
}

// What a class or a set had is there for those that still come with it.
TEST(PolicyMoments, WhatGoesIsLeftForAWhile) {
    TableWorld world;
    world.put(pod("server", "10.0.0.1", "n1", {{"app", "server"}}));
    world.put(pod("bad", "10.0.1.1", "n2", {{"role", "bad"}}));
    world.put(policy("p", "all()", {deny("role == 'bad'"), {{"action", "Allow"}}}));
    world.flush();
    const auto class_id = world.memory.classify(*IpAddress::parse("10.0.1.1")).class_id;
    const auto set = world.memory.endpoint(*IpAddress::parse("10.0.0.1"))->ingress_set;
    const auto denied = [&] {
        const auto verdict = world.memory.judge(set, class_id, 6, 1, 80);
        return !verdict.allow;
    };
    ASSERT_TRUE(denied());
    world.remove(pod("bad", "10.0.1.1", "n2", {}));
    ASSERT_TRUE(world.tables.apply(world.calculator.flush()));
    EXPECT_TRUE(denied()) << "the class is gone, its entry is not yet";
    EXPECT_TRUE(world.tables.waiting());
    world.now += std::chrono::seconds(1);
    ASSERT_TRUE(world.tables.collect());
    EXPECT_FALSE(denied()) << "nobody has it any more: the set's default";
    world.now += std::chrono::seconds(1);
    ASSERT_TRUE(world.tables.collect());
    EXPECT_FALSE(world.tables.waiting());

    world.put(pod("bad", "10.0.1.1", "n2", {{"role", "bad"}}));
    world.flush();
    world.remove(policy("p", "all()", {}));
    ASSERT_TRUE(world.tables.apply(world.calculator.flush()));
    EXPECT_TRUE(denied()) << "the set is gone, its entries are not yet";
    world.memory.on_write = [&](std::string_view) -> Result<void> {
        EXPECT_TRUE(denied()) << "the default goes first";
        return {};
    };
    world.now += std::chrono::seconds(1);
    ASSERT_TRUE(world.tables.collect());
    world.memory.on_write = nullptr;
    EXPECT_TRUE(world.memory.judge(set, class_id, 6, 1, 80).broken);

    // Back before it went: nothing of it may go afterwards.
    world.put(policy("p", "all()", {deny("role == 'bad'"), {{"action", "Allow"}}}));
    world.flush();
    world.remove(policy("p", "all()", {}));
    ASSERT_TRUE(world.tables.apply(world.calculator.flush()));
    world.put(policy("p", "all()", {deny("role == 'bad'"), {{"action", "Allow"}}}));
    world.flush();
    EXPECT_FALSE(world.ask(query("10.0.1.1", "10.0.0.1")).ingress);
}

// A policy for each of six workloads, with ten peers each.
struct Replacement {
    explicit Replacement(dataplane::MemoryTables::Limits limits) : world(limits) {
        for (int i = 0; i < 6; ++i) {
            world.put(pod(fmt::format("p{}", i), fmt::format("10.0.0.{}", i + 1), "n1",
                          {{"app", fmt::format("p{}", i)}}));
            for (int peer = 0; peer < 10; ++peer) {
                queries.push_back(
                    query(fmt::format("10.0.1.{}", peer + 1), fmt::format("10.0.0.{}", i + 1)));
            }
        }
        for (int peer = 0; peer < 10; ++peer) {
            const auto name = fmt::format("x{}", peer);
            world.put(pod(name, fmt::format("10.0.1.{}", peer + 1), "n2",
                          {{"old", name}, {"new", name}}));
        }
    }

    // By another label, the same is denied: at peers of even number.
    void put_policies(const std::string& label) {
        for (int i = 0; i < 6; ++i) {
            json rules = json::array();
            for (int peer = 0; peer < 10; ++peer) {
                json rule = deny(fmt::format("{} == 'x{}'", label, peer));
                rule["action"] = peer % 2 == 0 ? "Deny" : "Allow";
                rule["protocol"] = "TCP";
                rule["destination"]["ports"] = {80, (label == "old" ? 1000 : 2000) + i};
                rules.push_back(rule);
            }
            world.put(policy(fmt::format("p{}", i), fmt::format("app == 'p{}'", i), rules));
        }
    }

    TableWorld world;
    std::vector<oracle::Query> queries;
};

// Old and new do not fit side by side: in rounds, and still nobody is judged by anything else.
TEST(PolicyMoments, AFullTableIsReplacedInRounds) {
    Replacement all({});
    all.put_policies("old");
    all.world.flush();
    const auto usage = all.world.tables.usage();
    ASSERT_GT(usage.policies, 50U);
    for (const bool ports : {false, true}) {
        Replacement some({.ports = ports ? usage.port_entries * 5 / 3 : 262144,
                          .policies = ports ? 1048576 : usage.policies * 5 / 3});
        auto& world = some.world;
        some.put_policies("old");
        world.flush();
        some.put_policies("new");
        {
            Moments moments(world, some.queries);
            ASSERT_FALSE(world.tables.apply(world.calculator.flush()));
            EXPECT_EQ(moments.writes(), 0U);
            EXPECT_EQ(moments.neither(), std::nullopt);
        }
        int rounds = 0;
        while (world.tables.behind() && rounds < 50) {
            ++rounds;
            world.now += std::chrono::seconds(1);
            Moments moments(world, some.queries);
            const auto done = world.tables.resync(world.calculator.snapshot());
            EXPECT_TRUE(done || done.error().kind == ErrorKind::Exhausted);
            EXPECT_EQ(moments.neither(), std::nullopt);
            EXPECT_EQ(moments.shut(), 0U);
        }
        EXPECT_FALSE(world.tables.behind()) << (ports ? "ports" : "policies");
        EXPECT_GT(rounds, 1);
        for (size_t i = 0; i < some.queries.size(); ++i) {
            EXPECT_EQ(world.ask(some.queries[i]).ingress, i % 2 == 1) << i;
        }
        world.now += std::chrono::seconds(1);
        ASSERT_TRUE(world.tables.collect());
        EXPECT_EQ(world.tables.usage().policies, usage.policies);
    }
}

// No room for an address is found out before anything is written.
TEST(PolicyMoments, FullTablesOfAddressesKeepTheOldPolicy) {
    Replacement some({.addresses = 17}); // 6 endpoints, 16 classes
    auto& world = some.world;
    some.put_policies("old");
    world.flush();
    world.put(pod("more", "10.0.2.1", "n2", {{"old", "x0"}}));
    world.put(pod("most", "10.0.2.2", "n2", {{"old", "x0"}}));
    some.put_policies("new");
    Moments moments(world, some.queries);
    const auto applied = world.tables.apply(world.calculator.flush());
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().kind, ErrorKind::Exhausted);
    EXPECT_NE(applied.error().text().find("manx_class4"), std::string::npos)
        << applied.error().text();
    world.now += std::chrono::seconds(1);
    EXPECT_FALSE(world.tables.resync(world.calculator.snapshot()));
    EXPECT_EQ(moments.writes(), 0U);
    EXPECT_EQ(moments.neither(), std::nullopt);
    world.remove(pod("most", "10.0.2.2", "n2", {}));
    (void)world.calculator.flush();
    ASSERT_TRUE(world.tables.resync(world.calculator.snapshot()));
    EXPECT_FALSE(world.tables.behind());
}

} // namespace
} // namespace manx::testing_policy
