# SPDX-License-Identifier: Apache-2.0
"""Kinds of networks beside the bridge: macvlan, interfaces that move, bridges with ports. VLANs, bonds and ipvlans, which need Debian's kernel,
are in test_stacks.py; here a kernel without them answers."""
import json
import os
import subprocess

import pytest

from conftest import address, call, details, ip, port, ruleset, state, until
from harness import machine
from test_crash import kill_everywhere


@pytest.fixture
def card(net):
    """The interface `card0` of the host, which is down; its cable leads to `lan`, which has 192.0.2.2."""
    net.namespace("lan")
    port("card0", "port0", "lan", "192.0.2.2/24", "2001:db8::2/64")
    yield "card0"
    call("ip", "link", "del", "card0").ok()


def macvlan(net, *options, name="phys"):
    return net("create", "--kind", "macvlan", "--parent", "card0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2", "--range",
               "192.0.2.100-192.0.2.101", *options, name)


# ---- macvlan ----

def test_macvlan(net, card):
    """Containers are machines of the parent's network. The parent was down, is up meanwhile, and then down again."""
    before = state(), details("card0")
    dry = macvlan(net, "--dry-run").ok().out
    assert "card0: set it up" in dry and (state(), details("card0")) == before
    made = json.loads(macvlan(net, "--json").ok().out)
    assert made["kind"] == "macvlan" and made["parent"] == "card0" and made["mode"] == "bridge" and "interface" not in made
    assert "UP" in ip("link", "show", "card0")[0]["flags"] and ruleset() == before[0]["rules"]
    with_network = state(), details("card0")
    records = [net.attach("phys", c) for c in ("c1", "c2")]
    assert [address(r) for r in records] == ["192.0.2.100", "192.0.2.101"]
    inside = details("eth0", "c1")
    assert inside["kind"] == "macvlan" and inside["data"]["mode"] == "bridge" and inside["mac"] == records[0]["mac"]
    assert inside["addresses"] == [("192.0.2.100", 24)] and inside["up"]
    assert [r["gateway"] for r in ip("route", "show", "default", ns="c1")] == ["192.0.2.2"]
    net.serve("c1")
    net.serve("lan")
    assert net.ask("192.0.2.100", 80, ns="lan") == "192.0.2.2"
    assert net.ask("192.0.2.100", 80, ns="c2") == "192.0.2.101"
    assert net.ask("192.0.2.2", 80, ns="c1") == "192.0.2.100"
    assert net("inspect", "--check", "phys").json()["faults"] == []
    for c in ("c1", "c2"):
        net("detach", "phys", "/run/netns/" + c).ok()
        assert [l["ifname"] for l in ip("link", ns=c)] == ["lo"]
    assert (state(), details("card0")) == with_network
    net("rm", "phys").ok()
    assert (state(), details("card0")) == before


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_modes_of_macvlan(net, card, mode):
    """In a private network and in one that leaves switching to a switch which does not send back, containers do not reach each other. A passthru
    network has one container."""
    macvlan(net, "--mode", mode).ok()
    record = net.attach("phys", "c1")
    inside = details("eth0", "c1")
    assert inside["data"]["mode"] == mode and inside["mac"] == record["mac"]
    assert (record["mac"] == details("card0")["mac"]) == (mode == "passthru")
    assert net("inspect", "--check", "phys").json()["faults"] == []
    net.serve("c1")
    assert net.ask("192.0.2.100", 80, ns="lan") == "192.0.2.2"
    if mode == "passthru":
        net.namespace("c2")
        net("attach", "phys", "/run/netns/c2").failed("macvlan on card0", "passthru one already")
        assert len(net("inspect", "phys").json()["attachments"]) == 1
        net("detach", "phys", "/run/netns/c1").ok()
        wanted = "phys:mac=02:00:00:00:00:09"
        net("join", "c2", "/run/netns/c2", "--network", wanted).failed("MAC address", "kind macvlan and mode passthru", "expected none")
    else:
        net.attach("phys", "c2")
        reached = net.ask("192.0.2.100", 80, ns="c2", timeout=2)
        assert (reached == "192.0.2.101") == (mode == "bridge"), reached
    net("rm", "--force", "phys").ok()


