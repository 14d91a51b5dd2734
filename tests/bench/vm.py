#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
vm.py [--only PART,...] [--rounds N] [--ms N] [--json FILE] [--build DIR]: compares microVMs with
QEMU's, in one run.

It has these parts, each of interleaved rounds with the same guest kernel, initramfs and devices on the same KVM:
  start       time from the command to the first instruction of the guest's first program, on caisson's machine and
              on QEMU's microvm
  memory      private memory of both monitors except the guest's own, and of the file servers, while the guest sleeps
  throughput  disk, share (virtiofsd for QEMU), network (a tap; both also with vhost-net if the host has it; iperf3 and a stream of guest_io)
              and vsock (vhost-vsock for QEMU), measured by guest_io
  caisson     the time of a whole `caisson run` of /bin/true, divided into its stages

All parts need a KVM that runs Linux (the test host: tests/host/run --memory 3G -- python3 tests/bench/vm.py --build
DIR). Elsewhere QEMU runs in software, and only `start` (of QEMU, for comparison) and `caisson` make sense. The program
prints times and ratios and does not judge them. It needs root, the tuned kernel (images/kernel/build), gcc and QEMU.
"""
import argparse
import glob
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

from harness import machine, mode, rootfs  # noqa: E402

PROGRAMS = ("guest_io", "peer", "first_line")
QEMU = "/usr/bin/qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
TAP, ADDRESS = "bench0", "10.99.0.1/24"
MEMORY = 256  # MiB
DISK = 64 << 20
# The kernel's command line, the same as in runtime/monitor/boot.c.
CMDLINE = ("console=hvc0 quiet panic=-1 reboot=t pci=off i8042.noaux i8042.nomux i8042.dumbkbd 8250.nr_uarts=0 "
           "cryptomgr.notests random.trust_cpu=on")
GUEST_TIMEOUT = 240
# Lines of the monitor's log (debug level), in order, and the stage that has ended when the line is written.
STAGES = (("microvm: kernel and initramfs", "caisson: plan, fork, cgroup, network; kernel found"),
          ("microvm: file server", "file server started"),
          ("microvm: built", "hypervisor started, or machine built"),
          ("microvm: runs", "jail entered, threads started"),
          ("microvm: hello", "guest's kernel, to its init's first message"),
          ("microvm: created", "share mounted, container's steps walked"),
          ("microvm: running", "container's program executed"),
          ("microvm: exited", "program's end heard of"))


class Bench:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.tools = {n: os.path.join(work, n) for n in PROGRAMS}
        for n, out in self.tools.items():
            subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", out, f"{HERE}/{n}.c"], check=True)
        for n in ("vm_boot", "vmfs_main"):
            self.tools[n] = shutil.copy(os.path.join(args.build, "tests", n), work)
        # The file is copied into memory, because reading it through a slow root would take the same time for all and
        # hide the differences.
        self.kernel = shutil.copy(os.path.join(args.kernel, "vmlinux"), work)
        self.initramfs = os.path.join(work, "initramfs")
        with open(self.initramfs, "wb") as f:
            f.write(initramfs(self.tools["guest_io"], "iperf3" in args.tests.split(",")))
        self.has_kvm = runs_linux()
        self.share = os.path.join(work, "share")
        os.mkdir(self.share)
        self.disk = os.path.join(work, "disk")
        with open(self.disk, "wb") as f:
            f.write(b"\xa5" * DISK)
        self.children = []

    def cmdline(self, words):
        return f"{CMDLINE} -- {words}"

    def ours(self, words, disk=None, share=None, tap=None, vsock=None, vhost="off"):
        v = [self.tools["vm_boot"], "-m", str(MEMORY)]
        v += ["-d", disk] if disk else []
        v += ["-s", f"bench={share}"] if share else []
        v += ["-k" if vhost == "on" else "-n", tap] if tap else []
        v += ["-v", vsock] if vsock else []
        return [*v, self.kernel, self.initramfs, self.cmdline(words)]

    def qemu(self, words, disk=None, share=None, tap=None, vsock=None, vhost="off"):
        """Makes the same command line as runtime/engine/qemu.c, with KVM if there is one."""
        v = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-global",
             "virtio-mmio.force-legacy=false", "-smp", "1", "-m", f"{MEMORY}M", "-object",
             f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on", "-kernel", self.kernel, "-initrd", self.initramfs]
        cmdline = self.cmdline(words)
        if self.has_kvm:
            v += ["-accel", "kvm", "-cpu", "host"]
            rtc = "off"
        else:
            v += ["-accel", "tcg,thread=multi,tb-size=64", "-cpu", "max"]
            cmdline = f"tsc_early_khz={tsc_khz()} " + cmdline
            rtc = "on"
        v += ["-machine", f"microvm,acpi=on,pic=off,pit=off,rtc={rtc},isa-serial=off,memory-backend=ram"]
        v += ["-append", cmdline, "-chardev", "stdio,id=console,signal=off", "-device", "virtio-serial-device",
              "-device", "virtconsole,chardev=console", "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"]
        if disk:
            v += ["-drive", f"if=none,id=disk,format=raw,file={disk},file.locking=off", "-device", "virtio-blk-device,drive=disk"]
        if share:
            v += ["-chardev", f"socket,id=fs,path={share}", "-device", "vhost-user-fs-device,chardev=fs,tag=bench,queue-size=1024"]
        if tap:
            v += ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no,vhost={vhost}", "-device",
                  "virtio-net-device,netdev=net,mac=02:00:00:00:00:00"]
        if vsock:
            v += ["-device", "vhost-vsock-device,guest-cid=3"]
        return v

    # --- servers beside the guest

    def spawn(self, argv, **kw):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **kw)
        self.children.append(p)
        return p

    def end(self, *children):
        for p in children:
            p.kill()
            p.wait()
            self.children.remove(p)

    def file_server(self, ours):
        """Starts a virtio-fs server. Returns (process, socket)."""
        sock = os.path.join(self.work, "fs.sock")
        if os.path.exists(sock):
            os.unlink(sock)
        if ours:
            p = self.spawn([self.tools["vmfs_main"], sock, self.share], stdout=subprocess.PIPE)
            p.stdout.readline()
        else:
            p = self.spawn([VIRTIOFSD, "-f", f"--socket-path={sock}", "-o", f"source={self.share},cache=auto,sandbox=chroot"],
                           stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(sock), "the file server listens")
        return p, sock

    def peer(self, *argv):
        p = self.spawn([self.tools["peer"], *argv], stdout=subprocess.PIPE, text=True)
        if p.stdout.readline() != "ready\n":
            sys.exit(f"peer {argv}: does not listen")
        return p

    def clear(self):
        for p in list(self.children):
            self.end(p)


def runs_linux():
    """Returns whether KVM runs Linux, by the same check as vm_kvm_runs_linux() of runtime/vm/kvm.c."""
    with open("/proc/cpuinfo") as f:
        flags = next(line for line in f if line.startswith("flags")).split()
    return os.path.exists("/dev/kvm") and ("svm" in flags or "vmx" in flags)


def until(condition, what):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited 30 s until {what}")
        time.sleep(0.02)


def tsc_khz():
    """Returns the frequency of the TSC in kHz, as this machine's kernel has measured it. QEMU's machine has no timer
    by which the guest could measure it."""
    with open("/proc/cpuinfo") as f:
        return round(1000 * float(next(line.split(":")[1] for line in f if line.startswith("cpu MHz"))))


def entry(name, mode_bits, data=b"", rdev=(0, 0)):
    """Returns an entry of a cpio archive (newc)."""
    fields = [0, mode_bits, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def libraries(program):
    """Returns the paths of the libraries of a program, and of its loader."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return sorted({word for line in out.splitlines() for word in line.split() if word.startswith("/")})


