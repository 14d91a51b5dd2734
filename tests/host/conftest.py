# SPDX-License-Identifier: Apache-2.0
"""The suites of this directory need the test host, because elsewhere they would test something else."""

import os

import pytest
from harness import machine, rootfs


def pytest_configure(config):
    if "CAISSON_TEST_HOST" not in os.environ:
        pytest.exit("these suites run in the test host: tests/host/run -- python3 -m pytest -q tests/host", 4)
    machine.WORK = os.environ["TMPDIR"]  # the fixtures of containers make their files there


@pytest.fixture(autouse=True)
def clean_machine():
    """
    Checks that a test leaves no mount and no cgroup. The fixture of tests/conftest.py compares nothing here, because these suites
    have the whole test host to themselves and /tmp is the build machine's.
    """
    before = machine.mounts(), machine.cgroups()
    yield
    assert (machine.mounts(), machine.cgroups()) == before


@pytest.fixture(scope="session")
def template(work):
    """The root file system that every test gets a copy of. It has no probe, because a compiler would take long in this slow machine."""
    return rootfs.make_busybox(os.path.join(work, "rootfs-of-host"), "/bin/busybox")
