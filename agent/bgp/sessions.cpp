// SPDX-License-Identifier: Apache-2.0
#include "agent/bgp/sessions.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

namespace manx::bgp {

std::string session_name(SessionKind kind, const IpAddress& peer, uint16_t port) {
    std::string name;
    switch (kind) {
    case SessionKind::Mesh:
        name = "Mesh_";
        break;
    case SessionKind::Global:
        name = "Global_";
        break;
    case SessionKind::Node:
        name = "Node_";
        break;
    case SessionKind::LocalWorkload:
        name = "Local_Workload_";
        break;
    }
    std::string address = peer.text();
    std::replace_if(
        address.begin(), address.end(), [](char c) { return c == '.' || c == ':'; }, '_');
    name += address;
    if (port != 0) {
        name += fmt::format("_port_{}", port);
    }
    return name;
}

namespace {

bool is_global(const Peer& peer) {
    return peer.node.empty() && !peer.node_selector;
}

bool applies_to(const Peer& peer, const Node& node) {
    if (!peer.node.empty()) {
        return peer.node == node.name;
    }
    return !peer.node_selector || peer.node_selector(node.labels);
}

class Builder {
public:
    Builder(const Inputs& inputs, const Node& self) : inputs_(inputs), self_(self) {
        for (const Node& node : inputs.nodes) {
            for (Family family : kFamilies) {
                if (node.address(family)) {
                    owner_.emplace(node.address(family)->address, &node);
                }
            }
        }
    }

    Sessions build() {
        std::vector<const Peer*> peers;
        for (const Peer& peer : inputs_.peers) {
            peers.push_back(&peer);
        }
        std::sort(peers.begin(), peers.end(),
                  [](const Peer* a, const Peer* b) { return a->name < b->name; });
        // Global sessions first: one of the node to the same peer is their duplicate.
        for (bool global : {true, false}) {
            for (const Peer* peer : peers) {
                if (is_global(*peer) == global && applies_to(*peer, self_)) {
                    add_forward(*peer);
                }
            }
        }
        for (const Peer* peer : peers) {
            if (peer->reverse_peering && !peer->local_workload_selector) {
                add_reverse(*peer);
            }
        }
        add_mesh();
        std::sort(result_.sessions.begin(), result_.sessions.end(),
                  [](const Session& a, const Session& b) {
                      return std::tie(a.kind, a.peer, a.peer_port) <
                             std::tie(b.kind, b.peer, b.peer_port);
                  });
        return std::move(result_);
    }

private:
    [[nodiscard]] uint32_t as_of(const Node& node) const {
        return node.as_number.value_or(inputs_.settings.as_number);
    }

    [[nodiscard]] uint16_t port_of(const Node& node) const {
        return node.listen_port.value_or(inputs_.settings.listen_port);
    }

    void problem(const Peer& peer, std::string_view text) {
        result_.problems.push_back(fmt::format("BGPPeer {}: {}", peer.name, text));
    }

    // The parts that every session of this node has.
    Session base(SessionKind kind, const IpAddress& peer, uint32_t peer_as) const {
        Session session;
        session.kind = kind;
        session.peer = peer;
        session.peer_as = peer_as;
        session.local_as = as_of(self_);
        session.source = self_.address(peer.family())->address;
        session.listen_port = port_of(self_);
        session.strict_bind = inputs_.settings.bind_mode == BindMode::NodeIp;
        return session;
    }

    // A node's session needs only one active side. Both sides compare the addresses' texts, as
    // Calico does, so that they agree with nodes that run it.
    void set_passive(Session& session) const {
        session.passive =
            session.peer.text() > self_.address(session.peer.family())->address.text();
    }

    // other: the node at the other end, nullptr where it is not one of ours.
    void set_route_reflection(Session& session, const Node* other) const {
        if (self_.route_reflector_cluster_id.empty() || !session.internal()) {
            return;
        }
        if (other == nullptr ||
            other->route_reflector_cluster_id != self_.route_reflector_cluster_id) {
            session.cluster_id = self_.route_reflector_cluster_id;
        }
    }

