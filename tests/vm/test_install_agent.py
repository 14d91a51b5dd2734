# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson machine install-agent` on small disks: what it writes, and what it refuses. tests/vm/test_machine.py tests that
the agent works, and tests/host/test_vm_machine.py tests that on the built-in machine."""
import os
import resource
import shutil
import subprocess

import pytest

from harness import mode, rootfs
from test_inside import MiB, put, run
from test_machine import LOOK

RELEASE = 'PRETTY_NAME="Tiny \x1b[31m1"\n'


@pytest.fixture
def install(rt, binary, tmp, monkeypatch):
    """install({PATH: CONTENT or (LINK,)}) makes a disk with those files, puts the agent into it, and returns the result. The
    disk is install.disk, and install.say(COMMAND) asks debugfs."""
    monkeypatch.setenv("TMPDIR", tmp)
    disk, tree = os.path.join(tmp, "disk.raw"), os.path.join(tmp, "tree")

    def install(files):
        shutil.rmtree(tree, ignore_errors=True)
        for name, content in {"etc/os-release": RELEASE, "bin/.x": "", **files}.items():
            if isinstance(content, tuple):
                os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
                os.symlink(content[0], os.path.join(tree, name))
            else:
                put(tree, name, content, 0o755)
        with open(disk, "wb") as f:
            f.truncate(32 * MiB)
        run("mke2fs", "-F", "-t", "ext4", "-d", tree, disk)
        return rt("machine", "install-agent", "--hypervisor", mode.HYPERVISOR, "--kernel", mode.packaged_kernel(rootfs.CACHE), disk,
                  timeout=LOOK)

    def say(command):
        return subprocess.run(["debugfs", "-R", command, disk], check=True, capture_output=True).stdout

    install.disk, install.say = disk, say
    return install


def program(machine=62):
    """The beginning of a program for a machine type of ELF: 62 is x86-64, 183 is AArch64."""
    return b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0" + machine.to_bytes(2, "little") + b"\0" * 100


def agent_of(binary):
    with open(os.path.join(os.path.dirname(binary), "guest", "caisson-guest"), "rb") as f:
        return f.read()


# What OpenRC makes when it boots. It is not process 1 here, because the container is to end with the script.
BOOTED = "for d in daemons exclusive options starting started stopping inactive wasinactive failed hotplugged scheduled tmp; do " \
         "mkdir -p /run/openrc/$d; done; touch /run/openrc/softlevel; service() { rc-service caisson-agent $1; }; "
STARTS = 'agent() { while [ "$(wc -l </starts)" != $1 ] || ! kill -0 $(tail -n 1 /starts); do sleep 0.1; done 2>/dev/null; }; '


def check_openrc(ctr, script):
    """OpenRC of Debian starts the agent, starts it again after a kill, and ends it. A script stands for the agent."""
    with rootfs.overlays(ctr) as over:
        c = ctr("sh", "-c", BOOTED + STARTS + "service start || exit; agent 1; kill -9 $(cat /starts); agent 2; service status; "
                "service stop; kill -0 $(tail -n 1 /starts) || cat /arguments", bundle=over(rootfs.debian()))
        with open(script, "rb") as f:
            put(c.bundle, "rootfs/etc/init.d/caisson-agent", f.read(), 0o755)
        put(c.bundle, "rootfs/usr/local/lib/caisson/caisson-agent",
            "#!/bin/sh\necho $* >/arguments\necho $$ >>/starts\nexec sleep 1000\n", 0o755)
        out = c.run(timeout=60).ok().out
        assert "status: started" in out and out.endswith("\n--service\n"), out


def test_openrc_and_selinux(install, ctr, binary, tmp):
    """Links on the disk stay in the disk, even absolute ones. An older agent is replaced. With SELinux the files are labelled."""
    r = install({"bin/sh": program(), "sbin/openrc-run": "", "etc/selinux/config": "SELINUX=enforcing\n", "usr/local": ("/data/local",),
                 "data/local/lib/caisson/caisson-agent": "old", "etc/init.d/x": ""})
    assert r.rc == 0 and r.out == "put the agent into Tiny ?[31m1\n", r
    agent = "/data/local/lib/caisson/caisson-agent"
    assert install.say(f"cat {agent}") == agent_of(binary)
    assert b"Mode:  0755" in install.say(f"stat {agent}") and b"User:     0" in install.say(f"stat {agent}")
    assert b"system_u:object_r:bin_t:s0" in install.say(f"ea_get {agent} security.selinux")
    script = put(tmp, "script", install.say("cat /etc/init.d/caisson-agent"))
    check_openrc(ctr, script)
    with open(script, encoding="utf-8") as f:
        text = f.read()
    assert text.startswith("#!/sbin/openrc-run\n") and "/usr/local/lib/caisson/caisson-agent" in text
    assert b"system_u:object_r:initrc_exec_t:s0" in install.say("ea_get /etc/init.d/caisson-agent security.selinux")
    assert b"/etc/init.d/caisson-agent" in install.say("stat /etc/runlevels/default/caisson-agent")


def test_which_init(install):
    """If a disk has systemd and OpenRC, /sbin/init decides which of them starts the agent."""
    both = {"bin/sh": program(), "sbin/openrc-run": "", "usr/lib/systemd/systemd": program(), "lib": ("usr/lib",)}
    unit, script = "stat /etc/systemd/system/caisson-agent.service", "stat /etc/init.d/caisson-agent"
    for init, there, missing in ((("/lib/systemd/systemd",), unit, script), (program(), script, unit)):
        r = install({**both, "sbin/init": init})
        assert r.rc == 0 and b"Type: regular" in install.say(there) and b"Inode" not in install.say(missing), r


def test_what_is_refused(install):
    """The message says what the disk has and what to do. The command overwrites nothing that is not a file."""
    systemd = {"usr/lib/systemd/systemd": ""}
    install({"bin/sh": program()}).failed("systemd", "OpenRC")
    install({"bin/sh": program(183), **systemd}).failed("aarch64", "x86_64")
    install({"bin/sh": program(), **systemd, "usr/local/lib/caisson/caisson-agent": ("/etc/shadow",), "etc/shadow": "secret"}).failed(
        "/usr/local/lib/caisson/caisson-agent", "remove it")
    assert install.say("cat /etc/shadow") == b"secret"
    install({"bin/sh": program(), **systemd, "fill": "x" * (49 * MiB // 2)}).failed(
        "caisson machine: /usr/local/lib/caisson: write caisson-agent: No space left")
    assert b"not found" in install.say("stat /etc/systemd/system/caisson-agent.service") or \
        install.say("stat /etc/systemd/system/caisson-agent.service") == b""


@pytest.fixture
def file_limit():
    """Sets the largest file that programs may write; None: as before."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))
    yield limit
    limit(None)


