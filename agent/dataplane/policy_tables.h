// SPDX-License-Identifier: Apache-2.0
// Carries the calculator's steps into the policy tables. What is there is either the old policy or
// the new one, never half of one: port tables are written before anything names them, what nobody
// names any more is removed and its room used again only after a grace period, and an update for
// which there is no room changes nothing.
//
// After a failure in the middle, and at start, the tables are brought in line by resync() with
// the calculator's snapshot (table_resync.cpp): it reads what is there and writes what differs, in
// an order that keeps the same promise. Where old and new do not fit side by side it goes on in
// rounds.
//
// Threading: one thread.
#pragma once

#include "agent/calc/table_update.h"
#include "agent/dataplane/leaving_entries.h"
#include "agent/dataplane/port_room.h"
#include "agent/dataplane/table_writer.h"
#include "base/result.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

namespace manx::dataplane {

class TableResync;
struct PolicyTablesAudit;

class PolicyTables {
public:
    using Clock = std::chrono::steady_clock;

    // Far longer than any program holds on to what it found.
    static constexpr std::chrono::milliseconds kGrace{500};

    // now: injected for tests.
    explicit PolicyTables(TableWriter& writer,
                          std::function<Clock::time_point()> now = &Clock::now);
    PolicyTables(const PolicyTables&) = delete;
    PolicyTables& operator=(const PolicyTables&) = delete;

    // Exhausted: a table is full, the old policy stays. After any error the tables are behind, and
    // only resync() brings them on.
    Result<void> apply(const calc::TableUpdate& update);
    // Makes the tables hold exactly the snapshot, but for what waits. Exhausted: the snapshot does
    // not fit, and who is in force keeps his policy, while workloads that come and addresses go on
    // if there is room for that; or it fits without what is there, and some endpoints have their
    // new policy, the others keep their old one until the next call. May take a second.
    Result<void> resync(const calc::TableUpdate& snapshot);
    // Removes what has waited for its grace period.
    Result<void> collect();

    // Something is to be removed, kGrace from now at the latest.
    [[nodiscard]] bool waiting() const { return !leaving_.empty() || room_.waiting(); }

    // An update failed: the caller is to call resync() when it may succeed.
    [[nodiscard]] bool behind() const { return behind_; }

    // Whether a workload's address is in the tables: it has a policy, new or old.
    [[nodiscard]] bool in_force(const IpAddress& address, uint32_t ifindex) const {
        const auto found = endpoints_.find(address);
        return found != endpoints_.end() && found->second == ifindex;
    }

    // Writes to entries of workloads until now, by whatever call.
    [[nodiscard]] uint64_t moves() const { return moves_; }

    struct Usage {
        uint32_t port_entries = 0; // in use or waiting for their grace period
        uint32_t port_capacity = 0;
        uint32_t policies = 0; // likewise
        uint32_t policy_capacity = 0;
        uint32_t tables = 0; // distinct port tables
    };

    [[nodiscard]] Usage usage() const;

private:
    friend class TableResync;
    friend struct PolicyTablesAudit; // of the tests: recounts

    using RoomId = uint32_t;

    // Where one port table lives.
    struct Room {
        calc::PortTablePtr table;
        uint32_t offset = 0;
        uint32_t size = 0;    // 0: part of another's, of tables that somebody damaged
        uint32_t users = 0;   // entries of manx_policy that name it, and puts that are to come
        bool written = false; // else its place is only reserved
        // When an entry that a program could still find was last taken from it.
        Clock::time_point left = Clock::time_point::min();
    };

    // An entry of manx_policy that is to be.
    struct Put {
        manx_policy_key key{};
        calc::PortTablePtr table;
    };

    // Who can still find an entry that goes.
    enum class Found : uint8_t {
        No,   // nobody: it waited for its grace period
        Until // whoever looked until now
    };

    // All of them or, Exhausted, none: the entries, and room for their port tables, which stay
    // until unreserve() even where the entries that name them now go before.
    Result<void> reserve(std::span<const Put> puts);
    void unreserve();
    void unreserve_to(size_t held);
    RoomId take_room(const calc::PortTablePtr& table, uint32_t offset);
    Result<void> put(std::span<const Put> puts); // reserved
    void leave(RoomId id, Found found);
    void drop_user(RoomId id);
    void leave_later(uint64_t key);
    Result<void> remove(uint64_t key, Found found);
    Result<bool> make_room();
    Result<void> remove_all(const std::vector<uint64_t>& keys, Found found);
    Result<void> check_addresses(const calc::TableUpdate& update);
    Result<void> put_classes(std::span<const ClassEntry> classes);
    Result<void> put_endpoint(const IpAddress& address, const manx_endpoint& value);
    Result<void> remove_endpoint(const IpAddress& address);
    Result<void> apply_steps(const calc::TableUpdate& update);

    TableWriter& writer_;
    std::function<Clock::time_point()> now_;
    bool behind_ = true; // until the first resync
    PortRoom room_;
    std::vector<Room> rooms_;
    std::vector<RoomId> free_rooms_;
    std::unordered_map<const calc::PortTable*, RoomId> room_of_;
    std::vector<RoomId> held_;                       // by puts that are to come, one for each
    size_t reserved_entries_ = 0;                    // of manx_policy, not written yet
    std::unordered_map<uint64_t, RoomId> policies_;  // what is there: set << 32 | class
    LeavingEntries leaving_;                         // of those
    std::array<size_t, kAddressTables> addresses_{}; // entries there, or more
    std::map<IpAddress, uint32_t> endpoints_;        // there, with their ifindex
    uint64_t moves_ = 0;
};

} // namespace manx::dataplane
