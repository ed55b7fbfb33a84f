// SPDX-License-Identifier: Apache-2.0
// Questions to the agent of this node, over its socket: HTTP/1.0, GET only.
#pragma once

#include "base/result.h"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace manx::ctl {

// The answer's JSON. Unavailable: no agent answers on that socket, with what to look at.
Result<nlohmann::json> ask_agent(const std::string& socket_path, const std::string& path);

} // namespace manx::ctl
