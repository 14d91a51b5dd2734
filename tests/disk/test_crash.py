# SPDX-License-Identifier: Apache-2.0
"""Tests random requests by one and several threads, which run to the end or are killed: flushed data is there, and the
tables are sound."""
import contextlib
import os
import random
import resource
import signal
import subprocess
import time

import pytest

from conftest import MiB, qemu
from test_qcow2 import drive_path

SIZE = 64 * MiB
KINDS = [  # options of the image, and the size of the pieces in which it discards
    ("", 65536), ("compat=0.10", 65536), ("cluster_size=512", 512), ("cluster_size=4k,refcount_bits=1", 4096),
    ("cluster_size=2M", 2 * MiB), ("extended_l2=on", 65536), ("lazy_refcounts=on,refcount_bits=64", 65536)]


def make(disk, drive, opts, backed):
    image = disk.path("w.qcow2")
    args = ["-o", opts] if opts else []
    if backed:
        drive("fill", disk.path("base.raw"), SIZE - 51200).ok()
        args += ["--backing", "on", "-b", "base.raw", "-F", "raw"]
    disk("create", "-f", "qcow2", *args, image, SIZE).ok()
    return image


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("opts,piece", KINDS)
def test_random_requests(disk, drive, opts, piece, threads, backed):
    ops, seed = 200, random.randrange(1 << 30)
    image = make(disk, drive, opts, backed)
    if backed and "0.10" in opts:
        piece = 0
    drive("run", image, "qcow2", seed, ops, threads, disk.tmp, "-").ok()
    done = ",".join([str(ops)] * threads)
    below = SIZE - 51200 if backed else 0
    drive("verify", image, "qcow2", seed, ops, threads, disk.tmp, done, piece, below).ok()
    disk.sound(image)
    qemu("convert", "-f", "qcow2", "-O", "raw", image, disk.path("q.raw")).ok()
    drive("verify", disk.path("q.raw"), "raw", seed, ops, threads, "-", done, piece, below).ok()


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("opts,piece", [k for k in KINDS if "2M" not in k[0]])
def test_killed(disk, drive, opts, piece, backed):
    """After kill -9 at any time the image has at most leaks, which a check repairs; an image with lazy refcounts may
    need a repair."""
    if backed and "0.10" in opts:
        piece = 0
    for attempt in range(2):
        seed, ops, threads = random.randrange(1 << 30), 4000, 1 + attempt * 3
        image, log = make(disk, drive, opts, backed), disk.path("log")
        if os.path.exists(log):
            os.unlink(log)
        p = subprocess.Popen([drive_path(drive), "run", image, "qcow2", str(seed), str(ops), str(threads), disk.tmp, log])
        time.sleep(random.uniform(0.02, 0.3))
        p.kill()
        p.wait()
        flushed = [0] * threads
        for line in open(log) if os.path.exists(log) else []:
            t, n = line.split()
            flushed[int(t)] = int(n)
        told = f"seed {seed} threads {threads} flushed {flushed}"
        if "lazy" in opts:
            disk("check", "-q", "-r", "all", image).ok()
        else:
            r = qemu("check", "-f", "qcow2", image)
            assert r.rc in (0, 3), (told, r)
            disk("check", "-q", "-r", "leaks", image).ok()
        disk.sound(image)
        r = drive("verify", image, "qcow2", seed, ops, threads, disk.tmp, ",".join(map(str, flushed)), piece,
                  SIZE - 51200 if backed else 0)
        assert r.rc == 0, (told, r)


def test_no_space(disk, drive):
    """If the disk becomes full in the middle, there is an error, and the earlier data is sound."""
    small = disk.path("small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], check=True)
    try:
        image = os.path.join(small, "w.qcow2")
        disk("create", "-f", "qcow2", image, SIZE).ok()
        r = drive("run", image, "qcow2", 1, 3000, 1, "-", "-")
        assert r.rc == 1 and "No space left" in r.err, r
        assert qemu("check", "-f", "qcow2", image).rc in (0, 3)
        disk("convert", "-O", "qcow2", pattern_file(disk), os.path.join(small, "c.qcow2")).failed("c.qcow2", "No space left")
    finally:
        subprocess.run(["umount", small], check=True)


SIZE_LIMIT = 1 * MiB


@pytest.mark.parametrize("command", [
    ("create", "-f", "raw", "new", "9M"), ("create", "-f", "qcow2", "-o", "preallocation=full", "new", "9M"),
    ("convert", "-O", "qcow2", "full", "new"), ("convert", "-O", "raw", "full", "new"), ("convert", "-O", "qcow2", "-c", "full", "new"),
    ("resize", "-f", "raw", "small", "9M"), ("snapshot", "-f", "qcow2", "-c", "one", "wide.qcow2")], ids=lambda c: "-".join(c[:3]))
def test_size_limit(disk, command):
    """A file that would exceed RLIMIT_FSIZE (ulimit -f) is an error that names the limit, and not SIGXFSZ, which would end
    the command without a word."""
    pattern_file(disk)
    with open(disk.path("small"), "wb") as f:
        f.truncate(SIZE_LIMIT)
    disk("create", "-f", "qcow2", disk.path("small.qcow2"), SIZE_LIMIT).ok()
    disk("create", "-f", "qcow2", "-o", "cluster_size=512", disk.path("wide.qcow2"), "64G").ok()
    words = [disk.path({"full": "full.raw"}.get(w, w)) if w in ("full", "new", "small", "small.qcow2", "wide.qcow2") else w for w in command]
    with limited(SIZE_LIMIT):
        disk(*words).failed("RLIMIT_FSIZE", "ulimit -f")
    disk(*words).ok()


@contextlib.contextmanager
def limited(size):
    """Limits the size of the files of this process and those that it starts."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def pattern_file(disk):
    path = disk.path("full.raw")
    with open(path, "wb") as f:
        f.write(random.Random(1).randbytes(9 * MiB))
    return path
