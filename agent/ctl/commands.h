// SPDX-License-Identifier: Apache-2.0
// The commands of manxctl, by the files that define them. Each function adds its subcommands to
// the program; a subcommand's callback does its work and calls Context::finish:
//
//     auto* show = app.add_subcommand("show", "...");
//     show->callback([&context] { context.finish(run_show(context)); });
//
// Options that a callback needs live in a std::shared_ptr that it captures: these functions return
// before the command line is parsed. A new function gets its line here and in run.cpp.
#pragma once

#include "agent/ctl/context.h"

namespace CLI {
class App;
} // namespace CLI

namespace manx::ctl {

void add_get_command(CLI::App& app, Context& context);
// apply, create, replace, delete, validate.
void add_write_commands(CLI::App& app, Context& context);
// patch, label.
void add_edit_commands(CLI::App& app, Context& context);
void add_node_commands(CLI::App& app, Context& context);
void add_status_command(CLI::App& app, Context& context);
// ipam show, check, release, configure, split.
void add_ipam_commands(CLI::App& app, Context& context);
void add_version_command(CLI::App& app, Context& context);

// policy explain, policy counters.
void add_policy_commands(CLI::App& app, Context& context);

} // namespace manx::ctl
