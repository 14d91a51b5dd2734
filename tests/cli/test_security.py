# SPDX-License-Identifier: Apache-2.0
"""Tests what a container may not do: devices, masked and read-only paths, sysctl, seccomp."""
import ctypes
import errno
import fcntl
import json
import os
import struct
import threading

import pytest
from harness import config, machine
from harness.pty_ import Receiver
from harness.runtime import status_of

SYS = {"mkdir": 83, "getcwd": 79, "uname": 63, "personality": 135, "sethostname": 170, "getpriority": 140}


def with_caps(c, *names):
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + list(names)
    return c


# ---- devices ----

def test_default_devices(ctr):
    c = ctr.sh("for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done;"
               "for l in fd stdin stdout stderr ptmx; do echo /dev/$l '->' $(readlink /dev/$l); done")
    out = c.run().ok().out
    for line in ("/dev/null character special file 1:3 666", "/dev/zero character special file 1:5 666",
                 "/dev/full character special file 1:7 666", "/dev/random character special file 1:8 666",
                 "/dev/urandom character special file 1:9 666", "/dev/tty character special file 5:0 666"):
        assert line in out, (line, out)
    for link in ("/dev/fd -> /proc/self/fd", "/dev/stdin -> /proc/self/fd/0", "/dev/stdout -> /proc/self/fd/1",
                 "/dev/stderr -> /proc/self/fd/2"):
        assert link in out, (link, out)
    assert "/dev/ptmx -> pts/ptmx" in out or "/dev/ptmx -> /dev/pts/ptmx" in out, out


def test_nothing_else_in_dev(ctr):
    names = set(ctr("ls", "/dev").run().ok().out.split())
    assert names <= {"null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "pts",
                     "shm", "mqueue", "console", "core"}, names


def test_device_is_made(ctr):
    c = ctr.sh("stat -c '%F %t:%T %a %u:%g' /dev/made /dev/sub/block /dev/pipe")
    c.conf["linux"]["devices"] = [
        {"path": "/dev/made", "type": "c", "major": 1, "minor": 7, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 3, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o666}]
    out = c.run().ok().out.splitlines()
    assert out == ["character special file 1:7 640 5:6", "block special file 7:3 600 0:0", "fifo 0:0 666 0:0"]


