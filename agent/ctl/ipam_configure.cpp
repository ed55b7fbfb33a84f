// SPDX-License-Identifier: Apache-2.0
// manxctl ipam configure: changes the cluster's IPAMConfig.
#include "agent/api/ipam.h"
#include "agent/ctl/ipam_commands.h"
#include "agent/ipam/retry.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <optional>
#include <ostream>

namespace manx::ctl {

namespace {

struct ConfigureOptions {
    std::optional<bool> strict_affinity;
    std::optional<int> max_blocks;
    std::optional<int> cooldown;
    std::string persistence;
};

Result<void> write_config(datastore::Store& store, const ConfigureOptions& options) {
    datastore::Key key{api::Kind::IpamConfig, "", "default"};
    api::IpamConfig config;
    auto object = store.get(key);
    if (object) {
        TRY_ASSIGN(auto json, api::parse_json(object->json));
        TRY_ASSIGN(config, api::IpamConfig::from_json(json));
    } else if (object.error().kind != ErrorKind::NotFound) {
        return Unexpected(object.error());
    }
    config.meta.name = "default";
    config.strict_affinity = options.strict_affinity.value_or(config.strict_affinity);
    config.max_blocks_per_host = options.max_blocks.value_or(config.max_blocks_per_host);
    config.ip_cooldown_seconds = options.cooldown.value_or(config.ip_cooldown_seconds);
    if (!options.persistence.empty()) {
        config.kubevirt_vm_address_persistence = options.persistence;
    }
    TRY(config.validate());
    TRY_ASSIGN(auto json, config.to_json());
    auto written = object ? store.update(key, json) : store.create(key, json);
    if (!written) {
        bool raced = written.error().kind == ErrorKind::AlreadyExists ||
                     written.error().kind == ErrorKind::NotFound;
        return fail(raced ? ErrorKind::Conflict : written.error().kind, written.error().message);
    }
    return {};
}

Result<void> run_configure(Context& context, const ConfigureOptions& options) {
    if (!options.strict_affinity && !options.max_blocks && !options.cooldown &&
        options.persistence.empty()) {
        return fail(ErrorKind::ConfigInvalid,
                    "nothing to configure: expected --strictaffinity, --max-blocks-per-host, "
                    "--ip-cooldown-seconds or --kubevirt-ip-persistence");
    }
    TRY_ASSIGN(auto* store, context.store());
    ipam::Retry retry{20, ipam::random_backoff};
    TRY(retry.run("IPAMConfig default", [&] { return write_config(*store, options); }));
    auto say = [&](const char* name, const std::string& value) {
        context.out << "Successfully set " << name << " to: " << value << "\n";
    };
    if (options.strict_affinity) {
        say("StrictAffinity", *options.strict_affinity ? "true" : "false");
    }
    if (options.max_blocks) {
        say("MaxBlocksPerHost", std::to_string(*options.max_blocks));
    }
    if (!options.persistence.empty()) {
        say("KubeVirtVMAddressPersistence", options.persistence);
    }
    if (options.cooldown) {
        say("IPCooldownSeconds", std::to_string(*options.cooldown));
    }
    return {};
}

} // namespace

void add_ipam_configure(CLI::App& ipam, Context& context) {
    auto* command = ipam.add_subcommand("configure", "Change the configuration of IPAM");
    auto options = std::make_shared<ConfigureOptions>();
    command->add_option("--strictaffinity", options->strict_affinity,
                        "true: no node takes addresses from another's block");
    command->add_option("--max-blocks-per-host", options->max_blocks, "0: not limited by this")
        ->check(CLI::NonNegativeNumber);
    command
        ->add_option("--ip-cooldown-seconds", options->cooldown,
                     "How long a released address is not used again")
        ->check(CLI::Range(0, 1200));
    command->add_option("--kubevirt-ip-persistence", options->persistence)
        ->check(CLI::IsMember({"Enabled", "Disabled"}));
    command->callback([&context, options] { context.finish(run_configure(context, *options)); });
}

} // namespace manx::ctl
