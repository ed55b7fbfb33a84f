#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The program in each namespace of a cluster that answers and asks: TCP, UDP, SCTP and ICMP.

Standard input has one JSON object a line; each is answered by one line:
  {"serve": {"name": N, "addresses": [A], "tcp": [port], "udp": [port], "sctp": [port],
             "watch": device}}                                             -> {"serving": count}
  {"ask": [{"id", "protocol", "source", "target", "port", "timeout"}]}     -> {"answers": [...]}
All questions of a line run at once. An answer has id, outcome (answered, refused, silent, error),
source_port (the identifier for ICMP), by (who answered) and seen (our address as it saw it).
No two questions of a namespace have the same source port, for tens of thousands of questions.
A question of UDP may have a "size" of its datagram. Flows that stay open, path MTUs: held.py.
  {"open": [QUESTION]}, {"say": seconds} -> {id: whether it was answered}, {"close": {}}
  {"mtu": QUESTION} -> {"mtu": N}; {"transfer": QUESTION} -> {"answered": BOOL}
  {"arrived": {}} -> {"arrived": [...]}: what came in by the watched device since the last time.
  {"stream": {"id", ... , "seconds", "every"}} sends numbered datagrams at a steady pace and answers
  with how many came back: {"sent", "received", "longest_gap"}.
