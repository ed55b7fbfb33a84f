// SPDX-License-Identifier: Apache-2.0
// Inside of the Allocator (ipam.h), for the files that implement it: assign.cpp takes addresses,
// claim.cpp finds new blocks for them, release.cpp gives them back, allocator.cpp is the rest.
#pragma once

#include "agent/ipam/claims.h"
#include "agent/ipam/environment.h"
#include "agent/ipam/handles.h"
#include "agent/ipam/ipam.h"
#include "agent/ipam/own_blocks.h"
#include "agent/ipam/repository.h"
#include "agent/ipam/retry.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::ipam {

// An object in the datastore that cannot be read is no fault of a request: it is tried again.
inline Error unreadable_is_reality(Error error) {
    if (error.kind == ErrorKind::ConfigInvalid) {
        error.kind = ErrorKind::ConfigReality;
    }
    return error;
}

// What one request still wants of one family.
struct Want {
    const Request* request = nullptr;
    unsigned missing = 0;
    std::vector<AssignedAddress> got;
    // Of writes whose outcome is not known: may be ours.
    std::vector<AssignedAddress> uncertain;
    bool held_before = false; // `got` was the handle's already
    std::optional<Error> error;

    [[nodiscard]] bool open() const { return missing > 0 && !error; }
};

// Requests of a burst that may take from the same pools.
struct Group {
    Family family = Family::V4;
    std::vector<const api::IpPool*> pools;
    unsigned limit = 0; // of blocks
    std::vector<Want*> wants;

    [[nodiscard]] bool open() const;
    void fail_open(const Error& error);
    [[nodiscard]] const api::IpPool* pool_of(const Cidr& block) const;
};

class Allocator::Impl {
public:
    Impl(datastore::Store& store, BlockOwner owner, Options options);

    Result<void> watch();
    Result<void> warm_up();
    std::vector<Result<Assigned>> auto_assign(std::span<const Request> requests);
    Result<AssignedAddress> assign_ip(const AssignRequest& request);
    std::vector<Result<void>> release_by_handles(std::span<const std::string> handles);
    Result<ReleaseOutcome> release_ips(std::span<const Release> requests);
    Result<std::vector<AssignedAddress>> addresses_of(std::string_view handle);
    Result<void> claim_block(const Cidr& block);
    Result<void> release_block(const Cidr& block, bool require_empty);

    std::mutex mutex_; // one call at a time
    EnvironmentCache environment_;
    OwnBlocks own_;

private:
    // assign.cpp
    void assign_family(const Environment& environment, Family family, std::span<Want> wants);
    void assign_group(const Environment& environment, Group& group);
    void take_from_own(const Environment& environment, Group& group);
    // Takes from the block what it has for the group's wants and writes it. own: through our
    // affinity. False: the block is lost.
    bool take(const Environment& environment, Group& group, Stored<Block>& block, bool own);
    bool reload(Stored<Block>& block, bool own, Group& group);
    void settle(const Cidr& block, std::map<Want*, unsigned>& counted);
    void borrow(const Environment& environment, Group& group);
    void roll_back(const Environment& environment, Want& want);
    Result<void> satisfied_by_handle(Want& want, Family family);

    // claim.cpp: finds a block for the group and claims it. False: there is none. Exhausted: not
    // allowed to.
    Result<bool> claim_new(const Environment& environment, const Group& group);
    Result<bool> claim_unowned(const Environment& environment, const Group& group,
                               std::span<const BlockSummary> blocks);
    [[nodiscard]] Result<std::vector<BlockSummary>>
    block_summaries(const Environment& environment) const;
    // Those in the group's pools, pool by pool from the node's start on.
    std::vector<BlockSummary> in_walk_order(const Group& group,
                                            std::span<const BlockSummary> blocks);
    Result<bool> steal_empty(const Environment& environment, const Group& group,
                             std::span<const BlockSummary> blocks);
    Result<bool> try_claim(const Cidr& cidr); // false: somebody else's
    // ConfigReality: another block lies across it, of which it would give addresses a second time.
    Result<void> check_claimable(const Cidr& cidr) const;

    // release.cpp
    Result<ReleaseOutcome> release(const Environment& environment,
                                   std::span<const Release> requests);
    // Loads the block, lets `change` release from it, writes it; then what follows from that.
    Result<ReleaseOutcome>
    release_in_block(const Environment& environment, const Cidr& cidr,
                     const std::function<Result<ReleaseOutcome>(Block&)>& change);
    void after_release(const Environment& environment, Stored<Block>& block);
    Result<Cidr> block_holding(const Environment& environment, const IpAddress& address);

    datastore::Store& store_;
    BlockOwner owner_;
    Options options_;
    Retry retry_;
    Repository repository_;
    Claims claims_;
    Handles handles_;
    Handles::Memo memo_; // of the request under way
    std::unique_ptr<datastore::Watch> affinity_watch_;
};

} // namespace manx::ipam
