// SPDX-License-Identifier: Apache-2.0
// The compiled tables against the oracle, on random clusters and packets. A failure is shrunk: the
// smallest set of objects that still shows it is printed.
#include "tests/policy/generator.h"
#include "tests/policy/memory_world.h"
#include "tests/policy/shrink.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
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

// Invalid objects are in it: those that are refused are refused by both.
std::optional<std::string> fails(const std::vector<json>& objects,
                                 const std::vector<oracle::Query>& queries) {
    TableWorld tables;
    InForce in_force;
    for (const auto& object : objects) {
        const bool taken = static_cast<AgentView&>(tables).put(object).has_value();
        if (taken != in_force.put(object)) {
            return fmt::format("{}: {}", taken ? "taken" : "refused", object.dump());
        }
    }
    tables.flush();
    return difference(tables, in_force.world(), queries);
}

int rounds(int otherwise) {
    const char* given = std::getenv("MANX_POLICY_ROUNDS");
    return given == nullptr ? otherwise : std::atoi(given);
}

TEST(PolicyProperty, TablesSayWhatTheOracleSays) {
    for (int round = 0; round < rounds(400); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 1, 6);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(200);
        if (const auto wrong = fails(objects, queries)) {
            const auto small = shrink(objects, [&](const std::vector<json>& fewer) {
                return fails(fewer, queries).has_value();
            });
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
    return fmt::format("policies {} active {} matchers {} classes {} prefixes {} sets {}",
                       stats.policies, stats.active_policies, stats.matchers, stats.classes,
                       stats.prefixes, stats.sets);
}

std::string port_table_text(dataplane::MemoryTables& memory, uint32_t offset, uint32_t count) {
    std::string out;
    const auto ports = memory.read_ports(offset, count);
    EXPECT_TRUE(ports);
    for (const auto& port : *ports) {
        out += fmt::format("{:x}:{}:{}:{}", port.last, port.action, port.rule, port.flags);
        out += port.action == MANX_ACTION_BY_SOURCE_PORT
                   ? "(" + port_table_text(memory, port.next, port.next_count) + ")"
                   : " ";
    }
    return out;
}

// The tables without what may differ: numbers of sets, slots and rooms, and which class is a set's
// default. Every endpoint's four sets, and what each says of every known address and of unknown
// ones. Entries that no endpoint or address leads to are failures.
std::string canonical(dataplane::MemoryTables& memory) {
    std::map<std::pair<uint32_t, uint32_t>, size_t> tables; // -> hash of the text
    EXPECT_TRUE(memory.each_policy([&](const dataplane::PolicyEntry& entry) {
        tables[{entry.first.set, entry.first.class_id}] = std::hash<std::string>{}(
            port_table_text(memory, entry.second.offset, entry.second.count));
    }));
    std::map<Cidr, manx_class> classes;
    std::set<uint32_t> numbers{0, MANX_CLASS_ANY};
    EXPECT_TRUE(memory.each_class([&](const dataplane::ClassEntry& entry) {
        classes.insert(entry);
        numbers.insert(entry.second.class_id);
    }));
    std::set<uint32_t> sets;
    std::string out;
    EXPECT_TRUE(memory.each_endpoint([&](const IpAddress& address, const manx_endpoint& value) {
        out += fmt::format("endpoint {} flags {}\n", address.text(), value.flags);
        numbers.insert(value.class_id);
        for (const uint32_t set :
             {value.ingress_set, value.egress_set, value.staged_ingress, value.staged_egress}) {
            if (set < MANX_SET_FIRST) {
                out += fmt::format("  {}\n", set);
                continue;
            }
            sets.insert(set);
            const auto word = [&](uint32_t class_id) {
                const auto found = tables.find({set, class_id});
                return found != tables.end() ? found->second : tables.at({set, MANX_CLASS_ANY});
            };
            out += fmt::format("  unknown {:x}", word(0));
            for (const auto& [prefix, one] : classes) {
                out += fmt::format(" {} {:x}", prefix.text(), word(one.class_id));
            }
            out += "\n";
        }
    }));
    for (const auto& [prefix, one] : classes) {
        out += fmt::format("{} flags {}\n", prefix.text(), one.flags);
    }
    for (const auto& [key, table] : tables) {
        EXPECT_TRUE(sets.contains(key.first)) << "no endpoint has set " << key.first;
        EXPECT_TRUE(numbers.contains(key.second)) << "no address has class " << key.second;
    }
    return out;
}

// Changes in any order, one at a time, with deletions on the way: at every step as the oracle says,
// and in the end the very same tables as from scratch.
TEST(PolicyProperty, IncrementalIsFromScratch) {
    size_t inverted = 0;
    for (int round = 0; round < rounds(150); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 100000);
        auto objects = generator.cluster();
        const auto other = generator.cluster(); // same names, other content
        const auto queries = generator.queries(60);
        std::mt19937_64 order(static_cast<uint64_t>(round));
        TableWorld step_by_step;
        std::map<std::string, json> present;
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
        ASSERT_EQ(canonical(step_by_step.memory), canonical(scratch.memory)) << "round " << round;
        ASSERT_EQ(sizes(step_by_step), sizes(scratch)) << "round " << round;
        inverted += scratch.calculator.stats().inverted_sets;
    }
    EXPECT_GT(inverted, 0U) << "no set has another default: the case covers less than it says";
}

// Whatever the CNI server knew: of the pools that hold an address the longest decides.
TEST(PolicyTables, MasqueradingFollowsThePools) {
    TableWorld tables;
    const auto pool = [](const char* name, const char* cidr, bool nat) {
        return json{{"apiVersion", "crd.projectcalico.org/v1"},
                    {"kind", "IPPool"},
                    {"metadata", {{"name", name}}},
                    {"spec", {{"cidr", cidr}, {"natOutgoing", nat}}}};
    };
    tables.put(json::parse(R"j({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1"},
        "status": {"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}})j"));
    const auto masqueraded = [&](const char* address) {
        tables.flush();
        const manx_endpoint* endpoint = tables.memory.endpoint(*IpAddress::parse(address));
        EXPECT_NE(endpoint, nullptr);
        return endpoint != nullptr && (endpoint->flags & MANX_EP_NAT_OUTGOING) != 0;
    };
    EXPECT_FALSE(masqueraded("10.1.0.1"));
    tables.put(pool("wide", "10.0.0.0/8", true));
    EXPECT_TRUE(masqueraded("10.1.0.1"));
    EXPECT_FALSE(masqueraded("fd00::1"));
    tables.put(pool("long", "10.1.0.0/16", false));
    EXPECT_FALSE(masqueraded("10.1.0.1"));
    tables.remove(pool("long", "10.1.0.0/16", false));
    EXPECT_TRUE(masqueraded("10.1.0.1"));
    tables.remove(pool("wide", "10.0.0.0/8", true));
    EXPECT_FALSE(masqueraded("10.1.0.1"));
}

// Kinds that the generator has no need of, as the oracle does not judge by them.
constexpr std::array kOtherKinds{
    R"j({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3", "annotations":
         {"projectcalico.org/IPv4Address": "192.0.2.3/24"}}, "status": {"addresses": []}})j",
    R"j({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc2", "namespace": "a"},
         "spec": {"clusterIP": "10.96.0.2", "ports": [{"port": 80}]}})j",
    R"j({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": "pool"},
         "spec": {"cidr": "10.0.0.0/16", "natOutgoing": true}})j",
    R"j({"apiVersion": "crd.projectcalico.org/v1", "kind": "HostEndpoint", "metadata":
         {"name": "host", "labels": {"app": "x"}}, "spec": {"node": "n2", "interfaceName": "*",
         "expectedIPs": ["192.0.2.3"], "ports": [{"name": "web", "protocol": "TCP", "port": 80}]}})j",
    R"j({"apiVersion": "crd.projectcalico.org/v1", "kind": "StagedKubernetesNetworkPolicy",
         "metadata": {"name": "staged", "namespace": "a"}, "spec": {"podSelector": {}}})j",
};

// All kinds in a few random orders, each event in an update of its own: the same tables.
TEST(PolicyProperty, AnyOrderIsTheSame) {
    std::set<std::string> kinds;
    for (int round = 0; round < rounds(30); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 700000);
        auto objects = generator.cluster();
        for (const char* text : kOtherKinds) {
            objects.push_back(json::parse(text));
        }
        std::mt19937_64 order(static_cast<uint64_t>(round));
        std::string first;
        for (int permutation = 0; permutation < 4; ++permutation) {
            auto shuffled = objects;
            std::ranges::shuffle(shuffled, order);
            TableWorld tables;
            for (const auto& object : shuffled) {
                kinds.insert(object["kind"].get<std::string>() + " " +
                             object.value("apiVersion", ""));
                tables.put(object);
                tables.flush();
                if (order() % 5 == 0) { // goes, and comes back
                    tables.remove(object);
                    tables.flush();
                    tables.put(object);
                    tables.flush();
                }
            }
            const std::string got = canonical(tables.memory);
            if (permutation == 0) {
                first = got;
            }
            ASSERT_EQ(got, first) << "round " << round << " permutation " << permutation;
        }
    }
    // Every kind that the calculator takes is among them (policies of seven kinds).
    EXPECT_EQ(kinds.size(), 18U) << fmt::format("{}", fmt::join(kinds, ", "));
}

