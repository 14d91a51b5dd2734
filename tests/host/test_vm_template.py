# SPDX-License-Identifier: Apache-2.0
"""Tests templates of microVMs, on the test host's KVM: the first start makes one, and later ones start from it."""
import glob
import os
import signal
import struct
import subprocess
import time

import pytest
from harness import config, hotplug, machine, mode, network, rootfs
from harness.pty_ import OnTerminal, read_until
from harness.runtime import wait_for

BOOT = 300
CACHE = "/var/cache/caisson"
KVM = ("--hypervisor", "kvm")
HERE = os.path.dirname(os.path.abspath(__file__))
USED = "microvm: starts from a template"
RECORDED, PREFETCHED = "runs of pages are recorded", "microvm: prefetches"
# Prints random numbers, identities of the kernel, the time, and the host name.
DRAW = "head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id; date +%s; hostname"


@pytest.fixture
def own_templates():
    """Removes the templates that the test has made. If it failed, its second try would start from them."""
    before = templates()
    yield
    wait_for_keeper()
    for name in set(templates()) - set(before):
        os.unlink(name)


@pytest.fixture
def vm(ctr):
    def make(*args, memory=128, hostname="one", **kw):
        c = config.default(*args, **kw)
        c["hostname"] = hostname
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(BOOT)}
        c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)},
                   "hwConfig": {"memory": memory << 20}}
        return ctr(conf=c)
    return make


def templates(pattern="template-*"):
    return sorted(glob.glob(os.path.join(CACHE, pattern)))


def record():
    """Returns the path of the only record of the pages that machines of a template touch first, or None."""
    return next((p for p in templates("pages-*") if not p.endswith(".tmp")), None)


def processes(name):
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and read(f"/proc/{p}/comm") == name + "\n"]


def monitor():
    pids = processes("caisson-vm")
    assert len(pids) == 1
    return pids[0]


def wait_for_keeper():
    """Waits until no process keeps a file of the cache: such a process gives the file its name, and then ends."""
    wait_for(lambda: not processes("caisson-keep"), "the keeper to end", timeout=60)


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:  # the process has ended
        return ""


