// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/pinned_tables.h"

#include <cstring>
#include <numeric>

namespace manx::dataplane {

namespace {

// Keys hold addresses as they are on the wire.
manx_addr4 key4(const IpAddress& address) {
    manx_addr4 key{};
    std::memcpy(&key.addr, address.bytes().data(), sizeof(key.addr));
    return key;
}

manx_addr6 key6(const IpAddress& address) {
    manx_addr6 key{};
    std::memcpy(key.addr, address.bytes().data(), sizeof(key.addr));
    return key;
}

manx_prefix4 key4(const Cidr& prefix) {
    return {prefix.length(), key4(prefix.address()).addr};
}

manx_prefix6 key6(const Cidr& prefix) {
    manx_prefix6 key{};
    key.length = prefix.length();
    std::memcpy(key.addr, prefix.address().bytes().data(), sizeof(key.addr));
    return key;
}

template <typename Key>
IpAddress address_of(const Key& key) {
    uint8_t bytes[sizeof(key.addr)];
    std::memcpy(bytes, &key.addr, sizeof(bytes));
    return IpAddress::from_bytes(bytes);
}

template <typename Key, typename Value>
struct Batch {
    std::vector<Key> keys;
    std::vector<Value> values;

    void add(const Key& key, const Value& value) {
        keys.push_back(key);
        values.push_back(value);
    }

    Result<void> write(maps::Map<Key, Value>& map) {
        if (!keys.empty()) {
            TRY(map.update_batch(keys, values));
        }
        return {};
    }
};

// Removed or not there: both are fine.
Result<void> done(const Result<bool>& removed) {
    if (!removed) {
        return Unexpected(removed.error());
    }
    return {};
}

} // namespace

Result<std::unique_ptr<PinnedTables>> PinnedTables::open(const std::string& bpffs) {
    std::unique_ptr<PinnedTables> out(new PinnedTables());
    TRY_ASSIGN(out->endpoints4_, maps::open_pinned(bpffs, maps::kEp4));
    TRY_ASSIGN(out->endpoints6_, maps::open_pinned(bpffs, maps::kEp6));
    TRY_ASSIGN(out->slots_, maps::open_pinned(bpffs, maps::kSlot));
    TRY_ASSIGN(out->classes4_, maps::open_pinned(bpffs, maps::kClass4));
    TRY_ASSIGN(out->classes6_, maps::open_pinned(bpffs, maps::kClass6));
    TRY_ASSIGN(out->nets4_, maps::open_pinned(bpffs, maps::kNet4));
    TRY_ASSIGN(out->nets6_, maps::open_pinned(bpffs, maps::kNet6));
    TRY_ASSIGN(out->policies_, maps::open_pinned(bpffs, maps::kPolicy));
    TRY_ASSIGN(out->ports_, maps::open_pinned(bpffs, maps::kPorts));
    return out;
}

Result<void> PinnedTables::write_ports(uint32_t offset, std::span<const manx_port> entries) {
    std::vector<uint32_t> keys(entries.size());
    std::iota(keys.begin(), keys.end(), offset);
    return ports_.update_batch(keys, entries);
}

Result<void> PinnedTables::put_policies(std::span<const PolicyEntry> entries) {
    Batch<manx_policy_key, manx_policy_value> batch;
    for (const auto& [key, value] : entries) {
        batch.add(key, value);
    }
    return batch.write(policies_);
}

Result<void> PinnedTables::put_classes(std::span<const ClassEntry> entries) {
    Batch<manx_addr4, manx_class> exact4;
    Batch<manx_addr6, manx_class> exact6;
    // The longest-prefix tables have no batch operation that every supported kernel knows.
    for (const auto& [prefix, value] : entries) {
        const bool is_v4 = prefix.family() == Family::V4;
        if (prefix.is_host() && is_v4) {
            exact4.add(key4(prefix.address()), value);
        } else if (prefix.is_host()) {
            exact6.add(key6(prefix.address()), value);
        } else if (is_v4) {
            TRY(nets4_.update(key4(prefix), value));
        } else {
            TRY(nets6_.update(key6(prefix), value));
        }
    }
    TRY(exact4.write(classes4_));
    return exact6.write(classes6_);
}

Result<void> PinnedTables::put_endpoint(const IpAddress& address, const manx_endpoint& value) {
    return address.is_v4() ? endpoints4_.update(key4(address), value)
                           : endpoints6_.update(key6(address), value);
}

Result<void> PinnedTables::put_slot(uint16_t slot, const manx_slot_entry& value) {
    return slots_.update(slot, value);
}

Result<void> PinnedTables::remove_policy(const manx_policy_key& key) {
    return done(policies_.remove(key));
}

Result<void> PinnedTables::remove_class(const Cidr& prefix) {
    const bool is_v4 = prefix.family() == Family::V4;
    if (prefix.is_host()) {
        return done(is_v4 ? classes4_.remove(key4(prefix.address()))
                          : classes6_.remove(key6(prefix.address())));
    }
    return done(is_v4 ? nets4_.remove(key4(prefix)) : nets6_.remove(key6(prefix)));
}

Result<void> PinnedTables::remove_endpoint(const IpAddress& address) {
    return done(address.is_v4() ? endpoints4_.remove(key4(address))
                                : endpoints6_.remove(key6(address)));
}

Result<std::vector<manx_port>> PinnedTables::read_ports(uint32_t offset, uint32_t count) {
    std::vector<manx_port> out;
    out.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
        TRY_ASSIGN(const auto entry, ports_.lookup(offset + i));
        if (!entry) {
            return fail(ErrorKind::NotFound, "manx_ports: outside of the table");
        }
        out.push_back(*entry);
    }
    return out;
}

