# SPDX-License-Identifier: Apache-2.0
"""Tests whole machines: `caisson run --disk` boots the operating system of a disk. tests/lib/debian-disk makes a Debian as
cloud images have it. It boots once for many checks, because that takes minutes in software."""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from harness import mode, oci, rootfs
from test_inside import MiB, digest, put, run

BOOT = 1500
SSH = 300  # a busy machine takes long for the handshake
LOOK = 120 if mode.HYPERVISOR == "qemu" else 400  # seconds in which a microVM looks into a disk
# The modules of cloud-init that take longest in software have less to do.
USER_DATA = """#cloud-config
locale: C.UTF-8
ssh_genkeytypes: [ed25519]
apt: {preserve_sources_list: true}
write_files:
  - path: /root/seed-was-here
    content: "yes"
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2dnJycnJycnJycnJycnJycnJycnJycnJycnJycnJyc nobody\n"


def until(what, seconds, every=1.0):
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "it did not happen"
        time.sleep(every)


@pytest.fixture(scope="session")
def debian_disk():
    script = os.path.join(rootfs.TESTS, "lib", "debian-disk")
    return subprocess.run([script], check=True, capture_output=True, text=True).stdout.split("\n")[-2]


class Machines:
    def __init__(self, rt, tmp):
        self.rt, self.tmp, self.dir = rt, tmp, os.path.join(tmp, "machines")

    def words(self, *args):
        return ["run", "--isolation", "vm", "--hypervisor", mode.HYPERVISOR,
                "--inspect-kernel", mode.packaged_kernel(rootfs.CACHE), *args]

    def run(self, *args, timeout=LOOK, **kw):
        r = self.rt(*self.words(*args), timeout=timeout, **kw)
        r.err = "".join(l for l in r.err.splitlines(keepends=True) if "runs in software" not in l)
        return r

    def agent(self, name):
        """Which agent in the machine `state` names."""
        return self.rt("state", name).json()["annotations"].get("io.caisson.vm.agent")

    def status(self, name):
        return self.rt("state", name).json()["status"]


@pytest.fixture
def machines(rt, tmp, monkeypatch):
    monkeypatch.setenv("TMPDIR", tmp)
    monkeypatch.setenv("CAISSON_MACHINES", os.path.join(tmp, "machines"))
    yield Machines(rt, tmp)
    for c in rt("list", "--format", "json").json() or []:
        rt("delete", "--force", c["id"])
    # The default network stays after its machines.
    if os.path.exists("/etc/caisson/net/caisson.json"):
        rt("net", "rm", "--force", "caisson").ok()
    assert os.listdir(tmp + "/machines") == [] if os.path.isdir(tmp + "/machines") else True


def console_says(rt, name, typed, wanted, seconds=60):
    """Attaches to the console on a terminal, types, and returns what it says up to the wanted text."""
    ours, theirs = pty.openpty()
    p = subprocess.Popen(rt.argv("console", name), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said, end = b"", time.monotonic() + seconds
    try:
        os.write(ours, typed)
        while wanted not in said and time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                said += os.read(ours, 65536)
        os.write(ours, b"\x1d")
        assert p.wait(20) == 0
    finally:
        p.kill()
        os.close(ours)
    return said


# A program in the machine that poses as the agent: first an ordinary user, whom the kernel gives no port below 1024 and the
# monitor refuses, then root, who sends what no agent may send.
IMPOSTOR = r"""
import os, socket, struct, sys
def say(port, *bodies):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    s.settimeout(60)
    if port:
        s.bind((socket.VMADDR_CID_ANY, port))
    s.connect((2, 1023))
    for b in bodies:
        s.sendall(struct.pack("<II", len(b), 0) + b)
    assert s.recv(1) == b""
HELLO = b'{"type":"hello","version":3,"kernel":"x","clock":1}'
if os.getuid():
    for port, error in ((700, PermissionError), (0, ConnectionResetError)):
        try:
            say(port, HELLO)
        except error:
            print("refused")
    sys.exit()
say(701, b"{}")
say(702, b'{"type":"ps"}')
say(703, b'{"type":"hello","version":99}')
say(704, HELLO, HELLO)
for i, body in enumerate((b'{"type":"exited","process":0,"status":0}', b'{"type":"reached","process":0,"barrier":"created"}',
                          b'{"type":"running","process":0}', b'{"type":"resumed"}', b'{"type":"failed","process":"x"}')):
    say(705 + i, HELLO, body)
