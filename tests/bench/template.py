#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
template.py [--only PART,...] [--rounds N] [--many N] [--json FILE] [--build DIR] [--kernel DIR]: measures microVMs that start from a
template.

It has three parts:
  start   interleaved rounds of the same bundle, from the command to the first line of its program: in namespaces, in a
          microVM from a template, and in one that boots; and QEMU's microvm machine with the same kernel, from the
          command to its first program
  fresh   a microVM of 512 MiB from a template: the memory that it has for itself once its container is created, and 50 ms
          after its program has started
  memory  N microVMs of one template at the same time: what each one has for itself, guest memory included. Fewer are
          started if the host has no memory for more

It needs root and a KVM that runs Linux (the test host: tests/host/run --memory 4G -- python3 tests/bench/template.py
--build DIR). It prints times and ratios and does not judge them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import vm
from harness import machine, mode, rootfs

MEMORY = 256  # MiB
FRESH = 512  # MiB, of the machine whose first pages are counted
RESERVE = 300  # MiB that the host keeps


def bundle(b, caisson):
    d = os.path.join(b.work, "bundle")
    os.mkdir(d)
    subprocess.run([caisson, "spec", "--bundle", d], check=True)
    rootfs.make_busybox(os.path.join(d, "rootfs"), "/bin/busybox")
    with open(os.path.join(d, "config.json")) as f:
        c = json.load(f)
    c["process"].update(terminal=False, args=["/bin/echo", "first"])
    c["linux"].pop("resources", None)
    c["vm"] = {"kernel": {"path": b.kernel}, "hwConfig": {"memory": MEMORY << 20}}
    c["annotations"] = {"io.caisson.vm.boot-timeout": "300"}
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(c, f)
    return d


