# SPDX-License-Identifier: Apache-2.0
"""containerd's interface for Kubernetes (CRI), driven by crictl: pods on a network of `caisson net` by caisson-cni, run by caisson."""
import glob
import json
import os
import re
import subprocess

import pytest
from harness import engines, rootfs
from harness.engines import IMAGE, run, runtime, wait_for

CRICTL = os.path.join(rootfs.CACHE, "crictl", "crictl")
PAUSE = "docker.io/library/pause:latest"

CONFIG = """[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{bin}"
  conf_dir = "{conf}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "caisson"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.caisson]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.caisson.options]
  BinaryName = "{binary}"
"""


@pytest.fixture
def clean_machine():
    """Replaces the session's fixture, because containerd itself changes /run."""


def program(binary, name):
    """A helper of caisson, beside it in a build directory or where it is installed."""
    here = os.path.dirname(binary)
    return next(p for p in (f"{here}/{name}", f"{here}/../libexec/caisson/{name}") if os.path.exists(p))


class Cri:
    def __init__(self, directory, binary, daemon):
        self.directory, self.binary, self.daemon, self.pods = directory, binary, daemon, 0

    def __call__(self, *args, check=0):
        return run(CRICTL, "--timeout", "300s", "--runtime-endpoint", "unix://" + self.daemon.address, "--image-endpoint",
                   "unix://" + self.daemon.address, *args, check=check)

    def net(self, *args):
        return run(self.binary, "net", *args, check=0).stdout

    def attachments(self):
        return {a["container"]: a for a in json.loads(self.net("inspect", "--check", "pods"))["attachments"]}

    def file(self, name, value):
        path = f"{self.directory}/{name}.json"
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value, f)
        return path

    def pod(self, ports=()):
        self.pods += 1
        name = f"pod{self.pods}"
        return self.file(name, {
            "metadata": {"name": name, "namespace": "default", "uid": f"uid{self.pods}", "attempt": 1}, "hostname": name, "log_directory": self.directory,
            "port_mappings": [{"protocol": 0, "container_port": c, "host_port": h} for h, c in ports], "linux": {}})

    def start(self, ports=(), command=("httpd", "-f", "-p", "80", "-h", "/www")):
        """Starts a pod with one container. Returns (pod, container, address)."""
        config = self.pod(ports)
        pod = self("runp", config).stdout.strip()
        container = self("create", "--no-pull", pod, self.file("container", {
            "metadata": {"name": "main"}, "image": {"image": IMAGE}, "command": list(command), "log_path": "main.log", "linux": {}}), config).stdout.strip()
        self("start", container)
        return pod, container, json.loads(self("inspectp", pod).stdout)["status"]["network"]["ip"]


@pytest.fixture(scope="module")
def cri(tmp_path_factory, binary):
    if not os.path.exists(CRICTL):
        pytest.skip("there is no crictl: tests/lib/crictl builds it, with Go 1.24 or later")
    directory = str(tmp_path_factory.mktemp("cri"))
    for d in ("bin", "conf"):
        os.mkdir(f"{directory}/{d}")
    os.symlink(program(binary, "caisson-cni"), f"{directory}/bin/caisson-cni")
    os.symlink("/usr/lib/cni/loopback", f"{directory}/bin/loopback")
    with open(f"{directory}/conf/10-pods.conflist", "w", encoding="utf-8") as f:
        json.dump({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {"type": "caisson-cni", "capabilities": {"portMappings": True, "ips": True, "mac": True}}]}, f)
    run(binary, "net", "rm", "--force", "pods", check=None)  # one that a run of this file has left on the build machine
    run(binary, "net", "create", "--subnet", "10.88.0.0/24", "--subnet", "fd00:88::/64", "--no-dns", "pods", check=0)
    daemon = engines.start_containerd(directory, CONFIG.format(pause=PAUSE, bin=f"{directory}/bin", conf=f"{directory}/conf", binary=runtime(binary)))
    for tag, command in (("box:latest", ["sh"]), ("pause:latest", ["sh", "-c", "trap exit TERM; while :; do sleep 1; done"])):
        image = engines.write_image(f"{directory}/image.tar", tag, command)
        run("ctr", "-n", "k8s.io", "image", "import", image, check=0, env=daemon.env)
    c = Cri(directory, binary, daemon)
    wait_for("the network of the CRI", lambda: '"NetworkReady"' in c("info").stdout and re.search(r'"status": true[^}]*"type": "NetworkReady"', c("info").stdout))
    yield c
    daemon.stop()
    run(binary, "net", "rm", "--force", "pods", check=0)


def page(address, port=80):
    p = subprocess.run(["curl", "-s", "-S", "-m", "10", f"http://{address}:{port}/"], capture_output=True, text=True)
    return p.stdout or p.stderr


def interfaces():
    return sorted(l["ifname"] for l in json.loads(run("ip", "-j", "link", check=0).stdout))


def test_pods(cri):
    """Two pods reach each other, the host reaches them and a published port, and the containers of a pod share its interface. Afterwards nothing
    of them is left."""
    before = interfaces()
    one, first, address = cri.start(ports=[(8090, 80)])
    two, second, other = cri.start(command=("sleep", "1000"))
    attached = cri.attachments()
    assert {a["addresses"][0]["address"] for a in attached.values()} == {f"{address}/24", f"{other}/24"}
    assert set(attached) == {f"cni:{one}", f"cni:{two}"}
    assert json.loads(cri.net("inspect", "--check", "pods"))["faults"] == []
    assert page(address) == "served from the container\n" == page("127.0.0.1", 8090)
    seen = cri("exec", second, "sh", "-c", f"ip -o addr show eth0; wget -q -O - http://{address}/; wget -q -O - http://10.88.0.1:8090/").stdout
    assert f"inet {other}/24" in seen and "inet6 fd00:88::" in seen and seen.count("served from the container") == 2, seen
    assert cri("exec", first, "hostname").stdout == "pod1\n"
    for pod in (one, two):
        cri("stopp", pod)
        cri("rmp", pod)
    assert cri.attachments() == {} and interfaces() == before
    assert "8090" not in run("nft", "list", "ruleset", check=0).stdout


def test_a_pod_that_cannot_be_attached(cri):
    """The port is taken. containerd says caisson's words, and the failed ADD leaves nothing."""
    pod, _, _ = cri.start(ports=[(8091, 80)])
    before = interfaces()
    p = cri("runp", cri.pod(ports=[(8091, 80)]), check=1)
    assert "port 8091" in p.stderr and "is published by" in p.stderr, p.stderr
    assert interfaces() == before and list(cri.attachments()) == [f"cni:{pod}"]
    for left in cri("pods", "-q").stdout.split():
        cri("stopp", left)
        cri("rmp", left)
    assert cri.attachments() == {}


def test_a_pod_whose_processes_were_killed(cri):
    """The namespace has gone by the time of DEL, which undoes the attachment all the same."""
    pod, container, address = cri.start()
    inner, outer = (json.loads(cri(*words).stdout)["info"]["pid"] for words in (("inspect", container), ("inspectp", pod)))
    # The container's process is killed first, because the end of the pod's process would kill it with the pod's pid namespace.
    os.kill(inner, 9)
    os.kill(outer, 9)
    cri("stopp", pod)
    cri("rmp", pod)
    assert cri.attachments() == {}
    assert glob.glob("/run/caisson-net/containers/cni:*") == []
