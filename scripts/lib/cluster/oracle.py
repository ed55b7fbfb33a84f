# SPDX-License-Identifier: Apache-2.0
"""What the policies of a cluster say about one packet: read from the objects rule by rule, slowly
and plainly, with nothing of the code under test. It knows Calico's and Kubernetes' policies, tiers,
network sets, namespaces, service accounts, named ports and services. It does not know host
endpoints.
"""

import collections
import dataclasses
import ipaddress
import json
import math

from . import host, selector
from .objects import labels_of, name_of, namespace_of, spec_of

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132, "udplite": 136}
CALICO, KUBERNETES = ("crd.projectcalico.org", "projectcalico.org"), ("networking.k8s.io",)
NAMESPACE, ACCOUNT = "projectcalico.org/namespace", "projectcalico.org/serviceaccount"
TIERS = {"kube-admin": (1000, "Pass"), "default": (1e6, "Deny"), "kube-baseline": (1e7, "Pass")}
ECHO = {4: (8, 0), 6: (128, 0)}


@dataclasses.dataclass
class Packet:
    family: int
    protocol: int
    source: object  # ip_address
    target: object
    port: int  # destination; 0 for ICMP


@dataclasses.dataclass
class Policy:
    name: str  # name/namespace/kind, the tie-break
    namespace: str  # None: global
    tier: str
    order: float
    selects: object  # labels -> bool
    types: set
    rules: dict  # direction -> list of rules


