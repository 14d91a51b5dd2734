# SPDX-License-Identifier: Apache-2.0
"""Tests what is attached to a microVM that runs, on QEMU. tests/host/test_vm_hotplug.py tests the built-in machine."""
import errno
import os
import signal
import subprocess

import pytest

from harness import hotplug
from harness.hotplug import update
from harness.runtime import wait_for

BOOT = 150


def server_mounts(c):
    """Returns the mounts in the share of the microVM's file server."""
    pid = c.rt("state", c.id).json()["pid"]
    children = subprocess.run(["pgrep", "-P", str(pid), "caisson-fs"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    with open(f"/proc/{children[0]}/mountinfo") as f:
        return sorted(line.split()[4] for line in f)


def killed(c, source):
    """Whatever a command leaves that is killed at any time, a later command removes it."""
    for delay in (0.005, 0.02, 0.1, 0.3):
        p = c.rt.popen("update", "--add-mount", f"{source}:/data", c.id)
        try:
            p.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()

        def removed():
            r = update(c, "--rm-mount", "/data")
            assert r.rc == 0 or "no mount was added" in r.err or "being attached" in r.err, r
            return r.rc == 0 or "no mount was added" in r.err
        wait_for(removed, "the end of the change", timeout=60)
        assert c.exec("sh", "-c", "ls /data 2>/dev/null").out == ""


def revoked(c, source):
    """A guest that keeps the files of a removed mount, as a hostile one can, no longer writes to them. The test keeps them in its place."""
    update(c, "--add-mount", f"{source}:/kept").ok()
    pid = c.rt("state", c.id).json()["pid"]
    server = subprocess.run(["pgrep", "-P", str(pid), "caisson-fs"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[0]
    share, = [name for name in os.listdir(f"/proc/{server}/root") if name.startswith("live-")]
    kept = os.open(f"/proc/{server}/root/{share}", os.O_PATH | os.O_DIRECTORY)
    writes = os.open("file", os.O_WRONLY, dir_fd=kept)
    update(c, "--rm-mount", "/kept").failed("--rm-mount /kept", "open for writing")
    os.close(writes)
    update(c, "--rm-mount", "/kept").ok()
    with pytest.raises(OSError) as e:
        os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=kept)
    assert e.value.errno == errno.EROFS and not (source / "new").exists()
    os.close(kept)


def unanswered(c, store):
    """A mount about which a guest does not answer in time stays in the list, and can be removed and made again."""
    def volume(command, *args):
        return c.rt("volume", command, "--store", str(store), "v", *args, timeout=120)

    volume("create").ok()
    pid = c.rt("state", c.id).json()["pid"]
    qemu, = subprocess.run(["pgrep", "-P", str(pid), "qemu"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    os.kill(int(qemu), signal.SIGSTOP)
    others = [c.rt.popen("update", *args, c.id, stderr=subprocess.PIPE, text=True) for args in (("--cpus", "1"), ("--memory", "64m"))]
    volume("attach", c.id, "/late").failed("--add-mount", "did not answer", "stays attached until it is detached")
    for p in others:
        assert "the microVM does not answer" in p.communicate(timeout=120)[1] and p.returncode == 1
    os.kill(int(qemu), signal.SIGCONT)
    assert c.rt("state", c.id).json()["annotations"]["io.caisson.attached"] == "mount /late"
    volume("detach", c.id).ok()
    volume("attach", c.id, "/late").ok()
    c.exec("touch", "/late/file").ok()
    volume("detach", c.id).ok()
    assert (store / "volumes" / "v" / "data" / "file").exists()


def mounts(c, tmp):
    """A directory and a file of the host are mounted, used, refused while busy, and removed; the file server keeps nothing."""
    source = tmp / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("hello\n")
    before = server_mounts(c)
    update(c, "--add-mount", f"{source}:/data", "--add-mount", f"{source}/file:/etc/one:ro").ok()
    assert c.exec("cat", "/data/file", "/etc/one").ok().out == "hello\nhello\n"
    c.exec("sh", "-c", "echo written > /data/below/new").ok()
    assert (source / "below" / "new").read_text() == "written\n"
    assert "Read-only" in c.exec("sh", "-c", "echo x > /etc/one").err
    assert len(server_mounts(c)) == len(before) + 2

    update(c, "--add-mount", f"{source}:/data").failed("--add-mount", "/data", "remove it first")
    update(c, "--add-mount", f"{source}:/proc/sys").failed("--add-mount", "/proc/sys")
    update(c, "--add-mount", f"{source}:/etc/passwd").failed("target /etc/passwd", "expected a directory")
    assert len(server_mounts(c)) == len(before) + 2
    c.rt("exec", "--detach", c.id, "sh", "-c", "cd /data && exec sleep 77777 > /data/busy", timeout=60).ok()
    wait_for(lambda: (source / "busy").exists(), "the process in the mount", timeout=30)
    update(c, "--rm-mount", "/data").failed("--rm-mount /data", "a process of the container uses it")
    assert c.exec("cat", "/data/file").ok().out == "hello\n"
    c.exec("sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -vx 1)").ok()

    def gone():
        r = update(c, "--rm-mount", "/data")
        assert r.rc == 0 or "uses it" in r.err, r
        return r.rc == 0
    wait_for(gone, "the end of the process in the mount", timeout=30)
    update(c, "--rm-mount", "/etc/one").ok()
    assert c.exec("sh", "-c", "ls /data; cat /etc/one").ok().out == ""
    assert server_mounts(c) == before and not os.path.exists(os.path.join(c.rt.root, c.id, "attached.json"))
    killed(c, source)
    assert server_mounts(c) == before
    assert "hello" in (source / "file").read_text()
    revoked(c, source)
    unanswered(c, tmp / "store")
    update(c, "--add-mount", f"{source}:/data").ok()  # ends with the container


def test_all(ctr, tmp_path):
    """All checks use one microVM, because its boot takes long."""
    with hotplug.machine(ctr, "qemu", BOOT) as c:
        hotplug.disks(c, tmp_path)
        hotplug.served(c, tmp_path)
        hotplug.volumes(c, tmp_path)
        hotplug.full_host(c, tmp_path)
        hotplug.lost(c, tmp_path)
        hotplug.interfaces(c)
        hotplug.killed_commands(c, tmp_path)
        hotplug.networks(c, tmp_path)
        mounts(c, tmp_path)
        update(c, "--add-net", "eth1", "--add-disk", f"{tmp_path}/other:/dev/data").ok()  # they end with the container
        attached = c.rt("state", c.id).json()["annotations"]["io.caisson.attached"]
        assert attached == "mount /data, net eth1, disk /dev/data"
        hotplug.killed_server(c, tmp_path)
