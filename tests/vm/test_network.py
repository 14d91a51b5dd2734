# SPDX-License-Identifier: Apache-2.0
"""A network namespace that outlives the microVM: carried into the guest, and the host's again afterwards."""
import subprocess

import pytest

from harness import config, mode, rootfs

NS, HOST_IP, IP = "cai-vmnet", "10.213.11.1", "10.213.11.2"
BOOT = 150


@pytest.fixture
def network():
    for cmd in (f"ip netns add {NS}", f"ip link add caivm0 type veth peer name eth0 netns {NS}",
                f"ip addr add {HOST_IP}/24 dev caivm0", "ip link set caivm0 up", f"ip -n {NS} addr add {IP}/24 dev eth0",
                f"ip -n {NS} link set eth0 up mtu 1400", f"ip -n {NS} link set lo up",
                f"ip -n {NS} route add default via {HOST_IP}"):
        subprocess.run(cmd.split(), check=True)
    yield f"/run/netns/{NS}"
    subprocess.run(["ip", "link", "del", "caivm0"], check=True)
    subprocess.run(["ip", "netns", "del", NS], check=True)
    subprocess.run(["umount", "-l", "/run/netns"], stderr=subprocess.DEVNULL)


def answers():
    r = subprocess.run(["busybox", "ping", "-c", "1", "-W", "2", IP], stdout=subprocess.PIPE)
    return r.returncode == 0


def test_carried_in_and_given_back(ctr, network):
    assert answers(), "the namespace's own kernel"
    c = ctr("sh", "-c", "ip addr show eth0; ip route; ping -c 1 -W 5 " + HOST_IP + " >/dev/null && echo reached; "
            "cat /sys/class/net/eth0/mtu; while :; do sleep 0.1; done")
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
    config.namespaces(c.conf, paths={"network": network})
    c.create("--isolation", "vm", "--hypervisor", "qemu", timeout=BOOT)
    c.start()
    c.wait_output("\n1400\n", timeout=60)
    out = c.output()
    assert f"inet {IP}/24" in out and f"default via {HOST_IP}" in out and "reached" in out, out
    assert answers(), "the guest"
    c.kill("KILL")
    c.wait(timeout=30)
    c.delete()
    assert answers(), "the namespace's own kernel again"
    tc = subprocess.run(["tc", "-n", NS, "qdisc", "show"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "ingress" not in tc, tc
