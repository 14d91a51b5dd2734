# SPDX-License-Identifier: Apache-2.0
"""
One bundle, two depths of isolation: a PostgreSQL cluster that a container in namespaces makes is served by a microVM, and
what was written there is there afterwards; iperf3 through a network that was carried in. On QEMU in software, where the
load is small, and in the test host on the built-in machine.
"""
import json
import os
import re
import subprocess

import pytest

from harness import config, machine, mode, rootfs

TEST_HOST = bool(os.environ.get("CAISSON_TEST_HOST"))
HYPERVISOR = "kvm" if TEST_HOST else "qemu"
BOOT = 240
DATA = "/var/lib/postgresql/t"
OPTIONS = "-c listen_addresses= -c unix_socket_directories=/tmp"
NS, HOST_IP, IP = "cai-vmreal", "10.213.12.1", "10.213.12.2"


def in_microvm(c, memory=1 << 29):
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"memory": memory, "vcpus": 2}}
    return ["--isolation", "vm", "--hypervisor", HYPERVISOR]


@pytest.fixture
def debian(ctr):
    """A bundle whose root is a Debian with these packages, beneath an overlay."""
    mounted = []

    def make(*packages):
        b = ctr.bundle(copy=False)
        for d in ("rootfs", "up", "wk"):
            os.mkdir(os.path.join(b, d))
        machine.mount("overlay", b + "/rootfs", "overlay", data=f"lowerdir={rootfs.debian(*packages)},upperdir={b}/up,workdir={b}/wk")
        mounted.append(b + "/rootfs")
        return b

    yield make
    ctr.clean()
    for path in mounted:
        machine.umount(path, 0)


@pytest.fixture
def postgres(ctr, debian):
    b = debian("postgresql", "postgresql-contrib")

    def make(script):
        c = ctr("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "sh", "-ec", script, bundle=b)
        c.conf["process"]["env"] = ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        c.conf["process"]["noNewPrivileges"] = False
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
        return c

    return make


HISTORY = f"""pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start
psql -h /tmp -At -c 'select count(*) from pgbench_history' postgres; pg_ctl -D {DATA} -w stop >/tmp/stop"""


def history(c, *options):
    return int(c.run(*options, timeout=BOOT).ok().out.split()[0])


def serve(c, options):
    """A server in a microVM, fifty transactions of two clients, and its orderly end."""
    c.create(*options, timeout=BOOT)
    c.start(timeout=BOOT)
    c.wait_output("ready to accept connections", timeout=BOOT)
    r = c.exec("pgbench", "-h", "/tmp", "-U", "postgres", "-n", "-c", "2", "-t", "25", "postgres", timeout=BOOT).ok()
    assert re.search(r"transactions actually processed: 50/50", r.out), r
    c.kill("INT")
    c.wait(timeout=60)
    assert "database system is shut down" in c.output()
    c.delete()
    return r.out


@pytest.mark.parametrize("storage", ["share", "image"] if TEST_HOST else ["share"])
def test_postgres(postgres, storage, tmp, capsys):
    first = postgres(f"initdb -D {DATA} -A trust -N >/dev/null; pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start; "
                     f"pgbench -h /tmp -i -s 1 postgres 2>&1; pg_ctl -D {DATA} -w stop >/tmp/stop")
    first.run(timeout=BOOT).ok()
    assert history(postgres(HISTORY)) == 0
    server = postgres(f"exec postgres -D {DATA} {OPTIONS} 2>&1")
    options = in_microvm(server)
    image = os.path.join(tmp, "root.img")
    if storage == "image":
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", server.rootfs, image, "1G"], check=True)
        server.conf["vm"]["image"] = {"path": image, "format": "raw"}
    out = serve(server, options)
    with capsys.disabled():
        print(f"\npgbench in a microVM, {storage}: {re.search('tps = [0-9.]+', out)[0]}")
    if storage == "share":
        assert history(postgres(HISTORY)) == 50, "what the microVM wrote is on the host"
        return
    assert history(postgres(HISTORY)) == 0, "the image was a copy"
    subprocess.run(["e2fsck", "-fn", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    again = postgres(HISTORY)
    options = in_microvm(again)
    again.conf["vm"]["image"] = {"path": image, "format": "raw"}
    assert history(again, *options) == 50, "what the microVM wrote is in the image"


@pytest.fixture
def network():
    for cmd in (f"ip netns add {NS}", f"ip link add caireal0 type veth peer name eth0 netns {NS}",
                f"ip addr add {HOST_IP}/24 dev caireal0", "ip link set caireal0 up", f"ip -n {NS} addr add {IP}/24 dev eth0",
                f"ip -n {NS} link set eth0 up", f"ip -n {NS} link set lo up"):
        subprocess.run(cmd.split(), check=True)
    yield f"/run/netns/{NS}"
    subprocess.run(["ip", "link", "del", "caireal0"], check=True)
    subprocess.run(["ip", "netns", "del", NS], check=True)
    subprocess.run(["umount", "-l", "/run/netns"], stderr=subprocess.DEVNULL)


def test_iperf3(ctr, debian, network, capsys):
    b = debian("iperf3")
    rates = {}
    with subprocess.Popen(["iperf3", "-s", "-B", HOST_IP], stdout=subprocess.DEVNULL) as server:
        try:
            for way, reverse in (("sent", []), ("received", ["-R"])):
                c = ctr("iperf3", "-c", HOST_IP, "-t", "3", "-J", *reverse, bundle=b)
                options = in_microvm(c)
                config.namespaces(c.conf, paths={"network": network})
                end = json.loads(c.run(*options, timeout=BOOT).ok().out)["end"]
                rates[f"Mbit/s {way}"] = round(end["sum_received"]["bits_per_second"] / 1e6)
                assert end["sum_received"]["bytes"] > 1 << 20, end
        finally:
            server.kill()
    with capsys.disabled():
        print(f"\niperf3 in a microVM: {rates}")