def test_the_interface_without_pools(net, card):
    """Without --subnet the container gets its addresses from the network itself."""
    net("create", "--kind", "macvlan", "--parent", "card0", "phys").ok()
    record = net.attach("phys", "c1")
    assert record["addresses"] == [] and details("eth0", "c1")["addresses"] == [] and details("eth0", "c1")["up"]
    net("detach", "phys", "/run/netns/c1").ok()
    assert net.files() == ["config/phys.json", "run/lock", "run/members", "run/members/card0"]
    net("rm", "phys").ok()


def test_internal_has_no_default_route(net, card):
    macvlan(net, "--internal").ok()
    net.attach("phys", "c1")
    assert ip("route", "show", "default", ns="c1") == []
    net("rm", "--force", "phys").ok()


def test_a_container_that_renames_its_interface(net, card):
    """Detach finds it by its mark, and a namespace that has gone, or that took another's path, is no error."""
    macvlan(net).ok()
    for c in ("c1", "c2"):
        net.attach("phys", c)
    for words in ("link set eth0 down", "link set eth0 name wan7", "link set wan7 up"):
        call("ip", "-n", "c1", *words.split()).ok()
    net("detach", "phys", "/run/netns/c1").ok()
    assert [l["ifname"] for l in ip("link", ns="c1")] == ["lo"]
    net.drop("c2")
    net.namespace("c2")
    call("ip", "-n", "c2", "link", "add", "eth0", "type", "bridge").ok()
    net("detach", "phys", "/run/netns/c2").ok()
    assert [l["ifname"] for l in ip("link", ns="c2")] == ["lo", "eth0"]
    assert net("inspect", "phys").json()["attachments"] == []
    net("rm", "phys").ok()


def test_a_namespace_that_has_gone_frees_its_addresses(net, card):
    macvlan(net).ok()
    for c in ("c1", "c2"):
        net.attach("phys", c)
    net.drop("c1")
    net.drop("c2")
    assert address(net.attach("phys", "c3")) in ("192.0.2.100", "192.0.2.101")
    net("rm", "--force", "phys").ok()


def test_what_these_kinds_refuse(net, card):
    macvlan(net).ok()
    net.namespace("c1")
    net("attach", "phys", "/run/netns/c1", "-p", "8080:80").failed("-p", "macvlan", "no port of it can be published")
    net("attach", "phys", "/run/netns/c1", "--ip", "192.0.2.2").failed("192.0.2.2")
    macvlan(net, name="other").failed("192.0.2.0/24", "network phys")
    call("ip", "link", "set", "card0", "name", "card9").ok()
    net("attach", "phys", "/run/netns/c1").failed("network phys", "parent: interface card0 does not exist")
    call("ip", "link", "set", "card9", "name", "card0").ok()
    net("rm", "phys").ok()
    net("create", "--kind", "macvlan", "--parent", "nope", "x").failed("parent: interface nope does not exist")
    assert net.files() == ["run/lock"]


@pytest.mark.parametrize("mtu,words", [("67", "from 68 to 65535"), ("65536", "number from 1 to 65535"), ("1501", "at most 1500, the MTU of its parent card0"),
                                       ("68", ""), ("1500", "")])
def test_the_bounds_of_mtu_of_macvlan(net, card, mtu, words):
    """The kernel answers an MTU out of range with EINVAL and no word."""
    r = macvlan(net, "--mtu", mtu)
    if words and r.rc == 0:
        net.namespace("c1")
        net("attach", "phys", "/run/netns/c1").failed("mtu", words)
    elif words:
        r.failed("mtu", words)
        return
    else:
        net.attach("phys", "c1")
        assert details("eth0", "c1")["mtu"] == int(mtu)
        assert net("inspect", "--check", "phys").json()["faults"] == []
    net("rm", "--force", "phys").ok()


@pytest.mark.slow
def test_macvlan_is_killed_at_every_step(net, card):
    macvlan(net).ok()
    path = net.namespace("c1")
    inside = [l["ifname"] for l in ip("link", ns="c1")]

    def undo():
        net("detach", "phys", path).ok()
        assert [l["ifname"] for l in ip("link", ns="c1")] == inside
    before = state(), net.files()
    kill_everywhere(net, ["attach", "phys", path], lambda: None, undo, before)
    kill_everywhere(net, ["detach", "phys", path], lambda: net("attach", "phys", path).ok(), undo, before)
    net("rm", "phys").ok()


