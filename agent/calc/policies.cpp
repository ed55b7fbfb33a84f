// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/calculator_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace manx::calc {

namespace {

uint64_t hash_text(std::string_view text) {
    uint64_t hash = 14695981039346656037ULL;
    for (const char c : text) {
        hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ULL;
    }
    return scramble(hash);
}

std::string nets_key(std::vector<Cidr>& nets) {
    std::ranges::sort(nets);
    nets.erase(std::ranges::unique(nets).begin(), nets.end());
    std::string key = "nets";
    for (const auto& net : nets) {
        key += " " + net.text();
    }
    return key;
}

std::vector<Range> base_ranges(const api::PolicyRule& rule) {
    const auto of_protocol = [](uint8_t protocol) {
        const uint32_t base = uint32_t{protocol} << 16;
        return Range{base, base | 0xffffU};
    };
    const auto of_icmp = [&](const api::IcmpMatch& icmp) {
        const uint32_t base = uint32_t{rule.protocol.value_or(0)} << 16 | uint32_t{icmp.type} << 8;
        return icmp.code ? Range{base | *icmp.code, base | *icmp.code} : Range{base, base | 0xffU};
    };
    std::vector<Range> ranges{rule.protocol ? of_protocol(*rule.protocol) : kEverything};
    if (rule.not_protocol) {
        ranges = subtract(ranges, std::vector{of_protocol(*rule.not_protocol)});
    }
    if (rule.icmp) {
        ranges = intersect(ranges, std::vector{of_icmp(*rule.icmp)});
    }
    if (rule.not_icmp) {
        ranges = subtract(ranges, std::vector{of_icmp(*rule.not_icmp)});
    }
    return ranges;
}

// Everything of a rule that decides, as one number. Matchers count by their text.
uint64_t rule_hash(const CompiledRule& rule, std::span<const uint64_t> matcher_hashes) {
    uint64_t hash = static_cast<uint64_t>(rule.action) << 8 |
                    (rule.family ? static_cast<uint64_t>(*rule.family) : 0);
    const auto add = [&](uint64_t value) { hash = scramble(hash ^ value) + 1; };
    add(rule.number);
    for (const auto& range : rule.base) {
        add(uint64_t{range.first} << 32 | range.last);
    }
    for (const auto* side : {&rule.source, &rule.destination}) {
        for (const auto* list : {&side->all_of, &side->none_of, &side->named, &side->not_named}) {
            add(list->size());
            for (const MatcherId matcher : *list) {
                add(matcher_hashes[matcher]);
            }
        }
        for (const auto* list : {&side->ports, &side->not_ports}) {
            add(list->size());
            for (const auto& range : *list) {
                add(uint64_t{range.first} << 16 | range.last);
            }
        }
        add(side->service_ports == kNoMatcher ? 0 : matcher_hashes[side->service_ports]);
    }
    return hash;
}

} // namespace

MatcherId PolicyCalculator::Impl::acquire_matcher(Matcher matcher) {
    if (const auto found = matcher_by_key.find(matcher.key); found != matcher_by_key.end()) {
        ++matchers[found->second].users;
        if (matcher.kind == MatcherKind::NamedPort) {
            strings.release(matcher.name);
        }
        return found->second;
    }
    MatcherId id = 0;
    if (free_matchers.empty()) {
        id = static_cast<MatcherId>(matchers.size());
        matchers.emplace_back();
        matcher_hashes.emplace_back();
    } else {
        id = free_matchers.back();
        free_matchers.pop_back();
    }
    matcher.users = 1;
    matcher_hashes[id] = hash_text(matcher.key);
    matcher_by_key.emplace(matcher.key, id);
    matchers[id] = std::move(matcher);
    Matcher& stored = matchers[id];
    switch (stored.kind) {
    case MatcherKind::Selector:
    case MatcherKind::NamedPort:
        matcher_index.add(id, stored.selector);
        groups.candidates(stored.selector, [&](GroupId group) {
            if (dirty_groups.contains(group) || !groups.matches(group, stored.selector)) {
                return; // dirty ones are matched from scratch
            }
            auto& matched = group_states[group].matched;
            matched.insert(std::ranges::upper_bound(matched, id), id);
            stale_groups.insert(group);
        });
        break;
    case MatcherKind::Nets: {
        const ClassRef atoms = classes.acquire({make_atom(id)}, matcher_hashes);
        stored.source = addresses.add_source(atoms, 0);
        classes.release(atoms);
        for (const auto& net : stored.nets) {
            addresses.contribute(net, stored.source);
        }
        break;
    }
    case MatcherKind::ServicePorts:
        services[stored.service].ports = id;
        dirty_services.insert(stored.service);
        break;
    case MatcherKind::ServiceAddresses:
        services[stored.service].addresses = id;
        dirty_services.insert(stored.service);
        break;
    }
    return id;
}

