# SPDX-License-Identifier: Apache-2.0
"""linux.resources on cgroup v2 with every controller: the tests of test_cgroups_v2.c, one by one."""

import os
import re
import subprocess

import pytest

SOURCE = os.path.join(os.path.dirname(__file__), "test_cgroups_v2.c")
PROGRAM = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests", "test_cgroups_v2")


def names():
    with open(SOURCE, encoding="utf-8") as f:
        return re.findall(r"^\t\tV2\((test_\w+)\),$", f.read(), re.M)


@pytest.mark.parametrize("name", names())
def test_cgroups(name):
    p = subprocess.run([PROGRAM, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    if "SKIPPED ]" in p.stdout:
        pytest.skip(next((line for line in p.stdout.splitlines() if line.startswith("skipped: ")), "no reason given"))
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout
