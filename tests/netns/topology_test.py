#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a cluster's objects imply, with plain tables: needs no rights and touches nothing."""

import ipaddress
import os
import sys
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from cluster import checks, defaults, objects, selector, topology  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402

EXAMPLE = os.path.join(ROOT, "examples", "wikikube-eqiad")


def node(name, *addresses, labels=None, **annotations):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels or {},
            "annotations": {f"projectcalico.org/{k}": v for k, v in annotations.items()},
        },
        "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]},
    }


def calico(kind, name, **spec):
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def build(*items):
    return topology.build(objects.Objects(items))


class Selectors(unittest.TestCase):
    LABELS = {"zone": "row-a", "a/b.c": "x"}

    def test_table(self):
        for text, expected in (
            ("", True),
            ("all()", True),
            ("zone == 'row-a'", True),
            ('zone == "row-b"', False),
            ("zone != 'row-b'", True),
            ("absent != 'x'", True),
            ("absent == 'x'", False),
            ("has(zone) && !has(absent)", True),
            ("zone in {'row-b', 'row-a'}", True),
            ("zone in { }", False),
            ("zone not in {'row-a',}", False),
            ("absent notin {'x'}", True),
            ("zone contains 'ow'", True),
            ("zone starts with 'row' && zone ends with 'a'", True),
            ("a/b.c == 'x' || zone == 'nowhere' && has(absent)", True),
            ("(a/b.c == 'x' || zone == 'nowhere') && has(absent)", False),
            ("!(zone == 'row-b'|| zone == 'row-c')", True),
        ):
            with self.subTest(text):
                self.assertEqual(selector.matches(text, self.LABELS), expected)

    def test_errors_name_the_selector(self):
        for text in ("zone ==", "zone == row", "has zone", "(all()", "zone is 'a'", "'a' == zone"):
            with self.subTest(text), self.assertRaises(ClusterError) as caught:
                selector.matches(text, self.LABELS)
            self.assertIn(text, str(caught.exception))


class Wikikube(unittest.TestCase):
    def setUp(self):
        self.plan = topology.build(objects.load(EXAMPLE))

    def test_each_node_has_exactly_its_routers(self):
        peers = {
            n.name: {str(s.local) for r in self.plan.routers for s in r.sessions if s.node is n}
            for n in self.plan.nodes
        }
        self.assertEqual(
            peers,
            {
                "wikikube-worker1001": {"10.64.133.1", "2620:0:861:10c::1"},
                "wikikube-worker1002": {"10.64.130.1", "2620:0:861:109::1"},
                "kubernetes1003": {
                    "208.80.154.196",
                    "208.80.154.197",
                    "2620:0:861:ffff::1",
                    "2620:0:861:ffff::2",
                },
            },
        )

    def test_routers(self):
        routers = {r.name: r for r in self.plan.routers}
        self.assertEqual(set(routers), {"lsw1-c2-eqiad", "lsw1-e1-eqiad", "cr1-eqiad", "cr2-eqiad"})
        self.assertTrue(all(r.as_number == 14907 for r in routers.values()))
        self.assertTrue(routers["cr1-eqiad"].is_core)
        self.assertFalse(routers["lsw1-c2-eqiad"].is_core)
        self.assertTrue(all(s.multihop for s in routers["cr2-eqiad"].sessions))
        self.assertFalse(any(s.multihop for s in routers["lsw1-e1-eqiad"].sessions))

    def test_gateway_of_the_row_is_the_first_address_of_its_subnet(self):
        segment = self.plan.node("kubernetes1003").segment
        self.assertEqual(str(segment.subnets[4]), "10.64.16.0/22")
        self.assertEqual(str(segment.gateway[4]), "10.64.16.1")
        self.assertEqual(segment.routers[0].name, "cr1-eqiad")

    def test_every_router_reaches_every_subnet_and_loopback(self):
        for router in self.plan.routers:
            known = {n for n, _ in self.plan.routes(router)}
            known |= {s.subnets[f] for s, _ in router.segments for f in s.subnets}
            wanted = {s.subnets[f] for s in self.plan.segments for f in s.subnets}
            wanted |= {
                ipaddress.ip_network(a)
                for r in self.plan.routers
                if r is not router
                for a in r.loopbacks.values()
            }
            self.assertLessEqual(wanted, known, router.name)

    def test_communities_of_a_block(self):
        every = objects.load(EXAMPLE)
        block = checks.block_of(every, "10.67.128.70")
        self.assertEqual(str(block), "10.67.128.64/26")
        self.assertEqual(checks.expected_communities(every, block), {"14907:14"})


