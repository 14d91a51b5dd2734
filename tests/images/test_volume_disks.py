# SPDX-License-Identifier: Apache-2.0
"""Tests volumes that are disks (`caisson volume create --pool qcow2`): what makes them, what mounts them, and what a kill leaves."""
import json
import os
import subprocess

import pytest

from harness import mode, rootfs
from test_run import box  # noqa: F401
from test_volumes import volume  # noqa: F401


@pytest.fixture
def vm():
    kernel = mode.guest_kernel(rootfs.CACHE)
    if not kernel:
        pytest.skip("no kernel for a guest")
    return ("--isolation", "vm", "--kernel", kernel)


def image_of(box, name):
    return os.path.join(box.images.store, "volumes", name, "disk.qcow2")


def sound(image):
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], check=True)


def inspect(volume, name):
    one, = json.loads(volume("inspect", name).ok().out)
    return one


def test_commands(box, volume):
    assert volume("create", "--pool", "qcow2", "--size", "1G", "--label", "a=b", "disk").ok().out == "disk\n"
    volume("create", "--pool", "qcow2", "--size", "1G", "disk").failed('there is a volume "disk" already')
    image = image_of(box, "disk")
    sound(image)
    one = inspect(volume, "disk")
    assert one["pool"] == "qcow2" and one["disk"] == image and one["size"] == 1 << 30 and "mountpoint" not in one
    assert one["labels"] == {"a": "b"} and one["used"] == os.stat(image).st_blocks * 512 < 32 << 20
    assert sorted(os.listdir(os.path.dirname(image))) == ["disk.qcow2", "volume.json"]
    assert json.loads(volume("ls", "--json").ok().out) == [one] and volume("ls", "-q").ok().out == "disk\n"
    # `inspect` shows that a volume made without --pool is a directory.
    volume("create", "dir").ok()
    assert inspect(volume, "dir")["pool"] == "dir"
    # The size is read again by rescan, which also removes what killed commands have left.
    box.rt("disk", "resize", "-f", "qcow2", image, "2G").ok()
    os.mkdir(os.path.join(box.images.store, "volumes", ".new-0123456789abcdef"))
    assert inspect(volume, "disk")["size"] == 1 << 30
    volume("rescan").ok()
    assert inspect(volume, "disk")["size"] == 2 << 30 and inspect(volume, "disk")["labels"] == {"a": "b"}
    volume("rm", "disk", "dir").ok()
    assert os.listdir(os.path.join(box.images.store, "volumes")) == [".lock"]


def test_a_damaged_disk_keeps_no_other_from_rescan(box, volume):
    for name in ("a", "b"):
        volume("create", "--pool", "qcow2", "--size", "8M", name).ok()
    box.rt("disk", "resize", "-f", "qcow2", image_of(box, "b"), "16M").ok()
    with open(image_of(box, "a"), "r+b") as f:
        f.write(b"XXXX")
    volume("rescan").failed('the volume "a"', "qcow2", "warning")
    assert inspect(volume, "b")["size"] == 16 << 20 and volume("ls", "-q").ok().out == "a\nb\n"
    volume("rm", "a", "b").ok()


@pytest.mark.parametrize("args, said", [
    (("--pool", "qcow2"), ["--size is missing", "such as 10G"]), (("--pool", "qcow2", "--size", "1M"), ["--size 1M", "at least 8M"]),
    (("--pool", "qcow2", "--size", "-1"), ["--size -1"]), (("--size", "1G"), ["--size 1G", "--pool qcow2"]),
    (("--pool", "lvm"), ["--pool lvm", "expected dir or qcow2"]), (("--pool", "qcow2", "--size", "9E"), ["9E"])])
def test_refused(box, volume, args, said):
    volume("create", *args, "disk").failed(*said)
    assert volume("ls", "-q").ok().out == ""
    assert os.listdir(os.path.join(box.images.store, "volumes")) in ([], [".lock"])


def test_a_microvm_mounts_it(box, volume, vm):
    """What one microVM writes the next one reads. The volume has an owner in the guest, and is not filled from the image."""
    volume("create", "--pool", "qcow2", "--size", "64M", "disk").ok()
    out = box.sh("grep ' /d ' /proc/mounts; ls /d; echo kept > /d/f; chown 5:6 /d/f; "
                 "mknod /dev/x b $(sed 's/:/ /' /sys/block/vda/dev); head -c 4 /dev/x 2>&1", "-v", "disk:/d:nosuid", *vm, timeout=120).out
    assert out.startswith("/dev/vda /d ext4 rw,nosuid") and out.splitlines()[1] == "lost+found" and "not permitted" in out, out
    sound(image_of(box, "disk"))
    box("-d", "-u", "0", "--mount", "source=disk,target=/e,readonly", *vm, "sh", "-c", "sleep 1000", name="b1", timeout=120).ok()
    r = box.rt("exec", "b1", "sh", "-c", "cat /e/f; stat -c %u:%g /e/f; touch /e/g")
    assert r.out == "kept\n5:6\n" and "Read-only" in r.err
    # While the volume is in use, it cannot be removed and no second microVM gets it. A second one can be attached to the microVM that runs.
    volume("rm", "disk").failed('the volume "disk" is mounted in the container "b1"')
    assert inspect(volume, "disk")["container"] == "b1"
    box.sh("true", "-v", "disk:/d", *vm, timeout=120).failed("another process")
    volume("create", "--pool", "qcow2", "--size", "8M", "other").ok()
    volume("attach", "other", "b1", "/x").ok()
    assert "lost+found" in box.rt("exec", "b1", "ls", "/x").ok().out and inspect(volume, "other")["container"] == "b1"
    box.sh("true", "-v", "disk:/d", "-v", "other:/e", *vm).failed("-v other", "one volume that is a disk")
    box.rt("rm", "-f", "b1").ok()
    volume("rm", "disk", "other").ok()


def test_namespaces_refuse_it(box, volume):
    volume("create", "--pool", "qcow2", "--size", "8M", "disk").ok()
    box.sh("true", "-v", "disk:/d").failed("-v disk", "only a microVM mounts", "--isolation vm")
    box.sh("true", "--mount", "type=volume,src=disk,dst=/d").failed("-v disk", "only a microVM mounts")
    box("-d", "-u", "0", "sh", "-c", "sleep 1000", name="b1").ok()
    volume("attach", "disk", "b1", "/x").failed("which only a microVM mounts", 'container "b1" is in namespaces')
    box.rt("rm", "-f", "b1").ok()
    volume("rm", "disk").ok()


def test_a_killed_create_leaves_no_volume(box, volume, binary, tmp):
    """Killed at any of its calls, `create` leaves a whole volume or none, and the next command can make it."""
    command = [binary, "volume", "create", "--store", box.images.store, "--pool", "qcow2", "--size", "8M", "disk"]
    log = os.path.join(tmp, "trace")
    calls = ["mkdirat", "renameat2", "unlinkat", "ftruncate"]
    for call in calls:
        for n in (1, 2):
            r = subprocess.run(["strace", "-o", log, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}", *command],
                               capture_output=True, check=False)
            names = volume("ls", "-q").ok().out.split()
            if r.returncode != 0:
                assert names in ([], ["disk"]), names
            if names:
                sound(image_of(box, "disk"))
                volume("rm", "disk").ok()
            volume("rescan").ok()
            assert os.listdir(os.path.join(box.images.store, "volumes")) == [".lock"]