def test_device_mode_ignores_the_callers_umask(ctr, rt):
    c = ctr("stat", "-c", "%a", "/dev/made").write()
    c.conf["linux"]["devices"] = [{"path": "/dev/made", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    rt.prefix = ["sh", "-c", 'umask 077; exec "$@"', "sh", *rt.prefix]
    assert c.run().ok().out == "666\n"


@pytest.mark.parametrize("dev,field", [
    ({"type": "c", "major": 1, "minor": 3}, "path"), ({"path": "dev/x", "type": "c", "major": 1, "minor": 3}, "path"),
    ({"path": "/dev/x", "type": "z", "major": 1, "minor": 3}, "type")])
def test_bad_device(ctr, dev, field):
    c = ctr("true")
    c.conf["linux"]["devices"] = [dev]
    c.run().failed("linux.devices[0]", field)


# Writing to /dev/kmsg needs only the device rule, whatever kernel.dmesg_restrict and the like say.
KMSG = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
OTHERS = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"}]


def test_device_rules(ctr):
    """Opening a device is refused unless a rule allows it. The last rule that fits decides."""
    c = with_caps(ctr.sh("mknod /tmp/kmsg c 1 11; mknod /tmp/full c 1 7; mknod /tmp/zero c 1 5; "
                         "probe open /tmp/kmsg w; probe open /tmp/full r; probe open /tmp/full w; probe open /dev/zero w"), "CAP_MKNOD")
    c.conf["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"},
                                                {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rm"},
                                                {"allow": True, "type": "c", "access": "m"}]}
    out = c.run().ok().out.splitlines()
    assert out[0].startswith(f"{errno.EPERM} ") and out[1].startswith("ok"), out
    # /dev/full is one of the default devices, which are always allowed, as with runc.
    assert out[2].startswith("ok") and out[3].startswith("ok"), out


def test_device_rule_allows(ctr):
    """The same open succeeds if a rule allows it, and nothing more is allowed."""
    c = with_caps(ctr.sh("mknod /tmp/kmsg c 1 11; probe open /tmp/kmsg w; probe open /tmp/kmsg r"), "CAP_MKNOD")
    c.conf["linux"]["resources"] = {"devices": [*OTHERS, KMSG]}
    out = c.run().ok().out.splitlines()
    assert out[0].startswith("ok") and out[1].startswith(f"{errno.EPERM} "), out


@pytest.mark.parametrize("rules,want", [(OTHERS, f"{errno.EPERM} "), ([*OTHERS, KMSG], "ok")])
def test_device_rules_hold_for_exec(ctr, rules, want):
    c = with_caps(ctr.idle(), "CAP_MKNOD")
    c.conf["linux"]["resources"] = {"devices": rules}
    c.up()
    r = c.exec("sh", "-c", "mknod /tmp/kmsg c 1 11; probe open /tmp/kmsg w").ok()
    assert r.out.startswith(want), r


# ---- paths ----

def test_masked_paths(ctr):
    c = ctr.sh("cat /etc/hidden; ls -A /etc/hidden.d; ls -A /proc/scsi; cat /proc/kcore | wc -c")
    os.mkdir(c.path("/etc/hidden.d"))
    for n in ("/etc/hidden", "/etc/hidden.d/file"):
        with open(c.path(n), "w") as f:
            f.write("secret")
    c.conf["linux"]["maskedPaths"] += ["/etc/hidden", "/etc/hidden.d", "/not/there"]
    assert c.run().ok().out == "0\n"


def test_masked_directory_cannot_be_written(ctr):
    c = ctr.sh("touch /etc/hidden.d/x")
    os.mkdir(c.path("/etc/hidden.d"))
    c.conf["linux"]["maskedPaths"].append("/etc/hidden.d")
    assert "Read-only" in c.run().err


def test_readonly_paths(ctr):
    c = ctr.sh("echo x > /etc/fixed; echo y > /etc/fixed.d/new; cat /etc/fixed; echo z > /proc/sys/kernel/domainname")
    os.mkdir(c.path("/etc/fixed.d"))
    with open(c.path("/etc/fixed"), "w") as f:
        f.write("kept\n")
    c.conf["linux"]["readonlyPaths"] += ["/etc/fixed", "/etc/fixed.d", "/not/there"]
    r = c.run()
    assert r.out == "kept\n" and r.err.count("Read-only file system") == 3, r


def test_relative_masked_path_is_refused(ctr):
    for k in ("maskedPaths", "readonlyPaths"):
        c = ctr("true")
        c.conf["linux"][k] = ["proc/kcore"]
        c.run().failed(k)


def test_masked_and_readonly_in_a_user_namespace(ctr):
    c = ctr.sh("wc -c < /etc/hidden; ls -A /etc/hidden.d; echo x > /proc/sys/kernel/hostname")
    os.mkdir(c.path("/etc/hidden.d"))
    for n in ("/etc/hidden", "/etc/hidden.d/file"):
        with open(c.path(n), "w") as f:
            f.write("secret")
    c.conf["linux"]["maskedPaths"] += ["/etc/hidden", "/etc/hidden.d"]
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    r = c.run()
    assert r.out == "0\n" and "Read-only" in r.err, r


# ---- sysctl ----

def test_sysctl(ctr):
    c = ctr.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/kernel/msgmax")
    c.conf["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "4194304", "kernel.msgmax": "9000"}
    assert c.run().ok().out.split() == ["1", "4194304", "9000"]


def test_sysctl_with_slashes_and_dots_in_names(ctr):
    c = ctr.sh("cat /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/net/ipv4/conf/all/rp_filter")
    c.conf["linux"]["sysctl"] = {"net/ipv4/conf/lo/forwarding": "1", "net.ipv4.conf.all.rp_filter": "2"}
    assert c.run().ok().out.split() == ["1", "2"]


def test_sysctl_of_the_host_is_refused(ctr):
    before = open("/proc/sys/kernel/pid_max").read()
    for key in ("kernel.pid_max", "vm.swappiness", "fs.file-max"):
        c = ctr("true")
        c.conf["linux"]["sysctl"] = {key: open("/proc/sys/" + key.replace(".", "/")).read().strip()}
        c.run().failed("sysctl", key)
    assert open("/proc/sys/kernel/pid_max").read() == before


@pytest.mark.parametrize("key,drop", [("net.ipv4.ip_forward", "network"), ("kernel.shmmax", "ipc"), ("kernel.domainname", "uts")])
def test_sysctl_without_its_namespace_is_refused(ctr, key, drop):
    c = ctr("true")
    config.namespaces(c.conf, drop=(drop,))
    c.conf.pop("hostname") if drop == "uts" else None
    if drop == "ipc":
        c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] != "mqueue"]
    c.conf["linux"]["sysctl"] = {key: "1"}
    c.run().failed("sysctl", key)


