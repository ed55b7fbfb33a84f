// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/packet.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace manx::harness {

namespace {

constexpr uint8_t kProtoIcmp = 1;
constexpr uint8_t kProtoTcp = 6;
constexpr uint8_t kProtoUdp = 17;
constexpr uint8_t kProtoFragment = 44;
constexpr uint8_t kProtoIcmp6 = 58;
constexpr uint8_t kProtoDestination = 60;
constexpr uint8_t kProtoSctp = 132;

void put16(Bytes& out, uint32_t value) {
    out.push_back(static_cast<uint8_t>(value >> 8));
    out.push_back(static_cast<uint8_t>(value));
}

void put32(Bytes& out, uint32_t value) {
    put16(out, value >> 16);
    put16(out, value);
}

void set16(Bytes& out, size_t at, uint32_t value) {
    out.at(at) = static_cast<uint8_t>(value >> 8);
    out.at(at + 1) = static_cast<uint8_t>(value);
}

void append(Bytes& out, std::span<const uint8_t> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}

uint32_t sum16(std::span<const uint8_t> bytes) {
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes.size(); i++) {
        sum += i % 2 == 0 ? static_cast<uint32_t>(bytes[i]) << 8 : bytes[i];
    }
    return sum;
}

uint16_t fold(uint32_t sum) {
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

// Of a transport header with its payload, below these addresses.
uint16_t transport_checksum(const Ip& ip, uint8_t protocol, const Bytes& bytes, bool pseudo) {
    uint32_t sum = sum16(bytes);
    if (pseudo) {
        sum += sum16(ip.src.bytes()) + sum16(ip.dst.bytes()) + protocol +
               static_cast<uint32_t>(bytes.size());
    }
    return fold(sum);
}

uint8_t protocol_of(const Layer& layer, const Ip& ip) {
    if (std::holds_alternative<Tcp>(layer)) {
        return kProtoTcp;
    }
    if (std::holds_alternative<Udp>(layer)) {
        return kProtoUdp;
    }
    if (std::holds_alternative<Sctp>(layer)) {
        return kProtoSctp;
    }
    if (std::holds_alternative<Icmp>(layer)) {
        return ip.src.is_v4() ? kProtoIcmp : kProtoIcmp6;
    }
    return 255;
}

Bytes ip4_bytes(const Ip& ip, uint8_t protocol, const Bytes& rest) {
    Bytes out;
    const size_t header = ip.options ? 24 : 20;
    out.push_back(static_cast<uint8_t>((ip.version != 0 ? ip.version : 4) << 4 | header / 4));
    out.push_back(0);
    put16(out, static_cast<uint32_t>(header + rest.size()));
    put16(out, ip.fragment ? ip.fragment_id : 0x1234);
    put16(out, ip.fragment ? (ip.more_fragments ? 0x2000U : 0U) | ip.fragment_offset / 8U : 0x4000);
    out.push_back(ip.hops);
    out.push_back(protocol);
    put16(out, 0);
    append(out, ip.src.bytes());
    append(out, ip.dst.bytes());
    if (ip.options) {
        put32(out, 0x94040000); // router alert
    }
    set16(out, 10, fold(sum16(out)));
    append(out, rest);
    return out;
}

Bytes ip6_bytes(const Ip& ip, uint8_t protocol, const Bytes& rest) {
    Bytes extensions;
    uint8_t next = protocol;
    if (ip.fragment) {
        Bytes header{next, 0};
        put16(header, ip.fragment_offset | (ip.more_fragments ? 1U : 0U));
        put32(header, ip.fragment_id);
        extensions = header;
        next = kProtoFragment;
    }
    for (const auto& [present, number] : {std::pair{ip.destination_options, kProtoDestination},
                                          std::pair{ip.options, uint8_t{0}}}) {
        if (present) {
            Bytes header{next, 0, 1, 4, 0, 0, 0, 0}; // PadN
            append(header, extensions);
            extensions = header;
            next = number;
        }
    }
    Bytes out;
    put32(out, static_cast<uint32_t>(ip.version != 0 ? ip.version : 6) << 28);
    put16(out, static_cast<uint32_t>(extensions.size() + rest.size()));
    out.push_back(next);
    out.push_back(ip.hops);
    append(out, ip.src.bytes());
    append(out, ip.dst.bytes());
    append(out, extensions);
    append(out, rest);
    return out;
}

struct Serializer {
    const Ip* ip; // that the layer is below of, or null
    const Layer* next;
    Bytes rest;

    Bytes operator()(const Eth& eth) const {
        Bytes out;
        append(out, eth.dst.bytes);
        append(out, eth.src.bytes);
        uint16_t type = eth.type;
        if (type == 0) {
            const auto* below = next != nullptr ? std::get_if<Ip>(next) : nullptr;
            type = below == nullptr ? 0x88b5 : (below->src.is_v4() ? 0x0800 : 0x86dd);
        }
        put16(out, type);
        append(out, rest);
        return out;
    }

    Bytes operator()(const Ip& self) const {
        uint8_t protocol = self.protocol;
        if (protocol == 0) {
            protocol = next != nullptr ? protocol_of(*next, self) : 255;
        }
        return self.src.is_v4() ? ip4_bytes(self, protocol, rest) : ip6_bytes(self, protocol, rest);
    }

    Bytes operator()(const Tcp& self) const {
        Bytes out;
        put16(out, self.src);
        put16(out, self.dst);
        put32(out, 1000);
        put32(out, 2000);
        out.push_back(5 << 4);
        out.push_back(self.flags);
        put16(out, 0xffff);
        put32(out, 0);
        append(out, rest);
        return checksummed(out, kProtoTcp, 16, true);
    }

    Bytes operator()(const Udp& self) const {
        Bytes out;
        put16(out, self.src);
        put16(out, self.dst);
        put16(out, static_cast<uint32_t>(8 + rest.size()));
        put16(out, 0);
        append(out, rest);
        return checksummed(out, kProtoUdp, 6, true);
    }

    Bytes operator()(const Sctp& self) const {
        Bytes out;
        put16(out, self.src);
        put16(out, self.dst);
        put32(out, 77);
        put32(out, 0);
        append(out, rest);
        return out;
    }

    Bytes operator()(const Icmp& self) const {
        Bytes out{self.type, self.code, 0, 0};
        put16(out, self.id);
        put16(out, self.sequence);
        append(out, rest);
        const bool six = ip != nullptr && !ip->src.is_v4();
        return checksummed(out, six ? kProtoIcmp6 : kProtoIcmp, 2, six);
    }

    Bytes operator()(const Raw& self) const {
        Bytes out = self.bytes;
        append(out, rest);
        return out;
    }

    [[nodiscard]] Bytes checksummed(Bytes out, uint8_t protocol, size_t at, bool pseudo) const {
        if (ip != nullptr && !(ip->fragment && ip->fragment_offset != 0)) {
            set16(out, at, transport_checksum(*ip, protocol, out, pseudo));
        }
        return out;
    }
};

} // namespace

