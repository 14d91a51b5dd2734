# SPDX-License-Identifier: Apache-2.0
"""`caisson run --network cni:NAME`: the CNI plug-ins that a host has. They are those of the CNI project (Debian: containernetworking-plugins), scripts
that say how they were called, and caisson's own."""
import json
import os
import re
import signal
import subprocess
import threading

import pytest

from conftest import call, ip, state, until
from harness import machine
from test_join import BOOT, MODES, isolated, page, records, server, started

DIRECTORY = "/usr/lib/cni"

# Writes what it was told to LOG, and answers like a plug-in. FAIL names a command that fails.
RECORDER = """#!/bin/sh
conf=$(cat)
echo "${{0##*/}} $CNI_COMMAND" >> {tmp}/order.log
printf '%s\\n' "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $conf" >> {log}
[ "$CNI_COMMAND" != "{fail}" ] || {{ echo '{{"cniVersion": "1.0.0", "code": 100, "msg": "no luck", "details": "today"}}'; exit 1; }}
[ "$CNI_COMMAND" != ADD ] || echo '{answer}'
"""


@pytest.fixture
def lists(host, tmp, monkeypatch):
    """write(NAME, PLUGIN...) makes a list. The plug-ins of Debian and of the test are in CNI_PATH; host-local's files are the test's."""
    if not os.path.exists(DIRECTORY + "/bridge"):
        pytest.fail("containernetworking-plugins is not installed")
    os.makedirs(tmp + "/net.d")
    os.makedirs(tmp + "/bin")
    monkeypatch.setenv("NETCONFPATH", tmp + "/net.d")
    monkeypatch.setenv("CNI_PATH", tmp + "/bin:" + DIRECTORY)

    def write(name, *plugins, version="1.0.0", file=None):
        with open(f"{tmp}/net.d/{file or '10-' + name + '.conflist'}", "w", encoding="utf-8") as f:
            json.dump({"cniVersion": version, "name": name, "plugins": list(plugins)}, f)
    return write


