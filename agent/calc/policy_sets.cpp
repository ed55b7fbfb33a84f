// SPDX-License-Identifier: Apache-2.0
// Policy sets: built for an endpoint, grown with each new class, built anew when their default no
// longer pays, and taken away with their last user.
#include "agent/calc/calculator_impl.h"

#include <algorithm>

namespace manx::calc {

// A class that an address has from now on: an entry in every set that can tell it from others.
void PolicyCalculator::Impl::add_class(ClassRef ref, TableUpdate& out) {
    std::vector<SetRef> touched = inverted_sets;
    MatcherId previous = kNoMatcher;
    for (const Atom atom : classes.atoms(ref)) {
        const MatcherId matcher = matcher_of(atom);
        if (matcher != previous) {
            const auto& list = matchers[matcher].sets;
            touched.insert(touched.end(), list.begin(), list.end());
            previous = matcher;
        }
    }
    std::ranges::sort(touched);
    touched.erase(std::ranges::unique(touched).begin(), touched.end());
    for (const SetRef set : touched) {
        set_entry(set, ref, out);
    }
}

void PolicyCalculator::Impl::set_entry(SetRef ref, ClassRef one, TableUpdate& out) {
    PolicySet& set = sets[ref];
    if (set.entries.contains(one)) {
        return; // left from the round before
    }
    PortTablePtr table = compile(set, classes.atoms(one));
    if (table == set.any) {
        return;
    }
    out.steps.emplace_back(PolicyStep{{set.id, classes.number(one)}, table});
    set.entries.emplace(one, std::move(table));
    if (set.entries.size() >= set.reconsider_at) {
        reconsider(ref);
    }
}

void PolicyCalculator::Impl::forget_entry(SetRef ref, ClassRef one, TableUpdate& out) {
    if (sets[ref].entries.erase(one) > 0) {
        out.steps.emplace_back(PolicyStep{{sets[ref].id, classes.number(one)}, nullptr});
    }
}

void PolicyCalculator::Impl::drop_class(ClassRef ref, TableUpdate& out) {
    if (classes.published(ref) || ref == 0) {
        return; // in use again; or that of unknown addresses, which there are always
    }
    for (const Atom atom : classes.atoms(ref)) {
        for (const SetRef set : matchers[matcher_of(atom)].sets) {
            forget_entry(set, ref, out);
        }
    }
    for (const SetRef set : inverted_sets) {
        forget_entry(set, ref, out);
    }
}

PortTablePtr PolicyCalculator::Impl::compile(PolicySet& set, Atoms other) {
    PortTable table = compile_for(set, rules, other);
    if (table.too_big) {
        set.too_big = true;
        for (const SetStep& step : set.steps) {
            if (!step.tier_end && rules[step.rule].source.limits_ports()) {
                if (const RuleName* name = registry.find(rules[step.rule].number)) {
                    too_big.insert(name->policy);
                }
            }
        }
    }
    return intern(std::move(table));
}

PortTablePtr PolicyCalculator::Impl::intern(PortTable table) {
    const auto [begin, end] = port_tables.equal_range(table.hash);
    for (auto at = begin; at != end; ++at) {
        if (auto known = at->second.lock(); known && *known == table) {
            return known;
        }
    }
    auto made = std::make_shared<const PortTable>(std::move(table));
    port_tables.emplace(made->hash, made);
    return made;
}

void PolicyCalculator::Impl::trim_port_tables() {
    if (port_tables.size() < port_tables_limit) {
        return;
    }
    std::erase_if(port_tables, [](const auto& one) { return one.second.expired(); });
    port_tables_limit = port_tables.size() * 2 + 1024;
}

uint32_t PolicyCalculator::Impl::set_id(SetRef ref) const {
    return ref == kAllowAll ? uint32_t{MANX_SET_ALLOW} : sets[ref].id;
}

// What most classes have, if as the default it leaves fewer entries than `none` does. tables: of
// the published classes that the rules ask about; all others, and unknown addresses, have none.
void PolicyCalculator::Impl::choose_default(
    PolicySet& set, const std::unordered_map<ClassRef, PortTablePtr>& tables) {
    std::unordered_map<const PortTable*, size_t> uses;
    PortTablePtr most;
    size_t most_uses = 0;
    for (const auto& [one, table] : tables) {
        const size_t count = ++uses[table.get()];
        // Ties by content, so that it does not depend on the order of classes.
        if (count > most_uses || (count == most_uses && table->hash < most->hash)) {
            most = table;
            most_uses = count;
        }
    }
    const auto none = uses.find(set.none.get());
    const size_t entries = tables.size() - (none == uses.end() ? 0 : none->second);
    const size_t others = classes.published_count() - tables.size() + 1;
    const size_t inverted_entries = tables.size() - most_uses + others;
    set.any = inverted_entries < entries ? most : set.none;
}

void PolicyCalculator::Impl::build_set(SetRef ref, TableUpdate& out) {
    PolicySet& set = sets[ref];
    set.none = compile(set, {});
    std::vector<ClassRef> known;
    for (const MatcherId matcher : set.matchers) {
        const auto list = classes.with(matcher);
        known.insert(known.end(), list.begin(), list.end());
    }
    std::ranges::sort(known);
    known.erase(std::ranges::unique(known).begin(), known.end());
    std::erase_if(known, [this](ClassRef one) { return !classes.published(one); });
    std::unordered_map<ClassRef, PortTablePtr> tables;
    for (const ClassRef one : known) {
        tables.emplace(one, compile(set, classes.atoms(one)));
    }
    choose_default(set, tables);
    // Another number for another default: what stands under a number never changes its meaning.
    set.id = set_ids.take(set.inverted() ? scramble(set.hash + 1) : set.hash);
    if (set.inverted()) {
        inverted_sets.push_back(ref);
        tables.emplace(0, set.none);
        classes.each_published([&](ClassRef one) { tables.try_emplace(one, set.none); });
    }
    std::erase_if(tables, [&set](const auto& entry) { return entry.second == set.any; });
    set.entries = std::move(tables);
    set.reconsider_at = std::max(options.reconsider_entries, set.entries.size() * 2);
    for (const auto& [one, table] : set.entries) {
        out.steps.emplace_back(PolicyStep{{set.id, classes.number(one)}, table});
    }
    out.steps.emplace_back(PolicyStep{{set.id, MANX_CLASS_ANY}, set.any});
}

// A set that has grown: would it be far smaller if it were built now?
void PolicyCalculator::Impl::reconsider(SetRef ref) {
    PolicySet& set = sets[ref];
    set.reconsider_at = set.entries.size() * 2;
    std::unordered_map<const PortTable*, size_t> uses;
    size_t most = 0;
    for (const auto& [one, table] : set.entries) {
        most = std::max(most, ++uses[table.get()]);
    }
    // All classes without an entry would need one.
    const size_t published = classes.published_count() + 1;
    const size_t without = published - std::min(published, set.entries.size());
    if (2 * (set.entries.size() - most + without) < set.entries.size()) {
        outgrown_sets.push_back(ref);
    }
}

// Endpoints of such a set are given another, built from what is known now.
void PolicyCalculator::Impl::replace_outgrown_sets() {
    for (const SetRef ref : outgrown_sets) {
        PolicySet& set = sets[ref];
        if (!set.live) {
            continue;
        }
        const auto [begin, end] = set_by_hash.equal_range(set.hash);
        const auto at =
            std::find_if(begin, end, [&](const auto& one) { return one.second == ref; });
        if (at == end) {
            continue; // replaced already
        }
        set_by_hash.erase(at);
        for (auto& [interface, local] : locals) {
            const bool uses = std::ranges::any_of(local.addresses, [&](const LocalAddress& one) {
                return std::ranges::find(one.sets, ref) != std::end(one.sets) ||
                       std::ranges::find(one.staged, ref) != std::end(one.staged);
            });
            if (uses) {
                dirty_locals.insert(&local);
            }
        }
    }
    outgrown_sets.clear();
}

void PolicyCalculator::Impl::retire(TableUpdate& out) {
    const auto idle = std::move(idle_sets);
    idle_sets.clear();
    for (const SetRef ref : idle) {
        PolicySet& set = sets[ref];
        if (!set.live || set.users > 0) {
            continue;
        }
        // The default first: who still comes is to find nothing rather than what others have.
        out.steps.emplace_back(PolicyStep{{set.id, MANX_CLASS_ANY}, nullptr});
        for (const auto& [one, table] : set.entries) {
            out.steps.emplace_back(PolicyStep{{set.id, classes.number(one)}, nullptr});
        }
        for (const MatcherId matcher : set.matchers) {
            std::erase(matchers[matcher].sets, ref);
        }
        const auto [begin, end] = set_by_hash.equal_range(set.hash);
        const auto at =
            std::find_if(begin, end, [&](const auto& one) { return one.second == ref; });
        if (at != end) { // not replaced already
            set_by_hash.erase(at);
        }
        std::erase(inverted_sets, ref);
        set_ids.give_back(set.id);
        for (const uint32_t number : set.tier_ends) {
            registry.release(number);
        }
        for (const SetStep& step : set.steps) {
            if (!step.tier_end) {
                release_rule(step.rule);
            }
        }
        set = PolicySet{};
        free_sets.push_back(ref);
    }
}

} // namespace manx::calc
