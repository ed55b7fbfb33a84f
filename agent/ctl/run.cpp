// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/run.h"

#include "agent/ctl/commands.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <ostream>

namespace manx::ctl {

int run(const std::vector<std::string>& args, std::istream& in, std::ostream& out,
        std::ostream& err) {
    Context context(in, out, err);
    CLI::App app("Reads and changes the network's objects, and asks the node's agent.", "manxctl");
    app.require_subcommand(1);
    app.fallthrough(); // the options below are taken after the command too
    app.add_option("--datastore", context.datastore_path,
                   "The datastore's file (default: MANX_DATASTORE, then the configuration's)");
    app.add_option("--config", context.config_path, "The agent's configuration file")
        ->default_val("/etc/manx/agent.yaml");
    app.add_option("--socket", context.agent_socket, "The agent's socket")
        ->default_val("/run/manx/agent.sock");

    add_get_command(app, context);
    add_write_commands(app, context);
    add_edit_commands(app, context);
    add_node_commands(app, context);
    add_status_command(app, context);
    add_ipam_commands(app, context);
    add_version_command(app, context);
    add_policy_commands(app, context);

    std::vector<std::string> reversed(args.rbegin(), args.rend()); // as CLI11 takes them
    try {
        app.parse(reversed);
    } catch (const CLI::ParseError& e) {
        return app.exit(e, out, err) == 0 ? 0 : 1;
    }
    return context.exit_code();
}

} // namespace manx::ctl
