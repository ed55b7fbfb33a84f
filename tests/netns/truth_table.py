# SPDX-License-Identifier: Apache-2.0
"""Cases of policy, written as truth tables: who reaches whom, by what. Pure: touches nothing.

A file is a list of cases:

  - case: NAME              # lower case and -
    means: TEXT             # where the name does not say it
    nodes: true             # the nodes ask and are asked too
    ask: [icmp]             # beside TCP, UDP and SCTP on ports 80 and 81
    steps:                  # a case of one step may leave this level out
      - apply: [OBJECT]     # as a user writes them; "{x/b.v4}" is an address of pod x/b
        write: [OBJECT]     # past manxctl, which would refuse them
        label: {KIND NAME: {key: value}}              # a value of null takes the label away
        delete: [KIND NAME]                           # of what the case has applied
        restart: true                                 # then the agents are killed and started
        invalid: [KIND NAME]                          # what the agents must report, nothing else
        not_enforced: ["KIND NAME FIELD"]             # the same, on any node
        hits: {RULE: N}                               # flows that a rule has decided, all nodes
        logs: [REGEX]                                 # lines of the agents' logs, any node
        expect: [STATEMENT]

What a step changes stays for the next ones, and is undone at the end of the case. A table says
"yes" until a statement says otherwise; the last that matches wins:

  allow|deny FROM -> TO [WHAT] [v4|v6]

FROM and TO are lists of patterns by commas: x/a, x/*, */a, n1, @n1 (pods on node n1), nodes, pods,
* (all). WHAT is a list of protocol or protocol:port; without it all is meant. A statement that
matches no question is an error. Nobody is asked by itself: that never leaves its namespace.
"""

import dataclasses
import fnmatch
import json
import re

PROTOCOLS = ("tcp", "udp", "sctp", "icmp")
PORTS = (80, 81)
FAMILIES = (4, 6)
NUMBERS = {("tcp", 4): 6, ("udp", 4): 17, ("sctp", 4): 132, ("icmp", 4): 1}
NUMBERS.update({("tcp", 6): 6, ("udp", 6): 17, ("sctp", 6): 132, ("icmp", 6): 58})
STEP_KEYS = {"apply", "write", "label", "delete", "restart", "invalid", "not_enforced", "hits"}
STEP_KEYS |= {"logs", "expect"}
CASE_KEYS = {"case", "means", "nodes", "ask", "agent", "steps"}


class CaseError(Exception):
    """A file of cases that cannot be used: where, and what was expected."""


