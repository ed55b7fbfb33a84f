// SPDX-License-Identifier: Apache-2.0
#include "agent/ctl/pool_removal.h"

#include "agent/api/names.h"
#include "agent/api/pool.h"
#include "agent/ipam/claims.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <ostream>
#include <thread>

namespace manx::ctl {

namespace {

constexpr std::chrono::milliseconds kUnderWay{500}; // allocations that began before

// Leaves no owner to any block of the pool; those that are empty are gone.
Result<void> release_affinities(const ipam::Repository& repository, const Cidr& pool) {
    ipam::Claims claims(repository, ipam::system_now, {100, ipam::random_backoff});
    TRY_ASSIGN(auto blocks, repository.blocks());
    for (const auto& block : blocks) {
        const Cidr& cidr = block.value.cidr();
        if (!pool.contains(cidr)) {
            continue;
        }
        if (block.value.affinity().empty()) {
            if (block.value.empty()) {
                (void)repository.remove(block); // lost: to whoever uses or removes it
            }
            continue;
        }
        auto owner = ipam::BlockOwner::parse(block.value.affinity());
        auto released = claims.release(owner, cidr, {});
        if (!released && released.error().kind != ErrorKind::NotFound) {
            return released;
        }
    }
    TRY_ASSIGN(auto affinities, repository.affinities());
    for (const auto& affinity : affinities) {
        if (pool.contains(affinity.value.cidr)) { // without a block of that owner
            TRY(claims.drop_affinity({affinity.value.node, affinity.value.type},
                                     affinity.value.cidr));
        }
    }
    return {};
}

Result<void> tell_what_stays(const ipam::Repository& repository, const api::IpPool& pool,
                             std::ostream& notes) {
    ipam::LeftOut left_out;
    TRY_ASSIGN(auto blocks, repository.blocks(&left_out));
    size_t in_use = 0;
    std::string names;
    for (const auto& block : blocks) {
        if (pool.cidr.contains(block.value.cidr())) {
            in_use += block.value.allocations().size();
            names += (names.empty() ? "" : ", ") + block.value.cidr().text();
        }
    }
    if (!names.empty()) {
        notes << fmt::format("{}: {} addresses are in use and stay with those who have them, in "
                             "blocks {}\n",
                             pool.subject(), in_use, names);
    }
    for (const std::string& name : left_out.broken_blocks) {
        auto cidr = api::block_of_name(name);
        if (cidr && pool.cidr.contains(*cidr)) {
            notes << fmt::format("{}: IPAMBlock {} cannot be read and stays\n", pool.subject(),
                                 name);
        }
    }
    return {};
}

} // namespace

Result<void> delete_pool(datastore::Store& store, const datastore::Key& key, std::ostream& notes) {
    TRY_ASSIGN(auto object, store.get(key));
    auto json = api::parse_json(object.json);
    auto pool = json ? api::IpPool::from_json(*json) : Unexpected(json.error());
    if (!pool) {
        notes << key.text() << ": cannot be read; blocks of it, if there are any, stay\n";
        return store.remove(key);
    }
    if (!pool->disabled) {
        TRY(store.patch(key, {{"spec", {{"disabled", true}}}}));
    }
    std::this_thread::sleep_for(kUnderWay);
    ipam::Repository repository(store);
    TRY(release_affinities(repository, pool->cidr));
    TRY(tell_what_stays(repository, *pool, notes));
    return store.remove(key);
}

} // namespace manx::ctl
