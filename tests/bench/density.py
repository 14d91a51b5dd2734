#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""density.py [--together N] [--sequence N] [--idle N] [--only NAME] [--json FILE]: measures many containers with
caisson, crun and runc: N at once (from the start until all run, and until all are deleted), N one after the other, and
N idle ones at the same time with the memory that each uses.

It is meant for the test host (tests/host/run -- python3 tests/bench/density.py), because it needs cgroup v2 on
/sys/fs/cgroup. It exits with 1 if anything is left behind; it prints times and does not judge them.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

from harness import machine, rootfs  # noqa: E402

SLEEP = "/bin/sleep 100000"


def available_kib():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))


def sleepers():
    return sum(machine.cmdline(p) == SLEEP for p in os.listdir("/proc") if p.isdigit())


def things():
    """Counts everything that a container could leave behind."""
    return {"mounts": len(machine.mounts()), "cgroups": len(machine.cgroups()), "processes": sleepers(),
            "interfaces": len(machine.interfaces())}


class Runtime:
    def __init__(self, name, exe, bundle, work):
        self.name, self.bundle = name, bundle
        self.base = [exe, "--root", os.path.join(work, "state-" + name)]

    def __call__(self, *argv):
        # A file and not a pipe, because the container keeps it open and a pipe would not end.
        with open(os.devnull, "r+b") as null:
            subprocess.run([*self.base, *argv], check=True, stdin=null, stdout=null)

    def states(self):
        """Returns what is left in --root, except caisson's cache of filters, which stays on purpose."""
        names = [n for n in os.listdir(self.base[2]) if n != "seccomp-cache"]
        return {"states": names} if names else {}

    def up(self, i):
        self("create", "--bundle", self.bundle, f"density-{self.name}-{i}")
        self("start", f"density-{self.name}-{i}")

    def down(self, i):
        self("delete", "--force", f"density-{self.name}-{i}")


def together(rt, n):
    with ThreadPoolExecutor(n) as pool:
        t = time.monotonic()
        list(pool.map(rt.up, range(n)))
        up = time.monotonic() - t
        list(pool.map(rt.down, range(n)))
    return {"up_s": up, "all_s": time.monotonic() - t}


def sequence(rt, n):
    t = time.monotonic()
    for i in range(n):
        rt.up(i)
        rt.down(i)
    return {"each_ms": (time.monotonic() - t) * 1000 / n}


def idle(rt, n):
    before, t, made = available_kib(), time.monotonic(), 0
    try:
        for made in range(1, n + 1):
            rt.up(made - 1)
            if available_kib() < 300 * 1024:
                print(f"{rt.name}: memory for {made} only", flush=True)
                break
        cost = (before - available_kib()) / made
        up = time.monotonic() - t
    finally:
        for i in range(made):
            rt.down(i)
    return {"made": made, "kib_each": cost, "up_each_ms": up * 1000 / made,
            "down_each_ms": (time.monotonic() - t - up) * 1000 / made}


def prepare(work, caisson):
    d = os.path.join(work, "bundle")
    os.mkdir(d)
    subprocess.run([caisson, "spec", "--bundle", d], check=True)
    rootfs.make_busybox(os.path.join(d, "rootfs"), "/bin/busybox")
    with open(os.path.join(d, "config.json")) as f:
        c = json.load(f)
    c["ociVersion"] = "1.0.2"  # the newest version that all three runtimes know
    c["process"].update(terminal=False, args=SLEEP.split())
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(c, f)
    return d


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--together", type=int, default=10)
    p.add_argument("--sequence", type=int, default=100)
    p.add_argument("--idle", type=int, default=1000)
    p.add_argument("--only", metavar="NAME", help="caisson, crun or runc")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--caisson", default=os.environ.get("CAISSON", os.path.join(os.path.dirname(TESTS), "build/runtime/caisson")))
    args = p.parse_args()
    work = f"/var/tmp/caisson-density.{os.getpid()}"
    os.mkdir(work)
    bundle, failed, out = prepare(work, args.caisson), False, {}
    for name, exe in (("caisson", args.caisson), ("crun", shutil.which("crun")), ("runc", shutil.which("runc"))):
        if args.only not in (None, name):
            continue
        if not exe:
            print(f"{name}: not installed, left out")
            continue
        rt, before = Runtime(name, exe, bundle, work), things()
        row = {"together": together(rt, args.together), "sequence": sequence(rt, args.sequence), "idle": idle(rt, args.idle)}
        time.sleep(1)
        left = {k: v - before[k] for k, v in things().items() if v > before[k]}
        left.update(rt.states())
        failed |= bool(left) and name == "caisson"
        out[name] = {**row, "left": left}
        print(f"{name}: {args.together} at once up in {row['together']['up_s']:.2f} s, gone after {row['together']['all_s']:.2f} s; "
              f"one after the other {row['sequence']['each_ms']:.1f} ms each; {row['idle']['made']} idle: "
              f"{row['idle']['kib_each']:.0f} KiB, {row['idle']['up_each_ms']:.1f} ms up, {row['idle']['down_each_ms']:.1f} ms down each; "
              f"left: {left or 'nothing'}", flush=True)
    shutil.rmtree(work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(out, f, indent=1)
    sys.exit(failed)


if __name__ == "__main__":
    main()
