# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson update --add-mount` and `--rm-mount`: directories and files of the host, mounted into a container that runs."""
import ctypes
import os
import signal
import struct
import subprocess
import time

import pytest

from harness import machine, mode
from harness.runtime import wait_for


@pytest.fixture
def source(tmp_path):
    d = tmp_path / "source"
    (d / "below").mkdir(parents=True)
    (d / "file").write_text("hello\n")
    return d


@pytest.fixture
def running(ctr):
    c = ctr("sleep", "1000")
    c.conf["root"]["readonly"] = False
    c.create()
    c.start()
    yield c
    c.kill("KILL")
    c.wait()
    c.delete()


def update(c, *args):
    return c.rt("update", *args, c.id, timeout=120)


def test_directory_and_file(running, source):
    c = running
    update(c, "--add-mount", f"{source}:/data", "--add-mount", f"{source}/file:/etc/one:ro").ok()
    assert c.exec("cat", "/data/file", "/etc/one").ok().out == "hello\nhello\n"
    c.exec("sh", "-c", "echo written > /data/below/new").ok()
    assert (source / "below" / "new").read_text() == "written\n"
    assert "Read-only" in c.exec("sh", "-c", "echo x > /etc/one").err
    (source / "later").write_text("seen\n")
    assert c.exec("cat", "/data/later").ok().out == "seen\n"

    attached = c.rt("state", c.id).json()["annotations"]["io.caisson.attached"]
    assert attached == "mount /data, mount /etc/one"

    update(c, "--add-mount", f"{source}:/data").failed("--add-mount", "/data", "remove it first")
    update(c, "--rm-mount", "/nothing").failed("--rm-mount /nothing", "no mount was added")
    c.rt("exec", "--detach", c.id, "sh", "-c", "cd /data && exec sleep 1000 > /data/busy", timeout=60).ok()
    wait_for(lambda: (source / "busy").exists(), "the process in the mount", timeout=30)
    update(c, "--rm-mount", "/data").failed("--rm-mount /data", "a process of the container uses it")
    assert c.exec("cat", "/data/file").ok().out == "hello\n"
    c.exec("sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -vx 1)")

    def removed():
        r = update(c, "--rm-mount", "/data")
        assert r.rc == 0 or "uses it" in r.err, r
        return r.rc == 0
    wait_for(removed, "the end of the process in the mount", timeout=30)
    update(c, "--rm-mount", "/etc/one").ok()
    assert c.exec("sh", "-c", "ls /data; cat /etc/one").ok().out == ""
    assert not os.path.exists(os.path.join(c.rt.root, c.id, "attached.json"))
    update(c, "--add-mount", f"{source}:/data:ro").ok()  # ends with the container
    assert "Read-only" in c.exec("touch", "/data/x").err


def test_refused(running, source):
    """A refused command changes nothing, and its message names the option."""
    c = running
    for value, *texts in [("nothing", "SOURCE:TARGET"), (f"{source}:relative", "SOURCE:TARGET"), (f"{source}:/x:wo", "option wo"),
                          (f"{source}/missing:/x", "source", "does not exist"), ("/dev/null:/x", "expected a directory or a regular file"),
                          (f"{source}:/proc", "target /proc", "mount already"), (f"{source}:/proc/sys", "target /proc/sys"),
                          (f"{source}:/", "target"), (f"{source}/file:/etc", "target /etc", "expected a regular file"),
                          (f"{source}/file:/dev/null", "target /dev/null", "expected a regular file"),
                          (f"{source}:/etc/passwd", "target /etc/passwd")]:
        update(c, "--add-mount", value).failed("--add-mount", *texts)
    # Neither the list nor a guest could name the path.
    update(c, "--add-mount", f"{source}:/d\udcff").failed("--add-mount", "expected UTF-8")
    assert not os.path.exists(os.path.join(c.rootfs, "d\udcff"))
    os.symlink("/tmp", os.path.join(c.rootfs, "link"))
    update(c, "--add-mount", f"{source}:/link").failed("target /link")
    assert not os.path.exists(os.path.join(c.rt.root, c.id, "attached.json"))


