# SPDX-License-Identifier: Apache-2.0
"""The rules that kube-proxy keeps on a node, made from Service and EndpointSlice objects. Pure, but
for install().

What is here is what a packet meets: the translation of ClusterIPs, external addresses and node
ports, the mark 0x4000 of what must be masqueraded (what comes from outside the pods' range, what
comes by a node port or external address, what comes back to the pod that sent it), policy Local,
and the forwarding rules, which drop what connection tracking calls invalid. Session affinity, load
balancers' source ranges and health checks are not.
"""

import dataclasses
import hashlib
import os

from .objects import labels_of, name_of, namespace_of, spec_of

MASQUERADE = "0x4000"
LENGTH = {4: 32, 6: 128}
RESTORE = {4: "iptables-restore", 6: "ip6tables-restore"}
REJECT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}


@dataclasses.dataclass
class Endpoint:
    address: str
    port: int
    node: str


@dataclasses.dataclass
class ServicePort:
    """One port of a service in one family."""

    title: str  # namespace/name:port
    protocol: str  # tcp, udp
    address: str
    port: int
    node_port: int
    external: list
    local: bool  # externalTrafficPolicy
    endpoints: list

    @property
    def hash(self):
        return hashlib.sha256(f"{self.title} {self.protocol}".encode()).hexdigest()[:12].upper()


def service_ports(objects, family):
    """The ports of all services that have an address of the family."""
    found = []
    for o in objects.kind("Service"):
        spec = spec_of(o)
        address = next((a for a in spec.get("clusterIPs") or [] if is_of(a, family)), None)
        if address is None:
            continue
        for port in spec.get("ports") or []:
            protocol = port.get("protocol", "TCP").lower()
            found.append(
                ServicePort(
                    f"{namespace_of(o)}/{name_of(o)}:{port.get('name', '')}",
                    protocol,
                    address,
                    port["port"],
                    port.get("nodePort", 0),
                    [a for a in spec.get("externalIPs") or [] if is_of(a, family)],
                    spec.get("externalTrafficPolicy") == "Local",
                    endpoints_of(objects, o, port, protocol, family),
                )
            )
    return found


def is_of(address, family):
    return (":" in address) == (family == 6)


def endpoints_of(objects, service, port, protocol, family):
    found = []
    for o in objects.kind("EndpointSlice"):
        owner = labels_of(o).get("kubernetes.io/service-name")
        if (namespace_of(o), owner) != (namespace_of(service), name_of(service)):
            continue
        for there in o.get("ports") or []:
            same_name = there.get("name", "") == port.get("name", "")
            if not same_name or there.get("protocol", "TCP").lower() != protocol:
                continue
            for e in o.get("endpoints") or []:
                found += [
                    Endpoint(a, there["port"], e.get("nodeName", ""))
                    for a in e["addresses"]
                    if is_of(a, family)
                ]
    return found


