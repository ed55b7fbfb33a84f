// SPDX-License-Identifier: Apache-2.0
#include "agent/cni/device.h"

#include "agent/netlink/address.h"
#include "agent/netlink/link.h"
#include "agent/netlink/neighbor.h"
#include "agent/netlink/netns.h"
#include "agent/netlink/qdisc.h"
#include "agent/netlink/route.h"
#include "agent/netlink/sysctl.h"

#include <sys/socket.h>

#include <linux/if_link.h>
#include <linux/ip.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace manx::cni {

namespace {

using netlink::Message;
using netlink::Route;

constexpr uint32_t kRouteMetric = 1024;
// Group of devices on their way out; see remove_devices().
constexpr uint32_t kLeavingGroup = 0x6d616e78;

const Cidr kAll4 = Cidr(IpAddress::v4(0), 0);
const Cidr kAll6 = Cidr(IpAddress::from_bytes(std::array<uint8_t, 16>{}), 0);

const Cidr& all(Family family) {
    return family == Family::V4 ? kAll4 : kAll6;
}

bool has(std::span<const IpAddress> addresses, Family family) {
    return std::any_of(addresses.begin(), addresses.end(),
                       [=](const IpAddress& a) { return a.family() == family; });
}

// Settings that a kernel may lack (IPv6 off at boot) are no error where they are absent.
Result<void> set_if_there(const std::string& path, const char* value) {
    auto done = netlink::write_sysctl(path, value);
    if (!done && done.error().kind != ErrorKind::NotFound) {
        return done;
    }
    return {};
}

// IPv4's go with the netlink request that brings the device up.
Result<void> set_host_settings(const std::string& device) {
    const std::string v6 = "net/ipv6/conf/" + device + "/";
    TRY(set_if_there(v6 + "accept_dad", "0"));
    TRY(set_if_there(v6 + "accept_ra", "0"));
    TRY(set_if_there(v6 + "disable_ipv6", "0"));
    TRY(set_if_there(v6 + "proxy_ndp", "1"));
    TRY(set_if_there(v6 + "forwarding", "1"));
    return set_if_there("net/ipv4/neigh/" + device + "/proxy_delay", "0");
}

Result<void> set_pod_settings(const DeviceSpec& spec, bool with_v6) {
    TRY_ASSIGN(const auto scope, netlink::NetnsScope::enter(spec.netns));
    const char* forwarding = spec.allow_ip_forwarding ? "1" : "0";
    TRY(set_if_there("net/ipv4/ip_forward", forwarding));
    if (!with_v6) {
        return {};
    }
    for (const std::string conf : {"all", "default", "lo"}) {
        TRY(set_if_there("net/ipv6/conf/" + conf + "/disable_ipv6", "0"));
    }
    TRY(set_if_there("net/ipv6/conf/all/forwarding", forwarding));
    TRY(set_if_there("net/ipv6/conf/" + spec.container_name + "/accept_dad", "0"));
    return set_if_there("net/ipv6/conf/" + spec.container_name + "/disable_ipv6", "0");
}

Route host_route(uint32_t host_ifindex, const IpAddress& address) {
    Route route;
    route.destination = Cidr::host(address);
    route.ifindex = host_ifindex;
    route.protocol = netlink::kProtocolBoot;
    route.scope = address.is_v4() ? netlink::kScopeLink : netlink::kScopeUniverse;
    route.metric = kRouteMetric;
    return route;
}

// One of the routes is there by another device. What BIRD has learned was right until the address
// came to this node; anything else is somebody's who has the address.
Result<void> settle_routes(netlink::Socket& node, uint32_t host_ifindex,
                           std::span<const IpAddress> addresses) {
    for (const IpAddress& address : addresses) {
        const Route wanted = host_route(host_ifindex, address);
        netlink::RouteFilter filter;
        filter.family = address.family();
        TRY_ASSIGN(const auto routes, list_routes(node, filter));
        const auto there = std::find_if(routes.begin(), routes.end(), [&](const Route& route) {
            return route.destination == wanted.destination && route.metric == wanted.metric;
        });
        if (there != routes.end() && there->ifindex == host_ifindex) {
            continue;
        }
        if (there != routes.end() && there->protocol != netlink::kProtocolBird) {
            return fail(ErrorKind::AlreadyExists, address.text() + " is routed to " +
                                                      netlink::device_name(there->ifindex) +
                                                      " already");
        }
        TRY(node.send(netlink::replace_route(wanted)));
    }
    return {};
}

Message bring_up_host(uint32_t ifindex) {
    netlink::LinkChange change;
    change.up = true;
    change.ipv4_settings = {{IPV4_DEVCONF_FORWARDING, 1},
                            {IPV4_DEVCONF_PROXY_ARP, 1},
                            {IPV4_DEVCONF_ROUTE_LOCALNET, 1},
                            // BPF checks the source; the kernel's check knows only its own routes.
                            {IPV4_DEVCONF_RP_FILTER, 0}};
    return change_link(ifindex, change);
}

Message bring_up(uint32_t ifindex) {
    netlink::LinkChange change;
    change.up = true;
    return change_link(ifindex, change);
}

void add_pod_requests(std::vector<Message>& requests, uint32_t ifindex, Family family,
                      std::span<const IpAddress> addresses) {
    const IpAddress gateway = host_gateway(family);
    requests.push_back(netlink::set_permanent_neighbor(ifindex, gateway, kHostMac));
    Route to_gateway;
    to_gateway.destination = Cidr::host(gateway);
    to_gateway.ifindex = ifindex;
    to_gateway.scope = family == Family::V4 ? netlink::kScopeLink : netlink::kScopeUniverse;
    requests.push_back(netlink::replace_route(to_gateway));
    Route way_out;
    way_out.destination = all(family);
    way_out.ifindex = ifindex;
    way_out.gateway = gateway;
    requests.push_back(netlink::replace_route(way_out));
    for (const IpAddress& address : addresses) {
        if (address.family() == family) {
            requests.push_back(netlink::add_address(ifindex, {address, address.bits()}));
        }
    }
}

Result<DeviceIds> identify(netlink::Socket& node, const DeviceSpec& spec) {
    TRY_ASSIGN(auto inside, netlink::Socket::open_in(spec.netns));
    TRY_ASSIGN(auto host, find_link(node, spec.host_name));
    TRY_ASSIGN(auto container, find_link(inside, spec.container_name));
    return DeviceIds{host.ifindex, container.ifindex, container.mac};
}

Result<void> remove_by_name(netlink::Socket& node, const std::string& name) {
    auto old = find_link(node, name);
    if (!old) {
        return old.error().kind == ErrorKind::NotFound ? Result<void>{} : Unexpected(old.error());
    }
    return remove_devices(node, std::span(&old->ifindex, 1));
}

void compare_routes(std::vector<std::string>& differences, netlink::Socket& node,
                    const dataplane::LocalEndpoint& endpoint) {
    for (const IpAddress& address : endpoint.addresses) {
        netlink::RouteFilter filter;
        filter.family = address.family();
        filter.ifindex = endpoint.ifindex;
        auto routes = list_routes(node, filter);
        const bool there =
            routes && std::any_of(routes->begin(), routes->end(), [&](const Route& r) {
                return r.destination == Cidr::host(address);
            });
        if (!there) {
            differences.push_back("the node has no route to " + address.text() + " by " +
                                  endpoint.interface);
        }
    }
}

Result<void> compare_inside(std::vector<std::string>& differences,
                            const dataplane::LocalEndpoint& endpoint, int netns) {
    TRY_ASSIGN(auto inside, netlink::Socket::open_in(netns));
    const std::string& name = endpoint.container_interface;
    auto link = find_link(inside, name);
    if (!link) {
        if (link.error().kind != ErrorKind::NotFound) {
            return Unexpected(link.error());
        }
        differences.push_back("the container has no interface " + name);
        return {};
    }
    if (!link->up()) {
        differences.push_back(name + " is down");
    }
    if (link->peer_ifindex != endpoint.ifindex) {
        differences.push_back(name + " is not connected to " + endpoint.interface);
    }
    if (link->mac != endpoint.mac) {
        differences.push_back(name + " has MAC address " + link->mac.text() + ", not " +
                              endpoint.mac.text());
    }
    TRY_ASSIGN(const auto addresses, list_addresses(inside, link->ifindex));
    for (const IpAddress& address : endpoint.addresses) {
        if (std::none_of(addresses.begin(), addresses.end(),
                         [&](const auto& a) { return a.address.address == address; })) {
            differences.push_back(name + " lacks the address " + address.text());
        }
    }
    TRY_ASSIGN(const auto neighbors, list_neighbors(inside, link->ifindex));
    for (const Family family : kFamilies) {
        if (!has(endpoint.addresses, family)) {
            continue;
        }
        const IpAddress gateway = host_gateway(family);
        netlink::RouteFilter filter;
        filter.family = family;
        filter.ifindex = link->ifindex;
        TRY_ASSIGN(const auto routes, list_routes(inside, filter));
        if (std::none_of(routes.begin(), routes.end(),
                         [&](const Route& r) { return r.destination == Cidr::host(gateway); })) {
            differences.push_back(name + " has no route to " + gateway.text());
        }
        if (std::none_of(routes.begin(), routes.end(), [&](const Route& r) {
                return r.destination == all(family) && r.gateway == gateway;
            })) {
            differences.push_back(name + " has no default route by " + gateway.text());
        }
        if (std::none_of(neighbors.begin(), neighbors.end(), [&](const auto& n) {
                return n.address == gateway && n.permanent() && n.mac == kHostMac;
            })) {
            differences.push_back(name + " has no permanent neighbour " + gateway.text());
        }
    }
    return {};
}

} // namespace

