// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <algorithm>

namespace manx::dataplane {

void TableResync::plan() {
    wanted_classes_ = wanted_.class_ids();
    std::map<uint32_t, std::set<uint32_t>> targets; // by set in place
    std::vector<std::pair<uint32_t, uint32_t>> besides;
    const auto note = [&](uint32_t set, uint32_t target, bool decides) {
        if (decides && set >= MANX_SET_FIRST) {
            targets[set].insert(target);
        }
    };
    for (const auto& [address, value] : now_.endpoints) {
        const auto& wanted = wanted_.endpoints.at(address);
        each_set(value, wanted, note);
        besides.emplace_back(wanted.class_id, value.class_id);
    }
    for (const auto& [number, value] : now_.slots) {
        const auto& wanted = wanted_.slots.at(number);
        each_set(value, wanted, note);
        for (size_t family = 0; family < 2; ++family) {
            besides.emplace_back(wanted.class_id[family], value.class_id[family]);
        }
    }
    const auto origins = class_origins(now_.classes, wanted_.classes, besides);
    std::unordered_set<uint32_t> kept;
    for (const auto& [set, to] : targets) {
        if (to.size() == 1 && to.contains(set) && may_keep(set, origins)) {
            kept.insert(set);
            continue;
        }
        if (sets_.contains(set)) {
            late_.insert(set);
        }
        carry(set, to, origins);
    }
    // Sets that nobody leaves say at once what they are to say.
    for (const uint32_t set : kept) {
        for (const auto& put : missing(set)) {
            needs_[put.key.class_id].push_back(put);
        }
    }
    for (auto& [class_id, puts] : needs_) {
        std::erase_if(puts, [this](const Put& one) { return shut_.contains(one.key.set); });
    }
    find_stale();
    for (const uint32_t set : kept) {
        for (const uint64_t key : stale_of_[set]) {
            stale_[static_cast<uint32_t>(key & UINT32_MAX)].push_back(key);
        }
    }
}

// Whether a set in force may have its new entries before addresses have their new classes: if its
// default stays, and what it says of classes that addresses still have and are to have no more.
bool TableResync::may_keep(uint32_t set, const ClassOrigins& origins) const {
    const auto wanted = sets_.find(set);
    const auto* any = in_place(set, MANX_CLASS_ANY);
    if (wanted == sets_.end() || any == nullptr || *any != wanted->second.of(MANX_CLASS_ANY)) {
        return false;
    }
    return std::ranges::all_of(origins.left, [&](uint32_t class_id) {
        return !wanted_classes_.contains(class_id) || // nothing is written for it
               meaning(set, class_id) == wanted->second.of(class_id);
    });
}

// Entries of wanted sets that are not wanted. Those of classes that go are left alone.
void TableResync::find_stale() {
    stale_of_.clear();
    for (const auto& [key, room] : tables_.policies_) {
        const auto class_id = static_cast<uint32_t>(key & UINT32_MAX);
        const auto wanted = sets_.find(static_cast<uint32_t>(key >> 32));
        if (wanted != sets_.end() && wanted_classes_.contains(class_id) &&
            !wanted->second.entries.contains(class_id)) {
            stale_of_[wanted->first].push_back(key);
        }
    }
}

// What a set that is to be left says of classes to be.
void TableResync::carry(uint32_t set, const std::set<uint32_t>& targets,
                        const ClassOrigins& origins) {
    const auto any = meaning(set, MANX_CLASS_ANY);
    if (any == nullptr) {
        return; // it drops everything
    }
    // What all of them are to have afterwards, or null.
    const auto agreed = [&](uint32_t class_id) {
        std::set<calc::PortTablePtr> then;
        for (const uint32_t target : targets) {
            const auto wanted = sets_.find(target);
            // Else MANX_SET_ALLOW.
            then.insert(wanted == sets_.end() ? allow_all_ : wanted->second.of(class_id));
        }
        return then.size() == 1 ? *then.begin() : nullptr;
    };
    for (const auto& [class_id, from] : origins.of) {
        tables_.leaving_.erase(key_of(set, class_id));
        std::vector<calc::PortTablePtr> said;
        for (const uint32_t origin : from) {
            said.push_back(meaning(set, origin));
            if (said.back()->entries.size() < said.back()->count) {
                shut_.insert(set); // it names what is not in the table
                return;
            }
        }
        std::ranges::sort(said);
        said.erase(std::ranges::unique(said).begin(), said.end());
        // Who still has the class and leaves it is to find what it says now.
        calc::PortTablePtr table =
            origins.left.contains(class_id) ? meaning(set, class_id) : said.front();
        if (said.size() > 1 || said.front() != table) {
            const auto then = agreed(class_id);
            if (then == nullptr || (origins.left.contains(class_id) && then != table)) {
                shut_.insert(set);
                return;
            }
            table = then;
        }
        if (meaning(set, class_id) != table) {
            needs_[class_id].push_back({{set, class_id}, table});
        }
    }
}

// Whether there is room for all new entries while the old ones are there.
bool TableResync::removals_last(std::span<const ClassMove> moves) const {
    auto counts = tables_.addresses_;
    for (const auto& move : moves) {
        if (!move.remove && !now_.classes.contains(move.prefix)) {
            ++counts[static_cast<size_t>(table_of(move.prefix))];
        }
    }
    for (size_t table = 0; table < kAddressTables; ++table) {
        if (counts[table] > tables_.writer_.capacity(static_cast<AddressTable>(table))) {
            return false;
        }
    }
    return true;
}

// Whether all of this has room where what only sets that are to be shut have is gone, and what
// waits.
bool TableResync::fits_without_shut(std::span<const Put> puts) const {
    std::set<uint64_t> keys;
    std::set<const calc::PortTable*> needed;
    for (const auto& one : puts) {
        keys.insert(key_of(one.key.set, one.key.class_id));
        needed.insert(one.table.get());
    }
    std::unordered_set<RoomId> users; // rooms that keep one
    for (const auto& [key, room] : tables_.policies_) {
        if (!shut_.contains(static_cast<uint32_t>(key >> 32))) {
            keys.insert(key);
            users.insert(room);
        }
    }
    size_t ports = 0;
    for (RoomId id = 0; id < tables_.rooms_.size(); ++id) {
        const auto& room = tables_.rooms_[id];
        const bool stays = users.contains(id) || needed.contains(room.table.get());
        ports += room.users > 0 && stays ? room.size : 0;
        needed.erase(room.table.get());
    }
    for (const auto* table : needed) {
        ports += table->entries.size();
    }
    return keys.size() <= tables_.writer_.policies_capacity() && ports <= tables_.room_.capacity();
}

std::vector<PolicyTables::Put> TableResync::all_of(uint32_t set) const {
    std::vector<Put> out;
    for (const auto& [class_id, table] : sets_.at(set).entries) {
        out.push_back({{set, class_id}, table});
    }
    return out;
}

std::vector<PolicyTables::Put> TableResync::missing(uint32_t set) const {
    std::vector<Put> out;
    for (const auto& [class_id, table] : sets_.at(set).entries) {
        const auto* there = in_place(set, class_id);
        if (there == nullptr || *there != table) {
            out.push_back({{set, class_id}, table});
        }
    }
    // The default last: classes that get an entry are not to meet it.
    const auto any =
        std::ranges::find(out, MANX_CLASS_ANY, [](const Put& one) { return one.key.class_id; });
    if (any != out.end()) {
        std::swap(*any, out.back());
    }
    return out;
}

void TableResync::leave_unnamed() {
    const auto named = now_.sets();
    const auto classes = now_.class_ids();
    for (const auto& [key, room] : tables_.policies_) {
        const auto set = static_cast<uint32_t>(key >> 32);
        const auto class_id = static_cast<uint32_t>(key & UINT32_MAX);
        const auto wanted = sets_.find(set);
        const bool stays = wanted != sets_.end() && wanted->second.entries.contains(class_id);
        if (!stays && !(short_of_ && named.contains(set) && classes.contains(class_id))) {
            tables_.leave_later(key);
        } else {
            tables_.leaving_.erase(key);
        }
    }
}

} // namespace manx::dataplane
