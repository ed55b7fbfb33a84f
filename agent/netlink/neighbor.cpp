// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/neighbor.h"

#include <netlink/attr.h>

#include <sys/socket.h>

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace manx::netlink {

namespace {

Message request(uint16_t type, uint16_t flags, uint32_t ifindex, const IpAddress& address,
                uint16_t state, const char* verb) {
    Message message(type, flags, std::string(verb) + " neighbour " + address.text());
    ndmsg fixed{};
    fixed.ndm_family = address.is_v4() ? AF_INET : AF_INET6;
    fixed.ndm_ifindex = static_cast<int>(ifindex);
    fixed.ndm_state = state;
    message.append(fixed);
    message.put_address(NDA_DST, address);
    return message;
}

} // namespace

bool NeighborInfo::permanent() const {
    return (state & NUD_PERMANENT) != 0;
}

bool NeighborInfo::usable() const {
    return (state &
            (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)) != 0;
}

Message set_permanent_neighbor(uint32_t ifindex, const IpAddress& address, const MacAddress& mac) {
    Message message =
        request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, ifindex, address, NUD_PERMANENT, "set");
    message.put_mac(NDA_LLADDR, mac);
    return message;
}

Message delete_neighbor(uint32_t ifindex, const IpAddress& address) {
    Message message = request(RTM_DELNEIGH, 0, ifindex, address, 0, "remove");
    message.tolerate({ENOENT});
    return message;
}

Result<NeighborInfo> parse_neighbor(const nlmsghdr* header) {
    std::array<nlattr*, NDA_MAX + 1> attributes{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(ndmsg), attributes.data(), NDA_MAX,
                    nullptr) < 0) {
        return fail(ErrorKind::Library, "neighbour message that does not parse");
    }
    const auto* fixed = static_cast<const ndmsg*>(nlmsg_data(header));
    const nlattr* address = attributes[NDA_DST];
    if (address == nullptr || (nla_len(address) != 4 && nla_len(address) != 16)) {
        return fail(ErrorKind::Library, "neighbour message without an IP address");
    }
    NeighborInfo info;
    info.ifindex = static_cast<uint32_t>(fixed->ndm_ifindex);
    info.state = fixed->ndm_state;
    info.address = IpAddress::from_bytes(
        {static_cast<const uint8_t*>(nla_data(address)), static_cast<size_t>(nla_len(address))});
    if (const nlattr* mac = attributes[NDA_LLADDR];
        mac != nullptr && nla_len(mac) == static_cast<int>(info.mac.bytes.size())) {
        std::memcpy(info.mac.bytes.data(), nla_data(mac), info.mac.bytes.size());
    }
    return info;
}

Result<std::vector<NeighborInfo>> list_neighbors(Socket& socket, uint32_t ifindex) {
    Message dump(RTM_GETNEIGH, NLM_F_DUMP, "list of neighbours");
    dump.append(ndmsg{});
    if (ifindex != 0) {
        dump.put_u32(NDA_IFINDEX, ifindex);
    }
    std::vector<NeighborInfo> neighbors;
    TRY(socket.dump(std::move(dump), [&](const nlmsghdr* header) {
        // Bridge forwarding entries have no IP address.
        if (auto neighbor = parse_neighbor(header)) {
            neighbors.push_back(*neighbor);
        }
    }));
    return neighbors;
}

} // namespace manx::netlink