Ip Ip::with_hops(uint8_t value) const {
    Ip copy = *this;
    copy.hops = value;
    return copy;
}

Ip Ip::with_protocol(uint8_t value) const {
    Ip copy = *this;
    copy.protocol = value;
    return copy;
}

Ip Ip::with_options() const {
    Ip copy = *this;
    copy.options = true;
    return copy;
}

Ip Ip::with_fragment(uint32_t id, uint16_t offset, bool more) const {
    Ip copy = *this;
    copy.fragment = true;
    copy.fragment_id = id;
    copy.fragment_offset = offset;
    copy.more_fragments = more;
    return copy;
}

Bytes Packet::bytes() const {
    Bytes out;
    for (size_t i = layers_.size(); i-- > 0;) {
        const Ip* above = i > 0 ? std::get_if<Ip>(&layers_[i - 1]) : nullptr;
        const Layer* next = i + 1 < layers_.size() ? &layers_[i + 1] : nullptr;
        out = std::visit(Serializer{above, next, out}, layers_[i]);
    }
    return out;
}

Packet Packet::forwarded(const MacAddress& dst, const MacAddress& src) const {
    Packet copy = hop();
    auto& eth_layer = std::get<Eth>(copy.layers_.at(0));
    eth_layer.dst = dst;
    eth_layer.src = src;
    return copy;
}

Packet Packet::hop() const {
    Packet copy = *this;
    std::get<Ip>(copy.layers_.at(1)).hops--;
    return copy;
}

std::string Packet::text() const {
    std::string out;
    for (const Layer& layer : layers_) {
        if (const auto* ip_layer = std::get_if<Ip>(&layer)) {
            out += fmt::format("ip {} > {} hops {} ", ip_layer->src.text(), ip_layer->dst.text(),
                               ip_layer->hops);
        } else if (const auto* tcp_layer = std::get_if<Tcp>(&layer)) {
            out += fmt::format("tcp {} > {} flags {:#x} ", tcp_layer->src, tcp_layer->dst,
                               tcp_layer->flags);
        } else if (const auto* udp_layer = std::get_if<Udp>(&layer)) {
            out += fmt::format("udp {} > {} ", udp_layer->src, udp_layer->dst);
        } else if (const auto* icmp_layer = std::get_if<Icmp>(&layer)) {
            out += fmt::format("icmp {}/{} id {} ", icmp_layer->type, icmp_layer->code,
                               icmp_layer->id);
        }
    }
    return out + "\n" + hex(bytes());
}

Packet eth() {
    return Packet(Eth{});
}

Ip ip(const std::string& src, const std::string& dst) {
    const Result<IpAddress> from = IpAddress::parse(src);
    const Result<IpAddress> to = IpAddress::parse(dst);
    if (!from || !to) {
        throw std::runtime_error("not an address: " + src + " or " + dst);
    }
    Ip layer;
    layer.src = *from;
    layer.dst = *to;
    return layer;
}

Tcp tcp(uint16_t src, uint16_t dst, uint8_t flags) {
    return {.src = src, .dst = dst, .flags = flags};
}

Udp udp(uint16_t src, uint16_t dst) {
    return {.src = src, .dst = dst};
}

Sctp sctp(uint16_t src, uint16_t dst) {
    return {.src = src, .dst = dst};
}

Icmp icmp(uint8_t type, uint8_t code, uint16_t id, uint16_t sequence) {
    return {.type = type, .code = code, .id = id, .sequence = sequence};
}

Raw payload(size_t size) {
    Raw raw;
    for (size_t i = 0; i < size; i++) {
        raw.bytes.push_back(static_cast<uint8_t>('a' + i % 26));
    }
    return raw;
}

Raw quoted(const Packet& packet, size_t transport_bytes) {
    const Bytes whole = packet.bytes();
    const size_t header = whole.at(12) == 0x08 ? 20 : 40;
    const size_t end = std::min(whole.size(), 14 + header + transport_bytes);
    return {Bytes(whole.begin() + 14, whole.begin() + static_cast<ptrdiff_t>(end))};
}

std::string hex(const Bytes& bytes) {
    std::string out;
    for (size_t i = 0; i < bytes.size(); i++) {
        out += fmt::format("{:02x}{}", bytes[i], i % 16 == 15 ? "\n" : (i % 2 == 1 ? " " : ""));
    }
    return out;
}

} // namespace manx::harness
