# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson checkpoint` and `caisson restore` of microVMs, on the test host's KVM."""
import errno
import fcntl
import os
import socket
import subprocess
import time

import pytest
from harness import config, mode, network, pty_, rootfs
from harness.counter import counts
from harness.runtime import wait_for

BOOT = 300
KVM = ("--hypervisor", "kvm")
# Counts in memory and in a file that stays open. Answers each line of its input.
COUNTER = """exec 3>>/counts; i=0
while :; do i=$((i+1)); echo $i >&3; echo $i; sleep 1; done"""


@pytest.fixture
def vm(ctr):
    def make(*args, **kw):
        c = config.default(*args, **kw)
        c["root"]["readonly"] = False
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(BOOT)}
        c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)},
                   "hwConfig": {"memory": 256 << 20}}
        return ctr(conf=c)
    return make


def count(c):
    seen = counts(c)
    return seen[-1] if seen else 0


def grows(c, timeout=60):
    before = count(c)
    wait_for(lambda: count(c) > before + 1, "the counter to go on", timeout=timeout)


@pytest.fixture
def counter(vm):
    """A container that counts, and a place for its checkpoint."""
    c = vm("sh", "-c", COUNTER)
    c.create(*KVM, timeout=BOOT + 60)
    c.start(timeout=60)
    c.image = os.path.join(c.bundle, "image")
    grows(c)
    return c


def checkpoint(c, *opts, timeout=300):
    return c.rt("checkpoint", "--image-path", c.image, *opts, c.id, timeout=timeout)


def restore(c, *opts, id=None, timeout=300):
    with open(c.log, "ab") as log:
        return c.rt("restore", "--detach", "--image-path", c.image, "--bundle", c.bundle, *opts, id or c.id,
                    stdout=log, timeout=timeout)


def test_a_counter_goes_on(counter):
    """The process has its memory, its open file and its output again; the container can be used as before."""
    c = counter
    checkpoint(c).ok()
    assert not c.exists()
    last = count(c)
    time.sleep(2)
    assert count(c) == last
    assert sorted(os.listdir(c.image)) == ["inventory.img", "vm"]
    restore(c).ok()
    assert c.status() == "running"
    grows(c)
    seen = counts(c)
    assert seen == list(range(1, len(seen) + 1))  # no number is missing, and none came twice
    wait_for(lambda: str(last + 2) in c.output().split("\n"), "the program's output", timeout=60)
    assert c.exec("echo", "hello", timeout=60).ok().out == "hello\n"
    assert abs(int(c.exec("date", "+%s", timeout=60).ok().out) - time.time()) < 10
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


def test_leave_running_and_a_killed_command(counter):
    """A checkpoint that is killed before it is done leaves a container that runs."""
    c = counter
    for delay in (0.05, 0.2, 0.4, 0.8, 1.6):
        p = c.rt.popen("checkpoint", "--image-path", c.image, c.id)
        time.sleep(delay)
        p.kill()
        p.communicate()
        if not c.exists():  # the machine was told to end before the command was killed, and the checkpoint is complete
            break
        if c.status() != "running":
            c.delete()
            break
        grows(c)
    if not c.exists():
        restore(c).ok()
        grows(c)
    checkpoint(c, "--leave-running").ok()
    assert sorted(os.listdir(c.image)) == ["inventory.img", "vm"] and c.status() == "running"
    assert os.stat(os.path.join(c.image, "vm")).st_mode & 0o777 == 0o700
    assert {os.stat(os.path.join(c.image, "vm", f)).st_mode & 0o777 for f in ("state", "memory")} == {0o600}
    grows(c)
    seen = counts(c)
    assert seen == list(range(1, len(seen) + 1))
    first = os.stat(os.path.join(c.image, "vm", "state")).st_ino
    checkpoint(c, "--leave-running").ok()  # replaces the first one
    assert sorted(os.listdir(c.image)) == ["inventory.img", "vm"] and os.stat(os.path.join(c.image, "vm", "state")).st_ino != first
    assert c.exec("true", timeout=60).rc == 0
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