def run(c, *options):
    """Runs the container, and waits until what it adds to the cache has its name. Returns its output, whether its microVM started from a template,
    and the log."""
    log = os.path.join(c.bundle, "log")
    c.write()
    r = c.rt("--debug", "--log", log, "run", *KVM, *options, "--bundle", c.bundle, c.id, timeout=BOOT + 60).ok()
    wait_for_keeper()
    return r.out, USED in read(log), read(log)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def spoil(path, memory, change):
    """Changes the template's file, and gives it the time and the checksums of one that is whole."""
    before = os.stat(path)
    with open(path, "r+b") as f:
        f.seek(memory)
        snapshot = bytearray(f.read())
        assert snapshot.startswith(b"caisvmsn")
        f.seek(0)
        change(f, snapshot)
        f.seek(memory)
        f.write(snapshot)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def lose_the_last_device(_, snapshot):
    """Gives the section of the last device another number (runtime/vm/snapshot/format.c), so that it is missed after all
    others are loaded, that of the file server among them."""
    at, last = 32, None
    while at < len(snapshot):
        kind, _, length, _ = struct.unpack_from("<4I", snapshot, at)
        last = at if kind == 4 else last
        at += 16 + (length + 7) // 8 * 8
    kind, _, length, _ = struct.unpack_from("<4I", snapshot, last)
    head = struct.pack("<3I", kind, 99, length)
    data = snapshot[last + 16:last + 16 + (length + 7) // 8 * 8]
    snapshot[last:last + 16] = head + struct.pack("<I", crc32c(head + data))


def clear_the_memory(f, _):
    f.write(bytes(48 << 20))


def test_two_machines_of_one_template(vm):
    """Two machines of one template, and the machine of which it was made, share no random number and no identity, and know the time."""
    for name in templates() + templates("pages-*"):
        os.unlink(name)
    drawn = []
    for i, used in enumerate((False, True, True)):
        out, from_template, log = run(vm("sh", "-c", DRAW, hostname=f"host{i}"))
        assert from_template == used, log
        assert (RECORDED in log, PREFETCHED in log) == (i == 1, i == 2), log
        drawn.append(out.split("\n"))
        assert abs(int(drawn[-1][-3]) - time.time()) < 20
        assert drawn[-1][-2] == f"host{i}"
    for part in range(3):  # two lines of random numbers, and the boot id
        assert len({d[part] for d in drawn}) == 3
    only = templates()
    assert len(only) == 1 and os.stat(only[0]).st_mode & 0o7777 == 0o600

    # A record of pages that was damaged is made again.
    with open(record(), "r+b") as f:
        f.seek(40)
        byte = f.read(1)[0]
        f.seek(40)
        f.write(bytes([byte ^ 0xff]))
    before = os.stat(record()).st_ino
    _, from_template, log = run(vm("true"))
    assert from_template and "wrong checksum" in log and RECORDED in log and PREFETCHED not in log, log
    assert os.stat(record()).st_ino != before

    # A template that was changed is made again, and then the record is of another one.
    before = os.stat(only[0]).st_ino
    with open(only[0], "r+b") as f:
        f.seek(1 << 20)
        f.write(b"x")
    _, from_template, log = run(vm("true"))
    assert not from_template and "was changed after it was made" in log
    assert templates() == only and os.stat(only[0]).st_ino != before
    _, from_template, log = run(vm("true"))
    assert from_template and "of another template" in log and RECORDED in log, log


FORK = "random: crng reseeded due to virtual machine fork"
# Waits until the kernel has said so ${1} times, and prints how often it has and which devices have the driver.
FORKS = f"""n=0; while [ $(dmesg | grep -c "{FORK}") -lt $1 ] && [ $n -lt 60 ]; do n=$((n+1)); sleep 1; done
dmesg | grep -c "{FORK}"; cd /sys/bus/acpi/drivers/vmgenid; echo CAIS*"""


def test_the_generation_id(own_templates, vm):
    """The kernel of each machine that starts from a template or a checkpoint gets a new generation id, and draws new random numbers."""
    def make(*args):
        c = vm(*args, memory=256)
        # Debian's kernel for clouds has no driver for the id, and the test host's has it built in.
        c.conf["vm"]["kernel"]["path"] = os.path.join(rootfs.CACHE, "kernel-" + os.uname().release, "vmlinux")
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_SYSLOG"]
        return c

    def forks(n):
        assert c.exec("sh", "-c", FORKS, "sh", str(n), timeout=120).ok().out == f"{n}\nCAIS0001:00\n"

    out, from_template, log = run(make("sh", "-c", FORKS, "sh", "0"))
    assert out == "0\nCAIS0001:00\n" and not from_template, log
    c = make("sleep", "1000")
    c.create(*KVM, timeout=BOOT + 60)
    c.start(timeout=60)
    forks(1)
    image = ("--image-path", os.path.join(c.bundle, "image"))
    c.rt("checkpoint", *image, c.id, timeout=300).ok()
    c.rt("restore", "--detach", *image, "--bundle", c.bundle, c.id, stdout=subprocess.DEVNULL, timeout=300).ok()
    forks(2)
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


def test_killed_while_a_template_is_made(vm):
    """Whenever the monitor is killed, the old template stays as it was, and no incomplete template is left."""
    c = vm("true")
    run(c)
    only = templates()
    before = os.stat(only[0]).st_ino
    for i, grown in enumerate((0, 4 << 20)):  # killed before and while the guest's memory is written
        c = vm("true", hostname=f"killed{i}")
        c.write()
        p = c.rt.popen("create", *KVM, "--template", "refresh", "--bundle", c.bundle, c.id)
        wait_for(lambda: any(os.stat(t).st_blocks * 512 >= grown for t in templates("*.tmp")), "the template", timeout=BOOT)
        os.kill(monitor(), signal.SIGKILL)
        p.communicate()
        assert p.returncode != 0
        wait_for(lambda: not templates("*.tmp"), "the keeper to remove it", timeout=60)
        c.delete("--force")
        assert templates() == only and os.stat(only[0]).st_ino == before
    assert run(vm("true"))[1]


def test_a_full_cache(vm):
    """If the cache has no room for a template, the microVM boots, and no incomplete template is left."""
    machine.mount("tmpfs", CACHE, "tmpfs", 0, "size=8m,mode=0700")
    try:
        out, from_template, log = run(vm("echo", "booted"))
        assert out == "booted\n" and not from_template
        assert "template could not be made" in log and "No space left" in log
        assert templates() == []
    finally:
        machine.umount(CACHE)


def test_network_interfaces(own_templates, vm):
    """Each machine's interface has that machine's address, name and MTU, although they start from one template."""
    before = templates()
    show = "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ip addr show eth0; ping -c 1 -W 20 10.213.12.1"
    for i, used in enumerate((False, True)):
        with network.veth("cai-template", "10.213.12.1", f"10.213.12.{i + 2}", mtu=1400 - i) as netns:
            c = vm("sh", "-c", show)
            config.namespaces(c.conf, paths={"network": netns})
            for s in ("bounding", "effective", "permitted"):
                c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
            mac = subprocess.run(["ip", "netns", "exec", "cai-template", "cat", "/sys/class/net/eth0/address"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
            out, from_template, log = run(c)
            assert from_template == used, log
            assert out.startswith(f"{mac}{1400 - i}\n") and f"inet 10.213.12.{i + 2}/24" in out, out
            assert "1 packets received" in out, out

    # If a template cannot be loaded, the microVM boots with the same interface and file server, and makes another one.
    (only,) = [t for t in templates() if t not in before]
    spoil(only, 128 << 20, lose_the_last_device)
    inode = os.stat(only).st_ino
    with network.veth("cai-template", "10.213.12.1", "10.213.12.4") as netns:
        c = vm("sh", "-c", show)
        config.namespaces(c.conf, paths={"network": netns})
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
        out, from_template, log = run(c)
        assert from_template and "has no section" in log and "the microVM boots" in log, log
        assert "the template is written" in log and "inet 10.213.12.4/24" in out and "1 packets received" in out, out
        assert os.stat(only).st_ino != inode


def test_disks(vm):
    """One template serves machines with disks and without, and no disk is in it: each reads and writes its own."""
    for name in templates():
        os.unlink(name)
    for i, form in enumerate(("raw", None, "qcow2")):
        c = vm("sh", "-c", "cat /name /shared/name; echo written >>/name; sync", hostname=f"disk{i}")
        c.conf["root"]["readonly"] = False
        with open(os.path.join(c.rootfs, "name"), "w") as f:
            f.write(f"root {i}\n")
        config.add_mount(c, "/shared", source=c.rootfs, options=("rbind", "ro"))
        image = os.path.join(c.bundle, "disk")
        if form:
            subprocess.run(["mkfs.ext4", "-q", "-d", c.rootfs, image, "48M"], check=True)
            if form == "qcow2":
                subprocess.run(["qemu-img", "convert", "-O", form, image, image + ".2"], check=True)
                os.rename(image + ".2", image)
            c.conf["vm"]["image"] = {"path": image, "format": form}
        out, from_template, log = run(c)
        assert out == f"root {i}\n" * 2 and from_template == (i > 0), log
        if form == "raw":
            said = subprocess.run(["debugfs", "-R", "cat /name", image], check=True, capture_output=True, text=True).stdout
            assert said == f"root {i}\nwritten\n"
    only = templates()
    assert len(only) == 1

    # A disk that cannot be used is no fault of the template, which stays for other machines.
    inode = os.stat(only[0]).st_ino
    c = vm("true", hostname="small")
    config.add_mount(c, "/shared", source=c.rootfs, options=("rbind", "ro"))
    image = os.path.join(c.bundle, "disk")
    with open(image, "wb") as f:
        f.write(bytes(100))
    c.conf["vm"]["image"] = {"path": image, "format": "raw"}
    c.write()
    log = os.path.join(c.bundle, "log")
    c.rt("--debug", "--log", log, "run", *KVM, "--bundle", c.bundle, c.id, timeout=BOOT + 60).failed("disk image of 100 bytes")
    assert USED in read(log) and "the template" not in read(log).replace(USED, ""), read(log)
    wait_for(lambda: templates() == only, "the keeper to remove the new template", timeout=60)
    assert os.stat(only[0]).st_ino == inode
    out, from_template, log = run(vm("echo", "used"))
    assert out == "used\n" and from_template, log


def test_served_disk(vm, tmp_path):
    """A running machine from a template, whose memory is private, copies the requests for a disk that another process serves."""
    run(vm("true"))  # makes the template, if it is not there yet
    c = vm("sleep", "1000")
    c.write()
    log = os.path.join(c.bundle, "log")
    c.rt("--debug", "--log", log, "run", "--detach", *KVM, "--bundle", c.bundle, c.id, timeout=BOOT).ok()
    assert USED in read(log)
    hotplug.served(c, tmp_path)
    c.kill()
    c.wait(timeout=60)
    c.delete()


def test_vhost_user_servers(vm):
    """A template of a machine without a vhost-user server serves one with a server of a share and one of an interface. If it
    cannot be loaded, the microVM boots with the same connections to the servers."""
    if len(templates()) != 1:
        for name in templates():
            os.unlink(name)
        run(vm("true"))
    for i in range(2):
        c = vm("sh", "-c", "cat /share/name; ping -c 1 -W 20 10.213.14.1 | grep transmitted")
        os.mkdir(os.path.join(c.bundle, "share"))
        with open(os.path.join(c.bundle, "share", "name"), "w") as f:
            f.write(f"share {i}\n")
        servers = {"fs": ["/usr/lib/qemu/virtiofsd", "-o", f"source={c.bundle}/share", "-o", "sandbox=chroot", "--socket-path=SOCKET"],
                   "net": ["/usr/bin/python3", f"{HERE}/../vm/vhost_net.py", "SOCKET", "10.213.14.1"]}
        sockets = {name: os.path.join(c.bundle, name + ".sock") for name in servers}
        c.conf["mounts"].append({"destination": "/share", "type": "virtiofs", "source": f"vhost-user:{sockets['fs']}"})
        c.conf["annotations"]["io.caisson.vm.net"] = f"vhost-user:{sockets['net']},mac=02:ca:ca:00:01:0{i},address=10.213.14.2/24"
        for s in ("bounding", "effective", "permitted"):
            c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW"]
        if i == 1:
            spoil(templates()[0], 128 << 20, lose_the_last_device)
        started = [subprocess.Popen([a.replace("SOCKET", sockets[name]) for a in argv], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name, argv in servers.items()]
        try:
            wait_for(lambda: all(os.path.exists(p) for p in sockets.values()), "the servers' sockets")
            out, from_template, log = run(c)
        finally:
            for p in started:
                p.kill()
                p.wait()
        assert out == f"share {i}\n1 packets transmitted, 1 packets received, 0% packet loss\n" and from_template, out + log
        assert ("the microVM boots" in log) == (i == 1), log
        assert len(templates()) == 1


def test_off(vm):
    """A microVM of which the option or the annotation says "off" boots, and makes no template."""
    for name in templates():
        os.unlink(name)
    c = vm("echo", "booted")
    c.conf["annotations"]["io.caisson.vm.template"] = "off"
    out, from_template, log = run(c)
    assert out == "booted\n" and not from_template and templates() == [], log

    # The option overrides the annotation. The terminal's size reaches a machine of which a template is made.
    c = vm("stty", "size")
    c.conf["annotations"]["io.caisson.vm.template"] = "off"
    c.conf["process"]["terminal"] = True
    c.write()
    with OnTerminal(c.rt, "run", *KVM, "--template", "auto", "--bundle", c.bundle, c.id, rows=31, cols=97) as t:
        read_until(t.fd, b"31 97", timeout=BOOT)
        assert t.p.wait(BOOT) == 0
    wait_for_keeper()
    only = templates()
    assert len(only) == 1

    before = os.stat(only[0])
    out, from_template, log = run(vm("echo", "booted"), "--template", "off")
    assert out == "booted\n" and not from_template, log
    assert templates() == only and os.stat(only[0]).st_ino == before.st_ino

    # Of a guest that hangs the error says how to do without the template: the monitor is in its jail by then.
    spoil(only[0], 128 << 20, clear_the_memory)
    c = vm("true")
    c.conf["annotations"]["io.caisson.vm.boot-timeout"] = "30"
    c.write()
    c.rt("run", *KVM, "--bundle", c.bundle, c.id, timeout=BOOT + 60).failed("started from a template", "--template refresh")
    os.unlink(only[0])
