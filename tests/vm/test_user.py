# SPDX-License-Identifier: Apache-2.0
"""Tests VM mode as an ordinary user, with ranges of ids in /etc/subuid and with the user's own id only: the jails are as
strong as root's, all commands work, and the guest can touch no file that the user could not. The hypervisor is QEMU, or
KVM on the test host."""
import json
import os
import re
import shutil
import subprocess

import pytest

from harness import config, machine, mode, rootfs, runtime, user as ordinary
from harness.user import SUBIDS, UID
from test_jail import BOOT, FILE_SERVER_CAPS, VM, assert_nameless, assert_powerless, children, family, kernel_image, read

IDS = {"ranges": (UID, SUBIDS), "own id": (UID,)}
KVM = "/dev/kvm"


@pytest.fixture(scope="session")
def installed(binary, work):
    return ordinary.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(work, "installed-for-user"))


@pytest.fixture(params=list(IDS))
def ranges(request):
    return request.param == "ranges"


@pytest.fixture
def vm(installed, ranges, template, tmp, clean_machine):
    """Makes the user's containers, with a kernel in their config."""
    made = ordinary.mount_accounts(ordinary.make_accounts(tmp), ranges)
    home, run = (os.path.join(tmp, d) for d in ("home", "run"))
    for d in (home, run):
        os.mkdir(d, 0o700)
        ordinary.own(d)
    rt = runtime.Runtime(installed, os.path.join(run, "caisson"))
    rt.prefix = ordinary.prefix(run, home, ordinary.kvm_groups())
    factory = ordinary.Factory(rt, template, home)

    def make(*args, **process):
        c = factory(*args, **process)
        c.conf["vm"] = {"kernel": {"path": kernel_image()}}
        ordinary.map_ids(c.conf, ranges)
        return c
    yield make
    factory.clean()
    for real in reversed(made):
        machine.umount(real)


def test_without_a_user_namespace(vm, ranges):
    """Root of the guest, which has all rights there, is the user on the host, and can touch no file that the user could not."""
    script = r"""id -u; stat -c %u:%n /mine /others; cat /secret 2>/dev/null || echo no secret
echo x >/others 2>/dev/null || echo no write; chown 5 /mine 2>/dev/null || echo no chown; mknod /node c 1 3 2>/dev/null || echo no node
echo new >/new && chmod 4755 /new; mkdir /m && mount -t tmpfs none /m && echo mounted; cat /proc/self/uid_map"""
    c = vm("sh", "-c", script).write()
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]
    c.conf["root"]["readonly"] = False
    namespaces = [n for n in c.conf["linux"]["namespaces"] if n["type"] != "user"]
    linux = {k: v for k, v in c.conf["linux"].items() if "Mappings" not in k}
    with open(os.path.join(c.bundle, "config.json"), "w") as f:
        json.dump({**c.conf, "linux": {**linux, "namespaces": namespaces}}, f)
    for name, owner, mode_ in (("mine", UID, 0o600), ("others", 0, 0o644), ("secret", 0, 0o600)):
        with open(c.path(name), "w") as f:
            f.write("text\n")
        os.chmod(c.path(name), mode_)
        os.chown(c.path(name), owner, owner)
    plan = c.rt("plan", "--bundle", c.bundle, "--isolation", "vm").ok().out
    assert re.search(rf"host +id-map +uid {UID}->{UID}", plan), plan
    out = c.rt("run", "--bundle", c.bundle, *VM, c.id, timeout=BOOT).ok().out.splitlines()
    assert out[:-1] == ["0", "0:/mine", "65534:/others", "no secret", "no write", "no chown", "no node", "mounted"], out
    assert out[-1].split() == ["0", "0", "4294967295"], "the guest has no other user namespace"
    assert os.stat(c.path("new")).st_uid == UID and open(c.path("others")).read() == "text\n"