def initramfs(init, iperf3):
    out = entry("dev", 0o040755) + entry("dev/console", 0o020600, rdev=(5, 1)) + entry("init", 0o100755, read(init))
    if iperf3:
        files = {"/iperf3": shutil.which("iperf3"), **{path: path for path in libraries(shutil.which("iperf3"))}}
        folders = {"tmp"} | {str(p)[1:] for path in files for p in pathlib.PurePath(path).parents if str(p) != "/"}
        out += entry("dev/urandom", 0o020666, rdev=(1, 9)) + b"".join(entry(d, 0o040755) for d in sorted(folders))
        out += b"".join(entry(path[1:], 0o100755, read(source)) for path, source in files.items())
    return out + entry("TRAILER!!!", 0)


# --- start

def start(b):
    contenders = {"qemu microvm": b.qemu("boot")}
    if b.has_kvm:
        contenders = {"ours": b.ours("boot"), **contenders}
    rows = {n: {"ms": [], "kernel": [], "end": []} for n in contenders}
    for i in range(b.args.rounds + 1):
        for name, argv in contenders.items():
            r = subprocess.run([b.tools["first_line"], *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                               timeout=GUEST_TIMEOUT)
            first, end, _, *age = r.stdout.split()
            if not age:
                sys.exit(f"{name}: its guest did not start: {r.stderr}")
            if i:  # the first round warms the caches
                rows[name]["ms"].append(int(first) / 1e6)
                rows[name]["kernel"].append(float(age[0]) * 1e3)
                rows[name]["end"].append((int(end) - int(first)) / 1e6)
    out = {n: {k: statistics.median(v) for k, v in r.items()} | {"min": min(r["ms"])} for n, r in rows.items()}
    base = out["qemu microvm"]["ms"]
    print(f"\nstart: command to the first program's first line, {b.args.rounds} rounds, {'KVM' if b.has_kvm else 'in software'}\n"
          f"{'':<16}{'median ms':>11}{'min':>9}{'of it before':>14}{'the kernel':>12}{'power off':>11}{'/ qemu':>8}")
    for n, r in out.items():
        r["ratio"] = r["ms"] / base
        print(f"{n:<16}{r['ms']:>11.1f}{r['min']:>9.1f}{r['ms'] - r['kernel']:>14.1f}{r['kernel']:>12.1f}{r['end']:>11.1f}{r['ratio']:>8.2f}")
    return out


# --- memory

def private_kib(pid, exclude):
    """Returns the private memory of a process in KiB (Private_Clean + Private_Dirty), except mappings named `exclude`,
    with the page tables."""
    total, skip, parts = 0, False, {}
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            word = line.split()
            if not word[0].endswith(":"):
                name = word[5] if len(word) > 5 else "[anonymous]"
                skip = any(e in name for e in exclude)
            elif not skip and word[0] in ("Private_Clean:", "Private_Dirty:"):
                total += int(word[1])
                parts[name] = parts.get(name, 0) + int(word[1])
    with open(f"/proc/{pid}/status") as f:
        tables = next(int(line.split()[1]) for line in f if line.startswith("VmPTE:"))
    return total, tables, parts


GUEST_RAM = ("caisson-guest-ram", "memfd:memory-backend-memfd")


def memory(b):
    rows = {}
    for name in ("ours", "qemu microvm"):
        server, sock = b.file_server(name == "ours")
        make = b.ours if name == "ours" else b.qemu
        vmm = b.spawn(make("idle", disk=b.disk, share=sock), stdout=subprocess.PIPE, text=True)
        for line in vmm.stdout:
            if line.startswith("first"):
                break
        time.sleep(2)
        for what, p in (("monitor", vmm), ("file server", server)):
            total, tables, parts = private_kib(p.pid, GUEST_RAM)
            rows[f"{name}: {what}"] = {"kib": total, "tables": tables}
            big = sorted(parts.items(), key=lambda x: -x[1])[:6]
            rows[f"{name}: {what}"]["parts"] = ", ".join(f"{os.path.basename(n)} {v}" for n, v in big if v)
        b.end(vmm, server)
    print(f"\nprivate memory beside the guest's {MEMORY} MiB, KiB (budget 2048), and page tables")
    for n, r in rows.items():
        print(f"{n:<28}{r['kib']:>9}{r['tables']:>7}   {r['parts']}")
    return rows


# --- throughput

def throughput(b):
    subprocess.run(["ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr"], check=True)
    subprocess.run(["ip", "address", "add", ADDRESS, "dev", TAP], check=True)
    subprocess.run(["ip", "link", "set", TAP, "up"], check=True)
    subprocess.run(["modprobe", "-q", "vhost_net"], check=False)
    rows, parts = {}, b.args.tests.split(",")
    nets = [p for p in parts if p in ("net", "iperf3")]
    contenders = ["ours", "qemu"] + (["ours+vhost", "qemu+vhost"] if os.path.exists("/dev/vhost-net") and nets else [])
    for _ in range(b.args.throughput_rounds):
        for name in contenders:
            for key, rate in guest_rates(b, name, nets if "vhost" in name else parts).items():
                rows.setdefault(key, {}).setdefault(name, []).append(rate)
    subprocess.run(["ip", "link", "del", TAP], check=True)
    print(f"\nthroughput: {b.args.throughput_rounds} rounds of {b.args.ms} ms, medians\n"
          f"{'':<20}{'ours':>10}{'qemu':>10}{'/ qemu':>8}{'ours+vhost':>12}{'qemu+vhost':>12}{'/ it':>7}")
    out = {}
    for key, r in rows.items():
        m = {n: statistics.median(v) for n, v in r.items()}
        # Each of caisson's is compared with QEMU's of the same kind.
        ratio = {n: m[n.replace("qemu", "ours")] / m[n] for n in m if n.startswith("qemu") and m[n] and n.replace("qemu", "ours") in m}
        out[key] = {**m, "ratio": ratio}
        unit = "MiB/s" if is_bytes(key) else "1/s"
        cells = f"{m.get('ours', 0):>10.1f}{m.get('qemu', 0):>10.1f}{ratio.get('qemu', 0):>8.2f}"
        if "qemu+vhost" in m:
            cells += f"{m.get('ours+vhost', 0):>12.1f}{m['qemu+vhost']:>12.1f}{ratio.get('qemu+vhost', 0):>7.2f}"
        print(f"{key:<14}{unit:>6}{cells}")
    return out


def is_bytes(key):
    return key.endswith(("1M", "send", "receive"))


def guest_rates(b, name, parts):
    """Boots the guest once. Returns what it measures: {name: MiB or operations a second}."""
    ours, kw, servers = name.startswith("ours"), {}, []
    if "blk" in parts:
        kw["disk"] = b.disk
    if "fs" in parts:
        server, kw["share"] = b.file_server(ours)
        servers.append(server)
    if "net" in parts or "iperf3" in parts:
        kw["tap"], kw["vhost"] = TAP, "on" if "vhost" in name else "off"
    if "iperf3" in parts:
        servers.append(b.spawn(["iperf3", "-s", "-B", ADDRESS.split("/")[0]], stdout=subprocess.DEVNULL))
    if "net" in parts:
        servers.append(b.peer("tcp", ADDRESS.split("/")[0]))
    if "vsock" in parts:
        sock = os.path.join(b.work, "vsock.sock")
        if os.path.exists(sock):
            os.unlink(sock)
        servers.append(b.peer("unix", sock) if ours else b.peer("vsock"))
        kw["vsock"] = sock
    words = f"{b.args.ms} {' '.join(parts)}"
    argv = b.ours(words, **kw) if ours else b.qemu(words, **kw)
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=GUEST_TIMEOUT)
    b.end(*servers)
    for entry_name in os.listdir(b.share):
        path = os.path.join(b.share, entry_name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    out = {}
    for line in r.stdout.splitlines():
        word = line.split()
        if word and word[0] == "iperf3":
            key = word[1]
        elif word and word[-1] == "receiver":
            out[key] = float(word[word.index("Kbits/sec") - 1]) * 1000 / 8 / (1 << 20)
        elif word and word[0] == "=":
            out[word[1]] = float(word[2]) / float(word[3]) / (1 << 20 if is_bytes(word[1]) else 1)
    if not r.stdout.rstrip().endswith("done"):
        print(f"{name}: the guest did not do all of {parts}: {r.stdout} {r.stderr}", file=sys.stderr)
    print(f"  {name}: {len(out)} figures", file=sys.stderr, flush=True)
    return out


# --- the whole of caisson run

def bundle(b, caisson):
    d = os.path.join(b.work, "bundle")
    if os.path.exists(d):
        return d
    os.mkdir(d)
    subprocess.run([caisson, "spec", "--bundle", d], check=True)
    rootfs.make_busybox(os.path.join(d, "rootfs"), "/bin/busybox")
    with open(os.path.join(d, "config.json")) as f:
        c = json.load(f)
    c["process"].update(terminal=False, args=["/bin/true"])
    c["linux"].pop("resources", None)
    # The network namespace stays between runs. While the kernel removes the namespace of one run, it holds a lock for
    # which the next run's netlink requests would wait (3 s for each run on the test host).
    netns = os.path.join(b.work, "netns")
    open(netns, "w").close()
    subprocess.run(["unshare", "--net", "mount", "--bind", "/proc/self/ns/net", netns], check=True)
    next(n for n in c["linux"]["namespaces"] if n["type"] == "network")["path"] = netns
    with open(os.path.join(d, "config.json"), "w") as f:
        json.dump(c, f)
    return d


def kernels(b):
    """Returns {name: the words of config.json's vm.kernel}."""
    found = {"tuned": {"path": b.kernel}}
    debian = sorted(glob.glob("/boot/vmlinuz-*"))
    if debian and not b.has_kvm:
        found["Debian's"] = {"path": debian[-1]}
    return found


def one_run(b, caisson, d, hypervisor, name):
    log = os.path.join(b.work, "log")
    if os.path.exists(log):
        os.unlink(log)
    argv = [caisson, "--root", os.path.join(b.work, "state"), "--debug", "--log", log, "--log-format", "json", "run",
            "--isolation", "vm", "--hypervisor", hypervisor, "--bundle", d, f"bench-vm-{os.getpid()}"]
    began = time.time()
    r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=GUEST_TIMEOUT)
    ended = time.time()
    if r.returncode:
        sys.exit(f"caisson run, {name}: exit {r.returncode}: {r.stderr}")
    return stages(log, began, ended)


