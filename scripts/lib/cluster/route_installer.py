#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Puts GoBGP's best paths into the kernel, as zebra does for FRR: route_installer.py [OWN ADDRESS].

Runs in the router's namespace. Reads gobgpd's stream of best paths; before that, what is there.
A path whose next hop is one of our own addresses is our own and is left alone.
"""

import json
import subprocess
import sys


def resolve(hop):
    """The neighbour behind which a next hop lies: a route of the kernel's wants one on its link."""
    found = subprocess.run(
        ["ip", "-j", "route", "get", hop], capture_output=True, text=True, check=False
    )
    try:
        return json.loads(found.stdout)[0].get("gateway", hop)
    except (ValueError, IndexError):
        return hop


def route(verb, prefix, hop=None):
    via = ["via", resolve(hop)] if hop else []
    subprocess.run(
        ["ip", "-6" if ":" in prefix else "-4", "route", verb, prefix, *via, "proto", "bgp"],
        check=False,
    )


def main(own):
    monitor = subprocess.Popen(
        ["gobgp", "-j", "monitor", "global", "rib", "--current"], stdout=subprocess.PIPE, text=True
    )
    for line in monitor.stdout:  # both families come in one stream
        entry = json.loads(line)
        for path in entry if isinstance(entry, list) else [entry]:
            attributes = {a["type"]: a for a in path["attrs"]}
            hop = (attributes.get(3) or attributes.get(14) or {}).get("nexthop")
            prefix = path["nlri"]["prefix"]
            if path.get("withdrawal"):
                route("delete", prefix)
            elif hop and hop not in own:
                route("replace", prefix, hop)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
