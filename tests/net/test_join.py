# SPDX-License-Identifier: Apache-2.0
"""`caisson run --network NAME -p PORTS`: what a container joins, who reaches it, and that all of it goes with the container."""
import json
import os
import re
import signal
import subprocess

import pytest

from conftest import addresses, call, ip, make_outside, ruleset, state, until
from harness import config, mode, rootfs

MODES = ["ns", "vm"]
BOOT = 150
# The server answers each client by a page with this text.
SERVE = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"


def isolated(c, isolation):
    """The options for a container of that isolation. Each microVM boots in software here."""
    if isolation == "ns":
        return []
    c.conf["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
    return ["--isolation", "vm", "--hypervisor", "qemu"]


def page(url, ns=None):
    inside = ["ip", "netns", "exec", ns] if ns else []
    r = call(*inside, "curl", "-s", "-S", "-g", "-m", "5", url)
    return r.out if r.rc == 0 else r.err


def server(ctr, script=SERVE, **kw):
    c = ctr.sh(script, **kw)
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + config.DAEMON_CAPS
    return c


def started(c, *options, timeout=None):
    """Runs the container in the background."""
    with open(c.log, "ab") as log:
        c.write().rt("run", "-d", "--bundle", c.bundle, *options, c.id, stdout=log, timeout=timeout).ok()
    return c


def records(host, key):
    d = f"{host.state}/containers/{key}"
    return {n: json.load(open(f"{d}/{n}")) for n in sorted(os.listdir(d))} if os.path.isdir(d) else {}


def own(host, c, family, interface="eth0"):
    found = [a["address"].split("/")[0] for a in records(host, c.id)[interface + ".json"]["addresses"]]
    return next(a for a in found if (":" in a) == (family == 6))


@pytest.mark.parametrize("isolation", MODES)
def test_nginx_answers(host, ctr, debian, isolation):
    """A published port of a real server answers for IPv4 and IPv6: over loopback, on the host's addresses, from outside,
    from the container itself. Afterwards all is as it was before."""
    before = state()
    outside = make_outside(host)
    next(outside)
    with_outside = state()
    with rootfs.overlays(ctr) as bundle:
        c = ctr("nginx", "-g", "daemon off; error_log stderr;", bundle=bundle(debian))
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + config.DAEMON_CAPS
        started(c, *isolated(c, isolation), "-p", "8080:80", timeout=BOOT)
        urls = ["http://127.0.0.1:8080/", "http://localhost:8080/", "http://192.0.2.1:8080/", "http://[2001:db8::1]:8080/"]
        until(lambda: "Welcome to nginx" in page(urls[0]), 60)
        assert [u for u in urls if "Welcome to nginx" not in page(u)] == []
        assert [u for u in urls[2:] if "Welcome to nginx" not in page(u, "outside")] == []
        inside = c.exec("bash", "-c", "for a in 192.0.2.1 2001:db8::1; do exec 3<>/dev/tcp/$a/8080; echo -e 'GET / HTTP/1.0\\n' >&3; "
                        "grep -c 'Welcome to nginx.</title>' <&3; done", timeout=BOOT).ok()
        assert inside.out.split() == ["1", "1"], inside
        assert "8080" in ruleset()
        c.kill("QUIT")
        c.wait(timeout=60)
        c.delete()
    host("rm", "caisson").ok()
    assert state() == with_outside
    assert records(host, c.id) == {}
    next(outside, None)
    host.drop("outside")
    assert state() == before


@pytest.mark.parametrize("isolation", MODES)
def test_several_networks(host, ctr, isolation):
    """The container gets an interface of each, with the wished addresses. The first is its way out."""
    host("create", "--subnet", "10.77.1.0/24", "--subnet", "fd00:77:1::/64", "one").ok()
    host("create", "--subnet", "10.77.2.0/24", "--internal", "two").ok()
    c = ctr.sh("ip -o addr; ip route; echo done; while :; do sleep 0.1; done")
    started(c, *isolated(c, isolation), "--network", "two:ip=10.77.2.9", "--network=one:ip=10.77.1.8,ip=fd00:77:1::8,mac=02:00:00:00:00:08",
            "-p", "127.0.0.1:9000:80", timeout=BOOT)
    c.wait_output("done", timeout=60)
    out = c.output()
    for a in "10.77.2.9/24", "10.77.1.8/24", "fd00:77:1::8/64":
        assert a in out, out
    assert re.search(r"eth0 .*10\.77\.2\.9", out) and re.search(r"eth1 .*10\.77\.1\.8", out), out
    assert "default via 10.77.1.1 dev eth1" in out, "an internal network is no way out"
    both = records(host, c.id)
    assert both["eth1.json"]["mac"] == "02:00:00:00:00:08"
    assert [len(both[n]["ports"]) for n in sorted(both)] == [0, 1], "ports are published by the network that leads out"
    c.stop()
    host("rm", "one", "two").ok()


def test_default_none_host(host, ctr):
    """-p alone makes the network `caisson` and joins it. none has a loopback interface only, and host has the host's."""
    assert ctr.sh("ip -o link | wc -l").run().ok().out == "1\n"
    assert host("ls", "--quiet").out == ""
    r = ctr.sh("ip -o -4 addr show eth0; ip route").run("-p", "8080:80").ok()
    assert "10.90.0.2/24" in r.out and "default via 10.90.0.1" in r.out
    assert host("ls", "--quiet").out == "caisson\n"
    assert "eth0" not in ctr.sh("ip -o link").run("--network", "none").ok().out
    for i in ctr.sh("ip -o link").run("--network", "host").ok().out.splitlines():
        assert i.split()[1].rstrip(":").split("@")[0] in {l["ifname"] for l in ip("link")}, i
    assert "caisson0" in ctr.sh("ip -o link").run("--network", "host").out
    c = ctr.sh("true")
    config.namespaces(c.conf, drop=("network",))
    c.run("--network", "none").ok()
    host("rm", "caisson").ok()


def test_hairpin_and_neighbours(host, ctr):
    """A container reaches the port that it publishes itself, and one of the same network reaches both ways in. One of
    another network reaches the published port only."""
    host("create", "--subnet", "10.77.3.0/24", "other").ok()
    a = started(server(ctr), "--network", "caisson", "-p", "8080:80")
    until(lambda: page("http://127.0.0.1:8080/") == "hello\n")
    b = started(ctr.idle(), "--network", "caisson")
    c = started(ctr.idle(), "--network", "other")
    for client, url, reached in [(a, "10.90.0.1:8080", True), (b, "10.90.0.1:8080", True), (b, own(host, a, 4), True),
                                 (c, "10.77.3.1:8080", True), (c, own(host, a, 4), False)]:
        address, port = url.split(":") if ":" in url else (url, 80)
        r = client.exec("sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}")
        assert ("\nhello\n" in r.out) == reached, (url, r)
    for x in a, b, c:
        x.stop()
    host("rm", "caisson", "other").ok()


def ends(c):
    """The ways in which a container ends, and who is to undo its networks."""
    return {"delete": lambda: c.stop(), "force": lambda: c.delete("--force"),
            "by itself": lambda: (os.kill(c.pid(), signal.SIGKILL), c.wait())}


@pytest.mark.parametrize("way", ["delete", "force", "by itself"])
@pytest.mark.parametrize("command", ["create", "run"])
def test_goes_with_the_container(host, ctr, way, command):
    """Addresses, ports, rules and interfaces are free when the container has gone, also before it is deleted."""
    host("create", "web").ok()
    before, c = state(), ctr.idle()
    if command == "create":
        c.create("--network", "web", "-p", "8080:80", "-p", "8081:81/udp")
    else:
        started(c, "--network", "web", "-p", "8080:80", "-p", "8081:81/udp")
    assert state() != before and "8081" in ruleset() and records(host, c.id)
    ends(c)[way]()
    until(lambda: state() == before and not records(host, c.id))
    assert host("inspect", "web").json()["attachments"] == []
    if way == "by itself":
        c.delete()
    host("rm", "web").ok()


def test_run_in_the_foreground(host, ctr):
    host("create", "web").ok()
    before = state()
    assert ctr.sh("ip -o link show eth0; exit 3").run("--network", "web", "-p", "8080:80").rc == 3
    assert state() == before
    # The program cannot be executed: create's own undoing.
    ctr("/no/such/program").run("--network", "web", "-p", "8080:80").failed("no such file or directory")
    assert state() == before
    host("rm", "web").ok()


def test_later_container_of_that_id(host, ctr):
    """What is left to watch a container in the background does not undo the networks of the next one of its ID."""
    for _ in range(5):
        c = started(ctr.idle(id="same"), "--network", "caisson", "-p", "8080:80")
        c.delete("--force")
    c = started(ctr.idle(id="same"), "--network", "caisson", "-p", "8080:80")
    until(lambda: sum("--watch" in l and c.rt.root in l for l in call("ps", "-ww", "-eo", "args").out.splitlines()) == 1)
    assert "8080" in ruleset() and list(records(host, "same")) == ["eth0.json"]
    c.delete("--force")
    host("rm", "caisson").ok()


def test_same_id_under_another_root(host, ctr, rt, tmp):
    """The networks of a container stay if one of the same ID, which has no networks or fails to join, is deleted."""
    c = started(ctr.idle(id="twin"), "--network", "caisson", "-p", "8080:80")
    kept = state(), records(host, "twin")
    other = ["--root", tmp + "/other"]
    twin = ctr.idle(id="twin")
    twin.conf["linux"]["cgroupsPath"] = "/caisson-test-twin"
    twin.write()
    for options, fails in [((), False), (("--network", "caisson"), True)]:
        with open(twin.log, "ab") as log:
            r = call(rt.binary, *other, "create", "--bundle", twin.bundle, *options, "twin") if fails else \
                subprocess.run([rt.binary, *other, "create", "--bundle", twin.bundle, "twin"], stdout=log, stderr=log, check=True)
        if fails:
            r.failed("--network", "twin", "caisson already")
        else:
            call(rt.binary, *other, "delete", "--force", "twin").ok()
        assert (state(), records(host, "twin")) == kept
    with open(twin.log, "ab") as log:
        subprocess.run([rt.binary, *other, "create", "--bundle", twin.bundle, "twin"], stdout=log, stderr=log, check=True)
    detach = ["net", "detach", "--all", "twin"]
    call(host.binary, *other, *detach).failed("another container with this ID", "--root")
    assert records(host, "twin") == kept[1]
    call(rt.binary, *other, "delete", "--force", "twin").ok()
    assert (state(), records(host, "twin")) == kept
    # No container with the ID is below the other directory, so only the record tells that the attachment is not its own.
    root = os.path.realpath(c.rt.root)
    assert records(host, "twin")["eth0.json"]["root"] == root
    call(host.binary, *other, *detach).failed(f"below {tmp}/other is not attached", f"is, below {root}: give its --root")
    assert (state(), records(host, "twin")) == kept
    link = f"{tmp}/link"
    os.symlink(root, link)
    call(host.binary, "--root", link, *detach).ok()
    assert records(host, "twin") == {}
    c.delete("--force")
    host("rm", "caisson").ok()


def test_record_of_a_container_that_has_ended(host, ctr):
    """A record that was left by a container with the same ID, which has ended, belongs to the container that runs now."""
    host("create", "web").ok()
    before = state()
    c = ctr.idle().up()
    call(host.binary, "net", "--root", c.rt.root, "attach", "web", c.id).ok()
    ended = subprocess.Popen(["true"])
    ended.wait()
    path = f"{host.state}/containers/{c.id}/eth0.json"
    with open(path) as f:
        record = json.load(f)
    record["netns"] = f"/proc/{ended.pid}/ns/net"
    del record["root"]  # as an older caisson wrote it
    with open(path, "w") as f:
        json.dump(record, f)
    call(host.binary, "net", "--root", c.rt.root, "detach", "web", c.id).ok()
    assert records(host, c.id) == {}
    c.stop()
    assert state() == before
    host("rm", "web").ok()


def test_attached_by_hand_goes_with_the_container(host, ctr):
    """`caisson net attach` needs no `detach` before `delete`."""
    host("create", "web").ok()
    before = state()
    c = ctr.idle().up()
    call(host.binary, "net", "--root", c.rt.root, "attach", "web", c.id, "-p", "8080:80").ok()
    assert "8080" in ruleset()
    c.stop()
    assert state() == before and records(host, c.id) == {}
    host("rm", "web").ok()


def test_hooks_find_the_interfaces(host, ctr, tmp):
    """createRuntime runs when the namespace is complete, as the specification says."""
    c = ctr.sh("true")
    script = f"nsenter -t $(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/') -n ip -o addr show eth0 > {tmp}/seen"
    c.conf["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    c.run("--network", "caisson").ok()
    assert "10.90.0.2/24" in open(tmp + "/seen").read()
    host("rm", "caisson").ok()


def test_user_namespace(host, ctr):
    c = ctr.sh("ip -o -4 addr show eth0; ip route")
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    subprocess.run(["chown", "-R", "100000:100000", c.rootfs], check=True)
    out = c.run("--network", "caisson", "-p", "8080:80").ok().out
    assert "10.90.0.2/24" in out and "default via 10.90.0.1" in out
    host("rm", "caisson").ok()


# Each is refused, with what the message must say.
WRONG = [
    (["--network", "absent"], ["--network", '"absent" does not exist', "caisson net ls"]),
    (["--network", "a b"], ["--network", "a b"]),
    (["--network", "web:ip=10.1.1.1"], ["10.1.1.1"]),
    (["--network", "web:ip=x"], ["--network", "ip=x", "address"]),
    (["--network", "web:mac=01:00:00:00:00:01"], ["--network", "01:00:00:00:00:01", "first byte even"]),
    (["--network", "web:mac=2"], ["--network", "mac=2"]),
    (["--network", "web:x=1"], ["--network", "x=1", "ip=ADDRESS"]),
    (["--network", "web:"], ["--network", "ip=ADDRESS"]),
    (["--network", "web", "--network", "web"], ["--network", "twice"]),
    (["--network", "none", "--network", "web"], ["--network none", "alone"]),
    (["--network", "none", "-p", "1:1"], ["-p 1:1", "--network none"]),
    (["--network", "host", "-p", "1:1"], ["-p 1:1", "the host's own"]),
    (["--network", "web", "-p", "80"], ["-p 80"]),
    (["--network", "web", "-p", "99999:1"], ["-p 99999:1"]),
]


def test_wrong_options(host, ctr):
    host("create", "--subnet", "10.77.4.0/24", "web").ok()
    before = state()
    for options, said in WRONG:
        r = ctr.sh("true").run(*options).failed(*said)
        assert (state(), os.listdir(host.state)) == (before, ["lock"]), (options, r)
    c = ctr.sh("true")
    config.namespaces(c.conf, paths={"network": "/proc/self/ns/net"})
    c.run("--network", "web").failed("--network", "linux.namespaces", "path")
    ctr.sh("true").run("--network", "web", env={**os.environ, "CAISSON_LIBEXEC": "/nonexistent"}).failed(
        "/nonexistent/caisson-net", "libnftables")
    host("rm", "web").ok()


def test_port_is_taken(host, ctr):
    """By a container that runs; the port of one that was killed is free."""
    a = started(ctr.idle(), "--network", "caisson", "-p", "8080:80")
    before = state()
    ctr.sh("true").run("--network", "caisson", "-p", "8080:80").failed("8080", a.id)
    assert state() == before
    a.delete("--force")
    ctr.sh("true").run("--network", "caisson", "-p", "8080:80").ok()
    host("rm", "caisson").ok()


# System calls at which caisson is killed: those by which it makes files, starts processes and hears of them.
KILLED_AT = "mkdirat renameat fork vfork clone clone3 wait4 execve sendmsg recvmsg".split()


def test_killed_at_every_step(host, ctr):
    """kill -9 of `create` at any of these calls, then `delete --force`: nothing is left of the networks."""
    host("create", "web").ok()
    before, files = state(), host.files()
    kills = 0
    for name in KILLED_AT:
        for n in range(1, 60):
            c = ctr.idle()
            c.write()
            args = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={n}",
                    *c.rt.argv("create", "--bundle", c.bundle, "--network", "web", "-p", "8080:80", c.id)]
            with open(c.log, "ab") as log:
                p = subprocess.run(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=60)
            c.delete("--force")
            until(lambda: state() == before)
            assert host.files() == files, (name, n)
            if p.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                assert p.returncode == 0, (name, n, c.output())
                break
            kills += 1
    assert kills > 10, "the steps are not found any more"
    host("rm", "web").ok()


def test_is_not_executed_without_networks(ctr, tmp):
    """create, start, run and delete do not execute caisson-net if the container has no network."""
    os.mkdir(tmp + "/libexec")
    with open(tmp + "/libexec/caisson-net", "w") as f:
        f.write(f"#!/bin/sh\necho $* >> {tmp}/executed\n")
    os.chmod(tmp + "/libexec/caisson-net", 0o755)
    env = {**os.environ, "CAISSON_LIBEXEC": tmp + "/libexec"}
    c = ctr.idle()
    c.create(env=env)
    c.start(env=env)
    c.rt("delete", "--force", c.id, env=env).ok()
    ctr.sh("true").run(env=env).ok()
    assert not os.path.exists(tmp + "/executed")
    ctr.sh("true").run("--network", "web", env=env).ok()
    words = [l.split()[2] for l in open(tmp + "/executed")]
    assert words == ["join", "leave"]


def test_addresses_are_reused(host, ctr):
    for _ in range(3):
        out = ctr.sh("ip -o -4 addr show eth0").run("--network", "caisson").ok().out
        assert "10.90.0.2/24" in out
    assert [a for a in addresses() if a[1].startswith("10.90")] == [("caisson0", "10.90.0.1", 24)]
    host("rm", "caisson").ok()


def test_200_at_once(host, ctr):
    """200 containers of one bundle run at once, each with a port: each has its own address, and nothing is left."""
    host("create", "--subnet", "10.77.0.0/16", "web").ok()
    before, files = state(), host.files()
    c = ctr.sh("ip -o -4 addr show eth0")
    c.write()
    logs = [open(f"{c.bundle}/out{i}", "w+") for i in range(200)]
    running = [subprocess.Popen(c.rt.argv("run", "--bundle", c.bundle, "--network", "web", "-p", f"{9000 + i}:80", f"{c.id}-{i}"),
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log) for i, log in enumerate(logs)]
    codes = [p.wait(timeout=250) for p in running]
    texts = []
    for log in logs:
        log.seek(0)
        texts.append(log.read())
        log.close()
    assert codes == [0] * 200, [t for t, code in zip(texts, codes) if code][:3]
    assert all(" inet 10.77." in t for t in texts)
    assert (state(), host.files()) == (before, files)
    host("rm", "web").ok()
