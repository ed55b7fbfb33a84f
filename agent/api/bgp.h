// SPDX-License-Identifier: Apache-2.0
// BGPConfiguration, BGPPeer and BGPFilter as people write them. Absent fields are absent here too:
// which default holds, and which object wins, is decided in agent/bgp.
#pragma once

#include "agent/api/meta.h"
#include "base/ip.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace manx::api {

// Where a password is: a key of a Secret in Calico's own namespace.
struct SecretKeyRef {
    std::string name;
    std::string key;
};

struct BgpCommunity {
    std::string name;
    std::string value; // "a:b" or "a:b:c"
};

struct BgpPrefixAdvertisement {
    Cidr cidr;
    std::vector<std::string> communities; // names of the above, or values
};

enum class ClusterRoutes : uint8_t { Disabled, EnabledNoEncapOnly, EnabledIpipOnly, Enabled };

struct BgpConfiguration {
    ObjectMeta meta;          // "default", or "node.<node>"
    std::string log_severity; // Debug, Info, Warning, Error, Fatal, None; empty: absent
    std::optional<bool> node_mesh;
    std::optional<uint32_t> as_number;
    std::optional<uint16_t> listen_port;
    std::vector<Cidr> service_cluster_ips;
    std::vector<Cidr> service_external_ips;
    std::vector<Cidr> service_load_balancer_ips;
    bool load_balancer_aggregation = true;
    std::vector<BgpCommunity> communities;
    std::vector<BgpPrefixAdvertisement> prefix_advertisements;
    std::optional<SecretKeyRef> mesh_password;
    std::string mesh_max_restart_time; // a duration as Go writes them: "120s"
    bool bind_to_node_ip = false;      // bindMode NodeIP
    std::vector<std::string> ignored_interfaces;
    std::optional<IpAddress> local_workload_ipv4; // localWorkloadPeeringIPV4
    std::optional<IpAddress> local_workload_ipv6;
    std::optional<ClusterRoutes> program_cluster_routes;
    std::optional<uint32_t> normal_priority4; // ipv4NormalRoutePriority
    std::optional<uint32_t> normal_priority6;

    static Result<BgpConfiguration> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<void> validate() const;
};

enum class NextHopMode : uint8_t { Auto, Self, Keep };

struct BgpPeer {
    ObjectMeta meta;
    std::string node; // with node_selector empty too: all nodes
    std::string node_selector;
    std::optional<IpAddress> peer_ip;
    uint16_t peer_port = 0; // 0: not given
    std::optional<uint32_t> as_number;
    std::string peer_selector;
    std::string local_workload_selector;
    std::optional<uint32_t> local_as_number;
    bool keep_original_next_hop = false;
    NextHopMode next_hop_mode = NextHopMode::Auto;
    std::optional<SecretKeyRef> password;
    bool source_is_node_ip = true; // sourceAddress
    std::string max_restart_time;  // durations
    std::string keepalive_time;
    std::optional<uint32_t> allowed_local_as_numbers; // numAllowedLocalASNumbers
    std::optional<uint8_t> ttl_security;              // hops
    std::optional<IpAddress> reachable_by;
    std::vector<std::string> filters;
    bool reverse_peering = true; // reversePeering Auto

    static Result<BgpPeer> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<void> validate() const;
};

enum class PrefixMatch : uint8_t { Equal, NotEqual, In, NotIn };

struct BgpFilterOperation { // exactly one is set
    std::string add_community;
    std::vector<uint32_t> prepend_as_path;
    std::optional<uint32_t> set_priority;
};

struct BgpFilterRule {
    std::optional<Cidr> cidr;
    PrefixMatch match = PrefixMatch::In;
    std::optional<uint8_t> min_length;
    std::optional<uint8_t> max_length;
    bool from_remote_peers = false; // source RemotePeers
    std::string interface;
    std::optional<bool> internal_peer; // peerType: true iBGP, false eBGP
    std::string community;
    std::vector<uint32_t> as_path_prefix;
    std::optional<uint32_t> priority;
    bool accept = false;
    std::vector<BgpFilterOperation> operations;
};

struct BgpFilter {
    ObjectMeta meta;
    std::vector<BgpFilterRule> export_v4;
    std::vector<BgpFilterRule> import_v4;
    std::vector<BgpFilterRule> export_v6;
    std::vector<BgpFilterRule> import_v6;

    static Result<BgpFilter> from_json(const nlohmann::json& object);
    [[nodiscard]] Result<void> validate() const;
};

} // namespace manx::api
