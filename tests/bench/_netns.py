# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without names: they are gone when their descriptor is closed."""

import ctypes
import os
import threading

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter(descriptor):
    """Moves the calling thread; processes that it starts are there too."""
    _check(LIBC.setns(descriptor, CLONE_NEWNET))


def make(count=1):
    """Descriptors of so many fresh namespaces."""
    made = []

    def work():
        for _ in range(count):
            _check(LIBC.unshare(CLONE_NEWNET))
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if len(made) != count:
        raise OSError("namespaces could not be made")
    return made


def path(descriptor):
    """A path by which other processes open the namespace, while this process lives."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"