def test_sysctl_that_does_not_exist(ctr):
    c = ctr("true")
    c.conf["linux"]["sysctl"] = {"net.made.up": "1"}
    r = c.run()
    assert r.rc != 0 and "net.made.up" in r.err, r


@pytest.mark.parametrize("key", ["net/../../kernel/core_pattern", "net..ipv4", "../kernel.x", "net.ipv4./../../../x"])
def test_sysctl_path_tricks(ctr, key):
    c = ctr("true")
    c.conf["linux"]["sysctl"] = {key: "1"}
    assert c.run().rc != 0


# ---- seccomp ----

def seccomp(c, *rules, default="SCMP_ACT_ALLOW", **more):
    c.conf["linux"]["seccomp"] = {"defaultAction": default, "syscalls": list(rules), **more}
    return c


def test_seccomp_errno(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])),
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV})
    assert c.run().ok().out.startswith(f"{errno.EXDEV} ")
    assert status_of(seccomp(ctr("probe", "info")).run().ok().out)["Seccomp"] == "2"


def test_seccomp_errno_default_is_eperm(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])), {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"})
    assert c.run().ok().out.startswith(f"{errno.EPERM} ")


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"])
def test_seccomp_kill_is_159(ctr, action):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])), {"names": ["getpriority"], "action": action})
    assert c.run().rc == 128 + 31


def test_seccomp_trap(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])), {"names": ["getpriority"], "action": "SCMP_ACT_TRAP"})
    config.namespaces(c.conf, drop=("pid",))
    assert c.run().rc == 128 + 31


@pytest.mark.parametrize("action", ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"])
def test_seccomp_log_and_allow(ctr, action):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])), {"names": ["getpriority"], "action": action})
    assert c.run().ok().out.startswith("ok")


@pytest.mark.parametrize("op,value,hit", [
    ("SCMP_CMP_EQ", 5, True), ("SCMP_CMP_EQ", 6, False), ("SCMP_CMP_NE", 6, True), ("SCMP_CMP_LT", 6, True), ("SCMP_CMP_LT", 5, False),
    ("SCMP_CMP_LE", 5, True), ("SCMP_CMP_GE", 5, True), ("SCMP_CMP_GT", 5, False), ("SCMP_CMP_GT", 4, True)])
def test_seccomp_arguments(ctr, op, value, hit):
    c = seccomp(ctr("probe", "syscall", str(SYS["personality"]), "5"),
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                 "args": [{"index": 0, "value": value, "op": op}]})
    assert c.run().ok().out.startswith("99 ") == hit


def test_seccomp_masked_equality(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["personality"]), "0x15"),
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                 "args": [{"index": 0, "value": 0xf0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}]})
    assert c.run().ok().out.startswith("99 ")


def test_seccomp_64_bit_argument_survives(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["personality"]), "0x7fffffffffffff01"),
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                 "args": [{"index": 0, "value": 0x7fffffffffffff01, "op": "SCMP_CMP_EQ"}]})
    assert c.run().ok().out.startswith("99 ")


def test_seccomp_default_errno(ctr):
    names = [l.strip() for l in open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read().split() if l.startswith("__NR_")]
    allow = [n[5:] for n in names if n != "__NR_getpriority"]
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])), {"names": allow, "action": "SCMP_ACT_ALLOW"},
                default="SCMP_ACT_ERRNO", defaultErrnoRet=38)
    assert c.run().ok().out.startswith("38 ")


def test_seccomp_unknown_syscall_is_ignored(ctr):
    """Unknown system calls in a profile are ignored, because profiles name calls of other architectures and newer
    kernels."""
    seccomp(ctr("true"), {"names": ["made_up_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}).run().ok()


def test_seccomp_without_no_new_privs(ctr):
    """A user without no_new_privs can have a filter, because it is loaded before the capabilities are dropped."""
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"]), noNewPrivileges=False, user={"uid": 1000, "gid": 1000},
                    capabilities={}), {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99})
    assert c.run().ok().out.startswith("99 ")


@pytest.mark.parametrize("flags", [["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], ["SECCOMP_FILTER_FLAG_TSYNC"], []])
def test_seccomp_flags(ctr, flags):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])),
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}, flags=flags)
    assert c.run().ok().out.startswith("99 ")


