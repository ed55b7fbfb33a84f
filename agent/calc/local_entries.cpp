// SPDX-License-Identifier: Apache-2.0
// The entries of this node's workloads: by address (manx_endpoint) and by slot (manx_slot_entry).
#include "agent/calc/calculator_impl.h"

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

} // namespace manx::calc
