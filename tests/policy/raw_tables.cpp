// SPDX-License-Identifier: Apache-2.0
#include "tests/policy/raw_tables.h"

#include "agent/calc/port_table.h"

#include <fmt/format.h>

#include <map>

namespace manx::dataplane {

// Sees inside of PolicyTables.
struct PolicyTablesAudit {
    const PolicyTables& tables;
    MemoryTables& memory;

    [[nodiscard]] std::optional<std::string> users() const {
        std::map<uint32_t, uint32_t> users;
        for (const auto& [key, room] : tables.policies_) {
            ++users[room];
        }
        for (uint32_t id = 0; id < tables.rooms_.size(); ++id) {
            const auto& room = tables.rooms_[id];
            if (room.users != users[id]) {
                return fmt::format("room {} has {} users, {} are counted", id, room.users,
                                   users[id]);
            }
            if (room.users > 0 && !room.written) {
                return fmt::format("room {} is named and was not written", id);
            }
        }
        for (const auto& [table, id] : tables.room_of_) {
            if (tables.rooms_[id].users == 0 || tables.rooms_[id].table.get() != table) {
                return fmt::format("room {} is not that of its table", id);
            }
        }
        if (!tables.held_.empty() || tables.reserved_entries_ != 0) {
            return "something is held";
        }
        return std::nullopt;
    }

    // Rooms, what waits and what is free are all there is, and do not overlap.
    [[nodiscard]] std::optional<std::string> room() const {
        std::map<uint32_t, uint32_t> ranges;
        size_t count = 0;
        const auto add = [&](uint32_t offset, uint32_t size) {
            ranges.emplace(offset, size);
            ++count;
        };
        for (const auto& room : tables.rooms_) {
            if (room.users > 0 && room.size > 0) {
                add(room.offset, room.size);
            }
        }
        tables.room_.each_waiting(add);
        for (const auto& [offset, size] : tables.room_.free_ranges()) {
            add(offset, size);
        }
        uint32_t end = 0;
        for (const auto& [offset, size] : ranges) {
            if (offset != end) {
                return fmt::format("room of manx_ports ends at {}, goes on at {}", end, offset);
            }
            end = offset + size;
        }
        if (end != tables.room_.capacity() || count != ranges.size()) {
            return fmt::format("room of manx_ports ends at {}", end);
        }
        return std::nullopt;
    }

    [[nodiscard]] std::optional<std::string> entries() const {
        size_t count = 0;
        std::optional<std::string> wrong;
        (void)memory.each_policy([&](const PolicyEntry& entry) {
            ++count;
            const auto found =
                tables.policies_.find(uint64_t{entry.first.set} << 32 | entry.first.class_id);
            if (found == tables.policies_.end() ||
                tables.rooms_[found->second].offset != entry.second.offset ||
                tables.rooms_[found->second].table->count != entry.second.count) {
                wrong = fmt::format("entry of set {} class {} is not known as it is",
                                    entry.first.set, entry.first.class_id);
            }
        });
        if (count != tables.policies_.size()) {
            wrong =
                fmt::format("{} entries are known, {} are there", tables.policies_.size(), count);
        }
        for (const uint64_t key : tables.leaving_.all([](uint64_t) { return true; })) {
            if (!tables.policies_.contains(key)) {
                wrong = fmt::format("set {} class {} is to leave, and is not there", key >> 32,
                                    key & UINT32_MAX);
            }
        }
        return wrong;
    }

    [[nodiscard]] std::optional<std::string> addresses() const {
        std::array<size_t, kAddressTables> counts{};
        (void)memory.each_class(
            [&](const ClassEntry& entry) { ++counts[static_cast<size_t>(table_of(entry.first))]; });
        (void)memory.each_endpoint([&](const IpAddress& address, const manx_endpoint&) {
            ++counts[static_cast<size_t>(endpoint_table_of(address))];
        });
        for (size_t table = 0; table < kAddressTables; ++table) {
            if (counts[table] > tables.addresses_[table]) {
                return fmt::format("{} has {} entries, {} are known",
                                   to_string(static_cast<AddressTable>(table)), counts[table],
                                   tables.addresses_[table]);
            }
        }
        return std::nullopt;
    }
};

} // namespace manx::dataplane

namespace manx::testing_policy {

calc::PortTablePtr port_table(uint32_t rule, uint32_t size, bool by_source) {
    calc::PortTable out;
    for (uint32_t i = 0; i < size; ++i) {
        const bool last = i + 1 == size;
        out.entries.push_back({.last = last ? UINT32_MAX : (i + 1) << 10,
                               .rule = rule,
                               .next = 0,
                               .next_count = 0,
                               .action = MANX_ACTION_ALLOW,
                               .flags = 0});
    }
    out.count = size;
    if (by_source && size > 1) {
        out.count = 1;
        auto& first = out.entries.front();
        first = {.last = UINT32_MAX,
                 .rule = 0,
                 .next = 1,
                 .next_count = static_cast<uint16_t>(size - 1),
                 .action = MANX_ACTION_BY_SOURCE_PORT,
                 .flags = 0};
    }
    out.hash = calc::content_hash(out);
    return std::make_shared<const calc::PortTable>(std::move(out));
}

calc::TableStep put(uint32_t set, uint32_t class_id, const calc::PortTablePtr& table) {
    return calc::PolicyStep{{set, class_id}, table};
}

calc::TableStep drop(uint32_t set, uint32_t class_id) {
    return calc::PolicyStep{{set, class_id}, nullptr};
}

calc::TableStep address(const char* prefix, uint32_t class_id) {
    return calc::ClassStep{*Cidr::parse(prefix), false, {class_id, 0}};
}

calc::TableStep no_address(const char* prefix) {
    return calc::ClassStep{*Cidr::parse(prefix), true, {}};
}

calc::TableStep endpoint(const char* address, uint32_t ingress_set) {
    manx_endpoint value{};
    value.ifindex = 1;
    value.ingress_set = ingress_set;
    return calc::EndpointStep{*IpAddress::parse(address), false, value};
}

std::optional<std::string> miscounted(const dataplane::PolicyTables& tables,
                                      dataplane::MemoryTables& memory) {
    const dataplane::PolicyTablesAudit audit{tables, memory};
    for (const auto& found : {audit.users(), audit.room(), audit.entries(), audit.addresses()}) {
        if (found) {
            return found;
        }
    }
    return std::nullopt;
}

} // namespace manx::testing_policy
