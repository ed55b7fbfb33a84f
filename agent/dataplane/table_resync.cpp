// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <algorithm>

namespace manx::dataplane {

namespace {

constexpr int kRounds = 1000;
constexpr std::chrono::seconds kAtATime{1}; // others are to have the loop too

} // namespace

Result<void> TableResync::run() {
    read_snapshot();
    TRY(adopt());
    TRY(tables_.collect());
    TRY(check_addresses());
    if (auto fits = check_policies(); !fits) {
        TRY(admit(fits.error()));
        return fits;
    }
    fits_alone_ = true;
    TRY(remove_gone());
    plan();
    if (auto room = reserve_whole(); !room) {
        short_of_ = room.error().text();
        leave_unnamed(); // who went makes room
        return room;
    }
    TRY(shut());
    if (!short_of_) {
        TRY(move_classes());
    }
    if (!short_of_) {
        TRY(place_sets());
        TRY(move_endpoints());
    }
    leave_unnamed();
    if (short_of_) {
        return fail(ErrorKind::Exhausted,
                    "in rounds, as old and new do not fit side by side: " + *short_of_);
    }
    return {};
}

// Endpoints and slots that are not in the snapshot, or are another workload's.
Result<void> TableResync::remove_gone() {
    for (auto at = now_.endpoints.begin(); at != now_.endpoints.end();) {
        const auto wanted = wanted_.endpoints.find(at->first);
        if (wanted != wanted_.endpoints.end() && wanted->second.ifindex == at->second.ifindex) {
            ++at;
            continue;
        }
        TRY(tables_.remove_endpoint(at->first));
        at = now_.endpoints.erase(at);
    }
    for (auto at = now_.slots.begin(); at != now_.slots.end();) {
        const auto wanted = wanted_.slots.find(at->first);
        if (wanted != wanted_.slots.end() && wanted->second.ifindex == at->second.ifindex) {
            ++at;
            continue;
        }
        TRY(tables_.writer_.put_slot(at->first, {}));
        at = now_.slots.erase(at);
    }
    return {};
}

// The snapshot does not fit. Who is in force keeps the sets he has; addresses go on, and workloads
// that have nothing yet get theirs: all of that, or nothing.
Result<void> TableResync::admit(const Error& why) {
    TRY(tables_.make_room());
    TRY(remove_gone());
    keep_sets();
    plan();
    short_of_ = why.text();
    if (shut_.empty()) {
        auto room = tables_.reserve(all_puts());
        if (!room && room.error().kind != ErrorKind::Exhausted) {
            return room;
        }
        whole_ = room.has_value();
    }
    if (!whole_) {
        leave_unnamed();
        return {};
    }
    TRY(move_classes());
    TRY(place_sets());
    TRY(move_endpoints());
    leave_unnamed();
    return {};
}

// Room for all that is to be written, if there is; else it goes in rounds. But nobody is shut for
// want of room, unless there is no other way: then until what he has is gone.
Result<void> TableResync::reserve_whole() {
    auto room = tables_.reserve(all_puts());
    whole_ = room.has_value();
    if (whole_ || room.error().kind != ErrorKind::Exhausted) {
        return room;
    }
    if (by_force_ && fits_in_place_of(in_force_)) {
        shut_ = in_force_;
        short_of_ = room.error().text();
        return {};
    }
    return shut_.empty() ? Result<void>{} : room;
}

Result<void> TableResync::write_entry(const IpAddress& address, const manx_endpoint& value) {
    TRY(tables_.put_endpoint(address, value));
    progressed_ = true;
    return {};
}

Result<void> TableResync::write_entry(uint16_t slot, const manx_slot_entry& value) {
    TRY(tables_.writer_.put_slot(slot, value));
    progressed_ = true;
    return {};
}

Result<void> TableResync::shut() {
    return change_entries([this](auto value, const auto& /*wanted*/) {
        each_set(value, value, [this](uint32_t& set, uint32_t&, bool decides) {
            if (shut_.contains(set) && (decides || !whole_)) {
                set = decides ? uint32_t{MANX_SET_DENY} : uint32_t{MANX_SET_ALLOW};
            }
        });
        return value;
    });
}

Result<bool> TableResync::place(std::span<const Put> puts) {
    if (whole_) {
        TRY(tables_.put(puts));
        return true;
    }
    if (auto room = tables_.reserve(puts); !room) {
        if (room.error().kind != ErrorKind::Exhausted) {
            return Unexpected(room.error());
        }
        short_of_ = room.error().text();
        return false;
    }
    auto done = tables_.put(puts);
    tables_.unreserve();
    if (!done) {
        return Unexpected(done.error());
    }
    return true;
}

Result<void> TableResync::remove_stale(uint32_t set) {
    if (const auto found = stale_of_.find(set); found != stale_of_.end()) {
        for (const uint64_t key : found->second) {
            TRY(tables_.remove(key, PolicyTables::Found::Until));
        }
        stale_of_.erase(found);
    }
    return {};
}

// All wanted sets but those that are late; the small ones first where there is not room for all.
Result<void> TableResync::place_sets() {
    std::vector<std::pair<uint32_t, std::vector<Put>>> sets;
    std::vector<Put> all;
    if (!late_.empty()) {
        find_stale(); // what was carried is among it
    }
    for (const auto& [set, wanted] : sets_) {
        auto puts = missing(set);
        if (late_.contains(set)) {
            if (!puts.empty() || stale_of_.contains(set)) {
                continue;
            }
            late_.erase(set);
        }
        all.insert(all.end(), puts.begin(), puts.end());
        sets.emplace_back(set, std::move(puts));
    }
    TRY_ASSIGN(const bool fits, place(all));
    if (!fits) {
        std::ranges::sort(sets, {}, [](const auto& one) { return one.second.size(); });
    }
    for (const auto& [set, puts] : sets) {
        if (!fits) {
            TRY_ASSIGN(const bool done, place(puts));
            if (!done) {
                break;
            }
        }
        TRY(remove_stale(set));
        placed_.insert(set);
    }
    return {};
}

// Endpoints and slots to those of their new sets that they may have now.
Result<void> TableResync::move_fields(const std::function<bool(uint32_t target)>& may) {
    const auto move_all = [&](auto& all, const auto& all_wanted) -> Result<void> {
        for (const auto& [key, wanted] : all_wanted) {
            const auto found = all.find(key);
            const bool is_new = found == all.end();
            auto next = wanted;
            const auto now = is_new ? std::decay_t<decltype(next)>{} : found->second;
            each_set(next, now, [&](uint32_t& set, uint32_t old, bool) {
                set = set < MANX_SET_FIRST || may(set) ? set : old;
            });
            if (is_new ? !same(next, wanted) : same(next, now)) {
                continue; // a new one comes whole: until then its device passes nothing
            }
            TRY(write_entry(key, next));
            all.insert_or_assign(key, next);
        }
        return {};
    };
    TRY(move_all(now_.endpoints, wanted_.endpoints));
    return move_all(now_.slots, wanted_.slots);
}

// Who is still in a late set and goes to another late one is shut for the moment in which both are
// brought on.
Result<void> TableResync::leave_late_sets() {
    return change_entries([this](auto value, const auto& wanted) {
        each_set(value, wanted, [this](uint32_t& set, uint32_t target, bool decides) {
            if (decides && set != target && late_.contains(set)) {
                set = MANX_SET_DENY;
            }
        });
        return value;
    });
}

Result<void> TableResync::move_endpoints() {
    TRY(move_fields([this](uint32_t target) { return placed_.contains(target); }));
    if (short_of_ || late_.empty()) {
        return {};
    }
    if (!whole_) {
        std::vector<Put> all;
        for (const uint32_t set : late_) {
            const auto puts = missing(set);
            all.insert(all.end(), puts.begin(), puts.end());
        }
        if (auto room = tables_.reserve(all); !room) {
            short_of_ = room.error().text(); // before anybody is shut
            return {};
        }
        whole_ = true;
    }
    TRY(leave_late_sets());
    for (const uint32_t set : late_) {
        TRY(tables_.put(missing(set)));
        TRY(remove_stale(set));
    }
    return move_fields([](uint32_t) { return true; });
}

// Rounds follow each other where what waits can be made to go; else the next call is the next
// round.
Result<void> PolicyTables::resync(const calc::TableUpdate& snapshot) {
    behind_ = true;
    const auto start = now_();
    bool by_force = false;
    for (int round = 0; round < kRounds; ++round) {
        TableResync one(*this, snapshot, by_force);
        auto done = one.run();
        unreserve();
        behind_ = !done;
        if (done || done.error().kind != ErrorKind::Exhausted || !one.fits_alone()) {
            return done;
        }
        TRY_ASSIGN(const bool more, make_room());
        if (by_force && !one.progressed()) {
            return done;
        }
        // Nothing helps but to take from somebody what he has before there is room for the new.
        by_force = !more && !waiting() && !one.progressed();
        if (waiting() || now_() - start > kAtATime) {
            return done;
        }
    }
    return fail(ErrorKind::Exhausted, "in rounds, which do not end yet");
}

} // namespace manx::dataplane
