# SPDX-License-Identifier: Apache-2.0
"""Interleaved rounds, medians, and bounds with what was measured beside them."""

import os
import statistics


def interleave(rounds, cases, progress=None):
    """cases: name -> function giving one sample. Each round visits each case once, the start
    rotates; the samples of one round stand at one index."""
    samples = {name: [] for name in cases}
    names = list(cases)
    for turn in range(rounds):
        for i in range(len(names)):
            name = names[(turn + i) % len(names)]
            samples[name].append(cases[name]())
        if progress:
            progress(turn)
    return samples


def spread(values, digits=3):
    """median (min-max)"""
    def text(value):
        return f"{value:.{digits}g}" if abs(value) < 10 ** digits else f"{value:.0f}"
    return f"{text(statistics.median(values))} ({text(min(values))}-{text(max(values))})"


def ratios(above, below):
    """Round by round, so that what disturbs a round disturbs both sides."""
    return [a / b for a, b in zip(above, below, strict=True)]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return (f"{len(models)} x {models[0] if models else 'CPU'}, Linux {os.uname().release}, "
            f"load {os.getloadavg()[0]:.1f}")


class Bounds:
    """Collects whether all of them hold."""

    def __init__(self):
        self.missed = 0

    def check(self, what, value, limit, at_least=False, unit="", note=""):
        fine = value >= limit if at_least else value <= limit
        self.missed += 0 if fine else 1
        side = "at least" if at_least else "at most"
        print(f"{'PASS' if fine else 'MISSED':<7}{what}: {value:.3g}{unit} ({side} {limit}{unit})"
              f"{'; ' + note if note else ''}")

    def exit_code(self, smoke):
        return 1 if self.missed and not smoke else 0
