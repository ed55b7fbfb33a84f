// SPDX-License-Identifier: Apache-2.0
// What an allocation depends on besides blocks: pools, reservations, configuration, the node's
// labels. It changes rarely, so the allocator keeps it: told of changes by watches, or else by age.
//
// Threading: any thread; the watches' callbacks only mark what they concern as changed.
#pragma once

#include "agent/api/ipam.h"
#include "agent/api/pool.h"
#include "agent/datastore/store.h"
#include "agent/ipam/repository.h"
#include "base/result.h"

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace manx::ipam {

struct Environment {
    std::vector<api::IpPool> pools; // all of them, by name
    std::vector<Cidr> reservations;
    std::map<std::string, std::vector<Cidr>> reserved_by; // the same, by IPReservation
    api::IpamConfig config;
    api::StringMap node_labels; // empty for a virtual owner
    bool node_exists = true;    // without its node nothing is allocated, but still released

    [[nodiscard]] std::chrono::seconds cooldown() const {
        return std::chrono::seconds(config.ip_cooldown_seconds);
    }
};

// Reads everything anew. An object that cannot be read is logged, and does not stop the others: a
// pool is as in `last`, or left out; a reservation covers what can be read of it, and what it
// covered in `last`. ConfigInvalid: the IPAMConfig is broken.
Result<Environment> load_environment(datastore::Store& store, const BlockOwner& owner,
                                     const Environment* last = nullptr);

// The labels of a node. NotFound.
Result<api::StringMap> load_node_labels(datastore::Store& store, const std::string& node);

class EnvironmentCache {
public:
    // max_age: how long it is good without watches.
    EnvironmentCache(datastore::Store& store, BlockOwner owner, std::chrono::milliseconds max_age);

    // From now on pools, reservations and configuration are read again only when they changed;
    // the node's labels, for which every node would have to be watched, when they are older than
    // max_age or note_node_changed() was called.
    Result<void> watch();

    void note_node_changed() { node_stale_ = true; }

    void invalidate() {
        stale_ = true;
        node_stale_ = true;
    }

    Result<std::shared_ptr<const Environment>> get();

private:
    using Steady = std::chrono::steady_clock;

    datastore::Store& store_;
    BlockOwner owner_;
    std::chrono::milliseconds max_age_;
    std::atomic<bool> stale_ = true;
    std::atomic<bool> node_stale_ = true;
    std::shared_ptr<const Environment> current_; // guarded by the allocator that owns this
    Steady::time_point loaded_;
    Steady::time_point node_loaded_;
    std::vector<std::unique_ptr<datastore::Watch>> watches_;
};

} // namespace manx::ipam
