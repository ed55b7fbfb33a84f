# SPDX-License-Identifier: Apache-2.0
"""Two nodes with an agent each, three pods in each of three namespaces on both, and everybody
asking everybody: what the tests of policy stand on."""

import concurrent.futures
import contextlib
import functools
import itertools
import signal

import truth_table
from cluster import build, checks, host, pods, probe, state, topology
from cluster.errors import ClusterError
from cluster.objects import Objects, group_of, name_of, namespace_of
from topology_test import calico, node

NAMESPACES = ("x", "y", "z")
NAMES = ("a", "b", "c")
# So that every pair of namespaces has neighbours on one node and on two.
ON_FIRST = ("x/a", "x/b", "y/a", "y/c", "z/b")
PORTS = truth_table.PORTS
SILENCE = 0.3  # s: a denied question; nothing that was denied may arrive in that time or after
PATIENCE = 8.0


def namespace_object(name):
    labels = {"kubernetes.io/metadata.name": name, "ns": name}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def account_object(namespace, name="default", **labels):
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


def pod_object(title, account="default"):
    namespace, name = title.split("/")
    ports = [
        {"name": f"serve-{port}-{protocol}", "protocol": protocol.upper(), "containerPort": port}
        for port in PORTS
        for protocol in ("tcp", "udp", "sctp")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"pod": name}},
        "spec": {
            "nodeName": "n1" if title in ON_FIRST else "n2",
            "serviceAccountName": account,
            "containers": [{"name": "serve", "image": "serve", "ports": ports}],
        },
    }


TITLES = [f"{n}/{p}" for n in NAMESPACES for p in NAMES]


def world(accounts=()):
    """The objects of the cluster; accounts: pod's title -> its service account's name."""
    accounts = dict(accounts)
    of_pods = {(t.split("/")[0], a) for t, a in accounts.items()}
    return [
        calico("BGPConfiguration", "default", asNumber=64512, nodeToNodeMeshEnabled=True),
        calico("IPPool", "v4", cidr="10.50.0.0/16"),
        calico("IPPool", "v6", cidr="fd50::/64"),
        *map(namespace_object, NAMESPACES),
        *(account_object(n) for n in NAMESPACES),
        *(account_object(n, a, account=a) for n, a in sorted(of_pods)),
        *(
            node(f"n{i}", IPv4Address=f"172.30.0.1{i}/24", IPv6Address=f"fd30::1{i}/64")
            for i in (1, 2)
        ),
        *(pod_object(t, accounts.get(t, "default")) for t in TITLES),
    ]


