// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <fmt/format.h>

#include <algorithm>

namespace manx::dataplane {

void TableResync::read_snapshot() {
    for (const auto& step : snapshot_.steps) {
        if (const auto* policy = std::get_if<calc::PolicyStep>(&step)) {
            sets_[policy->key.set].entries.emplace(policy->key.class_id, policy->table);
        } else if (const auto* one = std::get_if<calc::ClassStep>(&step)) {
            wanted_.classes.emplace(one->prefix, one->value);
        } else if (const auto* endpoint = std::get_if<calc::EndpointStep>(&step)) {
            wanted_.endpoints.emplace(endpoint->address, endpoint->value);
        } else if (const auto* slot = std::get_if<calc::SlotStep>(&step)) {
            wanted_.slots.emplace(slot->slot, slot->value);
        }
    }
}

// With its runs by source port, wherever the table stands.
Result<calc::PortTablePtr> TableResync::read_table(const manx_policy_value& value) {
    calc::PortTable out;
    out.count = std::max(value.count, 1U);
    const auto read = [&](uint32_t offset, uint32_t count) -> Result<void> {
        auto part = tables_.writer_.read_ports(offset, count);
        if (part) {
            out.entries.insert(out.entries.end(), part->begin(), part->end());
        } else if (part.error().kind != ErrorKind::NotFound) {
            return Unexpected(part.error());
        }
        return {}; // outside of the table: programs find nothing there
    };
    TRY(read(value.offset, out.count));
    uint32_t size = out.count;
    for (const auto& entry : out.entries) {
        if (entry.action == MANX_ACTION_BY_SOURCE_PORT && entry.next >= value.offset) {
            size = std::max(size, entry.next + entry.next_count - value.offset);
        }
    }
    if (size > out.count && !out.entries.empty()) {
        TRY(read(value.offset + out.count, size - out.count));
    }
    for (auto& entry : out.entries) {
        entry.next -= entry.action == MANX_ACTION_BY_SOURCE_PORT ? value.offset : 0;
    }
    out.hash = calc::content_hash(out);
    return std::make_shared<const calc::PortTable>(std::move(out));
}

// Equal port tables become one object, the snapshot's where it has it, so that what did not change
// is not written.
Result<void> TableResync::adopt_policies() {
    std::unordered_map<uint32_t, PolicyTables::Room> before; // by offset
    for (const auto& room : tables_.rooms_) {
        if (room.users > 0 && room.size > 0) {
            before.emplace(room.offset, room);
        }
    }
    tables_.room_.reset();
    tables_.rooms_.clear();
    tables_.free_rooms_.clear();
    tables_.room_of_.clear();
    tables_.policies_.clear();
    tables_.held_.clear();
    tables_.reserved_entries_ = 0;
    std::unordered_multimap<uint64_t, calc::PortTablePtr> by_content;
    std::unordered_set<const calc::PortTable*> seen;
    for (const auto& [set, wanted] : sets_) {
        for (const auto& [class_id, table] : wanted.entries) {
            if (seen.insert(table.get()).second) {
                by_content.emplace(table->hash, table);
            }
        }
    }
    const auto [allowing, end_of_allowing] = by_content.equal_range(allow_all_->hash);
    const auto like = std::find_if(allowing, end_of_allowing,
                                   [this](const auto& one) { return *one.second == *allow_all_; });
    if (like != end_of_allowing) {
        allow_all_ = like->second;
    } else {
        by_content.emplace(allow_all_->hash, allow_all_);
    }
    std::vector<PolicyEntry> found;
    TRY(tables_.writer_.each_policy([&](const PolicyEntry& entry) { found.push_back(entry); }));
    std::map<std::pair<uint32_t, uint32_t>, RoomId> places;
    for (const auto& [key, value] : found) {
        const auto [at, fresh] = places.try_emplace({value.offset, value.count},
                                                    static_cast<RoomId>(tables_.rooms_.size()));
        if (fresh) {
            TRY_ASSIGN(auto table, read_table(value));
            const auto size = std::max(static_cast<uint32_t>(table->entries.size()), table->count);
            const bool ours = tables_.room_.take_at(value.offset, size);
            // One that overlaps another is taken for nobody's: whoever wants the like gets a new
            // one.
            if (ours) {
                const auto [begin, end] = by_content.equal_range(table->hash);
                const auto known = std::find_if(
                    begin, end, [&](const auto& one) { return *one.second == *table; });
                if (known != end) {
                    table = known->second;
                } else {
                    by_content.emplace(table->hash, table);
                }
                tables_.room_of_.try_emplace(table.get(), at->second);
            }
            tables_.rooms_.push_back({.table = std::move(table),
                                      .offset = value.offset,
                                      .size = ours ? size : 0,
                                      .written = true});
            if (const auto old = before.find(value.offset); old != before.end()) {
                tables_.rooms_.back().left = old->second.left;
            }
        }
        ++tables_.rooms_[at->second].users;
        tables_.policies_.emplace(policy_key(key.set, key.class_id), at->second);
    }
    // What a write that failed in the middle took from them may still be read.
    for (const auto& [offset, room] : before) {
        if (tables_.room_.take_at(offset, room.size)) {
            tables_.room_.give_later(offset, room.size, tables_.now_());
        }
    }
    return {};
}

// What waits to be removed, and is named or may be while classes and sets change, stays.
void TableResync::keep_named() {
    if (tables_.leaving_.empty()) {
        return;
    }
    const auto named = now_.sets();
    auto classes = now_.class_ids();
    classes.merge(wanted_.class_ids());
    const auto stays = [&](uint64_t key) {
        const auto set = set_of(key);
        const auto class_id = class_of(key);
        return !tables_.policies_.contains(key) ||
               ((sets_.contains(set) || named.contains(set)) && classes.contains(class_id));
    };
    for (const uint64_t key : tables_.leaving_.all(stays)) {
        tables_.leaving_.erase(key);
    }
}

// Takes over what is there.
Result<void> TableResync::adopt() {
    auto& writer = tables_.writer_;
    TRY(adopt_policies());
    TRY(writer.each_class([&](const ClassEntry& entry) { now_.classes.insert(entry); }));
    TRY(writer.each_endpoint([&](const IpAddress& address, const manx_endpoint& value) {
        now_.endpoints.emplace(address, value);
    }));
    TRY(writer.each_slot(
        [&](uint16_t number, const manx_slot_entry& value) { now_.slots.emplace(number, value); }));
    tables_.addresses_ = {};
    for (const auto& [prefix, value] : now_.classes) {
        ++tables_.addresses_[static_cast<size_t>(table_of(prefix))];
    }
    tables_.endpoints_.clear();
    for (const auto& [address, value] : now_.endpoints) {
        ++tables_.addresses_[static_cast<size_t>(endpoint_table_of(address))];
        tables_.endpoints_.emplace(address, value.ifindex);
    }
    keep_named();
    return {};
}

namespace {

Result<void> check(std::string_view table, size_t needed, size_t room) {
    if (needed > room) {
        return fail(ErrorKind::Exhausted,
                    fmt::format("{} is full: {} entries are needed, it has room for {}", table,
                                needed, room));
    }
    return {};
}

} // namespace

// Whether the snapshot has room where nothing else is there.
Result<void> TableResync::check_policies() const {
    size_t entries = 0;
    size_t ports = 0;
    std::unordered_set<const calc::PortTable*> seen;
    for (const auto& [set, wanted] : sets_) {
        entries += wanted.entries.size();
        for (const auto& [class_id, table] : wanted.entries) {
            ports += seen.insert(table.get()).second ? table->entries.size() : 0;
        }
    }
    TRY(check("manx_policy", entries, tables_.writer_.policies_capacity()));
    return check("manx_ports", ports, tables_.room_.capacity());
}

Result<void> TableResync::check_addresses() const {
    std::array<size_t, kAddressTables> counts{};
    for (const auto& [prefix, value] : wanted_.classes) {
        ++counts[static_cast<size_t>(table_of(prefix))];
    }
    for (const auto& [address, value] : wanted_.endpoints) {
        ++counts[static_cast<size_t>(endpoint_table_of(address))];
    }
    for (size_t table = 0; table < kAddressTables; ++table) {
        const auto id = static_cast<AddressTable>(table);
        TRY(check(to_string(id), counts[table], tables_.writer_.capacity(id)));
    }
    return {};
}

} // namespace manx::dataplane
