# SPDX-License-Identifier: Apache-2.0
"""What a runtime, or somebody who should not, does to one pod at a time. A job runs on a thread of
its own; what it came to is settled afterwards, when no call is under way.
"""

import concurrent.futures
import time

from .model import State
from .runtime import BAD_ENVIRONMENT, KILLED, UNKNOWN_CONTAINER

RETRY_FOR, RETRY_EVERY = 30.0, 0.1


class Failure(Exception):
    """What a storm found wrong."""


def expect(good, what):
    if not good:
        raise Failure(what)


class Job:
    calls = 1  # that it makes, at least
    kills = False  # a plugin; its call goes on in the agent

    def __init__(self, box, runtime):
        self.box, self.runtime = box, runtime
        self.persistent = False  # try again, as runtimes do
        self.answers = []

    @property
    def lab(self):
        return self.runtime.node.lab

    def __str__(self):
        return f"{type(self).__name__} {self.box}"

    def run(self):
        """On a thread."""
        raise NotImplementedError

    def settle(self, model, disturbed):
        """disturbed: the agent was killed meanwhile."""
        raise NotImplementedError

    def call(self, command, **options):
        deadline = time.monotonic() + RETRY_FOR
        while True:
            answer = self.runtime.call(command, self.box, **options)
            again = answer.passing and answer.code != KILLED and self.persistent
            if not again or time.monotonic() > deadline:
                self.answers.append(answer)
                return answer
            time.sleep(RETRY_EVERY)

    def excused(self, answer, disturbed):
        """Whether an error is one of the disturbance; any other is a finding."""
        expect(
            answer.passing and (disturbed and not self.persistent or answer.code == KILLED),
            f"{self}: {answer.code} {answer.text.strip()}",
        )


class Add(Job):
    def __init__(self, box, runtime, kill_after=None):
        super().__init__(box, runtime)
        self.kill_after = kill_after
        self.kills = kill_after is not None

    def run(self):
        self.lab.make_space(self.box.netns)
        self.call("ADD", kill_after=self.kill_after)

    def settle(self, model, disturbed):
        good = [a for a in self.answers if a.ok]
        if len(good) < len(self.answers):
            for answer in self.answers:
                if not answer.ok:
                    self.excused(answer, disturbed)
        if not good:
            model.add_unsure(self.box)
            return
        for answer in good:
            expect(len(answer.result["ips"]) == 2, f"{self}: answered {answer.text}")
            expect(answer.result == good[0].result, f"{self}: two answers differ")
            if self.box.state == State.READY:
                expect(
                    answer.result == self.box.result,
                    f"{self}: answered {answer.result}, before {self.box.result}",
                )
        model.added(self.box, good[0].result, disturbed)


class AddTwice(Add):
    """Two calls for one container at once."""

    calls = 2

    def run(self):
        self.lab.make_space(self.box.netns)
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            for call in [threads.submit(self.call, "ADD") for _ in range(2)]:
                call.result()


class AddNowhere(Job):
    """A namespace that is not there."""

    def run(self):
        self.call("ADD", netns="/run/netns/no-such-namespace")

    def settle(self, model, disturbed):
        answer = self.answers[0]
        if answer.code != BAD_ENVIRONMENT:
            self.excused(answer, disturbed)
        if self.box.state == State.FRESH:
            self.box.state = State.GONE


class Delete(Job):
    """netns: the sandbox's own, "" or None for one that was deleted first."""

    def __init__(self, box, runtime, netns="own", kill_after=None, calls=1):
        super().__init__(box, runtime)
        self.netns, self.kill_after, self.calls = netns, kill_after, calls
        self.kills = kill_after is not None

    def run(self):
        if self.netns is None:
            self.lab.drop_space(self.box.netns)
        for _ in range(self.calls):
            self.call("DEL", netns="" if self.netns == "" else None, kill_after=self.kill_after)
        if self.answers[-1].ok:
            self.lab.drop_space(self.box.netns)

    def settle(self, model, disturbed):
        for answer in self.answers:
            if not answer.ok:
                self.excused(answer, disturbed)
        if any(a.ok for a in self.answers):
            self.box.state = State.GONE
        elif self.box.state in (State.READY, State.OLD):
            self.box.state = State.UNSURE


class AddKilledDelete(Job):
    """What a runtime does whose patience with an ADD is over."""

    calls = 2
    kills = True

    def __init__(self, box, runtime, kill_after):
        super().__init__(box, runtime)
        self.kill_after = kill_after
        self.persistent = True

    def run(self):
        self.lab.make_space(self.box.netns)
        self.runtime.call("ADD", self.box, kill_after=self.kill_after)
        self.call("DEL")
        self.lab.drop_space(self.box.netns)

    def settle(self, model, disturbed):
        model.add_unsure(self.box)
        if not self.answers[0].ok:
            self.excused(self.answers[0], disturbed)
            return
        self.box.state = State.GONE


class Check(Job):
    """code: that the answer must have."""

    def __init__(self, box, runtime, code=0):
        super().__init__(box, runtime)
        self.code = code

    def run(self):
        keys = {"prevResult": self.box.result} if self.code == UNKNOWN_CONTAINER else {}
        self.call("CHECK", keys=keys)

    def settle(self, model, disturbed):
        answer = self.answers[0]
        if answer.code != self.code:
            self.excused(answer, disturbed)


class BreakNetns(Job):
    calls = 0

    def run(self):
        self.lab.drop_space(self.box.netns)

    def settle(self, model, disturbed):
        self.box.state = State.UNSURE


class BreakDevice(Job):
    calls = 0

    def run(self):
        device = self.box.result["interfaces"][0]["name"]
        self.runtime.node.run(["ip", "link", "delete", device], check=False)

    def settle(self, model, disturbed):
        self.box.state = State.UNSURE


class BreakRoute(Job):
    """The agent writes it again."""

    calls = 0
    kills = True  # not at once

    def run(self):
        for address in self.box.addresses:
            family = "-6" if ":" in address else "-4"
            self.runtime.node.run(["ip", family, "route", "delete", address], check=False)

    def settle(self, model, disturbed):
        pass


class Collect(Job):
    """GC of all that is not listed; the others are of this round, or live on."""

    def __init__(self, runtime, victims, others):
        super().__init__(None, runtime)
        self.victims = victims
        self.listed = [{"containerID": b.container, "ifname": "eth0"} for b in others]

    def __str__(self):
        return f"GC of {', '.join(map(str, self.victims)) or 'nothing'}"

    def run(self):
        self.answers.append(
            self.runtime.call_network("GC", {"cni.dev/valid-attachments": self.listed})
        )
        if self.answers[0].ok:
            for box in self.victims:
                self.lab.drop_space(box.netns)

    def settle(self, model, disturbed):
        if self.answers[0].ok:
            for box in self.victims:
                box.state = State.GONE
            return
        self.excused(self.answers[0], disturbed)
        for box in self.victims:
            if box.state in (State.READY, State.OLD):
                box.state = State.UNSURE


class Status(Job):
    def __init__(self, runtime):
        super().__init__(None, runtime)

    def run(self):
        self.answers.append(self.runtime.call_network("STATUS"))

    def settle(self, model, disturbed):
        if not self.answers[0].ok:
            self.excused(self.answers[0], disturbed)
