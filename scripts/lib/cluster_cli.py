# SPDX-License-Identifier: Apache-2.0
"""scripts/cluster: clusters of this machine by hand: up, list, enter, down."""

import argparse
import os
import sys

from cluster import build, objects, state, topology
from cluster.errors import ClusterError

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/cluster",
        description="Clusters in network namespaces of this machine, built from their objects.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="network, objects and agents of a scenario; no pods")
    up.add_argument("scenario", metavar="DIR", help="a folder of manifests")
    up.add_argument("--routers", choices=("frr", "gobgp"), default="frr")
    up.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR")
    up.add_argument("--no-agents", action="store_true", help="the network only")
    verbs.add_parser("list", help="what is up")
    enter = verbs.add_parser("enter", help="a shell, or a command, on a node, router or pod")
    enter.add_argument("where", help="a node or router by name, a pod as NAMESPACE/NAME")
    enter.add_argument("command", nargs=argparse.REMAINDER, help="default: a shell")
    verbs.add_parser("down", help="take it down")
    for verb in verbs.choices.values():
        verb.add_argument("--name", default="demo", help="name of the cluster (default: demo)")
    return parser.parse_args(argv)


def up(options):
    plan = topology.build(objects.load(options.scenario))
    cluster = build.Cluster(
        state.begin(options.name), plan, os.path.join(options.build, "bin"), options.routers
    )
    try:
        cluster.up()
        if not options.no_agents:
            cluster.configure()
            print(cluster.ctl("apply", "-f", os.path.abspath(options.scenario)).stdout, end="")
            cluster.start_agents()
        cluster.leave_up()
    except BaseException:
        state.end(options.name)
        raise
    show(state.load(options.name))


def show(found):
    print(f"{found.name}: {found.folder}")
    for name, node in found.data["nodes"].items():
        print(f"  node   {name}: network namespace {node.get('netns', 'not made')}")
    for name, router in found.data["routers"].items():
        print(f"  router {name}: network namespace {router['netns']}")


def enter(options):
    found = state.load(options.name)
    if found is None:
        raise ClusterError(f"no cluster '{options.name}' is up")
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    argv = prefix(found, options.where) + (command or [os.environ.get("SHELL", "/bin/bash")])
    os.execvp(argv[0], argv)


def prefix(found, where):
    node = found.data["nodes"].get(where)
    if node:
        return ["nsenter", "-t", str(node["holder"]["pid"]), "--net", "--mount", "--uts"]
    router = found.data["routers"].get(where)
    netns = router["netns"] if router else "-".join((found.name, "pod", *where.split("/")))
    if netns not in found.data["netns"]:
        there = ", ".join([*found.data["nodes"], *found.data["routers"]])
        raise ClusterError(f"'{where}' is no node, router or pod of '{found.name}': {there}")
    return ["nsenter", f"--net=/run/netns/{netns}"]


def main(argv):
    options = arguments(argv)
    if options.verb == "up":
        up(options)
    elif options.verb == "enter":
        enter(options)
    elif options.verb == "down":
        print("down: " + (", ".join(state.end(options.name)) or "nothing was up"))
    else:
        for found in state.known():
            show(found)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        sys.exit(2)
