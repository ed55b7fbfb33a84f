// SPDX-License-Identifier: Apache-2.0
// What was compiled, read back: as steps into empty tables, and rule by rule for one flow.
#include "agent/calc/calculator_impl.h"

#include <algorithm>

namespace manx::calc {

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
