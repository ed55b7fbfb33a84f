// SPDX-License-Identifier: Apache-2.0
// A calculator that is a model: a few addresses, classes, sets and workloads, in any state, with
// numbers that come again for something else; and the steps from one state to the next in the
// order that maps/abi/policy.h demands. For storms of PolicyTables.
#pragma once

#include "agent/calc/table_update.h"
#include "agent/dataplane/table_writer.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace manx::testing_policy {

using Random = std::mt19937_64;

inline bool one_in(Random& random, unsigned n) {
    return random() % n == 0;
}

inline constexpr int kWorkloads = 5;
inline constexpr int kClasses = 9; // 0 among them
inline constexpr int kSets = 12;   // besides

// What the cluster is. Classes and sets are what they mean, not their numbers; 0: a class of
// nobody's rules, a set that allows everything.
struct StormState {
    struct Workload {
        uint32_t ifindex = 0;
        std::array<int, 2> sets{}; // egress, ingress
        int staged = 0;
    };

    std::map<Cidr, int> addresses; // to their class
    std::map<int, Workload> workloads;

    static StormState random(Random& random);
    // A few of its parts.
    [[nodiscard]] StormState changed(Random& random) const;
    // Of the longest prefix.
    [[nodiscard]] int class_of(const IpAddress& address) const;
};

IpAddress address_of_workload(int workload);
// Addresses to ask about: workloads, others, one that nobody knows; IPv4 and IPv6.
std::vector<IpAddress> storm_addresses();
// Of the port table that a set has for a class: also the id of its rule.
uint32_t storm_rule(int set, int class_of);

class StormModel {
public:
    // collisions: of numbers, so that after a restart they are others'.
    StormModel(Random& random, bool collisions);

    // Adds the steps to `next`.
    void step(const StormState& next, calc::TableUpdate& out);
    [[nodiscard]] calc::TableUpdate snapshot() const;

    [[nodiscard]] const StormState& state() const { return state_; }

private:
    struct Numbers {
        uint32_t first = 0;
        uint32_t spread = 1;
        std::map<int, uint32_t> of; // by content
        uint32_t take(int content);
    };

    struct Set {
        calc::PortTablePtr any;
        std::map<int, calc::PortTablePtr> entries; // by class
    };

    calc::PortTablePtr table(uint32_t rule);
    void build(int set, calc::TableUpdate& out);
    [[nodiscard]] manx_endpoint endpoint(int workload, const StormState& state) const;
    [[nodiscard]] manx_slot_entry slot(int workload, const StormState& state) const;
    [[nodiscard]] uint32_t set_number(int set) const;

    StormState state_;
    Numbers set_numbers_{.first = MANX_SET_FIRST, .spread = 1000, .of = {}};
    Numbers class_numbers_{.first = 1, .spread = 1000, .of = {}};
    std::set<int> published_{0};
    std::map<int, Set> sets_;
    std::map<uint32_t, std::weak_ptr<const calc::PortTable>> tables_;
};

} // namespace manx::testing_policy
