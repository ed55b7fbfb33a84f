# SPDX-License-Identifier: Apache-2.0
"""CNI ADD and DEL beside ptp + host-local and bridge + host-local: one by one, 50 and 100 at once.

Every round visits each plugin once, in an order that rotates, on fresh pod namespaces of one node
namespace. Times are from the start of the plugin's process to its end, as a runtime sees them; of
a burst also from the first start to the last end. Manx gives each pod an IPv4 and an IPv6 address
and enforces it before it answers; the others give one IPv4 address.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import _netns

PLUGINS_OF_DEBIAN = "/usr/lib/cni"
# Bounds of docs/design/cni.md.
ADD_RATIO = 0.5
ADD_P99 = 10e-3
BURST_50 = 0.5


def add_arguments(parser):
    parser.add_argument("--rounds", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--pods", type=int, default=40,
                        help="pods one by one in each round (%(default)s)")
    parser.add_argument("--bursts", default="50,100", help="pods at once (%(default)s)")
    parser.add_argument("--without-dataplane", action="store_true",
                        help="the CNI server alone, with nothing that enforces")
    parser.add_argument("--only", help="plugins to run, comma separated: manx, ptp, bridge")


class Plugin:
    """One way to attach pods: a binary, its configuration, and its environment."""

    def __init__(self, name, binary, conf):
        self.name = name
        self.binary = binary
        self.input = tempfile.TemporaryFile()
        self.input.write(json.dumps(conf).encode())
        self.input.flush()

    def start(self, command, pod, number):
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"{self.name}-{number}",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": _netns.path(pod),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{number}",
            "CNI_PATH": PLUGINS_OF_DEBIAN,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        answer = tempfile.TemporaryFile()
        # Each start reads the configuration from its beginning.
        source = os.open(f"/proc/self/fd/{self.input.fileno()}", os.O_RDONLY)
        began = time.perf_counter()
        pid = os.posix_spawn(self.binary, [self.binary], environment, file_actions=[
            (os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, answer.fileno(), 1)])
        os.close(source)
        return pid, began, answer

    def call(self, command, pods):
        """All at once; the time of each call, and of all together."""
        running = {}
        for number, pod in pods:
            pid, began, answer = self.start(command, pod, number)
            running[pid] = (began, answer, number)
        first = min(began for began, _, _ in running.values())
        times = []
        while running:
            pid, status = os.waitpid(-1, 0)
            ended = time.perf_counter()
            if pid not in running:
                continue
            began, answer, number = running.pop(pid)
            times.append(ended - began)
            if status != 0:
                answer.seek(0)
                raise RuntimeError(f"{self.name}: {command} of pod-{number} failed: "
                                   f"{answer.read().decode().strip()}")
            answer.close()
        return times, ended - first


class Agent:
    """The node's agent, on the node namespace of the caller, with a bpffs of its own."""

    def __init__(self, options, folder, pods):
        self.socket = os.path.join(folder, "cni.sock")
        store = os.path.join(folder, "store.db")
        state = os.path.join(folder, "state")
        bpffs = os.path.join(folder, "bpf")
        os.mkdir(state)
        os.mkdir(bpffs)
        environment = {**os.environ, "MANX_LOG_LEVEL": "warn"}
        # It fills the store, too.
        self.process = subprocess.Popen(
            [os.path.join(options.build, "bin", "cni_test_agent"), store, state, self.socket,
             "node-1", str(pods)], stdout=subprocess.PIPE, text=True, env=environment)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the agent did not start")
        if options.without_dataplane:
            return
        self.stop()
        conf = os.path.join(folder, "agent.yaml")
        with open(conf, "w", encoding="utf-8") as file:
            json.dump({"nodeName": "node-1", "datastore": {"type": "sqlite", "path": store},
                       "runDir": folder, "stateDir": state, "bpffs": os.path.join(bpffs, "manx"),
                       "bird": {"enabled": False}, "metrics": {"port": 0}, "health": {"port": 0},
                       "cni": {"socket": self.socket}, "logLevel": "warn"}, file)
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c",
             'mount -t bpf bpf "$1" && exec "$2" --config "$3"', "sh", bpffs,
             os.path.join(options.build, "bin", "manx-agent"), conf], env=environment)
        self.wait_until_it_serves(options)

    def wait_until_it_serves(self, options):
        probe = Plugin("probe", os.path.join(options.build, "bin", "manx"),
                       {"cniVersion": "1.1.0", "name": "bench-manx", "type": "manx",
                        "socket": self.socket})
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        for _ in range(300):
            try:
                probe.call("STATUS", [(0, own)])
                os.close(own)
                return
            except RuntimeError as error:
                if self.process.poll() is not None:
                    raise RuntimeError("the agent ended") from error
                last = error
                time.sleep(0.1)
        raise RuntimeError("the agent does not serve") from last

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def host_local(folder, name, subnet):
    return {"type": "host-local", "subnet": subnet, "dataDir": os.path.join(folder, name),
            "routes": [{"dst": "0.0.0.0/0"}]}


