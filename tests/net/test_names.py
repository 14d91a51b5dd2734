# SPDX-License-Identifier: Apache-2.0
"""Names: dnsmasq on a network's bridge, and the files hosts and resolv.conf of containers that join networks."""
import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from conftest import address, call, ip, state, until
from harness import machine
from test_join import BOOT, MODES, isolated, own, started

# A DNS client: prints the addresses of a name, or the error's number. A DHCP client: prints the address it is offered.
LOOKUP = r"""
import socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], {"A": 1, "AAAA": 28}[sys.argv[3]]
s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
q = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
try:
    s.sendto(q + struct.pack(">2H", kind, 1), (server, 53))
    r = s.recv(2000)
except OSError as e:
    sys.exit(print(type(e).__name__))
flags, n = struct.unpack(">2xH2xH", r[:8])
at = len(q) + 4
out = []
for _ in range(n):
    t, size = struct.unpack(">2xH6xH", r[at:at + 12])
    out += [socket.inet_ntop(socket.AF_INET if t == 1 else socket.AF_INET6, r[at + 12:at + 12 + size])]
    at += 12 + size
print(" ".join(out) if out else f"rcode {flags & 15}")
"""
DHCP = r"""
import socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
s.settimeout(5)
s.bind(("0.0.0.0", 68))
q = struct.pack(">4BIHH16x", 1, 1, 6, 0, 99, 0, 0x8000) + mac + bytes(202) + b"\x63\x82\x53\x63\x35\x01\x01\xff"
s.sendto(q, ("255.255.255.255", 67))
try:
    print(socket.inet_ntoa(s.recv(2000)[16:20]))
except OSError as e:
    print(type(e).__name__)
"""


def lookup(server, name, kind="A", ns=None):
    inside = ["ip", "netns", "exec", ns] if ns else []
    return call(*inside, sys.executable, "-c", LOOKUP, server, name, kind).ok().out.strip()


def servers():
    """The processes of dnsmasq that tests have started, but for those of its start, which end."""
    return [p for (p, _), name in machine.processes().items() if name == "dnsmasq" and machine.alive(p)]


def test_names_of_a_network(net):
    net("create", "--subnet", "10.77.1.0/24", "--subnet", "fd00:77:1::/64", "web").ok()
    assert servers() == [], "nobody would ask"
    a, b = net.attach("web", "a", "--name", "one"), net.attach("web", "b", "--name", "two", "--alias", "db", "--alias", "my.db")
    for name in "two", "db", "my.db":
        until(lambda: lookup("10.77.1.1", name, ns="a") == address(b))
    assert lookup("10.77.1.1", "one", ns="b") == address(a) and lookup("fd00:77:1::1", "one", "AAAA", ns="b") == address(a, 6)
    assert lookup("10.77.1.1", "absent", ns="a") != address(b)
    # One server for each network, which answers on its bridge only.
    net("create", "--subnet", "10.77.2.0/24", "other").ok()
    net.attach("other", "c", "--name", "three")
    until(lambda: len(servers()) == 2)
    assert "Error" in lookup("127.0.0.1", "one")
    assert "rcode" in lookup("10.77.2.1", "one", ns="c")
    net("detach", "--all", "two").ok()
    until(lambda: "rcode" in lookup("10.77.1.1", "two", ns="a"))
    net("detach", "--all", "one").ok()
    until(lambda: len(servers()) == 1)
    net("rm", "--force", "web", "other").ok()
    until(lambda: servers() == [])


def test_dhcp(net):
    """A whole machine in the container gets the address that it has already."""
    net("create", "--subnet", "10.77.1.0/24", "web").ok()
    for ns in "a", "b":
        r = net.attach("web", ns)
        call("ip", "-n", ns, "route", "replace", "255.255.255.255", "dev", "eth0").ok()
        assert call("ip", "netns", "exec", ns, sys.executable, "-c", DHCP, r["mac"]).ok().out.strip() == address(r)
    net("rm", "--force", "web").ok()


