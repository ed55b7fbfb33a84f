# SPDX-License-Identifier: Apache-2.0
"""A node for benchmarks: a network namespace with the whole agent, and pods made by the CNI plugin;
or, for what Manx is compared with, the same pods made by hand."""

import json
import os
import shutil
import signal
import subprocess
import time

import _netns

HOST_MAC = "ee:ee:ee:ee:ee:ee"


class Failed(Exception):
    pass


def run(args, node=None, text=None, env=None):
    """In a namespace; the output, or Failed with what was said."""
    done = subprocess.run(args, input=text, text=True, capture_output=True, env=env, check=False,
                          preexec_fn=(lambda: _netns.enter(node)) if node is not None else None)
    if done.returncode != 0:
        raise Failed(f"{' '.join(args[:6])}: {(done.stderr or done.stdout).strip()[:2000]}")
    return done.stdout


def run_json(args, node=None):
    return json.loads(run([str(a) for a in args], node))


class Pod:
    """A network namespace with eth0, and the device on the node that it is behind."""

    def __init__(self, name, namespace="default"):
        self.name = name
        self.namespace = namespace
        self.netns = _netns.make()[0]
        self.addresses = []
        self.mac = ""
        self.device = ""

    @property
    def path(self):
        return _netns.path(self.netns)

    @property
    def ipv4(self):
        return next(a for a in self.addresses if ":" not in a)

    def take_frames(self, node):
        """Both ends of the device take XDP frames."""
        run(["ethtool", "-K", "eth0", "gro", "on"], self.netns)
        run(["ethtool", "-K", self.device, "gro", "on"], node)


def new_node_netns():
    node = _netns.make()[0]
    run(["ip", "link", "set", "lo", "up"], node)
    for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        run(["sh", "-c", f"echo 1 > /proc/sys/net/{key}"], node)
    for key in ("all", "default"):
        run(["sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{key}/rp_filter"], node)
    return node


def plain_pod(node, number):
    """As a CNI plugin makes it: a /32, the default route by a permanent neighbour."""
    pod = Pod(f"pod-{number}")
    pod.device = f"cali{number}"
    pod.addresses = [f"10.66.0.{number + 10}"]
    run(["ip", "link", "add", pod.device, "address", HOST_MAC, "type", "veth",
         "peer", "name", "eth0", "netns", pod.path], node)
    run(["ip", "link", "set", "lo", "up"], pod.netns)
    run(["ip", "link", "set", "eth0", "up"], pod.netns)
    run(["ip", "link", "set", pod.device, "up"], node)
    run(["ip", "address", "add", pod.ipv4 + "/32", "dev", "eth0"], pod.netns)
    run(["ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"], pod.netns)
    run(["ip", "route", "add", "default", "via", "169.254.1.1"], pod.netns)
    run(["ip", "neigh", "add", "169.254.1.1", "lladdr", HOST_MAC, "dev", "eth0", "nud",
         "permanent"], pod.netns)
    pod.mac = mac_of(pod)
    run(["ip", "route", "add", pod.ipv4 + "/32", "dev", pod.device], node)
    run(["ip", "neigh", "add", pod.ipv4, "lladdr", pod.mac, "dev", pod.device, "nud",
         "permanent"], node)
    return pod


def mac_of(pod):
    return run_json(["ip", "-json", "link", "show", "eth0"], pod.netns)[0]["address"]


class Store:
    """The datastore's file, and objects into it."""

    def __init__(self, options, folder):
        self.path = os.path.join(folder, "store.db")
        self.ctl = os.path.join(options.build, "bin", "manxctl")

    def apply(self, objects):
        file = self.path + "-apply.json"
        with open(file, "w", encoding="utf-8") as out:
            json.dump({"apiVersion": "v1", "kind": "List", "items": objects}, out)
        run([self.ctl, "--datastore", self.path, "apply", "-f", file])
        os.unlink(file)


