// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <algorithm>

namespace manx::dataplane {

void TableResync::plan() {
    wanted_classes_ = wanted_.class_ids();
    classes_now_ = now_.class_ids();
    std::map<uint32_t, std::set<uint32_t>> targets; // by set in place
    std::vector<std::pair<uint32_t, uint32_t>> besides;
    const auto note = [&](uint32_t set, uint32_t target, bool decides) {
        if (decides && set >= MANX_SET_FIRST) {
            targets[set].insert(target);
        } else if (set >= MANX_SET_FIRST && set != target) {
            in_force_.insert(set);
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
            in_force_.erase(set);
            continue;
        }
        in_force_.insert(set);
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
            stale_[class_of(key)].push_back(key);
        }
    }
}

// As if those in force were to stay in their sets; what nobody is to have is not wanted.
void TableResync::keep_sets() {
    admits_ = true;
    std::unordered_set<uint32_t> asked;
    const auto keep = [&](auto& all, const auto& now) {
        for (auto& [key, wanted] : all) {
            if (const auto found = now.find(key); found != now.end()) {
                each_set(wanted, found->second, [](uint32_t& set, uint32_t old, bool) {
                    set = old == MANX_SET_DENY ? set : old;
                });
            }
            each_set(wanted, wanted, [&](uint32_t set, uint32_t, bool) { asked.insert(set); });
        }
    };
    keep(wanted_.endpoints, now_.endpoints);
    keep(wanted_.slots, now_.slots);
    std::erase_if(sets_, [&](const auto& one) { return !asked.contains(one.first); });
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
        const auto class_id = class_of(key);
        const auto wanted = sets_.find(set_of(key));
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
            if (wanted != sets_.end()) {
                then.insert(wanted->second.of(class_id));
            } else {
                then.insert(target == MANX_SET_ALLOW ? allow_all_ : nullptr);
            }
        }
        return then.size() == 1 ? *then.begin() : nullptr;
    };
    for (const auto& [class_id, from] : origins.of) {
        tables_.leaving_.erase(policy_key(set, class_id));
        if (admits_ && classes_now_.contains(class_id)) {
            continue; // the set has its say of it already
        }
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

// What is to be written, the largest tables first.
std::vector<PolicyTables::Put> TableResync::all_puts() const {
    std::vector<Put> out;
    for (const auto& [class_id, puts] : needs_) {
        out.insert(out.end(), puts.begin(), puts.end());
    }
    for (const auto& [set, wanted] : sets_) {
        // A late set may lose for a while what it has already.
        const auto puts = late_.contains(set) ? all_of(set) : missing(set);
        out.insert(out.end(), puts.begin(), puts.end());
    }
    std::ranges::stable_sort(out, std::ranges::greater{},
                             [](const Put& one) { return one.table->entries.size(); });
    return out;
}

// Whether there is room for all when what these sets have is gone, and what waits.
bool TableResync::fits_in_place_of(const std::set<uint32_t>& gone) const {
    PortRoom trial(tables_.room_.capacity());
    std::unordered_set<const calc::PortTable*> there;
    size_t entries = 0;
    std::unordered_set<RoomId> rooms;
    for (const auto& [key, id] : tables_.policies_) {
        const auto set = set_of(key);
        const auto class_id = class_of(key);
        const auto wanted = sets_.find(set);
        const bool stays = wanted != sets_.end() && wanted->second.entries.contains(class_id);
        if (!stays && (gone.contains(set) || tables_.leaving_.contains(key))) {
            continue;
        }
        ++entries;
        const auto& room = tables_.rooms_[id];
        if (rooms.insert(id).second && room.size > 0) {
            (void)trial.take_at(room.offset, room.size);
            there.insert(room.table.get());
        }
    }
    for (const auto& put : all_puts()) {
        const auto& key = put.key;
        if (gone.contains(key.set)) {
            const auto wanted = sets_.find(key.set);
            if (wanted == sets_.end() || !wanted->second.entries.contains(key.class_id) ||
                wanted->second.of(key.class_id) != put.table) {
                continue; // what it was to say while it is in force
            }
        }
        entries += tables_.policies_.contains(policy_key(key.set, key.class_id)) ? 0 : 1;
        if (there.insert(put.table.get()).second &&
            !trial.take(static_cast<uint32_t>(put.table->entries.size()))) {
            return false;
        }
    }
    return entries <= tables_.writer_.policies_capacity();
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
        const auto set = set_of(key);
        const auto class_id = class_of(key);
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
