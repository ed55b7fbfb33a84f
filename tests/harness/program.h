// SPDX-License-Identifier: Apache-2.0
// Runs a tc program on one packet, in this process's network namespace, by BPF_PROG_TEST_RUN.
#pragma once

#include "base/result.h"
#include "tests/harness/packet.h"

#include <chrono>
#include <cstdint>

namespace manx::harness {

// What of struct __sk_buff a test may set.
struct Context {
    uint32_t ifindex = 0;         // the device of the hook; must exist
    uint32_t ingress_ifindex = 0; // where the host stack got it from; 0: made by this host
    uint32_t mark = 0;
    uint32_t gso_size = 0;
};

struct Outcome {
    int verdict = 0; // TC_ACT_*
    uint32_t mark = 0;
    Bytes packet;
    std::chrono::nanoseconds duration{}; // mean over repeat
};

Result<Outcome> run_program(int program_fd, const Bytes& packet, const Context& context,
                            uint32_t repeat = 1);

} // namespace manx::harness
