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

private:
    using Answers = std::vector<TableWorld::Answer>;

    [[nodiscard]] Answers ask() const {
        Answers out;
        for (const auto& one : queries_) {
            out.push_back(world_.ask(one));
        }
        return out;
    }

    TableWorld& world_;
    std::vector<oracle::Query> queries_;
    Answers before_;
    std::vector<Answers> moments_;
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

} // namespace
} // namespace manx::testing_policy
