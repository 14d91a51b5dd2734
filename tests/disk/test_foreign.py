# SPDX-License-Identifier: Apache-2.0
"""VDI, VMDK, VHD and VHDX images, which caisson only reads: made by qemu-img, and by hand where it can't make them."""
import json
import os
import re
import shutil
import struct
import subprocess
import uuid

import pytest

from harness.checksum import crc32c
from conftest import MiB, call, pattern, qemu

MATRIX = [
    ("vdi", ""), ("vdi", "static=on"),
    ("vmdk", ""), ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"), ("vmdk", "subformat=streamOptimized"),
    ("vmdk", "subformat=monolithicFlat"), ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vmdk", "subformat=twoGbMaxExtentFlat"),
    ("vmdk", "adapter_type=lsilogic,hwversion=6"),
    ("vpc", "force_size=on"), ("vpc", ""), ("vpc", "subformat=fixed,force_size=on"), ("vpc", "subformat=fixed"),
    ("vhdx", ""), ("vhdx", "subformat=fixed"), ("vhdx", "block_size=1M"), ("vhdx", "block_size=256M,log_size=2M"),
    ("vhdx", "block_state_zero=off")]


def qemu_io(image, fmt, *commands):
    call("qemu-io", "-f", fmt, *(x for c in commands for x in ("-c", c)), image).ok()


def make(disk, raw, fmt, opts, name="image"):
    image = disk.path(f"{name}.{fmt}")
    qemu("convert", "-f", "raw", "-O", fmt, *(["-o", opts] if opts else []), raw, image).ok()
    return image


def same_bytes(disk, image, fmt, *more):
    """Reads the image with both programs, and returns its bytes."""
    disk("convert", "--backing", "on", *more, "-f", fmt, "-O", "raw", image, disk.path("ours.raw")).ok()
    qemu("convert", "-f", fmt, "-O", "raw", image, disk.path("theirs.raw")).ok()
    with open(disk.path("ours.raw"), "rb") as a, open(disk.path("theirs.raw"), "rb") as b:
        ours = a.read()
        assert ours == b.read()
    return ours


def read(disk, image, fmt, *more):
    disk("convert", *more, "-f", fmt, "-O", "raw", image, disk.path("ours.raw")).ok()
    with open(disk.path("ours.raw"), "rb") as f:
        return f.read()


def get(path, at, fmt):
    with open(path, "rb") as f:
        f.seek(at)
        return struct.unpack(fmt, f.read(struct.calcsize(fmt)))


def put(path, at, fmt, *values):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(struct.pack(fmt, *values))


@pytest.mark.parametrize("fmt,opts", MATRIX)
def test_matrix(disk, raw, fmt, opts):
    image = make(disk, raw, fmt, opts)
    with open(raw, "rb") as f:
        source = f.read()
    data = same_bytes(disk, image, fmt)
    assert data[:len(source)] == source and not any(data[len(source):])
    disk("compare", "--backing", "on", "-f", fmt, "-F", "raw", image, raw).ok()
    info, theirs = disk.info(image, fmt), json.loads(qemu("info", "-f", fmt, "--output", "json", image).ok().out)
    # `info` does not open the other files of an image, so it does not count them.
    several = "Flat" in opts or "twoGb" in opts
    for key in ("filename", "format", "virtual-size", *(() if several else ("actual-size",))):
        assert info[key] == theirs[key], key
    if fmt == "vmdk":
        ours, theirs = info["format-specific"]["data"], theirs["format-specific"]["data"]
        assert all(ours[k] == theirs[k] for k in ("cid", "parent-cid", "create-type"))


@pytest.mark.parametrize("fmt,opts", MATRIX)
def test_random_writes(disk, fmt, opts):
    """QEMU writes the image in an order of its own, so that blocks are not where their numbers are."""
    if "streamOptimized" in opts:
        pytest.skip("QEMU writes a stream once")
    image = disk.path(f"image.{fmt}")
    qemu("create", "-f", fmt, *(["-o", opts] if opts else []), image, "70M").ok()
    qemu_io(image, fmt, "write -P 1 64M 70k", "write -P 2 3M 4k", "write -P 3 33M 2M", "write -P 4 1023k 2k", "write -z 33M 1M",
            "write -P 5 34M 512", "write -P 6 0 512")
    data = same_bytes(disk, image, fmt)
    assert data[64 * MiB] == 1 and data[33 * MiB] == 0 and data[34 * MiB] == 5 and data[35 * MiB - 1] == 3


@pytest.mark.parametrize("fmt,opts", [("vdi", ""), ("vmdk", ""), ("vpc", "force_size=on"), ("vhdx", "")])
def test_overlay_takes_the_writes(disk, raw, fmt, opts):
    image, overlay = make(disk, raw, fmt, opts), disk.path("overlay.qcow2")
    disk("resize", image, "20M").failed(f"{fmt} images are only read", "qcow2 overlay")
    disk("create", "-f", "qcow2", "-b", image, "-F", fmt, overlay).ok()
    qemu_io(overlay, "qcow2", "write -P 9 1M 64k")
    data = same_bytes(disk, overlay, "qcow2")
    with open(raw, "rb") as f:
        source = f.read()
    assert data[MiB:MiB + 65536] == b"\x09" * 65536 and data[:MiB] == source[:MiB] and data[2 * MiB:len(source)] == source[2 * MiB:]


# ---- VDI ----

def test_vdi_block_table_with_holes_and_blocks_in_any_order(disk):
    """dissect.hypervisor reads the wrong bytes in reads that are longer than a block."""
    image = disk.path("i.vdi")
    qemu("create", "-f", "vdi", image, "6M").ok()
    qemu_io(image, "vdi", "write -P 5 5M 1M", "write -P 1 1M 1M", "write -P 3 3M 1M")
    table = get(image, 0x154, "<I")[0]
    assert get(image, table, "<6I") == (0xffffffff, 1, 0xffffffff, 2, 0xffffffff, 0)
    put(image, table + 8, "<I", 0xfffffffe)  # discarded: zeros
    data = same_bytes(disk, image, "vdi")
    assert [data[i * MiB] for i in range(6)] == [0, 1, 0, 3, 0, 5]


@pytest.mark.parametrize("at,fmt,value,text", [
    (0x40, "<I", 1, "signature"), (0x44, "<I", 0x00010002, "version"), (0x4c, "<I", 4, "image type: found 4"),
    (0x154, "<I", 0xfffffe00, "cut short"), (0x154, "<I", 1, "multiples"), (0x168, "<I", 4096, "sector size"),
    (0x170, "<Q", 1 << 63, "disk size"), (0x170, "<Q", 1 << 40, "blocks: found"), (0x178, "<I", 0, "block size"),
    (0x178, "<I", 3 << 19, "block size"), (0x17c, "<I", 512, "extra bytes"), (0x180, "<I", 2, "blocks: found 2")])
def test_vdi_bad_headers(disk, raw, at, fmt, value, text):
    image = make(disk, raw, "vdi", "")
    put(image, at, fmt, value)
    disk("info", "-f", "vdi", image).failed("VDI", text)


def test_vdi_bad_entries(disk, raw):
    image = make(disk, raw, "vdi", "")
    table = get(image, 0x154, "<I")[0]
    put(image, table, "<I", 5000)
    disk("convert", "-f", "vdi", image, disk.path("o.raw")).failed("VDI block table: entry 0", "found block 5000")
    os.truncate(image, 100)
    disk("info", "-f", "vdi", image).failed("cut short")


# ---- VMDK ----

def test_vmdk_zeroed_grain(disk):
    """A grain table entry of 1; libvmdk returns bytes of the descriptor for it."""
    image = disk.path("z.vmdk")
    qemu("create", "-f", "vmdk", "-o", "zeroed_grain=on", image, "4M").ok()
    qemu_io(image, "vmdk", "write -P 1 0 256k", "write -z 64k 64k")
    directory = get(image, 56, "<Q")[0] * 512
    table = get(image, directory, "<I")[0] * 512
    assert get(image, table + 4, "<I") == (1,)
    assert same_bytes(disk, image, "vmdk")[64 << 10:128 << 10] == bytes(65536)


def test_vmdk_chain(disk, raw):
    base, overlay = make(disk, raw, "vmdk", ""), disk.path("over.vmdk")
    qemu("create", "-f", "vmdk", "-b", "image.vmdk", "-F", "vmdk", overlay).ok()
    qemu_io(overlay, "vmdk", "write -P 7 1M 100k", "write -P 8 11M 512")
    data = same_bytes(disk, overlay, "vmdk")
    assert data[MiB] == 7 and data[11 * MiB] == 8
    disk("convert", "-f", "vmdk", overlay, disk.path("o.raw")).failed("no directory is allowed", "--backing on")
    # A parent that changed afterwards.
    with open(base, "r+b") as f:
        head = f.read(4096)
        f.seek(0)
        # QEMU writes a CID without zeros in front.
        f.write(re.sub(rb"(?m)^CID=([0-9a-f]+)", lambda m: b"CID=" + b"badcafe7"[:len(m[1])], head, count=1))
    disk("info", "-f", "vmdk", overlay).ok()
    disk("convert", "--backing", "on", "-f", "vmdk", overlay, disk.path("o.raw")).failed("parentCID", "was changed")


def test_vmdk_of_several_kinds_of_extents(disk, raw):
    """A descriptor written by hand, as other tools do: flat with an offset, sparse, zeros."""
    sparse = disk.path("part.vmdk")
    qemu("create", "-f", "vmdk", sparse, "2M").ok()
    qemu_io(sparse, "vmdk", "write -P 6 1M 64k")
    with open(disk.path("whole.vmdk"), "w", encoding="ascii") as f:
        f.write('# Disk DescriptorFile\r\nversion=1\r\nCID=123a\r\nparentCID=ffffffff\r\ncreateType = "custom"\r\n\r\n'
                '# Extent description\r\nRW 2048 FLAT "source.raw" 2048\r\nRW 1024 ZERO\r\nRW 4096 SPARSE "part.vmdk"\r\n'
                '  RDONLY 9 FLAT "source.raw"\r\n')
    data = read(disk, disk.path("whole.vmdk"), "vmdk", "--backing", "on")
    with open(raw, "rb") as f:
        source = f.read()
    assert len(data) == (2048 + 1024 + 4096 + 9) * 512
    assert data[:MiB] == source[MiB:2 * MiB] and not any(data[MiB:3 * MiB // 2])
    assert data[5 * MiB // 2] == 6 and data[-9 * 512:] == source[:9 * 512]
    info = disk.info(disk.path("whole.vmdk"), "vmdk")
    data = info["format-specific"]["data"]
    assert {e["format"] for e in data.pop("extents")} == {"SPARSE", "FLAT", "ZERO"}
    assert data == {"cid": 0x123a, "parent-cid": 0xffffffff, "create-type": "custom"}


@pytest.mark.parametrize("line,text", [
    ('RW 2048 FLAT "/etc/passwd" 0', "expected a file beneath"), ('RW 2048 FLAT "../x" 0', "leads out of"),
    ('RW 2048 FLAT "link" 0', "leads out of"), ('RW 2048 FLAT "none" 0', "does not exist"), ('RW 0 FLAT "source.raw" 0', "extent size"),
    ('RW 99999999999999999999 FLAT "source.raw" 0', "extent size"), ('RW 2048 FLAT source.raw 0', "expected ACCESS SECTORS TYPE"),
    ('RW 2048 FLAT "source.raw" x', "expected ACCESS SECTORS TYPE"), ('RW 2048 FLAT "source.raw" 99999', "cut short"),
    ('RW 2048 SESPARSE "source.raw"', "extent type: found SESPARSE"), ('RW 2048 SPARSE "source.raw"', 'found no "KDMV"'),
    ('NOACCESS 2048 FLAT "source.raw" 0', "NOACCESS"), ('RW 2048 FLAT "dir" 0', "expected a regular file"), ("", "found no extent"),
    ('createType="seSparse"', "createType"), ("CID=xyz", "CID"), ("parentCID=12", "parentFileNameHint"), ("x" * 5000, "a line of"),
    ('RW 2048 FLAT "source.raw" 0\n' * 1025, "more than 1024 extents")])
def test_vmdk_bad_descriptors(disk, raw, line, text):
    os.mkdir(disk.path("dir"))
    os.symlink("/etc/passwd", disk.path("link"))
    with open(disk.path("bad.vmdk"), "w", encoding="ascii") as f:
        f.write("# Disk DescriptorFile\n" + line + ("\n" if "RW" in line or not line else '\nRW 2048 FLAT "source.raw" 0\n'))
    disk("convert", "--backing", "on", "-f", "vmdk", disk.path("bad.vmdk"), disk.path("o.raw")).failed(text)
    assert not os.path.exists(disk.path("o.raw"))


@pytest.mark.parametrize("at,fmt,value,text", [
    (0, "4s", b"COWD", "COWD"), (0, "4s", b"abcd", "not a VMDK"), (4, "<I", 4, "version: found 4"), (12, "<Q", 0, "capacity"),
    (12, "<Q", 1 << 60, "capacity"), (20, "<Q", 0, "grain size"), (20, "<Q", 100, "grain size"), (20, "<Q", 1 << 40, "grain size"),
    (28, "<Q", 1 << 60, "descriptor"), (36, "<Q", 1 << 40, "descriptor"), (44, "<I", 0, "grain table entries"),
    (44, "<I", 1 << 20, "grain table entries"), (56, "<Q", 1 << 50, "grain directory"), (56, "<Q", (1 << 64) - 1, "footer"),
    (73, "4s", b"\n\n\n\n", "copied as text")])
def test_vmdk_bad_headers(disk, raw, at, fmt, value, text):
    image = make(disk, raw, "vmdk", "")
    put(image, at, fmt, value)
    disk("info", "-f", "vmdk", image).failed(text)


def test_vmdk_bad_tables(disk, raw):
    image = make(disk, raw, "vmdk", "")
    directory = get(image, 56, "<Q")[0] * 512
    table = get(image, directory, "<I")[0] * 512
    entries = get(image, table, "<512I")
    i = next(i for i, e in enumerate(entries) if e)
    put(image, table + i * 4, "<I", 0x7fffffff)
    disk("convert", "-f", "vmdk", image, disk.path("o.raw")).failed(f"grain {i}: found it at offset")
    put(image, directory, "<I", 0x7fffffff)
    disk("convert", "-f", "vmdk", image, disk.path("o.raw")).failed("grain directory entry 0")


def test_vmdk_bad_streams(disk, raw):
    image = make(disk, raw, "vmdk", "subformat=streamOptimized")
    put(image, 512 * 128 + 16, "16s", b"\xff" * 16)
    disk("convert", "-f", "vmdk", image, disk.path("o.raw")).failed("the image is damaged")
    put(image, 512 * 128 + 8, "<I", 0xffffff)
    disk("convert", "-f", "vmdk", image, disk.path("o.raw")).failed("compressed bytes")


def test_vmdk_stream_with_its_directory_at_the_end(disk, raw):
    """As VMware writes a stream: the header says that a copy of it at the end has the directory's place. QEMU reads it so too."""
    image = make(disk, raw, "vmdk", "subformat=streamOptimized")
    whole = same_bytes(disk, image, "vmdk")
    header, size = get(image, 0, "512s")[0], -(-os.path.getsize(image) // 512) * 512
    put(image, 56, "<Q", (1 << 64) - 1)
    os.truncate(image, size)
    put(image, size, "<QII496s512sQII496s", 1, 0, 3, bytes(496), header, 0, 0, 0, bytes(496))
    assert same_bytes(disk, image, "vmdk") == whole
    os.truncate(image, size + 512)
    disk("info", "-f", "vmdk", image).failed("found no footer", "cut short")


# ---- VHD ----

def vhd_sum(data, field):
    return ~sum(data[:field] + data[field + 4:]) & 0xffffffff


def footer(size, kind, creator=b"cais", chs=(0, 0, 0), data_at=(1 << 64) - 1, ident=bytes(16)):
    f = struct.pack(">8sIIQI4sI4sQQHBBII16s", b"conectix", 2, 0x10000, data_at, 0, creator, 0x10000, b"Wi2k", size, size, *chs, kind, 0,
                    ident).ljust(512, b"\0")
    return f[:64] + struct.pack(">I", vhd_sum(f, 64)) + f[68:]


@pytest.mark.parametrize("creator,chs,size", [
    (b"\0\0\0\0", (0, 0, 0), 9 * MiB), (b"win ", (10, 4, 17), 9 * MiB), (b"qemu", (10, 4, 17), 10 * 4 * 17 * 512),
    (b"vpc ", (65535, 16, 255), 9 * MiB), (b"wa\0\0", (10, 4, 17), 9 * MiB), (b"tap\0", (1, 1, 1), 9 * MiB),
    (b"vbox", (10, 4, 17), 9 * MiB), (b"CTXS", (10, 4, 17), 9 * MiB)])
def test_vhd_size(disk, creator, chs, size):
    """
    The geometry or the size field, by who made the image. qemu-img 7.2 says 0 bytes for the first one, which hcsshim's tar2ext4
    0.15 writes, and takes "wa" (Azure) and "vbox" (VirtualBox) by their geometry; test_newer.py has what QEMU does since version 10.
    """
    image = disk.path("f.vhd")
    with open(image, "wb") as f:
        f.write(b"\x11" * (9 * MiB) + footer(9 * MiB, 2, creator, chs))
    assert disk.info(image, "vpc")["virtual-size"] == size
    assert read(disk, image, "vpc") == b"\x11" * size
    if creator not in (b"\0\0\0\0", b"wa\0\0", b"vbox"):
        same_bytes(disk, image, "vpc")


def test_vhd_footer_at_the_end_is_lost(disk, raw):
    image = make(disk, raw, "vpc", "force_size=on")
    whole = same_bytes(disk, image, "vpc")
    put(image, os.path.getsize(image) - 512, "512s", bytes(512))
    assert read(disk, image, "vpc") == whole
    # A guest that writes a footer into its first sector does not describe its disk.
    fixed = make(disk, raw, "vpc", "subformat=fixed,force_size=on", "fixed")
    put(fixed, 0, "512s", footer(512, 2))
    put(fixed, os.path.getsize(fixed) - 512, "512s", bytes(512))
    disk("info", "-f", "vpc", fixed).failed("checksum")


def differencing(path, size, parent_name, parent_ident, sectors, block=2 * MiB, locator=True):
    """A differencing VHD with these sectors: number -> bytes."""
    blocks = -(-size // block)
    table_at, data_at = 512 + 1024, 512 + 1024 + -(-blocks * 4 // 512) * 512 + 512
    name16 = parent_name.encode("utf-16-le")
    entries, body = [0xffffffff] * blocks, b""
    bitmap_size = max(512, -(-block // 512 // 8 // 512) * 512)
    for b in sorted({n * 512 // block for n in sectors}):
        entries[b] = (data_at + len(body)) // 512
        bitmap, data = bytearray(bitmap_size), bytearray(block)
        for n, content in sectors.items():
            if n * 512 // block == b:
                i = n - b * block // 512
                bitmap[i // 8] |= 0x80 >> i % 8
                data[i * 512:i * 512 + 512] = content
        body += bitmap + data
    h = struct.pack(">8sQQIIII16sII", b"cxsparse", (1 << 64) - 1, table_at, 0x10000, blocks, block, 0, parent_ident, 0, 0)
    h += os.path.basename(parent_name.replace("\\", "/")).encode("utf-16-be").ljust(512, b"\0")
    if locator:
        h += struct.pack(">4sIIIQ", b"W2ku", 512, 8, 0, data_at - 512) + struct.pack(">4sIIIQ", b"W2ru", 512, len(name16), 0, data_at - 512)
    h = h.ljust(1024, b"\0")
    h = h[:36] + struct.pack(">I", vhd_sum(h, 36)) + h[40:]
    foot = footer(size, 4, data_at=512, ident=uuid.uuid4().bytes)
    with open(path, "wb") as f:
        f.write(foot + h + b"".join(struct.pack(">I", e) for e in entries).ljust(data_at - 512 - table_at, b"\xff"))
        f.write(name16.ljust(512, b"\0") + body + foot)


@pytest.mark.parametrize("locator", [True, False])
def test_vhd_differencing(disk, raw, locator):
    """QEMU reads no parents. A sector whose bit is clear is the parent's, in a block that the image has too."""
    base = make(disk, raw, "vpc", "force_size=on")
    whole = bytearray(same_bytes(disk, base, "vpc"))
    os.makedirs(disk.path("diff"))
    name, image = ("..\\image.vpc", disk.path("diff/d.vhd")) if locator else ("image.vpc", disk.path("d.vhd"))
    ident = get(base, 68, "16s")[0]
    sectors = {0: b"a" * 512, 3: b"b" * 512, 4: b"c" * 512, 5000: b"d" * 512, 5007: b"e" * 512, len(whole) // 512 - 1: b"f" * 512}
    differencing(image, len(whole), name, ident, sectors, locator=locator)
    for n, content in sectors.items():
        whole[n * 512:n * 512 + 512] = content
    assert read(disk, image, "vpc", "--backing", disk.tmp) == whole
    assert disk.info(image, "vpc")["backing-filename"] == name.replace("\\", "/")
    disk("convert", "-f", "vpc", image, disk.path("o.raw")).failed("no directory is allowed")
    differencing(image, len(whole), name, uuid.uuid4().bytes, sectors, locator=locator)
    disk("convert", "--backing", disk.tmp, "-f", "vpc", image, disk.path("o.raw")).failed("parent UUID")


@pytest.mark.parametrize("name,text", [("C:\\disk.vhd", "no relative path"), ("\\disk.vhd", "no relative path"), ("", "no relative path"),
                                       ("..\\..\\..\\..\\etc\\passwd", "leads out of"), ("none.vhd", "does not exist")])
def test_vhd_bad_parents(disk, name, text):
    differencing(disk.path("d.vhd"), 4 * MiB, name, bytes(16), {0: b"a" * 512})
    if text == "no relative path":
        # Neither is the other name one.
        with open(disk.path("d.vhd"), "r+b") as f:
            f.seek(512)
            h = f.read(1024)
            h = h[:64] + name.encode("utf-16-be").ljust(512, b"\0") + h[576:]
            h = h[:36] + struct.pack(">I", vhd_sum(h, 36)) + h[40:]
            f.seek(512)
            f.write(h)
    disk("convert", "--backing", "on", "-f", "vpc", disk.path("d.vhd"), disk.path("o.raw")).failed(text)


@pytest.mark.parametrize("at,fmt,value,text", [
    (0, "8s", b"xxxxxxxx", "cxsparse"), (16, ">Q", 1 << 50, "cut short"), (28, ">I", 1, "table entries: found 1"), (28, ">I", 1 << 31, "cut short"),
    (32, ">I", 0, "block size"), (32, ">I", 3 << 20, "block size"), (100, ">I", 0, None)])
def test_vhd_bad_headers(disk, raw, at, fmt, value, text):
    image = make(disk, raw, "vpc", "force_size=on")
    put(image, 512 + at, fmt, value)
    if text is None:
        put(image, 512 + 36, ">I", 1)
        disk("info", "-f", "vpc", image).failed("checksum")
        return
    with open(image, "r+b") as f:
        f.seek(512)
        h = f.read(1024)
        f.seek(512 + 36)
        f.write(struct.pack(">I", vhd_sum(h, 36)))
    disk("info", "-f", "vpc", image).failed(text)


def test_vhd_bad_table_and_size(disk, raw):
    image = make(disk, raw, "vpc", "force_size=on")
    put(image, get(image, 512 + 16, ">Q")[0], ">I", 0x7fffffff)
    disk("convert", "-f", "vpc", image, disk.path("o.raw")).failed("VHD block table: entry 0")
    with open(image, "wb") as f:
        f.write(bytes(MiB) + footer(2 * MiB, 2))
    disk("info", "-f", "vpc", image).failed("cut short")
    with open(image, "wb") as f:
        f.write(bytes(MiB) + footer(MiB, 9))
    disk("info", "-f", "vpc", image).failed("disk type: found 9")
    with open(image, "wb") as f:
        f.write(b"short")
    disk("info", "-f", "vpc", image).failed("expected a footer")


# ---- VHDX ----

def checksum(data):
    """The checksum of a header, in whose bytes 4 to 7 it stands."""
    return crc32c(data[:4] + bytes(4) + data[8:])


GUID_BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08").bytes_le
GUID_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e").bytes_le
GUID_SECTOR = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f").bytes_le
GUID_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le
GUID_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8").bytes_le


def region(image, guid):
    with open(image, "rb") as f:
        f.seek(192 << 10)
        t = f.read(65536)
    at = t.index(guid)
    return struct.unpack("<QI", t[at + 16:at + 28])


def item(image, guid):
    at, _ = region(image, GUID_METADATA)
    with open(image, "rb") as f:
        f.seek(at)
        t = f.read(65536)
    i = t.index(guid)
    return at + struct.unpack("<I", t[i + 16:i + 20])[0], at + i


def test_vhdx_sectors_of_4096_bytes(disk):
    """qemu-img refuses them. The chunk ratio, and so the place of each BAT entry, depends on the sector size."""
    image = disk.path("s.vhdx")
    qemu("create", "-f", "vhdx", "-o", "block_size=1M", image, "5G").ok()
    qemu_io(image, "vhdx", "write -P 1 0 1M", "write -P 2 4095M 2M", "write -P 3 4999M 4k")
    whole = {0: 1, 4095: 2, 4096: 2, 4097: 0, 4999: 3}
    size = 5 << 30

    def check():
        disk("convert", "-f", "vhdx", "-O", "raw", image, disk.path("o.raw")).ok()
        with open(disk.path("o.raw"), "rb") as f:
            assert os.fstat(f.fileno()).st_size == size
            for mib, value in whole.items():
                f.seek(mib * MiB)
                assert f.read(1) == bytes([value]), mib

    check()
    at, length = region(image, GUID_BAT)
    with open(image, "r+b") as f:
        f.seek(at)
        bat = f.read(length)
        # With sectors of 512 bytes entry 4096 is a sector bitmap; with 4096 the first one comes behind 32768 blocks.
        f.seek(at)
        f.write(bat[:4096 * 8] + bat[4097 * 8:] + bytes(8))
    put(image, item(image, GUID_SECTOR)[0], "<I", 4096)
    assert disk.info(image, "vhdx")["format-specific"]["data"] == {"logical-sector-size": 4096}
    check()


def log_entry(log_guid, sequence, tail, descriptors, file_size, pages=()):
    body = struct.pack("<4sIIIQII16sQQ", b"loge", 0, 0, tail, sequence, len(descriptors), 0, log_guid, file_size, file_size)
    body += b"".join(d + struct.pack("<Q", sequence) for d in descriptors)
    body = body.ljust(-(-len(body) // 4096) * 4096, b"\0")
    for page in pages:
        body += b"data" + struct.pack("<I", sequence >> 32) + page[8:4092] + struct.pack("<I", sequence & 0xffffffff)
    body = body[:8] + struct.pack("<I", len(body)) + body[12:]
    return body[:4] + struct.pack("<I", checksum(body)) + body[8:]


def data_descriptor(at, page):
    return b"desc" + page[4092:] + page[:8] + struct.pack("<Q", at)


def zero_descriptor(at, length):
    return b"zero" + bytes(4) + struct.pack("<QQ", length, at)


def set_log(image, guid, entries):
    """Writes the entries into the log, at these offsets, and a newer header that names it."""
    with open(image, "r+b") as f:
        headers = {}
        for at in (64 << 10, 128 << 10):
            f.seek(at)
            headers[at] = f.read(4096)
        old = max(headers.values(), key=lambda h: struct.unpack("<Q", h[8:16])[0])
        new = min(headers, key=lambda at: struct.unpack("<Q", headers[at][8:16])[0])
        sequence = struct.unpack("<Q", old[8:16])[0] + 1
        h = old[:8] + struct.pack("<Q", sequence) + old[16:48] + guid + old[64:]
        h = h[:4] + struct.pack("<I", checksum(h)) + h[8:]
        f.seek(new)
        f.write(h)
        size, log_at = struct.unpack("<IQ", h[68:80])
        f.seek(log_at)
        f.write(bytes(size))
        for at, entry in entries:
            first = entry[:size - at]
            f.seek(log_at + at)
            f.write(first)
            f.seek(log_at)
            f.write(entry[len(first):])
    return size


def with_log(disk):
    """An image of 64 MiB with two blocks. Returns its path, the BAT's place, and the page of the BAT that maps nothing."""
    image = disk.path("l.vhdx")
    qemu("create", "-f", "vhdx", "-o", "block_size=1M", image, "64M").ok()
    qemu_io(image, "vhdx", "write -P 1 0 1M", "write -P 2 1M 1M")
    at, _ = region(image, GUID_BAT)
    return image, at, get(image, at, "4096s")[0]


def test_vhdx_log_is_replayed(disk):
    """
    A writer that was killed left the BAT's change in the log only. qemu-img refuses such an image read-only, and replays the log
    when it may write: the disk then is the one that we read.
    """
    image, at, page = with_log(disk)
    first, second = struct.unpack("<2Q", page[:16])
    swapped = struct.pack("<3Q", second, first, first) + page[24:]
    guid = uuid.uuid4().bytes_le
    size = os.path.getsize(image)
    old = log_entry(guid, 5, 0x7000, [zero_descriptor(at, 4096)], size)
    half = log_entry(guid, 9, 0x5000, [zero_descriptor(at, 4096)], size)
    one = log_entry(guid, 7, 0x1000, [data_descriptor(at, page[:4096])], size, [page])
    two = log_entry(guid, 8, 0x1000, [data_descriptor(at, swapped)], size, [swapped])
    set_log(image, guid, [(0x1000, one), (0x1000 + len(one), two), (0x7000, old), (0x5000, half[:100] + b"x" + half[101:])])
    data = read(disk, image, "vhdx")
    assert (data[0], data[MiB], data[2 * MiB], data[3 * MiB]) == (2, 1, 1, 0)
    assert disk.info(image, "vhdx")["dirty-flag"] is True
    with open(image, "rb") as f:
        before = f.read()
    qemu("check", "-r", "all", "-f", "vhdx", image).ok()
    with open(image, "rb") as f:
        assert f.read() != before
    assert same_bytes(disk, image, "vhdx") == data


def test_vhdx_log_goes_round(disk):
    image, at, page = with_log(disk)
    first, second = struct.unpack("<2Q", page[:16])
    swapped = struct.pack("<2Q", second, first) + page[16:]
    guid = uuid.uuid4().bytes_le
    entry = log_entry(guid, 1, MiB - 4096, [zero_descriptor(at + 4096, 4096), data_descriptor(at, swapped)], os.path.getsize(image), [swapped])
    assert set_log(image, guid, [(MiB - 4096, entry)]) == MiB
    data = read(disk, image, "vhdx")
    assert (data[0], data[MiB]) == (2, 1)


def test_vhdx_log_that_contradicts(disk):
    image, at, page = with_log(disk)
    guid, size = uuid.uuid4().bytes_le, os.path.getsize(image)

    def refused(text, **kw):
        entry = log_entry(**{"log_guid": guid, "sequence": 1, "tail": 0, "descriptors": [zero_descriptor(at, 4096)], "file_size": size, **kw})
        set_log(image, guid, [(0, entry)])
        disk("info", "-f", "vhdx", image).failed("VHDX log", text)

    refused("contradict", descriptors=[zero_descriptor(at + 1, 4096)])
    refused("contradict", descriptors=[zero_descriptor(at, 100)])
    refused("contradict", descriptors=[zero_descriptor(at, 1 << 62)])
    refused("contradict", descriptors=[data_descriptor(at, page)])  # no page of data
    refused("contradict", descriptors=[b"what" + bytes(20)])
    refused("contradict", descriptors=[data_descriptor(at + 8, page)], pages=[page])
    refused("more than 8192 pages", descriptors=[zero_descriptor(i << 25, 1 << 25) for i in range(4)])
    refused("more than 65536 changes", descriptors=[zero_descriptor(0, 1 << 25)] * 9)
    refused("cut short", file_size=1 << 40)
    # An entry on each page, each as long as the log.
    set_log(image, guid, [(i, log_entry(guid, 1, 0, [], size)[:8] + struct.pack("<I", MiB) + bytes(4)) for i in range(0, MiB, 4096)])
    with open(image, "r+b") as f:
        log_at = get(image, 64 << 10, "<4sIQ")  # any header will do for the place
        f.seek((64 << 10) + 72)
        log_at = struct.unpack("<Q", f.read(8))[0]
        for i in range(0, MiB, 4096):
            f.seek(log_at + i)
            f.write(struct.pack("<4sIIIQII16sQQ", b"loge", 0, MiB, 0, 1, 0, 0, guid, size, size))
    disk("info", "-f", "vhdx", image).failed("overlap")


@pytest.mark.parametrize("guid,fmt,value,text", [
    (GUID_SECTOR, "<I", 1024, "logical sector size"), (GUID_PARAMETERS, "<I", 3 << 20, "block size"), (GUID_PARAMETERS, "<I", 0, "block size"),
    (GUID_PARAMETERS, "<II", (1 << 20, 2), "differencing"), (GUID_SIZE, "<Q", 1 << 62, "disk size"), (GUID_SIZE, "<Q", 513, "disk size"),
    (GUID_SIZE, "<Q", 1 << 45, "BAT: found room")])
def test_vhdx_bad_metadata(disk, guid, fmt, value, text):
    image, _, _ = with_log(disk)
    put(image, item(image, guid)[0], fmt, *(value if isinstance(value, tuple) else (value,)))
    disk("info", "-f", "vhdx", image).failed("VHDX", text)


def test_vhdx_damage(disk):
    image, at, _ = with_log(disk)
    put(image, at, "<Q", 6 | 1 << 50)
    disk("convert", "-f", "vhdx", image, disk.path("o.raw")).failed("VHDX BAT", "state 6")
    put(image, at, "<Q", 7 | 4 << 20)
    disk("convert", "-f", "vhdx", image, disk.path("o.raw")).failed("state 7")
    value, entry = item(image, GUID_SIZE)
    put(image, entry, "16s", b"\x01" * 16)
    disk("info", "-f", "vhdx", image).failed("required item that is unknown")
    put(image, entry, "16sI", GUID_SIZE, 0xfffffff0)
    disk("info", "-f", "vhdx", image).failed("item: found")
    put(image, 192 << 10, "4s", b"xxxx")
    put(image, 256 << 10, "4s", b"xxxx")
    disk("info", "-f", "vhdx", image).failed("no valid region table")
    put(image, 64 << 10, "4s", b"xxxx")
    put(image, 128 << 10, "4s", b"xxxx")
    disk("info", "-f", "vhdx", image).failed("no valid header")
    put(image, 0, "8s", b"xxxxxxxx")
    disk("info", "-f", "vhdx", image).failed("not a VHDX image")


@pytest.mark.parametrize("fmt,opts", MATRIX)
def test_cut_short(disk, raw, fmt, opts):
    """Every length that is too short gives an error, or the bytes that the whole image has; never others."""
    image = make(disk, raw, fmt, opts)
    whole = read(disk, image, fmt, "--backing", "on")
    for name in sorted(n for n in os.listdir(disk.tmp) if n.startswith("image")):
        path = disk.path(name)
        shutil.copy(path, disk.path("kept"))
        size = os.path.getsize(path)
        for length in [0, 3, 511, 512, 4096, size // 3, size // 2, size - 513, size - 1]:
            os.truncate(path, max(0, min(length, size)))
            result = disk("convert", "--backing", "on", "-f", fmt, "-O", "raw", image, disk.path("cut.raw"))
            if result.rc == 0:
                with open(disk.path("cut.raw"), "rb") as f:
                    assert f.read() == whole, (name, length)
            else:
                result.failed()
            shutil.copy(disk.path("kept"), path)


@pytest.mark.parametrize("fmt", ["vdi", "vmdk", "vpc", "vhdx"])
def test_huge_and_sparse(disk, fmt):
    """Opening takes no memory for the table."""
    image = disk.path(f"huge.{fmt}")
    qemu("create", "-f", fmt, image, "2000G").ok()
    p = subprocess.run(["/usr/bin/time", "-f", "%M", disk.binary, "disk", "info", "-f", fmt, image], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0 and int(p.stderr.split()[-1]) < 32 << 10, p.stderr
