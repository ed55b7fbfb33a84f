// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/policy_commands.h"

#include "agent/ctl/commands.h"

#include <CLI/CLI.hpp>

namespace manx::ctl {

void add_policy_commands(CLI::App& app, Context& context) {
    auto* policy = app.add_subcommand("policy", "Explain verdicts, count decisions and drops");
    policy->require_subcommand(1);
    add_policy_explain(*policy, context);
    add_policy_counters(*policy, context);
    add_policy_drops(*policy, context);
}

} // namespace manx::ctl
