# SPDX-License-Identifier: Apache-2.0
"""`caisson run --image`: its default network, -p and --network, as docker's users expect them."""
import os
import subprocess

import pytest

from conftest import state, until
from harness import oci
from test_join import MODES, BOOT, SERVE, isolated, page, records


class Conf:
    """Takes what isolated() says of a microVM's kernel."""
    conf = {}


@pytest.fixture
def run(host, rt, binary, template, tmp):
    images = oci.Images(os.path.join(os.path.dirname(os.path.realpath(binary)), "caisson-image"), os.path.join(tmp, "store"))
    base = subprocess.run(["tar", "-c", "-C", template, "."], check=True, capture_output=True).stdout
    oci.Layout(os.path.join(tmp, "layout")).image([base], "box", config={"Env": ["PATH=/bin:/sbin"]})
    images("import", f"oci:{tmp}/layout:box")
    yield lambda *args, **kw: rt("run", "--image", "box", "--store", images.store, *args, **kw)
    if "caisson" in host("ls", "--quiet").out:
        host("rm", "--force", "caisson").ok()


def test_default(host, run):
    """Without --network a container of root joins the network `caisson`, and its way out is the host."""
    out = run("--rm", "sh", "-c", "ip -o -4 addr show eth0; ip route").ok().out
    assert "10.90.0.2/24" in out and "default via 10.90.0.1" in out
    assert host("inspect", "caisson").json()["attachments"] == []
    assert "eth0" not in run("--rm", "--network", "none", "ip", "-o", "link").ok().out
    assert "caisson0" in run("--rm", "--network", "host", "ip", "-o", "link").ok().out


def test_default_without_the_program(run, binary, tmp):
    """A caisson that was built without caisson-net runs containers without a network, and says what -p needs."""
    os.mkdir(tmp + "/libexec")
    os.symlink(os.path.join(os.path.dirname(binary), "caisson-image"), tmp + "/libexec/caisson-image")
    env = {**os.environ, "CAISSON_LIBEXEC": tmp + "/libexec"}
    assert "eth0" not in run("--rm", "ip", "-o", "link", env=env).ok().out
    run("--rm", "-p", "8080:80", "true", env=env).failed("caisson-net", "libnftables")


@pytest.mark.parametrize("isolation", MODES)
def test_published(host, run, rt, isolation):
    """Several -p and --network, in the background; --rm undoes them when the program ends by itself."""
    host("create", "--subnet", "10.77.5.0/24", "other").ok()
    before = state()
    c = Conf()
    options = isolated(c, isolation)
    if isolation == "vm":
        options += ["--kernel", c.conf["vm"]["kernel"]["path"]]
    serve = f"{SERVE.replace('exec ', '')}".replace("-f ", "") + "; while [ ! -e /stop ]; do sleep 0.1; done"
    run("-d", "--rm", "--name", "web", *options, "-p", "8080:80", "-p", "127.0.0.1:8081:80", "--network", "other", "--network=caisson:ip=10.90.0.7",
        "sh", "-c", serve, timeout=BOOT).ok()
    until(lambda: page("http://127.0.0.1:8080/") == "hello\n", 60)
    assert page("http://127.0.0.1:8081/") == "hello\n" and page("http://10.90.0.1:8080/") == "hello\n"
    assert page("http://10.90.0.7/") == "hello\n"
    assert sorted(r["network"] for r in records(host, "web").values()) == ["caisson", "other"]
    rt("exec", "web", "touch", "/stop", timeout=BOOT).ok()
    until(lambda: rt("state", "web").rc != 0, 30)
    host("rm", "caisson").ok()
    assert state() == before
    host("rm", "other").ok()
