// SPDX-License-Identifier: Apache-2.0
// What has to be there before an agent begins, and for taking one off the node again: the node's
// lock and folders, the kernel's features, the options that the loader and BIRD are opened with.
#pragma once

#include "agent/app/config.h"
#include "agent/bgp/bird_process.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "loader/options.h"

#include <string>

namespace manx::app {

// With its parents.
Result<void> make_folder(const std::string& path);

// One agent per node: held as long as the descriptor is open. ConfigReality: another has it.
Result<UniqueFd> lock_node(const AgentConfig& config);

// ConfigReality: names what the kernel lacks.
Result<void> check_kernel();

loader::LoadOptions load_options(const AgentConfig& config);
bgp::BirdPaths bird_paths(const AgentConfig& config);

} // namespace manx::app
