// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/table_resync.h"

#include <algorithm>

namespace manx::dataplane {

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
            TRY(write_entry(address, next));
            value = next;
        }
    }
    for (auto& [number, value] : now_.slots) {
        const auto next = move_one(value, wanted_.slots.at(number));
        if (std::ranges::all_of(next.class_id, [&](uint32_t one) { return ready.contains(one); }) &&
            !std::ranges::equal(next.class_id, value.class_id)) {
            TRY(write_entry(number, next));
            value = next;
        }
    }
    return {};
}

} // namespace manx::dataplane
