// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/flows.h"

#include "maps/flow_key.h"
#include "maps/map.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>

namespace manx::dataplane {

namespace {

constexpr uint16_t kNoPort = 0xffff; // the other side of ICMP that is no echo

bool is_icmp(uint8_t protocol) {
    return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

template <typename Key>
IpAddress address_of(const Key& key, size_t side) {
    std::array<uint8_t, sizeof(key.addr[0])> bytes{};
    std::memcpy(bytes.data(), &key.addr[side], bytes.size());
    return IpAddress::from_bytes(bytes);
}

bool is_closed(const manx_flow& entry) {
    const int any = entry.way[0].flags | entry.way[1].flags;
    const int both = entry.way[0].flags & entry.way[1].flags;
    return (any & MANX_WAY_RST) != 0 || (both & MANX_WAY_FIN) != 0;
}

// The programs' clock.
uint32_t ticks_now() {
    timespec now{};
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now); // cannot fail with this clock
    const uint64_t ns =
        static_cast<uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(now.tv_nsec);
    return static_cast<uint32_t>(ns >> MANX_TICK_SHIFT);
}

template <typename Key>
LiveFlow read_flow(const Key& key, const manx_flow& entry, bool live) {
    const size_t from = (entry.flags & MANX_FLOW_FORWARD_IS_0) != 0 ? 0 : 1;
    LiveFlow out;
    out.from = address_of(key, from);
    out.to = address_of(key, 1 - from);
    out.protocol = key.protocol;
    out.source_port = key.port[from];
    out.port = key.port[1 - from];
    if (is_icmp(key.protocol)) {
        const uint16_t request = (key.protocol == IPPROTO_ICMP ? 8 : 128) << 8;
        out.port = out.port == kNoPort ? out.source_port : request;
    }
    out.answered = live || (entry.flags & MANX_FLOW_ANSWERED) != 0;
    out.closed = is_closed(entry);
    // Another CPU's clock may be a little ahead.
    const auto idle = static_cast<int32_t>(ticks_now() - entry.last_seen);
    out.idle = std::chrono::seconds(std::max(idle, 0) / MANX_TICKS_PER_S);
    out.entry = entry;
    return out;
}

template <typename Key>
Result<void> each_of(const std::string& bpffs, const maps::Table<Key, manx_flow>& table, bool live,
                     const std::function<void(const LiveFlow&)>& fn) {
    TRY_ASSIGN(const auto map, maps::open_pinned(bpffs, table));
    return map.for_each(
        [&](const Key& key, const manx_flow& entry) { fn(read_flow(key, entry, live)); });
}

template <typename Key>
Result<bool> has(const std::string& bpffs, const maps::Table<Key, manx_flow>& table,
                 const Key& key) {
    TRY_ASSIGN(const auto map, maps::open_pinned(bpffs, table));
    TRY_ASSIGN(const auto found, map.lookup(key));
    return found.has_value();
}

std::array<uint32_t, 4> words_of(const IpAddress& address) {
    std::array<uint32_t, 4> out{};
    std::memcpy(out.data(), address.bytes().data(), sizeof(out));
    return out;
}

} // namespace

Result<void> each_flow(const std::string& bpffs, const std::function<void(const LiveFlow&)>& fn) {
    TRY(each_of(bpffs, maps::kFlow4, true, fn));
    TRY(each_of(bpffs, maps::kFlow4New, false, fn));
    TRY(each_of(bpffs, maps::kFlow6, true, fn));
    return each_of(bpffs, maps::kFlow6New, false, fn);
}

Result<bool> flow_exists(const std::string& bpffs, const IpAddress& from, const IpAddress& to,
                         uint8_t protocol, uint16_t source_port, uint16_t port) {
    uint16_t other = port;
    if (is_icmp(protocol)) {
        const uint8_t request = protocol == IPPROTO_ICMP ? 8 : 128;
        const bool echo = port >> 8 == request;
        source_port = echo ? source_port : port;
        other = echo ? 0 : kNoPort;
    }
    if (from.is_v4()) {
        const auto key = maps::flow_key4(from.v4_network_order(), to.v4_network_order(), protocol,
                                         source_port, other)
                             .key;
        TRY_ASSIGN(const bool live, has(bpffs, maps::kFlow4, key));
        return live ? Result<bool>(true) : has(bpffs, maps::kFlow4New, key);
    }
    const auto key =
        maps::flow_key6(words_of(from), words_of(to), protocol, source_port, other).key;
    TRY_ASSIGN(const bool live, has(bpffs, maps::kFlow6, key));
    return live ? Result<bool>(true) : has(bpffs, maps::kFlow6New, key);
}

} // namespace manx::dataplane