@pytest.mark.skipif(machine.ON_TEST_HOST, reason="it takes minutes there, and the hypervisor has no part in it")
def test_disks(vm, ranges, tmp, monkeypatch):
    """An ordinary user looks into disks and writes to them, with the rights of root in the guest."""
    home = os.path.join(tmp, "home")
    monkeypatch.setenv("TMPDIR", home)
    tree, disk, new = (os.path.join(home, n) for n in ("tree", "d.raw", "new"))
    os.makedirs(os.path.join(tree, "etc"))
    with open(os.path.join(tree, "etc", "file"), "w") as f:
        f.write("hello\n")
    with open(new, "w") as f:
        f.write("new\n")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "8M"], check=True)
    for path in (disk, new):
        ordinary.own(path)
    rt = vm().rt
    look = ("--hypervisor", mode.HYPERVISOR, "--kernel", mode.packaged_kernel(rootfs.CACHE))
    # The guest gets the host's /usr/lib, also if something is mounted beneath it.
    machine.mount(tree, "/usr/lib/modules", flags=4096)
    try:
        assert rt("disk", "cat", *look, disk, "/etc/file", timeout=BOOT).ok().out == "hello\n"
    finally:
        machine.umount("/usr/lib/modules")
    rt("disk", "cp", *look, disk, new, ":/etc/new", timeout=BOOT).ok()
    script = "chown 5:6 /sysroot/etc/new && mknod /sysroot/node c 1 3 && cat /sysroot/etc/new; touch /usr/x /x 2>/dev/null || echo no"
    assert rt("disk", "shell", "--write", *look, disk, "sh", "-c", script, timeout=BOOT).ok().out == "new\nno\n"
    line = subprocess.run(["debugfs", "-R", "stat /etc/new", disk], check=True, capture_output=True, text=True).stdout
    assert re.search(r"User: +5 +Group: +6 ", line), line
    rt("disk", "mount", disk, home).failed("only root", "sudo")


@pytest.mark.skipif(machine.ON_TEST_HOST, reason="it takes minutes there, and the hypervisor has no part in it")
def test_machines(vm, ranges, tmp, monkeypatch):
    """An ordinary user boots an operating system of its own, here one without an init, from an overlay of a disk."""
    home, disk = os.path.join(tmp, "home"), os.path.join(tmp, "home", "d.qcow2")
    monkeypatch.setenv("TMPDIR", home)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"], check=True)
    ordinary.own(disk)
    rt = vm().rt
    with open(os.path.join(tmp, "said"), "w+b") as said:
        p = rt.popen("run", "--isolation", "vm", "--hypervisor", mode.HYPERVISOR, "--kernel", kernel_image(), "--append", "root=/dev/vda",
                     "--disk", disk, "--size", "16M", "--network", "none", "m1", stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            runtime.wait_for(lambda: b"Unable to mount root fs" in read(said.name).encode() or p.poll() is not None, "the panic", BOOT)
        finally:
            rt("kill", "m1", "KILL")  # it may have ended by itself
            p.wait(60)
    assert "Unable to mount root fs" in read(said.name) and "newuidmap" not in read(said.name), read(said.name)
    assert not rt("list", "-q").ok().out and not os.listdir(os.path.join(home, ".local", "share", "caisson", "machines"))


def ids_of_the_jail(ranges):
    """The ids as which the monitor may run: those of the upper half of the range, or the user's own."""
    return range(SUBIDS + 32768, SUBIDS + 65536) if ranges else (UID,)


def assert_weak(p, ranges):
    """Checks that the process is neither root nor, if there are other ids, the user, and has no group of the user's."""
    uids, gids = p.ids()
    assert len(set(uids + gids)) == 1 and uids[0] in ids_of_the_jail(ranges), (p.name, uids, gids)
    if ranges:
        assert p.status.get("Groups", "") == "", p.status["Groups"]


def test_every_process_is_confined(vm, ranges):
    c = vm("sh", "-c", "echo up; sleep 1000")
    c.create(*VM, timeout=BOOT)
    monitor, fs, qemu = family(c)
    own = {n: os.readlink(f"/proc/self/ns/{n}") for n in ("user", "net", "mnt", "ipc", "uts")}
    for p in filter(None, (monitor, qemu)):
        assert_powerless(p)
        assert_weak(p, ranges)
        assert_nameless(p, *((c.log, "/start.lock") if p is monitor else ()))
    # The rights that the file server has are those of a user namespace with no ids but the container's.
    assert_powerless(fs, FILE_SERVER_CAPS)
    assert fs.ids()[0][:3] == [monitor.ids()[0][0], UID, monitor.ids()[0][0]]
    maps = [tuple(map(int, line.split())) for line in read(f"{fs.dir}/uid_map").splitlines()]
    assert [(first, n) for _, first, n in maps] == [(UID, 1)] + [(SUBIDS, 65536)] * ranges
    assert fs.ns("user") != monitor.ns("user") and fs.ns("net") != monitor.ns("net")
    for p in filter(None, (monitor, fs, qemu)):
        for n, host in own.items():
            assert p.ns(n) != host, (p.name, n)
    assert monitor.root == [] and [m[4] for m in monitor.mounts] == ["/"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(monitor.mounts[0][5].split(","))
    assert all(re.fullmatch(r"/(\d+)?", m[4]) for m in fs.mounts), fs.mounts
    if qemu:
        assert not {"home", "proc", "root", "run", "tmp", "var"} & set(qemu.root), qemu.root
        assert all({"ro", "nosuid"} <= set(m[5].split(",")) for m in qemu.mounts), qemu.mounts
        assert qemu.status["NSpid"].split()[1:] == ["1"]
        assert re.search(r"Max processes +\d{3} ", read(f"{qemu.dir}/limits")), read(f"{qemu.dir}/limits")
    c.start()
    c.wait_output("up", BOOT)
    os.kill(monitor.pid, 9)
    pids = [p.pid for p in (monitor, fs, qemu) if p]
    runtime.wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), "end of the monitor's children", 10)
    c.delete()


