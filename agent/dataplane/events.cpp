// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/events.h"

#include "agent/netlink/link.h"
#include "base/ip.h"
#include "base/log.h"
#include "maps/reason.h"

#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <netinet/in.h>
#include <sys/epoll.h>

#include <array>
#include <cstring>

namespace manx::dataplane {

namespace {

constexpr uint64_t kQuietNs = 60'000'000'000;
constexpr size_t kRemembered = 4096;

int on_sample(void* context, void* data, size_t size) {
    if (size >= sizeof(manx_event)) {
        manx_event event;
        std::memcpy(&event, data, sizeof event);
        static_cast<PacketEvents*>(context)->take(event);
    }
    return 0;
}

IpAddress address_of(const manx_event& event, const uint32_t (&words)[4]) {
    std::array<uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), words, sizeof words);
    return IpAddress::from_bytes({bytes.data(), event.family == 4 ? size_t{4} : size_t{16}});
}

std::string with_port(const IpAddress& address, uint16_t port) {
    return address.is_v4() ? fmt::format("{}:{}", address.text(), port)
                           : fmt::format("[{}]:{}", address.text(), port);
}

} // namespace

std::string flow_text(const manx_event& event) {
    auto src = address_of(event, event.src);
    auto dst = address_of(event, event.dst);
    switch (event.protocol) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case IPPROTO_SCTP:
    case IPPROTO_UDPLITE:
        return fmt::format("{} {} -> {}",
                           event.protocol == IPPROTO_TCP    ? "TCP"
                           : event.protocol == IPPROTO_UDP  ? "UDP"
                           : event.protocol == IPPROTO_SCTP ? "SCTP"
                                                            : "UDPLite",
                           with_port(src, event.src_port), with_port(dst, event.dst_port));
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
        return fmt::format("{} {} -> {} type {} code {}",
                           event.protocol == IPPROTO_ICMP ? "ICMP" : "ICMPv6", src.text(),
                           dst.text(), event.dst_port >> 8, event.dst_port & 0xff);
    default:
        return fmt::format("protocol {} {} -> {}", event.protocol, src.text(), dst.text());
    }
}

Result<std::unique_ptr<PacketEvents>> PacketEvents::create(EventLoop& loop, int map_fd,
                                                           RuleName rule_name) {
    std::unique_ptr<PacketEvents> events(new PacketEvents(std::move(rule_name)));
    events->ring_ = ring_buffer__new(map_fd, on_sample, events.get(), nullptr);
    if (events->ring_ == nullptr) {
        return fail_errno("packet events: ring buffer");
    }
    TRY_ASSIGN(events->source_,
               loop.add_io(ring_buffer__epoll_fd(events->ring_), EPOLLIN,
                           [raw = events.get()](uint32_t) { ring_buffer__consume(raw->ring_); }));
    return events;
}

PacketEvents::~PacketEvents() {
    source_ = {};
    ring_buffer__free(ring_);
}

void PacketEvents::take(const manx_event& event) {
    seen_++;
    auto reason = static_cast<manx_reason>(event.reason);
    // Without the source port: a client that tries again is the same news.
    auto same = event;
    same.src_port = 0;
    auto key = fmt::format("{} {} {} {}", flow_text(same), event.reason, event.ifindex, event.rule);
    auto [last, first] = last_ns_.try_emplace(key, event.time_ns);
    if (!first) {
        if (event.time_ns - last->second < kQuietNs) {
            return;
        }
        last->second = event.time_ns;
    }
    if (last_ns_.size() > kRemembered) {
        last_ns_.clear();
    }
    log::get("packet")->info(
        "{} {} device={} rule=\"{}\"", maps::is_drop(reason) ? "denied" : "logged",
        flow_text(event), netlink::device_name(event.ifindex),
        event.rule == 0 ? std::string(maps::reason_name(reason)) : rule_name_(event.rule));
}

} // namespace manx::dataplane
