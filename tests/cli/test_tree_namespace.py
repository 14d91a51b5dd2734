# SPDX-License-Identifier: Apache-2.0
"""
Tests containers whose mount namespace is made of the root alone, by OPEN_TREE_NAMESPACE of open_tree(2). On a kernel
before Linux 7.0 tree_namespace.c stands in for the flag.
"""
import ctypes
import errno
import os
import re
import subprocess

import pytest
from harness import config, machine, mode, rootfs

pytestmark = pytest.mark.skipif(mode.VM, reason="in a microVM the guest's kernel makes the mount namespace")

SYS_OPEN_TREE, NAMESPACE, AT_EMPTY_PATH = 428, 2, 0x1000
MS_SHARED, MS_BIND = 1 << 20, 4096
PLANNED = re.compile(r"attach-root .*\(new: mount\)")


def kernel_has_it():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(SYS_OPEN_TREE, -9, b"", NAMESPACE | AT_EMPTY_PATH) < 0 and ctypes.get_errno() == errno.EBADF


@pytest.fixture(scope="module")
def stand_in(work):
    program = os.path.join(work, "tree_namespace")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", program,
                    os.path.join(rootfs.HERE, "tree_namespace.c")], check=True)
    return program


@pytest.fixture
def made(ctr, stand_in, tmp):
    """
    Gives the container's runtime the flag. Returns a function that checks how many namespaces the stand-in has made.
    """
    if kernel_has_it():
        return lambda count: True
    log = os.path.join(tmp, "made")
    ctr.rt.prefix = [stand_in, log, *ctr.rt.prefix]
    return lambda count: open(log).read().count("made") == count


@pytest.fixture
def shared_null():
    """On this host /dev/null is a shared mount, as all mounts are under systemd."""
    machine.mount("/dev/null", "/dev/null", flags=MS_BIND)
    machine.mount(None, "/dev/null", flags=MS_SHARED)
    yield
    machine.umount("/dev/null")


def plan(c):
    c.write()
    return c.rt("plan", "--bundle", c.bundle).ok().out


def seen(c):
    """Returns what the container sees, without numbers that differ from one container to the next."""
    c.conf["process"]["args"] = ["sh", "-c", "cat /proc/self/mountinfo; ls -l /dev; ls -a / /proc/acpi; pwd; umask"]
    mounts, rest = [], []
    for line in c.run().ok().out.splitlines():
        m = re.fullmatch(r"\d+ \d+ \d+:\d+ (.*)", line)
        (mounts if m else rest).append(re.sub(r"\w+ +\d+ +\d+:\d+", "DATE", m[1] if m else line))
    return sorted(mounts), [re.sub(r"/\S*b\d+/rootfs", "ROOTFS", l) for l in rest]


def test_sees_the_same(ctr, request):
    """Mounts, devices, masked paths, working directory and umask are the same in both ways."""
    usual = seen(ctr())
    made = request.getfixturevalue("made")
    c = ctr()
    assert PLANNED.search(plan(c))
    assert "new: pid" in plan(c) and "new: pid mount" not in plan(c)
    mounts, rest = seen(c)
    assert made(1)
    assert rest == usual[1]
    assert [re.sub(r"b\d+/rootfs", "", m) for m in mounts] == [re.sub(r"b\d+/rootfs", "", m) for m in usual[0]]


@pytest.mark.skipif(kernel_has_it(), reason="this kernel has the flag")
def test_a_kernel_without_it(ctr):
    c = ctr("cat", "/proc/self/mountinfo")
    assert not PLANNED.search(plan(c))
    c.run().ok()


def test_create_start_exec(ctr, made):
    c = ctr.idle()
    c.up()
    assert c.exec("cat", "/proc/1/comm").ok().out.strip()
    namespace = os.readlink(f"/proc/{c.pid()}/ns/mnt")
    assert namespace != os.readlink("/proc/self/ns/mnt")
    assert c.exec("readlink", "/proc/self/ns/mnt").ok().out.strip() == namespace
    assert made(1)


def test_terminal_and_read_only(ctr, made):
    c = ctr("sh", "-c", "touch /x; touch /dev/x; tty; ls -l /proc/self/fd/0", terminal=False)
    c.conf["root"]["readonly"] = True
    for m in c.conf["mounts"]:
        if m["destination"] == "/dev":
            m["options"].append("ro")
    r = c.run()
    assert r.err.count("Read-only file system") == 2, r
    assert made(1)


def test_bind_mounts_and_volumes(ctr, made, tmp):
    volume = os.path.join(tmp, "volume")
    os.makedirs(volume)
    machine.mount("tmpfs", volume, "tmpfs")
    try:
        c = ctr.sh("echo written > /data/file; cat /again/file")
        config.add_mount(c, "/data", "bind", volume, ["rbind"])
        config.add_mount(c, "/again", "bind", volume, ["rbind", "ro"])
        assert c.run().ok().out == "written\n"
        assert made(1)
    finally:
        machine.umount(volume)


