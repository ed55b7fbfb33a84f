// SPDX-License-Identifier: Apache-2.0
// Neighbour entries: which MAC address an IP address has on a device.
#pragma once

#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <vector>

namespace manx::netlink {

struct NeighborInfo {
    uint32_t ifindex = 0;
    IpAddress address;
    MacAddress mac;
    uint16_t state = 0; // NUD_*

    [[nodiscard]] bool permanent() const;
    [[nodiscard]] bool usable() const; // the MAC may be used to send
};

// An entry that is never asked for on the wire and never ages.
Message set_permanent_neighbor(uint32_t ifindex, const IpAddress& address, const MacAddress& mac);
Message delete_neighbor(uint32_t ifindex, const IpAddress& address); // not there: no error

Result<NeighborInfo> parse_neighbor(const nlmsghdr* header);
// ifindex 0: of all devices.
Result<std::vector<NeighborInfo>> list_neighbors(Socket& socket, uint32_t ifindex = 0);

} // namespace manx::netlink
