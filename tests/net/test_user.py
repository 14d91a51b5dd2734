# SPDX-License-Identifier: Apache-2.0
"""Networks of an ordinary user's containers: pasta or slirp4netns, with published ports."""
import json
import os
import shutil
import signal
import subprocess

import pytest

from conftest import call, make_outside, state, until
from harness import machine, mode, oci, rootfs, user as ordinary
from test_join import page

PROGRAMS = ["pasta", "slirp4netns"]
UID = 4321
SETPRIV = shutil.which("setpriv")
SERVE = "ip -o addr; cat /etc/resolv.conf /etc/hosts; mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www"


class User:
    """Runs caisson as an ordinary user without ranges in /etc/subuid."""

    def __init__(self, binary, tmp, template):
        self.binary, self.run, self.bundle, self.log = binary, tmp + "/run", tmp + "/bundle", tmp + "/log"
        self.env = {"PATH": os.environ["PATH"], "HOME": tmp, "XDG_RUNTIME_DIR": self.run}
        for d in self.run, self.bundle:
            os.mkdir(d, 0o700)
        subprocess.run(["cp", "-a", template, self.bundle + "/rootfs"], check=True)
        subprocess.run(["chown", "-R", f"{UID}:{UID}", self.run, self.bundle], check=True)
        self("spec", "--rootless", "--bundle", self.bundle).ok()

    def __call__(self, *args, **kw):
        with open(self.log, "wb") as out:
            p = subprocess.run([SETPRIV, "--reuid", str(UID), "--regid", str(UID), "--clear-groups", self.binary, *args], env={**self.env, **kw},
                               stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=60)
        self.rc, self.args = p.returncode, args
        return self

    def ok(self):
        assert self.rc == 0, (self.args, self.output())
        return self

    def failed(self, *texts):
        assert self.rc == 1, (self.args, self.output())
        assert len(self.output().strip().split("\n")) == 1 and all(t in self.output() for t in texts), self.output()

    def output(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def start(self, script, *options, background=True, vm=None, **kw):
        with open(self.bundle + "/config.json") as f:
            conf = json.load(f)
        conf.update({"vm": vm} if vm else {})
        conf["process"].update(terminal=False, args=["sh", "-c", script])
        conf["root"]["readonly"] = False
        with open(self.bundle + "/config.json", "w") as f:
            json.dump(conf, f)
        return self("run", *(["-d"] if background else []), "--bundle", self.bundle, *options, "mine", **kw)


def helpers():
    found = {}
    for (p, _), _ in machine.processes().items():
        words = machine.cmdline(p).split()
        if words and machine.alive(p) and os.path.basename(words[0]).split(".")[0] in (*PROGRAMS, "caisson-net"):
            found[os.path.basename(words[0]).split(".")[0]] = p
    return found


def left(user):
    """What is left of networks: processes and files."""
    return sorted(helpers()) + sorted(n for n in os.listdir(user.run) if n != "caisson")


@pytest.fixture
def user(host, binary, tmp, template):
    """The host has a way out, which pasta copies, and a /dev/net/tun for everybody, as udev makes it."""
    outside = make_outside(host)
    next(outside)
    for family, via in (["-4"], "192.0.2.2"), (["-6"], "2001:db8::2"):
        call("ip", *family, "route", "add", "default", "via", via).ok()
    node = os.path.join(machine.WORK, "tun")
    os.mknod(node, 0o20666, os.makedev(10, 200))
    os.chmod(node, 0o666)
    subprocess.run(["mount", "--bind", node, "/dev/net/tun"], check=True)
    u = User(ordinary.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(tmp, "installed")), tmp, template)
    yield u
    u("delete", "--force", "mine")
    until(lambda: left(u) == [])
    machine.umount("/dev/net/tun")
    os.unlink(node)
    next(outside, None)
    host.drop("outside")


def test_without_a_way_out(user):
    """pasta copies the interface of the host's default route. Where there is none, slirp4netns takes the place of a pasta without a
    local mode (Debian 12). Debian 13's pasta has one. With both the published ports answer."""
    for family in "-4", "-6":
        call("ip", family, "route", "del", "default").ok()
    has_local_mode = user.start("true", "--network", "pasta", background=False).rc == 0
    if not has_local_mode:
        user.failed("pasta")
    user.start(SERVE, "-p", "8080:8000").ok()
    assert ("pasta" if has_local_mode else "slirp4netns") in helpers()
    until(lambda: page("http://127.0.0.1:8080/") == "hello\n")
    user("delete", "--force", "mine").ok()
    for family, via in ("-4", "192.0.2.2"), ("-6", "2001:db8::2"):
        call("ip", family, "route", "add", "default", "via", via).ok()


