#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""images.py [--caisson FILE] [--rounds N] [--files N] [--megabytes N] [--only pull|run] [--work DIR] [--json FILE]: measures images.

pull: an image of four layers comes from a docker-registry on this machine and is unpacked, by `caisson image pull`
(without and with --no-sync), by `podman pull`, and by `skopeo copy` with `umoci unpack`. Each round begins without a store. The peak is
that of the largest process.
run: `caisson run --image` of an unpacked image beside `caisson run` of the same bundle, whose root is a directory.

Rounds are interleaved, so that other load on the machine affects all alike; the numbers that count are the ratios of
medians. Beside each time is its CPU time, which depends less on other load. Packages: docker-registry, podman, skopeo, umoci. The script asserts nothing. The work directory decides which
file system is measured. ext4 without a journal distorts it: with the mount option discard it waits for the disk at each
block that is freed, and it passes over each inode that was deleted minutes before. A loop device with ext4 has a journal.
"""
import argparse
import atexit
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(TESTS, "lib"))

from harness import oci, rootfs  # noqa: E402
from harness.registry import DockerRegistry  # noqa: E402

LAYERS = 4
TOOL = os.path.join(tempfile.gettempdir(), f"caisson-measure.{os.getpid()}")
WARM_UP = 1  # rounds that are not counted


def measure(*commands):
    """Runs the commands one after the other. Returns the time in s, the CPU time in s, and the largest peak of resident memory in MiB.

    measure.c starts them, because a child of this program would begin with the peak of this program."""
    peak, ns, cpu = 0, 0, 0
    for argv in commands:
        before = os.times()
        r = subprocess.run([TOOL, shutil.which(argv[0]) or argv[0], *argv[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        took, kib, _, rc = map(int, r.stdout.split()[-4:])
        if rc:
            sys.exit(f"{' '.join(argv)}: exit {rc}: {r.stderr}")
        after = os.times()
        peak, ns = max(peak, kib), ns + took
        cpu += after.children_user + after.children_system - before.children_user - before.children_system
    return ns / 1e9, cpu, peak / 1024


def make_layers(files, megabytes):
    """Returns tar archives whose files compress to about a third, as programs do."""
    rng = random.Random(1)
    words = [rng.randbytes(rng.randint(2, 12)) for _ in range(3000)]
    size = megabytes * 1000000 // files
    # Each file is a part of this text. gzip finds no other part again, because its window is smaller.
    text = b"".join(rng.choices(words, k=max(size, 8000000) // 6))
    for n in range(LAYERS):
        entries = []
        for i in range(files // LAYERS):
            if i % 50 == 0:
                entries.append(oci.entry(f"l{n}/d{i // 50}/", "dir"))
            start = rng.randrange(len(text) - size)
            data = text[start:start + size]
            entries.append(oci.entry(f"l{n}/d{i // 50}/f{i}", data=data))
        yield oci.tar(*entries)


def pull(args, work):
    layout = oci.Layout(work + "/layout")
    layout.image(list(make_layers(args.files, args.megabytes)), "x", config={"Cmd": ["/bin/true"]})
    registry = DockerRegistry(work + "/registry")
    name = f"{registry.host}/bench/x:1"
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{work}/layout:x", f"docker://{name}"], check=True)
    shutil.rmtree(work + "/layout")
    store = work + "/store"
    image = [args.caisson, "image", "--store", store, "--quiet"]
    podman = ["podman", "--root", store, "--runroot", work + "/runroot", "--storage-driver", "overlay"]
    programs = {
        "caisson": ([*image, "pull", name],),
        "no-sync": ([*image[:2], "--no-sync", *image[2:], "pull", name],),
        "podman": ([*podman, "pull", "--quiet", "--tls-verify=false", name],),
        "skopeo, umoci": (["skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{name}", f"oci:{store}:x"],
                          ["umoci", "unpack", "--image", store + ":x", work + "/bundle"]),
    }
    try:
        yield from compare(args, programs, lambda: [shutil.rmtree(p, ignore_errors=True) for p in (store, work + "/bundle", work + "/runroot")])
    finally:
        registry.close()


def run(args, work):
    rootfs.make_busybox(work + "/root", "/bin/busybox")
    layout = oci.Layout(work + "/layout")
    base = subprocess.run(["tar", "-c", "-C", work + "/root", "."], check=True, capture_output=True).stdout
    layout.image([base, oci.tar(oci.entry("a")), oci.tar(oci.entry("b"))], "x", config={"Cmd": ["/bin/true"]})
    store, bundle = work + "/store", work + "/bundle"
    image = [args.caisson, "image", "--store", store, "--quiet"]
    caisson = [args.caisson, "--root", work + "/state"]
    options = ["--image", "x", "--store", store, "--network", "none"]
    measure([*image, "import", f"oci:{work}/layout:x", "x"], [*caisson, "create", *options, "--name", "bench-template"])
    shutil.copytree(f"{store}/containers/bench-template", bundle, ignore=shutil.ignore_patterns("upper", "work", "rootfs"))
    measure([*caisson, "delete", "--force", "bench-template"], [*image, "unpack", "x", bundle + "/rootfs"])
    with open(bundle + "/config.json") as f:
        text = f.read()
    with open(bundle + "/config.json", "w") as f:
        f.write(text.replace(f"{store}/containers/bench-template", bundle))
    yield from compare(args, {"run of a bundle": ([*caisson, "run", "--bundle", bundle, "bench"],),
                              "run --image": ([*caisson, "run", *options, "--rm"],)}, lambda: None)


def compare(args, programs, clean):
    """Yields a row for each program: its name, the median time, the ratio to the first program's, the peak of memory."""
    rows = {n: [] for n in programs}
    for i in range(args.rounds + WARM_UP):
        for n, commands in programs.items():
            clean()
            found = measure(*commands)
            if i >= WARM_UP:
                rows[n].append(found)
    clean()
    first = [statistics.median(x) for x in zip(*next(iter(rows.values())))]
    for n, v in rows.items():
        t, cpu, _ = (statistics.median(x) for x in zip(*v))
        yield {"program": n, "seconds": t, "ratio": t / first[0], "CPU seconds": cpu, "CPU ratio": cpu / max(first[1], 1e-6), "peak MiB": max(p for _, _, p in v)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--caisson", default=os.environ.get("CAISSON", os.path.join(os.path.dirname(TESTS), "build/runtime/caisson")))
    p.add_argument("--rounds", type=int, default=5, help="of pull; run takes eight times as many (default: 5)")
    p.add_argument("--files", type=int, default=8000)
    p.add_argument("--megabytes", type=int, default=200, help="of the files, unpacked (default: 200)")
    p.add_argument("--only", action="append", choices=["pull", "run"])
    p.add_argument("--work", default="/var/tmp", help="directory in which the stores are (default: /var/tmp)")
    p.add_argument("--json", help="write the figures to this file")
    args = p.parse_args()
    figures = {}
    subprocess.run(["gcc", "-O2", "-static", "-o", TOOL, os.path.join(HERE, "measure.c")], check=True)
    atexit.register(os.unlink, TOOL)
    for name, scenario in (("pull", pull), ("run", run)):
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory(dir=args.work, prefix="caisson-bench.") as work:
            own = argparse.Namespace(**{**vars(args), "rounds": args.rounds * (8 if name == "run" else 1)})
            figures[name] = list(scenario(own, work))
        print(name)
        for row in figures[name]:
            print(f"  {row['program']:16} {row['seconds']:8.3f} s   {row['ratio']:6.2f}   {row['CPU seconds']:8.3f} s of CPU   {row['CPU ratio']:6.2f}   "
                  f"{row['peak MiB']:6.1f} MiB", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
