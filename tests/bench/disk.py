#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""disk.py [--only convert|info|guest] [--rounds N] [--megabytes N] [--realtime] [--work DIR] [--build DIR] [--json FILE]: measures disk images
beside QEMU.

convert: `caisson disk convert` beside `qemu-img convert` with the same file, both with their defaults, and `qemu-img convert -W`, which
         may write out of order. After the first round the script compares each result with the source by `qemu-img compare`.
info:    `caisson disk info` of a sparse image of 1 TiB beside one of 1 GiB and beside `qemu-img info`, for each format.
guest:   a guest's /dev/vda on caisson's machine beside QEMU's with the same kernel, initramfs and KVM, by guest_io: raw and qcow2, in
         sequence and 4 KiB at random, with one queue and with two. It needs a KVM that runs Linux, the tuned kernel
         (images/kernel/build) and gcc:

             tests/host/run --memory 3G -- python3 tests/bench/disk.py --only guest --work /dev/shm --build DIR

Rounds are interleaved, so that other load on the machine affects all alike; the numbers that count are the ratios of medians. A ratio is
how many times as fast caisson is: more is better. The script asserts nothing about times.
"""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

import vm  # noqa: E402
from harness import mode  # noqa: E402

MiB = 1 << 20
REALTIME = ["chrt", "--fifo", "1"]
WARM_UP = 1  # rounds that are not counted
FORMATS = ("raw", "qcow2", "vdi", "vmdk", "vpc", "vhdx")
BUDGET_CONVERT, BUDGET_PACKED, BUDGET_MEMORY = 1.5, 2.0, 32  # issue 17
BUDGET_GUEST = {"raw": 1.2, "qcow2": 1.1}


class Measure:
    """Starts programs by measure.c, because a child of this program would begin with the peak memory of this program."""

    def __init__(self, args, work):
        self.tool = os.path.join(work, "measure")
        self.start = REALTIME if args.realtime else []
        subprocess.run(["gcc", "-O2", "-static", "-o", self.tool, os.path.join(HERE, "measure.c")], check=True)

    def __call__(self, *argv):
        """Returns the time in s, the CPU time in s, and the largest peak of resident memory in MiB."""
        before = os.times()
        r = subprocess.run([*self.start, self.tool, shutil.which(argv[0]) or argv[0], *argv[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        ns, kib, _, rc = map(int, r.stdout.split()[-4:])
        after = os.times()
        if rc:
            sys.exit(f"{' '.join(argv)}: exit {rc}: {r.stderr}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return ns / 1e9, cpu, kib / 1024


def interleaved(rounds, contenders, before, check):
    """Runs the contenders {name: function that returns (s, s of CPU, MiB)} in turn. Returns {name: medians, and the largest peak}."""
    rows = {n: [] for n in contenders}
    for i in range(rounds + WARM_UP):
        for n, run in contenders.items():
            before()
            found = run()
            if i < WARM_UP:
                check(n)
            else:
                rows[n].append(found)
    return {n: {"seconds": statistics.median(x[0] for x in v), "CPU seconds": statistics.median(x[1] for x in v),
                "peak MiB": max(x[2] for x in v)} for n, v in rows.items()}


def show(title, rows, budget):
    ours = next(iter(rows.values()))
    print(f"\n{title}" + (f" (budget {budget} x)" if budget else "") + f"\n  {'':<14}{'median s':>10}{'x faster':>10}{'CPU s':>10}{'x less':>10}{'peak MiB':>10}")
    for n, r in rows.items():
        r["ratio"], r["CPU ratio"] = r["seconds"] / ours["seconds"], r["CPU seconds"] / max(ours["CPU seconds"], 0.01)
        print(f"  {n:<14}{r['seconds']:>10.3f}{r['ratio']:>10.2f}{r['CPU seconds']:>10.2f}{r['CPU ratio']:>10.2f}{r['peak MiB']:>10.1f}", flush=True)


# --- convert

def usr_pieces(size):
    """Yields the files of this machine's /usr in pieces of `size` bytes, each file from a multiple of 4 KiB on, again and again."""
    data = bytearray()
    while True:
        for folder, folders, files in os.walk("/usr"):
            folders.sort()
            for path in (os.path.join(folder, name) for name in sorted(files)):
                if not os.path.isfile(path) or os.path.islink(path):
                    continue
                with open(path, "rb") as f:
                    data += f.read()
                data += bytes(-len(data) % 4096)
                while len(data) >= size:
                    yield data[:size]
                    del data[:size]


def make_disk(path, megabytes):
    """Writes a raw disk: of ten pieces of 4 MiB seven have files of /usr, one is zeros that are stored, and two are holes."""
    pieces = usr_pieces(4 * MiB)
    with open(path, "wb") as f:
        for at in range(0, megabytes * MiB, 4 * MiB):
            kind = at // (4 * MiB) % 10
            if kind < 8:
                f.seek(at)
                f.write(next(pieces) if kind < 7 else bytes(4 * MiB))
        f.truncate(megabytes * MiB)


