// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_writer.h"

#include <algorithm>

namespace manx::dataplane {

std::string_view to_string(AddressTable table) {
    constexpr std::string_view kNames[] = {"manx_class4", "manx_class6", "manx_net4",
                                           "manx_net6",   "manx_ep4",    "manx_ep6"};
    return kNames[static_cast<size_t>(table)];
}

AddressTable table_of(const Cidr& prefix) {
    const bool is_v4 = prefix.family() == Family::V4;
    if (prefix.is_host()) {
        return is_v4 ? AddressTable::Class4 : AddressTable::Class6;
    }
    return is_v4 ? AddressTable::Net4 : AddressTable::Net6;
}

AddressTable endpoint_table_of(const IpAddress& address) {
    return address.is_v4() ? AddressTable::Endpoint4 : AddressTable::Endpoint6;
}

Result<void> MemoryTables::check_addresses(AddressTable table) const {
    const auto is_of = [table](const auto& entry) {
        if constexpr (std::is_same_v<std::decay_t<decltype(entry.first)>, Cidr>) {
            return table_of(entry.first) == table;
        } else {
            return endpoint_table_of(entry.first) == table;
        }
    };
    const auto count =
        std::ranges::count_if(classes_, is_of) + std::ranges::count_if(endpoints_, is_of);
    if (static_cast<size_t>(count) >= limits_.addresses) {
        return fail(ErrorKind::Exhausted, std::string(to_string(table)) + " is full");
    }
    return {};
}

Result<void> MemoryTables::about_to(std::string_view what) const {
    return on_write ? on_write(what) : Result<void>{};
}

Result<void> MemoryTables::write_ports(uint32_t offset, std::span<const manx_port> entries) {
    TRY(about_to("ports"));
    if (offset + entries.size() > limits_.ports) {
        return fail(ErrorKind::Exhausted, "manx_ports is full");
    }
    if (ports_.size() < offset + entries.size()) {
        ports_.resize(offset + entries.size());
    }
    std::ranges::copy(entries, ports_.begin() + offset);
    return {};
}

Result<void> MemoryTables::put_policies(std::span<const PolicyEntry> entries) {
    for (const auto& [key, value] : entries) {
        TRY(about_to("policy"));
        if (policies_.size() >= limits_.policies && !policies_.contains({key.set, key.class_id})) {
            return fail(ErrorKind::Exhausted, "manx_policy is full");
        }
        policies_[{key.set, key.class_id}] = value;
    }
    return {};
}

Result<void> MemoryTables::put_classes(std::span<const ClassEntry> entries) {
    for (const auto& [prefix, value] : entries) {
        TRY(about_to("class"));
        if (!classes_.contains(prefix)) {
            TRY(check_addresses(table_of(prefix)));
        }
        classes_[prefix] = value;
    }
    return {};
}

Result<void> MemoryTables::put_endpoint(const IpAddress& address, const manx_endpoint& value) {
    TRY(about_to("endpoint"));
    if (!endpoints_.contains(address)) {
        TRY(check_addresses(endpoint_table_of(address)));
    }
    endpoints_[address] = value;
    return {};
}

Result<void> MemoryTables::put_slot(uint16_t slot, const manx_slot_entry& value) {
    TRY(about_to("slot"));
    slots_[slot] = value;
    if (value.ifindex == 0) {
        slots_.erase(slot);
    }
    return {};
}

Result<void> MemoryTables::remove_policy(const manx_policy_key& key) {
    TRY(about_to("remove policy"));
    policies_.erase({key.set, key.class_id});
    return {};
}

Result<void> MemoryTables::remove_class(const Cidr& prefix) {
    TRY(about_to("remove class"));
    classes_.erase(prefix);
    return {};
}

Result<void> MemoryTables::remove_endpoint(const IpAddress& address) {
    TRY(about_to("remove endpoint"));
    endpoints_.erase(address);
    return {};
}

Result<std::vector<manx_port>> MemoryTables::read_ports(uint32_t offset, uint32_t count) {
    if (uint64_t{offset} + count > ports_.size()) {
        return fail(ErrorKind::NotFound, "manx_ports: outside of the table");
    }
    return std::vector<manx_port>(ports_.begin() + offset, ports_.begin() + offset + count);
}

Result<void> MemoryTables::each_policy(const std::function<void(const PolicyEntry&)>& fn) {
    for (const auto& [key, value] : policies_) {
        fn({manx_policy_key{key.first, key.second}, value});
    }
    return {};
}

Result<void> MemoryTables::each_class(const std::function<void(const ClassEntry&)>& fn) {
    for (const auto& entry : classes_) {
        fn(entry);
    }
    return {};
}

Result<void>
MemoryTables::each_endpoint(const std::function<void(const IpAddress&, const manx_endpoint&)>& fn) {
    for (const auto& [address, value] : endpoints_) {
        fn(address, value);
    }
    return {};
}

Result<void>
MemoryTables::each_slot(const std::function<void(uint16_t, const manx_slot_entry&)>& fn) {
    for (const auto& [slot, value] : slots_) {
        fn(slot, value);
    }
    return {};
}

manx_class MemoryTables::classify(const IpAddress& address) const {
    if (const auto* local = endpoint(address)) {
        return {local->class_id, MANX_CLASS_POOL | MANX_CLASS_POD};
    }
    for (unsigned length = address.bits() + 1; length-- > 0;) {
        if (const auto found = classes_.find(Cidr(address, length)); found != classes_.end()) {
            return found->second;
        }
    }
    return {};
}

const manx_endpoint* MemoryTables::endpoint(const IpAddress& address) const {
    const auto found = endpoints_.find(address);
    return found == endpoints_.end() ? nullptr : &found->second;
}

MemoryTables::Verdict MemoryTables::judge(uint32_t set, uint32_t class_id, uint8_t protocol,
                                          uint16_t source_port, uint16_t destination_port) const {
    if (set == MANX_SET_ALLOW) {
        return {.allow = true};
    }
    auto found = policies_.find({set, class_id});
    if (found == policies_.end()) {
        found = policies_.find({set, MANX_CLASS_ANY});
    }
    if (set == MANX_SET_DENY || found == policies_.end()) {
        return {.broken = set != MANX_SET_DENY};
    }
    const auto search = [&](uint32_t offset, uint32_t count, uint32_t value) {
        const auto begin = ports_.begin() + offset;
        return *std::ranges::lower_bound(begin, begin + count, value, {}, &manx_port::last);
    };
    const uint32_t base = uint32_t{protocol} << 16;
    manx_port entry = search(found->second.offset, found->second.count, base | destination_port);
    if (entry.action == MANX_ACTION_BY_SOURCE_PORT) {
        entry = search(entry.next, entry.next_count, base | source_port);
    }
    return {.allow = entry.action == MANX_ACTION_ALLOW,
            .rule = entry.rule,
            .log = (entry.flags & MANX_PORT_LOG) != 0};
}

} // namespace manx::dataplane