class Oracle:
    def __init__(self, objects, pods):
        self.objects = objects
        self.namespaces = {name_of(o): labels_of(o) for o in objects.kind("Namespace")}
        self.accounts = {
            (namespace_of(o), name_of(o)): labels_of(o) for o in objects.kind("ServiceAccount")
        }
        by_title = {p.title: p for p in pods}
        self.endpoints = {}  # address -> (labels, named ports)
        for o in objects.kind("Pod"):
            pod = by_title.get(f"{namespace_of(o)}/{name_of(o)}")
            for address in pod.addresses.values() if pod else ():
                self.endpoints[ipaddress.ip_address(address)] = self.endpoint_of(o, pod)
        self.sets = [self.set_of(o) for o in objects.items if o["kind"].endswith("NetworkSet")]
        self.policies = [p for o in objects.items if (p := self.policy_of(o))]
        self.tiers = dict(TIERS)
        for o in objects.kind("Tier"):
            spec, known = spec_of(o), TIERS.get(name_of(o), (math.inf, "Deny"))
            order = spec.get("order")
            self.tiers[name_of(o)] = (
                known[0] if order is None else order,
                spec.get("defaultAction") or known[1],
            )

    # Who there is.

    def inherited(self, namespace):
        labels = {f"pcns.{k}": v for k, v in self.namespaces.get(namespace, {}).items()}
        return {**labels, "pcns.projectcalico.org/name": namespace, NAMESPACE: namespace}

    def endpoint_of(self, o, pod):
        namespace = namespace_of(o)
        account = spec_of(o).get("serviceAccountName") or "default"
        of_account = self.accounts.get((namespace, account), {})
        labels = {
            **self.inherited(namespace),
            **{f"pcsa.{k}": v for k, v in of_account.items()},
            "pcsa.projectcalico.org/name": account,
            **labels_of(o),
            NAMESPACE: namespace,
            ACCOUNT: account,
            "projectcalico.org/orchestrator": "k8s",
        }
        named = {
            (p["name"], PROTOCOLS[p.get("protocol", "TCP").lower()], p["containerPort"])
            for p in pod.ports
            if p.get("name")
        }
        return labels, named

    def set_of(self, o):
        labels = dict(labels_of(o))
        if o["kind"] == "NetworkSet":
            labels = {**self.inherited(namespace_of(o)), **labels}
        return labels, [ipaddress.ip_network(n, strict=False) for n in spec_of(o).get("nets") or []]

    def labels_at(self, address):
        """The label sets of everything known that holds this address."""
        found = [self.endpoints[address][0]] if address in self.endpoints else []
        return found + [
            labels
            for labels, nets in self.sets
            if any(n.version == address.version and address in n for n in nets)
        ]

    # What there is to apply.

    def policy_of(self, o):
        group = o["apiVersion"].partition("/")[0]
        if o["kind"] == "NetworkPolicy" and group in KUBERNETES:
            return self.kubernetes_policy(o)
        if o["kind"] not in ("NetworkPolicy", "GlobalNetworkPolicy") or group not in CALICO:
            return None
        spec = spec_of(o)
        if spec.get("doNotTrack") or spec.get("preDNAT"):
            return None  # of host endpoints only
        namespace = namespace_of(o) if o["kind"] == "NetworkPolicy" else None
        order = spec.get("order")
        return Policy(
            f"{name_of(o)}/{namespace or ''}/{o['kind']}",
            namespace,
            spec.get("tier") or "default",
            math.inf if order is None else order,
            self.applies_to(spec, namespace),
            set(spec.get("types") or ("Ingress", "Egress")),
            {d: spec.get(d.lower()) or [] for d in ("Ingress", "Egress")},
        )

    def applies_to(self, spec, namespace):
        def selects(labels):
            return (
                (namespace is None or labels.get(NAMESPACE) == namespace)
                and selector.matches(spec.get("selector"), labels)
                and within(spec.get("namespaceSelector"), labels, "pcns.", NAMESPACE)
                and within(spec.get("serviceAccountSelector"), labels, "pcsa.", ACCOUNT)
            )

        return selects

    def kubernetes_policy(self, o):
        spec, namespace = spec_of(o), namespace_of(o)
        rules = {"Ingress": [], "Egress": []}
        for direction, side in (("Ingress", "from"), ("Egress", "to")):
            for rule in spec.get(direction.lower()) or []:
                rules[direction].append({"kubernetes": rule, "side": side, "action": "Allow"})
        return Policy(
            f"{name_of(o)}/{namespace}/KubernetesNetworkPolicy",
            namespace,
            "default",
            1000,
            lambda labels: labels.get(NAMESPACE) == namespace
            and chosen(spec.get("podSelector"), labels),
            set(spec.get("policyTypes") or ("Ingress",)),
            rules,
        )

    # What comes of it.

    def allows(self, packet):
        """Whether a packet passes: its source's egress, then its target's ingress."""
        return self.passes(packet, packet.source, "Egress") and self.passes(
            packet, packet.target, "Ingress"
        )

    def passes(self, packet, own, direction):
        if own not in self.endpoints:
            return True  # no workload of ours
        labels = self.endpoints[own][0]
        applying = [p for p in self.policies if direction in p.types and p.selects(labels)]
        by_tier = collections.defaultdict(list)
        for policy in applying:
            by_tier[policy.tier].append(policy)
        for tier in sorted(by_tier, key=self.tier_key):
            verdict = self.tier_verdict(packet, by_tier[tier], direction)
            if verdict is None:
                verdict = self.tiers.get(tier, (math.inf, "Deny"))[1]
            if verdict != "Pass":
                return verdict == "Allow"
        return True  # the namespace's profile

    def tier_key(self, tier):
        known = tier in self.tiers
        return not known, self.tiers[tier][0] if known else math.inf, tier

    def tier_verdict(self, packet, policies, direction):
        for policy in sorted(policies, key=lambda p: (p.order, p.name)):
            for rule in policy.rules[direction]:
                if rule["action"] != "Log" and self.matches(packet, rule, policy, direction):
                    return rule["action"]
        return None

    def matches(self, packet, rule, policy, direction):
        if "kubernetes" in rule:
            return self.matches_kubernetes(packet, rule, policy, direction)
        if rule.get("ipVersion") not in (None, packet.family):
            return False
        if "protocol" in rule and number(rule["protocol"]) != packet.protocol:
            return False
        if "notProtocol" in rule and number(rule["notProtocol"]) == packet.protocol:
            return False
        if not icmp_matches(rule, packet):
            return False
        # Ports of the source are chosen by the kernel; no rule of a demonstration names them.
        return self.entity(rule.get("source") or {}, packet.source, None, packet, policy) and (
            self.entity(rule.get("destination") or {}, packet.target, packet.port, packet, policy)
        )

    def entity(self, entity, address, port, packet, policy):
        if not nets_match(entity.get("nets"), entity.get("notNets"), address):
            return False
        if entity.get("services") and not self.serves(
            entity["services"], policy, address, port, packet
        ):
            return False
        known = self.labels_at(address)
        positive = [
            k for k in ("selector", "namespaceSelector", "serviceAccounts") if entity.get(k)
        ]
        if positive and not any(self.selected(entity, labels, policy) for labels in known):
            return False
        if entity.get("notSelector") and any(
            selector.matches(entity["notSelector"], labels) for labels in known
        ):
            return False
        if port is None:
            return not entity.get("ports")
        if entity.get("ports") and not self.port_in(entity["ports"], address, port, packet):
            return False
        return not self.port_in(entity.get("notPorts") or [], address, port, packet)

    def selected(self, entity, labels, policy):
        namespaces = entity.get("namespaceSelector")
        if namespaces == "global()":
            if NAMESPACE in labels:
                return False
        elif not within(namespaces, labels, "pcns.", NAMESPACE):
            return False
        if not namespaces and policy.namespace and labels.get(NAMESPACE) != policy.namespace:
            return False
        accounts = entity.get("serviceAccounts") or {}
        if accounts.get("names") and labels.get(ACCOUNT) not in accounts["names"]:
            return False
        return within(accounts.get("selector"), labels, "pcsa.", ACCOUNT) and selector.matches(
            entity.get("selector"), labels
        )

    def port_in(self, ports, address, port, packet):
        for wanted in ports:
            text = str(wanted)
            first, _, last = text.partition(":")
            if first.isdigit():
                if int(first) <= port <= int(last or first):
                    return True
            elif (text, packet.protocol, port) in self.endpoints.get(address, (None, ()))[1]:
                return True
        return False

    def serves(self, service, policy, address, port, packet):
        """Whether a slice of the service has the address (and, for a destination, port)."""
        owner = (service.get("namespace") or policy.namespace, service["name"])
        for o in self.objects.kind("EndpointSlice"):
            if (namespace_of(o), labels_of(o).get("kubernetes.io/service-name")) != owner:
                continue
            there = {a for e in o.get("endpoints") or [] for a in e["addresses"]}
            if str(address) not in there:
                continue
            ports = {
                (PROTOCOLS[p.get("protocol", "TCP").lower()], p.get("port"))
                for p in o.get("ports") or []
            }
            if port is None or (packet.protocol, port) in ports:
                return True
        return False

    def matches_kubernetes(self, packet, rule, policy, direction):
        spec = rule["kubernetes"]
        other = packet.source if direction == "Ingress" else packet.target
        peers = spec.get(rule["side"]) or []
        if peers and not any(self.peer(p, other, policy.namespace) for p in peers):
            return False
        ports = spec.get("ports") or []
        return not ports or any(self.kubernetes_port(p, packet) for p in ports)

    def peer(self, peer, address, namespace):
        if peer.get("ipBlock"):
            block = peer["ipBlock"]
            return nets_match([block["cidr"]], block.get("except"), address)
        if address not in self.endpoints:
            return False
        labels = self.endpoints[address][0]
        if "namespaceSelector" in peer:
            of_namespace = {k[5:]: v for k, v in labels.items() if k.startswith("pcns.")}
            if not chosen(peer["namespaceSelector"], of_namespace):
                return False
        elif labels[NAMESPACE] != namespace:
            return False
        return chosen(peer.get("podSelector"), labels)

    def kubernetes_port(self, wanted, packet):
        if PROTOCOLS[wanted.get("protocol", "TCP").lower()] != packet.protocol:
            return False
        port = wanted.get("port")
        if port is None:
            return True
        last = wanted.get("endPort", port)
        return self.port_in(
            [f"{port}:{last}" if last != port else port], packet.target, packet.port, packet
        )


