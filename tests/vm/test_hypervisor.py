# SPDX-License-Identifier: Apache-2.0
"""
VM mode when something is wrong: with the machine that is asked for, with QEMU, with one of the processes around the guest,
or with the guest itself. On QEMU in software, so that it is the same everywhere. Each test ends with the look at what it
left on the machine (conftest.py): processes, mounts, cgroups, interfaces, sockets.
"""
import ctypes
import hashlib
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

from harness import config, machine, mode, rootfs, runtime

HERE = os.path.dirname(os.path.abspath(__file__))
QEMU = ("--hypervisor", "qemu")
BOOT = 150  # seconds that a machine may take here, with the tests of others beside it


@pytest.fixture(scope="session")
def packaged():
    """Debian's kernel, with its modules beside it."""
    return mode.packaged_kernel(rootfs.CACHE)


@pytest.fixture(scope="session")
def kernel(packaged):
    """caisson's own, which boots faster, or else Debian's."""
    return os.path.join(mode.tuned_kernel(), "vmlinux") if mode.tuned_kernel() else packaged


@pytest.fixture
def rt(binary, root, tmp, clean_machine):
    """As conftest's, with a log: who waits for nothing is told there."""
    r = runtime.Runtime(binary, root, ["--log", os.path.join(tmp, "log")])
    yield r
    left = [n for n in (os.listdir(root) if os.path.isdir(root) else []) if n not in ("seccomp", "seccomp-cache")]
    assert not left, f"left in the state directory: {left}"


@pytest.fixture
def vm(ctr, kernel):
    """Makes containers that will be microVMs; vm= is the section of config.json."""
    def make(*args, vm=None, annotations=None, timeout=None, **kw):
        c = config.default(*(args or ["true"]), **kw)
        c["annotations"] = {"io.caisson.isolation": "vm", "io.caisson.vm.boot-timeout": str(timeout or BOOT),
                            **(annotations or {})}
        c["vm"] = {"kernel": {"path": kernel}, **(vm or {})}
        return ctr(conf=c)
    return make


@pytest.fixture(scope="session")
def fake(work):
    """fake_qemu.c, in a directory of its own: it is all that the program will see."""
    os.makedirs(os.path.join(work, "fake"))
    program = os.path.join(work, "fake", "qemu")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program,
                    os.path.join(HERE, "fake_qemu.c")], check=True)
    return program


def log_of(c):
    with open(os.path.join(c.rt.options[1])) as f:
        return f.read()


def run(c, *opts, **kw):
    return c.run(*QEMU, *opts, timeout=BOOT + 30, **kw)


def up(c):
    c.create(*QEMU, timeout=BOOT + 30)
    c.start()
    return c


def children(pid):
    return {machine.proc_stat(p)[0]: p for p in machine._children(pid) if machine.proc_stat(p)}


def part(c, name):
    """The pid of one of the processes around the guest: qemu-system-x86, caisson-fs, caisson-vm (the monitor)."""
    return c.pid() if name == "caisson-vm" else children(c.pid())[name]


# ---- the hypervisor is not there, or not what it should be ----

def test_no_qemu(vm):
    c = vm()
    c.run(*QEMU, env={"PATH": "/nowhere"}).failed("qemu-system-x86_64 is not installed", "apt-get install")


def test_neither_kvm_nor_qemu(vm):
    c = vm()
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    r = c.run(env={"PATH": os.environ["PATH"]})
    if r.rc == 0:
        pytest.fail(f"ran without /dev: {r}")
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && PATH=/nowhere exec "$@"', "sh"]
    c.run(env={"PATH": os.environ["PATH"]}).failed("no hypervisor", "/dev/kvm", "apt-get install", "--isolation ns")


def test_kvm_absent(vm):
    c = vm()
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    c.run("--hypervisor", "kvm").failed("--hypervisor kvm", "/dev/kvm", "--hypervisor qemu")


def test_kvm_is_no_kvm(vm, tmp):
    c = vm()
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/kvm && exec "$@"', "sh"]
    c.run("--hypervisor", "kvm").failed("--hypervisor kvm", "/dev/kvm", "--hypervisor qemu")


