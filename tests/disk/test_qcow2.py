# SPDX-License-Identifier: Apache-2.0
"""Tests the features of qcow2 beyond a disk's bytes: chains, snapshots, sizes, data files, bitmaps, locks, repairs."""
import json
import os
import random
import re
import signal
import struct
import subprocess
import time

import pytest

from conftest import MiB, call, pattern, qemu


def io(image, *commands, fmt="qcow2"):
    """Runs qemu-io, which writes with QEMU's own code."""
    args = ["qemu-io", "-f", fmt]
    for c in commands:
        args += ["-c", c]
    p = subprocess.run([*args, image], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0 and "failed" not in p.stdout, p
    return p.stdout


def content(disk, image, **kw):
    out = disk.path("content.raw")
    disk("convert", "--backing", disk.tmp, "-f", "qcow2", "-O", "raw", image, out).ok()
    with open(out, "rb") as f:
        return f.read()


@pytest.fixture
def chain(disk, raw):
    """A chain of images: base.raw <- middle.qcow2 <- top.qcow2. Each has data, the top one is longer, and the lower
    ones have compressed clusters."""
    size = os.stat(raw).st_size
    middle, top = disk.path("middle.qcow2"), disk.path("top.qcow2")
    os.rename(raw, disk.path("base.raw"))
    qemu("create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", middle).ok()
    io(middle, "write -P 1 100k 300k", "write -z 1M 128k", "write -P 2 5M 1M", "write -c -P 3 8M 64k")
    disk("create", "--backing", "on", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", top, size + 3 * MiB).ok()
    io(top, "write -P 4 200k 5k", "write -P 5 5M 4k", "write -z 6M 64k", f"write -P 6 {size + MiB} 64k")
    return top


def test_chain_reads_the_same(disk, chain):
    qemu("convert", "-O", "raw", "-f", "qcow2", chain, disk.path("theirs.raw")).ok()
    assert content(disk, chain) == open(disk.path("theirs.raw"), "rb").read()
    ours = json.loads(disk("map", "--backing", "on", "--json", chain).ok().out)
    theirs = json.loads(qemu("map", "-f", "qcow2", "--output", "json", chain).ok().out)
    data = lambda m: [(e["start"], e["length"], e["depth"], e.get("offset")) for e in m if e["data"]]
    # QEMU reports base.raw's holes as zeros in pieces of its own, so only data is compared.
    assert data(ours) == data(theirs)


def test_backing_files_only_where_allowed(disk, chain):
    sub = disk.path("sub")
    os.mkdir(sub)
    over = os.path.join(sub, "over.qcow2")
    qemu("create", "-f", "qcow2", "-b", "../top.qcow2", "-F", "qcow2", over).ok()
    disk("map", over).failed("../top.qcow2", "--backing")
    disk("map", "--backing", "on", over).failed("../top.qcow2", "leads out of")
    disk("map", "--backing", disk.tmp, over).ok()
    for name in ("/etc/passwd", "/" + "x/" * 20):
        qemu("rebase", "-u", "-f", "qcow2", "-b", name, "-F", "raw", over).ok()
        disk("map", "--backing", disk.tmp, over).failed(name, "expected a file beneath", "with --backing")
    os.symlink("/etc/passwd", os.path.join(sub, "link.raw"))
    qemu("rebase", "-u", "-f", "qcow2", "-b", "link.raw", "-F", "raw", over).ok()
    disk("map", "--backing", "on", over).failed("link.raw", "leads out of")
    qemu("rebase", "-u", "-f", "qcow2", "-b", "nbd://localhost/x", "-F", "raw", over).ok()
    disk("map", "--backing", "on", over).failed("nbd")
    # info does not open the backing file.
    assert disk.info(over)["backing-filename"] == "nbd://localhost/x"


def test_backing_without_a_format(disk, chain):
    """A backing file without a format is refused. QEMU would guess it from the file's contents, which a guest may have
    written."""
    over = disk.path("over.qcow2")
    with open(over, "wb") as f:
        pass
    disk("create", "-u", "-f", "qcow2", "-b", "base.raw", over, "12M").ok()
    disk("map", "--backing", "on", over).failed("base.raw", "format")
    disk("map", "--backing", "on", "--backing-format", "raw", over).ok()


def test_json_backing_names(disk, chain):
    over = disk.path("over.qcow2")
    for name in ('json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}',
                 'json:{"driver":"file","filename":"base.raw"}', "file:base.raw"):
        disk("create", "-u", "-f", "qcow2", "-b", name, "-F", "raw", over, os.stat(disk.path("base.raw")).st_size).ok()
        disk("compare", "--backing", "on", over, disk.path("base.raw")).ok()
    disk("create", "-u", "-f", "qcow2", "-b", 'json:{"driver":"nbd","host":"x"}', "-F", "raw", over, "1M").ok()
    disk("map", "--backing", "on", over).failed("expected a file")


def test_loops_are_refused(disk):
    a, b = disk.path("a.qcow2"), disk.path("b.qcow2")
    disk("create", "-f", "qcow2", a, "1M").ok()
    disk("create", "--backing", "on", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", b).ok()
    disk("rebase", "-u", "-b", "b.qcow2", "-F", "qcow2", a).ok()
    disk("map", "--backing", "on", b).failed("its own backing file")


def test_overlay_made_by_us_needs_no_option(disk, raw):
    """An overlay that caisson made opens its backing file without an option. caisson remembers the directory outside
    of the image's bytes, so a copied image does not have it."""
    base, over = disk.path("base.qcow2"), disk.path("over.qcow2")
    disk("convert", raw, base).ok()
    disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over).ok()
    try:
        os.getxattr(over, "trusted.caisson.backing-directory")
    except OSError:
        pytest.skip("no trusted attributes on this file system")
    disk("compare", over, raw).ok()
    disk("compare", "--backing", "off", over, raw).failed("no directory is allowed", rc=2)
    with open(disk.path("copy.qcow2"), "wb") as f:
        f.write(open(over, "rb").read())
    disk("compare", disk.path("copy.qcow2"), raw).failed("no directory is allowed", rc=2)


@pytest.mark.parametrize("opts", ["compat=0.10", "compat=1.1", "extended_l2=on", "cluster_size=512", "refcount_bits=8"])
def test_snapshots(disk, raw, opts):
    """QEMU and caisson take, list, apply and delete the same snapshots in turn."""
    image = disk.path("s.qcow2")
    qemu("convert", "-O", "qcow2", "-c", "-o", opts, raw, image).ok()
    states = {}

    def take(name, by):
        by("snapshot", *(["-f", "qcow2"] if by is disk else []), "-c", name, image).ok()
        states[name] = content(disk, image)
        disk.sound(image)

    take("one", disk)
    io(image, "write -P 9 1M 200k", "write -P 8 10M 3k")
    take("two", qemu)
    io(image, "write -z 0 3M", "discard 5M 2M")
    take("three", disk)
    io(image, "write -P 7 2M 2M")
    ours = disk.info(image)["snapshots"]
    theirs = json.loads(qemu("info", "-f", "qcow2", "--output", "json", image).ok().out)["snapshots"]
    assert ours == theirs
    assert [s["name"] for s in ours] == ["one", "two", "three"]
    for name in ("two", "one", "three"):
        disk("convert", "-l", name, "-f", "qcow2", "-O", "raw", image, disk.path("snap.raw")).ok()
        assert open(disk.path("snap.raw"), "rb").read() == states[name]
        disk("snapshot", "-a", name, image).ok()
        assert content(disk, image) == states[name]
        disk.sound(image)
    io(image, "write -P 5 0 1M")
    qemu("snapshot", "-d", "one", image).ok()
    disk("snapshot", "-d", "two", image).ok()
    disk.sound(image)
    disk("snapshot", "-a", "3", image).ok()
    assert content(disk, image) == states["three"]
    disk("snapshot", "-d", "3", image).ok()
    assert "snapshots" not in disk.info(image)
    disk.sound(image)
    disk("snapshot", "-d", "three", image).failed("three")


def test_internal_snapshot_then_random_writes(disk, drive):
    """A snapshot stays as it is while random writes copy its clusters."""
    image = disk.path("s.qcow2")
    disk("create", "-f", "qcow2", image, "64M").ok()
    drive("run", image, "qcow2", 1, 300, 1, "-", "-").ok()
    before = content(disk, image)
    disk("snapshot", "-c", "kept", image).ok()
    drive("run", image, "qcow2", 2, 300, 4, "-", "-").ok()
    disk.sound(image)
    disk("snapshot", "-a", "kept", image).ok()
    assert content(disk, image) == before
    disk("snapshot", "-d", "kept", image).ok()
    disk.sound(image)


@pytest.mark.parametrize("opts", ["compat=0.10", "compat=1.1", "cluster_size=512", "extended_l2=on", "cluster_size=2M"])
def test_resize(disk, raw, opts):
    image = disk.path("r.qcow2")
    disk("convert", "-o", opts, raw, image).ok()
    data = open(raw, "rb").read()
    disk("resize", image, "40M").ok()
    assert content(disk, image) == data + bytes(40 * MiB - len(data))
    disk.sound(image)
    disk("resize", image, "5M").failed("--shrink")
    disk("resize", "--shrink", image, "5M").ok()
    disk("resize", image, "+1M").ok()
    disk.sound(image)
    # Data that was cut off must not come back.
    assert content(disk, image) == data[:5 * MiB] + bytes(MiB)
    disk("resize", "--shrink", image, "-2M").ok()
    disk("resize", image, "3G").ok()
    disk.sound(image)
    io(image, "write -P 3 2G 1M")
    disk.sound(image)
    assert disk.info(image)["virtual-size"] == 3 << 30


@pytest.mark.parametrize("opts", ["compat=0.10", "compat=1.1", "extended_l2=on"])
def test_growing_an_overlay_hides_what_is_below(disk, raw, opts):
    """If an overlay shorter than its backing file grows, the new part is zeros and not the backing file's bytes."""
    over = disk.path("o.qcow2")
    qemu("create", "-f", "qcow2", "-o", opts, "-b", "source.raw", "-F", "raw", over, "3000k").ok()
    disk("resize", "--backing", "on", over, "13M").ok()
    data = open(raw, "rb").read()[:3000 << 10]
    assert content(disk, over) == data + bytes(13 * MiB - len(data))
    qemu("check", "-f", "qcow2", over).ok()


def test_commit(disk, chain):
    qemu("convert", "-O", "raw", "-f", "qcow2", chain, disk.path("want.raw")).ok()
    disk("commit", chain).failed("--backing") if not has_xattr(chain) else None
    disk("commit", "--backing", "on", chain).ok()
    disk.sound(chain), disk.sound(disk.path("middle.qcow2"))
    for image in (chain, disk.path("middle.qcow2")):
        assert content(disk, image) == open(disk.path("want.raw"), "rb").read()
    assert not [e for e in json.loads(disk("map", "--backing", "on", "--json", chain).ok().out) if e["depth"] == 0 and e["data"]]
    # The whole chain is committed into a raw file.
    disk("commit", "--backing", "on", "-d", disk.path("middle.qcow2")).ok()
    assert open(disk.path("base.raw"), "rb").read() == open(disk.path("want.raw"), "rb").read()


def has_xattr(path):
    try:
        return bool(os.getxattr(path, "trusted.caisson.backing-directory"))
    except OSError:
        return False


def test_rebase(disk, chain):
    want = content(disk, chain)
    qemu("convert", "-O", "qcow2", "-f", "qcow2", disk.path("middle.qcow2"), disk.path("other.qcow2")).ok()
    io(disk.path("other.qcow2"), "write -P 77 0 2M", "write -z 9M 64k")
    disk("rebase", "--backing", "on", "-b", "other.qcow2", "-F", "qcow2", chain).ok()
    assert content(disk, chain) == want and disk.info(chain)["backing-filename"] == "other.qcow2"
    disk.sound(chain)
    disk("rebase", "--backing", "on", "-b", "", chain).ok()
    assert content(disk, chain) == want and "backing-filename" not in disk.info(chain)
    disk.sound(chain)
    disk("rebase", "-u", "-b", "moved.qcow2", "-F", "qcow2", chain).ok()
    assert json.loads(qemu("info", "-f", "qcow2", "-U", "--output", "json", chain).out)["backing-filename"] == "moved.qcow2"


def test_info_of_the_chain(disk, chain):
    """info --backing-chain says of each image what qemu-img says. The backing files are opened only as --backing allows."""
    os.mkdir(disk.path("sub"))
    over = disk.path("sub/over.qcow2")
    qemu("create", "-f", "qcow2", "-b", "../top.qcow2", "-F", "qcow2", over).ok()
    args = ["info", "-f", "qcow2", "--backing-chain", "--backing", disk.tmp]
    text = qemu("info", "-f", "qcow2", "--backing-chain", over).ok().out
    # QEMU 10 (Debian 13) tells of the file of each image too.
    assert disk(*args, over).ok().out == re.sub(r"^Child node .*\n(?:    .*\n)*", "", text, flags=re.M)
    disk("snapshot", "-c", "one", chain).ok()
    ours = json.loads(disk(*args, "--json", over).ok().out)
    theirs = json.loads(qemu("info", "-f", "qcow2", "--backing-chain", "--output", "json", over).ok().out)
    assert len(ours) == 4
    for a, b in zip(ours, theirs, strict=True):
        b.pop("children", None)
        for snapshot in b.get("snapshots", []):
            snapshot.pop("icount", None)
        assert a == b
    assert [i["filename"] for i in ours[:2]] == [over, disk.path("sub/../top.qcow2")]
    disk("info", "--backing-chain", over).failed("../top.qcow2", "--backing")
    disk("info", "--backing-chain", "--backing", "on", over).failed("../top.qcow2", "leads out of")
    assert len(json.loads(disk("info", "--backing-chain", "--json", disk.path("base.raw")).ok().out)) == 1
    os.truncate(disk.path("middle.qcow2"), 50)
    disk(*args, "--json", over).failed("middle.qcow2", "50 bytes")
    assert disk.info(over)["backing-filename"] == "../top.qcow2"


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_options_are_listed(disk, fmt):
    """-o help lists the options, and exactly those that create takes. No image is made."""
    image = disk.path("x." + fmt)
    text = disk("create", "-f", fmt, "-o", "help").ok().out
    assert text == disk("create", "-o", "?", image, "1M").ok().out == disk("convert", "-O", fmt, "-o", "compat=1.1,help").ok().out
    assert text == disk("convert", "-o", "help", "-f", "raw", "no.raw", image).ok().out and not os.path.exists(image)
    listed = dict(re.findall(r"^  ([\w.-]+)=(\S+) +- \S.*$", text, re.M))
    assert len(listed) == len(text.splitlines()) - 1
    theirs = re.findall(r"^  ([\w.-]+)=<", qemu("create", "-f", fmt, "-o", "help", *([image] if fmt == "raw" else [])).ok().out, re.M)
    missing = {"size", "nocow", "extent_size_hint", "encryption", "encrypt.key-secret", "keep_data_file"}
    assert set(theirs) - set(listed) <= missing and set(listed) <= set(theirs)
    for name, value in listed.items():
        assert "no such option" not in disk("create", "-o", f"{name}={value.split('|')[0]}", image, "1M").err, name
    for name in set(theirs) - set(listed):
        disk("create", "-o", f"{name}=1", image, "1M").failed("such option")


def test_options_without_a_format(disk):
    disk("create", "-o", "help").failed("-f")
    disk("convert", "-o", "help").failed("-O")
    disk("convert", "-f", "raw", "-o", "help", "one.raw").failed("-O")
    disk("create", "-f", "vdi", "-o", "help").failed("-f vdi", "only read")
    disk("create").failed("missing arguments")
    disk("convert", "one.raw").failed("missing arguments")
    disk("create", "-o", "helping", "x.raw", "1M").failed("-o helping")


def test_convert_keeps_the_backing_file(disk, chain):
    copy = disk.path("copy.qcow2")
    disk("convert", "--backing", "on", "-B", "middle.qcow2", "-F", "qcow2", chain, copy).ok()
    assert content(disk, copy) == content(disk, chain)
    assert disk.info(copy)["backing-filename"] == "middle.qcow2"
    disk.sound(copy)


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_a_scattered_request_is_one_call(disk, drive, fmt):
    """A request of 254 buffers, the most of virtio-blk, is one system call for neighbouring clusters, whether they are new or not."""
    image, ops, length = disk.path("image"), 3, 254 * 4096
    disk("create", "-f", fmt, image, "4M").ok()
    r = call("strace", "-f", "-qq", "-e", "trace=pwritev,preadv", drive_path(drive), "scattered", image, fmt, 1, ops, 1).ok()
    for name in ("pwritev", "preadv"):
        whole = re.findall(rf"{name}\(\d+, .*, 254, \d+\) += {length}\n", r.err)
        assert len(whole) == ops, r
    if fmt == "qcow2":
        disk.sound(image)


@pytest.mark.parametrize("raw_data", ["on", "off"])
def test_external_data_file(disk, raw, drive, raw_data):
    image = disk.path("d.qcow2")
    disk("convert", "-o", f"data_file={disk.path('data.bin')},data_file_raw={raw_data}", raw, image).ok()
    disk.same(raw, "raw", image, "qcow2")
    qemu("check", "-f", "qcow2", image).ok()
    if raw_data == "on":
        assert open(disk.path("data.bin"), "rb").read() == open(raw, "rb").read()
    ops = 400
    disk("create", "-f", "qcow2", "-o", f"data_file={disk.path('data.bin')},data_file_raw={raw_data}", image, "64M").ok()
    drive("run", image, "qcow2", 5, ops, 1, disk.tmp, "-").ok()
    drive("verify", image, "qcow2", 5, ops, 1, disk.tmp, ops, 65536, 0).ok()
    qemu("check", "-f", "qcow2", image).ok()
    qemu("convert", "-f", "qcow2", "-O", "raw", image, disk.path("q.raw")).ok()
    drive("verify", disk.path("q.raw"), "raw", 5, ops, 1, "-", ops, 65536, 0).ok()
    disk("snapshot", "-c", "x", image).failed("data file")
    disk("info", image).ok()
    disk("map", "--backing", "off", image).failed("data file")
    disk("map", "--backing", "/etc", image).failed("--backing")


def test_a_data_file_that_cannot_be_made_leaves_no_image(disk):
    image = disk.path("a.qcow2")
    disk("create", "-f", "qcow2", "-o", f"data_file={disk.path('nowhere/d')}", image, "1M").failed("nowhere/d")
    assert not os.path.exists(image)


def test_a_data_file_that_cannot_be_made_leaves_the_image_as_it_was(disk):
    image = disk.path("a.qcow2")
    disk("create", "-f", "qcow2", image, "1M").ok()
    with open(image, "rb") as f:
        before = f.read()
    for name in ("nowhere/d", "a.qcow2"):
        disk("create", "-f", "qcow2", "-o", f"data_file={name}", image, "2M").failed("data_file", name)
        with open(image, "rb") as f:
            assert f.read() == before


def test_a_data_file_that_was_there_becomes_empty(disk):
    """The image has no data, and with data_file_raw=on the data file must say the same. A bad option changes nothing."""
    image, data = disk.path("a.qcow2"), disk.path("data.raw")
    with open(data, "wb") as f:
        f.write(b"x" * 2 * MiB)
    make = lambda more: disk("create", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on{more}", image, "1M")
    make(",cluster_size=3k").failed("cluster_size")
    assert os.stat(data).st_size == 2 * MiB and not os.path.exists(image)
    make("").ok()
    disk.same(image, "qcow2", data, "raw")
    make(",cluster_size=3k").failed("cluster_size")
    with open(data, "rb") as f:
        assert f.read() == bytes(MiB)


def test_a_data_file_in_use_is_refused(disk):
    disk("create", "-f", "raw", disk.path("data.raw"), "1M").ok()
    io = subprocess.Popen(["qemu-io", "-f", "raw", disk.path("data.raw")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    io.stdin.write(b"write -P 7 0 1M\n")
    io.stdin.flush()
    while b"wrote" not in io.stdout.readline():
        pass
    disk("create", "-f", "qcow2", "-o", "data_file=data.raw", disk.path("a.qcow2"), "2M").failed("data_file", "another process")
    io.communicate(b"quit\n")
    assert os.stat(disk.path("data.raw")).st_size == MiB and not os.path.exists(disk.path("a.qcow2"))


@pytest.mark.parametrize("link", [False, True])
def test_an_overlay_does_not_overwrite_its_chain(disk, raw, link):
    base, top, name = disk.path("base.qcow2"), disk.path("top.qcow2"), disk.path("link.qcow2")
    disk("convert", raw, base).ok()
    disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top).ok()
    if link:
        os.link(base, name)
    for backing in ("base.qcow2", "top.qcow2"):
        disk("create", "-f", "qcow2", "-b", backing, "-F", "qcow2", name if link else base).failed(backing, "another name")
        disk.same(raw, "raw", base, "qcow2")
    disk("create", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2", "-o", "data_file=base.qcow2", disk.path("n.qcow2")).failed("another name")
    disk.same(raw, "raw", base, "qcow2")


def test_an_overlay_does_not_overwrite_a_data_file_of_its_chain(disk, raw):
    base, data = disk.path("base.qcow2"), disk.path("data.raw")
    disk("create", "-f", "qcow2", "-o", f"data_file={data}", base, str(os.stat(raw).st_size)).ok()
    disk("convert", "-n", raw, base).ok()
    for args in ([data], ["-o", f"data_file={data}", disk.path("n.qcow2")]):
        disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", *args).failed("base.qcow2", "another name")
        disk.same(raw, "raw", data, "raw")


def test_an_image_is_not_its_own_backing_file(disk, raw):
    """Neither is its data file, although the backing file is not opened."""
    base, top, new = disk.path("base.qcow2"), disk.path("top.qcow2"), disk.path("new.qcow2")
    disk("convert", raw, base).ok()
    disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top).ok()
    disk("create", "-u", "-f", "qcow2", "-b", "new.qcow2", "-F", "qcow2", new, "1M").failed("backing file", "another name")
    disk("create", "-u", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", base, "1M").failed("another name")
    disk("create", "-u", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "data_file=base.qcow2", new, "1M").failed("another name")
    call("cp", base, disk.path("same.qcow2")).ok()
    disk("convert", "-O", "qcow2", "-B", "same.qcow2", "-F", "qcow2", top, disk.path("same.qcow2")).failed("another name")
    assert not os.path.exists(new)
    disk.same(raw, "raw", base, "qcow2")
    disk.same(raw, "raw", disk.path("same.qcow2"), "qcow2")


def test_convert_looks_at_the_backing_files_of_the_base(disk, raw):
    """None of them is overwritten, which qemu-img 7.2 does with exit code 0."""
    middle, top, new = disk.path("middle.qcow2"), disk.path("top.qcow2"), disk.path("new.qcow2")
    call("cp", raw, disk.path("root.raw")).ok()
    qemu("create", "-f", "qcow2", "-b", "root.raw", "-F", "raw", middle).ok()
    disk("create", "-f", "qcow2", "-b", raw, "-F", "raw", top).ok()
    args = ["convert", "-O", "qcow2", "-F", "qcow2", top]
    disk(*args, "-B", "middle.qcow2", disk.path("root.raw")).failed("-B middle.qcow2: ", "root.raw would be overwritten")
    disk(*args, "-n", "-B", "middle.qcow2", disk.path("root.raw")).failed("root.raw would be overwritten")
    disk(*args, "-B", "middle.qcow2", "-o", f"data_file={disk.path('root.raw')}", new).failed("root.raw would be overwritten")
    disk(*args, "-B", "gone.qcow2", new).failed("-B gone.qcow2: ", "does not exist")
    assert not os.path.exists(new)
    disk.same(raw, "raw", disk.path("root.raw"), "raw")
    # The base's own backing file is found where the copy will find it.
    disk(*args, "-B", "middle.qcow2", new).ok()
    disk("compare", new, top).ok()
    # A base that is not there, or a target that has no place, leaves an old target as it is.
    disk(*args, "-B", "gone.qcow2", middle).failed("does not exist")
    disk.same(raw, "raw", middle, "qcow2")
    disk(*args, "-B", "middle.qcow2", disk.path("no/where.qcow2")).failed("does not exist")


@pytest.mark.parametrize("opts", [[], ["-c"], ["-o", "compat=0.10"], ["-o", "extended_l2=on"]])
def test_convert_onto_a_base_that_is_longer(disk, opts):
    """
    Behind the end of the source's backing file the copy has zeros, and not what the other base has there. qemu-img 7.2 makes
    a copy that differs from the source.
    """
    data = b"\1" * MiB + b"\2" * 1024
    for name, tail in ("short.raw", b""), ("long.raw", b"\5" * MiB):
        with open(disk.path(name), "wb") as f:
            f.write(data + tail)
    top, copy = disk.path("top.qcow2"), disk.path("copy.qcow2")
    disk("create", "-f", "qcow2", "-b", "short.raw", "-F", "raw", top, "64M").ok()
    call("qemu-io", "-f", "qcow2", "-c", "write -P 9 1500k 64k", "-c", "write -P 9 50M 64k", top).ok()
    disk("convert", *opts, "-B", "long.raw", "-F", "raw", top, copy).ok()
    disk.sound(copy)
    disk.same(top, "qcow2", copy, "qcow2")
    # Only where the base has data, an image of version 2, which knows no zeros, has some.
    assert disk.info(copy)["actual-size"] < (2 if "compat=0.10" in opts else 1) * MiB


def test_a_compressed_copy_of_an_overlay_with_smaller_clusters(disk, raw):
    """The overlay has parts of the copy's clusters, and the backing file the rest."""
    base, top, copy = disk.path("base.qcow2"), disk.path("top.qcow2"), disk.path("copy.qcow2")
    disk("convert", raw, base).ok()
    disk("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "-o", "cluster_size=1k", top).ok()
    call("qemu-io", "-f", "qcow2", "-c", "write -P 7 275k 9k", "-c", "write -P 9 290k 1k", "-c", "write -z 700k 5k",
         "-c", "write -P 3 12M 512", top).ok()
    disk("convert", "-c", "-B", "base.qcow2", "-F", "qcow2", top, copy).ok()
    disk.sound(copy)
    disk.same(top, "qcow2", copy, "qcow2")
    assert os.stat(copy).st_size < MiB


# ---- bitmaps ----

def bitmap_state(image):
    bitmaps = json.loads(qemu("info", "-f", "qcow2", "--output", "json", image).ok().out)["format-specific"]["data"].get("bitmaps", [])
    return {b["name"]: set(b["flags"]) for b in bitmaps}


def dirty(disk, image, name):
    """Returns the dirty ranges of a bitmap, as QEMU reads them and exports them over NBD."""
    sock = disk.path("nbd.sock")
    p = subprocess.Popen(["qemu-nbd", "-r", "-f", "qcow2", "-B", name, "-k", sock, "-x", "e", image])
    try:
        for _ in range(100):
            if os.path.exists(sock):
                break
            time.sleep(0.05)
        spec = f"driver=nbd,server.type=unix,server.path={sock},export=e,x-dirty-bitmap=qemu:dirty-bitmap:{name}"
        m = json.loads(qemu("map", "--image-opts", "--output", "json", spec).ok().out)
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(20)
        if os.path.exists(sock):
            os.unlink(sock)
    return [(e["start"], e["length"]) for e in m if not e["data"]]


def test_bitmaps_are_kept(disk, drive):
    image = disk.path("b.qcow2")
    qemu("create", "-f", "qcow2", image, "64M").ok()
    qemu("bitmap", "--add", "-g", "65536", "-f", "qcow2", image, "on").ok()
    qemu("bitmap", "--add", "--disable", "-f", "qcow2", image, "off").ok()
    io(image, "write 1M 64k")
    drive("run", image, "qcow2", 3, 12, 1, "-", "-").ok()
    assert bitmap_state(image) == {"on": {"auto"}, "off": set()}
    disk.sound(image)
    ours = json.loads(disk("map", "--json", image).ok().out)
    written = [(e["start"], e["start"] + e["length"]) for e in ours if e["data"]]
    marked = [(s, s + n) for s, n in dirty(disk, image, "on")]
    assert marked and all(any(a <= s and e <= b for a, b in marked) for s, e in written), (written, marked)
    assert sum(b - a for a, b in marked) < 64 * MiB
    assert dirty(disk, image, "off") == []
    # After the resize the bitmaps are too short, and the image says so.
    disk("resize", image, "70M").ok()
    assert bitmap_state(image) == {}
    disk("check", "-q", "-r", "leaks", image).ok()
    disk.sound(image)


# ---- locks ----

@pytest.mark.parametrize("fmt", ["qcow2", "raw"])
def test_two_writers_are_refused(disk, fmt):
    image = disk.path("l." + fmt)
    disk("create", image, "16M").ok()
    p = subprocess.Popen(["qemu-io", "-f", fmt, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        p.stdin.write("write 0 64k\n")
        p.stdin.flush()
        p.stdout.readline()
        disk("resize", image, "20M").failed("another process")
        disk("create", image, "20M").failed("another process")
        disk("info", image).failed("another process")
        disk("info", "-U", image).ok()
    finally:
        p.communicate("quit\n", timeout=20)
    disk("info", image).ok()


def test_our_locks_are_seen_by_qemu(disk, drive):
    image = disk.path("l.qcow2")
    disk("create", image, "64M").ok()
    p = subprocess.Popen([drive_path(drive), "run", image, "qcow2", "1", "100000", "1",
                          "-", "-"])
    try:
        for _ in range(200):
            r = qemu("info", "-f", "qcow2", image)
            if r.rc:
                break
            time.sleep(0.02)
        assert 'Failed to get shared "write" lock' in r.err, r
        assert "lock" in subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", image], capture_output=True, text=True).stderr
    finally:
        p.kill()
        p.wait()
    qemu("check", "-f", "qcow2", image)


def drive_path(drive):
    return next(c.cell_contents for c in drive.__closure__ if isinstance(c.cell_contents, str))


# ---- repairs ----

def test_leaks_are_found_and_repaired(disk, raw):
    image = disk.path("leak.qcow2")
    disk("convert", raw, image).ok()
    with open(image, "r+b") as f:
        head = f.read(104)
        table, = struct.unpack(">Q", head[48:56])
        f.seek(table)
        block, = struct.unpack(">Q", f.read(8))
        f.seek(block + 2 * 3000)
        f.truncate(3100 << 16)
        f.write(struct.pack(">H", 1) * 5)
    assert qemu("check", "-f", "qcow2", image).rc == 3
    r = disk("check", "--json", image)
    assert r.rc == 3 and json.loads(r.out)["leaks"] == 5
    disk("check", "-q", "-r", "leaks", image).ok()
    disk.sound(image)


def test_lost_refcounts_are_repaired(disk, raw):
    """A check repairs refcounts that are too small, wrong flags, and then a whole refcount block that is missing."""
    image = disk.path("e.qcow2")
    disk("convert", raw, image).ok()
    want = content(disk, image)

    def damage(f):
        f.seek(48)
        table, = struct.unpack(">Q", f.read(8))
        f.seek(table)
        return table, struct.unpack(">Q", f.read(8))[0]

    with open(image, "r+b") as f:
        _, block = damage(f)
        f.seek(block + 2 * 8)
        f.write(struct.pack(">HHH", 0, 2, 0))
    assert qemu("check", "-f", "qcow2", image).rc == 2 and disk("check", "-q", image).rc == 2
    disk("check", "-q", "-r", "all", image).ok()
    disk.sound(image)
    with open(image, "r+b") as f:
        table, _ = damage(f)
        f.seek(table)
        f.write(bytes(8))
    assert disk("check", "-q", image).rc == 2
    disk("check", "-q", "-r", "all", image).ok()
    qemu("check", "-f", "qcow2", image).ok()
    assert content(disk, image) == want


def test_dirty_image_is_repaired_by_the_next_writer(disk, raw):
    image = disk.path("dirty.qcow2")
    qemu("convert", "-O", "qcow2", "-o", "lazy_refcounts=on", raw, image).ok()
    want = content(disk, image)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 1 20k 1M", "-c", "write -P 2 7M 1M", "-c", "flush",
                    "-c", "abort", image], capture_output=True, timeout=30)
    assert disk.info(image)["dirty-flag"] is True
    disk("resize", image, "20M").ok()
    assert disk.info(image)["dirty-flag"] is False
    disk.sound(image)
    got = content(disk, image)
    assert got[20 << 10:(20 << 10) + MiB] == b"\1" * MiB and got[:20 << 10] == want[:20 << 10]
