#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How tables are read and judged; and that every file of cases can be read."""

import os
import sys
import unittest

import yaml

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import truth_table  # noqa: E402
from truth_table import CaseError, Cell, Party  # noqa: E402

A, B, C = Party("x/a", "n1"), Party("x/b", "n2"), Party("y/a", "n1")
N1 = Party("n1", "n1", True)


def table(*texts, parties=(A, B, C)):
    asked = truth_table.cells(parties)
    return truth_table.verdicts([truth_table.parse_statement(t) for t in texts], asked)


class Statements(unittest.TestCase):
    def test_last_that_matches_wins(self):
        said = table("deny * -> x/a", "allow x/b -> x/a tcp:80,udp v6")
        self.assertTrue(said[Cell(B, A, 6, "tcp", 80)])
        self.assertTrue(said[Cell(B, A, 6, "udp", 81)])
        self.assertFalse(said[Cell(B, A, 4, "tcp", 80)])
        self.assertFalse(said[Cell(B, A, 6, "tcp", 81)])
        self.assertFalse(said[Cell(C, A, 6, "tcp", 80)])
        self.assertTrue(said[Cell(A, B, 4, "sctp", 80)])

    def test_patterns(self):
        for pattern, expected in (
            ("*", (True, True, True, True)),
            ("x/*", (True, True, False, False)),
            ("*/a", (True, False, True, False)),
            ("@n1", (True, False, True, False)),
            ("n1", (False, False, False, True)),
            ("n*", (False, False, False, True)),
            ("nodes", (False, False, False, True)),
            ("pods", (True, True, True, False)),
        ):
            said = tuple(truth_table.matches_pattern(p, pattern) for p in (A, B, C, N1))
            self.assertEqual(said, expected, pattern)

    def test_refused(self):
        for text in ("deny x/a", "permit * -> *", "deny * -> * quic", "deny * -> * tcp:http"):
            with self.assertRaises(CaseError, msg=text):
                truth_table.parse_statement(text)
        with self.assertRaises(CaseError):
            table("deny z/* -> *")

    def test_nobody_asks_itself_and_nodes_ask_pods_only(self):
        pairs = {(c.source, c.target) for c in truth_table.cells([A, N1, Party("n2", "n2", True)])}
        self.assertEqual(len(pairs), 4)
        self.assertNotIn((A, A), pairs)

    def test_addresses(self):
        said = truth_table.substitute({"cidr": "{x/a.v6}/128"}, {"x/a": {6: "fd00::1"}})
        self.assertEqual(said, {"cidr": "fd00::1/128"})
        with self.assertRaises(CaseError):
            truth_table.substitute("{x/b.v4}", {"x/a": {4: "10.0.0.1"}})


class Files(unittest.TestCase):
    def test_all_can_be_read(self):
        folder = os.path.join(HERE, "policy")
        names = [n for n in os.listdir(folder) if n.endswith(".yaml")]
        self.assertTrue(names)
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                cases = truth_table.parse(yaml.safe_load(f), name)
            self.assertTrue(cases and all(c.steps for c in cases), name)


if __name__ == "__main__":
    unittest.main()
