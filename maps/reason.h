// SPDX-License-Identifier: Apache-2.0
// Names of maps/abi/verdict.h's reasons and hooks, for metrics, manxctl and tests. Lower case with
// underscores, with the prefix pass_ or drop_: "drop_policy_egress".
#pragma once

#include "maps/abi/verdict.h"

#include <optional>
#include <string_view>

namespace manx::maps {

std::string_view reason_name(manx_reason reason); // "unknown" for a number that has no name
std::optional<manx_reason> reason_from_name(std::string_view name);
bool is_drop(manx_reason reason);
std::string_view hook_name(manx_hook hook); // "from_workload", ...

} // namespace manx::maps