def convert(args, work):
    measure, figures = Measure(args, work), {}
    raw, target = work + "/disk.raw", work + "/target"
    make_disk(raw, args.megabytes)
    sources = {"raw": raw}
    for name, options in (("qcow2", ()), ("zlib", ("-c",)), ("zstd", ("-c", "-o", "compression_type=zstd"))):
        sources[name] = f"{work}/disk.{name}"
        subprocess.run(["qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", raw, sources[name]], check=True)
    zstd = ("-c", "-o", "compression_type=zstd")
    for title, source, options, budget in (
            ("raw to qcow2", "raw", ("-O", "qcow2"), BUDGET_CONVERT), ("qcow2 to raw", "qcow2", ("-O", "raw"), BUDGET_CONVERT),
            ("raw to qcow2, zstd", "raw", (*zstd, "-O", "qcow2"), BUDGET_PACKED), ("raw to qcow2, zlib", "raw", ("-c", "-O", "qcow2"), None),
            ("qcow2, zstd, to raw", "zstd", ("-O", "raw"), None), ("qcow2, zlib, to raw", "zlib", ("-O", "raw"), None)):
        words = ["-f", "raw" if source == "raw" else "qcow2", *options, sources[source], target]
        programs = {"caisson": [args.caisson, "disk", "convert", *words], "qemu-img": ["qemu-img", "convert", *words],
                    "qemu-img -W": ["qemu-img", "convert", "-W", *words]}
        target_format = options[options.index("-O") + 1]

        def before():
            if os.path.exists(target):
                os.unlink(target)

        def check(name):
            subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", target_format, raw, target], check=True)
            print(f"  {title}: {name}: {os.stat(target).st_blocks * 512 / MiB:.0f} MiB, the same bytes", file=sys.stderr, flush=True)

        rows = interleaved(args.rounds, {n: lambda argv=argv: measure(*argv) for n, argv in programs.items()}, before, check)
        before()
        show(title, rows, budget)
        figures[title] = rows
    return figures


# --- info

def info(args, work):
    measure, figures = Measure(args, work), {}
    print(f"\ninfo of a sparse image: ms (1 TiB beside 1 GiB: budget 1.0)\n  {'':<8}{'1 GiB':>9}{'1 TiB':>9}{'ratio':>9}{'peak MiB':>10}{'qemu-img':>10}{'x faster':>10}")
    for fmt in FORMATS:
        images = {size: f"{work}/{size}.{fmt}" for size in ("1G", "1T")}
        for size, path in images.items():
            subprocess.run(["qemu-img", "create", "-q", "-f", fmt, path, size], check=True)
        contenders = {size: lambda path=path, fmt=fmt: measure(args.caisson, "disk", "info", "-f", fmt, path) for size, path in images.items()}
        contenders["qemu-img"] = lambda path=images["1T"], fmt=fmt: measure("qemu-img", "info", "-f", fmt, path)
        r = interleaved(args.rounds * 4, contenders, lambda: None, lambda name: None)
        ms = {n: v["seconds"] * 1e3 for n, v in r.items()}
        print(f"  {fmt:<8}{ms['1G']:>9.2f}{ms['1T']:>9.2f}{ms['1T'] / ms['1G']:>9.2f}{r['1T']['peak MiB']:>10.1f}{ms['qemu-img']:>10.2f}{ms['qemu-img'] / ms['1T']:>10.2f}",
              flush=True)
        figures[fmt] = r
    return figures


# --- guest