def within(text, labels, prefix, own):
    """A selector over a namespace's or account's labels, which an endpoint has with a prefix."""
    if not text:
        return True
    if own not in labels:
        return False if text.strip() == "all()" else selector.matches(text, {})
    return selector.matches(
        text, {k[len(prefix) :]: v for k, v in labels.items() if k.startswith(prefix)}
    )


def chosen(label_selector, labels):
    """Kubernetes' label selector; none or an empty one chooses all."""
    wanted = label_selector or {}
    for key, value in (wanted.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for term in wanted.get("matchExpressions") or []:
        key, operator, values = term["key"], term["operator"], term.get("values") or []
        good = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not good:
            return False
    return True


def nets_match(nets, without, address):
    def inside(texts):
        networks = (ipaddress.ip_network(t, strict=False) for t in texts)
        return any(n.version == address.version and address in n for n in networks)

    return (not nets or inside(nets)) and not inside(without or [])


def number(protocol):
    text = str(protocol).lower()
    return int(text) if text.isdigit() else PROTOCOLS[text]


def icmp_matches(rule, packet):
    kind, code = ECHO[packet.family]
    for key, wanted in (("icmp", True), ("notICMP", False)):
        named = rule.get(key)
        if named:
            is_it = packet.protocol in (1, 58) and named.get("type", kind) == kind
            is_it = is_it and named.get("code", code) == code
            if is_it != wanted:
                return False
    return True


def verdicts(objects, pods, questions):
    """What each question of a matrix must come to."""
    oracle = Oracle(objects, pods)
    found = []
    for q in questions:
        family = q.note["family"]
        name = q.protocol + ("v6" if q.protocol == "icmp" and family == 6 else "")
        packet = Packet(
            family,
            PROTOCOLS[name],
            ipaddress.ip_address(q.source),
            ipaddress.ip_address(q.target),
            q.port,
        )
        found.append(is_from_own_node(q) or oracle.allows(packet))
    return found


def second_opinion(program, datastore, questions):
    """What policy-oracle, of other hands, says on the same by what the datastore holds now."""
    lines = []
    for q in questions:
        family = q.note["family"]
        flow = {"from": {"ip": q.source}, "to": {"ip": q.target}, "family": family}
        if q.protocol == "icmp":
            flow.update(protocol="ICMPv6" if family == 6 else "ICMP", type=ECHO[family][0])
        else:
            flow.update(protocol=q.protocol.upper(), port=q.port)
        lines.append(json.dumps(flow))
    done = host.run([program, "--datastore", datastore], stdin="\n".join(lines) + "\n")
    return [json.loads(line).get("verdict") == "allow" for line in done.stdout.splitlines()]


def is_from_own_node(question):
    """A node always reaches its own pods, whatever the policies."""
    source, target = question.note["source"], question.note["target"]
    return source.kind == "node" and target.kind == "pod" and source.node == target.node
