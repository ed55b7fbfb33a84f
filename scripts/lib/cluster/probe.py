# SPDX-License-Identifier: Apache-2.0
"""Probers in a cluster's namespaces, and questions that all of them ask at once."""

import dataclasses
import json
import os
import subprocess
import threading

from . import host
from .errors import ClusterError

PROGRAM = os.path.join(os.path.dirname(__file__), "prober.py")


class Prober:
    """One prober process; it ends with this object, or with us."""

    def __init__(self, name, netns, log):
        self.name = name
        self.log = log
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [*host.in_netns(netns), "/usr/bin/python3", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def send(self, order):
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise ClusterError(f"the prober in {self.name} is gone: {error}") from error

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            said = "; ".join(host.tail(self.log, 1))
            raise ClusterError(f"the prober in {self.name} ended: {said}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClusterError(f"the prober in {self.name}: {answer['error']}")
        return answer

    def order(self, order):
        self.send(order)
        return self.receive()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


@dataclasses.dataclass
class Question:
    asker: str  # name of a prober
    protocol: str  # tcp, udp, icmp
    source: str
    target: str
    port: int = 0
    timeout: float = 3.0
    size: int = 5  # of a datagram
    note: dict = dataclasses.field(default_factory=dict)  # the caller's own
    answer: dict = None

    @property
    def answered(self):
        return self.answer["outcome"] == "answered"


def ask_all(probers, questions):
    """Asks everything at once; each question gets its answer."""
    by_asker = {}
    for question in questions:
        by_asker.setdefault(question.asker, []).append(question)
    failures = []

    def work(name, mine):
        try:
            answers = probers[name].order(
                {
                    "ask": [
                        {
                            "id": number,
                            "protocol": q.protocol,
                            "source": q.source,
                            "target": q.target,
                            "port": q.port,
                            "timeout": q.timeout,
                            "size": q.size,
                        }
                        for number, q in enumerate(mine)
                    ]
                }
            )["answers"]
            for answer in answers:
                mine[answer["id"]].answer = answer
        except ClusterError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=item) for item in by_asker.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