def with_port(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class IptablesRules:
    """The tables of mode iptables for one family, as iptables-restore reads them."""

    def __init__(self, services, family, node, cluster_cidr):
        self.services, self.family, self.node = services, family, node
        self.cluster_cidr, self.length = cluster_cidr, LENGTH[family]
        self.chains, self.rules, self.filter = [], [], []

    def text(self):
        for service in self.services:
            self.add(service)
        self.rule("KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
        return "\n".join([*self.nat(), *self.filter_table(), ""])

    def rule(self, text):
        self.rules.append("-A " + text)

    def add(self, s):
        hash_, match = s.hash, f"-p {s.protocol} -m {s.protocol} --dport"
        to = f"-d {s.address}/{self.length} {match} {s.port}"
        outside = [f"-d {a}/{self.length} {match} {s.port}" for a in s.external]
        if not s.endpoints:
            self.refuse(s, [to, *outside])
            return
        own = [e for e in s.endpoints if e.node == self.node]
        self.rule(f"KUBE-SERVICES {to} -j KUBE-SVC-{hash_}")
        for way in outside:
            self.rule(f"KUBE-SERVICES {way} -j KUBE-EXT-{hash_}")
        if s.node_port:
            self.rule(f"KUBE-NODEPORTS {match} {s.node_port} -j KUBE-EXT-{hash_}")
        self.chains.append(f"KUBE-SVC-{hash_}")
        self.rule(f"KUBE-SVC-{hash_} ! -s {self.cluster_cidr} {to} -j KUBE-MARK-MASQ")
        self.spread(f"KUBE-SVC-{hash_}", s, s.endpoints)
        if s.external or s.node_port:
            self.add_external(s, own)
        for e in s.endpoints:
            chain = self.endpoint_chain(s, e)
            self.chains.append(chain)
            self.rule(f"{chain} -s {e.address}/{self.length} -j KUBE-MARK-MASQ")
            self.rule(
                f"{chain} -p {s.protocol} -m {s.protocol} -j DNAT "
                f"--to-destination {with_port(e.address, e.port)}"
            )

    def add_external(self, s, own):
        chain = f"KUBE-EXT-{s.hash}"
        self.chains.append(chain)
        if not s.local:
            self.rule(f"{chain} -j KUBE-MARK-MASQ")
            self.rule(f"{chain} -j KUBE-SVC-{s.hash}")
            return
        self.rule(f"{chain} -s {self.cluster_cidr} -j KUBE-SVC-{s.hash}")
        self.rule(f"{chain} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ")
        self.rule(f"{chain} -m addrtype --src-type LOCAL -j KUBE-SVC-{s.hash}")
        if own:
            self.chains.append(f"KUBE-SVL-{s.hash}")
            self.rule(f"{chain} -j KUBE-SVL-{s.hash}")
            self.spread(f"KUBE-SVL-{s.hash}", s, own)
        else:
            for a in s.external:
                self.filter.append(
                    f"-A KUBE-EXTERNAL-SERVICES -d {a}/{self.length} -p {s.protocol} "
                    f"-m {s.protocol} --dport {s.port} -j DROP"
                )
            if s.node_port:
                self.filter.append(
                    "-A KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL "
                    f"-p {s.protocol} -m {s.protocol} --dport {s.node_port} -j DROP"
                )

    def endpoint_chain(self, s, e):
        seed = f"{s.title} {s.protocol} {with_port(e.address, e.port)}"
        return "KUBE-SEP-" + hashlib.sha256(seed.encode()).hexdigest()[:12].upper()

    def spread(self, chain, s, endpoints):
        for number, e in enumerate(endpoints):
            left = len(endpoints) - number
            chance = f"-m statistic --mode random --probability {1 / left:.10f} " * (left > 1)
            self.rule(f"{chain} {chance}-j {self.endpoint_chain(s, e)}")

    def refuse(self, s, ways):
        self.filter += [
            f"-A KUBE-SERVICES {way} -j REJECT --reject-with {REJECT[self.family]}" for way in ways
        ]
        if s.node_port:
            self.filter.append(
                f"-A KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL -p {s.protocol} "
                f"-m {s.protocol} --dport {s.node_port} -j REJECT "
                f"--reject-with {REJECT[self.family]}"
            )

    def nat(self):
        fixed = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"]
        yield "*nat"
        yield from (f":{c} - [0:0]" for c in [*fixed, *dict.fromkeys(self.chains)])
        yield "-A PREROUTING -j KUBE-SERVICES"
        yield "-A OUTPUT -j KUBE-SERVICES"
        yield "-A POSTROUTING -j KUBE-POSTROUTING"
        yield f"-A KUBE-MARK-MASQ -j MARK --set-xmark {MASQUERADE}/{MASQUERADE}"
        yield f"-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN"
        yield f"-A KUBE-POSTROUTING -j MARK --set-xmark {MASQUERADE}/0x0"
        yield "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
        yield from self.rules
        yield "COMMIT"

    def filter_table(self):
        yield "*filter"
        for chain in ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-FIREWALL"):
            yield f":{chain} - [0:0]"
        new = "-m conntrack --ctstate NEW"
        yield f"-A INPUT {new} -j KUBE-EXTERNAL-SERVICES"
        yield "-A INPUT -j KUBE-FIREWALL"
        yield "-A FORWARD -j KUBE-FORWARD"
        yield f"-A FORWARD {new} -j KUBE-SERVICES"
        yield f"-A FORWARD {new} -j KUBE-EXTERNAL-SERVICES"
        yield f"-A OUTPUT {new} -j KUBE-SERVICES"
        yield "-A OUTPUT -j KUBE-FIREWALL"
        if self.family == 4:
            yield (
                "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 "
                "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
            )
        yield "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
        yield f"-A KUBE-FORWARD -m mark --mark {MASQUERADE}/{MASQUERADE} -j ACCEPT"
        yield "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        yield from self.filter
        yield "COMMIT"


class NftablesRules:
    """The table of mode nftables for one family, as nft -f reads it."""

    def __init__(self, services, family, node, cluster_cidr):
        self.services, self.node, self.cluster_cidr = services, node, cluster_cidr
        self.ip = "ip" if family == 4 else "ip6"
        self.type = "ipv4_addr" if family == 4 else "ipv6_addr"
        self.reject = "icmp" if family == 4 else "icmpv6"
        self.chains, self.by_address, self.by_port = [], [], []
        self.empty, self.empty_ports = [], []  # what has no endpoint here

    def text(self):
        for service in self.services:
            self.add(service)
        return "\n".join(self.lines()) + "\n"

    def chain(self, name, *rules):
        self.chains.append((name, rules))

    def add(self, s):
        name, ip, proto = f"{s.hash}", self.ip, s.protocol
        ways = [f"{a} . {proto} . {s.port}" for a in [s.address, *s.external]]
        if not s.endpoints:
            self.lacks(s, ways, "goto reject-chain")
            return
        self.by_address.append(f"{ways[0]} : goto service-{name}")
        self.by_address += [f"{w} : goto external-{name}" for w in ways[1:]]
        if s.node_port:
            self.by_port.append(f"{proto} . {s.node_port} : goto external-{name}")
        self.chain(
            f"service-{name}",
            f"{ip} daddr {s.address} {proto} dport {s.port} "
            f"{ip} saddr != {self.cluster_cidr} jump mark-for-masquerade",
            self.spread(s, s.endpoints),
        )
        for e in s.endpoints:
            self.chain(
                self.endpoint_chain(s, e),
                f"{ip} saddr {e.address} jump mark-for-masquerade",
                f"meta l4proto {proto} dnat to {with_port(e.address, e.port)}",
            )
        if not (s.external or s.node_port):
            return
        if not s.local:
            self.chain(f"external-{name}", "jump mark-for-masquerade", f"goto service-{name}")
            return
        own = [e for e in s.endpoints if e.node == self.node]
        self.chain(
            f"external-{name}",
            f"{ip} saddr {self.cluster_cidr} goto service-{name}",
            "fib saddr type local jump mark-for-masquerade",
            f"fib saddr type local goto service-{name}",
            *([self.spread(s, own)] if own else []),
        )
        if not own:
            self.lacks(s, ways[1:], "drop")

    def lacks(self, s, ways, verdict):
        self.empty += [f"{w} : {verdict}" for w in ways]
        if s.node_port:
            self.empty_ports.append(f"{s.protocol} . {s.node_port} : {verdict}")

    def endpoint_chain(self, s, e):
        seed = f"{s.title} {s.protocol} {with_port(e.address, e.port)}"
        return "endpoint-" + hashlib.sha256(seed.encode()).hexdigest()[:12].upper()

    def spread(self, s, endpoints):
        ways = ", ".join(f"{n} : goto {self.endpoint_chain(s, e)}" for n, e in enumerate(endpoints))
        return f"numgen random mod {len(endpoints)} vmap {{ {ways} }}"

    def elements(self, items):
        return [f"    elements = {{ {', '.join(items)} }}"] if items else []

    def lines(self):
        ip, mark = self.ip, MASQUERADE
        yield f"table {ip} kube-proxy"
        yield f"delete table {ip} kube-proxy"
        yield f"table {ip} kube-proxy {{"
        yield "  chain mark-for-masquerade {"
        yield f"    mark set mark or {mark}"
        yield "  }"
        yield "  chain reject-chain {"
        yield f"    reject with {self.reject} type port-unreachable"
        yield "  }"
        yield from self.chain_lines()
        key = f"{self.type} . inet_proto . inet_service"
        for name, kind, items in (
            ("service-ips", key, self.by_address),
            ("service-nodeports", "inet_proto . inet_service", self.by_port),
            ("no-endpoint-services", key, self.empty),
            ("no-endpoint-nodeports", "inet_proto . inet_service", self.empty_ports),
        ):
            yield f"  map {name} {{"
            yield f"    type {kind} : verdict"
            yield from self.elements(items)
            yield "  }"
        yield "  chain services {"
        yield f"    {ip} daddr . meta l4proto . th dport vmap @service-ips"
        yield "    fib daddr type local meta l4proto . th dport vmap @service-nodeports"
        yield "  }"
        yield "  chain endpoints-check {"
        yield f"    {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services"
        yield "    fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports"
        yield "  }"
        yield "  chain masquerading {"
        yield f"    mark and {mark} == 0 return"
        yield f"    mark set mark xor {mark}"
        yield "    masquerade fully-random"
        yield "  }"
        for name, hook, kind, priority, rule in (
            ("nat-prerouting", "prerouting", "nat", "dstnat", "jump services"),
            ("nat-output", "output", "nat", "-100", "jump services"),
            ("nat-postrouting", "postrouting", "nat", "srcnat", "jump masquerading"),
            ("filter-input", "input", "filter", "-110", "ct state new jump endpoints-check"),
            ("filter-forward", "forward", "filter", "-110", "ct state new jump endpoints-check"),
            ("filter-output", "output", "filter", "-110", "ct state new jump endpoints-check"),
        ):
            yield f"  chain {name} {{"
            yield f"    type {kind} hook {hook} priority {priority}"
            yield f"    {rule}"
            yield "  }"
        yield "}"

    def chain_lines(self):
        # Endpoints before services before ways from outside: what is named must be there.
        order = ("endpoint-", "service-", "external-")
        for name, rules in sorted(
            self.chains, key=lambda c: next(n for n, p in enumerate(order) if c[0].startswith(p))
        ):
            yield f"  chain {name} {{"
            yield from (f"    {r}" for r in rules)
            yield "  }"


def install(mode, node, objects, cluster_cidrs):
    """Writes the rules of a mode in a node's namespace, in place of those that an earlier call
    wrote. cluster_cidrs: family -> the pods' range."""
    for family in (4, 6):
        services = service_ports(objects, family)
        if mode == "iptables":
            rules = IptablesRules(services, family, node.name, cluster_cidrs[family])
            node.run([RESTORE[family]], stdin=rules.text())
        else:
            rules = NftablesRules(services, family, node.name, cluster_cidrs[family])
            node.run(["nft", "-f", "-"], stdin=rules.text())


def missing(mode):
    """Why a mode cannot be tried on this machine; None if it can."""
    if mode != "ipvs":
        return None
    if not os.path.exists("/proc/net/ip_vs"):
        return "the kernel has no IPVS (/proc/net/ip_vs; module ip_vs)"
    return "this kernel has IPVS, but its rules are not made here"