def plugins_of(options, folder, agent):
    own = {"cniVersion": "1.0.0", "name": "bench-manx", "type": "manx", "socket": agent.socket}
    ptp = {"cniVersion": "1.0.0", "name": "bench-ptp", "type": "ptp", "ipMasq": False,
           "ipam": host_local(folder, "ptp", "10.98.0.0/16")}
    bridge = {"cniVersion": "1.0.0", "name": "bench-bridge", "type": "bridge", "bridge": "cni0",
              "isGateway": True, "ipMasq": False,
              "ipam": host_local(folder, "bridge", "10.99.0.0/16")}
    every = [Plugin("manx", os.path.join(options.build, "bin", "manx"), own),
             Plugin("ptp", os.path.join(PLUGINS_OF_DEBIAN, "ptp"), ptp),
             Plugin("bridge", os.path.join(PLUGINS_OF_DEBIAN, "bridge"), bridge)]
    if not options.only:
        return every
    return [p for p in every if p.name in options.only.split(",")]


def percentile(times, share):
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Table:
    """Samples by what was done and by whom."""

    def __init__(self):
        self.samples = {}

    def add(self, what, plugin, times):
        self.samples.setdefault(what, {}).setdefault(plugin, []).extend(times)

    def value(self, what, plugin, share):
        return percentile(self.samples[what][plugin], share)

    def show(self):
        print(f"{'what':<28}{'plugin':<8}{'runs':>6}{'p50 ms':>10}{'p99 ms':>10}"
              f"{'of ptp':>8}{'of bridge':>11}")
        for what, by_plugin in self.samples.items():
            for plugin, times in by_plugin.items():
                ratios = [f"{percentile(times, .5) / self.value(what, other, .5):.2f}"
                          if other in by_plugin and other != plugin else "-"
                          for other in ("ptp", "bridge")]
                print(f"{what:<28}{plugin:<8}{len(times):>6}{percentile(times, .5) * 1e3:>10.2f}"
                      f"{percentile(times, .99) * 1e3:>10.2f}{ratios[0]:>8}{ratios[1]:>11}")


def one_by_one(table, plugin, pods):
    for command in ("ADD", "DEL"):
        for pod in pods:
            table.add(f"{command} one by one", plugin.name, plugin.call(command, [pod])[0])


def at_once(table, plugin, pods):
    for command in ("ADD", "DEL"):
        times, whole = plugin.call(command, pods)
        table.add(f"{command} {len(pods)} at once, each", plugin.name, times)
        table.add(f"{command} {len(pods)} at once, all", plugin.name, [whole])


def judge(table, plugins):
    """The bounds, each with what was measured; whether all of them hold."""
    fine = True

    def bound(text, value, limit):
        nonlocal fine
        fine = fine and value <= limit
        print(f"{'holds' if value <= limit else 'MISSED':<7}{text}: {value:.3g} (at most {limit})")

    names = {p.name for p in plugins}
    print()
    if {"manx", "ptp"} <= names:
        bound("ADD one by one, p50, of ptp + host-local",
              table.value("ADD one by one", "manx", .5) / table.value("ADD one by one", "ptp", .5),
              ADD_RATIO)
        bound("DEL one by one, p50, of ptp + host-local",
              table.value("DEL one by one", "manx", .5) / table.value("DEL one by one", "ptp", .5),
              ADD_RATIO)
    if "manx" in names:
        bound("ADD one by one, p99, ms", table.value("ADD one by one", "manx", .99) * 1e3,
              ADD_P99 * 1e3)
        if "ADD 50 at once, all" in table.samples:
            bound("50 at once, all enforced, slowest run, s",
                  max(table.samples["ADD 50 at once, all"]["manx"]), BURST_50)
    return fine


def run(options):
    bursts = [int(n) for n in options.bursts.split(",") if n]
    most = max([options.pods, *bursts])
    folder = tempfile.mkdtemp(prefix="manx-bench-")
    node = _netns.make()[0]
    _netns.enter(node)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    agent = Agent(options, folder, most)
    try:
        table = Table()
        plugins = plugins_of(options, folder, agent)
        for turn in range(-1, options.rounds):
            for i in range(len(plugins)):
                plugin = plugins[(turn + i) % len(plugins)]
                # The first turn warms up: blocks are claimed, files are in the cache.
                into = table if turn >= 0 else Table()
                for work, count in [(one_by_one, options.pods), *((at_once, n) for n in bursts)]:
                    pods = list(enumerate(_netns.make(count if turn >= 0 else min(count, 50))))
                    work(into, plugin, pods)
                    for _, pod in pods:
                        os.close(pod)
                    time.sleep(0.3)  # the kernel takes the namespaces apart
        print(f"{options.rounds} rounds, interleaved; {os.cpu_count()} CPUs, "
              f"Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}")
        table.show()
        return 0 if judge(table, plugins) else 1
    finally:
        agent.stop()
        shutil.rmtree(folder)
