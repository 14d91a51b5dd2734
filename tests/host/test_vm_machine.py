# SPDX-License-Identifier: Apache-2.0
"""Tests that the built-in machine boots a cloud image: its serial port, its disks, caisson's agent in it and its end by the
agent, with the kernel, the initramfs and the init of a Debian. The image is that of tests/vm/test_machine.py, which tests the rest on QEMU.
cloud-init is left out, because it takes ten minutes here."""
import glob
import os
import subprocess
import time

import pytest

from harness import mode, rootfs
from harness.pvh import pvh_kernel

BOOT = 1500
CALL = 300  # seconds for one command, whose program takes little, and for the shutdown


def test_cloud_image(rt, tmp, monkeypatch):
    """The console works from the kernel's first line to the login prompt, and takes input. qemu-guest-agent runs
    commands, and so does caisson's agent, which lists the processes, and powers the machine off."""
    # A cache that is older than tests/lib/debian-disk has more than one.
    image = max(glob.glob(f"{rootfs.CACHE}/debian-disk-*.qcow2"), key=os.path.getmtime)
    monkeypatch.setenv("CAISSON_MACHINES", os.path.join(tmp, "machines"))
    monkeypatch.setenv("TMPDIR", tmp)
    disk = os.path.join(tmp, "disk.qcow2")
    rt("disk", "create", "-f", "qcow2", "-b", image, "-F", "qcow2", disk).ok()
    rt("machine", "install-agent", "--hypervisor", "kvm", "--kernel", mode.packaged_kernel(rootfs.CACHE), "--backing", "/", disk,
       timeout=BOOT).ok()
    p = subprocess.Popen(
        rt.argv("run", "--isolation", "vm", "--hypervisor", "kvm", "--inspect-kernel", mode.packaged_kernel(rootfs.CACHE), "--disk", disk,
                "--backing", "/", "--size", "4G", "--append", "cloud-init=disabled systemd.mask=systemd-networkd-wait-online.service", "m1"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.set_blocking(p.stdout.fileno(), False)
    agent = lambda: rt("state", "m1").json()["annotations"].get("io.caisson.vm.agent")
    said, end, asked = b"", time.monotonic() + BOOT, 0
    try:
        while said.count(b" login: ") < 2 and p.poll() is None and time.monotonic() < end:
            said += p.stdout.read() or b""
            if b" login: " in said and not asked:
                # An empty name brings the prompt again.
                p.stdin.write(b"\n")
                p.stdin.flush()
                asked = 1
            time.sleep(1)
        assert said.count(b" login: ") >= 2, (said[-4000:], p.poll() is not None and p.stderr.read())
        assert b"Linux version" in said and b"EXT4-fs (vda1): mounted" in said
        assert rt("list").out.count("running") == 1
        # qemu-guest-agent, which the image has, runs the command if caisson's agent has not connected yet.
        while rt("exec", "m1", "systemctl", "stop", "caisson-agent", timeout=CALL).rc or agent() != "qemu-guest-agent":
            assert time.monotonic() < end and p.poll() is None
            time.sleep(1)
        assert rt("exec", "m1", "sh", "-c", "cat; id -u; exit 7", input="in ", timeout=CALL).raw == b"in 0\n"
        rt("exec", "--cwd", "/", "m1", "true").failed("--cwd", "qemu-guest-agent")
        rt("exec", "m1", "systemctl", "start", "--no-block", "caisson-agent", timeout=CALL).ok()
        while agent() != "answers":
            assert time.monotonic() < end and p.poll() is None
            time.sleep(1)
        assert rt("exec", "m1", "sh", "-c", "cat; id -u; exit 7", input="in ", timeout=CALL).raw == b"in 0\n"
        while b"caisson-agent --service" not in rt("ps", "m1", timeout=CALL).raw:
            assert time.monotonic() < end
            time.sleep(1)
        rt("events", "--stats", "m1").failed("operating system of its own")
        rt("pause", "m1").ok()
        assert "paused" in rt("list").out
        rt("exec", "m1", "true").failed("paused", "caisson resume")
        rt("ps", "m1").failed("paused", "caisson resume")
        rt("resume", "m1").ok()
        # Without logind nothing in the machine reacts to its power button.
        rt("exec", "m1", "systemctl", "mask", "--runtime", "--now", "systemd-logind", timeout=CALL).ok()
        rt("kill", "m1", "TERM").ok()
        out, err = b"", b""
        os.set_blocking(p.stdout.fileno(), True)
        try:
            out, err = p.communicate(timeout=CALL)
        except subprocess.TimeoutExpired as e:
            pytest.fail(f"it did not power off: {rt('state', 'm1').out} {(e.output or b'')[-4000:]}")
        assert p.returncode == 0 and b"reboot: Power down" in out, (out[-2000:], err)
    finally:
        if p.poll() is None:
            rt("kill", "m1", "KILL")
            p.wait(60)
    assert os.listdir(os.path.join(tmp, "machines")) == []


def test_panic(rt, tmp, monkeypatch):
    """A kernel that panics ends the machine, also if it restarts by the firmware, which this machine does not have."""
    monkeypatch.setenv("CAISSON_MACHINES", os.path.join(tmp, "machines"))
    r = rt("run", "--isolation", "vm", "--hypervisor", "kvm", "--kernel", mode.packaged_kernel(rootfs.CACHE), "-m", "256M", "--append", "panic=-1", timeout=300)
    assert r.rc == 1 and "panicked" in r.err and "Unable to mount root fs" in r.out, r


@pytest.mark.parametrize("bits", [64, 32])
def test_pvh_kernel(rt, tmp, monkeypatch, bits):
    """The built-in machine starts a kernel that has only a PVH entry, without a disk, and gives it its command line and its
    initramfs."""
    monkeypatch.setenv("CAISSON_MACHINES", os.path.join(tmp, "machines"))
    kernel, initrd = os.path.join(tmp, "kernel"), os.path.join(tmp, "initrd")
    for path, data in ((kernel, pvh_kernel(bits)), (initrd, b"the initramfs")):
        with open(path, "wb") as f:
            f.write(data)
    r = rt("run", "--isolation", "vm", "--hypervisor", "kvm", "--kernel", kernel, "--initrd", initrd, "--append", "a=1 b", timeout=120)
    assert "PVH: " in r.out and "a=1 b" in r.out and " + the initramfs end" in r.out, r
    assert os.listdir(os.path.join(tmp, "machines")) == []
