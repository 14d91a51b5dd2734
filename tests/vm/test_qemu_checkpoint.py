# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson checkpoint` and `caisson restore` of microVMs on QEMU, in software."""
import os
import struct
import time

import pytest
from hypervisor import BOOT, kernel, rt, up, vm  # noqa: F401 (fixtures too)
from test_disks import disk  # noqa: F401
from harness import config, network
from harness.checksum import crc32c
from harness.counter import counts
from harness.runtime import wait_for

# Counts in memory, in a file that stays open and on its output, and reads the file back through a handle that stays open.
COUNTER = """exec 3>>/counts 4</counts; i=0
while :; do i=$((i+1)); echo $i >&3; read seen <&4; [ $seen = $i ] || echo wrong $seen; echo $i; sleep 0.2; done"""


def grows(c):
    before = len(counts(c))
    wait_for(lambda: len(counts(c)) > before + 1, "the counter to go on", timeout=BOOT)


def checkpoint(c, *opts):
    return c.rt("checkpoint", "--image-path", c.image, *opts, c.id, timeout=BOOT)


def restore(c, image=None):
    with open(c.log, "ab") as log:
        return c.rt("restore", "--detach", "--image-path", image or c.image, "--bundle", c.bundle, c.id, stdout=log, timeout=BOOT)


def say_hello(c):
    assert c.exec("echo", "hello", timeout=BOOT).ok().out == "hello\n"


@pytest.fixture
def counter(vm, tmp):
    """A container that counts, and a place for its checkpoint."""
    c = vm("sh", "-c", COUNTER)
    c.conf["root"]["readonly"] = False
    c.conf["vm"]["hwConfig"] = {"memory": 192 << 20}
    c.image = os.path.join(tmp, "image")
    up(c)
    grows(c)
    return c


def end(c):
    c.kill("KILL")
    c.wait(timeout=BOOT)
    c.delete()
    seen = counts(c)
    assert seen == list(range(1, len(seen) + 1)), "no number is missing, and none came twice"
    assert "wrong" not in c.output()


def test_a_counter_goes_on(counter):
    """The process has its memory, its open files and its output again, and the container can be used as before. This is so
    after a checkpoint that leaves it running, after a restore, and after both once more."""
    c = counter
    for _ in range(2):
        checkpoint(c, "--leave-running").ok()
        assert c.status() == "running"
        grows(c)
        say_hello(c)
    checkpoint(c).ok()
    assert not c.exists() and sorted(os.listdir(c.image)) == ["inventory.img", "vm"]
    last = counts(c)[-1]
    for _ in range(2):
        restore(c).ok()
        assert c.status() == "running"
        grows(c)
        say_hello(c)
        wait_for(lambda: str(last + 2) in c.output().split("\n"), "the program's output", timeout=BOOT)
        assert abs(int(c.exec("date", "+%s", timeout=BOOT).ok().out) - time.time()) < 60
        checkpoint(c).ok()
        assert not c.exists()
        last = counts(c)[-1]
    restore(c).ok()
    grows(c)
    end(c)


def test_a_killed_command(counter):
    """A checkpoint whose command is killed at any time leaves a container that runs, or a complete checkpoint."""
    c = counter
    for delay in (0.02, 0.1, 0.3, 0.6):
        p = c.rt.popen("checkpoint", "--leave-running", "--image-path", c.image, c.id)
        time.sleep(delay)
        p.kill()
        p.communicate()
        grows(c)
        say_hello(c)
    checkpoint(c, "--leave-running").ok()
    grows(c)
    end(c)


# ---- checkpoints that are refused ----

def sections(state):
    """The places of the sections: kind, offset of the header, offset of the data, length with the padding."""
    at = 32
    while at < len(state):
        kind, _, length, _ = struct.unpack_from("<IIII", state, at)
        padded = length + -length % 8
        yield kind, at, at + 16, padded
        at += 16 + padded


