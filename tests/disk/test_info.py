# SPDX-License-Identifier: Apache-2.0
"""`caisson disk info --json` has the keys and values of qemu-img's, for each format and kind of chain."""
import json
import os
import struct

import pytest

from conftest import qemu

# name of the image: options of qemu-img create
IMAGES = {
    "base.raw": [], "middle.qcow2": ["-b", "base.raw", "-F", "raw"], "sub/top.qcow2": ["-b", "../middle.qcow2", "-F", "qcow2"],
    "absolute.qcow2": ["-b", "{tmp}/middle.qcow2", "-F", "qcow2"], "old.qcow2": ["-o", "compat=0.10"],
    "all.qcow2": ["-o", "lazy_refcounts=on,extended_l2=on,compression_type=zstd,cluster_size=128k"],
    "data.qcow2": ["-o", "data_file=d.raw,data_file_raw=on"],
    "base.vmdk": [], "overlay.vmdk": ["-b", "base.vmdk", "-F", "vmdk"], "stream.vmdk": ["-o", "subformat=streamOptimized"],
    "sub/flat.vmdk": ["-o", "subformat=twoGbMaxExtentFlat"], "i.vhdx": [], "i.vpc": [], "i.vdi": []}


def both(disk, name, *options):
    fmt = name.split(".")[-1]
    theirs = qemu("info", "-f", fmt, "--output=json", *options, name).ok()
    ours = disk("info", "-f", fmt, "--output=json", *options, *(["--backing", os.getcwd()] if options else []), name).ok()
    theirs, ours = json.loads(theirs.out), json.loads(ours.out)
    for i in ours if options else [ours]:
        if i["format"] in ("vdi", "vpc", "vhdx"):  # qemu-img tells nothing of these formats.
            assert i.pop("format-specific")
    return ours, theirs


def test_the_json_is_qemus(disk, monkeypatch):
    monkeypatch.chdir(disk.tmp)
    os.mkdir("sub")
    for name, options in IMAGES.items():
        qemu("create", "-f", name.split(".")[-1], *(o.format(tmp=disk.tmp) for o in options), name, "4M").ok()
    with open("key", "w", encoding="utf-8") as f:
        f.write("abc")
    disk("create", "-f", "qcow2", "--key", "key", "-o", "encrypt.format=luks,encrypt.iter-time=10", "luks.qcow2", "4M").ok()
    qemu("snapshot", "-c", "first", "all.qcow2").ok()
    qemu("bitmap", "--add", "all.qcow2", "one").ok()
    qemu("bitmap", "--add", "--disable", "-g", "4M", "all.qcow2", "t\nwo").ok()
    for name in [*IMAGES, "luks.qcow2"]:
        for options in [], ["--backing-chain"]:
            ours, theirs = both(disk, name, *options)
            if "flat" in name:  # The space of files that were not opened does not count.
                for i in ours, theirs:
                    del (i[0] if options else i)["actual-size"]
            assert ours == theirs, name
    # The text has it too, but a line end of a name is no line end there.
    assert "full-backing-filename" in both(disk, "sub/top.qcow2")[0]
    assert "backing file: ../middle.qcow2 (actual path: sub/../middle.qcow2)\n" in disk("info", "sub/top.qcow2").ok().out
    assert "            granularity: 4194304\n" in (out := disk("info", "all.qcow2").ok().out) and "t\nwo" not in out


def test_a_backing_file_that_is_not_there(disk, monkeypatch):
    monkeypatch.chdir(disk.tmp)
    name = 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "gone.qcow2"}}'
    os.mkdir("sub")
    disk("create", "-f", "qcow2", "-u", "-b", "gone.qcow2", "-F", "qcow2", "sub/i.qcow2", "1M").ok()
    assert both(disk, "sub/i.qcow2")[0]["full-backing-filename"] == "sub/gone.qcow2"
    qemu("create", "-f", "qcow2", "-u", "-b", name, "-F", "qcow2", "sub/j.qcow2", "1M").ok()
    assert disk.info("sub/j.qcow2")["full-backing-filename"] == name


@pytest.mark.parametrize("at,value,text", [(8, 0xffffffff, "table's entries"), (20, 0xffffff, "length")])
def test_a_damaged_bitmap_directory(disk, at, value, text):
    """The rest of the image is told nevertheless."""
    image = disk.path("i.qcow2")
    qemu("create", "-f", "qcow2", image, "4M").ok()
    for name in "one", "two":
        qemu("bitmap", "--add", image, name).ok()
    with open(image, "r+b") as f:
        header = f.read(65536)
        extension = header.index(struct.pack(">II", 0x23852875, 24))
        directory = struct.unpack(">Q", header[extension + 24:extension + 32])[0]
        f.seek(directory + 32 + at)
        f.write(struct.pack(">I", value))
    data = disk.info(image)["format-specific"]["data"]
    assert [b["name"] for b in data["bitmaps"]] == ["one"] and f"entry 1: {text}" in data["bitmaps-problem"]
    assert "bitmaps problem: " in disk("info", image).ok().out