open("/run/impostor-done", "w").close()
"""


def check_agent(m, name, tmp):
    """What the commands do by the agent, without ssh."""
    rt = m.rt

    def inside(*words, options=(), **kw):
        return rt("exec", *options, name, *words, timeout=SSH, **kw)

    until(lambda: m.agent(name) == "answers", BOOT)
    assert inside("id", "-un").ok().out == "root\n"
    assert inside("sh", "-c", "exit 7").rc == 7 and inside("sh", "-c", "kill -9 $$").rc == 137
    assert inside("echo", "a  b", "$HOME", "it's", "*").ok().out == "a  b $HOME it's *\n"
    inside("nosuch").failed("nosuch", "not found")
    inside("true", options=("--cwd", "/nosuch")).failed("/nosuch")
    options = ("--user", "65534:65534", "--additional-gids", "5", "--cwd", "/tmp", "--env", "A=b c", "--env", "B=\udcff")
    out = inside("sh", "-c", 'id; pwd; echo "$A $HOME"; printf %s "$B"; grep CapEff /proc/self/status', options=options).ok().raw
    assert out == (b"uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup),5(tty)\n/tmp\nb c /nonexistent\n"
                   b"\xffCapEff:\t0000000000000000\n"), out
    data = os.urandom(MiB)
    assert inside("cat", input=data).ok().raw == data
    for option in (("--cap", "CAP_NET_RAW"), ("--cgroup", "x"), ("--timeline", "x.json")):
        inside("true", options=option).failed(option[0], "agent")
    inside("sleep", "1000", options=("--detach",)).ok()
    # A busy machine may not make the list in time.
    out = until(lambda: rt("ps", name).out, BOOT)
    assert "/sbin/init" in out and "caisson-agent --service" in out and "sleep 1000" in out
    assert 1 in json.loads(until(lambda: rt("ps", "--format", "json", name).out, BOOT))
    # Another program in the machine is not the agent, whatever it says, and does the machine no harm.
    inside("tee", "/run/impostor", input=IMPOSTOR).ok()
    words = ("python3", "/run/impostor")
    assert inside(*words, options=("--user", "65534:65534")).ok().out == "refused\nrefused\n"
    inside(*words, options=("--detach",)).ok()
    until(lambda: inside("cat", "/run/impostor-done").rc == 0, BOOT)
    assert m.status(name) == "running"
    # The execs of an agent that ends do not end, and the next agent takes its place.
    inside("systemctl", "restart", "caisson-agent")
    until(lambda: inside("true").rc == 0, BOOT)
    assert "sleep 1000" in until(lambda: rt("ps", name).out, BOOT)
    inside("systemctl", "stop", "caisson-agent")
    until(lambda: m.agent(name) == "qemu-guest-agent", BOOT)


def check_qemu_agent(m, name):
    """What the commands do by qemu-guest-agent, which Debian has started. They go by ssh if it may run no commands, or stops."""
    rt = m.rt

    def inside(*words, options=(), **kw):
        return rt("exec", *options, name, *words, timeout=SSH, **kw)

    r = inside("sh", "-c", 'cat; echo "$1 $A $HOME"; pwd; id -un; echo err >&2; exit 7', "x", "it's  a", options=("--env", "A=b c"), input="in ")
    assert r.rc == 7 and r.out == "in it's  a b c /root\n/\nroot\n" and r.err == "err\n", r
    assert inside("sh", "-c", "kill -9 $$").rc == 137
    inside("nosuch").failed("nosuch", "qemu-guest-agent", "No such file")
    data = os.urandom(300000)
    assert inside("cat", input=data).ok().raw == data
    inside("cat", input=b"x" * (4 * MiB + 1)).failed("standard input", "4194304", "install-agent")
    inside("head", "-c", str(17 * MiB), "/dev/zero", stdout=subprocess.DEVNULL).failed("standard output", "16 MiB")
    for option, hint in ((("--cwd", "/"), "env --chdir"), (("--user", "1"), "runuser"), (("--cap", "CAP_NET_RAW"), "can't"),
                         (("--env", "A=\udcff"), "UTF-8")):
        inside("true", options=option).failed(option[0], hint, "install-agent")
    inside("sleep", "2000", options=("--detach",)).ok()
    out = rt("ps", name, timeout=SSH).ok().out
    assert out.startswith("UID") and "/sbin/init" in out and "qemu-ga" in out and "sleep 2000" in out and " ps " not in out
    assert 1 in rt("ps", "--format", "json", name, timeout=SSH).ok().json()
    inside("sh", "-c", "mkdir -p /etc/qemu; printf '[general]\nblock-rpcs=guest-exec\n' >/etc/qemu/qemu-ga.conf").ok()
    inside("systemctl", "restart", "--no-block", "qemu-guest-agent", options=("--detach",)).ok()
    until(lambda: "guest-exec" in rt("ps", name, timeout=SSH).err, BOOT)
    assert m.agent(name) == "qemu-guest-agent" and inside("id", "-un").ok().out == "debian\n"
    inside("sudo", "rm", "/etc/qemu/qemu-ga.conf").ok()
    inside("sudo", "systemctl", "stop", "qemu-guest-agent").ok()
    until(lambda: m.agent(name) == "does not answer", BOOT)
    rt("ps", name).failed("no agent of caisson answers")


def check_life(m, name):
    """What the commands say of a machine without an agent."""
    rt = m.rt
    (line,) = rt("list", "--format", "json").json()
    assert line["status"] == "running" and line["pid"] > 0
    rt("ps", name).failed("operating system of its own", "caisson console", "--ssh-key")
    for command in (("update", "--memory", "1g", name), ("events", "--stats", name), ("checkpoint", name)):
        r = rt(*command).failed("operating system of its own", "caisson can't do that")
        assert "agent" not in r.err, r
    rt("kill", name, "USR1").failed("signal 10", "power button")
    rt("exec", "--cwd", "/", name, "true").failed("--cwd", "ssh")
    rt("exec", "--detach", name, "true").failed("--detach", "ssh")
    rt("kill", name, "0").ok()


def check_pause(m, name):
    """A paused machine stands still: its sshd, at the published port, answers nobody until the machine goes on."""
    rt = m.rt

    def banner(timeout):
        with socket.create_connection(("127.0.0.1", 2222), timeout) as s:
            return s.recv(8)

    rt("pause", name).ok()
    assert m.status(name) == "paused"
    with pytest.raises(TimeoutError):
        banner(2)
    rt("pause", name).failed("paused already")
    for command in (("exec", name, "true"), ("ps", name), ("events", "--stats", name)):
        rt(*command).failed("paused", "caisson resume")
    rt("kill", name, "0").ok()
    rt("resume", name).ok()
    assert m.status(name) == "running" and banner(SSH) == b"SSH-2.0-"
    rt("resume", name).failed("not paused")


def check_inside(m, name, tmp):
    """What the operating system got: name, user, network, disk, seed."""
    def inside(*words):
        return m.rt("exec", name, *words, timeout=SSH)

    assert inside("hostname").ok().out == "web-1\n"
    assert inside("id", "-un").ok().out == "debian\n"
    assert inside("echo", "a  b", "$HOME", "it's", "*").ok().out == "a  b $HOME it's *\n"
    assert inside("sh", "-c", "exit 7").rc == 7
    assert int(inside("df", "--output=size", "-BM", "/").ok().out.split()[1].rstrip("M")) > 3000
    # The files are at the beginning of the seed, and the rest of it is empty.
    path = put(tmp, "seed.img", inside("sudo", "head", "-c", "131072", "/dev/vdb").ok().raw)
    os.truncate(path, 16 * MiB)
    run("fsck.vfat", "-n", path)
    read = lambda f: subprocess.run(["mtype", "-i", path, f"::{f}"], check=True, capture_output=True, text=True).stdout
    assert read("user-data") == USER_DATA
    meta = json.loads(read("meta-data"))
    assert (meta["instance-id"], meta["local-hostname"]) == ("007", "web-1")
    net = json.loads(read("network-config"))
    assert net["version"] == 2
    addresses = json.loads(inside("ip", "-j", "address", "show", "scope", "global").ok().out)
    assert sorted(net["ethernets"]["nic0"]["addresses"]) == sorted(
        f"{a['local']}/{a['prefixlen']}" for i in addresses for a in i.get("addr_info", []) if "local" in a)
    assert inside("sudo", "blkid", "-o", "value", "-s", "LABEL", "/dev/vdb").ok().out == "CIDATA\n"
    assert until(lambda: inside("sudo", "cat", "/root/seed-was-here").out, BOOT) == "yes"
    data = json.loads(inside("cat", "/run/cloud-init/instance-data.json").ok().out)
    assert data["v1"]["instance_id"] == "007"


def with_agent(m, disk, tmp):
    """Returns an overlay of the disk into which the agent was put."""
    overlay = os.path.join(tmp, "agent.qcow2")
    m.rt("disk", "create", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay).ok()
    r = m.rt("machine", "install-agent", "--hypervisor", mode.HYPERVISOR, "--kernel", mode.packaged_kernel(rootfs.CACHE),
             "--backing", "/", overlay, timeout=LOOK)
    assert r.rc == 0 and r.out == "put the agent into Debian GNU/Linux 12 (bookworm)\n", r
    return overlay


def test_machine(machines, debian_disk, tmp):
    """A cloud image boots by one command, takes its seed, grows its file system, serves ssh at a published port, and ends
    by qemu-guest-agent, not by its power button. Commands go by caisson's agent, by qemu-guest-agent, and by ssh when there is none. The image is not
    changed."""
    m, rt = machines, machines.rt
    before = digest(debian_disk)
    disk = with_agent(m, debian_disk, tmp)
    key = os.path.join(tmp, "id")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    data = put(tmp, "user-data", USER_DATA)
    m.run("--disk", disk, "--backing", "/", "--size", "4G", "--cloud-init", data, "--ssh-key", key + ".pub", "--hostname", "web-1",
          "-p", "2222:22", "-m", "1200M", "-d", "007").ok()
    # The image is the machine's backing file, so no one may write to it, and others may read it.
    m.run("--disk", debian_disk, "other").failed("--disk", "another process", "--overlay")
    until(lambda: rt("exec", "007", "true", timeout=SSH).rc == 0, BOOT)
    check_agent(m, "007", tmp)
    check_qemu_agent(m, "007")
    check_life(m, "007")
    until(lambda: rt("exec", "007", "true", timeout=SSH).rc == 0, BOOT)
    check_inside(m, "007", tmp)
    check_pause(m, "007")
    by_port = subprocess.run(["ssh", "-p", "2222", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                              "-o", "LogLevel=ERROR", "debian@127.0.0.1", "cat", "/etc/debian_version"],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SSH)
    assert by_port.returncode == 0 and by_port.stdout.startswith("12"), by_port
    said = console_says(rt, "007", b"\n", b"web-1 login:", SSH)
    assert b"Linux version" in said and b"web-1 login:" in said
    rt("exec", "007", "sudo", "systemctl", "start", "qemu-guest-agent", timeout=SSH).ok()
    until(lambda: rt("exec", "007", "id", "-un", timeout=SSH).out == "root\n", BOOT)
    # logind alone reacts to the power button. It is not masked, because shutdown(8), which the agent runs, needs it.
    ignore = "mkdir -p /run/systemd/logind.conf.d; printf '[Login]\\nHandlePowerKey=ignore\\n' >/run/systemd/logind.conf.d/x.conf"
    rt("exec", "007", "sh", "-c", ignore + "; systemctl restart systemd-logind", timeout=SSH).ok()
    rt("kill", "007").ok()
    until(lambda: m.status("007") == "stopped", BOOT)
    rt("exec", "007", "true").failed("not running")
    rt("console", "007").failed("not running")
    rt("delete", "007").ok()
    assert os.listdir(m.dir) == [] and digest(debian_disk) == before


def test_panic_in_the_foreground(machines, debian_disk):
    """The console is the standard output of `run`. A kernel that panics ends the machine with an error, and what the
    machine wrote is dropped."""
    r = machines.run("--disk", debian_disk, "--ephemeral", "--append", "init=/usr/bin/true", "p1", timeout=BOOT)
    assert "Linux version" in r.out and "init=/usr/bin/true" in r.out
    assert r.rc == 1 and "panicked" in r.err and "Kernel panic" in r.err, r


# Stands for caisson: it looks into the disk as caisson does, and keeps what would boot.
STUB = """#!/bin/sh
for word; do case $previous in --bundle) bundle=$word;; esac; previous=$word; done
[ -d "$bundle/seed" ] || exec "$REAL" "$@"
mkdir "$KEPT" && cp -r "$bundle/." "$KEPT" && rm -r "$bundle"
"""


@pytest.fixture
def boots(machines, binary, tmp, monkeypatch):
    """boots(TREE, ...) makes a disk with those files, and returns what `run --disk` would boot."""
    stub = put(tmp, "stub", STUB, 0o755)
    monkeypatch.setenv("REAL", binary)
    monkeypatch.setenv("CAISSON_DISK_STATE", machines.rt.root)
    monkeypatch.setenv("CAISSON_DISK_RUNTIME", stub)
    helper = os.path.join(os.path.dirname(binary), "caisson-inside")
    count = []

    def look(disk, *options):
        p = subprocess.run([helper, "--machine", *machines.words("--disk", disk, *options, "m1")[1:]],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LOOK)
        if p.returncode:
            return "\n".join(l for l in p.stderr.splitlines() if "runs in software" not in l)
        kept = os.environ["KEPT"]
        read = lambda n: open(os.path.join(kept, n)).read() if os.path.exists(os.path.join(kept, n)) else None
        conf = json.loads(read("config.json"))
        return read("kernel"), read("initrd"), " ".join(conf["vm"]["kernel"]["parameters"]), conf

    def boots(files, *options, ephemeral=True):
        count.append(1)
        tree, disk = os.path.join(tmp, f"tree{len(count)}"), os.path.join(tmp, f"disk{len(count)}.raw")
        kept = os.path.join(tmp, f"kept{len(count)}")
        for d in ("bin", "boot", "etc"):
            os.makedirs(os.path.join(tree, d))
        for name, content in files.items():
            put(tree, name, content)
        with open(disk, "wb") as f:
            f.truncate(24 * MiB)
        run("mke2fs", "-t", "ext4", "-U", "11111111-2222-3333-4444-555555555555", "-d", tree, disk)
        monkeypatch.setenv("KEPT", kept)
        return look(disk, *["--ephemeral"] * ephemeral, *options)

    boots.look = look
    return boots


RELEASE = {"etc/os-release": 'PRETTY_NAME="Tiny 1"\nID=tiny\n'}


def test_boot_entries(boots):
    """Each kind of boot loader's configuration is read as the boot loader reads it."""
    bls = boots({**RELEASE, "boot/vmlinuz-6.9": "K9", "boot/vmlinuz-6.10": "K10", "boot/i-6.10": "I10", "boot/early": "E",
                 "boot/vmlinuz-0-rescue-x": "R", "boot/grub2/grubenv": "# GRUB\nkernelopts=root=LABEL=fedora ro rhgb\n",
                 "boot/loader/entries/x-0-rescue.conf": "linux /vmlinuz-0-rescue-x\n",
                 "boot/loader/entries/x-6.9.conf": "title F\nlinux /vmlinuz-6.9\noptions root=LABEL=old\n",
                 "boot/loader/entries/x-6.10.conf": "title F\nlinux /vmlinuz-6.10\ninitrd /early /i-6.10 $tuned_initrd\n"
                                                    "options $kernelopts $tuned_params console=ttyS0\n",
                 "etc/cloud/cloud.cfg": "system_info:\n  default_user:\n    name: 'fedora'\n    gecos: x\n"},
                "--append", "quiet  x=1")
    assert bls[:3] == ("K10", "E\0\0\0I10", "root=LABEL=fedora ro rhgb console=ttyS0 quiet x=1")
    extlinux = boots({**RELEASE, "boot/vmlinuz-virt": "KV", "boot/initramfs-virt": "IV",
                      "boot/extlinux.conf": "DEFAULT menu.c32\nLABEL virt\n  MENU LABEL Linux virt\n  LINUX vmlinuz-virt\n"
                                            "  INITRD initramfs-virt\n  APPEND root=LABEL=/ modules=ext4 \nLABEL old\n  LINUX no\n"})
    assert extlinux[:3] == ("KV", "IV", "root=LABEL=/ modules=ext4")
    newest = boots({**RELEASE, "boot/vmlinuz-5.10.0-9": "K9", "boot/vmlinuz-5.10.0-30": "K30", "boot/initrd.img-5.10.0-30": "I30",
                    "boot/grub/grub.cfg": "linux /boot/$kernel root=/dev/sda\nlinux /boot/gone root=/dev/sda\n"})
    assert newest[:3] == ("K30", "I30", "root=UUID=11111111-2222-3333-4444-555555555555 ro")


