# SPDX-License-Identifier: Apache-2.0
"""`caisson net` in the network namespace of the test session, with real traffic by Python's sockets."""
import json
import os
import re
import subprocess
import sys
import time

import pytest

from harness import machine

# In the test host (tests/host/), whose kernel has kinds of interfaces that the build machine's lacks.
IN_TEST_HOST = "CAISSON_TEST_HOST" in os.environ
if IN_TEST_HOST:
    machine.WORK = os.environ["TMPDIR"]
collect_ignore = [] if IN_TEST_HOST else ["test_stacks.py"]

# Where the networks of `caisson run` are.
CONFIG, STATE = "/etc/caisson/net", "/run/caisson-net"

# Runs in a namespace. It answers each connection or datagram with the peer's address, and prints a line when it listens.
SERVER = r"""
import socket, sys, select
kind, port, family = sys.argv[1], int(sys.argv[2]), sys.argv[3]
f = socket.AF_INET6 if family == "6" else socket.AF_INET
types = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, 132)}
s = socket.socket(f, *types[kind])
if family == "6":
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::" if family == "6" else "0.0.0.0", port))
if kind != "udp":
    s.listen(50)
print("listening", flush=True)
while True:
    if kind == "udp":
        data, peer = s.recvfrom(100)
        s.sendto(peer[0].encode(), peer)
    else:
        c, peer = s.accept()
        c.sendall(peer[0].encode())
        c.close()
"""

# Runs in a namespace. It prints what the server answers, or the name of the error.
CLIENT = r"""
import socket, sys, errno
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
f = socket.AF_INET6 if ":" in host else socket.AF_INET
types = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "sctp": (socket.SOCK_STREAM, 132)}
s = socket.socket(f, *types[kind])
s.settimeout(float(sys.argv[4]))
try:
    s.connect((host, port))
    if kind == "udp":
        s.send(b"x")
    print(s.recv(100).decode().replace("::ffff:", ""))
except socket.timeout:
    print("timeout")
except OSError as e:
    print(errno.errorcode.get(e.errno, e))
"""


class Result:
    def __init__(self, args, p):
        self.args, self.rc, self.out, self.err = args, p.returncode, p.stdout, p.stderr

    def __repr__(self):
        return f"{self.args}: exit code {self.rc}\n{self.out[-2000:]}\n{self.err[-2000:]}"

    def ok(self):
        assert self.rc == 0 and self.err == "", self
        return self

    def failed(self, *texts):
        assert self.rc == 1 and len(self.err.strip().split("\n")) == 1, self
        assert all(t in self.err for t in texts), self
        return self

    def json(self):
        return json.loads(self.ok().out)


def call(*args, timeout=60, **kw):
    args = [str(a) for a in args]
    return Result(args, subprocess.run(args, capture_output=True, text=True, timeout=timeout, **kw))


def ip(*args, ns=None):
    r = call("ip", *(["-n", ns] if ns else []), "-j", *args).ok()
    return json.loads(r.out) if r.out.strip() else []


def ruleset():
    """All rules of this namespace, without the counters of foreign ones."""
    # nft warns on standard error of tables that iptables-nft has made.
    p = call("nft", "list", "ruleset")
    assert p.rc == 0, p
    return re.sub(r"packets \d+ bytes \d+", "", p.out)


def links():
    return sorted((l["ifname"], l["mtu"], l.get("address"), l.get("master"), "UP" in l["flags"]) for l in ip("link"))


def addresses():
    return sorted((l["ifname"], a["local"], a["prefixlen"]) for l in ip("addr") for a in l["addr_info"]
                  if a["scope"] != "link")


def routes(*family):
    """A bridge has its link-local route as soon as it has had a port."""
    return sorted((r["dst"], r.get("dev"), r.get("gateway")) for r in ip(*family, "route") if r["dst"] != "fe80::/64")


def state():
    return {"links": links(), "addresses": addresses(), "rules": ruleset(), "routes": routes(), "routes6": routes("-6")}


class Net:
    """net("create", ...) runs the command; the rest makes namespaces and traffic."""

    def __init__(self, binary, tmp, own=True):
        """own: in directories of the test; else in those that `caisson run` uses, which are the session's own."""
        self.binary, self.tmp, self.own = binary, tmp, own
        self.config, self.state = (os.path.join(tmp, "config"), os.path.join(tmp, "run")) if own else (CONFIG, STATE)
        self.namespaces, self.processes = [], []

    def command(self, *args):
        places = ["--config", self.config, "--state", self.state] if self.own else []
        return [self.binary, "net", *places, *map(str, args)]

    def __call__(self, *args, **kw):
        return call(*self.command(*args), **kw)

    def start(self, *args):
        return subprocess.Popen(self.command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def namespace(self, name):
        call("ip", "netns", "add", name).ok()
        call("ip", "-n", name, "link", "set", "lo", "up").ok()
        self.namespaces.append(name)
        return "/run/netns/" + name

    def drop(self, name):
        """Removes a namespace, and waits until its interfaces have gone with it."""
        self.namespaces.remove(name)
        for p in [p for n, p in self.processes if n == name]:
            p.kill()
            p.wait()
        call("ip", "netns", "del", name).ok()

    def attach(self, network, name, *args):
        """Makes a namespace and attaches it; returns the record."""
        path = "/run/netns/" + name
        if name not in self.namespaces:
            self.namespace(name)
        return self("attach", "--json", network, path, *args).json()

    def serve(self, name, port=80, kind="tcp", family="6"):
        p = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", SERVER, kind, str(port), family],
                             stdout=subprocess.PIPE, text=True)
        self.processes.append((name, p))
        assert p.stdout.readline() == "listening\n"

    def ask(self, host, port, kind="tcp", ns=None, timeout=5):
        inside = ["ip", "netns", "exec", ns] if ns else []
        return call(*inside, sys.executable, "-c", CLIENT, kind, host, port, timeout).ok().out.strip()

    def files(self):
        found = []
        for top in (self.config, self.state):
            for where, _, names in os.walk(top):
                found += [os.path.relpath(os.path.join(where, n), os.path.dirname(top)) for n in names]
                found += [os.path.relpath(where, os.path.dirname(top))] if where != top else []
        return sorted(found)


