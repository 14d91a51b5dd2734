# SPDX-License-Identifier: Apache-2.0
"""Tests a network namespace that exists longer than the microVM: its interfaces are carried into the guest, and belong
to the host again afterwards."""
import os
import subprocess

import pytest

from harness import config, mode, network, rootfs, runtime

HOST_IP, IP = "10.213.11.1", "10.213.11.2"
BOOT = 150


@pytest.fixture
def netns():
    with network.veth("cai-vmnet", HOST_IP, IP, mtu=1400) as path:
        yield path


def answers():
    r = subprocess.run(["busybox", "ping", "-c", "1", "-W", "2", IP], stdout=subprocess.PIPE)
    return r.returncode == 0


def test_owned_by_the_user_namespace(ctr, netns):
    """In the guest root of a user namespace has the same rights on its network as in a container: low ports,
    parameters, interfaces."""
    c = ctr("sh", "-c", "cat /proc/sys/net/ipv4/ping_group_range; ip addr show eth0; ip link set eth0 mtu 1300 && cat "
            "/sys/class/net/eth0/mtu; ping -c 1 -W 5 " + HOST_IP + " >/dev/null && echo reached; nc -l -p 80 -e echo served")
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
    config.namespaces(c.conf, "user", paths={"network": netns})
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c.conf["linux"]["sysctl"] = {"net.ipv4.ping_group_range": "0 7"}
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]
    subprocess.run(["chown", "-R", "100000:100000", c.rootfs], check=True)
    c.create("--isolation", "vm", "--hypervisor", "qemu", timeout=BOOT)
    c.start()
    c.wait_output("reached", timeout=60)
    assert c.output().split()[:2] == ["0", "7"] and f"inet {IP}/24" in c.output() and "\n1300\n" in c.output(), c.output()

    def served():
        return subprocess.run(["busybox", "nc", "-w", "10", IP, "80"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              stdin=subprocess.DEVNULL).stdout == b"served\n"
    runtime.wait_for(served, "answer from port 80", 30)
    c.wait(timeout=30)
    c.delete()
    assert answers(), "the namespace's own kernel again"


def test_carried_in_and_given_back(ctr, netns):
    assert answers(), "the namespace's own kernel"
    # Two of the interface's own parameters; 64 hops are the usual ones.
    for name, value in ("ipv4/conf/eth0/arp_announce", 2), ("ipv6/conf/eth0/hop_limit", 33):
        subprocess.run(["ip", "netns", "exec", "cai-vmnet", "sh", "-ec", f"echo {value} >/proc/sys/net/{name}"], check=True)
    c = ctr("sh", "-c", "echo sysctls $(cat /proc/sys/net/ipv4/conf/eth0/arp_announce /proc/sys/net/ipv6/conf/eth0/hop_limit); "
            "ip addr show eth0; ip route; ping -c 1 -W 5 " + HOST_IP + " >/dev/null && echo reached; "
            "cat /sys/class/net/eth0/mtu; while :; do sleep 0.1; done")
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
    config.namespaces(c.conf, paths={"network": netns})
    c.create("--isolation", "vm", "--hypervisor", "qemu", timeout=BOOT)
    c.start()
    c.wait_output("\n1400\n", timeout=60)
    out = c.output()
    assert f"inet {IP}/24" in out and f"default via {HOST_IP}" in out and "reached" in out, out
    assert "sysctls 2 33\n" in out, out
    assert answers(), "the guest"
    c.kill("KILL")
    c.wait(timeout=30)
    c.delete()
    assert answers(), "the namespace's own kernel again"
    tc = subprocess.run(["tc", "-n", "cai-vmnet", "qdisc", "show"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "ingress" not in tc, tc


def test_several_queues(ctr, netns):
    """An interface has as many queues in each direction as the microVM has vCPUs, and the guest uses all of them."""
    c = ctr("sh", "-c", "ping -c 1 -W 5 " + HOST_IP + " >/dev/null && echo queues /sys/class/net/eth0/queues/*; sleep 1000")
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"vcpus": 2}}
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
    config.namespaces(c.conf, paths={"network": netns})
    c.create("--isolation", "vm", "--hypervisor", "qemu", timeout=BOOT)
    c.start()
    c.wait_output("queues", timeout=60)
    assert [os.path.basename(q) for q in c.output().split()[1:]] == ["rx-0", "rx-1", "tx-0", "tx-1"]
    assert answers(), "the guest"
    c.kill("KILL")
    c.wait(timeout=30)
    c.delete()


def test_vhost_net_is_neither_true_nor_false(ctr):
    c = ctr("true")
    c.conf["annotations"] = {"io.caisson.vm.vhost-net": "maybe"}
    c.run("--isolation", "vm").failed("annotation io.caisson.vm.vhost-net", '"maybe"', "expected true or false")
