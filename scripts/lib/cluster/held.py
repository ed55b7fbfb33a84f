# SPDX-License-Identifier: Apache-2.0
"""Flows that stay open, and what the kernel learns on them: the part of the prober that changes of
policy, ICMP errors and path MTUs are tried with."""

import asyncio
import errno
import socket

IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h, not in the module
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24


class Held:
    """Open flows by their id."""

    def __init__(self):
        self.flows = {}

    def open(self, orders, bind):
        for q in orders:
            family = socket.AF_INET6 if ":" in q["target"] else socket.AF_INET
            kind = socket.SOCK_STREAM if q["protocol"] == "tcp" else socket.SOCK_DGRAM
            sock = socket.socket(family, kind)
            bind(sock, q["source"])
            sock.settimeout(q.get("timeout", 5.0))
            sock.connect((q["target"], q["port"]))
            sock.setblocking(False)
            self.flows[q["id"]] = sock
        return {"open": len(self.flows)}

    async def say(self, timeout):
        """id -> whether an answer came back on the flow, in time."""
        ids = list(self.flows)
        told = await asyncio.gather(*(self.exchange(self.flows[i], timeout) for i in ids))
        return dict(zip(ids, told))

    @staticmethod
    async def exchange(sock, timeout):
        loop = asyncio.get_running_loop()
        try:
            while True:  # what came late for an earlier question
                sock.recv(65536)
        except OSError:
            pass
        try:
            await loop.sock_sendall(sock, b"still there?\n")
            return bool(await asyncio.wait_for(loop.sock_recv(sock, 65536), timeout))
        except (OSError, asyncio.TimeoutError):
            return False

    def close(self):
        for sock in self.flows.values():
            sock.close()
        self.flows.clear()
        return {"open": 0}


async def find_mtu(q, bind):
    """Sends datagrams of a size that may not be fragmented until the kernel knows a smaller path
    MTU; that MTU, or 0."""
    v6 = ":" in q["target"]
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
    with sock:
        sock.setblocking(False)
        sock.setsockopt(level, IPV6_MTU_DISCOVER if v6 else IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        bind(sock, q["source"])
        sock.connect((q["target"], q["port"]))
        for _ in range(int(q["timeout"] / 0.05)):
            try:
                sock.send(b"x" * q["size"])
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return sock.getsockopt(level, IPV6_MTU if v6 else IP_MTU)
                if error.errno != errno.ECONNREFUSED:
                    raise
            await asyncio.sleep(0.05)
    return 0


async def transfer(q, bind):
    """Sends so many bytes over TCP, a line of them, and waits for the answer."""
    sock = socket.socket(socket.AF_INET6 if ":" in q["target"] else socket.AF_INET)
    with sock:
        bind(sock, q["source"])
        sock.setblocking(False)
        loop = asyncio.get_running_loop()

        async def whole():
            await loop.sock_connect(sock, (q["target"], q["port"]))
            await loop.sock_sendall(sock, b"x" * q["size"] + b"\n")
            return await loop.sock_recv(sock, 65536)

        try:
            return bool(await asyncio.wait_for(whole(), q["timeout"]))
        except (OSError, asyncio.TimeoutError):
            return False
