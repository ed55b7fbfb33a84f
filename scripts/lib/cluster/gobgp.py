# SPDX-License-Identifier: Apache-2.0
"""A router that runs GoBGP. gobgpd has no hand in the kernel's routes; route_installer.py beside
it puts its best paths there.
"""

import json
import os

from . import host
from .frr import router_id

INSTALLER = os.path.join(os.path.dirname(__file__), "route_installer.py")


class GobgpRouter:
    software = "GoBGP"

    def __init__(self, state, router, netns, routers):
        self.state, self.router, self.netns, self.others = state, router, netns, routers
        self.folder = state.folder_of("routers", router.name)

    def start(self):
        if not self.router.as_number:
            return
        path = os.path.join(self.folder, "gobgpd.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(configuration(self.router, self.others), f, indent=1)
        inside = host.in_netns(self.netns)
        host.spawn(
            [
                "gobgpd",
                "-f",
                path,
                "-t",
                "json",
                "--api-hosts",
                "127.0.0.1:50051",
                "--pprof-disable",
            ],
            self.state.log(f"{self.router.name}.gobgpd"),
            inside,
        )
        host.wait_for(f"gobgpd of {self.router.name}", lambda: self.as_json("global"))
        own = [str(s.local) for s in self.router.sessions]
        host.spawn(
            ["/usr/bin/python3", INSTALLER, *own],
            self.state.log(f"{self.router.name}.routes"),
            inside,
        )

    def command(self, *words):
        return host.run([*host.in_netns(self.netns), "gobgp", *words], check=False).stdout

    def as_json(self, *words):
        try:
            return json.loads(self.command("-j", *words))
        except ValueError:
            return {}

    def established(self):
        # session_state 6 is Established
        return {
            n["state"]["neighbor_address"]
            for n in self.as_json("neighbor") or []
            if n.get("state", {}).get("session_state") == 6
        }

    def routes(self, family):
        learned = []
        for prefix, paths in (self.as_json("global", "rib", "-a", f"ipv{family}") or {}).items():
            for path in paths:
                attributes = {a["type"]: a for a in path["attrs"]}
                learned.append(
                    {
                        "prefix": prefix,
                        "next_hop": next_hop(attributes),
                        "path": as_path(attributes),
                        "communities": [
                            f"{c >> 16}:{c & 0xffff}"
                            for c in attributes.get(8, {}).get("communities", [])
                        ]
                        + [
                            f"{c['ASN']}:{c['LocalData1']}:{c['LocalData2']}"
                            for c in attributes.get(32, {}).get("value", [])
                        ],
                        "best": bool(path.get("best")),
                        "from": path.get("neighbor-ip"),
                    }
                )
        return learned

    def show(self, family):
        return f"gobgp global rib -a ipv{family}", self.command(
            "global", "rib", "-a", f"ipv{family}"
        )


def next_hop(attributes):
    if 3 in attributes:
        return attributes[3]["nexthop"]
    return attributes.get(14, {}).get("nexthop")


def as_path(attributes):
    return " ".join(
        str(n) for part in attributes.get(2, {}).get("as_paths", []) for n in part["asns"]
    )


def configuration(router, routers):
    neighbors = []
    for session in router.sessions:
        same = session.remote_as == router.as_number
        neighbors.append(
            neighbor(
                router,
                session.remote,
                session.remote_as,
                session.local,
                session.family,
                port=session.remote_port,
                password=session.password,
                client=same,
                multihop=None if same or session.ttl_hops else 10,
                ttl_hops=session.ttl_hops,
                # It would keep a node's routes from nodes of the same AS; the nodes allow their own
                # AS once, and get it as this router's.
                replace=not same,
            )
        )
    names = []
    for other, family, local, remote in router.peerings(routers):
        names.append(str(remote))
        neighbors.append(neighbor(router, remote, other.as_number, local, family))
    policy = (
        {
            "defined-sets": {
                "neighbor-sets": [
                    {
                        "neighbor-set-name": "routers",
                        "neighbor-info-list": [f"{n}/{128 if ':' in n else 32}" for n in names],
                    }
                ]
            },
            "policy-definitions": [
                {
                    "name": "next-hop-self",
                    "statements": [
                        {
                            "name": "routers",
                            "conditions": {"match-neighbor-set": {"neighbor-set": "routers"}},
                            "actions": {
                                "route-disposition": "accept-route",
                                "bgp-actions": {"set-next-hop": "self"},
                            },
                        }
                    ],
                }
            ],
        }
        if names
        else {}
    )
    return {
        "global": {
            "config": {
                "as": router.as_number,
                "router-id": str(router_id(router)),
                "port": router.port,
            },
            "apply-policy": {
                "config": {
                    "export-policy-list": ["next-hop-self"] if names else [],
                    "default-export-policy": "accept-route",
                }
            },
        },
        "neighbors": neighbors,
        **policy,
    }


def neighbor(
    router,
    peer,
    as_number,
    local,
    family,
    port=179,
    password=None,
    client=False,
    multihop=None,
    ttl_hops=0,
    replace=False,
):
    entry = {
        "config": {"neighbor-address": str(peer), "peer-as": as_number},
        "transport": {"config": {"local-address": str(local), "remote-port": port}},
        "timers": {
            "config": {
                "connect-retry": 1,
                "idle-hold-time-after-reset": 1,
                "hold-time": 9,
                "keepalive-interval": 3,
            }
        },
        "afi-safis": [{"config": {"afi-safi-name": f"ipv{family}-unicast"}}],
        "as-path-options": {"config": {"replace-peer-as": replace}},
    }
    if password:
        entry["config"]["auth-password"] = password
    if client:
        entry["route-reflector"] = {
            "config": {
                "route-reflector-client": True,
                "route-reflector-cluster-id": str(router_id(router)),
            }
        }
    if multihop:
        entry["ebgp-multihop"] = {"config": {"enabled": True, "multihop-ttl": multihop}}
    if ttl_hops:
        entry["ttl-security"] = {"config": {"enabled": True, "ttl-min": 256 - ttl_hops}}
    return entry
