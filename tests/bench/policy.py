# SPDX-License-Identifier: Apache-2.0
"""What policy costs: first packets at 1 to 10,000 rules, connections per second beside others.

First packets: UDP frames, a flow of its own each, leave a pod as fast as one CPU makes them, go
through the agent's programs and tables to another pod, and are counted and dropped there. One
pair of pods for each number of rules, all in force at once.

Connections: connect, one byte there, one back, close; client and server on one CPU; the same pods
and the same policy through Manx, iptables with ipset, nftables, and without policy by plain
routing and by the bare redirect. Each on a node namespace of its own.

Every round visits every configuration once, in an order that rotates. Rates are per second of CPU
time that the work took (the process's and ksoftirqd's), so that other load on the machine
disturbs them little; ratios are of one round, then their median.
"""

import shutil
import statistics
import tempfile

import _netns
import _node
import _report
import _rules

FLAT = 1.1
BARE = 0.95
SCALE = 0.98


def add_arguments(parser):
    parser.add_argument("--rounds", type=int, default=15, help="rounds (%(default)s)")
    parser.add_argument("--frames", type=int, default=200_000,
                        help="first packets in each sample (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4,
                        help="of connections in each sample (%(default)s)")
    parser.add_argument("--cpu", type=int, default=0, help="the CPU to load (%(default)s)")
    parser.add_argument("--smoke", action="store_true",
                        help="one short round, bounds are shown but do not fail")


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.bin = options.build + "/bin/"
        self.folder = folder
        self.agents = []
        self.skip = {}

    def close(self):
        for agent in self.agents:
            agent.close()

    # Pairs of pods behind Manx: name -> (client, server)

    def manx(self, pairs):
        store = _node.Store(self.options, self.folder)
        store.apply(_node.base_objects(["node-1"]))
        pods = [(f"{name}-{side}", name) for name in pairs for side in ("client", "server")]
        store.apply([_node.pod_object(pod, "node-1", {"app": "bench", "pair": pair})
                     for pod, pair in pods])
        agent = _node.Agent(self.options, self.folder, store)
        self.agents.append(agent)
        made = {pod: agent.add(pod) for pod, _ in pods}
        addresses = [pod.ipv4 for pod in made.values()]
        store.apply(_rules.network_sets(addresses))
        for name, (protocol, rules) in pairs.items():
            store.apply(_rules.calico_policies(name, f"pair == '{name}'", protocol, rules,
                                               "app == 'bench'"))
        return agent, {name: (made[name + "-client"], made[name + "-server"]) for name in pairs}

    def plain(self, pairs=1):
        node = _node.new_node_netns()
        pods = [_node.plain_pod(node, i) for i in range(2 * pairs)]
        return node, pods

    def bare(self):
        node, pods = self.plain()
        _node.run([self.bin + "bench_frames", "bare",
                   *(f"{p.device}={p.ipv4},{p.mac}" for p in pods)], node)
        return node, pods

    def iptables(self, counts):
        node, pods = self.plain(len(counts))
        restore = "iptables-legacy-restore" if not _node.missing_tools(
            ["iptables-legacy-restore"]) else "iptables-restore"
        _node.run(["ipset", "restore"], node, _rules.ipset_restore([p.ipv4 for p in pods]))
        _node.run([restore], node, _rules.iptables_restore(
            [(pod.device, counts[i // 2]) for i, pod in enumerate(pods)], "tcp"))
        return pods

    def nftables(self, counts):
        node, pods = self.plain(len(counts))
        _node.run(["nft", "-f", "-"], node, _rules.nft_ruleset(
            [p.ipv4 for p in pods],
            [(pod.device, counts[i // 2]) for i, pod in enumerate(pods)], "tcp"))
        return pods

    # Samples

    def connections(self, client, server):
        """Per second of CPU time."""
        out = _node.run_json([self.bin + "bench_connections", client.path, server.path,
                              server.ipv4, _rules.USED_PORTS[0], "--seconds",
                              self.options.seconds, "--cpu", self.options.cpu])
        if out["failed"] or not out["connections"]:
            raise _node.Failed(f"connections failed: {out}")
        return out["connections"] / out["cpu_seconds"]

    def first_packets(self, name, client, server):
        """Nanoseconds for each frame that arrived, the generator's share included."""
        skip = self.skip.get(name, 0)
        frames = self.options.frames
        out = _node.run_json([self.bin + "bench_frames", "send", client.path, server.path,
                              "--from", client.ipv4, "--to", server.ipv4, "--mac", client.mac,
                              "--source-port", 1024, "--flows", 60000, "--pairs", 100,
                              "--destination-port", _rules.USED_PORTS[0], "--skip", skip,
                              "--frames", frames, "--cpu", self.options.cpu])
        self.skip[name] = (skip + 2 * frames) % (60000 * 100)
        if out["arrived"] < 0.9 * out["sent"]:
            raise _node.Failed(f"{name}: frames were lost: {out}")
        return out["cpu_ns"] / out["arrived"]


def denied(bench, client, server):
    """The tables do say no: a port that no rule names."""
    out = _node.run_json([bench.bin + "bench_frames", "send", client.path, server.path,
                          "--from", client.ipv4, "--to", server.ipv4, "--mac", client.mac,
                          "--destination-port", 1, "--frames", 1000])
    return out["arrived"] == 0


def first_packets(bench, bounds, counts, agent, pairs):
    for rules in counts:
        for pod in pairs[f"u{rules}"]:
            pod.take_frames(agent.node)
    if not denied(bench, *pairs[f"u{counts[-1]}"]):
        raise _node.Failed("a packet that no rule allows has passed")
    samples = _report.interleave(bench.options.rounds, {
        rules: lambda rules=rules: bench.first_packets(f"u{rules}", *pairs[f"u{rules}"])
        for rules in counts})
    print("\nFirst packets, pod to pod on one node: ns each, generator and both devices included")
    print(f"{'rules':>8}{'ns':>24}{'of 1 rule':>24}")
    for rules in counts:
        print(f"{rules:>8}{_report.spread(samples[rules]):>24}"
              f"{_report.spread(_report.ratios(samples[rules], samples[counts[0]])):>24}")
    bounds.check(f"first packet, {counts[-1]} rules of {counts[0]}",
                 statistics.median(_report.ratios(samples[counts[-1]], samples[counts[0]])), FLAT)


def connections(bench, bounds, few, many, pairs):
    _, plain = bench.plain()
    _, bare = bench.bare()
    configs = {
        "plain routing": plain,
        "bare redirect": bare,
        f"manx, {few}": pairs[f"t{few}"],
        f"manx, {many}": pairs[f"t{many}"],
    }
    missing = _node.missing_tools(["iptables-restore", "ipset", "nft"])
    if missing:
        print(f"without iptables and nftables: {', '.join(missing)} not installed")
    else:
        for name, pods in (("iptables", bench.iptables([few, many])),
                           ("nftables", bench.nftables([few, many]))):
            configs[f"{name}, {few}"] = pods[:2]
            configs[f"{name}, {many}"] = pods[2:]
    for pair in configs.values():  # conntrack, ports and caches have seen one
        bench.connections(*pair)
    samples = _report.interleave(bench.options.rounds, {
        name: lambda pair=pair: bench.connections(*pair) for name, pair in configs.items()})
    print("\nConnections per second of CPU time, client and server on one CPU")
    print(f"{'configuration':<20}{'per s':>30}{'of bare redirect':>24}")
    for name, values in samples.items():
        print(f"{name:<20}{_report.spread(values, 5):>30}"
              f"{_report.spread(_report.ratios(values, samples['bare redirect'])):>24}")

    def bound(what, above, below, limit):
        ratio = _report.ratios(samples[above], samples[below])
        bounds.check(what, statistics.median(ratio), limit, at_least=True)

    bound(f"connections, {few} rule, of the bare redirect", f"manx, {few}", "bare redirect", BARE)
    bound(f"connections, {many} rules of {few}", f"manx, {many}", f"manx, {few}", SCALE)
    for name in ("iptables", "nftables"):
        if f"{name}, {many}" in samples:
            bound(f"connections, {many} rules, of {name} with the same", f"manx, {many}",
                  f"{name}, {many}", 1)
            bound(f"connections, {few} rule, of {name} with the same", f"manx, {few}",
                  f"{name}, {few}", 1)


def run(options):
    if options.smoke:
        options.rounds, options.frames, options.seconds = 1, 5000, 0.05
    counts = [1, 100, 1000, 10000]
    folder = tempfile.mkdtemp(prefix="manx-bench-")
    _netns.enter(_netns.make()[0])
    bench = Bench(options, folder)
    bounds = _report.Bounds()
    try:
        pairs = {f"u{rules}": ("UDP", rules) for rules in counts}
        pairs |= {f"t{rules}": ("TCP", rules) for rules in (counts[0], counts[-1])}
        agent, made = bench.manx(pairs)
        print(f"{options.rounds} rounds, interleaved; {_report.machine()}")
        first_packets(bench, bounds, counts, agent, made)
        connections(bench, bounds, counts[0], counts[-1], made)
        return bounds.exit_code(options.smoke)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
