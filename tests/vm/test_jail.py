# SPDX-License-Identifier: Apache-2.0
"""Tests the jails of the processes around a microVM: the monitor, the file server, and QEMU if it runs the machine.
All commands must still work in them. The hypervisor is QEMU, or KVM on the test host."""
import glob
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest

from harness import config, mode, network, pty_, rootfs, runtime

VM = ["--isolation", "vm", "--hypervisor", mode.HYPERVISOR]
# time limit in seconds; the KVM of the test host is itself in an emulated machine
BOOT = 120 if mode.HYPERVISOR == "qemu" else 400
FILE_SERVER_CAPS = 0x880000DF  # these are CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID SETGID SETUID MKNOD SETFCAP
# Descriptors that belong to no file system of the host, and the file in which the monitor notes why the machine is paused.
NAMELESS = re.compile(r"/dev/null$|anon_inode:|socket:|pipe:|/memfd:|/dev/net/tun$|/dev/vhost-net$|/dev/kvm$|/caisson-guest-ram|.*/disk-error$")


def read(path):
    with open(path) as f:
        return f.read()


def kernel_image():
    tuned = mode.tuned_kernel()
    if not tuned:
        return mode.packaged_kernel(rootfs.CACHE)
    return next(p for p in (os.path.join(tuned, n) for n in ("bzImage", "vmlinux")) if os.path.exists(p))


@pytest.fixture
def vm(ctr):
    """Makes containers as ctr() does, with a kernel in their config."""
    def make(*args, **process):
        c = ctr(*args, **process)
        c.conf["vm"] = {"kernel": {"path": kernel_image()}}
        return c

    return make


class Proc:
    """A process as /proc shows it."""

    def __init__(self, pid):
        self.pid, self.dir = pid, f"/proc/{pid}"
        self.name = read(f"{self.dir}/comm").strip()
        self.threads = {}
        for t in glob.glob(f"{self.dir}/task/*"):
            self.threads[read(f"{t}/comm").strip() + " " + os.path.basename(t)] = runtime.status_of(read(f"{t}/status"))
        self.status = runtime.status_of(read(f"{self.dir}/status"))
        self.mounts = [line.split() for line in read(f"{self.dir}/mountinfo").splitlines()]
        self.root = sorted(os.listdir(f"{self.dir}/root"))
        self.fds = {}
        for f in os.listdir(f"{self.dir}/fd"):
            try:
                self.fds[int(f)] = os.readlink(f"{self.dir}/fd/{f}")
            except FileNotFoundError:
                pass  # the descriptor was closed meanwhile

    def ns(self, name):
        return os.readlink(f"{self.dir}/ns/{name}")

    def cgroup(self):
        return read(f"{self.dir}/cgroup")

    def ids(self):
        """Returns the real, effective, saved and file system user ids, and then those of the groups."""
        return [int(n) for n in self.status["Uid"].split()], [int(n) for n in self.status["Gid"].split()]


def children(pid):
    return [p for t in glob.glob(f"/proc/{pid}/task/*/children") for p in map(int, read(t).split())]


def family(c):
    """Returns the monitor, the file server or None, and QEMU or None."""
    monitor = Proc(c.pid())
    kids = {p.name: p for p in map(Proc, children(monitor.pid))}
    fs = kids.pop("caisson-fs", None)
    kids.pop("caisson-keep", None)  # it ends when it has given a new template its name
    assert monitor.name == "caisson-vm"
    assert len(kids) == (mode.HYPERVISOR == "qemu"), kids
    return monitor, fs, next(iter(kids.values()), None)


def assert_powerless(p, caps=0):
    for name, s in p.threads.items():
        for k in ("CapPrm", "CapEff"):
            assert int(s[k], 16) == caps, (name, k, s[k])
        for k in ("CapInh", "CapBnd", "CapAmb"):
            assert int(s[k], 16) == 0, (name, k, s[k])
        assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2", (p.name, name, s)
    limits = read(f"{p.dir}/limits")
    assert re.search(r"Max core file size +0 +0 ", limits), limits


