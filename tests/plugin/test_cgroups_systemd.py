# SPDX-License-Identifier: Apache-2.0
"""Tests systemd scopes, of the system's systemd and a user's: runs tests/host/test_cgroups_systemd.c, and one test of
the command line."""

import os
import re
import shutil
import subprocess

import pytest
from harness import config, rootfs, runtime

SOURCE = os.path.join(os.path.dirname(__file__), "..", "host", "test_cgroups_systemd.c")
BUILD = os.environ.get("CAISSON_BUILD", "build")
PROGRAM = os.path.join(BUILD, "tests", "test_cgroups_systemd")


def names():
    with open(SOURCE, encoding="utf-8") as f:
        return re.findall(r"^\t\tSCOPE\((test_\w+)\),$", f.read(), re.M)


@pytest.fixture(autouse=True)
def clean_machine():
    """
    Checks only cgroups and not the whole machine, because systemd writes to /run all the time, also for units that
    are gone.
    """
    yield
    left = [d for d, _, _ in os.walk("/sys/fs/cgroup") if re.search(r"/(caisson|box)-[^/]*\.scope$", d)]
    assert not left, f"left: {left}"


@pytest.mark.parametrize("name", names())
def test_cgroups(name, tmp):
    # An ordinary user starts the helper too, and may not be able to pass through the build directory.
    shutil.copy(os.path.join(BUILD, "cgroups", "caisson-systemd"), tmp)
    p = subprocess.run([PROGRAM, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                       env={**os.environ, "CAISSON_LIBEXEC": tmp})
    # The test host has everything that the tests look for, so one that skips itself has not passed.
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout


def test_command_line(binary, tmp_path):
    """With --systemd-cgroup an annotation sets a property of the scope, and `update` reaches systemd and the kernel."""
    conf = config.default("sleep", "1000")
    conf["annotations"] = {"org.systemd.property.TimeoutStopSec": "uint64 7"}
    conf["linux"].update(cgroupsPath="system.slice:caisson:cli", resources={"memory": {"limit": 32 << 20}})
    rootfs.make_busybox(str(tmp_path / "rootfs"), "/bin/busybox")
    c = runtime.Container(runtime.Runtime(binary, str(tmp_path / "state"), ["--systemd-cgroup"]), "cli", str(tmp_path), conf)

    def look():
        shown = subprocess.run(["systemctl", "show", "-p", "TimeoutStopUSec,MemoryMax,ActiveState", "caisson-cli.scope"],
                               stdout=subprocess.PIPE, text=True, check=True).stdout
        with open("/sys/fs/cgroup/system.slice/caisson-cli.scope/memory.max", encoding="ascii") as f:
            return sorted(shown.split()), int(f.read())
    c.up()
    assert look() == (["ActiveState=active", f"MemoryMax={32 << 20}", "TimeoutStopUSec=7s"], 32 << 20)
    c.rt("update", "--memory", "48m", c.id).ok()
    assert look() == (["ActiveState=active", f"MemoryMax={48 << 20}", "TimeoutStopUSec=7s"], 48 << 20)
    c.stop()
