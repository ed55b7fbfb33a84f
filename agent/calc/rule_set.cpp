// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/rule_set.h"

#include <algorithm>

namespace manx::calc {

namespace {

// Calls fn with the value of every atom of the matcher.
template <typename Fn>
void each_value(Atoms atoms, MatcherId matcher, Fn fn) {
    for (auto at = std::ranges::lower_bound(atoms, make_atom(matcher));
         at != atoms.end() && matcher_of(*at) == matcher; ++at) {
        fn(value_of(*at));
    }
}

StepAction step_action(api::Action action) {
    switch (action) {
    case api::Action::Allow:
        return StepAction::Allow;
    case api::Action::Log:
        return StepAction::Log;
    case api::Action::Pass:
        return StepAction::Pass;
    default:
        return StepAction::Deny;
    }
}

} // namespace

bool has_matcher(Atoms atoms, MatcherId matcher) {
    const auto found = std::ranges::lower_bound(atoms, make_atom(matcher));
    return found != atoms.end() && matcher_of(*found) == matcher;
}

bool SideMatch::matches(Atoms atoms) const {
    const auto has = [&](MatcherId matcher) { return has_matcher(atoms, matcher); };
    return std::ranges::all_of(all_of, has) && std::ranges::none_of(none_of, has) &&
           (service_ports == kNoMatcher || has(service_ports));
}

std::vector<Range> SideMatch::port_ranges(uint8_t protocol, Atoms atoms) const {
    const uint32_t base = uint32_t{protocol} << 16;
    std::vector<Range> wanted;
    if (ports.empty() && named.empty()) {
        wanted.push_back({base, base | 0xffffU});
    }
    for (const auto& range : ports) {
        wanted.push_back({base | range.first, base | range.last});
    }
    for (const MatcherId matcher : named) {
        each_value(atoms, matcher, [&](uint32_t value) { wanted.push_back({value, value}); });
    }
    normalize(wanted);
    std::vector<Range> unwanted;
    for (const auto& range : not_ports) {
        unwanted.push_back({base | range.first, base | range.last});
    }
    for (const MatcherId matcher : not_named) {
        each_value(atoms, matcher, [&](uint32_t value) { unwanted.push_back({value, value}); });
    }
    if (unwanted.empty()) {
        return wanted;
    }
    normalize(unwanted);
    return subtract(wanted, unwanted);
}

MatcherId SideMatch::needed() const {
    if (service_ports != kNoMatcher) {
        return service_ports;
    }
    return all_of.empty() ? kNoMatcher : all_of.front();
}

void SideMatch::each_matcher(const std::function<void(MatcherId)>& fn) const {
    for (const auto* list : {&all_of, &none_of, &named, &not_named}) {
        std::ranges::for_each(*list, fn);
    }
    if (service_ports != kNoMatcher) {
        fn(service_ports);
    }
}

bool CompiledRule::same_as(const CompiledRule& other) const {
    return action == other.action && family == other.family && protocol == other.protocol &&
           base == other.base && source == other.source && destination == other.destination &&
           number == other.number && staged == other.staged;
}

std::optional<RuleStep> rule_step(const CompiledRule& rule, Atoms source, Atoms destination) {
    if (!rule.source.matches(source) || !rule.destination.matches(destination)) {
        return std::nullopt;
    }
    RuleStep step;
    step.action = step_action(rule.action);
    step.rule = rule.number;
    if (rule.destination.service_ports != kNoMatcher) {
        std::vector<Range> ports;
        each_value(destination, rule.destination.service_ports,
                   [&](uint32_t value) { ports.push_back({value, value}); });
        normalize(ports);
        step.ranges = intersect(rule.base, ports);
    } else if (rule.destination.limits_ports()) {
        step.ranges =
            intersect(rule.base, rule.destination.port_ranges(rule.protocol, destination));
    } else {
        step.ranges = rule.base;
    }
    if (rule.source.limits_ports()) {
        step.source_ports = rule.source.port_ranges(rule.protocol, source);
        if (step.source_ports.empty()) {
            return std::nullopt;
        }
    }
    if (step.ranges.empty()) {
        return std::nullopt;
    }
    return step;
}

void index_set(PolicySet& set, std::span<const CompiledRule> rules) {
    std::erase_if(set.steps, [&](const SetStep& step) {
        return !step.tier_end && !rules[step.rule].own(set.direction).matches(set.own);
    });
    for (uint32_t place = 0; place < set.steps.size(); ++place) {
        const SetStep& step = set.steps[place];
        if (step.tier_end) {
            set.always.push_back(place);
            continue;
        }
        const SideMatch& other = rules[step.rule].other(set.direction);
        other.each_matcher([&](MatcherId matcher) { set.matchers.push_back(matcher); });
        const MatcherId needed = other.needed();
        if (needed == kNoMatcher) {
            set.always.push_back(place);
        } else {
            set.by_matcher.emplace_back(needed, place);
        }
    }
    std::ranges::sort(set.matchers);
    set.matchers.erase(std::ranges::unique(set.matchers).begin(), set.matchers.end());
    std::ranges::sort(set.by_matcher);
}

PortTable compile_for(const PolicySet& set, std::span<const CompiledRule> rules, Atoms other) {
    std::vector<uint32_t> places = set.always;
    MatcherId previous = kNoMatcher;
    for (const Atom atom : other) {
        const MatcherId matcher = matcher_of(atom);
        if (matcher == previous) {
            continue;
        }
        previous = matcher;
        for (auto at = std::ranges::lower_bound(set.by_matcher, std::pair{matcher, uint32_t{0}});
             at != set.by_matcher.end() && at->first == matcher; ++at) {
            places.push_back(at->second);
        }
    }
    std::ranges::sort(places);
    std::vector<RuleStep> steps;
    steps.reserve(places.size());
    const bool ingress = set.direction == api::Direction::Ingress;
    for (const uint32_t place : places) {
        const SetStep& one = set.steps[place];
        if (one.tier_end) {
            RuleStep end;
            end.action = one.pass ? StepAction::TierEndPass : StepAction::TierEndDeny;
            end.rule = one.number;
            steps.push_back(std::move(end));
            continue;
        }
        auto step = ingress ? rule_step(rules[one.rule], other, set.own)
                            : rule_step(rules[one.rule], set.own, other);
        if (step) {
            step->rule = one.number;
            steps.push_back(*std::move(step));
        }
    }
    return compile_port_table(steps);
}

} // namespace manx::calc
