# SPDX-License-Identifier: Apache-2.0
"""Tests malformed images: caisson reports a clear error that names the field, or I/O errors where the damage is, and
never writes to the wrong place."""
import os
import struct

import pytest

from conftest import MiB, pattern, qemu

# Offset and format of the header's fields.
FIELDS = {"version": (4, ">I"), "backing_file_offset": (8, ">Q"), "backing_file_size": (16, ">I"), "cluster_bits": (20, ">I"),
          "size": (24, ">Q"), "crypt_method": (32, ">I"), "l1_size": (36, ">I"), "l1_table_offset": (40, ">Q"),
          "refcount_table_offset": (48, ">Q"), "refcount_table_clusters": (56, ">I"), "nb_snapshots": (60, ">I"),
          "snapshots_offset": (64, ">Q"), "incompatible_features": (72, ">Q"), "autoclear_features": (88, ">Q"),
          "refcount_order": (96, ">I"), "header_length": (100, ">I"), "compression_type": (104, ">B")}


def get(image, field):
    at, form = FIELDS[field]
    with open(image, "rb") as f:
        f.seek(at)
        return struct.unpack(form, f.read(struct.calcsize(form)))[0]


def put(image, at, form, *values):
    with open(image, "r+b") as f:
        f.seek(at)
        f.write(struct.pack(form, *values))


@pytest.fixture
def image(disk, raw):
    path = disk.path("bad.qcow2")
    disk("convert", raw, path).ok()
    return path


@pytest.mark.parametrize("field,value,said", [
    ("version", 1, "version"), ("version", 4, "version"), ("cluster_bits", 8, "cluster_bits"), ("cluster_bits", 22, "cluster_bits"),
    ("cluster_bits", 0xffffffff, "cluster_bits"), ("size", 1 << 63, "size"), ("size", (1 << 64) - 1, "size"),
    ("size", 1 << 50, "l1_size"), ("crypt_method", 1, "AES"), ("crypt_method", 2, "LUKS"), ("crypt_method", 7, "crypt_method"),
    ("l1_size", 0xffffffff, "l1_size"), ("l1_size", 0, "l1_size"), ("l1_table_offset", 1, "l1_table_offset"),
    ("l1_table_offset", 0, "l1_table_offset"), ("l1_table_offset", 1 << 40, "L1 table"),
    ("l1_table_offset", 0xffffffffffff0000, "l1_table_offset"), ("refcount_table_offset", 77, "refcount_table_offset"),
    ("refcount_table_clusters", 0x10000000, "refcount_table_clusters"), ("refcount_table_clusters", 0, "refcount_table_clusters"),
    ("nb_snapshots", 0x7fffffff, "nb_snapshots"), ("snapshots_offset", 0, None), ("incompatible_features", 1 << 5, "bit 5"),
    ("incompatible_features", 1 << 63, "bit 63"), ("incompatible_features", 8, "compression_type"),
    ("autoclear_features", 2, "raw external data"), ("refcount_order", 7, "refcount_order"), ("header_length", 100, "header_length"),
    ("header_length", 1 << 20, "header_length"), ("header_length", 105, "header_length"), ("compression_type", 1, "compression_type"),
    ("compression_type", 9, "compression_type"), ("backing_file_size", 2000, None)])
def test_header(disk, image, field, value, said):
    at, form = FIELDS[field]
    put(image, at, form, value)
    r = disk("convert", "-f", "qcow2", "-O", "raw", image, disk.path("out.raw"))
    if said is None:
        r.ok()
    else:
        r.failed(said, "bad.qcow2")


@pytest.mark.parametrize("length", [0, 3, 71, 103, 104, 111, 512, 65535, 65536, 131072, 196608])
def test_cut_short(disk, image, length):
    with open(image, "r+b") as f:
        f.truncate(length)
    disk("convert", "-f", "qcow2", "-O", "raw", image, disk.path("out.raw")).failed("bad.qcow2")


def test_unknown_feature_by_name(disk, image):
    """An unknown feature is named as in the image's own table of names, without control characters."""
    put(image, 72, ">Q", 1 << 40)
    put(image, get(image, "header_length"), ">II", 0x6803f857, 48)
    with open(image, "r+b") as f:
        f.seek(get(image, "header_length") + 8)
        f.write(bytes([0, 40]) + b"quantum\x1b[2J clusters".ljust(46, b"\0") + bytes(8))
    r = disk("info", image).failed("quantum", "clusters", "incompatible_features")
    assert "\x1b" not in r.err


def l2_entries(image):
    """Returns the offset of the first L2 table's entries in the file, and their values."""
    with open(image, "rb") as f:
        f.seek(get(image, "l1_table_offset"))
        at = struct.unpack(">Q", f.read(8))[0] & 0x00fffffffffffe00
        f.seek(at)
        return at, list(struct.unpack(">512Q", f.read(4096)))


@pytest.mark.parametrize("target", ["l1", "table", "block", "l2"])
def test_data_on_tables(disk, image, target):
    """If an L2 entry points at a table, the guest cannot write to it."""
    at, entries = l2_entries(image)
    i = next(i for i, e in enumerate(entries) if e)
    with open(image, "rb") as f:
        f.seek(get(image, "refcount_table_offset"))
        block, = struct.unpack(">Q", f.read(8))
    where = {"l1": get(image, "l1_table_offset"), "table": get(image, "refcount_table_offset"), "block": block, "l2": at}
    put(image, at + 8 * i, ">Q", where[target] | 1 << 63)
    before = open(image, "rb").read()
    source = disk.path("ones.raw")
    with open(source, "wb") as f:
        f.write(b"\1" * 12 * MiB)
    disk("convert", "-n", source, image).failed("damaged", "caisson disk check")
    after = open(image, "rb").read()
    cluster = where[target]
    assert before[cluster:cluster + 65536] == after[cluster:cluster + 65536] or target in ("l2", "block")
    assert get(image, "incompatible_features") & 2, "the header's corrupt bit"
    disk("resize", image, "20M").failed("damaged")
    assert disk("check", "-q", image).rc == 2


@pytest.mark.parametrize("on", ["refcount table", "L2 table"])
def test_tables_on_tables(disk, on):
    image = disk.path("bad.qcow2")
    disk("create", "-f", "qcow2", image, "2G").ok()
    for at in (0, 600 * MiB):
        qemu_io(image, f"write {at} 64k")
    l1 = get(image, "l1_table_offset")
    with open(image, "rb") as f:
        f.seek(l1)
        first, second = struct.unpack(">QQ", f.read(16))
    put(image, l1, ">QQ", first, first if on == "L2 table" else get(image, "refcount_table_offset") | 1 << 63)
    disk("resize", image, "3G").failed("L2 table at offset", f"lies on the {on}")
    assert disk("check", "-q", image).rc == 2


def qemu_io(image, command):
    import subprocess
    p = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, image], capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p


@pytest.mark.parametrize("entry,said", [(1 << 63 | 0x10200, "does not begin at a cluster"), (1 << 62 | 1 << 54 | 5, "compressed"),
                                        (1 << 62 | 200, "compressed")])
def test_bad_entries_are_errors_where_they_are(disk, image, entry, said):
    """A bad entry gives an I/O error only where it is; the rest of the disk can be read."""
    at, entries = l2_entries(image)
    i = next(i for i, e in enumerate(entries) if e)
    put(image, at + 8 * i, ">Q", entry)
    disk("convert", image, disk.path("out.raw")).failed(said, str(i * 65536))


def test_data_behind_the_end_of_the_file_is_zeros(disk, image):
    """A cluster behind the end of the file reads as zeros, as with QEMU, because it was never written."""
    at, entries = l2_entries(image)
    i = next(i for i, e in enumerate(entries) if e)
    put(image, at + 8 * i, ">Q", 1 << 63 | 1 << 45)
    disk("convert", image, disk.path("ours.raw")).ok()
    qemu("convert", "-f", "qcow2", "-O", "raw", image, disk.path("theirs.raw")).ok()
    assert open(disk.path("ours.raw"), "rb").read() == open(disk.path("theirs.raw"), "rb").read()
    assert disk("check", "-q", image).rc == 2


def test_refcount_zero_of_used_tables(disk, image):
    """If a table in use has the refcount zero, an allocation that would take its cluster is refused."""
    with open(image, "rb") as f:
        f.seek(get(image, "refcount_table_offset"))
        block, = struct.unpack(">Q", f.read(8))
    put(image, block, ">HHHH", 0, 0, 0, 0)
    data = disk.path("d.raw")
    with open(data, "wb") as f:
        f.write(b"\1" * 12 * MiB)
    disk("convert", "-n", data, image).failed("refcount", "damaged")
    disk("check", "-q", "-r", "all", image).ok()
    disk.sound(image)


def test_compressed_bomb(disk):
    """Decompression stops at the end of the cluster, even if the compressed data would give more."""
    import zlib
    image = disk.path("bomb.qcow2")
    disk("create", image, "1M").ok()
    qemu_io(image, "write -c 0 64k")
    at, entries = l2_entries(image)
    z = zlib.compressobj(9, zlib.DEFLATED, -12)
    data = z.compress(b"\7" * 50 * MiB) + z.flush()
    host = (os.stat(image).st_size + 65535) // 65536 * 65536
    with open(image, "r+b") as f:
        f.seek(host)
        f.write(data)
    put(image, at, ">Q", 1 << 62 | 255 << 54 | host)
    disk("convert", image, disk.path("out.raw")).ok()
    assert open(disk.path("out.raw"), "rb").read(65536) == b"\7" * 65536
    put(image, host, ">Q", 0x0123456789abcdef)
    disk("convert", image, disk.path("out.raw")).failed("compressed cluster of offset 0", "damaged")


def test_snapshot_table(disk, image):
    disk("snapshot", "-c", "one", image).ok()
    at = get(image, "snapshots_offset")
    with open(image, "rb") as f:
        f.seek(at)
        entry = f.read(80)
    for where, form, value, said in ((0, ">Q", 3, "offset"), (8, ">I", 0xffffff, "entries"), (36, ">I", 0xffffffff, "extra data"),
                                     (48, ">Q", 1 << 63, "disk size")):
        put(image, at + where, form, value)
        disk("snapshot", "-l", image).failed("snapshot table", said)
        assert disk("check", "-q", image).rc == 2
        with open(image, "r+b") as f:
            f.seek(at)
            f.write(entry)
    disk.sound(image)


def test_control_characters(disk, image):
    """The names in an image do not command a terminal, and caisson gives snapshots no such names."""
    evil = "a\x1b[2J\nb"
    disk("snapshot", "-c", evil, image).failed("snapshot", "control characters")
    qemu("snapshot", "-c", evil, image).ok()
    disk("create", "-f", "qcow2", "-u", "-b", evil, "-F", "raw", disk.path("o.qcow2"), "1M").ok()
    shown = [disk("snapshot", "-l", image).ok(), disk("info", image).ok(), disk("info", disk.path("o.qcow2")).ok(),
             disk("map", disk.path("o.qcow2")).failed("backing file"), disk("snapshot", "-d", evil + "c", image).failed("found no snapshot")]
    for r in shown:
        assert "a?[2J|b" in r.out + r.err and "\x1b" not in r.out + r.err, r
    assert disk.info(image)["snapshots"][0]["name"] == evil
    disk("snapshot", "-d", evil, image).ok()
