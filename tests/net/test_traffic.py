# SPDX-License-Identifier: Apache-2.0
"""What travels and what does not: published ports, masquerading, isolation."""
import os
import socket

import pytest

from conftest import address, call, ip, ruleset


@pytest.fixture
def web(net, outside):
    net("create", "web", "--interface", "br9").ok()
    yield net
    net("rm", "--force", "web").ok()


KINDS = ["tcp", "udp", "sctp"]


def skip_without(kind):
    if kind == "sctp":
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
        except OSError:
            pytest.skip("this kernel has no SCTP")


@pytest.mark.parametrize("kind", KINDS)
def test_published_port(web, kind):
    """From outside, from the host by each of its addresses, from the container itself, and from its neighbour."""
    skip_without(kind)
    record = web.attach("web", "c1", "-p", f"8080:80/{kind}")
    web.attach("web", "c2")
    web.serve("c1", kind=kind)
    six = address(record, 6)
    gateways = {a["gateway"] for a in record["addresses"]}
    assert web.ask("192.0.2.1", 8080, kind, ns="outside") == "192.0.2.2"
    assert web.ask("2001:db8::1", 8080, kind, ns="outside") == "2001:db8::2"
    assert web.ask("127.0.0.1", 8080, kind) in gateways
    assert web.ask("192.0.2.1", 8080, kind) == "192.0.2.1"
    assert web.ask("2001:db8::1", 8080, kind) == "2001:db8::1"
    for ns in ("c1", "c2"):
        assert web.ask("10.90.0.1", 8080, kind, ns=ns) in gateways
        assert web.ask("192.0.2.1", 8080, kind, ns=ns) in gateways
        assert web.ask("2001:db8::1", 8080, kind, ns=ns) in gateways
    assert web.ask(six, 80, kind, ns="c2") != "timeout"
    other = "tcp" if kind == "udp" else "udp"
    assert web.ask("192.0.2.1", 8080, other, ns="outside", timeout=1) in ("timeout", "ECONNREFUSED")
    web("detach", "web", "/run/netns/c1").ok()
    assert web.ask("192.0.2.1", 8080, kind, ns="outside", timeout=1) in ("timeout", "ECONNREFUSED")


def test_loopback_of_ipv6_is_refused_at_once(web):
    """A client that tries ::1 first goes on to 127.0.0.1; it does not hang."""
    web.attach("web", "c1", "-p", "8080:80")
    web.serve("c1")
    assert web.ask("::1", 8080) == "ECONNREFUSED"
    web.namespace("c2")
    web("attach", "web", "/run/netns/c2", "-p", "[::1]:8081:80").failed("-p [::1]:8081:80")


def test_a_range_and_an_address(web):
    web.attach("web", "c1", "-p", "127.0.0.1:5000-5002:6000-6002", "-p", "192.0.2.1:7000:6000", "-p", "[2001:db8::1]:7001:6000",
               "-p", "0.0.0.0:7002:6000")
    for port in (6000, 6002):
        web.serve("c1", port)
    assert web.ask("127.0.0.1", 5000) == web.ask("127.0.0.1", 5002) == "10.90.0.1"
    assert web.ask("127.0.0.1", 5001) == "ECONNREFUSED"  # nobody listens in the container
    for host, port in (("192.0.2.1", 5000), ("127.0.0.1", 7000), ("10.90.0.1", 7000), ("2001:db8::1", 7002)):
        assert web.ask(host, port) == "ECONNREFUSED", host
    assert web.ask("192.0.2.1", 5000, ns="outside") == "ECONNREFUSED"
    assert web.ask("192.0.2.1", 7000, ns="outside") == web.ask("192.0.2.1", 7002, ns="outside") == "192.0.2.2"
    assert web.ask("2001:db8::1", 7001, ns="outside") == "2001:db8::2"


@pytest.mark.parametrize("text", ["80", "x:80", "0:80", "65536:80", "80:65536", "8080:80/tcpp", "1-2:80", "1-5000:1-5000", "[::1:80:80", "1.2.3:80:80",
                                  "2-1:2-1", ":80:80", "80:", "", "8080:80/", "8080:80/tcp/udp", "-1:80", "80 :80", "+80:80"])
def test_malformed_ports(web, text):
    web.namespace("c1")
    web("attach", "web", "/run/netns/c1", f"--publish={text}" if text else "--publish=:").failed("-p ")


