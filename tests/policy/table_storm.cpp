// SPDX-License-Identifier: Apache-2.0
#include "tests/policy/table_storm.h"

#include "tests/policy/raw_tables.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::testing_policy {

namespace {

constexpr int kOthers = 6;
constexpr uint32_t kTables = 17;

IpAddress parse(const std::string& text) {
    return *IpAddress::parse(text);
}

Cidr other(int number) {
    return Cidr::host(parse(number % 2 == 0 ? fmt::format("10.1.0.{}", number + 1)
                                            : fmt::format("fd00:1::{}", number + 1)));
}

const std::vector<Cidr>& nets() {
    static const std::vector<Cidr> out{*Cidr::parse("10.1.0.0/24"), *Cidr::parse("10.1.0.0/29"),
                                       *Cidr::parse("fd00:1::/64"), *Cidr::parse("10.2.0.0/16")};
    return out;
}

uint32_t mixed(uint32_t a, uint32_t b) {
    uint32_t hash = a * 2654435761U ^ (b + 1) * 2246822519U;
    hash ^= hash >> 15;
    hash *= 2654435761U;
    return hash ^ hash >> 13;
}

int any_class(Random& random) {
    return static_cast<int>(random() % kClasses);
}

int any_set(Random& random) {
    return one_in(random, 5) ? 0 : 1 + static_cast<int>(random() % kSets);
}

StormState::Workload any_workload(Random& random, int number) {
    return {.ifindex = 10 + static_cast<uint32_t>(number) + (one_in(random, 4) ? 100 : 0),
            .sets = {any_set(random), any_set(random)},
            .staged = one_in(random, 3) ? any_set(random) : 0};
}

uint32_t default_rule(int set) {
    return 1 + mixed(static_cast<uint32_t>(set), 999) % kTables;
}

calc::ClassStep class_step(const Cidr& prefix, bool remove, uint32_t number) {
    return {prefix, remove, {number, 0}};
}

} // namespace

uint32_t storm_rule(int set, int class_of) {
    const auto of = [](int content) { return static_cast<uint32_t>(content); };
    if (mixed(of(set), 1000 + of(class_of)) % 10 < 6) {
        return default_rule(set);
    }
    return 1 + mixed(of(set), of(class_of)) % kTables;
}

IpAddress address_of_workload(int workload) {
    return parse(workload % 2 == 0 ? fmt::format("10.0.0.{}", workload + 1)
                                   : fmt::format("fd00::{}", workload + 1));
}

std::vector<IpAddress> storm_addresses() {
    std::vector<IpAddress> out;
    out.reserve(kWorkloads + kOthers);
    for (int i = 0; i < kWorkloads; ++i) {
        out.push_back(address_of_workload(i));
    }
    for (int i = 0; i < kOthers; ++i) {
        out.push_back(other(i).address());
    }
    for (const char* text : {"10.1.0.6", "10.1.0.200", "fd00:1::99", "10.2.3.4", "192.0.2.1"}) {
        out.push_back(parse(text));
    }
    return out;
}

StormState StormState::random(Random& random) {
    StormState out;
    for (int i = 0; i < kOthers; ++i) {
        if (!one_in(random, 4)) {
            out.addresses[other(i)] = any_class(random);
        }
    }
    for (const auto& net : nets()) {
        if (one_in(random, 2)) {
            out.addresses[net] = any_class(random);
        }
    }
    for (int i = 0; i < kWorkloads; ++i) {
        out.addresses[Cidr::host(address_of_workload(i))] = any_class(random);
        if (!one_in(random, 4)) {
            out.workloads[i] = any_workload(random, i);
        }
    }
    return out;
}

