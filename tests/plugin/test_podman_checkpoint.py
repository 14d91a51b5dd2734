# SPDX-License-Identifier: Apache-2.0
"""Tests `podman container checkpoint` and `podman container restore`: by CRIU, or with caisson-vm by a snapshot."""
import os

import pytest
from harness import mode, podman
from harness.runtime import wait_for

COUNTER = "i=0; while :; do i=$((i+1)); echo out $i; echo $i >/count; sleep 0.5; done"


@pytest.fixture(autouse=True)
def clean_machine():
    """Checks what podman has left. It replaces the fixture of tests/conftest.py, because podman's own daemons and files stay between tests."""
    yield
    lines = podman.nothing_left()
    assert not lines, "left on the machine:\n  " + "\n  ".join(lines)


def count(engine, name):
    return int(engine("exec", name, "cat", "/count") or 0)


def test_checkpoint_and_restore(root_podman, tmp):
    """The container goes on where it was, and so does a second one that is made from the exported checkpoint."""
    p = root_podman
    tar = os.path.join(tmp, "checkpoint.tar")
    p("run", "-d", "--name", "ct", "box", "sh", "-c", COUNTER)
    try:
        wait_for(lambda: "out 3" in p.logs("ct"), "output", 60)
        p("container", "checkpoint", "ct")
        state = p.inspect("ct")["State"]
        assert state["Status"] == "exited" and state["Checkpointed"]
        last = [int(l.split()[1]) for l in p.logs("ct").splitlines() if l.startswith("out ")][-1]
        p("container", "restore", "ct")
        assert p.inspect("ct")["State"]["Status"] == "running"
        wait_for(lambda: f"out {last + 2}" in p.logs("ct"), "output after the restore", 60)
        assert count(p, "ct") > last
        p("container", "checkpoint", "--export", tar, "ct")
        p("rm", "-f", "ct")
        if mode.VM:
            # The second one has a root of its own, whose files are not those that the guest has open.
            r = p.try_("container", "restore", "--import", tar, "--name", "ct2")
            assert r.rc != 0 and "which the guest has open, is gone or is another file now" in r.err, r
            return
        p("container", "restore", "--import", tar, "--name", "ct2")
        before = count(p, "ct2")
        assert before > last
        wait_for(lambda: count(p, "ct2") > before, "the counter of the second one", 60)
    finally:
        p("rm", "-f", "-t", "0", "--ignore", "ct", "ct2")
