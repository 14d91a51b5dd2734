#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
bench.py [--rounds N] [--json FILE] [--caisson PATH]: caisson beside runc and crun, in one run.

Measures `run` and `create; start; delete --force` of /bin/true with the default config.json (runc's `spec`; without
terminal), and the bare kernel work (bare.c) as the floor. Rounds are interleaved, so that what the machine does
meanwhile hits all alike; the numbers that count are the ratios of medians. Nothing is asserted.

All run in one private mount namespace with a plain cgroup2 mount on /sys/fs/cgroup and a config without
`resources`, because crun 1.8 refuses hybrid hosts; "caisson, full" is the default config unchanged, with its
device rules (an eBPF program).
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

from harness import machine, rootfs  # noqa: E402


def build(work):
    out = {}
    for n in ("measure", "bare"):
        out[n] = os.path.join(work, n)
        subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Werror", "-o", out[n], os.path.join(HERE, n + ".c")], check=True)
    return out


def bundle(work, name, spec, edit):
    b = os.path.join(work, name)
    os.mkdir(b)
    rootfs.make_busybox(os.path.join(b, "rootfs"), "/bin/busybox")
    c = json.loads(json.dumps(spec))
    c["process"].update(terminal=False, args=["/bin/true"])
    edit(c)
    with open(os.path.join(b, "config.json"), "w") as f:
        json.dump(c, f)
    return b


def default_spec(work, runtime):
    d = os.path.join(work, "spec")
    os.mkdir(d)
    subprocess.run([runtime, "spec", "--bundle", d], check=True)
    with open(os.path.join(d, "config.json")) as f:
        return json.load(f)


def contenders(args, work, tools):
    """[(name, operation, argv)]"""
    spec = default_spec(work, args.caisson)
    spec["ociVersion"] = "1.0.2"  # the newest that all three know
    lean = bundle(work, "lean", spec, lambda c: c["linux"].pop("resources", None))
    full = bundle(work, "full", spec, lambda c: None)
    out = [("bare", "run", [tools["bare"], lean + "/rootfs"]),
           ("bare+cgroup", "run", [tools["bare"], lean + "/rootfs", "/sys/fs/cgroup"])]
    runtimes = [("caisson", args.caisson, lean), ("caisson, full", args.caisson, full)]
    for n in ("crun", "runc"):
        p = shutil.which(n, path="/usr/bin:/usr/sbin")
        if p:
            runtimes.append((n, p, lean))
        else:
            print(f"{n}: not installed, left out")
    for n, exe, b in runtimes:
        base = [exe, "--root", os.path.join(work, "state-" + n.split(",")[0])]
        i = "bench-" + n.replace(", ", "-")
        out.append((n, "run", [*base, "run", "--bundle", b, i]))
        out.append((n, "create+start+delete", [*base, "create", "--bundle", b, i, ";", *base, "start", i, ";",
                                               *base, "delete", "--force", i]))
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=60)
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--caisson", default=os.environ.get("CAISSON", os.path.join(os.path.dirname(TESTS), "build/runtime/caisson")))
    args = p.parse_args()
    args.caisson = os.path.realpath(args.caisson)
    machine.unshare(machine.CLONE_NEWNS)
    machine.mount(None, "/", flags=machine.MS_REC | machine.MS_PRIVATE)
    work = f"/var/tmp/caisson-bench.{os.getpid()}"
    os.mkdir(work)
    machine.mount("tmpfs", work, "tmpfs")
    machine.umount("/sys/fs/cgroup")
    machine.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    try:
        rows = measure(args, work, build(work))
    finally:
        machine.umount(work)
        os.rmdir(work)
    report(rows, args)


def measure(args, work, tools):
    rows = {(n, op): {"ns": [], "kib": [], "argv": argv} for n, op, argv in contenders(args, work, tools)}
    for i in range(args.rounds + 3):
        for key, row in rows.items():
            r = subprocess.run([tools["measure"], *row["argv"]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
            ns, kib, rc = map(int, r.stdout.split())
            if rc:
                sys.exit(f"{key}: exit {rc}: {r.stderr}")
            if i >= 3:  # the first rounds warm the caches
                row["ns"].append(ns)
                row["kib"].append(kib)
        if i % 10 == 9:
            print(f"round {i + 1} of {args.rounds + 3}", file=sys.stderr, flush=True)
    return rows


def report(rows, args):
    med = {k: statistics.median(r["ns"]) / 1e6 for k, r in rows.items()}
    out = []
    for op in ("run", "create+start+delete"):
        print(f"\n{op} of /bin/true, {args.rounds} interleaved rounds\n"
              f"{'':<16}{'median ms':>11}{'p10':>8}{'p90':>8}{'/ crun':>9}{'/ runc':>9}{'/ bare':>9}{'peak KiB':>10}")
        for (n, o), r in rows.items():
            if o != op:
                continue
            q = statistics.quantiles([x / 1e6 for x in r["ns"]], n=10)
            ratio = {b: med[(n, o)] / med[(b, "run" if b == "bare" else o)] for b in ("crun", "runc", "bare")
                     if (b, "run" if b == "bare" else o) in med}
            cells = "".join(f"{ratio[b]:>9.2f}" if b in ratio else f"{'-':>9}" for b in ("crun", "runc", "bare"))
            print(f"{n:<16}{med[(n, o)]:>11.2f}{q[0]:>8.2f}{q[-1]:>8.2f}{cells}{max(r['kib']):>10}")
            out.append({"name": n, "operation": o, "median_ms": med[(n, o)], "p10_ms": q[0], "p90_ms": q[-1],
                        "ratio": ratio, "peak_kib": max(r["kib"]), "rounds": args.rounds})
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"results": out, "kernel": os.uname().release, "caisson": args.caisson}, f, indent=1)
    else:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