def assert_nameless(p, *also):
    """Checks that the process has no descriptor of a file with a name, except those in `also`. A standard stream of
    the test's commands is a file without a name."""
    named = {n: f for n, f in p.fds.items() if not NAMELESS.match(f) and not f.endswith(also + (" (deleted)",))}
    assert not named, f"{p.name} has open: {named}"


def assert_own_user(p, monitor):
    uids, gids = p.ids()
    assert len(set(uids + gids)) == 1 and uids[0] == 0x70000000 + monitor.pid, (p.name, uids, gids)
    assert p.status.get("Groups", "") == ""


@pytest.fixture
def netns():
    """The path of a network namespace that has an interface."""
    with network.veth("cai-jail", "10.9.8.1", "10.9.8.7") as path:
        yield path


def test_every_process_is_confined(vm, netns, tmp):
    c = vm("sh", "-c", "ip addr show eth0; sleep 1000")
    config.namespaces(c.conf, paths={"network": netns})
    # A descriptor that the caller has left open.
    stray = os.open(os.path.join(tmp, "stray"), os.O_RDWR | os.O_CREAT)
    c.create(*VM, timeout=BOOT, pass_fds=[stray])
    os.close(stray)
    # The processes are jailed before the guest runs, and so before `start`. The monitor writes the container's output.
    allowed = {"created": (c.log, "/start.lock"), "running": (c.log,)}
    for when in allowed:
        monitor, fs, qemu = family(c)
        for p in filter(None, (monitor, qemu)):
            assert_powerless(p)
            assert_own_user(p, monitor)
            assert_nameless(p, *allowed[when] if p is monitor else ())
            assert p.ns("net").split("[")[1].rstrip("]") == str(os.stat(netns).st_ino)
        assert_powerless(fs, FILE_SERVER_CAPS)
        uids, _ = fs.ids()
        assert uids[:3] == [monitor.ids()[0][0], 0, monitor.ids()[0][0]]
        assert fs.ns("net") not in (monitor.ns("net"), os.readlink("/proc/self/ns/net"))
        for p in filter(None, (monitor, fs, qemu)):
            assert p.cgroup() == monitor.cgroup() != read("/proc/self/cgroup")
            for ns in ("mnt", "ipc", "uts"):
                assert p.ns(ns) != os.readlink(f"/proc/self/ns/{ns}"), (p.name, ns)
        if when == "created":
            c.start()
            c.wait_output("10.9.8.7", timeout=BOOT)
            # Root in the guest has all capabilities, but this container has not, so the file server must not make nodes
            # of the host's devices for it.
            said = c.exec("mknod", "/disk", "b", "8", "0", opts=("--cap", "CAP_MKNOD"), timeout=60).err
            assert "not permitted" in said and not os.path.exists(c.path("/disk")), said
    c.kill("KILL")
    c.wait(timeout=BOOT)
    c.delete()


# Only the host prevents this guest from writing.
DEFY = """mount -o remount,rw / && mount -o remount,rw /data; grep -c ' / virtiofs rw\\| /data virtiofs rw' /proc/mounts
for d in / /data; do for c in "touch $d/new" "mkdir $d/newer" "chmod 700 $d" "mknod $d/newest p"; do
$c 2>&1 | grep -q 'Read-only file system' && echo refused || echo "$c"; done; done
echo x >/made/for/it/ok && echo x >/made/file && echo end; exec sleep 1000"""


