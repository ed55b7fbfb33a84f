# SPDX-License-Identifier: Apache-2.0
"""What arrives in a namespace, seen below its IP stack: what a policy denies must not."""

import asyncio
import socket
import struct

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86DD
PACKET_HOST = 0
WITH_PORTS = (6, 17, 132)
ECHO_REQUEST = {1: 8, 58: 128}
BUFFER = 8 << 20
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; not in the module


class Arrivals:
    """Packets to this host by its device, as [protocol, source, source port, target, port]; echo
    requests have their identifier for a source port, and port 0. Fragments but the first, and
    everything else, are left out."""

    def __init__(self, device):
        self.seen = set()
        # The protocol is given by bind(): until then nothing of other devices comes in.
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.sock.setblocking(False)
        self.sock.bind((device, ETH_P_ALL))
        asyncio.get_running_loop().add_reader(self.sock, self.drain)

    def drain(self):
        try:
            while True:
                data, (_, ether, kind, *_) = self.sock.recvfrom(128)
                if kind == PACKET_HOST and (found := parse(ether, data)):
                    self.seen.add(found)
        except BlockingIOError:
            return

    def take(self):
        """What came since the last time."""
        self.drain()
        told, self.seen = sorted(self.seen), set()
        return told


def parse(ether, data):
    if ether == ETH_P_IP and len(data) >= 20:
        if struct.unpack("!H", data[6:8])[0] & 0x1FFF:
            return None
        protocol, family = data[9], socket.AF_INET
        source, target, rest = data[12:16], data[16:20], data[(data[0] & 15) * 4 :]
    elif ether == ETH_P_IPV6 and len(data) >= 40:
        protocol, family = data[6], socket.AF_INET6
        source, target, rest = data[8:24], data[24:40], data[40:]
        if protocol == 44 and len(rest) >= 8:  # a fragment header
            if struct.unpack("!H", rest[2:4])[0] & 0xFFF8:
                return None
            protocol, rest = rest[0], rest[8:]
    else:
        return None
    if len(rest) < 8:
        return None
    if protocol in WITH_PORTS:
        ports = struct.unpack("!HH", rest[:4])
    elif rest[0] == ECHO_REQUEST.get(protocol):
        ports = (struct.unpack("!H", rest[4:6])[0], 0)
    else:
        return None
    return (
        protocol,
        socket.inet_ntop(family, source),
        ports[0],
        socket.inet_ntop(family, target),
        ports[1],
    )
