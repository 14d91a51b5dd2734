# SPDX-License-Identifier: Apache-2.0
"""Runs tests/bench/density.py with small numbers: many containers at once, one after the other, and idle together must
leave nothing."""
import os
import subprocess
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_many_and_nothing_left():
    """density.py finds nothing left: it compares mounts, cgroups, interfaces, processes and --root with those before.
    """
    p = subprocess.run([sys.executable, os.path.join(TESTS, "bench", "density.py"), "--only", "caisson", "--together", "10",
                        "--sequence", "3", "--idle", "12"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert p.returncode == 0 and "12 idle: " in p.stdout and p.stdout.rstrip().endswith("left: nothing"), p.stdout
    print(p.stdout)
