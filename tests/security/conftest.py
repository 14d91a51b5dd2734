# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the security suite: the program that looks into INIT, and the agent that holds processes at execve."""
import os
import shutil

import pytest
import sight
from harness import rootfs


@pytest.fixture(scope="session")
def look(work):
    """The program look, built from look.c. `mutate` builds it once, because compiling takes long in the test host."""
    built = os.environ.get("CAISSON_LOOK")
    if built:
        return built
    return sight.build_look(os.path.join(work, "look"))


@pytest.fixture(scope="session")
def template(work, probe, look):
    """The suites' busybox root file system, with /bin/look, and /bin/payload, the same program under another name."""
    t = rootfs.make_busybox(os.path.join(work, "rootfs-look"), probe)
    for name in ("look", "payload"):
        shutil.copy(look, os.path.join(t, "bin", name))
    return t


@pytest.fixture
def ctr(ctr, rt):
    """The factory of containers. Commands that a failed test left running end before its containers are deleted."""
    started, popen = [], rt.popen

    def keep(*args, **kw):
        started.append(popen(*args, **kw))
        return started[-1]
    rt.popen = keep
    yield ctr
    for p in started:
        if p.poll() is None:
            p.kill()
        p.wait()