# ---- interfaces that move ----

@pytest.fixture
def moving(net, card):
    """card0 is up and has addresses, an alternative name and an alias."""
    for words in ("link set card0 up", "addr add 192.0.2.1/24 dev card0", "addr add 2001:db8::1/64 dev card0 nodad",
                  "link property add dev card0 altname first-card", "link set card0 alias uplink"):
        call("ip", *words.split()).ok()
    return card


def test_a_device_moves_in_and_back(net, moving):
    before = state(), details("card0")
    net("create", "--kind", "device", "--parent", "card0", "--subnet", "198.51.100.0/24", "dev").ok()
    assert (state(), details("card0")) == before, "it stays what it is until a container gets it"
    net.namespace("c1")
    dry = net("attach", "--dry-run", "dev", "/run/netns/c1").ok().out
    assert "card0: move it into /run/netns/c1 as eth0" in dry and (state(), details("card0")) == before
    record = net.attach("dev", "c1")
    assert record["before"]["name"] == "card0" and record["mac"] == before[1]["mac"]
    inside = details("eth0", "c1")
    assert inside["addresses"] == [("192.0.2.1", 24), ("198.51.100.2", 24), ("2001:db8::1", 64)] and inside["up"] and inside["mac"] == before[1]["mac"]
    assert "card0" not in [l["ifname"] for l in ip("link")]
    net.serve("c1")
    assert net.ask("192.0.2.1", 80, ns="lan") == "192.0.2.2"
    assert net("inspect", "--check", "dev").json()["faults"] == []
    net.namespace("c2")
    net("attach", "dev", "/run/netns/c2").failed("network dev", "card0 does not exist on the host", "another container")
    # What the container changes is undone too.
    for words in ("link set eth0 down", "link set eth0 name wan7", "link set wan7 mtu 1400"):
        call("ip", "-n", "c1", *words.split()).ok()
    faults = net("inspect", "--check", "dev").json()["faults"]
    assert len(faults) == 1 and "eth0" in faults[0]
    net("detach", "dev", "/run/netns/c1").ok()
    assert (state(), details("card0")) == before
    net("rm", "dev").ok()
    assert (state(), details("card0")) == before


def test_a_device_by_its_alternative_name(net, moving):
    net("create", "--kind", "device", "--parent", "first-card", "dev").ok()
    before = state(), details("card0")
    assert net.attach("dev", "c1")["before"]["name"] == "card0"
    net("detach", "dev", "/run/netns/c1").ok()
    assert (state(), details("card0")) == before
    net("rm", "dev").ok()


def test_a_device_whose_namespace_ended(net, moving):
    """A namespace is kept until the interface is back on the host, because the kernel removes virtual interfaces with theirs."""
    net("create", "--kind", "device", "--parent", "card0", "dev").ok()
    before = state(), details("card0")
    net.attach("dev", "c1")
    net.drop("c1")
    net("detach", "dev", "/run/netns/c1").ok()
    assert (state(), details("card0")) == before
    # Without a detach, the next container that wants it finds it.
    net.attach("dev", "c1")
    net.drop("c1")
    net.attach("dev", "c2")
    net("detach", "dev", "/run/netns/c2").ok()
    assert (state(), details("card0")) == before
    net("rm", "dev").ok()


def test_a_device_that_somebody_moved_back(net, moving):
    """It may be down then, without its addresses, and have another name."""
    net("create", "--kind", "device", "--parent", "card0", "dev").ok()
    before = state(), details("card0")
    net.attach("dev", "c1")
    call("ip", "-n", "c1", "link", "set", "eth0", "netns", str(os.getpid()), "name", "dev7").ok()
    assert details("dev7")["addresses"] == [] and not details("dev7")["up"]
    net("detach", "dev", "/run/netns/c1").ok()
    assert (state(), details("card0")) == before
    # It may also have been removed.
    net.attach("dev", "c1")
    call("ip", "-n", "c1", "link", "del", "eth0").ok()
    net("detach", "dev", "/run/netns/c1").ok()
    net("attach", "dev", "/run/netns/c1").failed("card0 does not exist")
    net("rm", "dev").ok()
    port("card0", "port0", "lan")


