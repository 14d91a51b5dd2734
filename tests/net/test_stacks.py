# SPDX-License-Identifier: Apache-2.0
"""VLANs, bonds, ipvlans, and networks that are built on each other. They need Debian's kernel, so this file runs in the test host only (conftest.py).

The host has two cards, card0 and card1. Their cables lead to a switch, a bridge in the namespace `lan`, which has the address 192.0.2.2 in VLAN 5 and
198.51.100.2 outside of any VLAN."""
import pytest

from conftest import address, call, details, different, ip, make_outside, port, ruleset, state
from test_crash import kill_everywhere


@pytest.fixture
def cards(net):
    net.namespace("lan")
    for i in (0, 1):
        port(f"card{i}", f"port{i}", "lan")
    call("ip", "-n", "lan", "link", "add", "switch", "type", "bridge").ok()
    for i in (0, 1):
        call("ip", "-n", "lan", "link", "set", f"port{i}", "master", "switch").ok()
    for words in ("link set switch up", "addr add 198.51.100.2/24 dev switch", "link add link switch name switch.5 type vlan id 5",
                  "addr add 192.0.2.2/24 dev switch.5", "addr add 2001:db8::2/64 dev switch.5 nodad", "link set switch.5 up"):
        call("ip", "-n", "lan", *words.split()).ok()
    yield ["card0", "card1"]
    for i in (0, 1):
        call("ip", "link", "del", f"card{i}").ok()


def everything():
    return state(), details("card0"), details("card1")


def bond(net, *options, name="team"):
    return net("create", "--kind", "bond", "--member", "card0", "--member", "card1", "--interface", "bond0", *options, name)


def vlan(net, parent, *options, name="five"):
    return net("create", "--kind", "vlan", "--parent", parent, "--vlan", 5, *options, name)


def active_member():
    return ip("-d", "link", "show", "bond0")[0]["linkinfo"]["info_data"]["active_slave"]


LAN = ["--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2", "--range", "192.0.2.100-192.0.2.110"]


def talks(net, record, name, peer="192.0.2.2"):
    """The container and the machine in the network reach each other; nothing translates their addresses."""
    net.serve(name)
    net.serve("lan")
    assert net.ask(address(record), 80, ns="lan") == peer
    assert net.ask(peer, 80, ns=name) == address(record)


# ---- VLANs ----

def test_vlan(net, cards):
    before = everything()
    dry = vlan(net, "card0", "--dry-run").ok().out
    assert "vlan card0.5: make it" in dry and everything() == before and net.files() == []
    made = vlan(net, "card0", "--json").json()
    assert made == {"name": "five", "kind": "vlan", "interface": "card0.5", "parent": "card0", "vlan": 5}
    d = details("card0.5")
    assert d["kind"] == "vlan" and d["data"]["id"] == 5 and d["data"]["protocol"] == "802.1Q" and d["up"] and d["mtu"] == 1500
    assert ip("link", "show", "card0.5")[0]["link"] == "card0" and details("card0")["up"]
    assert ruleset() == before[0]["rules"]
    call("ip", "addr", "add", "192.0.2.1/24", "dev", "card0.5").ok()
    net.serve("lan")
    assert net.ask("192.0.2.2", 80) == "192.0.2.1"
    call("ip", "addr", "del", "192.0.2.1/24", "dev", "card0.5").ok()
    again = everything(), details("card0.5")
    net("reload").ok()
    assert (everything(), details("card0.5")) == again and net("reload", "--dry-run").ok().out.replace("nft:", "").find("card0") < 0
    net.namespace("c1")
    net("attach", "five", "/run/netns/c1").failed("network five is a vlan", "--parent card0.5")
    net("create", "--kind", "vlan", "--parent", "card0", "--vlan", 5, "--interface", "other", "twice").failed("vlan: 5 is taken on card0")
    net("create", "--kind", "vlan", "--parent", "card0", "--vlan", 6, "--mtu", 1501, "large").failed("mtu: found 1501", "at most 1500, the MTU of its parent card0")
    net("rm", "five").ok()
    assert everything() == before


