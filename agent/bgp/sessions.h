// SPDX-License-Identifier: Apache-2.0
// Which BGP sessions this node has, and with what settings (contract 5.2): the node-to-node mesh,
// BGPPeers that are global, of this node, or chosen by selectors, and the reverse of other nodes'
// peerings with this one. Pure.
#pragma once

#include "agent/bgp/inputs.h"

#include <string>
#include <vector>

namespace manx::bgp {

enum class SessionKind { Mesh, Global, Node, LocalWorkload };

struct Session {
    SessionKind kind = SessionKind::Mesh;
    std::string name;        // of the BIRD protocol, as Calico names them
    std::string description; // where it comes from: "BGPPeer rack-1", "node-to-node mesh"
    IpAddress peer;
    uint16_t peer_port = 0; // 0: 179
    uint32_t peer_as = 0;
    uint32_t local_as = 0;
    std::optional<IpAddress> source;
    uint16_t listen_port = 179;
    bool strict_bind = false;
    bool passive = false;
    std::string password; // empty: none
    std::optional<std::chrono::seconds> restart_time;
    std::optional<std::chrono::seconds> keepalive_time;
    std::optional<uint32_t> allowed_local_as;
    std::optional<uint8_t> ttl_security;
    std::optional<IpAddress> reachable_by;
    NextHopMode next_hop = NextHopMode::Auto;
    std::string cluster_id; // set: the peer is our route reflection client
    std::vector<std::string> filters;

    [[nodiscard]] bool internal() const { return local_as == peer_as; }
};

struct Sessions {
    std::vector<Session> sessions;     // by kind, then address: a deterministic order
    std::vector<std::string> problems; // one line each: peers left out, and why
};

Sessions compute_sessions(const Inputs& inputs);

// "Node_10_0_0_1", "Global_fd00__1_port_1179".
std::string session_name(SessionKind kind, const IpAddress& peer, uint16_t port);

} // namespace manx::bgp
