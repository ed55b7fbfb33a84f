// SPDX-License-Identifier: Apache-2.0
// The real programs against the oracle, on random clusters and packets: the objects go the agent's
// own way into the pinned tables, and packets and questions through BPF_PROG_TEST_RUN. The tables
// stay, so that each cluster replaces the one before. A failure is shrunk, and printed.
//
// MANX_POLICY_ROUNDS: so many clusters, in place of the default; MANX_POLICY_SEED: the first one.
#include "maps/abi/flow.h"
#include "tests/bpf/policy_node.h"
#include "tests/policy/generator.h"
#include "tests/policy/shrink.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <tuple>

namespace manx::testing_policy {
namespace {

constexpr int kQuestions = 240;
constexpr int kPackets = 80;
constexpr int kInvalid = 6; // percent

int setting(const char* name, int otherwise) {
    const char* given = std::getenv(name);
    return given == nullptr ? otherwise : std::atoi(given);
}

NodeFacts facts_of(const std::vector<json>& objects, uint32_t flags) {
    NodeFacts facts{.flags = flags, .services = {}};
    for (const auto& object : objects) {
        if (object["kind"] == "Service") {
            for (const auto& address : object["spec"]["clusterIPs"]) {
                facts.services.insert(*IpAddress::parse(address.get<std::string>()));
            }
        }
    }
    return facts;
}

// Packets of one flow would find it: only the first of them may be sent.
std::string flow_of(const oracle::Query& query) {
    const bool icmp = query.protocol == 1 || query.protocol == 58;
    auto one = fmt::format("{} {}", query.from.text(), icmp ? 0 : query.source_port);
    auto two = fmt::format("{} {}", query.to.text(), icmp ? 0 : query.port);
    if (two < one) {
        std::swap(one, two);
    }
    return fmt::format("{} {} {}", one, two, query.protocol);
}

// Questions first, then packets, each a flow of its own.
std::vector<Trial> trials(Generator& generator, const oracle::World& world,
                          const NodeFacts& facts) {
    std::vector<Trial> out;
    std::set<std::string> flows;
    int questions = 0;
    int packets = 0;
    for (const bool asking : {true, false}) {
        for (int tries = 0; tries < 8; ++tries) {
            for (const auto& query : generator.queries(asking ? kQuestions : kPackets)) {
                const Way way =
                    asking ? generator.pick<Way>({Way::Ask, Way::Ask, Way::Ask, Way::AskAtStack})
                           : generator.pick<Way>({Way::Send, Way::Send, Way::Send, Way::AtStack,
                                                  Way::FromHost, Way::Deferred});
                const Trial trial{query, way};
                if (!possible(world, facts, trial) ||
                    (asking ? questions >= kQuestions : packets >= kPackets)) {
                    continue;
                }
                if (asking) {
                    ++questions;
                    out.push_back(trial);
                } else if (flows.insert(flow_of(query)).second) {
                    ++packets;
                    out.push_back(trial);
                }
            }
        }
    }
    return out;
}

struct Case {
    std::vector<json> before; // what the tables held
    std::vector<json> objects;
    uint32_t flags = 0;
    uint64_t seed = 0; // of the order in which the objects come
    Trial trial;
};

class PolicyPrograms : public testing::Test {
protected:
    // Alone, in empty tables.
    std::optional<std::string> fails(const Case& one) {
        node_.start_afresh();
        node_.set_flags(one.flags);
        if (!one.before.empty()) {
            (void)node_.replace(one.before, one.seed - 1);
        }
        if (const auto wrong = node_.replace(one.objects, one.seed)) {
            return wrong;
        }
        const oracle::World world = node_.world();
        const NodeFacts facts = facts_of(one.objects, one.flags);
        if (!possible(world, facts, one.trial)) {
            return std::nullopt;
        }
        node_.start_counting();
        const auto wrong = node_.try_one(one.trial, expect(world, facts, one.trial));
        const auto count = one.trial.asks() ? std::nullopt : node_.wrong_count();
        node_.forget_flows();
        return wrong ? wrong : count ? std::optional(one.trial.text() + "\n" + *count) : count;
    }

