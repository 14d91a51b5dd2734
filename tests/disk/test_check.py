# SPDX-License-Identifier: Apache-2.0
"""`caisson disk check` of VDI, VMDK, VHD and VHDX images: sound ones, and ones whose tables lie. qemu-img checks VDI, VMDK and VHDX
too, so both must find a fault or none."""
import json
import os
import struct
import subprocess

import pytest

from conftest import MiB, qemu
from test_foreign import GUID_BAT, MATRIX, footer, get, make, put, qemu_io, region, vhd_sum


def check(disk, image, fmt, *more):
    r = disk("check", "--json", *more, "-f", fmt, image)
    assert r.rc in (0, 2, 3), r
    r.json = json.loads(r.out)
    assert r.rc == (2 if r.json["corruptions"] else 3 if r.json["leaks"] else 0), r
    return r


@pytest.mark.parametrize("fmt,opts", MATRIX)
def test_sound_images(disk, raw, fmt, opts):
    image = make(disk, raw, fmt, opts)
    r = check(disk, image, fmt, "--backing", "on")
    assert r.rc == 0 and r.err == "" and r.json["format"] == fmt, r
    fixed = "static" in opts or "fixed" in opts or "Flat" in opts
    assert 0 < r.json["allocated-clusters"] <= r.json["total-clusters"] or fixed
    assert r.json["compressed-clusters"] == (r.json["allocated-clusters"] if "stream" in opts else 0)
    assert r.json["image-end-offset"] <= max(os.path.getsize(disk.path(n)) for n in os.listdir(disk.tmp) if n.startswith("image"))
    if fmt != "vpc":
        qemu("check", "-f", fmt, image).ok()
    assert "No errors were found" in disk("check", "--backing", "on", "-f", fmt, image).ok().out


# For each format: the form of a table entry, the numbers of the entries of the offsets 0, 16 MiB and 48 MiB, the value without a
# block, one that points out of the file, and one that points at a structure of the image.
KINDS = {"vdi": ("<I", (0, 16, 48), 0xffffffff, 64, None), "vmdk": ("<I", (0, 256, 512 + 256), 0, 0x7fffffff, 0),
         "vpc": (">I", (0, 8, 24), 0xffffffff, 0x7fffffff, 1), "vhdx": ("<Q", (0, 2, 6), 0, 1 << 40 | 6, 1 << 20 | 6)}


