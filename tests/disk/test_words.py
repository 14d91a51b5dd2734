# SPDX-License-Identifier: Apache-2.0
"""What users of qemu-img type: options that mean the same here, and what is said of commands that are not here."""
import json
import os

import pytest

from conftest import MiB, call, qemu


@pytest.mark.parametrize("command,text", [("amend", "convert -o"), ("bench", "fio"), ("bitmap", "qemu-img"), ("dd", "convert"), ("measure", "map"),
                                          ("nonsense", "--help")])
def test_commands_that_are_not_here(disk, command, text):
    disk(command, "x.qcow2").failed(command, text)


def test_a_range_of_the_map(disk):
    image = disk.path("i.qcow2")
    qemu("create", "-f", "qcow2", image, "8M").ok()
    call("qemu-io", "-f", "qcow2", "-c", "write 1M 2M", "-c", "write 5M 64k", image).ok()
    for args in [], ["--start-offset=2M"], ["-s", "2M", "-l", "1M"], ["--max-length", "1500k"], ["-s", "700000", "-l", "500000"], ["-s", "7M", "-l", "9M"]:
        assert disk("map", *args, image).ok().out == qemu("map", "-f", "qcow2", *args, image).ok().out, args
        ours, theirs = (json.loads(r.ok().out) for r in (disk("map", "--json", *args, image),
                                                         qemu("map", "-f", "qcow2", "--output=json", *args, image)))
        assert [[e[k] for k in ("start", "length", "data", "zero", "depth")] for e in ours] == \
            [[e[k] for k in ("start", "length", "data", "zero", "depth")] for e in theirs], args
    for args in ["-s", "8M"], ["-s", "9M"], ["-s", "18446744073709551615"], ["-l", "0"]:
        assert json.loads(disk("map", "--json", *args, image).ok().out) == []
    disk("map", "-s", "x", image).failed("--start-offset", '"x"')
    disk("map", "-l", "-1", image).failed("--max-length", '"-1"')


def test_a_target_that_is_zero(disk, raw):
    """Holes of the source are not written then, not even where the target is not zero."""
    target, size = disk.path("target.raw"), os.path.getsize(raw)
    with open(target, "wb") as f:
        f.truncate(size)
    disk("convert", "-n", "--target-is-zero", "-O", "raw", raw, target).ok()
    disk.same(raw, "raw", target, "raw")
    empty = disk.path("empty.raw")
    for path, byte in (empty, b""), (target, b"\5"):
        with open(path, "wb") as f:
            f.write(byte * MiB)
            f.truncate(MiB)
    for option, first in (["--target-is-zero"], 5), ([], 0):
        disk("convert", "-n", *option, "-O", "raw", empty, target).ok()
        with open(target, "rb") as f:
            assert f.read(1)[0] == first
    disk("convert", "--target-is-zero", raw, disk.path("new.qcow2")).failed("--target-is-zero", "-n")
    assert not os.path.exists(disk.path("new.qcow2"))