def id_map(p):
    return [tuple(map(int, line.split())) for line in read(f"{p.dir}/uid_map").splitlines()]


def test_file_server_has_only_the_ids_of_the_container(vm, ranges):
    """The user's own id, and the others of /etc/subuid, are the monitor's, and not those of the file server."""
    if not ranges:
        return  # the container cannot have less than the one id
    c = vm("sh", "-c", "id -u; touch /mine; sleep 1000")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": SUBIDS + 7, "size": 100}]
    c.write()
    os.chown(c.rootfs, SUBIDS + 7, SUBIDS + 7)
    log = open(c.log, "ab")
    c.rt("create", "--bundle", c.bundle, *VM, c.id, stdout=log, timeout=BOOT).ok()
    monitor, fs, _ = family(c)
    assert id_map(fs) == [(SUBIDS + 7, SUBIDS + 7, 100)], id_map(fs)
    assert monitor.ids()[0][0] in range(SUBIDS + 57, SUBIDS + 107) and fs.ids()[0][1] == SUBIDS + 7
    c.start()
    c.wait_output("0\n", BOOT)
    runtime.wait_for(lambda: os.path.exists(c.path("mine")), "the guest's file", BOOT)
    assert os.stat(c.path("mine")).st_uid == SUBIDS + 7
    c.stop()


def test_hook_sets_up_the_network(vm, tmp):
    """A createContainer hook has all capabilities in the monitor's user namespace, which owns the network namespace. The
    user is not root there."""
    seen = os.path.join(tmp, "home", "seen")
    c = vm("ip", "addr", "show", "d0")
    c.conf["hooks"] = {"createContainer": [{"path": "/bin/sh", "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "args": [
        "sh", "-ec", f"id -u >{seen}; ip link add d0 type veth peer name d1; ip addr add 10.7.7.7/24 dev d0; ip link set d0 up; ip link set d1 up"]}]}
    assert "10.7.7.7/24" in c.run(*VM, timeout=BOOT).ok().out
    assert read(seen) == f"{UID}\n"