def test_two_vlans_share_a_parent(net, cards):
    """The parent goes down again with the last of them."""
    before = everything()
    vlan(net, "card0").ok()
    net("create", "--kind", "vlan", "--parent", "card0", "--vlan", 6, "--mtu", 1400, "six").ok()
    assert details("card0.6")["mtu"] == 1400
    net("rm", "five").ok()
    assert details("card0")["up"] and details("card0.6")["up"]
    net("rm", "six").ok()
    assert everything() == before


def test_a_vlan_of_someone_else_is_left_alone(net, cards):
    call("ip", "link", "add", "link", "card0", "name", "card0.5", "type", "vlan", "id", "5").ok()
    before = everything(), details("card0.5")
    vlan(net, "card0").failed("card0.5 exists already")
    call("ip", "link", "set", "card0.5", "name", "other5").ok()
    vlan(net, "card0").failed("vlan: 5 is taken on card0")
    call("ip", "link", "set", "other5", "name", "card0.5").ok()
    assert (everything(), details("card0.5")) == before and net.files() == ["run/lock"]
    call("ip", "link", "del", "card0.5").ok()
    vlan(net, "card0").ok()
    call("ip", "link", "del", "card0.5").ok()
    call("ip", "link", "add", "link", "card0", "name", "card0.5", "type", "vlan", "id", "5").ok()
    net("reload").failed("card0.5 is not the vlan that caisson made for network five")
    net("rm", "five").ok()
    assert details("card0.5")["kind"] == "vlan"
    call("ip", "link", "del", "card0.5").ok()


def test_a_file_that_was_changed(net, cards):
    vlan(net, "card0").ok()
    path = f"{net.config}/five.json"
    text = open(path).read()
    with open(path, "w") as f:
        f.write(text.replace('"vlan": 5', '"vlan": 7'))
    net("reload").failed("card0.5", "vlan or parent of network five was changed", "ip link del card0.5")
    call("ip", "link", "del", "card0.5").ok()
    net("reload").ok()
    assert details("card0.5")["data"]["id"] == 7
    net("rm", "five").ok()


# ---- bonds ----

MODES = ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_bond(net, cards, mode):
    """Members keep nothing of having been members: not the bond's MAC address, its MTU, or being up."""
    call("ip", "link", "set", "card1", "up").ok()
    before = everything()
    made = bond(net, "--mode", mode, "--mtu", 1400, "--json").json()
    assert made == {"name": "team", "kind": "bond", "interface": "bond0", "mode": mode, "members": ["card0", "card1"], "mtu": 1400}
    d = details("bond0")
    assert d["kind"] == "bond" and d["data"]["mode"] == mode and d["data"]["miimon"] == 100 and d["up"] and d["mtu"] == 1400
    for c in cards:
        assert details(c)["master"] == "bond0" and details(c)["mtu"] == 1400 and details(c)["slave"] == "bond"
    again = everything(), details("bond0")
    net("reload").ok()
    assert (everything(), details("bond0")) == again and "bond0" not in net("reload", "--dry-run").ok().out
    net("rm", "team").ok()
    assert everything() == before


def test_a_bond_survives_a_cable(net, cards):
    before = everything()
    bond(net).ok()
    assert details("bond0")["data"]["mode"] == "active-backup"
    call("ip", "addr", "add", "198.51.100.1/24", "dev", "bond0").ok()
    net.serve("lan")
    assert net.ask("198.51.100.2", 80, timeout=20) == "198.51.100.1"
    active = active_member()
    call("ip", "-n", "lan", "link", "set", active.replace("card", "port"), "down").ok()
    assert net.ask("198.51.100.2", 80, timeout=20) == "198.51.100.1"
    assert active_member() != active
    net("rm", "team").ok()
    assert everything() == before


def test_members_that_are_refused(net, cards):
    call("ip", "addr", "add", "198.51.100.1/24", "dev", "card1").ok()
    before = everything()
    bond(net).failed("members", "card1 has the address 198.51.100.1/24", "give it to the bridge or bond")
    assert everything() == before, "card0 was a member already, and is undone"
    call("ip", "addr", "flush", "dev", "card1").ok()
    net("create", "--kind", "bond", "--member", "card0", "--member", "nope", "team").failed("members: interface nope does not exist")
    bond(net).ok()
    bond(net, "--interface", "bond1", name="second").failed("card0: network team uses it already")
    vlan(net, "card0").failed("card0: network team uses it already")
    net("rm", "team").ok()


