// SPDX-License-Identifier: Apache-2.0
// manxctl ipam show: how full pools and blocks are, who has an address, what is borrowed.
#include "agent/ctl/box_table.h"
#include "agent/ctl/ipam_commands.h"
#include "agent/ipam/environment.h"
#include "agent/ipam/repository.h"
#include "agent/ipam/survey.h"
#include "agent/ipam/usage.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <ostream>

namespace manx::ctl {

namespace {

struct ShowOptions {
    std::string ip;
    bool blocks = false;
    bool borrowed = false;
    bool configuration = false;
};

// "12 (0%)"; numbers as Go's %.5g prints them, so that 131072 is 1.3107e+05.
std::string share(double part, double whole) {
    return fmt::format("{:.5g} ({:.0f}%)", part, whole > 0 ? 100 * part / whole : 0);
}

std::vector<std::string> usage_row(const char* grouping, const std::string& cidr,
                                   const ipam::Usage& usage) {
    return {grouping,
            cidr,
            fmt::format("{:.5g}", usage.capacity),
            share(usage.in_use, usage.capacity),
            share(usage.reserved, usage.capacity),
            share(usage.available, usage.capacity)};
}

Result<void> show_usage(Context& context, datastore::Store& store, bool with_blocks) {
    TRY_ASSIGN(auto environment, ipam::load_environment(store, {"", "virtual"}));
    TRY_ASSIGN(auto blocks, ipam::Repository(store).blocks());
    BoxTable table({"Grouping", "CIDR", "IPs Total", "IPs In Use", "IPs Reserved", "IPs Free"},
                   {2, 3, 4, 5});
    for (const auto& pool : ipam::usage(environment, blocks)) {
        table.add(usage_row("IP Pool", pool.cidr.text(), pool.usage));
        if (with_blocks) {
            for (const auto& block : pool.blocks) {
                table.add(usage_row("Block", block.cidr.text(), block.usage));
            }
        }
    }
    table.print(context.out);
    return {};
}

void print_attributes(std::ostream& out, const api::StringMap& attributes) {
    for (const auto& [key, value] : attributes) {
        out << "  " << key << ": " << value << "\n";
    }
}

Result<void> show_ip(Context& context, datastore::Store& store, const std::string& text) {
    TRY_ASSIGN(auto address, IpAddress::parse(text));
    TRY_ASSIGN(auto blocks, ipam::Repository(store).blocks());
    for (const auto& stored : blocks) {
        auto found = stored.value.find(address);
        if (!found) {
            if (stored.value.cooling(address)) {
                return fail(ErrorKind::ConfigReality,
                            fmt::format("address {} is in cooldown", address.text()));
            }
            continue;
        }
        const auto& attribute = *found->attribute;
        context.out << "IP " << address.text() << " is in use\n"
                    << "Handle ID: " << ipam::clean_handle(attribute.handle_id.value_or("<none>"))
                    << "\n";
        if (attribute.secondary.empty()) {
            context.out << "No Active Owner attributes defined\n";
        } else {
            context.out << "Active Owner Attributes:\n";
            print_attributes(context.out, attribute.secondary);
        }
        if (!attribute.alternate_owner.empty()) {
            context.out << "Alternate Owner Attributes:\n";
            print_attributes(context.out, attribute.alternate_owner);
        }
        return {};
    }
    context.out << address.text() << " is not assigned\n";
    return {};
}

std::string attribute(const api::StringMap& attributes, const char* key) {
    auto at = attributes.find(key);
    return at == attributes.end() ? "" : at->second;
}

Result<void> show_borrowed(Context& context, datastore::Store& store) {
    TRY_ASSIGN(auto blocks, ipam::Repository(store).blocks());
    BoxTable table({"IP", "Borrowing-Node", "Block", "Block Owner", "Type", "Allocated-To"});
    unsigned of_no_node = 0;
    for (const auto& stored : blocks) {
        auto owner = ipam::BlockOwner::parse(stored.value.affinity());
        for (const auto& allocation : stored.value.allocations()) {
            const auto& attributes = allocation.attribute->secondary;
            std::string node = attribute(attributes, "node");
            of_no_node += node.empty() ? 1 : 0;
            if (node.empty() || node == owner.name) {
                continue;
            }
            std::string type = attribute(attributes, "type");
            std::string to = ipam::pod_of(*allocation.attribute);
            if (attributes.contains("vmi-name")) {
                type = "vmi";
                to = attribute(attributes, "namespace") + "/" + attribute(attributes, "vmi-name");
            } else if (!to.empty()) {
                type = "pod";
            }
            table.add({allocation.address.text(), node, stored.value.cidr().text(), owner.name,
                       type, to});
        }
    }
    table.print(context.out);
    if (of_no_node > 0) {
        context.out << fmt::format("\nNote: found {} IP allocations without an explicit node "
                                   "association. Unable to determine if they are borrowed.\n",
                                   of_no_node);
    }
    return {};
}

Result<void> show_configuration(Context& context, datastore::Store& store) {
    TRY_ASSIGN(auto environment, ipam::load_environment(store, {"", "virtual"}));
    const auto& config = environment.config;
    BoxTable table({"Property", "Value"});
    const auto& persistence = config.kubevirt_vm_address_persistence;
    table.add({"StrictAffinity", config.strict_affinity ? "true" : "false"});
    table.add({"AutoAllocateBlocks", config.auto_allocate_blocks ? "true" : "false"});
    table.add({"MaxBlocksPerHost", std::to_string(config.max_blocks_per_host)});
    table.add({"KubeVirtVMAddressPersistence", persistence.empty() ? "Enabled" : persistence});
    table.add({"IPCooldownSeconds", std::to_string(config.ip_cooldown_seconds)});
    table.print(context.out);
    return {};
}

Result<void> run_show(Context& context, const ShowOptions& options) {
    TRY_ASSIGN(auto* store, context.store());
    if (!options.ip.empty()) {
        return show_ip(context, *store, options.ip);
    }
    if (options.borrowed) {
        return show_borrowed(context, *store);
    }
    if (options.configuration) {
        return show_configuration(context, *store);
    }
    return show_usage(context, *store, options.blocks);
}

} // namespace

void add_ipam_show(CLI::App& ipam, Context& context) {
    auto* command = ipam.add_subcommand("show", "Show how addresses are used");
    auto options = std::make_shared<ShowOptions>();
    command->add_option("--ip", options->ip, "Of this address: whether it is in use, and by whom");
    command->add_flag("--show-blocks", options->blocks, "Of each block, too");
    command->add_flag("--show-borrowed", options->borrowed,
                      "Addresses used on nodes that do not own their block");
    command->add_flag("--show-configuration", options->configuration, "The configuration of IPAM");
    command->callback([&context, options] { context.finish(run_show(context, *options)); });
}

} // namespace manx::ctl
