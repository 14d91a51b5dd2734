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
ONCE = """
seen = []

def test_once():
    seen.append(1)
    assert len(seen) > 1, "the first time"
"""


def run(binary, tmp, text, *options):
    """Returns pytest's exit code and output for a file of tests with this text."""
    file = os.path.join(tmp, "test_inner.py")
    with open(file, "w") as f:
        f.write(text)
    r = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest", "--rootdir", tmp, *options, file],
                       env={**os.environ, "PYTHONPATH": TESTS, "CAISSON": binary}, stdout=subprocess.PIPE, text=True, check=False)
    return r.returncode, r.stdout


def test_what_an_expected_failure_leaves_is_an_error(binary, tmp):
    code, out = run(binary, tmp, LEAVES)
    assert code == 1 and "1 xfailed, 1 error" in out, out


def test_why_a_test_ran_again_is_printed(binary, tmp):
    code, out = run(binary, tmp, ONCE, "--reruns", "1")
    assert code == 0 and "1 passed, 1 rerun" in out and "AssertionError: the first time" in out, out
