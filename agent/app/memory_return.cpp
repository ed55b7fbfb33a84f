// SPDX-License-Identifier: Apache-2.0
#include "agent/app/memory_return.h"

#include "base/memory.h"

#include <chrono>
#include <utility>

namespace manx::app {

void MemoryReturn::after_updates(uint64_t updates) {
    constexpr uint64_t kStorm = 1000;
    // What waits for its grace period in the policy tables is gone by then, too.
    constexpr auto kQuiet = std::chrono::milliseconds(1200);
    updates_ = updates;
    if (updates < returned_at_ + kStorm && returned_at_ != 0) {
        return;
    }
    auto timer = loop_.add_timer(kQuiet, [this] {
        returned_at_ = updates_;
        return_unused_memory();
    });
    if (timer) {
        timer_ = std::move(*timer);
    }
}

} // namespace manx::app
