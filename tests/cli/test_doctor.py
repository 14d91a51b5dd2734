# SPDX-License-Identifier: Apache-2.0
"""Tests caisson doctor: its report about this host is true, and its reports about hosts that lack something say what
to do."""
import os
import re
import time

import pytest

from harness import user as ordinary

MODES = ("ns", "vm-kvm", "vm-qemu")
TYPES = ("microvm-machine", "vhost-user-fs-device", "vhost-user-vsock-device", "virtio-scsi-device")


def report(rt, rc=None, **kw):
    r = rt("doctor", "--json", **kw)
    assert r.err == "" and r.rc in ((0, 1) if rc is None else (rc,)), r
    r.rc = 0
    return r.json()


def check(j, mode, name):
    found = [c for c in j[mode]["checks"] if c["name"] == name]
    assert len(found) == 1, (name, j[mode])
    return found[0]["result"], found[0]["text"]


def in_mounts(script):
    """Returns a command prefix, by which a command runs in a mount namespace of its own after the script."""
    return ["unshare", "-m", "sh", "-euc", script + '\nexec "$@"', "sh"]


# ---- its form ----

def test_text_and_json_say_the_same(rt):
    text, j = rt("doctor"), report(rt)
    assert text.err == "" and list(j) == list(MODES)
    blocks = text.out.split("\n\n")
    assert len(blocks) == len(MODES), text
    for mode, block in zip(MODES, blocks):
        head, *lines = block.strip("\n").split("\n")
        assert head.startswith("--isolation " + mode[:2]) and head.endswith(": yes" if j[mode]["runs"] else ": no"), head
        said = [re.fullmatch(r"  (ok|warning|no) +([a-z-]+): (.+)", l).groups() for l in lines]
        assert said == [(c["result"], c["name"], c["text"]) for c in j[mode]["checks"]]


def test_a_mode_runs_unless_a_check_says_no(rt):
    j = report(rt)
    for mode in MODES:
        results = [c["result"] for c in j[mode]["checks"]]
        assert results and set(results) <= {"ok", "warning", "no"}
        assert j[mode]["runs"] == ("no" not in results)


def test_arguments(rt):
    rt("doctor", "x").failed("too many arguments")
    rt("doctor", "--text").failed("text")


# ---- this host: containers run here, the other tests show that ----

def test_namespaces_run_here(rt):
    j = report(rt, rc=0)
    assert j["ns"]["runs"]
    assert check(j, "ns", "kernel") == ("ok", "Linux " + os.uname().release)
    assert check(j, "ns", "namespaces")[0] == check(j, "ns", "seccomp")[0] == "ok"


def test_controllers_are_the_kernels(rt):
    j = report(rt)
    result, where = check(j, "ns", "cgroup")
    assert result == "ok"
    mount = re.search(r"at (/\S+)", where)[1]
    with open(os.path.join(mount, "cgroup.controllers")) as f:
        have = f.read().split()
    result, text = check(j, "ns", "controllers")
    assert (result == "ok") == ({"cpu", "cpuset", "io", "memory", "pids", "hugetlb"} <= set(have))
    for c in have:
        assert re.match(rf"[a-z ]*\b{c}\b", text), text
    for line in open("/proc/self/mounts"):
        _, at, kind, options = line.split()[:4]
        if kind == "cgroup" and "memory" in options.split(","):
            assert f"memory (on cgroup v1 at {at})" in text


def test_kvm_is_what_the_processor_says(rt):
    with open("/proc/cpuinfo") as f:
        flags = set(re.search(r"^flags\s*:(.*)", f.read(), re.M)[1].split())
    result, text = check(report(rt), "vm-kvm", "kvm")
    assert (result == "ok") == (os.path.exists("/dev/kvm") and bool(flags & {"vmx", "svm"})), text


# ---- hosts that lack something ----

def test_old_kernel(rt):
    """doctor reports an old kernel. Here a personality makes the kernel call itself 2.6, as it does for old programs.
    """
    rt.prefix = ["setarch", "--uname-2.6"]
    j = report(rt, rc=1)
    result, text = check(j, "ns", "kernel")
    assert result == "no" and "2.6" in text and "5.14 or later" in text and not j["ns"]["runs"]


def test_root_of_an_unprivileged_container(rt):
    rt.prefix = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    j = report(rt, rc=1)
    result, text = check(j, "ns", "namespaces")
    assert result == "no" and "Operation not permitted" in text and "--privileged" in text


