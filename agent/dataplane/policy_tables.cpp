// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/policy_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace manx::dataplane {

namespace {

constexpr size_t kBatch = 4096;

uint64_t key_of(const manx_policy_key& key) {
    return policy_key(key.set, key.class_id);
}

std::vector<manx_port> placed(const calc::PortTable& table, uint32_t offset) {
    std::vector<manx_port> entries = table.entries;
    for (auto& entry : entries) {
        if (entry.action == MANX_ACTION_BY_SOURCE_PORT) {
            entry.next += offset;
        }
    }
    return entries;
}

} // namespace

PolicyTables::PolicyTables(TableWriter& writer, std::function<Clock::time_point()> now)
    : writer_(writer), now_(std::move(now)), room_(writer.ports_capacity()) {
}

// Before any of it is written. The old entries are still there, so both need room.
Result<void> PolicyTables::reserve(std::span<const Put> puts) {
    std::unordered_set<uint64_t> fresh;
    for (const auto& one : puts) {
        if (!policies_.contains(key_of(one.key))) {
            fresh.insert(key_of(one.key));
        }
    }
    const size_t entries = policies_.size() + reserved_entries_ + fresh.size();
    if (entries > writer_.policies_capacity()) {
        return fail(ErrorKind::Exhausted,
                    fmt::format("manx_policy is full: {} entries are needed, it has room for {}",
                                entries, writer_.policies_capacity()));
    }
    const size_t before = held_.size();
    for (const auto& one : puts) {
        auto known = room_of_.find(one.table.get());
        RoomId id = 0;
        if (known != room_of_.end()) {
            id = known->second;
        } else {
            const auto size = static_cast<uint32_t>(one.table->entries.size());
            const auto offset = room_.take(size);
            if (!offset) {
                unreserve_to(before);
                return fail(ErrorKind::Exhausted,
                            fmt::format("manx_ports is full: no room for a port table of {} "
                                        "entries among {}",
                                        size, room_.capacity()));
            }
            id = take_room(one.table, *offset);
        }
        ++rooms_[id].users;
        held_.push_back(id);
    }
    reserved_entries_ += fresh.size();
    return {};
}

PolicyTables::RoomId PolicyTables::take_room(const calc::PortTablePtr& table, uint32_t offset) {
    RoomId id = 0;
    if (free_rooms_.empty()) {
        id = static_cast<RoomId>(rooms_.size());
        rooms_.emplace_back();
    } else {
        id = free_rooms_.back();
        free_rooms_.pop_back();
    }
    rooms_[id] = {
        .table = table, .offset = offset, .size = static_cast<uint32_t>(table->entries.size())};
    room_of_.emplace(table.get(), id);
    return id;
}

void PolicyTables::unreserve() {
    unreserve_to(0);
    reserved_entries_ = 0;
}

void PolicyTables::unreserve_to(size_t held) {
    while (held_.size() > held) {
        const RoomId id = held_.back();
        held_.pop_back();
        drop_user(id);
    }
}

void PolicyTables::leave(RoomId id, Found found) {
    if (found == Found::Until) {
        rooms_[id].left = now_();
    }
    drop_user(id);
}

void PolicyTables::drop_user(RoomId id) {
    Room& room = rooms_[id];
    if (--room.users > 0) {
        return;
    }
    if (room.size > 0 && room.left > now_() - kGrace) {
        room_.give_later(room.offset, room.size, room.left);
    } else if (room.size > 0) {
        room_.give(room.offset, room.size);
    }
    if (const auto at = room_of_.find(room.table.get()); at != room_of_.end() && at->second == id) {
        room_of_.erase(at);
    }
    room = Room{};
    free_rooms_.push_back(id);
}

Result<void> PolicyTables::put(std::span<const Put> puts) {
    std::vector<PolicyEntry> entries;
    std::vector<RoomId> ids;
    entries.reserve(puts.size());
    for (const auto& one : puts) {
        const RoomId id = room_of_.at(one.table.get());
        Room& room = rooms_[id];
        if (!room.written) {
            TRY(writer_.write_ports(room.offset, placed(*room.table, room.offset)));
            room.written = true;
        }
        ++room.users;
        ids.push_back(id);
        entries.push_back({one.key, {room.offset, one.table->count}});
    }
    if (auto done = writer_.put_policies(entries); !done) {
        // Some of them may be there: what they had may still be read.
        for (const auto& one : puts) {
            if (const auto at = policies_.find(key_of(one.key)); at != policies_.end()) {
                rooms_[at->second].left = now_();
            }
        }
        return done;
    }
    std::vector<uint32_t> sets; // whole from now on
    for (size_t i = 0; i < puts.size(); ++i) {
        const uint64_t key = key_of(puts[i].key);
        leaving_.erase(key);
        const auto [at, made] = policies_.try_emplace(key, ids[i]);
        if (!made) {
            leave(at->second, Found::Until);
            at->second = ids[i];
        }
        if (puts[i].key.class_id == MANX_CLASS_ANY) {
            sets.push_back(puts[i].key.set);
        }
    }
    // A set's number is in use again: what it had besides is not to speak for it.
    for (const uint32_t set : sets) {
        TRY(remove_all(leaving_.of_set(set), Found::Until));
    }
    return {};
}

void PolicyTables::leave_later(uint64_t key) {
    if (policies_.contains(key)) {
        leaving_.add(key, now_());
    }
}

Result<void> PolicyTables::remove(uint64_t key, Found found) {
    TRY(writer_.remove_policy({set_of(key), class_of(key)}));
    leaving_.erase(key);
    if (const auto at = policies_.find(key); at != policies_.end()) {
        leave(at->second, found);
        policies_.erase(at);
    }
    return {};
}

