// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/policy_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <unordered_set>

namespace manx::dataplane {

namespace {

// Far longer than any program holds on to a port table that it found.
constexpr std::chrono::milliseconds kGrace{500};
constexpr size_t kBatch = 4096;

uint64_t key_of(const manx_policy_key& key) {
    return uint64_t{key.set} << 32 | key.class_id;
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

bool same_ports(const std::vector<manx_port>& a, const std::vector<manx_port>& b) {
    return std::ranges::equal(a, b, [](const manx_port& x, const manx_port& y) {
        return std::memcmp(&x, &y, sizeof(x)) == 0;
    });
}

} // namespace

PolicyTables::PolicyTables(TableWriter& writer, std::function<Clock::time_point()> now)
    : writer_(writer), now_(std::move(now)) {
    free_.emplace(0, writer_.ports_capacity());
}

void PolicyTables::free_range(uint32_t offset, uint32_t size) {
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && next->first == offset + size) {
        size += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == offset) {
            previous->second += size;
            return;
        }
    }
    free_.emplace(offset, size);
}

void PolicyTables::take_range(uint32_t offset, uint32_t size) {
    auto at = free_.upper_bound(offset);
    if (at == free_.begin()) {
        return;
    }
    --at;
    const auto [start, length] = *at;
    if (start + length < offset + size) {
        return; // taken already: tables of an older agent may overlap
    }
    free_.erase(at);
    if (start < offset) {
        free_.emplace(start, offset - start);
    }
    if (start + length > offset + size) {
        free_.emplace(offset + size, start + length - offset - size);
    }
}

void PolicyTables::reuse_waiting() {
    const auto now = now_();
    size_t done = 0;
    while (done < waiting_.size() && now - waiting_[done].since >= kGrace) {
        free_range(waiting_[done].offset, waiting_[done].size);
        ++done;
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(done));
}

// Whether all of the update fits before any of it is written: room for its port tables, and for
// its policy entries while the old ones are still there.
Result<void> PolicyTables::check_room(const calc::TableUpdate& update) {
    std::unordered_set<const calc::PortTable*> tables;
    uint64_t entries = policies_.size();
    std::map<uint32_t, uint32_t> trial = free_;
    for (const auto& step : update.steps) {
        const auto* policy = std::get_if<calc::PolicyStep>(&step);
        if (policy == nullptr || policy->table == nullptr) {
            continue;
        }
        entries += policies_.contains(key_of(policy->key)) ? 0 : 1;
        if (room_of_.contains(policy->table.get()) || !tables.insert(policy->table.get()).second) {
            continue;
        }
        const auto size = static_cast<uint32_t>(policy->table->entries.size());
        const auto at =
            std::ranges::find_if(trial, [&](const auto& range) { return range.second >= size; });
        if (at == trial.end()) {
            return fail(ErrorKind::Exhausted,
                        fmt::format("manx_ports is full: no room for a port table of {} entries "
                                    "among {}",
                                    size, writer_.ports_capacity()));
        }
        const auto [offset, length] = *at;
        trial.erase(at);
        if (length > size) {
            trial.emplace(offset + size, length - size);
        }
    }
    if (entries > writer_.policies_capacity()) {
        return fail(ErrorKind::Exhausted,
                    fmt::format("manx_policy is full: {} entries are needed, it has room for {}",
                                entries, writer_.policies_capacity()));
    }
    return {};
}

Result<PolicyTables::RoomId> PolicyTables::room_for(const calc::PortTablePtr& table) {
    if (const auto found = room_of_.find(table.get()); found != room_of_.end()) {
        return found->second;
    }
    const auto size = static_cast<uint32_t>(table->entries.size());
    const auto at =
        std::ranges::find_if(free_, [&](const auto& range) { return range.second >= size; });
    if (at == free_.end()) {
        return fail(ErrorKind::Exhausted, "manx_ports is full");
    }
    const uint32_t offset = at->first;
    TRY(writer_.write_ports(offset, placed(*table, offset)));
    take_range(offset, size);
    RoomId id = 0;
    if (free_rooms_.empty()) {
        id = static_cast<RoomId>(rooms_.size());
        rooms_.emplace_back();
    } else {
        id = free_rooms_.back();
        free_rooms_.pop_back();
    }
    rooms_[id] = {table, offset, 0};
    room_of_.emplace(table.get(), id);
    return id;
}

void PolicyTables::leave(RoomId id) {
    Room& room = rooms_[id];
    if (--room.users > 0) {
        return;
    }
    waiting_.push_back({now_(), room.offset, static_cast<uint32_t>(room.table->entries.size())});
    room_of_.erase(room.table.get());
    room = Room{};
    free_rooms_.push_back(id);
}

