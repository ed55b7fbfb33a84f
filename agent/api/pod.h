// SPDX-License-Identifier: Apache-2.0
// The core v1 Pod, as far as its network needs it. Kept small: an agent sees every pod.
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace manx::api {

// A port of a container or init container that has a name or a host port.
struct ContainerPort {
    std::string name;     // may be empty where host_port is set
    uint8_t protocol = 6; // IP protocol number: 6, 17 or 132
    uint16_t port = 0;
    uint16_t host_port = 0; // 0: none

    bool operator==(const ContainerPort&) const = default;
};

struct Pod {
    ObjectMeta meta; // of the annotations, only those that concern the network
    std::string node_name;
    std::string service_account;
    // status.podIPs, else status.podIP, else the CNI plugin's annotations podIPs, podIP.
    std::vector<IpAddress> ips;
    std::vector<ContainerPort> named_ports;
    bool host_network = false;
    bool finished = false; // its addresses are no longer its own, though the object lives on

    static Result<Pod> from_json(const nlohmann::json& object);

    // Whether policy and routes know it: scheduled, not on the host's network, with an address.
    [[nodiscard]] bool is_endpoint() const {
        return !node_name.empty() && !host_network && !finished && !ips.empty();
    }
};

inline constexpr const char* kPodIpAnnotation = "cni.projectcalico.org/podIP";
inline constexpr const char* kPodIpsAnnotation = "cni.projectcalico.org/podIPs";
inline constexpr const char* kAllowedSourcesAnnotation =
    "cni.projectcalico.org/allowedSourcePrefixes";
inline constexpr const char* kFloatingIpsAnnotation = "cni.projectcalico.org/floatingIPs";
inline constexpr const char* kContainerIdAnnotation = "cni.projectcalico.org/containerID";

// What a pod (or its namespace) asks of the CNI plugin by annotations.
struct NetworkRequest {
    std::vector<std::string> pools4; // names or CIDRs
    std::vector<std::string> pools6;
    std::vector<IpAddress> addresses;         // ipAddrs: by IPAM, exactly these
    std::vector<IpAddress> addresses_no_ipam; // ipAddrsNoIpam: whatever IPAM says
    std::vector<Family> families;             // ipFamilies; empty: as configured
    std::optional<MacAddress> mac;            // hwAddr: of the container's side
};

// ConfigInvalid names the annotation. subject: "Pod ns/name", for the message.
Result<NetworkRequest> network_request(const std::string& subject, const StringMap& annotations);

} // namespace manx::api