def test_two_machines_of_one_checkpoint(counter):
    """They draw different random numbers. An ID can be used once."""
    c = counter
    checkpoint(c).ok()
    restore(c).ok()
    restore(c).failed(c.id, "exists")
    restore(c, id="second").ok()
    draws = [c.rt("exec", id, "cat", "/proc/sys/kernel/random/uuid", timeout=60).ok().out for id in (c.id, "second")]
    assert len(set(draws)) == 2
    for id in (c.id, "second"):
        c.rt("kill", id, "KILL").ok()
        wait_for(lambda id=id: c.rt("state", id).json()["status"] == "stopped", "the end", timeout=60)
        c.rt("delete", id).ok()


def test_what_is_refused(counter):
    c = counter
    state, memory = (os.path.join(c.image, "vm", f) for f in ("state", "memory"))
    p = c.rt.popen("exec", c.id, "sh", "-c", "echo up >/up; while [ ! -e /stop ]; do sleep 1; done")
    wait_for(lambda: os.path.exists(c.path("/up")), "the exec", timeout=60)
    for option in (["--pre-dump"], ["--parent-path", "x"], ["--page-server", "1.2.3.4:5"], ["--lazy-pages"]):
        checkpoint(c, *option).failed(option[0], "a microVM", "leave the option out")
    checkpoint(c).failed("a process of `exec` runs")
    assert not os.path.exists(c.image)
    os.mkdir(c.image)
    other = os.open(c.image, os.O_RDONLY)  # another checkpoint is under way
    fcntl.flock(other, fcntl.LOCK_EX)
    os.mkdir(os.path.join(c.image, ".vm.new"))
    checkpoint(c).failed("--image-path", "another checkpoint into this directory")
    assert os.listdir(c.image) == [".vm.new"]
    os.close(other)
    os.rmdir(os.path.join(c.image, ".vm.new"))
    grows(c)
    open(c.path("/stop"), "w").close()
    assert p.wait(timeout=60) == 0
    checkpoint(c).ok()
    with open(state, "r+b") as f:  # a flipped bit
        f.seek(1000)
        byte = f.read(1)[0]
        f.seek(1000)
        f.write(bytes([byte ^ 4]))
    restore(c).failed("the snapshot is damaged", "wrong checksum")
    with open(state, "r+b") as f:
        f.seek(1000)
        f.write(bytes([byte]))
        f.seek(8)
        f.write(b"\x63")
    restore(c).failed("the snapshot has format 99", "restore it with the caisson that made it")
    with open(state, "r+b") as f:
        f.seek(8)
        f.write(b"\x01")
    os.rename(memory, memory + ".away")
    restore(c).failed("--image-path", "vm/memory")
    with open(memory, "wb") as f:
        f.truncate(256 << 20)
    restore(c).failed("is damaged or of another snapshot")
    os.rename(memory + ".away", memory)
    c.conf["vm"]["hwConfig"]["memory"] = 512 << 20
    c.write()
    restore(c).failed("the snapshot is of a machine with 256 MiB", "this one has 512 MiB")
    c.conf["vm"]["hwConfig"]["memory"] = 256 << 20
    c.write()
    os.rename(c.rootfs, c.rootfs + ".away")  # another root
    rootfs.make_busybox(c.rootfs, "/bin/busybox")
    restore(c).failed("which the guest has open, is gone or is another file now")
    assert not c.exists()
    c.rt("restore", "--image-path", c.bundle, "--bundle", c.bundle, c.id).failed("it has no checkpoint of a microVM")


def test_a_terminal_less_run_with_input(vm):
    """The input that the program has not read yet is in the checkpoint. The foreground `run` ends as if killed."""
    c = vm("sh", "-c", "read go; while read line; do echo got $line; done; echo end")
    c.image = os.path.join(c.bundle, "image")
    c.conf["root"]["readonly"] = True
    c.write()
    with open(c.log, "ab") as log:
        p = c.rt.popen("run", "--bundle", c.bundle, *KVM, c.id, stdin=-1, stdout=log)
    wait_for(lambda: c.exists() and c.status() == "running", "the run", timeout=BOOT)
    p.stdin.write("go\none\ntwo\n" if p.stdin.__class__.__name__ == "TextIOWrapper" else b"go\none\ntwo\n")
    p.stdin.flush()
    c.wait_output("got two", timeout=60)
    checkpoint(c).ok()
    assert p.wait(timeout=60) == 137
    assert not c.exists()
    r = c.rt("restore", "--image-path", c.image, "--bundle", c.bundle, c.id, input="three\n", timeout=300)
    assert r.ok().out == "got three\nend\n"
    assert not c.exists()