@contextlib.contextmanager
def nothing_at(path, text=""):
    """The file has this text."""
    with open("/run/replaced", "w") as f:
        f.write(text)
    os.chmod("/run/replaced", 0o644)
    subprocess.run(["mount", "--bind", "/run/replaced", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)
        os.unlink("/run/replaced")


@contextlib.contextmanager
def own_etc(tmp):
    """Undoes all changes in /etc afterwards, by an overlay on /etc. A mount on resolv.conf alone does not suffice: dnsmasq watches its directory."""
    for d in "upper", "work":
        os.makedirs(f"{tmp}/{d}")
    machine.mount("etc", "/etc", "overlay", data=f"lowerdir=/etc,upperdir={tmp}/upper,workdir={tmp}/work")
    try:
        yield
    finally:
        machine.umount("/etc")


def resolv_conf(text):
    """Replaces /etc/resolv.conf by renaming a new file, as the programs do that write it."""
    with open("/etc/resolv.conf.new", "w") as f:
        f.write(text)
    os.rename("/etc/resolv.conf.new", "/etc/resolv.conf")


def upstream(last):
    """Plays the host's name server on 127.0.0.LAST: answers every name with 192.0.2.LAST."""
    return subprocess.Popen([sys.executable, "-c", r"""
import socket, sys
last = int(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((f"127.0.0.{last}", 53))
print("up", flush=True)
while True:
    q, who = s.recvfrom(2000)
    end = q.index(b"\0", 12) + 5
    s.sendto(q[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\xc0\0\2" + bytes([last]), who)
""", str(last)], stdout=subprocess.PIPE, text=True)


def test_other_names_are_the_hosts_business(net):
    """dnsmasq asks the host's name server, even one that only the host reaches, such as systemd-resolved. On an internal network it asks none."""
    p = upstream(53)
    try:
        assert p.stdout.readline() == "up\n"
        with nothing_at("/etc/resolv.conf", "nameserver 127.0.0.53\n"):
            net("create", "--subnet", "10.77.1.0/24", "web").ok()
            net("create", "--subnet", "10.77.2.0/24", "--internal", "quiet").ok()
            net.attach("web", "a")
            net.attach("quiet", "b")
            until(lambda: lookup("10.77.1.1", "example.org", ns="a") == "192.0.2.53")
            assert "rcode" in lookup("10.77.2.1", "example.org", ns="b")
            assert "rcode" in lookup("10.77.1.1", "word", ns="a"), "a name without a dot is a container's"
            net("rm", "--force", "web", "quiet").ok()
    finally:
        p.kill()
        p.wait()


def test_the_hosts_name_servers_change(net, tmp):
    """dnsmasq reads the host's name servers again when their file has changed, as it does after a laptop has moved to another network."""
    old, new = upstream(53), upstream(54)
    try:
        for p in old, new:
            assert p.stdout.readline() == "up\n"
        with own_etc(tmp):
            resolv_conf("nameserver 127.0.0.53\n")
            net("create", "--subnet", "10.77.1.0/24", "web").ok()
            net.attach("web", "a")
            until(lambda: lookup("10.77.1.1", "one.example", ns="a") == "192.0.2.53")
            resolv_conf("nameserver 127.0.0.54\n")
            until(lambda: lookup("10.77.1.1", "two.example", ns="a") == "192.0.2.54")
            net("rm", "--force", "web").ok()
    finally:
        for p in old, new:
            p.kill()
            p.wait()


def test_no_dns_and_no_dnsmasq(net):
    net("create", "--no-dns", "plain").ok()
    assert net("inspect", "plain").json()["dns"] is False
    net.attach("plain", "a")
    assert servers() == []
    with nothing_at("/usr/sbin/dnsmasq"):
        net("create", "web").ok()
        net.attach("web", "a")
        assert servers() == []
        net("rm", "--force", "web", "plain").ok()


def test_port_53_is_taken(net):
    """Nothing is left of the attachment, and the message says who and what."""
    net("create", "--subnet", "10.77.1.0/24", "web").ok()
    path = net.namespace("a")
    before, files = state(), net.files()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 53))
        net("attach", "web", path).failed("network web", "dnsmasq", "in use", "--no-dns")
    assert (state(), net.files()) == (before, files)
    net("attach", "web", path).ok()
    net("rm", "--force", "web").ok()


def test_dnsmasq_was_killed(net):
    """reload and the next attach start it again."""
    net("create", "--subnet", "10.77.1.0/24", "web").ok()
    a = net.attach("web", "a", "--name", "one")
    until(lambda: len(servers()) == 1)
    for again in (lambda: net("reload").ok(), lambda: net.attach("web", "b")):
        os.kill(servers()[0], signal.SIGKILL)
        until(lambda: servers() == [])
        again()
        until(lambda: len(servers()) == 1)
        assert lookup("10.77.1.1", "one", ns="a") == address(a)
    net("rm", "--force", "web").ok()
    until(lambda: servers() == [])


# --- the files of a container ---