def test_a_name_that_was_taken_meanwhile(net, moving):
    net("create", "--kind", "device", "--parent", "card0", "dev").ok()
    net.attach("dev", "c1")
    call("ip", "link", "add", "card0", "type", "bridge").ok()
    net("detach", "dev", "/run/netns/c1").failed("card0", "taken")
    assert details("eth0", "c1")["mac"] and len(net("inspect", "dev").json()["attachments"]) == 1
    call("ip", "link", "del", "card0").ok()
    net("detach", "dev", "/run/netns/c1").ok()
    net("rm", "dev").ok()


def test_what_cannot_move(net, card):
    call("ip", "link", "add", "br9", "type", "bridge").ok()
    net.namespace("c1")
    net("create", "--kind", "device", "--parent", "br9", "dev").ok()
    net("attach", "dev", "/run/netns/c1").failed("br9 is a bridge or a bond", "cannot move")
    call("ip", "link", "set", "card0", "master", "br9").ok()
    net("create", "--kind", "device", "--parent", "card0", "dev2").ok()
    net("attach", "dev2", "/run/netns/c1").failed("card0 is a port of another interface")
    net("attach", "dev2", "/run/netns/c1", "-p", "80:80").failed("-p", "device")
    net("create", "--kind", "macvlan", "--parent", "card0", "phys").failed("card0", "network dev2 uses it already")
    call("ip", "link", "del", "br9").ok()
    net("rm", "dev", "dev2").ok()


@pytest.mark.slow
def test_a_move_is_killed_at_every_step(net, moving):
    net("create", "--kind", "device", "--parent", "card0", "--subnet", "198.51.100.0/24", "dev").ok()
    path = net.namespace("c1")
    before = (state(), net.files()), details("card0")

    def undo():
        net("detach", "dev", path).ok()
        assert details("card0") == before[1]
    kill_everywhere(net, ["attach", "dev", path], lambda: None, undo, before[0])
    net("rm", "dev").ok()


def test_virtual_functions(net, tmp):
    """sysfs lists the functions of a card that has them (SR-IOV). This machine has no such card, so the directory is made; the interfaces
    that move are real. An interface that has moved is not in sysfs any more, which shows those of its own namespace only."""
    net.namespace("lan")
    for i in range(3):
        port(f"card{i}", f"port{i}", "lan")
    machine.mount("sysfs", "/sys", "sysfs")  # of this namespace
    directory = os.path.realpath("/sys/class/net/card0")
    net("create", "--kind", "device", "--parent", "card0", "--functions", "vf").ok()
    net.namespace("c3")
    net("attach", "vf", "/run/netns/c3").failed("card0 has no virtual functions", "sriov_numvfs")
    machine.mount("tmpfs", directory, "tmpfs")
    try:
        os.makedirs(f"{directory}/device/virtfn0")  # a machine of another program has this one by vfio
        for i in (1, 2):
            os.makedirs(f"{directory}/device/virtfn{i}/net/card{i}")
        before = details("card1"), details("card2")
        for i, c in enumerate(("c1", "c2"), 1):
            record = net.attach("vf", c)
            assert record["before"]["name"] == f"card{i}" and record["mac"] == before[i - 1]["mac"]
            os.rmdir(f"{directory}/device/virtfn{i}/net/card{i}")
        net("attach", "vf", "/run/netns/c3").failed("all its 3 virtual functions are used")
        for c in ("c1", "c2"):
            net("detach", "vf", "/run/netns/" + c).ok()
        assert (details("card1"), details("card2")) == before
    finally:
        machine.umount(directory)
        machine.umount("/sys")
    net("rm", "vf").ok()
    for i in range(3):
        call("ip", "link", "del", f"card{i}").ok()


# ---- bridges with ports ----