class Guests:
    """Boots guests that measure /dev/vda, on caisson's machine and on QEMU's."""

    def __init__(self, args, work):
        self.args, self.work = args, work
        self.bench = vm.Bench(argparse.Namespace(build=args.build, kernel=args.kernel, tests="blk"), work)

    def image(self, name):
        """Makes the image: whole, with random bytes that are all stored; or, for a qcow2 that is "new", empty."""
        raw, path = self.work + "/whole.raw", f"{self.work}/{name.replace(',', '').replace(' ', '-')}.img"
        if not os.path.exists(raw):
            with open(raw, "wb") as f:
                f.write(os.urandom(MiB) * self.args.guest_megabytes)
        if name == "raw":
            return raw
        if name == "qcow2 new":
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, f"{self.args.guest_megabytes}M"], check=True)
        else:
            subprocess.run(["qemu-img", "convert", "-S", "0", "-O", "qcow2", raw, path], check=True)
        return path

    def words(self):
        return f"{self.args.ms} blk blk2"

    def ours(self, fmt, path, queues):
        """The monitor serves a raw image, and `caisson disk serve`, by vhost-user, any other."""
        b = self.bench
        argv = [b.tools["vm_boot"], "-m", str(vm.MEMORY), "-c", "2"]
        tail = [b.kernel, b.initramfs, b.cmdline(self.words())]
        if fmt == "raw":
            return self.boot([*argv, "-d", path, *tail])
        mine, theirs = socket.socketpair()
        server = subprocess.Popen([self.args.disk, "serve", "--format", fmt, "--socket", str(theirs.fileno()), "--user", "65533",
                                   "--queues", str(queues), path], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
        theirs.close()
        answer = server.stdout.read()
        if answer.strip() != "ready":
            sys.exit(f"caisson disk serve {path}: {answer}")
        found = self.boot([*argv, "-q", str(queues), "-u", str(mine.fileno()), *tail], pass_fds=[mine.fileno()])
        mine.close()
        if server.wait(timeout=vm.GUEST_TIMEOUT):
            sys.exit(f"caisson disk serve {path}: exit {server.returncode}")
        return found

    def qemu(self, fmt, path, queues, tuned):
        """QEMU with its defaults or, tuned, with a thread for the disk and io_uring."""
        argv = self.bench.qemu(self.words())
        argv[argv.index("-smp") + 1] = "2"
        thread = ["-object", "iothread,id=io"] if tuned else []
        return self.boot([*argv, *thread, "-drive", f"if=none,id=disk,format={fmt},file={path}" + (",aio=io_uring" if tuned else ""),
                          "-device", f"virtio-blk-device,drive=disk,num-queues={queues}" + (",iothread=io" if tuned else "")])

    def boot(self, argv, **process):
        """Returns what the guest has measured: {name: MiB or operations a second}."""
        r = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=vm.GUEST_TIMEOUT, check=False, **process)
        if not r.stdout.rstrip().endswith("done"):
            sys.exit(f"{' '.join(argv)}: the guest did not do all: {r.stdout[-2000:]} {r.stderr[-2000:]}")
        lines = [line.split() for line in r.stdout.splitlines() if line.startswith("= ")]
        return {w[1]: float(w[2]) / float(w[3]) / (MiB if vm.is_bytes(w[1]) else 1) for w in lines}


def guest(args, work):
    guests, figures = Guests(args, work), {}
    for name, fmt, queues in (("raw", "raw", 1), ("qcow2", "qcow2", 1), ("qcow2, 2 queues", "qcow2", 2), ("qcow2 new", "qcow2", 1)):
        if args.images and name not in args.images:
            continue
        rows, programs = {}, {"caisson": lambda p: guests.ours(fmt, p, queues), "QEMU": lambda p: guests.qemu(fmt, p, queues, False),
                              "tuned": lambda p: guests.qemu(fmt, p, queues, True)}
        for _ in range(args.rounds):
            for program, run in programs.items():
                for key, rate in run(guests.image(name)).items():
                    rows.setdefault(key, {}).setdefault(program, []).append(rate)
                print(f"  {name}: {program}", file=sys.stderr, flush=True)
        print(f"\n/dev/vda on {name}: MiB/s or operations a second, {args.rounds} rounds of {args.ms} ms (budget {BUDGET_GUEST[fmt]} x QEMU)\n"
              f"  {'':<22}{'caisson':>10}{'QEMU':>10}{'/ QEMU':>8}{'tuned':>10}{'/ tuned':>8}")
        for key, r in rows.items():
            m = figures.setdefault(name, {})[key] = {program: statistics.median(v) for program, v in r.items()}
            print(f"  {key:<22}{m['caisson']:>10.1f}{m['QEMU']:>10.1f}{m['caisson'] / m['QEMU']:>8.2f}{m['tuned']:>10.1f}{m['caisson'] / m['tuned']:>8.2f}", flush=True)
    return figures


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default=os.path.join(os.path.dirname(TESTS), "build"), metavar="DIR")
    p.add_argument("--rounds", type=int, default=5, help="of convert and guest; info takes four times as many (default: 5)")
    p.add_argument("--megabytes", type=int, default=1000, help="size of the disk that is converted (default: 1000)")
    p.add_argument("--only", action="append", choices=["convert", "info", "guest"])
    p.add_argument("--work", default="/var/tmp", help="directory in which the images are; /dev/shm measures without a disk (default: /var/tmp)")
    p.add_argument("--realtime", action="store_true", help="run the programs of convert and info with real-time priority, for a machine that is not idle")
    p.add_argument("--json", help="write the figures to this file")
    p.add_argument("--guest-megabytes", type=int, default=256, help="size of the guest's disk (default: 256)")
    p.add_argument("--ms", type=int, default=1000, help="of each measurement in a guest (default: 1000)")
    p.add_argument("--images", action="append", metavar="NAME", help="of guest: raw, qcow2, \"qcow2, 2 queues\", \"qcow2 new\" (default: all)")
    p.add_argument("--kernel", default=mode.tuned_kernel(), metavar="DIR", help="directory with the tuned kernel")
    args = p.parse_args()
    args.disk = os.path.realpath(os.path.join(args.build, "runtime", "caisson-disk"))
    args.caisson = os.path.realpath(os.path.join(args.build, "runtime", "caisson"))
    figures = {}
    print(f"load before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} CPUs; images in {args.work}", flush=True)
    for name, part in (("convert", convert), ("info", info), ("guest", guest)):
        if name not in args.only if args.only else name == "guest" and not vm.runs_linux():
            continue
        with tempfile.TemporaryDirectory(dir=args.work, prefix="caisson-bench.") as work:
            figures[name] = part(args, work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
