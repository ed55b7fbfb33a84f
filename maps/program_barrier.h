// SPDX-License-Identifier: Apache-2.0
// Waits for BPF programs: what one that ran when wait() was called had found in any map, it holds
// no more when wait() returns. A write to a map of maps has that effect, so that user space knows
// that nobody uses what was there before. Takes a grace period of the kernel: between 30 us and
// some 10 ms.
//
// Threading: one thread.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace manx::maps {

class ProgramBarrier {
public:
    Result<void> wait();

private:
    UniqueFd inner_;
    UniqueFd outer_; // a map of maps that nobody else knows
};

} // namespace manx::maps