def test_a_bridge_with_a_port(net, card):
    """A container is a neighbour of the machines behind the port."""
    call("ip", "-n", "lan", "addr", "add", "10.1.0.200/24", "dev", "port0").ok()
    before = state(), details("card0")
    dry = net("create", "--dry-run", "--member", "card0", "--subnet", "10.1.0.0/24", "--interface", "br9", "web").ok().out
    assert "card0: make it a member of br9" in dry and (state(), details("card0")) == before
    net("create", "--member", "card0", "--subnet", "10.1.0.0/24", "--interface", "br9", "web").ok()
    assert details("card0")["master"] == "br9" and details("card0")["up"]
    made = state(), details("card0")
    net("reload").ok()
    assert (state(), details("card0")) == made and "card0" not in net("reload", "--dry-run").ok().out
    record = net.attach("web", "c1")
    net.serve("c1")
    net.serve("lan")
    assert net.ask(address(record), 80, ns="lan") == "10.1.0.200"
    assert net.ask("10.1.0.200", 80, ns="c1") == address(record)
    # Another program takes the port away.
    call("ip", "link", "set", "card0", "nomaster").ok()
    call("ip", "link", "set", "card0", "down").ok()
    assert "card0: make it a member" in net("reload", "--dry-run").ok().out
    net("reload").ok()
    assert net.ask(address(record), 80, ns="lan") == "10.1.0.200"
    net("rm", "--force", "web").ok()
    assert (state(), details("card0")) == before


def test_ports_that_are_refused(net, moving):
    before = state()
    net("create", "--member", "card0", "web").failed("members", "card0 has the address 192.0.2.1/24")
    net("create", "--member", "nope", "web").failed("members: interface nope does not exist")
    net("create", "--member", "card0", "--member", "card0", "web").failed("members: card0 is there twice")
    net("create", "--member", "br9", "--interface", "br9", "web").failed("br9 is its own parent or member")
    assert state() == before and net.files() in ([], ["run/lock"])
    call("ip", "addr", "flush", "dev", "card0").ok()
    call("ip", "link", "add", "br7", "type", "bridge").ok()
    call("ip", "link", "set", "card0", "master", "br7").ok()
    net("create", "--member", "card0", "web").failed("members", "card0 is a port of another interface")
    call("ip", "link", "del", "br7").ok()
    net("create", "--member", "card0", "web").ok()
    net("create", "--member", "card0", "other").failed("card0: network web uses it already")
    net("create", "--kind", "device", "--parent", "card0", "other").failed("card0: network web uses it already")
    net("rm", "web").ok()


@pytest.mark.parametrize("words", ["192.0.2.1/24 valid_lft 1000 preferred_lft 1000", "192.0.2.1/24 scope link",
                                   "2001:db8::1/64 valid_lft 1000 preferred_lft 1000 nodad"])
def test_a_port_whose_address_is_not_permanent(net, card, words):
    """An address from DHCP or a router's advertisement has a lifetime. The host would lose it as it would lose a permanent one."""
    call("ip", "link", "set", "card0", "up").ok()
    call("ip", "addr", "add", *words.split(), "dev", "card0").ok()
    net("create", "--member", "card0", "web").failed("members", "card0 has the address " + words.split(maxsplit=1)[0])
    assert details("card0")["master"] is None and net.files() == ["run/lock"]


@pytest.mark.slow
def test_a_bridge_with_a_port_is_killed_at_every_step(net, card):
    def remove():
        net(*(["rm", "web"] if net("ls", "--quiet").ok().out else ["reload"])).ok()
        assert details("card0") == before[1]
    net("reload").ok()
    before = (state(), net.files()), details("card0")
    args = ["create", "web", "--interface", "br9", "--member", "card0"]
    kill_everywhere(net, args, lambda: None, remove, before[0])
    kill_everywhere(net, ["rm", "web"], lambda: net(*args).ok(), remove, before[0])


def test_one_network_is_built_on_another(net, card):
    """The one below is kept as long as the other is there. When it has been taken away, an attach makes it again."""
    net("create", "--interface", "br9", "--member", "card0", "--subnet", "10.1.0.0/24", "below").ok()
    net("create", "--kind", "macvlan", "--parent", "br9", "--subnet", "10.9.0.0/24", "above").ok()
    net("rm", "below").failed('"below"', "network above is built on its interface br9")
    call("ip", "link", "del", "br9").ok()
    net.attach("above", "c1")
    assert details("card0")["master"] == "br9"
    net("rm", "--force", "above").ok()
    net("rm", "below").ok()
    for a, b in (("one", "two"), ("two", "one")):
        with open(f"{net.config}/{a}.json", "w", encoding="utf-8") as f:
            json.dump({"kind": "bridge", "interface": a, "members": [b]}, f)
    net("reload").failed("in a circle")
    for n in ("one", "two"):
        os.unlink(f"{net.config}/{n}.json")
    net("reload").ok()


# ---- what is refused of every option ----

