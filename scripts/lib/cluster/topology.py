# SPDX-License-Identifier: Apache-2.0
"""From a cluster's objects to the network that they imply. Pure: touches nothing.

- A node is a Node object; its addresses are Calico's annotations, or its InternalIPs with the
  usual /24 and /64. Nodes of one subnet share a segment.
- A BGPPeer whose address lies in a node's subnet is a router on that segment (a top-of-rack
  switch). Any other is a core router: the address is its loopback, reached over the gateway.
- The gateway of a segment is its first router; without one, a core router holds the first
  address of the subnet.
- Each switch is linked to each core router, the cores to each other. Loopbacks and node subnets are
  static between them. Routers of one AS all peer with each other, so that nothing is reflected;
  routers of different AS peer over their link.
- Without any router (a node-to-node mesh) one switch routes between the nodes' subnets.
"""

import dataclasses
import ipaddress
import re

from . import selector
from .errors import ClusterError
from .objects import annotations_of, labels_of, name_of, spec_of

FAMILIES = (4, 6)
DEFAULT_LENGTH = {4: 24, 6: 64}
HOST_LENGTH = {4: 32, 6: 128}
DEFAULT_AS = 64512
BGP_PORT = 179

# Links between routers take addresses that no cluster uses: those for benchmarks and documentation.
LINK_RANGE = {
    4: ipaddress.ip_network("198.18.0.0/15"),
    6: ipaddress.ip_network("2001:db8:ffff::/48"),
}


@dataclasses.dataclass
class Node:
    name: str
    labels: dict
    addresses: dict  # family -> ip_interface
    as_number: int
    segment: "Segment" = None


@dataclasses.dataclass
class Router:
    name: str
    as_number: int = 0  # 0: speaks no BGP
    port: int = BGP_PORT
    hub: bool = False  # of nobody's making but ours, to connect the others
    loopbacks: dict = dataclasses.field(default_factory=dict)  # family -> ip_address
    segments: list = dataclasses.field(default_factory=list)  # of (Segment, {family: ip_address})
    links: list = dataclasses.field(default_factory=list)  # of Link
    sessions: list = dataclasses.field(default_factory=list)  # of Session, to nodes

    def peerings(self, routers):
        """Sessions with other routers: (other, family, own address, its address)."""
        for family in FAMILIES if self.as_number else ():
            for other in routers:
                if other is not self and other.as_number == self.as_number:
                    yield other, family, self.address(family), other.address(family)
            for link in self.links:
                other = link.other(self)
                if other.as_number not in (0, self.as_number):
                    yield other, family, link.address(self, family), link.address(other, family)

    @property
    def is_core(self):
        return bool(self.loopbacks) or self.hub

    def address(self, family):
        """One address of the router: its loopback, or the one on its first segment or link."""
        if family in self.loopbacks:
            return self.loopbacks[family]
        for _, addresses in self.segments:
            if family in addresses:
                return addresses[family]
        return self.links[0].address(self, family) if self.links else None


@dataclasses.dataclass
class Segment:
    """A subnet of nodes, in both families; the first router holds the bridge and is the gateway."""

    subnets: dict  # family -> ip_network
    nodes: list
    gateway: dict = dataclasses.field(default_factory=dict)  # family -> ip_address
    routers: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Link:
    ends: tuple  # two Routers
    addresses: tuple  # {family: ip_interface} of each

    def other(self, router):
        return self.ends[1] if router is self.ends[0] else self.ends[0]

    def address(self, router, family):
        return self.addresses[0 if router is self.ends[0] else 1][family].ip


@dataclasses.dataclass
class Session:
    """What a router's side of a session with a node needs."""

    node: Node
    family: int
    local: object  # ip_address of the router
    remote: object  # ip_address of the node
    remote_as: int
    remote_port: int
    multihop: bool
    password: str = None
    ttl_hops: int = 0
    own_as_allowed: bool = False  # the node accepts routes with its own AS in their path


