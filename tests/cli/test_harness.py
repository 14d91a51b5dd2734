# SPDX-License-Identifier: Apache-2.0
"""What the harness itself does with tests: a run of pytest inside a test, with tests/conftest.py."""
import os
import subprocess
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

LEAVES = """
import pytest

@pytest.fixture
def thing():
    yield
    assert 0, "left"

@pytest.mark.xfail(strict=True)
def test_expected_to_fail(thing):
    assert 0
"""


def test_what_an_expected_failure_leaves_is_an_error(binary, tmp):
    file = os.path.join(tmp, "test_inner.py")
    with open(file, "w") as f:
        f.write(LEAVES)
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "--rootdir", tmp, file],
                         env={**os.environ, "PYTHONPATH": TESTS, "CAISSON": binary}, stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1 and "1 xfailed, 1 error" in run.stdout, run.stdout