void PolicyCalculator::Impl::release_matcher(MatcherId id) {
    Matcher& matcher = matchers[id];
    if (--matcher.users > 0) {
        return;
    }
    switch (matcher.kind) {
    case MatcherKind::Selector:
    case MatcherKind::NamedPort:
        matcher_index.remove(id, matcher.selector);
        groups.candidates(matcher.selector, [&](GroupId group) {
            auto& matched = group_states[group].matched;
            const auto at = std::ranges::lower_bound(matched, id);
            if (at != matched.end() && *at == id) {
                matched.erase(at);
                stale_groups.insert(group);
            }
        });
        if (matcher.kind == MatcherKind::NamedPort) {
            strings.release(matcher.name);
        }
        break;
    case MatcherKind::Nets:
        for (const auto& net : matcher.nets) {
            addresses.withdraw(net, matcher.source);
        }
        addresses.remove_source(matcher.source);
        break;
    case MatcherKind::ServicePorts:
        services[matcher.service].ports = kNoMatcher;
        dirty_services.insert(matcher.service);
        break;
    case MatcherKind::ServiceAddresses:
        services[matcher.service].addresses = kNoMatcher;
        dirty_services.insert(matcher.service);
        break;
    }
    matcher_by_key.erase(matcher.key);
    matcher = Matcher{};
    free_matchers.push_back(id);
}

RuleRef PolicyCalculator::Impl::compile_rule(const api::Policy& policy, api::Direction direction,
                                             const api::PolicyRule& rule) {
    CompiledRule out;
    out.action = rule.action;
    out.family = rule.ip_version;
    out.protocol = rule.protocol.value_or(0);
    out.base = base_ranges(rule);
    out.staged = policy.staged;
    const auto by_selector = [&](const api::Selector& selector) {
        return acquire_matcher(
            {.kind = MatcherKind::Selector, .selector = selector, .key = "sel " + selector.text()});
    };
    const auto by_nets = [&](std::vector<Cidr> nets) {
        std::string key = nets_key(nets);
        return acquire_matcher(
            {.kind = MatcherKind::Nets, .nets = std::move(nets), .key = std::move(key)});
    };
    const auto compile_side = [&](const api::EntityMatch& entity, bool destination) {
        SideMatch side;
        if (!entity.service.empty()) {
            const std::string service = entity.service_ns + "/" + entity.service;
            if (destination) {
                side.service_ports = acquire_matcher({.kind = MatcherKind::ServicePorts,
                                                      .service = service,
                                                      .key = "service-ports " + service});
            } else {
                side.all_of.push_back(acquire_matcher({.kind = MatcherKind::ServiceAddresses,
                                                       .service = service,
                                                       .key = "service " + service}));
            }
        }
        if (entity.selector) {
            side.all_of.push_back(by_selector(*entity.selector));
        }
        if (!entity.nets.empty()) {
            side.all_of.push_back(by_nets(entity.nets));
        }
        if (entity.not_selector) {
            side.none_of.push_back(by_selector(*entity.not_selector));
        }
        if (!entity.not_nets.empty()) {
            side.none_of.push_back(by_nets(entity.not_nets));
        }
        const auto by_name = [&](const std::string& name) {
            const api::Selector selector = entity.selector.value_or(api::Selector());
            return acquire_matcher(
                {.kind = MatcherKind::NamedPort,
                 .selector = selector,
                 .name = strings.acquire(name),
                 .protocol = out.protocol,
                 .key = fmt::format("port {} {} {}", name, out.protocol, selector.text())});
        };
        side.ports = entity.ports.ranges;
        side.not_ports = entity.not_ports.ranges;
        std::ranges::transform(entity.ports.names, std::back_inserter(side.named), by_name);
        std::ranges::transform(entity.not_ports.names, std::back_inserter(side.not_named), by_name);
        return side;
    };
    out.source = compile_side(rule.source, false);
    out.destination = compile_side(rule.destination, true);
    const RuleName name{policy.text(), direction, rule.index, rule.name, policy.staged};
    out.number = registry.acquire(name);
    out.text = fmt::format("{} {}", name.text(), to_string(rule.action));
    out.users = 1;
    out.hash = rule_hash(out, matcher_hashes);
    RuleRef ref = 0;
    if (free_rules.empty()) {
        ref = static_cast<RuleRef>(rules.size());
        rules.push_back(std::move(out));
    } else {
        ref = free_rules.back();
        free_rules.pop_back();
        rules[ref] = std::move(out);
    }
    return ref;
}

