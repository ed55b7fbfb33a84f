# SPDX-License-Identifier: Apache-2.0
"""Pods: namespaces that the CNI plugin furnishes, called the way a container runtime calls it."""

import dataclasses
import hashlib
import ipaddress
import json
import os

from . import host
from .errors import ClusterError
from .objects import labels_of, name_of, namespace_of, spec_of

CNI_VERSION = "1.0.0"


def network(families=(4, 6)):
    """The network configuration, as calico-node's installer writes it, for these families."""
    assign = {f"assign_ipv{f}": "true" if f in families else "false" for f in (4, 6)}
    return {
        "cniVersion": CNI_VERSION,
        "name": "k8s-pod-network",
        "type": "manx",
        "ipam": {"type": "calico-ipam", **assign},
    }


@dataclasses.dataclass
class Pod:
    namespace: str
    name: str
    node: object  # ClusterNode
    netns: str
    container: str
    ports: list  # of {name, protocol, containerPort}
    result: dict = None

    @property
    def title(self):
        return f"{self.namespace}/{self.name}"

    @property
    def addresses(self):
        """Family -> address, from the plugin's result."""
        found = {}
        for entry in (self.result or {}).get("ips", []):
            address = ipaddress.ip_interface(entry["address"]).ip
            found[address.version] = str(address)
        return found

    @property
    def interface(self):
        """The host side's name."""
        return next((i["name"] for i in self.result["interfaces"] if not i.get("sandbox")), None)

    def ports_of(self, protocol):
        return sorted(
            {p["containerPort"] for p in self.ports if p.get("protocol", "TCP") == protocol.upper()}
        )


def from_object(state, o, node):
    namespace, name = namespace_of(o), name_of(o)
    seed = f"{state.name}/{namespace}/{name}/{o['metadata'].get('uid', '')}"
    ports = [p for c in spec_of(o).get("containers") or [] for p in c.get("ports") or []]
    return Pod(
        namespace,
        name,
        node,
        state.netns("pod", namespace, name),
        hashlib.sha256(seed.encode()).hexdigest(),
        ports,
    )


def selected(objects, labels, namespace):
    """The Pod objects that a plain label map selects, as a Service does."""
    return [
        o
        for o in objects.kind("Pod")
        if namespace_of(o) == namespace and all(labels_of(o).get(k) == v for k, v in labels.items())
    ]


def call(pod, command, binaries, conf=None, **environment):
    """Runs the plugin once on the pod's node; the finished process."""
    env = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": pod.container,
        "CNI_NETNS": host.netns_path(pod.netns),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": binaries,
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name};"
        f"K8S_POD_INFRA_CONTAINER_ID={pod.container}",
        **environment,
    }
    plugin = os.path.join(binaries, "manx")
    return host.run(
        [*pod.node.enter(), plugin],
        stdin=json.dumps(conf or network()),
        env=env,
        check=False,
        timeout=30,
    )


def add(pod, binaries, conf=None):
    """Makes the pod's namespace and has the plugin furnish it."""
    if host.netns_inode(pod.netns) is None:
        host.add_netns(pod.netns)
    done = call(pod, "ADD", binaries, conf)
    try:
        pod.result = json.loads(done.stdout)
    except ValueError:
        pod.result = None
    if done.returncode != 0 or not pod.result or "ips" not in pod.result:
        said = (pod.result or {}).get("msg") or done.stderr.strip() or done.stdout.strip()
        details = (pod.result or {}).get("details")
        raise ClusterError(
            f"pod {pod.title}: the plugin refused: {said}" + (f": {details}" if details else "")
        )
    return pod


def add_with_cnitool(state, pod, binaries, cnitool):
    """The same by the standard tool, which reads the network from a folder."""
    folder, conf = state.folder_of("net.d"), network()
    with open(os.path.join(folder, "10-manx.conflist"), "w", encoding="utf-8") as f:
        plugin = {k: v for k, v in conf.items() if k not in ("cniVersion", "name")}
        json.dump({"cniVersion": CNI_VERSION, "name": conf["name"], "plugins": [plugin]}, f)
    host.add_netns(pod.netns)
    env = {
        "PATH": os.environ.get("PATH", ""),
        "NETCONFPATH": folder,
        "CNI_PATH": binaries,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": f"K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name};IgnoreUnknown=1",
    }
    done = host.run(
        [*pod.node.enter(), cnitool, "add", conf["name"], host.netns_path(pod.netns)],
        env=env,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(
            f"pod {pod.title}: cnitool: {done.stderr.strip() or done.stdout.strip()}"
        )
    pod.result = json.loads(done.stdout)
    return pod


def delete(pod, binaries, conf=None):
    done = call(pod, "DEL", binaries, conf)
    if done.returncode != 0:
        raise ClusterError(f"pod {pod.title}: DEL failed: {done.stdout.strip()}")
    host.delete_netns(pod.netns)