@pytest.mark.parametrize("words,said", [
    ("--kind x", 'kind: found "x", expected bridge, vlan, bond'), ("--kind none", "kind"),
    ("--kind macvlan", "parent: missing"), ("--kind vlan --vlan 5", "parent: missing"), ("--kind bond", "members: missing"),
    ("--kind vlan --parent card0", "vlan: missing"), ("--kind vlan --parent card0 --vlan 0", "vlan"), ("--kind vlan --parent card0 --vlan 4095", "4094"),
    ("--kind vlan --parent card0 --vlan x", "vlan"), ("--kind vlan --parent card0 --vlan -1", "vlan"), ("--kind vlan --parent card0 --vlan 70000", "vlan"),
    ("--vlan 5", "vlan: a network of kind bridge has no such property"), ("--parent card0", "parent: a network of kind bridge"),
    ("--mode l2", "mode: a network of kind bridge"), ("--functions", "functions: a network of kind bridge"),
    ("--kind macvlan --parent card0 --mode l2", "expected one of bridge, private, vepa, passthru"),
    ("--kind ipvlan --parent card0 --mode bridge", "expected one of l2, l3, l3s"),
    ("--kind bond --member card0 --mode active", "expected one of balance-rr, active-backup"),
    ("--kind bond --member card0 --subnet 10.1.0.0/24", "pools: a network of kind bond"),
    ("--kind macvlan --parent card0 --no-dns", "dns: a network of kind macvlan"), ("--kind macvlan --parent card0 --member card0", "members: a network of kind"),
    ("--kind device --parent card0 --mtu 1400", "mtu: a network of kind device"), ("--kind device --parent card0 --interface x", "interface: a network"),
    ("--kind macvlan --parent lo", "parent"), ("--kind macvlan --parent all", "parent"), ("--kind macvlan --parent a/b", "parent"),
    ("--kind macvlan --parent ''", "parent: missing"), ("--member ''", "members"), ("--member default", "members"), ("--member " + "x" * 16, "--member"),
    ("--subnet 0.0.0.0/0", "too large"), ("--subnet 10.0.0.0/7", "too large"), ("--subnet ::/0", "too large"), ("--subnet fc00::/7", "too large"),
    ("--subnet 0.0.0.0/8", "this network"), ("--subnet 127.0.0.0/24", "loopback"), ("--subnet 127.0.0.0/8", "loopback"),
    ("--subnet 169.254.1.0/24", "link-local"), ("--subnet 224.0.0.0/24", "multicast"), ("--subnet 239.1.0.0/16", "multicast"),
    ("--subnet 255.255.255.0/24", "reserved"), ("--subnet 240.0.0.0/8", "reserved"), ("--subnet ::/64", "reserved"), ("--subnet ::1/128", "reserved"),
    ("--subnet ::ffff:10.0.0.0/104", "reserved"), ("--subnet fe80::/64", "link-local"), ("--subnet ff02::/64", "multicast"),
    ("--subnet 10.1.0.0", "--subnet"), ("--subnet 10.1.0.0/33", "--subnet"), ("--subnet x/24", "--subnet"), ("--subnet ''", "--subnet"),
    ("--subnet 10.1.0.0/24 --subnet 10.2.0.0/24", "one of IPv4 already"), ("--subnet 10.1.0.0/24 --gateway fd00::1", "no --subnet of IPv6"),
    ("--subnet 10.1.0.0/24 --gateway 10.1.0.0", "gateway"), ("--subnet 10.1.0.0/24 --gateway 0.0.0.0", "gateway"), ("--gateway x", "--gateway"),
    ("--subnet 10.1.0.0/24 --range 10.1.0.5", "--range"), ("--subnet 10.1.0.0/24 --range 10.1.0.5-fd00::1", "--range"),
    ("--subnet 10.1.0.0/24 --range 10.2.0.5-10.2.0.9", "range"), ("--subnet 10.1.0.0/24 --range 10.1.0.0-10.1.0.9", "range"),
    ("--subnet 10.1.0.0/24 --range 10.1.0.9-10.1.0.255", "range"),
])
def test_values_that_cannot_be_meant(net, card, words, said):
    import shlex
    before = state(), details("card0")
    net("create", *shlex.split(words), "web").failed(said)
    assert (state(), details("card0")) == before and net.files() in ([], ["run/lock"])


