#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random calls of two runtimes to two whole agents on one datastore, with kills:
cni_storm_test.py [BUILD FOLDER].

After each round of calls that ran at once, everything that is there is compared with a model of
what should be (storm/model.py); at the end everything is given back. A failure prints the round's
calls and the seed. MANX_STORM_STEPS calls are made (300), MANX_STORM_SEED chooses them.
"""

import concurrent.futures
import functools
import hashlib
import os
import random
import signal
import sys
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))

from cluster import host, probe  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402
from storm import facts, jobs  # noqa: E402
from storm.jobs import Failure, expect  # noqa: E402
from storm.lab import Lab, Node  # noqa: E402
from storm.model import GUARD, Box, Model, Pod, State  # noqa: E402
from storm.runtime import (  # noqa: E402
    UNKNOWN_CONTAINER,
    VERSIONS,
    Runtime,
    container_of_tool,
    forget_cached,
)
from topology_test import calico, node  # noqa: E402

NODES = {n: (f"172.30.0.{i}/24", f"fd30::{i}/64") for n, i in (("n1", 11), ("n2", 12))}
PODS = 20  # of a node; some stay without a sandbox
CLIENT = "client"
AT_ONCE = 20
SETTLE = 15.0  # s: what was interrupted is put right by a restart, or a retry
BOOT_ID = "/proc/sys/kernel/random/boot_id"
GROWTH = 1536, 20, 10  # KiB, descriptors, threads over the steady end; workers come when needed


def world(pods):
    yield calico("IPPool", "v4", cidr="10.50.0.0/24", blockSize=28)
    yield calico("IPPool", "v6", cidr="fd50::/120", blockSize=124)
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    account = {"name": "default", "namespace": "default"}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}
    for name, (v4, v6) in NODES.items():
        yield node(name, IPv4Address=v4, IPv6Address=v6)
    key, value = GUARD
    yield calico(
        "GlobalNetworkPolicy", "guard", selector=f"{key} == '{value}'", types=["Ingress"]
    )
    for pod in pods:
        namespace, name = pod.title.split("/")
        labels = {key: value} if pod.guarded else {}
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": pod.node, "serviceAccountName": "default", "containers": []},
        }


class Storm:
    def __init__(self, lab, pods, seed, cnitool):
        self.lab, self.seed = lab, seed
        self.random = random.Random(seed)
        self.model = Model(pods)
        self.cnitool = cnitool
        self.runtimes = {n.name: Runtime(n, lab.binaries, cnitool) for n in lab.nodes}
        self.probers = {}
        self.calls, self.by_tool, self.rounds, self.numbers = 0, 0, 0, 0
        self.happened = {}
        self.slowest = 0.0
        self.threads = concurrent.futures.ThreadPoolExecutor(2 * AT_ONCE)

    # Sandboxes.

    def fresh(self, pod, plain=False):
        self.numbers += 1
        netns = self.lab.space(f"s{self.numbers}")
        by_tool = bool(self.cnitool) and not plain and self.random.random() < 0.2
        container = (
            container_of_tool(netns)
            if by_tool
            else hashlib.sha256(f"{self.seed} {self.numbers}".encode()).hexdigest()
        )
        version = "1.1.0" if by_tool else self.random.choice(VERSIONS)
        box = Box(pod.title, pod.node, container, netns, version, by_tool)
        pod.boxes.append(box)
        return box

    def forget(self):
        """Of what is long gone only a little is remembered."""
        for pod in self.model.pods:
            for box in pod.forget_gone():
                self.lab.drop_space(box.netns)
                if box.by_tool:
                    forget_cached(box.container)

    # What happens.

    def job(self, pod):
        """A random one for a pod, after what it has."""
        runtime = self.runtimes[pod.node]
        current = pod.current
        loose = pod.having(State.OLD, State.UNSURE)
        gone = pod.having(State.GONE)
        moment = self.random.random() * 0.12
        choices = []

        def may(weight, make, *arguments, **options):
            choices.append((weight, functools.partial(make, *arguments, **options)))

        def new():
            return self.fresh(pod)

        if current:
            may(6, lambda: jobs.Delete(current, runtime, self.random.choice(("own", "", None))))
            may(3, jobs.Add, current, runtime)
            may(1, jobs.AddTwice, current, runtime)
            if current.version != "0.3.1":
                may(4, jobs.Check, current, runtime)
            may(1, jobs.BreakRoute, current, runtime)
            may(1, jobs.BreakNetns, current, runtime)
            may(1, jobs.BreakDevice, current, runtime)
            if not current.by_tool:
                may(2, jobs.Delete, current, runtime, kill_after=moment)
                may(1, jobs.AddNowhere, current, runtime)
            if len(loose) < 3:
                may(3, lambda: jobs.Add(new(), runtime))
        else:
            may(8, lambda: jobs.Add(new(), runtime))
            may(2, lambda: jobs.AddTwice(new(), runtime))
            may(1, lambda: jobs.Delete(new(), runtime, self.random.choice(("own", "", None))))
            may(1, lambda: jobs.AddNowhere(self.fresh(pod, True), runtime))
        if len(loose) < 3:
            may(2, lambda: jobs.Add(self.fresh(pod, True), runtime, kill_after=moment))
            may(2, lambda: jobs.AddKilledDelete(self.fresh(pod, True), runtime, moment))
        if loose:
            box = self.random.choice(loose)
            may(3 * len(loose), lambda: jobs.Delete(box, runtime, self.random.choice(("own", ""))))
            may(2, jobs.Add, box, runtime)
            may(1, jobs.AddTwice, box, runtime)
        if gone:
            box = self.random.choice(gone)
            may(1, jobs.Delete, box, runtime, calls=2)
            if not box.by_tool and box.result and box.version != "0.3.1":
                may(1, jobs.Check, box, runtime, UNKNOWN_CONTAINER)
        job = self.random.choices([m for _, m in choices], [w for w, _ in choices])[0]()
        job.persistent = job.persistent or self.random.random() < 0.5
        return job

    def plan(self):
        """The jobs of a round: one per pod at most, GC of what has no job."""
        pods = [p for p in self.model.pods if CLIENT not in p.title]
        chosen = self.random.sample(pods, self.random.randint(1, AT_ONCE))
        made = [self.job(p) for p in chosen]
        for name, runtime in self.runtimes.items():
            if self.random.random() < 0.15:
                made.append(jobs.Status(runtime))
            if self.random.random() < 0.12:
                mine = [b for p in self.model.pods if p.node == name for b in p.boxes]
                idle = [b for p in pods if p.node == name and p not in chosen for b in p.boxes]
                victims = self.random.sample(idle, min(len(idle), self.random.randint(0, 4)))
                made.append(jobs.Collect(runtime, victims, [b for b in mine if b not in victims]))
        self.random.shuffle(made)
        return made

    def event(self):
        """What disturbs a round: name, function, whether calls may fail by it."""
        victim = self.random.choice(self.lab.nodes)
        early, late = self.random.random() * 0.15, self.random.random() * 0.4
        return self.random.choices(
            (
                ("", lambda: None, False),
                ("kill", lambda: self.restart(victim, signal.SIGKILL, early, late), True),
                ("two kills", lambda: self.kill_twice(victim, early, late), True),
                ("restart", lambda: self.restart(victim, signal.SIGTERM, early, late), True),
                ("freeze", lambda: self.freeze(victim, early, 0.2 + 2 * late), False),
                ("lock", lambda: self.lock_datastore(early, 0.2 + 3 * late), False),
            ),
            (50, 22, 4, 5, 6, 8),
        )[0]

    def start_agent(self, victim):
        victim.spawn_agent()
        runtime = self.runtimes[victim.name]

        def serves():
            if victim.agent.poll() is not None:
                raise Failure(f"the agent of {victim.name} ended")
            return runtime.call_network("STATUS").ok

        host.wait_for(f"the agent of {victim.name}", serves, 30)

    def restart(self, victim, signo, early, late):
        time.sleep(early)
        victim.end_agent(signo)
        time.sleep(late)
        self.start_agent(victim)

    def kill_twice(self, victim, early, late):
        """Once more while it puts right what the first kill left."""
        time.sleep(early)
        victim.end_agent(signal.SIGKILL)
        victim.spawn_agent()
        time.sleep(late)
        victim.end_agent(signal.SIGKILL)
        self.start_agent(victim)

    def freeze(self, victim, early, seconds):
        time.sleep(early)
        victim.agent.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        victim.agent.send_signal(signal.SIGCONT)

    def lock_datastore(self, early, seconds):
        time.sleep(early)
        self.lab.hold_lock(seconds)

    def reboot(self, victim):
        """The machine's: devices, namespaces, pins and /run are gone, the boot is another. So are
        all sandboxes, former ones too."""
        victim.end_agent(signal.SIGKILL)
        if prober := self.probers.pop(f"default/{CLIENT}-{victim.name}", None):
            prober.close()
        for pod in self.model.pods:
            for box in pod.boxes if pod.node == victim.name else ():
                self.lab.drop_space(box.netns)
                if box.state in (State.READY, State.OLD):
                    box.state = State.GONE
        host.wait_for("pods' devices to go", lambda: not facts.read_devices(victim), 20)
        boot = os.path.join(victim.folder, "boot_id")
        with open(boot + ".new", "w", encoding="utf-8") as f:
            f.write(f"{self.random.getrandbits(128):032x}\n")
        os.replace(boot + ".new", boot)
        script = f"umount {BOOT_ID} 2> /dev/null; mount --bind '{boot}' {BOOT_ID}"
        victim.run(["sh", "-c", f"rm -rf {victim.bpffs}/manx {victim.folder}/run/*; {script}"])
        self.lab.expedited.put_back()
        self.start_agent(victim)

    def lose_pins(self, victim):
        """Somebody empties the BPF file system while the agent is away."""
        victim.end_agent(signal.SIGKILL)
        victim.run(["rm", "-rf", f"{victim.bpffs}/manx"])
        self.lab.expedited.put_back()
        self.start_agent(victim)

    # Rounds.

    def round(self):
        self.rounds += 1
        before = self.random.random()
        name = "reboot" if before < 0.02 else "pins" if before < 0.04 else None
        if name:
            victim = self.random.choice(self.lab.nodes)
            (self.reboot if name == "reboot" else self.lose_pins)(victim)
            self.count(f"{name}")
            self.compare([f"{name} of {victim.name}"], SETTLE)
        event, disturb, excuses = self.event()
        made = self.plan()
        told = [f"event: {event or 'none'}", *map(str, made)]
        disturbing = self.threads.submit(disturb)
        running = [self.threads.submit(j.run) for j in made]
        for future in running:
            future.result()
        disturbing.result()
        for job in made:
            self.settle(job, excuses, told)
        self.count(event or "undisturbed")
        patient = excuses or event == "lock" or any(j.kills for j in made)
        self.compare(told, SETTLE if patient else 0)
        self.forget()

    def settle(self, job, excuses, told):
        calls = max(job.calls, len(job.answers))
        self.calls += calls
        self.by_tool += calls if job.box and job.box.by_tool else 0
        self.count(type(job).__name__)
        try:
            job.settle(self.model, excuses)
        except Failure as failure:
            raise Failure(f"{failure}\n  in " + "\n     ".join(told)) from failure

    def count(self, what):
        self.happened[what] = self.happened.get(what, 0) + 1

    def compare(self, told, patience):
        """Until what is there is what should be."""
        began = time.monotonic()
        while True:
            data = facts.read_datastore(self.lab.datastore)
            nodes = {n.name: facts.read_node(n) for n in self.lab.nodes}
            found = self.model.differences(data, nodes)
            took = time.monotonic() - began
            if not found:
                self.slowest = max(self.slowest, took)
                return
            if took > patience:
                raise Failure("\n  ".join([*found[:12], "after:", *told]))
            time.sleep(0.2)

    # Packets.

    def bring_clients(self):
        for name, runtime in self.runtimes.items():
            pod = next(p for p in self.model.pods if p.title == f"default/{CLIENT}-{name}")
            if pod.current:
                continue
            box = self.fresh(pod, True)
            job = jobs.Add(box, runtime)
            job.run()
            job.settle(self.model, False)
            self.probers[pod.title] = self.prober(pod.title, box.netns)
        for each in self.lab.nodes:
            if each.name not in self.probers:
                self.probers[each.name] = self.prober(each.name, each.netns_path)

    def prober(self, name, netns):
        return probe.Prober(name, netns, os.path.join(self.lab.folder, "probers.log"))

    def ask(self):
        """Some pods answer their node, and a pod of it where no policy is in the way."""
        self.bring_clients()
        asked = []
        for each in self.lab.nodes:
            ready = [p for p in self.model.pods if p.node == each.name and p.current]
            client = next(p for p in ready if CLIENT in p.title)
            for pod in self.random.sample(ready, min(len(ready), 8)):
                if pod is client:
                    continue
                for target in pod.current.addresses:
                    six = ":" in target
                    ways = {each.name: each.addresses[six].split('/')[0]}
                    ways[client.title] = client.current.addresses[six]
                    for asker, source in ways.items():
                        wanted = asker == each.name or not pod.guarded
                        note = {"pod": pod, "wanted": wanted}
                        asked.append(
                            probe.Question(
                                asker, "icmp", source, target, 0, 5.0 if wanted else 0.3, note=note
                            )
                        )
        if asked:
            probe.ask_all(self.probers, asked)
        wrong = [q for q in asked if q.answered != q.note["wanted"]]
        expect(
            not wrong,
            "packets: "
            + "; ".join(f"{q.asker} -> {q.note['pod'].current} {q.answer}" for q in wrong[:4]),
        )
        self.count("questions")

    # The end.

    def steady(self, cycles=100):
        """Many pods one after the other: the agent grows by nothing."""
        each = self.lab.nodes[0]
        pod = next(p for p in self.model.pods if p.node == each.name and not p.guarded)
        runtime, sizes = self.runtimes[each.name], []
        for number in range(3 * cycles):
            if number % cycles == 0:
                time.sleep(1)
                sizes.append(facts.memory(each.agent.pid))
            box = self.fresh(pod, True)
            for job in (jobs.Add(box, runtime), jobs.Delete(box, runtime)):
                job.run()
                self.settle(job, False, [])
            self.forget()
        time.sleep(1)
        sizes.append(facts.memory(each.agent.pid))
        print(f"agent over {3 * cycles} pods, (KiB, descriptors, threads): {sizes}", flush=True)
        grown = [late - early for early, late in zip(sizes[1], sizes[-1])]
        if facts.keeps_freed_memory(each.agent.pid):
            grown[0] = 0
        expect(all(g < most for g, most in zip(grown, GROWTH)), f"the agent grows: {sizes}")

    def end_all(self):
        """DEL of everything; then all must be as before the first pod."""
        for prober in self.probers.values():
            prober.close()
        self.probers.clear()
        for box in self.model.boxes(State.READY, State.OLD, State.UNSURE):
            job = jobs.Delete(box, self.runtimes[box.node])
            job.run()
            self.settle(job, False, ["the end"])
        self.compare(["DEL of all"], SETTLE)
        for each in self.lab.nodes:
            seen = facts.read_node(each)
            expect(not seen.endpoints and not seen.records, f"{each.name}: {seen}")
            expect(not facts.filled_slots(each), f"{each.name}: slots are left over")
            end = time.monotonic() + SETTLE
            while (sets := facts.policy_sets(each)) and time.monotonic() < end:
                time.sleep(0.1)  # they go after a grace period
            expect(not sets, f"{each.name}: policy sets are left over: {sets}")
        report = self.lab.ctl("ipam", "check")
        expect("found 0 problems" in report.lower(), f"manxctl ipam check: {report}")


def run(storm, steps):
    began = time.monotonic()
    while storm.calls < steps:
        storm.round()
        storm.ask()
        if storm.rounds % 25 == 0:
            print(f"{storm.rounds} rounds, {storm.calls} calls", flush=True)
    took = time.monotonic() - began
    happened = ", ".join(f"{n} {k}" for k, n in sorted(storm.happened.items()))
    print(
        f"{storm.calls} calls, {storm.by_tool} by cnitool, in {storm.rounds} rounds, "
        f"{took:.0f} s; put right within {storm.slowest:.1f} s; {happened}",
        flush=True,
    )
    storm.steady()
    storm.end_all()
    for each in storm.lab.nodes:
        told = host.tail(each.log, 1000000)
        loud = sum("[error]" in line or "level=error" in line for line in told)
        print(f"{each.name}: {len(told)} log lines, {loud} errors", flush=True)


def main(build_folder=os.path.join(ROOT, "build", "release")):
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    seed = os.environ.get("MANX_STORM_SEED", "1")
    steps = int(os.environ.get("MANX_STORM_STEPS", "300"))
    print(f"MANX_STORM_SEED={seed} MANX_STORM_STEPS={steps}", flush=True)
    pods = [Pod(f"default/{CLIENT}-{n}", n, False) for n in NODES]
    pods += [Pod(f"default/p{i}-{n}", n, i % 2 == 1) for n in NODES for i in range(PODS)]
    build_folder = os.path.realpath(build_folder)
    cnitool = os.path.join(build_folder, "cnitool", "cnitool")
    lab = Lab(os.path.join(build_folder, "bin"))
    try:
        lab.apply(list(world(pods)))
        lab.nodes = [Node(lab, n, addresses) for n, addresses in NODES.items()]
        storm = Storm(lab, pods, seed, cnitool if os.access(cnitool, os.X_OK) else None)
        for each in lab.nodes:
            storm.start_agent(each)
        run(storm, steps)
    except (Failure, ClusterError) as error:
        print(f"FAILED with MANX_STORM_SEED={seed}: {error}", flush=True)
        for each in lab.nodes:
            print(f"-- end of {each.log}:\n  " + "\n  ".join(host.tail(each.log, 60)), flush=True)
        return 1
    finally:
        lab.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