@dataclasses.dataclass
class Topology:
    nodes: list
    routers: list
    segments: list
    links: list
    mesh: bool

    def node(self, name):
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(
            f"no node '{name}'; the nodes are " + ", ".join(n.name for n in self.nodes)
        )

    def hears_of(self, node, other, family):
        """Whether BGP tells a node of another node's blocks."""
        if node is other or not {family} <= set(node.addresses) & set(other.addresses):
            return False
        if self.mesh:
            return True
        mine = [(r, s) for r in self.routers for s in r.sessions if s.node is node]
        theirs = [s for r in self.routers for s in r.sessions if s.node is other]
        if not any(s.family == family for s in theirs):
            return False
        # Its own AS is in the path of what comes from a node of the same AS, unless all is one AS.
        return any(
            s.family == family
            and (
                s.own_as_allowed
                or node.as_number != other.as_number
                or node.as_number == r.as_number
            )
            for r, s in mine
        )

    def routes(self, router):
        """Static routes of a router to subnets and loopbacks of others: (network, next hop)."""
        first_hop, queue = {id(router): None}, [router]
        order = []
        while queue:
            at = queue.pop(0)
            for link in at.links:
                to = link.other(at)
                if id(to) not in first_hop:
                    first_hop[id(to)] = link if at is router else first_hop[id(at)]
                    queue.append(to)
                    order.append(to)
        seen = {s.subnets[f] for s, _ in router.segments for f in s.subnets}
        for other in order:
            link = first_hop[id(other)]
            targets = [(f, ipaddress.ip_network(a)) for f, a in other.loopbacks.items()]
            targets += [(f, n) for s, _ in other.segments for f, n in s.subnets.items()]
            for far in other.links:
                targets += [(f, i.network) for f, i in far.addresses[0].items()]
            for family, network in targets:
                on_link = any(network == l.addresses[0][family].network for l in router.links)
                if network not in seen and not on_link:
                    seen.add(network)
                    yield network, link.address(link.other(router), family)


def build(objects):
    nodes = [node_from(o, bgp_default(objects)) for o in objects.kind("Node")]
    if not nodes:
        raise ClusterError("the scenario has no Node object")
    segments = segments_of(nodes)
    spec = spec_of(bgp_default(objects) or {})
    routers = routers_of(objects, nodes, spec)
    connect_segments(segments, routers)
    links = link_routers(routers)
    return Topology(nodes, routers, segments, links, spec.get("nodeToNodeMeshEnabled", True))


def bgp_default(objects):
    return objects.get("BGPConfiguration", "default")


def as_number(value, where):
    """A number, or dotted as in 1.10."""
    text = str(value)
    match = re.fullmatch(r"(?:(\d+)\.)?(\d+)", text)
    if not match:
        raise ClusterError(f"{where}: '{text}' is not an AS number")
    return int(match[1] or 0) * 65536 + int(match[2])


def node_from(o, configuration):
    name, annotations = name_of(o), annotations_of(o)
    addresses = {}
    for family in FAMILIES:
        text = annotations.get(f"projectcalico.org/IPv{family}Address")
        if text:
            addresses[family] = interface_of(
                text, family, f"Node {name}: annotation " f"projectcalico.org/IPv{family}Address"
            )
    for entry in (o.get("status") or {}).get("addresses") or []:
        if entry.get("type") == "InternalIP":
            address = interface_of(entry.get("address", ""), None, f"Node {name}: status.addresses")
            addresses.setdefault(address.version, address)
    if not addresses:
        raise ClusterError(
            f"Node {name}: no address: wants annotation "
            "projectcalico.org/IPv4Address or an InternalIP"
        )
    default = spec_of(configuration or {}).get("asNumber") or DEFAULT_AS
    number = annotations.get("projectcalico.org/ASNumber") or default
    return Node(name, labels_of(o), addresses, as_number(number, f"Node {name}"))


