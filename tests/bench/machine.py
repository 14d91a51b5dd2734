#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""machine.py [--rounds N] [--build DIR] [--json FILE]: boots the Debian disk of tests/lib/debian-disk, by `caisson run --disk`
and by QEMU, and measures the time from the command to the first line of the kernel and to the banner of the sshd in it.

Both get a new overlay of the same disk, the kernel, initramfs and command line that are on it, 1 GiB, one CPU, one virtio network card
and a serial console. Where KVM runs Linux (the test host), caisson has its built-in machine, and QEMU the same KVM. Elsewhere
both run in QEMU's software. QEMU's machine is microvm with virtio-mmio, the fastest that it has for a kernel given by name, and the one most like
caisson's: q35 has a PCI bus and firmware besides (--machine q35). In software microvm needs the frequency of the TSC on the command line, or
the guest's clock hardly moves. QEMU's network is the one in its own process (user), because any other needs a set-up
that is not a part of its command; caisson's time includes the set-up of its bridge and the published port.
The row "looks" is caisson's without --kernel and --initrd: a microVM looks into the disk for them first.

The disk gets host keys and addresses beforehand, and cloud-init does not run, because it takes ten minutes in the test host:

    tests/host/run --cpus 1 --memory 4G -- python3 tests/bench/machine.py --build DIR

Rounds are interleaved, after one that is not counted. The script asserts nothing about times.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

import vm  # noqa: E402
from harness import machine, mode, rootfs  # noqa: E402

LIMIT = 900  # seconds for one boot
PORTS = {"caisson": 2222, "looks": 2222, "QEMU": 2223}
SUBNET = "10.1.0.0/24"
OURS, THEIRS = "10.1.0.2/24", "10.0.2.15/24"  # the first address of that network, and that of QEMU's
WORDS = " cloud-init=disabled systemd.mask=systemd-networkd-wait-online.service"
LINK = f"[Match]\nType=ether\n[Network]\nAddress={OURS}\nAddress={THEIRS}\nIPv6AcceptRA=no\n"


class Machines:
    def __init__(self, args, work):
        self.args, self.work, self.count = args, work, 0
        self.kvm = vm.runs_linux()
        self.base = [args.caisson, "--root", work + "/state"]
        self.env = {**os.environ, "CAISSON_MACHINES": work + "/machines", "TMPDIR": work}
        self.look = ["--hypervisor", "kvm" if self.kvm else "qemu"]
        script = os.path.join(TESTS, "lib", "debian-disk")
        self.disk = machine.outside([script], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
        self.caisson("net", "create", "--subnet", SUBNET, "bench")
        self.take_kernel()
        self.prepare()

    def caisson(self, *words):
        return subprocess.run([*self.base, *words], env=self.env, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT)

    def looking(self, command, *words):
        return self.caisson("disk", command, "--kernel", mode.packaged_kernel(rootfs.CACHE), *self.look, "--backing", "/", *words)

    def overlay(self, name):
        path = f"{self.work}/{name}.qcow2"
        if os.path.exists(path):
            os.unlink(path)
        self.caisson("disk", "create", "-f", "qcow2", "-b", self.disk, "-F", "qcow2", path)
        return path

    def take_kernel(self):
        """Copies the kernel, the initramfs and the command line out of the disk."""
        tar = self.work + "/boot.tar"
        self.looking("tar-out", self.disk, "/boot", tar)
        with tarfile.open(tar) as t:
            for m in t.getmembers():
                name = os.path.basename(m.name).split("-")[0]
                if name in ("vmlinuz", "initrd.img"):
                    with open(f"{self.work}/{name}", "wb") as f:
                        f.write(t.extractfile(m).read())
                if name == "grub.cfg":
                    lines = t.extractfile(m).read().decode().splitlines()
        self.cmdline = " ".join(next(line for line in lines if line.strip().startswith("linux")).split()[2:])
        self.cmdline += WORDS

    def prepare(self):
        """Puts host keys and addresses into an overlay, which is the disk from then on."""
        tree, tar = self.work + "/tree", self.work + "/tree.tar"
        os.makedirs(tree + "/etc/ssh")
        os.makedirs(tree + "/etc/systemd/network")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tree + "/etc/ssh/ssh_host_ed25519_key"], check=True)
        with open(tree + "/etc/systemd/network/10-bench.network", "w") as f:
            f.write(LINK)
        os.makedirs(tree + "/etc/systemd/system/multi-user.target.wants")
        os.symlink("/lib/systemd/system/systemd-networkd.service", tree + "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
        subprocess.run(["tar", "-C", tree, "--owner=0", "--group=0", "-cf", tar, "etc"], check=True)
        prepared = self.overlay("prepared")
        self.looking("tar-in", prepared, "/", tar)
        self.disk = prepared

    def ours(self, name, looks=False):
        self.count += 1
        words = ["run", "--isolation", "vm", *self.look, "--inspect-kernel", mode.packaged_kernel(rootfs.CACHE), "--disk", self.overlay(name),
                 "--backing", "/", "-m", "1G", "--network", "bench", "-p", f"{PORTS[name]}:22"]
        if not looks:
            words += ["--kernel", self.work + "/vmlinuz", "--initrd", self.work + "/initrd.img", "--append", self.cmdline]
        else:
            words += ["--append", WORDS.strip()]
        return [*self.base, *words, f"bench{os.getpid()}-{self.count}"]

    def qemu(self, name):
        microvm = self.args.machine == "microvm"
        bus = "device" if microvm else "pci"
        clock = [] if self.kvm or not microvm else [f"tsc_early_khz={vm.tsc_khz()}"]
        argv = [vm.QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1", "-m", "1G",
                "-machine", "microvm,acpi=on,pic=off,pit=off,rtc=on,isa-serial=on" if microvm else "q35", "-global", "virtio-mmio.force-legacy=false",
                "-kernel", self.work + "/vmlinuz", "-initrd", self.work + "/initrd.img", "-append", " ".join([*clock, self.cmdline]), "-serial", "stdio",
                *(["-accel", "kvm", "-cpu", "host"] if self.kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]),
                "-object", "rng-builtin,id=rng", "-device", f"virtio-rng-{bus},rng=rng",
                "-drive", f"if=none,id=disk,format=qcow2,file={self.overlay(name)}", "-device", f"virtio-blk-{bus},drive=disk",
                "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{PORTS[name]}-:22", "-device", f"virtio-net-{bus},netdev=net,mac=02:00:00:00:00:01"]
        return argv

    def boot(self, name):
        """Returns the seconds to the kernel's first line and to the banner."""
        argv = self.qemu(name) if name == "QEMU" else self.ours(name, name == "looks")
        began, said, first, serves = time.monotonic(), bytearray(), [], threading.Event()
        argv = ["chrt", "--fifo", "1"] * self.args.realtime + argv
        p = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        def read():
            for piece in iter(lambda: os.read(p.stdout.fileno(), 65536), b""):
                said.extend(piece)
                if not first and b"Linux version" in said:
                    first.append(time.monotonic() - began)
                if b"Secure Shell" in said or b" login:" in said:
                    serves.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            # Connections before the guest has a network would wait in QEMU, and each of them would be a process of the guest later.
            while not serves.wait(1) or not banner(PORTS[name]):
                if p.poll() is not None or time.monotonic() - began > LIMIT:
                    sys.exit(f"{name}: no ssh: {said[-3000:].decode(errors='replace')}")
            return first[0], time.monotonic() - began
        finally:
            if name == "QEMU":
                p.kill()
            else:
                subprocess.run([*self.base, "delete", "--force", f"bench{os.getpid()}-{self.count}"], env=self.env, check=False)
            p.wait()
            reader.join()


