# SPDX-License-Identifier: Apache-2.0
"""Tests devices that are attached to a microVM that runs, and detached from it, on the test host's KVM."""
import os

from harness import hotplug

BOOT = 300


def cannot_be_saved(vm, name):
    """A machine with an attached device is not saved."""
    vm.rt("checkpoint", "--image-path", os.path.join(vm.bundle, "image"), vm.id, timeout=60).failed(name, "detach it")


def mounts(vm, tmp):
    """A mount is attached on the built-in machine too. tests/vm/test_hotplug.py tests more of it, because no device is needed for a mount."""
    os.makedirs(f"{tmp}/source")
    with open(f"{tmp}/source/file", "w") as f:
        f.write("hello\n")
    hotplug.update(vm, "--add-mount", f"{tmp}/source:/data").ok()
    assert hotplug.inside(vm, "cat", "/data/file").ok().out == "hello\n"
    cannot_be_saved(vm, "/data")
    hotplug.update(vm, "--rm-mount", "/data").ok()
    assert hotplug.inside(vm, "ls", "/data").ok().out == ""


def test_devices(ctr, tmp_path):
    """All checks use one microVM, because its boot takes most of the time."""
    with hotplug.machine(ctr, "kvm", BOOT) as vm:
        hotplug.disks(vm, tmp_path)
        hotplug.served(vm, tmp_path)
        hotplug.volumes(vm, tmp_path)
        hotplug.full_host(vm, tmp_path)
        mounts(vm, tmp_path)
        hotplug.interfaces(vm)
        hotplug.killed_commands(vm, tmp_path)
        hotplug.networks(vm, tmp_path)
        hotplug.update(vm, "--add-net", "eth1").ok()  # ends with the container
        assert vm.rt("state", vm.id).json()["annotations"]["io.caisson.attached"] == "net eth1"
        cannot_be_saved(vm, "eth1")
        hotplug.killed_server(vm, tmp_path)