IpAddress host_gateway(Family family) {
    if (family == Family::V4) {
        return IpAddress::v4(0xa9fe0101); // 169.254.1.1
    }
    // fe80::ecee:eeff:feee:eeee: the link-local address that the kernel makes of kHostMac.
    return IpAddress::from_bytes(std::array<uint8_t, 16>{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xec, 0xee,
                                                         0xee, 0xff, 0xfe, 0xee, 0xee, 0xee});
}

Result<DeviceIds> make_device(netlink::Socket& node, const DeviceSpec& spec) {
    netlink::VethSpec veth;
    veth.name = spec.host_name;
    veth.mac = kHostMac;
    veth.peer_name = spec.container_name;
    veth.peer_mac = spec.mac;
    veth.peer_netns = spec.netns;
    veth.mtu = spec.mtu;
    auto made = node.send(create_veth(veth));
    if (!made && made.error().err == EEXIST) {
        // Either end's name is taken. The host end's is ours to free.
        TRY(remove_by_name(node, spec.host_name));
        made = node.send(create_veth(veth));
        if (!made && made.error().err == EEXIST) {
            return fail(ErrorKind::AlreadyExists,
                        "the container has an interface " + spec.container_name + " already");
        }
    }
    TRY(std::move(made));
    auto ids = identify(node, spec);
    if (ids) {
        if (auto set = set_host_settings(spec.host_name); !set) {
            ids = Unexpected(set.error());
        }
    }
    if (!ids) {
        (void)remove_by_name(node, spec.host_name); // the first error is the one to tell
    }
    return ids;
}