def test_done_is_on_the_disk(rt, tmp, file_limit, monkeypatch):
    """If the host cannot write the agent's data, the command does not say that it is done, and no service starts half an agent."""
    monkeypatch.setenv("TMPDIR", tmp)
    tree, raw, disk = (os.path.join(tmp, n) for n in ("tree", "disk.raw", "disk.qcow2"))
    for name, content in {"etc/os-release": RELEASE, "bin/sh": program(), "usr/lib/systemd/systemd": "", "fill": ""}.items():
        put(tree, name, content, 0o755)
    with open(raw, "wb") as f:
        f.truncate(2048 * MiB)
    run("mke2fs", "-F", "-b", "4096", "-t", "ext4", "-d", tree, raw)
    # Only the disk's end is free, and its journal is before it. The image's file has the disk's order.
    run("debugfs", "-w", "-R", "fallocate /fill 0 440000", raw)
    run("qemu-img", "convert", "-O", "qcow2", "-o", "preallocation=metadata", raw, disk)
    file_limit(1700 * MiB)
    r = rt("machine", "install-agent", "--hypervisor", mode.HYPERVISOR, "--kernel", mode.packaged_kernel(rootfs.CACHE), disk, timeout=LOOK)
    file_limit(None)
    assert r.rc != 0 and r.out == "", r
    run("qemu-img", "convert", "-O", "raw", disk, raw)
    subprocess.run(["e2fsck", "-fy", raw], check=False, capture_output=True)
    say = lambda command: subprocess.run(["debugfs", "-R", command, raw], check=True, capture_output=True).stdout
    assert b"Type: regular" in say("stat /fill") and b"Inode" not in say("stat /etc/systemd/system/caisson-agent.service")


def test_wrong_words(rt, tmp):
    """The command reports a mistake on the command line before anything starts."""
    disk = put(tmp, "d.raw", b"\0" * MiB)
    rt("machine", "install").failed("machine install", "caisson machine --help")
    rt("machine", "install-agent").failed("missing arguments", "caisson machine install-agent [options] DISK")
    rt("machine", "install-agent", disk, "x").failed("too many arguments")
    rt("machine", "install-agent", tmp + "/nosuch.raw").failed("nosuch.raw")
    rt("machine", "install-agent", put(tmp, "d.img")).failed("-f")
    assert "install-agent" in rt("machine").ok().out and "systemd" in rt("machine", "install-agent", "--help").ok().out
