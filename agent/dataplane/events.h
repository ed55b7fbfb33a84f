// SPDX-License-Identifier: Apache-2.0
// What BPF reports about single packets (denied ones, and those that a Log rule matched), as log
// lines. BPF limits the rate; here the same flow's line is not repeated within a minute.
//
// Threading: the loop's thread.
#pragma once

#include "base/event_loop.h"
#include "base/result.h"
#include "maps/abi/verdict.h"

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

struct ring_buffer;

namespace manx::dataplane {

// "TCP 10.0.0.1:4000 -> 10.0.0.2:80", "ICMP 10.0.0.1 -> 10.0.0.2 type 8 code 0".
std::string flow_text(const manx_event& event);

class PacketEvents {
public:
    using RuleName = std::function<std::string(uint32_t rule)>;

    // map_fd: of manx_events; stays the caller's.
    static Result<std::unique_ptr<PacketEvents>> create(EventLoop& loop, int map_fd,
                                                        RuleName rule_name);
    PacketEvents(const PacketEvents&) = delete;
    PacketEvents& operator=(const PacketEvents&) = delete;
    ~PacketEvents();

    [[nodiscard]] uint64_t seen() const { return seen_; }

    // One event, as the ring buffer gives it.
    void take(const manx_event& event);

private:
    explicit PacketEvents(RuleName rule_name) : rule_name_(std::move(rule_name)) {}

    RuleName rule_name_;
    ring_buffer* ring_ = nullptr;
    EventSource source_;
    uint64_t seen_ = 0;
    std::unordered_map<std::string, uint64_t> last_ns_; // by line
};

} // namespace manx::dataplane
