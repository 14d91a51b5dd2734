# SPDX-License-Identifier: Apache-2.0
"""Tests vCPUs and memory that a microVM gets and loses while it runs, on QEMU. tests/host/test_vm_size.py tests the built-in machine."""
import json

import pytest

from hypervisor import BOOT, QEMU, kernel, rt, up, vm  # noqa: F401 (fixtures too)
from harness.runtime import wait_for

MAX = "io.caisson.vm.max-vcpus"


def update(c, *args):
    return c.rt("update", *args, c.id, timeout=120)


def cpus(c):
    return int(c.exec("nproc", timeout=60).ok().out)


def test_vcpus(vm):
    """`update --cpus` puts vCPUs on and off line, up to the maximum, and refuses what it cannot do before it changes anything."""
    c = up(vm("sleep", "100000", annotations={MAX: "3"}))
    assert cpus(c) == 1
    update(c, "--cpus", "2.5").ok()
    wait_for(lambda: cpus(c) == 3, "three CPUs", timeout=60)
    update(c, "--cpus", "4").failed("--cpus", "4 vCPUs", "at most 3", MAX)
    update(c, "--cpus", "2", "--cpu-quota", "1000").failed("--cpus 2", "--cpu-quota")
    # The guest says that it has less memory, and changes nothing else either: the two vCPUs that have gone come back.
    update(c, "--cpus", "1", "--memory", "4g").failed("memory.limit", "at most the memory of the microVM")
    # The limits before the wrong one are taken back.
    unknown = json.dumps({"pids": {"limit": 7}, "unified": {"pids.nothing": "1"}})
    c.rt("update", "--cpus", "2", "--resources", "-", c.id, input=unknown, timeout=120).failed('unified["pids.nothing"]')
    assert cpus(c) == 3
    assert c.exec("cat", "/sys/fs/cgroup/pids.max", timeout=60).ok().out == "max\n"
    update(c, "--cpus", "4", "--memory", "100m").failed("--cpus", "4 vCPUs", "at most 3", MAX)
    for text in ("0", "-1", "two", "nan"):
        update(c, "--cpus", text).failed(f"--cpus {text}", "expected a number")
    assert cpus(c) == 3
    assert c.exec("cat", "/sys/fs/cgroup/memory.max", timeout=60).ok().out == "max\n"
    # What comes after the limits fails, and all of them are taken back.
    update(c, "--cpus", "1", "--pids-limit", "70", "--memory", "100m", "--add-mount", "/missing:/x").failed("--add-mount /missing:/x")
    wait_for(lambda: cpus(c) == 3, "three CPUs", timeout=60)
    assert c.exec("cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max", timeout=60).ok().out == "max\nmax\n"
    update(c, "--cpus", "1").ok()
    wait_for(lambda: cpus(c) == 1, "one CPU", timeout=60)
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


@pytest.mark.parametrize("text", ["0", "1", "two", "", "100000"])
def test_maximum_refused(vm, text):
    vm(annotations={MAX: text}, vm={"hwConfig": {"vcpus": 2}}).run(*QEMU).failed(f"annotation {MAX}", f'"{text}"', "from 2")


def test_more_memory_needs_kvm(vm):
    vm(annotations={"io.caisson.vm.max-memory": "1g"}).run(*QEMU).failed("annotation io.caisson.vm.max-memory", "no virtio-mem", "--hypervisor kvm")


def free(c):
    """Returns how much memory the guest has free, in MiB."""
    lines = dict(line.split(":") for line in c.exec("cat", "/proc/meminfo", timeout=60).ok().out.splitlines())
    return int(lines["MemFree"].split()[0]) // 1024


def test_memory(vm):
    """A limit below the machine's memory makes the guest give the rest to the host, and one above the machine's is refused."""
    c = up(vm("sleep", "100000", vm={"hwConfig": {"memory": 512 << 20}}))
    before = free(c)
    assert before > 350
    update(c, "--memory", "100m").ok()  # the kernel keeps 128 MiB and a 64th part of 512 MiB
    wait_for(lambda: 100 < before - free(c) and free(c) < 512 - 270, "a balloon", timeout=BOOT)
    update(c, "--memory", "600m").failed("memory.limit", "at most the memory of the microVM")
    assert free(c) < 512 - 270
    update(c, "--memory", "200m").ok()
    wait_for(lambda: free(c) > before - 200, "a smaller balloon", timeout=BOOT)
    update(c, "--memory", "-1").ok()
    wait_for(lambda: free(c) > before - 60, "an empty balloon", timeout=BOOT)
    update(c, "--pids-limit", "100").ok()
    # The machine gives no memory for a limit that is taken back.
    update(c, "--memory", "100m", "--rm-mount", "/none").failed("--rm-mount /none")
    assert c.exec("cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max", timeout=60).ok().out == "100\nmax\n"
    wait_for(lambda: free(c) > before - 60, "an empty balloon", timeout=BOOT)
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()
