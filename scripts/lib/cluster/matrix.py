# SPDX-License-Identifier: Apache-2.0
"""The connectivity matrix: who asks whom, what came of it, and whether BPF carried it."""

import collections
import dataclasses

from . import bpf, checks, probe
from .objects import labels_of, namespace_of, spec_of

# Ports that every prober answers on, declared by nobody.
SPARE_TCP, SPARE_UDP = 7000, 7001
NUMBERS = {"tcp": 6, "udp": 17}
SILENCE = 1.6  # s that an unanswered question waits; it is sent three times in that
PATIENCE = 6.0


@dataclasses.dataclass
class Party:
    """A pod, a node or a router."""

    kind: str
    title: str
    netns: str
    addresses: dict  # family -> text
    node: str = None  # that it is on
    tcp: list = dataclasses.field(default_factory=list)
    udp: list = dataclasses.field(default_factory=list)


def parties(cluster, objects, pods):
    found = [
        Party(
            "pod",
            p.title,
            p.netns,
            p.addresses,
            p.node.name,
            [*p.ports_of("tcp"), SPARE_TCP],
            [*p.ports_of("udp"), SPARE_UDP],
        )
        for p in pods
    ]
    for node in cluster.nodes:
        addresses = {f: str(a.ip) for f, a in node.node.addresses.items()}
        found.append(
            Party("node", node.name, node.netns, addresses, node.name, [SPARE_TCP], [SPARE_UDP])
        )
    for router in cluster.routers:
        addresses = {f: str(a) for f in (4, 6) if (a := router.router.address(f))}
        outside = ports_outside(objects, addresses.values())
        found.append(
            Party(
                "router",
                router.router.name,
                router.netns,
                addresses,
                None,
                sorted({SPARE_TCP} | outside["TCP"]),
                sorted({SPARE_UDP} | outside["UDP"]),
            )
        )
    return found


def ports_outside(objects, addresses):
    """Ports of services without a selector, whose slices name one of these addresses: a router
    stands in for the host outside the cluster."""
    found = collections.defaultdict(set)
    with_selector = {
        (namespace_of(o), o["metadata"]["name"])
        for o in objects.kind("Service")
        if spec_of(o).get("selector")
    }
    for o in objects.kind("EndpointSlice"):
        owner = (namespace_of(o), labels_of(o).get("kubernetes.io/service-name"))
        there = {a for e in o.get("endpoints") or [] for a in e.get("addresses") or []}
        if owner not in with_selector and there & set(addresses):
            for port in o.get("ports") or []:
                if port.get("port"):
                    found[port.get("protocol", "TCP")].add(port["port"])
    return found


def start_probers(state, everyone):
    """A prober per party, serving its ports; name -> Prober."""
    probers = {p.title: probe.Prober(p.title, p.netns, state.log("probers")) for p in everyone}
    for party in everyone:
        probers[party.title].send(
            {
                "serve": {
                    "name": party.title,
                    "addresses": list(party.addresses.values()),
                    "tcp": party.tcp,
                    "udp": party.udp,
                }
            }
        )
    for party in everyone:
        probers[party.title].receive()
    return probers


def relation(source, target):
    """What kind of pair this is, for the summary."""
    if source.kind == target.kind == "pod":
        return "pod to pod, " + ("same node" if source.node == target.node else "other node")
    if {source.kind, target.kind} == {"pod", "node"}:
        near = "own" if source.node == target.node else "other"
        if source.kind == "pod":
            return f"pod to {near} node"
        return "node to own pod" if near == "own" else "node to other node's pod"
    return f"{source.kind} to {target.kind}"


def connected(cluster, source, target, family):
    """Whether the network between two parties has the family: their nodes must, unless they share
    one."""
    nodes = {p.node for p in (source, target) if p.node}
    if source.node == target.node:
        return True
    return all(family in cluster.plan.node(n).addresses for n in nodes)


def seen_as(cluster, objects, source, target, family):
    """The address that the target sees: the pod's own, or its node's where the pod's pool has
    natOutgoing and the target lies outside all pools and the node."""
    own = source.addresses[family]
    if source.kind == "pod" and target.kind != "pod" and source.node != target.node:
        pool = checks.pool_of(objects, own)
        outside = checks.pool_of(objects, target.addresses[family]) is None
        if pool and spec_of(pool).get("natOutgoing") and outside:
            return str(cluster.node(source.node).address(family))
    return own