def test_hostile_user(boots, tmp):
    """The user that a disk names is an argument of ssh, so it is nothing but a name."""
    key = put(tmp, "id.pub", KEY)
    for name, user in (("cloud-user.1", "cloud-user.1"), ("-oProxyCommand=id", "root"), (".x", "root"), ("a%d", "root"),
                       ("a@b", "root")):
        found = boots({**RELEASE, "boot/vmlinuz-1": "K", "etc/cloud/cloud.cfg": f"system_info:\n  default_user:\n    name: {name}\n"},
                      "--ssh-key", key)
        assert found[3]["annotations"]["io.caisson.vm.ssh.user"] == user


def test_hostile_and_empty_disks(boots, tmp):
    """A disk that has nothing to boot says what was looked for and what to do. Links on a disk stay in it."""
    secret = put(tmp, "secret", "of the host")
    efi = boots({**RELEASE, "boot/efi/EFI/debian/grubx64.efi": "MZ"})
    assert "Tiny 1" in efi and "no kernel" in efi and "--kernel" in efi and efi.count("\n") == 0
    assert "no operating system" in boots({"home/x": ""})
    grub = boots({**RELEASE, "boot/k": "K", "boot/grub/grub.cfg": f"menuentry 'x' {{\n\tlinux\t(hd0,1)/boot/k 'a b' \"c\" d=\x01\u00e4 $e\n"
                  f"\tinitrd\t/../../../..{secret}\n}}\n"})
    assert "initramfs" in grub and "not there" in grub
    known = boots({**RELEASE, "boot/k": "K", "boot/grub/grub.cfg": "menuentry 'x' {\n\tlinux\t(hd0,1)/boot/k 'a b' root=x d=\x01\u00e4 $e\n}\n"})
    assert known[:3] == ("K", None, "a b root=x d=???")


