# SPDX-License-Identifier: Apache-2.0
"""A node: a network namespace with an uplink, and a mount namespace in which /run/manx,
/var/lib/manx, /etc/manx and the BPF file system are the node's own. A process that only sleeps
holds them; the agent runs inside, and BIRD below the agent.
"""

import json
import os
import signal
import socket

from . import host, state as state_module
from .errors import ClusterError

UPLINK = "eno1"
FORWARDING = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

# The mount namespace gets new mounts of the machine (the pods' namespaces in /run/netns) but gives
# none back. /sys is mounted anew so that it shows this namespace's devices.
HOLDER = """
set -e
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
{binds}
hostname {name}
: > {ready}
exec sleep infinity
"""


class ClusterNode:
    def __init__(self, state, node, binaries):
        self.state, self.node, self.binaries = state, node, binaries
        self.name = node.name
        self.netns = state.netns(node.name)
        self.folder = state.folder_of("nodes", node.name)

    @property
    def record(self):
        return self.state.data["nodes"].setdefault(self.name, {})

    def hold(self):
        """Makes the namespaces; the uplink is the cluster's to plug in."""
        host.add_netns(self.netns, FORWARDING)
        binds = []
        for target in state_module.NODE_FOLDERS:
            own = os.path.join(self.folder, os.path.dirname(target).strip("/").replace("/", "-"))
            os.makedirs(own, exist_ok=True)
            binds.append(f"mount --bind '{own}' {target}")
        ready = os.path.join(self.folder, "ready")
        script = HOLDER.format(binds="\n".join(binds), name=self.name, ready=f"'{ready}'")
        argv = ["unshare", "--mount", "--uts", "--propagation", "slave", "sh", "-c", script]
        log = self.state.log(self.name + ".holder")
        pid = host.spawn(argv, log, host.in_netns(self.netns))
        host.wait_for(
            f"the namespaces of node {self.name} (see {log})", lambda: os.path.exists(ready)
        )
        self.record.update(holder=host.identity(pid), netns=self.netns)
        self.state.save()

    def enter(self):
        """The command that runs another one on this node."""
        holder = self.record.get("holder")
        if not host.is_alive(holder):
            raise ClusterError(f"node {self.name} is not up")
        return ["nsenter", "-t", str(holder["pid"]), "--net", "--mount", "--uts"]

    def run(self, argv, **options):
        return host.run([*self.enter(), *argv], **options)

    def file(self, path):
        """Where a file of the node lies for the machine: /run/manx/x, /etc/manx/x, ..."""
        for target in state_module.NODE_FOLDERS:
            if path.startswith(target + "/"):
                own = os.path.dirname(target).strip("/").replace("/", "-")
                return os.path.join(self.folder, own, path[len(target) + 1 :])
        return path

    def address(self, family):
        held = self.node.addresses.get(family)
        return held.ip if held else None

    def configure(self, datastore, **more):
        """Writes the agent's configuration; more: keys beside those that every node has."""
        configuration = {
            "nodeName": self.name,
            "datastore": {"type": "sqlite", "path": datastore},
            "uplinks": f"^{UPLINK}$",
            **more,
        }
        with open(self.file("/etc/manx/agent.yaml"), "w", encoding="utf-8") as f:
            json.dump(configuration, f, indent=2)  # JSON is YAML
            f.write("\n")

    def start_agent(self):
        agent = os.path.join(self.binaries, "manx-agent")
        if not os.access(agent, os.X_OK):
            raise ClusterError(f"{agent}: not built")
        argv = [agent, "--config", "/etc/manx/agent.yaml"]
        self.record["agent"] = host.identity(
            host.spawn(argv, self.state.log(self.name + ".agent"), self.enter())
        )
        self.state.save()

    def wait_for_agent(self, timeout=20):
        """Until the plugin's socket answers; an agent that ends says why."""
        log = self.state.log(self.name + ".agent")

        def up():
            host.reap()
            if not host.is_alive(self.record["agent"]):
                raise ClusterError(f"manx-agent of {self.name} ended: " + "; ".join(host.tail(log)))
            return self.answers()

        host.wait_for(f"the agent of {self.name} (see {log})", up, timeout)

    def answers(self):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.connect(self.file("/run/manx/cni.sock"))
                return True
        except OSError:
            return False

    def status(self):
        """What the agent says of itself; None where it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.settimeout(10)
                s.connect(self.file("/run/manx/agent.sock"))
                s.sendall(b"GET /status HTTP/1.0\r\nHost: agent\r\n\r\n")
                with s.makefile("rb") as answer:
                    return json.loads(answer.read().partition(b"\r\n\r\n")[2])
        except (OSError, ValueError):
            return None

    def agent_pid(self):
        agent = self.record.get("agent")
        return agent["pid"] if host.is_alive(agent) else None

    def stop_agent(self, signo=signal.SIGTERM, timeout=10):
        pid = self.agent_pid()
        if pid is None:
            return
        os.kill(pid, signo)

        def gone():
            host.reap()
            return self.agent_pid() is None

        host.wait_for(f"the end of the agent of {self.name}", gone, timeout)

    def ctl(self, *arguments, stdin=None, check=True):
        return self.run(
            [os.path.join(self.binaries, "manxctl"), *arguments], stdin=stdin, check=check
        )

    def birdc(self, *command):
        return self.run(["birdc", "-s", "/run/manx/bird.ctl", *command], check=False).stdout
