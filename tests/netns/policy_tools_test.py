#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""manxctl policy from outside, on a cluster with traffic: policy_tools_test.py [BUILD FOLDER].

explain by the live programs, which leaves nothing behind; the flows that a manifest would cut;
counters per rule, drops by device and reason, and denied packets as log lines.
"""

import json
import re
import sys

import cluster_test
from cluster_test import PORT, expect, furnish, mesh_objects, pod_object, wait_for_blocks
from topology_test import calico

from cluster import bpf, host, probe  # noqa: I001  (cluster_test sets the path)

SERVICE = "10.96.0.10"


def service_objects(backend):
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "store", "namespace": "default"},
            "spec": {
                "clusterIP": SERVICE,
                "clusterIPs": [SERVICE],
                "ports": [{"name": "db", "port": 80, "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "store-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "store"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "db", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [backend], "conditions": {"ready": False}}],
        },
    ]


def kubernetes_policy(name, spec):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def only_web():
    """p3 hears p1 alone, on one port."""
    return kubernetes_policy(
        "only-web",
        {
            "podSelector": {"matchLabels": {"app": "store"}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                    "ports": [
                        {"protocol": "TCP", "port": PORT},
                        {"protocol": "UDP", "port": PORT},
                    ],
                }
            ],
        },
    )


def staged():
    return calico(
        "StagedGlobalNetworkPolicy",
        "closed",
        order=10,
        selector="app == 'store'",
        types=["Ingress"],
        ingress=[{"action": "Deny", "protocol": "UDP"}],
    )


def explain(node, source, target, *words):
    return node.ctl("policy", "explain", "--from", source, "--to", target, *words).stdout


def traces(node):
    """What live packets leave behind, but the traffic that goes on by itself."""
    pods = {k: v for k, v in bpf.flows(node).items() if k[0] in (6, 17)}
    hits = {
        e["key"]: sum(v["value"]["flows"] for v in e["values"])
        for e in bpf.dump(node, "manx_rule_hits")
    }
    drops = [e["key"] for e in bpf.dump(node, "manx_counters")]
    return set(pods), {k: v for k, v in hits.items() if v}, drops


def has(text, *wanted):
    for pattern in wanted:
        found = re.search(pattern, text)
        expect(found, f"says {pattern!r}" + ("" if found else f" in\n{text}"))


def check_explain(cluster):
    n1, n2 = cluster.node("n1"), cluster.node("n2")
    before = traces(n1)
    tcp = ("--protocol", "tcp", "--port", str(PORT))
    rule = r"KubernetesNetworkPolicy default/only-web ingress\[0\]"
    has(
        explain(n1, "default/p1", "default/p3", *tcp),
        r"^10\.50\S+ -> 10\.50\S+ TCP port 5300: allow",
        r"(?m)^fd50\S+ -> fd50\S+ TCP port 5300: allow",
        rf"live     allow, egress by no rule, ingress by rule {rule}, tc_from_workload on cali",
        rf"  ingress  allow: {rule}",
        rf"    \* {rule} allow",
    )
    denied = explain(n1, "default/p1", "default/p3", "--protocol", "tcp", "--port", "81")
    has(
        denied,
        r"TCP port 81: deny",
        r"live     deny drop_policy_ingress, egress by no rule, "
        r"ingress by rule Tier default ingress default action",
        r"  ingress  deny: Tier default ingress default action",
    )
    has(
        explain(n1, "default/p2", "default/p3", *tcp),
        r"live     deny drop_policy_ingress, ingress by rule Tier default .* tc_from_uplink on ",
        r"egress   is enforced on node n2",
    )
    has(
        explain(n2, "default/p2", "default/p3", *tcp),
        r"live     allow, egress by no rule, tc_from_workload on cali",
        r"ingress  is enforced on node n1",
    )
    has(
        explain(n1, "172.30.0.2", "default/p3", "--protocol", "icmp"),
        r"ICMP type 8 code 0: allow\n  this node reaches its own workloads",
        r"live     allow, .*tc_to_workload",
    )
    has(
        explain(n1, "default/p1", SERVICE, "--port", "80"),
        r"Service default/store TCP port 80 is translated to a backend",
        r"backend default/p3 \(not ready\)",
        r"TCP port 5300: allow",
    )
    has(
        explain(n1, "default/p1", "default/p3", "--protocol", "udp", "--port", str(PORT)),
        r"staged   ingress would be deny: StagedGlobalNetworkPolicy closed ingress\[0\]",
    )
    expect(traces(n1) == before, "explain leaves no flow, counter or drop behind")
    bad = n1.ctl("policy", "explain", "--from", "default/p1", "--to", "default/nobody", check=False)
    expect(
        bad.returncode == 1 and "Pod default/nobody: not found" in bad.stderr,
        f"an error names what is missing: {bad.stderr.strip()}",
    )


def check_cut(cluster):
    n1 = cluster.node("n1")
    manifest = cluster.state.path("objects", "closed.json")
    with open(manifest, "w", encoding="utf-8") as f:
        json.dump(
            kubernetes_policy("closed", {"podSelector": {}, "policyTypes": ["Egress"]}), f
        )
    cut = n1.ctl("policy", "explain", "--manifest", manifest).stdout
    has(
        cut,
        r"would no longer be allowed; they would go on, as policy.cutFlows is off",
        r"egress +UDP +default/p1 \(10\.50\S+:\d+\) +default/p3 \(10\.50\S+:5300\) +"
        r"Tier default egress default action",
        r"egress +UDP +default/p1 \(\[fd50\S+\]:\d+\) +default/p3 \(\[fd50\S+\]:5300\)",
    )
    expect("TCP" not in cut, "connections that have ended are no flows")
    both = explain(
        n1, "default/p1", "default/p3", "--port", str(PORT), "--manifest", manifest
    )
    has(both, r"TCP port 5300: deny \(now: allow\)", r"live     allow")
    rule = cluster.state.path("objects", "only-web.json")
    with open(rule, "w", encoding="utf-8") as f:
        json.dump(only_web(), f)
    has(
        explain(n1, "default/p2", "default/p3", "--port", str(PORT), "--delete", rule),
        r"TCP port 5300: allow \(now: deny\)",
        r"allowed; they would go on, as policy.cutFlows is off: 0 of \d+",
    )


def check_counters(cluster):
    n1 = cluster.node("n1")
    counters = n1.ctl("policy", "counters").stdout
    # Two families, TCP and UDP; the staged rule counts UDP and decides nothing.
    has(
        counters,
        r"\d+ +4 +enforced +KubernetesNetworkPolicy default/only-web ingress\[0\]",
        r"\d+ +\d+ +enforced +Tier default ingress default action",
        r"\d+ +2 +staged +StagedGlobalNetworkPolicy closed ingress\[0\]",
    )
    drops = n1.ctl("policy", "drops").stdout
    has(drops, r"cali\S+ +default/p1 +from_workload +drop_policy_ingress +[1-9]")
    log = "\n".join(host.tail(cluster.state.log("n1.agent"), 200))
    has(
        log,
        r'denied TCP 10\.50\S+ -> 10\.50\S+:5301 device=cali\S+ '
        r'rule="Tier default ingress default action"',
    )
    lines = [line for line in log.splitlines() if "denied TCP 10.50" in line and ":5301" in line]
    expect(len(lines) == 1, f"the same flow's retries are one line: {len(lines)}")
    n1.stop_agent()
    n1.start_agent()
    n1.wait_for_agent()
    again = host.wait_for(
        "the agent's rules", lambda: n1.ctl("policy", "counters").stdout.strip(), 10
    )
    expect(
        again.split() == counters.split(), f"counters are the same after a restart:\n{again}"
    )
    cluster.ctl("delete", "-f", cluster.state.path("objects", "only-web.json"))
    host.wait_for(
        "the deleted policy's counter to go",
        lambda: "only-web" not in n1.ctl("policy", "counters", "--all").stdout,
        10,
    )


def case_policy_tools(bench):
    items = [
        *mesh_objects(2),
        pod_object("p3", "n1", app="store"),
    ]
    for item in items:
        if item["kind"] == "Pod" and item["metadata"]["name"] == "p1":
            item["metadata"]["labels"] = {"app": "web"}
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        wait_for_blocks(cluster, made, items)
        p1, p3 = made["p1"], made["p3"]
        cluster.apply(
            [only_web(), staged(), *service_objects(p3[0].addresses[4])], "policy"
        )
        n1 = cluster.node("n1")
        host.wait_for(
            "the policy",
            lambda: "deny drop_policy_ingress"
            in explain(n1, "default/p1", "default/p3", "--port", "81"),
            10,
        )
        check_explain(cluster)
        asked = [
            probe.Question("default/p1", protocol, p1[0].addresses[f], p3[0].addresses[f], port)
            for f in (4, 6)
            for protocol, port in (("tcp", PORT), ("udp", PORT), ("tcp", PORT + 1))
        ]
        probe.ask_all({p1[0].title: p1[1]}, asked)
        expect(
            [q.answered for q in asked] == [q.port == PORT for q in asked],
            "packets do as explain said",
        )
        check_cut(cluster)
        check_counters(cluster)


cluster_test.CASES["policy_tools"] = case_policy_tools

if __name__ == "__main__":
    sys.exit(cluster_test.main("policy_tools", *sys.argv[1:2]))
