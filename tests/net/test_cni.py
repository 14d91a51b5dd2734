# SPDX-License-Identifier: Apache-2.0
"""caisson-cni by itself, and driven by the CNI project's own library and cnitool."""
import hashlib
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import call, ip, ruleset, state, until
from harness import machine, rootfs

VERSIONS = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]
CNITOOL = "github.com/containernetworking/cni/cnitool@v1.3.0"


class Cni:
    def __init__(self, host):
        self.host, self.program = host, os.path.join(os.path.dirname(host.binary), "caisson-cni")

    def __call__(self, command, id="box", netns=None, conf=None, args="", ifname="eth0", **more):
        env = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": id, "CNI_IFNAME": ifname, "CNI_ARGS": args,
               "CNI_NETNS": netns or ""}
        conf = {"cniVersion": "1.1.0", "name": "web", "type": "caisson-cni", **(conf or {}), **more}
        p = subprocess.run([self.program], env={k: v for k, v in env.items() if v}, input=json.dumps(conf), capture_output=True, text=True, timeout=30)
        assert p.stderr == ""
        self.rc, self.out = p.returncode, json.loads(p.stdout) if p.stdout else None
        return self

    def ok(self):
        assert self.rc == 0, self.out
        return self.out

    def failed(self, code, *texts):
        assert self.rc == 1 and self.out["code"] == code and self.out["cniVersion"] and all(t in self.out["msg"] for t in texts), self.out


@pytest.fixture
def cni(host):
    host("create", "--subnet", "10.77.1.0/24", "--subnet", "fd00:77:1::/64", "web").ok()
    yield Cni(host)
    host("rm", "--force", "web").ok()


def test_version(cni):
    assert cni("VERSION").ok() == {"cniVersion": "1.1.0", "supportedVersions": VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_add_and_del(cni, host, version):
    """The result has the form of the configuration's version, and says what is there."""
    before = state()
    ns = host.namespace("c")
    r = cni("ADD", netns=ns, cniVersion=version, runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]}).ok()
    assert r["cniVersion"] == version and r["interfaces"][1]["sandbox"] == ns and r["interfaces"][1]["name"] == "eth0"
    assert "sandbox" not in r["interfaces"][0] and r["interfaces"][0]["name"] in {l["ifname"] for l in ip("link")}
    inside = next(l for l in ip("addr", ns="c") if l["ifname"] == "eth0")
    assert inside["address"] == r["interfaces"][1]["mac"]
    assert {i["address"] for i in r["ips"]} == {f"{a['local']}/{a['prefixlen']}" for a in inside["addr_info"] if a["scope"] == "global"}
    assert all(i["interface"] == 1 and i["gateway"] in ("10.77.1.1", "fd00:77:1::1") for i in r["ips"])
    assert [i.get("version") for i in r["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert [x["dst"] for x in r["routes"]] == ["0.0.0.0/0", "::/0"] and r["dns"]["nameservers"] == ["10.77.1.1", "fd00:77:1::1"]
    host.serve("c")
    assert host.ask("127.0.0.1", 8080) == "10.77.1.1"
    cni("CHECK", netns=ns, cniVersion=version, prevResult=r).ok()
    cni("ADD", netns=ns, cniVersion=version).failed(100, "already")
    for _ in range(2):
        assert cni("DEL", netns=ns, cniVersion=version).ok() is None
    assert "8080" not in ruleset()
    cni("CHECK", netns=ns, cniVersion=version).failed(100, "box is not attached to network web as eth0")
    host.drop("c")
    assert state() == before


def test_del_without_the_namespace(cni, host):
    ns = host.namespace("c")
    cni("ADD", netns=ns, runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"}]}).ok()
    host.drop("c")
    assert cni("DEL").ok() is None and "8080" not in ruleset()
    assert cni("DEL", netns="/run/netns/gone").ok() is None


def test_wishes(cni, host):
    """IP and MAC of CNI_ARGS, and the capabilities ips and mac."""
    a = cni("ADD", "a", host.namespace("a"), args="IgnoreUnknown=1;IP=10.77.1.50;MAC=02:00:00:00:00:50;K8S_POD_NAME=x").ok()
    assert a["ips"][0]["address"] == "10.77.1.50/24" and a["interfaces"][1]["mac"] == "02:00:00:00:00:50"
    b = cni("ADD", "b", host.namespace("b"), runtimeConfig={"ips": ["10.77.1.51/24", "fd00:77:1::51"], "mac": "02:00:00:00:00:51"}).ok()
    assert [i["address"] for i in b["ips"]] == ["10.77.1.51/24", "fd00:77:1::51/64"] and b["interfaces"][1]["mac"] == "02:00:00:00:00:51"
    for id in "a", "b":
        cni("DEL", id).ok()


def test_check_notices(cni, host):
    """What CNI's own bridge plug-in does not notice: another MTU, a host's end that is down, a gateway that is gone."""
    ns = host.namespace("c")
    r = cni("ADD", netns=ns).ok()
    veth, bridge = r["interfaces"][0]["name"], host("inspect", "web").json()["interface"]
    for spoil, repair, said in [(f"-n c link set eth0 mtu 1300", "-n c link set eth0 mtu 1500", "MTU 1300"), (f"link set {veth} down", f"link set {veth} up", "down"),
                                (f"addr del 10.77.1.1/24 dev {bridge}", f"addr add 10.77.1.1/24 dev {bridge}", "10.77.1.1")]:
        call("ip", *spoil.split()).ok()
        cni("CHECK", netns=ns).failed(100, said)
        call("ip", *repair.split()).ok()
        until(lambda: cni("CHECK", netns=ns).rc == 0)
    cni("DEL", netns=ns).ok()


def test_gc(cni, host, ctr):
    """Attachments that the caller does not name are undone; those of caisson's own containers stay."""
    for id in "a", "b":
        cni("ADD", id, host.namespace(id)).ok()
    cni("ADD", "a", "/run/netns/a", ifname="eth1").ok()
    c = ctr.idle()
    c.create("--network", "web")
    cni("GC", **{"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth1"}]}).ok()
    left = {(a["container"], a["interface"]) for a in host("inspect", "web").json()["attachments"]}
    assert left == {("cni:a", "eth1"), (c.id, "eth0")}
    cni("GC").failed(7, "cni.dev/valid-attachments")
    cni("GC", **{"cni.dev/valid-attachments": 5}).failed(7, "cni.dev/valid-attachments")
    c.delete("--force")
    cni("DEL", "a", ifname="eth1").ok()


def test_status_and_errors(cni, host):
    ns = host.namespace("c")
    before = state(), host.files()
    cni("STATUS").ok()
    cni("STATUS", name="absent").failed(50, '"absent" does not exist')
    cni("ADD", netns=ns, network="absent").failed(100, '"absent" does not exist')
    cni("ADD", netns=ns, cniVersion="0.1.0").failed(1, "cniVersion")
    cni("ADD", netns=ns, name=None).failed(7, "name")
    cni("ADD", id="", netns=ns).failed(4, "CNI_CONTAINERID")
    cni("ADD").failed(4, "CNI_NETNS")
    cni("ADD", netns=ns, ifname="a/b").failed(4, "CNI_IFNAME")
    cni("WRONG").failed(4, "CNI_COMMAND=WRONG")
    cni("ADD", netns="/etc/passwd").failed(100, "/etc/passwd")
    cni("ADD", netns=ns, args="IP=x").failed(7, "ips")
    cni("ADD", netns=ns, runtimeConfig={"portMappings": [{"hostPort": 0, "containerPort": 80}]}).failed(7, "portMappings")
    cni("ADD", netns=ns, runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 80, "protocol": "x"}]}).failed(7, "protocol x")
    assert (state(), host.files()) == before
    p = subprocess.run([cni.program], env={"CNI_COMMAND": "ADD"}, input="{", capture_output=True, text=True)
    assert p.returncode == 1 and json.loads(p.stdout)["code"] == 6


