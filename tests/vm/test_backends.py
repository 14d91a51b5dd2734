# SPDX-License-Identifier: Apache-2.0
"""Tests vhost-user devices that another process on the host serves: file systems of virtiofsd, disks of
qemu-storage-daemon, networks of passt. They run on QEMU, and in the test host on the built-in machine."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import config, mode, network, rootfs
from harness.runtime import status_of, wait_for

BOOT = 150
STORAGE_DAEMON = ["qemu-storage-daemon", "--blockdev", "driver=file,node-name=f,filename=IMAGE", "--export",
                  "type=vhost-user-blk,id=e,addr.type=unix,addr.path=SOCKET,node-name=f,writable=on"]
HERE = os.path.dirname(os.path.abspath(__file__))
# This server has what a new connection needs, INFLIGHT_SHMFD, as SPDK's server does.
OURS = ["/usr/bin/python3", f"{HERE}/vhost_blk.py", "SOCKET", "IMAGE"]
GATEWAY, ADDRESS = "10.213.7.1", "10.213.7.2"


@pytest.fixture
def serve(tmp):
    """Starts servers. Each one's socket exists when the call returns."""
    servers = []

    def start(name, argv):
        path = os.path.join(tmp, name + ".sock")
        p = subprocess.Popen([a.replace("SOCKET", path) for a in argv], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        servers.append(p)
        wait_for(lambda: os.path.exists(path) or p.poll() is not None, f"socket of {name}")
        assert p.poll() is None, f"{argv[0]} ended with {p.poll()}"
        p.path = path
        return p
    yield start
    for p in servers:
        p.kill()
        p.wait()


@pytest.fixture
def share(serve, tmp):
    os.mkdir(os.path.join(tmp, "share"))
    p = serve("share", ["/usr/lib/qemu/virtiofsd", "--socket-path=SOCKET", "-o", f"source={tmp}/share", "-o", "sandbox=chroot"])
    p.directory = os.path.join(tmp, "share")
    yield p
    shutil.rmtree("/run/virtiofsd", ignore_errors=True)  # its lock file, which it leaves


@pytest.fixture
def disk(serve, tmp):
    def make(name, content, program=STORAGE_DAEMON):
        """Makes an image or a share. content is the text of a file "name" in it."""
        tree, image = os.path.join(tmp, name + ".d"), os.path.join(tmp, name + ".img")
        os.mkdir(tree)
        with open(os.path.join(tree, "name"), "w", encoding="ascii") as f:
            f.write(content)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "16M"], check=True, stdout=subprocess.DEVNULL)
        p = serve(name, [a.replace("IMAGE", image) for a in program])
        p.image = image
        return p
    return make


def mount(type_, server, where, *options):
    return {"destination": where, "type": type_, "source": f"vhost-user:{getattr(server, 'path', server)}",
            "options": list(options)}


def last_mount(c):
    return f"mounts[{len(c.conf['mounts']) - 1}]"


@pytest.fixture
def vm(ctr):
    def make(script, *mounts, vm=None):
        c = config.default("sh", "-c", script)
        c["annotations"] = {"io.caisson.vm.boot-timeout": str(BOOT)}
        c["mounts"] += mounts
        c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, **(vm or {})}
        return ctr(conf=c)
    return make


def run(c, **kw):
    return c.run("--isolation", "vm", "--hypervisor", mode.HYPERVISOR, timeout=BOOT, **kw)


