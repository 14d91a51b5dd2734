# SPDX-License-Identifier: Apache-2.0
"""Tests with the readers of other projects: libqcow reads what caisson writes, and libvmdk and libvhdi read the images of
qemu-img as caisson does. tests/disk/test_differ.py and test_foreign.py have the images that these libraries read wrongly."""
import pytest

from conftest import MiB, pattern, qemu
from test_foreign import MATRIX, make, qemu_io, read

QCOW2 = [(opts, compressed) for compressed in (False, True) for opts in (
    "compat=0.10", "", "cluster_size=512", "cluster_size=2M", "lazy_refcounts=on", "refcount_bits=1", "refcount_bits=64")]


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