StormState StormState::changed(Random& random) const {
    const StormState fresh = StormState::random(random);
    StormState out = *this;
    const unsigned rate = 1 + static_cast<unsigned>(random() % 6);
    const auto mix = [&](auto& mine, const auto& theirs) {
        std::set<typename std::decay_t<decltype(mine)>::key_type> keys;
        for (const auto& [key, value] : mine) {
            keys.insert(key);
        }
        for (const auto& [key, value] : theirs) {
            keys.insert(key);
        }
        for (const auto& key : keys) {
            if (!one_in(random, rate)) {
                continue;
            }
            const auto found = theirs.find(key);
            if (found == theirs.end()) {
                mine.erase(key);
            } else {
                mine.insert_or_assign(key, found->second);
            }
        }
    };
    mix(out.addresses, fresh.addresses);
    mix(out.workloads, fresh.workloads);
    for (auto& [number, workload] : out.workloads) {
        // Another device needs the address to go first.
        if (const auto old = workloads.find(number); old != workloads.end()) {
            workload.ifindex = old->second.ifindex;
        }
    }
    return out;
}

int StormState::class_of(const IpAddress& address) const {
    int out = 0;
    unsigned longest = 0;
    for (const auto& [prefix, content] : addresses) {
        if (prefix.contains(Cidr::host(address)) && prefix.length() >= longest) {
            longest = prefix.length();
            out = content;
        }
    }
    return out;
}

uint32_t StormModel::Numbers::take(int content) {
    if (content == 0) {
        return 0;
    }
    if (const auto found = of.find(content); found != of.end()) {
        return found->second;
    }
    uint32_t number = first + static_cast<uint32_t>(content) % spread;
    while (std::ranges::any_of(of, [&](const auto& one) { return one.second == number; })) {
        ++number;
    }
    of.emplace(content, number);
    return number;
}

StormModel::StormModel(Random& random, bool collisions) {
    class_numbers_.of[0] = 0;
    if (collisions) {
        set_numbers_.spread = 3 + static_cast<uint32_t>(random() % 4);
        class_numbers_.spread = 2 + static_cast<uint32_t>(random() % 4);
    }
}

calc::PortTablePtr StormModel::table(uint32_t rule) {
    if (auto known = tables_[rule].lock()) {
        return known;
    }
    auto made = port_table(rule, 1 + rule % 6, rule % 4 == 0);
    tables_[rule] = made;
    return made;
}

uint32_t StormModel::set_number(int set) const {
    return set == 0 ? uint32_t{MANX_SET_ALLOW} : set_numbers_.of.at(set);
}

void StormModel::build(int set, calc::TableUpdate& out) {
    Set& made = sets_[set];
    const uint32_t number = set_numbers_.take(set);
    made.any = table(default_rule(set));
    for (const int one : published_) {
        if (auto other = table(storm_rule(set, one)); other != made.any) {
            out.steps.emplace_back(put(number, class_numbers_.of.at(one), other));
            made.entries.emplace(one, std::move(other));
        }
    }
    out.steps.emplace_back(put(number, MANX_CLASS_ANY, made.any));
}

manx_endpoint StormModel::endpoint(int workload, const StormState& state) const {
    const auto& own = state.workloads.at(workload);
    manx_endpoint out{};
    out.ifindex = own.ifindex;
    out.class_id = class_numbers_.of.at(state.class_of(address_of_workload(workload)));
    out.egress_set = set_number(own.sets[0]);
    out.ingress_set = set_number(own.sets[1]);
    out.staged_ingress = set_number(own.staged);
    out.slot = static_cast<uint16_t>(workload);
    return out;
}

manx_slot_entry StormModel::slot(int workload, const StormState& state) const {
    const auto one = endpoint(workload, state);
    const size_t family = address_of_workload(workload).is_v4() ? 0 : 1;
    manx_slot_entry out{};
    out.ifindex = one.ifindex;
    out.class_id[family] = one.class_id;
    out.egress_set[family] = one.egress_set;
    return out;
}

