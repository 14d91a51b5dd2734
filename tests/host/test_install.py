# SPDX-License-Identifier: Apache-2.0
"""Tests that an installation can be copied: caisson and its helper programs run in a root without any other file of a
system, above all without libraries. They run from the directory that they were copied to, which is not where this
build would be installed.
"""
import ctypes
import json
import os
import shutil
import subprocess

import pytest
from harness import config, machine

BUILD = os.environ.get("CAISSON_BUILD", "build")
FILES = {"opt/box/bin/caisson": "runtime/caisson", "opt/box/libexec/caisson/caisson-guest": "runtime/guest/caisson-guest",
         "opt/box/libexec/caisson/caisson-systemd": "cgroups/caisson-systemd"}
MS_BIND = 4096
SYS_PIVOT_ROOT = 155
LIBC = ctypes.CDLL(None, use_errno=True)


def make_bundle(root):
    bundle = os.path.join(root, "bundle")
    os.makedirs(os.path.join(bundle, "rootfs/bin"))
    shutil.copy("/bin/busybox", os.path.join(bundle, "rootfs/bin/busybox"))
    for name in ("sh", "echo", "sleep", "ls"):
        os.symlink("busybox", os.path.join(bundle, "rootfs/bin", name))
    conf = config.default("sleep", "1000")
    conf["linux"].update(cgroupsPath="/caisson-installed", resources={"pids": {"limit": 50}})
    write_config(root, conf)


def write_config(root, conf):
    with open(os.path.join(root, "bundle/config.json"), "w", encoding="utf-8") as f:
        json.dump(conf, f)


def read_config(root):
    with open(os.path.join(root, "bundle/config.json"), encoding="utf-8") as f:
        return json.load(f)


def enter(root):
    """Makes the directory the root of this process by a mount, as a host's first process has it. A chroot would not
    do, because the kernel forbids user namespaces in one."""
    machine.unshare(machine.CLONE_NEWNS)
    machine.mount(None, "/", flags=machine.MS_REC | machine.MS_PRIVATE)
    machine.mount("proc", os.path.join(root, "proc"), "proc")
    for d in ("sys", "dev"):
        machine.mount("/" + d, os.path.join(root, d), flags=MS_BIND | machine.MS_REC)
    os.chdir(root)
    if LIBC.syscall(SYS_PIVOT_ROOT, b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    machine.umount(".")
    os.chdir("/bundle")


@pytest.fixture
def empty():
    """A function that runs a command in the empty root, which is a file system of its own."""
    root = os.path.join(os.environ["TMPDIR"], "empty-root")
    os.mkdir(root)
    machine.mount("tmpfs", root, "tmpfs")
    for d in ("proc", "sys", "dev", "run"):
        os.mkdir(os.path.join(root, d))
    for there, here in FILES.items():
        os.makedirs(os.path.dirname(os.path.join(root, there)), exist_ok=True)
        shutil.copy(os.path.join(BUILD, here), os.path.join(root, there))
    make_bundle(root)

    def run(*args, rc=0, **kw):
        # The output goes to files, because a container inherits it, and reading a pipe would wait until the container
        # ends.
        paths = os.path.join(root, "out"), os.path.join(root, "err")
        with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
            p = subprocess.run(["/opt/box/bin/caisson", *args], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False,
                               env={}, timeout=120, preexec_fn=lambda: enter(root), **kw)
        said = [open(f, encoding="utf-8").read() for f in paths]
        assert p.returncode == rc, (args, p.returncode, said)
        return said[0] if rc == 0 else said[1]
    run.root = root
    yield run
    if os.path.isdir(os.path.join(root, "run/caisson")):
        for i in os.listdir(os.path.join(root, "run/caisson")):
            if not i.startswith("."):
                run("delete", "--force", i)
    machine.umount(root)
    os.rmdir(root)


def test_a_container_from_first_to_last_command(empty):
    assert empty("--version").startswith("caisson version ")
    empty("create", "box")
    assert json.loads(empty("state", "box"))["status"] == "created"
    empty("start", "box")
    assert json.loads(empty("state", "box"))["status"] == "running"
    assert empty("exec", "box", "/bin/echo", "from exec") == "from exec\n"
    rows = empty("ps", "box").splitlines()
    assert rows[0].split() == "UID PID PPID C STIME TTY TIME CMD".split() and rows[1].endswith(" sleep 1000"), rows
    assert empty("list", "-q") == "box\n" and " running " in empty("list")
    assert json.loads(empty("events", "--stats", "box"))["data"]["pids"]["limit"] == 50
    empty("pause", "box")
    empty("resume", "box")
    empty("update", "--pids-limit", "60", "box")
    empty("kill", "box", "KILL")
    empty("delete", "--force", "box")
    assert empty("list", "-q") == ""


def test_run_with_seccomp_and_a_user_namespace(empty):
    """A container with a seccomp filter and a user namespace runs. The filter's compiler needs the larger libraries,
    and a chroot would forbid the user namespace."""
    conf = read_config(empty.root)
    conf["process"]["args"] = ["/bin/echo", "from run"]
    conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["reboot", "kexec_load"], "action": "SCMP_ACT_ERRNO"}]}
    conf["linux"]["namespaces"].append({"type": "user"})
    conf["linux"].update({k: [{"containerID": 0, "hostID": 0, "size": 65536}] for k in ("uidMappings", "gidMappings")})
    write_config(empty.root, conf)
    assert empty("run", "box") == "from run\n"


def test_the_helpers_are_found_beside_it(empty):
    conf = read_config(empty.root)
    del conf["linux"]["cgroupsPath"]
    write_config(empty.root, conf)
    # caisson-systemd is the only program that needs libraries. It is found, and says that they are missing.
    assert "/opt/box/bin/../libexec/caisson/caisson-systemd" in empty("--systemd-cgroup", "run", "box", rc=1)
    said = empty("run", "--isolation", "vm", "box", rc=1)
    assert "caisson-guest" not in said, said
    os.unlink(os.path.join(empty.root, "opt/box/libexec/caisson/caisson-guest"))
    assert "/usr/local/libexec/caisson/caisson-guest" in empty("run", "--isolation", "vm", "box", rc=1)