def need(program):
    if call("sh", "-c", f"command -v {program}").rc:
        pytest.fail(f"{program} is missing: tests/lib/packages.sh installs it")


@pytest.mark.parametrize("program", PROGRAMS)
def test_answers(host, user, program):
    """Over loopback, on the host's address, and to a client outside. pasta does IPv6 too."""
    need(program)
    before = state()
    user.start(SERVE, "--network", program, "-p", "8080:8000", "-p", "127.0.0.1:8081-8082:8000-8001", "--add-host", "x:192.0.2.9").ok()
    until(lambda: page("http://127.0.0.1:8080/") == "hello\n")
    urls = ["http://127.0.0.1:8081/", "http://localhost:8080/", "http://192.0.2.1:8080/"]
    assert [u for u in urls if page(u) != "hello\n"] == []
    six = ["http://[2001:db8::1]:8080/"] if program == "pasta" else []
    assert page(urls[2], "outside") == "hello\n"
    if six:
        until(lambda: page(six[0], "outside") == "hello\n", 20)
    assert "hello" not in page("http://192.0.2.1:8081/", "outside"), "published on 127.0.0.1 only"
    assert six == [] or page("http://[::1]:8080/") == "hello\n"
    out = user.output()
    assert "eth0" in out and "192.0.2.9\tx\n" in out and "nameserver" in out and "127.0.0.1\tlocalhost" in out, out
    assert state() == before, "an ordinary user makes nothing on the host"
    user("delete", "--force", "mine").ok()
    assert program not in helpers() and "caisson-net" not in os.listdir(user.run)


@pytest.mark.parametrize("program", PROGRAMS)
def test_image_with_ranges_of_ids(host, user, tmp, template, program):
    """The container of an image has several ids. Its server runs as one of them, and answers."""
    need(program)
    mounted = []
    for name, line in (("passwd", f"some:x:{UID}:{UID}::/nonexistent:/bin/sh"), ("subuid", f"{UID}:300000:65536"), ("subgid", f"{UID}:300000:65536")):
        shutil.copy("/etc/" + name, f"{tmp}/{name}")
        with open(f"{tmp}/{name}", "a") as f:
            f.write(line + "\n")
        os.chmod(f"{tmp}/{name}", 0o644)
        machine.mount(f"{tmp}/{name}", f"/etc/{name}", flags=4096)
        mounted.append(f"/etc/{name}")
    try:
        layout = oci.Layout(tmp + "/layout")
        base = subprocess.run(["tar", "-c", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
        layout.image([base, oci.tar(oci.entry("www/", "dir", mode=0o700, uid=33, gid=33), oci.entry("www/index.html", data=b"hello\n", mode=0o400, uid=33))],
                     "web", config={"Env": ["PATH=/bin"], "User": "33:33"})
        os.chmod(tmp, 0o755)
        store = ("--store", user.run + "/store")
        user("image", *store, "import", f"oci:{layout.path}:web").ok()
        user("run", "--image", "web", *store, "-d", "--name", "mine", "--network", program, "-p", "8080:8000", "httpd", "-f", "-p", "8000", "-h", "/www").ok()
        until(lambda: page("http://127.0.0.1:8080/") == "hello\n")
        user("exec", "mine", "sh", "-c", "id -u; wc -l < /proc/self/uid_map").ok()
        assert user.output().split() == ["33", "2"]
        user("delete", "--force", "mine").ok()
        user("image", *store, "rm", "web").ok()
    finally:
        user("delete", "--force", "mine")
        shutil.rmtree(user.run + "/store", ignore_errors=True)
        for path in mounted:
            machine.umount(path)


def test_pasta_keeps_the_client_s_address(host, user):
    """The container sees who connects from outside, and not an address of the host."""
    need("pasta")
    user.start("exec httpd -f -vv -p 8000 -h /", "--network", "pasta", "-p", "8080:8000").ok()
    until(lambda: "404" in page("http://192.0.2.1:8080/", "outside"))
    until(lambda: "404" in page("http://[2001:db8::1]:8080/", "outside"), 20)
    assert {line.rsplit("]:", 1)[0] for line in user.output().splitlines() if "url:/" in line} == {"[::ffff:192.0.2.2", "[2001:db8::2"}


@pytest.mark.parametrize("options, program", [
    ([], "pasta"), (["-p", "8080:8000"], "slirp4netns"), (["--network", "pasta", "-p", "8080:8000"], "pasta")])
def test_microvm(host, user, options, program):
    """A microVM of the bundle of `caisson spec --rootless`, which has no network namespace, has the user's network.
    pasta hands connections of the host's loopback interface to that of the namespace, where no guest is."""
    need("qemu-system-x86_64")
    before = state()
    vm = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}}
    user.start("ls -d /sys/fs/fuse; " + SERVE, "--isolation", "vm", "--hypervisor", "qemu", *options, vm=vm).ok()
    assert program in helpers()
    if options:
        until(lambda: page("http://192.0.2.1:8080/", "outside") == "hello\n", 60)
        assert program == "pasta" or page("http://127.0.0.1:8080/") == "hello\n"
    until(lambda: "eth0" in user.output() and "nameserver" in user.output(), 60)
    assert "/sys/fs/fuse" in user.output() and "virtiofs" not in user("exec", "mine", "grep", " /sys ", "/proc/mounts").ok().output()
    assert state() == before
    user("delete", "--force", "mine").ok()
    until(lambda: left(user) == [])


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("way", ["by itself", "run's end", "kill -9 of run"])
def test_goes_with_the_container(user, program, way):
    need(program)
    options = ["--network", program, "-p", "8080:8000"]
    if way == "run's end":
        assert user.start("ip -o link show eth0; exit 3", *options, background=False).rc == 3
        assert left(user) == []
        return
    if way == "by itself":
        user.start("sleep 1", *options).ok()
        assert program in helpers()
        until(lambda: left(user) == [])
        return
    user.start("while :; do sleep 0.1; done", *options).ok()
    os.kill(helpers()["caisson-net"], signal.SIGKILL)
    user("delete", "--force", "mine").ok()
    assert left(user) == []


