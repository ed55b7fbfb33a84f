# SPDX-License-Identifier: Apache-2.0
"""The whole agent at scale: start, memory, idle, an update storm, a restart.

A cluster of 250 nodes, 10,000 pods and 1,000 policies in the datastore; 250 pods are this node's,
made by the CNI plugin. Start is from the process's start to the answer of the CNI plugin's STATUS,
which is given when the agent is in sync and its tables are written. Memory is what /proc/PID/status
says two seconds later.
"""

import os
import shutil
import tempfile
import time

import _netns
import _node
import _report

SYNC_SECONDS = 1.0
RESIDENT_MIB = 24.0
IDLE_PERCENT = 0.1
GROWTH = 1.1


def add_arguments(parser):
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--pods", type=int, default=10_000, help="of other nodes (%(default)s)")
    parser.add_argument("--local", type=int, default=250, help="pods of this node (%(default)s)")
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--starts", type=int, default=5, help="restarts to time (%(default)s)")
    parser.add_argument("--idle", type=float, default=30, help="seconds to watch (%(default)s)")
    parser.add_argument("--storm", type=int, default=20_000,
                        help="writes of the update storm (%(default)s)")
    parser.add_argument("--keep", action="store_true",
                        help="wait for a key with the agent running, and print its pid")
    parser.add_argument("--smoke", action="store_true",
                        help="a small cluster, bounds are shown but do not fail")


def memory(pid):
    """MiB by what it is."""
    wanted = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "file", "VmHWM": "peak"}
    out = {}
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key in wanted:
                out[wanted[key]] = int(value.split()[0]) / 1024
    return out


def cpu_seconds(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="utf-8") as file:
            total += int(file.read().split()[0]) / 1e9
    return total


def show(what, figures):
    print(f"{what:<28}" + "  ".join(f"{name} {value:.1f}" for name, value in figures.items()))


def run(options):
    if options.smoke:
        options.nodes, options.pods, options.local, options.policies = 10, 300, 5, 50
        options.starts, options.idle, options.storm = 1, 1, 300
    folder = tempfile.mkdtemp(prefix="manx-bench-")
    _netns.enter(_netns.make()[0])
    bounds = _report.Bounds()
    store = _node.Store(options, folder)
    _node.run([options.build + "/bin/bench_cluster", store.path, f"--nodes={options.nodes}",
               f"--pods={options.pods}", f"--local={options.local}",
               f"--policies={options.policies}"])
    agent = _node.Agent(options, folder, store)
    try:
        pods = [agent.add(f"local-{i}", f"ns-{i % 50}") for i in range(options.local)]
        print(f"{options.nodes} nodes, {options.pods} remote pods, {len(pods)} local pods, "
              f"{options.policies} policies; {_report.machine()}")
        starts, until = [], []
        for _ in range(options.starts):
            agent.stop()
            starts.append(agent.start())
            until.append(cpu_seconds(agent.process.pid))
        print(f"{'start to in sync, s':<28}{_report.spread(starts)}; CPU {_report.spread(until)}")
        time.sleep(2)
        pid = agent.process.pid
        synced = memory(pid)
        show("memory after start, MiB", synced)
        before = cpu_seconds(pid)
        time.sleep(options.idle)
        idle = (cpu_seconds(pid) - before) / options.idle * 100
        print(f"{'idle, % of a core':<28}{idle:.3f}")
        if options.keep:
            input(f"agent pid {pid}, store {store.path}; a key to go on ")
        storms = []
        for _ in range(2):
            began = time.perf_counter()
            before = cpu_seconds(pid)
            _node.run([options.build + "/bin/bench_cluster", store.path, f"--nodes={options.nodes}",
                       f"--pods={options.pods}", f"--local={options.local}",
                       f"--policies={options.policies}", f"--storm={options.storm}"])
            took = time.perf_counter() - began
            time.sleep(2)
            storms.append(memory(pid))
            show("memory after a storm, MiB", storms[-1])
            print(f"{'':<28}{options.storm} writes in {took:.1f} s, "
                  f"{(cpu_seconds(pid) - before) / options.storm * 1e6:.0f} us of the agent each")
        if agent.process.poll() is not None:
            raise _node.Failed("the agent ended: " + agent.tail())
        print()
        bounds.check("start to in sync, median", _report.percentile(starts, .5), SYNC_SECONDS,
                     unit=" s")
        bounds.check("resident", synced["resident"], RESIDENT_MIB, unit=" MiB",
                     note=f"anonymous {synced['anonymous']:.1f}, file {synced['file']:.1f}")
        bounds.check("idle", idle, IDLE_PERCENT, unit=" %")
        bounds.check("anonymous memory, second storm of first",
                     storms[1]["anonymous"] / storms[0]["anonymous"], GROWTH)
        return bounds.exit_code(options.smoke)
    finally:
        agent.close()
        shutil.rmtree(folder, ignore_errors=True)
