// SPDX-License-Identifier: Apache-2.0
// The flow tables, read for people: each entry in the direction that opened it.
#pragma once

#include "base/ip.h"
#include "base/result.h"
#include "maps/abi/flow.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace manx::dataplane {

struct LiveFlow {
    IpAddress from; // the side that opened it
    IpAddress to;
    uint8_t protocol = 0;
    uint16_t source_port = 0;
    uint16_t port = 0;     // as policy sees it; ICMP: type << 8 | code
    bool answered = false; // in the table of live flows, or with an answer
    bool closed = false;   // kept for late packets only
    std::chrono::seconds idle{};
    manx_flow entry{};
};

// Every entry of manx_flow4, manx_flow6, manx_flow4_new and manx_flow6_new pinned below bpffs.
// Flows that come and go meanwhile may be missed.
Result<void> each_flow(const std::string& bpffs, const std::function<void(const LiveFlow&)>& fn);

// Whether there is an entry for packets of this flow, of either direction.
Result<bool> flow_exists(const std::string& bpffs, const IpAddress& from, const IpAddress& to,
                         uint8_t protocol, uint16_t source_port, uint16_t port);

} // namespace manx::dataplane
