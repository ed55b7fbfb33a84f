// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/items.h"

#include "agent/calc/calculator_impl.h"

#include <algorithm>
#include <utility>

namespace manx::calc {

std::string item_key(api::Kind kind, const std::string& ns, const std::string& name) {
    return std::to_string(static_cast<int>(kind)) + ":" + ns + "/" + name;
}

std::string item_key(const dataplane::LocalEndpoint& endpoint) {
    return endpoint.pod.empty() ? "device:" + endpoint.interface
                                : item_key(api::Kind::Pod, endpoint.ns, endpoint.pod);
}

GroupFacts workload_facts(const api::LabelMap& labels, const std::string& ns,
                          const std::string& account) {
    GroupFacts facts;
    facts.pod = true;
    facts.ns = ns;
    facts.service_account = account;
    for (const auto& [key, value] : labels) {
        // Nobody may pretend to inherit.
        if (!key.starts_with(api::kNamespacePrefix) &&
            !key.starts_with(api::kServiceAccountPrefix)) {
            facts.labels.emplace(key, value);
        }
    }
    facts.labels[std::string(api::kNamespaceLabel)] = ns;
    facts.labels[std::string(api::kOrchestratorLabel)] = "k8s";
    if (!account.empty()) {
        facts.labels[std::string(api::kServiceAccountLabel)] = account;
    }
    return facts;
}

GroupFacts facts_of(const dataplane::LocalEndpoint& endpoint) {
    GroupFacts facts = workload_facts(endpoint.labels, endpoint.ns, endpoint.service_account);
    for (const auto& port : endpoint.named_ports) {
        facts.ports.emplace_back(port.name, port.protocol, port.port);
    }
    return facts;
}

std::vector<Cidr> hosts(const std::vector<IpAddress>& addresses) {
    std::vector<Cidr> out;
    out.reserve(addresses.size());
    for (const auto& address : addresses) {
        out.push_back(Cidr::host(address));
    }
    return out;
}

void PolicyCalculator::Impl::set_item(const std::string& key, const GroupFacts& facts,
                                      std::vector<Cidr> from_object) {
    const auto [at, fresh] = items.try_emplace(key);
    Item& item = at->second;
    bool made = false;
    const GroupId group = groups.acquire(facts, made);
    if (made) {
        if (group_states.size() <= group) {
            group_states.resize(group + 1);
        }
        group_states[group].source =
            addresses.add_source(0, facts.pod ? uint32_t{MANX_CLASS_POD} : 0U);
        dirty_groups.insert(group);
    }
    const bool moved = fresh || item.group != group;
    const GroupId before = item.group;
    if (!moved) {
        (void)groups.release(group); // counted once per item
    } else {
        item.group = group;
    }
    refresh_addresses(item, std::move(from_object), fresh ? group : before);
    if (!moved) {
        return;
    }
    if (!fresh) {
        leave_group(item, before);
    }
    item.place = static_cast<uint32_t>(group_states[group].members.size());
    group_states[group].members.push_back(&item);
    if (item.local != nullptr) {
        if (!fresh) {
            std::erase(locals_by_group[before], item.local);
        }
        locals_by_group[group].push_back(item.local);
        unmatched_locals.insert(item.local);
    }
}

// Brings the address table in line with what the item has now: from_object, and its endpoint's
// addresses. old_group: through which it contributed until now.
void PolicyCalculator::Impl::refresh_addresses(Item& item, std::vector<Cidr> wanted,
                                               GroupId old_group) {
    if (item.local != nullptr) {
        item.local->from_object = wanted;
    }
    if (item.local != nullptr && !item.finished) {
        for (const auto& address : item.local->endpoint.addresses) {
            wanted.push_back(Cidr::host(address));
        }
    }
    std::ranges::sort(wanted);
    wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
    const SourceId source = group_states[item.group].source;
    const SourceId old_source = group_states[old_group].source;
    // New first, so that no prefix goes and comes within one update.
    std::vector<AddressTable::Node*> fresh;
    fresh.reserve(wanted.size());
    auto old = item.contributed.begin();
    for (const auto& prefix : wanted) {
        while (old != item.contributed.end() && (*old)->first < prefix) {
            ++old;
        }
        const bool there = old != item.contributed.end() && (*old)->first == prefix;
        fresh.push_back(there && source == old_source ? *old
                                                      : addresses.contribute(prefix, source));
    }
    for (AddressTable::Node* node : item.contributed) {
        if (source != old_source || !std::ranges::binary_search(wanted, node->first)) {
            addresses.withdraw(node, old_source);
        }
    }
    item.contributed = std::move(fresh);
}

std::vector<Cidr> PolicyCalculator::Impl::prefixes_of(const Item& item) {
    std::vector<Cidr> out;
    for (const AddressTable::Node* node : item.contributed) {
        out.push_back(node->first);
    }
    return out;
}

void PolicyCalculator::Impl::leave_group(Item& item, GroupId group) {
    auto& members = group_states[group].members;
    members[item.place] = members.back();
    members[item.place]->place = item.place;
    members.pop_back();
    if (groups.release(group)) {
        GroupState& state = group_states[group];
        addresses.remove_source(state.source);
        state = GroupState{};
        dirty_groups.erase(group);
        stale_groups.erase(group);
    }
}

void PolicyCalculator::Impl::forget_item(const std::string& key) {
    const auto found = items.find(key);
    if (found == items.end()) {
        return;
    }
    Item& item = found->second;
    for (AddressTable::Node* node : item.contributed) {
        addresses.withdraw(node, group_states[item.group].source);
    }
    leave_group(item, item.group);
    items.erase(found);
}

void PolicyCalculator::Impl::set_prefixes(const std::string& owner, std::vector<Cidr> wanted,
                                          SourceId source) {
    std::ranges::sort(wanted);
    wanted.erase(std::ranges::unique(wanted).begin(), wanted.end());
    auto& [old_source, old] = prefixes[owner];
    for (const auto& prefix : wanted) {
        addresses.contribute(prefix, source);
    }
    for (const auto& prefix : old) {
        addresses.withdraw(prefix, old_source);
    }
    old_source = source;
    old = std::move(wanted);
    if (old.empty()) {
        prefixes.erase(owner);
    }
}

void PolicyCalculator::Impl::touch_groups(const std::vector<GroupId>& touched) {
    for (const GroupId group : touched) {
        dirty_groups.insert(group);
        if (const auto found = locals_by_group.find(group); found != locals_by_group.end()) {
            unmatched_locals.insert(found->second.begin(), found->second.end());
        }
    }
}

void PolicyCalculator::Impl::touch_all_locals() {
    for (auto& [interface, local] : locals) {
        dirty_locals.insert(&local);
    }
}

void PolicyCalculator::Impl::upsert_local(const dataplane::LocalEndpoint& endpoint) {
    LocalState& local = locals[endpoint.interface];
    if (local.item != nullptr && local.endpoint == endpoint) {
        return;
    }
    const std::string key = item_key(endpoint);
    const std::string old_key = local.item == nullptr ? key : item_key(local.endpoint);
    if (old_key != key) {
        remove_local(endpoint.interface);
        upsert_local(endpoint);
        return;
    }
    for (const auto& address : local.endpoint.addresses) {
        if (const auto at = local_by_address.find(address);
            at != local_by_address.end() && at->second == &local) {
            local_by_address.erase(at);
        }
    }
    local.endpoint = endpoint;
    for (const auto& address : endpoint.addresses) {
        local_by_address[address] = &local;
    }
    const auto found = items.find(key);
    if (found != items.end() && found->second.known) {
        // The object has the say about labels; addresses are joined.
        Item& item = found->second;
        const bool joined = item.local != nullptr;
        auto from_object = joined ? item.local->from_object : prefixes_of(item);
        item.local = &local;
        local.item = &item;
        refresh_addresses(item, std::move(from_object), item.group);
        if (!joined) {
            locals_by_group[item.group].push_back(&local);
            unmatched_locals.insert(&local);
        }
    } else {
        Item& item = items.try_emplace(key).first->second;
        const bool joined = item.local != nullptr;
        if (!joined) {
            items.erase(key); // made anew below, with its group
        }
        if (const auto old = items.find(key); old != items.end()) {
            old->second.finished = false; // another pod of that name, of which nothing is known yet
        }
        set_item(key, facts_of(endpoint), {});
        Item& made = items.at(key);
        if (!joined) {
            made.local = &local;
            locals_by_group[made.group].push_back(&local);
            unmatched_locals.insert(&local);
        }
        local.item = &made;
        refresh_addresses(made, {}, made.group);
    }
    dirty_locals.insert(&local);
}

void PolicyCalculator::Impl::remove_local(const std::string& interface) {
    const auto found = locals.find(interface);
    if (found == locals.end()) {
        return;
    }
    LocalState& local = found->second;
    for (const PolicyRef ref : local.policies) {
        --policies[ref].endpoints;
        dirty_policies.insert(ref);
    }
    for (auto& address : local.addresses) {
        if (address.present) {
            removed.steps.emplace_back(EndpointStep{address.address, true, {}});
        }
        for (const auto* list : {&address.sets, &address.staged}) {
            std::ranges::for_each(*list, [this](SetRef ref) { release_set(ref); });
        }
    }
    if (local.slot_written.ifindex != 0) {
        removed.steps.emplace_back(SlotStep{local.slot_place, {}});
    }
    for (const auto& address : local.endpoint.addresses) {
        if (const auto at = local_by_address.find(address);
            at != local_by_address.end() && at->second == &local) {
            local_by_address.erase(at);
        }
    }
    if (local.item != nullptr) {
        Item& item = *local.item;
        auto& list = locals_by_group[item.group];
        std::erase(list, &local);
        if (list.empty()) {
            locals_by_group.erase(item.group);
        }
        item.local = nullptr;
        if (item.known) {
            refresh_addresses(item, local.from_object, item.group);
        } else {
            forget_item(item_key(local.endpoint));
        }
    }
    dirty_locals.erase(&local);
    unmatched_locals.erase(&local);
    locals.erase(found);
}

} // namespace manx::calc
