# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster is as its objects say: sessions, addresses, routes. What is expected comes from
the scenario's objects by the code of this folder, never from the agents.
"""

import ipaddress
import json

from . import host
from .errors import ClusterError
from .objects import spec_of

DEFAULT_BLOCK = {4: 26, 6: 122}


def expected_sessions(cluster, node):
    """Addresses of the routers and nodes that a node must have sessions with."""
    expected = {
        str(s.local) for r in cluster.plan.routers for s in r.sessions if s.node is node.node
    }
    if cluster.plan.mesh:
        for other in cluster.nodes:
            if other is not node:
                expected |= {
                    str(a.ip) for f, a in other.node.addresses.items() if f in node.node.addresses
                }
    return expected


def sessions(node):
    """Neighbour address -> state, of BIRD's BGP protocols."""
    found, state = {}, None
    for line in node.birdc("show", "protocols", "all").splitlines():
        words = line.split()
        if "BGP state:" in line:
            state = words[-1]
        elif "Neighbor address:" in line:
            found[words[-1].split("%")[0]] = state
    return found


def wait_for_sessions(cluster, timeout=45):
    """Until all sessions are up, or time is over; what is there then is checked by the caller."""

    def up():
        return all(
            {a for a, s in sessions(n).items() if s == "Established"}
            >= expected_sessions(cluster, n)
            for n in cluster.nodes
        ) and all(
            r.established() >= {str(p[3]) for p in r.router.peerings(cluster.plan.routers)}
            for r in cluster.routers
        )

    try:
        host.wait_for("all BGP sessions", up, timeout, every=0.2)
    except ClusterError:
        return False
    return True


def check_sessions(report, cluster):
    for node in cluster.nodes:
        there, expected = sessions(node), expected_sessions(cluster, node)
        down = sorted(a for a in expected if there.get(a) != "Established")
        report.check(
            set(there) == expected and not down,
            f"{node.name}: BGP with exactly its {len(expected)} peers, all established",
            f"not established: {', '.join(down) or '-'}; not its peers: "
            f"{', '.join(sorted(set(there) - expected)) or '-'}",
        )


def pools(objects):
    """(network, block length) of each pool."""
    found = []
    for o in objects.kind("IPPool"):
        network = ipaddress.ip_network(spec_of(o)["cidr"], strict=False)
        length = spec_of(o).get("blockSize") or DEFAULT_BLOCK[network.version]
        found.append((network, length, o))
    return found


def families(objects):
    """Families that pods get an address of: those with a pool that gives them out."""
    return sorted(
        {
            network.version
            for network, _, o in pools(objects)
            if not spec_of(o).get("disabled")
            and "Workload" in (spec_of(o).get("allowedUses") or ["Workload"])
            and spec_of(o).get("assignmentMode", "Automatic") == "Automatic"
        }
    )


def pool_of(objects, address):
    """The pool that an address lies in; None outside all."""
    ip = ipaddress.ip_address(address)
    for network, _, o in pools(objects):
        if ip.version == network.version and ip in network:
            return o
    return None


def block_of(objects, address):
    """The block that an address lies in; None outside all pools."""
    ip = ipaddress.ip_address(address)
    for network, length, _ in pools(objects):
        if ip.version == network.version and ip in network:
            return ipaddress.ip_network(f"{address}/{length}", strict=False)
    return None


def kernel_routes(netns):
    """Destination -> the route, both families, as ip -j prints it."""
    found = {}
    for family in ("-4", "-6"):
        text = host.run(["ip", "-n", netns, "-j", family, "route", "show"]).stdout
        for entry in json.loads(text or "[]"):
            found.setdefault(entry["dst"], entry)
    return found


