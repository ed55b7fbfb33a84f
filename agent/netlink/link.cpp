// SPDX-License-Identifier: Apache-2.0
#include "agent/netlink/link.h"

#include <netlink/attr.h>

#include <net/if.h>

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>

namespace manx::netlink {

namespace {

ifinfomsg fixed_part(uint32_t ifindex) {
    ifinfomsg info{};
    info.ifi_family = AF_UNSPEC;
    info.ifi_index = static_cast<int>(ifindex);
    return info;
}

void put_names(Message& message, const std::string& name, const std::optional<MacAddress>& mac,
               uint32_t mtu, uint32_t group) {
    message.put_string(IFLA_IFNAME, name);
    if (mac) {
        message.put_mac(IFLA_ADDRESS, *mac);
    }
    if (mtu != 0) {
        message.put_u32(IFLA_MTU, mtu);
    }
    if (group != 0) {
        message.put_u32(IFLA_GROUP, group);
    }
}

// Without the statistics a link's description is a third of its size.
void put_filter(Message& message) {
    message.put_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

Result<LinkInfo> find(Socket& socket, Message request, const std::string& what) {
    std::optional<Result<LinkInfo>> found;
    auto sent = socket.send(std::move(request), [&](const nlmsghdr* h) { found = parse_link(h); });
    if (!sent) {
        if (sent.error().err == ENODEV) {
            return fail(ErrorKind::NotFound, what + " does not exist");
        }
        return Unexpected(sent.error());
    }
    if (!found) {
        return fail(ErrorKind::Library, what + ": no answer");
    }
    return *found;
}

} // namespace

bool LinkInfo::up() const {
    return (flags & IFF_UP) != 0;
}

bool LinkInfo::running() const {
    return (flags & IFF_RUNNING) != 0;
}

Result<void> check_device_name(std::string_view name, std::string_view field) {
    const bool bad_length = name.empty() || name.size() >= IFNAMSIZ;
    const bool bad_byte = std::any_of(name.begin(), name.end(), [](unsigned char c) {
        return c == '/' || c == ':' || std::isspace(c) != 0 || std::iscntrl(c) != 0;
    });
    if (bad_length || bad_byte || name == "." || name == "..") {
        return fail(ErrorKind::ConfigInvalid,
                    std::string(field) + ": \"" + std::string(name) +
                        "\" is no device name (1 to 15 bytes, no '/', ':' or white space)");
    }
    return {};
}

std::string device_name(uint32_t ifindex) {
    std::array<char, IF_NAMESIZE> name{};
    return if_indextoname(ifindex, name.data()) != nullptr ? std::string(name.data())
                                                           : std::to_string(ifindex);
}

Message create_veth(const VethSpec& spec) {
    Message message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make device " + spec.name);
    message.append(fixed_part(0));
    put_names(message, spec.name, spec.mac, spec.mtu, spec.group);
    nlattr* link_info = message.nest(IFLA_LINKINFO);
    message.put_string(IFLA_INFO_KIND, "veth");
    nlattr* data = message.nest(IFLA_INFO_DATA);
    nlattr* peer = message.nest(VETH_INFO_PEER);
    message.append(fixed_part(0));
    put_names(message, spec.peer_name, spec.peer_mac, spec.mtu, 0);
    if (spec.peer_netns >= 0) {
        message.put_u32(IFLA_NET_NS_FD, static_cast<uint32_t>(spec.peer_netns));
    }
    message.end(peer);
    message.end(data);
    message.end(link_info);
    return message;
}

Message change_link(uint32_t ifindex, const LinkChange& change) {
    Message message(RTM_NEWLINK, 0, "change device " + std::to_string(ifindex));
    ifinfomsg info = fixed_part(ifindex);
    if (change.up) {
        info.ifi_change = IFF_UP;
        info.ifi_flags = *change.up ? IFF_UP : 0;
    }
    message.append(info);
    if (change.mtu) {
        message.put_u32(IFLA_MTU, *change.mtu);
    }
    if (change.group) {
        message.put_u32(IFLA_GROUP, *change.group);
    }
    if (!change.ipv4_settings.empty() || change.ipv6_address_mode) {
        nlattr* families = message.nest(IFLA_AF_SPEC);
        if (!change.ipv4_settings.empty()) {
            nlattr* inet = message.nest(AF_INET);
            nlattr* settings = message.nest(IFLA_INET_CONF);
            for (const auto& [setting, value] : change.ipv4_settings) {
                message.put_u32(setting, value);
            }
            message.end(settings);
            message.end(inet);
        }
        if (change.ipv6_address_mode) {
            nlattr* inet6 = message.nest(AF_INET6);
            message.put_u8(IFLA_INET6_ADDR_GEN_MODE, *change.ipv6_address_mode);
            message.end(inet6);
        }
        message.end(families);
    }
    return message;
}

Message delete_link(uint32_t ifindex) {
    Message message(RTM_DELLINK, 0, "remove device " + std::to_string(ifindex));
    message.append(fixed_part(ifindex));
    return message;
}

Message delete_group(uint32_t group) {
    Message message(RTM_DELLINK, 0, "remove device group " + std::to_string(group));
    message.append(fixed_part(0));
    message.put_u32(IFLA_GROUP, group);
    return message;
}

Message get_link(std::string_view name) {
    Message message(RTM_GETLINK, 0, "device " + std::string(name));
    message.append(fixed_part(0));
    message.put_string(IFLA_IFNAME, name);
    put_filter(message);
    return message;
}

Message get_link(uint32_t ifindex) {
    Message message(RTM_GETLINK, 0, "device " + std::to_string(ifindex));
    message.append(fixed_part(ifindex));
    put_filter(message);
    return message;
}

Result<LinkInfo> parse_link(const nlmsghdr* header) {
    std::array<nlattr*, IFLA_MAX + 1> attributes{};
    if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(ifinfomsg), attributes.data(), IFLA_MAX,
                    nullptr) < 0) {
        return fail(ErrorKind::Library, "link message that does not parse");
    }
    const auto* fixed = static_cast<const ifinfomsg*>(nlmsg_data(header));
    LinkInfo link;
    link.ifindex = static_cast<uint32_t>(fixed->ifi_index);
    link.flags = fixed->ifi_flags;
    if (attributes[IFLA_IFNAME] != nullptr) {
        link.name = nla_get_string(attributes[IFLA_IFNAME]);
    }
    if (attributes[IFLA_MTU] != nullptr) {
        link.mtu = nla_get_u32(attributes[IFLA_MTU]);
    }
    if (attributes[IFLA_GROUP] != nullptr) {
        link.group = nla_get_u32(attributes[IFLA_GROUP]);
    }
    if (attributes[IFLA_LINK] != nullptr) {
        link.peer_ifindex = nla_get_u32(attributes[IFLA_LINK]);
    }
    link.peer_elsewhere = attributes[IFLA_LINK_NETNSID] != nullptr;
    if (const nlattr* mac = attributes[IFLA_ADDRESS];
        mac != nullptr && nla_len(mac) == static_cast<int>(link.mac.bytes.size())) {
        std::memcpy(link.mac.bytes.data(), nla_data(mac), link.mac.bytes.size());
    }
    if (attributes[IFLA_LINKINFO] != nullptr) {
        const nlattr* kind = nla_find(static_cast<nlattr*>(nla_data(attributes[IFLA_LINKINFO])),
                                      nla_len(attributes[IFLA_LINKINFO]), IFLA_INFO_KIND);
        if (kind != nullptr) {
            link.kind = nla_get_string(kind);
        }
    }
    return link;
}

Result<LinkInfo> find_link(Socket& socket, std::string_view name) {
    return find(socket, get_link(name), "device " + std::string(name));
}

Result<LinkInfo> find_link(Socket& socket, uint32_t ifindex) {
    return find(socket, get_link(ifindex), "device " + std::to_string(ifindex));
}

Result<std::vector<LinkInfo>> list_links(Socket& socket) {
    Message request(RTM_GETLINK, NLM_F_DUMP, "list of devices");
    request.append(fixed_part(0));
    put_filter(request);
    std::vector<LinkInfo> links;
    Result<void> parsed;
    TRY(socket.dump(std::move(request), [&](const nlmsghdr* header) {
        if (auto link = parse_link(header)) {
            links.push_back(std::move(*link));
        } else {
            parsed = Unexpected(link.error());
        }
    }));
    TRY(std::move(parsed));
    return links;
}

} // namespace manx::netlink
