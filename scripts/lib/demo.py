# SPDX-License-Identifier: Apache-2.0
"""The main job: a cluster from its objects, on this machine, and whether it does what they say.

Called by scripts/demo, which builds first.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import sys
import time

from cluster import bpf, build, checks, defaults, matrix, oracle, pods as pods_module, topology
from cluster import objects as objects_module
from cluster import state as state_module
from cluster.errors import ClusterError
from cluster.objects import Objects, spec_of
from cluster.report import Report

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Builds a cluster from its objects in network namespaces of this machine, "
        "with real routers, runs Manx on its nodes, and checks what an operator would look at.",
    )
    parser.add_argument(
        "--scenario",
        metavar="DIR",
        default=os.path.join(ROOT, "examples", "wikikube-eqiad"),
        help="a folder of manifests (default: examples/wikikube-eqiad)",
    )
    parser.add_argument("--routers", choices=("frr", "gobgp"), default="frr")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    parser.add_argument(
        "--down", action="store_true", help="take down what runs of this script left"
    )
    parser.add_argument("--name", default=None, help="name of the cluster (default: demo)")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR")
    return parser.parse_args(argv)


class Demo:
    def __init__(self, options):
        self.options, self.report = options, Report()
        self.binaries = os.path.join(options.build, "bin")
        self.objects = objects_module.load(options.scenario)
        self.plan = topology.build(self.objects)
        self.added = defaults.supplement(self.objects)
        self.every = Objects(self.objects.items + self.added.items)
        self.state = self.cluster = None
        self.pods, self.blocks, self.probers = [], {}, {}

    def run(self):
        self.bring_up()
        self.load_objects()
        self.start_agents()
        self.furnish_pods()
        self.look_at_routing()
        self.look_at_ipam()
        self.ask_everyone()

    def bring_up(self):
        plan = self.plan
        self.report.heading("The cluster's network, from its objects")
        self.state = state_module.begin(self.options.name or "demo")
        self.cluster = build.Cluster(self.state, plan, self.binaries, self.options.routers)
        for node in plan.nodes:
            self.report.say(
                f"  node    {node.name}: AS {node.as_number}, "
                + ", ".join(map(str, node.addresses.values()))
            )
        for router in self.cluster.routers:
            r = router.router
            kind = "core" if r.loopbacks else "switch"
            speaks = f"AS {r.as_number}, {router.software}" if r.as_number else "no BGP"
            peers = sorted({s.node.name for s in r.sessions})
            self.report.say(
                f"  {kind:<7} {r.name}: {speaks}, {r.address(4)}, {r.address(6)}; "
                f"peers with {', '.join(peers) or 'no node'}"
            )
        self.cluster.up()

    def load_objects(self):
        self.report.heading("Its objects, into the datastore")
        self.cluster.configure()
        done = self.cluster.ctl("apply", "-f", os.path.abspath(self.options.scenario))
        self.report.show(f"manxctl apply -f {self.options.scenario}", done.stdout, most=6)
        if self.added.items:
            self.cluster.apply(self.added.items, "supplement")
            kinds = sorted({o["kind"] for o in self.added.items})
            self.report.say(f"  added, since pods need them: {', '.join(kinds)}")

    def start_agents(self):
        self.report.heading("The agents")
        for name, seconds in self.cluster.start_agents().items():
            self.report.check(True, f"{name}: manx-agent answers, {seconds:.2f} s")

    def furnish_pods(self):
        self.report.heading("The pods, through the CNI plugin")
        self.pods = [
            pods_module.from_object(
                self.state, o, self.cluster.node(spec_of(o).get("nodeName") or "")
            )
            for o in self.every.kind("Pod")
            if not spec_of(o).get("hostNetwork") and spec_of(o).get("nodeName")
        ]
        started = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as workers:
            conf = pods_module.network(checks.families(self.every))
            made = [workers.submit(pods_module.add, p, self.binaries, conf) for p in self.pods]
            for pod, future in zip(list(self.pods), made):
                try:
                    future.result()
                except ClusterError as error:
                    self.report.check(False, f"pod {pod.title}", str(error))
                    self.pods.remove(pod)
        self.report.say(f"  {len(self.pods)} pods in {time.monotonic() - started:.2f} s")
        slices = defaults.endpoint_slices(self.every, self.pods)
        if slices:
            self.cluster.apply(slices, "endpointslices")
            self.every.items += slices
        self.blocks = checks.check_pods(self.report, self.cluster, self.every, self.pods)

    def look_at_routing(self):
        self.report.heading("BGP with the routers")
        checks.wait_for_sessions(self.cluster)
        checks.check_sessions(self.report, self.cluster)
        checks.wait_for_routes(self.cluster, self.blocks)
        checks.check_announcements(self.report, self.cluster, self.every, self.blocks)
        node = self.node_with_most_pods()
        self.report.say(f"\n  On {node.name}:")
        self.report.show("ip route", node.run(["ip", "route"]).stdout)
        self.report.show("ip -6 route", node.run(["ip", "-6", "route"]).stdout)
        self.report.show("birdc show protocols", node.birdc("show", "protocols"))
        speakers = [r for r in self.cluster.routers if r.router.sessions]
        for router in sorted(speakers, key=lambda r: r.router.is_core)[:2]:
            self.report.say(f"  On {router.router.name}, {router.software}:")
            self.report.show(*router.show(4))
            for route in (r for family in (4, 6) for r in router.routes(family) if r["best"]):
                self.report.say(
                    f"    {route['prefix']} from {route['from']}: AS path "
                    f"{route['path'] or 'empty'}, communities "
                    f"{' '.join(route['communities']) or 'none'}"
                )
            self.report.say()

    def node_with_most_pods(self):
        return max(self.cluster.nodes, key=lambda n: sum(p.node is n for p in self.pods))

    def look_at_ipam(self):
        self.report.heading("Addresses")
        shown = self.cluster.ctl("ipam", "show", "--show-blocks").stdout
        self.report.show("manxctl ipam show --show-blocks", shown, most=40)
        absent = [str(b) for b in self.blocks if str(b) not in shown]
        self.report.check(not absent, "manxctl ipam show lists every block", str(absent))

    def ask_everyone(self):
        self.report.heading("Who reaches whom")
        everyone = matrix.parties(self.cluster, self.every, self.pods)
        asked = matrix.questions(self.cluster, self.every, everyone)
        expected = oracle.verdicts(self.every, self.pods, asked)
        self.compare_oracles(asked, expected)
        self.probers = matrix.start_probers(self.state, everyone)
        before = {n.name: (bpf.received(n), bpf.totals(n)) for n in self.cluster.nodes}
        started = time.monotonic()
        matrix.ask(self.probers, asked, expected)
        took = time.monotonic() - started
        flows = {n.name: bpf.flows(n) for n in self.cluster.nodes}
        after = {n.name: (bpf.received(n), bpf.totals(n)) for n in self.cluster.nodes}
        self.report.say(
            f"  {len(asked)} questions in {took:.1f} s: {sum(expected)} to be answered, "
            f"{len(asked) - sum(expected)} to be met with silence"
        )
        self.report.say("  Rows ask, columns answer; T TCP, U UDP, I ICMP; lower case: some of the")
        self.report.say("  ports; -: none; IPv4/IPv6 where they differ; !: not as expected")
        for row in matrix.table(everyone, asked):
            self.report.say("  " + row)
        self.report.say()
        for (relation, family, protocol), group in matrix.summary(asked):
            wrong = [q for q in group if not matrix.as_expected(q)]
            answered = sum(q.answered for q in group)
            self.report.check(
                not wrong,
                f"{relation}, IPv{family} {protocol.upper()}: {answered} answered, "
                f"{len(group) - answered} not, as the policies say",
                "; ".join(map(matrix.describe, wrong[:3])) + f" ({len(wrong)} wrong)",
            )
        self.look_at_bpf(asked, flows, before, after)

    def compare_oracles(self, asked, expected):
        """Two readings of the policies, by different hands: where they differ one is wrong."""
        program = os.path.join(self.binaries, "policy-oracle")
        if not os.access(program, os.X_OK):
            return
        second = oracle.second_opinion(program, self.cluster.datastore, asked)
        differ = [
            f"{q.note['source'].title} -> {q.note['target'].title} IPv{q.note['family']} "
            f"{q.protocol}:{q.port}: {'allow' if ours else 'deny'} by ours"
            for q, ours, theirs in zip(asked, expected, second)
            if ours != theirs and not oracle.is_from_own_node(q)
        ]
        self.report.check(
            not differ and len(second) == len(asked),
            f"two oracles agree on all {len(asked)} verdicts",
            "; ".join(differ[:3]) + f" ({len(differ)} differ, {len(second)} answers)",
        )

    def look_at_bpf(self, asked, flows, before, after):
        self.report.heading("Carried by BPF")
        carried = [q for q in asked if q.answered and not q.note.get("asked_again")]
        for protocol in ("tcp", "udp", "icmp"):
            group = [q for q in carried if q.protocol == protocol]
            absent = [
                (q, n)
                for q in group
                for n in matrix.nodes_of(q)
                if not bpf.is_answered(matrix.flow(flows, q, n))
            ]
            self.report.check(
                not absent,
                f"{protocol.upper()}: all {len(group)} answered flows are in the flow tables "
                "of their pods' nodes",
                "; ".join(f"{matrix.describe(q)}: none on {n}" for q, n in absent[:3])
                + f" ({len(absent)} absent)",
            )
        between = [q for q in carried if matrix.is_between_pods(q)]
        by_stack = [
            f"{matrix.describe(q)} on {n}"
            for q in between
            for n in matrix.nodes_of(q)
            if not matrix.is_redirected(matrix.flow(flows, q, n))
        ]
        self.report.check(
            not by_stack,
            f"all {len(between)} flows between pods leave by redirect, not by the host stack",
            "; ".join(by_stack[:3]) + f" ({len(by_stack)} do not)",
        )
        names, dropped = bpf.reasons(), 0
        for node in self.cluster.nodes:
            devices = bpf.difference(after[node.name][0], before[node.name][0])
            moved = bpf.difference(after[node.name][1], before[node.name][1])
            dropped += sum(v for (_, reason), v in moved.items() if reason in bpf.POLICY_DROPS)
            for hook in (bpf.FROM_WORKLOAD, bpf.FROM_UPLINK):
                told = {names.get(r, str(r)): v for (h, r), v in moved.items() if h == hook}
                seen, came = sum(told.values()), devices.get(hook, 0)
                by_size = sorted(told.items(), key=lambda item: -item[1])
                self.report.check(
                    seen >= came,
                    f"{node.name}, {bpf.HOOKS[hook]}: BPF saw all of {came} packets: "
                    + ", ".join(f"{n} {name}" for name, n in by_size),
                    f"it saw {seen}",
                )
        denied = [q for q in asked if not q.note["allowed"] and not q.answered]
        self.report.check(
            dropped >= len(denied),
            f"each of {len(denied)} denied questions met a policy drop ({dropped} packets)",
        )
        node = self.node_with_most_pods()
        self.report.say(f"\n  On {node.name}:")
        here = [q for q in carried if node.name in matrix.nodes_of(q) and q.note["family"] == 4]
        for question in here[:1]:
            ends = (question.source, question.target)
            self.show_entries(node, "manx_ep4", lambda e: bpf.address(e["key"]["addr"]) in ends)
            self.report.say(f"  The flow of {matrix.describe(question)}:")
            self.show_entries(
                node,
                "manx_flow4_new",
                lambda e: {bpf.address(a) for a in e["key"]["addr"]} == set(ends)
                and question.answer["source_port"] in e["key"]["port"],
            )

    def show_entries(self, node, name, wanted):
        found = [e for e in bpf.dump(node, name) if wanted(e)][:1]
        text = "\n".join(json.dumps(e) for e in found)
        self.report.show(f"bpftool -j map dump pinned {bpf.MAPS}/{name}   # one entry of it", text)

    def close(self):
        for prober in self.probers.values():
            with contextlib.suppress(OSError):
                prober.close()
        if self.state is None:
            return
        if self.options.keep and self.cluster:
            self.cluster.leave_up()
            node = self.cluster.nodes[0]
            self.report.say(f"\nThe cluster '{self.state.name}' is left up. Enter a node:")
            self.report.say(f"  scripts/cluster enter --name {self.state.name} {node.name}")
            self.report.say("Logs: " + os.path.join(self.state.folder, "log"))
            self.report.say(f"Take it down:\n  scripts/demo --down --name {self.state.name}")
        else:
            state_module.end(self.state.name)


def main(argv):
    options = arguments(argv)
    if options.down:
        gone = state_module.end(options.name)
        print("down: " + (", ".join(gone) or "nothing was up"))
        return 0
    demo = Demo(options)
    try:
        demo.run()
    except ClusterError as error:
        demo.report.check(False, "the run", str(error))
    except KeyboardInterrupt:
        demo.report.check(False, "the run", "interrupted")
    finally:
        demo.close()
        demo.report.last_line()
    return 1 if demo.report.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