def address(record, family=4):
    return next(a["address"].split("/")[0] for a in record["addresses"] if (":" in a["address"]) == (family == 6))


def details(name, ns=None):
    """What tests of kinds compare: all that `ip` says, without counters and what the kernel decides anew (index, queue, link state, and which
    member of a bond works for it)."""
    found = ip("-d", "addr", "show", name, ns=ns)[0]
    info = found.get("linkinfo", {})
    return {"name": found["ifname"], "mtu": found["mtu"], "mac": found.get("address"), "master": found.get("master"), "up": "UP" in found["flags"],
            "alt": found.get("altnames", []), "alias": found.get("ifalias"), "kind": info.get("info_kind"),
            "data": {k: v for k, v in info.get("info_data", {}).items() if k in ("id", "protocol", "mode", "miimon", "flags", "stp_state", "vlan_filtering")},
            "slave": info.get("info_slave_kind"), "promiscuous": None if "info_slave_kind" in info else found.get("promiscuity"),
            "addresses": sorted((a["local"], a["prefixlen"]) for a in found["addr_info"] if a["scope"] == "global")}


def different(a, b, where=""):
    """What differs between two such descriptions, for messages that can be read."""
    if type(a) is not type(b) or not isinstance(a, (dict, list, tuple)):
        return [] if a == b else [(where, a, b)]
    if isinstance(a, dict):
        return [d for k in sorted({*a, *b}, key=str) for d in different(a.get(k), b.get(k), f"{where}.{k}")]
    if len(a) != len(b):
        return [(where, sorted(map(str, set(map(str, a)) ^ set(map(str, b)))))]
    return [d for i, (x, y) in enumerate(zip(a, b)) for d in different(x, y, f"{where}[{i}]")]


def port(name, peer, ns, *addresses, mtu=1500, up=False):
    """A "network card" of the host, whose cable ends in the namespace, at an interface with these addresses."""
    call("ip", "link", "add", name, "mtu", mtu, "type", "veth", "peer", "name", peer, "mtu", mtu, "netns", ns).ok()
    for a in addresses:
        call("ip", "-n", ns, "addr", "add", a, "dev", peer, *(["nodad"] if ":" in a else [])).ok()
    call("ip", "-n", ns, "link", "set", peer, "up").ok()
    if up:
        call("ip", "link", "set", name, "up").ok()


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def exactly_undone(n):
    """What the test made is undone exactly, and its networks are removed."""
    program = os.path.join(os.path.dirname(n.binary), "caisson-net")
    if not os.path.exists(program):
        pytest.fail(f"{program} is missing: build with libnftables-dev")
    before = state()
    yield n
    for _, p in n.processes:
        p.kill()
        p.wait()
    # A test that failed leaves its networks; what a test that passed leaves is a fault.
    for _ in range(8):  # those first on which no other is built
        names = call(*n.command("ls", "--quiet")).out.split()
        if not names:
            break
        for name in names:
            n("rm", "--force", name)
    for name in n.namespaces:
        call("ip", "netns", "del", name)
    if os.path.isdir("/run/netns"):
        subprocess.run(["umount", "/run/netns"], stderr=subprocess.DEVNULL)
    try:
        after = state()
    finally:
        call("nft", "flush", "ruleset")
    assert after == before, "the host is not as it was before"
    assert n.files() in ([], [os.path.basename(n.state) + "/lock"]), "files are left"


@pytest.fixture
def net(binary, tmp):
    yield from exactly_undone(Net(binary, tmp))


@pytest.fixture
def host(binary, tmp):
    """The networks that `caisson run` joins. Their files are on a tmpfs of the session's own."""
    os.makedirs(CONFIG, exist_ok=True)
    machine.mount("tmpfs", os.path.dirname(CONFIG), "tmpfs", data="mode=755")
    try:
        yield from exactly_undone(Net(binary, tmp, own=False))
    finally:
        machine.umount(os.path.dirname(CONFIG))


def make_outside(net):
    """A namespace that is not on the host: its address 192.0.2.2 is on a link of its own, the host's is 192.0.2.1."""
    net.namespace("outside")
    for words in ("link add up0 type veth peer name out0 netns outside", "addr add 192.0.2.1/24 dev up0",
                  "addr add 2001:db8::1/64 dev up0 nodad", "link set up0 up"):
        call("ip", *words.split()).ok()
    for words in ("addr add 192.0.2.2/24 dev out0", "addr add 2001:db8::2/64 dev out0 nodad", "link set out0 up"):
        call("ip", "-n", "outside", *words.split()).ok()
    yield "outside"
    call("ip", "link", "del", "up0")


@pytest.fixture
def outside(net):
    yield from make_outside(net)


@pytest.fixture
def outside_host(host):
    yield from make_outside(host)
