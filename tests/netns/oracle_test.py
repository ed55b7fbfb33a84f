#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The oracle that matrices are checked by: verdicts on the example, by hand from its policies."""

import ipaddress
import os
import sys
import types
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from cluster import defaults, objects, oracle  # noqa: E402
from cluster.objects import name_of, namespace_of, spec_of  # noqa: E402

EXAMPLE = os.path.join(ROOT, "examples", "wikikube-eqiad")
NODE = "10.64.133.10"
ROUTER = "208.80.154.197"


def pods_of(every):
    """Pods as the plugin would leave them, with addresses in the order of their objects."""
    found = []
    for number, o in enumerate(every.kind("Pod"), 1):
        addresses = {4: f"10.67.128.{number}", 6: f"2620:0:861:cabe::{number:x}"}
        ports = [p for c in spec_of(o)["containers"] for p in c.get("ports") or []]
        title = f"{namespace_of(o)}/{name_of(o)}"
        found.append(
            types.SimpleNamespace(
                title=title,
                namespace=namespace_of(o),
                name=name_of(o),
                addresses=addresses,
                ports=ports,
                node=types.SimpleNamespace(name=spec_of(o)["nodeName"]),
            )
        )
    return found


class Example(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        every = objects.load(EXAMPLE)
        cls.pods = pods_of(every)
        every.items += defaults.endpoint_slices(every, cls.pods)
        cls.oracle = oracle.Oracle(every, cls.pods)

    def address(self, who, family):
        if who in ("node", "router"):
            return {"node": NODE, "router": ROUTER}[who]
        return next(p.addresses[family] for p in self.pods if p.name.startswith(who))

    def test_verdicts(self):
        for source, target, protocol, port, expected in (
            ("mw-web-main-7c9d6f8b54-4", "mw-web-main-7c9d6f8b54-m", "tcp", 8080, True),
            ("mw-web", "mw-web-main-7c9d6f8b54-m", "tcp", 9117, False),
            ("mw-web", "mw-web-main-7c9d6f8b54-m", "udp", 8080, False),
            ("mw-web", "mw-web-main-7c9d6f8b54-m", "icmp", 0, True),
            ("mathoid", "mw-web", "tcp", 8080, True),
            ("mw-web", "mathoid", "tcp", 10044, True),
            (
                "mathoid-production-5b7f6c4d9-2",
                "mathoid-production-5b7f6c4d9-8",
                "tcp",
                10044,
                False,
            ),
            ("mw-web", "coredns", "udp", 53, True),
            ("mw-web", "coredns", "tcp", 53, True),
            ("function-o", "coredns", "udp", 53, True),
            ("function-o", "coredns", "tcp", 9153, False),
            ("function-o", "function-e", "tcp", 6927, True),
            ("function-e", "function-o", "tcp", 6254, False),
            ("function-o", "mw-web", "tcp", 8080, False),
            ("function-o", "mw-web", "icmp", 0, True),
            ("coredns", "mw-web", "tcp", 8080, False),
            ("coredns-6f5dc7b9c9-h", "coredns-6f5dc7b9c9-z", "icmp", 0, True),
        ):
            for family in (4, 6):
                with self.subTest(f"{source} -> {target} {protocol}:{port} IPv{family}"):
                    self.assertEqual(self.ask(source, target, protocol, port, family), expected)

    def test_verdicts_with_the_outside(self):
        for source, target, protocol, port, expected in (
            ("coredns", "router", "tcp", 7000, True),
            ("mw-web", "router", "tcp", 7000, False),
            ("mw-web", "router", "icmp", 0, True),
            ("mathoid", "router", "udp", 9125, True),
            ("mathoid", "router", "udp", 9126, False),
            ("mw-web", "router", "udp", 9125, False),
            ("router", "coredns", "udp", 53, True),
            ("router", "mw-web", "tcp", 8080, False),
            ("node", "mathoid", "tcp", 10044, False),
        ):
            with self.subTest(f"{source} -> {target} {protocol}:{port}"):
                self.assertEqual(self.ask(source, target, protocol, port, 4), expected)

    def ask(self, source, target, protocol, port, family):
        name = protocol + ("v6" if protocol == "icmp" and family == 6 else "")
        return self.oracle.allows(
            oracle.Packet(
                family,
                oracle.PROTOCOLS[name],
                ipaddress.ip_address(self.address(source, family)),
                ipaddress.ip_address(self.address(target, family)),
                port,
            )
        )


if __name__ == "__main__":
    unittest.main()
