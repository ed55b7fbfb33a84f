// SPDX-License-Identifier: Apache-2.0
#include "agent/ipam/go_random.h"

#include <memory>
#include <vector>

namespace manx::ipam {

namespace {

using State = GoRandom::State;
constexpr size_t kLength = GoRandom::kLength;
constexpr size_t kTap = GoRandom::kTap;
constexpr int64_t kModulus = (int64_t{1} << 31) - 1;

// One step of the minimal standard generator x -> 48271 x mod 2^31-1.
int64_t step(int64_t x) {
    return x * 48271 % kModulus;
}

// The seeding of both the published generator and of its warm-up: after 20 discarded steps, three
// steps make one word, shifted apart by `shift` bits.
State seeded(int64_t seed, unsigned shift) {
    seed %= kModulus;
    if (seed < 0) {
        seed += kModulus;
    }
    int64_t x = seed == 0 ? 89482311 : seed;
    for (int i = 0; i < 20; i++) {
        x = step(x);
    }
    State state{};
    for (auto& word : state) {
        x = step(x);
        auto value = static_cast<uint64_t>(x) << (2 * shift);
        x = step(x);
        value ^= static_cast<uint64_t>(x) << shift;
        x = step(x);
        word = value ^ static_cast<uint64_t>(x);
    }
    return state;
}

// Go mixes every seed with the generator's own state after 7.8e12 steps from seed 1. That many
// steps are not run: the generator is linear, so step n is a fixed combination of the 607 start
// values, whose coefficients are the remainder of X^n by X^607 - X^334 - 1 over the integers
// modulo 2^64 - a few dozen multiplications of polynomials.
using Polynomial = std::vector<uint64_t>;

Polynomial reduce(Polynomial p) {
    for (size_t i = p.size(); i-- > kLength;) {
        p[i - kLength] += p[i];
        p[i - kTap] += p[i];
    }
    p.resize(kLength);
    return p;
}

Polynomial square(const Polynomial& p) {
    Polynomial out(2 * kLength);
    for (size_t i = 0; i < kLength; i++) {
        if (p[i] == 0) {
            continue;
        }
        for (size_t j = 0; j < kLength; j++) {
            out[i + j] += p[i] * p[j];
        }
    }
    return reduce(std::move(out));
}

Polynomial times_x(const Polynomial& p) {
    Polynomial out(kLength + 1);
    for (size_t i = 0; i < kLength; i++) {
        out[i + 1] = p[i];
    }
    return reduce(std::move(out));
}

State warmed_up() {
    constexpr uint64_t kSteps = 7'800'000'000'000;
    State start = seeded(1, 10);
    // The generator walks its vector downwards: the oldest value, x[n-607], is the one that the
    // next step overwrites. In order of age: feed-1, feed-2, ... (cyclic), feed = 607 - 273.
    auto slot = [](uint64_t age) { return (2 * kLength - kTap - 1 - age % kLength) % kLength; };
    std::vector<uint64_t> x(2 * kLength);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = i < kLength ? start[slot(i)] : x[i - kLength] + x[i - kTap];
    }
    Polynomial power(kLength);
    power[0] = 1;
    for (int bit = 63; bit >= 0; bit--) {
        power = square(power);
        if ((kSteps >> bit & 1) != 0) {
            power = times_x(power);
        }
    }
    State out{};
    for (size_t i = 0; i < kLength; i++) {
        uint64_t value = 0; // x[kSteps + i]
        for (size_t j = 0; j < kLength; j++) {
            value += power[j] * x[i + j];
        }
        out[slot(kSteps + i)] = value;
    }
    return out;
}

} // namespace

uint32_t fnv1_32(std::string_view text) {
    uint32_t hash = 2166136261U;
    for (char c : text) {
        hash = hash * 16777619U ^ static_cast<uint8_t>(c);
    }
    return hash;
}

GoRandom::GoRandom(int64_t seed) : state_(seeded(seed, 20)) {
    static const auto mix = std::make_unique<const State>(warmed_up());
    for (size_t i = 0; i < kLength; i++) {
        state_[i] ^= (*mix)[i];
    }
}

uint64_t GoRandom::uint64() {
    tap_ = (tap_ + kLength - 1) % kLength;
    feed_ = (feed_ + kLength - 1) % kLength;
    state_[feed_] += state_[tap_];
    return state_[feed_];
}

uint128 GoRandom::below(uint128 limit) {
    unsigned bits = 0;
    while (bits < 128 && limit >> bits != 0) {
        bits++;
    }
    unsigned words = (bits + 63) / 64;
    uint128 mask = bits == 128 ? ~uint128{0} : (uint128{1} << bits) - 1;
    while (true) {
        uint128 value = 0;
        for (unsigned i = 0; i < words; i++) {
            uint64_t low = uint32();
            uint64_t high = uint32();
            value |= static_cast<uint128>(low | high << 32) << (64 * i);
        }
        value &= mask;
        if (value < limit) {
            return value;
        }
    }
}

} // namespace manx::ipam