    // What a BGPPeer says of its sessions, in whichever direction it is read.
    void apply_peer(Session& session, const Peer& peer) const {
        session.description = fmt::format("BGPPeer {}", peer.name);
        session.password = peer.password.value_or("");
        session.restart_time = peer.max_restart_time;
        session.keepalive_time = peer.keepalive_time;
        session.allowed_local_as = peer.allowed_local_as;
        session.ttl_security = peer.ttl_security;
        session.next_hop = peer.next_hop_mode;
        if (session.next_hop == NextHopMode::Auto && peer.keep_original_next_hop &&
            !session.internal()) {
            session.next_hop = NextHopMode::Keep;
        }
        session.filters = peer.filters;
        // A socket that is bound to the node's address cannot leave the choice of one open.
        if (!peer.source_is_node_ip && !session.strict_bind) {
            session.source.reset();
        }
    }

    bool usable_password(const Peer& peer) {
        if (peer.password_required && !peer.password) {
            problem(peer, "its password's Secret or key does not exist: no session without it");
            return false;
        }
        return true;
    }

    void add(Session session) {
        uint16_t port = session.peer_port == 0 ? 179 : session.peer_port;
        if (!taken_.emplace(session.peer, port).second) {
            return;
        }
        session.name = session_name(session.kind, session.peer, session.peer_port);
        result_.sessions.push_back(std::move(session));
    }

    void add_forward(const Peer& peer) {
        if (!usable_password(peer)) {
            return;
        }
        if (peer.local_workload_selector) {
            add_local_workloads(peer);
        } else if (peer.peer_ip) {
            add_forward_ip(peer, *peer.peer_ip);
        } else if (peer.peer_selector) {
            for (const Node& node : inputs_.nodes) {
                if (node.name == self_.name || !peer.peer_selector(node.labels)) {
                    continue;
                }
                for (Family family : kFamilies) {
                    if (self_.address(family) && node.address(family)) {
                        add_to_node(peer, node, family,
                                    is_global(peer) ? SessionKind::Global : SessionKind::Node);
                    }
                }
            }
        } else {
            problem(peer, "has neither peerIP nor peerSelector");
        }
    }

    void add_forward_ip(const Peer& peer, const IpAddress& address) {
        Family family = address.family();
        if (!self_.address(family)) {
            return;
        }
        auto it = owner_.find(address);
        const Node* other = it == owner_.end() ? nullptr : it->second;
        if (other != nullptr && other->name == self_.name) {
            return;
        }
        uint32_t as = peer.as_number;
        if (as == 0 && other != nullptr) {
            as = as_of(*other);
        }
        if (as == 0) {
            problem(peer, "asNumber is missing: expected the AS number of peerIP");
            return;
        }
        auto kind = is_global(peer) ? SessionKind::Global : SessionKind::Node;
        Session session = base(kind, address, as);
        session.local_as = peer.local_as.value_or(session.local_as);
        session.peer_port = peer.peer_port;
        if (session.peer_port == 0 && other != nullptr && port_of(*other) != 179) {
            session.peer_port = port_of(*other);
        }
        apply_peer(session, peer);
        if (peer.reachable_by) {
            if (peer.reachable_by->family() == family) {
                session.reachable_by = peer.reachable_by;
            } else {
                problem(peer, "reachableBy is not of peerIP's family");
            }
        }
        if (kind == SessionKind::Global && other != nullptr) {
            set_passive(session);
        }
        set_route_reflection(session, other);
        add(std::move(session));
    }