def test_roots_and_a_killed_monitor(vm, tmp):
    """Each process sees only its part of the host's files. The host itself keeps read-only shares read-only, whatever
    the guest does (boxlite's read-only shares), and their mount points exist. A monitor that is killed leaves nothing.
    """
    c = vm("sh", "-c", DEFY)
    config.all_caps(c.conf)
    data, file = os.path.join(tmp, "data"), os.path.join(tmp, "file")
    os.mkdir(data)
    with open(file, "w"):
        pass
    c.conf["root"]["readonly"] = True
    c.conf["mounts"] += [{"destination": "/data", "type": "bind", "source": data, "options": ["bind", "ro"]},
                         {"destination": "/made/for/it", "type": "tmpfs", "source": "tmpfs"},
                         {"destination": "/made/file", "type": "bind", "source": file, "options": ["bind"]}]
    c.up(*VM, timeout=BOOT)
    c.wait_output("end\n", BOOT)
    assert c.output().split() == ["2"] + ["refused"] * 8 + ["end"]
    assert os.listdir(data) == [] and read(file) == "x\n" and not {"new", "newer", "newest"} & set(os.listdir(c.rootfs))
    monitor, fs, qemu = family(c)
    assert not children(fs.pid), "who seals the root has nothing more to do"
    assert monitor.root == []
    assert [m[4] for m in monitor.mounts] == ["/"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(monitor.mounts[0][5].split(","))
    # The file server sees the share's empty root and the shared directories, and nothing else of the host.
    assert all(re.fullmatch(r"/(\d+)?", m[4]) for m in fs.mounts), fs.mounts
    assert [m[4] for m in fs.mounts].count("/") == 1
    if qemu:
        assert set(qemu.root) <= {"bin", "dev", "etc", "gnu", "initramfs", "kernel", "lib", "lib64", "nix", "usr"}
        assert sorted(os.listdir(f"{qemu.dir}/root/dev")) == ["null", "urandom"]
        assert set(os.listdir(f"{qemu.dir}/root/etc")) <= {"ld.so.cache", "alternatives"}
        for m in qemu.mounts:
            assert {"ro", "nosuid"} <= set(m[5].split(",")), m
            assert "nodev" in m[5].split(",") or m[4].startswith("/dev/"), m
        # QEMU is the first process of a pid namespace of its own, so it sees no other process.
        assert qemu.status["NSpid"].split()[1:] == ["1"]
    os.kill(monitor.pid, signal.SIGKILL)
    pids = [p.pid for p in (monitor, fs, qemu) if p]
    runtime.wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), "end of its children", 10)
    assert c.status() == "stopped"
    c.delete()


def test_all_commands_work(vm):
    c = vm("sh", "-c", "trap 'echo terminated; exit 23' TERM; mknod /dev/x c 10 229; mknod /disk b 8 0; "
           "dd if=/dev/zero of=/dev/null bs=100M count=1; echo up; while :; do sleep 0.1; done")
    config.all_caps(c.conf)
    c.conf["linux"]["resources"] = {"unified": {"memory.high": "300M"}}
    c.create(*VM, timeout=BOOT)
    assert c.status() == "created"
    c.start()
    c.wait_output("up", timeout=BOOT)
    assert c.exec("sh", "-c", "exit 5", timeout=60).rc == 5
    assert c.exec("sh", "-c", "kill -USR1 $$", timeout=60).rc == 128 + signal.SIGUSR1
    data = os.urandom(1 << 20)
    assert c.exec("cat", input=data, timeout=60).ok().raw == data
    c.rt("pause", c.id).ok()
    assert c.status() == "paused"
    # An exec that waits for the end of the pause can be ended, and its program does not run later.
    p = c.rt.popen("exec", "--ignore-paused", c.id, "touch", "/ran", stderr=subprocess.PIPE)
    runtime.wait_for(lambda: children(p.pid), "the proxy")
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    assert "signal 2" in p.communicate(timeout=20)[1].decode()
    p = c.rt.popen("exec", "--ignore-paused", c.id, "touch", "/ran", stderr=subprocess.PIPE)
    runtime.wait_for(lambda: children(p.pid), "the proxy")
    time.sleep(0.3)
    p.kill()
    p.communicate(timeout=20)  # The proxy has ended too, which had the other end of the pipe.
    c.rt("resume", c.id).ok()
    assert "sleep" in c.rt("ps", c.id).ok().out
    c.rt("events", "--stats", c.id).ok()
    update_limits(c)
    join_cgroups(c)
    assert not os.path.exists(c.path("/ran"))
    # The container has all capabilities, and its root is a share.
    assert os.stat(c.path("/disk")).st_rdev == os.makedev(8, 0)
    # Memory that a program has freed goes back to the host.
    runtime.wait_for(lambda: returned_memory(c) > 80 << 10, "the return of memory", 20)
    pid = c.pid()
    c.kill("TERM")
    c.wait(timeout=60)
    assert "terminated" in c.output()
    assert not os.path.exists(f"/proc/{pid}")
    c.delete()


