# SPDX-License-Identifier: Apache-2.0
"""Real programs on a Debian root file system: nginx and redis, reached through a veth pair."""
import os
import socket
import subprocess
import urllib.request

import pytest
from harness import config, machine
from harness.runtime import wait_for

NS, HOST_IP, IP = "cai-real", "10.213.9.1", "10.213.9.2"


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


@pytest.fixture
def deb(ctr, debian, network):
    """A container on an overlay over the cached Debian tree, in the network namespace."""
    made = []

    def make(*args):
        b = ctr.bundle(copy=False)
        for d in ("rootfs", "up", "wk"):
            os.mkdir(os.path.join(b, d))
        machine.mount("overlay", b + "/rootfs", "overlay", data=f"lowerdir={debian},upperdir={b}/up,workdir={b}/wk")
        made.append(b)
        c = ctr(*args, bundle=b)
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
        config.namespaces(c.conf, paths={"network": network})
        return c

    yield make
    ctr.clean()
    for b in made:
        machine.umount(b + "/rootfs", 0)


def answers(f):
    def go():
        try:
            return f()
        except OSError:
            return None
    return go


def test_nginx(deb):
    c = deb("nginx", "-g", "daemon off; error_log stderr;")
    with open(c.path("/var/www/html/index.html"), "w") as f:
        f.write("a page from inside")
    c.write()
    with open(c.log, "wb") as log:
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=log, stderr=log)
    get = answers(lambda: urllib.request.urlopen(f"http://{IP}/", timeout=2).read())
    wait_for(lambda: get() == b"a page from inside", "nginx's answer")
    assert c.exec("cat", "/etc/debian_version").ok().out.startswith("12")
    assert len(c.rt("ps", "-f", "json", c.id).json()) >= 2
    c.kill("TERM")
    assert p.wait(10) == 0
    assert not c.exists()


def test_nginx_dies_of_sigkill_with_137(deb):
    c = deb("nginx", "-g", "daemon off;").write()
    with open(c.log, "wb") as log:
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=log, stderr=log)
    get = answers(lambda: urllib.request.urlopen(f"http://{IP}/", timeout=2).read())
    wait_for(get, "nginx's answer")
    c.kill("KILL")
    assert p.wait(10) == 137


def test_redis(deb):
    c = deb("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp")
    c.up()

    def talk(*words):
        with socket.create_connection((IP, 6379), timeout=2) as s:
            s.sendall((" ".join(words) + "\r\n").encode())
            return s.recv(4096)

    wait_for(answers(lambda: talk("PING") == b"+PONG\r\n"), "redis's PONG")
    assert talk("SET", "box", "dry") == b"+OK\r\n"
    assert talk("GET", "box") == b"$3\r\ndry\r\n"
    assert c.exec("redis-cli", "GET", "box").ok().out == "dry\n"
    c.rt("pause", c.id).ok()
    with pytest.raises(OSError):
        talk("PING")
    c.rt("resume", c.id).ok()
    assert talk("GET", "box") == b"$3\r\ndry\r\n"
    c.kill("TERM")
    c.wait()
    assert "bye bye" in c.output(), "redis ended in its own good order"
    c.delete()
