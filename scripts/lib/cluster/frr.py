# SPDX-License-Identifier: Apache-2.0
"""A router that runs FRR: zebra and bgpd of its own namespace, with their own folder."""

import json
import os
import shutil

from . import host
from .topology import FAMILIES

DAEMONS = "/usr/lib/frr"


class FrrRouter:
    software = "FRR"

    def __init__(self, state, router, netns, routers):
        self.state, self.router, self.netns, self.others = state, router, netns, routers
        self.folder = state.folder_of("routers", router.name)

    def start(self):
        if not self.router.as_number:
            return
        with open(os.path.join(self.folder, "zebra.conf"), "w", encoding="utf-8") as f:
            f.write(f"hostname {self.router.name}\n")
        with open(os.path.join(self.folder, "bgpd.conf"), "w", encoding="utf-8") as f:
            f.write(configuration(self.router, self.others))
        for path in (self.folder, *(os.path.join(self.folder, n) for n in os.listdir(self.folder))):
            shutil.chown(path, "frr", "frr")
        socket = os.path.join(self.folder, "zserv.api")
        self.daemon("zebra", socket)
        host.wait_for(f"zebra of {self.router.name}", lambda: os.path.exists(socket))
        self.daemon("bgpd", socket, "-p", str(self.router.port))

    def daemon(self, name, socket, *more):
        argv = [
            os.path.join(DAEMONS, name),
            "-f",
            os.path.join(self.folder, name + ".conf"),
            "-i",
            os.path.join(self.folder, name + ".pid"),
            "-z",
            socket,
            "--vty_socket",
            self.folder,
            "-P",
            "0",
            "-u",
            "frr",
            "-g",
            "frr",
            "--log",
            "stdout",
            *more,
        ]
        host.spawn(argv, self.state.log(f"{self.router.name}.{name}"), host.in_netns(self.netns))

    def command(self, *commands):
        """What vtysh answers."""
        argv = ["vtysh", "--vty_socket", self.folder]
        for command in commands:
            argv += ["-c", command]
        return host.run([*host.in_netns(self.netns), *argv], check=False).stdout

    def as_json(self, command):
        try:
            return json.loads(self.command(command))
        except ValueError:
            return {}

    def established(self):
        """Addresses of the neighbours whose session is up."""
        up = set()
        for family in FAMILIES:
            peers = self.as_json(f"show bgp ipv{family} unicast summary json").get("peers") or {}
            up |= {address for address, p in peers.items() if p.get("state") == "Established"}
        return up

    def routes(self, family):
        """What was learned: a list of {prefix, next_hop, path, communities, best, from}."""
        table = self.as_json(f"show bgp ipv{family} unicast json detail").get("routes") or {}
        learned = []
        for prefix, paths in table.items():
            for path in (p for p in paths if "aspath" in p):
                hops = path.get("nexthops") or [{}]
                learned.append(
                    {
                        "prefix": prefix,
                        "next_hop": hops[0].get("ip"),
                        "path": path.get("aspath", {}).get("string", ""),
                        "communities": path.get("community", {}).get("list", [])
                        + path.get("largeCommunity", {}).get("list", []),
                        "best": bool(path.get("bestpath", {}).get("overall")),
                        "from": path.get("peer", {}).get("peerId"),
                    }
                )
        return learned

    def show(self, family):
        return f"vtysh -c 'show bgp ipv{family} unicast'", self.command(
            f"show bgp ipv{family} unicast"
        )


def configuration(router, routers):
    lines = [
        f"hostname {router.name}",
        "log stdout informational",
        f"router bgp {router.as_number}",
        f" bgp router-id {router_id(router)}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " bgp log-neighbor-changes",
        " timers bgp 3 9",
    ]
    families = {f: [] for f in FAMILIES}
    for session in router.sessions:
        peer, inside = str(session.remote), families[session.family]
        lines += neighbor(peer, session.remote_as, session.local, f"node {session.node.name}")
        if session.remote_port != 179:
            lines.append(f" neighbor {peer} port {session.remote_port}")
        if session.password:
            lines.append(f" neighbor {peer} password {session.password}")
        if session.remote_as == router.as_number:
            inside += [f"  neighbor {peer} route-reflector-client"]
        elif session.ttl_hops:
            lines.append(f" neighbor {peer} ttl-security hops {session.ttl_hops}")
        elif session.multihop:
            lines.append(f" neighbor {peer} ebgp-multihop 10")
        inside += [f"  neighbor {peer} activate"]
    for other, family, local, remote in router.peerings(routers):
        lines += neighbor(remote, other.as_number, local, other.name)
        families[family] += [
            f"  neighbor {remote} activate",
            f"  neighbor {remote} next-hop-self force",
        ]
    for family, inside in families.items():
        lines += [" !", f" address-family ipv{family} unicast", *inside, " exit-address-family"]
    return "\n".join(lines) + "\n!\n"


def neighbor(peer, as_number, source, description):
    return [
        f" neighbor {peer} remote-as {as_number}",
        f" neighbor {peer} description {description}",
        f" neighbor {peer} update-source {source}",
        f" neighbor {peer} timers connect 1",
        f" neighbor {peer} advertisement-interval 0",
    ]


def router_id(router):
    """An IPv4 address of the router; for one without any, a number of its own."""
    address = router.address(4)
    return address if address else f"0.0.0.{sum(map(ord, router.name)) % 254 + 1}"
