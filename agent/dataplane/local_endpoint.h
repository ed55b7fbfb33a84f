// SPDX-License-Identifier: Apache-2.0
// A workload of this node as the CNI server knows it: what the dataplane needs to attach it and
// what policy needs to judge it before the datastore has said anything.
//
// Writer: agent/cni (persisted under the agent's state directory, restored at start). Readers:
// agent/calc, the dataplane managers.
#pragma once

#include "base/ip.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace manx::dataplane {

struct NamedPort {
    std::string name;
    uint8_t protocol = 6; // IP protocol number
    uint16_t port = 0;

    auto operator<=>(const NamedPort&) const = default;
};

struct LocalEndpoint {
    std::string ns;
    std::string pod;
    std::string container_id;
    std::string interface; // host side: "cali..."; the key of an endpoint on this node
    std::string netns;     // path
    std::string container_interface;
    uint32_t ifindex = 0; // of the host side
    MacAddress mac;       // of the workload's own device
    MacAddress host_mac;  // of the host side
    std::vector<IpAddress> addresses;
    uint16_t slot = 0; // index into manx_slot, below MANX_SLOTS

    // The pod's facts as the CNI request saw them; the Pod object overrides them once it is known.
    std::map<std::string, std::string> labels;
    std::string service_account;
    std::vector<NamedPort> named_ports;

    // Of the host side's qdiscs, which programs would pass by: those of a shaper.
    bool redirect_host = false; // deliver with bpf_redirect to the host side, not to the peer
    bool by_stack = false;      // both ways of its flows by the host stack

    bool operator==(const LocalEndpoint&) const = default;
};

} // namespace manx::dataplane