def stages(log, began, ended):
    """Returns [(stage, milliseconds)], the time from one line of the log to the next."""
    at = {}
    with open(log) as f:
        for line in f:
            e = json.loads(line)
            at.setdefault(e["msg"], e["time"])
    out, last = [], began
    for mark, what in STAGES:
        if mark in at:
            t = parse_time(at[mark])
            out.append((what, (t - last) * 1e3))
            last = t
    out.append(("machine gone, caisson's end", (ended - last) * 1e3))
    out.append(("all", (ended - began) * 1e3))
    return out


def parse_time(text):
    whole, fraction = text.rstrip("Z").split(".")
    return time.mktime(time.strptime(whole + " UTC", "%Y-%m-%dT%H:%M:%S %Z")) - time.timezone + float("0." + fraction)


def caisson(b):
    exe = os.path.realpath(os.path.join(b.args.build, "runtime", "caisson"))
    d, hypervisor = bundle(b, exe), "kvm" if b.has_kvm else "qemu"
    rows = {}
    for i in range(b.args.rounds + 1):
        for name, kernel in kernels(b).items():
            with open(os.path.join(d, "config.json")) as f:
                c = json.load(f)
            c["vm"] = {"kernel": kernel}
            with open(os.path.join(d, "config.json"), "w") as f:
                json.dump(c, f)
            got = one_run(b, exe, d, hypervisor, name)
            if i:  # the first round packs the kernel's modules, and warms the caches
                for what, ms in got:
                    rows.setdefault(name, {}).setdefault(what, []).append(ms)
    print(f"\ncaisson run of /bin/true, --hypervisor {hypervisor}, {b.args.rounds} rounds: medians, ms")
    out = {n: {w: statistics.median(v) for w, v in r.items()} for n, r in rows.items()}
    for n, r in out.items():
        print(f"  {n} kernel")
        for what, ms in r.items():
            print(f"    {what:<54}{ms:>9.1f}")
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="start,memory,throughput,caisson", metavar="PART,...")
    p.add_argument("--tests", default="blk,fs,net,vsock", metavar="TEST,...", help="of throughput: blk, fs, net, iperf3, vsock")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--throughput-rounds", type=int, default=2)
    p.add_argument("--ms", type=int, default=1000, help="of each measurement of throughput")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--build", default=os.path.join(os.path.dirname(TESTS), "build"), metavar="DIR")
    p.add_argument("--kernel", default=mode.tuned_kernel(), metavar="DIR")
    args = p.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # the figures of a part appear when it ends, whatever happens later
    if not args.kernel:
        p.error("no tuned kernel: images/kernel/build makes it")
    machine.unshare(machine.CLONE_NEWNS | machine.CLONE_NEWNET)
    machine.mount(None, "/", flags=machine.MS_REC | machine.MS_PRIVATE)
    work = f"/var/tmp/caisson-bench-vm.{os.getpid()}"
    os.mkdir(work)
    machine.mount("tmpfs", work, "tmpfs", data="size=1G")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    b = None
    try:
        b = Bench(args, work)
        parts = [x for x in args.only.split(",") if b.has_kvm or x in ("start", "caisson")]
        print(f"load before: {os.getloadavg()[0]:.1f}; guests on {'KVM' if b.has_kvm else 'QEMU in software'}", flush=True)
        out = {x: {"start": start, "memory": memory, "throughput": throughput, "caisson": caisson}[x](b) for x in parts}
    finally:
        if b:
            b.clear()
        machine.umount(work)
        os.rmdir(work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"results": out, "kernel": os.uname().release}, f, indent=1)


if __name__ == "__main__":
    main()
