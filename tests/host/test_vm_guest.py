# SPDX-License-Identifier: Apache-2.0
"""Tests microVMs on the built-in machine, on the test host's KVM: cases that need a host whose clock may be set, or
whose KVM runs Linux. tests/vm/test_hypervisor.py has the cases for QEMU."""
import time

import pytest
from harness import config, mode, rootfs
from harness.runtime import wait_for

KVM = ("--hypervisor", "kvm")
BOOT = 200


@pytest.fixture
def vm(ctr):
    def make(*args, annotations=None):
        c = config.default(*args)
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(BOOT), **(annotations or {})}
        c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
        return ctr(conf=c)
    return make


@pytest.mark.parametrize("text, offered", [(None, False), ("true", True)])
def test_virtualization_is_offered_only_on_request(vm, text, offered):
    c = vm("grep", "-m1", "^flags", "/proc/cpuinfo", annotations={"io.caisson.vm.nested": text} if text else {})
    r = c.run(*KVM, timeout=BOOT + 60)
    assert r.rc == 0 and bool({"svm", "vmx"} & set(r.out.split())) == offered, r


def test_the_guest_follows_when_the_hosts_clock_is_set(vm):
    """The guest's clock follows when the host's clock is set. The monitor learns of it by a cancelled timer, as after
    a resume of the host."""
    c = vm("sleep", "1000")
    c.create(*KVM, timeout=BOOT + 60)
    c.start()

    def difference():
        return int(c.exec("date", "+%s", timeout=60).out) - time.time()
    assert abs(difference()) < 10
    monotonic, clock = time.monotonic(), time.time()
    try:
        for step in (86400, -7200):
            time.clock_settime(time.CLOCK_REALTIME, time.time() + step)
            wait_for(lambda: abs(difference()) < 10, "the guest's clock to follow", timeout=60)
    finally:
        time.clock_settime(time.CLOCK_REALTIME, clock + time.monotonic() - monotonic)
    c.delete("--force")