Result<void> PolicyTables::remove_all(const std::vector<uint64_t>& keys, Found found) {
    Result<void> done;
    for (const uint64_t key : keys) {
        if (done) {
            done = remove(key, found);
        }
        if (!done && leaving_.contains(key)) { // again later
            leaving_.erase(key);
            leaving_.add(key, now_());
        }
    }
    return done;
}

Result<void> PolicyTables::collect() {
    const auto until = now_() - kGrace;
    TRY(remove_all(leaving_.due(until), Found::No));
    room_.reuse(until);
    return {};
}

// What waits goes now, by a wait for the programs instead of for time. False: nothing waits, or
// there is no such wait.
Result<bool> PolicyTables::make_room() {
    if (!waiting() || !writer_.wait_for_programs()) {
        return false;
    }
    for (auto& room : rooms_) {
        room.left = Clock::time_point::min();
    }
    TRY(remove_all(leaving_.due(Clock::time_point::max()), Found::No));
    room_.reuse(Clock::time_point::max());
    return true;
}

Result<void> PolicyTables::put_classes(std::span<const ClassEntry> classes) {
    // A class that was on its way out has in the sets in force no entries but those that it got
    // anew. Sets that are on their way out themselves are named by nobody but who is late.
    for (size_t i = 0; i < classes.size() && !leaving_.empty(); ++i) {
        auto stale = leaving_.of_class(classes[i].second.class_id);
        std::erase_if(stale,
                      [this](uint64_t key) { return leaving_.contains(key | MANX_CLASS_ANY); });
        TRY(remove_all(stale, Found::Until));
    }
    for (const auto& [prefix, value] : classes) {
        ++addresses_[static_cast<size_t>(table_of(prefix))];
    }
    return writer_.put_classes(classes);
}

Result<void> PolicyTables::put_endpoint(const IpAddress& address, const manx_endpoint& value) {
    TRY(writer_.put_endpoint(address, value));
    ++moves_;
    if (endpoints_.insert_or_assign(address, value.ifindex).second) {
        ++addresses_[static_cast<size_t>(endpoint_table_of(address))];
    }
    return {};
}

Result<void> PolicyTables::remove_endpoint(const IpAddress& address) {
    TRY(writer_.remove_endpoint(address));
    ++moves_;
    if (endpoints_.erase(address) > 0) {
        --addresses_[static_cast<size_t>(endpoint_table_of(address))];
    }
    return {};
}

Result<void> PolicyTables::apply(const calc::TableUpdate& update) {
    if (update.empty()) {
        return {};
    }
    if (behind_) {
        return fail(ErrorKind::Conflict, "policy tables are behind: a resync is due");
    }
    behind_ = true;
    TRY(collect());
    TRY(check_addresses(update));
    std::vector<Put> puts;
    for (const auto& step : update.steps) {
        const auto* policy = std::get_if<calc::PolicyStep>(&step);
        if (policy != nullptr && policy->table != nullptr) {
            puts.push_back({policy->key, policy->table});
        }
    }
    if (auto room = reserve(puts); !room) {
        if (room.error().kind != ErrorKind::Exhausted) {
            return room;
        }
        TRY_ASSIGN(const bool more, make_room());
        if (!more) {
            return room;
        }
        TRY(reserve(puts));
    }
    auto done = apply_steps(update);
    unreserve();
    behind_ = !done;
    return done;
}

Result<void> PolicyTables::apply_steps(const calc::TableUpdate& update) {
    std::vector<Put> policies;
    std::vector<ClassEntry> classes;
    const auto flush_policies = [&]() -> Result<void> {
        TRY(put(policies));
        policies.clear();
        return {};
    };
    const auto flush_classes = [&]() -> Result<void> {
        TRY(put_classes(classes));
        classes.clear();
        return {};
    };
    for (const auto& step : update.steps) {
        const auto* policy = std::get_if<calc::PolicyStep>(&step);
        const auto* one = std::get_if<calc::ClassStep>(&step);
        if (!policies.empty() &&
            (policy == nullptr || policy->table == nullptr || policies.size() >= kBatch)) {
            TRY(flush_policies());
        }
        if (!classes.empty() && (one == nullptr || one->remove || classes.size() >= kBatch)) {
            TRY(flush_classes());
        }
        if (policy != nullptr && policy->table != nullptr) {
            policies.push_back({policy->key, policy->table});
        } else if (policy != nullptr) {
            leave_later(key_of(policy->key));
        } else if (one != nullptr && !one->remove) {
            classes.emplace_back(one->prefix, one->value);
        } else if (one != nullptr) {
            TRY(writer_.remove_class(one->prefix));
            --addresses_[static_cast<size_t>(table_of(one->prefix))];
        } else if (const auto* endpoint = std::get_if<calc::EndpointStep>(&step)) {
            TRY(endpoint->remove ? remove_endpoint(endpoint->address)
                                 : put_endpoint(endpoint->address, endpoint->value));
        } else if (const auto* slot = std::get_if<calc::SlotStep>(&step)) {
            TRY(writer_.put_slot(slot->slot, slot->value));
        }
    }
    if (!policies.empty()) {
        TRY(flush_policies());
    }
    return classes.empty() ? Result<void>{} : flush_classes();
}

PolicyTables::Usage PolicyTables::usage() const {
    return {.port_entries = room_.used(),
            .port_capacity = room_.capacity(),
            .policies = static_cast<uint32_t>(policies_.size()),
            .policy_capacity = writer_.policies_capacity(),
            .tables = static_cast<uint32_t>(room_of_.size())};
}

} // namespace manx::dataplane
