// SPDX-License-Identifier: Apache-2.0
// The agent's configuration: the environment (MANX_<KEY>, dots as underscores; for some keys also
// calico-node's own FELIX_<NAME>), then a YAML file, then defaults. docs/operations.md has the
// table of keys.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace manx::app {

// Keys that FelixConfiguration objects have too: what is absent here is theirs to say (settings.h).
struct SharedKeys {
    std::optional<std::string> default_endpoint_to_host_action; // Accept, Return, Drop
    std::optional<bool> allow_vxlan_from_workloads;
    std::optional<bool> allow_ipip_from_workloads;
    std::optional<uint16_t> vxlan_port;
    std::optional<std::string> log_level;
};

struct AgentConfig {
    std::string node_name; // nodeName; default: the host's name, lower case
    std::string datastore_type = "sqlite";
    std::string datastore_path = "/var/lib/manx/store.db";
    std::string run_dir = "/run/manx";
    std::string state_dir = "/var/lib/manx";
    std::string bpffs = "/sys/fs/bpf/manx";
    std::string cni_socket; // default: <run_dir>/cni.sock
    // Names of uplinks; the interfaces that hold the node's own addresses are uplinks too.
    std::string uplinks = "((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)";
    bool bird_enabled = true;
    std::string bird_path = "/usr/sbin/bird";
    std::string bird_control_path; // default: <run_dir>/bird.ctl
    std::string metrics_address = "0.0.0.0";
    uint16_t metrics_port = 9091; // 0: off
    std::string health_address = "127.0.0.1";
    uint16_t health_port = 9099; // 0: off
    SharedKeys shared;
    bool use_netfilter = true;  // a program at LOCAL_IN where it can be
    bool attach_clsact = false; // clsact even where the kernel has tcx
    bool cut_flows_on_policy_change = false;
    bool wireguard_host_encryption = false; // then WireGuard devices have no addresses of their own
    uint16_t mtu = 0;                       // of pods; 0: the smallest of the uplinks'
    uint32_t leak_grace_seconds = 900;      // Calico's leakGracePeriod; 0: leaks are left alone
    uint32_t flow_table_size = 262144;      // live IPv4 flows; half of it for IPv6
};

// Error: names the file, the key, and what was expected. A key that is not known is an error.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Result<AgentConfig> load_config(const std::string& path, const Environment& env);
// calico-node's word for a level of ours; empty: none of its words.
std::string log_level_of(std::string_view severity);
// The process's own environment. FELIX_ variables are found whatever the case of their letters.
std::optional<std::string> process_environment(const std::string& name);

} // namespace manx::app