def bridge(tmp, **more):
    return {"type": "bridge", "bridge": "cni9", "isGateway": True, "ipMasq": True, "capabilities": {"ips": True, "mac": True}, **more,
            "ipam": {"type": "host-local", "dataDir": tmp + "/ipam", "ranges": [[{"subnet": "10.66.0.0/24"}]],
                     "routes": [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0"}]}}


PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def recorder(tmp, name, fail="", answer='{"cniVersion": "1.0.0", "ips": [{"address": "10.6.0.9/24"}], "dns": {"nameservers": ["10.6.0.1"]}}'):
    path = f"{tmp}/bin/{name}"
    with open(path, "w") as f:
        f.write(RECORDER.format(tmp=tmp, log=f"{tmp}/{name}.log", fail=fail, answer=answer))
    os.chmod(path, 0o755)


def calls(tmp, name):
    """[(command, id, netns, interface, conf)]"""
    path = f"{tmp}/{name}.log"
    if not os.path.exists(path):
        return []
    words = [line.split(" ", 4) for line in open(path).read().splitlines()]
    return [(*w[:4], json.loads(w[4])) for w in words]


def no_links():
    """The bridge of the CNI project stays on the host without containers."""
    call("ip", "link", "del", "cni9")
    call("nft", "flush", "ruleset")


@pytest.mark.parametrize("isolation", MODES)
def test_bridge_and_portmap(host, ctr, lists, tmp, isolation):
    """Traffic both ways, a published port, and DEL of both plug-ins at the end. A default route that is there twice, on which bridge fails, is passed on once."""
    before = state()
    lists("web", bridge(tmp), PORTMAP)
    c = server(ctr)
    started(c, *isolated(c, isolation), "--network", "cni:web:ip=10.66.0.77", "-p", "8080:80", timeout=BOOT)
    assert os.listdir(f"{host.state}/containers/{c.id}") == ["eth0.cni"]
    until(lambda: page("http://10.66.0.77/") == "hello\n", 60)
    assert page("http://10.66.0.1:8080/") == "hello\n"
    inside = c.exec("sh", "-c", "ip -o -4 addr; ip route; cat /etc/hosts", timeout=BOOT).ok().out
    assert "10.66.0.77/24" in inside and inside.count("default via 10.66.0.1") == 1
    assert re.search(r"^10\.66\.0\.1\thost\.containers\.internal$", inside, re.M), inside
    c.stop()
    assert os.listdir(tmp + "/ipam/web") in ([], ["last_reserved_ip.0", "lock"], ["lock", "last_reserved_ip.0"]), "host-local was not told"
    assert "8080" not in call("nft", "list", "ruleset").out and records(host, c.id) == {}
    assert [l["ifname"] for l in ip("link") if l["ifname"].startswith("veth")] == []
    no_links()
    assert state()["links"] == before["links"]


def test_what_plugins_are_told(host, ctr, lists, tmp):
    """As the specification says: names, versions, capabilities, the previous result, the opposite order for DEL."""
    for n in ("one", "two"):
        recorder(tmp, n)
    lists("web", {"type": "one", "capabilities": {"portMappings": True, "mac": True}, "extra": {"a": [1, None, "x"]}}, {"type": "two", "capabilities": {"ips": True}})
    c = ctr.sh("cat /etc/resolv.conf /etc/hosts")
    r = c.run("--network", "cni:web:ip=10.6.0.9,mac=02:00:00:00:00:09", "-p", "127.0.0.1:5000-5001:80-81/udp").ok()
    assert "nameserver 10.6.0.1\n" in r.out
    one, two = calls(tmp, "one"), calls(tmp, "two")
    assert [x[0] for x in one] == [x[0] for x in two] == ["ADD", "DEL"]
    assert all(x[1] == c.id and x[3] == "eth0" for x in one + two)
    assert one[0][2].startswith("/proc/") and one[1][2] == "", "the namespace has ended by then"
    conf = one[0][4]
    ports = [{"hostPort": 5000 + i, "containerPort": 80 + i, "protocol": "udp", "hostIP": "127.0.0.1"} for i in (0, 1)]
    assert conf == {"cniVersion": "1.0.0", "name": "web", "type": "one", "extra": {"a": [1, None, "x"]},
                    "runtimeConfig": {"portMappings": ports, "mac": "02:00:00:00:00:09"}}
    assert two[0][4]["runtimeConfig"] == {"ips": ["10.6.0.9"]} and two[0][4]["prevResult"]["ips"] == [{"address": "10.6.0.9/24"}]
    assert all(x[1][4]["prevResult"] == two[0][4]["prevResult"] for x in (one, two)) and one[1][4]["runtimeConfig"] == conf["runtimeConfig"]
    assert open(tmp + "/order.log").read().splitlines() == ["one ADD", "two ADD", "two DEL", "one DEL"]
    assert records(host, c.id) == {}


def test_a_failed_add_is_deleted(host, ctr, lists, tmp):
    """CNI's bridge leaves its veth pair and its address until DEL when a later step fails."""
    before = state()
    recorder(tmp, "two", fail="ADD")
    lists("web", bridge(tmp), {"type": "two"})
    c = ctr("true")
    c.run("--network", "cni:web").failed("CNI plug-in two: ADD failed: no luck: today")
    assert [x[0] for x in calls(tmp, "two")] == ["ADD", "DEL"]
    assert [f for f in os.listdir(tmp + "/ipam/web") if f.startswith("10.")] == []
    assert records(host, c.id) == {} and [l["ifname"] for l in ip("link") if l["ifname"].startswith("veth")] == []
    no_links()
    assert state()["links"] == before["links"]


def test_a_killed_run_is_deleted(host, ctr, lists, tmp):
    recorder(tmp, "one")
    lists("web", {"type": "one"})
    c = started(ctr.idle(), "--network", "cni:web")
    assert [x[0] for x in calls(tmp, "one")] == ["ADD"]
    os.kill(c.pid(), signal.SIGKILL)
    c.wait()
    until(lambda: [x[0] for x in calls(tmp, "one")] == ["ADD", "DEL"])
    c.delete()
    assert records(host, c.id) == {}


def test_delete_says_what_failed(host, ctr, lists, tmp):
    """A DEL that failed is repeated by the next delete, and its record is there until then."""
    recorder(tmp, "one", fail="DEL")
    lists("web", {"type": "one"})
    c = started(ctr.idle(), "--network", "cni:web")
    c.kill("KILL")
    c.wait()
    until(lambda: len(calls(tmp, "one")) > 1)
    assert list(os.listdir(f"{host.state}/containers/{c.id}")) == ["eth0.cni"]
    recorder(tmp, "one")
    c.delete()
    assert records(host, c.id) == {} and calls(tmp, "one")[-1][0] == "DEL"


def test_the_length_of_an_id(host, lists, tmp):
    """What is added can be deleted: an ID that is longer than the name of a record is refused."""
    recorder(tmp, "one")
    lists("web", {"type": "one"})
    path = host.namespace("c1")
    host("join", "x" * 201, path, "--network", "cni:web").failed("--network cni:web", "201", "at most 200")
    assert calls(tmp, "one") == [] and records(host, "x" * 201) == {}
    host("join", "x" * 200, path, "--network", "cni:web").ok()
    host("leave", "x" * 200).ok()
    assert [x[0] for x in calls(tmp, "one")] == ["ADD", "DEL"]


@pytest.mark.parametrize("change", ["", "other", "host", "older"])
def test_del_enters_no_other_namespace(host, lists, tmp, change):
    """A path such as /proc/PID/ns/net may lead to the namespace of another process by the time of DEL. The record of an older caisson does not say
    which namespace it was."""
    recorder(tmp, "one")
    lists("web", {"type": "one"})
    path = host.namespace("c1")
    host("join", "first", path, "--network", "cni:web").ok()
    record = f"{host.state}/containers/first/eth0.cni"
    if change == "other":
        host.drop("c1")
        host.namespace("c1")
    if change in ("host", "older"):
        with open(record, encoding="utf-8") as f:
            known = json.load(f)
        if change == "host":
            known["netns"] = f"/proc/{os.getpid()}/ns/net"
        else:
            known.pop("cookie", None)
        with open(record, "w", encoding="utf-8") as f:
            json.dump(known, f)
    host("leave", "first").ok()
    assert [x[:3] for x in calls(tmp, "one")] == [("ADD", "first", path), ("DEL", "first", "" if change else path)]
    assert records(host, "first") == {}


def test_del_keeps_the_namespace(host, lists, tmp):
    """The process of the recorded path /proc/PID/ns/net may end while the plug-ins run, and its PID be given to another one. The plug-ins
    go on in the namespace whose cookie was compared."""
    recorder(tmp, "one")
    with open(f"{tmp}/bin/ender", "w") as f:
        f.write("""#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" = DEL ] || { echo '{"cniVersion": "1.0.0"}'; exit 0; }
kill -9 $PROCESS
while [ -e /proc/$PROCESS/ns/net ]; do sleep 0.05; done
stat -L -c %i "$CNI_NETNS" > SEEN
""".replace("SEEN", f"{tmp}/seen"))
    os.chmod(f"{tmp}/bin/ender", 0o755)
    lists("web", {"type": "one"}, {"type": "ender"})
    host.namespace("c1")
    p = subprocess.Popen(["ip", "netns", "exec", "c1", "sleep", "1000"])
    path = f"/proc/{p.pid}/ns/net"
    inode = os.stat("/run/netns/c1").st_ino
    until(lambda: os.stat(path).st_ino == inode)
    reaper = threading.Thread(target=p.wait)
    reaper.start()
    host("join", "first", path, "--network", "cni:web").ok()
    host("leave", "first", env={**os.environ, "PROCESS": str(p.pid)}).ok()
    reaper.join()
    assert int(open(f"{tmp}/seen").read()) == inode
    ((_, _, added, _, _), (_, _, deleted, _, _)) = calls(tmp, "one")
    assert added == path and deleted not in ("", path)


@pytest.mark.parametrize("text,said", [
    ("", "no file in"), ("{", "no file in"), ("[]", "no file in"), ('{"name": "other"}', "no file in"),
])
def test_lists_that_are_no_lists(host, ctr, lists, tmp, text, said):
    """A broken configuration file does not keep caisson from using the other files."""
    with open(tmp + "/net.d/00-bad.conflist", "w") as f:
        f.write(text)
    ctr("true").run("--network", "cni:web").failed("cni:web", said)
    recorder(tmp, "one")
    lists("web", {"type": "one"})
    ctr("true").run("--network", "cni:web").ok()
    for broken in ({"name": "web"}, {"name": "web", "cniVersion": "1.0.0", "plugins": []}, {"name": "web", "cniVersion": "1.0.0", "plugins": [{}]},
                   {"name": "web", "cniVersion": "1.0.0", "plugins": {"type": "one"}}):
        with open(tmp + "/net.d/00-bad.conflist", "w") as f:
            json.dump(broken, f)
        ctr("true").run("--network", "cni:web").failed("00-bad.conflist", "type" if broken.get("plugins") == [{}] else "plugins" if "plugins" in broken else "cni")


@pytest.mark.parametrize("answer,said", [
    ("", "its answer"), ("x", "its answer"), ("[]", "cniVersion"), ('{"ips": []}', "cniVersion"), ('{"cniVersion": "1.0.0", "ips": 5}', "ips"),
    ('{"cniVersion": "1.0.0", "ips": [{"address": "10.6.0.9"}]}', "10.6.0.9"), ('{"cniVersion": "1.0.0", "dns": {"nameservers": [5]}}', "nameservers"),
])
def test_answers_that_are_none(host, ctr, lists, tmp, answer, said):
    recorder(tmp, "one", answer=answer)
    lists("web", {"type": "one"})
    ctr("true").run("--network", "cni:web").failed(said)
    assert [x[0] for x in calls(tmp, "one")] == ["ADD", "DEL"]


def test_what_is_refused(host, ctr, lists, tmp):
    recorder(tmp, "one")
    lists("web", {"type": "one"})
    lists("gone", {"type": "no-such-plugin"})
    lists("bad", {"type": "../one"})
    for words, said in ((["cni:web", "-p", "80:80"], "capability portMappings"), (["cni:web:ip=10.6.0.9"], "capability ips"),
                        (["cni:web:mac=02:00:00:00:00:09"], "capability mac"), (["cni:web:alias=x"], "take no alias"), (["cni:gone"], "no-such-plugin"),
                        (["cni:bad"], "10-bad.conflist"), (["cni:"], "cni:"), (["cni:web", "--network", "cni:web"], "given twice")):
        ctr("true").run("--network", *words).failed(said)
    assert calls(tmp, "one") == []


def test_a_single_plugin_and_several_lists(host, ctr, lists, tmp):
    """A file with one plug-in is a list of one. A container may join lists and networks of caisson."""
    with open(tmp + "/net.d/20-old.conf", "w") as f:
        json.dump({"cniVersion": "0.4.0", "name": "old", **bridge(tmp)}, f)
    host("create", "--subnet", "10.77.1.0/24", "web").ok()
    r = ctr.sh("ip -o -4 addr; ip route").run("--network", "web", "--network", "cni:old").ok()
    assert re.search(r"eth0 .*10\.77\.1\.2/24", r.out) and re.search(r"eth1 .*10\.66\.0\.2/24", r.out), r.out
    host("rm", "web").ok()
    no_links()


def test_caisson_s_own_plugin(host, ctr, lists, tmp):
    """Of all plug-ins this one needs the lock that the client has taken."""
    os.symlink(os.path.join(os.path.dirname(host.binary), "caisson-cni"), tmp + "/bin/caisson-cni")
    host("create", "--subnet", "10.77.1.0/24", "web").ok()
    lists("own", {"type": "caisson-cni", "network": "web", "capabilities": {"portMappings": True}}, version="1.1.0")
    c = started(server(ctr), "--network", "cni:own", "-p", "8080:80")
    until(lambda: page("http://127.0.0.1:8080/") == "hello\n", 30)
    c.stop()
    assert host("inspect", "web").json()["attachments"] == []
    host("rm", "web").ok()
