# SPDX-License-Identifier: Apache-2.0
"""Tests vCPUs and memory that a microVM gets and loses while it runs, on the test host's KVM."""
import glob
import hashlib
import json
import os
import subprocess

import pytest
from harness import config, mode, rootfs
from harness.runtime import wait_for

BOOT = 300
KVM = ("--hypervisor", "kvm")
# Three programs work, and then the statistics of the third CPU follow: its name and its time in programs.
BUSY = "a() { i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; }; a & a & a & wait; grep '^cpu2 ' /proc/stat"
MAX_VCPUS, MAX_MEMORY = "io.caisson.vm.max-vcpus", "io.caisson.vm.max-memory"


@pytest.fixture
def vm(ctr):
    made = []

    def make():
        c = config.default("sleep", "100000")
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(BOOT), MAX_VCPUS: "3", MAX_MEMORY: "960m"}
        c["linux"]["resources"] = {"cpu": {"quota": 100000, "period": 100000}}
        c["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"})
        c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"memory": 320 << 20}}
        made.append(ctr(conf=c))
        return made[-1]
    yield make
    for c in made:
        c.rt("delete", "--force", c.id, timeout=60).ok()


def start(c):
    """Starts the container. Returns whether its microVM started from a template."""
    log = os.path.join(c.bundle, "log")
    c.write()
    c.rt("--debug", "--log", log, "create", *KVM, "--bundle", c.bundle, c.id, timeout=BOOT + 60).ok()
    c.start(timeout=60)
    with open(log, encoding="utf-8") as f:
        return "microvm: starts from a template" in f.read()


def update(c, *args, **kw):
    return c.rt("update", *args, c.id, timeout=120, **kw)


def resources(c, **members):
    return update(c, "--resources", "-", input=json.dumps(members))


def cpus(c):
    return int(c.exec("nproc", timeout=60).ok().out)


def has_cpus(c, number):
    wait_for(lambda: cpus(c) == number, f"{number} CPUs", timeout=60)


def cgroup(c, name):
    """Returns what a file of the machine's cgroup on the host says."""
    with open(f"/proc/{c.pid()}/cgroup", encoding="ascii") as f:
        path = f.read().strip().split("::")[1]
    with open(f"/sys/fs/cgroup{path}/{name}", encoding="ascii") as f:
        return f.read().strip()


def numbers_of_vcpus(c):
    update(c, "--cpus", "2.5").ok()
    has_cpus(c, 3)
    assert cgroup(c, "cpu.max") == "250000 100000"
    wait_for(lambda: int(c.exec("sh", "-c", BUSY, timeout=120).ok().out.split()[1]) > 0, "a program on the third CPU", timeout=120)
    update(c, "--cpus", "4").failed("--cpus", "4 vCPUs", "at most 3", MAX_VCPUS)
    assert cgroup(c, "cpu.max") == "250000 100000"
    resources(c, cpu={"quota": 150000, "period": 100000}).ok()
    has_cpus(c, 2)
    resources(c, cpu={"quota": 500000, "period": 100000}).ok()  # five: as many as there are
    has_cpus(c, 3)
    resources(c, cpu={"quota": -1}).ok()
    assert cpus(c) == 3
    update(c, "--cpus", "1").ok()
    has_cpus(c, 1)


def meminfo(c, name):
    """Returns a number of the guest's /proc/meminfo in MiB."""
    lines = dict(line.split(":") for line in c.exec("cat", "/proc/meminfo", timeout=60).ok().out.splitlines())
    return int(lines[name].split()[0]) // 1024


def free(c):
    return meminfo(c, "MemFree")


def sizes_of_memory(c):
    """Without a limit the guest has 320 MiB. With a limit the guest keeps the limit, 128 MiB and a 64th part of 320 MiB."""
    before = free(c)
    resources(c, memory={"limit": 64 << 20}).ok()
    wait_for(lambda: before - free(c) > 80, "a balloon", timeout=BOOT)
    update(c, "--cpus", "2", "--memory", "1g").failed("memory.limit", "at most 1006632960", MAX_MEMORY)
    assert cpus(c) == 1
    update(c, "--memory", "-1").ok()
    wait_for(lambda: before - free(c) < 40, "an empty balloon", timeout=BOOT)
    update(c, "--memory", "64m").ok()
    wait_for(lambda: before - free(c) > 80, "a balloon", timeout=BOOT)


