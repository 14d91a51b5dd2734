# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson disk mount` and `umount`: the host sees the file systems of a disk by FUSE, from a microVM."""
import contextlib
import os
import signal
import stat
import subprocess

import pytest

from harness import mode
from test_inside import BOOT, MiB, Disk, digest, disk, listing, put, run, until  # pylint: disable=unused-import


def mounted(path):
    with open("/proc/self/mounts", encoding="utf-8") as f:
        return [l.split()[2:4] for l in f if l.split()[1] == path]


def relay(path):
    """Returns the pid of the process in the background, which the name of the mount's source contains."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        (source,) = [l.split()[0] for l in f if l.split()[1] == path]
    return int(source.split(":")[0].removeprefix("caisson-"))


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def waits_for_fuse(pid):
    """Whether the process waits for the reply to a FUSE request."""
    with open(f"/proc/{pid}/stack", encoding="utf-8") as f:
        return "request_wait_answer" in f.read()


@pytest.fixture
def point(tmp):
    path = os.path.join(tmp, "mnt")
    os.mkdir(path)
    yield path
    while mounted(path):
        run("umount", "-l", path)


@pytest.fixture
def small(rt, tmp, monkeypatch):
    """Makes a disk with one ext4 file system, which has a file and a directory."""
    monkeypatch.setenv("TMPDIR", tmp)
    d, tree = Disk(rt, tmp), os.path.join(tmp, "small")
    put(tree, "sub/file", "old\n")
    d.image = os.path.join(tmp, "small.raw")
    with open(d.image, "wb") as f:
        f.truncate(32 * MiB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, d.image)
    yield d
    assert [n for n in os.listdir(tmp) if n.startswith("caisson-disk")] == []


def test_read_only(disk, point):
    """The mount has what the disk has, with the file systems that fstab names. Nothing can be changed, and a device is
    none of the host."""
    before = digest(disk.image)
    disk("mount", disk.image, point).ok()
    kind, options = mounted(point)[0]
    assert kind == "fuse.caisson" and {"ro", "nosuid", "nodev"} <= set(options.split(",")) and "allow_other" not in options
    assert listing(os.path.join(point, "odd")) == listing(os.path.join(disk.tree, "odd"))
    for path in ("odd/a file", "odd/sparse", "etc/fstab"):
        assert digest(os.path.join(point, path)) == digest(os.path.join(disk.tree, path)), path
    assert os.getxattr(os.path.join(point, "odd/setuid"), "user.test") == b"value"
    with open(os.path.join(point, "srv/sub/file"), encoding="utf-8") as f:
        assert f.read() == "on btrfs\n"
    assert os.path.exists(os.path.join(point, "boot/efi/Hello.txt"))
    with pytest.raises(OSError, match="Read-only"):
        open(os.path.join(point, "etc/new"), "wb")
    with pytest.raises(PermissionError):
        open(os.path.join(point, "odd/null"), "rb")
    with open(os.path.join(point, "etc/fstab"), "rb"):
        disk.rt("disk", "umount", point).failed("busy")
    pid = relay(point)
    # What the guest writes to its standard error fills no memory of the host.
    (errors,) = [p for p in (f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")) if os.readlink(p).startswith("/memfd:errors")]
    with open(errors, "r+b", buffering=0) as f:
        f.seek(0, os.SEEK_END)
        with pytest.raises(PermissionError):
            f.write(b"more")
    run("umount", point)
    until(lambda: gone(pid))
    assert digest(disk.image) == before and os.listdir(point) == []


def test_write(small, point, rt):
    """What was written is on the disk once umount has returned, and the file system is clean. The disk is locked until then."""
    small("mount", "--write", "--allow-other", small.image, point).ok()
    assert {"rw", "allow_other"} <= set(mounted(point)[0][1].split(","))
    data = os.urandom(3 * MiB + 7)
    with open(os.path.join(point, "sub/new"), "wb") as f:
        f.write(data)
    os.chown(os.path.join(point, "sub/new"), 1000, 1001)
    os.chmod(os.path.join(point, "sub/new"), 0o6640)
    os.rename(os.path.join(point, "sub/file"), os.path.join(point, "file"))
    os.symlink("/etc/shadow", os.path.join(point, "link"))
    with open(os.path.join(point, "file"), "ab") as f:
        f.write(b"more\n")
        os.fsync(f.fileno())
    small("mount", small.image, point).failed("another process")
    rt("disk", "umount", point).ok()
    assert not mounted(point)
    run("e2fsck", "-fn", small.image)
    dump = lambda name: subprocess.run(["debugfs", "-R", f"cat {name}", small.image], check=True, capture_output=True).stdout
    assert dump("/sub/new") == data and dump("/file") == b"old\nmore\n"
    said = subprocess.run(["debugfs", "-R", "stat /sub/new", small.image], check=True, capture_output=True, text=True).stdout
    assert "User:  1000" in said and "Group:  1001" in said and "Mode:  06640" in said
    rt("disk", "umount", point).failed("no disk")


@pytest.mark.parametrize("end", ["signal", "guest"])
def test_ends(small, point, rt, end):
    """A signal for the process in the background, or the end of the microVM, takes the mount away, even if it is in use."""
    small("mount", small.image, point).ok()
    pid = relay(point)
    (machine,) = rt("list", "--format", "json").json()
    held = os.open(os.path.join(point, "sub/file"), os.O_RDONLY)
    try:
        if end == "signal":
            os.kill(pid, signal.SIGTERM)
        else:
            rt("kill", machine["id"], "KILL").ok()
        until(lambda: gone(pid))
        with pytest.raises(OSError, match="not connected"):
            os.pread(held, 10, 0)
    finally:
        with contextlib.suppress(OSError):  # FUSE cannot flush the file any more.
            os.close(held)
    assert not mounted(point) and rt("list", "--format", "json").json() in (None, [])


def test_ends_under_another_mount(small, point, rt):
    """The process in the background takes away no mount that was made over its own."""
    small("mount", small.image, point).ok()
    pid = relay(point)
    run("mount", "-t", "tmpfs", "above", point)
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(pid))
    assert [m[0] for m in mounted(point)] == ["fuse.caisson", "tmpfs"] and rt("list", "--format", "json").json() in (None, [])
    rt("disk", "umount", point).failed("no disk")
    run("umount", point)
    rt("disk", "umount", point).ok()
    assert not mounted(point)


def test_ends_beside_a_guest_that_hangs(small, point, rt):
    """SIGTERM for the process in the background frees who waits for a reply, although the guest gives none and does not end."""
    small("mount", small.image, point).ok()
    pid = relay(point)
    (machine,) = rt("list", "--format", "json").json()
    rt("pause", machine["id"]).ok()
    reader = subprocess.Popen(["cat", os.path.join(point, "sub/file")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: waits_for_fuse(reader.pid))
        os.kill(pid, signal.SIGTERM)
        assert reader.communicate(timeout=60)[1] and reader.returncode == 1 and not mounted(point)
    finally:
        rt("resume", machine["id"]).ok()
        until(lambda: gone(pid))
        reader.wait()
    assert rt("list", "--format", "json").json() in (None, [])


def test_a_signal_before_the_mount(small, point, rt):
    """A signal ends the command while its guest boots, and what is mounted at the directory already stays."""
    run("mount", "-t", "tmpfs", "below", point)
    p = subprocess.Popen(rt.argv("disk", "mount", "--kernel", small.kernel, "--hypervisor", mode.HYPERVISOR, small.image, point),
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until(lambda: [c["status"] for c in rt("list", "--format", "json").json() or []] == ["running"])
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=BOOT)[1].decode()
        assert p.returncode == 1 and "ended by signal" in err, err
    finally:
        p.kill()
    assert [m[0] for m in mounted(point)] == ["tmpfs"] and rt("list", "--format", "json").json() in (None, [])


def test_wrong(small, point, tmp, rt):
    """The command itself reports what is wrong, although a process in the background finds it."""
    empty = put(tmp, "empty.raw", bytes(MiB))
    r = small("mount", empty, point).failed("nothing on the disk")
    assert not mounted(point), r
    small("mount", small.image, os.path.join(tmp, "nosuch")).failed("nosuch", "directory")
    small("mount", small.image, empty).failed("directory")
    rt("disk", "umount", point).failed("no disk")
    rt("disk", "umount", os.path.join(tmp, "nosuch")).failed("nosuch")
    assert stat.S_ISDIR(os.stat(point).st_mode)