def test_hypervisor_named_beside_kvm(vm):
    """What would be ignored is refused; and parameters of QEMU's, without a path, are for QEMU by `auto`."""
    path, parameters = {"path": "/usr/bin/qemu-system-x86_64"}, {"path": "", "parameters": ["-no-such-option"]}
    for named, field in (({**path, "parameters": ["-s"]}, "vm.hypervisor.path"), (parameters, "vm.hypervisor.parameters")):
        vm(vm={"hypervisor": named}).run("--hypervisor", "kvm").failed(field + ": --hypervisor kvm", "--hypervisor qemu")
    c = vm(vm={"hypervisor": parameters})
    for opts in ([], ["--hypervisor", "auto"], QEMU):
        c.run(*opts).failed("QEMU ended with exit code 1", "no-such-option")
    c.run(env={"PATH": "/nowhere"}).failed("vm.hypervisor.parameters: qemu-system-x86_64 is not installed")


def test_unknown_hypervisor(vm):
    vm().run("--hypervisor", "foo").failed("--hypervisor foo", "kvm, qemu or auto")


@pytest.mark.parametrize("path,said", [
    ("/no/such/qemu", "does not exist"),
    ("/etc/passwd", "permission denied"),
    ("/etc", "found a directory"),
])
def test_hypervisor_path(vm, path, said):
    vm(vm={"hypervisor": {"path": path}}).run().failed("vm.hypervisor.path", path, said)


def test_hypervisor_is_no_program(vm, tmp):
    os.mkdir(os.path.join(tmp, "bin"))
    path = os.path.join(tmp, "bin", "qemu")
    with open(path, "w") as f:
        f.write("not a program\n")
    os.chmod(path, 0o755)
    vm(vm={"hypervisor": {"path": path}}).run().failed(path, "exec format error")


OLD = [
    "qemu-system-x86_64: -machine microvm,acpi=on: unsupported machine type\nUse -machine help to list supported machines",
    "qemu-system-x86_64: -device vhost-user-fs-device,chardev=fs: 'vhost-user-fs-device' is not a valid device model name",
    "qemu-system-x86_64: -accel tcg,thread=multi: invalid accelerator tcg",
]


@pytest.mark.parametrize("text", OLD, ids=["machine", "device", "accelerator"])
def test_too_old(vm, fake, text):
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "says", text]}}).run()
    r.failed("QEMU ended with exit code 1", *text.split("\n"), "QEMU 7.2 or later", "microvm", "vhost-user-fs",
             "vhost-user-vsock", "caisson doctor", "vm.hypervisor.parameters")


def test_says_what_a_terminal_would_obey(vm, fake):
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "says", "\x1b[2Jhello" + "x" * 800]}}).run()
    r.failed("QEMU ended with exit code 1", "xxx")
    assert "\x1b" not in r.err


def test_refuses_a_parameter(vm):
    """Of the real one's."""
    r = vm(vm={"hypervisor": {"path": "/usr/bin/qemu-system-x86_64", "parameters": ["-device", "no-such-device"]}}).run()
    r.failed("QEMU ended with exit code 1", "no-such-device", "vm.hypervisor.parameters")


def test_hangs(vm, fake):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "hangs"]}}, timeout=2)
    t = time.monotonic()
    c.run().failed("did not get ready in 2 seconds", "io.caisson.vm.boot-timeout")
    assert time.monotonic() - t < 20


@pytest.mark.parametrize("text", ["0", "-1", "soon", "86401", "", "2s"])
def test_boot_timeout_out_of_range(vm, text):
    c = vm(annotations={"io.caisson.vm.boot-timeout": text})
    c.run(*QEMU).failed("annotation io.caisson.vm.boot-timeout", f'"{text}"', "86400 seconds")


@pytest.mark.parametrize("text, said", [("big", "expected transparent, small, hugetlb or mergeable"),
                                        ("mergeable", "server of root.path"), ("mergeable", "server of mounts[7]"),
                                        ("mergeable", "--hypervisor kvm")],
                         ids=["unknown", "root", "mount", "qemu"])
def test_pages_refused(vm, text, said, tmp):
    c = vm(annotations={"io.caisson.vm.pages": text})
    if "root" not in said:
        c.conf["vm"]["image"] = {"path": os.path.join(tmp, "image"), "format": "raw"}
        open(os.path.join(tmp, "image"), "w", encoding="ascii").close()
    if "mounts" in said:
        c.conf["mounts"].append({"destination": "/data", "type": "bind", "source": tmp, "options": ["bind"]})
    c.run(*QEMU).failed("annotation io.caisson.vm.pages", f'"{text}"', said)


