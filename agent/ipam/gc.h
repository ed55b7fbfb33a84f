// SPDX-License-Identifier: Apache-2.0
// The collector: brings back what nobody uses any more. Runs in one place of the cluster, every
// few minutes; two of them at once do no harm. What it suspects in one pass it acts upon in a later
// one, if it is unchanged and older than the grace period, and after a last look (repair.h).
//
// While the datastore is locked (ClusterInformation default without datastoreReady, or one that
// cannot be read) it repairs nothing, and what it has seen until then does not count: a migration
// may be moving the objects that say who uses an address.
#pragma once

#include "agent/datastore/store.h"
#include "agent/ipam/ipam.h"
#include "agent/ipam/time.h"
#include "base/result.h"

#include <chrono>
#include <map>
#include <string>

namespace manx::ipam {

struct CollectorOptions {
    // How long a leak, an empty block or a handle's surplus must be seen before it is collected.
    // Zero: leaks, whose node exists, are not collected.
    std::chrono::seconds leak_grace{std::chrono::minutes(15)};
    std::chrono::seconds fault_grace{std::chrono::minutes(1)}; // handles and affinities
    unsigned batch = 10'000;                                   // addresses per pass
    Options ipam; // clock, backoff, retries of the writes
};

struct Collected {
    unsigned leaks_suspected = 0;
    unsigned leaks_released = 0;
    unsigned cooled_freed = 0;
    unsigned blocks_released = 0;
    unsigned handles_repaired = 0;
    unsigned affinities_repaired = 0;
    unsigned deletes_finished = 0;
    unsigned failures = 0; // repairs that failed; each is logged and tried again next time
    bool held = false;     // the datastore is locked: nothing (more) was repaired

    [[nodiscard]] unsigned total() const {
        return leaks_released + cooled_freed + blocks_released + handles_repaired +
               affinities_repaired + deletes_finished;
    }
};

// What earlier passes saw. Lost with its process: then the grace period begins anew.
struct CollectorState {
    struct Seen {
        Time first;
        unsigned passes = 0;
    };

    std::map<std::string, Seen> seen; // by the finding's key, which changes with the object
};

Result<Collected> collect_once(datastore::Store& store, Time now, CollectorState& state,
                               const CollectorOptions& options = {});

} // namespace manx::ipam
