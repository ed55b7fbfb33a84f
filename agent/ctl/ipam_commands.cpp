// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/ipam_commands.h"

#include "agent/ctl/commands.h"

#include <CLI/CLI.hpp>

namespace manx::ctl {

void add_ipam_commands(CLI::App& app, Context& context) {
    auto* ipam = app.add_subcommand("ipam", "Addresses: who has which, faults, configuration");
    ipam->require_subcommand(1);
    ipam->fallthrough();
    add_ipam_show(*ipam, context);
    add_ipam_check(*ipam, context);
    add_ipam_release(*ipam, context);
    add_ipam_configure(*ipam, context);
    add_ipam_split(*ipam, context);
}

} // namespace manx::ctl
