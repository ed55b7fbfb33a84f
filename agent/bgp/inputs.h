// SPDX-License-Identifier: Apache-2.0
// What the BIRD configuration of this node is computed from: plain values, already parsed and
// defaulted, of the cluster's objects (BGPConfiguration, BGPPeer, BGPFilter, IPPool, BlockAffinity,
// Node, Service, EndpointSlice). Filled by from_objects.h, or by hand in tests; read by the pure
// functions of sessions.h, services.h and render.h.
#pragma once

#include "base/ip.h"
#include "base/result.h"

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace manx::bgp {

using Labels = std::map<std::string, std::string>;
// A parsed selector; an empty function stands for "no selector given".
using LabelMatcher = std::function<bool(const Labels&)>;

// The metric of a workload's route in the kernel when nothing else says so, and the number that
// the LOCAL_PREF on the wire is counted down from: LOCAL_PREF = kMetricTop - metric.
inline constexpr uint32_t kNormalRoutePriority = 1024;
inline constexpr uint32_t kMetricTop = 2147483647;

struct Node {
    std::string name{};
    Labels labels;
    // With the length of the node's subnet; absent: the node has no BGP in that family.
    std::optional<InterfaceAddress> ipv4{};
    std::optional<InterfaceAddress> ipv6{};
    std::optional<uint32_t> as_number{};
    std::string route_reflector_cluster_id{}; // dotted; empty: not a route reflector
    std::optional<uint16_t> listen_port{};    // of BGPConfiguration node.<name>
    bool wireguard4 = false;                  // has published a WireGuard key
    bool wireguard6 = false;

    [[nodiscard]] const std::optional<InterfaceAddress>& address(Family family) const {
        return family == Family::V4 ? ipv4 : ipv6;
    }

    bool operator==(const Node&) const = default;
};

// A standard (a:b) or a large (a:b:c) BGP community.
struct Community {
    std::vector<uint32_t> parts{}; // 2 or 3

    static Result<Community> parse(std::string_view text);
    auto operator<=>(const Community&) const = default;
};

struct PrefixAdvertisement {
    Cidr cidr;
    std::vector<Community> communities{};
};

// Which classes of remote routes BIRD puts into the kernel (contract 5.7).
enum class ProgramClusterRoutes { Disabled, EnabledNoEncapOnly, EnabledIpipOnly, Enabled };

enum class BindMode { Any, NodeIp };

enum class LogSeverity { Debug, Info, Warning, Error };

// BGPConfiguration "default", with what "node.<this node>" may override.
struct Settings {
    bool node_mesh = true;
    uint32_t as_number = 64512;
    uint16_t listen_port = 179; // of the cluster; a node's own is in Node
    BindMode bind_mode = BindMode::Any;
    std::vector<Cidr> service_cluster_ips{};
    std::vector<Cidr> service_external_ips{};
    std::vector<Cidr> service_load_balancer_ips{};
    bool load_balancer_aggregation = true;
    std::vector<PrefixAdvertisement> prefix_advertisements{};
    std::vector<std::string> ignored_interfaces{}; // patterns with * as BIRD takes them
    bool mesh_password_required = false;
    std::optional<std::string>
        mesh_password{}; // resolved; absent though required: no mesh sessions
    std::optional<std::chrono::seconds> mesh_max_restart_time{};
    ProgramClusterRoutes program_cluster_routes = ProgramClusterRoutes::EnabledNoEncapOnly;
    uint32_t normal_priority4 = kNormalRoutePriority;
    uint32_t normal_priority6 = kNormalRoutePriority;
    // Our end of the sessions with local pods.
    std::optional<IpAddress> local_workload_ipv4{};
    std::optional<IpAddress> local_workload_ipv6{};
    LogSeverity log_severity = LogSeverity::Info;

    [[nodiscard]] uint32_t normal_priority(Family family) const {
        return family == Family::V4 ? normal_priority4 : normal_priority6;
    }
};

enum class NextHopMode { Auto, Self, Keep };

struct Peer {
    std::string name{};
    std::string node{}; // exact node; with node_selector empty too: all nodes
    LabelMatcher node_selector{};
    std::optional<IpAddress> peer_ip{};
    uint16_t peer_port = 0;       // 0: the default
    uint32_t as_number = 0;       // 0: only with peer_selector
    LabelMatcher peer_selector{}; // nodes to peer with, in place of peer_ip
    LabelMatcher local_workload_selector{};
    std::optional<uint32_t> local_as{};
    bool keep_original_next_hop = false;
    NextHopMode next_hop_mode = NextHopMode::Auto;
    bool password_required = false;
    std::optional<std::string> password{}; // resolved; absent though required: no session
    bool source_is_node_ip = true;
    std::optional<std::chrono::seconds> max_restart_time{};
    std::optional<std::chrono::seconds> keepalive_time{};
    std::optional<uint32_t> allowed_local_as{};
    std::optional<uint8_t> ttl_security{}; // hops; 0 and 1: directly connected
    std::optional<IpAddress> reachable_by{};
    std::vector<std::string> filters{}; // names of BGPFilters, in order
    bool reverse_peering = true;
};

enum class MatchOperator { Equal, NotEqual, In, NotIn };

struct FilterOperation {
    // Exactly one is set.
    std::optional<Community> add_community{};
    std::vector<uint32_t> prepend_as_path{};
    std::optional<uint32_t> set_priority{};
};

struct FilterRule {
    std::optional<Cidr> cidr{};
    MatchOperator match = MatchOperator::In;
    std::optional<uint8_t> min_length{};
    std::optional<uint8_t> max_length{};
    bool from_remote_peers = false;
    std::string interface{};                // pattern with *; empty: any
    std::optional<bool> internal_peer{};    // true iBGP only, false eBGP only
    std::optional<Community> community{};   // carries it
    std::vector<uint32_t> as_path_prefix{}; // the path begins with these
    std::optional<uint32_t> priority{};     // metric
    bool accept = false;
    std::vector<FilterOperation> operations{};
};

struct Filter {
    std::string name{};
    std::vector<FilterRule> export_v4{};
    std::vector<FilterRule> import_v4{};
    std::vector<FilterRule> export_v6{};
    std::vector<FilterRule> import_v6{};
    std::string wrong{}; // why it cannot be used; sessions that name it are left out

    [[nodiscard]] const std::vector<FilterRule>& rules(Family family, bool is_export) const {
        if (family == Family::V4) {
            return is_export ? export_v4 : import_v4;
        }
        return is_export ? export_v6 : import_v6;
    }
};

enum class EncapMode { Never, Always, CrossSubnet };

struct Pool {
    std::string name{};
    Cidr cidr;
    EncapMode ipip = EncapMode::Never;
    EncapMode vxlan = EncapMode::Never;
    bool disabled = false;
    bool disable_bgp_export = false;
    bool operator==(const Pool&) const = default;
};

enum class BlockState { Confirmed, Pending, PendingDeletion };

// A block that this node holds by affinity.
struct Block {
    Cidr cidr;
    BlockState state = BlockState::Confirmed;
    bool operator==(const Block&) const = default;
};

enum class ServiceType { ClusterIp, NodePort, LoadBalancer, ExternalName };

struct ServiceEndpoint {
    std::string node{}; // empty: unknown
    bool ready = true;
    bool operator==(const ServiceEndpoint&) const = default;
};

struct Service {
    std::string ns, name{};
    ServiceType type = ServiceType::ClusterIp;
    std::vector<IpAddress> cluster_ips{}; // none for a headless service
    std::vector<IpAddress> external_ips{};
    std::vector<IpAddress> load_balancer_ips{}; // status
    bool external_policy_local = false;
    std::vector<ServiceEndpoint> endpoints{};
    bool operator==(const Service&) const = default;
};

// A pod of this node that a localWorkloadSelector may choose.
struct LocalWorkload {
    std::string ns, name{};
    Labels labels;
    std::vector<IpAddress> addresses{};
};

// How the router id is chosen (contract 5.1).
enum class RouterIdMode { NodeIp, Hash, Literal };

// Timers that Calico fixes for every session; tests make them short.
struct SessionTimers {
    uint32_t connect_delay = 2;
    uint32_t connect_retry = 5;
    uint32_t error_wait_min = 5;
    uint32_t error_wait_max = 30;
};

struct Inputs {
    std::string node_name{};
    std::vector<Node> nodes{}; // all of them, with this one
    Settings settings;
    std::vector<Peer> peers{};
    std::vector<Filter> filters{};
    std::vector<Pool> pools{};
    std::vector<Block> blocks{}; // of this node only
    std::vector<Service> services{};
    std::vector<LocalWorkload> workloads{};

    RouterIdMode router_id_mode = RouterIdMode::NodeIp;
    IpAddress router_id;    // for Literal
    std::string log_file{}; // of BIRD itself; empty: standard error
    SessionTimers timers;
    // How long a restarted BIRD keeps forwarding by the kernel's old routes while sessions come
    // back; a peer that is gone for good delays changes of the kernel's routes for so long.
    uint32_t graceful_restart_wait = 60;

    // nullptr: the node's object is not (yet) there.
    [[nodiscard]] const Node* own_node() const;
};

} // namespace manx::bgp