def questions(cluster, objects, everyone):
    """All pairs with a pod in them, both families, all ports and protocols."""
    asked = []
    for source in everyone:
        for target in everyone:
            if source is target or "pod" not in (source.kind, target.kind):
                continue
            for family in sorted(set(source.addresses) & set(target.addresses)):
                if not connected(cluster, source, target, family):
                    continue
                note = {
                    "source": source,
                    "target": target,
                    "family": family,
                    "seen": seen_as(cluster, objects, source, target, family),
                }
                ways = [("tcp", p) for p in target.tcp] + [("udp", p) for p in target.udp]
                for protocol, port in [*ways, ("icmp", 0)]:
                    asked.append(
                        probe.Question(
                            source.title,
                            protocol,
                            source.addresses[family],
                            target.addresses[family],
                            port,
                            note=dict(note),
                        )
                    )
    return asked


def ask(probers, asked, expectations):
    """Asks all; what should be answered and was not is asked once more, with patience: the
    machine may just have been busy."""
    for question, allowed in zip(asked, expectations):
        question.note["allowed"] = allowed
        question.timeout = PATIENCE if allowed else SILENCE
    probe.ask_all(probers, asked)
    again = [q for q in asked if q.note["allowed"] and q.answer["outcome"] == "silent"]
    if again:
        for question in again:
            question.note["asked_again"] = True
        probe.ask_all(probers, again)


def as_expected(question):
    """Allowed: answered by the right one, who saw our own address. Denied: silence."""
    answer, target = question.answer, question.note["target"]
    if not question.note["allowed"]:
        return answer["outcome"] == "silent"
    if answer["outcome"] != "answered":
        return False
    if question.protocol == "icmp":
        return answer["by"] == question.target
    return answer["by"] == target.title and answer["seen"] == question.note["seen"]


def describe(question):
    note = question.note
    port = f":{question.port}" if question.port else ""
    told = question.answer["outcome"]
    if told == "answered":
        told = f"answered by {question.answer['by']}, which saw {question.answer['seen']}"
    return (
        f"{note['source'].title} -> {note['target'].title} IPv{note['family']} "
        f"{question.protocol}{port}: wanted {'an answer' if note['allowed'] else 'silence'}, {told}"
    )


def table(everyone, asked):
    """Rows ask, columns answer: T, U and I for TCP, UDP and ICMP; lower case where only some ports
    are answered, - where none, ! where it is not as expected. Families that differ are told apart
    as IPv4/IPv6."""
    cells = collections.defaultdict(list)
    for q in asked:
        cells[q.note["source"].title, q.note["target"].title, q.note["family"], q.protocol].append(
            q
        )

    def letter(source, target, family, protocol):
        there = cells.get((source.title, target.title, family, protocol))
        if not there:
            return ""
        if not all(map(as_expected, there)):
            return "!"
        answered = sum(q.answered for q in there)
        if answered == len(there):
            return protocol[0].upper()
        return protocol[0] if answered else "-"

    def cell(source, target):
        both = [
            "".join(letter(source, target, f, p) for p in ("tcp", "udp", "icmp")) for f in (4, 6)
        ]
        if source is target:
            return "."
        return both[0] if both[0] == both[1] else "/".join(both)

    texts = [[cell(a, b) for b in everyone] for a in everyone]
    wide = max(4, *(len(t) + 1 for row in texts for t in row))
    title = max(len(p.title) for p in everyone) + 5
    rows = [" " * title + "".join(f"{i:^{wide}}" for i in range(1, len(everyone) + 1))]
    for number, (party, row) in enumerate(zip(everyone, texts), 1):
        line = f"{number:>3} {party.title:<{title - 4}}"
        rows.append((line + "".join(f"{t:^{wide}}" for t in row)).rstrip())
    return rows


def summary(asked):
    """Relation, family, protocol -> its questions."""
    groups = collections.OrderedDict()
    for q in asked:
        key = relation(q.note["source"], q.note["target"]), q.note["family"], q.protocol
        groups.setdefault(key, []).append(q)
    return sorted(groups.items(), key=lambda item: item[0])


def protocol_number(question):
    if question.protocol == "icmp":
        return 58 if question.note["family"] == 6 else 1
    return NUMBERS[question.protocol]


def flow(tables, question, node):
    """The flow entry of a question on a node; None if there is none."""
    return bpf.flow_of(
        tables[node],
        protocol_number(question),
        question.source,
        question.answer["source_port"],  # ICMP: the identifier, and 0 on the other side
        question.target,
        question.port,
    )


def nodes_of(question):
    """Nodes that hold a pod of this question: there BPF must have carried it."""
    parties_asked = (question.note["source"], question.note["target"])
    return sorted({p.node for p in parties_asked if p.kind == "pod"})


def is_between_pods(question):
    return question.note["source"].kind == question.note["target"].kind == "pod"


def is_redirected(entry):
    """Whether both directions of a flow have a way out that is not the host stack."""
    return bool(entry) and all(way["kind"] in bpf.REDIRECTS for way in entry["way"])
