// SPDX-License-Identifier: Apache-2.0
// Runs IPAM's collector every few minutes, off the loop. Every agent runs it, each at its own time:
// two at once do no harm (agent/ipam/gc.h), and no node's absence stops it.
//
// Threading: the loop's thread; the datastore is spoken to on a worker.
#pragma once

#include "agent/datastore/store.h"
#include "agent/ipam/gc.h"
#include "base/event_loop.h"
#include "base/worker.h"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace manx::app {

class Collector {
public:
    // leak_grace: of a leaked address, Calico's leakGracePeriod; a pass comes twice as often. Zero:
    // leaks of nodes that exist are left alone.
    Collector(EventLoop& loop, datastore::Store& store, std::chrono::seconds leak_grace);

    Result<void> start();

    [[nodiscard]] uint64_t collected() const { return collected_; }

    [[nodiscard]] uint64_t passes() const { return passes_; }

private:
    void pass();

    EventLoop& loop_;
    datastore::Store& store_;
    ipam::CollectorOptions options_;
    ipam::CollectorState state_; // of the worker
    bool held_ = false;          // of the worker: the last pass found the datastore locked
    std::atomic<uint64_t> collected_ = 0;
    std::atomic<uint64_t> passes_ = 0;
    EventSource timer_;
    Worker worker_{"ipam-collector"}; // last: ends before what its jobs use
};

} // namespace manx::app
