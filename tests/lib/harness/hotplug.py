# SPDX-License-Identifier: Apache-2.0
"""Checks of devices that are attached to a microVM that runs, and detached from it. They hold on both hypervisors."""
import contextlib
import json
import os
import signal
import subprocess

from . import config, inject, mode, network, rootfs
from .runtime import wait_for


@contextlib.contextmanager
def machine(ctr, hypervisor, boot):
    """Runs a microVM in the network namespace "hot"."""
    c = config.default("sleep", "100000")
    c["root"]["readonly"] = False
    c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(boot)}
    c["vm"] = {"kernel": {"path": mode.guest_kernel(rootfs.CACHE)}, "hwConfig": {"memory": 256 << 20}}
    for s in ("bounding", "effective", "permitted"):
        c["process"]["capabilities"][s] = config.CAPS + ["CAP_NET_RAW", "CAP_NET_ADMIN"]
    with network.namespace("hot") as netns:
        network.ip("-n", "hot", "link", "set", "lo", "up")
        config.namespaces(c, paths={"network": netns})
        c = ctr(conf=c)
        c.create("--hypervisor", hypervisor, timeout=boot + 60)
        c.start(timeout=60)
        yield c
        c.kill("KILL", check=False)
        c.wait(timeout=60)
        c.delete()
        for number in (1, 2, 3):
            subprocess.run(["ip", "link", "del", f"hot{number}"], stderr=subprocess.DEVNULL, check=False)


def add_veth(number):
    """Makes an interface of the namespace, with 10.9.NUMBER.2 and a route. The other end of the veth pair is in the test's own namespace."""
    network.ip("link", "add", f"hot{number}", "type", "veth", "peer", "name", f"eth{number}", "netns", "hot")
    network.ip("addr", "add", f"10.9.{number}.1/24", "dev", f"hot{number}")
    network.ip("link", "set", f"hot{number}", "up")
    network.ip("-n", "hot", "addr", "add", f"10.9.{number}.2/24", "dev", f"eth{number}")
    network.ip("-n", "hot", "link", "set", f"eth{number}", "up", "mtu", 1400 + number)
    network.ip("-n", "hot", "route", "add", f"10.{number}.0.0/16", "via", f"10.9.{number}.1")


def update(c, *args, timeout=120):
    return c.rt("update", *args, c.id, timeout=timeout)


def inside(c, *args):
    return c.exec(*args, timeout=60)


def answers(number, wait=5):
    return subprocess.run(["busybox", "ping", "-c", "1", "-W", str(wait), f"10.9.{number}.2"],
                          stdout=subprocess.DEVNULL).returncode == 0


def traffic_control():
    return subprocess.run(["tc", "-n", "hot", "qdisc", "show"], stdout=subprocess.PIPE, text=True, check=True).stdout


def interfaces(vm):
    """The interface has its addresses, MTU and routes in the guest, answers, and belongs to the namespace afterwards."""
    add_veth(1)
    add_veth(2)
    assert inside(vm, "ls", "/sys/class/net").ok().out.split() == ["lo"]
    update(vm, "--add-net", "eth1", "--add-net", "eth2").ok()
    for number in (1, 2):
        out = inside(vm, "ip", "addr", "show", f"eth{number}").ok().out
        assert f"inet 10.9.{number}.2/24" in out and f"mtu {1400 + number}" in out and "UP" in out, out
        assert f"10.{number}.0.0/16 via 10.9.{number}.1" in inside(vm, "ip", "route").ok().out
    # Only the guest answers: its interface is set down, and the namespace's is not.
    inside(vm, "ip", "link", "set", "eth1", "down").ok()
    assert not answers(1, wait=1) and answers(2)
    inside(vm, "ip", "link", "set", "eth1", "up").ok()
    wait_for(lambda: answers(1), "an answer", timeout=30)

    update(vm, "--add-net", "eth1").failed("eth1", "already")
    update(vm, "--add-net", "eth9").failed("--add-net eth9", "no interface eth9")
    assert update(vm, "--rm-net", "eth9").failed("--rm-net eth9", "not attached").rc == 3

    # The guest has another interface of this name, so it cannot take the new one, which stays the namespace's.
    add_veth(3)
    for words in ("eth2 down", "eth2 name eth3"):
        inside(vm, "ip", "link", "set", *words.split()).ok()
    update(vm, "--add-net", "eth3").failed("--add-net eth3", "rename")
    assert sorted(inside(vm, "ls", "/sys/class/net").ok().out.split()) == ["eth1", "eth3", "lo"] and answers(3)
    for words in ("eth3 name eth2", "eth2 up"):
        inside(vm, "ip", "link", "set", *words.split()).ok()

    update(vm, "--rm-net", "eth1").ok()
    assert sorted(inside(vm, "ls", "/sys/class/net").ok().out.split()) == ["eth2", "lo"]
    assert "ingress ffff: dev eth1" not in traffic_control() and answers(1) and answers(2)
    update(vm, "--rm-net", "eth2", "--add-net", "eth1").ok()  # again, in a slot that was used before
    assert sorted(inside(vm, "ls", "/sys/class/net").ok().out.split()) == ["eth1", "lo"]
    assert answers(1)
    update(vm, "--rm-net", "eth1").ok()


