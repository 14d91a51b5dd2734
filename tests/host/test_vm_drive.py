# SPDX-License-Identifier: Apache-2.0
"""Runs the unit tests of the whole built-in machine (tests/unit/drive/), which need a KVM and so are skipped on the build machine."""
import os
import subprocess

import pytest

TESTS = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests")


@pytest.mark.parametrize("name", ["drive", "hotplug", "snapshot"])
def test_machine(name):
    p = subprocess.run([os.path.join(TESTS, f"test_vm_{name}"), os.path.join(TESTS, "drive")], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=600)
    assert p.returncode == 0 and "[  FAILED  ]" not in p.stdout and "[  PASSED  ]" in p.stdout, p.stdout