def test_privileged(vm):
    """An engine's --privileged allows all devices and lists the host's: the guest's are what there is."""
    c = vm("sh", "-c", "ls -d /dev/autofs /dev/xfuse; : </dev/xfuse; echo $?")
    c.conf["linux"]["devices"] = [{"path": "/dev/autofs", "type": "c", "major": 10, "minor": 235},
                                  {"path": "/dev/xfuse", "type": "c", "major": 10, "minor": 229}]
    c.run(*QEMU).failed("linux.devices[0]: /dev/autofs (c 10:235)")
    c.conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
    r = c.run(*QEMU, timeout=BOOT)
    assert r.rc == 0 and r.out.split() == ["/dev/xfuse", "0"], r
    assert "in software" not in r.err + log_of(c), "it was asked for"
    assert "linux.devices: left out 1 of the host's devices (/dev/autofs)" in log_of(c)


# ---- a hypervisor that its guest has taken over ----

@pytest.mark.parametrize("what", ["noise", "length", "request", "memory", "kick", "descriptors"])
@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_garbage(vm, fake, id, what):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", id, what]}}, timeout=20)
    t = time.monotonic()
    c.run().failed("vhost-user", *(["file server"] if id == "fs" else []))
    assert time.monotonic() - t < 15, "noticed by the time limit only"


@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_closes_its_socket(vm, fake, id):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "closes", id]}}, timeout=20)
    c.run().failed("closed its connection to the", "file server" if id == "fs" else "vsock device")


@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_half_a_message(vm, fake, id):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", id, "half"]}}, timeout=2)
    c.run().failed("did not get ready in 2 seconds")


def test_has_no_way_in(vm, fake):
    """No monitor, no debugger, nothing to listen at; and of sockets those that its devices are behind."""
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "hangs"]}}, timeout=30).write()
    p = c.rt.popen("create", "--bundle", c.bundle, c.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = []

    def there():
        found[:] = [q for q, st in machine.descendants(p.pid) if st[0] == "qemu"]
        return found
    runtime.wait_for(there, "QEMU")
    with open(f"/proc/{found[0]}/cmdline", encoding="ascii") as f:
        words = f.read().split("\0")[1:]
    fds = {int(n): os.readlink(f"/proc/{found[0]}/fd/{n}") for n in os.listdir(f"/proc/{found[0]}/fd")}
    os.kill(found[0], signal.SIGKILL)
    assert p.wait(20) != 0
    options = {w for w in words if w.startswith("-")}
    assert options == {"-nodefaults", "-no-user-config", "-display", "-no-reboot", "-machine", "-global", "-accel", "-cpu",
                       "-smp", "-m", "-object", "-kernel", "-initrd", "-append", "-sandbox", "-chardev", "-device",
                       "-fake"}, words
    chardevs = [re.fullmatch(r"socket,id=(\w+),fd=(\d+)", v) for o, v in zip(words, words[1:]) if o == "-chardev"]
    assert [m[1] for m in chardevs] == ["console", "fs", "vsock"], words
    assert {n for n, to in fds.items() if n > 2 and to.startswith("socket:")} == {int(m[2]) for m in chardevs}, fds
    assert {to for n, to in fds.items() if not to.startswith("socket:")} - {fds[1]} == {"/dev/null"}, fds


def test_noise_on_the_console(vm, fake):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", "console", "noise"]}}, timeout=2)
    r = c.run().failed("did not get ready in 2 seconds", "the guest's last words")
    assert not [ch for ch in r.err[:-1] if ord(ch) < 32] and len(r.err) < 4096, r


def test_floods_standard_error(vm, fake):
    t = time.monotonic()
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "floods"]}}, timeout=60).run()
    r.failed("QEMU ended with exit code 1")
    assert not [ch for ch in r.err[:-1] if ord(ch) < 32] and len(r.err) < 4096, r
    assert time.monotonic() - t < 20, "noticed by the time limit only"


LISTENER = r"""import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind("\0caisson-jail"); s.listen(); print("ready", flush=True); sys.stdin.read()"""


def test_reaches_nobody(vm, fake):
    """In the container's network namespace, where others may listen: Landlock, with what it has by version."""
    version = ctypes.CDLL(None).syscall(444, None, 0, 1)  # landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION
    if version < 6:
        pytest.skip(f"needs Linux 6.12: Landlock version {version}")
    with subprocess.Popen(["unshare", "--net", "/usr/bin/python3", "-c", LISTENER], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == b"ready\n"
        c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "reaches", "caisson-jail"]}})
        config.namespaces(c.conf, paths={"network": f"/proc/{p.pid}/ns/net"})
        c.run().failed("bind: Permission denied", "connect: Permission denied", "unix: Operation not permitted")
        p.stdin.close()


