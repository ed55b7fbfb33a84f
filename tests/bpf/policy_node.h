// SPDX-License-Identifier: Apache-2.0
// A node with the real programs and tables, and the agent's own way from objects into them. The
// programs are loaded once; one world of objects replaces another in the same tables.
#pragma once

#include "agent/dataplane/pinned_tables.h"
#include "agent/dataplane/question.h"
#include "loader/loader.h"
#include "tests/bpf/policy_expectation.h"
#include "tests/policy/agent_view.h"

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace manx::testing_policy {

class PolicyNode {
public:
    // Enters a sandbox: once per process. Throws where the machine cannot.
    PolicyNode();

    // Empty tables, and an agent that knows nothing.
    void start_afresh();
    // What is there goes, changes and comes, in a random order, in several updates. What is wrong:
    // an object that is refused but should not be, or the other way round.
    std::optional<std::string> replace(const std::vector<json>& objects, uint64_t seed);
    void set_flags(uint32_t flags);

    [[nodiscard]] oracle::World world() const { return in_force_.world(); }

    // What differs from what is expected in the answer to a question, or in the verdict on a
    // packet.
    std::optional<std::string> try_one(const Trial& trial, const Expected& expected);
    // The counters of rules and reasons since start_counting() against all that was tried.
    void start_counting();
    std::optional<std::string> wrong_count();
    // Sent packets leave flows, which would answer for later ones.
    void forget_flows();

private:
    struct Counters {
        std::map<std::string, uint64_t> rules;
        std::map<uint32_t, uint64_t> drops; // by maps::total_index
        uint64_t packets = 0;
    };

    std::optional<std::string> ask(const Trial& trial, const Expected& expected);
    std::optional<std::string> send(const Trial& trial, const Expected& expected);
    [[nodiscard]] uint32_t device_of(const IpAddress& address) const; // 0: no workload here
    [[nodiscard]] std::string rule_text(uint32_t number) const;
    [[nodiscard]] Counters read_counters() const;

    std::unique_ptr<loader::Loader> loader_;
    std::unique_ptr<dataplane::PinnedTables> tables_;
    std::optional<dataplane::LivePrograms> programs_;
    std::unique_ptr<AgentView> agent_;
    InForce in_force_;
    std::map<std::string, json> present_; // by key
    std::map<IpAddress, uint16_t> slots_; // of local workloads
    Counters before_;
    Counters expected_;
};

} // namespace manx::testing_policy
