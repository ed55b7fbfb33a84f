// SPDX-License-Identifier: Apache-2.0
// Addresses of devices, both families.
#pragma once

#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <vector>

namespace manx::netlink {

struct AddressInfo {
    uint32_t ifindex = 0;
    InterfaceAddress address;
    uint8_t scope = 0;  // RT_SCOPE_*
    uint32_t flags = 0; // IFA_F_*
};

// IPv6 addresses are usable at once: no duplicate address detection. An address that is there
// already is no error.
Message add_address(uint32_t ifindex, const InterfaceAddress& address);
Message delete_address(uint32_t ifindex, const InterfaceAddress& address);

Result<AddressInfo> parse_address(const nlmsghdr* header);
// ifindex 0: of all devices. Both families.
Result<std::vector<AddressInfo>> list_addresses(Socket& socket, uint32_t ifindex = 0);

} // namespace manx::netlink
