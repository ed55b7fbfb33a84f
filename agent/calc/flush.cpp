// SPDX-License-Identifier: Apache-2.0
// From marks to steps. The order is what maps/abi/policy.h demands: what new classes mean to the
// sets in force, then addresses (endpoints of this node too) to their new classes, then new sets,
// then endpoints to their new sets, then what nobody names any more. Matchers that fell out of use
// go last and make a second round: their going only merges classes that no rule tells apart any
// more.
#include "agent/calc/calculator_impl.h"

#include <algorithm>

namespace manx::calc {

TableUpdate PolicyCalculator::Impl::flush() {
    TableUpdate out;
    for (LocalState* local : unmatched_locals) {
        match_local(*local);
    }
    unmatched_locals.clear();
    for (const PolicyRef ref : dirty_policies) {
        PolicyState& state = policies[ref];
        if (state.endpoints > 0 && !state.compiled) {
            compile_policy(state);
        } else if (state.endpoints == 0 && state.compiled) {
            release_policy_rules(state);
        }
        for (auto& list : state.former) {
            list = std::vector<RuleRef>();
        }
    }
    dirty_policies.clear();
    out.steps = std::move(removed.steps);
    removed = {};
    do {
        update_services();
        update_groups();
        update_addresses(out);
        update_locals(out);
        retire(out);
        for (const RuleRef ref : idle_rules) {
            release_rule(ref);
        }
        idle_rules.clear();
        replace_outgrown_sets();
    } while (!dirty_services.empty() || !dirty_groups.empty() || !stale_groups.empty() ||
             addresses.has_touched() || !dirty_locals.empty());
    for (const ClassRef ref : idle_classes) {
        drop_class(ref, out);
    }
    idle_classes.clear();
    classes.collect();
    trim_port_tables();
    return out;
}

void PolicyCalculator::Impl::update_groups() {
    for (const GroupId group : dirty_groups) {
        if (!groups.live(group)) {
            continue;
        }
        std::vector<MatcherId> found;
        const auto consider = [&](uint32_t matcher) { found.push_back(matcher); };
        matcher_index.by_nothing(consider);
        groups.each_label(group, [&](StringId key, StringId value) {
            matcher_index.by_label(key, value, consider);
        });
        std::ranges::sort(found);
        found.erase(std::ranges::unique(found).begin(), found.end());
        std::erase_if(found, [&](MatcherId matcher) {
            return !groups.matches(group, matchers[matcher].selector);
        });
        found.shrink_to_fit();
        group_states[group].matched = std::move(found);
        stale_groups.insert(group);
    }
    dirty_groups.clear();
    for (const GroupId group : stale_groups) {
        if (!groups.live(group)) {
            continue;
        }
        GroupState& state = group_states[group];
        std::vector<Atom> atoms;
        for (const MatcherId id : state.matched) {
            const Matcher& matcher = matchers[id];
            if (matcher.kind == MatcherKind::Selector) {
                atoms.push_back(make_atom(id));
                continue;
            }
            for (const auto& port : groups.ports(group)) {
                if (port.name == matcher.name && port.protocol == matcher.protocol) {
                    atoms.push_back(make_atom(id, uint32_t{port.protocol} << 16 | port.port));
                }
            }
        }
        std::ranges::sort(atoms);
        atoms.erase(std::ranges::unique(atoms).begin(), atoms.end());
        const ClassRef ref = classes.acquire(std::move(atoms), matcher_hashes);
        if (ref != addresses.atoms(state.source)) {
            addresses.set_atoms(state.source, ref);
            for (const Item* item : state.members) {
                for (AddressTable::Node* node : item->contributed) {
                    addresses.touch(node);
                }
            }
        }
        classes.release(ref);
    }
    stale_groups.clear();
}

void PolicyCalculator::Impl::update_services() {
    for (const std::string& name : dirty_services) {
        const auto found = services.find(name);
        if (found == services.end()) {
            continue;
        }
        ServiceState& state = found->second;
        std::map<IpAddress, std::vector<Atom>> wanted;
        if (state.ports != kNoMatcher || state.addresses != kNoMatcher) {
            for (const auto& [slice, members] : state.slices) {
                for (const auto& [address, ports] : members) {
                    auto& atoms = wanted[address];
                    if (state.addresses != kNoMatcher) {
                        atoms.push_back(make_atom(state.addresses));
                    }
                    for (const uint32_t port : ports) {
                        if (state.ports != kNoMatcher) {
                            atoms.push_back(make_atom(state.ports, port));
                        }
                    }
                }
            }
        }
        std::map<IpAddress, SourceId> fresh;
        for (auto& [address, atoms] : wanted) {
            std::ranges::sort(atoms);
            atoms.erase(std::ranges::unique(atoms).begin(), atoms.end());
            const ClassRef ref = classes.acquire(std::move(atoms), matcher_hashes);
            const auto old = state.sources.find(address);
            if (old == state.sources.end()) {
                const SourceId source = addresses.add_source(ref, 0);
                addresses.contribute(Cidr::host(address), source);
                fresh.emplace(address, source);
            } else {
                if (addresses.atoms(old->second) != ref) {
                    addresses.set_atoms(old->second, ref);
                    addresses.touch(Cidr::host(address));
                }
                fresh.insert(state.sources.extract(old));
            }
            classes.release(ref);
        }
        for (const auto& [address, source] : state.sources) {
            addresses.withdraw(Cidr::host(address), source);
            addresses.remove_source(source);
        }
        state.sources = std::move(fresh);
        if (state.slices.empty() && state.ports == kNoMatcher && state.addresses == kNoMatcher) {
            services.erase(found);
        }
    }
    dirty_services.clear();
}

void PolicyCalculator::Impl::update_addresses(TableUpdate& out) {
    const auto changes = addresses.resolve(matcher_hashes);
    for (const auto& change : changes) {
        if (change.present && classes.publish(change.now.ref)) {
            add_class(change.now.ref, out);
        }
    }
    std::vector<ClassStep> steps;
    steps.reserve(changes.size());
    for (const auto& change : changes) {
        ClassStep step;
        step.prefix = change.prefix;
        step.remove = !change.present;
        step.value.class_id = classes.number(change.now.ref);
        step.value.flags = change.now.flags;
        if (change.present && change.was_present && change.now.flags == change.before.flags &&
            change.now.ref == change.before.ref) {
            // nothing that the tables show
        } else {
            steps.push_back(step);
        }
        if (change.was_present && classes.withdraw(change.before.ref)) {
            idle_classes.push_back(change.before.ref);
        }
        if (change.prefix.is_host()) {
            if (const auto found = local_by_address.find(change.prefix.address());
                found != local_by_address.end()) {
                dirty_locals.insert(found->second);
            }
        }
    }
    // An address goes from its old entry to its new one, and is never found by what is around
    // either: the longest come first, and go last.
    std::ranges::stable_sort(steps, [](const ClassStep& a, const ClassStep& b) {
        if (a.remove != b.remove) {
            return b.remove;
        }
        return a.remove ? a.prefix.length() < b.prefix.length()
                        : a.prefix.length() > b.prefix.length();
    });
    out.steps.insert(out.steps.end(), steps.begin(), steps.end());
}

} // namespace manx::calc
