# SPDX-License-Identifier: Apache-2.0
"""Tests with the readers of other projects: libqcow, the Rust crate imago and the Python package dissect.hypervisor read what caisson
writes, and libvmdk, libvhdi, imago and dissect.hypervisor read the images of qemu-img as caisson does. Where a reader is known to differ, a
test says how: if it fails, the reader has changed. tests/disk/test_differ.py and test_foreign.py have more images that these readers read
wrongly. dissect.hypervisor 3.21 gets no image with extended L2 entries, because its reader never ends with one: it takes the L2 entry for
the bitmap of the subclusters."""
import hashlib
import os
import shutil
import subprocess
import tempfile

import pytest

from conftest import MiB, pattern, qemu
from harness import machine, rootfs
from test_foreign import MATRIX, make, qemu_io, read

QCOW2 = [(opts, compressed) for compressed in (False, True) for opts in (
    "compat=0.10", "", "cluster_size=512", "cluster_size=2M", "lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64")]
HERE = os.path.dirname(os.path.abspath(__file__))
DISSECT = ("dissect.hypervisor==3.21", "dissect.cstruct==4.7", "dissect.util==3.24", "defusedxml==0.7.1", "backports.zstd==1.8.0; python_version < '3.14'")
UNREACHABLE = ("Could not resolve", "Couldn't resolve", "Temporary failure in name resolution", "Name or service not known", "No address associated",
               "Network is unreachable", "No route to host", "Connection refused", "Connection reset", "Could not connect", "Failed to connect",
               "Cannot connect to proxy", "timed out")
CARGO = (1, 78)  # the first cargo that reads version 4 of Cargo.lock
PIECE = 64 << 10  # not longer than a block of any format


