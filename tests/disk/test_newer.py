# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson disk` beside a newer QEMU than that of Debian 12, whose version is 7.2: qemu-img and qemu-io of trixie-backports (11.1 in November
2026, tests/lib/newer-qemu). Each program makes an image in each subformat, and the other one reads the same bytes. The last tests have what
QEMU 7.2 does not write or reads otherwise."""
import os
import subprocess

import pytest

from conftest import MiB, call, pattern
from harness import machine, rootfs
from test_convert import MATRIX, options
from test_foreign import MATRIX as FOREIGN
from test_foreign import footer, read
from test_hostile import l2_entries
from test_luks import FAST, Luks

OLDEST = (10, 0)


@pytest.fixture(scope="session")
def newer():
    """The directory with the programs."""
    r = machine.outside([os.path.join(rootfs.TESTS, "lib", "newer-qemu")], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, check=True)
    path = r.stdout.split()[-1]
    version = call(path + "/qemu-img", "--version").ok().out.split()[2]
    assert tuple(map(int, version.split(".")[:2])) >= OLDEST, version
    return path


@pytest.fixture
def qemu(newer):
    return lambda *args: call(newer + "/qemu-img", *args)


@pytest.fixture
def io(newer):
    return lambda image, *commands: call(newer + "/qemu-io", "--image-opts", image, *(x for c in commands for x in ("-c", c))).ok()


@pytest.fixture
def source(tmp):
    return pattern(os.path.join(tmp, "source.raw"), 3 * MiB + 512, pieces=20)


def content(path):
    with open(path, "rb") as f:
        return f.read()


@pytest.mark.parametrize("opts,compressed", MATRIX)
def test_qcow2(disk, qemu, source, opts, compressed):
    """Both programs find each other's image sound and read the same bytes from it."""
    theirs, ours = disk.path("theirs.qcow2"), disk.path("ours.qcow2")
    args = ["convert", "-f", "raw", "-O", "qcow2", *(["-c"] if compressed else []), *options(opts), source]
    qemu(*args, theirs).ok()
    disk("check", "-f", "qcow2", theirs).ok()
    assert read(disk, theirs, "qcow2") == content(source)
    disk(*args, ours).ok()
    qemu("check", "-f", "qcow2", ours).ok()
    qemu("compare", "-f", "raw", "-F", "qcow2", source, ours).ok()


@pytest.mark.parametrize("fmt,opts", FOREIGN)
def test_other_formats(disk, qemu, source, fmt, opts):
    image = disk.path(f"image.{fmt}")
    qemu("convert", "-f", "raw", "-O", fmt, *options(opts), source, image).ok()
    data = read(disk, image, fmt, "--backing", "on")
    assert data[:os.path.getsize(source)] == content(source) and not any(data[os.path.getsize(source):])


@pytest.mark.parametrize("maker", ["caisson", "qemu"])
def test_encrypted(disk, qemu, source, maker):
    luks, image = Luks(disk), disk.path("e.qcow2")
    if maker == "caisson":
        luks.make("convert", "-f", "raw", source, image).ok()
    else:
        for _ in range(20):  # see Luks.qemu_make()
            r = qemu("convert", *luks.secret, "-f", "raw", "-O", "qcow2", "-o", FAST + ",encrypt.key-secret=s", source, image)
            if "accurate CPU usage" not in r.err:
                break
        r.ok()
    qemu("convert", *luks.opts(image), "-O", "raw", disk.path("theirs.raw")).ok()
    assert content(disk.path("theirs.raw")) == read(disk, image, "qcow2", "--key", luks.key) == content(source)


def test_discarded_clusters_that_keep_their_place(disk, qemu, io, source):
    """With discard-no-unref, which QEMU has since 8.1, a discarded cluster reads as zeros but keeps its place in the file, and its refcount.
    Afterwards caisson writes into these clusters, and both programs find the image sound."""
    image, patch = disk.path("kept.qcow2"), disk.path("patch.raw")
    qemu("convert", "-f", "raw", "-O", "qcow2", "-S", "0", source, image).ok()
    io(f"driver=qcow2,discard=unmap,discard-no-unref=on,file.filename={image}", "discard 0 256k")
    _, entries = l2_entries(image)
    assert all(e & 1 and e & ~(1 << 63 | 1) for e in entries[:4]), entries[:4]
    disk("check", "-f", "qcow2", image).ok()
    want = bytes(256 << 10) + content(source)[256 << 10:]
    assert read(disk, image, "qcow2") == want
    with open(patch, "wb") as f:
        f.write(want[:70000] + b"new" + want[70003:])
    disk("convert", "-n", "-f", "raw", patch, image).ok()
    disk.sound(image)
    qemu("compare", "-f", "raw", "-F", "qcow2", patch, image).ok()


@pytest.mark.parametrize("creator", [b"\0\0\0\0", b"vbox", b"wa\0\0", b"vpc ", b"qemu", b"CTXS"])
def test_size_of_vhd(disk, qemu, creator):
    """QEMU 10 has turned the rule around: only Virtual PC's and its own images have the size of their geometry. QEMU 7.2 loses the end of a
    disk of VirtualBox or Azure."""
    image = disk.path("f.vhd")
    with open(image, "wb") as f:
        f.write(b"\x11" * (9 * MiB) + footer(9 * MiB, 2, creator, (10, 4, 17)))
    qemu("convert", "-f", "vpc", "-O", "raw", image, disk.path("theirs.raw")).ok()
    data = read(disk, image, "vpc")
    assert data == content(disk.path("theirs.raw")) and len(data) == (10 * 4 * 17 * 512 if creator in (b"vpc ", b"qemu") else 9 * MiB)
