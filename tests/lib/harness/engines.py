# SPDX-License-Identifier: Apache-2.0
"""Functions that the containerd and docker suites share: daemons, an image, terminals, and looking at cgroups.
Everything is slow on the test host (a Go program takes a second to start), so the suites start few containers and ask
each many questions. ENGINE_RUNTIME=/usr/bin/runc runs them with another runtime, to find out whether caisson causes a
failure.
"""
import fcntl
import hashlib
import http.client
import io
import json
import os
import pty
import socket
import subprocess
import tarfile
import termios
import time

from . import pty_, rootfs

TIMEOUT = 400  # time limit of one command in seconds; ten `docker run` at once took up to 120 s on a busy machine
IMAGE = "docker.io/library/box:latest"
SYSTEMD = os.environ.get("CAISSON_TEST_HOST") == "systemd"


def runtime(binary):
    return os.environ.get("ENGINE_RUNTIME", binary)


def run(*argv, check=None, env=None, stdin=None):
    """Runs a command. check is the exit code that is expected, stdin a text."""
    kw = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    p = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=TIMEOUT, env=env, **kw)
    assert check is None or p.returncode == check, f"{argv}: exit code {p.returncode}, not {check}:\n{p.stdout}{p.stderr}"
    return p


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def wait_for(what, condition, timeout=TIMEOUT):
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.2)


def request(path, method, url, body=None):
    """Sends a request to an engine's HTTP interface on a Unix socket. Returns (status, body)."""
    c = http.client.HTTPConnection("engine", timeout=TIMEOUT)
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.settimeout(TIMEOUT)
    c.sock.connect(path)
    c.request(method, url, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data


def demultiplex(data):
    """Splits the stream of a container without a terminal, which has frames of a header of 8 bytes and text."""
    out = b""
    while len(data) >= 8:
        n = int.from_bytes(data[4:8], "big")
        out, data = out + data[8:8 + n], data[8 + n:]
    return out.decode(errors="replace")


class Daemon:
    def __init__(self, argv, log, env=None):
        self.log = log
        with open(log, "w", encoding="utf-8") as f:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f, env=env)

    def wait_until(self, ready, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while not ready():
            dead = self.process.poll() is not None
            assert not dead and time.monotonic() < end, f"{self.process.args[0]} did not come up:\n{self.tail()}"
            time.sleep(0.2)

    def tail(self, lines=30):
        return "\n".join(read(self.log).splitlines()[-lines:])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Terminal:
    """A program on a pseudo-terminal of 30 rows and 100 columns, as from a user's shell."""

    def __init__(self, *argv, env=None):
        self.fd, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, b"\x1e\x00\x64\x00\x00\x00\x00\x00")

        def control():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([str(a) for a in argv], stdin=other, stdout=other, stderr=other,
                                        preexec_fn=control, env=env)
        os.close(other)

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text, timeout=TIMEOUT):
        return pty_.read_until(self.fd, text.encode(), timeout).decode(errors="replace")

    def end(self):
        """Waits for the exit code. Reads what is still printed, because the program might block on it otherwise."""
        pty_.read_all(self.fd, TIMEOUT)
        return self.process.wait(TIMEOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.fd)


def _add(tar, name, data=None, mode=0o755, link=None, directory=False):
    t = tarfile.TarInfo(name)
    t.mode = mode
    if link:
        t.type, t.linkname = tarfile.SYMTYPE, link
    elif directory:
        t.type = tarfile.DIRTYPE
    else:
        t.size = len(data)
    tar.addfile(t, io.BytesIO(data) if data else None)


def _layer():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for d in "bin dev etc proc root run sys var www".split():
            _add(tar, d, directory=True)
        _add(tar, "tmp", directory=True, mode=0o1777)
        with open("/bin/busybox", "rb") as f:
            _add(tar, "bin/busybox", f.read())
        for a in rootfs.APPLETS:
            _add(tar, f"bin/{a}", link="busybox")
        _add(tar, "etc/passwd", rootfs.PASSWD.encode(), 0o644)
        _add(tar, "etc/group", rootfs.GROUP.encode(), 0o644)
        _add(tar, "www/index.html", b"served from the container\n", 0o644)
    return out.getvalue()


def write_image(path, tag="box:latest", command=("sh",)):
    """Writes a docker-archive of one busybox layer, which `ctr image import` and `docker load` accept."""
    layer = _layer()
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        _add(tar, "layer.tar", layer, 0o644)
        _add(tar, f"{name}.json", config, 0o644)
        _add(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return path


def cgroup_of(pid):
    """Returns the directory of a process's cgroup, as this machine sees it."""
    return "/sys/fs/cgroup" + read(f"/proc/{pid}/cgroup").strip().split("::")[1]


def start_containerd(directory, cri=""):
    """cri: the configuration of the interface for Kubernetes, which is off without it. A daemon with it runs beside the session's daemon, so it
    has directories and a socket of its own."""
    name = "containerd-cri" if cri else "containerd"
    address = f"/run/caisson-tests-{name}.sock"
    off = "" if cri else '"io.containerd.grpc.v1.cri", '
    with open(f"{directory}/config.toml", "w", encoding="utf-8") as f:
        f.write(f"""version = 2
root = "/var/lib/containerd/tests{'-cri' if cri else ''}"
state = "/run/{name}"
disabled_plugins = [{off}"io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{address}"
{cri}""")
    daemon = Daemon(["containerd", "--config", f"{directory}/config.toml"], f"{directory}/log")
    daemon.address = address
    daemon.env = {**os.environ, "CONTAINERD_ADDRESS": address}
    daemon.wait_until(lambda: os.path.exists(address) and run("ctr", "version", env=daemon.env).returncode == 0)
    return daemon
