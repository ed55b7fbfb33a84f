// SPDX-License-Identifier: Apache-2.0
#include "base/ip.h"

#include <fmt/format.h>

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace manx {

namespace {

Result<unsigned> parse_length(std::string_view text, unsigned max) {
    unsigned value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size() || text.empty() || value > max) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("prefix length \"{}\": expected a number from 0 to {}", text, max));
    }
    return value;
}

} // namespace

IpAddress IpAddress::v4(uint32_t host_order) {
    IpAddress a;
    a.bytes_[0] = static_cast<uint8_t>(host_order >> 24);
    a.bytes_[1] = static_cast<uint8_t>(host_order >> 16);
    a.bytes_[2] = static_cast<uint8_t>(host_order >> 8);
    a.bytes_[3] = static_cast<uint8_t>(host_order);
    return a;
}

IpAddress IpAddress::from_bytes(std::span<const uint8_t> bytes) {
    IpAddress a;
    a.family_ = bytes.size() == 4 ? Family::V4 : Family::V6;
    std::memcpy(a.bytes_.data(), bytes.data(), bytes.size() == 4 ? 4 : 16);
    return a;
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
    std::string copy(text);
    IpAddress a;
    bool v6 = copy.find(':') != std::string::npos;
    a.family_ = v6 ? Family::V6 : Family::V4;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, copy.c_str(), a.bytes_.data()) != 1) {
        return fail(ErrorKind::ConfigInvalid,
                    fmt::format("\"{}\": expected an IPv4 or IPv6 address", text));
    }
    return a;
}

uint32_t IpAddress::v4_host_order() const {
    return static_cast<uint32_t>(bytes_[0]) << 24 | static_cast<uint32_t>(bytes_[1]) << 16 |
           static_cast<uint32_t>(bytes_[2]) << 8 | bytes_[3];
}

uint32_t IpAddress::v4_network_order() const {
    uint32_t v = 0;
    std::memcpy(&v, bytes_.data(), 4);
    return v;
}

std::string IpAddress::text() const {
    std::array<char, INET6_ADDRSTRLEN> buf{};
    inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), buf.data(), buf.size());
    return buf.data();
}

bool IpAddress::is_link_local() const {
    return is_v4() ? bytes_[0] == 169 && bytes_[1] == 254
                   : bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_loopback() const {
    if (is_v4()) {
        return bytes_[0] == 127;
    }
    IpAddress one;
    one.family_ = Family::V6;
    one.bytes_[15] = 1;
    return *this == one;
}

bool IpAddress::is_multicast() const {
    return is_v4() ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

IpAddress IpAddress::plus(uint64_t offset) const {
    IpAddress a = *this;
    for (size_t i = bytes().size(); i-- > 0 && offset != 0;) {
        uint64_t sum = a.bytes_[i] + (offset & 0xff);
        a.bytes_[i] = static_cast<uint8_t>(sum);
        offset = (offset >> 8) + (sum >> 8);
    }
    return a;
}

uint64_t IpAddress::minus(const IpAddress& other) const {
    std::array<uint8_t, 16> diff{};
    int borrow = 0;
    for (size_t i = bytes().size(); i-- > 0;) {
        int d = bytes_[i] - other.bytes_[i] - borrow;
        borrow = d < 0 ? 1 : 0;
        diff[i] = static_cast<uint8_t>(d + borrow * 256);
    }
    uint64_t v = 0;
    for (size_t i = 0; i < bytes().size(); i++) {
        if (v >> 56 != 0) {
            return UINT64_MAX;
        }
        v = v << 8 | diff[i];
    }
    return v;
}

IpAddress IpAddress::masked(unsigned prefix_length) const {
    IpAddress a = *this;
    for (unsigned i = 0; i < bytes().size(); i++) {
        unsigned keep = prefix_length > i * 8 ? prefix_length - i * 8 : 0;
        if (keep < 8) {
            a.bytes_[i] &= static_cast<uint8_t>(0xff00U >> keep);
        }
    }
    return a;
}

Cidr::Cidr(const IpAddress& address, unsigned prefix_length)
    : address_(address.masked(prefix_length)), length_(prefix_length) {
}

Result<Cidr> Cidr::parse(std::string_view text) {
    TRY_ASSIGN(auto parsed, InterfaceAddress::parse(text));
    return Cidr(parsed.address, parsed.length);
}

bool Cidr::contains(const IpAddress& address) const {
    return address.family() == family() && address.masked(length_) == address_;
}

bool Cidr::contains(const Cidr& other) const {
    return other.length_ >= length_ && contains(other.address_);
}

bool Cidr::overlaps(const Cidr& other) const {
    return contains(other) || other.contains(*this);
}

uint64_t Cidr::size() const {
    unsigned host_bits = address_.bits() - length_;
    return host_bits >= 64 ? UINT64_MAX : uint64_t{1} << host_bits;
}

IpAddress Cidr::last() const {
    std::array<uint8_t, 16> bytes{};
    auto from = address_.bytes();
    for (unsigned i = 0; i < from.size(); i++) {
        unsigned keep = length_ > i * 8 ? length_ - i * 8 : 0;
        bytes[i] = from[i];
        if (keep < 8) {
            bytes[i] |= static_cast<uint8_t>(0xffU >> keep);
        }
    }
    return IpAddress::from_bytes({bytes.data(), from.size()});
}

std::string Cidr::text() const {
    return fmt::format("{}/{}", address_.text(), length_);
}

Result<InterfaceAddress> InterfaceAddress::parse(std::string_view text) {
    auto slash = text.find('/');
    InterfaceAddress a;
    TRY_ASSIGN(a.address, IpAddress::parse(text.substr(0, slash)));
    if (slash == std::string_view::npos) {
        a.length = a.address.bits();
        return a;
    }
    auto length = parse_length(text.substr(slash + 1), a.address.bits());
    if (!length) {
        return Unexpected(length.error().within(fmt::format("\"{}\"", text)));
    }
    a.length = *length;
    return a;
}

std::string InterfaceAddress::text() const {
    return fmt::format("{}/{}", address.text(), length);
}

Result<MacAddress> MacAddress::parse(std::string_view text) {
    MacAddress mac;
    if (text.size() == 17) {
        bool good = true;
        for (size_t i = 0; i < 6 && good; i++) {
            const char* at = text.data() + i * 3;
            auto [end, ec] = std::from_chars(at, at + 2, mac.bytes[i], 16);
            good = ec == std::errc{} && end == at + 2 && (i == 5 || at[2] == ':');
        }
        if (good) {
            return mac;
        }
    }
    return fail(ErrorKind::ConfigInvalid,
                fmt::format("\"{}\": expected a MAC address as aa:bb:cc:dd:ee:ff", text));
}

std::string MacAddress::text() const {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2],
                       bytes[3], bytes[4], bytes[5]);
}

} // namespace manx
