# SPDX-License-Identifier: Apache-2.0
"""Tests the container's cgroup: caisson makes it where config.json says, and removes it with everything that was made
for it, even if the container has nested cgroups in it."""
import json
import os
import signal
import subprocess
import time

import pytest
from harness import machine, mode
from harness.runtime import wait_for


def top():
    m = machine.cgroup2_mount()
    if not m:
        pytest.skip("no cgroup2 mount")
    return m


def own(c):
    with open(os.path.join(c.rt.root, c.id, "state.json")) as f:
        return top() + json.load(f)["cgroup"]["path"]


def nest(path, levels, name):
    """Makes nested cgroups and returns a descriptor of the deepest, because its path may be too long for a name."""
    fd = os.open(path, os.O_PATH)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def unnest(fd, levels, name):
    for _ in range(levels):
        try:
            above = os.open("..", os.O_PATH, dir_fd=fd)
            os.rmdir(name, dir_fd=above)
        except OSError:  # as it should be, because caisson has removed it
            break
        os.close(fd)
        fd = above
    os.close(fd)


@pytest.mark.parametrize("levels,name", [(80, "n"), (700, "nested-d")], ids=["80", "700 and longer than a path"])
def test_deeply_nested_cgroups(ctr, levels, name):
    """`delete` removes deeply nested cgroups, which a container with a writable cgroup can make, and does not need a
    descriptor for each level."""
    c = ctr.idle().up()
    bottom = nest(own(c), levels, name)
    inner = subprocess.Popen(["sleep", "1000"])
    try:
        procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=bottom)
        os.write(procs, str(inner.pid).encode())
        os.close(procs)
        assert inner.pid in c.rt("ps", "--format", "json", c.id).json()
        c.kill("USR1", "--all")
        assert inner.wait(10) == -signal.SIGUSR1
        c.delete("--force")
    finally:
        inner.kill()
        inner.wait()
        unnest(bottom, levels, name)


def test_many_nested_cgroups(ctr):
    """`delete` removes a tree of cgroups, not only a chain, while processes in it end and their cgroups disappear."""
    c = ctr.idle().up()
    for a in range(10):
        for b in range(10):
            os.makedirs(f"{own(c)}/{a}/{b}/x")
    c.rt("ps", "--format", "json", c.id).ok()
    c.delete("--force")


def at(ctr, path, **kw):
    c = ctr.idle(**kw)
    c.conf["linux"]["cgroupsPath"] = path
    return c


@pytest.fixture
def parent():
    """The name of a cgroup that does not exist. After the test nothing of it may be left."""
    name = f"/caisson-parent-{os.getpid()}"
    yield name
    assert not os.path.exists(top() + name)


@pytest.mark.parametrize("first_ends", ["first", "last"])
def test_parents_of_containers_that_overlap(ctr, parent, first_ends):
    """Parent cgroups are removed with the last container beneath them, whether the container for which they were made
    is deleted before or after the others."""
    a, b = at(ctr, parent + "/deep/a").up(), at(ctr, parent + "/deep/b").up()
    for c in (a, b) if first_ends == "first" else (b, a):
        assert os.path.exists(f"{top()}{parent}/deep")
        c.delete("--force")
    assert not os.path.exists(top() + parent)


def test_parent_that_was_there_stays(ctr, parent):
    """A parent cgroup that existed before stays when the container beneath it is deleted."""
    os.mkdir(top() + parent)
    try:
        a, b = at(ctr, parent + "/made/a").up(), at(ctr, parent + "/made/b").up()
        a.delete("--force")
        b.delete("--force")
        assert [n for n in os.listdir(top() + parent) if os.path.isdir(f"{top()}{parent}/{n}")] == []
    finally:
        os.rmdir(top() + parent)


def test_failed_create_leaves_no_parent(ctr, parent):
    """If create fails, it leaves no parent cgroup. It fails here because no process can enter a new cgroup beneath a
    threaded one."""
    os.makedirs(top() + parent + "/threads")
    try:
        with open(f"{top()}{parent}/threads/cgroup.type", "w") as f:
            f.write("threaded")
        at(ctr, parent + "/threads/x/y").create(check=False).failed("cgroup")
        assert not os.path.exists(f"{top()}{parent}/threads/x")
    finally:
        os.rmdir(top() + parent + "/threads")
        os.rmdir(top() + parent)


def test_parents_while_others_begin_and_end(ctr, parent):
    """Containers under the same parents are made and deleted at the same time: one may be the last beneath the parents
    at the moment in which another is made there."""
    cs = [at(ctr, f"{parent}/deep/{i}") for i in range(6)]
    for c in cs:
        c.conf["process"]["args"] = ["true"]
        c.write()
    for _ in range(mode.times(5)):
        ps = [c.rt.popen("run", "--bundle", c.bundle, c.id, stderr=subprocess.PIPE) for c in cs]
        for p in ps:
            err = p.communicate(timeout=30)[1]
            assert p.returncode == 0, err
    assert not os.path.exists(top() + parent)
