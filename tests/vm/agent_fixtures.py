# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of the guest's agent: agents, and a container that runs in one."""
import os
import shutil
import tempfile
import time

import pytest

from agent_host import Host
from harness import config, machine, rootfs


HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("CAISSON_BUILD", os.path.join(os.path.dirname(os.path.dirname(HERE)), "build"))
PROGRAM = os.path.join(BUILD, "tests", "guest_main")


@pytest.fixture
def guest(template, clean_machine):
    """Makes an agent with an empty share. Afterwards it is ended, and what is left of its container is removed."""
    made = []

    def make():
        assert os.access(PROGRAM, os.X_OK), f"{PROGRAM} is not built"
        # The directory is in /tmp, because the path of a Unix socket must be short.
        work = tempfile.mkdtemp(prefix="ga.", dir="/tmp")
        os.chmod(work, 0o755)
        os.makedirs(os.path.join(work, "share-source"))
        rootfs.copy(template, os.path.join(work, "share-source", "0"))
        made.append(Host(work, PROGRAM, "/caisson-test-" + os.path.basename(work)))
        return made[-1]

    yield make
    ends = []
    for host in made:
        # An agent that has ended was checked by the test.
        if host.process.poll() is None:
            ends.append(host.stop())
        remove_cgroup(host.cgroup)
        shutil.rmtree(host.work)
    assert all(e == (0, "") for e in ends), ends


def remove_cgroup(name):
    path = machine.cgroup2_mount() + name
    for _ in range(100):
        if not os.path.isdir(path):
            return
        try:
            with open(os.path.join(path, "cgroup.kill"), "w") as f:
                f.write("1")
            for d, subs, _files in os.walk(path, topdown=False):
                os.rmdir(d)
        except OSError:
            time.sleep(0.05)


def sh(script, **kw):
    return config.default("/bin/sh", "-c", script, **kw)


def status_exit(n):
    return n << 8


def process_of(c, *args, **kw):
    return {**c["process"], "args": list(args), **kw}


@pytest.fixture
def running(guest):
    h = guest()
    c = sh("trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")
    s = h.run(c, stdio=(1,))
    s[1].read_until(b"up\n")
    return h, c
