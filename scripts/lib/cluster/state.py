# SPDX-License-Identifier: Apache-2.0
"""What a cluster has on this machine, on disk before it exists, so that whatever way a run ends,
the next can take everything down: /run/manx-cluster/NAME/state.json.

Everything of a cluster lives in its own namespaces, named NAME-..., and in its own folder. To
take it down is to end what runs in those namespaces, delete them and delete the folder.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil

from . import host
from .errors import ClusterError

ROOT = "/run/manx-cluster"
# Mount points of the nodes; each node mounts its own folder over them.
NODE_FOLDERS = ("/run/manx", "/var/lib/manx", "/etc/manx")


class State:
    def __init__(self, name, data=None):
        self.name = name
        self.folder = os.path.join(ROOT, name)
        self.data = data or {
            "name": name,
            "owner": None,
            "keep": False,
            "netns": [],
            "nodes": {},
            "routers": {},
            "pods": [],
        }

    def path(self, *parts):
        """A path in the cluster's folder, whose parent exists."""
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def folder_of(self, *parts):
        path = os.path.join(self.folder, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def log(self, who):
        return self.path("log", who + ".log")

    def save(self):
        path = self.path("state.json")
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump(self.data, f, indent=1)
        os.replace(path + ".new", path)

    def netns(self, *parts):
        """The name of a namespace of this cluster; recorded before the caller makes it."""
        name = "-".join((self.name, *parts))
        if name not in self.data["netns"]:
            self.data["netns"].append(name)
            self.save()
        return name

    def forget_netns(self, name):
        self.data["netns"].remove(name)
        self.save()

    @property
    def owned(self):
        """Whether the run that made it is still at work."""
        return host.is_alive(self.data["owner"])


@contextlib.contextmanager
def lock():
    """Held while clusters are made known or taken down."""
    os.makedirs(ROOT, exist_ok=True)
    with open(os.path.join(ROOT, "lock"), "w", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def check_name(name):
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ClusterError(
            f"'{name}': a cluster's name is lower-case letters, digits and -, at most 32"
        )
    return name


def known():
    try:
        names = sorted(os.listdir(ROOT))
    except FileNotFoundError:
        return []
    return [s for s in (load(n) for n in names) if s]


def load(name):
    try:
        with open(os.path.join(ROOT, name, "state.json"), encoding="utf-8") as f:
            return State(name, json.load(f))
    except (OSError, ValueError):
        return None


def begin(name):
    """A new, empty cluster that this process owns; what an earlier run left under the name goes."""
    if os.geteuid() != 0:
        raise ClusterError("not root: network namespaces, BPF and the routers need it")
    with lock():
        earlier = load(check_name(name))
        if earlier and earlier.owned and earlier.data["owner"]["pid"] != os.getpid():
            raise ClusterError(
                f"a cluster '{name}' is in use by process {earlier.data['owner']['pid']}; "
                "--name gives this one another name"
            )
        if earlier:
            take_down(earlier)
        for other in known():
            if not other.owned and not other.data["keep"]:
                take_down(other)  # of a run that was killed
        state = State(name)
        shutil.rmtree(state.folder, ignore_errors=True)
        state.data["owner"] = host.identity(os.getpid())
        state.save()
        for folder in NODE_FOLDERS:
            if not os.path.isdir(folder):
                os.makedirs(folder)
                with open(os.path.join(ROOT, "made"), "a", encoding="utf-8") as f:
                    f.write(folder + "\n")
        return state


def take_down(state):
    """Removes everything of a cluster. The caller holds the lock."""
    inodes = {i for i in map(host.netns_inode, state.data["netns"]) if i}
    if inodes:
        host.end_processes(inodes)
    for name in state.data["netns"]:
        host.delete_netns(name)
    shutil.rmtree(state.folder, ignore_errors=True)
    if not known():
        remove_folders_made()


def remove_folders_made():
    """Folders of the machine that were made for nodes to mount over. Only when no cluster is left:
    removing one would unmount it in all namespaces."""
    made = os.path.join(ROOT, "made")
    with contextlib.suppress(FileNotFoundError), open(made, encoding="utf-8") as f:
        for folder in reversed(f.read().split()):
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # only if empty
        os.remove(made)


def end(name=None):
    """Takes down one cluster, or all that no live run owns. Returns the names taken down."""
    with lock():
        if name and not load(name):
            return []
        ended = []
        for state in known():
            mine = state.owned and state.data["owner"]["pid"] == os.getpid()
            if name not in (None, state.name) or (state.owned and not mine):
                if state.name == name:
                    raise ClusterError(
                        f"cluster '{name}' is in use by process {state.data['owner']['pid']}"
                    )
                continue
            take_down(state)
            ended.append(state.name)
        return ended
