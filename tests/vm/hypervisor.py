# SPDX-License-Identifier: Apache-2.0
"""Fixtures that test_hypervisor.py and test_bad_guest.py share: containers that are microVMs on QEMU in software, and
a fake QEMU."""
import os
import subprocess

import pytest
from harness import config, machine, mode, rootfs, runtime


HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = ("--hypervisor", "qemu")
BOOT = 150  # time in seconds in which a machine must have booted, even if other tests run at the same time


@pytest.fixture(scope="session")
def packaged():
    """The path of Debian's kernel, which has its modules beside it."""
    return mode.packaged_kernel(rootfs.CACHE)


@pytest.fixture(scope="session")
def kernel():
    """The path of caisson's own kernel, which boots faster, or else of Debian's."""
    return mode.guest_kernel(rootfs.CACHE)


@pytest.fixture
def rt(binary, root, tmp, clean_machine):
    """The runtime, as conftest's rt, with a log for messages that appear later."""
    r = runtime.Runtime(binary, root, ["--log", os.path.join(tmp, "log")])
    yield r
    left = [n for n in (os.listdir(root) if os.path.isdir(root) else []) if n not in ("seccomp", "seccomp-cache")]
    assert not left, f"left in the state directory: {left}"


@pytest.fixture
def vm(ctr, kernel):
    """Makes containers that will be microVMs. The argument vm is the section of config.json."""
    def make(*args, vm=None, annotations=None, timeout=None, **kw):
        c = config.default(*(args or ["true"]), **kw)
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(timeout or BOOT),
                            **(annotations or {})}
        c["vm"] = {"kernel": {"path": kernel}, **(vm or {})}
        return ctr(conf=c)
    return make


@pytest.fixture(scope="session")
def fake(work):
    """fake_qemu.c, built in a directory of its own, because that directory is all that the program will see."""
    os.makedirs(os.path.join(work, "fake"))
    program = os.path.join(work, "fake", "qemu")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program,
                    os.path.join(HERE, "fake_qemu.c")], check=True)
    return program


def log_of(c):
    with open(os.path.join(c.rt.options[1])) as f:
        return f.read()


def run(c, *opts, **kw):
    return c.run(*QEMU, *opts, timeout=BOOT + 30, **kw)


def up(c):
    c.create(*QEMU, timeout=BOOT + 30)
    c.start()
    return c


def children(pid):
    return {machine.proc_stat(p)[0]: p for p in machine._children(pid) if machine.proc_stat(p)}


def part(c, name):
    """Returns the pid of one of the processes of a microVM: qemu-system-x86, caisson-fs or caisson-vm (the monitor)."""
    return c.pid() if name == "caisson-vm" else children(c.pid())[name]