class Small:
    """An image of 64 MiB with three blocks of data, and its table."""

    def __init__(self, disk, fmt):
        self.image, self.fmt = disk.path(f"image.{fmt}"), fmt
        self.form, self.used, self.free, self.outside, self.structure = KINDS[fmt]
        qemu("create", "-f", fmt, self.image, "64M").ok()
        qemu_io(self.image, fmt, "write -P 1 0 64k", "write -P 2 16M 64k", "write -P 3 48M 64k")
        assert check(disk, self.image, fmt).json["allocated-clusters"] == 3

    def at(self, i):
        if self.fmt == "vmdk":
            return get(self.image, get(self.image, 56, "<Q")[0] * 512 + i // 512 * 4, "<I")[0] * 512 + i % 512 * 4
        size = struct.calcsize(self.form)
        return size * i + {"vdi": lambda: get(self.image, 0x154, "<I")[0], "vpc": lambda: get(self.image, 512 + 16, ">Q")[0],
                           "vhdx": lambda: region(self.image, GUID_BAT)[0]}[self.fmt]()

    def __getitem__(self, i):
        return get(self.image, self.at(i), self.form)[0]

    def __setitem__(self, i, value):
        put(self.image, self.at(i), self.form, value)


@pytest.fixture(params=KINDS)
def small(request, disk):
    return Small(disk, request.param)


def test_a_block_that_is_used_twice(disk, small):
    """qemu-img does not see it in VMDK and VHDX images."""
    small[small.used[1]] = small[small.used[0]]
    r = check(disk, small.image, small.fmt)
    assert (r.rc, r.json["corruptions"], r.json["leaks"]) == (2, 1, 1), r
    assert "are used by something else too" in r.err and f"entry {small.used[1]}:" in r.err and "room for 1 blocks" in r.err
    if small.fmt == "vdi":
        assert qemu("check", "-f", "vdi", small.image).rc == 2
    assert "errors were found" in disk("check", "-f", small.fmt, small.image).out


def test_a_block_out_of_the_file(disk, small):
    small[small.used[1]] = small.outside
    r = check(disk, small.image, small.fmt)
    assert (r.rc, r.json["corruptions"], r.json["leaks"]) == (2, 1, 1) and "within the file's" in r.err, r
    if small.fmt != "vpc":
        assert qemu("check", "-f", small.fmt, small.image).rc == (1 if small.fmt == "vmdk" else 2)


def test_a_block_on_a_structure(disk, small):
    i = small.used[1]
    if small.fmt == "vdi":  # Blocks are numbered from an offset on that the header has.
        put(small.image, 0x158, "<I", 0)
    else:
        small[i] = small.at(i) // 512 if small.fmt == "vmdk" else small.structure
    r = check(disk, small.image, small.fmt)
    # A VMDK grain is larger than a grain table, so it lies on both tables.
    assert r.json["corruptions"] == (2 if small.fmt == "vmdk" else 1) and "are used by something else too" in r.err, r


def test_leaks(disk, small):
    """For qemu-img only the number of blocks of a VDI image is wrong then, which it calls an error."""
    small[small.used[1]] = small.free
    r = check(disk, small.image, small.fmt)
    assert (r.rc, r.json["corruptions"], r.json["leaks"]) == (3, 0, 1), r
    assert "leaked clusters were found" in disk("check", "-q", "-f", small.fmt, small.image).out
    # There is no repair of a format that is only read, and the image stays as it is.
    with open(small.image, "rb") as f:
        before = f.read()
    for how in "leaks", "all":
        disk("check", "-r", how, "-f", small.fmt, small.image).failed("are only read", "convert it to qcow2", rc=63)
        qemu_rc = qemu("check", "-r", how, "-f", small.fmt, small.image).rc
        assert qemu_rc == 63 or small.fmt == "vhdx", qemu_rc
    if small.fmt != "vhdx":
        with open(small.image, "rb") as f:
            assert f.read() == before


def test_what_has_no_check(disk, raw):
    disk("check", "-f", "raw", raw).failed("nothing that can be checked", rc=63)
    assert qemu("check", "-f", "raw", raw).rc == 63
    image = make(disk, raw, "vdi", "")
    put(image, 0x44, "<I", 0x20000)
    disk("check", image).failed("version: found 2.0", rc=1)


# ---- what only one format has ----

def test_vdi_number_of_blocks(disk):
    s = Small(disk, "vdi")
    put(s.image, 0x184, "<I", 2)
    assert "would overwrite" in check(disk, s.image, "vdi").err and qemu("check", "-f", "vdi", s.image).rc == 2
    put(s.image, 0x184, "<I", 4)
    assert check(disk, s.image, "vdi").rc == 2 and qemu("check", "-f", "vdi", s.image).rc == 2
    put(s.image, 0x184, "<I", 3)
    s[5] = 3  # qemu-img does not look whether the file has this block.
    assert "entry 5 at offset" in check(disk, s.image, "vdi").err


def test_vhd_footers(disk, raw):
    image = make(disk, raw, "vpc", "force_size=on")
    size, good = os.path.getsize(image), get(image, 0, "512s")[0]
    put(image, size - 512, "512s", bytes(512))
    assert "last 512 bytes" in check(disk, image, "vpc").err
    put(image, size - 512, "512s", good)
    put(image, 0, "512s", bytes(512))
    r = check(disk, image, "vpc")
    assert "first 512 bytes" in r.err and r.json["corruptions"] == 1


def test_vhd_of_two_tebibytes(disk):
    """Blocks all over a huge file: they are found with little memory, and each fault once, wherever in the file it is."""
    image, block, gib = disk.path("huge.vhd"), 2 * MiB, 1 << 30
    blocks = 2040 * gib // block
    head = struct.pack(">8sQQIII", b"cxsparse", (1 << 64) - 1, 2048, 0x10000, blocks, block).ljust(1024, b"\0")
    head = head[:36] + struct.pack(">I", vhd_sum(head, 36)) + head[40:]
    foot = footer(blocks * block, 3, data_at=512)
    places = [5 * gib // 512, 1000 * gib // 512, 1000 * gib // 512 + 4095, 1000 * gib // 512 + 8193, 2039 * gib // 512, 32 * gib // 512 - 9]
    with open(image, "wb") as f:
        f.write(foot + head + bytes(512) + b"\xff" * (blocks * 4))
        for i, p in enumerate(places):
            f.seek(2048 + (i * 997 + 5) * 4)
            f.write(struct.pack(">I", p))
        f.truncate(2044 * gib)
        f.seek(0, 2)
        f.write(foot)
    p = subprocess.run(["/usr/bin/time", "-f", "%M", disk.binary, "disk", "check", "-f", "vpc", "--json", image], capture_output=True,
                       text=True, timeout=60)
    r, lines = json.loads(p.stdout), p.stderr.strip().split("\n")
    assert p.returncode == 2 and (r["corruptions"], r["allocated-clusters"]) == (1, 6), p
    assert f"entry {2 * 997 + 5}:" in p.stderr and int(lines[-1]) < 32 << 10, p.stderr
    # All that the file has between the blocks is leaked, in whole blocks.
    assert r["leaks"] > 2043 * gib // (block + 512) - 8


def test_vmdk_extents(disk, raw):
    image = make(disk, raw, "vmdk", "subformat=twoGbMaxExtentSparse")
    disk("check", image).failed("its extents are files of their own", "--backing on")
    extent = image.replace(".vmdk", "-s001.vmdk")
    directory = get(extent, 56, "<Q")[0] * 512
    put(extent, directory, "<I", 0x7fffffff)
    assert "grain directory entry 0" in check(disk, image, "vmdk", "--backing", "on").err
    put(extent, directory, "<I", directory // 512)
    assert check(disk, image, "vmdk", "--backing", disk.tmp).rc == 2


def test_vmdk_copies_and_markers(disk, raw):
    s = Small(disk, "vmdk")
    copy = get(s.image, 48, "<Q")[0] * 512
    put(s.image, copy, "<I", 0x7fffffff)
    assert "found a table at sector" in check(disk, s.image, "vmdk").err
    stream = make(disk, raw, "vmdk", "subformat=streamOptimized", "stream")
    put(stream, 512 * 128, "<Q", 7)
    assert "for sector 7, expected some for sector" in check(disk, stream, "vmdk").err
    put(stream, 512 * 128 + 8, "<I", 0x7fffffff)
    assert "compressed bytes" in check(disk, stream, "vmdk").err


def test_vhdx_blocks_that_were_discarded(disk):
    """They keep their place in the file, which another block may have meanwhile."""
    s = Small(disk, "vhdx")
    for state in 1, 2, 3:
        s[s.used[1]] = s[s.used[1]] & ~7 | state
        assert check(disk, s.image, "vhdx").rc == 0
    s[s.used[1]] = s[s.used[0]] & ~7 | 3
    r = check(disk, s.image, "vhdx")
    assert (r.rc, r.json["leaks"], r.json["allocated-clusters"]) == (3, 1, 2)
    s[s.used[1]] = 5
    assert "found state 5" in check(disk, s.image, "vhdx").err