def test_same_id_under_another_root(user):
    """A second container with the same ID may join no network, and leaves the first one's network alone."""
    other = ["--root", user.bundle + "/other"]
    user.start("while :; do sleep 0.1; done", "-p", "8080:8000").ok()
    kept = helpers()
    assert "pasta" in kept
    user(*other, "run", "-d", "--bundle", user.bundle, "--network", "user", "mine").failed("--network", '"mine"', "another --root")
    user(*other, "run", "-d", "--bundle", user.bundle, "mine").ok()
    user(*other, "delete", "--force", "mine").ok()
    until(lambda: helpers() == kept)
    user("delete", "--force", "mine").ok()
    until(lambda: left(user) == [])
    user(*other, "run", "-d", "--bundle", user.bundle, "--network", "user", "mine").ok()
    user(*other, "delete", "--force", "mine").ok()
    until(lambda: left(user) == [])


def test_whichever_is_there(user, tmp):
    """-p alone: pasta, else slirp4netns, else the message says what to install."""
    user.start("sleep 100", "-p", "8080:8000").ok()
    assert "pasta" in helpers()
    user("delete", "--force", "mine").ok()
    os.mkdir(tmp + "/bin", 0o755)
    for name in "slirp4netns", "newuidmap", "newgidmap":
        os.symlink(call("sh", "-c", f"command -v {name} || echo /nonexistent").out.strip(), f"{tmp}/bin/{name}")
    user.start("sleep 100", "--network", "user", PATH=tmp + "/bin").ok()
    assert "slirp4netns" in helpers()
    user("delete", "--force", "mine").ok()
    user.start("true", "-p", "8080:8000", PATH="/nowhere").failed("--network", "passt or slirp4netns")


@pytest.mark.parametrize("options, said", [
    (["--network", "web"], ["web", "ordinary user", "pasta"]), (["--network", "pasta", "--network", "pasta"], ["one network"]),
    (["--network", "pasta", "-p", "80:80/sctp"], ["-p 80:80/sctp", "tcp and udp"]), (["--network", "pasta", "-p", "80"], ["-p 80"]),
    (["--network", "pasta", "-p", "80:8000"], ["pasta", "80"]), (["--network", "slirp4netns", "-p", "80:8000"], ["slirp4netns", "80/tcp"]),
    (["--network", "slirp4netns", "-p", "[::]:8080:8000"], ["IPv4", "passt"]), (["--network", "host"], ["--network host", "config.json"]),
    (["--network", "pasta", "--add-host", "a:host-gateway"], ["a:host-gateway"])])
def test_wrong_options(user, options, said):
    user.start("true", *options).failed(*said)
    assert left(user) == [] and [n for _, dirs, _ in os.walk(user.run + "/caisson") for n in dirs] == []
