// SPDX-License-Identifier: Apache-2.0
#include "agent/api/cluster_information.h"
#include "agent/ctl/commands.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <ostream>

#ifndef MANX_VERSION
#error "MANX_VERSION comes from CMake"
#endif

namespace manx::ctl {

namespace {

Result<void> run_version(Context& context, bool client_only) {
    context.out << "Client Version:    v" << MANX_VERSION << "\n";
    if (client_only) {
        return {};
    }
    TRY_ASSIGN(auto* store, context.store());
    auto object = store->get({api::Kind::ClusterInformation, "", "default"});
    if (!object) {
        if (object.error().kind == ErrorKind::NotFound) {
            return {}; // a cluster that says nothing of itself
        }
        return Unexpected(object.error());
    }
    TRY_ASSIGN(auto json, api::parse_json(object->json));
    TRY_ASSIGN(auto info, api::ClusterInformation::from_json(json));
    context.out << "Cluster Version:   " << info.calico_version << "\n"
                << "Cluster Type:      " << info.cluster_type << "\n";
    return {};
}

} // namespace

void add_version_command(CLI::App& app, Context& context) {
    auto* command = app.add_subcommand("version", "Print the version of manxctl and the cluster's");
    auto client_only = std::make_shared<bool>(false);
    command->add_flag("--client", *client_only, "Only of manxctl");
    command->callback(
        [&context, client_only] { context.finish(run_version(context, *client_only)); });
}

} // namespace manx::ctl