def start(b, base, d):
    run = [*base, "run", "--bundle", d]
    contenders = {
        "container": [*run, "--isolation", "ns", "bench-ns"],
        "template": [*run, "--isolation", "vm", "bench-template"],
        "boot": [*run, "--isolation", "vm", "--template", "off", "bench-boot"],
        "qemu microvm": b.qemu("boot"),
    }
    rows = {n: [] for n in contenders}
    for i in range(b.args.rounds + 1):
        for name, argv in contenders.items():
            r = subprocess.run([b.tools["first_line"], *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                               timeout=vm.GUEST_TIMEOUT)
            if r.returncode or not r.stdout.split():
                sys.exit(f"{name}: exit {r.returncode}: {r.stderr}")
            if i:  # the first round makes the template, and warms the caches
                rows[name].append(int(r.stdout.split()[0]) / 1e6)
    out = {n: {"ms": statistics.median(v), "min": min(v)} for n, v in rows.items()}
    print(f"\nstart: command to the program's first line, {b.args.rounds} rounds\n"
          f"{'':<16}{'median ms':>11}{'min':>9}{'/ container':>13}{'/ qemu':>9}")
    for n, r in out.items():
        r["container"], r["qemu"] = (r["ms"] / out[x]["ms"] for x in ("container", "qemu microvm"))
        print(f"{n:<16}{r['ms']:>11.1f}{r['min']:>9.1f}{r['container']:>13.2f}{r['qemu']:>9.3f}")
    return out


def kib(pid):
    """Returns the process's memory in KiB: what it has for itself, what it has written, and what it shares. The pages of
    a template in a tmpfs count as its own too if no other process maps them, so what it has written is more telling."""
    own = written = common = 0
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            word = line.split()
            own += int(word[1]) if word[0] in ("Private_Clean:", "Private_Dirty:") else 0
            written += int(word[1]) if word[0] == "Anonymous:" else 0
            common += int(word[1]) if word[0] in ("Shared_Clean:", "Shared_Dirty:") else 0
    return own, written, common


def available():
    """Returns how much memory in MiB the host could give to programs."""
    with open("/proc/meminfo") as f:
        return int(next(line for line in f if line.startswith("MemAvailable:")).split()[1]) >> 10


def sleeper(d, memory):
    with open(os.path.join(d, "config.json")) as f:
        c = json.load(f)
    c["process"]["args"] = ["/bin/sleep", "100000"]
    c["vm"]["hwConfig"]["memory"] = memory << 20
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(c, f)


def call(base, *args):
    return subprocess.run([*base, *args], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          timeout=vm.GUEST_TIMEOUT)


def monitor(base, name):
    state = subprocess.run([*base, "state", name], check=True, capture_output=True, text=True)
    return json.loads(state.stdout)["pid"]


def fresh(b, base, d):
    sleeper(d, FRESH)
    rows = []
    for i in range(b.args.rounds + 1):
        name = f"bench-fresh-{i}"
        call(base, "create", "--isolation", "vm", "--bundle", d, name)
        try:
            pid = monitor(base, name)
            created = kib(pid)[1]
            call(base, "start", name)
            time.sleep(0.05)
            if i:  # the first one makes the template
                rows.append((created, kib(pid)[1]))
        finally:
            call(base, "delete", "--force", name)
    out = {n: statistics.median(v) for n, v in zip(("created", "started"), zip(*rows))}
    print(f"\nfresh: a microVM of {FRESH} MiB from a template, KiB that the monitor and its guest have written\n"
          f"{out['created']:.0f} when the container is created, {out['started']:.0f} at 50 ms after its start")
    return out


def memory(b, base, d):
    sleeper(d, MEMORY)
    names = []
    parts = {"monitor": [], "written": [], "file server": [], "shared": []}
    call(base, "run", "--isolation", "vm", "--detach", "--bundle", d, "bench-first")  # makes the template
    call(base, "delete", "--force", "bench-first")
    before = available()
    try:
        while len(names) < b.args.many and available() > RESERVE:
            names.append(f"bench-many-{len(names)}")
            call(base, "run", "--detach", "--isolation", "vm", "--bundle", d, names[-1])
            if len(names) % 10 == 0:
                print(f"{len(names)} microVMs run, the host has {available()} MiB left")
        taken = (before - available()) / len(names)
        for name in names:
            pid = monitor(base, name)
            own, written, common = kib(pid)
            parts["monitor"].append(own)
            parts["written"].append(written)
            parts["shared"].append(common)
            parts["file server"].append(sum(kib(p)[0] for p, _ in machine.descendants(pid) if p != pid))
    finally:
        for name in names:
            subprocess.run([*base, "delete", "--force", name], check=False, stderr=subprocess.DEVNULL)
    out = {n: statistics.mean(v) for n, v in parts.items() if v} | {"machines": len(names), "host": taken * 1024}
    print(f"\nmemory: {len(names)} microVMs of {MEMORY} MiB at the same time, KiB each\n"
          f"{out['monitor']:.0f} of the monitor with the guest's memory, {out['file server']:.0f} of the file server, "
          f"{out['shared']:.0f} shared; the host has {out['host']:.0f} less for each")
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--many", type=int, default=100)
    p.add_argument("--only", default="start,fresh,memory", metavar="PART,...")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--build", default=os.path.join(os.path.dirname(vm.TESTS), "build"), metavar="DIR")
    p.add_argument("--kernel", default=mode.tuned_kernel(), metavar="DIR")
    p.set_defaults(tests="")  # vm.Bench prepares for these measurements of throughput
    args = p.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    if not args.kernel:
        p.error("no tuned kernel: images/kernel/build makes it")
    machine.unshare(machine.CLONE_NEWNS)
    machine.mount(None, "/", flags=machine.MS_REC | machine.MS_PRIVATE)
    work = f"/var/tmp/caisson-bench-template.{os.getpid()}"
    os.mkdir(work)
    machine.mount("tmpfs", work, "tmpfs", data="size=1G")
    try:
        b = vm.Bench(args, work)
        if not b.has_kvm:
            p.error("KVM does not run Linux here")
        base = [os.path.realpath(os.path.join(args.build, "runtime", "caisson")), "--root", os.path.join(work, "state")]
        d = bundle(b, base[0])
        parts = {"start": start, "fresh": fresh, "memory": memory}
        out = {n: parts[n](b, base, d) for n in args.only.split(",")}
    finally:
        machine.umount(work)
        os.rmdir(work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"results": out, "kernel": os.uname().release}, f, indent=1)


if __name__ == "__main__":
    main()
