// SPDX-License-Identifier: Apache-2.0
// Network devices: requests that make, change and remove them, and what the kernel says of them.
#pragma once

#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace manx::netlink {

struct LinkInfo {
    uint32_t ifindex = 0;
    std::string name;
    std::string kind; // "veth", "vxlan", ...; empty for hardware
    MacAddress mac;
    uint32_t mtu = 0;
    uint32_t flags = 0;          // IFF_*
    uint32_t group = 0;          // 0: default
    uint32_t peer_ifindex = 0;   // IFLA_LINK: of a veth, the other end
    bool peer_elsewhere = false; // the other end is in another network namespace

    [[nodiscard]] bool up() const;
    [[nodiscard]] bool running() const; // with carrier
};

// Device names are 1 to 15 bytes, without '/', white space or ':'; ConfigInvalid names the field.
Result<void> check_device_name(std::string_view name, std::string_view field);

// The name that a device has now; its number in digits where there is none of that number (any
// more).
std::string device_name(uint32_t ifindex);

struct VethSpec {
    std::string name;
    std::optional<MacAddress> mac; // none: the kernel chooses
    std::string peer_name;
    std::optional<MacAddress> peer_mac;
    int peer_netns = -1; // an fd; -1: this namespace
    uint32_t mtu = 0;    // of both ends; 0: the kernel's default
    uint32_t group = 0;
};

// Both ends are made down, the peer at once where it belongs: moving a device between namespaces
// costs an RCU grace period. EEXIST when either name is taken.
Message create_veth(const VethSpec& spec);

// What of a device is to change; unset fields stay.
struct LinkChange {
    std::optional<bool> up;
    std::optional<uint32_t> mtu;
    std::optional<uint32_t> group;
    // Per-device IPv4 settings by IPV4_DEVCONF_*: the sysctls of net/ipv4/conf/<device>.
    std::vector<std::pair<int, uint32_t>> ipv4_settings;
    // IN6_ADDR_GEN_MODE_*: how the kernel makes the link-local address.
    std::optional<uint8_t> ipv6_address_mode;
};

Message change_link(uint32_t ifindex, const LinkChange& change);
Message delete_link(uint32_t ifindex);
// All devices of a group in one go: the kernel waits once for its readers, not once per device.
Message delete_group(uint32_t group);
// The answer is an RTM_NEWLINK; ENODEV when it is not there.
Message get_link(std::string_view name);
Message get_link(uint32_t ifindex);

// Of an RTM_NEWLINK or RTM_DELLINK message.
Result<LinkInfo> parse_link(const nlmsghdr* header);

// NotFound when it is not there.
Result<LinkInfo> find_link(Socket& socket, std::string_view name);
Result<LinkInfo> find_link(Socket& socket, uint32_t ifindex);
Result<std::vector<LinkInfo>> list_links(Socket& socket);

} // namespace manx::netlink
