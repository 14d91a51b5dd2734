# SPDX-License-Identifier: Apache-2.0
"""Networks and attachments: what is made, what is undone, what travels."""
import json
import os

import pytest

from conftest import address, addresses, call, ip, links, ruleset, state, until


# ---- networks ----

def test_create_makes_the_bridge_and_rm_undoes_it(net):
    before = state()
    made = net("create", "--json", "web").json()
    bridge = ip("-d", "link", "show", made["interface"])[0]
    assert bridge["linkinfo"]["info_kind"] == "bridge" and "UP" in bridge["flags"]
    assert made["kind"] == "bridge" and "mtu" not in made and bridge["mtu"] == 1500
    gateways = {p["gateway"] for p in made["pools"]}
    assert gateways == {a["local"] for l in ip("addr", "show", made["interface"]) for a in l["addr_info"]
                        if a["scope"] == "global"}
    assert len(gateways) == 2 and f'"{made["interface"]}"' in ruleset()
    net("rm", "web").ok()
    assert state() == before and net.files() == ["run/lock"]


def test_names_are_checked(net):
    for name in ("none", "host", "a/b", "", ".x", "-x", "x" * 65, "a b", "a\u00a0", "cni:x"):
        net("create", "--", name).failed(f'network "{name[:60]}')
    net("inspect", "web").failed('network "web" does not exist')
    net("create", "web").ok()
    net("create", "web").failed('"web" exists already')
    net("rm", "web").ok()
    net("rm", "web").failed('"web" does not exist')


@pytest.mark.parametrize("name", ["all", "default", "lo", "a:b", "a/b", "x" * 16, "a b", "br\u00a0", "e%d", '"x'])
def test_interface_names_are_checked(net, name):
    net("create", "web", "--interface", name).failed("interface")
    assert net.files() in ([], ["run/lock"])


