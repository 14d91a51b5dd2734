# SPDX-License-Identifier: Apache-2.0
"""Tests file systems that are read-only or full: caisson prints one message each, and leaves nothing."""
import os

from harness import machine


def test_bundle_on_a_read_only_file_system(ctr, tmp):
    """A read-only rootfs is enough if all mount points exist. A missing one is an error of one message."""
    c = ctr("echo", "ok")
    for d in ("dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup"):
        os.makedirs(c.path(d), exist_ok=True)
    c.conf["root"]["readonly"] = True
    c.write()
    ro = os.path.join(tmp, "ro")
    os.mkdir(ro)
    machine.mount(c.bundle, ro, flags=4096)
    machine.mount(None, ro, flags=4096 | 32 | 1)
    try:
        r = c.rt("run", "--bundle", ro, c.id)
        assert r.rc == 0 and r.out == "ok\n", r
        c.conf["mounts"].append({"destination": "/not/there", "type": "tmpfs", "source": "tmpfs"})
        c.write()
        c.rt("run", "--bundle", ro, c.id).failed("/not/there")
    finally:
        machine.umount(ro)


def test_no_space_for_the_state(ctr, tmp):
    small = os.path.join(tmp, "small")
    os.mkdir(small)
    machine.mount("tmpfs", small, "tmpfs", data="size=4k,nr_inodes=64")
    try:
        with open(os.path.join(small, "full"), "wb") as f:
            f.write(b"x" * 4096)
        c = ctr("true")
        c.rt.root = os.path.join(small, "state")
        r = c.run()
        assert r.rc != 0 and len(r.err.splitlines()) == 1 and "space" in r.err.lower(), r
        left = [n for n in os.listdir(c.rt.root)] if os.path.isdir(c.rt.root) else []
        assert not [n for n in left if n == c.id], left
    finally:
        c.rt.root = os.path.join(tmp, "state")
        machine.umount(small)


def test_no_inodes_for_the_state(ctr, tmp):
    small = os.path.join(tmp, "small")
    os.mkdir(small)
    machine.mount("tmpfs", small, "tmpfs", data="size=1m,nr_inodes=3")
    try:
        c = ctr("true")
        c.rt.root = os.path.join(small, "state")
        r = c.run()
        assert r.rc != 0 and len(r.err.splitlines()) == 1, r
    finally:
        c.rt.root = os.path.join(tmp, "state")
        machine.umount(small)


def test_state_directory_on_a_read_only_file_system(ctr, tmp):
    small = os.path.join(tmp, "small")
    os.mkdir(small)
    machine.mount("tmpfs", small, "tmpfs", flags=1)
    try:
        c = ctr("true")
        c.rt.root = os.path.join(small, "state")
        c.run().failed(small)
    finally:
        c.rt.root = os.path.join(tmp, "state")
        machine.umount(small)
