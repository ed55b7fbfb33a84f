# SPDX-License-Identifier: Apache-2.0
"""What is there: addresses, handles and annotations in the datastore; records, devices, routes,
tables and pinned programs of a node. Read from where the agent cannot make it up.
"""

import contextlib
import dataclasses
import ipaddress
import json
import os
import sqlite3

from cluster import bpf

CALICO = "crd.projectcalico.org"
ANNOTATION = "cni.projectcalico.org/"


@dataclasses.dataclass
class Datastore:
    allocations: dict  # address -> [(handle, block)]
    handles: dict  # handle -> block -> count
    annotations: dict  # pod's title -> annotations


@dataclasses.dataclass
class NodeFacts:
    records: dict  # interface -> record
    devices: dict  # interface -> ifindex, of pods
    routes: dict  # address -> device
    endpoints: dict  # address -> entry of manx_ep4 or manx_ep6
    attached: dict  # ifindex -> hooks


def read_datastore(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
        rows = db.execute(
            "SELECT kind, ns, name, json FROM objects WHERE kind IN (?, ?, 'pods')",
            (f"ipamblocks.{CALICO}", f"ipamhandles.{CALICO}"),
        ).fetchall()
    found = Datastore({}, {}, {})
    for kind, ns, name, text in rows:
        o = json.loads(text)
        if kind == "pods":
            found.annotations[f"{ns}/{name}"] = o["metadata"].get("annotations") or {}
        elif kind.startswith("ipamblocks"):
            read_block(found, o["spec"])
        else:
            found.handles[o["spec"]["handleID"]] = o["spec"]["block"]
    return found


def read_block(found, spec):
    first = ipaddress.ip_network(spec["cidr"]).network_address
    for ordinal, attribute in enumerate(spec["allocations"]):
        if attribute is not None:
            handle = spec["attributes"][attribute].get("handle_id")
            found.allocations.setdefault(str(first + ordinal), []).append((handle, spec["cidr"]))


def read_node(node):
    return NodeFacts(
        read_records(node),
        read_devices(node),
        read_routes(node),
        read_endpoints(node),
        read_attached(node),
    )


def read_records(node):
    folder = node.records
    found = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if not name.endswith(".json"):
            continue  # half written, or set aside
        with contextlib.suppress(FileNotFoundError), open(
            os.path.join(folder, name), encoding="utf-8"
        ) as f:
            found[name.removesuffix(".json")] = json.load(f)
    return found


def read_devices(node):
    links = json.loads(node.run(["ip", "-j", "link", "show", "type", "veth"]).stdout)
    return {d["ifname"]: d["ifindex"] for d in links if d["ifname"].startswith("cali")}


def read_routes(node):
    found = {}
    for family in ("-4", "-6"):
        text = node.run(["ip", family, "-j", "route", "show", "proto", "boot"]).stdout
        for route in json.loads(text or "[]"):
            if route.get("dev", "").startswith("cali"):
                found[route["dst"].split("/")[0]] = route["dev"]
    return found


def read_endpoints(node):
    found = {}
    for name in ("manx_ep4", "manx_ep6"):
        for entry in dump(node, name):
            found[bpf.address(entry["key"]["addr"])] = entry["value"]
    return found


def read_attached(node):
    """By tcx, as pinned; by clsact, as the kernel says."""
    found = {}
    for name in os.listdir(os.path.join(node.pins, "links")):
        ifindex, _, hook = name.partition("_")
        if ifindex == "to":
            continue  # to_host4, to_host6: of no device
        found.setdefault(int(ifindex), set()).add(hook)
    for entry in json.loads(node.run(["bpftool", "-j", "net"]).stdout)[0]["tc"]:
        if entry["kind"].startswith("clsact"):
            found.setdefault(entry["ifindex"], set()).add(entry["kind"])
    return found


def dump(node, name):
    return bpf.dump(node, name, os.path.join(node.bpffs, "manx", "maps"))


def filled_slots(node):
    return [e for e in dump(node, "manx_slot") if e["value"]["ifindex"]]


def policy_sets(node):
    return {e["key"]["set"] for e in dump(node, "manx_policy")}


def memory(pid):
    """Resident KiB, open descriptors and threads of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        fields = dict(line.split(":", 1) for line in f)
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return int(fields["VmRSS"].split()[0]), descriptors, int(fields["Threads"])


def keeps_freed_memory(pid):
    """As a process with the address sanitizer does, to see what is used after that."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        return "libasan" in f.read()
