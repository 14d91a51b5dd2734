# SPDX-License-Identifier: Apache-2.0
"""Tests what a microVM does with I/O errors of a host's disk (io.caisson.vm.image.rerror, .werror). The disk is one of the device mapper, whose
second half has errors until the test replaces it. tests/vm/test_disk_errors.py has a host without space."""
import os
import subprocess

import pytest
from harness import config, mode, rootfs
from harness.runtime import wait_for

BOOT = 400
SECTORS = 16384  # of each half
DEVICE = "caisson-eio"
PAUSED = "io.caisson.vm.paused"
# Direct I/O in the guest, because its page cache reads ahead, and reports a failed write late. 24576 is in the middle of the second half.
COMMAND = {"read": "dd if=/dev/d of=/dev/null bs=4096 count=1 skip=3072 iflag=direct",
           "write": "dd if=/dev/zero of=/dev/d bs=4096 count=1 seek=3072 oflag=direct"}


def run(*command, table=None):
    # Nothing runs udev here, so dmsetup has to make the device node itself.
    p = subprocess.run(command, input=table, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       env={**os.environ, "DM_DISABLE_UDEV": "1"})
    assert p.returncode == 0, f"{' '.join(command)} exited with {p.returncode}: {p.stdout}"


def dmsetup(*args, table=None):
    run("dmsetup", *args, table=table)


@pytest.fixture
def device():
    """A disk of which the second half has errors. A disk without them takes its place when the returned function is called. The test names this
    fixture before ctr, because the disk can be removed only once its machine has ended."""
    # The kernel would load dm-zero itself, but a failure of that is only "Invalid argument" to dmsetup.
    run("modprobe", "-a", "dm-mod", "dm-zero")

    def mend():
        dmsetup("load", DEVICE, table=f"0 {2 * SECTORS} zero\n")
        dmsetup("resume", DEVICE)

    try:
        dmsetup("create", DEVICE, table=f"0 {SECTORS} zero\n{SECTORS} {SECTORS} error\n")
        yield mend
    finally:
        # A device that a failed `create` left would make each later one fail.
        if os.path.exists("/dev/mapper/" + DEVICE):
            dmsetup("remove", "--retry", DEVICE)


@pytest.mark.parametrize("way", ["read", "write"])
def test_an_error_of_the_disk_pauses_the_machine(device, ctr, way):
    """The guest reads the good half, and then the machine pauses at the bad one, with the reason. It pauses again if nothing has changed. Once the
    disk is mended, `resume` does the request again, and the guest never sees the error."""
    script = (f"mknod /dev/d b $(sed 's/:/ /' /sys/block/vda/dev); dd if=/dev/d of=/dev/null bs=4096 count=1 iflag=direct && echo good half; "
              f"{COMMAND[way]} && echo bad half || echo failed")
    conf = config.default("sh", "-c", script)
    config.all_caps(conf)
    conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
    conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "image": {"path": "/dev/mapper/" + DEVICE, "format": "raw"}}
    conf["annotations"] = {"io.caisson.vm.image.use": "disk", "io.caisson.vm.image-cache": "none", "io.caisson.vm.boot-timeout": str(BOOT),
                           f"io.caisson.vm.image.{way[0]}error": "stop"}
    c = ctr(conf=conf)
    c.up("--isolation", "vm", "--hypervisor", "kvm", timeout=BOOT)
    for again in (False, True):
        wait_for(lambda: c.status() == "paused", "the machine to pause", BOOT)
        why = c.state()["annotations"][PAUSED]
        assert "vm.image" in why and way in why and "I/O error" in why, why
        # The machine may be paused before its agent has sent what the program wrote.
        assert c.output() in ("", "good half\n")
        if again:
            device()
        c.rt("resume", c.id).ok()
    c.wait(timeout=BOOT)
    assert c.output() == "good half\nbad half\n"
    c.delete()