# ---- the machine ----

def member(section, key, value):
    return {section: {key: value}}


@pytest.mark.parametrize("vm_,said", [
    ({"hwConfig": {"memory": 1 << 20}}, ["vm.hwConfig.memory", "1048576", "at least"]),
    ({"hwConfig": {"memory": 1 << 50}}, ["vm.hwConfig.memory", str(1 << 50), "this host has"]),
    ({"hwConfig": {"vcpus": 0}}, ["vm.hwConfig.vcpus", "found 0"]),
    ({"hwConfig": {"vcpus": 1000}}, ["vm.hwConfig.vcpus", "1000", "1 to 254"]),
    ({"hwConfig": {"vcpus": 200}}, ["vm.hwConfig.vcpus", "200", "this host has"]),
    ({"image": {"path": "/no/such", "format": "raw"}}, ["vm.image.path", "/no/such", "does not exist"]),
    ({"image": {"path": "/etc", "format": "raw"}}, ["vm.image", "/etc", "directory"]),
    ({"image": {"path": "/etc/passwd", "format": "floppy"}}, ["vm.image.format", "floppy"]),
    ({"kernel": {"path": "/no/such"}}, ["vm.kernel.path", "/no/such", "does not exist"]),
    ({"kernel": {"path": "/etc"}}, ["vm.kernel.path", "/etc", "directory"]),
    ({"kernel": {"path": "/etc/passwd"}}, ["vm.kernel.path", "/etc/passwd"]),
    ({"kernel": {"path": "/dev/null"}}, ["vm.kernel.path", "/dev/null"]),
    ({"kernel": {"path": "/dev/zero"}}, ["vm.kernel.path", "/dev/zero"]),
    ({"kernel": {"path": "KERNEL", "initrd": "/no/such"}}, ["vm.kernel.initrd", "/no/such", "does not exist"]),
    ({"kernel": {"path": "KERNEL", "parameters": ["x" * 2048]}}, ["vm.kernel.parameters", "2047"]),
], ids=lambda v: "" if isinstance(v, list) else "-".join(f"{k}" for s in v.values() for k in s))
def test_bad_machine(vm, kernel, vm_, said):
    if vm_.get("kernel", {}).get("path") == "KERNEL":
        vm_ = {"kernel": {**vm_["kernel"], "path": kernel}}
    vm(vm=vm_).run(*QEMU).failed(*said)


@pytest.mark.parametrize("size", [0, 1, 63, 512, 4096, 1 << 20])
def test_truncated_kernel(vm, kernel, tmp, size):
    path = os.path.join(tmp, "kernel")
    with open(kernel, "rb") as f, open(path, "wb") as g:
        g.write(f.read(size))
    vm(vm={"kernel": {"path": path}}).run(*QEMU).failed("vm.kernel.path", path)


def test_no_init(vm, tmp):
    vm().run(*QEMU, env={**os.environ, "CAISSON_LIBEXEC": tmp}).failed(tmp + "/caisson-init", "CAISSON_LIBEXEC")


def test_own_network(vm):
    """Its interfaces would go into the guest: for the host's own that is the end of its network."""
    c = vm()
    for path in ("/proc/self/ns/net", f"/proc/{os.getpid()}/ns/net"):
        config.namespaces(c.conf, paths={"network": path})
        n = [n["type"] for n in c.conf["linux"]["namespaces"]].index("network")
        c.run(*QEMU).failed(f"linux.namespaces[{n}]", path, "interfaces")
    config.namespaces(c.conf, paths={"network": "/no/such"})
    c.run(*QEMU).failed(f"linux.namespaces[{n}]", "/no/such", "does not exist")


# ---- one of the processes ends ----

WHO = [("qemu-system-x86", "QEMU was killed by signal 9"), ("caisson-fs", "file server was killed by signal 9")]