def popen(c):
    c.write()
    return c.rt.popen("run", "--bundle", c.bundle, "--isolation", "vm", "--hypervisor", mode.HYPERVISOR, c.id,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_share_and_disks(vm, share, disk):
    """Disks can be given as mounts and as devices, each with its options. Their order is that of the mounts."""
    with open(os.path.join(share.directory, "given"), "w", encoding="ascii") as f:
        f.write("given\n")
    one, two = disk("one", "first\n"), disk("two", "second\n")
    c = vm("cat /share/given /one/name /two/name; echo back >/share/new; echo kept >/one/new; sync; "
           "echo no 2>/dev/null >/two/new || echo refused; grep -E '^[^ ]+ /(one|share) ' /proc/mounts",
           mount("ext4", one, "/one", "nosuid", "nodev"), mount("virtiofs", share, "/share", "noexec"),
           mount("ext4", two, "/two", "ro"))
    r = run(c).ok()
    lines = r.out.splitlines()
    assert lines[:4] == ["given", "first", "second", "refused"], r.out
    mounts = {line.split()[1]: line.split()[2:4] for line in lines[4:]}
    assert mounts["/one"][0] == "ext4" and {"nosuid", "nodev", "rw"} <= set(mounts["/one"][1].split(",")), mounts
    assert mounts["/share"][0] == "virtiofs" and "noexec" in mounts["/share"][1].split(","), mounts
    with open(os.path.join(share.directory, "new"), encoding="ascii") as f:
        assert f.read() == "back\n"
    out = subprocess.run(["debugfs", "-R", "cat new", one.image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert out.stdout == "kept\n"


def test_more_devices_than_interrupt_lines(vm, tmp):
    """If the machine would have more devices than interrupt lines, the error comes before the machine is made."""
    path = os.path.join(tmp, "any.sock")
    with socket.socket(socket.AF_UNIX) as s, network.namespace("cai-many") as netns:
        s.bind(path)
        s.listen(8)
        for i in range(4):
            network.ip("-n", "cai-many", "link", "add", f"a{i}", "type", "veth", "peer", "name", f"b{i}")
        c = vm("true", *[mount("ext4", path, f"/d{i}") for i in range(6)], vm={"image": {"path": path + ".img", "format": "raw"}})
        config.namespaces(c.conf, paths={"network": netns})
        with open(path + ".img", "wb") as f:
            f.truncate(1 << 20)
        run(c).failed("has 8 network interfaces", "19 devices", "vm.image and 6 vhost-user sources of mounts 7 interfaces")


def test_beside_an_image_and_in_a_user_namespace(vm, disk, tmp):
    c = vm("cat /data/name; id -u; cat /proc/self/uid_map", mount("ext4", disk("data", "data\n"), "/data", "ro"))
    os.mkdir(c.path("data"))  # root of the namespace could not make the directory there
    image = os.path.join(tmp, "root.img")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", c.rootfs, image, "64M"], check=True, stdout=subprocess.DEVNULL)
    c.conf["vm"]["image"] = {"path": image, "format": "raw"}
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    r = run(c).ok()
    assert [line.split() for line in r.out.splitlines()] == [["data"], ["0"], ["0", "100000", "65536"]], r.out


@pytest.mark.parametrize("which", ["share", "disk"])
def test_back_end_dies(vm, share, disk, which):
    """A lost disk ends the machine with a message, because a program that uses the disk could only hang."""
    server = share if which == "share" else disk("one", "first\n")
    c = vm("echo up; while :; do sleep 0.1; done",
           mount("virtiofs" if which == "share" else "ext4", server, "/data"))
    p = popen(c)
    assert p.stdout.readline() == b"up\n"
    server.send_signal(signal.SIGKILL)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 1 and re.search(re.escape(last_mount(c)) + ".*hung up", err.decode()), err


WRITERS = """for w in 1 2 3 4; do (for n in 1 2 3; do
seq $n 20000 >/data/$w.$n && sync && echo $w.$n || echo failed; done) & done; wait; cd /data; for f in ?.?; do
seq ${f#*.} 20000 | cmp - $f; done && echo whole"""


def reconnecting(c, seconds):
    c.conf["annotations"]["io.caisson.vm.reconnect"] = seconds
    return c


def connectors():
    """Returns the processes that reconnect, which are the only ones of the host in a microVM's cgroup."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                status = status_of(f.read())
            if status["Name"] == "caisson-connect":
                found.append((status, {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.skipif(mode.HYPERVISOR != "kvm", reason="QEMU can't connect again from its jail: in the test host")
def test_disk_comes_back(vm, disk, serve):
    """A disk whose server is killed three times while the guest writes comes back: the guest notices nothing, and no
    data is lost."""
    server = disk("one", "first\n", OURS)
    again = [a.replace("IMAGE", server.image) for a in OURS]
    c = reconnecting(vm(WRITERS, mount("ext4", server, "/data")), "60")
    p = popen(c)
    # the monitor must end too, because it has the pipe's other end
    limit = threading.Timer(BOOT, c.rt, ("delete", "--force", c.id))
    limit.daemon = True
    limit.start()
    said = [p.stdout.readline().decode().strip()]
    (status, files), = connectors()
    assert int(status["CapEff"], 16) == 1 << 1 and status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status
    assert all(f == "/dev/null" or f.startswith("socket:") for f in files) and len(files) == 2, files
    while len(said) < 12:
        said.append(p.stdout.readline().decode().strip())
        if len(said) in (2, 3, 6):
            server.send_signal(signal.SIGKILL)
            server.wait()
            os.unlink(server.path)
            server = serve("one", again)
    out, err = p.communicate(timeout=BOOT)
    limit.cancel()
    assert not connectors()
    assert (p.returncode, out) == (0, b"whole\n"), (said, out, err)


@pytest.mark.skipif(mode.HYPERVISOR != "kvm", reason="QEMU can't connect again from its jail: in the test host")
def test_disk_stays_away(vm, disk):
    server = disk("one", "first\n", OURS)
    p = popen(reconnecting(vm("echo up; while :; do sleep 0.1; done", mount("ext4", server, "/data")), "1"))
    assert p.stdout.readline() == b"up\n"
    server.send_signal(signal.SIGKILL)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 1 and b"did not come back in time" in err, err


def test_reconnect_refused(vm, disk):
    mounted = mount("ext4", disk("one", "first\n"), "/data")
    for value, words in (("0", "expected 1 to"), ("soon", "expected 1 to"),
                         ("5", "QEMU can't connect again" if mode.HYPERVISOR == "qemu" else "INFLIGHT_SHMFD")):
        r = run(reconnecting(vm("true", mounted), value))
        assert r.rc == 1 and words in r.err, r.err


# The answer to GET_FEATURES: VIRTIO_F_VERSION_1.
FEATURES = struct.pack("<IIIQ", 1, 1 | 4, 8, 1 << 32)


def speak(path, data, first=None):
    """Runs a server that answers every message with the same bytes, and GET_FEATURES with others. b"" means no answer.
    """
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen()

    def serve():
        try:
            c, _ = s.accept()
            with c:
                while said := c.recv(4096):
                    c.sendall(first if first and said[:4] == FEATURES[:4] else data)
        except OSError:
            pass
    t = threading.Thread(target=serve, daemon=True)
    t.start()
    return s


@pytest.mark.parametrize("type_,data,first", [
    ("virtiofs", b"\0" * 64, None), ("ext4", b"\xff" * 64, None), ("ext4", b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
    ("virtiofs", b"\0" * 64, FEATURES), ("ext4", b"\0" * 64, FEATURES), ("ext4", b"", None),
], ids=["zeroes", "ones", "http", "share-later", "disk-later", "silent"])
def test_disk_server_sends_garbage(vm, tmp, type_, data, first):
    """If a disk's server sends garbage, the error names the mount, and does not come only at the machine's time limit.
    """
    path, t = os.path.join(tmp, "s"), time.monotonic()
    with speak(path, data, first):
        c = vm("true", mount(type_, path, "/data"))
        if not data:
            c.conf["annotations"]["io.caisson.vm.boot-timeout"] = "3"
        r = run(c)
    r.failed(last_mount(c))
    assert time.monotonic() - t < 25, r


def test_bad_sources(vm, tmp):
    with open(os.path.join(tmp, "file"), "w", encoding="ascii"):
        pass
    for path, type_, words in (("none", "ext4", "there is no such socket"), ("file", "virtiofs", "cannot connect")):
        r = run(vm("true", mount(type_, os.path.join(tmp, path), "/data")))
        assert r.rc == 1 and "source" in r.err and words in r.err, r.err
    for change, words in (({"source": "vhost-user:relative"}, "absolute path"), ({"type": "bind"}, "virtiofs"),
                          ({"options": ["bind"]}, "virtiofs")):
        m = {**mount("ext4", "/s", "/data"), **change}
        r = run(vm("true", m))
        assert r.rc == 1 and words in r.err, (change, r.err)
    r = run(vm("true", *[mount("ext4", "/s", f"/data{i}") for i in range(7)]))
    assert r.rc == 1 and "at most 6 vhost-user back ends" in r.err, r.err
    for c in (vm("true", mount("ext4", "/s", "/data")), with_net(vm("true"), "/s")):
        r = c.run("--isolation", "ns")
        assert r.rc == 1 and "--isolation vm" in r.err, r.err


# --- networks ---

@pytest.fixture
def gateway(serve):
    return serve("net", ["/usr/bin/python3", f"{HERE}/vhost_net.py", "SOCKET", GATEWAY])


def with_net(c, server, *options):
    c.conf["annotations"]["io.caisson.vm.net"] = ",".join([f"vhost-user:{getattr(server, 'path', server)}", *options])
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
    return c


def test_network(vm, gateway):
    """
    The guest's interface has the annotation's address, MTU and MAC address, and hosts beyond the gateway can be
    reached.
    """
    c = with_net(vm("cd /sys/class/net/net0; cat address mtu carrier; ip -4 addr show net0; ip -6 addr show net0; ip route; "
                    f"ping -c 2 -W 10 {GATEWAY} | grep transmitted; ping -s 1300 -c 1 -W 10 {GATEWAY} | grep transmitted"),
                 gateway, "name=net0", "mac=02:ca:ca:00:00:01", "mtu=1400", f"address={ADDRESS}/24", f"gateway={GATEWAY}",
                 "address=fd00::2/64")
    r = run(c).ok()
    lines = r.out.splitlines()
    assert lines[:3] == ["02:ca:ca:00:00:01", "1400", "1"], r.out
    assert f"inet {ADDRESS}/24" in r.out and "inet6 fd00::2/64" in r.out and f"default via {GATEWAY} dev net0" in r.out, r.out
    assert [line.split(", ")[:2] for line in lines[-2:]] == [["2 packets transmitted", "2 packets received"],
                                                           ["1 packets transmitted", "1 packets received"]], r.out


def passt_with_vhost_user():
    passt = shutil.which("passt")
    return passt and "--vhost-user" in subprocess.run([passt, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                                      check=False, text=True).stdout


@pytest.mark.skipif(not passt_with_vhost_user(), reason="no passt that knows --vhost-user (of the end of 2024; Debian 12's is of 2023)")
def test_passt(vm, serve):
    """passt works: the guest reaches the host's loopback by the gateway's address, with ARP and TCP as another project
    implements them. The test sends data only to the host, because on Linux 6.1, the test host's, a passt of January
    2025 sent the same data to the guest again and again.
    """
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def receive():
            with listener.accept()[0] as s:
                received.append(s.makefile("rb").read())
        t = threading.Thread(target=receive, daemon=True)
        t.start()
        passt = serve("passt", ["passt", "--foreground", "--quiet", "--vhost-user", "--socket", "SOCKET", "--runas", "0", "--ipv4-only",
                                "--interface", "lo", "--address", ADDRESS, "--netmask", "24", "--gateway", GATEWAY])
        c = with_net(vm(f"echo sent | nc -w 10 {GATEWAY} {listener.getsockname()[1]}"), passt, f"address={ADDRESS}/24",
                     f"gateway={GATEWAY}")
        run(c).ok()
        t.join(30)
    assert received == [b"sent\n"]


def test_network_dies(vm, gateway):
    c = with_net(vm("echo up; while :; do sleep 0.1; done"), gateway)
    p = popen(c)
    assert p.stdout.readline() == b"up\n"
    gateway.send_signal(signal.SIGKILL)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 1 and b"annotation io.caisson.vm.net: " in err and b"hung up" in err, err


def test_bad_networks(vm, gateway, tmp):
    """Each error names the annotation, and comes before the machine is made."""
    for server, option, words in ((os.path.join(tmp, "none"), "mtu=1500", "there is no such socket"),
                                  (gateway, "ip=10.0.0.1/8", 'found "ip"'), (gateway, "mac=1", "mac: expected six bytes")):
        r = run(with_net(vm("true"), server, option))
        assert r.rc == 1 and "annotation io.caisson.vm.net: " in r.err and words in r.err, r.err
    with network.veth("cai-net", "10.213.8.1", "10.213.8.2") as path:
        c = with_net(vm("true"), gateway)
        config.namespaces(c.conf, paths={"network": path})
        r = run(c)
    assert r.rc == 1 and "annotation io.caisson.vm.net: " in r.err and "another name=" in r.err, r.err


@pytest.mark.parametrize("data", [b"\0" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["zeroes", "http"])
def test_network_garbage(vm, tmp, data):
    with speak(os.path.join(tmp, "s"), data):
        r = run(with_net(vm("true"), os.path.join(tmp, "s")))
    assert r.rc == 1 and "annotation io.caisson.vm.net" in r.err, r.err
