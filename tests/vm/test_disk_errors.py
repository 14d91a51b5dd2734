# SPDX-License-Identifier: Apache-2.0
"""Tests what a microVM does when the host cannot write its disk any more (io.caisson.vm.image.werror). The disk is a
sparse image on a small tmpfs, which the guest fills. The hypervisor is QEMU, or KVM on the test host."""
import hashlib
import os
import subprocess

import pytest

from harness import config, inject, mode
from harness.runtime import wait_for
from test_jail import BOOT, VM, Proc, children, vm  # noqa: F401

WERROR = "io.caisson.vm.image.werror"
PAUSED = "io.caisson.vm.paused"
BLOCKS = 128  # of 64 KiB: what the guest writes, 8 MiB
SMALL, LARGE = "4m", "64m"  # the size of the tmpfs: too small for it, and large enough
# Each line is its own number, so that a block in the wrong place is found.
WRITE = (f"mknod /dev/d b $(sed 's/:/ /' /sys/block/vda/dev); "
         f"if seq 1000000 2100000 | head -c {BLOCKS << 16} | dd of=/dev/d bs=64k count={BLOCKS} iflag=fullblock conv=fsync "
         f"2>/result; then echo written; elif grep -q error /result; then echo failed; fi; ")


def data():
    text = b"".join(b"%d\n" % n for n in range(1000000, 2100001))
    return text[:BLOCKS << 16]


@pytest.fixture
def small(tmp):
    """Mounts a tmpfs that is too small for the disk."""
    path = os.path.join(tmp, "small")
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "small", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def writer(vm, small):
    """Makes a container that fills a disk beside its root."""
    def make(form, werror=None, then=""):
        c = vm("sh", "-c", WRITE + then)
        image = os.path.join(small, "disk." + form)
        subprocess.run(["qemu-img", "create", "-q", "-f", form, image, "16M"], check=True)
        config.all_caps(c.conf)
        c.conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
        c.conf["vm"]["image"] = {"path": image, "format": form}
        c.conf["annotations"] = {"io.caisson.vm.image.use": "disk", **({WERROR: werror} if werror else {})}
        return c, image
    return make


def check(image, form):
    if form == "qcow2":
        subprocess.run(["qemu-img", "check", "-q", "-f", form, image], check=True)


def content(image, form):
    out = subprocess.run(["qemu-img", "dd", "-f", form, "-O", "raw", "bs=64k", f"count={BLOCKS}", f"if={image}",
                          f"of={image}.raw"], check=True, capture_output=True)
    assert out.returncode == 0
    with open(image + ".raw", "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


def await_pause(c):
    wait_for(lambda: c.status() == "paused", "the machine to pause", BOOT)
    why = c.state()["annotations"][PAUSED]
    assert "vm.image" in why and "write" in why and "No space left on device" in why, why


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_full_host_pauses_the_machine(writer, small, form):
    """The machine pauses, commands say why, and `resume` lets it go on. If there is still no space, it pauses again. In
    the end all that the guest has written is in the image, and the image is sound."""
    c, image = writer(form)
    c.up(*VM, timeout=BOOT)
    await_pause(c)
    assert c.output() == ""
    c.exec("true").failed("paused", c.id)
    c.rt("pause", c.id).failed("paused")
    c.rt("resume", c.id).ok()
    await_pause(c)
    subprocess.run(["mount", "-o", f"remount,size={LARGE}", small], check=True)
    c.rt("resume", c.id).ok()
    c.wait(timeout=BOOT)
    assert c.output() == "written\n" and PAUSED not in c.state().get("annotations", {})
    c.delete()
    check(image, form)
    assert content(image, form) == hashlib.md5(data()).hexdigest()


# The test host, where a boot takes long, has the cases above, and the unit test vm_blk those below.
if mode.HYPERVISOR == "qemu":
    def test_a_paused_machine_can_be_killed(writer):
        c, image = writer("qcow2", "stop")
        c.up(*VM, timeout=BOOT)
        await_pause(c)
        c.kill("KILL")
        c.wait(timeout=60)
        c.delete()
        check(image, "qcow2")

    def test_the_last_write_fails(writer):
        """caisson-disk cannot write what it holds in memory at the end, so `run` fails."""
        c, image = writer("qcow2")
        c.conf["process"]["args"][2] = "echo up; read line"
        c.write()
        run = c.rt.popen("run", "--bundle", c.bundle, *VM, c.id, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run.stdout.readline() == "up\n"
        server, = (p for p in map(Proc, children(c.pid())) if p.name == "caisson-disk")
        with inject.errors(server.pid, "fdatasync", "EIO"):
            _, err = run.communicate("\n", timeout=60)
        assert run.returncode == 1 and f"vm.image: not all that the guest wrote is in the image: {image}: " in err, err
        assert err.endswith("Input/output error\n"), err

    @pytest.mark.parametrize("form", ["raw", "qcow2"])
    def test_the_guest_sees_the_error(writer, form):
        """With "report" the guest gets an I/O error, goes on, and can still read and write what has space."""
        c, image = writer(form, "report", "dd if=/dev/d of=/dev/null bs=64k count=8 2>&1 | grep -c error")
        out = c.run(*VM, timeout=BOOT).out
        assert out == "failed\n0\n", out
        check(image, form)

    def test_refused(writer):
        c, _ = writer("raw", "ignore")
        c.run(*VM).failed("annotation " + WERROR, '"ignore"', "expected report")
