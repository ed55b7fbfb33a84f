// SPDX-License-Identifier: Apache-2.0
// Finding a block that nobody has, or an empty one that somebody has.
#include "agent/ipam/allocator.h"
#include "agent/ipam/walk.h"
#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace manx::ipam {

namespace {

// An empty block is left to its owner for that long after it claimed it.
constexpr std::chrono::minutes kReclaimAge{1};

// The blocks that exist: whether one lies across a candidate, whatever its size, and though some
// may lie across each other already.
class Existing {
public:
    explicit Existing(std::span<const BlockSummary> blocks) {
        for (const auto& block : blocks) {
            reach_.push_back(&block);
        }
        std::ranges::sort(reach_, {}, [](const auto* block) { return block->cidr; });
        starts_.reserve(reach_.size());
        for (size_t i = 0; i < reach_.size(); i++) {
            starts_.push_back(reach_[i]->cidr.address());
            if (i > 0 && reach_[i - 1]->cidr.last() >= reach_[i]->cidr.last()) {
                reach_[i] = reach_[i - 1];
            }
        }
    }

    [[nodiscard]] const BlockSummary* overlapping(const Cidr& candidate) const {
        auto after = std::ranges::upper_bound(starts_, candidate.last());
        if (after == starts_.begin()) {
            return nullptr;
        }
        const BlockSummary* before = reach_[static_cast<size_t>(after - starts_.begin()) - 1];
        return before->cidr.overlaps(candidate) ? before : nullptr;
    }

private:
    std::vector<IpAddress> starts_;          // in order
    std::vector<const BlockSummary*> reach_; // of those up to there, the one that reaches furthest
};

bool claimed_recently(const BlockSummary& block, Time now) {
    auto claimed = parse_rfc3339(block.claim_time);
    return claimed && *claimed + kReclaimAge >= now;
}

} // namespace

Result<bool> Allocator::Impl::claim_new(const Environment& environment, const Group& group) {
    auto in_pools = [&](const Cidr& block) { return group.pool_of(block) != nullptr; };
    if (own_.count(group.family, in_pools) >= group.limit) {
        return fail(
            ErrorKind::Exhausted,
            fmt::format("cannot allocate new block due to per host block limit ({})", group.limit));
    }
    if (!environment.config.auto_allocate_blocks) {
        return fail(ErrorKind::Exhausted,
                    "no free address in the node's blocks, and autoAllocateBlocks is off");
    }
    TRY_ASSIGN(auto blocks, block_summaries(environment));
    TRY_ASSIGN(bool claimed, claim_unowned(environment, group, blocks));
    if (claimed) {
        return true;
    }
    return steal_empty(environment, group, blocks);
}

Result<bool> Allocator::Impl::try_claim(const Cidr& cidr) {
    auto block = claims_.claim(owner_, cidr);
    if (block) {
        log::get("ipam")->info("claimed block {} for {}", cidr.text(), owner_.text());
        own_.put(std::move(*block));
        return true;
    }
    if (block.error().kind == ErrorKind::AlreadyExists) {
        return false;
    }
    return Unexpected(block.error());
}

Result<void> Allocator::Impl::check_claimable(const Cidr& cidr) const {
    TRY_ASSIGN(auto there, repository_.overlapping(cidr));
    if (there) {
        return fail(ErrorKind::ConfigReality,
                    fmt::format("block {} cannot be claimed: it overlaps block {}, which exists",
                                cidr.text(), there->text()));
    }
    return {};
}

Result<bool> Allocator::Impl::claim_unowned(const Environment& environment, const Group& group,
                                            std::span<const BlockSummary> blocks) {
    Existing existing(blocks);
    auto clock_seed = options_.clock().time_since_epoch().count();
    bool lost_one = false;
    for (const api::IpPool* pool : group.pools) {
        BlockWalk walk(pool->cidr, pool->block_size, owner_.name, clock_seed);
        while (auto candidate = walk.next(environment.reservations)) {
            if (const auto* there = existing.overlapping(*candidate); there != nullptr) {
                bool ours = there->cidr == *candidate && there->affinity == owner_.text() &&
                            own_.find(*candidate) == nullptr && there->free > 0;
                if (!ours) {
                    continue;
                }
            } else if (lost_one && repository_.block(*candidate)) {
                // Many nodes claim at once, and the list is old: a read is cheaper than three
                // writes that lead to nothing.
                continue;
            }
            TRY_ASSIGN(bool claimed, try_claim(*candidate));
            if (claimed) {
                return true;
            }
            lost_one = true;
        }
    }
    return false;
}

Result<std::vector<BlockSummary>>
Allocator::Impl::block_summaries(const Environment& environment) const {
    return repository_.block_summaries(environment.reservations, options_.clock(),
                                       environment.cooldown());
}

std::vector<BlockSummary> Allocator::Impl::in_walk_order(const Group& group,
                                                         std::span<const BlockSummary> blocks) {
    auto clock_seed = options_.clock().time_since_epoch().count();
    std::vector<BlockSummary> ordered;
    for (const api::IpPool* pool : group.pools) {
        auto begin = static_cast<ptrdiff_t>(ordered.size());
        std::copy_if(blocks.begin(), blocks.end(), std::back_inserter(ordered),
                     [&](const BlockSummary& block) { return pool->cidr.contains(block.cidr); });
        BlockWalk walk(pool->cidr, pool->block_size, owner_.name, clock_seed);
        std::stable_sort(ordered.begin() + begin, ordered.end(),
                         [&](const BlockSummary& a, const BlockSummary& b) {
                             return walk.distance(a.cidr) < walk.distance(b.cidr);
                         });
    }
    return ordered;
}

Result<bool> Allocator::Impl::steal_empty(const Environment& environment, const Group& group,
                                          std::span<const BlockSummary> blocks) {
    Time now = options_.clock();
    for (const BlockSummary& block : in_walk_order(group, blocks)) {
        const api::IpPool* pool = group.pool_of(block.cidr);
        if (pool == nullptr || pool->block_size != block.cidr.length() || block.affinity.empty() ||
            block.affinity == owner_.text() || !block.empty || block.free == 0 ||
            claimed_recently(block, now)) {
            continue;
        }
        ReleaseAffinityOptions unchanged{true, block.sequence_number, environment.cooldown()};
        auto released = claims_.release(BlockOwner::parse(block.affinity), block.cidr, unchanged);
        if (!released) {
            auto kind = released.error().kind;
            if (kind == ErrorKind::ConfigReality || kind == ErrorKind::NotFound ||
                kind == ErrorKind::Conflict) {
                continue; // in use after all, or somebody else was faster
            }
            return Unexpected(released.error());
        }
        log::get("ipam")->info("took the empty block {} from {}", block.cidr.text(),
                               block.affinity);
        TRY_ASSIGN(bool claimed, try_claim(block.cidr));
        if (claimed) {
            return true;
        }
    }
    return false;
}

} // namespace manx::ipam