    void add_to_node(const Peer& peer, const Node& node, Family family, SessionKind kind,
                     bool reverse = false) {
        Session session = base(kind, node.address(family)->address, as_of(node));
        if (peer.local_as) {
            // It is what the peering's own side shows to the other.
            (reverse ? session.peer_as : session.local_as) = *peer.local_as;
        }
        if (port_of(node) != 179) {
            session.peer_port = port_of(node);
        }
        apply_peer(session, peer);
        if (kind == SessionKind::Global) {
            set_passive(session);
        }
        set_route_reflection(session, &node);
        add(std::move(session));
    }

    // Other nodes' peerings whose remote end is this node.
    void add_reverse(const Peer& peer) {
        for (Family family : kFamilies) {
            if (!self_.address(family)) {
                continue;
            }
            bool towards_us = peer.peer_ip ? *peer.peer_ip == self_.address(family)->address
                                           : peer.peer_selector && peer.peer_selector(self_.labels);
            if (!towards_us) {
                continue;
            }
            for (const Node& node : inputs_.nodes) {
                if (node.name != self_.name && node.address(family) && applies_to(peer, node)) {
                    if (!usable_password(peer)) {
                        return;
                    }
                    add_to_node(peer, node, family, SessionKind::Node, true);
                }
            }
        }
    }

    void add_local_workloads(const Peer& peer) {
        for (const LocalWorkload& workload : inputs_.workloads) {
            if (!peer.local_workload_selector(workload.labels)) {
                continue;
            }
            for (const IpAddress& address : workload.addresses) {
                const auto& ours = address.is_v4() ? inputs_.settings.local_workload_ipv4
                                                   : inputs_.settings.local_workload_ipv6;
                if (!ours || !self_.address(address.family())) {
                    continue;
                }
                if (peer.as_number == 0) {
                    problem(peer, "asNumber is missing: expected the AS number of the workloads");
                    return;
                }
                Session session = base(SessionKind::LocalWorkload, address, peer.as_number);
                session.local_as = peer.local_as.value_or(session.local_as);
                apply_peer(session, peer);
                session.source = ours;
                session.strict_bind = false;
                session.description += fmt::format(", pod {}/{}", workload.ns, workload.name);
                add(std::move(session));
            }
        }
    }

    void add_mesh() {
        const Settings& settings = inputs_.settings;
        if (!settings.node_mesh || !self_.route_reflector_cluster_id.empty()) {
            return;
        }
        if (settings.mesh_password_required && !settings.mesh_password) {
            result_.problems.emplace_back("BGPConfiguration default: the Secret or key of "
                                          "nodeMeshPassword does not exist: no mesh without it");
            return;
        }
        for (const Node& node : inputs_.nodes) {
            if (node.name == self_.name || !node.route_reflector_cluster_id.empty()) {
                continue;
            }
            for (Family family : kFamilies) {
                if (!self_.address(family) || !node.address(family)) {
                    continue;
                }
                Session session =
                    base(SessionKind::Mesh, node.address(family)->address, as_of(node));
                session.description = "node-to-node mesh, node " + node.name;
                if (port_of(node) != 179) {
                    session.peer_port = port_of(node);
                }
                session.password = settings.mesh_password.value_or("");
                session.restart_time = settings.mesh_max_restart_time;
                set_passive(session);
                add_mesh_session(std::move(session));
            }
        }
    }

    void add_mesh_session(Session session) {
        bool explicit_peer = std::any_of(taken_.begin(), taken_.end(), [&](const auto& taken) {
            return taken.first == session.peer;
        });
        if (explicit_peer) {
            return;
        }
        add(std::move(session));
        // Calico's name of a mesh session has no port.
        result_.sessions.back().name =
            session_name(SessionKind::Mesh, result_.sessions.back().peer, 0);
    }

    const Inputs& inputs_;
    const Node& self_;
    std::map<IpAddress, const Node*> owner_;
    std::set<std::pair<IpAddress, uint16_t>> taken_;
    Sessions result_;
};

} // namespace

Sessions compute_sessions(const Inputs& inputs) {
    const Node* self = inputs.own_node();
    return self == nullptr ? Sessions{} : Builder(inputs, *self).build();
}

} // namespace manx::bgp