def test_what_is_written_where(boots, tmp):
    """The disk, a temporary file, an overlay that stays, or one that goes with the machine. The disk itself never grows."""
    kernel = put(tmp, "k", "a kernel of mine")
    overlay = os.path.join(tmp, "kept.qcow2")
    size = lambda f: json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", f], check=True, capture_output=True).stdout)["virtual-size"]

    def image(*options, **kw):
        found = boots({}, "--kernel", kernel, "--append", "root=/dev/vda1 rw", *options, **kw)
        assert found[0] == "a kernel of mine" and found[2] == "root=/dev/vda1 rw", found
        conf = found[3]
        return conf["vm"]["image"]["path"], conf["vm"]["image"]["format"], conf["annotations"]["io.caisson.vm.image.snapshot"]

    assert image() == (os.path.join(tmp, "disk1.raw"), "raw", "true")
    path, form, dropped = image("--size", "1G")
    assert os.path.basename(path) == "disk.qcow2" and path.startswith(os.path.join(tmp, "machines", "m1-")) and (form, dropped) == ("qcow2", "false")
    assert size(os.path.join(tmp, "kept2", "disk.qcow2")) == 1 << 30 and size(os.path.join(tmp, "disk2.raw")) == 24 * MiB
    assert image(ephemeral=False) == (os.path.join(tmp, "disk3.raw"), "raw", "false")
    assert image("--overlay", overlay, "--size", "2G", ephemeral=False) == (overlay, "qcow2", "false") and size(overlay) == 2 << 30
    # It is used again as it is.
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4096", overlay)
    before = digest(overlay)
    assert image("--overlay", overlay, ephemeral=False)[0] == overlay and digest(overlay) == before