def banner(port):
    """Says whether an sshd answers. A connection alone says nothing, because QEMU takes it by itself."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            if s.recv(4) == b"SSH-":
                return True
    except OSError:
        pass
    time.sleep(0.05)
    return False


def show(rows):
    q = [statistics.median(column) for column in zip(*rows["QEMU"])]
    print(f"  {'':<10}{'kernel s':>10}{'ssh s':>10}{'kernel to ssh':>15}{'/ QEMU':>9}{'kernel to ssh / QEMU':>22}")
    for name, values in rows.items():
        kernel, ssh = (statistics.median(column) for column in zip(*values))
        print(f"  {name:<10}{kernel:>10.2f}{ssh:>10.2f}{ssh - kernel:>15.2f}{ssh / q[1]:>9.2f}{(ssh - kernel) / (q[1] - q[0]):>22.2f}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(os.path.dirname(TESTS), "build"), metavar="DIR")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--warm-up", type=int, default=1, metavar="N", help="rounds that are not counted (default: 1)")
    p.add_argument("--machine", choices=["microvm", "q35"], default="microvm", help="QEMU's machine (default: microvm)")
    p.add_argument("--without-looks", action="store_true", help="leave out the row \"looks\"")
    p.add_argument("--realtime", action="store_true", help="run both with real-time priority, for a machine that is not idle")
    p.add_argument("--json", help="write the figures to this file")
    args = p.parse_args()
    args.caisson = os.path.realpath(os.path.join(args.build, "runtime", "caisson"))
    machine.enter(keep=[os.path.dirname(TESTS), os.path.realpath(args.build)])
    try:
        with tempfile.TemporaryDirectory(dir=machine.WORK) as work:
            m = Machines(args, work)
            names = ["caisson", "QEMU"] + ["looks"] * (not args.without_looks)
            rows = {n: [] for n in names}
            print(f"load {os.getloadavg()[0]:.1f}; {'KVM' if m.kvm else 'software'}; QEMU's machine: {args.machine}", flush=True)
            for i in range(args.warm_up + args.rounds):
                for n in names:
                    found = m.boot(n)
                    print(f"  round {i}: {n}: kernel {found[0]:.2f} s, ssh {found[1]:.2f} s", file=sys.stderr, flush=True)
                    if i >= args.warm_up:
                        rows[n].append(found)
            show(rows)
            if args.json:
                with open(args.json, "w") as f:
                    json.dump(rows, f, indent=1)
    finally:
        machine.leave()


if __name__ == "__main__":
    main()
