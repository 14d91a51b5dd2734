# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of test_cgroups_v2.c and test_cgroup_effects.c one by one: linux.resources on cgroup v2 with every
controller."""

import contextlib
import os
import re
import subprocess

import pytest

HERE = os.path.dirname(__file__)
PROGRAMS = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests")


def names(program, macro):
    with open(os.path.join(HERE, program + ".c"), encoding="utf-8") as f:
        return [(program, name) for name in re.findall(rf"^\t\t{macro}\((test_\w+)\),$", f.read(), re.M)]


@contextlib.contextmanager
def second_processor():
    """tests/run boots the test host with one of its two processors, because QEMU 7.2 loses one of two now and then while
    Linux patches its own code. So the second one works only for the test that needs it."""
    path = "/sys/devices/system/cpu/cpu1/online"
    with open(path, encoding="ascii") as f:
        online = f.read().strip() == "1"
    if not online:
        write(path, "1")
    try:
        yield
    finally:
        if not online:
            write(path, "0")


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


@pytest.mark.parametrize("program,name", names("test_cgroups_v2", "V2") + names("test_cgroup_effects", "HOST"))
def test_cgroups(program, name):
    with second_processor() if name == "test_cpuset" else contextlib.nullcontext():
        p = subprocess.run([os.path.join(PROGRAMS, program), name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=120)
    # The test host has everything that the tests look for, so one that skips itself has not passed.
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout
