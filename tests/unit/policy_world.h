// SPDX-License-Identifier: Apache-2.0
// A calculator with tables behind it, fed with the objects that the oracle sees too.
#pragma once

#include "agent/calc/feed.h"
#include "agent/dataplane/policy_tables.h"
#include "tests/oracle/oracle.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace manx::testing_policy {

using nlohmann::json;

inline api::Kind kind_of(const json& object) {
    const auto kind =
        api::find_kind(object.value("apiVersion", "v1"), object["kind"].get<std::string>());
    EXPECT_TRUE(kind) << object.dump();
    return *kind;
}

class TableWorld {
public:
    // Small clusters are to see sets that outgrow their default.
    static calc::CalculatorOptions options() {
        return {.node_name = "n1", .reconsider_entries = 4};
    }

    TableWorld() : calculator(options()), tables(memory, [this] { return now; }) {
        EXPECT_TRUE(tables.resync({}));
    }

    void put(const json& object) {
        const auto fed = calc::feed(calculator, kind_of(object), object);
        EXPECT_TRUE(fed) << fed.error().text();
        if (object["kind"] == "Pod" && object["spec"].value("nodeName", "") == "n1") {
            const std::string name = object["metadata"].value("namespace", "") + "/" +
                                     object["metadata"].value("name", "");
            const auto [at, made] = slots_.try_emplace(name, slots_.size());
            const auto local = calc::local_from_pod(object, static_cast<uint16_t>(at->second));
            ASSERT_TRUE(local);
            calculator.upsert_local(*local);
        }
    }

    void remove(const json& object) {
        const std::string ns = object["metadata"].value("namespace", "");
        const std::string name = object["metadata"].value("name", "");
        calculator.remove(kind_of(object), ns, name);
        if (object["kind"] == "Pod" && object["spec"].value("nodeName", "") == "n1") {
            calculator.remove_local(calc::local_from_pod(object, 0)->interface);
        }
    }

    void flush() {
        now += std::chrono::seconds(1);
        const auto applied = tables.apply(calculator.flush());
        EXPECT_TRUE(applied) << applied.error().text();
    }

    // As the BPF programs judge: both sides where both are local.
    struct Answer {
        bool egress = true;
        bool ingress = true;
    };

    [[nodiscard]] Answer ask(const oracle::Query& query) const {
        const auto side = [&](const IpAddress& own, const IpAddress& other, bool ingress) {
            const manx_endpoint* endpoint = memory.endpoint(own);
            if (endpoint == nullptr) {
                return true;
            }
            const uint32_t set = ingress ? endpoint->ingress_set : endpoint->egress_set;
            const auto verdict = memory.judge(
                set, memory.classify(other).class_id, static_cast<uint8_t>(query.protocol),
                static_cast<uint16_t>(query.source_port), static_cast<uint16_t>(query.port));
            EXPECT_FALSE(verdict.broken);
            return verdict.allow;
        };
        return {side(query.from, query.to, false), side(query.to, query.from, true)};
    }

    dataplane::MemoryTables memory;
    calc::PolicyCalculator calculator;
    std::chrono::steady_clock::time_point now{};
    dataplane::PolicyTables tables;

private:
    std::map<std::string, size_t> slots_;
};

} // namespace manx::testing_policy