// While an update is written, every packet is judged by the old policy or by the new one.
TEST(PolicyProperty, EveryMomentIsOldOrNew) {
    for (int round = 0; round < rounds(60); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 500000);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(25);
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

// A subject that nobody can read: a new policy isolates its namespace, one that was good before
// stays as it was.
TEST(PolicyProperty, UnreadableSubjectNeverOpens) {
    Generator generator(7);
    auto pod = generator.plain_pod(1);
    pod["metadata"]["namespace"] = "a";
    pod["spec"]["nodeName"] = "n1";
    auto other = generator.plain_pod(2);
    other["spec"]["nodeName"] = "n2";
    const auto policy = [](const char* selector) {
        return json{{"apiVersion", "crd.projectcalico.org/v1"},
                    {"kind", "NetworkPolicy"},
                    {"metadata", {{"name", "p"}, {"namespace", "a"}}},
                    {"spec",
                     {{"selector", selector},
                      {"types", {"Ingress"}},
                      {"ingress", {{{"action", "Allow"}}}}}}};
    };
    const oracle::Query query{.from = *IpAddress::parse("10.0.0.2"),
                              .to = *IpAddress::parse("10.0.0.1"),
                              .protocol = 6,
                              .source_port = 1,
                              .port = 80};
    TableWorld tables;
    tables.put(pod);
    tables.put(other);
    tables.put(policy("color near 'red'"));
    tables.flush();
    EXPECT_FALSE(tables.ask(query).ingress) << "new: the namespace is isolated";
    tables.put(policy("all()"));
    tables.flush();
    EXPECT_TRUE(tables.ask(query).ingress);
    tables.put(policy("color near 'red'"));
    tables.flush();
    EXPECT_TRUE(tables.ask(query).ingress) << "changed: the last good state stays";
    tables.remove(policy("all()"));
    tables.put(policy("color near 'red'"));
    tables.flush();
    EXPECT_FALSE(tables.ask(query).ingress);
}

// A new process finds the tables of the old one: everything the same means nothing is written.
TEST(PolicyProperty, RestartAdopts) {
    for (int round = 0; round < rounds(40); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 900000);
        const auto objects = generator.cluster();
        const auto queries = generator.queries(60);
        TableWorld first;
        for (const auto& object : objects) {
            first.put(object);
        }
        first.flush();
        const std::string before = meaning(first, queries);
        calc::PolicyCalculator second(TableWorld::options());
        auto shuffled = objects;
        std::ranges::shuffle(shuffled, std::mt19937_64(static_cast<uint64_t>(round)));
        uint16_t slot = 0;
        for (const auto& object : shuffled) {
            ASSERT_TRUE(calc::feed(second, kind_of(object), object));
        }
        for (const auto& object : objects) { // slots as the CNI server kept them
            if (is_local_pod(object)) {
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

// The cluster changed while nobody looked: the new process brings the tables on, and nothing of the
// old cluster stays.
TEST(PolicyProperty, RestartInAChangedClusterConverges) {
    for (int round = 0; round < rounds(80); ++round) {
        Generator generator(static_cast<uint64_t>(round) + 1100000);
        const auto objects = generator.cluster();
        const auto other = generator.cluster(); // same names, other content
        TableWorld first;
        for (const auto& object : objects) {
            first.put(object);
        }
        first.flush();
        // Pods keep their addresses; a third of the rest changed, a third is gone.
        std::vector<json> now;
        for (size_t i = 0; i < objects.size(); ++i) {
            if (objects[i]["kind"] == "Pod" || i % 3 != 0) {
                now.push_back(objects[i]);
            }
        }
        for (size_t i = 0; i < other.size(); i += 3) {
            if (other[i]["kind"] != "Pod") {
                now.push_back(other[i]);
            }
        }
        TableWorld scratch;
        for (const auto& object : now) {
            scratch.put(object);
        }
        scratch.flush();
        dataplane::PolicyTables adopted(first.memory, [&first] { return first.now; });
        ASSERT_TRUE(adopted.resync(scratch.calculator.snapshot()));
        first.now += std::chrono::seconds(1);
        ASSERT_TRUE(adopted.collect());
        ASSERT_EQ(canonical(first.memory), canonical(scratch.memory)) << "round " << round;
    }
}

// No room: nothing changes; with room again, resync brings the tables on.
TEST(PolicyProperty, FullTableKeepsTheOldPolicy) {
    Generator generator(42);
    const auto objects = generator.cluster();
    const auto queries = generator.queries(100);
    dataplane::MemoryTables memory({.ports = 4096, .policies = 40});
    dataplane::PolicyTables tables(memory);
    ASSERT_TRUE(tables.resync({}));
    calc::PolicyCalculator calculator({.node_name = "n1"});
    uint16_t slot = 0;
    const auto put = [&](const json& object) {
        ASSERT_TRUE(calc::feed(calculator, kind_of(object), object));
        if (is_local_pod(object)) {
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
