// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/protocol.h"

namespace manx::cni {

namespace {

void put_u32(std::string& out, uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) {
        out.push_back(static_cast<char>((value >> shift) & 0xff));
    }
}

uint32_t get_u32(std::string_view bytes) {
    uint32_t value = 0;
    for (size_t i = 4; i-- > 0;) {
        value = value << 8 | static_cast<uint8_t>(bytes[i]);
    }
    return value;
}

} // namespace

std::string encode_header(const WireHeader& header) {
    std::string out;
    put_u32(out, header.first);
    put_u32(out, header.length);
    return out;
}

WireHeader decode_header(std::string_view eight_bytes) {
    return {get_u32(eight_bytes), get_u32(eight_bytes.substr(4))};
}

std::string encode_body(const WireRequest& request) {
    std::string out;
    for (const auto& [name, value] : request.environment) {
        out += name;
        out += '=';
        out += value;
        out += '\0';
    }
    out += '\0';
    out += request.input;
    return out;
}

std::optional<WireRequest> decode_body(std::string_view body) {
    WireRequest request;
    while (true) {
        const size_t end = body.find('\0');
        if (end == std::string_view::npos) {
            return std::nullopt;
        }
        const std::string_view entry = body.substr(0, end);
        body.remove_prefix(end + 1);
        if (entry.empty()) {
            request.input = body;
            return request;
        }
        const size_t equals = entry.find('=');
        if (equals == std::string_view::npos) {
            return std::nullopt;
        }
        request.environment.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
    }
}

} // namespace manx::cni
