// SPDX-License-Identifier: Apache-2.0
// A place of its own for a test process: new network and mount namespaces, a fresh bpffs on
// /sys/fs/bpf and a fresh /run/netns. Everything in it is gone when the process ends, however it
// ends, so tests may use any names and run side by side.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>

namespace manx::harness {

// Moves this process into fresh namespaces. Call once, before any thread is started. ConfigReality
// where the rights for it are missing.
Result<void> enter_sandbox();

// Runs a shell command line; an error carries what it printed.
Result<std::string> run(const std::string& command);
// For set-up that cannot fail unless the machine is broken: throws std::runtime_error.
std::string must_run(const std::string& command);

uint32_t ifindex_of(const std::string& name); // 0: not there

} // namespace manx::harness