@dataclasses.dataclass(frozen=True)
class Party:
    title: str  # "x/a", or a node's name
    node: str
    is_node: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One question of a table."""

    source: Party
    target: Party
    family: int
    protocol: str
    port: int = 0

    def __str__(self):
        port = f":{self.port}" if self.port else ""
        return f"{self.source.title} -> {self.target.title} {self.protocol}{port} v{self.family}"


@dataclasses.dataclass
class Statement:
    text: str
    allow: bool
    sources: list
    targets: list
    ways: list  # of (protocol, port or None); empty: all
    family: int = 0  # 0: both

    def matches(self, cell):
        return (
            self.family in (0, cell.family)
            and (not self.ways or any(w in self.ways for w in ways_of(cell)))
            and is_one_of(cell.source, self.sources)
            and is_one_of(cell.target, self.targets)
        )


@dataclasses.dataclass
class Step:
    apply: list
    write: list
    label: dict
    delete: list
    restart: bool
    invalid: list
    not_enforced: list
    hits: dict
    logs: list
    expect: list


@dataclasses.dataclass
class Case:
    name: str
    means: str
    nodes: bool
    ask: list
    agent: dict
    steps: list


def ways_of(cell):
    return (cell.protocol, None), (cell.protocol, cell.port)


def is_one_of(party, patterns):
    return any(matches_pattern(party, p) for p in patterns)


def matches_pattern(party, pattern):
    if pattern == "*":
        return True
    if pattern in ("nodes", "pods"):
        return party.is_node == (pattern == "nodes")
    if pattern.startswith("@"):
        return not party.is_node and party.node == pattern[1:]
    if ("/" in pattern) == party.is_node:
        return False
    return fnmatch.fnmatchcase(party.title, pattern)


def parse_statement(text):
    found = re.fullmatch(
        r"(allow|deny) (\S+) -> (\S+?)(?: ((?!v[46]\b)[a-z0-9:,]+))?(?: v([46]))?", str(text)
    )
    if not found:
        raise CaseError(f"'{text}': expected 'allow|deny FROM -> TO [WHAT] [v4|v6]'")
    verb, sources, targets, what, family = found.groups()
    ways = []
    for way in what.split(",") if what else ():
        protocol, colon, port = way.partition(":")
        if protocol not in PROTOCOLS or (colon and not port.isdigit()):
            raise CaseError(
                f"'{text}': '{way}' is none of {', '.join(PROTOCOLS)}, or one with :PORT"
            )
        ways.append((protocol, int(port) if port else None))
    return Statement(
        text, verb == "allow", sources.split(","), targets.split(","), ways, int(family or 0)
    )


def parse_case(o, where):
    if not isinstance(o, dict) or not isinstance(o.get("case"), str):
        raise CaseError(f"{where}: expected a case with a name")
    where = f"{where}, case {o['case']}"
    steps = o["steps"] if "steps" in o else [{k: v for k, v in o.items() if k in STEP_KEYS}]
    allowed = CASE_KEYS if "steps" in o else CASE_KEYS | STEP_KEYS
    if unknown := set(o) - allowed:
        raise CaseError(f"{where}: {', '.join(sorted(unknown))}: no such key")
    return Case(
        o["case"],
        o.get("means", ""),
        bool(o.get("nodes")),
        list(o.get("ask") or []),
        dict(o.get("agent") or {}),
        [parse_step(s, f"{where}, step {n}") for n, s in enumerate(steps, 1)],
    )


def parse_step(o, where):
    if unknown := set(o) - STEP_KEYS:
        raise CaseError(f"{where}: {', '.join(sorted(unknown))}: no such key")
    if "expect" not in o:
        raise CaseError(f"{where}: no 'expect'")
    return Step(
        o.get("apply") or [],
        o.get("write") or [],
        o.get("label") or {},
        o.get("delete") or [],
        bool(o.get("restart")),
        o.get("invalid") or [],
        o.get("not_enforced") or [],
        o.get("hits") or {},
        o.get("logs") or [],
        [parse_statement(t) for t in o["expect"]],
    )


def parse(documents, where="cases"):
    """The cases of a file that YAML has read."""
    cases = [parse_case(o, where) for o in documents]
    names = [c.name for c in cases]
    if twice := {n for n in names if names.count(n) > 1}:
        raise CaseError(f"{where}: two cases of the name {', '.join(sorted(twice))}")
    return cases


def cells(parties, extra=()):
    """All questions between different parties, a pod in each."""
    ways = [(p, port) for p in PROTOCOLS[:3] for port in PORTS] + [(p, 0) for p in extra]
    return [
        Cell(source, target, family, protocol, port)
        for source in parties
        for target in parties
        if source != target and not (source.is_node and target.is_node)
        for family in FAMILIES
        for protocol, port in ways
    ]


def verdicts(statements, asked):
    """Cell -> whether it is reached."""
    used = set()
    table = {}
    for cell in asked:
        table[cell] = True
        for number, statement in enumerate(statements):
            if statement.matches(cell):
                table[cell] = statement.allow
                used.add(number)
    if unused := [s.text for n, s in enumerate(statements) if n not in used]:
        raise CaseError(f"'{unused[0]}' matches no question")
    return table


def substitute(value, addresses):
    """The value with every "{PARTY.v4}" replaced; addresses: title -> family -> text."""

    def replace(found):
        title, family = found[1], int(found[2])
        if family not in addresses.get(title, {}):
            raise CaseError(f"'{found[0]}': nobody of that name has an address of that family")
        return addresses[title][family]

    return json.loads(re.sub(r"\{([a-z0-9/-]+)\.v([46])\}", replace, json.dumps(value)))


def grid(asked, told, wanted, protocol, port, family):
    """Lines of one protocol's table: rows ask; + reached, . not, and ! where that is not wanted."""
    there = [c for c in asked if (c.protocol, c.port, c.family) == (protocol, port, family)]
    rows = list(dict.fromkeys(c.source.title for c in there))
    columns = list(dict.fromkeys(c.target.title for c in there))
    by_pair = {(c.source.title, c.target.title): c for c in there}
    lines = [f"{protocol}:{port} v{family}".ljust(12) + " ".join(t.rjust(4) for t in columns)]
    for row in rows:
        marks = []
        for column in columns:
            cell = by_pair.get((row, column))
            mark = " " if cell is None else "+" if told[cell] else "."
            marks.append((mark + ("!" if cell and told[cell] != wanted[cell] else "")).rjust(4))
        lines.append(row.ljust(12) + " ".join(marks))
    return lines