def base_objects(nodes):
    """The nodes, a pool of each family, the default namespace."""
    def v3(kind, name, spec):
        return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name},
                "spec": spec}
    return [
        *({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in nodes),
        v3("IPPool", "pool4", {"cidr": "10.65.0.0/16", "blockSize": 24}),
        v3("IPPool", "pool6", {"cidr": "fd00:10:65::/64", "blockSize": 120}),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}},
        {"apiVersion": "v1", "kind": "ServiceAccount",
         "metadata": {"name": "default", "namespace": "default"}},
    ]


def pod_object(name, node, labels, namespace="default"):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node, "serviceAccountName": "default",
                     "containers": [{"name": "c", "image": "c"}]}}


class Agent:
    """manx-agent on a node namespace, with a bpffs, a state folder and sockets of its own."""

    def __init__(self, options, folder, store, name="node-1", node=None, log_level="warn"):
        self.options = options
        self.name = name
        self.node = new_node_netns() if node is None else node
        self.store = store
        self.folder = os.path.join(folder, name)
        self.socket = os.path.join(self.folder, "cni.sock")
        self.bpffs = os.path.join(self.folder, "bpf")
        self.log = os.path.join(self.folder, "agent.log")
        os.makedirs(self.bpffs)
        self.conf = os.path.join(self.folder, "agent.yaml")
        with open(self.conf, "w", encoding="utf-8") as file:
            json.dump({"nodeName": name, "datastore": {"type": "sqlite", "path": store.path},
                       "runDir": self.folder, "stateDir": os.path.join(self.folder, "state"),
                       "bpffs": os.path.join(self.bpffs, "manx"),
                       "bird": {"enabled": False}, "metrics": {"port": 0}, "health": {"port": 0},
                       "cni": {"socket": self.socket}, "logLevel": log_level}, file)
        # The bpffs outlives the agent in the mount namespace of this process.
        self.keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c",
             'mount -t bpf bpf "$1" && echo mounted && exec sleep infinity', "sh", self.bpffs],
            stdout=subprocess.PIPE, text=True)
        if self.keeper.stdout.readline().strip() != "mounted":
            raise Failed("a bpffs could not be mounted")
        self.process = None
        self.start()

    def start(self):
        """Returns the seconds until the agent was in sync."""
        binary = os.path.join(self.options.build, "bin", "manx-agent")
        with open(self.log, "a", encoding="utf-8") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                ["nsenter", f"--mount=/proc/{self.keeper.pid}/ns/mnt", binary, "--config",
                 self.conf], stderr=log, preexec_fn=lambda: _netns.enter(self.node))
        while True:
            try:
                self.cni("STATUS", Pod.__new__(Pod), container="probe", netns="")
                return time.perf_counter() - began
            except Failed as error:
                if self.process.poll() is not None or time.perf_counter() - began > 60:
                    raise Failed(f"the agent does not serve: {error}; {self.tail()}") from error
                time.sleep(0.002)

    def tail(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()[-2000:]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def close(self):
        self.stop()
        self.keeper.kill()
        self.keeper.wait()

    def cni(self, command, pod, container=None, netns=None):
        conf = {"cniVersion": "1.1.0", "name": "bench", "type": "manx", "socket": self.socket}
        environment = {"CNI_COMMAND": command, "CNI_IFNAME": "eth0", "CNI_PATH": "/usr/lib/cni",
                       "CNI_CONTAINERID": container or f"{pod.namespace}-{pod.name}",
                       "CNI_NETNS": pod.path if netns is None else netns}
        if container is None:
            environment["CNI_ARGS"] = (f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod.namespace};"
                                       f"K8S_POD_NAME={pod.name}")
        return run([os.path.join(self.options.build, "bin", "manx")], text=json.dumps(conf),
                   env=environment)

    def add(self, name, namespace="default"):
        """A pod whose object is in the datastore."""
        pod = Pod(name, namespace)
        run(["ip", "link", "set", "lo", "up"], pod.netns)
        result = json.loads(self.cni("ADD", pod))
        pod.addresses = [one["address"].split("/")[0] for one in result["ips"]]
        for interface in result["interfaces"]:
            if interface.get("sandbox"):
                pod.mac = interface["mac"]
            else:
                pod.device = interface["name"]
        return pod


def missing_tools(names):
    return [name for name in names if not shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")]
