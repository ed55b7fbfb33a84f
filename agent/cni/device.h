// SPDX-License-Identifier: Apache-2.0
// A pod's device: a veth whose host end is cali<hash> on the node and whose other end is the pod's
// interface. The node answers for the link-local gateways 169.254.1.1 and fe80::ecee:eeff:feee:eeee
// with the host end's fixed MAC; the pod gets them as permanent neighbours, so that its first
// packet waits for no ARP.
//
// Making it has two parts, since policy comes in between: make_device() leaves both ends down, and
// nothing can pass; connect_device() brings them up once the endpoint is enforced.
//
// Threading: any thread; calls block on the kernel (a millisecond; removal up to some ten), so
// they run on workers. The calling thread visits the pod's namespace for a moment.
#pragma once

#include "agent/dataplane/local_endpoint.h"
#include "agent/netlink/message.h"
#include "agent/netlink/socket.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace manx::cni {

inline constexpr MacAddress kHostMac{{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}};

IpAddress host_gateway(Family family);

struct DeviceSpec {
    std::string host_name;      // cali...
    std::string container_name; // eth0
    int netns = -1;             // fd of the pod's namespace
    uint32_t mtu = 1500;
    std::optional<MacAddress> mac; // of the pod's end; none: random
    bool allow_ip_forwarding = false;
};

struct DeviceIds {
    uint32_t host_ifindex = 0;
    uint32_t container_ifindex = 0;
    MacAddress container_mac;
};

// Both ends, down, with the node's settings of the host end. A device of the same name on the node
// is removed first (the one of a sandbox that this one follows). AlreadyExists: the pod has an
// interface of that name already. On error nothing is left.
Result<DeviceIds> make_device(netlink::Socket& node, const DeviceSpec& spec);

// Up, addresses, routes and neighbours in the pod; routes on the node.
Result<void> connect_device(netlink::Socket& node, const DeviceSpec& spec, const DeviceIds& ids,
                            std::span<const IpAddress> addresses);

// <address>/32 or /128 dev cali..., protocol boot, metric 1024: what routes to a workload of this
// node look like.
std::vector<netlink::Message> host_routes(uint32_t host_ifindex,
                                          std::span<const IpAddress> addresses);

// All differences between a pod's device and what connect_device() makes; empty: all is there. The
// MTU of the pod's end is not among them: plugins that come after (tuning) may have another one
// set. mtu: of the host end.
Result<std::vector<std::string>> inspect_device(netlink::Socket& node,
                                                const dataplane::LocalEndpoint& endpoint,
                                                uint32_t mtu, int netns);

// What others have put on the host end that programs of ours would pass by: a shaper's qdiscs.
struct Shaping {
    bool to_pod = false;   // a queue of its own for what leaves by the host end
    bool from_pod = false; // filters of an ingress qdisc for what comes in by it
};

// By host end; one without is not among them.
Result<std::map<uint32_t, Shaping>> list_shaping(netlink::Socket& node);

// The host end of a container's interface, told from inside its namespace: for containers that
// nothing is recorded of (made by Calico's plugin, or before the state was lost). NotFound: no such
// interface, or not a veth to this node.
Result<uint32_t> host_end_of(netlink::Socket& node, int netns, const std::string& container_name);

// Removes devices that have been told apart already, with one RCU grace period for all of them.
// One that is not there is no error.
Result<void> remove_devices(netlink::Socket& node, std::span<const uint32_t> ifindexes);

} // namespace manx::cni
