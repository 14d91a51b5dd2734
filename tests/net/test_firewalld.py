# SPDX-License-Identifier: Apache-2.0
"""Tests networks beside a real firewalld, which runs in the tests' own namespaces, with a D-Bus of its own."""
import os
import shutil
import subprocess

import pytest

from conftest import address, call, until
from harness import machine
from test_names import lookup


def zone(interface):
    return call("firewall-cmd", f"--get-zone-of-interface={interface}").out.strip()


class Firewalld:
    def start(self):
        self.process = subprocess.Popen(["firewalld", "--nofork", "--nopid"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: call("firewall-cmd", "--state").rc == 0, 60)

    def stop(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def firewalld(net, outside, tmp):
    if call("sh", "-c", "command -v firewalld && command -v dbus-daemon").rc:
        pytest.fail("firewalld or dbus-daemon is missing: tests/lib/packages.sh installs them")
    for path in "/run/dbus", "/run/firewalld":
        os.makedirs(path, exist_ok=True)
    copy = os.path.join(tmp, "firewalld")
    shutil.copytree("/etc/firewalld", copy)
    subprocess.run(["mount", "--bind", copy, "/etc/firewalld"], check=True)
    bus = subprocess.Popen(["dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog"], stderr=subprocess.DEVNULL)
    until(lambda: os.path.exists("/run/dbus/system_bus_socket"))
    f = Firewalld()
    f.start()
    yield f
    f.stop()
    bus.terminate()
    bus.wait()
    machine.umount("/etc/firewalld")
    call("rm", "-rf", "/run/dbus", "/run/firewalld").ok()
    call("nft", "flush", "ruleset").ok()


def all_works(net, record):
    """Checks published ports from outside and over loopback, in IPv4 and IPv6, connections to the outside, and names."""
    gateway = next(a["gateway"] for a in record["addresses"] if "." in a["gateway"])
    assert net.ask("192.0.2.1", 8080, ns="outside") == "192.0.2.2"
    assert net.ask("2001:db8::1", 8080, ns="outside") == "2001:db8::2"
    assert net.ask("127.0.0.1", 8080) == gateway
    assert net.ask("192.0.2.2", 81, ns="c1") == "192.0.2.1"
    assert net.ask("2001:db8::2", 81, ns="c1") == "2001:db8::1"
    assert lookup(gateway, "one", ns="c1") == address(record)
    return True


def test_beside_firewalld(net, firewalld):
    """All works before and after firewalld's reload, and after a new firewalld and a reload of the networks."""
    net("create", "web", "--interface", "br9").ok()
    assert zone("br9") == "trusted"
    record = net.attach("web", "c1", "-p", "8080:80", "--name", "one")
    net.serve("c1")
    net.serve("outside", port=81)
    assert all_works(net, record)
    for how in "--reload", "--complete-reload":
        call("firewall-cmd", how).ok()
        assert all_works(net, record), how
    # Other networks of caisson are not reached, although all of their bridges are in the zone.
    net("create", "other", "--interface", "br8").ok()
    other = net.attach("other", "c2")
    net.serve("c2")
    assert net.ask(address(other), 80, ns="c1", timeout=1) in ("timeout", "ECONNREFUSED", "EHOSTUNREACH")
    net("rm", "--force", "other").ok()
    # A firewalld that was installed after the network was made does not know it, so caisson-net.service runs `reload` after firewalld's start.
    call("firewall-cmd", "--permanent", "--zone=trusted", "--remove-interface=br9").ok()
    firewalld.stop()
    firewalld.start()
    assert not zone("br9")
    assert "firewalld: put br9 into the zone trusted" in net("reload", "--dry-run").ok().out
    net("reload").ok()
    assert all_works(net, record)
    net("rm", "--force", "web").ok()
    for which in [], ["--permanent"]:
        assert "br9" not in call("firewall-cmd", "--list-all-zones", *which).out


def test_the_zone_of_an_administrator(net, firewalld):
    """A bridge that an administrator has put into another zone stays there."""
    call("firewall-cmd", "--zone=internal", "--add-interface=br9").ok()
    net("create", "web", "--interface", "br9").ok()
    net("reload").ok()
    assert zone("br9") == "internal"
    net("rm", "web").ok()
    assert zone("br9") == "internal"


def test_a_bridge_that_has_gone(net, firewalld):
    """The zone is forgotten with the network, although its bridge has gone before, as after a reboot."""
    net("create", "web", "--interface", "br9").ok()
    call("ip", "link", "del", "br9").ok()
    net("rm", "web").ok()
    for which in [], ["--permanent"]:
        assert "br9" not in call("firewall-cmd", "--list-all-zones", *which).out


def test_a_network_that_is_removed_while_firewalld_does_not_run(net, firewalld):
    """The firewalld that starts later does not trust the name of the bridge any more."""
    net("create", "web", "--interface", "br9").ok()
    firewalld.stop()
    net("rm", "web").ok()
    firewalld.start()
    assert "br9" not in call("firewall-cmd", "--list-all-zones", "--permanent").ok().out and not zone("br9")


def test_a_firewalld_that_does_not_run_is_asked_only_if_its_file_names_the_bridge(net, tmp):
    """firewall-offline-cmd is slow. Without firewalld a network is removed without it."""
    def programs():
        net("create", "web", "--interface", "br9").ok()
        trace = os.path.join(tmp, "trace")
        call("strace", "-f", "-qq", "-e", "trace=execve", "-o", trace, *net.command("rm", "web")).ok()
        with open(trace) as f:
            return f.read()

    assert "firewall-offline-cmd" not in programs()
    os.makedirs(os.path.join(tmp, "zones"))
    with open(os.path.join(tmp, "zones", "trusted.xml"), "w") as f:
        f.write('<zone target="ACCEPT"><short>Trusted</short><description/><interface name="br9"/></zone>\n')
    machine.mount(os.path.join(tmp, "zones"), "/etc/firewalld/zones", flags=4096)
    try:
        assert "--remove-interface=br9" in programs()
        with open(os.path.join(tmp, "zones", "trusted.xml")) as f:
            assert "br9" not in f.read()
    finally:
        machine.umount("/etc/firewalld/zones")
