# SPDX-License-Identifier: Apache-2.0
"""Tests the network of microVMs whose frames the kernel moves (vhost-net), which only the test host's kernel has."""
import os
import subprocess

import pytest
from harness import config, mode, network, rootfs

PROGRAM = os.path.join(os.environ.get("CAISSON_BUILD", "build"), "tests", "test_vm_net_pairs")
BOOT = 300
HOST_IP, IP = "10.213.12.1", "10.213.12.2"


@pytest.fixture(scope="module", autouse=True)
def vhost_net():
    subprocess.run(["modprobe", "vhost_net"], check=True)
    assert os.path.exists("/dev/vhost-net")


@pytest.mark.parametrize("name", ["kernel_interrupts", "kernel_without_pairs_command", "served_by_the_kernel", "snapshots_of_the_kernel"])
def test_device(name):
    """Runs the unit tests of the device with vhost-net, in which a program takes the place of the guest."""
    p = subprocess.run([PROGRAM, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    assert p.returncode == 0 and "[  PASSED  ] 1 test(s)." in p.stdout, p.stdout


def workers_of(pid):
    """Returns the kernel's threads that serve vhost-net for process `pid`. Before Linux 6.4 they are processes of their own, each with
    the name of the thread that has asked for it."""
    threads = {f"vhost-{t}" for t in os.listdir(f"/proc/{pid}/task")}
    return [p for p in os.listdir("/proc") if p.isdigit() and comm(p) in threads]


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("use", ["true", "false"])
def test_guest(ctr, use):
    """A guest on the built-in machine talks to the host, and the frames pass through vhost-net unless the annotation forbids that."""
    with network.veth("cai-vhost", HOST_IP, IP) as netns:
        c = ctr("sh", "-c", f"ping -c 3 -W 20 {HOST_IP} >/dev/null && echo queues $(ls -d /sys/class/net/eth0/queues/rx-*); sleep 1000")
        c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)},
                        "hwConfig": {"memory": 256 << 20, "vcpus": 2}}
        c.conf["annotations"] = {"io.caisson.vm.boot-timeout": str(BOOT), "io.caisson.vm.vhost-net": use}
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
        config.namespaces(c.conf, paths={"network": netns})
        c.create("--isolation", "vm", "--hypervisor", "kvm", timeout=BOOT + 60)
        c.start(timeout=60)
        c.wait_output("queues", timeout=120)
        assert c.output().split() == ["queues", *(f"/sys/class/net/eth0/queues/rx-{i}" for i in range(2))]
        workers = workers_of(c.pid())
        assert len(workers) == (2 if use == "true" else 0)
        c.kill("KILL")
        c.wait(timeout=60)
        c.delete()
        assert not [w for w in workers if comm(w).startswith("vhost-")]
