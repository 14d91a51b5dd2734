# SPDX-License-Identifier: Apache-2.0
"""The suites of this directory need the test host, because elsewhere they would test something else."""

import os

import pytest
from harness import machine


def pytest_configure(config):
    if "CAISSON_TEST_HOST" not in os.environ:
        pytest.exit("these suites run in the test host: tests/host/run -- python3 -m pytest -q tests/host", 4)
    machine.WORK = os.environ["TMPDIR"]  # the fixtures of containers make their files there
