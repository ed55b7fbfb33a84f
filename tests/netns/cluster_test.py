#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One case of a cluster in network namespaces: cluster_test.py CASE [BUILD FOLDER].

Exit status 0 passed, 1 failed, 77 skipped (not root). The cases stand below, one function each.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

from cluster import build, checks, host, pods, probe, state, topology  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402
from cluster.objects import Objects  # noqa: E402
from topology_test import calico, node  # noqa: E402

EXAMPLE = os.path.join(ROOT, "examples", "wikikube-eqiad")
PORT = 5300
# Of the plugin's errors.
TRY_AGAIN_LATER, NO_ADDRESS = 11, 101


class Failure(Exception):
    """What a case found wrong."""


def expect(good, what):
    if not good:
        raise Failure(what)
    print(f"ok: {what}", flush=True)


class Bench:
    """What every case has: its name, which is its own, and the binaries."""

    def __init__(self, case, build_folder):
        digest = hashlib.sha256(f"{case} {os.getpid()}".encode()).hexdigest()[:8]
        self.name = f"t{digest}"
        self.build = build_folder
        self.binaries = os.path.join(build_folder, "bin")

    def demo(self, *arguments, **options):
        """scripts/demo as a user runs it, on our binaries; the finished process."""
        argv = [os.path.join(ROOT, "scripts", "demo"), "--build", self.build, "--name", self.name]
        return subprocess.run(
            [*argv, *arguments], capture_output=True, text=True, check=False, **options
        )

    @contextlib.contextmanager
    def cluster(self, *items, routers="frr"):
        """A running cluster of these objects, agents answering, sessions up."""
        objects = Objects(items)
        plan = topology.build(objects)
        cluster = build.Cluster(state.begin(self.name), plan, self.binaries, routers)
        try:
            cluster.up()
            cluster.configure()
            cluster.apply(list(items), "objects")
            cluster.start_agents()
            expect(checks.wait_for_sessions(cluster), "all BGP sessions are up")
            yield cluster
        except (Failure, ClusterError):
            for each in cluster.nodes:
                log = cluster.state.log(each.name + ".agent")
                print(f"-- end of {log}:\n  " + "\n  ".join(host.tail(log, 30)))
            raise
        finally:
            state.end(self.name)


def pod_object(name, node_name, **labels):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"nodeName": node_name, "serviceAccountName": "default", "containers": []},
    }


def mesh_objects(count, pool4="10.50.0.0/16", pool6="fd50::/64", **pool):
    """Nodes on one link, all meshed, a pool per family, a pod on each."""
    return [
        calico("BGPConfiguration", "default", asNumber=64512, nodeToNodeMeshEnabled=True),
        calico("IPPool", "v4", cidr=pool4, **pool),
        calico("IPPool", "v6", cidr=pool6),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        },
        *(
            node(f"n{i}", IPv4Address=f"172.30.0.{i + 1}/24", IPv6Address=f"fd30::{i + 1}/64")
            for i in range(1, count + 1)
        ),
        *(pod_object(f"p{i}", f"n{i}") for i in range(1, count + 1)),
    ]


def furnish(cluster, items):
    """All pods of a list of objects, with a prober in each: title -> (Pod, Prober)."""
    made = {}
    for o in (i for i in items if i["kind"] == "Pod"):
        pod = pods.from_object(cluster.state, o, cluster.node(o["spec"]["nodeName"]))
        pods.add(pod, cluster.binaries)
        made[pod.name] = (pod, serve(cluster, pod))
    return made


def serve(cluster, pod):
    prober = probe.Prober(pod.title, pod.netns, cluster.state.log("probers"))
    order = {"name": pod.title, "addresses": list(pod.addresses.values())}
    prober.order({"serve": {**order, "tcp": [PORT], "udp": [PORT]}})
    return prober


def all_talk(made, expected=True):
    """Every pod asks every other, both families, all protocols."""
    probers = {p.title: prober for p, prober in made.values()}
    asked = [
        probe.Question(a.title, protocol, a.addresses[f], b.addresses[f], PORT, timeout=8.0)
        for a, _ in made.values()
        for b, _ in made.values()
        if a is not b
        for f in a.addresses
        for protocol in ("tcp", "udp", "icmp")
    ]
    probe.ask_all(probers, asked)
    silent = [f"{q.asker} -> {q.target} {q.protocol}" for q in asked if q.answered != expected]
    expect(
        not silent,
        f"{len(asked)} questions between pods are answered"
        + "".join(f"\n  not {s}" for s in silent[:4]),
    )