class Lab:
    """A cluster with its pods, probers in all of them and on the nodes."""

    def __init__(self, name, binaries, items, agent=()):
        self.items, self.agent = items, dict(agent)
        plan = topology.build(Objects(items))
        self.cluster = build.Cluster(state.begin(name), plan, binaries)
        self.pods, self.probers, self.parties = {}, {}, []
        self.written = {}  # key of an object -> the object, of the test's own
        self.labels = {}  # (kind, title, key) -> the value before; None: it was not there
        self.numbers = itertools.count(1)

    def up(self):
        cluster = self.cluster
        cluster.up()
        for each in cluster.nodes:
            each.configure(cluster.datastore, **self.agent)
        cluster.apply(self.items, "objects")
        cluster.start_agents()
        if not checks.wait_for_sessions(cluster):
            raise ClusterError("BGP between the nodes did not come up")
        for o in (i for i in self.items if i["kind"] == "Pod"):
            made = pods.from_object(cluster.state, o, cluster.node(o["spec"]["nodeName"]))
            self.pods[made.title] = made
        with concurrent.futures.ThreadPoolExecutor(4) as workers:
            for done in [workers.submit(pods.add, p, cluster.binaries) for p in self.pods.values()]:
                done.result()
        self.start_probers()
        self.wait_for_blocks()
        cluster.wait_for_sync()

    def start_probers(self):
        served = {p: list(PORTS) for p in ("tcp", "udp", "sctp")}
        spaces = {t: p.netns for t, p in self.pods.items()}
        spaces |= {n.name: n.netns for n in self.cluster.nodes}
        for title, netns in spaces.items():
            self.add_prober(title, netns)
            order = {"name": title, "addresses": list(self.addresses[title].values()), **served}
            if title in self.pods:
                order["watch"] = "eth0"
            self.probers[title].send({"serve": order})
        for prober in self.probers.values():
            prober.receive()
        self.parties = [truth_table.Party(t, p.node.name) for t, p in self.pods.items()]
        self.parties += [truth_table.Party(n.name, n.name, True) for n in self.cluster.nodes]

    def add_prober(self, title, netns):
        self.probers[title] = probe.Prober(title, netns, self.cluster.state.log("probers"))
        return self.probers[title]

    def wait_for_blocks(self):
        objects = Objects(self.items)
        blocks = {
            checks.block_of(objects, a): p.node.name
            for p in self.pods.values()
            for a in p.addresses.values()
        }
        if not checks.wait_for_routes(self.cluster, blocks):
            raise ClusterError("the nodes do not know each other's blocks")

    @functools.cached_property
    def addresses(self):
        """Title -> family -> address, of pods and nodes; once there are pods."""
        found = {t: p.addresses for t, p in self.pods.items()}
        for each in self.cluster.nodes:
            found[each.name] = {f: str(a.ip) for f, a in each.node.addresses.items()}
        return found

    # What a test writes, and takes back.

    def apply(self, items):
        items = truth_table.substitute(items, self.addresses)
        self.cluster.apply(items, f"step-{next(self.numbers)}")
        for o in items:
            self.written[key_of(o)] = o

    def write(self, items):
        """The same, with nobody to check what is written."""
        for o in truth_table.substitute(items, self.addresses):
            self.cluster.write_unchecked(o)
            self.written[key_of(o)] = o

    def delete(self, keys):
        """Objects that the test wrote, as "KIND NAME" or "KIND NAMESPACE/NAME"."""
        gone = []
        for key in keys:
            found = [k for k in self.written if short_key(k) == key]
            if len(found) != 1:
                raise truth_table.CaseError(f"delete '{key}': not applied, or not one only")
            gone.append(self.written.pop(found[0]))
        self.cluster.delete(gone, f"step-{next(self.numbers)}")

    def label(self, wanted):
        """KIND NAME -> key -> value, None to take the label away."""
        for owner, labels in wanted.items():
            kind, title = owner.split()
            for key, value in labels.items():
                self.set_label(kind, title, key, value)

    def set_label(self, kind, title, key, value):
        namespace, _, name = title.rpartition("/")
        words = ["label", kind, name]
        words += [key, "--remove"] if value is None else [f"{key}={value}", "--overwrite"]
        words += ["-n", namespace] if namespace else []
        before = next(
            o["metadata"].get("labels", {}).get(key)
            for o in self.items
            if o["kind"] == kind and name_of(o) == name and namespace in ("", namespace_of(o))
        )
        self.cluster.ctl(*words)
        if value == before:
            self.labels.pop((kind, title, key), None)
        else:
            self.labels[kind, title, key] = before

    def restore(self):
        """Takes back all that was written since the last time."""
        for (kind, title, key), before in list(self.labels.items()):
            self.set_label(kind, title, key, before)
        if self.written:
            self.cluster.delete(list(self.written.values()), f"step-{next(self.numbers)}")
        self.written.clear()

    def restart_agents(self, end=signal.SIGTERM, **agent):
        """Both agents anew, with other keys in their configuration."""
        for each in self.cluster.nodes:
            each.stop_agent(end)
            each.configure(self.cluster.datastore, **{**self.agent, **agent})
        self.cluster.start_agents()
        host.wait_for(
            "the agents in sync",
            lambda: all((n.status() or {}).get("ready") for n in self.cluster.nodes),
        )

    # What a test asks.

    def ask(self, wanted):
        """Asks all cells of a table; cell -> Question with its answer. What was denied must not
        have been seen where it was sent to: those cells are the second result."""
        asked = {c: self.question(c, allowed) for c, allowed in wanted.items()}
        probe.ask_all(self.probers, asked.values())
        seen = self.arrivals()
        leaked = {
            c
            for c, allowed in wanted.items()
            if not allowed and packet_of(c, asked[c]) in seen.get(c.target.title, ())
        }
        return asked, leaked

    def question(self, cell, allowed):
        return probe.Question(
            cell.source.title,
            cell.protocol,
            self.addresses[cell.source.title][cell.family],
            self.addresses[cell.target.title][cell.family],
            cell.port,
            PATIENCE if allowed else SILENCE,
        )

    def arrivals(self):
        """Title of a pod -> the packets that came to it since the last time."""
        for title in self.pods:
            self.probers[title].send({"arrived": {}})
        return {
            title: {tuple(a) for a in self.probers[title].receive()["arrived"]}
            for title in self.pods
        }

    def down(self):
        for prober in self.probers.values():
            with contextlib.suppress(OSError):
                prober.close()
        state.end(self.cluster.state.name)


def key_of(o):
    """One for an object, whether it is written as a user does or as it is stored."""
    group = group_of(o).removeprefix("crd.")
    return group, o["kind"], o["metadata"].get("namespace", ""), name_of(o)


def short_key(key):
    _, kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def packet_of(cell, question):
    """The question's packet as arrivals.py tells it."""
    return (
        truth_table.NUMBERS[cell.protocol, cell.family],
        question.source,
        question.answer["source_port"],
        question.target,
        cell.port,
    )


def is_reached(cell, question):
    """Whether the right one answered, and saw the asker's own address."""
    answer = question.answer
    if answer["outcome"] != "answered":
        return False
    if cell.protocol in ("icmp", "sctp"):
        return answer["by"] == question.target
    return answer["by"] == cell.target.title and answer["seen"] == question.source
