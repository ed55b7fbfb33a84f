# SPDX-License-Identifier: Apache-2.0
"""Nodes with a whole agent each, on one datastore, and namespaces for sandboxes. Nothing has a name
outside of the lab's own folder, and everything ends with this process, however that ends.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

import _netns
import _node
from cluster import host

UPLINK = "eno1"
OF_PARENT = ["setpriv", "--pdeathsig", "KILL"]  # ends with the thread that started it
EXPEDITED = "/sys/kernel/rcu_expedited"
PUT_BACK = 'flock -w 10 "$0" sh -c "echo 0 > $0"'


class Node:
    def __init__(self, lab, name, addresses):
        self.lab, self.name, self.addresses = lab, name, addresses
        self.folder = os.path.join(lab.folder, name)
        self.log = os.path.join(self.folder, "agent.log")
        self.socket = os.path.join(self.folder, "run", "cni.sock")
        self.bpffs = os.path.join(self.folder, "bpf")
        os.makedirs(self.bpffs)
        os.makedirs(os.path.join(self.folder, "run"))
        self.netns = _node.new_node_netns()
        script = 'mount -t bpf bpf "$1" && echo mounted && exec sleep infinity'
        self.keeper = subprocess.Popen(
            [*OF_PARENT, "unshare", "--mount", "sh", "-c", script, "sh", self.bpffs],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.keeper.stdout.readline()
        self.agent = None
        commands = [f"link add {UPLINK} type veth peer name far", "link set far up"]
        commands += [f"link set {UPLINK} up"]
        for address in addresses:
            dad = "nodad" if ":" in address else ""
            commands.append(f"address add {address} dev {UPLINK} {dad}")
        self.run(["ip", "-batch", "-"], stdin="\n".join(commands) + "\n")
        self.configure()

    def configure(self):
        self.conf = os.path.join(self.folder, "agent.yaml")
        with open(self.conf, "w", encoding="utf-8") as f:
            json.dump(
                {
                    "nodeName": self.name,
                    "datastore": {"type": "sqlite", "path": self.lab.datastore},
                    "runDir": os.path.dirname(self.socket),
                    "stateDir": os.path.join(self.folder, "state"),
                    "bpffs": os.path.join(self.bpffs, "manx"),
                    "uplinks": f"^{UPLINK}$",
                    "bird": {"enabled": False},
                    "metrics": {"port": 0},
                    "health": {"port": 0},
                },
                f,
            )

    @property
    def netns_path(self):
        return _netns.path(self.netns)

    @property
    def records(self):
        return os.path.join(self.folder, "state", "endpoints")

    @property
    def pins(self):
        """Where they are for this process."""
        return f"/proc/{self.keeper.pid}/root{self.bpffs}/manx"

    def enter(self):
        return [
            "nsenter",
            f"--mount=/proc/{self.keeper.pid}/ns/mnt",
            f"--net=/proc/{os.getpid()}/fd/{self.netns}",
        ]

    def run(self, argv, stdin=None, check=True):
        return host.run([*self.enter(), *argv], stdin=stdin, check=check)

    def spawn_agent(self):
        binary = os.path.join(self.lab.binaries, "manx-agent")
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                [*OF_PARENT, *self.enter(), binary, "--config", self.conf],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end_agent(self, signo=signal.SIGTERM):
        if self.agent:
            with contextlib.suppress(ProcessLookupError):
                self.agent.send_signal(signo)
            self.agent.wait(20)
            self.agent = None


class Lab:
    def __init__(self, binaries):
        self.binaries = binaries
        self.folder = tempfile.mkdtemp(prefix="manx-storm-")
        self.datastore = os.path.join(self.folder, "store.db")
        os.mkdir(os.path.join(self.folder, "netns"))
        self.nodes = []
        self.spaces = {}  # path -> descriptor
        self.expedited = Expedited()

    def ctl(self, *words):
        binary = os.path.join(self.binaries, "manxctl")
        return host.run([binary, "--datastore", self.datastore, *words]).stdout

    def apply(self, items):
        path = os.path.join(self.folder, "objects.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "List", "items": items}, f)
        self.ctl("apply", "-f", path)

    def hold_lock(self, seconds):
        """On the datastore, against all writers."""
        with contextlib.closing(sqlite3.connect(self.datastore, timeout=20)) as db:
            db.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            db.rollback()

    # Namespaces of sandboxes, by a path that no other has or had.

    def space(self, name):
        return os.path.join(self.folder, "netns", name)

    def make_space(self, path):
        if path not in self.spaces:
            self.spaces[path] = _netns.make()[0]
            os.symlink(_netns.path(self.spaces[path]), path)

    def drop_space(self, path):
        descriptor = self.spaces.pop(path, None)
        if descriptor is not None:
            os.remove(path)
            os.close(descriptor)

    def close(self):
        for node in self.nodes:
            node.end_agent(signal.SIGKILL)
            node.keeper.kill()
            node.keeper.wait()
        for path in list(self.spaces):
            self.drop_space(path)
        self.expedited.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Expedited:
    """The kernel's setting that agents have on for moments, with a lock on it. One that is killed
    then leaves it on, with a note for the next in its BPF file system; where that is gone too,
    put_back() is called for. In the end, however this process ends, it is off if it was."""

    def __init__(self):
        self.keeper = None
        with contextlib.suppress(FileNotFoundError), open(EXPEDITED, encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)  # no agent has it on for the moment
            if f.read().strip() == "0" and os.access(EXPEDITED, os.W_OK):
                self.keeper = self.start_keeper()

    def start_keeper(self):
        """Waits for close(), or the end of this process: then a little for that of its agents. It
        is not of our family, so that what ends all of that lets it be."""
        return subprocess.Popen(
            ["setsid", "--fork", "sh", "-c", f"read -r word || sleep 1; {PUT_BACK}", EXPEDITED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def put_back(self):
        if self.keeper:
            host.run(["sh", "-c", PUT_BACK, EXPEDITED])

    def close(self):
        if self.keeper:
            self.keeper.communicate("end\n")