def test_all_commands_work(vm):
    c = vm("sh", "-c", "trap 'echo terminated; exit 23' TERM; echo up; while :; do sleep 0.1; done")
    c.create(*VM, timeout=BOOT)
    assert c.status() == "created"
    c.start()
    c.wait_output("up", BOOT)
    assert c.exec("sh", "-c", "id -u; exit 5", timeout=60).rc == 5
    data = os.urandom(1 << 16)
    assert c.exec("cat", input=data, timeout=60).ok().raw == data
    c.rt("pause", c.id).ok()
    assert c.status() == "paused"
    c.rt("resume", c.id).ok()
    assert "sleep" in c.rt("ps", c.id).ok().out
    c.rt("events", "--stats", c.id).ok()
    c.rt("update", "--pids-limit", "77", c.id).ok()
    image = os.path.join(c.bundle, "disk.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "4M"], check=True)
    ordinary.own(image)
    c.rt("update", "--add-disk", f"{image}:/dev/data:format=qcow2", c.id, timeout=BOOT).ok()
    c.exec("sh", "-c", "echo text | dd of=/dev/data conv=fsync", timeout=60).ok()
    c.rt("update", "--rm-disk", "/dev/data", c.id, timeout=BOOT).ok()
    c.rt("update", "--add-mount", f"{c.bundle}:/mnt", c.id).failed("--add-mount", "only root can mount")
    subprocess.run(["qemu-img", "check", "-q", image], check=True)
    assert c.exec("cat", "/sys/fs/cgroup/pids.max", timeout=60).ok().out == "77\n"
    p = dict(c.conf["process"], args=["cat", "/proc/self/oom_score_adj"], oomScoreAdj=900)
    f = os.path.join(c.bundle, "process.json")
    with open(f, "w") as out:
        json.dump(p, out)
    assert c.exec(opts=["--process", f], timeout=60).ok().out == "900\n"
    assert c.id in c.rt("list").ok().out
    c.kill("TERM")
    c.wait(timeout=60)
    assert "terminated" in c.output()
    c.delete()


FILES = """cd /data; touch mine; stat -c '%u:%g' mine theirs
chown 5:6 mine 2>/dev/null && stat -c '%u:%g' mine || echo no such id
cat roots 2>/dev/null || echo no roots; cat open; echo x 2>/dev/null >open || echo no write
chmod 666 roots 2>/dev/null || echo no chmod; rm roots && echo removed; mknod disk b 8 0 2>/dev/null || echo no node"""


def test_files_have_the_users_ids(vm, ranges):
    """Root of the container is the user on the host. Root's files are as closed to it as they are to the user."""
    c = vm("sh", "-c", FILES)
    config.all_caps(c.conf)
    data = os.path.join(c.bundle, "data")
    os.mkdir(data)
    c.conf["mounts"].append({"destination": "/data", "type": "bind", "source": data, "options": ["bind"]})
    c.write()
    for name, owner, mode_ in (("roots", 0, 0o600), ("open", 0, 0o644), ("theirs", SUBIDS + 4, 0o644)):
        path = os.path.join(data, name)
        with open(path, "w") as f:
            f.write(name + "\n")
        os.chown(path, owner, owner)
        os.chmod(path, mode_)
    with open(os.path.join(c.bundle, "config.json"), "w") as f:
        json.dump(c.conf, f)
    r = c.rt("run", "--bundle", c.bundle, *VM, c.id, timeout=BOOT).ok()
    # The user may remove a file of root's from a directory that is the user's.
    assert r.out.splitlines() == ["0:0", "5:5" if ranges else "65534:65534", "5:6" if ranges else "no such id", "no roots",
                                  "open", "no write", "no chmod", "removed", "no node"], r
    st = os.stat(os.path.join(data, "mine"))
    assert (st.st_uid, st.st_gid) == ((SUBIDS + 4, SUBIDS + 5) if ranges else (UID, UID))


def test_plan_says_who_does_what(vm, ranges):
    c = vm("true").write()
    plan = c.rt("plan", "--bundle", c.bundle, "--isolation", "vm").ok().out
    assert re.search(r"host +clone +new: user network mount", plan), plan
    assert re.search(rf"host +id-map +uid {UID}->{UID}", plan), plan
    assert re.search(r"monitor +open-root", plan) and not re.search(r"host +open-root", plan), plan


def test_image_is_the_root(vm):
    """A qcow2 image, whose server is in a jail of its own."""
    if not shutil.which("mke2fs"):
        pytest.fail("e2fsprogs is not installed: tests/run installs it")
    c = vm("sh", "-c", "echo wrote >/there; cat /there; sleep 1000")
    raw, image = (os.path.join(c.bundle, n) for n in ("disk.raw", "disk.qcow2"))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", f"root_owner={UID}:{UID}", "-d", c.rootfs, raw, "64M"], check=True)
    c.write()
    c.rt("disk", "convert", "-O", "qcow2", raw, image).ok()
    c.conf["vm"]["image"] = {"path": image, "format": "qcow2"}
    c.up(*VM, timeout=BOOT)
    c.wait_output("wrote", BOOT)
    servers = [p for p in children(c.pid()) if "caisson-disk" in machine.cmdline(p)]
    assert len(servers) == 1
    status = runtime.status_of(read(f"/proc/{servers[0]}/status"))
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0, status
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status
    assert os.listdir(f"/proc/{servers[0]}/root") == []
    c.stop()


@pytest.fixture
def delegated():
    """A cgroup that belongs to the user, and words before a command that run it in a child of that cgroup."""
    top = "/sys/fs/cgroup/of-the-user"
    leaf = top + "/leaf"
    os.makedirs(leaf)
    with open(top + "/cgroup.subtree_control", "w") as f:
        f.write("+cpu +memory +pids")
    for d in (top, leaf):
        for n in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(os.path.join(d, n), UID, UID)
    yield ["sh", "-c", f'echo $$ >{leaf}/cgroup.procs; exec "$@"', "sh"]
    runtime.wait_for(lambda: not read(top + "/cgroup.procs") + read(leaf + "/cgroup.procs"), "end of the processes", 10)
    os.rmdir(leaf)
    os.rmdir(top)


@pytest.mark.skipif(not machine.ON_TEST_HOST, reason="the build machine has no memory controller in cgroup v2")
def test_limits_where_the_cgroup_is_delegated(vm, delegated):
    """The limits around the machine are set on the host, and those of the container in the guest."""
    c = vm("sh", "-c", "echo up; sleep 1000")
    c.conf["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 55}}
    c.rt.prefix = delegated + c.rt.prefix
    c.up(*VM, timeout=BOOT)
    c.wait_output("up", BOOT)
    cgroup = "/sys/fs/cgroup" + read(f"/proc/{c.pid()}/cgroup").split("::")[1].strip()
    assert cgroup.startswith("/sys/fs/cgroup/of-the-user/") and not cgroup.endswith("/leaf")
    assert read(cgroup + "/cpu.max") == "50000 100000\n" and read(cgroup + "/pids.max") == "max\n"
    assert 64 << 20 < int(read(cgroup + "/memory.max")) <= (64 + 128 + 256) << 20
    assert c.exec("cat", "/sys/fs/cgroup/pids.max", timeout=BOOT).ok().out == "55\n"
    c.rt("update", "--cpu-quota", "40000", c.id).ok()
    assert read(cgroup + "/cpu.max") == "40000 100000\n"
    c.stop()
    assert not os.path.exists(cgroup)


@pytest.mark.skipif(mode.HYPERVISOR == "kvm", reason="the user may open /dev/kvm there")
def test_user_who_may_not_open_kvm(vm, tmp):
    """The message names the group that may, and says that QEMU runs the machine instead."""
    c = vm("true").write()
    device = os.path.join(tmp, "kvm")
    with open(device, "w"):
        pass
    made = not os.path.exists(KVM)
    if made:
        open(KVM, "w").close()
    machine.mount(device, KVM, flags=4096)
    try:
        os.chown(device, 0, 29)
        os.chmod(device, 0o660)
        line = next(l for l in read("/etc/group").splitlines() if l.split(":")[2] == "29")
        log = os.path.join(os.path.dirname(c.bundle), "log")
        c.rt.options = ["--log", log]
        c.run("--isolation", "vm", timeout=BOOT).ok()
        said = read(log)
        assert "runs in software, on QEMU" in said and f"user {UID}" in said, said
        assert f"add the user to the group {line.split(':')[0]} " in said, said
        c.run("--isolation", "vm", "--hypervisor", "kvm").failed("--hypervisor kvm", f"to the group {line.split(':')[0]} ")
        os.chmod(device, 0o600)
        c.run("--isolation", "vm", "--hypervisor", "kvm").failed("nor by the members of a group", "chmod 0660 /dev/kvm")
    finally:
        machine.umount(KVM)
        if made:
            os.unlink(KVM)


def test_checkpoint_and_restore(vm, ranges):
    """An ordinary user saves and restores a microVM: memory, an open file and output go on, and the files are the user's."""
    if not ranges:
        return  # nothing in this test depends on the ids, and each microVM takes long
    c = vm("sh", "-c", "exec 3>>/counts; i=0; while :; do i=$((i+1)); echo $i >&3; echo $i; sleep 0.3; done")
    c.conf["root"]["readonly"] = False
    c.up(*VM, timeout=BOOT)
    image = os.path.join(c.bundle, "image")
    runtime.wait_for(lambda: len(c.output().split()) > 1, "the counter", BOOT)
    c.rt("checkpoint", "--image-path", image, c.id, timeout=BOOT).ok()
    assert not c.exists()
    assert {os.stat(os.path.join(image, "vm", f)).st_uid for f in ("state", "memory")} == {UID}
    with open(c.log, "ab") as log:
        c.rt("restore", "--detach", "--image-path", image, "--bundle", c.bundle, c.id, stdout=log, timeout=BOOT).ok()
    before = len(c.output().split())
    runtime.wait_for(lambda: len(c.output().split()) > before + 1, "the counter to go on", BOOT)
    c.kill("KILL")
    c.wait(timeout=60)
    numbers = [int(n) for n in read(c.path("counts")).split()]
    assert len(numbers) > before and numbers == list(range(1, len(numbers) + 1))
    assert os.stat(c.path("counts")).st_uid == UID
    c.delete()


def test_ids_that_are_not_the_users(vm):
    c = vm("true")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 500000, "size": 9}]
    c.run(*VM).failed("linux.uidMappings", "/etc/subuid", lines=2)
