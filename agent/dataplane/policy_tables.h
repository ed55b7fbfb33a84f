// SPDX-License-Identifier: Apache-2.0
// Carries the calculator's steps into the policy tables. What is there is either the old policy or
// the new one, never half of one: port tables are written before anything names them, their room
// is reused only after a grace period, and an update for which there is no room changes nothing.
//
// After a failure in the middle, and at start, the tables are brought in line by resync() with
// the calculator's snapshot: it reads what is there, writes what differs, and deletes last.
//
// Threading: one thread.
#pragma once

#include "agent/calc/table_update.h"
#include "agent/dataplane/table_writer.h"
#include "base/result.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

namespace manx::dataplane {

class PolicyTables {
public:
    using Clock = std::chrono::steady_clock;

    // now: injected for tests.
    explicit PolicyTables(TableWriter& writer,
                          std::function<Clock::time_point()> now = &Clock::now);
    PolicyTables(const PolicyTables&) = delete;
    PolicyTables& operator=(const PolicyTables&) = delete;

    // Exhausted: a table is full, the old policy stays. After any error the tables are behind, and
    // only resync() brings them on.
    Result<void> apply(const calc::TableUpdate& update);
    // Makes the tables hold exactly the snapshot.
    Result<void> resync(const calc::TableUpdate& snapshot);

    // An update failed: the caller is to call resync() when it may succeed.
    [[nodiscard]] bool behind() const { return behind_; }

    struct Usage {
        uint32_t port_entries = 0; // in use or waiting for their grace period
        uint32_t port_capacity = 0;
        uint32_t policies = 0;
        uint32_t policy_capacity = 0;
        uint32_t tables = 0; // distinct port tables
    };

    [[nodiscard]] Usage usage() const;

private:
    using RoomId = uint32_t;

    // Where one port table lives.
    struct Room {
        calc::PortTablePtr table;
        uint32_t offset = 0;
        uint32_t users = 0; // entries of manx_policy that name it
    };

    struct Waiting {
        Clock::time_point since;
        uint32_t offset = 0;
        uint32_t size = 0;
    };

    Result<void> check_room(const calc::TableUpdate& update);
    Result<RoomId> room_for(const calc::PortTablePtr& table);
    void leave(RoomId id);
    void reuse_waiting();
    void free_range(uint32_t offset, uint32_t size);
    void take_range(uint32_t offset, uint32_t size);
    Result<void> put_policies(std::span<const calc::PolicyStep* const> steps);
    Result<void> apply_steps(const calc::TableUpdate& update);
    Result<void> adopt(const calc::TableUpdate& snapshot);
    Result<void> sweep(const calc::TableUpdate& snapshot);

    TableWriter& writer_;
    std::function<Clock::time_point()> now_;
    bool behind_ = true;                // until the first resync
    std::map<uint32_t, uint32_t> free_; // offset -> size
    std::vector<Waiting> waiting_;      // in order of time
    std::vector<Room> rooms_;
    std::vector<RoomId> free_rooms_;
    std::unordered_map<const calc::PortTable*, RoomId> room_of_;
    std::unordered_map<uint64_t, RoomId> policies_; // set << 32 | class
};

} // namespace manx::dataplane