Result<void> PinnedTables::each_policy(const std::function<void(const PolicyEntry&)>& fn) {
    return policies_.for_each(
        [&](const manx_policy_key& key, const manx_policy_value& value) { fn({key, value}); });
}

Result<void> PinnedTables::each_class(const std::function<void(const ClassEntry&)>& fn) {
    const auto exact = [&](const auto& key, const manx_class& value) {
        fn({Cidr::host(address_of(key)), value});
    };
    const auto net = [&](const auto& key, const manx_class& value) {
        fn({Cidr(address_of(key), key.length), value});
    };
    TRY(classes4_.for_each(exact));
    TRY(classes6_.for_each(exact));
    TRY(nets4_.for_each(net));
    return nets6_.for_each(net);
}

Result<void>
PinnedTables::each_endpoint(const std::function<void(const IpAddress&, const manx_endpoint&)>& fn) {
    const auto one = [&](const auto& key, const manx_endpoint& value) {
        fn(address_of(key), value);
    };
    TRY(endpoints4_.for_each(one));
    return endpoints6_.for_each(one);
}

Result<void>
PinnedTables::each_slot(const std::function<void(uint16_t, const manx_slot_entry&)>& fn) {
    return slots_.for_each([&](const uint32_t& slot, const manx_slot_entry& value) {
        if (value.ifindex != 0) {
            fn(static_cast<uint16_t>(slot), value);
        }
    });
}

uint32_t PinnedTables::capacity(AddressTable table) const {
    switch (table) {
    case AddressTable::Class4:
        return classes4_.max_entries();
    case AddressTable::Class6:
        return classes6_.max_entries();
    case AddressTable::Net4:
        return nets4_.max_entries();
    case AddressTable::Net6:
        return nets6_.max_entries();
    case AddressTable::Endpoint4:
        return endpoints4_.max_entries();
    case AddressTable::Endpoint6:
        return endpoints6_.max_entries();
    }
    return 0;
}

Result<manx_class> PinnedTables::classify(const IpAddress& address) const {
    const bool is_v4 = address.is_v4();
    TRY_ASSIGN(const auto local,
               is_v4 ? endpoints4_.lookup(key4(address)) : endpoints6_.lookup(key6(address)));
    if (local) {
        return manx_class{local->class_id, MANX_CLASS_POOL | MANX_CLASS_POD};
    }
    TRY_ASSIGN(auto found,
               is_v4 ? classes4_.lookup(key4(address)) : classes6_.lookup(key6(address)));
    if (!found) {
        // A look-up with the full length gives the longest prefix.
        const Cidr host = Cidr::host(address);
        TRY_ASSIGN(found, is_v4 ? nets4_.lookup(key4(host)) : nets6_.lookup(key6(host)));
    }
    return found.value_or(manx_class{});
}

} // namespace manx::dataplane
