// SPDX-License-Identifier: Apache-2.0
#include "agent/calc/policy_calculator.h"

#include "agent/api/host_endpoint.h"
#include "agent/api/namespace.h"
#include "agent/api/network_set.h"
#include "agent/api/node.h"
#include "agent/api/pod.h"
#include "agent/api/pool.h"
#include "agent/api/service.h"
#include "agent/calc/calculator_impl.h"
#include "agent/calc/items.h"

#include <algorithm>
#include <utility>

namespace manx::calc {

namespace {

api::LabelMap inherited(const api::LabelMap& labels, std::string_view prefix,
                        const std::string& name) {
    api::LabelMap out;
    for (const auto& [key, value] : labels) {
        out.emplace(std::string(prefix) + key, value);
    }
    out.insert_or_assign(std::string(prefix) + "projectcalico.org/name", name);
    return out;
}

} // namespace

PolicyCalculator::Impl::Impl(CalculatorOptions given)
    : options(std::move(given)), groups(strings), matcher_index(strings), policy_index(strings),
      addresses(classes), registry(options.rule_numbers), set_ids(MANX_SET_FIRST) {
    local_host_source = addresses.add_source(0, MANX_CLASS_LOCAL_HOST);
    remote_host_source = addresses.add_source(0, MANX_CLASS_REMOTE_HOST);
    service_source = addresses.add_source(0, MANX_CLASS_SERVICE);
    pool_source = addresses.add_source(0, MANX_CLASS_POOL);
    for (const auto& tier : api::builtin_tiers()) {
        tiers.emplace(tier.name, tier);
    }
}

void PolicyCalculator::Impl::upsert_policy(const api::Policy& policy) {
    const std::string key = item_key(policy.kind, policy.ns, policy.name);
    if (policy.host_only() || policy.ignored) {
        remove_policy(key);
        return;
    }
    PackedRules packed(policy);
    api::Policy head = policy;
    head.ingress_rules = std::vector<api::PolicyRule>(); // "= {}" would keep the memory
    head.egress_rules = std::vector<api::PolicyRule>();
    // What says nothing about workloads.
    head.apply_on_forward = false;
    head.problems = std::vector<std::string>();
    const auto found = policy_by_key.find(key);
    PolicyRef ref = 0;
    if (found != policy_by_key.end()) {
        ref = found->second;
        const api::Policy& known = policies[ref].policy;
        if ((policies[ref].packed == packed && known == head) ||
            (head.subject_unread && !known.subject_unread)) {
            return; // the same; or not readable: the last good state stays
        }
        withdraw_policy(ref);
    } else {
        if (free_policies.empty()) {
            ref = static_cast<PolicyRef>(policies.size());
            policies.emplace_back();
        } else {
            ref = free_policies.back();
            free_policies.pop_back();
        }
        policy_by_key.emplace(key, ref);
    }
    PolicyState& state = policies[ref];
    state.policy = std::move(head);
    state.packed = std::move(packed);
    state.tie = policy.tie();
    state.live = true;
    policy_index.add(ref, state.policy.subject);
    match_policy(ref);
    dirty_policies.insert(ref);
}

// Off all endpoints and indexes; its rules stay until the sets have moved on.
void PolicyCalculator::Impl::withdraw_policy(PolicyRef ref) {
    PolicyState& state = policies[ref];
    if (state.endpoints > 0) {
        for (auto& [interface, local] : locals) {
            detach(local, ref);
        }
    }
    policy_index.remove(ref, state.policy.subject);
    for (size_t side = 0; side < 2; ++side) {
        state.former[side].insert(state.former[side].end(), state.rules[side].begin(),
                                  state.rules[side].end());
    }
    release_policy_rules(state);
}

void PolicyCalculator::Impl::remove_policy(const std::string& key) {
    const auto found = policy_by_key.find(key);
    if (found == policy_by_key.end()) {
        return;
    }
    const PolicyRef ref = found->second;
    withdraw_policy(ref);
    policies[ref] = PolicyState{};
    dirty_policies.erase(ref);
    free_policies.push_back(ref);
    policy_by_key.erase(found);
}

void PolicyCalculator::Impl::upsert_slice(const std::string& service, const std::string& slice,
                                          std::map<IpAddress, std::vector<uint32_t>> given) {
    auto& owner = slice_owner[slice];
    if (!owner.empty() && owner != service) {
        services[owner].slices.erase(slice);
        dirty_services.insert(owner);
    }
    owner = service;
    if (service.empty() || given.empty()) {
        slice_owner.erase(slice);
    }
    if (service.empty()) {
        return;
    }
    ServiceState& state = services[service];
    if (given.empty()) {
        state.slices.erase(slice);
    } else {
        state.slices[slice] = std::move(given);
    }
    dirty_services.insert(service);
}

PolicyCalculator::PolicyCalculator(CalculatorOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {
}

PolicyCalculator::~PolicyCalculator() = default;

void PolicyCalculator::upsert(const api::Pod& pod) {
    const bool ours = pod.node_name == impl_->options.node_name && !pod.node_name.empty();
    const std::string key = item_key(api::Kind::Pod, pod.meta.ns, pod.meta.name);
    const auto found = impl_->items.find(key);
    const bool local = found != impl_->items.end() && found->second.local != nullptr;
    // A pod of this node counts from its labels on, before its status names an address; and one
    // that is finished is known to be, when its endpoint comes or stays.
    if (!pod.is_endpoint() && (pod.host_network || (!local && !ours))) {
        remove(api::Kind::Pod, pod.meta.ns, pod.meta.name);
        return;
    }
    GroupFacts facts = workload_facts(pod.meta.labels, pod.meta.ns, pod.service_account);
    for (const auto& port : pod.named_ports) {
        if (!port.name.empty()) {
            facts.ports.emplace_back(port.name, port.protocol, port.port);
        }
    }
    auto addresses = pod.finished ? std::vector<Cidr>{} : hosts(pod.ips);
    impl_->set_item(key, facts, addresses);
    Item& item = impl_->items.at(key);
    item.known = true;
    if (item.finished != pod.finished) {
        item.finished = pod.finished;
        impl_->refresh_addresses(item, std::move(addresses), item.group);
    }
}

void PolicyCalculator::upsert(const api::Namespace& ns) {
    const auto labels = inherited(ns.meta.labels, api::kNamespacePrefix, ns.meta.name);
    impl_->touch_groups(impl_->groups.set_namespace(ns.meta.name, &labels));
}

void PolicyCalculator::upsert(const api::ServiceAccount& account) {
    const auto labels =
        inherited(account.meta.labels, api::kServiceAccountPrefix, account.meta.name);
    impl_->touch_groups(
        impl_->groups.set_service_account(account.meta.ns, account.meta.name, &labels));
}

void PolicyCalculator::upsert(const api::Node& node) {
    std::vector<IpAddress> all = node.addresses;
    for (const auto& address : {node.ipv4, node.ipv6}) {
        if (address) {
            all.push_back(address->address);
        }
    }
    for (const auto& address : {node.ipip_tunnel4, node.vxlan_tunnel4, node.vxlan_tunnel6}) {
        if (address) {
            all.push_back(*address);
        }
    }
    impl_->set_prefixes("node " + node.meta.name, hosts(all),
                        node.meta.name == impl_->options.node_name ? impl_->local_host_source
                                                                   : impl_->remote_host_source);
}

void PolicyCalculator::upsert(const api::Service& service) {
    std::vector<IpAddress> all = service.cluster_ips;
    all.insert(all.end(), service.external_ips.begin(), service.external_ips.end());
    all.insert(all.end(), service.load_balancer_ips.begin(), service.load_balancer_ips.end());
    impl_->set_prefixes("service " + service.meta.ns + "/" + service.meta.name, hosts(all),
                        impl_->service_source);
}

void PolicyCalculator::upsert(const api::EndpointSlice& slice) {
    std::map<IpAddress, std::vector<uint32_t>> addresses;
    for (const auto& endpoint : slice.endpoints) {
        for (const auto& address : endpoint.addresses) {
            auto& ports = addresses[address];
            for (const auto& port : slice.ports) {
                ports.push_back(uint32_t{port.protocol} << 16 | port.port);
            }
        }
    }
    impl_->upsert_slice(slice.service.empty() ? "" : slice.meta.ns + "/" + slice.service,
                        slice.meta.ns + "/" + slice.meta.name, std::move(addresses));
}

void PolicyCalculator::upsert(const api::IpPool& pool) {
    impl_->set_prefixes("pool " + pool.meta.name, {pool.cidr}, impl_->pool_source);
    impl_->pools[pool.meta.name] = {pool.cidr, pool.nat_outgoing};
    impl_->touch_all_locals();
}

void PolicyCalculator::upsert(const api::HostEndpoint& endpoint) {
    GroupFacts facts;
    facts.labels = endpoint.meta.labels;
    for (const auto& port : endpoint.ports) {
        facts.ports.emplace_back(port.name, port.protocol, port.port);
    }
    const std::string key = item_key(api::Kind::HostEndpoint, "", endpoint.meta.name);
    impl_->set_item(key, facts, hosts(endpoint.expected_ips));
    impl_->items.at(key).known = true;
}

void PolicyCalculator::upsert(const api::NetworkSet& set) {
    const std::string key = item_key(set.kind, set.ns, set.name);
    const auto known = impl_->items.find(key);
    if (!set.problems.empty() && known != impl_->items.end() && !known->second.partial) {
        return; // the last good state stays: a net that is left out could open a Deny
    }
    GroupFacts facts;
    facts.labels = set.labels;
    facts.ns = set.ns;
    if (!set.ns.empty()) {
        facts.labels[std::string(api::kNamespaceLabel)] = set.ns;
    }
    impl_->set_item(key, facts, set.nets);
    Item& item = impl_->items.at(key);
    item.known = true;
    item.partial = !set.problems.empty(); // no good state yet: the next one is followed
}

void PolicyCalculator::upsert(const api::Tier& tier) {
    const auto known = impl_->tiers.find(tier.name);
    if (!tier.problems.empty() && known != impl_->tiers.end() && known->second.problems.empty()) {
        return; // the last good state stays
    }
    impl_->set_tier(tier.name, &tier);
}

void PolicyCalculator::Impl::set_tier(const std::string& name, const api::Tier* tier) {
    const auto builtin = api::builtin_tiers();
    const auto known = std::ranges::find(builtin, name, &api::Tier::name);
    if (tier == nullptr && known != builtin.end()) {
        tier = &*known;
    }
    const auto found = tiers.find(name);
    if (tier == nullptr ? found == tiers.end() : found != tiers.end() && found->second == *tier) {
        return;
    }
    if (tier == nullptr) {
        tiers.erase(found);
    } else {
        tiers.insert_or_assign(name, *tier);
    }
    for (auto& [interface, local] : locals) {
        std::ranges::sort(local.policies,
                          [this](PolicyRef a, PolicyRef b) { return before(a, b); });
        dirty_locals.insert(&local);
    }
}

void PolicyCalculator::upsert(const api::Policy& policy) {
    impl_->upsert_policy(policy);
}

void PolicyCalculator::remove(api::Kind kind, const std::string& ns, const std::string& name) {
    const std::string key = item_key(kind, ns, name);
    switch (kind) {
    case api::Kind::Pod: {
        const auto found = impl_->items.find(key);
        if (found == impl_->items.end()) {
            return;
        }
        Item& item = found->second;
        if (item.local == nullptr) {
            impl_->forget_item(key);
        } else if (item.known) {
            item.known = false;
            impl_->set_item(key, facts_of(item.local->endpoint), {});
        }
        return;
    }
    case api::Kind::HostEndpoint:
    case api::Kind::NetworkSet:
    case api::Kind::GlobalNetworkSet:
        impl_->forget_item(key);
        return;
    case api::Kind::Namespace:
        impl_->touch_groups(impl_->groups.set_namespace(name, nullptr));
        return;
    case api::Kind::ServiceAccount:
        impl_->touch_groups(impl_->groups.set_service_account(ns, name, nullptr));
        return;
    case api::Kind::Node:
        impl_->set_prefixes("node " + name, {}, impl_->remote_host_source);
        return;
    case api::Kind::Service:
        impl_->set_prefixes("service " + ns + "/" + name, {}, impl_->service_source);
        return;
    case api::Kind::EndpointSlice:
        impl_->upsert_slice("", ns + "/" + name, {});
        return;
    case api::Kind::IpPool:
        impl_->set_prefixes("pool " + name, {}, impl_->pool_source);
        impl_->pools.erase(name);
        impl_->touch_all_locals();
        return;
    case api::Kind::Tier:
        impl_->set_tier(name, nullptr);
        return;
    default:
        break;
    }
    if (!api::is_policy(kind)) {
        return;
    }
    // Storage may still hold a policy of the default tier under its old name.
    constexpr std::string_view kOldPrefix = "default.";
    if (!impl_->policy_by_key.contains(key) && name.starts_with(kOldPrefix)) {
        impl_->remove_policy(item_key(kind, ns, name.substr(kOldPrefix.size())));
        return;
    }
    impl_->remove_policy(key);
}

void PolicyCalculator::upsert_local(const dataplane::LocalEndpoint& endpoint) {
    impl_->upsert_local(endpoint);
}

void PolicyCalculator::remove_local(const std::string& interface) {
    impl_->remove_local(interface);
}

void PolicyCalculator::set_host_addresses(std::span<const IpAddress> given) {
    impl_->set_prefixes("host", hosts({given.begin(), given.end()}), impl_->local_host_source);
}

TableUpdate PolicyCalculator::flush() {
    return impl_->flush();
}

TableUpdate PolicyCalculator::snapshot() const {
    return impl_->snapshot();
}

const RuleRegistry& PolicyCalculator::rules() const {
    return impl_->registry;
}

std::vector<uint32_t> PolicyCalculator::take_released_rules() {
    return impl_->registry.take_released();
}

std::vector<std::string> PolicyCalculator::take_too_big() {
    const auto names = std::exchange(impl_->too_big, {});
    return {names.begin(), names.end()};
}

Judgement PolicyCalculator::judge(const IpAddress& local, api::Direction direction,
                                  const IpAddress& other, const Packet& packet, bool staged) const {
    return impl_->judge(local, direction, other, packet, staged);
}

CalculatorStats PolicyCalculator::stats() const {
    CalculatorStats out;
    out.policies = impl_->policy_by_key.size();
    out.matchers = impl_->matcher_by_key.size();
    out.classes = impl_->classes.size();
    out.prefixes = impl_->addresses.size();
    out.inverted_sets = impl_->inverted_sets.size();
    for (const auto& state : impl_->policies) {
        out.active_policies += state.compiled ? 1 : 0;
    }
    for (const auto& set : impl_->sets) {
        out.sets += set.live ? 1 : 0;
        out.set_entries += set.live ? set.entries.size() + 1 : 0;
    }
    for (const auto& [hash, table] : impl_->port_tables) {
        out.port_tables += table.expired() ? 0 : 1;
    }
    return out;
}

} // namespace manx::calc
