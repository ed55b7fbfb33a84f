# SPDX-License-Identifier: Apache-2.0
"""SCTP as far as a policy sees it, over raw sockets: the kernels of many machines have no SCTP.

An association is asked for by INIT and answered by INIT ACK (RFC 9260, 3.3.2 and 3.3.3); nothing
follows. The packets are made whole, with their CRC32c.
"""

import asyncio
import socket
import struct

PROTOCOL = 132
INIT, INIT_ACK = 1, 2
RWND, STREAMS, TSN = 65536, 10, 1


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = list(_table())


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def packet(source, target, kind, tag=0):
    """A packet of one chunk: INIT carries the verification tag 0, INIT ACK the asker's."""
    chunk = struct.pack(
        "!BBHIIHHI", kind, 0, 20, source << 16 | target, RWND, STREAMS, STREAMS, TSN
    )
    if kind == INIT_ACK:
        chunk = chunk[:2] + struct.pack("!H", 28) + chunk[4:] + struct.pack("!HHI", 7, 8, tag)
    header = struct.pack("!HHI", source, target, tag)
    return header + struct.pack("<I", crc32c(header + bytes(4) + chunk)) + chunk


class Sctp:
    """The associations of one family in this namespace: what is answered, and what is asked."""

    def __init__(self, family):
        self.v6 = family == socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_RAW, PROTOCOL)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setblocking(False)
        self.served = set()  # of (own address, port)
        self.waiting = {}  # (peer, its port, own port) -> future
        asyncio.get_running_loop().add_reader(self.sock, self.readable)

    def serve(self, address, port):
        self.served.add((address, port))

    def readable(self):
        try:
            while True:
                self.take(*self.sock.recvfrom(2048))
        except BlockingIOError:
            return

    def take(self, data, peer):
        peer = peer[0].split("%")[0]
        if not self.v6:
            data = data[(data[0] & 15) * 4 :]
        if len(data) < 20:
            return
        source, target, _ = struct.unpack("!HHI", data[:8])
        if data[12] == INIT:
            tag = struct.unpack("!I", data[16:20])[0]
            if any(port == target for _, port in self.served):
                self.send(target, peer, source, INIT_ACK, tag)
        elif data[12] == INIT_ACK:
            waiter = self.waiting.get((peer, source, target))
            if waiter and not waiter.done():
                waiter.set_result({"by": peer, "seen": None})

    def send(self, source, peer, target, kind, tag=0):
        try:
            self.sock.sendto(packet(source, target, kind, tag), (peer, 0))
        except OSError as error:
            waiter = self.waiting.get((peer, target, source))
            if waiter and not waiter.done():
                waiter.set_exception(error)

    async def ask(self, q, port, resend):
        loop = asyncio.get_running_loop()
        key = (q["target"], q["port"], port)
        waiter = self.waiting[key] = loop.create_future()
        senders = [
            loop.call_later(after, self.send, port, q["target"], q["port"], INIT)
            for after in resend
        ]
        try:
            return await waiter
        finally:
            del self.waiting[key]
            for sender in senders:
                sender.cancel()
