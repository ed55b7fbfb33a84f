#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The checks of the source tree that are no compiler's: lint.py CHECK.

Each check prints one line per finding, FILE:LINE: what, and fails if there was one. It looks at
the files that git knows; in an exported tree without git, at all that is not build output.
"""

import ast
import concurrent.futures
import json
import os
import re
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CODE = (".h", ".cpp", ".c")

# From the ground up: a folder may include what stands left of it, and itself.
FLOORS = ["base", "maps", "loader", "agent"]
TIDY_EXTRA = "--extra-arg=-Wno-unknown-warning-option"
TIDY_FLOORS = FLOORS[:3]
AGENT_PURE = "agent/calc"  # no input or output at all


def tracked():
    try:
        listed = (
            subprocess.run(
                ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                check=True,
                capture_output=True,
            )
            .stdout.decode()
            .split("\0")
        )
    except (OSError, subprocess.CalledProcessError):
        listed = []
        for folder, folders, names in os.walk(ROOT):
            folders[:] = [f for f in folders if f not in ("build", ".git", ".cache", "__pycache__")]
            listed += [os.path.relpath(os.path.join(folder, n), ROOT) for n in names]
    return sorted(f for f in listed if f and os.path.isfile(os.path.join(ROOT, f)))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def lines_of(path):
    return read(path).splitlines()


def kind_of(path):
    """The language of a file: by its name, or by its first line where it has no extension."""
    extension = os.path.splitext(path)[1]
    by_extension = {".sh": "shell", ".py": "python", ".cmake": "cmake"}
    if extension in CODE:
        return "c"
    if extension in by_extension:
        return by_extension[extension]
    if extension == "" and os.access(os.path.join(ROOT, path), os.X_OK):
        first = read(path).split("\n", 1)[0]
        if first.startswith("#!"):
            return "python" if "python" in first else "shell" if first.endswith("sh") else None
    return None


def without_comments(text):
    """C or C++ with comments and string contents blanked; line numbers stay."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S
    )

    def blank(match):
        found = match.group(0)
        return ('""' if found[0] in '"R' else "") + "\n" * found.count("\n")

    # An include keeps its name.
    return "\n".join(
        line if kept else blanked
        for kept, line, blanked in (
            (original.lstrip().startswith("#include"), original, cleaned)
            for original, cleaned in zip(text.split("\n"), pattern.sub(blank, text).split("\n"))
        )
    )