void PolicyCalculator::Impl::release_rule(RuleRef ref) {
    if (--rules[ref].users > 0) {
        return;
    }
    const CompiledRule rule = std::move(rules[ref]);
    rules[ref] = CompiledRule{};
    free_rules.push_back(ref);
    registry.release(rule.number);
    for (const auto* side : {&rule.source, &rule.destination}) {
        side->each_matcher([&](MatcherId matcher) { release_matcher(matcher); });
    }
}

void PolicyCalculator::Impl::compile_policy(PolicyState& state) {
    const auto unpacked = state.packed.unpack();
    for (const auto direction : {api::Direction::Ingress, api::Direction::Egress}) {
        if (!state.policy.applies(direction)) {
            continue;
        }
        auto& out = state.rules[static_cast<size_t>(direction)];
        const auto& former = state.former[static_cast<size_t>(direction)];
        for (const auto& rule :
             direction == api::Direction::Ingress ? unpacked.ingress : unpacked.egress) {
            RuleRef ref = compile_rule(state.policy, direction, rule);
            if (out.size() < former.size() && rules[former[out.size()]].same_as(rules[ref])) {
                const RuleRef same = former[out.size()];
                rules[same].text = std::move(rules[ref].text);
                ++rules[same].users;
                release_rule(std::exchange(ref, same));
            }
            out.push_back(ref);
        }
    }
    state.compiled = true;
}

void PolicyCalculator::Impl::release_policy_rules(PolicyState& state) {
    for (auto& list : state.rules) {
        idle_rules.insert(idle_rules.end(), list.begin(), list.end());
        list.clear();
    }
    state.compiled = false;
}

// Order of evaluation: tiers that exist before those that do not, by order (none is last), by
// name; within a tier by order, then name/namespace/kind.
bool PolicyCalculator::Impl::before(PolicyRef a, PolicyRef b) const {
    const PolicyState& left = policies[a];
    const PolicyState& right = policies[b];
    constexpr double kLast = std::numeric_limits<double>::infinity();
    if (left.policy.tier != right.policy.tier) {
        const auto one = tiers.find(left.policy.tier);
        const auto two = tiers.find(right.policy.tier);
        if ((one == tiers.end()) != (two == tiers.end())) {
            return two == tiers.end();
        }
        if (one != tiers.end()) {
            const double first = one->second.order.value_or(kLast);
            const double second = two->second.order.value_or(kLast);
            if (first != second) {
                return first < second;
            }
        }
        return left.policy.tier < right.policy.tier;
    }
    const double first = left.policy.order.value_or(kLast);
    const double second = right.policy.order.value_or(kLast);
    if (first != second) {
        return first < second;
    }
    return left.tie < right.tie;
}

void PolicyCalculator::Impl::attach(LocalState& local, PolicyRef ref) {
    const auto at = std::ranges::upper_bound(
        local.policies, ref, [this](PolicyRef a, PolicyRef b) { return before(a, b); });
    local.policies.insert(at, ref);
    ++policies[ref].endpoints;
    dirty_locals.insert(&local);
}

void PolicyCalculator::Impl::detach(LocalState& local, PolicyRef ref) {
    if (std::erase(local.policies, ref) > 0) {
        --policies[ref].endpoints;
        dirty_locals.insert(&local);
    }
}

// Policies of one workload from scratch: its labels changed.
void PolicyCalculator::Impl::match_local(LocalState& local) {
    std::vector<PolicyRef> wanted;
    if (local.item != nullptr) {
        const GroupId group = local.item->group;
        const auto consider = [&](uint32_t ref) { wanted.push_back(ref); };
        policy_index.by_nothing(consider);
        groups.each_label(group, [&](StringId key, StringId value) {
            policy_index.by_label(key, value, consider);
        });
        std::ranges::sort(wanted);
        wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
        std::erase_if(wanted, [&](PolicyRef ref) {
            return !groups.matches(group, policies[ref].policy.subject);
        });
    }
    std::ranges::sort(wanted, [this](PolicyRef a, PolicyRef b) { return before(a, b); });
    for (const PolicyRef ref : local.policies) {
        --policies[ref].endpoints;
        dirty_policies.insert(ref);
    }
    for (const PolicyRef ref : wanted) {
        ++policies[ref].endpoints;
        dirty_policies.insert(ref);
    }
    local.policies = std::move(wanted);
    dirty_locals.insert(&local);
}

// Workloads of one policy from scratch: it is new or changed.
void PolicyCalculator::Impl::match_policy(PolicyRef ref) {
    const auto& subject = policies[ref].policy.subject;
    const auto required = subject.required();
    const auto consider = [&](GroupId group, const std::vector<LocalState*>& list) {
        if (groups.matches(group, subject)) {
            for (LocalState* local : list) {
                attach(*local, ref);
            }
        }
    };
    const bool indexed = required && std::ranges::all_of(*required, [](const auto& one) {
                             return one.value.has_value();
                         });
    if (!indexed) {
        for (const auto& [group, list] : locals_by_group) {
            consider(group, list);
        }
        return;
    }
    groups.candidates(subject, [&](GroupId group) {
        if (const auto found = locals_by_group.find(group); found != locals_by_group.end()) {
            consider(group, found->second);
        }
    });
}

