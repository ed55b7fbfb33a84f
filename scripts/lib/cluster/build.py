# SPDX-License-Identifier: Apache-2.0
"""Builds a topology's namespaces and links, and starts what runs in them."""

import contextlib
import json
import os
import sqlite3
import time
import uuid

from . import host, objects, topology
from .errors import ClusterError
from .frr import FrrRouter
from .nodes import FORWARDING, UPLINK, ClusterNode

WRITTEN = "2026-01-01T00:00:00Z"  # when an object was created that nobody checked
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}
ROUTER_SYSCTLS = (*FORWARDING, "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")


def router_software(name):
    if name == "frr":
        return FrrRouter
    if name == "gobgp":
        from .gobgp import GobgpRouter

        return GobgpRouter
    raise ClusterError(f"--routers {name}: there is frr and gobgp")


class Cluster:
    def __init__(self, state, plan, binaries, routers="frr"):
        self.state, self.plan, self.binaries = state, plan, binaries
        self.datastore = os.path.join(state.folder, "datastore.sqlite")
        software = router_software(routers)
        self.nodes = [ClusterNode(state, n, binaries) for n in plan.nodes]
        self.routers = [software(state, r, state.netns(r.name), plan.routers) for r in plan.routers]
        state.data["nodes"] = {n.name: {} for n in self.nodes}
        state.data["routers"] = {r.router.name: {"netns": r.netns} for r in self.routers}
        state.save()
        self.ports = {}

    def node(self, name):
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(
            f"no node '{name}'; the nodes are " + ", ".join(n.name for n in self.nodes)
        )

    def up(self):
        """Everything but the agents: namespaces, links, addresses, routers."""
        for router in self.routers:
            host.add_netns(router.netns, ROUTER_SYSCTLS)
        for node in self.nodes:
            node.hold()
        for number, segment in enumerate(self.plan.segments, 1):
            self.plug_segment(segment, f"vlan{number}")
        for link in self.plan.links:
            self.plug_link(link)
        for router in self.routers:
            commands = [f"address add {a} dev lo" for a in router.router.loopbacks.values()]
            commands += [f"route add {n} via {hop}" for n, hop in self.plan.routes(router.router)]
            host.ip(router.netns, commands)
            router.start()

    def ctl(self, *words, stdin=None):
        """manxctl on the first node, whose configuration names the datastore."""
        return self.nodes[0].ctl(*words, stdin=stdin)

    def configure(self):
        for node in self.nodes:
            node.configure(self.datastore)

    def apply(self, items, name):
        """Writes objects into the datastore, as a list in a file of the cluster's folder."""
        return self.ctl("apply", "-f", self.write_list(items, name))

    def delete(self, items, name):
        return self.ctl("delete", "-f", self.write_list(items, name))

    def write_list(self, items, name):
        path = self.state.path("objects", name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "List", "items": items}, f, indent=1)
        return path

    def write_unchecked(self, o):
        """An object into the datastore as somebody else's newer software might write it, over what
        is there: then it stays the same object, with its uid. Agents hear of it with the next
        write."""
        group, meta = objects.group_of(o), o["metadata"]
        kind = o["kind"].lower()
        plural = kind.removesuffix("y") + "ies" if kind.endswith("y") else kind + "s"
        key = (f"{plural}.{group}", meta.get("namespace", ""))
        with contextlib.closing(sqlite3.connect(self.datastore, timeout=10)) as db, db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE state SET revision = revision + 1")
            revision = db.execute("SELECT revision FROM state").fetchone()[0]
            db.execute(
                "INSERT INTO "
                "objects(kind, ns, name, revision, created, uid, created_at, json) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(kind, ns, name) "
                "DO UPDATE SET revision = excluded.revision, json = excluded.json",
                (*key, meta["name"], revision, revision, str(uuid.uuid4()), WRITTEN, json.dumps(o)),
            )

    def last_write(self):
        """The datastore's revision of the last write that agents hear of."""
        heard = "kind NOT LIKE 'ipam%'"
        with contextlib.closing(sqlite3.connect(self.datastore, timeout=10)) as db:
            return max(
                db.execute(f"SELECT coalesce(max(revision), 0) FROM {t} WHERE {heard}").fetchone()[
                    0
                ]
                for t in ("objects", "tombstones")
            )

    def wait_for_sync(self, timeout=10):
        """Until every agent has in its tables what was written before this call."""
        wanted = self.last_write()

        def applied(node):
            status = node.status()
            return status and int(status["datastore"]["applied"] or 0) >= wanted and status

        for node in self.nodes:
            status = host.wait_for(
                f"revision {wanted} in force on {node.name}", lambda: applied(node), timeout, 0.002
            )
            if trouble := [r for r in status["notReady"] if r.startswith("policy tables")]:
                raise ClusterError(f"{node.name}: {trouble[0]}")

    def start_agents(self):
        """All at once; returns node name -> seconds until it answered."""
        started = time.monotonic()
        for node in self.nodes:
            node.start_agent()
        took = {}
        for node in self.nodes:
            node.wait_for_agent()
            took[node.name] = time.monotonic() - started
        return took

    def leave_up(self):
        """Nobody owns it from now on; only being asked to takes it down."""
        self.state.data.update(keep=True, owner=None)
        self.state.save()

    def netns_of(self, router):
        return next(r.netns for r in self.routers if r.router is router)

    def port(self, router):
        """The next free port's name of a router."""
        number = self.ports[router.name] = self.ports.get(router.name, 0) + 1
        return f"swp{number}"

    def plug_segment(self, segment, bridge):
        """The segment is a bridge in its first router; other routers and nodes plug into it."""
        first, *others = segment.routers
        netns = self.netns_of(first)
        commands = [
            f"link add {bridge} type bridge forward_delay 0 stp_state 0",
            f"link set {bridge} up",
        ]
        commands += self.addresses_on(first, segment, bridge)
        for node in (n for n in self.nodes if n.node.segment is segment):
            port = self.port(first)
            commands += [
                f"link add {port} master {bridge} type veth peer name {UPLINK} netns {node.netns}",
                f"link set {port} up",
            ]
        for other in others:
            port = self.port(first)
            commands += [
                f"link add {port} master {bridge} type veth peer name {bridge} "
                f"netns {self.netns_of(other)}",
                f"link set {port} up",
            ]
        host.ip(netns, commands)
        for other in others:
            host.ip(
                self.netns_of(other),
                [f"link set {bridge} up", *self.addresses_on(other, segment, bridge)],
            )
        for node in (n for n in self.nodes if n.node.segment is segment):
            host.ip(
                node.netns,
                [f"link set {UPLINK} up"]
                + [f"address add {a} dev {UPLINK}" for a in node.node.addresses.values()]
                + [
                    f"route add {DEFAULT[f]} via {segment.gateway[f]} dev {UPLINK} onlink"
                    for f in node.node.addresses
                    if f in segment.gateway
                ],
            )

    @staticmethod
    def addresses_on(router, segment, device):
        held = next(a for s, a in router.segments if s is segment)
        return [
            f"address add {a}/{segment.subnets[f].prefixlen} dev {device}" for f, a in held.items()
        ]

    def plug_link(self, link):
        names = [self.port(r) for r in link.ends]
        spaces = [self.netns_of(r) for r in link.ends]
        host.ip(
            spaces[0], [f"link add {names[0]} type veth peer name {names[1]} netns {spaces[1]}"]
        )
        for name, space, addresses in zip(names, spaces, link.addresses):
            host.ip(
                space,
                [f"link set {name} up"]
                + [f"address add {addresses[f]} dev {name}" for f in topology.FAMILIES],
            )
