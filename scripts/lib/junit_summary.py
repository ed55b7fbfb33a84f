# SPDX-License-Identifier: Apache-2.0
"""Prints ctest's result as scripts/test promises it.

    junit_summary.py REPORT CTEST_STATUS

The last line is "N passed, N failed, N skipped"; the exit status is 1 if any test failed, or if
ctest itself failed.
"""

import os
import sys
import xml.etree.ElementTree as ElementTree

REQUIRE = "REQUIRE_BPF"
# What no right would bring: a tool of others that scripts/setup does not install (Go, for cnitool),
# a feature that the running kernel was built without. A test says so in these words.
NO_LACK_OF_RIGHTS = ("not installed", "the kernel has no")


def main(report, ctest_status):
    passed, failed, skipped = [], [], []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        outcome(case, passed, failed, skipped).append(case)
    required = os.environ.get(REQUIRE) == "1"
    for case in skipped:
        print(f"skipped: {case.get('name')}: {reason(case)}")
    for case in failed:
        print(f"failed: {case.get('name')}")
    if required:
        unexcused = [
            case for case in skipped if not any(word in reason(case) for word in NO_LACK_OF_RIGHTS)
        ]
        if unexcused:
            print(f"{REQUIRE}=1: {len(unexcused)} skipped tests count as failed")
        failed += unexcused
        skipped = [case for case in skipped if case not in unexcused]
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or ctest_status != 0 else 0


def outcome(case, passed, failed, skipped):
    status = case.get("status")
    if status == "run":
        return passed
    # A test whose program is missing was not run either, but did not skip by itself.
    skip = case.find("skipped")
    message = skip.get("message", "") if skip is not None else ""
    if status == "disabled" or message.startswith("SKIP_"):
        return skipped
    return failed


def reason(case):
    """What the test said when it skipped: the last line of its output that tells something."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines()]
    for index, line in enumerate(lines):
        if line.endswith(": Skipped") and index + 1 < len(lines):
            return lines[index + 1]
    lines = [line for line in lines if line and not line.startswith("[")]
    return lines[-1] if lines else "no reason given"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
