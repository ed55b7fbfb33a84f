// SPDX-License-Identifier: Apache-2.0
// The pseudo-random numbers of Go's math/rand (the additive lagged Fibonacci generator of Mitchell
// and Reeds, x[n] = x[n-607] + x[n-273] mod 2^64) for a given seed. Calico orders the candidate
// blocks of a node by them; with the same numbers, a Manx node and a Calico node of the same name
// choose the same blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace manx::ipam {

__extension__ using uint128 = unsigned __int128; // block numbers: an IPv6 pool holds up to 2^96

// FNV-1 (not 1a), 32 bits: the seed of a node's walk is that of its name.
uint32_t fnv1_32(std::string_view text);

class GoRandom {
public:
    explicit GoRandom(int64_t seed);

    uint64_t uint64();

    uint32_t uint32() { return static_cast<uint32_t>((uint64() & ~(uint64_t{1} << 63)) >> 31); }

    // As big.Int.Rand on a 64-bit machine: uniform in [0, limit); limit > 0. Draws words until one
    // is below the limit.
    uint128 below(uint128 limit);

    static constexpr size_t kLength = 607;
    static constexpr size_t kTap = 273;
    using State = std::array<uint64_t, kLength>;

private:
    State state_{};
    size_t tap_ = 0;
    size_t feed_ = kLength - kTap;
};

} // namespace manx::ipam
