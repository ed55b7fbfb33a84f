# SPDX-License-Identifier: Apache-2.0
"""Calls of the CNI plugin as a container runtime makes them, or by cnitool; and their ends: an
answer, an error by its code, or a plugin that was killed before it had one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import time

NETWORK = "k8s-pod-network"
VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
CACHE = "/var/lib/cni/results"  # of cnitool's library
PATIENCE = 60.0
# Codes of the plugin's errors.
UNKNOWN_CONTAINER, BAD_ENVIRONMENT, TRY_AGAIN_LATER, NOT_AVAILABLE = 3, 4, 11, 50
KILLED = -1  # the plugin had no answer
NO_CODE = -2  # cnitool does not tell
TRY_AGAIN_TEXTS = (
    "agent of this node",
    "the agent is starting",
    "cannot be given back yet",
    "cannot be removed yet",
    "does not catch up",
)


@dataclasses.dataclass
class Answer:
    code: int  # 0: well
    text: str
    result: dict

    @property
    def ok(self):
        return self.code == 0

    @property
    def passing(self):
        """An error that a runtime meets while agents come and go."""
        return self.code in (KILLED, TRY_AGAIN_LATER, NOT_AVAILABLE) or (
            self.code == NO_CODE and any(t in self.text for t in TRY_AGAIN_TEXTS)
        )


class Runtime:
    """The runtime of one node."""

    def __init__(self, node, binaries, cnitool):
        self.node, self.cnitool = node, cnitool
        self.binaries = binaries
        self.socket = node.socket
        self.conflists = self.write_conflist()

    def configuration(self, version):
        return {
            "cniVersion": version,
            "name": NETWORK,
            "type": "manx",
            "socket": self.socket,
            "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
        }

    def call(self, command, box, netns=None, kill_after=None, keys=()):
        """netns: instead of the sandbox's own. kill_after: seconds until the plugin is killed."""
        if box.by_tool:
            return self.call_tool(command, box)
        conf = self.configuration(box.version) | dict(keys)
        if command in ("CHECK", "DEL") and box.result and box.version != "0.3.1":
            conf["prevResult"] = box.result
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": box.container,
            "CNI_NETNS": box.netns if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.binaries,
            "CNI_ARGS": arguments(box),
        }
        return self.run(conf, env, kill_after)

    def call_network(self, command, keys=()):
        """GC and STATUS."""
        conf = self.configuration("1.1.0") | dict(keys)
        return self.run(conf, {"CNI_COMMAND": command, "CNI_PATH": self.binaries})

    def run(self, conf, env, kill_after=None):
        with subprocess.Popen(
            [os.path.join(self.binaries, "manx")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        ) as plugin:
            if kill_after is None:
                text = plugin.communicate(json.dumps(conf), timeout=PATIENCE)[0]
            else:
                with contextlib.suppress(BrokenPipeError):
                    plugin.stdin.write(json.dumps(conf))
                    plugin.stdin.close()
                time.sleep(kill_after)
                plugin.kill()
                text = plugin.stdout.read()
        result = parse(text)
        if plugin.returncode == 0:
            return Answer(0, text, result)
        if plugin.returncode < 0:
            return Answer(KILLED, text, None)
        return Answer((result or {}).get("code", NO_CODE), text, None)

    def write_conflist(self):
        """For cnitool; the folder."""
        folder = os.path.join(self.node.folder, "net.d")
        os.makedirs(folder)
        conf = self.configuration("1.1.0")
        plugin = {k: v for k, v in conf.items() if k not in ("cniVersion", "name")}
        with open(os.path.join(folder, "10-manx.conflist"), "w", encoding="utf-8") as f:
            json.dump({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]}, f)
        return folder

    def call_tool(self, command, box):
        """cnitool keeps results itself, and names the container after its namespace."""
        env = {
            "NETCONFPATH": self.conflists,
            "CNI_PATH": self.binaries,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": arguments(box),
        }
        done = subprocess.run(
            [self.cnitool, command.lower(), NETWORK, box.netns],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        text = done.stdout + done.stderr
        return Answer(0 if done.returncode == 0 else NO_CODE, text, parse(done.stdout))


def arguments(box):
    namespace, name = box.pod.split("/")
    return (
        f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};"
        f"K8S_POD_INFRA_CONTAINER_ID={box.container}"
    )


def parse(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def container_of_tool(netns_path):
    return "cnitool-" + hashlib.sha512(netns_path.encode()).digest()[:10].hex()


def forget_cached(container):
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(CACHE, f"{NETWORK}-{container}-eth0"))
