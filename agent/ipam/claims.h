// SPDX-License-Identifier: Apache-2.0
// The protocol by which a block comes to an owner and leaves it, over two objects that are each
// written with compare-and-swap:
//
//   claim    affinity pending -> block created for the owner -> affinity confirmed
//   release  affinity pendingDeletion -> block deleted (or its affinity cleared) -> affinity
//   deleted
//
// The block decides who owns; the affinity is how an owner finds its blocks, and counts only when
// confirmed. Every step may be the last one that its process did: whoever uses the block next
// through its affinity (`through_affinity`) completes the claim.
#pragma once

#include "agent/ipam/repository.h"
#include "agent/ipam/retry.h"
#include "agent/ipam/time.h"
#include "base/result.h"

#include <optional>

namespace manx::ipam {

struct ReleaseAffinityOptions {
    bool require_empty = false;
    std::optional<uint64_t> sequence_number{}; // of the block: only if it was not written since
    // Addresses that have cooled down for that long do not keep the block; unset: they do.
    std::optional<std::chrono::seconds> cooldown{};
};

class Claims {
public:
    Claims(Repository repository, Clock clock, Retry retry)
        : repository_(repository), clock_(std::move(clock)), retry_(std::move(retry)) {}

    // AlreadyExists: the block is somebody else's, or nobody's; no affinity of ours stays behind.
    Result<Stored<Block>> claim(const BlockOwner& owner, const Cidr& cidr) const;

    // The block as the owner may use it, affinity confirmed. A block that is missing is created,
    // if may_create. NotFound: the owner has lost it (its affinity has been deleted), or has no
    // such affinity.
    Result<Stored<Block>> through_affinity(const BlockOwner& owner, const Cidr& cidr,
                                           bool may_create) const;

    // NotFound: the owner does not have it. ConfigReality: not empty, or written since.
    Result<void> release(const BlockOwner& owner, const Cidr& cidr,
                         const ReleaseAffinityOptions& options) const;

    // Deletes the affinity, whatever its state; there is none: fine.
    Result<void> drop_affinity(const BlockOwner& owner, const Cidr& cidr) const;

private:
    Result<Stored<Block>> claim_once(const BlockOwner& owner, const Cidr& cidr) const;
    Result<Stored<Block>> through_affinity_once(const BlockOwner& owner, const Cidr& cidr,
                                                bool may_create) const;
    Result<void> release_once(const BlockOwner& owner, const Cidr& cidr,
                              const ReleaseAffinityOptions& options) const;
    // Conflict also where the affinity is gone.
    Result<void> set_state(Stored<api::BlockAffinity>& affinity, api::AffinityState state) const;

    Repository repository_;
    Clock clock_;
    Retry retry_;
};

} // namespace manx::ipam