void StormModel::step(const StormState& next, calc::TableUpdate& out) {
    // Classes that are new, in the sets in force.
    std::set<int> classes{0};
    for (const auto& [prefix, content] : next.addresses) {
        classes.insert(content);
        if (published_.insert(content).second) {
            const uint32_t number = class_numbers_.take(content);
            for (auto& [set, made] : sets_) {
                if (auto other = table(storm_rule(set, content)); other != made.any) {
                    out.steps.emplace_back(put(set_number(set), number, other));
                    made.entries.emplace(content, std::move(other));
                }
            }
        }
    }
    // Addresses.
    std::vector<calc::ClassStep> steps;
    for (const auto& [prefix, content] : next.addresses) {
        const auto old = state_.addresses.find(prefix);
        if (old == state_.addresses.end() || old->second != content) {
            steps.push_back(class_step(prefix, false, class_numbers_.of.at(content)));
        }
    }
    for (const auto& [prefix, content] : state_.addresses) {
        if (!next.addresses.contains(prefix)) {
            steps.push_back(class_step(prefix, true, 0));
        }
    }
    std::ranges::stable_sort(steps, [](const auto& a, const auto& b) {
        if (a.remove != b.remove) {
            return b.remove;
        }
        return a.remove ? a.prefix.length() < b.prefix.length()
                        : a.prefix.length() > b.prefix.length();
    });
    out.steps.insert(out.steps.end(), steps.begin(), steps.end());
    // Workloads: who goes, their classes, their sets.
    StormState between = state_;
    between.addresses = next.addresses;
    for (const auto& [number, old] : state_.workloads) {
        const auto found = next.workloads.find(number);
        if (found == next.workloads.end()) {
            out.steps.emplace_back(calc::EndpointStep{address_of_workload(number), true, {}});
            out.steps.emplace_back(calc::SlotStep{static_cast<uint16_t>(number), {}});
            continue;
        }
        out.steps.emplace_back(
            calc::EndpointStep{address_of_workload(number), false, endpoint(number, between)});
        out.steps.emplace_back(
            calc::SlotStep{static_cast<uint16_t>(number), slot(number, between)});
    }
    std::set<int> used;
    for (const auto& [number, workload] : next.workloads) {
        for (const int set : {workload.sets[0], workload.sets[1], workload.staged}) {
            if (set != 0 && used.insert(set).second && !sets_.contains(set)) {
                build(set, out);
            }
        }
    }
    state_ = next;
    for (const auto& [number, workload] : next.workloads) {
        out.steps.emplace_back(
            calc::EndpointStep{address_of_workload(number), false, endpoint(number, next)});
        out.steps.emplace_back(calc::SlotStep{static_cast<uint16_t>(number), slot(number, next)});
    }
    // What nobody names.
    for (auto at = sets_.begin(); at != sets_.end();) {
        if (used.contains(at->first)) {
            ++at;
            continue;
        }
        const uint32_t number = set_number(at->first);
        out.steps.emplace_back(drop(number, MANX_CLASS_ANY));
        for (const auto& [one, unused] : at->second.entries) {
            out.steps.emplace_back(drop(number, class_numbers_.of.at(one)));
        }
        set_numbers_.of.erase(at->first);
        at = sets_.erase(at);
    }
    for (auto at = published_.begin(); at != published_.end();) {
        if (classes.contains(*at)) {
            ++at;
            continue;
        }
        for (auto& [set, made] : sets_) {
            if (made.entries.erase(*at) > 0) {
                out.steps.emplace_back(drop(set_number(set), class_numbers_.of.at(*at)));
            }
        }
        class_numbers_.of.erase(*at);
        at = published_.erase(at);
    }
}

calc::TableUpdate StormModel::snapshot() const {
    calc::TableUpdate out;
    for (const auto& [set, made] : sets_) {
        for (const auto& [one, table] : made.entries) {
            out.steps.emplace_back(put(set_number(set), class_numbers_.of.at(one), table));
        }
        out.steps.emplace_back(put(set_number(set), MANX_CLASS_ANY, made.any));
    }
    for (const auto& [prefix, content] : state_.addresses) {
        out.steps.emplace_back(class_step(prefix, false, class_numbers_.of.at(content)));
    }
    for (const auto& [number, workload] : state_.workloads) {
        out.steps.emplace_back(
            calc::EndpointStep{address_of_workload(number), false, endpoint(number, state_)});
        out.steps.emplace_back(calc::SlotStep{static_cast<uint16_t>(number), slot(number, state_)});
    }
    return out;
}

} // namespace manx::testing_policy
