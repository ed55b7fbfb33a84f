// SPDX-License-Identifier: Apache-2.0
// The compiled tables against the oracle, on random clusters and packets. A failure is shrunk: the
// smallest set of objects that still shows it is printed.
#include "tests/unit/policy_generator.h"
#include "tests/unit/policy_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace manx::testing_policy {
namespace {

std::string describe(const oracle::Query& query) {
    return fmt::format("{}:{} -> {}:{} protocol {}", query.from.text(), query.source_port,
                       query.to.text(), query.port, query.protocol);
}

// The first query that both judge differently, with both words.
std::optional<std::string> difference(const TableWorld& tables, const oracle::World& world,
                                      const std::vector<oracle::Query>& queries) {
    for (const auto& query : queries) {
        const auto got = tables.ask(query);
        const oracle::Thing* from = world.pod_at(query.from);
        const oracle::Thing* to = world.pod_at(query.to);
        const auto check = [&](const oracle::Thing* pod, bool ingress,
                               bool allow) -> std::optional<std::string> {
            if (pod == nullptr || pod->node != "n1") {
                return std::nullopt;
            }
            const auto want = world.judge(*pod, ingress, query);
            if (want.allow == allow) {
                return std::nullopt;
            }
            const auto judged = tables.calculator.judge(
                ingress ? query.to : query.from,
                ingress ? api::Direction::Ingress : api::Direction::Egress,
                ingress ? query.from : query.to,
                {static_cast<uint8_t>(query.protocol), static_cast<uint16_t>(query.source_port),
                 static_cast<uint16_t>(query.port)});
            return fmt::format("{} {}: oracle {} ({}), tables {}, walk {} ({})",
                               ingress ? "ingress" : "egress", describe(query), want.allow,
                               want.rule, allow, judged.allow, judged.reason);
        };
        for (const auto& wrong : {check(from, false, got.egress), check(to, true, got.ingress)}) {
            if (wrong) {
                return wrong;
            }
        }
    }
    return std::nullopt;
}

std::optional<std::string> fails(const std::vector<json>& objects,
                                 const std::vector<oracle::Query>& queries) {
    TableWorld tables;
    oracle::World world;
    for (const auto& object : objects) {
        tables.put(object);
        world.add(object);
    }
    tables.flush();
    world.prepare();
    return difference(tables, world, queries);
}

// Leaves out objects, then rules, as long as it still fails.
std::vector<json> shrink(std::vector<json> objects, const std::vector<oracle::Query>& queries) {
    bool smaller = true;
    while (smaller) {
        smaller = false;
        for (size_t i = 0; i < objects.size(); ++i) {
            auto fewer = objects;
            fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(i));
            if (fails(fewer, queries)) {
                objects = std::move(fewer);
                smaller = true;
                break;
            }
        }
        for (size_t i = 0; !smaller && i < objects.size(); ++i) {
            for (const char* list : {"ingress", "egress"}) {
                if (!objects[i]["spec"].is_object() || !objects[i]["spec"].contains(list)) {
                    continue;
                }
                for (size_t r = 0; r < objects[i]["spec"][list].size(); ++r) {
                    auto fewer = objects;
                    fewer[i]["spec"][list].erase(r);
                    if (fails(fewer, queries)) {
                        objects = std::move(fewer);
                        smaller = true;
                        break;
                    }
                }
            }
        }
    }
    return objects;
}

std::string print(const std::vector<json>& objects) {
    std::string out;
    for (const auto& object : objects) {
        out += object.dump() + "\n";
    }
    return out;
}

int rounds(int otherwise) {
    const char* given = std::getenv("MANX_POLICY_ROUNDS");
    return given == nullptr ? otherwise : std::atoi(given);
}

TEST(PolicyProperty, TablesSayWhatTheOracleSays) {
    for (int round = 0; round < rounds(400); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 1);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(objects, 200);
        if (const auto wrong = fails(objects, queries)) {
            const auto small = shrink(objects, queries);
            FAIL() << "round " << round << "\n"
                   << print(small) << fails(small, queries).value_or("") << "\n";
        }
    }
}

