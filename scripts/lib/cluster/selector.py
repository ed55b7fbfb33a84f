# SPDX-License-Identifier: Apache-2.0
"""Calico's selector language: an evaluator of the tests' own, so that what a cluster is built and
checked by does not come from the code under test.

Grammar and meaning: ! binds before &&, && before ||; ==, in, contains, starts with and ends with
need the label; != and not in match where the label is absent.
"""

import re

from .errors import ClusterError

TOKEN = re.compile(
    r"""[ \t]*(?:
    (?P<op>\|\||&&|==|!=|!|[(){},])
  | (?P<string>'[^']*'|"[^"]*")
  | (?P<word>[A-Za-z0-9_./-]+)
)""",
    re.X,
)


def matches(selector, labels):
    """Whether a set of labels is selected; an empty selector selects all."""
    if not (selector or "").strip():
        return True
    return Parser(selector).parse()(labels)


class Parser:
    def __init__(self, text):
        self.text, self.tokens, position = text, [], 0
        text = " ".join(text.split())
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                raise ClusterError(f"selector {self.text!r}: cannot be read at {text[position:]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self.at = 0

    def parse(self):
        result = self.either()
        if self.at != len(self.tokens):
            self.fail()
        return result

    def fail(self):
        rest = " ".join(t[1] for t in self.tokens[self.at :]) or "the end"
        raise ClusterError(f"selector {self.text!r}: did not expect {rest}")

    def peek(self):
        return self.tokens[self.at][1] if self.at < len(self.tokens) else None

    def take(self, wanted=None):
        token = self.tokens[self.at] if self.at < len(self.tokens) else (None, None)
        if token[0] is None or (wanted is not None and token[1] != wanted):
            self.fail()
        self.at += 1
        return token

    def either(self):
        terms = [self.both()]
        while self.peek() == "||":
            self.take()
            terms.append(self.both())
        return lambda labels: any(t(labels) for t in terms)

    def both(self):
        terms = [self.unary()]
        while self.peek() == "&&":
            self.take()
            terms.append(self.unary())
        return lambda labels: all(t(labels) for t in terms)

    def unary(self):
        if self.peek() == "!":
            self.take()
            inner = self.unary()
            return lambda labels: not inner(labels)
        if self.peek() == "(":
            self.take()
            inner = self.either()
            self.take(")")
            return inner
        return self.atom()

    def atom(self):
        kind, word = self.take()
        if kind != "word":
            self.at -= 1
            self.fail()
        if word in ("all", "global", "has") and self.peek() == "(":
            self.take()
            label = self.take()[1] if word == "has" else None
            self.take(")")
            if word == "has":
                return lambda labels: label in labels
            return lambda labels: True
        return self.comparison(word)

    def comparison(self, label):
        op = self.take()[1]
        if op in ("==", "!="):
            value = self.string()
            if op == "==":
                return lambda labels: labels.get(label) == value
            return lambda labels: labels.get(label) != value
        if op == "in":
            values = self.strings()
            return lambda labels: labels.get(label) in values
        if op == "notin" or (op == "not" and self.take("in")):
            values = self.strings()
            return lambda labels: labels.get(label) not in values
        if op == "contains":
            value = self.string()
            return lambda labels: label in labels and value in labels[label]
        if op in ("starts", "ends"):
            self.take("with")
            value = self.string()
            test = str.startswith if op == "starts" else str.endswith
            return lambda labels: label in labels and test(labels[label], value)
        self.at -= 1
        self.fail()

    def string(self):
        kind, text = self.take()
        if kind != "string":
            self.at -= 1
            self.fail()
        return text[1:-1]

    def strings(self):
        self.take("{")
        values = set()
        while self.peek() != "}":
            values.add(self.string())
            if self.peek() == ",":
                self.take()
        self.take("}")
        return values
