#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A file of policy cases between real pods: policy_test.py FILE [BUILD FOLDER] [CASE ...].

Each step is written through manxctl, waited for by what the agents say is in force, and asked by
everybody of everybody. An allowed question must be answered by the right one; a denied one must
meet silence, and none of its packets may have come to the pod. Exit status 0 passed, 1 failed,
77 skipped (not root). truth_table.py says how a file is written.
"""

import collections
import hashlib
import os
import re
import signal
import sys
import time
import traceback

import yaml

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

import policy_lab  # noqa: E402
import truth_table  # noqa: E402
from cluster import host  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402

MOST_LINES = 12
# Pods with a service account of their own, for the cases that select by it.
ACCOUNTS = {"x/b": "builder", "y/b": "builder", "z/b": "runner"}


def load(path):
    with open(path, encoding="utf-8") as f:
        return truth_table.parse(yaml.safe_load(f), os.path.basename(path))


def run_case(lab, case):
    """What was wrong: a list of lines, empty if nothing was; and how many questions were asked."""
    parties = [p for p in lab.parties if case.nodes or not p.is_node]
    cells = truth_table.cells(parties, case.ask)
    if case.agent:
        lab.restart_agents(**case.agent)
    wrong = []
    try:
        for number, step in enumerate(case.steps, 1):
            where = f"step {number} of {len(case.steps)}" if len(case.steps) > 1 else "its table"
            wrong += [f"{where}: {line}" for line in run_step(lab, step, cells, case.agent)]
    finally:
        lab.restore()
        if case.agent:
            lab.restart_agents()
    return wrong, len(cells) * len(case.steps)


def run_step(lab, step, cells, agent):
    wanted = truth_table.verdicts(step.expect, cells)
    if step.delete:
        lab.delete(step.delete)
    if step.apply:
        lab.apply(step.apply)
    if step.write:
        lab.write(step.write)
    lab.label(step.label)
    lab.cluster.wait_for_sync()
    if step.restart:
        lab.restart_agents(signal.SIGKILL, **agent)
    before = rule_hits(lab) if step.hits else {}
    asked, leaked = lab.ask(wanted)
    yield from compare_table(wanted, asked, leaked)
    yield from compare_invalid(lab, step.invalid)
    yield from compare_not_enforced(lab, step.not_enforced)
    if step.hits:
        yield from compare_hits(step.hits, before, rule_hits(lab))
    yield from compare_logs(lab, step.logs)


def compare_table(wanted, asked, leaked):
    told = {c: c in leaked or policy_lab.is_reached(c, q) for c, q in asked.items()}
    wrong = [c for c in wanted if told[c] != wanted[c] or not is_silent(wanted[c], asked[c])]
    wrong.sort(key=lambda c: not wanted[c])  # what was lost before what got through
    for cell in wrong[:MOST_LINES]:
        yield (
            f"{cell}: wanted {'an answer' if wanted[cell] else 'silence'}, "
            f"got {asked[cell].answer}" + (", and its packet arrived" if cell in leaked else "")
        )
    if len(wrong) > MOST_LINES:
        yield f"... {len(wrong)} of {len(wanted)} questions are wrong"
    for protocol, port, family in sorted({(c.protocol, c.port, c.family) for c in wrong})[:4]:
        yield from truth_table.grid(list(wanted), told, wanted, protocol, port, family)


def is_silent(allowed, question):
    return allowed or question.answer["outcome"] == "silent"


def compare_invalid(lab, expected):
    for each in lab.cluster.nodes:
        there = set((each.status() or {}).get("invalidObjects", {}))
        if there != set(expected):
            yield f"{each.name} reports as invalid {sorted(there)}, wanted {sorted(expected)}"


def compare_not_enforced(lab, expected):
    there = set()
    for each in lab.cluster.nodes:
        for one in (each.status() or {}).get("notEnforced", []):
            name = "/".join(filter(None, (one["namespace"], one["name"])))
            there.add(f"{one['kind']} {name} {one['field']}")
    if there != set(expected):
        yield f"reported as not enforced {sorted(there)}, wanted {sorted(expected)}"


def rule_hits(lab):
    """Rule -> flows that it has decided, on all nodes."""
    hits = collections.Counter()
    for each in lab.cluster.nodes:
        for line in each.ctl("policy", "counters").stdout.splitlines():
            fields = line.split(None, 3)  # number, flows, state, rule
            if len(fields) == 4 and fields[0].isdigit():
                hits[fields[3].strip()] += int(fields[1])
    return hits


def compare_hits(expected, before, after):
    told = {r: n - before.get(r, 0) for r, n in after.items() if n != before.get(r, 0)}
    for rule, count in expected.items():
        if told.get(rule, 0) != count:
            yield f"{rule}: decided {told.get(rule, 0)} flows, wanted {count}; all: {told}"


def log_lines(lab):
    for each in lab.cluster.nodes:
        yield from host.tail(lab.cluster.state.log(each.name + ".agent"), 2000)


def compare_logs(lab, patterns):
    """A line may come a moment after its packet."""
    for pattern in patterns:
        try:
            host.wait_for(pattern, lambda: any(re.search(pattern, t) for t in log_lines(lab)), 2)
        except ClusterError:
            yield f"no line of the agents' logs has {pattern}"


def main(path, build_folder=os.path.join(ROOT, "build", "release"), *names):
    cases = load(path)
    if unknown := set(names) - {c.name for c in cases}:
        print(f"no case {', '.join(sorted(unknown))} in {path}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    binaries = os.path.join(os.path.realpath(build_folder), "bin")
    digest = hashlib.sha256(f"{path} {os.getpid()}".encode()).hexdigest()[:8]
    started = time.monotonic()
    lab = policy_lab.Lab(f"t{digest}", binaries, policy_lab.world(ACCOUNTS))
    failed, asked = [], 0
    try:
        lab.up()
        print(f"the cluster is up after {time.monotonic() - started:.1f} s", flush=True)
        for case in (c for c in cases if not names or c.name in names):
            begun = time.monotonic()
            wrong, count = run_case(lab, case)
            asked += count
            took = time.monotonic() - begun
            print(f"{'FAILED' if wrong else 'ok'}: {case.name}, {count} questions, {took:.2f} s")
            print("".join(f"  {line}\n" for line in wrong), end="", flush=True)
            failed += [case.name] if wrong else []
    except (ClusterError, truth_table.CaseError) as error:
        traceback.print_exc()
        for each in lab.cluster.nodes:
            log = lab.cluster.state.log(each.name + ".agent")
            print(f"-- end of {log}:\n  " + "\n  ".join(host.tail(log, 10)))
        failed.append(str(error))
    finally:
        lab.down()
    print(f"{asked} questions, {time.monotonic() - started:.1f} s; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
