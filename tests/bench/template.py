#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
template.py [--rounds N] [--many N] [--json FILE] [--build DIR] [--kernel DIR]: measures microVMs that start from a
template.

It has two parts:
  start   interleaved rounds of the same bundle, from the command to the first line of its program: in namespaces, in a
          microVM from a template, and in one that boots; and QEMU's microvm machine with the same kernel, from the
          command to its first program
  memory  N microVMs of one template at the same time: what each one has for itself, guest memory included

It needs root and a KVM that runs Linux (the test host: tests/host/run --memory 4G -- python3 tests/bench/template.py
--build DIR). It prints times and ratios and does not judge them.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

import vm
from harness import machine, mode, rootfs

MEMORY = 256  # MiB


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


def own_kib(pid):
    """Returns the memory in KiB that the process has for itself, and that it shares with others."""
    own = common = 0
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            word = line.split()
            own += int(word[1]) if word[0] in ("Private_Clean:", "Private_Dirty:") else 0
            common += int(word[1]) if word[0] in ("Shared_Clean:", "Shared_Dirty:") else 0
    return own, common


def memory(b, base, d):
    with open(os.path.join(d, "config.json")) as f:
        c = json.load(f)
    c["process"]["args"] = ["/bin/sleep", "100000"]
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(c, f)
    names = [f"bench-many-{i}" for i in range(b.args.many)]
    parts = {"monitor": [], "file server": [], "shared": []}
    try:
        for name in names:
            subprocess.run([*base, "run", "--detach", "--isolation", "vm", "--bundle", d, name], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=vm.GUEST_TIMEOUT)
        for name in names:
            state = subprocess.run([*base, "state", name], check=True, capture_output=True, text=True)
            pid = json.loads(state.stdout)["pid"]
            own, common = own_kib(pid)
            parts["monitor"].append(own)
            parts["shared"].append(common)
            parts["file server"].append(sum(own_kib(p)[0] for p in machine.descendants(pid) if p != pid))
    finally:
        for name in names:
            subprocess.run([*base, "delete", "--force", name], check=False, stderr=subprocess.DEVNULL)
    out = {n: statistics.mean(v) for n, v in parts.items() if v}
    print(f"\nmemory: {b.args.many} microVMs of {MEMORY} MiB at the same time, KiB each\n"
          f"{out['monitor']:.0f} of the monitor with the guest's memory, {out['file server']:.0f} of the file server, "
          f"{out['shared']:.0f} shared")
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--many", type=int, default=20)
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
        out = {"start": start(b, base, d), "memory": memory(b, base, d)}
    finally:
        machine.umount(work)
        os.rmdir(work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"results": out, "kernel": os.uname().release}, f, indent=1)


if __name__ == "__main__":
    main()