class Other(unittest.TestCase):
    def test_a_mesh_has_one_switch(self):
        plan = build(
            calico("BGPConfiguration", "default", asNumber=64512),
            node("a", "10.0.0.1", "fd00::1"),
            node("b", "10.0.0.2", "fd00::2"),
        )
        self.assertTrue(plan.mesh)
        self.assertEqual(len(plan.segments), 1)
        self.assertEqual([(r.name, r.as_number) for r in plan.routers], [("switch", 0)])
        # The first address is a node's own here.
        self.assertEqual(str(plan.segments[0].gateway[4]), "10.0.0.3")

    def test_switches_without_a_core_get_one(self):
        plan = build(
            calico("BGPConfiguration", "default", asNumber=65001, nodeToNodeMeshEnabled=False),
            node("a", "10.0.1.5", labels={"rack": "1"}),
            node("b", "10.0.2.5", labels={"rack": "2"}),
            calico("BGPPeer", "r1", nodeSelector="rack == '1'", peerIP="10.0.1.1", asNumber=65100),
            calico("BGPPeer", "r2", nodeSelector="rack == '2'", peerIP="10.0.2.1", asNumber=65100),
        )
        self.assertEqual([r.name for r in plan.routers], ["r1", "r2", "core"])
        self.assertEqual(len(plan.links), 2)

    def test_families_of_a_router_are_paired_without_names_that_tell(self):
        plan = build(
            node("a", "10.0.1.5", "fd00:1::5"),
            calico("BGPPeer", "x", peerIP="10.0.1.1", asNumber=65100),
            calico("BGPPeer", "y", peerIP="fd00:1::1", asNumber=65100),
        )
        self.assertEqual(len(plan.routers), 1)
        self.assertEqual(len(plan.routers[0].sessions), 2)

    def test_ports_as_numbers_and_passwords(self):
        plan = build(
            calico("BGPConfiguration", "default", asNumber="1.10", listenPort=1179),
            node("a", "10.0.1.5", "fd00:1::5"),
            calico(
                "BGPPeer",
                "r-v4",
                peerIP="10.0.1.1:1790",
                asNumber=65100,
                password={"secretKeyRef": {"name": "s", "key": "k"}},
            ),
            calico("BGPPeer", "r-v6", peerIP="[fd00:1::1]:1790", asNumber=65100),
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "s"},
                "data": {"k": "c2VjcmV0"},
            },
        )
        router = plan.routers[0]
        self.assertEqual(router.port, 1790)
        self.assertEqual({s.remote_as for s in router.sessions}, {65546})
        self.assertEqual({s.remote_port for s in router.sessions}, {1179})
        self.assertEqual([s.password for s in router.sessions], ["secret", None])

    def test_errors_name_the_object(self):
        for items, text in (
            ((), "no Node object"),
            ((node("a"),), "Node a: no address"),
            ((node("a", IPv4Address="10.0.0.0.1/24"),), "Node a: annotation"),
            (
                (node("a", "10.0.0.5"), calico("BGPPeer", "p", peerIP="x", asNumber=1)),
                "BGPPeer p: peerIP 'x'",
            ),
        ):
            with self.subTest(text), self.assertRaises(ClusterError) as caught:
                build(*items)
            self.assertIn(text, str(caught.exception))

    def test_a_scenario_without_pods_gets_some(self):
        every = objects.Objects([node("a", "10.0.0.5"), node("b", "10.0.0.6")])
        added = defaults.supplement(every)
        self.assertEqual({o["spec"]["nodeName"] for o in added.kind("Pod")}, {"a", "b"})
        self.assertEqual(
            {o["metadata"]["name"] for o in added.kind("Namespace")},
            {"kube-system", "demo-a", "demo-b"},
        )


if __name__ == "__main__":
    unittest.main()
