// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/walk.h"

#include <algorithm>

namespace manx::ipam {

namespace {

uint128 number(const IpAddress& address) {
    uint128 value = 0;
    for (uint8_t byte : address.bytes()) {
        value = value << 8 | byte;
    }
    return value;
}

IpAddress address_of(Family family, uint128 value) {
    std::array<uint8_t, 16> bytes{};
    size_t size = family == Family::V4 ? 4 : 16;
    for (size_t i = size; i-- > 0;) {
        bytes[i] = static_cast<uint8_t>(value);
        value >>= 8;
    }
    return IpAddress::from_bytes({bytes.data(), size});
}

} // namespace

BlockWalk::BlockWalk(const Cidr& pool, unsigned block_size, std::string_view node,
                     int64_t clock_seed)
    : pool_(pool), block_size_(block_size),
      count_(block_size < pool.length() || block_size > address_bits(pool.family()) ||
                     block_size - pool.length() >= 128
                 ? 0
                 : uint128{1} << (block_size - pool.length())) {
    bool single = block_size == address_bits(pool.family());
    GoRandom random(single ? clock_seed : static_cast<int64_t>(fnv1_32(node)));
    start_ = count_ == 0 ? 0 : random.below(count_);
}

Cidr BlockWalk::at(uint128 index) const {
    unsigned shift = address_bits(pool_.family()) - block_size_;
    return {address_of(pool_.family(), number(pool_.address()) + (index << shift)), block_size_};
}

uint128 BlockWalk::index_of(const IpAddress& address) const {
    unsigned shift = address_bits(pool_.family()) - block_size_;
    return (number(address) - number(pool_.address())) >> shift;
}

uint128 BlockWalk::distance(const Cidr& block) const {
    return count_ == 0 ? 0 : (index_of(block.address()) + count_ - start_) % count_;
}

std::optional<Cidr> BlockWalk::next(std::span<const Cidr> reservations) {
    while (walked_ < count_) {
        uint128 index = (start_ + walked_) % count_;
        Cidr candidate = at(index);
        // A wide reservation is jumped over in one step: an IPv6 pool may have 2^64 blocks in it.
        auto wide = std::find_if(reservations.begin(), reservations.end(),
                                 [&](const Cidr& r) { return r.contains(candidate); });
        if (wide != reservations.end()) {
            IpAddress end = wide->contains(pool_) ? pool_.last() : wide->last();
            walked_ += index_of(end) - index + 1;
            continue;
        }
        walked_++;
        if (!fully_reserved(candidate, reservations)) {
            return candidate;
        }
    }
    return std::nullopt;
}

bool fully_reserved(const Cidr& block, std::span<const Cidr> reservations) {
    std::vector<Cidr> inside;
    for (const Cidr& r : reservations) {
        if (r.contains(block)) {
            return true;
        }
        if (block.contains(r)) {
            inside.push_back(r);
        }
    }
    std::sort(inside.begin(), inside.end());
    IpAddress next = block.address();
    for (const Cidr& r : inside) {
        if (r.address() > next) {
            return false;
        }
        if (r.last() >= next) {
            if (r.last() == block.last()) {
                return true;
            }
            next = r.last().plus(1);
        }
    }
    return false;
}

} // namespace manx::ipam
