// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/retry.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

namespace manx::ipam {

void random_backoff(unsigned attempt) {
    thread_local std::minstd_rand random(std::random_device{}());
    unsigned limit_us = std::min(50'000U, 1000U << std::min(attempt, 10U));
    std::uniform_int_distribution<unsigned> wait(limit_us / 4, limit_us);
    std::this_thread::sleep_for(std::chrono::microseconds(wait(random)));
}

} // namespace manx::ipam