def returned_memory(c):
    """Returns the memory in KiB that the machine has given back to the host."""
    monitor, _, qemu = family(c)
    most, now = (int((qemu or monitor).status[k].split()[0]) for k in ("VmHWM", "VmRSS"))
    return most - now


def update_limits(c):
    """Checks that the guest enforces the container's limits, from the beginning and after `update`."""
    look = "cd /sys/fs/cgroup; cat memory.high memory.low pids.max; : </dev/x"
    r = c.exec("sh", "-c", look, timeout=60)
    assert r.out.split() == [str(300 << 20), "0", "max"] and "not permitted" in r.err, r
    c.rt("update", "--resources", "-", c.id, input=json.dumps(
        {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}], "pids": {"limit": 99},
         "unified": {"memory.high": "200M", "memory.low": "1M"}}).encode()).ok()
    assert c.exec("sh", "-c", look, timeout=60).ok().out.split() == [str(200 << 20), str(1 << 20), "99"]
    c.rt("update", "--memory", "500g", c.id).failed("linux.resources.memory.limit", "vm.hwConfig.memory")


def join_cgroups(c):
    """Checks that an exec joins the container's cgroup, also if INIT is elsewhere, but INIT's if that of the container takes no process."""
    top = "/sys/fs/cgroup"
    c.exec("sh", "-c", f"mount -o remount,rw {top} && mkdir {top}/sub && echo 1 >{top}/sub/cgroup.procs", timeout=60).ok()
    assert c.exec("tail", "-n1", "/proc/self/cgroup", timeout=60).ok().out == "0::/\n"
    # The shell's last process in the container's cgroup ends at once.
    c.exec("sh", "-c", f"echo $$ >{top}/sub/cgroup.procs; until echo +pids >{top}/cgroup.subtree_control; do sleep 0.1; done", timeout=60).ok()
    assert c.exec("tail", "-n1", "/proc/self/cgroup", timeout=60).ok().out == "0::/sub\n"


def test_terminal(vm, tmp):
    c = vm("sh", terminal=True)
    with pty_.Receiver(os.path.join(tmp, "tty.sock")) as r:
        c.create(*VM, "--console-socket", r.path, timeout=BOOT)
        fd = r.wait(BOOT)
        c.start()
        os.write(fd, b"echo $((6 * 7)); stty size\n")
        pty_.read_until(fd, b"42", BOOT)
        monitor, _, _ = family(c)
        assert_powerless(monitor)
        assert [f for f in monitor.fds.values() if f.startswith("/dev/pts/")], monitor.fds
        assert_nameless(monitor, *[f for f in monitor.fds.values() if f.startswith("/dev/pts/")])
        os.write(fd, b"exit 3\n")
        c.wait(timeout=60)
    c.delete()


def test_run_ends_by_the_programs_signal(vm):
    """The guest kernel's OOM killer ends the process. `events` reports it, and the container's end too."""
    much = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]
    c = vm("sh", "-c", "until test -e /go; do sleep 0.1; done; exec " + " ".join(much)).write()
    p = c.rt.popen("run", "--bundle", c.bundle, *VM, c.id, stderr=subprocess.PIPE)

    def runs():
        assert p.poll() is None, f"run ended with {p.returncode}: {p.stderr.read()}"
        return c.exists() and c.status() == "running"
    runtime.wait_for(runs, "start", BOOT)
    c.rt("update", "--memory", "32m", c.id).ok()
    out = os.path.join(c.bundle, "events")
    with open(out, "w") as f:
        events = c.rt.popen("events", "--interval", "200ms", c.id, stdout=f)

    def told():
        return [json.loads(line)["type"] for line in read(out).splitlines(True) if line.endswith("\n")]
    runtime.wait_for(lambda: "stats" in told(), "statistics", BOOT)
    assert c.exec(*much, timeout=BOOT).rc == 128 + signal.SIGKILL
    runtime.wait_for(lambda: "oom" in told(), "the first kill", 10)
    c.exec("touch", "/go", timeout=BOOT).ok()
    assert p.wait(60) == 128 + signal.SIGKILL
    assert events.wait(60) == 0
    assert told().count("oom") == 2, told()