def test_ports_that_are_taken(web):
    web.attach("web", "c1", "-p", "8080:80", "-p", "127.0.0.1:8081:80")
    path = web.namespace("c2")
    for port, words in [("8080:80", "published by !run!netns!c1"), ("192.0.2.1:8080:80", "published by"), ("8081:80", "published by"),
                        ("8079-8081:79-81", "published by"), ("[::]:8080:80", "published by"), ("127.0.0.1:8081:81", "published by"),
                        ("203.0.113.1:9000:80", "203.0.113.1 is not one of this host")]:
        web("attach", "web", path, "-p", port).failed(words)
    web("attach", "web", path, "-p", "9000:80", "-p", "127.0.0.1:9000:81").failed("9000", "twice")
    # The same number of another protocol or address is free.
    web("attach", "web", path, "-p", "8080:80/udp", "-p", "192.0.2.1:8081:80").ok()
    with socket.create_server(("127.0.0.1", 9000)):
        web.namespace("c3")
        web("attach", "web", "/run/netns/c3", "-p", "9000:80").failed("9000/tcp", "in use by a process")
    web("attach", "web", "/run/netns/c3", "-p", "9000:80").ok()


def test_a_port_of_a_dead_container_is_free(web):
    """Whose creator or engine was killed, so that nobody detached it."""
    record = web.attach("web", "c1", "-p", "8080:80")
    web.drop("c1")
    call("ip", "link", "del", record["host"])
    web.attach("web", "c2", "-p", "8080:80")
    assert not os.path.exists(os.path.join(web.state, "containers", "!run!netns!c1"))


def test_containers_have_the_host_s_address_outside(web):
    web.attach("web", "c1")
    web.serve("outside")
    assert web.ask("192.0.2.2", 80, ns="c1") == "192.0.2.1"
    assert web.ask("2001:db8::2", 80, ns="c1") == "2001:db8::1"


def test_transit_is_not_taken(web):
    """A packet that the host only forwards keeps its destination: GHSA of CNI's portmap, CVE-2025-67499."""
    web.attach("web", "c1", "-p", "8080:80")
    web.serve("c1")
    web.attach("web", "c2")
    web.serve("outside", 8080)
    assert web.ask("192.0.2.2", 8080, ns="c2") == "192.0.2.1"


def test_ports_that_are_not_published_are_closed_outside(web):
    """Also to a neighbour of the host that has a route to the containers."""
    record = web.attach("web", "c1", "-p", "8080:80")
    web.serve("c1")
    web.serve("c1", 81)
    call("ip", "-n", "outside", "route", "add", "10.90.0.0/24", "via", "192.0.2.1").ok()
    assert web.ask(address(record), 81, ns="outside", timeout=1) == "timeout"
    assert web.ask(address(record), 80, ns="outside", timeout=1) == "timeout"
    assert web.ask(address(record), 81) == "10.90.0.1"  # the host itself is allowed


