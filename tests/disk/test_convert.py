# SPDX-License-Identifier: Apache-2.0
"""Tests every subformat of qcow2: an image made by qemu-img or by caisson has the same contents for both."""
import hashlib
import json
import os
import signal
import subprocess

import pytest

from conftest import MiB, Disk, pattern, qemu

SUBFORMATS = [
    "", "compat=0.10", "cluster_size=512", "cluster_size=4k,refcount_bits=1", "cluster_size=2M", "extended_l2=on",
    "extended_l2=on,cluster_size=16k", "refcount_bits=64", "refcount_bits=2,lazy_refcounts=on", "compression_type=zstd",
    "preallocation=metadata", "preallocation=falloc", "preallocation=full,cluster_size=64k"]
COMPRESSED = ["", "compat=0.10", "compression_type=zstd", "cluster_size=512", "cluster_size=2M", "refcount_bits=1",
              "extended_l2=on", "compression_type=zstd,extended_l2=on,cluster_size=16k"]
MATRIX = [(o, False) for o in SUBFORMATS] + [(o, True) for o in COMPRESSED]


def options(text):
    return ["-o", text] if text else []


@pytest.mark.parametrize("opts,compressed", MATRIX)
@pytest.mark.parametrize("maker", ["qemu-img", "caisson"])
def test_matrix(disk, raw, maker, opts, compressed):
    image, back = disk.path("image.qcow2"), disk.path("back.raw")
    args = ["convert", "-f", "raw", "-O", "qcow2", *(["-c"] if compressed else []), *options(opts), raw, image]
    (qemu if maker == "qemu-img" else disk)(*args).ok()
    disk.sound(image)
    disk.same(raw, "raw", image, "qcow2")
    disk("convert", "-f", "qcow2", "-O", "raw", image, back).ok()
    with open(raw, "rb") as a, open(back, "rb") as b:
        assert a.read() == b.read()


@pytest.mark.parametrize("opts,compressed", MATRIX)
def test_info_equals_that_of_qemu(disk, raw, opts, compressed):
    image = disk.path("image.qcow2")
    disk("convert", "-f", "raw", "-O", "qcow2", *(["-c"] if compressed else []), *options(opts), raw, image).ok()
    ours, theirs = disk.info(image), json.loads(qemu("info", "-f", "qcow2", "--output", "json", image).ok().out)
    for key in ("filename", "format", "virtual-size", "actual-size", "cluster-size", "dirty-flag"):
        assert ours[key] == theirs[key], key
    assert ours["format-specific"] == theirs["format-specific"]


def merged(entries):
    """Joins neighbouring entries of the map that say the same, because QEMU reports some extents in pieces."""
    out = []
    for e in entries:
        at = e["offset"] - e["start"] if e["data"] else None
        if out and out[-1][2:] == (e["data"], e["zero"], e["depth"], at):
            e = {**e, "start": out[-1][0], "length": out.pop()[1] + e["length"]}
        out.append((e["start"], e["length"], e["data"], e["zero"], e["depth"], at))
    return out


@pytest.mark.parametrize("opts", ["", "compat=0.10", "extended_l2=on", "cluster_size=512"])
def test_map_equals_that_of_qemu(disk, raw, opts):
    image = disk.path("image.qcow2")
    qemu("convert", "-f", "raw", "-O", "qcow2", *options(opts), raw, image).ok()
    theirs = json.loads(qemu("map", "-f", "qcow2", "--output", "json", image).ok().out)
    assert merged(json.loads(disk("map", "--json", image).ok().out)) == merged(theirs)
    # The form for people must also be equal, word for word, except for the zeros that both leave out.
    if not opts:
        assert disk("map", image).ok().out == qemu("map", "-f", "qcow2", image).ok().out


def test_sparse_stays_sparse(disk):
    """Converting a sparse terabyte with two written sectors takes neither long nor much room."""
    a, b, c = disk.path("a.raw"), disk.path("b.qcow2"), disk.path("c.raw")
    with open(a, "wb") as f:
        f.truncate(1 << 40)
        f.seek(5 << 30)
        f.write(b"x" * 512)
        f.seek(900 << 30)
        f.write(b"y" * 512)
    disk("convert", "-O", "qcow2", a, b).ok()
    disk("convert", "-f", "qcow2", b, c).ok()
    assert os.stat(b).st_blocks * 512 < 2 * MiB and os.stat(c).st_blocks * 512 < MiB
    assert os.stat(c).st_size == 1 << 40
    disk("compare", a, b).ok()
    disk("compare", b, c).ok()
    disk.sound(b)


@pytest.mark.parametrize("compressed", [False, True])
def test_written_zeros_are_left_out(disk, compressed):
    a, b = disk.path("a.raw"), disk.path("b.qcow2")
    with open(a, "wb") as f:
        f.write(bytes(8 * MiB) + b"x" * 512)
    disk("convert", *(["-c"] if compressed else []), a, b).ok()
    assert os.stat(b).st_blocks * 512 < 600 << 10


