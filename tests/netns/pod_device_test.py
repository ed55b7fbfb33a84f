#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What others do to pods' devices: pod_device_test.py [BUILD FOLDER] [CASE ...].

Debian's bandwidth plugin after ours shapes what a pod sends and gets, on its node and off it, in
both families; programs, routes and addresses that somebody takes away come back. Exit status 0
passed, 1 failed, 77 skipped (not root, or no bandwidth plugin).
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import traceback

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts", "lib"))

import policy_lab  # noqa: E402
from cluster import host, pods  # noqa: E402
from cluster.errors import ClusterError  # noqa: E402

BANDWIDTH = "/usr/lib/cni/bandwidth"
FAMILIES = (4, 6)
RATE = 8_000_000  # bit/s
BURST = 800_000  # bit: through at once
SECONDS = 2.0
PORT = 5201

# Prints the bytes that came after the first half second, and how long they took.
RECEIVER = """
import socket, sys, time
s = socket.create_server((sys.argv[1], PORT), family=FAMILY)
print("ready", flush=True)
c, _ = s.accept()
c.settimeout(2)
start, first, count, end = time.monotonic(), None, 0, 0
try:
    while data := c.recv(65536):
        end = time.monotonic()
        if first is None and end - start > 0.5:
            first = end
        elif first is not None:
            count += len(data)
except TimeoutError:
    pass
print(count, end - (first or end))
"""
SENDER = """
import socket, sys, time
s = socket.create_connection((sys.argv[2], PORT), 10, (sys.argv[1], 0))
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    s.send(bytes(16384))
"""


def world():
    kept = ("x/a", "x/b", "x/c")
    return [
        o
        for o in policy_lab.world()
        if o["kind"] != "Pod"
        or f"{o['metadata']['namespace']}/{o['metadata']['name']}" in kept
    ]


def script(pod, text, family, *words):
    constants = f"PORT, SECONDS, FAMILY = {PORT}, {SECONDS}, {2 if family == 4 else 10}\n"
    argv = [*host.in_netns(pod.netns), sys.executable, "-c", constants + text, *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


class Bench:
    def __init__(self, binaries):
        digest = hashlib.sha256(f"devices {os.getpid()}".encode()).hexdigest()[:8]
        self.lab = policy_lab.Lab(f"t{digest}", binaries, world())
        self.failed = 0

    def check(self, good, what, details=""):
        self.failed += not good
        print(f"{'ok' if good else 'FAILED'}: {what}" + (f": {details}" if details else ""))

    def rate(self, source, target, family):
        """bit/s of a TCP connection, after its start."""
        source, target = self.lab.pods[source], self.lab.pods[target]
        receiver = script(target, RECEIVER, family, target.addresses[family])
        receiver.stdout.readline()
        sender = script(
            source, SENDER, family, source.addresses[family], target.addresses[family]
        )
        said = receiver.communicate(timeout=60)[0].split()
        sender.communicate(timeout=60)
        return 8 * int(said[0]) / max(float(said[1]), 0.001)

    def rates(self, what, pairs, good):
        found = {
            f"{s} -> {t} v{f}": self.rate(s, t, f) / 1e6 for s, t in pairs for f in FAMILIES
        }
        text = ", ".join(f"{k} {v:.1f}" for k, v in found.items())
        self.check(all(map(good, found.values())), f"{what} (Mbit/s)", text)

    def plugin(self, path, pod, command, conf, previous=None):
        conf = {"cniVersion": pods.CNI_VERSION, "name": "k8s-pod-network", **conf}
        if previous:
            conf["prevResult"] = previous
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": host.netns_path(pod.netns),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": os.path.dirname(path),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};"
            f"K8S_POD_NAME={pod.name}",
        }
        return host.run(
            [*pod.node.enter(), path], stdin=json.dumps(conf), env=env, check=False, timeout=60
        )

    def manx_check(self, pod):
        conf = {**pods.network(), "prevResult": pod.result}
        return pods.call(pod, "CHECK", self.lab.cluster.binaries, conf)

    def soon(self, what, condition, timeout=10.0):
        try:
            host.wait_for(what, condition, timeout)
            self.check(True, what)
        except ClusterError as error:
            self.check(False, what, error)

    def ask(self, what, pairs):
        for source, target in pairs:
            for family in FAMILIES:
                pod = self.lab.pods[source]
                address = self.lab.addresses[target][family]
                done = host.run(
                    [*host.in_netns(pod.netns), "ping", "-c", "1", "-W", "5", address], check=False
                )
                self.check(done.returncode == 0, f"{what}: {source} -> {target} v{family}")


# x/a and x/b are on n1, x/c is on n2.
TO = (("x/a", "x/b"), ("x/c", "x/b"))
FROM = (("x/b", "x/a"), ("x/b", "x/c"))