def interface_of(text, family, where):
    try:
        address = ipaddress.ip_interface(text)
    except ValueError as error:
        raise ClusterError(f"{where}: '{text}' is not an address") from error
    if family and address.version != family:
        raise ClusterError(f"{where}: '{text}' is not IPv{family}")
    if "/" not in text:
        address = ipaddress.ip_interface(f"{text}/{DEFAULT_LENGTH[address.version]}")
    return address


def segments_of(nodes):
    segments = []
    for node in nodes:
        mine = {f: a.network for f, a in node.addresses.items()}
        for segment in segments:
            if any(segment.subnets.get(f) == n for f, n in mine.items()):
                segment.nodes.append(node)
                for family, network in mine.items():
                    segment.subnets.setdefault(family, network)
                break
        else:
            segment = Segment(mine, [node])
            segments.append(segment)
        node.segment = segment
    return segments


def split_peer(text, where):
    """Address and port of a BGPPeer's peerIP: a.b.c.d, a.b.c.d:port, v6, [v6]:port."""
    match = re.fullmatch(
        r"\[([0-9A-Fa-f:.]+)\](?::(\d+))?|([\d.]+)(?::(\d+))?|([0-9A-Fa-f:.]+)", text
    )
    try:
        address = ipaddress.ip_address(match[1] or match[3] or match[5])
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{where}: peerIP '{text}' is not an address") from error
    return address, int(match[2] or match[4] or BGP_PORT)


def selects(peer, node):
    spec = spec_of(peer)
    if spec.get("node"):
        return spec["node"] == node.name
    if spec.get("nodeSelector"):
        return selector.matches(spec["nodeSelector"], node.labels)
    return True


def stem(name):
    """What the objects of one router's two families have in common: lsw1-c2-eqiad-ipv4."""
    return re.sub(r"[-_.]?(ip)?v?[46]$", "", name) or name


@dataclasses.dataclass
class Peer:
    """A BGPPeer with an address, and the nodes that it applies to."""

    name: str
    address: object
    port: int
    spec: dict
    nodes: list

    @property
    def family(self):
        return self.address.version

    def direct(self, node):
        return self.family in node.addresses and self.address in node.addresses[self.family].network


def peers_of(objects, nodes):
    own = {a.ip for n in nodes for a in n.addresses.values()}
    peers = []
    for o in objects.kind("BGPPeer"):
        spec = spec_of(o)
        if not spec.get("peerIP"):
            continue
        selected = [n for n in nodes if selects(o, n)]
        if not selected:
            continue
        address, port = split_peer(str(spec["peerIP"]), f"BGPPeer {name_of(o)}")
        if address not in own:
            peers.append(Peer(name_of(o), address, port, spec, selected))
    return peers


def routers_of(objects, nodes, bgp_spec):
    peers = peers_of(objects, nodes)
    groups = pair_families(peers)
    routers = []
    for group in groups:
        first = group[0]
        router = Router(
            stem(first.name),
            as_number(first.spec.get("asNumber", 0), f"BGPPeer {first.name}"),
            first.port,
        )
        for peer in group:
            if (
                peer.port != router.port
                or as_number(peer.spec.get("asNumber", 0), peer.name) != router.as_number
            ):
                raise ClusterError(
                    f"BGPPeer {peer.name}: another port or AS than BGPPeer {first.name}, "
                    "which is the same router"
                )
            for node in peer.nodes:
                if peer.family not in node.addresses:
                    continue
                if peer.direct(node):
                    attach(router, node.segment, {peer.family: peer.address})
                else:
                    router.loopbacks[peer.family] = peer.address
                add_session(router, peer, node, objects, bgp_spec)
        routers.append(router)
    return routers


