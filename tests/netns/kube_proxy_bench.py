# SPDX-License-Identifier: Apache-2.0
"""A cluster with services and kube-proxy's rules, and who asks whom there: what the tests of
services stand on."""

import hashlib
import os

import policy_lab
from cluster import host, kube_proxy, probe
from cluster.objects import Objects

CIDRS = {4: "10.50.0.0/16", 6: "fd50::/64"}
PORT = 8080  # of every service; its backends serve port 80
PROTOCOLS = ("tcp", "udp")
CLIENT = "client"
SILENCE, PATIENCE = 0.5, 8.0


class Service:
    """A service with addresses of both families, by its number; backends are pods and nodes."""

    def __init__(self, number, name, backends, local=False):
        self.number, self.name, self.backends, self.local = number, name, backends, local
        self.address = {4: f"10.96.1.{number}", 6: f"fd96::1:{number}"}
        self.external = {4: f"192.0.2.{number}", 6: f"2001:db8:96::{number}"}

    def node_port(self, protocol):
        return 30000 + 10 * self.number + PROTOCOLS.index(protocol)

    def objects(self, lab):
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": "x"},
            "spec": {
                "type": "NodePort",
                "clusterIP": self.address[4],
                "clusterIPs": list(self.address.values()),
                "ipFamilies": ["IPv4", "IPv6"],
                "externalIPs": list(self.external.values()),
                "externalTrafficPolicy": "Local" if self.local else "Cluster",
                "ports": [
                    {
                        "name": p,
                        "protocol": p.upper(),
                        "port": PORT,
                        "targetPort": 80,
                        "nodePort": self.node_port(p),
                    }
                    for p in PROTOCOLS
                ],
            },
        }
        for family in (4, 6):
            yield {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{self.name}-{family}",
                    "namespace": "x",
                    "labels": {"kubernetes.io/service-name": self.name},
                },
                "addressType": f"IPv{family}",
                "endpoints": [
                    {
                        "addresses": [lab.addresses[b][family]],
                        "conditions": {"ready": True},
                        "nodeName": lab.pods[b].node.name if b in lab.pods else b,
                    }
                    for b in self.backends
                ],
                "ports": [{"name": p, "protocol": p.upper(), "port": 80} for p in PROTOCOLS],
            }


# x/a is on node n1, x/c on n2.
NEAR = Service(1, "near", ["x/a"])
FAR = Service(2, "far", ["x/c"])
NEAR_LOCAL = Service(3, "near-local", ["x/a"], local=True)
BOTH = Service(4, "both", ["x/a", "x/c"])
NONE = Service(5, "none", [])
HOST = Service(6, "host", ["n1"])
SERVICES = (NEAR, FAR, NEAR_LOCAL, BOTH, NONE, HOST)

OWN = "own"  # the asker's own address is what the backend sees


class Bench:
    def __init__(self, mode, binaries):
        digest = hashlib.sha256(f"{mode} {os.getpid()}".encode()).hexdigest()[:8]
        self.mode = mode
        self.lab = policy_lab.Lab(f"t{digest}", binaries, policy_lab.world())
        self.failed, self.asked, self.client = 0, 0, {}

    def up(self):
        lab = self.lab
        lab.up()
        items = [o for s in SERVICES for o in s.objects(lab)]
        lab.cluster.apply(items, "services")
        for node in lab.cluster.nodes:
            kube_proxy.install(self.mode, node, Objects(items), CIDRS)
        self.start_client()
        lab.cluster.wait_for_sync()

    def start_client(self):
        """The switch between the nodes is the client outside; it knows the way to external
        addresses, and no way to pods."""
        router = self.lab.cluster.routers[0]
        self.client = {f: str(router.router.address(f)) for f in (4, 6)}
        first = self.lab.addresses["n1"]
        ways = {s.external[f]: first[f] for s in SERVICES for f in (4, 6)}
        host.ip(router.netns, [f"route add {a} via {via}" for a, via in ways.items()])
        prober = self.lab.add_prober(CLIENT, router.netns)
        prober.order({"serve": {"name": CLIENT, "addresses": list(self.client.values())}})

    def address(self, title, family):
        return self.client[family] if title == CLIENT else self.lab.addresses[title][family]

    def check(self, what, rows, protocols=PROTOCOLS):
        """Rows of (asker, target, port, answerers, seen), in both families and protocols. target
        and port may be functions of family and protocol; seen: a title, OWN, or None: anything;
        answerers: who may answer; (): silence; "refused": an error that says so."""
        asked = []
        for asker, target, port, answerers, seen in rows:
            for family in (4, 6):
                for protocol in protocols:
                    question = probe.Question(
                        asker,
                        protocol,
                        self.address(asker, family),
                        target(family),
                        port(protocol) if callable(port) else port,
                        PATIENCE if answerers else SILENCE,
                    )
                    wanted = asker if seen == OWN else seen
                    question.note = {
                        "wanted": answerers,
                        "seen": self.address(wanted, family) if wanted else None,
                    }
                    asked.append(question)
        probe.ask_all(self.lab.probers, asked)
        wrong = [q for q in asked if not is_as_wanted(q)]
        self.asked += len(asked)
        self.failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok'}: {what}, {len(asked)} questions")
        for q in wrong[:12]:
            print(
                f"  {q.asker} -> {q.target} {q.protocol}:{q.port}: wanted {q.note}, got {q.answer}"
            )
        return asked

    def under(self, *policies):
        """Puts policies in force, in place of those of the last call."""
        self.lab.restore()
        if policies:
            self.lab.apply(list(policies))
        self.lab.cluster.wait_for_sync()

    def node(self, name):
        return lambda family: self.address(name, family)


def is_as_wanted(question):
    wanted, answer = question.note["wanted"], question.answer
    if wanted == "refused":
        return answer["outcome"] == "refused"
    if not wanted:
        return answer["outcome"] == "silent"
    return (
        answer["outcome"] == "answered"
        and answer["by"] in wanted
        and question.note["seen"] in (None, answer["seen"])
    )


def cluster_ip(service):
    return lambda family: service.address[family]


def external_ip(service):
    return lambda family: service.external[family]


def k8s_policy(name, namespace, pod, **spec):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"pod": pod}}, **spec},
    }


def blocks(*cidrs):
    return [{"ipBlock": {"cidr": c}} for c in cidrs]