def test_odd_size_is_rounded_up(disk):
    """An odd size is rounded up to whole sectors, and the missing bytes are zeros, as with QEMU."""
    a, b = disk.path("a.raw"), disk.path("b.qcow2")
    with open(a, "wb") as f:
        f.write(b"x" * 70001)
    disk("convert", a, b).ok()
    assert disk.info(b)["virtual-size"] == 70144 == disk.info(a, "raw")["virtual-size"]
    disk.same(a, "raw", b, "qcow2")


def test_into_an_existing_target(disk, raw):
    """With -n nothing of the target's old contents is left, even where the source has zeros."""
    target = pattern(disk.path("target.raw"), 13 * MiB, seed=7)
    disk("convert", "-n", "-O", "raw", raw, target).ok()
    with open(raw, "rb") as a, open(target, "rb") as b:
        assert a.read() == b.read(os.stat(raw).st_size)
    image = disk.path("target.qcow2")
    qemu("convert", "-O", "qcow2", pattern(disk.path("old.raw"), 12 * MiB + 512, seed=8), image).ok()
    disk("convert", "-n", raw, image).ok()
    disk.same(raw, "raw", image, "qcow2")
    disk.sound(image)


def test_compare_finds_the_first_difference(disk, raw):
    image, other = disk.path("a.qcow2"), disk.path("b.raw")
    disk("convert", raw, image).ok()
    with open(raw, "rb") as a, open(other, "wb") as b:
        data = bytearray(a.read())
        data[9 * MiB] ^= 1
        data[3 * MiB + 77] ^= 1
        b.write(data)
    r = disk("compare", image, other)
    assert (r.rc, r.out) == (1, f"Content mismatch at offset {3 * MiB + 77}!\n")
    with open(raw, "r+b") as f:
        f.truncate(14 * MiB)
    assert disk("compare", image, raw).ok().out == "Warning: Image size mismatch!\nImages are identical.\n"
    assert disk("compare", "-s", image, raw).rc == 1
    assert disk("compare", image, disk.path("missing.raw")).rc == 2


def test_source_is_never_written(disk, raw):
    """Commands that read leave the image's bytes unchanged, and open files that they may not write read-only."""
    base, image = disk.path("base.qcow2"), disk.path("image.qcow2")
    qemu("convert", "-O", "qcow2", raw, base).ok()
    qemu("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", image).ok()
    # The image is marked as not closed, so a writer would repair it first.
    with open(image, "r+b") as f:
        f.seek(79)
        f.write(b"\1")
    before = [hashlib.sha256(open(p, "rb").read()).digest() for p in (base, image)]
    for args in (["info", image], ["map", "--backing", "on", image], ["check", "-q", image], ["snapshot", image],
                 ["compare", "--backing", "on", image, base], ["convert", "--backing", "on", image, disk.path("o.raw")]):
        trace = disk.path("trace")
        p = subprocess.run(["strace", "-f", "-e", "trace=openat,openat2,pwrite64,pwritev,fallocate,ftruncate", "-o", trace,
                            disk.binary, "disk", *args], capture_output=True, text=True, timeout=60)
        assert p.returncode == 0, (args, p)
        for line in open(trace):
            if "qcow2" in line:
                assert "O_RDWR" not in line and "O_WRONLY" not in line, line
    assert before == [hashlib.sha256(open(p, "rb").read()).digest() for p in (base, image)]


def test_formats_are_named(disk, raw):
    """The format must be named: no command guesses it from the file's contents."""
    image = disk.path("image.img")
    disk("convert", "-O", "qcow2", raw, image).ok()
    disk("info", image).failed("image.img", "-f")
    assert disk.info(image, "raw")["virtual-size"] == os.stat(image).st_size
    disk("info", "-f", "nonsense", image).failed("nonsense")
    disk("info", "-f", "vhd", image).failed("-f vhd", "vpc")
    disk("info", "-f", "qcow2", raw).failed("qcow2 header", "0x514649fb")
    disk("create", "-f", "qcow2", "-b", "image.img", disk.path("o.qcow2")).failed("-F")


def test_onto_itself(disk, raw):
    """A source that is the target too stays as it is, under whatever name."""
    image, link = disk.path("i.qcow2"), disk.path("link.raw")
    disk("convert", raw, image).ok()
    os.link(raw, link)
    before = [open(p, "rb").read() for p in (raw, image)]
    for source, target in ((image, image), (raw, raw), (raw, link)):
        disk("convert", source, target).failed("is both SOURCE", "and TARGET")
    assert before == [open(p, "rb").read() for p in (raw, image)]