def wait_for_blocks(cluster, made, items):
    objects = Objects(items)
    blocks = {
        checks.block_of(objects, a): p.node.name
        for p, _ in made.values()
        for a in p.addresses.values()
    }
    expect(checks.wait_for_routes(cluster, blocks), f"{len(blocks)} blocks known on all nodes")


def case_wikikube(bench):
    """The example's cluster, whole: scripts/demo, every check of it."""
    run_demo(bench, "frr")


def case_wikikube_gobgp(bench):
    """The same with another team's routers."""
    run_demo(bench, "gobgp")


def run_demo(bench, routers):
    done = bench.demo("--routers", routers)
    print(done.stdout[-20000:], done.stderr[-4000:])
    last = done.stdout.rstrip().splitlines()[-1]
    expect(done.returncode == 0 and last.endswith(" 0 failed"), f"last line: {last}")
    expect(state.load(bench.name) is None, "nothing is left of it")


def case_mesh(bench):
    """Three nodes on one link, every node with every other; one pod by the standard tool, where
    that is installed."""
    items = mesh_objects(3)
    cnitool = shutil.which("cnitool")
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        if cnitool:
            by_tool = pod_object("by-tool", "n1")
            cluster.apply([by_tool], "by-tool")
            pod = pods.from_object(cluster.state, by_tool, cluster.node("n1"))
            pods.add_with_cnitool(cluster.state, pod, cluster.binaries, cnitool)
            made[pod.name] = (pod, serve(cluster, pod))
        wait_for_blocks(cluster, made, items)
        all_talk(made)


def streams_during(made, seconds, action):
    """Runs an action one second into steady streams, from each pod to the next, the families in
    turn; what became of each stream."""
    ring = list(made.values())
    results, threads = {}, []
    for number, (source, prober) in enumerate(ring):
        target, _ = ring[(number + 1) % len(ring)]
        family = 6 if number % 2 else 4
        order = {
            "source": source.addresses[family],
            "target": target.addresses[family],
            "port": PORT,
            "seconds": seconds,
            "every": 0.01,
        }

        def work(prober=prober, order=order, key=(source.name, target.name)):
            results[key] = prober.order({"stream": order})

        threads.append(threading.Thread(target=work))
    for thread in threads:
        thread.start()
    time.sleep(1)
    try:
        action()
    finally:
        for thread in threads:
            thread.join()
    return results


def expect_no_loss(results):
    for key, r in results.items():
        expect(
            r["sent"] == r["received"],
            f"{key[0]} -> {key[1]}: {r['received']} of {r['sent']} datagrams came back, "
            f"longest gap {r['longest_gap'] * 1000:.0f} ms",
        )


def restart_items():
    return [*mesh_objects(2), pod_object("q1", "n1")]


def case_agent_restart(bench):
    """An agent that restarts, twice, in the middle of traffic: no packet is lost, and new pods and
    flows work after it."""
    items = restart_items()
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        wait_for_blocks(cluster, made, items)
        all_talk(made)
        first = cluster.node("n1")

        def restart():
            for _ in range(2):
                first.stop_agent()
                time.sleep(0.3)
                first.start_agent()
                first.wait_for_agent()

        expect_no_loss(streams_during(made, 6, restart))
        all_talk(made)
        late = [pod_object("late", "n1")]
        cluster.apply(late, "late")
        made.update(furnish(cluster, late))
        all_talk(made)


def case_agent_killed(bench):
    """An agent that is killed and stays away: what was forwarding forwards, new flows too, and the
    sessions with the others stay up; the plugin says to try again later."""
    items = restart_items()
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        wait_for_blocks(cluster, made, items)
        first = cluster.node("n1")
        expect_no_loss(streams_during(made, 4, lambda: first.stop_agent(signal.SIGKILL)))
        all_talk(made)
        up = {a for a, s in checks.sessions(first).items() if s == "Established"}
        expect(up == checks.expected_sessions(cluster, first), "BGP sessions stay up")
        refused = plugin_error(cluster, pod_object("early", "n1"))
        expect(refused["code"] == TRY_AGAIN_LATER, f"the plugin says to try again later: {refused}")
        first.start_agent()
        first.wait_for_agent()
        late = [pod_object("early", "n1")]
        cluster.apply(late, "early")
        made.update(furnish(cluster, late))
        all_talk(made)


