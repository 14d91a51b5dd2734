# SPDX-License-Identifier: Apache-2.0
"""Tests Debian's systemd as process 1 of a container: it reaches its default target, and shuts down cleanly on
SIGRTMIN+3."""
import signal

import pytest
from harness import config, rootfs
from harness.runtime import wait_for


@pytest.fixture(scope="module")
def tree():
    return rootfs.debian()


@pytest.fixture
def system(ctr, tree):
    with rootfs.overlays(ctr) as over:
        yield configure(ctr("/sbin/init", bundle=over(tree)))


def configure(c):
    c.conf["process"].update(env=["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"], noNewPrivileges=False)
    config.all_caps(c.conf)
    for s in c.conf["process"]["capabilities"].values():
        # A system container does not get the host's modules, clock and raw hardware.
        for n in ("CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ"):
            if n in s:
                s.remove(n)
    for m in c.conf["mounts"]:
        if m["type"] == "cgroup":
            m["options"] = ["nosuid", "noexec", "nodev", "rw"]
    c.conf["mounts"] += [{"destination": d, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=755"]}
                         for d in ("/run", "/run/lock")]
    c.conf["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
    return c


def test_boots_and_shuts_down(system):
    c = system.write()
    with open(c.log, "wb") as log:
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=log, stderr=log)

    def state():
        if p.poll() is not None:
            raise AssertionError(f"systemd ended with {p.returncode}: {c.output()[-3000:]}")
        r = c.exec("systemctl", "is-system-running")
        return r.out.strip()

    try:
        wait_for(lambda: state() in ("running", "degraded"), "the default target", timeout=60)
    except AssertionError as e:
        raise AssertionError(f"{e}\n{c.exec('systemctl', 'list-jobs').out}\n{c.output()[-3000:]}") from None
    failed = c.exec("systemctl", "--failed", "--no-legend", "--plain").ok().out
    assert state() == "running", failed
    assert c.exec("cat", "/proc/1/comm").ok().out == "systemd\n"
    assert c.exec("systemctl", "is-active", "graphical.target").out.strip() == "active"
    # A service with a cgroup of its own is started and stopped inside.
    c.exec("systemd-run", "--unit=probe", "sleep", "1000").ok()
    assert "probe.service" in c.exec("systemctl", "show", "-p", "ControlGroup", "probe").ok().out
    c.kill("SIGRTMIN+3")
    # systemd halts with reboot(2). In a pid namespace that ends process 1 with SIGINT, which is a clean end.
    assert p.wait(30) in (0, 128 + signal.SIGINT), c.output()[-2000:]
    assert not c.exists()