def reads_into_it(c):
    """The kernel reads files into the memory that can be taken away again, so devices and the file server have to reach it."""
    data = os.urandom(8 << 20)
    with open(os.path.join(c.rootfs, "random"), "wb") as f:
        f.write(data)
    assert c.exec("md5sum", "/random", timeout=120).ok().out.split()[0] == hashlib.md5(data).hexdigest()


def checkpoint_and_restore(c):
    image = os.path.join(c.bundle, "image")
    c.rt("checkpoint", "--image-path", image, c.id, timeout=BOOT).ok()
    assert not c.exists()
    c.rt("restore", "--detach", "--image-path", image, "--bundle", c.bundle, c.id, timeout=BOOT).ok()
    return image


def restored_with_it(c):
    """A checkpoint has the memory that was added, where Linux keeps its cache of files first."""
    before = c.exec("sh", "-c", "yes caisson | head -c 16M >/mnt/f; md5sum /mnt/f", timeout=120).ok().out
    image = checkpoint_and_restore(c)
    with open(glob.glob(os.path.join(image, "*", "memory"))[0], "rb") as f:
        os.lseek(f.fileno(), 320 << 20, os.SEEK_DATA)  # fails if there is none
    assert c.exec("md5sum", "/mnt/f", timeout=120).ok().out == before
    c.exec("rm", "/mnt/f", timeout=60).ok()


def more_memory(c):
    """Above 320 MiB the guest gets memory that a program can use, and a limit below that is set again at once."""
    use = ("dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1")
    total = meminfo(c, "MemTotal")
    assert c.exec(*use, timeout=120).rc != 0
    update(c, "--memory", "600m").ok()
    wait_for(lambda: meminfo(c, "MemTotal") == total + 600 + 128 - 320, "the memory on line", timeout=60)
    c.exec(*use, timeout=120).ok()
    restored_with_it(c)
    assert meminfo(c, "MemTotal") == total + 600 + 128 - 320
    c.exec(*use, timeout=120).ok()
    update(c, "--memory", "-1").ok()  # no limit: what the guest has
    assert meminfo(c, "MemTotal") == total + 600 + 128 - 320
    # Linux gives back what it can free, and tries the rest again after minutes, for which the test does not wait.
    update(c, "--memory", "150m").ok()
    wait_for(lambda: meminfo(c, "MemTotal") < total + 600 + 128 - 320, "less memory", timeout=BOOT)


def killed_commands(c):
    """What a command has told the guest before it was killed stays, and a later command can change it."""
    for delay in (0.02, 0.2):
        p = c.rt.popen("update", "--cpus", "3", "--memory", "100m", c.id)
        try:
            p.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()

        def changed():
            update(c, "--cpus", "2", "--memory", "64m").ok()
            return cpus(c) == 2
        wait_for(changed, "two CPUs", timeout=60)


def test_size(vm):
    """vCPUs and memory come and go while the guest runs; a checkpoint keeps both, and a template starts with what config.json says."""
    c = vm()
    start(c)
    assert cpus(c) == 1
    numbers_of_vcpus(c)
    sizes_of_memory(c)
    killed_commands(c)
    checkpoint_and_restore(c)
    assert cpus(c) == 2
    before = free(c)
    update(c, "--cpus", "3", "--memory", "-1").ok()
    has_cpus(c, 3)
    wait_for(lambda: free(c) - before > 80, "an empty balloon", timeout=BOOT)
    more_memory(c)
    assert glob.glob("/var/cache/caisson/template-*")
    other = vm()
    assert start(other) and cpus(other) == 1
    update(other, "--cpus", "2", "--memory", "400m").ok()
    has_cpus(other, 2)
    reads_into_it(other)


@pytest.mark.parametrize("text", ["400m", "much", "2t", "", "-1"])
def test_maximum_of_memory_refused(vm, text):
    c = vm()
    c.conf["annotations"][MAX_MEMORY] = text
    c.run(*KVM).failed(f"annotation {MAX_MEMORY}", f'"{text}"', "expected a size", "from 469762048")