@pytest.fixture
def huge_pages():
    """Sets the host's pool of pages of 2 MiB. Returns how many of them are free and not reserved."""
    def free():
        pages = dict(re.findall(r"^HugePages_(\w+):\s+(\d+)", read("/proc/meminfo"), re.M))
        return int(pages["Free"]) - int(pages["Rsvd"])

    def pool(n):
        with open("/proc/sys/vm/nr_hugepages", "w") as f:
            f.write(str(n))
        return free
    yield pool
    pool(0)


def test_huge_pages(vm, huge_pages):
    c = vm("sleep", "1000")
    c.conf["vm"]["hwConfig"] = {"memory": 128 << 20}
    c.conf["annotations"] = {"io.caisson.vm.pages": "hugetlb"}
    huge_pages(10)
    r = c.create(*VM, check=False, timeout=BOOT)
    r.failed("annotation io.caisson.vm.pages", "nr_hugepages")
    free = huge_pages(70)
    before = free()
    c.up(*VM, timeout=BOOT)
    assert before >= 64 and free() <= before - 32, (before, free())
    c.stop()
    runtime.wait_for(lambda: free() == before, "the pages' return")


def test_kernel_that_only_root_can_read(vm, tmp):
    """A kernel that only root can read boots; it is compressed as Ubuntu's are. `run` ends with the program's exit
    code."""
    c = vm("sh", "-c", "uname -r; exit 7")
    found = kernel_image()
    private = os.path.join(tmp, "private")
    os.mkdir(private)
    for name in os.listdir(os.path.dirname(found)):  # the modules of the kernel, thousands of files
        os.symlink(os.path.join(os.path.dirname(found), name), os.path.join(private, name))
    image = os.path.join(private, os.path.basename(found))
    os.unlink(image)
    shutil.copy(found, image)
    os.chmod(image, 0o600)
    os.chmod(private, 0o700)
    c.conf["vm"] = {"kernel": {"path": image}}
    r = c.run(*VM, timeout=BOOT)
    assert r.rc == 7 and r.out.startswith("6."), r.err


@pytest.mark.skipif(mode.HYPERVISOR != "qemu", reason="the built-in loop is no program of its own")
def test_qemu_outside_of_usr(vm, tmp):
    """A QEMU outside of /usr sees its own directory in its jail, and not the host's root."""
    os.mkdir(os.path.join(tmp, "bin"))
    path = os.path.join(tmp, "bin", "my-qemu")
    with open(path, "w") as f:
        f.write('#!/bin/sh\n[ -e /proc ] || [ -e /etc/passwd ] || echo "as expected" >&2\n'
                'touch /kernel /usr/x 2>/dev/null && exit 9\nexec qemu-system-x86_64 "$@"\n')
    os.chmod(path, 0o755)
    c = vm("echo", "hello")
    c.conf["vm"] = {"kernel": {"path": kernel_image()}, "hypervisor": {"path": path}}
    assert c.run(*VM, timeout=BOOT).ok().out == "hello\n"
    c.conf["vm"]["hypervisor"] = {"path": path, "parameters": ["-no-such-option"]}
    r = c.run(*VM, timeout=BOOT)
    assert r.rc != 0 and "as expected" in r.err and "no-such-option" in r.err


def qcow2_header(backing):
    """
    Makes a qcow2 image (docs/interop/qcow2.txt) of a 64 MiB disk without any cluster, so that all its content comes
    from the backing file.
    """
    name = backing.encode()
    return struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 72, len(name), 16, 64 << 20, 0, 1, 1 << 16, 2 << 16, 1, 0, 0) + name


