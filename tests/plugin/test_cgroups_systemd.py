# SPDX-License-Identifier: Apache-2.0
"""systemd scopes, the system's and a user's: that part of tests/host/test_cgroups_v2.c."""

import os
import re
import subprocess

import pytest

SOURCE = os.path.join(os.path.dirname(__file__), "..", "host", "test_cgroups_v2.c")
PROGRAM = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests", "test_cgroups_v2")


def names():
    with open(SOURCE, encoding="utf-8") as f:
        return re.findall(r"^\t\tSCOPE\((test_\w+)\),$", f.read(), re.M)


@pytest.fixture(autouse=True)
def clean_machine():
    """Instead of the whole machine: systemd writes to /run as it goes, also for units that are gone."""
    yield
    left = [d for d, _, _ in os.walk("/sys/fs/cgroup") if re.search(r"/(caisson|box)-[^/]*\.scope$", d)]
    assert not left, f"left: {left}"


@pytest.mark.parametrize("name", names())
def test_cgroups(name):
    p = subprocess.run([PROGRAM, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    # This machine has all that they look for: one that skips itself has not passed.
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout
