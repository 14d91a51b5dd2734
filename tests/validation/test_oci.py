# SPDX-License-Identifier: Apache-2.0
"""Runs the OCI project's own validation programs (runtime-tools: validation/*, runtimetest) with caisson. Each prints
TAP. exceptions.tsv lists the expected failures one by one, with their reasons. A failure that is not listed fails the
test, and so does a listed one that does not happen.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess

import pytest
from harness import config, machine
from harness.runtime import status_of

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*(?:-\s*)?([^#]*)(?:#\s*(SKIP|TODO)?\s*(.*))?$", re.I)
NAMES = [l.strip() for l in open(os.path.join(HERE, "programs.txt")) if l.strip() and not l.startswith("#")]


# Programs that print nothing if they pass.
SILENT = {"process_rlimits_fail"}
# Commands that a wrapper of the runtime runs for programs that race with the container that they start; without these
# commands they pass only by luck. $bundle is set at `create`, $pid is the container's process at `kill`.
CALM = {
    # This program kills a process that runs `true`, but runtime.md says that `kill` of a stopped container MUST be an
    # error.
    "pidfile": ("create", """sed -i 's/"true"/"sleep", "60"/' "$bundle/config.json\""""),
    # In this program the hook and the process append to one file. `start` waits for execve, which does not mean that
    # the process has written.
    "poststart": ("create", """sed -i "s/echo 'post-start/sleep 1; &/" "$bundle/config.json\""""),
    # This program kills as soon as the status is "running": process 1 of a pid namespace gets no signal for which it
    # has no handler yet (pid_namespaces(7)).
    "killsig": ("kill", """while grep -q '^SigCgt:[[:space:]]*0*$' /proc/$pid/status; do sleep 0.01; done"""),
}


def holds(when):
    """Returns whether the condition of an exception is true on this machine."""
    if when == "always":
        return True
    if when == "hybrid":
        with open(os.path.join(machine.cgroup2_mount(), "cgroup.controllers")) as f:
            return "memory" not in f.read().split()
    if when == "no-apparmor":
        try:
            with open("/sys/module/apparmor/parameters/enabled") as f:
                return not f.read().startswith("Y")
        except FileNotFoundError:
            return True
    if when == "no-sys-resource":
        with open("/proc/self/status") as f:
            return not int(status_of(f.read())["CapBnd"], 16) & config.cap_mask(["CAP_SYS_RESOURCE"])
    if when == "kernel>=6.8":
        return tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 8)
    raise AssertionError(f"exceptions.tsv: unknown condition {when!r}")


def exceptions():
    """Returns the exceptions that hold here: [(program, text, when, reason)]."""
    out = []
    with open(os.path.join(HERE, "exceptions.tsv")) as f:
        for l in f:
            if l.strip() and not l.startswith("#"):
                program, text, when, reason = l.rstrip("\n").split("\t")
                assert len(reason) > 15, f"{program}: a reason is due"
                if holds(when):
                    out.append((program, text, when, reason))
    return out


def read_tap(text):
    """Parses TAP. Returns ([(ok, description, SKIP or TODO, reason)], plan, [errors of diagnostics])."""
    cases, plan, errors = [], None, []
    for l in text.splitlines():
        m = LINE.match(l)
        if m:
            cases.append((not m.group(1), (m.group(3) or "").strip(), (m.group(4) or "").upper(), m.group(5)))
        elif re.match(r"^1\.\.(\d+)", l):
            plan = int(l[3:].split()[0])
        elif m := re.match(r'^\s+"error": "(.+)",?$', l):
            errors.append(m.group(1))
    return cases, plan, errors


def test_list_is_complete(programs):
    """programs.txt names every program of the module's version that is pinned."""
    assert sorted(set(programs) - {"runtimetest"}) == sorted(NAMES)
    assert {e[0] for e in exceptions()} <= set(NAMES)


def wrapper_of(runtime, name):
    """Writes the runtime for a program: a script that first runs the program's command of CALM. Returns its path."""
    plain = f'exec {runtime} "$@"\n'
    if name not in CALM:
        return "#!/bin/sh\n" + plain
    command, lines = CALM[name]
    find = {"create": 'for a; do test "$last" != --bundle || bundle=$a; last=$a; done',
            "kill": f"""pid=$({runtime} state "$2" | sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')"""}
    return f'#!/bin/sh\nif test "$1" = {command}; then\n{find[command]}\n{lines}\nfi\n{plain}'


def run_program(path, kit, binary, d):
    """Runs one program with a state directory of its own. Returns the CompletedProcess."""
    os.mkdir(d)
    wrapper = os.path.join(d, "runtime")
    with open(wrapper, "w") as f:
        f.write(wrapper_of(f"{binary} --root {d}/state", os.path.basename(path)))
    os.chmod(wrapper, 0o755)
    r = subprocess.run([path], cwd=kit, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                       env={**os.environ, "RUNTIME": wrapper, "TMPDIR": d})
    # Some programs do not delete the containers that they have made.
    for id_ in subprocess.run([wrapper, "list", "-q"], capture_output=True, text=True).stdout.split():
        subprocess.run([wrapper, "delete", "--force", id_], check=True)
    return r


# These programs use one absolute cgroup path, so they run one after the other.
def group(name):
    return "cgroups" if name.startswith(("linux_cgroups_", "delete_")) else name


@pytest.fixture(scope="module")
def results(programs, kit, binary, work):
    """Runs all programs, several at once, because most of their time they sleep. Returns {name: CompletedProcess or
    exception}."""
    top = os.path.join(work, "validation-runs")
    os.mkdir(top)
    groups, out = {}, {}
    for n in NAMES:
        groups.setdefault(group(n), []).append(n)

    def go(names):
        for n in names:
            try:
                out[n] = run_program(programs[n], kit, binary, os.path.join(top, n))
            except Exception as e:  # the test of that program reports it
                out[n] = e

    before = machine.Snapshot()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(go, sorted(groups.values(), key=len, reverse=True)))
    left = machine.leftovers(before)
    if left:
        machine.sweep(before)
    out["left"] = left
    shutil.rmtree(top)
    return out


def test_nothing_left(results):
    assert not results["left"], "left on the machine:\n  " + "\n  ".join(results["left"])


def verdict(name, r):
    """Returns (the cases of TAP, the texts of the failures) of one run."""
    cases, plan, errors = read_tap(r.stdout)
    failed = [d for ok, d, todo, _ in cases if not ok and todo != "TODO"]
    if plan == 0 and not cases:
        failed += errors  # these programs report failures only in diagnostics
    elif not cases and name not in SILENT:
        failed.append("exit")
    if r.returncode != 0 or (plan is not None and plan != len(cases)):
        failed.append("exit")
    return cases, failed


@pytest.mark.parametrize("name", NAMES)
def test_validation(name, results):
    r = results[name]
    if isinstance(r, Exception):
        raise r
    cases, failed = verdict(name, r)
    listed = [t for p, t, _, _ in exceptions() if p == name]
    said = f"exit {r.returncode}, {len(cases)} cases\n{r.stdout[-3000:]}\n{r.stderr[-3000:]}"
    unexpected = [d for d in failed if not any(t == d or (t != "exit" and t in d) for t in listed)]
    assert not unexpected, f"not in exceptions.tsv: {unexpected}\n{said}"
    passing = [t for t in listed if not any(t == d or (t != "exit" and t in d) for d in failed)]
    assert not passing, f"listed in exceptions.tsv, but it passes now: {passing}"
    skips = [why or d for _, d, todo, why in cases if todo == "SKIP"]
    if skips and len(skips) == len(cases):
        pytest.skip(f"{name} says: {'; '.join(skips)}")
