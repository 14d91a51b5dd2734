# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson disk resize` of an image that containers have as vm.image, with a program in place of `caisson update`.
tests/vm/test_disks.py resizes the disk of a real microVM."""
import fcntl
import json
import os
import struct
import subprocess

import pytest

RUNTIME = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
*" running") exit 0 ;;
*) echo "caisson: cannot update: container not running" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def state(tmp):
    """A state directory, and a function that adds a container with the image to it."""
    def add(name, image):
        os.makedirs(os.path.join(tmp, "state", name))
        with open(os.path.join(tmp, "state", name, "config.json"), "w") as f:
            json.dump({"vm": {"image": {"path": image}}}, f)
    return add


def resize(disk, image):
    """Resizes an image that this process has locked as a microVM does."""
    runtime = disk.path("runtime")
    with open(runtime, "w") as f:
        f.write(RUNTIME.format(log=disk.path("log")))
    os.chmod(runtime, 0o755)
    program = os.path.join(os.path.dirname(disk.binary), "caisson-disk")
    env = {**os.environ, "CAISSON_DISK_RUNTIME": runtime, "CAISSON_DISK_STATE": disk.path("state")}
    with open(image, "r+b") as f:
        for byte in (101, 201, 203):
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        return subprocess.run([program, "resize", "-f", "qcow2", image, "2M"], env=env, capture_output=True, text=True, check=False)


def test_containers_that_do_not_run_are_passed_over(disk, state):
    image = disk.path("i.qcow2")
    disk("create", "-f", "qcow2", image, "1M").ok()
    for name in ("stopped1", "stopped2", "running", "stopped3", "stopped4"):
        state(name, image)
    state("other", disk.path("log"))
    r = resize(disk, image)
    assert r.returncode == 0 and r.stdout == "Image resized.\n", r
    with open(disk.path("log")) as f:
        asked = f.read().splitlines()
    assert asked[-1] == f"--root {disk.path('state')} update --disk-size {2 << 20} running" and not any("other" in a for a in asked)


def test_no_container_runs(disk, state):
    image = disk.path("i.qcow2")
    disk("create", "-f", "qcow2", image, "1M").ok()
    for name in ("stopped1", "stopped2"):
        state(name, image)
    r = resize(disk, image)
    assert r.returncode == 1 and f"{image} is used by container" in r.stderr and r.stderr.count("container not running") == 2, r