// What the tables say, without their numbers: addresses to what every set says of them.
std::string meaning(const TableWorld& tables, const std::vector<oracle::Query>& queries) {
    std::string out;
    for (const auto& query : queries) {
        const auto answer = tables.ask(query);
        out += answer.egress ? 'e' : '-';
        out += answer.ingress ? 'i' : '-';
    }
    return out;
}

std::string sizes(const TableWorld& tables) {
    const auto stats = tables.calculator.stats();
    const auto usage = tables.tables.usage();
    return fmt::format(
        "policies {} active {} matchers {} classes {} prefixes {} sets {} entries {} "
        "tables {}/{} policies {}",
        stats.policies, stats.active_policies, stats.matchers, stats.classes, stats.prefixes,
        stats.sets, stats.set_entries, stats.port_tables, usage.tables, usage.policies);
}

// Changes in any order, one at a time, with deletions on the way: at every step as the oracle says,
// and in the end the very same tables as from scratch.
TEST(PolicyProperty, IncrementalIsFromScratch) {
    for (int round = 0; round < rounds(150); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 100000);
        auto objects = generator.cluster();
        const auto other = generator.cluster(); // same names, other content
        const auto queries = generator.queries(objects, 60);
        std::mt19937_64 order(static_cast<uint64_t>(round));
        TableWorld step_by_step;
        std::map<std::string, json> present;
        const auto key_of = [](const json& object) {
            return object["kind"].get<std::string>() + object.value("apiVersion", "") +
                   object["metadata"].value("namespace", "") + "/" +
                   object["metadata"]["name"].get<std::string>();
        };
        // Addresses belong to one pod at a time: pods of the other cluster stay out.
        std::vector<json> churn;
        for (const auto& object : other) {
            if (object["kind"] != "Pod") {
                churn.push_back(object);
            }
        }
        std::vector<std::pair<bool, json>> events; // put or remove
        for (const auto& object : churn) {
            events.emplace_back(true, object);
        }
        for (const auto& object : objects) {
            events.emplace_back(true, object);
        }
        std::ranges::shuffle(events, order);
        for (const auto& object : churn) {
            events.emplace_back(false, object);
        }
        std::ranges::shuffle(objects, order);
        for (const auto& object : objects) {
            events.emplace_back(true, object);
        }
        size_t count = 0;
        for (const auto& [put, object] : events) {
            if (put) {
                step_by_step.put(object);
                present[key_of(object)] = object;
            } else {
                step_by_step.remove(object);
                present.erase(key_of(object));
            }
            if (order() % 3 == 0) {
                step_by_step.flush();
                if (++count % 4 == 0) {
                    oracle::World world;
                    for (const auto& [key, one] : present) {
                        world.add(one);
                    }
                    world.prepare();
                    const auto wrong = difference(step_by_step, world, queries);
                    ASSERT_FALSE(wrong) << "round " << round << ": " << *wrong;
                }
            }
        }
        step_by_step.flush();
        TableWorld scratch;
        for (const auto& object : objects) {
            scratch.put(object);
        }
        scratch.flush();
        ASSERT_EQ(meaning(step_by_step, queries), meaning(scratch, queries)) << "round " << round;
        ASSERT_EQ(sizes(step_by_step), sizes(scratch)) << "round " << round;
    }
}

// While an update is written, every packet is judged by the old policy or by the new one.
TEST(PolicyProperty, EveryMomentIsOldOrNew) {
    for (int round = 0; round < rounds(60); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 500000);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(objects, 25);
        TableWorld tables;
        for (const auto& object : objects) {
            tables.put(object);
        }
        tables.flush();
        for (int change = 0; change < 6; ++change) {
            std::vector<TableWorld::Answer> before;
            for (const auto& query : queries) {
                before.push_back(tables.ask(query));
            }
            tables.put(generator.policy(1 + generator.below(6)));
            const auto update = tables.calculator.flush();
            std::vector<std::vector<TableWorld::Answer>> moments;
            tables.memory.on_write = [&](std::string_view) -> Result<void> {
                auto& moment = moments.emplace_back();
                for (const auto& query : queries) {
                    moment.push_back(tables.ask(query));
                }
                return {};
            };
            tables.now += std::chrono::seconds(1);
            ASSERT_TRUE(tables.tables.apply(update));
            tables.memory.on_write = nullptr;
            for (size_t i = 0; i < queries.size(); ++i) {
                const auto after = tables.ask(queries[i]);
                for (const auto& moment : moments) {
                    ASSERT_TRUE(moment[i].egress == before[i].egress ||
                                moment[i].egress == after.egress);
                    ASSERT_TRUE(moment[i].ingress == before[i].ingress ||
                                moment[i].ingress == after.ingress);
                }
            }
        }
    }
}

