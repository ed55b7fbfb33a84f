// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/events.h"
#include "base/ip.h"

#include <gtest/gtest.h>

#include <cstring>

namespace manx::dataplane {
namespace {

manx_event event_of(const char* src, const char* dst, uint8_t protocol, uint16_t dst_port) {
    manx_event event{};
    auto from = *IpAddress::parse(src);
    auto to = *IpAddress::parse(dst);
    std::memcpy(event.src, from.bytes().data(), from.bytes().size());
    std::memcpy(event.dst, to.bytes().data(), to.bytes().size());
    event.family = from.is_v4() ? 4 : 6;
    event.protocol = protocol;
    event.src_port = 4000;
    event.dst_port = dst_port;
    return event;
}

TEST(Events, FlowsReadAsAnOperatorWritesThem) {
    EXPECT_EQ(flow_text(event_of("10.0.0.1", "10.0.0.2", 6, 80)),
              "TCP 10.0.0.1:4000 -> 10.0.0.2:80");
    EXPECT_EQ(flow_text(event_of("2001:db8::1", "2001:db8::2", 17, 53)),
              "UDP [2001:db8::1]:4000 -> [2001:db8::2]:53");
    EXPECT_EQ(flow_text(event_of("10.0.0.1", "10.0.0.2", 1, 8 << 8)),
              "ICMP 10.0.0.1 -> 10.0.0.2 type 8 code 0");
    EXPECT_EQ(flow_text(event_of("10.0.0.1", "10.0.0.2", 89, 0)),
              "protocol 89 10.0.0.1 -> 10.0.0.2");
}

} // namespace
} // namespace manx::dataplane
