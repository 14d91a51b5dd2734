# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of test_cgroups_v2.c and test_cgroup_effects.c one by one: linux.resources on cgroup v2 with every
controller."""

import os
import re
import subprocess

import pytest

HERE = os.path.dirname(__file__)
PROGRAMS = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests")


def names(program, macro):
    with open(os.path.join(HERE, program + ".c"), encoding="utf-8") as f:
        return [(program, name) for name in re.findall(rf"^\t\t{macro}\((test_\w+)\),$", f.read(), re.M)]


@pytest.mark.parametrize("program,name", names("test_cgroups_v2", "V2") + names("test_cgroup_effects", "HOST"))
def test_cgroups(program, name):
    p = subprocess.run([os.path.join(PROGRAMS, program), name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=120)
    # The test host has everything that the tests look for, so one that skips itself has not passed.
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout
