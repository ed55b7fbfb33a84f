// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <algorithm>
#include <cstring>

namespace manx::dataplane {

namespace {

constexpr int kRounds = 1000;
constexpr std::chrono::seconds kAtATime{1}; // others are to have the loop too

template <typename T>
bool same(const T& a, const T& b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

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
    TRY(reserve_whole());
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
    if (!shut_.empty()) {
        return {};
    }
    if (auto room = tables_.reserve(all_puts()); !room) {
        return room.error().kind == ErrorKind::Exhausted ? Result<void>{} : room;
    }
    whole_ = true;
    short_of_ = why.text();
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

Result<void> TableResync::shut() {
    const auto shut_one = [this](auto value) {
        each_set(value, value, [this](uint32_t& set, uint32_t&, bool decides) {
            if (shut_.contains(set) && (decides || !whole_)) {
                set = decides ? uint32_t{MANX_SET_DENY} : uint32_t{MANX_SET_ALLOW};
            }
        });
        return value;
    };
    for (auto& [address, value] : now_.endpoints) {
        if (const auto closed = shut_one(value); !same(closed, value)) {
            TRY(tables_.put_endpoint(address, closed));
            progressed_ = true;
            value = closed;
        }
    }
    for (auto& [number, value] : now_.slots) {
        if (const auto closed = shut_one(value); !same(closed, value)) {
            TRY(tables_.writer_.put_slot(number, closed));
            progressed_ = true;
            value = closed;
        }
    }
    return {};
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

// Classes of addresses, endpoints and slots, each after what the sets in force need for it.
Result<void> TableResync::move_classes() {
    auto moves = class_moves(now_.classes, wanted_.classes);
    std::vector<uint32_t> order;
    std::unordered_set<uint32_t> known;
    const auto note = [&](uint32_t class_id) {
        if (known.insert(class_id).second) {
            order.push_back(class_id);
        }
    };
    for (const auto& move : moves) {
        note(move.class_id);
    }
    for (const auto& [address, value] : now_.endpoints) {
        note(wanted_.endpoints.at(address).class_id);
    }
    for (const auto& [number, value] : now_.slots) {
        std::ranges::for_each(wanted_.slots.at(number).class_id, note);
    }
    // All at once, or as many as there is room for.
    std::vector<Put> all;
    for (const uint32_t class_id : order) {
        if (const auto found = needs_.find(class_id); found != needs_.end()) {
            all.insert(all.end(), found->second.begin(), found->second.end());
        }
    }
    TRY_ASSIGN(const bool fits, place(all));
    std::unordered_set<uint32_t> ready;
    if (fits) {
        ready = std::move(known);
    } else {
        for (const uint32_t class_id : order) {
            const auto found = needs_.find(class_id);
            if (found != needs_.end()) {
                TRY_ASSIGN(const bool done, place(found->second));
                if (!done) {
                    break;
                }
            }
            ready.insert(class_id);
        }
    }
    for (const uint32_t class_id : order) {
        if (const auto found = stale_.find(class_id);
            ready.contains(class_id) && found != stale_.end()) {
            for (const uint64_t key : found->second) {
                TRY(tables_.remove(key, PolicyTables::Found::Until));
            }
        }
    }
    if (!removals_last(moves)) {
        // In a table that is full, what goes makes room for what comes: such an address is what is
        // around it for a while, as if it had gone before.
        std::ranges::stable_partition(moves, [](const ClassMove& move) { return move.remove; });
    }
    std::vector<ClassEntry> puts;
    for (const auto& move : moves) {
        if (!ready.contains(move.class_id)) {
            break;
        }
        auto& count = tables_.addresses_[static_cast<size_t>(table_of(move.prefix))];
        if (move.remove) {
            TRY(tables_.writer_.put_classes(puts));
            puts.clear();
            TRY(tables_.writer_.remove_class(move.prefix));
            progressed_ = true;
            now_.classes.erase(move.prefix);
            --count;
        } else {
            progressed_ = true;
            puts.emplace_back(move.prefix, move.value);
            count += now_.classes.insert_or_assign(move.prefix, move.value).second ? 1 : 0;
        }
    }
    TRY(tables_.writer_.put_classes(puts));
    const auto move_one = [](auto value, const auto& wanted) {
        auto next = wanted;
        each_set(next, value, [](uint32_t& set, uint32_t old, bool) { set = old; });
        return next;
    };
    // Not before the address itself: it is what peers see when the endpoint goes.
    const auto moved = [this](const IpAddress& address) {
        const auto now = now_.classes.find(Cidr::host(address));
        const auto wanted = wanted_.classes.find(Cidr::host(address));
        return wanted == wanted_.classes.end() ||
               (now != now_.classes.end() && now->second.class_id == wanted->second.class_id);
    };
    for (auto& [address, value] : now_.endpoints) {
        const auto next = move_one(value, wanted_.endpoints.at(address));
        if (ready.contains(next.class_id) && moved(address) && next.class_id != value.class_id) {
            TRY(tables_.put_endpoint(address, next));
            progressed_ = true;
            value = next;
        }
    }
    for (auto& [number, value] : now_.slots) {
        const auto next = move_one(value, wanted_.slots.at(number));
        if (std::ranges::all_of(next.class_id, [&](uint32_t one) { return ready.contains(one); }) &&
            !std::ranges::equal(next.class_id, value.class_id)) {
            TRY(tables_.writer_.put_slot(number, next));
            progressed_ = true;
            value = next;
        }
    }
    return {};
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
Result<void>
TableResync::move_fields(const std::function<bool(uint32_t now, uint32_t target)>& may) {
    const auto next_of = [&](const auto& now, const auto& wanted) {
        auto next = wanted;
        each_set(next, now, [&](uint32_t& set, uint32_t old, bool) {
            set = set < MANX_SET_FIRST || may(old, set) ? set : old;
        });
        return next;
    };
    for (const auto& [address, wanted] : wanted_.endpoints) {
        const auto now = now_.endpoints.find(address);
        const auto next = now == now_.endpoints.end() ? next_of(manx_endpoint{}, wanted)
                                                      : next_of(now->second, wanted);
        if (now == now_.endpoints.end() ? !same(next, wanted) : same(next, now->second)) {
            continue; // a new one comes whole: until then its device passes nothing
        }
        TRY(tables_.put_endpoint(address, next));
        progressed_ = true;
        now_.endpoints.insert_or_assign(address, next);
    }
    for (const auto& [number, wanted] : wanted_.slots) {
        const auto now = now_.slots.find(number);
        const auto next = now == now_.slots.end() ? next_of(manx_slot_entry{}, wanted)
                                                  : next_of(now->second, wanted);
        if (now == now_.slots.end() ? !same(next, wanted) : same(next, now->second)) {
            continue;
        }
        TRY(tables_.writer_.put_slot(number, next));
        progressed_ = true;
        now_.slots[number] = next;
    }
    return {};
}

// Who is still in a late set and goes to another late one is shut for the moment in which both are
// brought on.
Result<void> TableResync::leave_late_sets() {
    const auto shut_one = [this](const auto& now, const auto& wanted) {
        auto next = now;
        each_set(next, wanted, [this](uint32_t& set, uint32_t target, bool decides) {
            if (decides && set != target && late_.contains(set)) {
                set = MANX_SET_DENY;
            }
        });
        return next;
    };
    for (auto& [address, value] : now_.endpoints) {
        if (const auto next = shut_one(value, wanted_.endpoints.at(address)); !same(next, value)) {
            TRY(tables_.put_endpoint(address, next));
            progressed_ = true;
            value = next;
        }
    }
    for (auto& [number, value] : now_.slots) {
        if (const auto next = shut_one(value, wanted_.slots.at(number)); !same(next, value)) {
            TRY(tables_.writer_.put_slot(number, next));
            progressed_ = true;
            value = next;
        }
    }
    return {};
}

Result<void> TableResync::move_endpoints() {
    TRY(move_fields([this](uint32_t, uint32_t target) { return placed_.contains(target); }));
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
    return move_fields([](uint32_t, uint32_t) { return true; });
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
