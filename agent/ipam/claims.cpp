// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/claims.h"

#include <fmt/format.h>

#include <utility>

namespace manx::ipam {

using api::AffinityState;

Result<void> Claims::set_state(Stored<api::BlockAffinity>& affinity, AffinityState state) const {
    // Old Calico wrote affinities without labels, by which their owner does not find them.
    if (affinity.value.state == state && affinity.value.labelled()) {
        return {};
    }
    affinity.value.state = state;
    return repository_.write(affinity).map_error(gone_is_conflict);
}

Result<void> Claims::drop_affinity(const BlockOwner& owner, const Cidr& cidr) const {
    return retry_.run("BlockAffinity of " + owner.text(), [&]() -> Result<void> {
        auto affinity = repository_.affinity(owner, cidr);
        Result<void> done =
            affinity ? repository_.remove(*affinity) : Result<void>(Unexpected(affinity.error()));
        if (!done && done.error().kind == ErrorKind::NotFound) {
            return {};
        }
        return done;
    });
}

Result<Stored<Block>> Claims::claim(const BlockOwner& owner, const Cidr& cidr) const {
    return retry_.run(fmt::format("claiming block {}", cidr.text()),
                      [&] { return claim_once(owner, cidr); });
}

Result<Stored<Block>> Claims::claim_once(const BlockOwner& owner, const Cidr& cidr) const {
    api::BlockAffinity wanted;
    wanted.cidr = cidr;
    wanted.node = owner.name;
    wanted.type = owner.type;
    wanted.state = AffinityState::Pending;
    auto affinity = repository_.create(wanted);
    if (!affinity && affinity.error().kind == ErrorKind::AlreadyExists) {
        affinity = repository_.affinity(owner, cidr).map_error(gone_is_conflict);
        if (affinity && affinity->value.state != AffinityState::Confirmed) {
            TRY(set_state(*affinity, AffinityState::Pending));
        }
    }
    if (!affinity) {
        return Unexpected(affinity.error());
    }
    auto block = repository_.create(Block::create(cidr, owner.text(), clock_()));
    if (!block && block.error().kind == ErrorKind::AlreadyExists) {
        block = repository_.block(cidr).map_error(gone_is_conflict);
        if (!block && block.error().kind == ErrorKind::ConfigInvalid) {
            // Whose it is nobody can tell. What was confirmed before stays.
            if (affinity->value.state != AffinityState::Confirmed) {
                (void)repository_.remove(*affinity); // else: collected
            }
            return fail(ErrorKind::AlreadyExists, block.error().message);
        }
        if (block && block->value.affinity() != owner.text()) {
            auto removed = repository_.remove(*affinity);
            if (!removed && removed.error().kind != ErrorKind::NotFound) {
                return Unexpected(removed.error());
            }
            return fail(
                ErrorKind::AlreadyExists,
                fmt::format("block {} belongs to \"{}\"", cidr.text(), block->value.affinity()));
        }
        if (block && affinity->value.state != AffinityState::Confirmed) {
            // Somebody may be releasing what we confirm: make their write of the block fail.
            TRY(repository_.write(*block).map_error(gone_is_conflict));
        }
    }
    if (!block) {
        return block;
    }
    TRY(set_state(*affinity, AffinityState::Confirmed));
    return block;
}

Result<Stored<Block>> Claims::through_affinity(const BlockOwner& owner, const Cidr& cidr,
                                               bool may_create) const {
    return retry_.run(fmt::format("using block {}", cidr.text()),
                      [&] { return through_affinity_once(owner, cidr, may_create); });
}

Result<Stored<Block>> Claims::through_affinity_once(const BlockOwner& owner, const Cidr& cidr,
                                                    bool may_create) const {
    TRY_ASSIGN(auto affinity, repository_.affinity(owner, cidr));
    auto block = repository_.block(cidr);
    if (!block && block.error().kind == ErrorKind::ConfigInvalid &&
        affinity.value.state != AffinityState::Confirmed) {
        (void)repository_.remove(affinity); // a claim that came to nothing; else: collected
        return block;
    }
    if (!block && block.error().kind != ErrorKind::NotFound) {
        return block;
    }
    if (!block && may_create) {
        // The pool's block size may have changed since the claim began.
        TRY_ASSIGN(auto across, repository_.overlapping(cidr));
        may_create = !across;
    }
    if (block ? block->value.affinity() != owner.text() : !may_create) {
        auto removed = repository_.remove(affinity);
        if (!removed && removed.error().kind != ErrorKind::NotFound) {
            return Unexpected(removed.error());
        }
        return fail(ErrorKind::NotFound, fmt::format("the affinity of {} to block {} was stale",
                                                     owner.text(), cidr.text()));
    }
    if (!block) {
        TRY(set_state(affinity, AffinityState::Pending));
        block = repository_.create(Block::create(cidr, owner.text(), clock_()));
        if (!block && block.error().kind == ErrorKind::AlreadyExists) {
            return fail(ErrorKind::Conflict, block.error().message); // look whose it is
        }
        if (!block) {
            return block;
        }
        TRY(set_state(affinity, AffinityState::Confirmed));
        return block;
    }
    if (affinity.value.state != AffinityState::Confirmed) {
        TRY(set_state(affinity, AffinityState::Pending));
        TRY(repository_.write(*block).map_error(gone_is_conflict));
        TRY(set_state(affinity, AffinityState::Confirmed));
    }
    return block;
}

Result<void> Claims::release(const BlockOwner& owner, const Cidr& cidr,
                             const ReleaseAffinityOptions& options) const {
    return retry_.run(fmt::format("releasing block {}", cidr.text()),
                      [&] { return release_once(owner, cidr, options); });
}

Result<void> Claims::release_once(const BlockOwner& owner, const Cidr& cidr,
                                  const ReleaseAffinityOptions& options) const {
    auto block = repository_.block(cidr);
    if (!block && block.error().kind != ErrorKind::NotFound) {
        return Unexpected(block.error());
    }
    if (!block || block->value.affinity() != owner.text()) {
        TRY(drop_affinity(owner, cidr));
        return fail(ErrorKind::NotFound,
                    fmt::format("{} does not own block {}", owner.text(), cidr.text()));
    }
    if (options.cooldown) {
        (void)block->value.collect(clock_(), *options.cooldown);
    }
    bool empty = block->value.empty();
    bool changed =
        options.sequence_number && *options.sequence_number != block->value.data().sequence_number;
    auto affinity = repository_.affinity(owner, cidr);
    if (!affinity && affinity.error().kind != ErrorKind::NotFound) {
        return Unexpected(affinity.error());
    }
    if ((options.require_empty && !empty) || changed) {
        // An earlier try, or one that crashed, may have announced the end of a block in use.
        if (affinity && affinity->value.state == AffinityState::PendingDeletion) {
            TRY(set_state(*affinity, AffinityState::Confirmed));
        }
        return fail(ErrorKind::ConfigReality,
                    fmt::format("block {} {}", cidr.text(),
                                changed ? "has been written since" : "is not empty"));
    }
    if (affinity) {
        TRY(set_state(*affinity, AffinityState::PendingDeletion));
    }
    Result<void> written;
    if (empty) {
        written = repository_.remove(*block);
    } else {
        block->value.set_affinity("", clock_());
        written = repository_.write(*block);
    }
    TRY(written.map_error(gone_is_conflict));
    if (affinity) {
        // Whoever changed it in between has claimed the block anew, and owns it rightly.
        auto removed = repository_.remove(*affinity);
        if (!removed && removed.error().kind != ErrorKind::NotFound &&
            removed.error().kind != ErrorKind::Conflict) {
            return removed;
        }
    }
    return {};
}

} // namespace manx::ipam