// A new process finds the tables of the old one: everything the same means nothing is written.
TEST(PolicyProperty, RestartAdopts) {
    for (int round = 0; round < rounds(40); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 900000);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(objects, 60);
        TableWorld first;
        for (const auto& object : objects) {
            first.put(object);
        }
        first.flush();
        const std::string before = meaning(first, queries);
        calc::PolicyCalculator second({.node_name = "n1"});
        auto shuffled = objects;
        std::ranges::shuffle(shuffled, std::mt19937_64(static_cast<uint64_t>(round)));
        uint16_t slot = 0;
        for (const auto& object : shuffled) {
            ASSERT_TRUE(calc::feed(second, kind_of(object), object));
        }
        for (const auto& object : objects) { // slots as the CNI server kept them
            if (object["kind"] == "Pod" && object["spec"]["nodeName"] == "n1") {
                second.upsert_local(*calc::local_from_pod(object, slot++));
            }
        }
        (void)second.flush();
        int writes = 0;
        first.memory.on_write = [&](std::string_view what) -> Result<void> {
            writes += what == "slot" ? 0 : 1;
            return {};
        };
        dataplane::PolicyTables adopted(first.memory);
        ASSERT_TRUE(adopted.resync(second.snapshot()));
        first.memory.on_write = nullptr;
        EXPECT_EQ(writes, 0) << "round " << round;
        EXPECT_EQ(meaning(first, queries), before);
        EXPECT_EQ(adopted.usage().policies, first.tables.usage().policies);
    }
}

// No room: nothing changes; with room again, resync brings the tables on.
TEST(PolicyProperty, FullTableKeepsTheOldPolicy) {
    Generator generator(42);
    const auto objects = generator.cluster();
    const auto queries = generator.queries(objects, 100);
    dataplane::MemoryTables memory({.ports = 4096, .policies = 40});
    dataplane::PolicyTables tables(memory);
    ASSERT_TRUE(tables.resync({}));
    calc::PolicyCalculator calculator({.node_name = "n1"});
    uint16_t slot = 0;
    const auto put = [&](const json& object) {
        ASSERT_TRUE(calc::feed(calculator, kind_of(object), object));
        if (object["kind"] == "Pod" && object["spec"]["nodeName"] == "n1") {
            calculator.upsert_local(*calc::local_from_pod(object, slot++));
        }
    };
    for (const auto& object : objects) {
        if (object["kind"] == "Pod" || object["kind"] == "Namespace") {
            put(object);
        }
    }
    ASSERT_TRUE(tables.apply(calculator.flush()));
    std::vector<json> added;
    bool full = false;
    for (int i = 0; i < 60 && !full; ++i) {
        added.push_back(generator.policy(i));
        put(added.back());
        int writes = 0;
        memory.on_write = [&](std::string_view) -> Result<void> {
            ++writes;
            return {};
        };
        const auto update = calculator.flush();
        const auto applied = tables.apply(update);
        full = !applied;
        if (full) {
            EXPECT_EQ(applied.error().kind, ErrorKind::Exhausted);
            EXPECT_EQ(writes, 0) << "nothing was touched";
        }
        memory.on_write = nullptr;
    }
    ASSERT_TRUE(full);
    EXPECT_TRUE(tables.behind());
    for (const auto& object : added) {
        calculator.remove(kind_of(object), object["metadata"].value("namespace", ""),
                          object["metadata"]["name"].get<std::string>());
    }
    (void)calculator.flush();
    ASSERT_TRUE(tables.resync(calculator.snapshot()));
    EXPECT_FALSE(tables.behind());
    for (const auto& query : queries) {
        if (const auto* endpoint = memory.endpoint(query.to)) {
            EXPECT_EQ(endpoint->ingress_set, uint32_t{MANX_SET_ALLOW});
        }
    }
}

} // namespace
} // namespace manx::testing_policy