def test_a_terminal_and_a_network(vm):
    """The restored machine's terminal is the one that --console-socket gets then, and its host answers on the network."""
    c = vm("sh", "-c", "while read line; do echo got $line; done", terminal=True)
    c.image = os.path.join(c.bundle, "image")
    with network.veth("cai-snap", "10.213.14.1", "10.213.14.2") as path, pty_.Receiver(os.path.join(c.bundle, "s")) as s:
        config.namespaces(c.conf, paths={"network": path})
        c.create(*KVM, "--console-socket", s.path, timeout=BOOT + 60)
        c.start(timeout=60)
        fd = s.wait(60)
        os.write(fd, b"one\n")
        pty_.read_until(fd, b"got one", timeout=60)
        wait_for(answers, "an answer of the guest", timeout=60)
        checkpoint(c).ok()
        s.close()
        restore(c).failed("console socket")
        with pty_.Receiver(os.path.join(c.bundle, "s2")) as again:
            restore(c, "--console-socket", again.path).ok()
            fd = again.wait(60)
            os.write(fd, b"two\n")
            pty_.read_until(fd, b"got two", timeout=60)
            wait_for(answers, "an answer of the guest", timeout=60)
            c.kill("KILL")
            c.wait(timeout=60)
            c.delete()


def answers():
    """Returns whether the guest's kernel refuses a connection, which shows that packets reach the guest and come back."""
    with socket.socket() as s:
        s.settimeout(5)
        return s.connect_ex(("10.213.14.2", 9)) == errno.ECONNREFUSED


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk(vm, form):
    """What the guest has written to its disk before the checkpoint and after the restore is there, and a restore without the disk fails."""
    c = vm("sh", "-c", COUNTER)
    raw, image = (os.path.join(c.bundle, n) for n in ("root.raw", "root." + form))
    c.image = os.path.join(c.bundle, "image")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", c.rootfs, raw, "64M"], check=True)
    if form != "raw":
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, raw, image], check=True)
    c.conf["vm"]["image"] = {"path": image, "format": form}
    c.create(*KVM, timeout=BOOT + 60)
    c.start(timeout=60)
    c.wait_output("\n3\n", timeout=60)
    checkpoint(c).ok()
    os.rename(image, image + ".away")
    restore(c).failed("vm.image")
    os.rename(image + ".away", image)
    restore(c).ok()
    seen = len(c.output().split())
    wait_for(lambda: len(c.output().split()) > seen + 1, "the counter to go on", timeout=60)
    numbers = [int(n) for n in c.exec("cat", "/counts", timeout=60).ok().out.split()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 3
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


def test_a_full_disk_and_killed_restores(counter):
    """A checkpoint for which there is no room leaves nothing, and the container goes on. Wherever `restore` is killed,
    `delete --force` removes what it has made, and the checkpoint can still be restored."""
    c = counter
    os.mkdir(c.image)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", c.image], check=True)
    checkpoint(c).failed("no space left")
    assert os.listdir(c.image) == []
    subprocess.run(["umount", c.image], check=True)
    grows(c)
    checkpoint(c).ok()
    for delay in (0.1, 0.4, 1.0):
        with open(c.log, "ab") as log:
            p = c.rt.popen("restore", "--detach", "--image-path", c.image, "--bundle", c.bundle, c.id, stdout=log, stderr=log)
        time.sleep(delay)
        p.kill()
        p.wait()
        if os.path.exists(os.path.join(c.rt.root, c.id)):
            c.delete("--force")
    assert not c.exists()
    restore(c).ok()
    grows(c)
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()
