// SPDX-License-Identifier: Apache-2.0
// From marks to steps. The order is what maps/abi/policy.h demands: what new classes mean to the
// sets in force, then addresses (endpoints of this node too) to their new classes, then new sets,
// then endpoints to their new sets, then what nobody names any more. Matchers that fell out of use
// go last and make a second round: their going only merges classes that no rule tells apart any
// more.
#include "agent/calc/calculator_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace manx::calc {

namespace {

bool same_endpoint(const manx_endpoint& a, const manx_endpoint& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

bool same_slot(const manx_slot_entry& a, const manx_slot_entry& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

} // namespace

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

void PolicyCalculator::Impl::update_locals(TableUpdate& out) {
    std::vector<SetRef> left;
    for (LocalState* local : dirty_locals) {
        std::vector<LocalAddress> fresh;
        for (const auto& address : local->endpoint.addresses) {
            const auto old = std::ranges::find(local->addresses, address, &LocalAddress::address);
            LocalAddress next =
                old == local->addresses.end() ? LocalAddress{.address = address} : *old;
            for (const auto direction : {api::Direction::Ingress, api::Direction::Egress}) {
                const auto side = static_cast<size_t>(direction);
                if (old != local->addresses.end()) {
                    left.push_back(old->sets[side]);
                    left.push_back(old->staged[side]);
                }
                next.sets[side] = acquire_set(*local, address, direction, false);
                next.staged[side] = acquire_set(*local, address, direction, true);
            }
            fresh.push_back(next);
        }
        for (const auto& old : local->addresses) {
            if (std::ranges::find(local->endpoint.addresses, old.address) ==
                local->endpoint.addresses.end()) {
                for (const auto* list : {&old.sets, &old.staged}) {
                    left.insert(left.end(), std::begin(*list), std::end(*list));
                }
                if (old.present) {
                    out.steps.emplace_back(EndpointStep{old.address, true, {}});
                }
            }
        }
        local->addresses = std::move(fresh);
    }
    // The class that local peers see comes from the endpoint's entry: all of them have their new
    // one before any has a set that may not know the old one.
    for (LocalState* local : dirty_locals) {
        write_classes(*local, out);
    }
    for (const SetRef ref : fresh_sets) {
        build_set(ref, out);
    }
    fresh_sets.clear();
    for (LocalState* local : dirty_locals) {
        write_local(*local, out);
    }
    dirty_locals.clear();
    std::ranges::for_each(left, [this](SetRef ref) { release_set(ref); });
}

// What is in the tables already, with its class of now.
void PolicyCalculator::Impl::write_classes(LocalState& local, TableUpdate& out) {
    manx_slot_entry slot = local.slot_written;
    bool found[2] = {}; // the address that the slot stands for, by family
    for (auto& address : local.addresses) {
        if (!address.present) {
            continue;
        }
        manx_endpoint value = address.written;
        value.class_id = classes.number(addresses.lookup(address.address).ref);
        const size_t family = address.address.is_v4() ? 0 : 1;
        if (!found[family] && slot.class_id[family] == address.written.class_id) {
            slot.class_id[family] = value.class_id;
            found[family] = true;
        }
        if (!same_endpoint(value, address.written)) {
            out.steps.emplace_back(EndpointStep{address.address, false, value});
            address.written = value;
        }
    }
    if (!same_slot(slot, local.slot_written)) {
        out.steps.emplace_back(SlotStep{local.slot_place, slot});
        local.slot_written = slot;
    }
}

void PolicyCalculator::Impl::write_local(LocalState& local, TableUpdate& out) {
    const auto& endpoint = local.endpoint;
    manx_slot_entry slot{};
    slot.ifindex = endpoint.ifindex;
    for (auto& address : local.addresses) {
        manx_endpoint value{};
        value.ifindex = endpoint.ifindex;
        value.class_id = classes.number(addresses.lookup(address.address).ref);
        constexpr auto kIn = static_cast<size_t>(api::Direction::Ingress);
        constexpr auto kOut = static_cast<size_t>(api::Direction::Egress);
        value.ingress_set = set_id(address.sets[kIn]);
        value.egress_set = set_id(address.sets[kOut]);
        value.staged_ingress = set_id(address.staged[kIn]);
        value.staged_egress = set_id(address.staged[kOut]);
        value.slot = endpoint.slot;
        const bool is_v4 = address.address.is_v4();
        bool nat = false;
        unsigned longest = 0;
        for (const auto& [name, pool] : pools) {
            if (pool.first.contains(address.address) && pool.first.length() >= longest) {
                longest = pool.first.length();
                nat = pool.second;
            }
        }
        const auto flag = [](bool set, manx_ep_flags bit) {
            return set ? static_cast<unsigned>(bit) : 0U;
        };
        value.flags = static_cast<__u16>(flag(nat, MANX_EP_NAT_OUTGOING) |
                                         flag(endpoint.any_source, MANX_EP_ANY_SOURCE) |
                                         flag(endpoint.redirect_host, MANX_EP_REDIRECT_HOST) |
                                         flag(endpoint.by_stack, MANX_EP_BY_STACK));
        std::ranges::copy(endpoint.mac.bytes, value.mac);
        std::ranges::copy(endpoint.host_mac.bytes, value.host_mac);
        const size_t family = is_v4 ? 0 : 1;
        if (slot.class_id[family] == 0 && slot.egress_set[family] == 0) {
            slot.class_id[family] = value.class_id;
            slot.egress_set[family] = value.egress_set;
            slot.staged_egress[family] = value.staged_egress;
        }
        if (!address.present || !same_endpoint(value, address.written)) {
            out.steps.emplace_back(EndpointStep{address.address, false, value});
        }
        address.written = value;
        address.present = true;
    }
    if (local.slot_written.ifindex != 0 && local.slot_place != endpoint.slot) {
        out.steps.emplace_back(SlotStep{local.slot_place, {}});
        local.slot_written = {};
    }
    if (!same_slot(slot, local.slot_written)) {
        out.steps.emplace_back(SlotStep{endpoint.slot, slot});
        local.slot_written = slot;
        local.slot_place = endpoint.slot;
    }
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

TableUpdate PolicyCalculator::Impl::snapshot() const {
    TableUpdate out;
    for (const auto& set : sets) {
        if (!set.live) {
            continue;
        }
        for (const auto& [ref, table] : set.entries) {
            out.steps.emplace_back(PolicyStep{{set.id, classes.number(ref)}, table});
        }
        out.steps.emplace_back(PolicyStep{{set.id, MANX_CLASS_ANY}, set.any});
    }
    addresses.each([&](const Cidr& prefix, const AddressClass& value) {
        ClassStep step{.prefix = prefix, .remove = false, .value = {}};
        step.value.class_id = classes.number(value.ref);
        step.value.flags = value.flags;
        out.steps.emplace_back(step);
    });
    for (const auto& [interface, local] : locals) {
        for (const auto& address : local.addresses) {
            if (address.present) {
                out.steps.emplace_back(EndpointStep{address.address, false, address.written});
            }
        }
        if (local.slot_written.ifindex != 0) {
            out.steps.emplace_back(SlotStep{local.slot_place, local.slot_written});
        }
    }
    return out;
}

Judgement PolicyCalculator::Impl::judge(const IpAddress& local_address, api::Direction direction,
                                        const IpAddress& other, const Packet& packet,
                                        bool staged) const {
    Judgement out;
    const auto found = local_by_address.find(local_address);
    if (found == local_by_address.end()) {
        out.known = false;
        out.reason = "not a workload of this node";
        return out;
    }
    const auto address =
        std::ranges::find(found->second->addresses, local_address, &LocalAddress::address);
    const auto side = static_cast<size_t>(direction);
    SetRef ref = kAllowAll;
    if (address != found->second->addresses.end()) {
        const bool other_set =
            staged && address->staged[side] != kAllowAll; // staged policies apply
        ref = other_set ? address->staged[side] : address->sets[side];
    }
    if (ref == kAllowAll) {
        out.reason = "no policy applies";
        return out;
    }
    const PolicySet& set = sets[ref];
    const auto& theirs = classes.atoms(addresses.lookup(other).ref);
    const uint32_t base = uint32_t{packet.protocol} << 16;
    const uint32_t source = base | packet.source_port;
    const uint32_t destination = base | packet.destination_port;
    const auto inside = [](const std::vector<Range>& ranges, uint32_t value) {
        return std::ranges::any_of(ranges, [value](const Range& range) {
            return range.first <= value && value <= range.last;
        });
    };
    const bool closed = set.too_big && compile_for(set, rules, theirs).too_big;
    bool passed = false; // to the next tier
    for (const SetStep& step : set.steps) {
        if (step.tier_end) {
            const RuleName* name = registry.find(step.number);
            const std::string text = name == nullptr ? "end of tier" : name->text();
            if (!passed && !step.pass) {
                out.walk.push_back({text + " deny", true});
                out.allow = false;
                out.rule = step.number;
                out.reason = text;
                return out;
            }
            out.walk.push_back({text + " pass", !passed});
            passed = false;
            continue;
        }
        if (passed) {
            continue;
        }
        const CompiledRule& rule = rules[step.rule];
        const auto match = direction == api::Direction::Ingress ? rule_step(rule, theirs, set.own)
                                                                : rule_step(rule, set.own, theirs);
        // As without_source_ports() has it.
        const bool narrowed =
            closed && match && !match->source_ports.empty() && rule.action != api::Action::Log;
        const bool hit = match && inside(match->ranges, destination) &&
                         (narrowed ? rule.action != api::Action::Allow
                                   : match->source_ports.empty() || closed ||
                                         inside(match->source_ports, source));
        out.walk.push_back({rule.text, hit});
        if (!hit) {
            continue;
        }
        if (rule.action == api::Action::Log) {
            out.log = true;
        } else if (rule.action == api::Action::Pass && !narrowed) {
            passed = true;
        } else {
            out.allow = rule.action == api::Action::Allow;
            out.rule = step.number;
            const RuleName* name = registry.find(rule.number);
            out.reason = name == nullptr ? rule.text : name->text();
            return out;
        }
    }
    out.reason = "profile of the namespace";
    return out;
}

} // namespace manx::calc
