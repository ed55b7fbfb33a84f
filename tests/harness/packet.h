// SPDX-License-Identifier: Apache-2.0
// Packets as expressions: eth() / ip("10.0.0.1", "10.0.0.2") / tcp(1000, 80, kSyn) / payload(10).
// Lengths, protocol numbers and checksums are filled in when the bytes are asked for.
#pragma once

#include "base/ip.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace manx::harness {

using Bytes = std::vector<uint8_t>;

inline constexpr uint8_t kFin = 0x01;
inline constexpr uint8_t kSyn = 0x02;
inline constexpr uint8_t kRst = 0x04;
inline constexpr uint8_t kAck = 0x10;

struct Eth {
    MacAddress dst{{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};
    MacAddress src{{0x02, 0, 0, 0, 0, 0x01}};
    uint16_t type = 0; // 0: of the next layer
};

// Either family, by the addresses.
struct Ip {
    IpAddress src;
    IpAddress dst;
    uint8_t hops = 64;
    uint8_t protocol = 0;  // 0: of the next layer
    bool fragment = false; // with a fragment header in IPv6
    uint32_t fragment_id = 0;
    uint16_t fragment_offset = 0; // bytes, a multiple of 8
    bool more_fragments = false;
    bool options = false;             // IPv6: an empty hop-by-hop header
    bool destination_options = false; // IPv6 only
    uint8_t version = 0;              // 0: the right one

    [[nodiscard]] Ip with_hops(uint8_t value) const;
    [[nodiscard]] Ip with_protocol(uint8_t value) const;
    [[nodiscard]] Ip with_options() const;
    [[nodiscard]] Ip with_fragment(uint32_t id, uint16_t offset, bool more) const;
};

struct Tcp {
    uint16_t src = 0;
    uint16_t dst = 0;
    uint8_t flags = kAck;
};

struct Udp {
    uint16_t src = 0;
    uint16_t dst = 0;
};

struct Sctp {
    uint16_t src = 0;
    uint16_t dst = 0;
};

// ICMP or ICMPv6, by the family of the layer before.
struct Icmp {
    uint8_t type = 0;
    uint8_t code = 0;
    uint16_t id = 0;
    uint16_t sequence = 0;
};

struct Raw {
    Bytes bytes;
};

using Layer = std::variant<Eth, Ip, Tcp, Udp, Sctp, Icmp, Raw>;

class Packet {
public:
    Packet() = default;

    Packet(Layer layer) : layers_{std::move(layer)} {} // NOLINT: eth() / ... starts a packet

    [[nodiscard]] Bytes bytes() const;
    [[nodiscard]] std::string text() const; // one line, and a hex dump
    // What a router makes of it: one hop less, and these addresses on the link.
    [[nodiscard]] Packet forwarded(const MacAddress& dst, const MacAddress& src) const;
    // As forwarded() with the MACs kept: the kernel writes them later.
    [[nodiscard]] Packet hop() const;

    friend Packet operator/(Packet packet, Layer layer) {
        packet.layers_.push_back(std::move(layer));
        return packet;
    }

private:
    std::vector<Layer> layers_;
};

Packet eth();
Ip ip(const std::string& src, const std::string& dst);
Tcp tcp(uint16_t src, uint16_t dst, uint8_t flags = kAck);
Udp udp(uint16_t src, uint16_t dst);
Sctp sctp(uint16_t src, uint16_t dst);
Icmp icmp(uint8_t type, uint8_t code, uint16_t id = 0, uint16_t sequence = 0);
Raw payload(size_t size);
// The start of a packet as an ICMP error carries it: from its IP header on.
Raw quoted(const Packet& packet, size_t transport_bytes = 8);

std::string hex(const Bytes& bytes);

} // namespace manx::harness