@pytest.mark.parametrize("share", [[], ["-U"]])
def test_onto_a_backing_file_of_the_source(disk, raw, share):
    """No lock protects the backing file if the user asks for none."""
    base, top = disk.path("base.qcow2"), disk.path("top.qcow2")
    disk("convert", raw, base).ok()
    disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top).ok()
    disk("convert", *share, "-O", "qcow2", top, base).failed("a backing file of SOURCE", "name another TARGET")
    disk.same(raw, "raw", base, "qcow2")


def test_onto_a_part_of_the_source(disk, raw):
    """A data file and an extent are files of the source too."""
    image, data, flat = disk.path("a.qcow2"), disk.path("data.raw"), disk.path("a.vmdk")
    disk("create", "-f", "qcow2", "-o", f"data_file={data}", image, str(os.stat(raw).st_size)).ok()
    disk("convert", "-n", raw, image).ok()
    qemu("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", raw, flat).ok()
    for source, part in ((image, data), (flat, disk.path("a-flat.vmdk"))):
        disk("convert", "-U", "--backing", "on", "-O", "qcow2", source, part).failed("a part of it", "another TARGET")
        disk("convert", "-U", "--backing", "on", "-O", "qcow2", "-o", f"data_file={part}", source, disk.path("new.qcow2")).failed("a file of SOURCE")
        disk.same(raw, "raw", part, "raw")
        assert not os.path.exists(disk.path("new.qcow2"))


@pytest.mark.parametrize("end,existing", [
    ("TERM", False), ("TERM", True), ("INT", False), ("no space", False), ("no space", True)])
def test_a_copy_that_fails_leaves_no_target(disk, tmp, end, existing):
    """A part of a disk looks like a whole one, so a new target is removed. One that was there stays."""
    source, small = disk.path("big.raw"), disk.path("small")
    with open(source, "wb") as f:
        for _ in range(24):
            f.write(os.urandom(MiB))
    os.mkdir(small)
    target = os.path.join(small, "t.qcow2")
    size = "8m" if end == "no space" else "400m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], check=True)
    try:
        if existing:
            disk("create", "-f", "qcow2", target, "1M").ok()
        p = subprocess.Popen(["env", "--default-signal=INT", disk.binary, "disk", "convert", "-c", "-m", "1", source, target],
                             stderr=subprocess.PIPE, text=True)
        if end != "no space":
            while not os.path.exists(target) or os.stat(target).st_size < MiB:
                assert p.poll() is None
            p.send_signal(getattr(signal, "SIG" + end))
        err = p.communicate(timeout=60)[1]
        assert p.returncode == 1 and len(err.splitlines()) == 1, (p.returncode, err)
        assert ("No space left" if end == "no space" else "ended by signal") in err
        assert os.listdir(small) == (["t.qcow2"] if existing else [])
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_signal_ends_the_reservation_of_a_target(disk, tmp):
    """It is pending from the beginning. A program that does not look for it fills the small file system instead."""
    source, small = disk.path("big.raw"), disk.path("small")
    with open(source, "wb") as f:
        f.truncate(1 << 30)
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=True)

    def be_terminated():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        for target, how in (("t.qcow2", "full"), ("t.qcow2", "falloc"), ("t.raw", "full")):
            p = subprocess.run([disk.binary, "disk", "convert", "-o", f"preallocation={how}", source, os.path.join(small, target)],
                               capture_output=True, text=True, preexec_fn=be_terminated, timeout=60)
            assert p.returncode == 1 and "ended by signal" in p.stderr, (how, p)
            assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_signal_that_is_ignored_ends_no_copy(disk):
    """nohup(1) ignores SIGHUP, and a shell's background jobs SIGINT."""
    source, target = disk.path("big.raw"), disk.path("t.qcow2")
    with open(source, "wb") as f:
        for _ in range(24):
            f.write(os.urandom(MiB))
    p = subprocess.Popen(["nohup", disk.binary, "disk", "convert", "-c", "-m", "1", source, target],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not os.path.exists(target) or os.stat(target).st_size < MiB:
        assert p.poll() is None
    p.send_signal(signal.SIGHUP)
    out = p.communicate(timeout=60)[0]
    assert p.returncode == 0, out
    disk.same(source, "raw", target, "qcow2")


def test_a_long_hole_is_zeroed_to_its_end(disk):
    """The target has old data in each part of the hole, and the source has data behind it."""
    source, target, size = disk.path("hole.raw"), disk.path("old.raw"), (5 << 29) + 3 * MiB
    for name, spots in ((source, [size - 512]), (target, [0, (1 << 30) - 512, 1 << 30, 2 << 30, size - 2 * MiB])):
        with open(name, "wb") as f:
            for at in spots:
                f.seek(at)
                f.write(b"x" * 512)
            f.truncate(size)
    disk("convert", "-n", source, target).ok()
    assert os.stat(target).st_blocks < 1000
    disk.same(source, "raw", target, "raw")