def plugin_error(cluster, o, conf=None, **environment):
    """What the plugin says on ADD of a pod that it must refuse."""
    pod = pods.from_object(cluster.state, o, cluster.node(o["spec"]["nodeName"]))
    host.add_netns(pod.netns)
    done = pods.call(pod, "ADD", cluster.binaries, conf, **environment)
    expect(done.returncode != 0, f"ADD of {pod.name} is refused")
    devices = host.run(["ip", "-n", pod.netns, "-o", "link"]).stdout
    expect("eth0" not in devices, "and leaves no device behind")
    host.delete_netns(pod.netns)
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise Failure(f"no JSON on standard output: {done.stdout!r} {done.stderr!r}") from error


def case_exhausted_pool(bench):
    """A pool of four addresses, no borrowing: the fifth pod fails by name of what is short, nothing
    half done, and succeeds once an address is back."""
    items = mesh_objects(1, pool4="10.50.0.0/30", blockSize=30)
    items.append(calico("IPAMConfig", "default", strictAffinity=True, autoAllocateBlocks=True))
    items += [pod_object(f"x{i}", "n1") for i in range(3)]
    with bench.cluster(*items) as cluster:
        made = furnish(cluster, items)
        extra = pod_object("extra", "n1")
        cluster.apply([extra], "extra")
        refused = plugin_error(cluster, extra)
        expect(refused["code"] == NO_ADDRESS, f"the error says what is short: {refused}")
        victim, prober = made.pop("x0")
        prober.close()
        pods.delete(victim, cluster.binaries)
        made.update(furnish(cluster, [extra]))
        expect(
            made["extra"][0].addresses[4] == victim.addresses[4],
            "the address that came back is used",
        )
        all_talk(made)


def case_bad_input(bench):
    """Input that cannot be used: a message that names it, a status that says so, nothing left."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, text, wanted in (
            ("none", None, "no such folder"),
            ("empty", "", "no Node object"),
            ("broken", "kind: Node\n  metadata: [", "not YAML"),
            ("nameless", "apiVersion: v1\nkind: Node\n", "metadata.name"),
        ):
            scenario = os.path.join(folder, name)
            if text is not None:
                os.mkdir(scenario)
                with open(os.path.join(scenario, "objects.yaml"), "w", encoding="utf-8") as f:
                    f.write(text)
            done = bench.demo("--scenario", scenario)
            expect(
                done.returncode == 2 and wanted in done.stderr,
                f"scenario {name}: {done.stderr.strip()}",
            )
    items = mesh_objects(1)
    with bench.cluster(*items) as cluster:
        first = items[-1]
        foreign = {**pods.network(), "ipam": {"type": "host-local"}}
        broken = plugin_error(cluster, first, foreign)
        expect("host-local" in json.dumps(broken), f"another's IPAM in the configuration: {broken}")
        unknown = plugin_error(cluster, first, CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=no")
        expect("default/no" in json.dumps(unknown), f"a pod that is not there: {unknown}")
        overlap = calico("IPPool", "overlap", cidr="10.50.128.0/17")
        path = cluster.state.path("overlap.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(overlap, f)
        done = cluster.nodes[0].ctl("apply", "-f", path, check=False)
        expect(
            done.returncode != 0 and "overlap" in done.stderr,
            f"a pool that overlaps another: {done.stderr.strip()}",
        )
        made = furnish(cluster, items)
        expect(len(made) == 1, "and the same pod is made after that")


def case_killed_run(bench):
    """A run that is killed leaves things behind, and the next takes them away."""
    argv = [os.path.join(ROOT, "scripts", "cluster"), "up", EXAMPLE, "--no-agents"]
    done = subprocess.Popen([*argv, "--name", bench.name], stdout=subprocess.DEVNULL)
    host.wait_for("the first router", lambda: netns_of(bench.name), timeout=30, every=0.005)
    done.kill()
    done.wait()
    left = netns_of(bench.name)
    expect(left, f"{len(left)} namespaces are left by the killed run")
    ours = state.begin(bench.name)
    expect(not netns_of(bench.name), "the next run takes them away")
    expect(ours.data["netns"] == [], "and starts empty")
    state.end(bench.name)
    expect(not os.path.exists(ours.folder), "and leaves nothing")


def netns_of(name):
    try:
        return [n for n in os.listdir(host.NETNS_DIR) if n.startswith(name + "-")]
    except FileNotFoundError:
        return []


CASES = {n[len("case_") :]: f for n, f in sorted(globals().items()) if n.startswith("case_")}


def main(case, build_folder=os.path.join(ROOT, "build", "release")):
    if case not in CASES:
        print(f"no case '{case}'; there are: {', '.join(CASES)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    bench = Bench(case, build_folder)
    try:
        CASES[case](bench)
    except (Failure, ClusterError) as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        state.end(bench.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