It ends when its input does.
"""

import asyncio
import errno
import json
import os
import socket
import struct
import sys
import time

from arrivals import Arrivals
from held import Held, find_mtu, transfer
from sctp import Sctp

RESEND = (0.0, 0.25, 0.5, 1.0, 2.0)  # when an unanswered datagram is sent again

SOURCE_PORTS = range(10000, 32000)  # below those that the kernel gives


class SourcePorts:
    """The next source port that nobody has had for long: a live flow of an earlier question must
    not answer for a new one."""

    def __init__(self):
        self.next = SOURCE_PORTS.start

    def take(self):
        port, self.next = self.next, self.next + 1
        if self.next == SOURCE_PORTS.stop:
            self.next = SOURCE_PORTS.start
        return port

    def bind(self, sock, address):
        """Binds to the next one; one that something else holds is left out."""
        for _ in SOURCE_PORTS:
            try:
                port = self.take()
                sock.bind((address, port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no source port is free")


PORTS = SourcePorts()
HELD = Held()


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def reached(name, peer):
    return json.dumps({"by": name, "seen": peer}).encode() + b"\n"


class Answerer(asyncio.DatagramProtocol):
    def __init__(self, name):
        self.name, self.transport = name, None

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data + b"|" + reached(self.name, addr[0]), addr)


class Asker(asyncio.DatagramProtocol):
    """One UDP question: the first datagram that comes back, or the error that did."""

    def __init__(self):
        self.result = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if not self.result.done():
            self.result.set_result(data)

    def error_received(self, exc):
        if not self.result.done():
            self.result.set_exception(exc)


async def serve(order):
    loop = asyncio.get_running_loop()
    count = 0

    async def on_connection(reader, writer):
        try:
            while await reader.readline():
                writer.write(reached(order["name"], writer.get_extra_info("peername")[0]))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    for address in order["addresses"]:
        for port in order.get("tcp", []):
            await asyncio.start_server(
                on_connection, address, port, family=family_of(address), limit=1 << 24
            )
            count += 1
        for port in order.get("udp", []):
            await loop.create_datagram_endpoint(
                lambda: Answerer(order["name"]), (address, port), family=family_of(address)
            )
            count += 1
        for port in order.get("sctp", []):
            sctp(family_of(address)).serve(address, port)
            count += 1
    if "watch" in order:
        WATCHED.append(Arrivals(order["watch"]))
    return {"serving": count}


WATCHED = []  # of Arrivals, one at most
SCTP = {}


def sctp(family):
    if family not in SCTP:
        SCTP[family] = Sctp(family)
    return SCTP[family]


async def ask_sctp(q, answer):
    answer["source_port"] = PORTS.take()
    return await sctp(family_of(q["target"])).ask(q, answer["source_port"], RESEND)


def outcome_of(error):
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "silent"
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "refused"
    return f"error: {os.strerror(error.errno) if getattr(error, 'errno', None) else error}"


async def ask_tcp(q, answer):
    # The socket is made here so that its port is known also where nothing answers.
    sock = socket.socket(family_of(q["target"]), socket.SOCK_STREAM)
    sock.setblocking(False)
    answer["source_port"] = PORTS.bind(sock, q.get("source") or "")
    writer = None
    try:
        await asyncio.get_running_loop().sock_connect(sock, (q["target"], q["port"]))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"hello\n")
        return json.loads(await reader.readline())
    finally:
        if writer:  # the socket is the transport's now
            writer.close()
        else:
            sock.close()


async def ask_udp(q, answer):
    loop = asyncio.get_running_loop()
    sock = socket.socket(family_of(q["target"]), socket.SOCK_DGRAM)
    sock.setblocking(False)
    answer["source_port"] = PORTS.bind(sock, q.get("source") or "")
    sock.connect((q["target"], q["port"]))
    transport, asker = await loop.create_datagram_endpoint(Asker, sock=sock)
    payload = b"h" * q.get("size", 5)
    senders = [loop.call_later(after, transport.sendto, payload) for after in RESEND]
    try:
        return json.loads((await asker.result).split(b"|", 1)[1])
    finally:
        for sender in senders:
            sender.cancel()
        transport.close()


class Pinger:
    """The echo requests of one family in this namespace, told apart by their identifier."""

    def __init__(self, family):
        self.v6 = family == socket.AF_INET6
        self.sock = socket.socket(
            family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if self.v6 else socket.IPPROTO_ICMP
        )
        self.sock.setblocking(False)
        self.waiting = {}
        self.next = os.getpid() * 7 % 60000
        asyncio.get_running_loop().add_reader(self.sock, self.readable)

    def readable(self):
        data, addr = self.sock.recvfrom(2048)
        if not self.v6:
            data = data[(data[0] & 15) * 4 :]
        if len(data) >= 8 and data[0] == (129 if self.v6 else 0):
            waiter = self.waiting.get(struct.unpack("!H", data[4:6])[0])
            if waiter and not waiter.done():
                waiter.set_result({"by": addr[0].split("%")[0], "seen": None})

    def send(self, identifier, sequence, target):
        header = struct.pack("!BBHHH", 128 if self.v6 else 8, 0, 0, identifier, sequence)
        if not self.v6:  # the kernel does it for ICMPv6
            header = struct.pack("!BBHHH", 8, 0, checksum(header + b"hello!"), identifier, sequence)
        try:
            self.sock.sendto(header + b"hello!", (target, 0))
        except OSError as error:
            waiter = self.waiting.get(identifier)
            if waiter and not waiter.done():
                waiter.set_exception(error)

    async def ask(self, q, answer):
        loop = asyncio.get_running_loop()
        self.next = self.next % 65000 + 1
        identifier = answer["source_port"] = self.next
        waiter = self.waiting[identifier] = loop.create_future()
        senders = [
            loop.call_later(after, self.send, identifier, number, q["target"])
            for number, after in enumerate(RESEND)
        ]
        try:
            return await waiter
        finally:
            del self.waiting[identifier]
            for sender in senders:
                sender.cancel()


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


PINGERS = {}


def pinger(q):
    # A raw socket is bound to its source where that is given: one of each.
    family, source = family_of(q["target"]), q.get("source")
    if (family, source) not in PINGERS:
        PINGERS[family, source] = Pinger(family)
        if source:
            PINGERS[family, source].sock.bind((source, 0))
    return PINGERS[family, source]


WAYS = {"tcp": ask_tcp, "udp": ask_udp, "sctp": ask_sctp}


async def ask(q):
    answer = {"id": q["id"], "source_port": 0, "by": None, "seen": None}
    try:
        how = WAYS.get(q["protocol"]) or pinger(q).ask
        said = await asyncio.wait_for(how(q, answer), q["timeout"])
        answer.update(outcome="answered", **said)
    except (OSError, asyncio.TimeoutError, ValueError) as error:
        answer["outcome"] = outcome_of(error)
    return answer


class Stream(asyncio.DatagramProtocol):
    def __init__(self):
        self.arrivals = {}

    def datagram_received(self, data, addr):
        self.arrivals.setdefault(int(data.split(b"|", 1)[0]), time.monotonic())

    def error_received(self, exc):
        pass  # counted by what does not come back


async def stream(q):
    """A steady stream of datagrams, each of which wants its answer: what a restart may not lose."""
    sock = socket.socket(family_of(q["target"]), socket.SOCK_DGRAM)
    sock.bind((q.get("source") or "", 0))
    sock.connect((q["target"], q["port"]))
    transport, watcher = await asyncio.get_running_loop().create_datagram_endpoint(
        Stream, sock=sock
    )
    start = time.monotonic()
    sent = 0
    while time.monotonic() - start < q["seconds"]:
        transport.sendto(str(sent).encode())
        sent += 1
        await asyncio.sleep(max(0.0, start + sent * q["every"] - time.monotonic()))
    await asyncio.sleep(1.0)
    transport.close()
    times = sorted(watcher.arrivals.values())
    gaps = [b - a for a, b in zip(times, times[1:])]
    return {
        "sent": sent,
        "received": len(watcher.arrivals),
        "longest_gap": max(gaps, default=0.0),
    }


async def handle(order):
    if "serve" in order:
        return await serve(order["serve"])
    if "stream" in order:
        return await stream(order["stream"])
    if "open" in order:
        return HELD.open(order["open"], PORTS.bind)
    if "say" in order:
        return await HELD.say(order["say"])
    if "close" in order:
        return HELD.close()
    if "mtu" in order:
        return {"mtu": await find_mtu(order["mtu"], PORTS.bind)}
    if "transfer" in order:
        return {"answered": await transfer(order["transfer"], PORTS.bind)}
    if "arrived" in order:
        return {"arrived": [a for w in WATCHED for a in w.take()]}
    return {"answers": await asyncio.gather(*map(ask, order["ask"]))}


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            result = await handle(json.loads(line))
        except OSError as error:
            result = {"error": str(error)}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