# ---- ipvlan ----

@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_modes_of_ipvlan(net, cards, mode):
    before = everything()
    net("create", "--kind", "ipvlan", "--parent", "card0", "--mode", mode, "--subnet", "198.51.100.0/24", "--gateway", "198.51.100.2", "--range",
        "198.51.100.100-198.51.100.110", "phys").ok()
    # A router has to send packets for an l3 network to the host; that is what l3 means.
    records = [net.attach("phys", c) for c in ("c1", "c2")]
    assert records[0]["mac"] == records[1]["mac"] == details("card0")["mac"] == details("eth0", "c1")["mac"]
    inside = details("eth0", "c1")
    assert inside["kind"] == "ipvlan" and inside["data"]["mode"] == mode and [r["gateway"] for r in ip("route", "show", "default", ns="c1")] == ["198.51.100.2"]
    net.serve("c1")
    assert net.ask(address(records[0]), 80, ns="c2") == address(records[1])
    if mode == "l2":
        talks(net, records[1], "c2", "198.51.100.2")
    assert net("inspect", "--check", "phys").json()["faults"] == [] and len(net("inspect", "phys").json()["attachments"]) == 2
    net.namespace("c3")
    for c in ("c1", "c2"):
        net("detach", "phys", "/run/netns/" + c).ok()
        assert [l["ifname"] for l in ip("link", ns=c)] == ["lo"]
    net("rm", "phys").ok()
    assert everything() == before


def test_ipvlan_beside_another_kind(net, cards):
    """The kernel has no ipvlan on an interface that has a macvlan."""
    call("ip", "link", "add", "link", "card1", "name", "mac9", "type", "macvlan").ok()
    net("create", "--kind", "ipvlan", "--parent", "card1", "other").ok()
    net.namespace("c1")
    net("attach", "other", "/run/netns/c1").failed("ipvlan on card1", "interfaces of another kind")
    call("ip", "link", "del", "mac9").ok()
    net("rm", "other").ok()


# ---- networks on networks ----

def build(net, top):
    """bond -> VLAN on it -> what the combination has on top. Returns what removes all of it."""
    bond(net).ok()
    vlan(net, "bond0").ok()
    net("create", *top, *LAN, "top").ok()


COMBINATIONS = {
    "bridge": ["--member", "bond0.5", "--interface", "br9", "--no-masquerade"],
    "macvlan": ["--kind", "macvlan", "--parent", "bond0.5"],
    "ipvlan": ["--kind", "ipvlan", "--parent", "bond0.5"],
    "device": ["--kind", "device", "--parent", "bond0.5"],
}


@pytest.mark.parametrize("kind", COMBINATIONS)
def test_a_network_on_a_vlan_on_a_bond(net, cards, kind):
    """A bridge, macvlan, ipvlan, and the VLAN itself in the container. They survive a cable, and each step is undone in turn."""
    top = COMBINATIONS[kind]
    lan = [w.replace("192.0.2.2", "192.0.2.9") if kind == "bridge" else w for w in LAN]  # the bridge has an address of the host
    before = everything()
    bond(net).ok()
    after_bond = everything(), details("bond0")
    vlan(net, "bond0").ok()
    after_vlan = everything(), details("bond0"), details("bond0.5")
    net("create", *top, *lan, "top").ok()
    after_top = everything(), details("bond0"), details("bond0.5")
    net("reload").ok()
    assert (everything(), details("bond0"), details("bond0.5")) == after_top
    record = net.attach("top", "c1")
    talks(net, record, "c1")
    active = active_member()
    call("ip", "-n", "lan", "link", "set", active.replace("card", "port"), "down").ok()
    assert net.ask("192.0.2.2", 80, ns="c1", timeout=20) == address(record)
    call("ip", "-n", "lan", "link", "set", active.replace("card", "port"), "up").ok()
    net("rm", "team").failed('"team"', "network five is built on its interface bond0")
    net("rm", "five").failed('"five"', "network top is built on its interface bond0.5")
    net("detach", "top", "/run/netns/c1").ok()
    assert different(after_top, (everything(), details("bond0"), details("bond0.5"))) == []
    net("rm", "top").ok()
    assert different(after_vlan, (everything(), details("bond0"), details("bond0.5"))) == []
    net("rm", "five").ok()
    assert different(after_bond, (everything(), details("bond0"))) == []
    net("rm", "team").ok()
    assert different(before, everything()) == []


