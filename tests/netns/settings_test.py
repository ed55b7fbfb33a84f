#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""FelixConfiguration and ClusterInformation as a running cluster follows them: settings_test.py
[BUILD FOLDER].

Settings that change under traffic lose none of it, and act on new flows at once; a locked
datastore gives no addresses. What each setting opens
and closes is in policy/settings.yaml.
"""

import sys

import cluster_test
from cluster_test import (
    TRY_AGAIN_LATER,
    all_talk,
    expect,
    expect_no_loss,
    furnish,
    mesh_objects,
    plugin_error,
    pod_object,
    streams_during,
    wait_for_blocks,
)
from topology_test import calico

from cluster import pods, probe  # noqa: I001  (cluster_test sets the path)

PORT = cluster_test.PORT
QUICK = 0.6  # s: to hear that nothing comes


def felix(**spec):
    return calico("FelixConfiguration", "default", **spec)


def information(**spec):
    return calico("ClusterInformation", "default", clusterType="k8s,bgp", **spec)


def write(cluster, *items):
    cluster.apply(list(items), "step")
    cluster.wait_for_sync()


def outcomes(made, asker, target, protocol="tcp", sources=None, patience=8.0):
    """Family -> whether the target answered, and saw the asker's source."""
    pod, prober = made[asker]
    asked = {
        f: probe.Question(
            pod.title, protocol, (sources or pod.addresses)[f], address, PORT, timeout=patience
        )
        for f, address in target.items()
    }
    probe.ask_all({pod.title: prober}, asked.values())
    return {
        f: q.answered and q.answer.get("seen", q.source) == q.source for f, q in asked.items()
    }


def check_settings_under_traffic(cluster, made):
    """Pods' streams, and open flows to a node, while what is allowed flips."""
    first = cluster.node("n1")
    node = {f: str(first.address(f)) for f in (4, 6)}
    server = probe.Prober("n1", first.netns, cluster.state.log("probers"))
    server.order({"serve": {"name": "n1", "addresses": list(node.values()), "udp": [PORT]}})
    prober = made["p1"][1]
    held = [
        {
            "id": f,
            "protocol": "udp",
            "source": made["p1"][0].addresses[f],
            "target": node[f],
            "port": PORT,
            "timeout": 8.0,
        }
        for f in (4, 6)
    ]
    prober.order({"open": held})
    expect(all(prober.order({"say": 4.0}).values()), "a pod has flows to its node")

    def flip():
        for number in range(10):
            write(
                cluster,
                felix(
                    defaultEndpointToHostAction="Drop" if number % 2 == 0 else "Accept",
                    vxlanPort=4000 + number,
                ),
            )

    expect_no_loss(streams_during(made, 5, flip))
    write(cluster, felix(defaultEndpointToHostAction="Drop"))
    told = outcomes(made, "p1", node, "udp", patience=QUICK)
    expect(not any(told.values()), f"new flows to the node are dropped: {told}")
    expect(all(prober.order({"say": 4.0}).values()), "those that were open go on")
    prober.order({"close": {}})
    first.stop_agent()
    told = outcomes(made, "p1", node, "udp", patience=QUICK)
    expect(not any(told.values()), f"with the agent away too: {told}")
    first.start_agent()
    first.wait_for_agent()
    told = outcomes(made, "p1", node, "udp", patience=QUICK)
    expect(not any(told.values()), f"and while the next one starts: {told}")
    cluster.wait_for_sync()
    text = first.ctl("status").stdout
    expect("defaultEndpointToHostAction=Drop" in text, "manxctl status says what holds")
    cluster.delete([felix()], "felix")
    cluster.wait_for_sync()
    told = outcomes(made, "p1", node, "udp")
    expect(all(told.values()), f"without the object the node answers again: {told}")
    server.close()


def check_lock(cluster, made):
    write(cluster, information(datastoreReady=False))
    late = pod_object("late", "n1")
    write(cluster, late)
    refused = plugin_error(cluster, late)
    expect(
        refused["code"] == TRY_AGAIN_LATER and "datastoreReady" in refused["msg"],
        f"a locked datastore gives no address: {refused}",
    )
    status = cluster.node("n1").ctl("status").stdout
    expect("the datastore is locked" in status, "manxctl status says so")
    victim, prober = made.pop("q1")
    prober.close()
    pods.delete(victim, cluster.binaries)
    all_talk(made)
    write(cluster, information(datastoreReady=True))
    made.update(furnish(cluster, [late]))
    all_talk(made)


def case_settings(bench):
    items = [*mesh_objects(2), pod_object("q1", "n1"), pod_object("q2", "n1")]
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        wait_for_blocks(cluster, made, items)
        all_talk(made)
        check_settings_under_traffic(cluster, made)
        check_lock(cluster, made)


cluster_test.CASES["settings"] = case_settings

if __name__ == "__main__":
    sys.exit(cluster_test.main("settings", *sys.argv[1:2]))
