# SPDX-License-Identifier: Apache-2.0
"""Kills commands that look into a disk by SIGKILL. Their microVM ends, and all that they made goes: the container, its cgroup, the bundle,
and the mount."""
import glob
import os
import signal
import subprocess

import pytest

from harness import machine, mode
from test_inside import BOOT, put, until
from test_mount import mounted, point, relay, small  # pylint: disable=unused-import


def left(d):
    """What is left of the commands, besides the processes and the cgroups, which the harness compares."""
    return [n for n in os.listdir(d.tmp) if n.startswith("caisson-disk-")] + (os.listdir(d.rt.root) if os.path.exists(d.rt.root) else [])


def begin(d, *words):
    """Starts a command in a process group of its own."""
    words = [words[0], "--kernel", d.kernel, "--hypervisor", mode.HYPERVISOR, *words[1:]]
    return subprocess.Popen(d.rt.argv("disk", *words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def kill(p):
    os.killpg(p.pid, signal.SIGKILL)
    p.communicate(timeout=BOOT)
    assert p.returncode == -signal.SIGKILL


def test_while_it_writes(small):
    """What a command has written is on the disk, because its guest is asked to end first."""
    p = begin(small, "shell", "--write", small.image, "sh", "-c", "echo new > /sysroot/file; echo begun; exec sleep 1000")
    assert p.stdout.readline() == b"begun\n"
    assert left(small)
    kill(p)
    until(lambda: not left(small))
    assert subprocess.run(["debugfs", "-R", "cat /file", small.image], check=True, capture_output=True).stdout == b"new\n"


@pytest.mark.parametrize("when", ["bundle", "state", "process"])
@pytest.mark.parametrize("command", ["shell", "cp"])
def test_while_it_boots(small, when, command):
    """`caisson run` is the killed process itself, or its child process."""
    large = put(small.tmp, "large")  # so large that no command comes to its end before it is killed
    os.truncate(large, 64 << 30)
    p = begin(small, *{"shell": ["shell", small.image, "sleep", "1000"], "cp": ["cp", small.image, large, ":/new"]}[command])

    def begun():
        if when == "process":
            return [c for c in small.rt("list", "--format", "json").json() or [] if c["pid"]]
        if when == "state":
            return [n for n in left(small) if n.startswith("disk-")]
        return glob.glob(os.path.join(small.tmp, "caisson-disk-*", "config.json"))
    until(begun)
    kill(p)
    until(lambda: not left(small))


def test_mount(small, point):
    """The process in the background is killed: the mount goes too."""
    small("mount", small.image, point).ok()
    os.kill(relay(point), signal.SIGKILL)
    until(lambda: not left(small) and not mounted(point))


def test_sweep(small):
    """If the process that would remove all that was made is killed too, the next command does it, even if this command fails itself."""
    p = begin(small, "shell", small.image, "sleep", "1000")

    def guards():
        return [pid for (pid, _), name in machine.processes().items() if name == "caisson-guard"]
    until(guards)
    until(lambda: small.rt("list", "--format", "json").json())
    (pid,) = guards()
    os.kill(pid, signal.SIGKILL)
    kill(p)
    assert left(small)
    other = os.path.join(small.tmp, "caisson-disk-abcdef")  # a command has just made it, and has not locked it yet
    os.mkdir(other)
    small("ls", "--memory", "1", small.image).failed("--memory")
    assert left(small) == [os.path.basename(other)]
    os.rmdir(other)
