// SPDX-License-Identifier: Apache-2.0
// IP addresses, prefixes and MAC addresses of both families. Bytes are kept in network order;
// arithmetic and comparison read them as one big-endian number, so order is numeric order.
#pragma once

#include "base/result.h"

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace manx {

enum class Family : uint8_t { V4 = 4, V6 = 6 };

inline constexpr std::array<Family, 2> kFamilies{Family::V4, Family::V6};

constexpr unsigned address_bits(Family family) {
    return family == Family::V4 ? 32 : 128;
}

class IpAddress {
public:
    IpAddress() = default; // 0.0.0.0
    static IpAddress v4(uint32_t host_order);
    // 4 or 16 bytes, network order.
    static IpAddress from_bytes(std::span<const uint8_t> bytes);
    // Accepts what inet_pton does (no zone, no prefix length).
    static Result<IpAddress> parse(std::string_view text);

    [[nodiscard]] Family family() const { return family_; }

    [[nodiscard]] bool is_v4() const { return family_ == Family::V4; }

    [[nodiscard]] unsigned bits() const { return address_bits(family_); }

    // 4 or 16 bytes, network order.
    [[nodiscard]] std::span<const uint8_t> bytes() const {
        return {bytes_.data(), is_v4() ? size_t{4} : size_t{16}};
    }

    [[nodiscard]] uint32_t v4_host_order() const;    // requires is_v4()
    [[nodiscard]] uint32_t v4_network_order() const; // as in a __be32; requires is_v4()
    [[nodiscard]] std::string text() const;          // canonical: RFC 5952 for IPv6
    [[nodiscard]] bool is_link_local() const;
    [[nodiscard]] bool is_loopback() const;
    [[nodiscard]] bool is_multicast() const;
    // This address plus an offset; wraps at the end of the family's space.
    [[nodiscard]] IpAddress plus(uint64_t offset) const;
    // Distance other -> this, saturated at 2^64-1; requires the same family and this >= other.
    [[nodiscard]] uint64_t minus(const IpAddress& other) const;
    [[nodiscard]] IpAddress masked(unsigned prefix_length) const;

    auto operator<=>(const IpAddress&) const = default;

private:
    Family family_ = Family::V4;
    std::array<uint8_t, 16> bytes_{};
};

class Cidr {
public:
    Cidr() = default;
    // Masks host bits away.
    Cidr(const IpAddress& address, unsigned prefix_length);

    static Cidr host(const IpAddress& address) { return {address, address.bits()}; }

    // "a.b.c.d/n" or "x::y/n"; a bare address is a host prefix. Host bits are masked away, as
    // Calico does with CIDRs in its objects.
    static Result<Cidr> parse(std::string_view text);

    [[nodiscard]] const IpAddress& address() const { return address_; }

    [[nodiscard]] unsigned length() const { return length_; }

    [[nodiscard]] Family family() const { return address_.family(); }

    [[nodiscard]] bool is_host() const { return length_ == address_.bits(); }

    [[nodiscard]] bool contains(const IpAddress& address) const;
    [[nodiscard]] bool contains(const Cidr& other) const;
    [[nodiscard]] bool overlaps(const Cidr& other) const;
    // Number of addresses, saturated at 2^64-1.
    [[nodiscard]] uint64_t size() const;
    [[nodiscard]] IpAddress last() const;
    [[nodiscard]] std::string text() const; // always with "/n"

    auto operator<=>(const Cidr&) const = default;

private:
    IpAddress address_;
    unsigned length_ = 0;
};

// An address with the prefix length of its subnet, host bits kept: "10.0.0.5/24".
struct InterfaceAddress {
    IpAddress address;
    unsigned length = 0;

    static Result<InterfaceAddress> parse(std::string_view text);

    [[nodiscard]] Cidr subnet() const { return {address, length}; }

    [[nodiscard]] std::string text() const;
    auto operator<=>(const InterfaceAddress&) const = default;
};

struct MacAddress {
    std::array<uint8_t, 6> bytes{};

    static Result<MacAddress> parse(std::string_view text);
    [[nodiscard]] std::string text() const; // lower case, colons
    auto operator<=>(const MacAddress&) const = default;
};

} // namespace manx

template <>
struct std::hash<manx::IpAddress> {
    size_t operator()(const manx::IpAddress& a) const noexcept {
        uint64_t h = 14695981039346656037ULL ^ static_cast<uint64_t>(a.family());
        for (uint8_t b : a.bytes()) {
            h = (h ^ b) * 1099511628211ULL;
        }
        return h;
    }
};

template <>
struct std::hash<manx::Cidr> {
    size_t operator()(const manx::Cidr& c) const noexcept {
        return std::hash<manx::IpAddress>{}(c.address()) * 31 + c.length();
    }
};
