// SPDX-License-Identifier: Apache-2.0
// The subcommands of manxctl policy, by the files that define them; see commands.h.
#pragma once

#include "agent/ctl/context.h"

namespace CLI {
class App;
} // namespace CLI

namespace manx::ctl {

void add_policy_explain(CLI::App& policy, Context& context);
void add_policy_counters(CLI::App& policy, Context& context);
void add_policy_drops(CLI::App& policy, Context& context);

} // namespace manx::ctl