def check_format():
    files = [f for f in tracked() if kind_of(f) == "c"]
    found = []
    result = subprocess.run(
        ["clang-format-19", "--dry-run", "--Werror", "--ferror-limit=1", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for line in result.stderr.splitlines():
        match = re.match(r"(.*?):(\d+):\d+: error: ", line)
        if match:
            found.append(
                f"{os.path.relpath(os.path.join(ROOT, match[1]), ROOT)}:{match[2]}: "
                "not as clang-format-19 -i writes it"
            )
    if result.returncode and not found:
        found.append("clang-format-19: " + result.stderr.strip())
    return found


def check_spdx():
    found = []
    for path in tracked():
        kind = kind_of(path)
        if kind not in ("c", "shell", "python"):
            continue
        head = lines_of(path)[:2]
        in_kernel = path.startswith(("bpf/", "maps/abi/"))
        want = "GPL-2.0-only OR Apache-2.0" if in_kernel else "Apache-2.0"
        tags = [
            m[1]
            for line in head
            if (m := re.search(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", line))
        ]
        if tags != [want]:
            found.append(f"{path}:1: wants SPDX-License-Identifier: {want}")
    return found


def includes(path):
    for number, line in enumerate(lines_of(path), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if match:
            yield number, match[1] == '"', match[2]


def check_layers():
    found = []
    for path in tracked():
        if kind_of(path) != "c":
            continue
        top = path.split("/")[0]
        for number, ours, name in includes(path):
            where = f"{path}:{number}: includes {name}: "
            target = name.split("/")[0]
            own_folders = ("maps/abi/", "lib/", "progs/", "bpf/")
            if top == "bpf" and ours and not name.startswith(own_folders):
                found.append(where + "bpf/ shares only maps/abi with the rest")
            if (
                path.startswith("maps/abi/")
                and name not in ("linux/types.h",)
                and not name.startswith("maps/abi/")
            ):
                found.append(where + "a layout header stands on linux/types.h alone")
            if top in FLOORS and ours and "/" in name:
                if target in FLOORS and FLOORS.index(target) > FLOORS.index(top):
                    found.append(where + f"{top} is below {target}")
                if target in ("tests", "bpf"):
                    found.append(where + f"{top} does not know {target}")
            if path.startswith(AGENT_PURE + "/") and (
                re.match(
                    r"agent/(datastore|netlink|dataplane/(?!local_endpoint)|bgp|cni|app|metrics)",
                    name,
                )
                or name.startswith(
                    (
                        "loader/",
                        "maps/map",
                        "base/event_loop",
                        "sys/socket",
                        "netlink/",
                        "bpf/",
                        "fstream",
                    )
                )
            ):
                found.append(where + f"{AGENT_PURE} does no input or output")
            if name == "bits/stdc++.h":
                found.append(where + "not a standard header")
    return found


# What owns itself is never freed by hand outside base/, and programs speak through their own
# channels: spdlog in the agent, fmt in the tools.
# A call stands at the start of an expression; a name after a type is a declaration.
NAKED = re.compile(
    r"(?:^|[=({;,!&|?:)]|\breturn\b)\s*(?:::)?(close|free|printf|strtok|sprintf|strcpy|system)\s*\("
)


def check_resources():
    found = []
    for path in tracked():
        if kind_of(path) != "c" or not path.startswith(("maps/", "loader/", "agent/")):
            continue
        text = without_comments(read(path))
        for number, line in enumerate(text.split("\n"), 1):
            match = NAKED.search(line)
            if match:
                found.append(
                    f"{path}:{number}: naked {match[1]}(): UniqueFd, UniqueHandle, fmt or "
                    "a logger does that"
                )
            if re.search(r"\busing namespace (?!std::.*literals)", line) and path.endswith(".h"):
                found.append(f"{path}:{number}: using namespace in a header")
    return found


def check_tidy():
    """clang-tidy on the lower floors; on everything with TIDY=all in the environment: a file takes
    it 5 to 15 s, so all take half an hour."""
    build = os.environ.get("TIDY_BUILD", os.path.join(ROOT, "build", "release"))
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        compiled = {os.path.relpath(entry["file"], ROOT) for entry in json.load(f)}
    floors = FLOORS if os.environ.get("TIDY") == "all" else TIDY_FLOORS
    files = sorted(f for f in compiled if f.split("/")[0] in floors)

    def tidy(path):
        # The compiler is g++: clang does not know all of its options.
        done = subprocess.run(
            [
                "clang-tidy-19",
                "-p",
                build,
                "--quiet",
                "--extra-arg=-Wno-unknown-warning-option",
                path,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return [
            line.replace(ROOT + "/", "")
            for line in done.stdout.splitlines()
            if re.search(r": (error|warning): ", line)
        ]

    with concurrent.futures.ThreadPoolExecutor(2) as workers:
        found = [line for lines in workers.map(tidy, files) for line in lines]
    return sorted(set(found))


def check_shell():
    scripts = [f for f in tracked() if kind_of(f) == "shell"]
    result = subprocess.run(
        ["shellcheck", "-x", "-f", "gcc", *scripts], cwd=ROOT, capture_output=True, text=True
    )
    found = result.stdout.splitlines()
    if result.returncode and not found:
        found.append("shellcheck: " + result.stderr.strip())
    return found


def check_python():
    found = []
    for path in tracked():
        if kind_of(path) != "python":
            continue
        try:
            tree = ast.parse(read(path), path)
            compile(tree, path, "exec")
        except SyntaxError as error:
            found.append(f"{path}:{error.lineno}: {error.msg}")
            continue
        if ast.get_docstring(tree) is None:
            found.append(f"{path}:1: no docstring says what this file is")
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                found.append(f"{path}:{node.lineno}: except without a type")
        for number, line in enumerate(lines_of(path), 1):
            if len(line) > 100:
                found.append(f"{path}:{number}: longer than 100 columns")
    return found


def check_words():
    """Half-finished work, and relative links of the documents that lead nowhere."""
    found = []
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    files = tracked()
    for path in files:
        if kind_of(path) is None and not path.endswith((".md", ".txt", ".yaml")):
            continue
        for number, line in enumerate(lines_of(path), 1):
            if marks.search(line):
                found.append(f"{path}:{number}: unfinished: {line.strip()}")
            if path.endswith(".md"):
                for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", line):
                    if "://" in target or target.startswith("mailto:"):
                        continue
                    if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                        found.append(f"{path}:{number}: no such file: {target}")
    return found


CHECKS = {
    name[len("check_") :]: function
    for name, function in sorted(globals().items())
    if name.startswith("check_")
}


def main(arguments):
    unknown = [a for a in arguments if a not in CHECKS]
    if unknown:
        print(f"lint: no check '{unknown[0]}', there are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    findings = []
    for name in arguments or [c for c in CHECKS if c != "tidy"]:
        findings += CHECKS[name]()
    print("\n".join(findings) if findings else "nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