def test_all_or_none_is_added(running, source):
    """If one of several additions fails, those before it are removed again. What was removed to make room for them stays removed."""
    c = running

    def mounts():
        return c.exec("sh", "-c", "cut -d ' ' -f 5 /proc/self/mountinfo").ok().out
    before = mounts()
    attached = os.path.join(c.rt.root, c.id, "attached.json")
    both = ("--add-mount", f"{source}:/data", "--add-mount", f"{source}/file:/data/file")
    update(c, *both, "--add-mount", f"{source}/missing:/x").failed("--add-mount", "missing")
    assert mounts() == before and not os.path.exists(attached)
    update(c, *both).ok()
    update(c, "--add-mount", f"{source}:/more", "--add-mount", f"{source}:/data").failed("/data", "added at /data already")
    assert mounts().split() == [*before.split(), "/data", "/data/file"]
    update(c, "--rm-mount", "/data/file", "--rm-mount", "/data", "--add-mount", f"{source}/below:/data").ok()
    assert c.exec("ls", "/data").ok().out == ""
    update(c, "--rm-mount", "/data", "--add-mount", f"{source}:/data", "--add-mount", f"{source}:/proc").failed(
        "what was removed stays removed", "target /proc")
    assert mounts() == before and not os.path.exists(attached)


def test_links_stay_in_the_root(running, source, tmp_path):
    """If a symbolic link in the container points out of the root, caisson resolves the link beneath the container's root."""
    c = running
    os.symlink(str(tmp_path), os.path.join(c.rootfs, "out"))
    update(c, "--add-mount", f"{source}:/out/place").ok()
    assert not (tmp_path / "place").exists()
    assert c.exec("cat", f"{tmp_path}/place/file").ok().out == "hello\n"
    update(c, "--rm-mount", "/out/place").ok()


def test_killed_commands(running, source):
    """A mount of a command that was killed at any time can be removed and added again."""
    c = running
    for delay in (0.001, 0.003, 0.006, 0.012, 0.05):
        p = c.rt.popen("update", "--add-mount", f"{source}:/data", c.id)
        time.sleep(delay)
        p.kill()
        p.communicate()

        def removed():  # the monitor of a microVM ends what it has begun
            r = update(c, "--rm-mount", "/data")
            assert r.rc == 0 or "no mount was added" in r.err or mode.VM and "try again" in r.err, r
            return "try again" not in r.err
        wait_for(removed, "the end of the killed command's change", timeout=30)
        assert c.exec("sh", "-c", "ls /data 2>/dev/null").out == ""
    update(c, "--add-mount", f"{source}:/data").ok()
    update(c, "--rm-mount", "/data").ok()


def test_mounts_beneath_go_too(running, source):
    """
    What is mounted beneath the source comes with it, and goes with it, in the order that it needs. In a microVM all of it is
    one mount.
    """
    c = running
    for name in ("a b", "a b/c", "a b/c/d", "e"):
        os.mkdir(source / name)
        subprocess.run(["mount", "-t", "tmpfs", "none", source / name], check=True)
    try:
        update(c, "--add-mount", f"{source}:/data").ok()
        assert c.exec("grep", "-c", " /data", "/proc/mounts").ok().out == ("1\n" if mode.VM else "5\n")
        c.rt("exec", "--detach", c.id, "sh", "-c", "cd '/data/a b/c' && exec sleep 1000 > busy", timeout=60).ok()
        wait_for(lambda: (source / "a b/c/busy").exists(), "the process in the mount", timeout=30)
        update(c, "--rm-mount", "/data").failed("--rm-mount /data", "a process of the container uses it")
        c.exec("sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -vx 1)").ok()

        def removed():
            r = update(c, "--rm-mount", "/data")
            assert r.rc == 0 or "uses it" in r.err, r
            return r.rc == 0
        wait_for(removed, "the end of the process in the mount", timeout=30)
        assert " /data" not in c.exec("cat", "/proc/mounts").ok().out
        assert c.exec("ls", "/data").ok().out == "" and os.path.ismount(source / "a b/c/d")
    finally:
        subprocess.run(["umount", "-R", source / "a b", source / "e"], check=True)


