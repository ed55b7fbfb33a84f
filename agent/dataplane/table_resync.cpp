// SPDX-License-Identifier: Apache-2.0
// From tables that somebody else left (an earlier agent, an update that failed in the middle) to
// those of a snapshot. A packet meets the old policy or the new one all the way:
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
#include "agent/calc/port_table.h"
#include "agent/dataplane/class_moves.h"
#include "agent/dataplane/policy_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_set>

namespace manx::dataplane {

namespace {

uint64_t key_of(uint32_t set, uint32_t class_id) {
    return uint64_t{set} << 32 | class_id;
}

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
};

constexpr uint32_t manx_endpoint::* kSetsOfEndpoint[] = {
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

} // namespace

class TableResync {
public:
    TableResync(PolicyTables& tables, const calc::TableUpdate& snapshot)
        : tables_(tables), snapshot_(snapshot) {}

    Result<void> run() {
        read_snapshot();
        TRY(adopt());
        TRY(tables_.collect());
        TRY(check_result());
        TRY(remove_gone());
        plan();
        TRY(shut());
        TRY(move_classes());
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

private:
    using RoomId = PolicyTables::RoomId;
    using Put = PolicyTables::Put;

    void read_snapshot();
    Result<void> adopt();
    Result<calc::PortTablePtr> read_table(const manx_policy_value& value);
    Result<void> check_result();
    Result<void> remove_gone();
    void plan();
    void carry(uint32_t set, const std::set<uint32_t>& targets, const ClassOrigins& origins);
    void find_stale();
    Result<void> shut();
    Result<void> move_classes();
    Result<void> place_sets();
    Result<void> move_endpoints();
    [[nodiscard]] bool removals_last(std::span<const ClassMove> moves) const;
    [[nodiscard]] std::vector<Put> missing(uint32_t set) const;
    Result<void> move_fields(const std::function<bool(uint32_t now, uint32_t target)>& may);
    Result<void> leave_late_sets();
    Result<void> remove_stale(uint32_t set);
    void leave_unnamed();
    // False: no room; short_of_ says of what.
    Result<bool> place(std::span<const Put> puts);

    [[nodiscard]] const calc::PortTablePtr* in_place(uint32_t set, uint32_t class_id) const {
        const auto found = tables_.policies_.find(key_of(set, class_id));
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
    Addresses now_;
    std::set<uint32_t> late_; // wanted sets that say what they said until who leaves them has left
    std::set<uint32_t> shut_; // sets in force of which nothing right can be said
    // By class: what the sets in force need before an address has it.
    std::unordered_map<uint32_t, std::vector<Put>> needs_;
    std::unordered_map<uint32_t, std::vector<uint64_t>> stale_;    // likewise, to be removed
    std::unordered_map<uint32_t, std::vector<uint64_t>> stale_of_; // by wanted set: all of them
    std::unordered_set<uint32_t> placed_;                          // wanted sets that are whole
    std::optional<std::string> short_of_;
};

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
    if (auto main = tables_.writer_.read_ports(value.offset, out.count)) {
        out.entries = *std::move(main);
        uint32_t size = out.count;
        for (const auto& entry : out.entries) {
            if (entry.action == MANX_ACTION_BY_SOURCE_PORT && entry.next >= value.offset) {
                size = std::max(size, entry.next + entry.next_count - value.offset);
            }
        }
        if (size > out.count) {
            if (auto runs =
                    tables_.writer_.read_ports(value.offset + out.count, size - out.count)) {
                out.entries.insert(out.entries.end(), runs->begin(), runs->end());
            }
        }
        for (auto& entry : out.entries) {
            entry.next -= entry.action == MANX_ACTION_BY_SOURCE_PORT ? value.offset : 0;
        }
    }
    out.hash = calc::content_hash(out);
    return std::make_shared<const calc::PortTable>(std::move(out));
}

// Takes over what is there. Equal port tables become one object, the snapshot's where it has it, so
// that what did not change is not written.
Result<void> TableResync::adopt() {
    auto& writer = tables_.writer_;
    tables_.room_.reset();
    tables_.rooms_.clear();
    tables_.free_rooms_.clear();
    tables_.room_of_.clear();
    tables_.policies_.clear();
    std::unordered_multimap<uint64_t, calc::PortTablePtr> by_content;
    std::unordered_set<const calc::PortTable*> seen;
    for (const auto& [set, wanted] : sets_) {
        for (const auto& [class_id, table] : wanted.entries) {
            if (seen.insert(table.get()).second) {
                by_content.emplace(table->hash, table);
            }
        }
    }
    std::vector<PolicyEntry> found;
    TRY(writer.each_policy([&](const PolicyEntry& entry) { found.push_back(entry); }));
    std::map<std::pair<uint32_t, uint32_t>, RoomId> places;
    for (const auto& [key, value] : found) {
        const auto [at, fresh] = places.try_emplace({value.offset, value.count},
                                                    static_cast<RoomId>(tables_.rooms_.size()));
        if (fresh) {
            TRY_ASSIGN(auto table, read_table(value));
            const auto [begin, end] = by_content.equal_range(table->hash);
            const auto known =
                std::find_if(begin, end, [&](const auto& one) { return *one.second == *table; });
            if (known != end) {
                table = known->second;
            } else {
                by_content.emplace(table->hash, table);
            }
            const auto size = std::max(static_cast<uint32_t>(table->entries.size()), table->count);
            const bool ours = tables_.room_.take_at(value.offset, size);
            tables_.room_of_.try_emplace(table.get(), at->second);
            tables_.rooms_.push_back({.table = std::move(table),
                                      .offset = value.offset,
                                      .size = ours ? size : 0,
                                      .written = true});
        }
        ++tables_.rooms_[at->second].users;
        tables_.policies_.emplace(key_of(key.set, key.class_id), at->second);
    }
    std::erase_if(tables_.leaving_,
                  [this](const auto& one) { return !tables_.policies_.contains(one.first); });
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
    for (const auto& [address, value] : now_.endpoints) {
        ++tables_.addresses_[static_cast<size_t>(endpoint_table_of(address))];
    }
    return {};
}

// Whether the snapshot has room where nothing else is there; else nothing is touched.
Result<void> TableResync::check_result() {
    const auto check = [](std::string_view table, size_t needed, size_t room) -> Result<void> {
        return needed <= room
                   ? Result<void>{}
                   : fail(ErrorKind::Exhausted,
                          fmt::format("{} is full: {} entries are needed, it has room for {}",
                                      table, needed, room));
    };
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
    TRY(check("manx_ports", ports, tables_.room_.capacity()));
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

// Endpoints and slots that are not in the snapshot, or are another workload's.
Result<void> TableResync::remove_gone() {
    for (auto at = now_.endpoints.begin(); at != now_.endpoints.end();) {
        const auto wanted = wanted_.endpoints.find(at->first);
        if (wanted != wanted_.endpoints.end() && wanted->second.ifindex == at->second.ifindex) {
            ++at;
            continue;
        }
        TRY(tables_.writer_.remove_endpoint(at->first));
        --tables_.addresses_[static_cast<size_t>(endpoint_table_of(at->first))];
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

void TableResync::plan() {
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
        const auto wanted = sets_.find(set);
        const auto* any = in_place(set, MANX_CLASS_ANY);
        if (wanted != sets_.end() && to.size() == 1 && to.contains(set) && any != nullptr &&
            *any == wanted->second.entries.at(MANX_CLASS_ANY)) {
            kept.insert(set);
            continue;
        }
        if (wanted != sets_.end()) {
            late_.insert(set);
        }
        carry(set, to, origins);
    }
    // Sets that nobody leaves say at once what they are to say.
    for (const uint32_t set : kept) {
        for (const auto& [class_id, table] : sets_.at(set).entries) {
            const auto* there = in_place(set, class_id);
            if (there == nullptr || *there != table) {
                needs_[class_id].push_back({{set, class_id}, table});
            }
        }
    }
    find_stale();
    for (const uint32_t set : kept) {
        for (const uint64_t key : stale_of_[set]) {
            stale_[static_cast<uint32_t>(key & UINT32_MAX)].push_back(key);
        }
    }
}

// Entries of wanted sets that are not wanted. Those of classes that go are left alone.
void TableResync::find_stale() {
    const auto classes = wanted_.class_ids();
    stale_of_.clear();
    for (const auto& [key, room] : tables_.policies_) {
        const auto class_id = static_cast<uint32_t>(key & UINT32_MAX);
        const auto wanted = sets_.find(static_cast<uint32_t>(key >> 32));
        if (wanted != sets_.end() && classes.contains(class_id) &&
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
    for (const auto& [class_id, from] : origins) {
        std::vector<calc::PortTablePtr> said;
        for (const uint32_t origin : from) {
            said.push_back(meaning(set, origin));
        }
        std::ranges::sort(said);
        said.erase(std::ranges::unique(said).begin(), said.end());
        calc::PortTablePtr table = said.front();
        if (said.size() > 1) {
            std::set<calc::PortTablePtr> then;
            for (const uint32_t target : targets) {
                const auto wanted = sets_.find(target);
                // Else MANX_SET_ALLOW.
                then.insert(wanted == sets_.end() ? allow_all_ : wanted->second.of(class_id));
            }
            table = then.size() == 1 ? *then.begin() : nullptr;
            if (table == nullptr) {
                shut_.insert(set);
                return;
            }
        }
        if (meaning(set, class_id) != table) {
            needs_[class_id].push_back({{set, class_id}, table});
        }
    }
}

Result<void> TableResync::shut() {
    if (shut_.empty()) {
        return {};
    }
    const auto shut_one = [this](auto value) {
        each_set(value, value, [this](uint32_t& set, uint32_t&, bool decides) {
            set = decides && shut_.contains(set) ? uint32_t{MANX_SET_DENY} : set;
        });
        return value;
    };
    for (auto& [address, value] : now_.endpoints) {
        if (const auto closed = shut_one(value); !same(closed, value)) {
            TRY(tables_.writer_.put_endpoint(address, closed));
            value = closed;
        }
    }
    for (auto& [number, value] : now_.slots) {
        if (const auto closed = shut_one(value); !same(closed, value)) {
            TRY(tables_.writer_.put_slot(number, closed));
            value = closed;
        }
    }
    for (auto& [class_id, puts] : needs_) {
        std::erase_if(puts, [this](const Put& one) { return shut_.contains(one.key.set); });
    }
    return {};
}

Result<bool> TableResync::place(std::span<const Put> puts) {
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
                TRY(tables_.remove(key));
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
            now_.classes.erase(move.prefix);
            --count;
        } else {
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
    for (auto& [address, value] : now_.endpoints) {
        const auto next = move_one(value, wanted_.endpoints.at(address));
        if (ready.contains(next.class_id) && next.class_id != value.class_id) {
            TRY(tables_.writer_.put_endpoint(address, next));
            value = next;
        }
    }
    for (auto& [number, value] : now_.slots) {
        const auto next = move_one(value, wanted_.slots.at(number));
        if (std::ranges::all_of(next.class_id, [&](uint32_t one) { return ready.contains(one); }) &&
            !std::ranges::equal(next.class_id, value.class_id)) {
            TRY(tables_.writer_.put_slot(number, next));
            value = next;
        }
    }
    return {};
}

std::vector<PolicyTables::Put> TableResync::missing(uint32_t set) const {
    std::vector<Put> out;
    for (const auto& [class_id, table] : sets_.at(set).entries) {
        const auto* there = in_place(set, class_id);
        if (there == nullptr || *there != table) {
            out.push_back({{set, class_id}, table});
        }
    }
    return out;
}

Result<void> TableResync::remove_stale(uint32_t set) {
    if (const auto found = stale_of_.find(set); found != stale_of_.end()) {
        for (const uint64_t key : found->second) {
            TRY(tables_.remove(key));
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
        TRY(tables_.writer_.put_endpoint(address, next));
        auto& count = tables_.addresses_[static_cast<size_t>(endpoint_table_of(address))];
        count += now_.endpoints.insert_or_assign(address, next).second ? 1 : 0;
    }
    for (const auto& [number, wanted] : wanted_.slots) {
        const auto now = now_.slots.find(number);
        const auto next = now == now_.slots.end() ? next_of(manx_slot_entry{}, wanted)
                                                  : next_of(now->second, wanted);
        if (now == now_.slots.end() ? !same(next, wanted) : same(next, now->second)) {
            continue;
        }
        TRY(tables_.writer_.put_slot(number, next));
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
            TRY(tables_.writer_.put_endpoint(address, next));
            value = next;
        }
    }
    for (auto& [number, value] : now_.slots) {
        if (const auto next = shut_one(value, wanted_.slots.at(number)); !same(next, value)) {
            TRY(tables_.writer_.put_slot(number, next));
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
    TRY(leave_late_sets());
    for (const uint32_t set : late_) {
        TRY_ASSIGN(const bool done, place(missing(set)));
        if (!done) {
            return {};
        }
        TRY(remove_stale(set));
    }
    return move_fields([](uint32_t, uint32_t) { return true; });
}

void TableResync::leave_unnamed() {
    std::unordered_set<uint32_t> named;
    const auto note = [&](uint32_t set, uint32_t, bool) { named.insert(set); };
    for (const auto& [address, value] : now_.endpoints) {
        each_set(value, value, note);
    }
    for (const auto& [number, value] : now_.slots) {
        each_set(value, value, note);
    }
    const auto classes = now_.class_ids();
    const auto time = tables_.now_();
    for (const auto& [key, room] : tables_.policies_) {
        const auto set = static_cast<uint32_t>(key >> 32);
        const auto class_id = static_cast<uint32_t>(key & UINT32_MAX);
        const auto wanted = sets_.find(set);
        const bool stays = wanted != sets_.end() && wanted->second.entries.contains(class_id);
        if (!stays && !(short_of_ && named.contains(set) && classes.contains(class_id))) {
            tables_.leaving_.try_emplace(key, time);
        }
    }
}

Result<void> PolicyTables::resync(const calc::TableUpdate& snapshot) {
    behind_ = true;
    TRY(TableResync(*this, snapshot).run());
    behind_ = false;
    return {};
}

} // namespace manx::dataplane