std::vector<Message> host_routes(uint32_t host_ifindex, std::span<const IpAddress> addresses) {
    std::vector<Message> requests;
    for (const IpAddress& address : addresses) {
        requests.push_back(netlink::replace_route(host_route(host_ifindex, address)));
    }
    return requests;
}

Result<void> connect_device(netlink::Socket& node, const DeviceSpec& spec, const DeviceIds& ids,
                            std::span<const IpAddress> addresses) {
    const bool with_v6 = has(addresses, Family::V6);
    TRY(set_pod_settings(spec, with_v6));
    TRY_ASSIGN(auto inside, netlink::Socket::open_in(spec.netns));
    // The host end first: the pod's end then finds carrier and its queue works at once. What the
    // host end missed by being first, a query of it makes up for (kernel 6.8 and later; before,
    // the kernel's link watch does it a moment later).
    std::vector<Message> on_node;
    on_node.push_back(bring_up_host(ids.host_ifindex));
    if (with_v6) {
        on_node.push_back(netlink::add_address(ids.host_ifindex, {host_gateway(Family::V6), 64}));
    }
    for (const IpAddress& address : addresses) {
        on_node.push_back(netlink::add_route(host_route(ids.host_ifindex, address)));
    }
    auto sent = node.send(on_node);
    if (!sent && sent.error().err == EEXIST) {
        sent = settle_routes(node, ids.host_ifindex, addresses);
    }
    TRY(sent);
    std::vector<Message> in_pod;
    in_pod.push_back(bring_up(ids.container_ifindex));
    for (const Family family : kFamilies) {
        if (has(addresses, family)) {
            add_pod_requests(in_pod, ids.container_ifindex, family, addresses);
        }
    }
    TRY(inside.send(in_pod));
    return node.send(netlink::get_link(ids.host_ifindex));
}