@pytest.mark.parametrize("who,said", WHO, ids=["qemu", "fs"])
def test_killed_in_boot(vm, who, said):
    c = vm().write()
    with open(os.path.join(c.bundle, "err"), "wb") as err:
        p = c.rt.popen("create", *QEMU, "--bundle", c.bundle, c.id, stdout=err, stderr=err)
    pids = []

    def there():
        pids[:] = [q for q, st in machine.descendants(p.pid) if st[0] == who]
        return pids or p.poll() is not None
    runtime.wait_for(there, who)
    # QEMU takes longer than this to get to the guest's init.
    time.sleep(0.2)
    os.kill(pids[0], signal.SIGKILL)
    assert p.wait(20) != 0
    with open(os.path.join(c.bundle, "err")) as f:
        text = f.read()
    assert said in text and len(text.splitlines()) == 1, text
    c.rt("state", c.id).failed("does not exist")


@pytest.mark.parametrize("who,said", WHO, ids=["qemu", "fs"])
def test_killed_while_created(vm, who, said):
    c = vm()
    c.create(*QEMU, timeout=BOOT + 30)
    os.kill(part(c, who), signal.SIGKILL)
    c.wait("stopped")
    assert said in log_of(c)
    c.start(check=False).failed("stopped")
    c.delete()


@pytest.mark.parametrize("who,said", [*WHO, ("caisson-vm", None)], ids=["qemu", "fs", "monitor"])
def test_killed_while_running(vm, who, said):
    c = up(vm("sh", "-c", "while :; do sleep 0.05; done"))
    e = c.rt.popen("exec", c.id, "sh", "-c", "echo here; exec sleep 1000", stdout=subprocess.PIPE)
    assert e.stdout.readline() == b"here\n"
    others = [*children(c.pid()).values()]
    assert len(others) == 2
    os.kill(part(c, who), signal.SIGKILL)
    assert e.wait(15) == 128 + signal.SIGKILL
    c.wait("stopped")
    runtime.wait_for(lambda: not [p for p in others if machine.alive(p)], "end of the other processes")
    if said:
        assert said in log_of(c)
    c.exec("true").failed("container not running")
    c.kill(check=False)
    c.delete()


def test_sigkill_needs_no_guest(vm):
    """A guest that does not answer any more, as one does that has been taken over."""
    c = up(vm("sleep", "1000"))
    monitor = c.pid()
    os.kill(part(c, "qemu-system-x86"), signal.SIGSTOP)
    c.kill("KILL")
    c.wait(timeout=10)
    assert not os.path.exists(f"/proc/{monitor}") or machine.proc_stat(monitor)[1] in "ZX"
    c.delete()


def test_qemu_killed_under_run(vm):
    c = vm("sh", "-c", "echo here; exec sleep 1000").write()
    with open(os.path.join(c.bundle, "err"), "wb") as err:
        p = c.rt.popen("run", *QEMU, "--bundle", c.bundle, c.id, stdout=subprocess.PIPE, stderr=err)
    assert p.stdout.readline() == b"here\n"
    os.kill(part(c, "qemu-system-x86"), signal.SIGKILL)
    assert p.wait(20) == 1, "the program did not end: it has no exit status"
    with open(os.path.join(c.bundle, "err")) as f:
        text = f.read()
    assert "QEMU was killed by signal 9" in text and len(text.splitlines()) == 1, text
    assert log_of(c).count("QEMU was killed by signal 9") == 1
    c.rt("state", c.id).failed("does not exist")


# ---- the guest ----

@pytest.fixture(scope="session")
def evil(work):
    """evil_guest.c, and an initrd with it as /evil."""
    program, initrd = os.path.join(work, "evil_guest"), os.path.join(work, "evil.cpio")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program,
                    os.path.join(HERE, "evil_guest.c")], check=True)
    with open(program, "rb") as f, open(initrd, "wb") as g:
        g.write(cpio_entry("evil", 0o100755, f.read()) + cpio_entry("TRAILER!!!", 0, b""))
    return program, initrd