Result<void> PolicyTables::put_policies(std::span<const calc::PolicyStep* const> steps) {
    std::vector<PolicyEntry> entries;
    std::vector<RoomId> ids;
    for (const auto* step : steps) {
        TRY_ASSIGN(const RoomId id, room_for(step->table));
        ++rooms_[id].users;
        ids.push_back(id);
        entries.push_back({step->key, {rooms_[id].offset, step->table->count}});
    }
    TRY(writer_.put_policies(entries));
    for (size_t i = 0; i < steps.size(); ++i) {
        const auto [at, made] = policies_.try_emplace(key_of(steps[i]->key), ids[i]);
        if (!made) {
            leave(at->second);
            at->second = ids[i];
        }
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
    reuse_waiting();
    if (auto room = check_room(update); !room) {
        behind_ = true;
        return room;
    }
    if (auto done = apply_steps(update); !done) {
        behind_ = true;
        return done;
    }
    return {};
}

Result<void> PolicyTables::apply_steps(const calc::TableUpdate& update) {
    std::vector<const calc::PolicyStep*> policies;
    std::vector<ClassEntry> classes;
    const auto flush_policies = [&]() -> Result<void> {
        if (!policies.empty()) {
            TRY(put_policies(policies));
            policies.clear();
        }
        return {};
    };
    const auto flush_classes = [&]() -> Result<void> {
        if (!classes.empty()) {
            TRY(writer_.put_classes(classes));
            classes.clear();
        }
        return {};
    };
    for (const auto& step : update.steps) {
        const auto* policy = std::get_if<calc::PolicyStep>(&step);
        const auto* one = std::get_if<calc::ClassStep>(&step);
        if (policy == nullptr || policy->table == nullptr || policies.size() >= kBatch) {
            TRY(flush_policies());
        }
        if (one == nullptr || one->remove || classes.size() >= kBatch) {
            TRY(flush_classes());
        }
        if (policy != nullptr && policy->table != nullptr) {
            policies.push_back(policy);
        } else if (policy != nullptr) {
            TRY(writer_.remove_policy(policy->key));
            if (const auto found = policies_.find(key_of(policy->key)); found != policies_.end()) {
                leave(found->second);
                policies_.erase(found);
            }
        } else if (one != nullptr && !one->remove) {
            classes.emplace_back(one->prefix, one->value);
        } else if (one != nullptr) {
            TRY(writer_.remove_class(one->prefix));
        } else if (const auto* endpoint = std::get_if<calc::EndpointStep>(&step)) {
            TRY(endpoint->remove ? writer_.remove_endpoint(endpoint->address)
                                 : writer_.put_endpoint(endpoint->address, endpoint->value));
        } else if (const auto* slot = std::get_if<calc::SlotStep>(&step)) {
            TRY(writer_.put_slot(slot->slot, slot->value));
        }
    }
    TRY(flush_policies());
    return flush_classes();
}

// Finds the snapshot's port tables among those in place, so that what did not change is not
// written; what is in place and named stays reserved.
Result<void> PolicyTables::adopt(const calc::TableUpdate& snapshot) {
    free_.clear();
    free_.emplace(0, writer_.ports_capacity());
    waiting_.clear();
    rooms_.clear();
    free_rooms_.clear();
    room_of_.clear();
    policies_.clear();
    std::unordered_map<uint64_t, manx_policy_value> found;
    TRY(writer_.each_policy(
        [&](const PolicyEntry& entry) { found.emplace(key_of(entry.first), entry.second); }));
    std::map<uint32_t, uint32_t> in_place; // offset -> size of the run with its source port runs
    for (const auto& [key, value] : found) {
        auto& size = in_place[value.offset];
        if (size != 0) {
            continue;
        }
        size = std::max(value.count, 1U);
        if (const auto main = writer_.read_ports(value.offset, value.count)) {
            for (const auto& entry : *main) {
                if (entry.action == MANX_ACTION_BY_SOURCE_PORT && entry.next >= value.offset) {
                    size = std::max(size, entry.next + entry.next_count - value.offset);
                }
            }
        }
    }
    for (const auto& [offset, size] : in_place) {
        take_range(offset, size);
    }
    std::set<uint32_t> used;
    for (const auto& step : snapshot.steps) {
        const auto* policy = std::get_if<calc::PolicyStep>(&step);
        const auto at = policy == nullptr ? found.end() : found.find(key_of(policy->key));
        if (at == found.end() || policy->table == nullptr) {
            continue;
        }
        const auto known = room_of_.find(policy->table.get());
        if (known != room_of_.end()) {
            if (rooms_[known->second].offset == at->second.offset) {
                ++rooms_[known->second].users;
                policies_.emplace(at->first, known->second);
            }
            continue;
        }
        const auto size = static_cast<uint32_t>(policy->table->entries.size());
        if (at->second.count != policy->table->count || used.contains(at->second.offset) ||
            in_place[at->second.offset] != size) {
            continue;
        }
        const auto there = writer_.read_ports(at->second.offset, size);
        if (!there || !same_ports(*there, placed(*policy->table, at->second.offset))) {
            continue;
        }
        const auto id = static_cast<RoomId>(rooms_.size());
        rooms_.push_back({policy->table, at->second.offset, 1});
        room_of_.emplace(policy->table.get(), id);
        policies_.emplace(at->first, id);
        used.insert(at->second.offset);
    }
    // What is in place but not wanted is given back after the sweep and a grace period.
    for (const auto& [offset, size] : in_place) {
        if (!used.contains(offset)) {
            waiting_.push_back({now_(), offset, size});
        }
    }
    return {};
}

Result<void> PolicyTables::resync(const calc::TableUpdate& snapshot) {
    behind_ = true;
    TRY(adopt(snapshot));
    calc::TableUpdate missing;
    std::map<Cidr, manx_class> classes;
    std::map<IpAddress, manx_endpoint> endpoints;
    TRY(writer_.each_class([&](const ClassEntry& entry) { classes.insert(entry); }));
    TRY(writer_.each_endpoint([&](const IpAddress& address, const manx_endpoint& value) {
        endpoints.emplace(address, value);
    }));
    for (const auto& step : snapshot.steps) {
        if (const auto* policy = std::get_if<calc::PolicyStep>(&step)) {
            if (policies_.contains(key_of(policy->key))) {
                continue;
            }
        } else if (const auto* one = std::get_if<calc::ClassStep>(&step)) {
            const auto at = classes.find(one->prefix);
            if (at != classes.end() &&
                std::memcmp(&at->second, &one->value, sizeof(manx_class)) == 0) {
                continue;
            }
        } else if (const auto* endpoint = std::get_if<calc::EndpointStep>(&step)) {
            const auto at = endpoints.find(endpoint->address);
            if (at != endpoints.end() &&
                std::memcmp(&at->second, &endpoint->value, sizeof(manx_endpoint)) == 0) {
                continue;
            }
        }
        missing.steps.push_back(step);
    }
    TRY(check_room(missing));
    TRY(apply_steps(missing));
    TRY(sweep(snapshot));
    behind_ = false;
    return {};
}

// Deletes what the snapshot does not hold: endpoints first, then addresses, then policies.
Result<void> PolicyTables::sweep(const calc::TableUpdate& snapshot) {
    std::set<Cidr> classes;
    std::set<IpAddress> endpoints;
    std::set<uint16_t> slots;
    for (const auto& step : snapshot.steps) {
        if (const auto* one = std::get_if<calc::ClassStep>(&step)) {
            classes.insert(one->prefix);
        } else if (const auto* endpoint = std::get_if<calc::EndpointStep>(&step)) {
            endpoints.insert(endpoint->address);
        } else if (const auto* slot = std::get_if<calc::SlotStep>(&step)) {
            slots.insert(slot->slot);
        }
    }
    std::vector<IpAddress> old_endpoints;
    TRY(writer_.each_endpoint([&](const IpAddress& address, const manx_endpoint&) {
        if (!endpoints.contains(address)) {
            old_endpoints.push_back(address);
        }
    }));
    for (const auto& address : old_endpoints) {
        TRY(writer_.remove_endpoint(address));
    }
    std::vector<uint16_t> old_slots;
    TRY(writer_.each_slot([&](uint16_t slot, const manx_slot_entry&) {
        if (!slots.contains(slot)) {
            old_slots.push_back(slot);
        }
    }));
    for (const uint16_t slot : old_slots) {
        TRY(writer_.put_slot(slot, {}));
    }
    std::vector<Cidr> old_classes;
    TRY(writer_.each_class([&](const ClassEntry& entry) {
        if (!classes.contains(entry.first)) {
            old_classes.push_back(entry.first);
        }
    }));
    for (const auto& prefix : old_classes) {
        TRY(writer_.remove_class(prefix));
    }
    std::vector<manx_policy_key> old_policies;
    TRY(writer_.each_policy([&](const PolicyEntry& entry) {
        if (!policies_.contains(key_of(entry.first))) {
            old_policies.push_back(entry.first);
        }
    }));
    for (const auto& key : old_policies) {
        TRY(writer_.remove_policy(key));
    }
    return {};
}

PolicyTables::Usage PolicyTables::usage() const {
    uint32_t room = 0;
    for (const auto& [offset, size] : free_) {
        room += size;
    }
    return {.port_entries = writer_.ports_capacity() - room,
            .port_capacity = writer_.ports_capacity(),
            .policies = static_cast<uint32_t>(policies_.size()),
            .policy_capacity = writer_.policies_capacity(),
            .tables = static_cast<uint32_t>(room_of_.size())};
}

} // namespace manx::dataplane