def test_no_user_namespaces(rt):
    """doctor reports that no user namespaces can be made. It runs in a user namespace in which the kernel allows no
    further one."""
    rt.prefix = ["unshare", "--user", "--map-root-user", "sh", "-euc",
                 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    result, text = check(report(rt, rc=0), "ns", "user-namespaces")
    assert result == "warning" and "max_user_namespaces" in text


def test_ordinary_user(rt):
    rt.prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    j = report(rt)
    assert check(j, "ns", "delegation")[0] == "warning"
    assert "limits" in check(j, "ns", "delegation")[1]
    if os.path.exists("/dev/kvm") and not os.stat("/dev/kvm").st_mode & 0o006:
        result, text = check(j, "vm-kvm", "kvm")
        assert result == "no" and "user 65534" in text


def test_subordinate_ids(rt, tmp):
    bin = os.path.join(tmp, "bin")
    os.mkdir(bin)
    for n in ("newuidmap", "newgidmap"):
        with open(os.path.join(bin, n), "w", opener=lambda p, f: os.open(p, f, 0o755)) as f:
            f.write("#!/bin/sh\n")
    # In these files only the user nobody has ranges of ids.
    ids = os.path.join(tmp, "ids")
    with open(ids, "w") as f:
        f.write("daemon1:1:1\nnobody:100000:65536\n")
    script = "".join(f"[ -e {p} ] || : >{p}; mount --bind {ids} {p};" for p in ("/etc/subuid", "/etc/subgid"))
    made = [p for p in ("/etc/subuid", "/etc/subgid") if not os.path.exists(p)]
    try:
        env = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
        for uid, want in (("65534", "ok"), ("1", "warning")):
            rt.prefix = in_mounts(script) + ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
            j = report(rt, env=env)
            for mode in MODES:
                result, text = check(j, mode, "rootless")
                assert result == want and "/etc/subuid" in text, text
        rt.prefix = []
        result, text = check(report(rt, env={**os.environ, "PATH": "/nowhere"}), "ns", "rootless")
        assert result == "warning" and "uidmap" in text
    finally:
        for p in made:
            os.unlink(p)


@pytest.mark.parametrize("prints, want, said", [("0: far 7000 9", "ok", "of the source that"), ("lots", "warning", "getsubids printed"),
                                                ("", "warning", "names no ranges")])
def test_subordinate_ids_of_another_source(rt, tmp, prints, want, said):
    """nsswitch.conf says where the ranges are, and getsubids what they are. The user is in no file, and getent tells its name."""
    bin, conf = os.path.join(tmp, "bin"), os.path.join(tmp, "nsswitch.conf")
    os.mkdir(bin)
    for n, script in (("newuidmap", ""), ("newgidmap", ""), ("getent", '[ "$*" = "passwd 4321" ] && echo far:x:4321:4321::/:/bin/sh'),
                      ("getsubids", f'case "$*" in far|"-g far") [ -z "{prints}" ] || echo "{prints}";; *) exit 1;; esac')):
        with open(os.path.join(bin, n), "w", opener=lambda p, f: os.open(p, f, 0o755)) as f:
            f.write(f"#!/bin/sh\n{script}\n")
    with open(conf, "w") as f:
        f.write("passwd: files\nsubid: sss\n")
    env = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    rt.prefix = in_mounts(f"mount --bind {conf} /etc/nsswitch.conf")
    assert "of the source that" in check(report(rt, env=env), "ns", "rootless")[1]
    rt.prefix += ["setpriv", "--reuid", "4321", "--regid", "4321", "--clear-groups"]
    result, text = check(report(rt, env=env), "ns", "rootless")
    assert result == want and said in text, text


@pytest.mark.parametrize("user, want", [([], "warning"), (["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"], "no")])
def test_microvms_of_a_user_need_a_user_namespace(rt, tmp, user, want):
    """Root's do not, so that for root it is a warning about other users."""
    rt.binary = ordinary.install(rt.binary, os.environ.get("CAISSON_BUILD"), os.path.join(tmp, "installed"))
    rt.prefix = [*user, "unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-euc",
                 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    j = report(rt)
    for mode in ("vm-kvm", "vm-qemu"):
        result, text = check(j, mode, "rootless")
        assert result == want and "max_user_namespaces" in text and "no microVMs" in text, text
        assert want == "warning" or not j[mode]["runs"]


@pytest.mark.parametrize("bits, want, said", [("0660", "ok", "in the group audio may"), ("0600", "warning", "chgrp kvm /dev/kvm")])
def test_who_may_open_kvm(rt, tmp, bits, want, said):
    device = os.path.join(tmp, "kvm")
    with open(device, "w"):
        pass
    made = not os.path.exists("/dev/kvm")
    script = f"chgrp audio {device}; chmod {bits} {device}; mount --bind {device} /dev/kvm"
    try:
        if made:
            open("/dev/kvm", "w").close()
        rt.prefix = in_mounts(script)
        result, text = check(report(rt), "vm-kvm", "kvm-users")
        assert result == want and said in text, text
        rt.prefix += ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        result, text = check(report(rt), "vm-kvm", "kvm")
        assert result == "no" and ("to the group audio " if bits == "0660" else "nor by the members") in text, text
    finally:
        if made:
            os.unlink("/dev/kvm")


def test_no_kvm(rt):
    if os.path.exists("/dev/kvm"):
        rt.prefix = in_mounts("mount --bind /dev/null /dev/kvm")
    j = report(rt, rc=0)
    result, text = check(j, "vm-kvm", "kvm")
    assert result == "no" and not j["vm-kvm"]["runs"]
    assert ("is not KVM" if rt.prefix else "is absent") in text


@pytest.mark.parametrize("name, lacks", [("net/tun", "no network interfaces in microVMs"), ("vhost-net", "slower networks in microVMs")])
@pytest.mark.parametrize("have, want", [("", "does not exist"), ("mknod {} c 1 3; chmod 600 {}", "let this user open it"), ("mknod {} c 1 3; chmod 666 {}", "")])
def test_devices_of_networks(rt, name, lacks, have, want):
    """doctor says for each device of microVMs' networks whether this user may open it, and what its absence costs."""
    device = f"/dev/{name}"
    rt.prefix = in_mounts("umask 0; mount -t tmpfs -o mode=755 none /dev; mkdir /dev/net; mknod /dev/null c 1 3; " + have.replace("{}", device))
    rt.prefix += ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    j = report(rt)
    for mode in ("vm-kvm", "vm-qemu"):
        result, text = check(j, mode, os.path.basename(name))
        assert result == ("warning" if want else "ok") and device in text and want in text, text
        assert not want or lacks in text, text


HIDE = """
for d in /usr/local/lib/caisson /usr/lib/caisson /boot; do
	[ ! -d $d ] || mount -t tmpfs none $d
done
"""


def test_no_guest_kernel(rt):
    rt.prefix = in_mounts(HIDE)
    j = report(rt, rc=0)
    for mode in ("vm-kvm", "vm-qemu"):
        result, text = check(j, mode, "guest-kernel")
        assert result == "no" and not j[mode]["runs"]
        assert "apt-get install linux-image-amd64" in text and "images/kernel/build" in text


def test_guest_kernel_is_no_kernel(rt):
    rt.prefix = in_mounts(HIDE + "echo something >/boot/vmlinuz-1")
    result, text = check(report(rt, rc=0), "vm-qemu", "guest-kernel")
    assert result == "no" and "/boot/vmlinuz-1: not a kernel" in text


def fake_qemu(tmp, script, types=TYPES):
    bin = os.path.join(tmp, "bin")
    os.makedirs(bin, exist_ok=True)
    path = os.path.join(bin, "qemu-system-x86_64")
    with open(path, "wb", opener=lambda p, f: os.open(p, f, 0o755)) as f:
        f.write(f'#!/bin/sh\necho "$@" >>{bin}/calls\n{script}\nexit\n'.encode() + b"".join(t.encode() + b"\0" for t in types))
    return {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}


def say(version):
    return f"echo 'QEMU emulator version {version} (Somebody)'; echo Copyright; exit"


@pytest.mark.parametrize("version,result", [("7.2.22", "ok"), ("10.0.0", "ok"), ("8.0", "ok"), ("7.1.9", "no"), ("6.2.0", "no")])
def test_qemu_version(rt, tmp, version, result):
    j = report(rt, rc=0, env=fake_qemu(tmp, say(version)))
    got, text = check(j, "vm-qemu", "qemu")
    assert got == result and version.rsplit(".", 1)[0] in text
    if result == "ok":
        assert check(j, "vm-qemu", "machine")[0] == "ok"
    else:
        assert "7.2 or later" in text and not j["vm-qemu"]["runs"]
    with open(os.path.join(tmp, "bin/calls")) as f:
        assert f.read() == "-version\n", "it is asked once, and nothing else"


@pytest.mark.parametrize("missing", TYPES)
def test_qemu_without_a_device(rt, tmp, missing):
    # The searched word is far behind in the file, across the border of two reads, and a longer word contains it.
    types = [missing + "-x", "y" * ((1 << 20) - 90)] + [t for t in TYPES if t != missing]
    result, text = check(report(rt, rc=0, env=fake_qemu(tmp, say("7.2.0"), types)), "vm-qemu", "machine")
    assert result == "no" and f"has no {missing}" in text


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "head -c 100000 /dev/zero", "exec >&-; sleep 0.1"])
def test_qemu_is_something_else(rt, tmp, script):
    result, text = check(report(rt, rc=0, env=fake_qemu(tmp, script)), "vm-qemu", "qemu")
    assert result == "no" and "QEMU emulator version" in text and tmp in text


def test_qemu_hangs(rt, tmp):
    began = time.monotonic()
    result, text = check(report(rt, rc=0, env=fake_qemu(tmp, "exec sleep 1000")), "vm-qemu", "qemu")
    assert result == "no" and time.monotonic() - began < 20


def test_qemu_is_absent(rt):
    j = report(rt, rc=0, env={**os.environ, "PATH": "/nowhere"})
    result, text = check(j, "vm-qemu", "qemu")
    assert result == "no" and "apt-get install" in text and not j["vm-qemu"]["runs"]


def test_foreign_text(rt, tmp):
    """Paths of the host are foreign text on a terminal: no control character, no line of its own."""
    evil = os.path.join(tmp, "\x1b[2J\u009b2J\nok forged yes\u202e")
    os.makedirs(evil)
    env = fake_qemu(evil, "echo hello")
    said = [rt("doctor", env=env).out, *(c["text"] for m in report(rt, env=env).values() for c in m["checks"])]
    assert any("forged" in s for s in said)
    for s in said:
        assert not [c for c in s if c != "\n" and (ord(c) < 32 or 0x7f <= ord(c) < 0xa0 or ord(c) == 0x202e)], s
        assert "\nok forged" not in s
