// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/address.h"

#include <netlink/attr.h>

#include <sys/socket.h>

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>

namespace manx::netlink {

namespace {

Message request(uint16_t type, uint16_t flags, uint32_t ifindex, const InterfaceAddress& address,
                const char* verb) {
    Message message(type, flags, std::string(verb) + " address " + address.text());
    ifaddrmsg fixed{};
    fixed.ifa_family = address.address.is_v4() ? AF_INET : AF_INET6;
    fixed.ifa_prefixlen = static_cast<uint8_t>(address.length);
    fixed.ifa_index = ifindex;
    if (address.address.is_link_local()) {
        fixed.ifa_scope = RT_SCOPE_LINK;
    }
    message.append(fixed);
    message.put_address(IFA_LOCAL, address.address);
    message.put_address(IFA_ADDRESS, address.address);
    return message;
}

} // namespace

Message add_address(uint32_t ifindex, const InterfaceAddress& address) {
    Message message = request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, ifindex, address, "add");
    if (!address.address.is_v4()) {
        message.put_u32(IFA_FLAGS, IFA_F_NODAD);
    }
    message.tolerate({EEXIST});
    return message;
}

Message delete_address(uint32_t ifindex, const InterfaceAddress& address) {
    Message message = request(RTM_DELADDR, 0, ifindex, address, "remove");
    message.tolerate({EADDRNOTAVAIL});
    return message;
}

Result<AddressInfo> parse_address(const nlmsghdr* header) {
    std::array<nlattr*, IFA_MAX + 1> attributes{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(ifaddrmsg), attributes.data(), IFA_MAX,
                    nullptr) < 0) {
        return fail(ErrorKind::Library, "address message that does not parse");
    }
    const auto* fixed = static_cast<const ifaddrmsg*>(nlmsg_data(header));
    // Of a point-to-point device IFA_ADDRESS is the other side.
    const nlattr* own =
        attributes[IFA_LOCAL] != nullptr ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
    if (own == nullptr || (nla_len(own) != 4 && nla_len(own) != 16)) {
        return fail(ErrorKind::Library, "address message without an address");
    }
    AddressInfo info;
    info.ifindex = fixed->ifa_index;
    info.address.address = IpAddress::from_bytes(
        {static_cast<const uint8_t*>(nla_data(own)), static_cast<size_t>(nla_len(own))});
    info.address.length = fixed->ifa_prefixlen;
    info.scope = fixed->ifa_scope;
    info.flags =
        attributes[IFA_FLAGS] != nullptr ? nla_get_u32(attributes[IFA_FLAGS]) : fixed->ifa_flags;
    return info;
}

Result<std::vector<AddressInfo>> list_addresses(Socket& socket, uint32_t ifindex) {
    Message dump(RTM_GETADDR, NLM_F_DUMP, "list of addresses");
    ifaddrmsg fixed{};
    fixed.ifa_family = AF_UNSPEC;
    fixed.ifa_index = ifindex;
    dump.append(fixed);
    std::vector<AddressInfo> addresses;
    TRY(socket.dump(std::move(dump), [&](const nlmsghdr* header) {
        // Other families (MPLS, phonet) have no address of ours.
        if (auto address = parse_address(header);
            address && (ifindex == 0 || address->ifindex == ifindex)) {
            addresses.push_back(*address);
        }
    }));
    return addresses;
}

} // namespace manx::netlink
