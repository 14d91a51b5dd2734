# SPDX-License-Identifier: Apache-2.0
"""Tests valid images that readers of qcow2 read differently (measured with imago, libqcow, dissect.hypervisor and
7-Zip): caisson must read them as QEMU does."""
import json
import os
import struct
import subprocess

import pytest

from conftest import MiB, pattern, qemu
from test_hostile import get, l2_entries, put, qemu_io


def same_bytes(disk, image, *more):
    disk("convert", "--backing", disk.tmp, *more, "-f", "qcow2", "-O", "raw", image, disk.path("ours.raw")).ok()
    qemu("convert", "-f", "qcow2", "-O", "raw", image, disk.path("theirs.raw")).ok()
    ours = open(disk.path("ours.raw"), "rb").read()
    assert ours == open(disk.path("theirs.raw"), "rb").read()
    return ours


def test_zstd_in_the_header_and_no_compressed_cluster(disk, raw):
    """An image whose header names zstd and that has no compressed cluster can be read. imago, libqcow and 7-Zip refuse
    it at open."""
    image = disk.path("z.qcow2")
    qemu("convert", "-O", "qcow2", "-o", "compression_type=zstd", raw, image).ok()
    same_bytes(disk, image)
    # caisson writes zlib into the header unless zstd was asked for.
    disk("convert", "-c", raw, disk.path("ours.qcow2")).ok()
    assert get(disk.path("ours.qcow2"), "compression_type") == 0


def test_extended_l2_with_compressed_clusters_over_a_backing_file(disk, raw):
    image = disk.path("e.qcow2")
    qemu("create", "-f", "qcow2", "-o", "extended_l2=on", "-b", raw, "-F", "raw", image).ok()
    for c in ("write -P 1 64k 2k", "write -P 2 130k 9k", "write -c -P 3 1M 64k", "write -z 3M 4k", "write -c -P 4 10M 64k", "write -P 5 10M 2k"):
        qemu_io(image, c)
    assert same_bytes(disk, image)[MiB] == 3


def test_zero_bit_with_an_offset(disk):
    """A cluster with the zero bit reads as zeros even if its entry has an offset. libqcow returns the old data at the
    offset."""
    image = disk.path("z.qcow2")
    qemu("create", "-f", "qcow2", image, "1M").ok()
    qemu_io(image, "write -P 7 0 256k")
    at, entries = l2_entries(image)
    put(image, at, ">Q", entries[0] | 1)          # the zero bit together with the offset
    put(image, at + 8, ">Q", 1)                   # the zero bit without an offset
    put(image, at + 16, ">Q", (entries[2] & ~(1 << 63)) | 1)
    data = same_bytes(disk, image)
    assert data[:3 * 65536] == bytes(3 * 65536) and data[3 * 65536] == 7


@pytest.mark.parametrize("opts", ["compat=1.1", "extended_l2=on", "compat=0.10"])
def test_overlay_larger_than_its_backing_file(disk, raw, opts):
    """An overlay that is larger than its backing file has zeros behind it. The backing file ends within a cluster, and
    within a sector. dissect.hypervisor ends early."""
    image = disk.path("o.qcow2")
    with open(raw, "r+b") as f:
        f.truncate(5 * MiB + 1536)
    qemu("create", "-f", "qcow2", "-o", opts, "-b", raw, "-F", "raw", image, "9M").ok()
    same_bytes(disk, image)
    qemu_io(image, f"write -P 3 {5 * MiB + 4096} 512")
    data = same_bytes(disk, image)
    assert len(data) == 9 * MiB and data[6 * MiB:] == bytes(3 * MiB)
    # caisson's own copy on write must also be right at that place.
    ours = disk.path("w.qcow2")
    disk("create", "--backing", "on", "-f", "qcow2", "-o", opts, "-b", "source.raw", "-F", "raw", ours, "9M").ok()
    with open(disk.path("patch.raw"), "wb") as f:
        f.write(data)
    disk("convert", "-n", disk.path("patch.raw"), ours).ok()
    assert same_bytes(disk, ours) == data
    disk.sound(ours)


def test_size_that_is_no_multiple_of_a_cluster(disk):
    image, data = disk.path("s.qcow2"), os.urandom(3 * 65536 + 512)
    with open(disk.path("s.raw"), "wb") as f:
        f.write(data)
    for args in ([], ["-c"], ["-o", "extended_l2=on"], ["-c", "-o", "compression_type=zstd"]):
        disk("convert", *args, disk.path("s.raw"), image).ok()
        assert same_bytes(disk, image) == data


def test_backing_format_that_differs_from_the_content(disk, raw):
    """A backing file that is named raw stays raw even if its bytes are a qcow2 image, which a guest may have written.
    """
    base, image = disk.path("base.img"), disk.path("o.qcow2")
    disk("convert", "-O", "qcow2", raw, base).ok()
    qemu("create", "-f", "qcow2", "-b", base, "-F", "raw", image).ok()
    assert same_bytes(disk, image)[:4] == b"QFI\xfb"