@pytest.mark.parametrize("words,said", [
    ("--ip 10.1.0.0", "10.1.0.0"), ("--ip 10.1.0.255", "10.1.0.255"), ("--ip 10.1.0.1", "10.1.0.1"), ("--ip 10.2.0.5", "10.2.0.5"), ("--ip 0.0.0.0", "0.0.0.0"),
    ("--ip x", "--ip"), ("--ip 10.1.0.5 --ip 10.1.0.6", "--ip"), ("--ip fd00::5", "no pool of its family"), ("--ip fe80::1%eth0", "--ip"),
    ("-p 0:80", "80"), ("-p 80:0", "80"), ("-p 65536:80", "65536"), ("-p 80:80/icmp", "icmp"), ("-p 90-80:90-80", "90-80"), ("-p 80-90:80-91", "80-90"),
    ("-p 224.0.0.1:80:80", "224.0.0.1"), ("-p 255.255.255.255:80:80", "255.255.255.255"), ("-p [ff02::1]:80:80", "ff02::1"), ("-p [::1:80:80", "::1"),
    ("-p x:80:80", "x"), ("-p ''", "-p"), ("--interface lo", "lo"), ("--interface all", "all"), ("--interface a/b", "a/b"),
    ("--alias 'a b'", "--alias"), ("--alias ''", "--alias"),
])
def test_values_of_attach_that_cannot_be_meant(net, words, said):
    import shlex
    net("create", "--subnet", "10.1.0.0/24", "web").ok()
    net.namespace("c1")
    before = state(), net.files()
    net("attach", "web", "/run/netns/c1", *shlex.split(words)).failed(said)
    assert (state(), net.files()) == before
    net("rm", "web").ok()


# ---- kernels without a kind ----

def kernel_has(kind):
    """Whether the kernel knows the kind, tried in a namespace that ends at once."""
    words = {"vlan": "link v type vlan id 5", "bond": "type bond", "ipvlan": "link v type ipvlan"}[kind]
    script = f"ip link add v type veth; ip link add name new {words}"
    r = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, text=True)
    assert r.returncode == 0 or "Unknown device type" in r.stderr, r
    return r.returncode == 0


@pytest.mark.parametrize("kind,words", [("vlan", "--parent card0 --vlan 5"), ("bond", "--member card0"), ("ipvlan", "--parent card0")])
def test_a_kernel_without_the_kind(net, card, kind, words):
    before = state(), details("card0")
    r = net("create", "--kind", kind, *words.split(), "x")
    if kind == "ipvlan":  # the kernel is asked when a container needs it
        r.ok()
        net.namespace("c1")
        r = net("attach", "x", "/run/netns/c1")
    if kernel_has(kind):
        r.ok()
    else:
        r.failed(f"this kernel has no interfaces of kind {kind}", "load the module", "CONFIG_")
        assert kind == "ipvlan" or net.files() == ["run/lock"]
    if net("ls", "--quiet").ok().out:
        net("rm", "--force", "x").ok()
    assert (state(), details("card0")) == before


# ---- in containers and microVMs ----

@pytest.mark.parametrize("isolation", ["ns", "vm"])
@pytest.mark.parametrize("kind", ["macvlan", "device"])
def test_containers_join(host, ctr, kind, isolation):
    """`run --network` joins networks of these kinds, and all is as before when the container has ended."""
    from test_join import BOOT, isolated, started
    host.namespace("lan")
    port("card0", "port0", "lan", "192.0.2.2/24")
    host("create", "--kind", kind, "--parent", "card0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2", "phys").ok()
    before = state(), details("card0")
    host.serve("lan")
    c = ctr.sh("ip -o addr show eth0; nc 192.0.2.2 80; echo; echo done; while :; do sleep 0.1; done")
    started(c, *isolated(c, isolation), "--network", "phys", timeout=BOOT)
    c.wait_output("done", timeout=60)
    assert "192.0.2.1/24" in c.output() or "192.0.2.3/24" in c.output(), c.output()
    own = "192.0.2.1" if "192.0.2.1/24" in c.output() else "192.0.2.3"
    assert f"\n::ffff:{own}\n" in c.output(), c.output()
    c.stop()
    assert (state(), details("card0")) == before
    host("rm", "phys").ok()
    call("ip", "link", "del", "card0").ok()