@pytest.mark.parametrize("readonly", [False, True], ids=["rw", "ro"])
def test_image_that_only_root_can_read(vm, tmp, readonly):
    """A disk image that only root can read works. It stays raw, as config.json says, even if a guest writes the header
    of another format, which names a file of the host, into its first sector (CVE-2026-27211). If it is read-only, a
    guest cannot write past its file system (CVE-2026-24834). The guest may switch off its write cache by a register,
    which a vCPU writes.
    """
    c, image = on_image(vm, tmp, "echo write through >/sys/block/vda/cache_type; echo from the guest >/written; sync; "
                        "cat /sys/block/vda/cache_type; grep ' / ' /proc/mounts; "
                        "mknod /dev/disk b $(tr : ' ' </sys/block/vda/dev); head -c 3 /dev/disk; "
                        "busybox blockdev --setrw /dev/disk; dd if=/etc/group of=/dev/disk bs=1 count=9 conv=fsync 2>&1 || echo refused")
    next(m for m in c.conf["mounts"] if m["destination"] == "/sys")["options"].remove("ro")
    c.conf["root"]["readonly"] = readonly
    config.all_caps(c.conf)
    c.conf["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    with open(os.path.join(tmp, "secret"), "wb") as f:
        f.truncate(64 << 20)
    with open(image, "r+b") as f:
        f.write(qcow2_header(os.path.join(tmp, "secret")))
    out = c.run(*VM, timeout=BOOT).ok().out
    assert "write through\n" in out and f"ext4 {'ro' if readonly else 'rw'}" in out and "\nQFI" in out, out
    assert ("refused" in out) == readonly
    with open(image, "rb") as f, open(c.path("etc/group"), "rb") as group:
        assert f.read(9) == (qcow2_header("")[:9] if readonly else group.read(9))
    assert written(image) == (b"" if readonly else b"from the guest\n")


def mergeable(pid):
    """Returns the memory of the process in KiB that KSM may merge."""
    regions = re.findall(r"^Size: +(\d+) kB$.*?^VmFlags: ([^\n]*)$", read(f"/proc/{pid}/smaps"), re.M | re.S)
    return sum(int(size) for size, flags in regions if "mg" in flags.split())


def on_image(vm, directory, script):
    c = vm("sh", "-c", script)
    image = os.path.join(directory, "image")
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", c.rootfs, image], check=True)
    os.chmod(image, 0o600)
    c.conf["vm"]["image"] = {"path": image, "format": "raw"}
    return c, image


def written(image):
    return subprocess.run(["debugfs", "-R", "cat /written", image], capture_output=True, check=True).stdout


@pytest.fixture
def on_disk():
    """A directory on a disk, because a tmpfs and the test host's root have no direct I/O."""
    with tempfile.TemporaryDirectory(dir="/scratch" if os.path.isdir("/scratch") else rootfs.CACHE) as d:
        os.chmod(d, 0o755)
        yield d


def test_image_with_direct_io(vm, on_disk):
    """An image with direct I/O works. The machine shares no directory and so has no file server. Therefore no other
    process has the built-in machine's memory, and KSM may merge it."""
    c, image = on_image(vm, on_disk, "echo start; until test -e /end; do sleep 0.1; done; echo from the guest >/written")
    c.conf["annotations"] = {"io.caisson.vm.image-cache": "none"}
    if mode.HYPERVISOR == "kvm":
        c.conf["annotations"]["io.caisson.vm.pages"] = "mergeable"
    c.up(*VM, timeout=BOOT)
    c.wait_output("start", BOOT)
    assert family(c)[1] is None
    assert mode.HYPERVISOR != "kvm" or mergeable(c.pid()) >= 512 << 10
    flags = [re.search(r"^flags:\s+(\d+)", read(f"{p.dir}/fdinfo/{n}"), re.M)[1]
             for p in family(c) if p for n, path in p.fds.items() if path.endswith("/image")]
    assert flags and all(int(f, 8) & os.O_DIRECT for f in flags), flags
    c.exec("touch", "/end").ok()
    c.wait(timeout=60)
    c.delete()
    assert written(image) == b"from the guest\n"


def test_image_cache_unknown(vm, tmp):
    c, _ = on_image(vm, tmp, "true")
    c.conf["annotations"] = {"io.caisson.vm.image-cache": "unsafe"}
    c.run(*VM).failed("annotation io.caisson.vm.image-cache", '"unsafe"', "none")