def test_files_of_the_seed(boots, tmp):
    """The files for cloud-init are taken as they are; meta-data is caisson's own."""
    files = {"cloud-init": "#cloud-config\na: 1\n", "vendor-data": "#cloud-config\nb: 2\n", "network-config": "version: 2\nethernets: {}\n", "ssh-key": KEY}
    options = [w for name, text in files.items() for w in ("--" + name, put(tmp, name + ".in", text))]
    found = boots({}, "--kernel", put(tmp, "k", "K"), *options, "--hostname", "web")
    seed = found[3]["annotations"]["io.caisson.vm.seed"]
    assert len(found) == 4 and os.path.basename(seed) == "seed"
    read = lambda n: open(os.path.join(os.environ["KEPT"], "seed", n), encoding="utf-8").read()
    assert (read("user-data"), read("vendor-data"), read("network-config")) == tuple(files[n] for n in ("cloud-init", "vendor-data", "network-config"))
    meta = json.loads(read("meta-data"))
    assert (meta["instance-id"], meta["local-hostname"]) == ("m1", "web") and KEY.strip() in str(meta)


def test_nothing_stays_of_a_failure(machines, tmp):
    """An overlay that the command has made is removed, and one that was there stays."""
    disk, overlay, kept = (os.path.join(tmp, n) for n in ("d.qcow2", "new.qcow2", "kept.qcow2"))
    for path in (disk, kept):
        run("qemu-img", "create", "-f", "qcow2", path, "8M")
    machines.run("--disk", disk, "--overlay", overlay, "--size", "16M", "--kernel", "/nosuch").failed("--kernel", "/nosuch")
    assert not os.path.exists(overlay)
    machines.run("--disk", disk, "--overlay", kept, "--kernel", "/nosuch").failed("--kernel", "/nosuch")
    assert os.path.exists(kept)


