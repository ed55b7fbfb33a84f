// SPDX-License-Identifier: Apache-2.0
// Keeps natOutgoing in force: applies it, and tries again every few seconds while it cannot be.
//
// Threading: the loop's thread.
#pragma once

#include "agent/app/pool_sets.h"
#include "agent/dataplane/masquerade.h"
#include "base/event_loop.h"

#include <functional>
#include <string>
#include <utility>

namespace manx::app {

class MasqueradeCare {
public:
    // pools: outlives this, and is read at each try. retried: called after a try by the timer.
    MasqueradeCare(EventLoop& loop, const PoolSets& pools, std::function<void()> retried)
        : loop_(loop), pools_(pools), retried_(std::move(retried)) {}

    void apply();

    // Why it is not in force; empty: it is.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }

private:
    EventLoop& loop_;
    const PoolSets& pools_;
    std::function<void()> retried_;
    dataplane::Masquerade masquerade_;
    std::string trouble_;
    EventSource retry_;
};

} // namespace manx::app
