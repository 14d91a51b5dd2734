# SPDX-License-Identifier: Apache-2.0
"""Tests real programs on a Debian root file system: nginx and redis, reached through a veth pair."""
import socket
import urllib.request

import pytest
from harness import config, network, rootfs
from harness.runtime import wait_for

HOST_IP, IP = "10.213.9.1", "10.213.9.2"


@pytest.fixture
def deb(ctr, debian):
    """A container in one of the test's network namespaces, whose root is an overlay over the cached Debian tree."""
    def make(*args):
        c = ctr(*args, bundle=over(debian))
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + config.DAEMON_CAPS
        config.namespaces(c.conf, paths={"network": path})
        return c

    with network.veth("cai-real", HOST_IP, IP) as path, rootfs.overlays(ctr) as over:
        yield make


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