def cpio_entry(name, mode_, data):
    """Documentation/driver-api/early-userspace/buffer-format.rst"""
    fields = (0, mode_, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


# What else an agent may say is in unit/test_monitor_guest.c. A panic's last words are the kernel's.
EVIL = [
    ("console", ["switched itself off", "last words"]),
    ("reboot", ["switched itself off", "evil: reboot"]),
    ("panic", ["switched itself off", "Kernel panic"]),
    ("agent-noise", ["a message of the agent's has lengths"]),
    ("agent-close", ["the guest's init has gone"]),
    ("agent-hello", ["did not get ready in 12 seconds"]),
]


@pytest.mark.parametrize("what,said", EVIL, ids=[w for w, _ in EVIL])
def test_evil_guest(vm, kernel, evil, what, said):
    c = vm(vm={"kernel": {"path": kernel, "initrd": evil[1], "parameters": ["rdinit=/evil", "evil=" + what]}},
           timeout=12 if what == "agent-hello" else BOOT)
    r = run(c).failed(*said)
    assert not [ch for ch in r.err if ord(ch) < 32 and ch != "\n"], r
    # The monitor lived until it had understood: it did not die of a signal or of the jail's filter.
    assert "killed by" not in r.err and "was killed" not in r.err, r


def test_vsock_from_the_container(vm, evil):
    """Nobody but the guest's init has business with the host, not even with the names of its streams."""
    c = vm("/evil", "knock")
    with open(evil[0], "rb") as f, open(c.path("evil"), "wb") as g:
        g.write(f.read())
    os.chmod(c.path("evil"), 0o755)
    r = run(c)
    assert "evil: knocked: 0 answered, 0 not refused" in r.out, r
    r.ok()


def test_without_kvm_and_cache(vm):
    """
    Where KVM can't run Linux `auto` says so, once on standard error and once in the log. A cache that can't be written is
    no reason to fail: the initramfs is packed anew.
    """
    c = vm("echo", "here")
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/kvm; mkdir -p /var/cache/caisson && '
                   'mount -t tmpfs -o ro none /var/cache/caisson && exec "$@"', "sh"]
    notice = "the microVM runs in software, on QEMU: /dev/kvm "
    r = c.run("--hypervisor", "auto", timeout=BOOT).ok()
    assert r.out == "here\n"
    line, = r.err.splitlines()
    assert line.startswith("caisson: " + notice), r
    logged, = log_of(c).splitlines()
    assert "level=info" in logged and notice in logged
    # It is said before the machine is made, in the other form too.
    os.unlink(c.rt.options[1])
    c.rt.options += ["--log-format", "json"]
    c.conf["vm"]["kernel"]["path"] = "/no/such"
    c.run().failed(notice, "vm.kernel.path", lines=2)
    logged = [json.loads(l) for l in log_of(c).splitlines()]
    assert [(l["level"], notice in l["msg"]) for l in logged] == [("info", True), ("error", False)], logged


# ---- guest kernels ----

def bare_kernel(packaged, to):
    os.makedirs(to)
    path = os.path.join(to, "vmlinuz")
    shutil.copy(packaged, path)
    return path


def modules_of(packaged):
    top = os.path.join(os.path.dirname(packaged), "modules")
    release, = os.listdir(top)
    return release, os.path.join(top, release)


@pytest.mark.parametrize("module,option", [("virtiofs", "CONFIG_VIRTIO_FS"),
                                           ("vmw_vsock_virtio_transport", "CONFIG_VIRTIO_VSOCKETS")])
def test_kernel_lacks_a_module(vm, packaged, tmp, module, option):
    path = bare_kernel(packaged, os.path.join(tmp, "k"))
    release, source = modules_of(packaged)
    to = os.path.join(tmp, "k", "modules", release)
    os.makedirs(to)
    for name in os.listdir(source):
        if name.startswith("modules."):
            with open(os.path.join(source, name), "rb") as f, open(os.path.join(to, name), "wb") as g:
                g.writelines(l for l in f if f"/{module}.ko".encode() not in l)
    vm(vm={"kernel": {"path": path}}).run(*QEMU).failed("can't be the guest's kernel", module, option, release)


def test_kernel_without_modules(vm, packaged, tmp):
    """Nothing tells what it has: it is booted, and ends by itself."""
    path = bare_kernel(packaged, os.path.join(tmp, "k"))
    release = modules_of(packaged)[0].encode()
    with open(path, "r+b") as f:
        # The same under a name that no modules are installed for.
        image = f.read(1 << 16)
        assert image.count(release) == 1
        f.seek(image.index(release) + len(release) - 5)
        f.write(b"other")
    c = vm(vm={"kernel": {"path": path}})
    t = time.monotonic()
    run(c).failed("switched itself off", "virtio")
    assert time.monotonic() - t < 100


