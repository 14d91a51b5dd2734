# SPDX-License-Identifier: Apache-2.0
"""
Tests bind mounts of trees in which a mount namespace is pinned, as in /run/snapd/ns of a host with snaps: the kernel refuses
to attach such a mount in a younger namespace, so the container gets the tree without it.
"""
import errno
import os
import subprocess

import pytest
from harness import config, machine

MS_PRIVATE, MS_BIND = 1 << 18, 4096


def pin(path, cpu):
    """Pins a mount namespace made on this CPU. Returns False if the kernel takes it for older than the test's own."""
    with subprocess.Popen(["taskset", "-c", str(cpu), "unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdin.write(b"\n")
        p.stdin.flush()
        assert p.stdout.readline() == b"\n"
        try:
            machine.mount(f"/proc/{p.pid}/ns/mnt", path, flags=MS_BIND)
        except OSError as e:
            assert e.errno == errno.EINVAL
            return False
        finally:
            p.stdin.close()
    return True


@pytest.fixture(params=["tree", "a tree", "link"])
def tree(request, ctr, tmp):
    """
    Makes a directory with a file, a mount with a file, and in this mount a pinned mount namespace. Linux 6.18 numbers namespaces
    for each CPU separately, so the runtime runs on the CPU where the pinned namespace was made, and the container's is younger.
    """
    top = os.path.join(tmp, "tree" if request.param == "link" else request.param)
    inner = os.path.join(top, "inner")
    os.makedirs(inner)
    machine.mount("tmpfs", inner, "tmpfs")
    machine.mount(None, inner, flags=MS_PRIVATE)
    for path in (f"{top}/file", f"{inner}/file", f"{inner}/pin"):
        with open(path, "w", encoding="utf-8") as f:
            f.write("here\n")
    cpu = next(c for c in sorted(os.sched_getaffinity(0)) if pin(f"{inner}/pin", c))
    ctr.rt.prefix = ["taskset", "-c", str(cpu), *ctr.rt.prefix]
    if request.param == "link":
        os.symlink("tree", f"{tmp}/link")
    yield os.path.join(tmp, request.param)
    machine.umount(f"{inner}/pin")
    machine.umount(inner)


def test_the_tree_comes_without_the_pins(ctr, tree):
    c = config.add_mount(ctr.sh("cat /tree/file /tree/inner/file; grep -c nsfs /proc/self/mountinfo"), "/tree", "bind", tree, ["rbind"])
    assert c.run().out == "here\nhere\n0\n"