@pytest.mark.parametrize("isolation", MODES)
def test_containers_find_each_other(host, ctr, isolation):
    """By ID, by host name and by alias, through the files that caisson mounts."""
    host("create", "--subnet", "10.77.1.0/24", "--subnet", "fd00:77:1::/64", "web").ok()
    a = ctr.idle(id="first")
    a.conf["hostname"] = "house"
    started(a, "--network", "web:alias=db,alias=store")
    b = ctr.sh("cat /etc/hosts /etc/resolv.conf; for n in first house db store; do nslookup $n; done; ping -c 1 -W 3 host.containers.internal >/dev/null "
               "&& echo reached; echo done; while :; do sleep 0.1; done", id="second")
    b.conf["hostname"] = "me"
    for s in ("bounding", "effective", "permitted"):
        b.conf["process"]["capabilities"][s] += ["CAP_NET_RAW"]
    started(b, *isolated(b, isolation), "--network", "web", "--add-host", "x.y:192.0.2.9", "--add-host", "gate:host-gateway",
            "--add-host", "six:[2001:db8::9]", timeout=BOOT)
    b.wait_output("done", timeout=60)
    out = b.output()
    for line in ("192.0.2.9\tx.y", "10.77.1.1\tgate", "2001:db8::9\tsix", "10.77.1.1\thost.containers.internal", "fd00:77:1::1\tgate",
                 f"{own(host, b, 4)}\tme", f"{own(host, b, 6)}\tme", "nameserver 10.77.1.1", "nameserver fd00:77:1::1", "127.0.0.1\tlocalhost"):
        assert line + "\n" in out, (line, out)
    assert out.count(f"Address: {own(host, a, 4)}\n") == 4 and "reached" in out, out
    b.delete("--force")
    a.delete("--force")
    host("rm", "web").ok()
    until(lambda: servers() == [])


def test_resolv_conf(host, ctr):
    """--dns, else the network's own server, else what the host has: a stub on the host's loopback leads to the servers behind it."""
    def seen(*options, **kw):
        c = ctr.sh("cat /etc/resolv.conf")
        return c.run(*options).ok().out
    host("create", "--subnet", "10.77.1.0/24", "web").ok()
    with nothing_at("/etc/resolv.conf", "# by hand\nnameserver 192.0.2.1\nnameserver 127.0.0.1\nsearch example.org\n"):
        assert seen("--network", "caisson") == "nameserver 192.0.2.1\nsearch example.org\n"
        assert seen("--network", "web") == "nameserver 10.77.1.1\nsearch example.org\n"
        assert seen("--network", "caisson", "--dns", "192.0.2.7", "--dns", "2001:db8::7") == \
            "nameserver 192.0.2.7\nnameserver 2001:db8::7\nsearch example.org\n"
    os.makedirs("/run/systemd/resolve")
    with open("/run/systemd/resolve/resolv.conf", "w") as f:
        f.write("nameserver 192.0.2.33\nsearch behind.example\n")
    with nothing_at("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"):
        assert seen("--network", "caisson") == "nameserver 192.0.2.33\nsearch behind.example\n"
    call("rm", "-r", "/run/systemd").ok()
    host("rm", "caisson", "web").ok()


def test_files_of_config_json_prevail(host, ctr, tmp):
    with open(tmp + "/mine", "w") as f:
        f.write("mine\n")
    c = ctr.sh("cat /etc/hosts; head -c 10 /etc/resolv.conf")
    c.conf["mounts"].append({"destination": "/etc/hosts", "type": "bind", "source": tmp + "/mine", "options": ["bind", "ro"]})
    assert c.run("--network", "caisson", "--dns", "192.0.2.7").ok().out == "mine\nnameserver"
    c = ctr.sh("echo more >> /etc/hosts && tail -n 1 /etc/hosts; chmod 600 /etc/resolv.conf; rm /etc/hosts 2>/dev/null || echo kept")
    assert c.run("--network", "caisson").ok().out == "more\nkept\n"
    host("rm", "caisson").ok()


@pytest.mark.parametrize("options, said", [
    (["--dns", "x"], ["--dns x", "address"]), (["--dns", "224.0.0.251"], ["--dns 224.0.0.251", "address of a machine"]),
    (["--dns", "0.0.0.0"], ["--dns 0.0.0.0", "address of a machine"]), (["--dns", "ff02::fb"], ["--dns ff02::fb", "machine"]), (["--add-host", "a"], ["--add-host a", "NAME:ADDRESS"]),
    (["--add-host", "a:b"], ["--add-host a:b", "host-gateway"]), (["--add-host", "a b:192.0.2.1"], ["--add-host a b", "NAME:ADDRESS"]),
    (["--network", "caisson:alias=a b"], ["alias a b", "letters"]), (["--network", "none", "--dns", "192.0.2.1"], ["--dns 192.0.2.1", "/etc/resolv.conf"])])
def test_wrong_names(host, ctr, options, said):
    before = [] if "--network" in options else ["--network", "caisson"]
    ctr.sh("true").run(*before, *options).failed(*said)
    if "caisson" in host("ls", "--quiet").out:
        host("rm", "caisson").ok()