@pytest.mark.parametrize("mtu,ok", [(67, False), (65536, False), (1, False), (0, False), ("x", False), (1279, False), (1280, True), (65535, True)])
def test_the_bounds_of_mtu_are_said(net, mtu, ok):
    """veth answers an MTU out of range with EINVAL and no word."""
    r = net("create", "web", "--mtu", mtu, "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    if not ok:
        r.failed("mtu")
        return
    r.ok()
    record = net.attach("web", "c1")
    assert ip("link", "show", record["host"])[0]["mtu"] == mtu == ip("link", "show", "eth0", ns="c1")[0]["mtu"]
    net("rm", "--force", "web").ok()


def test_the_mtu_is_that_of_the_default_route(net):
    call("ip", "link", "add", "up1", "mtu", 1420, "type", "bridge").ok()
    call("ip", "addr", "add", "203.0.113.2/24", "dev", "up1").ok()
    call("ip", "link", "set", "up1", "up").ok()
    call("ip", "route", "add", "default", "via", "203.0.113.1").ok()
    net("create", "web", "--interface", "br9").ok()
    record = net.attach("web", "c1")
    assert {ip("link", "show", n)[0]["mtu"] for n in ("br9", record["host"])} == {1420}
    # The default route's MTU changes, and the next attach brings the bridge in line.
    call("ip", "link", "set", "up1", "mtu", 1400).ok()
    net.attach("web", "c2")
    assert ip("link", "show", "br9")[0]["mtu"] == 1400
    net("rm", "--force", "web").ok()
    call("ip", "link", "del", "up1").ok()


def test_an_interface_of_someone_else_is_left_alone(net):
    call("ip", "link", "add", "br9", "mtu", 1300, "type", "bridge").ok()
    before = links()
    net("create", "web", "--interface", "br9").failed("br9 exists already")
    assert links() == before
    call("ip", "link", "del", "br9").ok()
    net("create", "web", "--interface", "br9").ok()
    # The bridge is taken away and another program makes an interface of that name.
    call("ip", "link", "del", "br9").ok()
    call("ip", "link", "add", "br9", "mtu", 1300, "type", "bridge").ok()
    before = links()
    net.namespace("c1")
    net("attach", "web", "/run/netns/c1").failed("br9", "not the bridge that caisson made")
    net("reload").failed("br9")
    assert links() == before
    net("rm", "web").ok()
    assert links() == before
    call("ip", "link", "del", "br9").ok()


def test_subnets_that_overlap_are_refused(net):
    net("create", "web", "--subnet", "10.1.0.0/16").ok()
    net("create", "other", "--subnet", "10.1.2.0/24").failed("10.1.2.0/24", "10.1.0.0/16 of network web")
    net("create", "other", "--subnet", "10.0.0.0/8").failed("network web")
    call("ip", "link", "add", "d0", "type", "bridge").ok()
    call("ip", "link", "set", "d0", "up").ok()
    call("ip", "route", "add", "10.90.0.0/16", "dev", "d0").ok()
    net("create", "other", "--subnet", "10.90.7.0/24").failed("the host's route to 10.90.0.0/16 through d0")
    made = net("create", "other", "--json").json()
    assert made["pools"][0]["subnet"] == "10.91.0.0/24"
    net("rm", "web", "other").ok()
    call("ip", "link", "del", "d0").ok()


def test_host_bits_and_small_subnets(net):
    """CNI's host-local refuses host bits and a /31."""
    made = net("create", "web", "--subnet", "10.1.2.3/24", "--json").json()
    assert made["pools"][0] == {"subnet": "10.1.2.0/24", "gateway": "10.1.2.1", "first": "10.1.2.1", "last": "10.1.2.254"}
    net("create", "two", "--subnet", "10.2.0.0/31").ok()
    assert address(net.attach("two", "c1")) == "10.2.0.1"
    net.namespace("c2")
    net("attach", "two", "/run/netns/c2").failed("10.2.0.0/31", "all its addresses are used")
    net("create", "one", "--subnet", "10.3.0.0/32").ok()
    net("attach", "one", "/run/netns/c2").failed("10.3.0.0/32", "all its addresses are used")
    net("rm", "--force", "web", "two", "one").ok()


def test_range_and_gateway(net):
    net("create", "web", "--subnet", "10.1.0.0/24", "--gateway", "10.1.0.254", "--range", "10.1.0.10-10.1.0.11").ok()
    assert [address(net.attach("web", f"c{i}")) for i in (1, 2)] == ["10.1.0.10", "10.1.0.11"]
    net.namespace("c3")
    net("attach", "web", "/run/netns/c3").failed("all its addresses are used")
    net("detach", "web", "/run/netns/c1").ok()
    assert address(net.attach("web", "c3")) == "10.1.0.10"
    net("create", "bad", "--subnet", "10.2.0.0/24", "--gateway", "10.3.0.1").failed("gateway 10.3.0.1")
    net("create", "bad", "--subnet", "10.2.0.0/24", "--gateway", "10.2.0.255").failed("gateway 10.2.0.255")
    net("create", "bad", "--subnet", "10.2.0.0/24", "--range", "10.2.0.9-10.2.0.3").failed("range")
    net("create", "bad", "--gateway", "10.2.0.1").failed("no --subnet")
    net("rm", "--force", "web").ok()


def test_dry_run_changes_nothing(net):
    before = state()
    out = net("create", "--dry-run", "web").ok().out
    assert "bridge caisson0: make it" in out and "add element inet caisson bridges" in out
    assert state() == before and net.files() == []
    net("create", "web").ok()
    net.namespace("c1")
    made = state(), net.files()
    changes = net("attach", "--dry-run", "--json", "web", "/run/netns/c1", "-p", "8080:80").json()["changes"]
    assert any("other end is eth0 in /run/netns/c1" in c for c in changes), changes
    assert any("any4 { tcp . 8080 : 10.90.0.2 . 80 }" in c for c in changes), changes
    assert "bridge caisson0: remove it" in net("rm", "-n", "web").ok().out
    assert (state(), net.files()) == made
    net("rm", "web").ok()


def test_files_that_administrators_write(net):
    os.makedirs(net.config)
    path = os.path.join(net.config, "lan.json")

    def write(**conf):
        with open(path, "w") as f:
            json.dump(conf, f)

    write(kind="bridge", interface="lan0", pools=[{"subnet": "10.5.0.0/24"}])
    record = net.attach("lan", "c1")
    assert address(record) == "10.5.0.2" and '"lan0"' in ruleset()
    for conf, words in [
            (dict(kind="bridge"), "interface: missing"), (dict(interface="x"), "kind: missing"),
            (dict(kind="tunnel", interface="x"), 'kind: found "tunnel"'), (dict(kind=1), "kind: found a number"),
            (dict(kind="bridge", interface="x", nmae=1), "nmae: unknown"),
            (dict(kind="bridge", interface="x", mtu=1e9), "mtu: found"),
            (dict(kind="bridge", interface="x", pools=[{}]), "pools[0]: subnet: missing"),
            (dict(kind="bridge", interface="x", pools=[{"subnet": "10.0.0.0/24"}, {"subnet": "10.1.0.0/24"}]), "both are of IPv4"),
            (dict(kind="bridge", interface="x", pools=[{"subnet": "10.0.0.0/33"}]), 'subnet: found "10.0.0.0/33"'),
            (dict(kind="bridge", interface="x", isolated="no"), "isolated: found a string")]:
        write(**conf)
        net("inspect", "lan").failed("network lan", words)
    os.unlink(path)
    os.mkfifo(path)
    net("ls").failed("lan.json is not a regular file")
    os.unlink(path)
    write(kind="bridge", interface="lan0", pools=[{"subnet": "10.5.0.0/24"}])
    net("rm", "--force", "lan").ok()


# ---- attachments ----

def test_attach_and_detach(net):
    net("create", "web").ok()
    before = state()
    record = net.attach("web", "c1")
    inside = ip("addr", "show", "eth0", ns="c1")[0]
    assert inside["address"] == record["mac"] and "UP" in inside["flags"]
    found = {f'{a["local"]}/{a["prefixlen"]}' for a in inside["addr_info"] if a["scope"] == "global"}
    assert found == {a["address"] for a in record["addresses"]}
    assert {r["gateway"] for r in ip("route", ns="c1") if r["dst"] == "default"} == {"10.90.0.1"}
    assert [r for r in ip("-6", "route", ns="c1") if r["dst"] == "default"]
    assert call("ip", "netns", "exec", "c1", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").out.strip() == "0"
    net("attach", "web", "/run/netns/c1").failed("attached to network web already, as eth0")
    net("detach", "web", "/run/netns/c1").ok()
    assert state() == before
    net("detach", "web", "/run/netns/c1").ok()  # there is nothing to undo
    net("rm", "web").ok()


def test_the_name_in_the_container_is_taken(net):
    net("create", "web").ok()
    path = net.namespace("c1")
    call("ip", "-n", "c1", "link", "add", "eth0", "mtu", "1300", "type", "bridge").ok()
    made = state(), net.files()
    net("attach", "web", path, "--interface", "eth0").failed("eth0 exists already in /run/netns/c1")
    assert (state(), net.files()) == made
    assert ip("link", "show", "eth0", ns="c1")[0]["mtu"] == 1300
    assert net("attach", "--json", "web", path).json()["interface"] == "eth1"
    net("rm", "--force", "web").ok()


@pytest.mark.parametrize("name", ["all", "default", "x\u00a0", "x\u0120", "a b", "a/b", "a:b", ".", "..", "x" * 16, "x%", "%d%d", "x" * 15, "x\u00e4"])
def test_names_in_the_container_are_the_kernel_s(net, name):
    """What the kernel refuses is refused with a reason, and what it takes is taken, except a name with a "%"."""
    net("create", "web").ok()
    path = net.namespace("c1")
    made = state(), net.files()
    taken = call("ip", "link", "add", "name", name, "type", "bridge").rc == 0
    if taken:
        call("ip", "link", "del", name).ok()
    if taken and "%" not in name:
        assert net("attach", "--json", "web", path, f"--interface={name}").json()["interface"] == name
    else:
        net("attach", "web", path, f"--interface={name}").failed('interface name "')
        assert (state(), net.files()) == made
    net("rm", "--force", "web").ok()


def test_paths_that_are_no_namespace(net, tmp):
    net("create", "web").ok()
    made = state(), net.files()
    net("attach", "web", "/run/netns/nothing").failed("/run/netns/nothing")
    net("attach", "web", "/etc/passwd").failed("/etc/passwd is not a network namespace")
    net("attach", "web", "/proc/self/ns/mnt").failed("is not a network namespace")
    net("attach", "web", "/proc/self/ns/net").failed("the host's own network namespace")
    net("attach", "web", "first").failed('container "first" does not exist')
    net("attach", "nothing", "/proc/self/ns/net").failed('network "nothing" does not exist')
    assert (state(), net.files()) == made
    net("rm", "web").ok()


def test_addresses_that_are_wanted(net):
    net("create", "web", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64").ok()
    record = net.attach("web", "c1", "--ip", "10.1.0.77", "--ip", "fd00:1::77")
    assert (address(record), address(record, 6)) == ("10.1.0.77", "fd00:1::77")
    path = net.namespace("c2")
    for wanted, words in [("10.1.0.77", "has it already"), ("10.1.0.1", "the gateway's"), ("10.2.0.1", "of the subnet 10.1.0.0/24"),
                          ("10.1.0.255", "of the subnet"), ("10.1.0.0", "of the subnet"), ("x", "expected an address")]:
        net("attach", "web", path, "--ip", wanted).failed(wanted, words)
    net("rm", "--force", "web").ok()


def test_two_networks_keep_one_default_route(net):
    """CNI's bridge fails on a default route that is there already."""
    net("create", "a").ok(), net("create", "b").ok()
    net.attach("a", "c1")
    record = net.attach("b", "c1")
    assert record["interface"] == "eth1"
    assert [r["dev"] for r in ip("route", ns="c1") if r["dst"] == "default"] == ["eth0"]
    net("rm", "a").failed("attached")
    net("detach", "--all", "/run/netns/c1").ok()
    net("rm", "a", "b").ok()


def test_the_namespace_has_gone(net):
    """Detach works, also a second time, and leaves no rules; netavark 1.4's second teardown fails."""
    net("create", "web").ok()
    before = ruleset()
    record = net.attach("web", "c1", "-p", "8080:80", "-p", "127.0.0.1:8081:81/udp")
    assert "8080" in ruleset()
    net.drop("c1")
    until(lambda: record["host"] not in str(links()))
    for _ in range(2):
        net("detach", "web", "/run/netns/c1").ok()
        assert ruleset() == before
    assert net.files() == ["config/web.json", "run/lock"]
    net("rm", "web").ok()


def test_the_bridge_lives_without_containers(net):
    """After its last container CNI's bridge has the address 00:00:00:00:00:00, and takes no container any more."""
    net("create", "web", "--interface", "br9").ok()
    mac = ip("link", "show", "br9")[0]["address"]
    for _ in range(3):
        net.attach("web", "c1")
        assert ip("link", "show", "br9")[0]["address"] == mac
        net("detach", "web", "/run/netns/c1").ok()
        assert ip("link", "show", "br9")[0]["address"] == mac != "00:00:00:00:00:00"
    net("rm", "web").ok()


def test_what_is_missing_is_made_again(net):
    """After a reboot only the file is there; after a firewall was reloaded the rules are gone."""
    net("create", "web", "--interface", "br9").ok()
    record = net.attach("web", "c1", "-p", "8080:80")
    net.serve("c1")
    want = ruleset()
    call("nft", "flush", "ruleset").ok()
    assert net.ask("127.0.0.1", 8080) == "ECONNREFUSED"
    net("reload").ok()
    assert ruleset() == want and net.ask("127.0.0.1", 8080) == "10.90.0.1"
    # attach and detach notice it too.
    call("nft", "flush", "ruleset").ok()
    net.attach("web", "c2", "-p", "8081:80")
    assert "8080" in ruleset() and "8081" in ruleset()
    call("nft", "flush", "ruleset").ok()
    net("detach", "web", "/run/netns/c2").ok()
    assert ruleset() == want
    for n in ("c1", "c2"):
        net.drop(n)
    until(lambda: record["host"] not in str(links()))
    call("ip", "link", "del", "br9").ok()
    call("nft", "flush", "ruleset").ok()
    net("reload").ok()
    assert ("br9", "10.90.0.1", 24) in addresses() and net.files() == ["config/web.json", "run/lock"]
    net("rm", "web").ok()


def test_reload_does_all_that_it_can(net):
    """A network that cannot be applied is reported, and those after it have their interface and their rules again."""
    net("create", "first", "--interface", "br8", "--subnet", "10.8.0.0/24", "--no-dns").ok()
    net("create", "second", "--interface", "br9", "--subnet", "10.9.0.0/24", "--no-dns").ok()
    net.attach("second", "c1", "-p", "8080:80")
    want = ruleset()
    call("ip", "link", "del", "br8").ok()
    call("ip", "link", "add", "br8", "type", "bridge").ok()
    call("ip", "addr", "flush", "dev", "br9").ok()
    call("nft", "flush", "ruleset").ok()
    net("reload").failed("network first", "br8 is not the bridge that caisson made")
    assert ruleset() == want and ("br9", "10.9.0.1", 24) in addresses()
    call("ip", "link", "del", "br8").ok()
    net("rm", "--force", "first", "second").ok()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"subnets": 7}', '{"kind": "bridge", "interface": "../x"}'])
def test_reload_beside_a_damaged_file(net, text):
    """reload names the network whose file is damaged, and applies all others."""
    for name, bridge, subnet in ("broken", "br7", "10.7.0.0/24"), ("second", "br9", "10.9.0.0/24"):
        net("create", name, "--interface", bridge, "--subnet", subnet, "--no-dns").ok()
    net.attach("second", "c1", "-p", "8080:80")
    path = os.path.join(net.config, "broken.json")
    with open(path) as f:
        good = f.read()
    with open(path, "w") as f:
        f.write(text)
    call("ip", "addr", "flush", "dev", "br9").ok()
    call("nft", "flush", "ruleset").ok()
    net("reload").failed("network broken")
    assert ("br9", "10.9.0.1", 24) in addresses() and "8080" in ruleset()
    # The other commands say which file is damaged, and change nothing.
    before = ruleset()
    net("create", "third").failed("network broken")
    assert ruleset() == before
    with open(path, "w") as f:
        f.write(good)
    net("reload").ok()
    net("rm", "--force", "broken", "second").ok()


def test_check_notices_every_change(net):
    """CNI's CHECK misses a changed MTU, a host's end that is down, and a gateway address that is gone."""
    net("create", "web", "--interface", "br9", "--mtu", 1500).ok()
    record = net.attach("web", "c1")
    host = record["host"]

    def faults():
        return net("inspect", "--check", "web").json()["faults"]

    assert faults() == []
    for change, back, words in [
            (f"link set {host} mtu 1400", f"link set {host} mtu 1500", f"{host} has MTU 1400, expected 1500"),
            (f"link set {host} down", f"link set {host} up", f"{host} is down"),
            ("-n c1 link set eth0 mtu 1400", "-n c1 link set eth0 mtu 1500", "eth0 has MTU 1400"),
            ("-n c1 addr del 10.90.0.2/24 dev eth0", "-n c1 addr add 10.90.0.2/24 dev eth0", "lost its address 10.90.0.2/24"),
            ("addr del 10.90.0.1/24 dev br9", "addr add 10.90.0.1/24 dev br9", "br9 has lost its address 10.90.0.1/24"),
            (f"link set {host} nomaster", f"link set {host} master br9", "not a port of the bridge"),
            ("link set br9 down", "link set br9 up", "br9 is down")]:
        call("ip", *change.split()).ok()
        found = faults()
        assert len(found) == 1 and words in found[0], (change, found)
        call("ip", *back.split()).ok()
        # A bridge that was down has lost nothing but IPv6 addresses, which reload adds.
        net("reload").ok()
        assert faults() == [], change
    net("rm", "--force", "web").ok()


def test_a_container_of_caisson(net, ctr):
    """By its ID, while it runs; `detach` does not need it any more."""
    net("create", "web").ok()
    c = ctr.idle()
    c.up()
    attach = [net.binary, "net", "--config", net.config, "--state", net.state, "--root", c.rt.root, "attach", "--json"]
    record = json.loads(call(*attach, "web", c.id, "-p", "8080:80").ok().out)
    assert record["container"] == c.id and record["netns"] == f"/proc/{c.pid()}/ns/net"
    assert address(record) in call("nsenter", "--net=" + record["netns"], "ip", "-j", "addr", "show", "eth0").ok().out
    c.delete("--force")
    call(*attach, "web", c.id).failed("does not exist")
    assert os.path.isdir(os.path.join(net.state, "containers", c.id))
    # A container with this ID would not be the same one below the default directory.
    net("detach", "--all", c.id).failed("below /run/caisson is not attached", f"is, below {c.rt.root}: give its --root")
    call(*[w for w in attach if w not in ("attach", "--json")], "detach", "--all", c.id).ok()
    assert not os.path.exists(os.path.join(net.state, "containers"))
    net("rm", "web").ok()
