# SPDX-License-Identifier: Apache-2.0
"""Commands, network namespaces and processes of this machine."""

import os
import signal
import subprocess
import time

from .errors import ClusterError

NETNS_DIR = "/run/netns"


def run(argv, stdin=None, check=True, timeout=60, env=None):
    """The finished process; ClusterError with the command's own words if it failed."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=timeout, env=env, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError(
            f"{argv[0]}: not found (scripts/setup installs it, the build makes it)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"'{' '.join(argv)}' did not end within {timeout} s") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise ClusterError(f"'{' '.join(argv)}' failed: " + "; ".join(said[-3:]))
    return done


def ip(netns, commands):
    """Runs ip commands, one a line, inside a namespace, by one process."""
    if commands:
        run(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(commands) + "\n")


def netns_path(name):
    return os.path.join(NETNS_DIR, name)


def add_netns(name, sysctls=()):
    """A namespace with loopback up. Duplicate address detection is off: addresses work at once."""
    run(["ip", "netns", "add", name])
    lines = [
        "net.ipv6.conf.all.accept_dad=0",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.default.accept_ra=0",
        *sysctls,
    ]
    set_sysctls(name, lines)
    ip(name, ["link set lo up"])


def set_sysctls(netns, assignments):
    script = "".join(
        f"echo {value} > /proc/sys/{key.replace('.', '/')}\n"
        for key, value in (a.split("=") for a in assignments)
    )
    run(["nsenter", f"--net={netns_path(netns)}", "sh", "-ec", script])


def delete_netns(name):
    if os.path.exists(netns_path(name)):
        run(["ip", "netns", "delete", name], check=False)


def netns_inode(name):
    try:
        return os.stat(netns_path(name)).st_ino
    except OSError:
        return None


def start_time(pid):
    """When a process started, in clock ticks since boot; None if there is no such process. With
    the pid it names a process for good, however often pids come round."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            stat = f.read()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    # A first thread that has ended is a process for as long as others hold its files and locks.
    ended = fields[0] in "ZX" and int(fields[17]) <= 1
    return None if ended else int(fields[19])


def identity(pid):
    return {"pid": pid, "start": start_time(pid)}


def is_alive(who):
    return bool(who) and who["start"] is not None and start_time(who["pid"]) == who["start"]


def processes_in(inodes):
    """Pids of all processes whose network namespace is one of these."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino in inodes:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def end_processes(inodes, patience=3.0):
    """Ends everything that runs in namespaces of ours: politely, then not."""
    for signo, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, patience)):
        pids = processes_in(inodes)
        for pid in pids:
            try:
                os.kill(pid, signo)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait
        while pids and time.monotonic() < deadline:
            time.sleep(0.02)
            reap()
            pids = processes_in(inodes)
        if not pids:
            return


def reap():
    """Collects children that ended, where they are ours."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def spawn(argv, log, prefix=(), env=None):
    """Starts a daemon of the cluster: its own session, output to a log file. Returns its pid."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*prefix, *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=env,
        )
    process.returncode = 0  # not waited for by this object: reap() or init collects it
    return process.pid


def in_netns(name):
    return ["nsenter", f"--net={netns_path(name)}"]


def wait_for(what, condition, timeout=10.0, every=0.05):
    """The condition's first true value; ClusterError naming what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {timeout:g} s")
        time.sleep(every)


def tail(path, lines=5):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().splitlines()[-lines:]
    except OSError:
        return []
