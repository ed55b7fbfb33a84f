// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/own_blocks.h"

#include "agent/api/names.h"
#include "agent/ipam/pools.h"
#include "base/log.h"

#include <algorithm>
#include <utility>

namespace manx::ipam {

Result<void> OwnBlocks::load(const Environment& environment, Family family,
                             const std::function<bool(const Cidr&)>& wanted) {
    TRY_ASSIGN(auto affinities, repository_.affinities_of(owner_, family));
    PerFamily fresh;
    fresh.loaded = true;
    for (const auto& affinity : affinities) {
        const Cidr& cidr = affinity.value.cidr;
        const api::IpPool* pool = pool_of(environment.pools, cidr.address());
        bool stays = pool != nullptr &&
                     ((wanted && wanted(cidr)) || selects_node(*pool, environment.node_labels));
        if (pool != nullptr && pool->usable() && !stays && owner_.type == "host") {
            auto released = claims_.release(
                owner_, cidr, {.require_empty = true, .cooldown = environment.cooldown()});
            if (released) {
                log::get("ipam")->info("gave block {} back: no pool of it selects this node",
                                       cidr.text());
                continue;
            }
        }
        // A missing block is not created where it would lie across those of another size.
        bool may_create = stays && is_allocatable(*pool) && pool->block_size == cidr.length();
        auto block = claims_.through_affinity(owner_, cidr, may_create);
        if (block) {
            fresh.blocks.insert_or_assign(api::block_name(cidr), std::move(*block));
            continue;
        }
        if (block.error().kind != ErrorKind::NotFound) {
            if (block.error().kind != ErrorKind::ConfigInvalid) {
                return Unexpected(block.error());
            }
            // Damaged: counts as ours, cannot be used; the others can.
            log::get("ipam")->error("a block is left out: {}", block.error().text());
            fresh.elsewhere.insert(cidr);
        }
    }
    entry(family) = std::move(fresh);
    return {};
}

unsigned OwnBlocks::count(Family family, const std::function<bool(const Cidr&)>& of) const {
    const PerFamily& all = entry(family);
    auto readable = std::count_if(all.blocks.begin(), all.blocks.end(),
                                  [&](const auto& block) { return of(block.second.value.cidr()); });
    return static_cast<unsigned>(readable +
                                 std::count_if(all.elsewhere.begin(), all.elsewhere.end(), of));
}

Stored<Block>* OwnBlocks::find(const Cidr& cidr) {
    auto& blocks = entry(cidr.family()).blocks;
    auto found = blocks.find(api::block_name(cidr));
    return found == blocks.end() ? nullptr : &found->second;
}

Stored<Block>& OwnBlocks::put(Stored<Block> block) {
    const Cidr& cidr = block.value.cidr();
    auto& blocks = entry(cidr.family()).blocks;
    std::string name = api::block_name(cidr);
    return blocks.insert_or_assign(std::move(name), std::move(block)).first->second;
}

void OwnBlocks::forget(const Cidr& cidr) {
    entry(cidr.family()).blocks.erase(api::block_name(cidr));
}

void OwnBlocks::clear() {
    families_ = {};
}

void OwnBlocks::suspect(const std::string& block_name) {
    std::lock_guard lock(mutex_);
    suspects_.insert(block_name);
}

Result<void> OwnBlocks::refresh_suspects() {
    std::set<std::string> suspects;
    {
        std::lock_guard lock(mutex_);
        suspects.swap(suspects_);
    }
    for (const std::string& name : suspects) {
        for (Family family : kFamilies) {
            auto& blocks = entry(family).blocks;
            auto found = blocks.find(name);
            if (found == blocks.end()) {
                continue;
            }
            Cidr cidr = found->second.value.cidr();
            auto reloaded = reload(cidr);
            if (!reloaded && reloaded.error().kind != ErrorKind::NotFound) {
                suspect(name);
                return reloaded;
            }
        }
    }
    return {};
}

Result<void> OwnBlocks::reload(const Cidr& cidr) {
    auto block = claims_.through_affinity(owner_, cidr, false);
    if (!block) {
        if (block.error().kind == ErrorKind::NotFound) {
            forget(cidr);
        }
        return Unexpected(block.error());
    }
    put(std::move(*block));
    return {};
}

std::vector<Cidr> OwnBlocks::all() const {
    std::vector<Cidr> cidrs;
    for (const PerFamily& family : families_) {
        for (const auto& [name, block] : family.blocks) {
            cidrs.push_back(block.value.cidr());
        }
    }
    return cidrs;
}

} // namespace manx::ipam