Result<std::vector<std::string>> inspect_device(netlink::Socket& node,
                                                const dataplane::LocalEndpoint& endpoint,
                                                uint32_t mtu, int netns) {
    std::vector<std::string> differences;
    auto host = find_link(node, endpoint.interface);
    if (!host && host.error().kind != ErrorKind::NotFound) {
        return Unexpected(host.error());
    }
    if (!host || host->ifindex != endpoint.ifindex) {
        differences.push_back("the node has no device " + endpoint.interface);
        return differences;
    }
    if (!host->up()) {
        differences.push_back(endpoint.interface + " is down");
    }
    if (host->mtu != mtu) {
        differences.push_back(endpoint.interface + " has the MTU " + std::to_string(host->mtu) +
                              ", not " + std::to_string(mtu));
    }
    compare_routes(differences, node, endpoint);
    if (netns < 0) {
        differences.push_back("the container's network namespace " + endpoint.netns + " is gone");
        return differences;
    }
    TRY(compare_inside(differences, endpoint, netns));
    return differences;
}

Result<std::map<uint32_t, Shaping>> list_shaping(netlink::Socket& node) {
    TRY_ASSIGN(const auto all, netlink::list_qdiscs(node));
    std::map<uint32_t, Shaping> found;
    for (const auto& [ifindex, qdiscs] : all) {
        // A veth has no queue; clsact is what programs hang on, ours or another's.
        found[ifindex] = {.to_pod = !qdiscs.root.empty() && qdiscs.root != "noqueue",
                          .from_pod = qdiscs.ingress == "ingress"};
    }
    return found;
}

Result<uint32_t> host_end_of(netlink::Socket& node, int netns, const std::string& container_name) {
    TRY_ASSIGN(auto inside, netlink::Socket::open_in(netns));
    TRY_ASSIGN(auto link, find_link(inside, container_name));
    const auto strange = [&] {
        return fail(ErrorKind::NotFound, container_name + " is not a veth to this node");
    };
    if (link.kind != "veth" || !link.peer_elsewhere) {
        return strange();
    }
    // The peer's number counts in the peer's namespace, which may be a third one.
    auto host = find_link(node, link.peer_ifindex);
    if (!host && host.error().kind != ErrorKind::NotFound) {
        return Unexpected(host.error());
    }
    if (!host || host->kind != "veth" || !host->peer_elsewhere ||
        host->peer_ifindex != link.ifindex) {
        return strange();
    }
    return host->ifindex;
}

Result<void> remove_devices(netlink::Socket& node, std::span<const uint32_t> ifindexes) {
    if (ifindexes.size() == 1) {
        Message request = netlink::delete_link(ifindexes.front());
        request.tolerate({ENODEV});
        return node.send(std::move(request));
    }
    std::vector<Message> requests;
    for (const uint32_t ifindex : ifindexes) {
        netlink::LinkChange change;
        change.group = kLeavingGroup;
        Message request = change_link(ifindex, change);
        request.tolerate({ENODEV});
        requests.push_back(std::move(request));
    }
    Message request = netlink::delete_group(kLeavingGroup);
    request.tolerate({ENODEV}); // all of them had gone
    requests.push_back(std::move(request));
    return node.send(requests);
}

} // namespace manx::cni