def fetch(name, argv, *made_from):
    """Runs a command that makes a directory from what a package registry has, once for all runs. Returns the directory's path."""
    key = hashlib.sha256(b"\0".join(made_from)).hexdigest()[:16]
    path = os.path.join(rootfs.CACHE, f"{name}-{key}")
    if os.path.exists(path):
        return path
    os.makedirs(rootfs.CACHE, exist_ok=True)
    # Another run on this machine may make the same directory at the same time.
    with tempfile.TemporaryDirectory(dir=rootfs.CACHE, prefix=f"{name}-{key}.", ignore_cleanup_errors=True) as work:
        r = machine.outside([*argv, work + "/new"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
        if r.returncode and any(text in r.stdout for text in UNREACHABLE):
            pytest.skip(f"{name}: its package registry cannot be reached")
        assert r.returncode == 0, r.stdout
        try:
            os.rename(work + "/new", path)
        except OSError:
            if not os.path.exists(path):
                raise
    return path


class Read:
    """What a reader has read: the bytes, or its error."""

    def __init__(self, argv, **process):
        r = subprocess.run(argv, capture_output=True, timeout=100, **process)
        self.rc, self.bytes, self.err = r.returncode, r.stdout, r.stderr.decode()


@pytest.fixture(scope="session")
def imago():
    """Reads an image by the program in imago/, which is built with the Rust crate from crates.io."""
    if not shutil.which("cargo"):
        pytest.skip("there is no cargo to build imago_read with")
    version = machine.outside(["cargo", "--version"], stdout=subprocess.PIPE, text=True, timeout=100).stdout.split()
    if tuple(int(n) for n in version[1].split(".")[:2]) < CARGO:
        pytest.skip(f"cargo {version[1]} is too old to build imago_read")
    files = []
    for name in ("Cargo.toml", "Cargo.lock", "src/main.rs"):
        with open(f"{HERE}/imago/{name}", "rb") as f:
            files.append(f.read())
    path = fetch("imago", ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", HERE + "/imago/Cargo.toml", "--target-dir"], *files)
    return lambda fmt, image, _piece=0: Read([path + "/release/imago_read", fmt, image])


@pytest.fixture(scope="session")
def dissect():
    """Reads an image by dissect.hypervisor, in pieces of a given size."""
    path = fetch("dissect", ["/usr/bin/python3", "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", *DISSECT, "--target"],
                 *(name.encode() for name in DISSECT))
    return lambda fmt, image, piece=PIECE: Read(["/usr/bin/python3", HERE + "/dissect_read.py", fmt, image, str(piece)], env={**os.environ, "PYTHONPATH": path})


@pytest.fixture(params=["dissect", "imago"])
def reader(request):
    return request.getfixturevalue(request.param)


def library(name):
    return pytest.importorskip(name, reason=f"python3-{name.replace('py', 'lib')} is missing (tests/run installs it)")


def bytes_of(handle):
    """Returns all bytes of the disk, read in pieces that are no multiple of a cluster or sector."""
    size, out = handle.get_media_size(), bytearray()
    while len(out) < size:
        piece = handle.read_buffer_at_offset(min(999_999, size - len(out)), len(out))
        assert piece
        out += piece
    handle.close()
    return bytes(out)


@pytest.fixture
def source(disk):
    """A raw file, with a size of whole sectors, because these libraries do not round up."""
    path = disk.path("sectors.raw")
    pattern(path, 12 * MiB + 512)
    with open(path, "r+b") as f:
        f.truncate(12 * MiB + 512)
    return path


def content(path):
    with open(path, "rb") as f:
        return f.read()


@pytest.mark.parametrize("opts,compressed", [*QCOW2, ("preallocation=metadata", False)])
def test_libqcow_reads_what_we_write(disk, source, opts, compressed):
    pyqcow, image = library("pyqcow"), disk.path("o.qcow2")
    disk("convert", *(["-c"] if compressed else []), *(["-o", opts] if opts else []), "-O", "qcow2", source, image).ok()
    disk.sound(image)
    handle = pyqcow.file()
    handle.open(image)
    assert bytes_of(handle) == content(source)


@pytest.mark.parametrize("opts", ["compression_type=zstd", "extended_l2=on"])
def test_libqcow_refuses_what_it_does_not_know(disk, source, opts):
    """If this test fails, libqcow has learned the feature, and test_libqcow_reads_what_we_write() should have the image instead."""
    pyqcow, image = library("pyqcow"), disk.path("o.qcow2")
    disk("convert", "-c", "-o", opts, "-O", "qcow2", source, image).ok()
    disk.sound(image)
    with pytest.raises(OSError, match="incompatible features"):
        pyqcow.file().open(image)


def open_foreign(fmt, image):
    if fmt == "vmdk":
        handle = library("pyvmdk").handle()
        handle.open(image)
        handle.open_extent_data_files()
        return handle
    handle = library("pyvhdi").file()
    handle.open(image)
    return handle


@pytest.mark.parametrize("fmt,opts", [m for m in MATRIX if m[0] != "vdi" and "zeroed_grain" not in m[1]])
def test_the_same_bytes(disk, source, fmt, opts):
    image = make(disk, source, fmt, opts)
    assert bytes_of(open_foreign(fmt, image)) == read(disk, image, fmt, "--backing", "on")


@pytest.mark.parametrize("fmt,opts", [("vmdk", ""), ("vpc", "force_size=on"), ("vhdx", "block_size=1M")])
def test_the_same_bytes_in_any_order(disk, fmt, opts):
    """The image stores the disk's blocks in another order than the disk has them, because they were not written in order."""
    image = disk.path(f"image.{fmt}")
    qemu("create", "-f", fmt, *(["-o", opts] if opts else []), image, "20M").ok()
    qemu_io(image, fmt, "write -P 1 15M 70k", "write -P 2 3M 4k", "write -P 3 10M 2M", "write -P 4 1023k 2k", "write -P 5 11M 512")
    assert bytes_of(open_foreign(fmt, image)) == read(disk, image, fmt)


@pytest.mark.parametrize("opts,compressed", [*QCOW2, ("preallocation=metadata", False)])
def test_readers_read_what_we_write(disk, source, reader, opts, compressed):
    image = disk.path("o.qcow2")
    disk("convert", *(["-c"] if compressed else []), *(["-o", opts] if opts else []), "-O", "qcow2", source, image).ok()
    r = reader("qcow2", image)
    assert r.bytes == content(source), r.err


@pytest.mark.parametrize("options", [("-c", "-o", "compression_type=zstd"), ("-o", "compression_type=zstd"), ("-o", "extended_l2=on")])
def test_imago_refuses_what_it_does_not_know(disk, source, imago, options):
    """imago refuses a header that names zstd even if no cluster is compressed."""
    image = disk.path("o.qcow2")
    disk("convert", *options, "-O", "qcow2", source, image).ok()
    r = imago("qcow2", image)
    assert r.rc == 1 and "Unrecognized incompatible feature" in r.err and not r.bytes


@pytest.mark.parametrize("options", [("-c",), ()])
def test_dissect_reads_our_zstd(disk, source, dissect, options):
    image = disk.path("o.qcow2")
    disk("convert", *options, "-o", "compression_type=zstd", "-O", "qcow2", source, image).ok()
    r = dissect("qcow2", image)
    assert r.bytes == content(source), r.err


def overlay_of(disk, backing, size):
    """Makes an overlay beside its backing file, which it names by a relative name, because dissect.hypervisor takes no other."""
    image = disk.path("overlay.qcow2")
    disk("create", "-f", "qcow2", "-b", os.path.basename(backing), "-F", "raw", image, str(size)).ok()
    qemu_io(image, "qcow2", "write -P 1 64k 2k", "write -P 2 130k 9k", "write -z 3M 128k", "discard 5M 128k")
    return image


def test_readers_read_our_overlay(disk, source, reader):
    image = overlay_of(disk, source, os.path.getsize(source))
    r = reader("qcow2", image)
    assert r.bytes == read(disk, image, "qcow2", "--backing", "on"), r.err


def test_overlay_larger_than_its_backing_file(disk, source, imago, dissect):
    """Behind the end of the backing file are zeros. imago reads these zeros. dissect.hypervisor leaves them out, so that all that follows is at
    a wrong place, and the disk ends early."""
    image = overlay_of(disk, source, os.path.getsize(source) + MiB)
    ours = read(disk, image, "qcow2", "--backing", "on")
    assert imago("qcow2", image).bytes == ours
    theirs = dissect("qcow2", image).bytes
    assert len(theirs) < len(ours) and ours.startswith(theirs)


@pytest.mark.parametrize("fmt,opts", MATRIX)
def test_dissect_reads_the_same_bytes(disk, source, dissect, fmt, opts):
    if fmt == "vmdk":
        os.truncate(source, 12 * MiB)  # see the next test
    image = make(disk, source, fmt, opts)
    r = dissect(fmt, image)
    assert r.bytes == read(disk, image, fmt, "--backing", "on"), r.err


def test_dissect_fails_at_the_end_of_vmdk(disk, source, dissect):
    """dissect.hypervisor reads VMDK images in pieces of several sectors, and fails at a piece that the disk's end cuts."""
    r = dissect("vmdk", make(disk, source, "vmdk", ""))
    assert "IndexError" in r.err and len(r.bytes) == 12 * MiB and content(source).startswith(r.bytes)


@pytest.mark.parametrize("opts", [m[1] for m in MATRIX if m[0] == "vmdk"])
def test_imago_reads_flat_vmdk_only(disk, source, imago, opts):
    image = make(disk, source, "vmdk", opts)
    r = imago("vmdk", image)
    if "Flat" in opts:
        assert r.bytes == read(disk, image, "vmdk", "--backing", "on"), r.err
    else:
        assert r.rc == 1 and not r.bytes and ("Unsupported" in r.err or "too long" in r.err)


@pytest.mark.parametrize("fmt,opts,piece", [("vdi", "", 16 * MiB), ("vhdx", "block_size=1M", 999_936)])
def test_dissect_reads_blocks_out_of_order(disk, dissect, fmt, opts, piece):
    """The image stores the disk's blocks in another order than the disk has them. dissect.hypervisor reads them rightly one by one. It reads VDI
    wrongly by a read of several blocks, and VHDX by a read that begins within a block and ends in the next."""
    image = disk.path(f"image.{fmt}")
    qemu("create", "-f", fmt, *(["-o", opts] if opts else []), image, "16M").ok()
    qemu_io(image, fmt, "write -P 1 9M 70k", "write -P 2 3M 4k", "write -P 3 8M 70k", "write -P 4 2M 512")
    ours = read(disk, image, fmt)
    assert dissect(fmt, image).bytes == ours
    assert dissect(fmt, image, piece).bytes != ours
