// SPDX-License-Identifier: Apache-2.0
// A CNI call: its environment and its network configuration, parsed and checked.
#pragma once

#include "agent/cni/error.h"
#include "agent/cni/protocol.h"
#include "agent/cni/result.h"
#include "base/ip.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace manx::cni {

inline constexpr uint32_t kMinMtuWithIpv6 = 1280;

enum class Command { Add, Del, Check, Gc, Status };

std::string_view to_string(Command command);

// A container's device in one network: what CNI calls an attachment.
struct Attachment {
    std::string container_id;
    std::string interface; // in the container: CNI_IFNAME

    auto operator<=>(const Attachment&) const = default;

    [[nodiscard]] std::string text() const { return container_id + "/" + interface; }
};

// The network configuration: the keys that mean something here, of Manx's own and of Calico's.
struct NetConf {
    std::string version = "0.1.0"; // cniVersion
    std::string name;              // of the network; first part of IPAM handles
    std::string type;              // "manx" or "calico"
    uint32_t mtu = 0;              // 0: the agent's
    // assign_ipv4, assign_ipv6 of ipam; not set: see wants() in server.h.
    std::optional<bool> assign_ipv4;
    std::optional<bool> assign_ipv6;
    std::vector<std::string> pools4; // ipam.ipv4_pools: names or CIDRs
    std::vector<std::string> pools6;
    bool allow_ip_forwarding = false;       // container_settings
    bool ip_addrs_no_ipam = false;          // feature_control
    std::optional<AddResult> previous;      // prevResult
    std::set<Attachment> valid_attachments; // GC: cni.dev/valid-attachments
};

struct CniRequest {
    Command command = Command::Add;
    Attachment attachment;                  // empty for GC and STATUS
    std::string netns;                      // CNI_NETNS, may be empty
    std::string ns;                         // K8S_POD_NAMESPACE
    std::string pod;                        // K8S_POD_NAME
    std::string pod_uid;                    // K8S_POD_UID
    std::optional<IpAddress> fixed_address; // IP
    NetConf conf;

    [[nodiscard]] bool is_kubernetes() const { return !pod.empty(); }
};

// Errors carry the code and name the variable, or the key and what was expected.
tl::expected<NetConf, CniError> parse_conf(std::string_view json);
tl::expected<CniRequest, CniError> parse_request(const WireRequest& wire);
// cniVersion of a configuration that may be refused for another reason; 0.1.0 where there is none
// that is spoken here.
std::string version_of(std::string_view conf);

// Position in kCniVersions, for comparison; nothing when the version is not spoken.
std::optional<size_t> version_rank(std::string_view version);
bool at_least(std::string_view version, std::string_view least);

} // namespace manx::cni
