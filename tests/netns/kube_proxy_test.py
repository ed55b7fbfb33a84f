#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Services under kube-proxy, with real packets: kube_proxy_test.py MODE [BUILD FOLDER].

MODE is iptables, nftables or ipvs: the rules of that mode stand in both nodes' namespaces
(scripts/lib/cluster/kube_proxy.py). Pods, nodes and a client outside the cluster ask services over
TCP and UDP in both families: who answers, and whom it saw, must be what kube-proxy's users know;
policy sees the backend, not the service. Exit status 0 passed, 1 failed, 77 skipped.
"""

import os
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

import kube_proxy_host  # noqa: E402
from cluster import host, kube_proxy  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402
from kube_proxy_bench import (  # noqa: E402
    BOTH,
    CLIENT,
    FAR,
    NEAR,
    NEAR_LOCAL,
    NONE,
    OWN,
    PORT,
    Bench,
    blocks,
    cluster_ip,
    external_ip,
    k8s_policy,
)

MODES = ("iptables", "nftables", "ipvs")


def case_without_policy(b):
    n1, n2 = b.node("n1"), b.node("n2")
    near, far, local = cluster_ip(NEAR), cluster_ip(FAR), cluster_ip(NEAR_LOCAL)
    b.check(
        "pods reach ClusterIPs, near and far, and are seen as themselves",
        [
            (asker, address, PORT, [backend], OWN)
            for asker in ("x/b", "y/b")
            for address, backend in ((near, "x/a"), (far, "x/c"), (local, "x/a"))
        ],
    )
    b.check(
        "a pod reaches itself by its service, seen as its node",
        [("x/a", near, PORT, ["x/a"], "n1"), ("x/c", far, PORT, ["x/c"], "n2")],
    )
    b.check(
        "nodes reach ClusterIPs, seen as themselves",
        [
            (node, address, PORT, [backend], OWN)
            for node in ("n1", "n2")
            for address, backend in ((near, "x/a"), (far, "x/c"))
        ],
    )
    b.check(
        "a client outside reaches node ports of both nodes, seen as the node",
        [
            (CLIENT, to, service.node_port, [backend], name)
            for to, name in ((n1, "n1"), (n2, "n2"))
            for service, backend in ((NEAR, "x/a"), (FAR, "x/c"))
        ],
    )
    b.check(
        "policy Local: the client is seen as itself, and a node without a backend is silent",
        [
            (CLIENT, n1, NEAR_LOCAL.node_port, ["x/a"], OWN),
            (CLIENT, external_ip(NEAR_LOCAL), PORT, ["x/a"], OWN),
            (CLIENT, n2, NEAR_LOCAL.node_port, (), None),
        ],
    )
    b.check(
        "a client outside reaches external addresses, seen as the node",
        [
            (CLIENT, external_ip(NEAR), PORT, ["x/a"], "n1"),
            (CLIENT, external_ip(FAR), PORT, ["x/c"], "n1"),
        ],
    )
    b.check(
        "pods reach node ports of their node and of the other, and external addresses",
        [
            ("x/b", n1, NEAR.node_port, ["x/a"], "n1"),
            ("x/b", n1, FAR.node_port, ["x/c"], "n1"),
            ("x/b", n2, NEAR.node_port, ["x/a"], "n2"),
            ("x/b", n2, FAR.node_port, ["x/c"], "n2"),
            ("x/b", external_ip(NEAR), PORT, ["x/a"], "n1"),
            ("y/b", external_ip(FAR), PORT, ["x/c"], "n2"),
        ],
    )
    b.check(
        "a service without a backend refuses",
        [(a, cluster_ip(NONE), PORT, "refused", None) for a in ("x/b", "y/b")],
    )
    many = b.check(
        "of two backends either answers",
        [
            (a, cluster_ip(BOTH), PORT, ["x/a", "x/c"], OWN)
            for a in ("x/b", "y/b")
            for _ in range(8)
        ],
    )
    answered = {q.answer["by"] for q in many}
    b.failed += answered != {"x/a", "x/c"}
    print(f"{'ok' if len(answered) == 2 else 'FAILED'}: of 64 questions both got some")


def case_ingress_policy(b):
    b.under(
        k8s_policy(
            "only-y-b",
            "x",
            "a",
            ingress=[
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {"ns": "y"}},
                            "podSelector": {"matchLabels": {"pod": "b"}},
                        }
                    ]
                }
            ],
        ),
        k8s_policy("nobody", "x", "c", policyTypes=["Ingress"]),
    )
    n1, n2 = b.node("n1"), b.node("n2")
    b.check(
        "a backend's ingress policy sees the pod that asked for its service",
        [
            ("y/b", cluster_ip(NEAR), PORT, ["x/a"], OWN),
            ("x/b", cluster_ip(NEAR), PORT, (), None),
            ("y/c", cluster_ip(NEAR), PORT, (), None),
            ("x/b", cluster_ip(FAR), PORT, (), None),
            ("y/b", cluster_ip(FAR), PORT, (), None),
            ("x/a", cluster_ip(NEAR), PORT, ["x/a"], "n1"),
            ("x/c", cluster_ip(FAR), PORT, ["x/c"], "n2"),
        ],
    )
    b.check(
        "and is not passed by way of node ports and external addresses",
        [
            ("x/b", n2, NEAR.node_port, (), None),
            ("x/b", n2, FAR.node_port, (), None),
            ("x/b", external_ip(NEAR), PORT, (), None),
            ("x/b", external_ip(FAR), PORT, (), None),
            ("y/c", n1, NEAR_LOCAL.node_port, (), None),
            (CLIENT, n1, NEAR.node_port, (), None),
            (CLIENT, n2, NEAR.node_port, (), None),
            (CLIENT, n1, FAR.node_port, (), None),
            (CLIENT, n1, NEAR_LOCAL.node_port, (), None),
            (CLIENT, external_ip(NEAR), PORT, (), None),
            ("n2", cluster_ip(NEAR), PORT, (), None),
        ],
    )
    b.check(
        "a node reaches its own pods by their service",
        [
            ("n1", cluster_ip(NEAR), PORT, ["x/a"], OWN),
            ("n2", cluster_ip(FAR), PORT, ["x/c"], OWN),
        ],
    )


def case_egress_policy(b):
    b.under(
        k8s_policy(
            "services-only",
            "x",
            "b",
            policyTypes=["Egress"],
            egress=[{"to": blocks("10.96.0.0/16", "fd96::/64", "192.0.2.0/24", "2001:db8::/32")}],
        )
    )
    n1 = b.node("n1")
    b.check(
        "egress to a service's own address is of no use: policy sees the backend",
        [
            ("x/b", cluster_ip(NEAR), PORT, (), None),
            ("x/b", cluster_ip(FAR), PORT, (), None),
            ("x/b", external_ip(NEAR), PORT, (), None),
        ],
    )
    b.under(
        k8s_policy(
            "to-a",
            "x",
            "b",
            policyTypes=["Egress"],
            egress=[
                {"to": [{"podSelector": {"matchLabels": {"pod": "a"}}}], "ports": [{"port": 80}]}
            ],
        ),
        k8s_policy(
            "to-a",
            "y",
            "b",
            policyTypes=["Egress"],
            egress=[
                {
                    "to": [
                        {
                            "namespaceSelector": {},
                            "podSelector": {"matchLabels": {"pod": "a"}},
                        }
                    ],
                    "ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}],
                }
            ],
        ),
    )
    b.check(
        "egress to the backend, on its own port, is what counts",
        [
            ("y/b", cluster_ip(NEAR), PORT, ["x/a"], OWN),
            ("y/b", cluster_ip(FAR), PORT, (), None),
            ("x/b", cluster_ip(FAR), PORT, (), None),
            ("x/b", external_ip(FAR), PORT, (), None),
            ("y/b", external_ip(NEAR), PORT, ["x/a"], "n2"),
        ],
    )
    b.under(k8s_policy("nothing", "x", "b", policyTypes=["Egress"]))
    b.check(
        "no egress is none",
        [
            ("x/b", to, port, (), None)
            for to, port in (
                (cluster_ip(NEAR), PORT),
                (cluster_ip(FAR), PORT),
                (external_ip(NEAR), PORT),
                (n1, NEAR.node_port),
                (b.node("n2"), NEAR.node_port),
            )
        ],
    )


def case_clients_outside(b):
    b.under(
        k8s_policy(
            "client",
            "x",
            "a",
            ingress=[{"from": blocks(f"{b.client[4]}/32", f"{b.client[6]}/128")}],
        )
    )
    b.check(
        "policy Local lets a backend's policy choose the client",
        [
            (CLIENT, b.node("n1"), NEAR_LOCAL.node_port, ["x/a"], OWN),
            (CLIENT, external_ip(NEAR_LOCAL), PORT, ["x/a"], OWN),
            ("x/b", b.node("n1"), NEAR_LOCAL.node_port, (), None),
        ],
    )
    b.under(k8s_policy("nodes", "x", "c", ingress=[{"from": blocks("172.30.0.0/24", "fd30::/64")}]))
    b.check(
        "what was masqueraded on the way comes from a node",
        [
            (CLIENT, b.node("n1"), FAR.node_port, ["x/c"], "n1"),
            ("y/b", cluster_ip(FAR), PORT, (), None),
        ],
    )


def case_streams(b):
    """Datagrams at a steady pace: each has its answer, also while the other rules change."""
    b.under()
    for asker, service in (("x/b", NEAR), ("x/b", FAR), ("x/a", NEAR)):
        for family in (4, 6):
            told = b.lab.probers[asker].order(
                {
                    "stream": {
                        "source": b.address(asker, family),
                        "target": service.address[family],
                        "port": PORT,
                        "seconds": 0.5,
                        "every": 0.01,
                    }
                }
            )
            good = told["sent"] == told["received"] > 0
            b.failed += not good
            print(f"{'ok' if good else 'FAILED'}: {asker} -> {service.name} v{family}: {told}")


CASES = [f for n, f in list(globals().items()) if n.startswith("case_")]
CASES += kube_proxy_host.CASES


def main(mode, build_folder=os.path.join(ROOT, "build", "release")):
    if mode not in MODES:
        print(f"no mode '{mode}'; there are: {', '.join(MODES)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    if reason := kube_proxy.missing(mode):
        print(f"skipped: {reason}")
        return 77
    started = time.monotonic()
    bench = Bench(mode, os.path.join(os.path.realpath(build_folder), "bin"))
    try:
        bench.up()
        for case in CASES:
            case(bench)
    except ClusterError as error:
        print(f"FAILED: {error}")
        for each in bench.lab.cluster.nodes:
            log = bench.lab.cluster.state.log(each.name + ".agent")
            print(f"-- end of {log}:\n  " + "\n  ".join(host.tail(log, 10)))
        bench.failed += 1
    finally:
        bench.lab.down()
    print(f"{bench.asked} questions, {time.monotonic() - started:.1f} s, {bench.failed} failed")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
