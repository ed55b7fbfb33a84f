// SPDX-License-Identifier: Apache-2.0
// Flow keys as the programs build them (bpf/lib/key.tmpl.h): for look-ups by manxctl and tests.
#pragma once

#include "maps/abi/flow.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace manx::maps {

// The side of the key that src has, and the key itself. Addresses in network order; ports in host
// order, for ICMP as maps/abi/flow.h says.
struct FlowKey4 {
    manx_flow4_key key;
    unsigned side;
};

struct FlowKey6 {
    manx_flow6_key key;
    unsigned side;
};

inline FlowKey4 flow_key4(uint32_t src, uint32_t dst, uint8_t protocol, uint16_t src_port,
                          uint16_t dst_port) {
    const bool swap = dst < src || (dst == src && dst_port < src_port);
    manx_flow4_key key{};
    key.addr[swap ? 1 : 0] = src;
    key.addr[swap ? 0 : 1] = dst;
    key.port[swap ? 1 : 0] = src_port;
    key.port[swap ? 0 : 1] = dst_port;
    key.protocol = protocol;
    return {key, swap ? 1U : 0U};
}

inline FlowKey6 flow_key6(std::span<const uint32_t, 4> src, std::span<const uint32_t, 4> dst,
                          uint8_t protocol, uint16_t src_port, uint16_t dst_port) {
    int order = 0; // of dst against src, last word first
    for (size_t i = 4; i-- > 0 && order == 0;) {
        order = dst[i] < src[i] ? -1 : (dst[i] > src[i] ? 1 : 0);
    }
    const bool swap = order < 0 || (order == 0 && dst_port < src_port);
    manx_flow6_key key{};
    std::copy(src.begin(), src.end(), key.addr[swap ? 1 : 0]);
    std::copy(dst.begin(), dst.end(), key.addr[swap ? 0 : 1]);
    key.port[swap ? 1 : 0] = src_port;
    key.port[swap ? 0 : 1] = dst_port;
    key.protocol = protocol;
    return {key, swap ? 1U : 0U};
}

} // namespace manx::maps