# Stands for caisson while it looks into the disk, which takes long.
SLOW = """#!/usr/bin/python3
import os, shutil, signal, sys
open(os.environ["BEGUN"], "w").close()
signal.alarm(120)  # ends this process if the test has failed
signal.sigwait([signal.SIGTERM])
shutil.rmtree(sys.argv[sys.argv.index("--bundle") + 1])
open(os.environ["ENDED"], "w").close()
sys.exit(1)
"""


@pytest.mark.parametrize("sig", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_during_the_look(machines, binary, tmp, monkeypatch, sig):
    """A signal ends the look into the disk, and nothing stays of the machine."""
    disk, overlay, begun, ended = (os.path.join(tmp, n) for n in ("d.qcow2", "o.qcow2", "begun", "ended"))
    run("qemu-img", "create", "-f", "qcow2", disk, "8M")
    for name, value in (("BEGUN", begun), ("ENDED", ended), ("CAISSON_DISK_STATE", machines.rt.root),
                        ("CAISSON_DISK_RUNTIME", put(tmp, "slow", SLOW, 0o755))):
        monkeypatch.setenv(name, value)
    helper = os.path.join(os.path.dirname(binary), "caisson-inside")
    p = subprocess.Popen([helper, "--machine", *machines.words("--disk", disk, "--overlay", overlay, "--size", "16M", "m1")[1:]],
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: os.path.exists(begun), 60, 0.05)
    assert len(os.listdir(machines.dir)) == 1 and os.path.exists(overlay)
    p.send_signal(getattr(signal, sig))
    err = p.communicate(timeout=60)[1]
    assert p.returncode == 1 and "ended by signal" in err, err
    until(lambda: os.path.exists(ended), 60, 0.05)
    assert os.listdir(machines.dir) == [] and not os.path.exists(overlay)


def test_containerdisk(boots, monkeypatch, binary, tmp):
    """The disk in an image of containers is taken as it is in the store, and only read."""
    images = oci.Images(os.path.join(os.path.dirname(binary), "caisson-image"), os.path.join(tmp, "store"))
    layout = oci.Layout(os.path.join(tmp, "layout"))
    disk = os.path.join(tmp, "a.qcow2")
    run("qemu-img", "create", "-f", "qcow2", disk, "8M")
    with open(disk, "rb") as f:
        qcow2 = f.read()
    for tag, files, data in (("one", ["a.qcow2"], qcow2), ("img", ["a.img"], qcow2), ("plain", ["a.img"], bytes(MiB)),
                             ("two", ["a.raw", "b.raw"], bytes(MiB)), ("none", [], b"")):
        layout.image([oci.tar(oci.entry("disk/", "dir"), *[oci.entry("disk/" + f, data=data) for f in files])], tag)
        images("import", f"oci:{layout.path}:{tag}")
    monkeypatch.setenv("KEPT", os.path.join(tmp, "kept"))
    kernel = ["--store", images.store, "--kernel", put(tmp, "k", "K")]
    found = boots.look("image:one", "--ephemeral", *kernel)
    assert len(found) == 4, found
    conf = found[3]
    assert conf["vm"]["image"]["path"].startswith(images.store + "/layers/") and conf["vm"]["image"]["path"].endswith("/disk/a.qcow2")
    assert (conf["vm"]["image"]["format"], conf["annotations"]["io.caisson.vm.image.snapshot"]) == ("qcow2", "true")
    # NAME.img is what its content says, unless --format says something else.
    for i, (tag, options, wanted) in enumerate((("img", (), "qcow2"), ("plain", (), "raw"), ("img", ("--format", "raw"), "raw"))):
        monkeypatch.setenv("KEPT", os.path.join(tmp, f"kept{i}"))
        assert boots.look("image:" + tag, *options, "--ephemeral", *kernel)[3]["vm"]["image"]["format"] == wanted
    # Without --ephemeral the machine writes to an overlay of its own.
    monkeypatch.setenv("KEPT", os.path.join(tmp, "kept-overlay"))
    conf = boots.look("image:plain", *kernel)[3]
    assert (conf["vm"]["image"]["format"], conf["annotations"]["io.caisson.vm.image.snapshot"]) == ("qcow2", "false")
    assert os.path.basename(conf["vm"]["image"]["path"]) == "disk.qcow2" and "backing" not in str(conf["annotations"])
    assert "2 disks" in boots.look("image:two", "--ephemeral", *kernel)
    assert "no disk" in boots.look("image:none", "--ephemeral", *kernel)
    assert "nosuch" in boots.look("image:nosuch", "--ephemeral", *kernel)


def test_run_image_boots_the_disk(rt, machines, binary, tmp):
    """`run --isolation vm --image` boots the disk in an image that has no program, and keeps the machine as it keeps a
    container. The options of containers are refused for it, and those of machines for an image with a program."""
    images = oci.Images(os.path.join(os.path.dirname(binary), "caisson-image"), os.path.join(tmp, "store"))
    layout = oci.Layout(os.path.join(tmp, "layout"))
    tree, disk = os.path.join(tmp, "tree"), os.path.join(tmp, "disk.img")
    os.makedirs(tree)
    with open(disk, "wb") as f:
        f.truncate(24 * MiB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, disk)
    with open(disk, "rb") as f:
        data = f.read()
    layout.image([oci.tar(oci.entry("disk/", "dir"), oci.entry("disk/disk.img", data=data))], "d")
    layout.image([oci.tar(oci.entry("bin/", "dir"))], "program", config={"Cmd": ["/bin/x"]})
    for tag in ("d", "program"):
        images("import", f"oci:{layout.path}:{tag}")
    kernel = mode.packaged_kernel(rootfs.CACHE)
    # The disk has no init, so its kernel panics once it has mounted the disk, or has found no driver for it.
    words = ["--image", "d", "--store", images.store, "--kernel", kernel, "--append", "console=ttyS0 panic=-1"]
    r = machines.run(*words, "--name", "m1", "--ephemeral", timeout=LOOK)
    assert r.rc == 1 and "Linux version" in r.out and "panicked" in r.err, r
    assert machines.status("m1") == "stopped" and len(os.listdir(machines.dir)) == 1
    rt("delete", "m1").ok()
    assert os.listdir(machines.dir) == []
    r = machines.run(*words, "--rm", timeout=LOOK)
    assert r.rc == 1 and "Linux version" in r.out and os.listdir(machines.dir) == []
    r = machines.run(*words, "--detach", "--name", "m2", timeout=LOOK)
    assert (r.rc, r.out) == (0, "m2\n"), r
    (bundle,) = os.listdir(machines.dir)
    assert "disk.qcow2" in os.listdir(os.path.join(machines.dir, bundle))
    rt("delete", "--force", "m2").ok()
    assert os.listdir(machines.dir) == []
    machines.run(*words, "--detach", "--rm", "--name", "m2").failed("--rm", "caisson rm m2")
    machines.run(*words, "-e", "A=1").failed("--image d", "caisson-machine(7)", "unknown option -e")
    machines.run("--image", "program", "--store", images.store, "--ssh-key", "x").failed("--ssh-key", "no program")
    rt("run", "--image", "d", "--store", images.store).failed("no program to run", "--isolation vm --image d")


WRONG = [
    (("--size", "3G", "--overlay", "OVERLAY"), ("--size", "caisson disk resize")),
    (("--size", "big"), ("--size big", "20G")),
    (("--size", "4M"), ("--size", "4194304", "8388608", "lost")),
    (("--ephemeral", "--overlay", "new.qcow2"), ("--ephemeral", "--overlay")),
    (("--initrd", "x"), ("--initrd", "--kernel")),
    (("--format", "floppy"), ("floppy",)),
    (("--cloud-init", "/nosuch"), ("--cloud-init", "/nosuch")),
    (("--cloud-init", "TEXT:hostname: web\n"), ("--cloud-init", "#cloud-config", "first line")),
    (("--cloud-init", "TEXT:#cloud-config\nusers: [a\n"), ("--cloud-init", "line", "YAML")),
    (("--cloud-init", "TEXT:#cloud-config\n- a\n"), ("--cloud-init", "names and values")),
    (("--vendor-data", "TEXT:hostname: web\n"), ("--vendor-data", "#cloud-config", "first line")),
    (("--network-config", "TEXT:ethernets: {}\n"), ("--network-config", "version: 2")),
    (("--network-config", "TEXT:version: 3\n"), ("--network-config", "expected 1 or 2")),
    (("--ssh-key", "TEXT:-----BEGIN OPENSSH PRIVATE KEY-----\n"), ("--ssh-key", "private key", ".pub")),
    (("--ssh-key", "TEXT:hello\n"), ("--ssh-key", "expected a public key")),
    (("--ssh-key", "TEXT:\n"), ("--ssh-key", "empty")),
    (("--hostname", "a_b"), ("--hostname", "dashes")),
    (("--cpus", "0"), ("--cpus",)),
    (("--cpus", "5000"), ("--cpus: 5000", "254")),
    (("--memory", "1"), ("--memory: 1 bytes", "at least")),
    (("--memory", "much"), ("--memory", "2G")),
    (("name", "sh"), ("too many arguments", "no COMMAND")),
    (("-v", "a:/b"), ("run --disk: unknown option -v",)),
]


@pytest.mark.parametrize("options,texts", WRONG, ids=lambda v: " ".join(v)[:40].replace("\n", " "))
def test_wrong_options(machines, tmp, options, texts):
    """What is wrong is said before anything boots, and nothing is left."""
    disk, overlay = os.path.join(tmp, "d.qcow2"), os.path.join(tmp, "o.qcow2")
    run("qemu-img", "create", "-f", "qcow2", disk, "8M")
    run("qemu-img", "create", "-f", "qcow2", overlay, "8M")
    words = []
    for o in options:
        if o.startswith("TEXT:"):
            o = put(tmp, "file", o[5:])
        words.append(overlay if o == "OVERLAY" else o)
    kernel = [] if "--initrd" in options else ["--kernel", put(tmp, "k", "kernel")]
    machines.run("--disk", disk, *kernel, *words).failed(*texts)


def test_wrong_disks(machines, tmp, rt):
    """Other things that are wrong, by themselves."""
    disk = os.path.join(tmp, "d.vmdk")
    run("qemu-img", "create", "-f", "vmdk", disk, "8M")
    machines.run("--disk", disk).failed("vmdk", "--ephemeral", "--overlay")
    machines.run("--disk", os.path.join(tmp, "nosuch.qcow2")).failed("nosuch.qcow2")
    rt("run", "--disk", disk, "x").failed("--isolation vm")
    rt("run", "--isolation", "vm", "--initrd", disk, "x").failed("--initrd", "give --kernel too")
    rt("run", "--isolation", "vm", "--append", "quiet", "x").failed("--disk", "--kernel")
    machines.run("--disk", disk, "--ephemeral", "--inspect-kernel", "/etc/passwd").failed("--inspect-kernel: /etc/passwd")
    raw = put(tmp, "d.raw", b"\0" * MiB)
    r = machines.run("--disk", raw, "--kernel", put(tmp, "k", b"no kernel" * 1000), timeout=60)
    assert r.rc == 1 and "expected" in r.err and "(vmlinuz)" in r.err and "needed: QEMU" not in r.err, r
    for option in ("--kernel", "--initrd"):
        machines.run("--disk", raw, *([] if option == "--kernel" else ["--kernel", raw]), option, tmp).failed(f"{option} {tmp}: expected a file")
    # Someone else has it open for writing, as QEMU does it.
    with open(raw, "r+b") as f:
        import fcntl
        import struct
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
        machines.run("--disk", raw, "--kernel", raw).failed("--disk", "writes it", "--overlay")