def test_containers_do_not_reach_the_host_s_loopback(web):
    """route_localnet of the bridge lets nothing in (as in CVE-2020-8558)."""
    web.attach("web", "c1")
    with socket.create_server(("127.0.0.1", 9001)):
        call("ip", "-n", "c1", "addr", "del", "127.0.0.1/8", "dev", "lo").ok()
        call("ip", "-n", "c1", "route", "add", "127.0.0.0/8", "via", "10.90.0.1", "dev", "eth0", "src", "10.90.0.2").ok()
        call("ip", "netns", "exec", "c1", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet").ok()
        assert web.ask("127.0.0.1", 9001, ns="c1", timeout=1) == "timeout"
        # The control: without the guard the packet arrives.
        call("nft", "flush", "chain", "inet", "caisson", "guard").ok()
        assert web.ask("127.0.0.1", 9001, ns="c1", timeout=1) != "ECONNREFUSED"
    web("reload").ok()


# ---- several networks ----

@pytest.fixture
def three(net, outside):
    """Containers a and b in networks of these names, each with a server; each network with its options."""
    made = []

    def make(a=(), b=()):
        for name, options in (("a", a), ("b", b)):
            net("create", name, *options).ok()
            made.append(name)
        records = [net.attach(n, n) for n in made]
        for n in made:
            net.serve(n)
        return records

    yield make
    net("rm", "--force", *made).ok()


def test_networks_are_isolated(net, three):
    a, b = three()
    for family in (4, 6):
        assert net.ask(address(b, family), 80, ns="a", timeout=1) == "timeout"
        assert net.ask(address(a, family), 80, ns="b", timeout=1) == "timeout"


def test_isolation_holds_if_one_side_has_it(net, three):
    a, b = three(a=["--no-isolation"])
    assert net.ask(address(b), 80, ns="a", timeout=1) == "timeout" == net.ask(address(a), 80, ns="b", timeout=1)


def test_networks_without_isolation(net, three):
    a, b = three(a=["--no-isolation"], b=["--no-isolation"])
    assert net.ask(address(b), 80, ns="a") == address(a) and net.ask(address(a, 6), 80, ns="b") == address(b, 6)


def test_a_published_port_is_reached_from_another_network(net, three):
    three()
    record = net.attach("a", "p", "-p", "8080:80")
    net.serve("p")
    assert net.ask("192.0.2.1", 8080, ns="b") != "timeout" and record["ports"]


def test_an_internal_network(net, three):
    a, b = three(a=["--internal"], b=["--no-isolation"])
    net.attach("a", "a2")
    net.serve("outside")
    assert not [r for r in ip("route", ns="a") if r["dst"] == "default"]
    assert net.ask(address(a), 80, ns="a2") != "timeout"
    assert net.ask(address(a), 80) == address({"addresses": [{"address": a["addresses"][0]["gateway"]}]})
    # Even with a route it does not get out.
    call("ip", "-n", "a", "route", "add", "default", "via", a["addresses"][0]["gateway"]).ok()
    assert net.ask("192.0.2.2", 80, ns="a", timeout=1) == "timeout" == net.ask(address(b), 80, ns="a", timeout=1)
    net("attach", "a", net.namespace("a3"), "-p", "8080:80").failed("internal")


def test_a_network_without_masquerading(net, outside):
    net("create", "r", "--no-masquerade", "--subnet", "10.1.0.0/24").ok()
    net.attach("r", "c1")
    net.serve("c1")
    net.serve("outside")
    call("ip", "-n", "outside", "route", "add", "10.1.0.0/24", "via", "192.0.2.1").ok()
    assert net.ask("192.0.2.2", 80, ns="c1") == "10.1.0.2" and net.ask("10.1.0.2", 80, ns="outside") == "192.0.2.2"
    net("rm", "--force", "r").ok()


# ---- foreign rules ----

def test_foreign_rules_stay(net, outside):
    foreign = 'add table inet other; add chain inet other c { type filter hook forward priority 0; }; ' \
              'add rule inet other c oifname "nothing" drop; add table ip nat; add map ip nat m { type ipv4_addr . inet_service : verdict; }; ' \
              'add element ip nat m { 10.0.0.1 . 80 : drop }'
    call("nft", foreign).ok()
    before = ruleset()
    net("create", "web").ok()
    net.attach("web", "c1", "-p", "8080:80")
    net("reload").ok()
    assert all(line in ruleset() for line in before.splitlines())
    net("rm", "--force", "web").ok()
    assert ruleset() == before
    call("nft", "delete table inet other; delete table ip nat").ok()


# ---- docker's rules ----

@pytest.fixture
def docker(net, outside):
    """Makes the chains that docker makes, and sets docker's policy, which drops forwarded packets."""
    programs = "iptables", "ip6tables"
    for program in programs:
        for words in ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP"):
            call(program, "-w", *words.split()).ok()
    yield lambda: [call(p, "-S").ok().out for p in programs]
    for family in "ip", "ip6":
        call("nft", "delete", "table", family, "filter").ok()


def test_beside_docker(net, docker):
    """Published ports and connections to the outside work, and no rule of caisson stays in docker's chain."""
    before = docker()
    net("create", "web", "--interface", "br9").ok()
    net.attach("web", "c1", "-p", "8080:80")
    net.serve("c1")
    net.serve("outside", 81)

    def works(timeout=5):
        return [net.ask("192.0.2.1", 8080, ns="outside", timeout=timeout), net.ask("2001:db8::1", 8080, ns="outside", timeout=timeout),
                net.ask("192.0.2.2", 81, ns="c1", timeout=timeout), net.ask("2001:db8::2", 81, ns="c1", timeout=timeout)]
    assert works() == ["192.0.2.2", "2001:db8::2", "192.0.2.1", "2001:db8::1"]
    made = docker()
    net("reload").ok()
    assert docker() == made, "no rule comes twice"
    # Without caisson's rules docker's policy drops the packets, until `reload` adds the rules again.
    for program in "iptables", "ip6tables":
        call(program, "-w", "-F", "DOCKER-USER").ok()
    assert works(timeout=1) == ["timeout"] * 4
    assert "docker: accept -i br9 in DOCKER-USER" in net("reload", "--dry-run").ok().out
    net("reload").ok()
    assert works()[0] == "192.0.2.2"
    for program in "iptables", "ip6tables":
        call(program, "-w", "-A", "DOCKER-USER", "-j", "RETURN").ok()
    net("rm", "--force", "web").ok()
    assert docker() == before


def test_docker_keeps_no_rule_of_a_bridge_that_has_gone(net, docker):
    """The rules of a network are removed with it, although its bridge has gone before."""
    before = docker()
    net("create", "web", "--interface", "br9").ok()
    assert docker() != before
    call("ip", "link", "del", "br9").ok()
    assert "docker: no longer accept -i br9 in DOCKER-USER" in net("rm", "--dry-run", "web").ok().out
    net("rm", "web").ok()
    assert docker() == before
