// SPDX-License-Identifier: Apache-2.0
// The order in which a node looks for a block in a pool: all block CIDRs, from a start that depends
// on the node's name, wrapping once. The order only keeps nodes out of each other's way; that no
// block has two owners is the work of compare-and-swap.
#pragma once

#include "agent/ipam/go_random.h"
#include "base/ip.h"

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace manx::ipam {

class BlockWalk {
public:
    // block_size: prefix length of the blocks, not shorter than the pool's. clock_seed takes the
    // place of the name's hash for blocks of one address, which would else be fought over.
    BlockWalk(const Cidr& pool, unsigned block_size, std::string_view node, int64_t clock_seed);

    // The next candidate that is not fully covered by the reservations; empty after one round.
    std::optional<Cidr> next(std::span<const Cidr> reservations);

    // How far from the start of the walk a block is; for putting existing blocks into its order.
    [[nodiscard]] uint128 distance(const Cidr& block) const;

private:
    [[nodiscard]] Cidr at(uint128 index) const;
    [[nodiscard]] uint128 index_of(const IpAddress& address) const;

    Cidr pool_;
    unsigned block_size_;
    uint128 count_; // blocks in the pool
    uint128 start_;
    uint128 walked_ = 0;
};

// True if every address of `block` lies in one of the reservations.
bool fully_reserved(const Cidr& block, std::span<const Cidr> reservations);

// The block of that size which holds the address.
inline Cidr block_of(const IpAddress& address, unsigned block_size) {
    return {address, block_size};
}

} // namespace manx::ipam
