# SPDX-License-Identifier: Apache-2.0
"""Tests the jail of `caisson disk serve`, the process that parses an image for a virtual machine. No machine is needed,
because the process is in its jail as soon as it says that it is ready."""
import os
import re
import socket
import subprocess

import pytest

USER = 65533


@pytest.fixture
def server(disk):
    """A server of an image, which waits for the first message of its monitor."""
    disk("create", "-f", "qcow2", disk.path("served.qcow2"), "1M").ok()
    program = os.path.join(os.path.dirname(disk.binary), "caisson-disk")
    ours, theirs = socket.socketpair()
    p = subprocess.Popen([program, "serve", "--format", "qcow2", "--socket", str(theirs.fileno()), "--user", str(USER),
                          disk.path("served.qcow2")], pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
    theirs.close()
    try:
        assert p.stdout.read() == "ready"
        yield p
    finally:
        ours.close()
        p.stdout.close()
        assert p.wait(timeout=60) == 0


def read(path):
    with open(path) as f:
        return f.read()


def test_jail(server):
    status = {name: value.split() for name, _, value in (line.partition(":") for line in read(f"/proc/{server.pid}/status").splitlines())}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, (name, status[name])
    assert set(status["Uid"] + status["Gid"]) == {str(USER)} and not status["Groups"]
    assert status["NoNewPrivs"] == ["1"] and status["Seccomp"] == ["2"]
    assert os.listdir(f"/proc/{server.pid}/root") == []
    assert [line.split()[4] for line in read(f"/proc/{server.pid}/mountinfo").splitlines()] == ["/"]
    assert re.search(r"Max core file size +0 +0 ", read(f"/proc/{server.pid}/limits"))