def test_after_a_reboot_an_attach_makes_all(net, cards):
    """Of a reboot the networks' files are left, and nothing else."""
    before = everything()
    build(net, COMBINATIONS["macvlan"])
    call("ip", "link", "del", "bond0").ok()
    call("sh", "-c", f"rm -r {net.state}/*").ok()
    for c in cards:
        call("ip", "link", "set", c, "down").ok()
    talks(net, net.attach("top", "c1"), "c1")
    for n in ("top", "five", "team"):
        net("rm", "--force", n).ok()
    assert everything() == before


def test_reload_repairs(net, cards):
    """Whatever another program has taken away, in the order in which it is needed: the names of the networks say nothing."""
    bond(net, name="zz").ok()
    vlan(net, "bond0", name="mm").ok()
    net("create", "--member", "bond0.5", "--interface", "br9", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.9", "aa").ok()

    def whole():
        """A bond that is made anew may have the MAC address of the other member."""
        found = [details(c) for c in ("card0", "card1", "bond0", "bond0.5", "br9")]
        return [{k: v for k, v in d.items() if k != "mac"} for d in found], ruleset()
    before = whole()
    for taken in (["link", "del", "bond0"], ["link", "del", "bond0.5"], ["link", "set", "card1", "nomaster"], ["link", "set", "bond0", "down"],
                  ["link", "set", "bond0.5", "nomaster"]):
        call("ip", *taken).ok()
        assert net("reload", "--dry-run").ok().out.split("nft:")[0] != "", taken
        net("reload").ok()
        assert different(before, whole()) == [], taken
    for n in ("aa", "mm", "zz"):
        net("rm", n).ok()


# ---- kill -9 ----

@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vlan", "bond"])
def test_create_and_rm_are_killed_at_every_step(net, cards, kind):
    args = {"vlan": ["create", "--kind", "vlan", "--parent", "card0", "--vlan", "5", "web"],
            "bond": ["create", "--kind", "bond", "--member", "card0", "--interface", "bond0", "web"]}[kind]

    def remove():
        net(*(["rm", "web"] if net("ls", "--quiet").ok().out else ["reload"])).ok()
        assert everything()[1:] == before[1:]
    net("reload").ok()
    before = everything()
    files = net.files()
    kill_everywhere(net, args, lambda: None, remove, (before[0], files), few=True)
    kill_everywhere(net, ["rm", "web"], lambda: net(*args).ok(), remove, (before[0], files), few=True)


@pytest.mark.slow
def test_attach_is_killed_at_every_step(net, cards):
    net("create", "--kind", "ipvlan", "--parent", "card0", "--subnet", "198.51.100.0/24", "phys").ok()
    path = net.namespace("c1")

    def undo():
        net("detach", "phys", path).ok()
        assert [l["ifname"] for l in ip("link", ns="c1")] == inside
    # The kernel may have made interfaces of its own in the new namespace by then.
    inside = [l["ifname"] for l in ip("link", ns="c1")]
    before = state(), net.files()
    kill_everywhere(net, ["attach", "phys", path], lambda: None, undo, before, few=True)
    net("rm", "phys").ok()


def test_published_sctp(net):
    """A published SCTP port answers from outside, from the host, and over loopback. The build machine's kernel has no SCTP."""
    call("modprobe", "sctp").ok()
    outside = make_outside(net)
    next(outside)
    net("create", "web", "--interface", "br9").ok()
    gateways = {a["gateway"] for a in net.attach("web", "c1", "-p", "8080:80/sctp")["addresses"]}
    net.serve("c1", kind="sctp")
    assert net.ask("192.0.2.1", 8080, "sctp", ns="outside", timeout=20) == "192.0.2.2"
    assert net.ask("2001:db8::1", 8080, "sctp", ns="outside", timeout=20) == "2001:db8::2"
    assert net.ask("127.0.0.1", 8080, "sctp", timeout=20) in gateways
    net("rm", "--force", "web").ok()
    net.drop("outside")
    next(outside, None)
