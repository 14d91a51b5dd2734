# SPDX-License-Identifier: Apache-2.0
"""
The OCI project's own validation programs (runtime-tools: validation/*, runtimetest) against the program under test.

Each prints TAP. What fails and is expected to is listed, one by one with its reason, in exceptions.tsv; a failure that
is not listed and a listed one that does not happen both fail here.
"""
import os
import re
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?([^#]*)(?:#\s*(SKIP|TODO)?\s*(.*))?$", re.I)
NAMES = [l.strip() for l in open(os.path.join(HERE, "programs.txt")) if l.strip() and not l.startswith("#")]


def exceptions():
    """[(program, text, reason)]; text "exit" stands for a program that gives up before its TAP is complete."""
    out = []
    with open(os.path.join(HERE, "exceptions.tsv")) as f:
        for l in f:
            if l.strip() and not l.startswith("#"):
                program, text, reason = l.rstrip("\n").split("\t")
                assert len(reason) > 15, f"{program}: a reason is due"
                out.append((program, text, reason))
    return out


def test_list_is_complete(programs):
    """programs.txt names every program of the module's version that is pinned."""
    assert sorted(set(programs) - {"runtimetest"}) == sorted(NAMES)
    assert {p for p, _, _ in exceptions()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_validation(name, programs, kit, binary, tmp):
    wrapper = os.path.join(tmp, "runtime")
    with open(wrapper, "w") as f:
        f.write(f'#!/bin/sh\nexec {binary} --root {tmp}/state "$@"\n')
    os.chmod(wrapper, 0o755)
    r = subprocess.run([programs[name]], cwd=kit, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                       env={**os.environ, "RUNTIME": wrapper, "TMPDIR": tmp})
    cases, plan = [], None
    for l in r.stdout.splitlines():
        m = LINE.match(l)
        if m:
            cases.append((not m.group(1), (m.group(3) or "").strip(), (m.group(4) or "").upper(), m.group(5)))
        elif re.match(r"^1\.\.(\d+)", l):
            plan = int(l[3:].split()[0])
    failed = [d for ok, d, todo, _ in cases if not ok and todo != "TODO"]
    if r.returncode != 0 or (plan is not None and plan != len(cases)) or not cases:
        failed.append("exit")
    listed = [(t, why) for p, t, why in exceptions() if p == name]
    said = f"exit {r.returncode}, plan {plan}, {len(cases)} cases\n{r.stdout[-3000:]}\n{r.stderr[-3000:]}"
    unexpected = [d for d in failed if not any(t == d or (t != "exit" and t in d) for t, _ in listed)]
    assert not unexpected, f"not in exceptions.tsv: {unexpected}\n{said}"
    passing = [t for t, _ in listed if not any(t == d or (t != "exit" and t in d) for d in failed)]
    assert not passing, f"listed in exceptions.tsv, but it passes now: {passing}"
    skips = [why or d for _, d, todo, why in cases if todo == "SKIP"]
    if skips and len(skips) == len(cases):
        pytest.skip(f"{name} says: {'; '.join(skips)}")