def test_seccomp_architectures(ctr):
    c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])),
                {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
                architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    assert c.run().ok().out.startswith("99 ")


@pytest.mark.parametrize("bad,field", [
    ({"defaultAction": "SCMP_ACT_NOPE"}, "defaultAction"), ({}, "defaultAction"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]}, "architectures"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["NOPE"]}, "flags"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"]}]}, "action"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}, "names"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                                                       "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}, "index"),
])
def test_seccomp_bad(ctr, bad, field):
    c = ctr("true")
    c.conf["linux"]["seccomp"] = bad
    c.run().failed("seccomp", field)


SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101


def test_seccomp_notify(ctr, tmp):
    """
    The listener arrives over listenerPath with the container process state. The test's answer is what mkdir returns.
    """
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c = seccomp(ctr("mkdir", "/tmp/x"), {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"},
                    listenerPath=rcv.path, listenerMetadata="meta data")
        with open(c.log, "wb") as log:
            p = c.write().rt.popen("run", "--bundle", c.bundle, c.id, stdout=log, stderr=log)
        fd = rcv.wait()
        state = json.loads(rcv.data)
        assert state["fds"] == ["seccompFd"] and state["metadata"] == "meta data", state
        assert state["ociVersion"] and state["state"]["id"] == c.id and state["pid"] > 0
        assert state["state"]["status"] == "creating" and state["state"]["bundle"] == c.bundle
        req = bytearray(80)
        fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, req)
        id_, pid, _, nr = struct.unpack_from("QIIi", req)
        assert nr in (83, 258)
        fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, bytearray(struct.pack("QqiI", id_, 0, -errno.EDOM, 0)))
        assert p.wait(10) == 1
        assert "Numerical argument out of domain" in c.output() or "Math arg" in c.output() or "domain" in c.output()


def test_seccomp_notify_for_exec(ctr, tmp):
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c = seccomp(ctr.idle(), {"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=rcv.path)
        c.up()
        rcv.wait()
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        p = c.rt.popen("exec", c.id, "true")
        rcv.wait()
        assert p.wait(10) == 0
        assert json.loads(rcv.data)["state"]["status"] == "running"


def test_seccomp_notify_without_a_listener(ctr):
    seccomp(ctr("true"), {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}).run().failed("listenerPath")


def test_seccomp_notify_nobody_listens(ctr, tmp):
    r = seccomp(ctr("true"), {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=os.path.join(tmp, "nobody")).run()
    assert r.rc != 0 and "nobody" in r.err, r


@pytest.mark.parametrize("call", ["write", "sendmsg", "close", "read"])
def test_seccomp_notify_for_what_the_runtime_needs(ctr, tmp, call):
    """
    Sending the listener takes system calls that the filter may catch. It must work, or be refused by name, and never
    hang.
    """
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c = seccomp(ctr("probe", "pause"), {"names": [call], "action": "SCMP_ACT_NOTIFY"}, listenerPath=rcv.path).write()
        r = c.rt("run", "--detach", "--bundle", c.bundle, c.id)
        if r.rc == 0:
            rcv.wait()
            c.kill("KILL")
            c.wait()
        else:
            r.failed(call)


def test_seccomp_cache_is_private_and_by_content(ctr):
    """Two profiles alternate twice. Each container must have its own, whether it comes from the cache or not."""
    for _ in range(2):
        for no in (95, 96):
            c = seccomp(ctr("probe", "syscall", str(SYS["getpriority"])),
                        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": no})
            assert c.run().ok().out.startswith(f"{no} ")


# ---- labels, keyring, cgroup ----

def test_apparmor_profile_without_apparmor(ctr):
    if os.path.isdir("/sys/module/apparmor") and open("/sys/module/apparmor/parameters/enabled").read().startswith("Y"):
        pytest.skip("this kernel has AppArmor enabled")
    c = ctr("true", apparmorProfile="some-profile")
    c.run().failed("apparmor")


def test_selinux_label_without_selinux(ctr):
    if os.path.isdir("/sys/fs/selinux") and os.listdir("/sys/fs/selinux"):
        pytest.skip("this kernel has SELinux enabled")
    ctr("true", selinuxLabel="system_u:system_r:container_t:s0").run().failed("selinuxLabel")


def test_proc_is_not_the_hosts(ctr):
    out = ctr.sh("ls /proc | grep -E '^[0-9]+$'").run().ok().out.split()
    assert "1" in out and len(out) <= 4, "only the container's own processes"


def test_no_keyring_of_the_caller(ctr):
    """Each container has a session keyring of its own (--no-new-keyring keeps the caller's)."""
    with open("/proc/keys") as f:
        before = len(f.readlines())
    ctr("true").run().ok()
    ctr("true").run("--no-new-keyring").ok()
    with open("/proc/keys") as f:
        assert len(f.readlines()) <= before + 2
