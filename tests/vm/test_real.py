# SPDX-License-Identifier: Apache-2.0
"""Tests real programs with both kinds of isolation: a container in namespaces makes a PostgreSQL cluster, a microVM
serves it, and the data that was written is there afterwards; nginx and iperf3 use a network that was carried in; a
tree of files is unpacked on the share. They run on QEMU in software, where the load is small, and in the test host on
the built-in machine. CAISSON_TEST_TREE names another tree, a directory or an archive such as linux-source-6.1's.
"""
import json
import os
import re
import subprocess
import urllib.request

import pytest

from harness import config, machine, mode, network, rootfs
from harness.runtime import wait_for

BOOT = 240
DATA = "/var/lib/postgresql/t"
OPTIONS = "-c listen_addresses= -c unix_socket_directories=/tmp"
HOST_IP, IP = "10.213.12.1", "10.213.12.2"
TREE = os.environ.get("CAISSON_TEST_TREE", "/usr/include/linux")


def in_microvm(c, image=None):
    """Returns the options for create and run. With `image` the root is a disk image, a copy of c.rootfs."""
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"memory": 1 << 29, "vcpus": 2}}
    if image:
        c.conf["vm"]["image"] = {"path": image, "format": "raw"}
    return ["--isolation", "vm", "--hypervisor", mode.HYPERVISOR]


@pytest.fixture
def debian(ctr):
    """Makes a bundle whose root is an overlay over a Debian with these packages."""
    with rootfs.overlays(ctr) as over:
        yield lambda *packages: over(rootfs.debian(*packages))


