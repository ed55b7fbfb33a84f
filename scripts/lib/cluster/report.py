# SPDX-License-Identifier: Apache-2.0
"""What a run tells: headings, what an operator would look at, checks and their count."""

import time


class Report:
    def __init__(self):
        self.passed, self.failed = 0, 0
        self.start = time.monotonic()

    def heading(self, text):
        print(f"\n== {text}  [{time.monotonic() - self.start:.1f} s]", flush=True)

    def say(self, text=""):
        print(text, flush=True)

    def show(self, command, output, most=24):
        """A command and what it printed, cut where it is long."""
        print(f"  $ {command}")
        lines = output.rstrip().splitlines()
        for line in lines[:most]:
            print("    " + line)
        if len(lines) > most:
            print(f"    ... {len(lines) - most} lines more")
        print(flush=True)

    def check(self, good, text, why=""):
        """One check; why is told where it failed."""
        if good:
            self.passed += 1
            print(f"  ok    {text}", flush=True)
        else:
            self.failed += 1
            print(f"  FAIL  {text}" + (f": {why}" if why else ""), flush=True)
        return good

    def last_line(self):
        print(f"demo: {self.passed} checks passed, {self.failed} failed", flush=True)
