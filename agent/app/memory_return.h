// SPDX-License-Identifier: Apache-2.0
// Gives memory that a snapshot or a storm of updates has left unused back to the kernel, when it
// has been quiet for a moment after the first snapshot, and after storms.
//
// Threading: the loop's thread.
#pragma once

#include "base/event_loop.h"

#include <cstdint>

namespace manx::app {

class MemoryReturn {
public:
    explicit MemoryReturn(EventLoop& loop) : loop_(loop) {}

    // updates: how many came since the start.
    void after_updates(uint64_t updates);

private:
    EventLoop& loop_;
    EventSource timer_;
    uint64_t updates_ = 0;     // so far
    uint64_t returned_at_ = 0; // of these; 0: not yet
};

} // namespace manx::app