def test_default_network(host):
    """A configuration of the name `caisson` needs no `caisson net create`."""
    c = Cni(host)
    assert c("ADD", netns=host.namespace("c"), name="caisson").ok()["ips"][0]["address"] == "10.90.0.2/24"
    c("DEL", name="caisson").ok()
    host("rm", "caisson").ok()


def test_ports_as_containerd_writes_them(cni, host):
    """go-cni's type has no JSON names, so that containerd writes HostPort for hostPort. Plug-ins in Go do not notice."""
    ports = [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]
    cni("ADD", netns=host.namespace("c"), runtimeConfig={"portMappings": ports}).ok()
    host.serve("c")
    assert host.ask("127.0.0.1", 8080) == "10.77.1.1"
    cni("DEL").ok()


@pytest.fixture(scope="session")
def cni_check():
    """The program in cni_check/, which is built with the CNI project's library from the Go module proxy."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cni_check")
    with open(source + "/main.go", "rb") as f:
        path = os.path.join(rootfs.CACHE, "cni_check-" + hashlib.sha256(f.read()).hexdigest()[:16])
    if not os.path.exists(path):
        if not shutil.which("go"):
            pytest.skip("there is no Go to build cni_check with")
        machine.outside(["env", "GOFLAGS=-mod=mod", "go", "build", "-C", source, "-o", path, "."], check=True, timeout=600)
    return path


def test_the_cni_project_s_own_checks(cni, host, cni_check):
    """Its library drives all commands in all versions, and checks the answers, of which none has a member that its version does not have."""
    before = state()
    r = call(cni_check, os.path.dirname(cni.program), "web", host.namespace("c"), env={**os.environ, "TMPDIR": host.tmp}).ok()
    assert r.out == "ok 0.3.1 0.4.0 1.0.0 1.1.0\n"
    host.drop("c")
    assert state() == before


@pytest.fixture(scope="session")
def cnitool():
    """The CNI project's program, built once from the Go module proxy."""
    path = os.path.join(rootfs.CACHE, "cnitool", "cnitool")
    if not os.path.exists(path):
        if not shutil.which("go"):
            pytest.skip("there is no Go to build cnitool with")
        machine.outside(["env", "GOBIN=" + os.path.dirname(path), "GOFLAGS=-mod=mod", "go", "install", CNITOOL], check=True, timeout=600)
    return path


def test_cnitool(cni, host, cnitool, tmp):
    """libcni, which containerd, CRI-O and nerdctl use, passes capabilities on, caches results and compares them."""
    before = state()
    with open(tmp + "/10-web.conflist", "w") as f:
        json.dump({"cniVersion": "1.1.0", "name": "list", "plugins": [{"type": "caisson-cni", "network": "web", "capabilities": {"portMappings": True}}]}, f)
    ns = host.namespace("c")
    env = {**os.environ, "CNI_PATH": os.path.dirname(cni.program), "NETCONFPATH": tmp,
           "CAP_ARGS": json.dumps({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})}
    r = json.loads(call(cnitool, "add", "list", ns, env=env).ok().out)
    assert re.match(r"10\.77\.1\.\d+/24", r["ips"][0]["address"])
    host.serve("c")
    assert host.ask("127.0.0.1", 8080) == "10.77.1.1"
    call(cnitool, "check", "list", ns, env=env).ok()
    call(cnitool, "status", "list", ns, env=env).ok()
    call(cnitool, "del", "list", ns, env=env).ok()
    host.drop("c")
    assert state() == before