def optional_fields(info, where):
    """Returns the fields of mountinfo that tell the propagation of the mount at `where`."""
    mounts = [l.split() for l in info.splitlines() if l.split()[4:5] == [where]]
    assert mounts, (where, info)
    return mounts[-1][6:mounts[-1].index("-")]


@pytest.mark.parametrize("value,want", [(None, "master"), ("private", ""), ("shared", "shared"), ("slave", "master")])
def test_propagation(ctr, made, value, want):
    """The host's mounts are shared. What the container mounts stays in it."""
    c = ctr.sh("mount -t tmpfs x /mnt && cat /proc/self/mountinfo")
    os.makedirs(os.path.join(c.rootfs, "mnt"))
    c.conf["linux"].pop("rootfsPropagation", None)
    if value:
        c.conf["linux"]["rootfsPropagation"] = value
    for kind in c.conf["process"]["capabilities"].values():
        kind.append("CAP_SYS_ADMIN")
    machine.mount(c.rootfs, c.rootfs, flags=MS_BIND)
    machine.mount(None, c.rootfs, flags=MS_SHARED)
    try:
        before = machine.mounts()
        info = c.run().ok().out
        assert machine.mounts().keys() == before.keys()
        kinds = [w.split(":")[0] for w in optional_fields(info, "/")]
        assert (want in kinds) if want else not kinds
        assert made(1)
    finally:
        machine.umount(c.rootfs)


def test_masks_are_no_peers_of_the_host(ctr, made, shared_null):
    c = ctr("cat", "/proc/self/mountinfo")
    assert optional_fields(c.run().ok().out, "/proc/keys") == []
    assert made(1)


def test_nodes_are_bound_where_they_cannot_be_made(ctr, made, shared_null):
    """For that INIT returns to the host's mount namespace for a moment. No node is a peer of the host's mount."""
    ctr.rt.prefix = [*ctr.rt.prefix, "/usr/bin/setpriv", "--bounding-set=-mknod"]
    c = ctr.sh("echo x > /dev/null && cat /proc/self/mountinfo; ls /")
    out = c.run().ok().out
    assert optional_fields(out, "/dev/null") == []
    assert "\nbin\n" in out
    assert made(1)


def test_hooks_find_the_host(ctr, made, tmp):
    """Hooks that run before PIVOT use the host's paths, so the namespace is a copy of the host's."""
    c = ctr("true")
    result = os.path.join(tmp, "result")
    c.conf["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", f"ls {c.rootfs} > {result}"]}]}
    c.run().ok()
    assert "bin\n" in open(result).read()


def namespaces(c):
    return c.conf["linux"]["namespaces"]


def add_user_namespace(c):
    namespaces(c).append({"type": "user"})
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]


NOT_SO = {
    "hooks": lambda c: c.conf.update(hooks={"createRuntime": [{"path": "/bin/true"}]}),
    "user namespace": add_user_namespace,
    "cgroup of the host": lambda c: [namespaces(c).remove(n) for n in list(namespaces(c)) if n["type"] == "cgroup"],
    "disk": lambda c: config.add_mount(c, "/d", "ext4", "/dev/vdz"),
    "overlay": lambda c: config.add_mount(c, "/d", "overlay", "overlay", ["lowerdir=/usr:/bin"]),
    "label": lambda c: c.conf["linux"].update(mountLabel="system_u:object_r:container_file_t:s0"),
    "joined": lambda c: namespaces(c).__setitem__(
        [n["type"] for n in namespaces(c)].index("mount"), {"type": "mount", "path": "/proc/self/ns/mnt"}),
}


@pytest.mark.parametrize("change", NOT_SO)
def test_what_needs_the_hosts_paths(ctr, made, change):
    c = ctr("true")
    assert PLANNED.search(plan(c))
    NOT_SO[change](c)
    assert not PLANNED.search(plan(c))


def test_no_pivot(ctr, made):
    c = ctr("true").write()
    assert not PLANNED.search(c.rt("plan", "--no-pivot", "--bundle", c.bundle).ok().out)


def test_root_that_is_no_directory(ctr, made):
    c = ctr("true")
    c.conf["root"]["path"] = "/etc/passwd"
    c.write()
    c.rt("run", "--bundle", c.bundle, c.id).failed("root.path", "not a directory")
    assert not os.path.exists(f"/run/caisson/{c.id}")


def test_doctor_tells(rt, ctr, made):
    def told(r):
        return [c["text"] for c in r("doctor", "--json").json()["ns"]["checks"] if c["name"] == "mount-namespace"]

    assert "of a container's root alone" in told(ctr.rt)[0]
    rt.prefix = []
    assert ("copy of the host's" in told(rt)[0]) != kernel_has_it()