def killed_commands(vm, tmp):
    """A command that is killed at any time leaves nothing, or a device that can be removed and added again."""
    net, disk = ("net", "eth3", "eth3"), ("disk", f"{tmp}/image:/dev/data", "/dev/data")
    for delay, (kind, what, name) in ((0.05, net), (0.3, net), (0.02, disk), (0.15, disk)):
        p = vm.rt.popen("update", f"--add-{kind}", what, vm.id)
        try:
            p.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()

        def removed():
            r = update(vm, f"--rm-{kind}", name)
            return r.rc == 0 or "not attached" in r.err
        wait_for(removed, "the end of the change", timeout=60)
        assert inside(vm, "sh", "-c", "ls /sys/class/net /sys/block; cat /dev/data").out.split() == ["/sys/block:", "/sys/class/net:", "lo"]
        assert answers(3)
    both = ("--add-net", "eth3", "--add-disk", f"{tmp}/image:/dev/data")
    update(vm, *both).ok()
    assert "eth3" in inside(vm, "ls", "/sys/class/net").ok().out and answers(3)
    update(vm, *(w.replace("add", "rm").split(":")[-1] for w in both)).ok()


def networks(vm, tmp):
    """`caisson net attach` gives a running microVM an interface of a network, and `detach` takes it away."""
    def net(*args):
        return subprocess.run([vm.rt.binary, "net", "--root", vm.rt.root, "--config", f"{tmp}/nets", "--state", f"{tmp}/net-state", *args],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)

    def done(*args):
        r = net(*args)
        assert (r.returncode, r.stderr) == (0, ""), r
        return r.stdout
    done("create", "--subnet", "10.77.0.0/24", "web")
    try:
        record = json.loads(done("attach", "--json", "--interface", "web0", "-p", "8077:80", "web", vm.id))
        address = record["addresses"][0]["address"]
        assert record["microVM"] and f"inet {address}" in inside(vm, "ip", "addr", "show", "web0").ok().out
        vm.rt("exec", "--detach", vm.id, "nc", "-l", "-p", "80", "-e", "echo", "served", timeout=60).ok()
        wait_for(lambda: subprocess.run(["busybox", "nc", "-w", "5", "10.77.0.1", "8077"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, check=False).stdout == b"served\n", "an answer from port 8077", timeout=60)
        assert "already" in net("attach", "web", vm.id).stderr
        done("detach", "web", vm.id)
        assert inside(vm, "ls", "/sys/class/net").ok().out.split() == ["lo"]
        assert json.loads(done("inspect", "web"))["attachments"] == []
        # The microVM no longer has the interface, as if `attach` had been killed before it gave it.
        done("attach", "--interface", "web0", "web", vm.id)
        update(vm, "--force").failed("--force", "--rm-net")
        update(vm, "--force", "--rm-net", "web0").ok()
        assert update(vm, "--force", "--rm-net", "web0").failed("not attached").rc == 3
        done("detach", "web", vm.id)
        assert json.loads(done("inspect", "web"))["attachments"] == []
    finally:
        done("rm", "--force", "web")


def disks(vm, tmp):
    """A raw image is a device node that only this container's rules allow, with its serial number; it is kept while it is in use."""
    image, other = f"{tmp}/image", f"{tmp}/other"
    for path in (image, other):
        with open(path, "wb") as f:
            f.write(b"hello disk" + bytes(4 << 20))
    before = inside(vm, "ls", "/sys/block").ok().out
    update(vm, "--add-disk", f"{image}:/dev/data:serial=number-1").ok()
    assert inside(vm, "head", "-c", "10", "/dev/data").ok().out == "hello disk"
    inside(vm, "sh", "-c", "printf HELLO | dd of=/dev/data conv=notrunc,fsync 2>/dev/null").ok()
    with open(image, "rb") as f:
        assert f.read(10) == b"HELLO disk"
    assert inside(vm, "sh", "-c", "cat /sys/block/*/serial").ok().out.split() == ["number-1"]
    assert inside(vm, "sh", "-c", "cat /sys/block/*/size").ok().out.split() == [str((4 << 20) // 512)]

    update(vm, "--add-disk", f"{image}:/dev/more").failed("another process")
    update(vm, "--add-disk", f"{other}:/dev/data").failed("/dev/data", "already")
    update(vm, "--add-disk", f"{other}:/dev/null").failed("/dev/null")
    assert vm.rt("state", vm.id).json()["annotations"]["io.caisson.attached"] == "disk /dev/data"
    update(vm, "--add-disk", "/dev/zero:/dev/more").failed("expected a regular file or a block device")
    update(vm, "--add-disk", f"{other}:/dev/x:serial=123456789012345678901").failed("serial", "20 bytes")
    update(vm, "--add-disk", f"{other}:/dev/x,ro").failed("/dev/x,ro", "second colon")
    update(vm, "--add-disk", f"{other}:/dev/x:size=1G").failed("option size=1G", "format=NAME")
    update(vm, "--rm-disk", "/dev/more").failed("--rm-disk /dev/more", "not attached")
    update(vm, "--add-disk", f"{other}:/dev/other:ro").ok()
    assert "Operation not permitted" in inside(vm, "sh", "-c", "echo x > /dev/other").err
    assert inside(vm, "head", "-c", "10", "/dev/other").ok().out == "hello disk"
    # The container may not use the disk by a node of its own making: the rules name only what was attached.
    assert inside(vm, "sh", "-c", "mknod /n b 7 0 2>/dev/null; cat /n").rc != 0

    vm.rt("exec", "--detach", vm.id, "sh", "-c", "exec sleep 77777 < /dev/data", timeout=60).ok()
    wait_for(lambda: "77777" in inside(vm, "sh", "-c", "cat /proc/[0-9]*/cmdline").out, "the process with the disk", timeout=30)
    update(vm, "--rm-disk", "/dev/data").failed("--rm-disk /dev/data", "a process of the container uses it")
    assert inside(vm, "head", "-c", "5", "/dev/data").ok().out == "HELLO"
    inside(vm, "sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -vx 1)").ok()
    wait_for(lambda: update(vm, "--rm-disk", "/dev/data").rc == 0, "the end of that process", timeout=30)
    assert not os.path.exists("/dev/data") and inside(vm, "cat", "/dev/data").out == ""
    update(vm, "--rm-disk", "/dev/other").ok()
    assert inside(vm, "ls", "/sys/block").ok().out == before
    # If a later device cannot be attached, those before it are detached again. No process holds the image's lock any more then.
    update(vm, "--add-disk", f"{image}:/dev/data", "--add-disk", f"{other}:/dev/null").failed(f"--add-disk {other}:/dev/null")
    update(vm, "--add-disk", f"{image}:/dev/data", "--add-mount", f"{image}:/proc").failed(f"--add-mount {image}:/proc")
    assert inside(vm, "ls", "/sys/block").ok().out == before and inside(vm, "cat", "/dev/data").out == ""
    assert "io.caisson.attached" not in vm.rt("state", vm.id).json().get("annotations", {})
    update(vm, "--add-disk", f"{image}:/dev/data").ok()
    update(vm, "--rm-disk", "/dev/data").ok()


def servers(tmp):
    """Returns the pids of the processes that serve disks in the directory."""
    return subprocess.run(["pgrep", "-f", f"caisson-disk serve .*{tmp}/"], stdout=subprocess.PIPE, text=True, check=False).stdout.split()


def served(vm, tmp):
    """A process of its own serves a disk that is no raw image. When the disk is detached, the image is whole, and the process has ended."""
    raw, image = f"{tmp}/raw", f"{tmp}/image.qcow2"
    with open(raw, "wb") as f:
        f.write(b"hello disk" + bytes(4 << 20))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    update(vm, "--add-disk", f"{image}:/dev/data:format=qcow2,serial=served").ok()
    assert len(servers(tmp)) == 1
    assert inside(vm, "head", "-c", "10", "/dev/data").ok().out == "hello disk"
    assert inside(vm, "sh", "-c", "cat /sys/block/*/serial").ok().out.split() == ["served"]
    inside(vm, "sh", "-c", "printf HELLO | dd of=/dev/data conv=notrunc,fsync 2>/dev/null; head -c 3000000 /dev/zero | tr '\\0' x | dd of=/dev/data "
           "bs=64k seek=16 conv=notrunc 2>/dev/null").ok()
    assert vm.rt("state", vm.id).json()["annotations"]["io.caisson.attached"] == "disk /dev/data"
    update(vm, "--add-disk", f"{image}:/dev/more:format=qcow2").failed("--add-disk", "another process")
    update(vm, "--add-disk", f"{raw}:/dev/more:format=qcow2").failed("--add-disk", "qcow2")
    update(vm, "--add-disk", f"{raw}:/dev/more:format=qcow").failed("format=qcow", "expected raw, qcow2")
    update(vm, "--add-disk", f"{raw}:/dev/more:format=vmdk").failed("format=vmdk", "add ro")
    update(vm, "--add-disk", f"{raw}:/dev/more:key=/dev/null").failed("key", "format=")
    update(vm, "--add-disk", f"{image}:/dev/null:format=qcow2").failed("another process")
    update(vm, "--rm-disk", "/dev/data").ok()
    assert not servers(tmp) and inside(vm, "sh", "-c", "ls /sys/block").ok().out == ""
    subprocess.run(["qemu-img", "check", "-q", image], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    with open(raw, "rb") as f:
        assert f.read() == (b"HELLO disk" + bytes((1 << 20) - 10) + b"x" * 3000000).ljust((4 << 20) + 512, b"\0")
    # The guest cannot take the disk into use, so its server ends.
    update(vm, "--add-disk", f"{image}:/dev/null:format=qcow2").failed("target /dev/null: expected a regular file")
    assert not servers(tmp)
    # The process outlives its command, so it is not in the command's process group, which a terminal or a script signals,
    # and it has none of the descriptors that the command inherited.
    os.rename(image, f"{tmp}/-image")
    end, inherited = os.pipe2(os.O_NONBLOCK)
    p = vm.rt.popen("update", "--add-disk", "-image:/dev/data:ro,format=qcow2", vm.id, cwd=tmp, start_new_session=True, pass_fds=[inherited])
    os.close(inherited)
    assert p.wait(timeout=120) == 0 and os.read(end, 1) == b""
    os.close(end)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(p.pid, signal.SIGKILL)
    assert "Operation not permitted" in inside(vm, "sh", "-c", "echo x > /dev/data").err
    update(vm, "--rm-disk", "/dev/data").ok()


def volumes(vm, tmp):
    """A volume that is a disk is mounted into the container that runs, refused while it is in use, and unmounted whole."""
    def volume(command, *args):
        return vm.rt("volume", command, "--store", f"{tmp}/disks", *args, timeout=120)

    volume("create", "--pool", "qcow2", "--size", "64M", "disk").ok()
    volume("attach", "disk", vm.id, "/vol/ume").ok()
    inside(vm, "sh", "-c", "echo kept > /vol/ume/file").ok()
    assert " /vol/ume ext4 rw" in inside(vm, "cat", "/proc/mounts").ok().out
    assert vm.rt("state", vm.id).json()["annotations"]["io.caisson.attached"] == "volume /vol/ume"
    volume("attach", "disk", vm.id, "/other").failed("attached to container", "at /vol/ume")
    volume("rm", "disk").failed("disk", vm.id)
    vm.rt("exec", "--detach", vm.id, "sh", "-c", "cd /vol/ume && exec sleep 77777", timeout=60).ok()
    wait_for(lambda: "77777" in inside(vm, "sh", "-c", "cat /proc/[0-9]*/cmdline").out, "the process in the volume", timeout=30)
    volume("detach", "disk", vm.id).failed("a process of the container uses it")
    inside(vm, "sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | grep -vx 1)").ok()
    wait_for(lambda: volume("detach", "disk", vm.id).rc == 0, "the end of that process", timeout=30)
    image = f"{tmp}/disks/volumes/disk/disk.qcow2"
    subprocess.run(["qemu-img", "check", "-q", image], check=True)
    volume("attach", "--read-only", "disk", vm.id, "/vol/ume").ok()
    assert inside(vm, "cat", "/vol/ume/file").ok().out == "kept\n"
    assert "Read-only" in inside(vm, "touch", "/vol/ume/new").err
    volume("detach", "disk", vm.id).ok()
    volume("detach", "disk", vm.id).failed("nothing of")

    # What a command leaves that is killed before it attaches the volume is not taken for another volume.
    volume("create", "--pool", "qcow2", "--size", "64M", "other").ok()
    volume("attach", "disk", vm.id, "/vol/ume").ok()
    path = os.path.join(vm.rt.root, vm.id, "attached.json")
    with open(path) as f:
        left = f.read()
    volume("detach", "disk", vm.id).ok()
    with open(path, "w") as f:
        f.write(left)
    for _ in range(2):  # the volume is not in use any more when a command has failed
        volume("attach", "other", vm.id, "/vol/ume").failed("volume /vol/ume", "remove it first")
    volume("detach", "disk", vm.id).ok()
    assert not os.path.exists(path) and not servers(tmp)
    volume("rm", "disk", "other").ok()


def killed_server(vm, tmp):
    """If the process that serves a disk is killed, the machine ends, because programs that use the disk would hang forever."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{tmp}/lost", "1M"], check=True)
    update(vm, "--add-disk", f"{tmp}/lost:/dev/lost:format=qcow2").ok()
    os.kill(int(servers(tmp)[0]), signal.SIGKILL)
    vm.wait(timeout=60)


def lost(vm, tmp):
    """The host cannot write what the server of a disk still holds in memory. The disk is detached, and the command fails."""
    image = f"{tmp}/lost"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    for error, text in (("ENOSPC", "No space left on device"), ("EIO", "Input/output error")):
        update(vm, "--add-disk", f"{image}:/dev/lost:format=qcow2").ok()
        with inject.errors(int(servers(tmp)[0]), "fdatasync", error):
            update(vm, "--rm-disk", "/dev/lost").failed("--rm-disk /dev/lost", "disk /dev/lost: not all that the guest wrote is in the image", image, text)
        assert not servers(tmp)
        assert "io.caisson.attached" not in vm.rt("state", vm.id).json().get("annotations", {})
    update(vm, "--rm-disk", "/dev/lost").failed("was not attached")


def full_host(vm, tmp):
    """If the host has no space left for an attached disk, the guest sees an error of that disk, and the machine goes on."""
    small = tmp / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        for form in ("raw", "qcow2"):
            subprocess.run(["qemu-img", "create", "-q", "-f", form, small / "image", "8M"], check=True)
            update(vm, "--add-disk", f"{small}/image:/dev/small:format={form}").ok()
            r = inside(vm, "dd", "if=/dev/zero", "of=/dev/small", "bs=1M", "count=4", "conv=fsync")
            assert r.rc == 1 and "error" in r.err, r
            assert vm.rt("state", vm.id).json()["status"] == "running"
            update(vm, "--rm-disk", "/dev/small").ok()
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