SetRef PolicyCalculator::Impl::acquire_set(const LocalState& local, const IpAddress& address,
                                           api::Direction direction, bool staged) {
    PolicySet set;
    set.direction = direction;
    bool any_staged = false;
    const std::vector<Atom>& own = classes.atoms(addresses.lookup(address).ref);
    std::vector<MatcherId> asked;
    uint64_t hash = static_cast<uint64_t>(direction) + 1;
    std::vector<uint32_t> ends; // numbers of tiers' ends, to be given back where the set exists
    for (size_t i = 0; i < local.policies.size();) {
        const std::string& tier_name = policies[local.policies[i]].policy.tier;
        bool takes_part = false;
        bool with_staged = false; // this tier
        for (; i < local.policies.size() && policies[local.policies[i]].policy.tier == tier_name;
             ++i) {
            const PolicyState& state = policies[local.policies[i]];
            if (!state.policy.applies(direction) || (state.policy.staged && !staged)) {
                continue;
            }
            takes_part = true;
            with_staged |= state.policy.staged;
            for (const RuleRef ref : state.rules[static_cast<size_t>(direction)]) {
                const CompiledRule& rule = rules[ref];
                if (rule.family && *rule.family != address.family()) {
                    continue;
                }
                // What enforced rules decide is counted where it is enforced.
                const uint32_t number = staged && !rule.staged ? 0 : rule.number;
                set.steps.push_back({.rule = ref, .number = number});
                hash = scramble(hash ^ rule.hash ^ number);
                rule.own(direction).each_matcher(
                    [&](MatcherId matcher) { asked.push_back(matcher); });
            }
        }
        if (takes_part) {
            const auto tier = tiers.find(tier_name);
            const bool pass = tier != tiers.end() && tier->second.pass;
            any_staged |= with_staged;
            // What a staged policy would deny by being the tier's has a count of its own.
            const uint32_t number =
                registry.acquire(with_staged ? RuleName{.policy = "Tier " + tier_name + ", staged",
                                                        .direction = direction,
                                                        .index = -1,
                                                        .staged = true}
                                             : RuleName{"Tier " + tier_name, direction, -1});
            ends.push_back(number);
            const bool counted = !staged || with_staged;
            set.steps.push_back({.number = counted ? number : 0, .tier_end = true, .pass = pass});
            hash = scramble(hash ^ (uint64_t{number} << 1 | uint64_t{pass}) ^ hash_text(tier_name));
        }
    }
    const auto give_back = [&] {
        std::ranges::for_each(ends, [this](uint32_t number) { registry.release(number); });
    };
    if (set.steps.empty() || (staged && !any_staged)) {
        give_back();
        return kAllowAll;
    }
    std::ranges::sort(asked);
    uint64_t own_hash = 0;
    for (const Atom atom : own) {
        if (std::ranges::binary_search(asked, matcher_of(atom))) {
            set.own.push_back(atom);
            // In no particular order: matchers' numbers differ from process to process.
            own_hash += scramble(matcher_hashes[matcher_of(atom)] ^ scramble(value_of(atom)));
        }
    }
    hash = scramble(hash ^ own_hash);
    index_set(set, rules);
    set.hash = hash;
    const auto [begin, end] = set_by_hash.equal_range(hash);
    for (auto at = begin; at != end; ++at) {
        PolicySet& other = sets[at->second];
        if (other.direction == set.direction && other.steps == set.steps && other.own == set.own) {
            ++other.users;
            give_back();
            return at->second;
        }
    }
    for (const SetStep& step : set.steps) {
        if (!step.tier_end) {
            ++rules[step.rule].users;
        }
    }
    set.users = 1;
    set.live = true; // its number comes with its default, when it is built
    SetRef ref = 0;
    if (free_sets.empty()) {
        ref = static_cast<SetRef>(sets.size());
        sets.emplace_back();
    } else {
        ref = free_sets.back();
        free_sets.pop_back();
    }
    set.tier_ends = std::move(ends);
    sets[ref] = std::move(set);
    set_by_hash.emplace(hash, ref);
    for (const MatcherId matcher : sets[ref].matchers) {
        matchers[matcher].sets.push_back(ref);
    }
    fresh_sets.push_back(ref);
    return ref;
}

void PolicyCalculator::Impl::release_set(SetRef ref) {
    if (ref != kAllowAll && --sets[ref].users == 0) {
        idle_sets.push_back(ref);
    }
}

} // namespace manx::calc
