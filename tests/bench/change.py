# SPDX-License-Identifier: Apache-2.0
"""One policy change: from the datastore's event to the first packet that is judged by it.

A process writes a policy (create, port, delete) or a pod's label by the store's interface, and
then sends a datagram every 50 us from one pod to another, each a flow of its own, until the
verdict has changed. Time is from the return of the write to the sending of the first datagram
of the new verdict; "with the write" is from before the write. Where it goes inside the agent is
taken from the agent's own record (log level debug).

small: two pods, nothing else. big: 250 local pods made by the CNI plugin, 10,000 pods of 249 other
nodes, 1,000 policies.
"""

import json
import os
import re
import shutil
import tempfile

import _netns
import _node
import _report

SMALL_MEDIAN = 1.0
BIG_P99 = 5.0
STAGES = ("read", "parsed", "taken", "applied", "calculated", "written")


def add_arguments(parser):
    parser.add_argument("--cycles", type=int, default=100,
                        help="of six changes each (%(default)s)")
    parser.add_argument("--only", choices=["small", "big"], help="one size of cluster only")
    parser.add_argument("--smoke", action="store_true",
                        help="a few changes on small clusters, bounds are shown but do not fail")


def batches(log):
    """What the agent wrote down of each batch, oldest first."""
    out = []
    with open(log, encoding="utf-8") as file:
        for line in file:
            if "batch updates=" in line:
                out.append({key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)})
    return out


def stages_of(change, records):
    """Microseconds of each step of the batch that carried the change, or None."""
    for record in records:
        if record["read"] >= change["asked_ns"] and record["read"] <= change["judged_ns"]:
            steps = {"until read": record["read"] - change["committed_ns"]}
            for before, after in zip(STAGES, STAGES[1:]):
                steps[f"until {after}"] = record[after] - record[before]
            steps["until judged"] = change["judged_ns"] - record["written"]
            return {name: ns / 1e3 for name, ns in steps.items()}
    return None


def measure(options, folder, title, shape):
    store = _node.Store(options, folder)
    _node.run([options.build + "/bin/bench_cluster", store.path,
               *(f"--{key}={value}" for key, value in shape.items())])
    store.apply([_node.pod_object("client", "node-1", {"app": "bench", "role": "client"}, "ns-0"),
                 _node.pod_object("server", "node-1", {"app": "bench"}, "ns-0")])
    agent = _node.Agent(options, folder, store, log_level="debug")
    try:
        for i in range(shape["local"]):
            agent.add(f"local-{i}", f"ns-{i % 50}")
        client, server = agent.add("client", "ns-0"), agent.add("server", "ns-0")
        output = _node.run([options.build + "/bin/bench_change", store.path, client.path,
                            server.path, client.ipv4, server.ipv4, "--namespace", "ns-0",
                            "--client", "client", "--cycles", str(options.cycles)])
        changes = [json.loads(line) for line in output.splitlines()]
    finally:
        agent.close()
    records = batches(agent.log)
    print(f"\n{title}: {len(changes)} changes; {_report.machine()}")
    print(f"{'what':<20}{'runs':>6}{'p50 ms':>9}{'p99 ms':>9}{'most':>8}"
          f"{'p50, with the write':>22}{'old after new':>15}")
    by_what = {}
    for change in changes:
        by_what.setdefault(change["what"], []).append(change)
    for what, some in [*by_what.items(), ("all", changes)]:
        times = latencies(some)
        whole = [(c["judged_ns"] - c["asked_ns"]) / 1e6 for c in some]
        print(f"{what:<20}{len(some):>6}{_report.percentile(times, .5):>9.3f}"
              f"{_report.percentile(times, .99):>9.3f}{max(times):>8.2f}"
              f"{_report.percentile(whole, .5):>22.3f}{sum(c['back'] for c in some):>15}")
    steps = [s for s in (stages_of(c, records) for c in changes) if s]
    if steps:
        print("in the agent, us: " + "; ".join(
            f"{name} {_report.percentile([s[name] for s in steps], .5):.0f}"
            f" (p99 {_report.percentile([s[name] for s in steps], .99):.0f})"
            for name in steps[0]))
    return changes


def latencies(changes):
    return [(c["judged_ns"] - c["committed_ns"]) / 1e6 for c in changes]


def run(options):
    shapes = {"small": {"nodes": 1, "pods": 0, "local": 0, "policies": 0},
              "big": {"nodes": 250, "pods": 10_000, "local": 250, "policies": 1000}}
    if options.smoke:
        options.cycles = 2
        shapes["big"] = {"nodes": 5, "pods": 200, "local": 3, "policies": 20}
    folder = tempfile.mkdtemp(prefix="manx-bench-")
    _netns.enter(_netns.make()[0])
    bounds = _report.Bounds()
    changes = {}
    try:
        for name, shape in shapes.items():
            if options.only in (None, name):
                place = os.path.join(folder, name)
                os.mkdir(place)
                changes[name] = measure(options, place, name, shape)
        print()
        if "small" in changes:
            bounds.check("small cluster, median", _report.percentile(
                latencies(changes["small"]), .5), SMALL_MEDIAN, unit=" ms")
        if "big" in changes:
            bounds.check("250 local, 10,000 remote pods, 1,000 policies, p99", _report.percentile(
                latencies(changes["big"]), .99), BIG_P99, unit=" ms")
        for name, some in changes.items():
            bounds.check(f"{name}: old verdicts after the first new one",
                         sum(c["back"] for c in some), 0)
        return bounds.exit_code(options.smoke)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