def test_a_link_does_not_lead_to_another_mount(running, source):
    """The container puts a link into the way of a mount beneath: none of its other mounts is removed."""
    c = running
    os.makedirs(source / "way/proc")
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "way/proc"], check=True)
    try:
        update(c, "--add-mount", f"{source}:/data").ok()
        c.exec("sh", "-c", "mv /data/way /data/other && ln -s / /data/way").ok()
        before = c.exec("cat", "/proc/mounts").ok().out
        update(c, "--rm-mount", "/data").ok()
        assert c.exec("cat", "/proc/mounts").ok().out == "".join(
            line for line in before.splitlines(True) if " /data" not in line)
    finally:
        subprocess.run(["umount", "-R", source / "other/proc"], check=True)


def serve_silence(ns, at, say):
    """Mounts a FUSE file system in the mount namespace, takes all its requests, and answers none after INIT."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    if ctypes.CDLL(None).setns(ns, 0) != 0:
        return
    machine.mount("silent", at, "fuse", 0, f"fd={fd},rootmode=40000,user_id=0,group_id=0")
    unique, = struct.unpack_from("<Q", os.read(fd, 1 << 16), 8)
    # struct fuse_init_out of version 7.31, with the largest write
    os.write(fd, struct.pack("<IiQ", 80, 0, unique) + struct.pack("<IIIIII", 7, 31, 0, 0, 0, 4096) + bytes(40))
    os.write(say, b"m")
    while os.read(fd, 1 << 16):
        pass


@pytest.fixture
def silence(running):
    """A running container has a file system at /hang that never answers. Its value is a function that ends the file system."""
    hear, say = os.pipe()
    running.exec("mkdir", "/hang").ok()
    with open(f"/proc/{running.pid()}/ns/mnt", "rb") as ns:
        pid = os.fork()
        if pid == 0:
            try:
                serve_silence(ns.fileno(), "/hang", say)
            finally:
                os._exit(1)
    os.close(say)
    assert os.read(hear, 1) == b"m"

    def end():
        nonlocal pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pid = 0
    os.close(hear)
    yield end
    end()


def of_update(c):
    """The processes of `caisson update` for the container."""
    return [p for p in os.listdir("/proc") if p.isdigit() and c.id in (words := machine.cmdline(int(p))) and " update " in words]


@pytest.mark.skipif(mode.VM, reason="in a microVM the look-up is the guest's")
def test_a_file_system_that_never_answers(running, source, silence):
    """A container that mounts FUSE holds up the look-up of a target, but neither the command nor what the command locks."""
    c, end = running, silence
    p = c.rt.popen("update", "--add-mount", f"{source}:/hang/x", c.id, stderr=subprocess.PIPE)
    try:
        said = p.communicate(timeout=120)[1].decode()
    except subprocess.TimeoutExpired:
        end()  # a process that waits for the file system cannot be killed
        p.kill()
        p.communicate()
        raise
    assert p.returncode == 1 and "--add-mount" in said and "a file system of the container, such as FUSE, did not answer" in said, said
    update(c, "--add-mount", f"{source}:/data").ok()
    p = c.rt.popen("update", "--add-mount", f"{source}:/hang/y", c.id, stderr=subprocess.PIPE)
    wait_for(lambda: machine.descendants(p.pid), "the process that looks up", timeout=60)
    p.send_signal(signal.SIGTERM)
    assert "ended by signal" in p.communicate(timeout=60)[1].decode() and p.returncode == 1
    assert c.exec("cat", "/data/file").ok().out == "hello\n"
    end()
    wait_for(lambda: not of_update(c), "the end of the processes that looked up", timeout=60)
    # The file system is an error now, so nothing is mounted there.
    update(c, "--rm-mount", "/data").ok()
    assert c.exec("sh", "-c", "grep -c source /proc/mounts").out in ("", "0\n")