@pytest.mark.parametrize("blacklist,said", [
    ("virtio_fs_init", ["the guest's kernel has no virtio-fs", "virtiofs", "CONFIG_VIRTIO_FS", "vm.kernel.path"]),
    # Without the way to the monitor it is said on the console, which is a module too.
    ("vsock_init", ["switched itself off", "caisson-init: the guest's kernel has no vsock", "vmw_vsock_virtio_transport"]),
], ids=["virtiofs", "vsock"])
def test_kernel_without(vm, packaged, blacklist, said):
    """It has the module, which does not load: the kernel boots, and its init says what is missing."""
    c = vm(vm={"kernel": {"path": packaged, "parameters": ["initcall_blacklist=" + blacklist]}})
    run(c).failed(*said)


def test_kernel_larger_than_memory(vm, kernel, tmp):
    path = os.path.join(tmp, "kernel")
    with open(kernel, "rb") as f:
        image = bytearray(f.read())
    if image[:4] == b"\x7fELF":
        at, size, n = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
        loads = [at + i * size for i in range(n) if struct.unpack_from("<I", image, at + i * size)[0] == 1]
        struct.pack_into("<Q", image, loads[-1] + 40, 1 << 30)  # p_memsz
    else:
        struct.pack_into("<I", image, 0x260, 1 << 30)  # init_size of the bzImage header
    with open(path, "wb") as f:
        f.write(image)
    c = vm(vm={"kernel": {"path": path}, "hwConfig": {"memory": 128 << 20}}, timeout=20)
    run(c).failed("vm.kernel.path", path, "memory")


# ---- streams ----

def test_a_monitor_that_is_slow(vm, tmp):
    """
    While the guest connects its streams the monitor gets no processor for longer than Linux waits for an answer by
    itself (two seconds): what the program writes is not lost.
    """
    c = vm("sh", "-c", "echo to the output; echo to the error >&2; exit 7").write()
    log = os.path.join(tmp, "log")
    p = c.rt.popen("--debug", "run", *QEMU, "--bundle", c.bundle, c.id, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runtime.wait_for(lambda: os.path.exists(log) and "microvm: hello" in open(log, encoding="utf-8").read(), "the guest's hello", BOOT)
    # Not c.pid(), which is 0 before the container is there.
    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
        monitor = int(f.read().split()[0])
    os.kill(monitor, signal.SIGSTOP)
    time.sleep(4)
    os.kill(monitor, signal.SIGCONT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode, out) == (7, "to the output\n") and "to the error\n" in err, (p.returncode, out, err)


def test_streams(vm, tmp):
    """What a guest's process and a command's caller may do to each other."""
    c = up(vm("sh", "-c", "while :; do sleep 0.05; done"))
    data = random.Random(4).randbytes(10 << 20)
    with open(os.path.join(tmp, "in"), "wb") as f:
        f.write(data)
    with open(os.path.join(tmp, "in"), "rb") as f:
        r = c.exec("cat", stdin=f, timeout=60).ok()
    assert hashlib.sha256(r.raw).digest() == hashlib.sha256(data).digest(), "10 MB did not come back as they were"

    # Input that nobody reads, or not to its end.
    with open(os.path.join(tmp, "in"), "rb") as f:
        assert c.exec("head", "-c", "5", stdin=f).ok().raw == data[:5]
    with open(os.path.join(tmp, "in"), "rb") as f:
        assert c.exec("sh", "-c", "exec <&-; exit 3", stdin=f).rc == 3

    # Output that nobody reads any more: the process is told, as on a pipe.
    p = c.rt.popen("exec", c.id, "sh", "-c", "yes; echo $? >/ended", stdout=subprocess.PIPE)
    assert p.stdout.read(2) == b"y\n"
    p.stdout.close()
    p.wait(30)
    with open(c.path("ended")) as f:
        assert f.read() in ("141\n", "1\n")

    # Output that nobody reads for a while: other commands go on, and nothing of it is lost.
    p = c.rt.popen("exec", c.id, "sh", "-c", "dd if=/dev/zero bs=64k count=64 2>/dev/null; echo end >&2",
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(3):
        time.sleep(0.5)
        assert c.exec("echo", "beside").ok().out == "beside\n"
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and out == bytes(64 << 16) and err == b"end\n", (p.returncode, len(out), err)

    # Many at once.
    ps = [c.rt.popen("exec", c.id, "sh", "-c", f"cat; echo {i} >&2; exit {i}", stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(50)]
    for i, p in enumerate(ps):
        out, err = p.communicate(b"in %d" % i, timeout=120)
        assert (p.returncode, out, err) == (i, b"in %d" % i, b"%d\n" % i)
    assert c.exec("true").rc == 0
    c.stop()
