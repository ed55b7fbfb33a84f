#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Flows that are there when policy changes: policy_flows_test.py [BUILD FOLDER] [CASE ...].

A change acts on new flows at once. Flows that are open stay, as under Calico, until they end; with
policy.cutFlows they are judged again, and go if they would not be allowed now. ICMP errors of an
allowed flow come through whatever the policy of who sends them; fragments share the fate of their
first. Exit status 0 passed, 1 failed, 77 skipped (not root).
"""

import hashlib
import os
import sys
import time
import traceback

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

import policy_lab  # noqa: E402
import truth_table  # noqa: E402
from cluster import host, probe  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402

FAMILIES = (4, 6)
OPEN, CLOSED = 80, 90  # ports
QUICK, PATIENT = 0.6, 8.0  # s: to hear that a flow is cut, and that it is not
# Asker and target: on one node, on two, and from the target's own node. x/a, x/b are on n1; x/c,
# y/b on n2.
PAIRS = (("x/b", "x/a"), ("y/b", "x/a"), ("n1", "x/a"), ("x/b", "x/c"), ("y/b", "x/c"))
BIG = 4000  # bytes of a datagram: three fragments
SMALL_MTU = 1300


class Flow:
    def __init__(self, source, target, protocol, family):
        self.source, self.target, self.protocol, self.family = source, target, protocol, family

    def __str__(self):
        return f"{self.source} -> {self.target} {self.protocol} v{self.family}"


FLOWS = [Flow(s, t, p, f) for s, t in PAIRS for p in ("tcp", "udp") for f in FAMILIES]


class Bench:
    def __init__(self, binaries):
        digest = hashlib.sha256(f"flows {os.getpid()}".encode()).hexdigest()[:8]
        self.lab = policy_lab.Lab(f"t{digest}", binaries, policy_lab.world())
        self.failed = 0

    def check(self, good, what, details=""):
        self.failed += not good
        print(f"{'ok' if good else 'FAILED'}: {what}" + (f": {details}" if not good else ""))

    def question(self, source, target, family, **more):
        addresses = self.lab.addresses
        return {
            "source": addresses[source][family],
            "target": addresses[target][family],
            "port": OPEN,
            "timeout": PATIENT,
            **more,
        }

    # Open flows.

    def open(self):
        for source in {f.source for f in FLOWS}:
            orders = [
                self.question(f.source, f.target, f.family, id=str(f), protocol=f.protocol)
                for f in FLOWS
                if f.source == source
            ]
            self.lab.probers[source].order({"open": orders})
        self.expect_flows("all flows are open", lambda f: True)

    def close(self):
        for source in {f.source for f in FLOWS}:
            self.lab.probers[source].order({"close": {}})

    def say(self, seconds):
        askers = sorted({f.source for f in FLOWS})
        for source in askers:
            self.lab.probers[source].send({"say": seconds})
        told = {}
        for source in askers:
            told.update(self.lab.probers[source].receive())
        return told

    def expect_flows(self, what, alive):
        """Which flows get answers: asked patiently until all that should do, then quickly."""
        wanted = {str(f): bool(alive(f)) for f in FLOWS}
        deadline = time.monotonic() + PATIENT
        told = self.say(QUICK)
        while told != wanted and time.monotonic() < deadline:
            if any(told[f] and not wanted[f] for f in wanted):
                break  # patience does not mend that
            told = self.say(QUICK)
        wrong = [f for f in wanted if told[f] != wanted[f]]
        self.check(
            not wrong,
            f"{what} ({sum(wanted.values())} of {len(wanted)} flows go on)",
            f"{len(wrong)} wrong: "
            + ", ".join(f"{f} {'lives' if told[f] else 'is dead'}" for f in wrong[:8]),
        )

    # New flows.

    def ask(self, what, rows):
        """Rows of (source, target, protocol, port, size, outcome), both families each."""
        asked = []
        for source, target, protocol, port, size, outcome in rows:
            for family in FAMILIES:
                q = self.question(source, target, family)
                patience = QUICK if outcome == "silent" else PATIENT
                asked.append(
                    probe.Question(
                        source,
                        protocol,
                        q["source"],
                        q["target"],
                        port,
                        patience,
                        size,
                        {"wanted": outcome, "family": family, "target": target},
                    )
                )
        self.lab.arrivals()
        probe.ask_all(self.lab.probers, asked)
        seen = self.lab.arrivals()
        wrong = [
            q
            for q in asked
            if q.answer["outcome"] != q.note["wanted"]
            or (q.note["wanted"] == "silent" and self.arrived(q, seen))
        ]
        self.check(
            not wrong,
            f"{what}, {len(asked)} questions",
            "; ".join(
                f"{q.asker} -> {q.note['target']} v{q.note['family']} {q.protocol}:{q.port}: "
                f"{q.answer['outcome']}, wanted {q.note['wanted']}"
                for q in wrong[:8]
            ),
        )

    @staticmethod
    def arrived(q, seen):
        number = truth_table.NUMBERS[q.protocol, q.note["family"]]
        packet = (number, q.source, q.answer["source_port"], q.target, q.port)
        return packet in seen.get(q.note["target"], ())

    def under(self, *policies):
        """Puts policies in force in place of the last ones."""
        self.lab.restore()
        if policies:
            self.lab.apply(list(policies))
        self.lab.cluster.wait_for_sync()

    def label(self, wanted):
        self.lab.label(wanted)
        self.lab.cluster.wait_for_sync()


def policy(name, pod, namespace="x", **spec):
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{name}-{pod}", "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"pod": pod}}, **spec},
    }


NO_INGRESS = {"policyTypes": ["Ingress"]}
NO_EGRESS = {"policyTypes": ["Egress"]}
FROM_B_BY_TCP = {
    "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": OPEN}]}
    ]
}
NEW_TO_A = [("x/b", "x/a", p, OPEN, 5, "silent") for p in ("tcp", "udp")] + [
    ("y/b", "x/a", p, OPEN, 5, "silent") for p in ("tcp", "udp")
]


def case_flows_stay(b):
    """Without the option."""
    b.under()
    b.open()
    b.under(policy("no-ingress", "a", **NO_INGRESS), policy("no-ingress", "c", **NO_INGRESS))
    b.ask("new flows are denied at once", NEW_TO_A)
    b.expect_flows("open flows stay when ingress is denied", lambda f: True)
    b.under(policy("no-egress", "b", **NO_EGRESS))
    b.expect_flows("and when egress is", lambda f: True)
    b.under()
    b.ask(
        "what is allowed again is reached at once",
        [(*row[:5], "answered") for row in NEW_TO_A],
    )
    b.close()


def case_flows_are_cut(b):
    """With it."""
    b.under()
    b.lab.restart_agents(policy={"cutFlows": True})
    b.open()
    b.under(policy("unrelated", "c", "z", **NO_INGRESS))
    b.expect_flows("a policy of others cuts nothing", lambda f: True)
    b.under(policy("from-b", "a", **FROM_B_BY_TCP))
    b.expect_flows(
        "flows that are not allowed now are cut",
        lambda f: f.target != "x/a"
        or f.source == "n1"
        or (f.source == "x/b" and f.protocol == "tcp"),
    )
    b.ask(
        "new ones are judged alike",
        [
            ("x/b", "x/a", "tcp", OPEN, 5, "answered"),
            ("x/b", "x/a", "udp", OPEN, 5, "silent"),
            ("y/b", "x/a", "tcp", OPEN, 5, "silent"),
        ],
    )
    b.under()
    b.expect_flows("and go on when they are allowed again", lambda f: True)
    b.under(policy("no-egress", "b", **NO_EGRESS))
    b.expect_flows("egress that is denied is cut", lambda f: f.source != "x/b")
    b.under(policy("no-egress", "a", **NO_EGRESS), policy("no-egress", "c", **NO_EGRESS))
    b.expect_flows("answers need no rule: what they answer to is allowed", lambda f: True)
    b.under(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "guarded", "namespace": "x"},
            "spec": {
                "podSelector": {"matchLabels": {"guarded": "yes"}},
                "policyTypes": ["Ingress"],
            },
        }
    )
    b.expect_flows("a policy that selects nobody cuts nothing", lambda f: True)
    b.label({"Pod x/c": {"guarded": "yes"}})
    b.expect_flows("a label that isolates cuts", lambda f: f.target != "x/c")
    b.label({"Pod x/c": {"guarded": None}})
    b.expect_flows("and its end mends", lambda f: True)
    b.close()
    b.under()
    b.lab.restart_agents()


def case_icmp_errors(b):
    """A port that is closed says so, through policies that would not let ICMP pass."""
    ingress = [{"ports": [{"port": CLOSED, "protocol": "UDP"}, {"port": OPEN, "protocol": "UDP"}]}]
    both = {"policyTypes": ["Ingress", "Egress"], "ingress": ingress}
    b.under(policy("udp-only", "a", **both), policy("udp-only", "c", **both))
    b.ask(
        "port unreachable of an allowed flow comes back",
        [(s, t, "udp", CLOSED, 5, "refused") for s, t in PAIRS],
    )
    b.ask(
        "of a denied one nothing does",
        [(s, t, "udp", CLOSED + 1, 5, "silent") for s, t in PAIRS if s != "n1"],
    )
    b.under()


def case_path_mtu(b):
    """The last link takes less: the sender hears of it, and TCP gets through."""
    b.under(
        policy(
            "b-only",
            "c",
            policyTypes=["Ingress", "Egress"],
            ingress=[
                {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"pod": "b"}}}]}
            ],
        )
    )
    pod = b.lab.pods["x/c"]
    host.run(["ip", "-n", pod.node.netns, "link", "set", pod.interface, "mtu", str(SMALL_MTU)])
    try:
        for source in ("x/b", "y/b"):
            for family in FAMILIES:
                q = b.question(source, "x/c", family)
                told = b.lab.probers[source].order({"mtu": {**q, "size": 1440}})["mtu"]
                b.check(
                    told == SMALL_MTU,
                    f"{source} -> x/c v{family}: the path's MTU is found",
                    f"{told}, wanted {SMALL_MTU}",
                )
                q = {**q, "size": 300_000}
                done = b.lab.probers[source].order({"transfer": q})["answered"]
                b.check(done, f"{source} -> x/c v{family}: 300 kB over TCP arrive")
    finally:
        host.run(["ip", "-n", pod.node.netns, "link", "set", pod.interface, "mtu", "1500"])
    b.under()


def case_fragments(b):
    pairs = [p for p in PAIRS if p[0] != "n1"]
    b.under()
    b.ask(
        "datagrams in fragments are answered in fragments",
        [(s, t, "udp", OPEN, BIG, "answered") for s, t in PAIRS if t == "x/a"],
    )
    port = {"ingress": [{"ports": [{"port": OPEN, "protocol": "UDP"}]}]}
    b.under(policy("udp-80", "a", **port))
    b.ask(
        "ports are known to all fragments",
        [(s, "x/a", "udp", OPEN, BIG, "answered") for s in ("x/b", "y/b")]
        + [(s, "x/a", "udp", OPEN + 1, BIG, "silent") for s in ("x/b", "y/b")],
    )
    b.under(policy("nobody", "a", **NO_INGRESS), policy("nobody", "c", **NO_INGRESS))
    b.ask(
        "what is denied does not arrive in part",
        [(s, t, "udp", OPEN, BIG, "silent") for s, t in pairs],
    )
    b.under()


CASES = {n[len("case_") :]: f for n, f in list(globals().items()) if n.startswith("case_")}


def main(build_folder=os.path.join(ROOT, "build", "release"), *names):
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    started = time.monotonic()
    bench = Bench(os.path.join(os.path.realpath(build_folder), "bin"))
    try:
        bench.lab.up()
        for name, case in CASES.items():
            if not names or name in names:
                case(bench)
    except ClusterError:
        traceback.print_exc()
        for each in bench.lab.cluster.nodes:
            log = bench.lab.cluster.state.log(each.name + ".agent")
            print(f"-- end of {log}:\n  " + "\n  ".join(host.tail(log, 10)))
        bench.failed += 1
    finally:
        bench.lab.down()
    print(f"{time.monotonic() - started:.1f} s, {bench.failed} failed")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
