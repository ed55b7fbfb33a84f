# SPDX-License-Identifier: Apache-2.0
"""Cases of kube_proxy_test.py: services whose backend is a node, asked by pods of that node. What
is translated to the pod's own node is delivered there, and leaves it by no device."""

from cluster import bpf
from kube_proxy_bench import (
    HOST,
    NEAR,
    OWN,
    PORT,
    PROTOCOLS,
    blocks,
    cluster_ip,
    external_ip,
    k8s_policy,
)

EGRESS_DENIED, NOT_TO_HOST = 32, 40  # maps/abi/verdict.h


def egress(cidrs, *ports):
    """Egress of x/b to these networks, by (port, protocol); without one: by all."""
    rule = {"to": blocks(*cidrs)}
    if ports:
        rule["ports"] = [{"port": n, "protocol": p} for n, p in ports]
    return k8s_policy("egress", "x", "b", policyTypes=["Egress"], egress=[rule])


def host_networks(b):
    return [f"{a}/{length}" for a, length in zip(b.lab.addresses["n1"].values(), (32, 128))]


def drops(b, reason):
    """Packets that node n1 has dropped at its own door."""
    return bpf.totals(b.lab.cluster.node("n1")).get((bpf.TO_HOST, reason), 0)


def expect(b, what, good, told=""):
    b.failed += not good
    print(f"{'ok' if good else 'FAILED'}: {what}{f': {told}' if told and not good else ''}")


def reached(*askers):
    return [(a, cluster_ip(HOST), PORT, ["n1"], OWN) for a in askers]


def silent(*askers):
    return [(a, cluster_ip(HOST), PORT, (), None) for a in askers]


def host_without_policy(b):
    b.under()
    b.check("a service whose backend is a node", reached("x/a", "x/b", "y/b", "n1", "n2"))
    b.check(
        "and by its external address, from its own node and from the other",
        [(a, external_ip(HOST), PORT, ["n1"], None) for a in ("x/b", "y/b")],
    )


def host_with_egress_policy(b):
    networks = host_networks(b)
    before = drops(b, EGRESS_DENIED)
    b.under(k8s_policy("nothing", "x", "b", policyTypes=["Egress"]))
    b.check(
        "no egress is none, to the own node's services too",
        [*silent("x/b"), ("x/b", external_ip(HOST), PORT, (), None)],
    )
    b.check("others reach it", reached("x/a", "y/b"))
    counted = drops(b, EGRESS_DENIED) - before
    expect(b, "what was denied is counted", counted >= 2 * len(PROTOCOLS), counted)
    b.under(egress(["10.96.0.0/16", "fd96::/64"]))
    b.check("egress to the service's own address is of no use", silent("x/b"))
    b.under(egress(networks, (PORT, "TCP"), (PORT, "UDP")))
    b.check("nor is the service's port", silent("x/b"))
    b.under(egress(networks, (80, "TCP")))
    b.check("egress to the node by TCP: TCP passes", reached("x/b"), protocols=["tcp"])
    b.check("and UDP does not", silent("x/b"), protocols=["udp"])
    b.under(egress(networks, (80, "TCP"), (80, "UDP")))
    b.check("egress to the node on the backend's port is what counts", reached("x/b"))
    b.check("and no other service", [("x/b", cluster_ip(NEAR), PORT, (), None)])


def host_changes(b):
    """Open flows stay when policy denies what they are; with policy.cutFlows they do not."""
    orders = [
        {
            "id": f"{protocol}{family}",
            "protocol": protocol,
            "source": b.address("x/b", family),
            "target": HOST.address[family],
            "port": PORT,
        }
        for protocol in PROTOCOLS
        for family in (4, 6)
    ]
    prober = b.lab.probers["x/b"]

    def say(what, wanted, seconds):
        told = prober.order({"say": seconds})
        expect(b, what, len(told) == len(orders) and all(v == wanted for v in told.values()), told)

    for cut in (False, True):
        if cut:
            b.lab.restart_agents(policy={"cutFlows": True})
        b.under(egress(host_networks(b)))
        prober.order({"open": orders})
        say("flows to the own node's service are open", True, 5)
        say("and go on", True, 5)
        b.under(k8s_policy("nothing", "x", "b", policyTypes=["Egress"]))
        if cut:
            say("with cutFlows they end with what allowed them", False, 1)
            b.under(egress(host_networks(b)))
            say("and are there again when that is", True, 5)
        else:
            say("they stay when egress is denied", True, 5)
        b.check("new ones follow policy", reached("x/b") if cut else silent("x/b"))
        prober.order({"close": {}})
    b.lab.restart_agents()


def host_drop(b):
    before = drops(b, NOT_TO_HOST)
    b.lab.restart_agents(defaultEndpointToHostAction="Drop")
    b.under(egress(host_networks(b)))
    b.check(
        "defaultEndpointToHostAction Drop: pods do not reach their own node by its service",
        silent("x/a", "x/b"),
    )
    b.check("others do, and nothing else is kept from them", reached("y/b", "n1", "n2"))
    b.check("pods by services neither", [("x/a", cluster_ip(NEAR), PORT, ["x/a"], "n1")])
    counted = drops(b, NOT_TO_HOST) - before
    expect(b, "what was dropped is counted", counted >= 4 * len(PROTOCOLS), counted)
    b.lab.restart_agents()


def host_without_netfilter(b):
    """As on a kernel that cannot judge there: what policy might deny is dropped, no more."""
    b.lab.restart_agents(bpf={"netfilter": False})
    b.under(egress([*host_networks(b), "10.50.0.0/16", "fd50::/64"]))
    b.check("without netfilter programs: a pod with egress policy is silent", silent("x/b"))
    b.check("and reaches what is elsewhere", [("x/b", cluster_ip(NEAR), PORT, ["x/a"], OWN)])
    b.check("the others reach it", reached("x/a", "y/b", "n1"))
    status = b.lab.cluster.node("n1").status()
    expect(b, "the agent says so", "dropped" in status["servicesOfThisHost"], status)
    b.lab.restart_agents()
    b.check("and everything is back with them", reached("x/a", "x/b", "y/b"))


CASES = [
    host_without_policy,
    host_with_egress_policy,
    host_changes,
    host_drop,
    host_without_netfilter,
]
