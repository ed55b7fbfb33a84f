// SPDX-License-Identifier: Apache-2.0
// manxctl ipam split: makes several pools of one, of the same properties. Blocks and the addresses
// in them stay as they are.
#include "agent/api/pool.h"
#include "agent/ctl/ipam_commands.h"
#include "agent/ctl/ipam_report.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <bit>
#include <memory>
#include <ostream>

namespace manx::ctl {

namespace {

struct SplitOptions {
    unsigned parts = 0;
    std::string cidr;
    std::string name;
    bool force = false;
};

struct FoundPool {
    api::IpPool pool;
    nlohmann::json json;
};

Result<FoundPool> find_pool(datastore::Store& store, const SplitOptions& options) {
    std::optional<Cidr> wanted;
    if (!options.cidr.empty()) {
        TRY_ASSIGN(wanted, Cidr::parse(options.cidr));
    }
    TRY_ASSIGN(auto pools, store.list(api::Kind::IpPool));
    for (const auto& object : pools.objects) {
        TRY_ASSIGN(auto json, api::parse_json(object.json));
        TRY_ASSIGN(auto pool, api::IpPool::from_json(json));
        if (wanted ? pool.cidr == *wanted : pool.meta.name == options.name) {
            return FoundPool{std::move(pool), std::move(json)};
        }
    }
    return fail(ErrorKind::NotFound,
                fmt::format("there is no IPPool {}", wanted ? wanted->text() : options.name));
}

// Whether what an earlier split has made is the same part.
Result<void> is_part(datastore::Store& store, const std::string& name, const Cidr& part) {
    SplitOptions by_name;
    by_name.name = name;
    TRY_ASSIGN(auto there, find_pool(store, by_name));
    if (there.pool.cidr != part) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("{} exists and has {}: expected {}, a part of the pool",
                                there.pool.subject(), there.pool.cidr.text(), part.text()));
    }
    return {};
}

Result<void> run_split(Context& context, const SplitOptions& options) {
    if (options.cidr.empty() == options.name.empty()) {
        return fail(ErrorKind::ConfigInvalid, "one of --cidr and --name is needed");
    }
    if (options.parts < 2 || !std::has_single_bit(options.parts)) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("cannot split into {}: expected a power of 2", options.parts));
    }
    TRY_ASSIGN(auto* store, context.store());
    TRY_ASSIGN(auto cluster, cluster_information(*store));
    if (cluster.datastore_ready && !options.force) {
        return fail(ErrorKind::ConfigReality,
                    "the datastore is not locked: nodes would see pools that overlap for a moment "
                    "(--force splits nevertheless)");
    }
    TRY_ASSIGN(auto found, find_pool(*store, options));
    const auto& pool = found.pool;
    unsigned length = pool.cidr.length() + static_cast<unsigned>(std::countr_zero(options.parts));
    if (length > pool.block_size) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("{}: {} parts would be smaller than its blocks (/{})",
                                pool.subject(), options.parts, pool.block_size));
    }
    // The old pool goes last, and is never out of service: a split that was interrupted loses
    // nothing, and is finished by running it again.
    datastore::Key old{api::Kind::IpPool, "", pool.meta.name};
    IpAddress first = pool.cidr.address();
    std::string created_text;
    for (unsigned i = 0; i < options.parts; i++) {
        Cidr part(first, length);
        nlohmann::json json = found.json;
        for (const char* own : {"uid", "resourceVersion", "creationTimestamp", "managedFields"}) {
            json["metadata"].erase(own);
        }
        std::string name = fmt::format("split-{}-{}", pool.meta.name, i);
        json["metadata"]["name"] = name;
        json["spec"]["cidr"] = part.text();
        json.erase("status");
        auto created = store->create({api::Kind::IpPool, "", name}, json);
        if (!created && created.error().kind == ErrorKind::AlreadyExists) {
            TRY(is_part(*store, name, part));
        } else if (!created) {
            return Unexpected(created.error());
        }
        created_text += fmt::format("Created {} with CIDR {}.\n", name, part.text());
        // Not wrapping at the end of the address space: the last part has no successor.
        if (i + 1 < options.parts) {
            first = part.last().plus(1);
        }
    }
    TRY(store->remove(old));
    context.out << fmt::format("IP Pool {} was successfully split into {} smaller pools.\n{}",
                               pool.meta.name, options.parts, created_text);
    return {};
}

} // namespace

void add_ipam_split(CLI::App& ipam, Context& context) {
    auto* command = ipam.add_subcommand("split", "Make several pools of one");
    auto options = std::make_shared<SplitOptions>();
    command->add_option("NUMBER", options->parts, "Into how many; a power of 2")->required();
    command->add_option("--cidr", options->cidr, "The pool of this CIDR");
    command->add_option("--name", options->name, "The pool of this name");
    command->add_flag("--force", options->force, "Though the datastore is not locked");
    command->callback([&context, options] { context.finish(run_split(context, *options)); });
}

} // namespace manx::ctl
