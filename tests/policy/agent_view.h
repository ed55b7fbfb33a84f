// SPDX-License-Identifier: Apache-2.0
// The agent's way from objects to tables, with any tables behind it; and the oracle's view of the
// same objects.
#pragma once

#include "agent/app/policy_names.h"
#include "agent/calc/feed.h"
#include "agent/dataplane/policy_tables.h"
#include "tests/oracle/oracle.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace manx::testing_policy {

using nlohmann::json;

// Throws std::runtime_error where an object is of no kind that is known.
api::Kind kind_of(const json& object);
std::string key_of(const json& object); // kind, namespace and name
// A pod with a network on node n1, where the tests' agent runs.
bool is_local_pod(const json& object);
std::string print(const std::vector<json>& objects); // one a line

class AgentView {
public:
    // Small clusters are to see sets that outgrow their default.
    static calc::CalculatorOptions options(uint32_t rules = MANX_RULES) {
        return {.node_name = "n1", .rule_numbers = rules, .reconsider_entries = 4};
    }

    // Empties the tables. complete: what a test knows better of a local workload than its pod.
    explicit AgentView(dataplane::TableWriter& writer, calc::CalculatorOptions with = options(),
                       std::function<void(dataplane::LocalEndpoint&)> complete = {});

    // Fails where the object is refused; what was known of it stays.
    Result<void> put(const json& object);
    void remove(const json& object);
    // Into the tables; time passes, so that what nobody names goes and its room is given back.
    Result<void> flush();
    // Number of a workload, from 0, in the order in which they came.
    [[nodiscard]] uint16_t slot(const json& pod);

    calc::PolicyCalculator calculator;
    std::chrono::steady_clock::time_point now{};
    dataplane::PolicyTables tables;

private:
    std::function<void(dataplane::LocalEndpoint&)> complete_;
    app::PolicyNames names_;
    std::map<std::string, uint16_t> slots_;
};

// What is in force by the objects that came: one that is refused, or whose subject cannot be read,
// leaves an earlier state.
class InForce {
public:
    // Whether the object itself is in force now.
    bool put(const json& object);
    void remove(const json& object);
    [[nodiscard]] oracle::World world() const; // prepared

private:
    std::map<std::string, json> objects_;
};

} // namespace manx::testing_policy