def pair_families(peers):
    """Groups of peers that are one router: by address, by stem of the name, else two single-family
    ones with the same nodes and AS, in order."""
    groups = []
    for peer in peers:
        for group in groups:
            same = [p for p in group if p.family == peer.family]
            if any(p.address == peer.address for p in same) or (
                not same and stem(group[0].name) == stem(peer.name)
            ):
                group.append(peer)
                break
        else:
            groups.append([peer])
    paired = []
    for group in groups:
        kin = traits(group)
        for earlier in paired:
            if (
                len({p.family for p in earlier + group}) == 2
                and len({p.family for p in earlier}) == 1
                and traits(earlier) == kin
            ):
                earlier += group
                break
        else:
            paired.append(group)
    return paired


def traits(group):
    nodes = {n.name for p in group for n in p.nodes}
    return (
        nodes,
        str(group[0].spec.get("asNumber")),
        any(p.direct(n) for p in group for n in p.nodes),
    )


def attach(router, segment, addresses):
    for known, held in router.segments:
        if known is segment:
            held.update(addresses)
            return
    router.segments.append((segment, dict(addresses)))
    segment.routers.append(router)


def add_session(router, peer, node, objects, bgp_spec):
    spec = peer.spec
    if any(s.node is node and s.local == peer.address for s in router.sessions):
        return
    own = objects.get("BGPConfiguration", f"node.{node.name}")
    port = spec_of(own or {}).get("listenPort") or bgp_spec.get("listenPort") or BGP_PORT
    router.sessions.append(
        Session(
            node,
            peer.family,
            peer.address,
            node.addresses[peer.family].ip,
            as_number(spec.get("localASNumber") or node.as_number, f"BGPPeer {peer.name}"),
            port,
            not peer.direct(node),
            password_of(objects, spec),
            spec.get("ttlSecurity") or 0,
            bool(spec.get("numAllowedLocalASNumbers")),
        )
    )


def password_of(objects, spec):
    reference = (spec.get("password") or {}).get("secretKeyRef")
    if not reference:
        return None
    secret = objects.get("Secret", reference.get("name")) or {}
    if reference.get("key") in (secret.get("stringData") or {}):
        return secret["stringData"][reference["key"]]
    import base64

    data = (secret.get("data") or {}).get(reference.get("key"))
    return base64.b64decode(data).decode() if data else None


def connect_segments(segments, routers):
    """Gives every segment a gateway, and a core to a network whose switches need one."""
    if not routers:
        routers.append(Router("switch", hub=True))
    for segment in segments:
        if not segment.routers:
            talked_to = [r for r in routers if any(s.node in segment.nodes for s in r.sessions)]
            cores = [r for r in talked_to or routers if r.is_core] or new_core(routers)
            attach(cores[0], segment, {})
        for index, router in enumerate(segment.routers):
            held = next(a for s, a in router.segments if s is segment)
            for family, network in segment.subnets.items():
                if family not in held:
                    held[family] = free_address(segment, network, family)
                if index == 0:
                    segment.gateway[family] = held[family]


def new_core(routers):
    router = Router("core", routers[0].as_number, hub=True)
    routers.append(router)
    return [router]


def free_address(segment, network, family):
    used = {n.addresses[family].ip for n in segment.nodes if family in n.addresses}
    used |= {a.get(family) for r in segment.routers for s, a in r.segments if s is segment}
    return next(a for a in network.hosts() if a not in used)


def link_routers(routers):
    cores = [r for r in routers if r.is_core]
    if len(routers) > 1 and not cores:
        cores = new_core(routers)
    links = []
    subnets = {f: LINK_RANGE[f].subnets(new_prefix=HOST_LENGTH[f] - 1) for f in FAMILIES}
    for index, core in enumerate(cores):
        for other in [r for r in routers if not r.is_core] + cores[index + 1 :]:
            ends = ({}, {})
            for family in FAMILIES:
                subnet = next(subnets[family])
                for end, offset in zip(ends, (0, 1)):
                    end[family] = ipaddress.ip_interface((subnet[offset], subnet.prefixlen))
            link = Link((core, other), ends)
            core.links.append(link)
            other.links.append(link)
            links.append(link)
    return links