    std::string smallest(Case one) {
        const bool alone = fails({{}, one.objects, one.flags, one.seed, one.trial}).has_value();
        if (alone) {
            one.before.clear();
        } else if (!fails(one)) {
            return "and not again, after " + std::to_string(one.before.size()) + " objects:\n" +
                   print(one.before) + "come:\n" + print(one.objects);
        }
        one.before = shrink(one.before, [&](const std::vector<json>& fewer) {
            Case smaller = one;
            smaller.before = fewer;
            return fails(smaller).has_value();
        });
        one.objects = shrink(one.objects, [&](const std::vector<json>& fewer) {
            Case smaller = one;
            smaller.objects = fewer;
            return fails(smaller).has_value();
        });
        const auto try_packet = [&](const auto& change) {
            Case smaller = one;
            change(smaller);
            if (fails(smaller)) {
                one = smaller;
            }
        };
        try_packet([](Case& smaller) { smaller.flags = 0; });
        try_packet(
            [](Case& smaller) { smaller.trial.way = smaller.trial.asks() ? Way::Ask : Way::Send; });
        try_packet([](Case& smaller) { smaller.trial.query.source_port = 40000; });
        try_packet([](Case& smaller) { smaller.trial.query.port = 80; });
        try_packet([](Case& smaller) { smaller.trial.query.protocol = 6; });
        return (one.before.empty() ? "" : "after\n" + print(one.before) + "come\n") +
               print(one.objects) + fails(one).value_or("");
    }

    // Finds who is to blame for a wrong count, or for a wrong verdict.
    std::string explain(const std::string& wrong, const Case& one,
                        const std::vector<Trial>& suspects) {
        fmt::print("round {}: {}\n", one.seed, wrong); // at once: shrinking takes its time
        (void)std::fflush(stdout);
        for (const auto& trial : suspects) {
            Case alone = one;
            alone.trial = trial;
            alone.before.clear();
            if (fails(alone)) {
                return wrong + "\n" + smallest(alone);
            }
        }
        Case together = one;
        together.trial = suspects.front();
        return wrong + "\n" + smallest(together);
    }

    PolicyNode node_;
};

TEST_F(PolicyPrograms, SayWhatTheOracleSays) {
    const int rounds = setting("MANX_POLICY_ROUNDS", 2000);
    const auto first = static_cast<uint64_t>(setting("MANX_POLICY_SEED", 1));
    size_t asked = 0;
    size_t sent = 0;
    size_t denied = 0;
    size_t staged = 0;
    std::vector<json> before;
    for (uint64_t seed = first; seed < first + static_cast<uint64_t>(rounds); ++seed) {
        Generator generator(seed, kInvalid);
        Case one{before, generator.cluster(), 0, seed, {}};
        for (const uint32_t flag :
             {MANX_CONFIG_ALLOW_VXLAN, MANX_CONFIG_ALLOW_IPIP, MANX_CONFIG_HOST_DROP}) {
            one.flags |= generator.chance(50) ? flag : 0;
        }
        node_.set_flags(one.flags);
        if (const auto wrong = node_.replace(one.objects, seed)) {
            FAIL() << "round " << seed << ": " << *wrong;
        }
        const oracle::World world = node_.world();
        const NodeFacts facts = facts_of(one.objects, one.flags);
        const auto all = trials(generator, world, facts);
        std::vector<Trial> packets;
        node_.start_counting();
        for (const auto& trial : all) {
            const Expected expected = expect(world, facts, trial);
            if (const auto wrong = node_.try_one(trial, expected)) {
                FAIL() << "round " << seed << ": " << explain(*wrong, one, {trial});
            }
            if (!trial.asks()) {
                packets.push_back(trial);
            }
            ++(trial.asks() ? asked : sent);
            denied += expected.egress.empty() && expected.ingress.empty() ? 0
                      : expected.reason == MANX_DROP_POLICY_EGRESS ||
                              expected.reason == MANX_DROP_POLICY_INGRESS
                          ? 1
                          : 0;
            staged += expected.staged.size();
        }
        if (const auto wrong = packets.empty() ? std::nullopt : node_.wrong_count()) {
            FAIL() << "round " << seed << ": " << explain(*wrong, one, packets);
        }
        node_.forget_flows();
        before = one.objects;
    }
    fmt::print("{} clusters, {} questions, {} packets; {} denied by policy, {} decided by staged "
               "policy\n",
               rounds, asked, sent, denied, staged);
    if (rounds < 100) {
        return;
    }
    // The case is worth its time only if it meets everything.
    EXPECT_GT(denied, (asked + sent) / 20);
    EXPECT_GT(staged, (asked + sent) / 100);
}

} // namespace
} // namespace manx::testing_policy
