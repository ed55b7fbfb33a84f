# SPDX-License-Identifier: Apache-2.0
"""What the BPF maps of a node say, read with bpftool as an operator would."""

import ipaddress
import json
import os
import re

from .nodes import UPLINK

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
VERDICTS = os.path.join(ROOT, "maps", "abi", "verdict.h")
MAPS = "/sys/fs/bpf/manx/maps"

# Of maps/abi/verdict.h and flow.h.
HOOKS = ("from workload", "to workload", "from uplink", "to uplink", "to host")
FROM_WORKLOAD, TO_WORKLOAD, FROM_UPLINK, TO_UPLINK, TO_HOST = range(5)
REASONS = 64
FLOW_ANSWERED = 2
POLICY_DROPS = (32, 33, 40)
REDIRECTS = (2, 3, 4)  # ways out that are no host stack


def reasons():
    """Number -> name, from the header that the programs are compiled with."""
    with open(VERDICTS, encoding="utf-8") as f:
        found = re.findall(r"MANX_((?:PASS|DROP)_[A-Z_]+) = (\d+)", f.read())
    return {int(n): name.lower().replace("_", " ") for name, n in found}


def dump(node, name, maps=MAPS):
    """The entries of a map with field names, as bpftool -j gives them."""
    done = node.run(["bpftool", "-j", "map", "dump", "pinned", f"{maps}/{name}"], check=False)
    try:
        entries = json.loads(done.stdout)
    except ValueError:
        return []
    return (
        [e["formatted"] for e in entries if "formatted" in e] if isinstance(entries, list) else []
    )


def totals(node):
    """(hook, reason) -> packets, over all CPUs: every packet that a program saw."""
    found = {}
    for entry in dump(node, "manx_totals"):
        packets = sum(v["value"]["packets"] for v in entry["values"])
        if packets:
            found[divmod(entry["key"], REASONS)] = packets
    return found


def received(node):
    """Packets that the kernel has counted in on the node's devices: by workloads, by the uplink."""
    text = node.run(["ip", "-j", "-s", "link", "show"]).stdout
    packets = {d["ifname"]: d["stats64"]["rx"]["packets"] for d in json.loads(text)}
    return {
        FROM_WORKLOAD: sum(n for name, n in packets.items() if name.startswith("cali")),
        FROM_UPLINK: packets.get(UPLINK, 0),
    }


def difference(after, before):
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


def address(value):
    """An address of a map: a __be32 as bpftool prints it, or four of them."""
    words = value if isinstance(value, list) else [value]
    raw = b"".join(w.to_bytes(4, "little") for w in words)
    return str(ipaddress.ip_address(raw))


def flows(node):
    """{(protocol, (address, port), (address, port))}, ends sorted -> the flow's value. A flow is in
    the main table once it has proven to be alive, and leaves it when it is closed."""
    found = {}
    for family in (4, 6):
        for suffix in ("_new", ""):
            for entry in dump(node, f"manx_flow{family}{suffix}"):
                key = entry["key"]
                ends = sorted((address(a), p) for a, p in zip(key["addr"], key["port"]))
                found[key["protocol"], *ends] = entry["value"]
    return found


def is_answered(flow):
    return bool(flow) and bool(flow["flags"] & FLOW_ANSWERED)


def flow_of(table, protocol, source, source_port, target, target_port):
    ends = sorted([(source, source_port), (target, target_port)])
    return table.get((protocol, *ends))
