// SPDX-License-Identifier: Apache-2.0
// From tables that somebody else left (an earlier agent, an update that failed in the middle) to
// those of a snapshot: the work of PolicyTables::resync(), one object for each call. A packet meets
// the old policy or the new one all the way:
//   1. endpoints that are gone go;
//   2. for each class that an address is about to get, the sets in force are given an entry: what
//      the class that the address has until now has. Where several such classes come together that
//      the set tells apart, it is what the new set says; and where endpoints that share the set go
//      to sets that disagree, those are shut until they have their new set;
//   3. addresses get their new classes, in the class tables and in endpoints and slots;
//   4. new sets are written, endpoints and slots get them;
//   5. what is not in the snapshot is left for its grace period.
// Where there is no room for old and new, 2 to 4 go as far as there is, and what nobody names any
// more makes room for the next round.
//
// resync_adopt.cpp reads what is there, resync_plan.cpp decides, resync_classes.cpp and
// table_resync.cpp write.
#pragma once

#include "agent/calc/port_table.h"
#include "agent/dataplane/class_moves.h"
#include "agent/dataplane/policy_tables.h"

#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_set>

namespace manx::dataplane {

template <typename T>
bool same(const T& a, const T& b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

struct WantedSet {
    std::unordered_map<uint32_t, calc::PortTablePtr> entries; // by class, MANX_CLASS_ANY too

    [[nodiscard]] calc::PortTablePtr of(uint32_t class_id) const {
        const auto found = entries.find(class_id);
        return found != entries.end() ? found->second : entries.at(MANX_CLASS_ANY);
    }
};

inline constexpr uint32_t manx_endpoint::* kSetsOfEndpoint[] = {
    &manx_endpoint::egress_set, &manx_endpoint::ingress_set, &manx_endpoint::staged_egress,
    &manx_endpoint::staged_ingress};

// fn(set in a, the same place in b, whether it decides).
template <typename A, typename B, typename Fn>
void each_set(A& a, B& b, Fn fn) {
    if constexpr (std::is_same_v<std::remove_const_t<A>, manx_endpoint>) {
        for (const auto member : kSetsOfEndpoint) {
            fn(a.*member, b.*member,
               member == &manx_endpoint::egress_set || member == &manx_endpoint::ingress_set);
        }
    } else {
        for (size_t family = 0; family < 2; ++family) {
            fn(a.egress_set[family], b.egress_set[family], true);
            fn(a.staged_egress[family], b.staged_egress[family], false);
        }
    }
}

// What is in the tables of addresses, or is to be.
struct Addresses {
    Classes classes;
    std::map<IpAddress, manx_endpoint> endpoints;
    std::map<uint16_t, manx_slot_entry> slots;

    [[nodiscard]] std::unordered_set<uint32_t> class_ids() const {
        std::unordered_set<uint32_t> out{0, MANX_CLASS_ANY};
        for (const auto& [prefix, value] : classes) {
            out.insert(value.class_id);
        }
        for (const auto& [address, value] : endpoints) {
            out.insert(value.class_id);
        }
        for (const auto& [number, slot] : slots) {
            out.insert(std::begin(slot.class_id), std::end(slot.class_id));
        }
        return out;
    }

    // Those that endpoints and slots name.
    [[nodiscard]] std::unordered_set<uint32_t> sets() const {
        std::unordered_set<uint32_t> out;
        const auto note = [&](uint32_t set, uint32_t, bool) { out.insert(set); };
        for (const auto& [address, value] : endpoints) {
            each_set(value, value, note);
        }
        for (const auto& [number, value] : slots) {
            each_set(value, value, note);
        }
        return out;
    }
};

class TableResync {
public:
    // by_force: rather than leave all as it is, who is to have another set loses the one he has
    // before there is room for the new, and is shut meanwhile; that is all of this round.
    TableResync(PolicyTables& tables, const calc::TableUpdate& snapshot, bool by_force)
        : tables_(tables), snapshot_(snapshot), by_force_(by_force) {}

    Result<void> run();

    // The snapshot has room where nothing else is.
    [[nodiscard]] bool fits_alone() const { return fits_alone_; }

    // Some address has its new class, or some endpoint its new set, or is shut for it.
    [[nodiscard]] bool progressed() const { return progressed_; }

private:
    using RoomId = PolicyTables::RoomId;
    using Put = PolicyTables::Put;

    void read_snapshot();
    Result<void> adopt();
    Result<void> adopt_policies();
    Result<calc::PortTablePtr> read_table(const manx_policy_value& value);
    void keep_named();
    [[nodiscard]] Result<void> check_policies() const;
    [[nodiscard]] Result<void> check_addresses() const;
    Result<void> admit(const Error& why);
    void keep_sets();
    Result<void> remove_gone();
    void plan();
    void carry(uint32_t set, const std::set<uint32_t>& targets, const ClassOrigins& origins);
    [[nodiscard]] bool may_keep(uint32_t set, const ClassOrigins& origins) const;
    void find_stale();
    Result<void> reserve_whole();
    Result<void> shut();
    Result<void> move_classes();
    Result<void> place_sets();
    Result<void> move_endpoints();
    [[nodiscard]] bool removals_last(std::span<const ClassMove> moves) const;
    [[nodiscard]] std::vector<Put> all_puts() const;
    [[nodiscard]] bool fits_in_place_of(const std::set<uint32_t>& gone) const;
    [[nodiscard]] std::vector<Put> all_of(uint32_t set) const;
    [[nodiscard]] std::vector<Put> missing(uint32_t set) const; // the default last
    Result<void> move_fields(const std::function<bool(uint32_t target)>& may);
    Result<void> write_entry(const IpAddress& address, const manx_endpoint& value);
    Result<void> write_entry(uint16_t slot, const manx_slot_entry& value);

    // Each endpoint and slot in place becomes next_of(it, the wanted one).
    template <typename Fn>
    Result<void> change_entries(Fn next_of) {
        const auto change_all = [&](auto& all, const auto& wanted) -> Result<void> {
            for (auto& [key, value] : all) {
                if (const auto next = next_of(value, wanted.at(key)); !same(next, value)) {
                    TRY(write_entry(key, next));
                    value = next;
                }
            }
            return {};
        };
        TRY(change_all(now_.endpoints, wanted_.endpoints));
        return change_all(now_.slots, wanted_.slots);
    }

    Result<void> leave_late_sets();
    Result<void> remove_stale(uint32_t set);
    void leave_unnamed();
    // False: no room; short_of_ says of what.
    Result<bool> place(std::span<const Put> puts);

    [[nodiscard]] const calc::PortTablePtr* in_place(uint32_t set, uint32_t class_id) const {
        const auto found = tables_.policies_.find(policy_key(set, class_id));
        return found == tables_.policies_.end() ? nullptr : &tables_.rooms_[found->second].table;
    }

    // As a program finds it.
    [[nodiscard]] calc::PortTablePtr meaning(uint32_t set, uint32_t class_id) const {
        const auto* found = in_place(set, class_id);
        found = found == nullptr ? in_place(set, MANX_CLASS_ANY) : found;
        return found == nullptr ? nullptr : *found;
    }

    PolicyTables& tables_;
    const calc::TableUpdate& snapshot_;
    calc::PortTablePtr allow_all_ =
        std::make_shared<const calc::PortTable>(calc::compile_port_table({}));
    std::unordered_map<uint32_t, WantedSet> sets_; // wanted
    Addresses wanted_;
    std::unordered_set<uint32_t> wanted_classes_;
    std::unordered_set<uint32_t> classes_now_;
    Addresses now_;
    std::set<uint32_t> late_; // wanted sets that say what they said until who leaves them has left
    std::set<uint32_t> in_force_; // sets in force that do not stay as they are
    std::set<uint32_t> shut_;     // sets in force of which nothing right can be said
    // By class: what the sets in force need before an address has it.
    std::unordered_map<uint32_t, std::vector<Put>> needs_;
    std::unordered_map<uint32_t, std::vector<uint64_t>> stale_;    // likewise, to be removed
    std::unordered_map<uint32_t, std::vector<uint64_t>> stale_of_; // by wanted set: all of them
    std::unordered_set<uint32_t> placed_;                          // wanted sets that are whole
    bool by_force_;
    bool admits_ = false; // sets in force stay, whatever the snapshot says
    bool fits_alone_ = false;
    bool progressed_ = false;
    bool whole_ = false; // there is room for all of it, and it is reserved
    std::optional<std::string> short_of_;
};

} // namespace manx::dataplane