def change(state, kind, offset, value):
    """Sets a 32-bit number in the last section of the kind, and makes the checksum right."""
    state = bytearray(state)
    where = [s for s in sections(state) if s[0] == kind][-1]
    struct.pack_into("<I", state, where[2] + offset, value)
    struct.pack_into("<I", state, where[1] + 12, crc32c(state[where[1]:where[1] + 12] + state[where[2]:where[2] + where[3]]))
    return bytes(state)


QEMU_SECTION, OWNER_SECTION = 7, 6
MAJOR, STREAM_CRC, STREAM_LENGTH = 40, 48, 56  # offsets of members of struct qemu_section


def test_what_is_refused(counter, tmp):
    """A damaged, truncated or foreign checkpoint is refused with the reason, and leaves nothing."""
    c = counter
    checkpoint(c).ok()
    bad = os.path.join(tmp, "bad")
    os.makedirs(os.path.join(bad, "vm"))
    state, memory = (open(os.path.join(c.image, "vm", name), "rb").read() for name in ("state", "memory"))

    def refused(state, memory, *why):
        for name, data in (("state", state), ("memory", memory)):
            with open(os.path.join(bad, "vm", name), "wb") as f:
                f.write(data)
        restore(c, bad).failed(*why)
        assert not c.exists()

    middle = len(memory) // 2
    refused(b"", memory, "the snapshot has 0 bytes")
    refused(state[:-8], memory, "damaged")
    refused(state[:-1] + b"x", memory, "damaged")
    refused(state, memory[:-1], "the file with guest memory has")
    refused(state, memory[:middle] + bytes([memory[middle] ^ 1]) + memory[middle + 1:], "wrong checksum")
    refused(change(state, QEMU_SECTION, MAJOR, 99), memory, "the snapshot is of QEMU 99.")
    # The checksums are right, and the stream ends too early: QEMU itself says so.
    stream = memory[:65536]
    short = change(change(state, QEMU_SECTION, STREAM_LENGTH, len(stream)), QEMU_SECTION, STREAM_CRC, crc32c(stream))
    refused(short, stream, "QEMU ended with exit code 1", "load of migration failed")
    noise = bytes(65536)
    refused(change(change(state, QEMU_SECTION, STREAM_LENGTH, len(noise)), QEMU_SECTION, STREAM_CRC, crc32c(noise)), noise,
            "QEMU ended with exit code 1")
    c.conf["vm"]["hwConfig"]["memory"] = 256 << 20
    c.write()
    restore(c).failed("192 MiB", "256 MiB")
    c.conf["vm"]["hwConfig"]["memory"] = 192 << 20
    c.write()
    os.unlink(os.path.join(c.rootfs, "counts"))
    restore(c).failed("the file server", "counts")
    assert not c.exists()


def test_another_disk_or_network(disk, tmp):
    """A disk of another size and an interface with another address are refused. With the disk as before the container goes on."""
    c, _, raw = disk("i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done")
    c.conf["vm"]["image"] = {"path": raw, "format": "raw"}
    c.conf["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": "150"}
    c.conf["vm"]["hwConfig"] = {"memory": 192 << 20}
    c.image = os.path.join(tmp, "image")
    with network.veth("cai-ckpt", "10.213.19.1", "10.213.19.2") as path:
        config.namespaces(c.conf, paths={"network": path})
        up(c)
        wait_for(lambda: "3" in c.output().split("\n"), "output", timeout=BOOT)
        checkpoint(c).ok()
        size = os.stat(raw).st_size
        os.truncate(raw, size + (1 << 20))
        restore(c).failed("vm.image", str(size), str(size + (1 << 20)))
        os.truncate(raw, size)
        restore(c).ok()
        last = len(c.output().split("\n"))
        wait_for(lambda: len(c.output().split("\n")) > last + 1, "more output", timeout=BOOT)
        checkpoint(c).ok()
    with network.veth("cai-ckpt", "10.213.19.1", "10.213.19.2") as path:
        restore(c).failed("MAC addresses")
    assert not c.exists()
