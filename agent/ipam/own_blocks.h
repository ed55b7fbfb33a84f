// SPDX-License-Identifier: Apache-2.0
// The blocks of one owner, as they were last read or written. A copy that is old is harmless: the
// write that relies on it fails, and the block is read again.
//
// Threading: suspect() from any thread; the rest by the allocator that owns this, one call at a
// time.
#pragma once

#include "agent/ipam/claims.h"
#include "agent/ipam/environment.h"
#include "base/result.h"

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace manx::ipam {

class OwnBlocks {
public:
    using Map = std::map<std::string, Stored<Block>>; // by the object's name, as Calico lists them

    OwnBlocks(Repository repository, Claims claims, BlockOwner owner)
        : repository_(repository), claims_(std::move(claims)), owner_(std::move(owner)) {}

    // Lists the affinities and reads the blocks behind them, which repairs what a crash left half
    // done. Empty blocks in pools that no longer select the node are given back, but those that
    // are wanted all the same: a request may name its pools.
    Result<void> load(const Environment& environment, Family family,
                      const std::function<bool(const Cidr&)>& wanted = {});

    [[nodiscard]] bool loaded(Family family) const { return entry(family).loaded; }

    // Affinities that the last load found, and what was claimed since, as far as `of` wants them.
    [[nodiscard]] unsigned count(Family family, const std::function<bool(const Cidr&)>& of) const;

    [[nodiscard]] Map& blocks(Family family) { return entry(family).blocks; }

    [[nodiscard]] Stored<Block>* find(const Cidr& cidr);
    Stored<Block>& put(Stored<Block> block);
    void forget(const Cidr& cidr);
    void clear();

    // The block is to be read again, with its affinity, before it is used next.
    void suspect(const std::string& block_name);
    // Does that for all suspects. Blocks that turn out lost are forgotten.
    Result<void> refresh_suspects();
    // Reads one block through its affinity into the copy. NotFound: lost, and forgotten.
    Result<void> reload(const Cidr& cidr);

    [[nodiscard]] std::vector<Cidr> all() const;

private:
    struct PerFamily {
        Map blocks;
        std::set<Cidr> elsewhere; // owned, but damaged: cannot be read
        bool loaded = false;
    };

    [[nodiscard]] const PerFamily& entry(Family family) const {
        return families_[family == Family::V4 ? 0 : 1];
    }

    PerFamily& entry(Family family) { return families_[family == Family::V4 ? 0 : 1]; }

    Repository repository_;
    Claims claims_;
    BlockOwner owner_;
    std::array<PerFamily, 2> families_;
    mutable std::mutex mutex_; // suspects_
    std::set<std::string> suspects_;
};

} // namespace manx::ipam