def case_shaping(b):
    pod = b.lab.pods["x/b"]
    limits = {
        "type": "bandwidth",
        "ingressRate": RATE,
        "ingressBurst": BURST,
        "egressRate": RATE,
        "egressBurst": BURST,
    }
    b.rates("unshaped", TO[:1] + FROM[1:], lambda r: r > 3 * RATE / 1e6)
    done = b.plugin(BANDWIDTH, pod, "ADD", limits, pod.result)
    b.check(done.returncode == 0, "bandwidth after manx: ADD", done.returncode and done.stdout)
    both = json.loads(done.stdout)
    manx = os.path.join(b.lab.cluster.binaries, "manx")
    for path, conf in ((manx, pods.network()), (BANDWIDTH, limits)):
        done = b.plugin(path, pod, "CHECK", conf, both)
        b.check(done.returncode == 0, f"CHECK of {os.path.basename(path)}", done.stdout)
    near = lambda r: 0.5 * RATE / 1e6 < r < 1.3 * RATE / 1e6  # noqa: E731
    b.rates("what the pod gets is shaped", TO, near)
    b.rates("what the pod sends is shaped", FROM, near)
    b.rates("others are not", (("x/a", "x/c"),), lambda r: r > 3 * RATE / 1e6)
    # A restart of the agent finds it.
    b.lab.restart_agents()
    b.rates("after a restart of the agent", TO[1:] + FROM[:1], near)
    done = b.plugin(BANDWIDTH, pod, "DEL", limits, both)
    b.check(done.returncode == 0, "bandwidth: DEL", done.stdout)
    for what in ("root", "ingress"):
        pod.node.run(["tc", "qdisc", "del", "dev", pod.interface, what])
    time.sleep(1)
    b.rates("and without it", TO[:1] + FROM[:1], lambda r: r > 3 * RATE / 1e6)


def case_programs(b):
    pod = b.lab.pods["x/b"]
    index = pod.node.run(["cat", f"/sys/class/net/{pod.interface}/ifindex"]).stdout.strip()
    pins = [f"/sys/fs/bpf/manx/links/{index}_{h}" for h in ("from_workload", "to_workload")]
    b.check(b.manx_check(pod).returncode == 0, "CHECK finds nothing")
    if pod.node.run(["test", "-e", pins[0]], check=False).returncode == 0:
        pod.node.run(["bpftool", "link", "detach", "pinned", pins[0]])
        done = b.manx_check(pod)
        b.check("tc_from_workload" in done.stdout, "CHECK misses the program", done.stdout)
        b.soon("and it is back", lambda: b.manx_check(pod).returncode == 0)
    b.lab.restart_agents(bpf={"clsact": True})
    b.soon("by filters as well", lambda: b.manx_check(pod).returncode == 0)
    pod.node.run(["tc", "qdisc", "del", "dev", pod.interface, "clsact"])

    def filtered():
        shown = [
            pod.node.run(["tc", "filter", "show", "dev", pod.interface, hook]).stdout
            for hook in ("ingress", "egress")
        ]
        return all("tc_" in s for s in shown)

    b.soon("filters that were taken away are back", filtered)
    b.lab.restart_agents()
    b.soon(
        "and links after the agent may use them again, without our qdisc",
        lambda: b.manx_check(pod).returncode == 0
        and "clsact" not in pod.node.run(["tc", "qdisc", "show", "dev", pod.interface]).stdout,
    )
    b.ask("all the same", (("x/a", "x/b"), ("x/b", "x/c")))


def case_down_and_up(b):
    pod = b.lab.pods["x/b"]
    show = lambda *words: pod.node.run(["ip", *words]).stdout  # noqa: E731
    device = pod.interface
    before = [show("-4", "route", "show", "dev", device), show("-6", "addr", "show", "dev", device)]
    pod.node.run(["ip", "link", "set", device, "down"])
    time.sleep(0.5)
    pod.node.run(["ip", "link", "set", device, "up"])

    def restored():
        return (
            before[0] == show("-4", "route", "show", "dev", device)
            and "fe80::ecee:eeff:feee:eeee" in show("-6", "addr", "show", "dev", device)
            and pod.addresses[6] in show("-6", "route", "show", "dev", device)
        )

    b.soon("routes and address are back", restored)
    b.check(b.manx_check(pod).returncode == 0, "CHECK finds nothing", "")
    b.ask("and it works", (("x/a", "x/b"), ("x/c", "x/b"), ("x/b", "x/c")))
    pod.node.run(["ip", "addr", "del", "fe80::ecee:eeff:feee:eeee/64", "dev", device])
    b.soon("the address alone", restored)


CASES = [f for n, f in list(globals().items()) if n.startswith("case_")]


def main(build_folder=os.path.join(ROOT, "build", "release"), *names):
    if os.geteuid() != 0 or not os.access(BANDWIDTH, os.X_OK):
        print("skipped: needs root and Debian's containernetworking-plugins")
        return 77
    b = Bench(os.path.join(os.path.realpath(build_folder), "bin"))
    try:
        b.lab.up()
        for case in CASES:
            if not names or case.__name__[5:] in names:
                print(f"# {case.__name__[5:]}")
                case(b)
    except (ClusterError, OSError, ValueError, subprocess.SubprocessError):
        traceback.print_exc()
        b.failed += 1
    finally:
        with contextlib.suppress(ClusterError):
            b.lab.down()
    print("passed" if not b.failed else f"{b.failed} checks failed")
    return 1 if b.failed else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main(*sys.argv[1:]))