@pytest.fixture
def postgres(ctr, debian):
    b = debian("postgresql", "postgresql-contrib")

    def make(script):
        c = ctr("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "sh", "-ec", script, bundle=b)
        c.conf["process"]["env"] = ["PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        c.conf["process"]["noNewPrivileges"] = False
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + config.DAEMON_CAPS
        return c

    return make


HISTORY = f"""pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start
psql -h /tmp -At -c 'select count(*) from pgbench_history' postgres; pg_ctl -D {DATA} -w stop >/tmp/stop"""


def history(c, *options):
    return int(c.run(*options, timeout=BOOT).ok().out.split()[0])


def serve(c, options):
    """Runs a PostgreSQL server in a microVM, with fifty transactions of two clients and an orderly shutdown."""
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


@pytest.mark.parametrize("storage", ["share", "image"] if machine.ON_TEST_HOST else ["share"])
def test_postgres(postgres, storage, tmp, capsys):
    first = postgres(f"initdb -D {DATA} -A trust -N >/dev/null; pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start; "
                     f"pgbench -h /tmp -i -s 1 postgres 2>&1; pg_ctl -D {DATA} -w stop >/tmp/stop")
    first.run(timeout=BOOT).ok()
    assert history(postgres(HISTORY)) == 0
    server = postgres(f"exec postgres -D {DATA} {OPTIONS} 2>&1")
    image = os.path.join(tmp, "root.img") if storage == "image" else None
    if image:
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", server.rootfs, image, "1G"], check=True)
    out = serve(server, in_microvm(server, image))
    with capsys.disabled():
        print(f"\npgbench in a microVM, {storage}: {re.search('tps = [0-9.]+', out)[0]}")
    if not image:
        assert history(postgres(HISTORY)) == 50, "what the microVM wrote is on the host"
        return
    assert history(postgres(HISTORY)) == 0, "the image was a copy"
    subprocess.run(["e2fsck", "-fn", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    again = postgres(HISTORY)
    assert history(again, *in_microvm(again, image)) == 50, "what the microVM wrote is in the image"


@pytest.mark.skipif(not machine.ON_TEST_HOST, reason="checkpoints need KVM, which the test host has")
def test_postgres_in_a_checkpoint(postgres, tmp):
    """The server is saved under load, killed and restored: every transaction that it has confirmed is there."""
    clients, each, image = 2, 60, os.path.join(tmp, "image")
    postgres(f"initdb -D {DATA} -A trust -N >/dev/null; pg_ctl -D {DATA} -w -o '{OPTIONS}' start >/tmp/start; "
             f"pgbench -h /tmp -i -s 1 postgres 2>&1; pg_ctl -D {DATA} -w stop >/tmp/stop").run(timeout=BOOT).ok()
    c = postgres(f"postgres -D {DATA} {OPTIONS} & until pg_isready -q -h /tmp; do sleep 1; done; "
                 f"pgbench -h /tmp -n -P 1 -c {clients} -t {each} postgres 2>&1; "
                 f"echo rows $(psql -h /tmp -At -c 'select count(*) from pgbench_history' postgres); "
                 f"pg_ctl -D {DATA} -w stop")
    options = in_microvm(c)
    c.create(*options, timeout=BOOT)
    c.start(timeout=BOOT)
    c.wait_output("progress: ", timeout=BOOT)
    c.rt("checkpoint", "--image-path", image, c.id, timeout=BOOT).ok()
    assert not c.exists() and "rows" not in c.output()
    with open(c.log, "ab") as log:
        c.rt("restore", "--detach", "--isolation", "vm", "--image-path", image, "--bundle", c.bundle, c.id, stdout=log,
             timeout=BOOT).ok()
    c.wait(timeout=BOOT)
    c.delete()
    assert f"transactions actually processed: {clients * each}/{clients * each}" in c.output(), c.output()
    assert f"\nrows {clients * each}\n" in c.output(), c.output()
    assert history(postgres(HISTORY)) == clients * each, "they are on the host's disk too"


def test_iperf3(ctr, debian, capsys):
    b = debian()
    rates = {}
    with network.veth("cai-vmreal", HOST_IP, IP) as path, \
         subprocess.Popen(["iperf3", "-s", "-B", HOST_IP], stdout=subprocess.DEVNULL) as server:
        try:
            for way, reverse in (("sent", []), ("received", ["-R"])):
                c = ctr("iperf3", "-c", HOST_IP, "-t", "3", "-J", *reverse, bundle=b)
                options = in_microvm(c)
                config.namespaces(c.conf, paths={"network": path})
                end = json.loads(c.run(*options, timeout=BOOT).ok().out)["end"]
                rates[f"Mbit/s {way}"] = round(end["sum_received"]["bits_per_second"] / 1e6)
                assert end["sum_received"]["bytes"] > 1 << 17, end
        finally:
            server.kill()
    with capsys.disabled():
        print(f"\niperf3 in a microVM: {rates}")


def test_nginx(ctr, debian):
    c = ctr("nginx", "-g", "daemon off; error_log stderr;", bundle=debian())
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + config.DAEMON_CAPS
    options = in_microvm(c)
    with network.veth("cai-vmreal", HOST_IP, IP) as path:
        config.namespaces(c.conf, paths={"network": path})
        c.create(*options, timeout=BOOT).ok()
        c.start(timeout=BOOT).ok()

        def page():
            try:
                with urllib.request.urlopen(f"http://{IP}/", timeout=5) as r:
                    return b"Welcome to nginx" in r.read()
            except OSError:
                return False
        wait_for(page, "page of nginx", 60)
        c.kill("QUIT")
        c.wait(timeout=60)
        c.delete()


def test_tree(ctr, tmp):
    """Files that a microVM unpacks are on the host, files that the host writes appear in the microVM, and removed
    files are gone."""
    c = ctr.sh("mkdir /t; busybox tar -C /t -xf /tree.tar && echo unpacked; until [ -e /go ]; do sleep 0.2; done; rm -rf /t && echo removed")
    c.conf["root"]["readonly"] = False
    archive, copy = c.path("/tree.tar"), os.path.join(tmp, "copy")
    if os.path.isdir(TREE):
        subprocess.run(["tar", "-C", TREE, "-cf", archive, "."], check=True)
    else:
        with open(archive, "wb") as f:
            subprocess.run(["xz", "-dc", TREE], stdout=f, check=True)
    os.mkdir(copy)
    subprocess.run(["tar", "-C", copy, "-xf", archive], check=True)
    c.create(*in_microvm(c), timeout=BOOT).ok()
    c.start(timeout=BOOT).ok()
    c.wait_output("unpacked", timeout=3 * BOOT)
    subprocess.run(["diff", "-r", "--no-dereference", copy, c.path("/t")], check=True)
    with open(c.path("/go"), "w", encoding="ascii"):
        pass
    c.wait_output("removed", timeout=BOOT)
    assert not os.path.exists(c.path("/t"))
    c.wait()
    c.delete()