def check_pods(report, cluster, objects, pods):
    """Addresses of both families, in blocks that one node only holds; the node's routes."""
    holders = {}
    wanted = families(objects)
    routes = {n.name: kernel_routes(n.netns) for n in cluster.nodes}
    for pod in pods:
        wrong = []
        for family in wanted:
            address = pod.addresses.get(family)
            block = block_of(objects, address) if address else None
            if block is None:
                wrong.append(f"its IPv{family} address is {address}")
                continue
            holders.setdefault(block, set()).add(pod.node.name)
            route = routes[pod.node.name].get(address)
            if not route or route.get("dev") != pod.interface:
                wrong.append(f"no route {address} dev {pod.interface} on {pod.node.name}")
            if block.prefixlen < block.max_prefixlen:
                blackhole = routes[pod.node.name].get(str(block), {})
                if blackhole.get("type") != "blackhole":
                    wrong.append(f"no route 'blackhole {block}' on {pod.node.name}")
        report.check(
            not wrong,
            f"pod {pod.title} on {pod.node.name}: "
            f"{', '.join(pod.addresses.values())} dev {pod.interface}",
            "; ".join(wrong),
        )
    shared = {b: sorted(n) for b, n in holders.items() if len(n) > 1}
    report.check(not shared, "no block is held by two nodes", str(shared))
    return {b: next(iter(n)) for b, n in holders.items()}


def expected_communities(objects, prefix):
    spec = spec_of(objects.get("BGPConfiguration", "default") or {})
    named = {c["name"]: c["value"] for c in spec.get("communities") or []}
    found = set()
    for entry in spec.get("prefixAdvertisements") or []:
        cidr = ipaddress.ip_network(entry["cidr"], strict=False)
        if cidr.version == prefix.version and prefix.subnet_of(cidr):
            found |= {named.get(c, c) for c in entry.get("communities") or []}
    return found


def exported(objects, block):
    for network, _, o in pools(objects):
        if network.version == block.version and block.subnet_of(network):
            return not spec_of(o).get("disableBGPExport") and not spec_of(o).get("disabled")
    return False


def wait_for_routes(cluster, blocks, timeout=30):
    """Until every node has a way to every block that it hears of; blocks: block -> node name."""

    def there():
        for node in cluster.nodes:
            routes = kernel_routes(node.netns)
            if any(str(b) not in routes for b in heard_of(cluster, node, blocks)):
                return False
        return True

    try:
        host.wait_for("all blocks on all nodes", there, timeout, every=0.2)
    except ClusterError:
        return False
    return True


def heard_of(cluster, node, blocks):
    """The blocks of other nodes that BGP must have told this node of."""
    plan = cluster.plan
    return [
        b for b, holder in blocks.items() if plan.hears_of(node.node, plan.node(holder), b.version)
    ]


def check_announcements(report, cluster, objects, blocks):
    """Each block is known to exactly the routers that its node peers with, from that node, with the
    communities of prefixAdvertisements; other nodes have a route to it."""
    speakers = [r for r in cluster.routers if r.router.sessions]
    tables = {(r.router.name, f): r.routes(f) for r in speakers for f in (4, 6)}
    for block, holder in sorted(blocks.items(), key=lambda i: (i[0].version, i[0])):
        if not exported(objects, block):
            continue
        wrong, told = [], []
        for router in speakers:
            direct = {
                str(s.remote): s.node.name
                for s in router.router.sessions
                if s.family == block.version
            }
            heard = [
                r
                for r in tables[router.router.name, block.version]
                if r["prefix"] == str(block) and r["from"] in direct
            ]
            wanted = holder in direct.values()
            owners = {direct[r["from"]] for r in heard}
            # A switch gets the block back from other nodes of its own only if they re-announce it.
            if owners != ({holder} if wanted else set()):
                wrong.append(f"{router.router.name} has it from {sorted(owners) or 'no node'}")
            for route in heard:
                told.append(router.router.name)
                if set(route["communities"]) != expected_communities(objects, block):
                    wrong.append(f"{router.router.name}: communities {route['communities']}")
        communities = " ".join(sorted(expected_communities(objects, block))) or "none"
        if speakers:
            report.check(
                not wrong,
                f"{block} of {holder}: announced to {', '.join(sorted(set(told)))}"
                f" only, communities {communities}",
                "; ".join(wrong),
            )
    for node in cluster.nodes:
        routes = kernel_routes(node.netns)
        expected = [b for b in heard_of(cluster, node, blocks) if exported(objects, b)]
        missing = [
            str(b)
            for b in expected
            if not {"gateway", "via", "nexthops"} & set(routes.get(str(b), {}))
        ]
        report.check(
            not missing,
            f"{node.name}: has routes to the {len(expected)} blocks of other nodes",
            str(missing),
        )
