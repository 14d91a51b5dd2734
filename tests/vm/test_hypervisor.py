# SPDX-License-Identifier: Apache-2.0
"""Tests VM mode if something is wrong with the requested machine, with QEMU, with one of the processes around the
guest, or with the guest itself. The guests run on QEMU in software, so that the results are the same everywhere. After
each test a fixture (conftest.py) checks what it has left on the machine: processes, mounts, cgroups, interfaces,
sockets.
"""
import ctypes
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest
from hypervisor import BOOT, QEMU, children, fake, kernel, log_of, packaged, part, rt, up, vm  # noqa: F401 (fixtures too)
from harness import config, machine, runtime
from harness.runtime import wait_for


# ---- the hypervisor is missing or is something else ----

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
    """Hypervisor settings that would be ignored on KVM are refused. With `auto`, parameters without a path are for
    QEMU."""
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
    "qemu-system-x86_64: -device virtio-scsi-device,id=spare0: 'virtio-scsi-device' is not a valid device model name",
    "qemu-system-x86_64: -accel tcg,thread=multi: invalid accelerator tcg",
]


@pytest.mark.parametrize("text", OLD, ids=["machine", "device", "scsi", "accelerator"])
def test_qemu_is_too_old(vm, fake, text):
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "says", text]}}).run()
    r.failed("QEMU ended with exit code 1", *text.split("\n"), "QEMU 7.2 or later", "microvm", "vhost-user-fs",
             "vhost-user-vsock", "virtio-scsi", "caisson doctor", "vm.hypervisor.parameters")


def test_control_sequences_of_qemu_are_escaped(vm, fake):
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "says", "\x1b[2Jhello" + "x" * 800]}}).run()
    r.failed("QEMU ended with exit code 1", "xxx")
    assert "\x1b" not in r.err


def test_qemu_refuses_a_parameter(vm):
    """The error has the real QEMU's message about a parameter that it refuses."""
    r = vm(vm={"hypervisor": {"path": "/usr/bin/qemu-system-x86_64", "parameters": ["-device", "no-such-device"]}}).run()
    r.failed("QEMU ended with exit code 1", "no-such-device", "vm.hypervisor.parameters")


def test_qemu_hangs(vm, fake):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "hangs"]}}, timeout=2)
    t = time.monotonic()
    c.run().failed("did not get ready in 2 seconds", "io.caisson.vm.boot-timeout")
    assert time.monotonic() - t < 20


@pytest.mark.parametrize("text", ["0", "-1", "soon", "86401", "", "2s"])
def test_boot_timeout_out_of_range(vm, text):
    c = vm(annotations={"io.caisson.vm.boot-timeout": text})
    c.run(*QEMU).failed("annotation io.caisson.vm.boot-timeout", f'"{text}"', "86400 seconds")


def test_template_is_not_known(vm):
    vm().run("--template", "sometimes").failed('--template: "sometimes": expected auto, off or refresh')
    vm(annotations={"io.caisson.vm.template": "on"}).run().failed('annotation io.caisson.vm.template: "on": expected auto')


def test_clock_after_stops(vm, packaged):
    """After stops of QEMU the guest has the host's time. A stopped QEMU loses timer ticks, as one on a loaded host
    does, and the guest's kernel must not take that for a fault of its TSC."""
    # The guest has two vCPUs, because Linux distrusts the TSC most if there are several processors.
    c = vm("sleep", "1000", vm={"hwConfig": {"vcpus": 2}})
    c.conf["vm"]["kernel"] = {"path": packaged}
    for held in c.conf["process"]["capabilities"].values():
        held.append("CAP_SYS_TIME")
    up(c)
    qemu, monitor = part(c, "qemu-system-x86"), c.pid()

    def difference():
        return abs(int(c.exec("date", "+%s", timeout=BOOT).ok().out) - time.time())
    for _ in range(60):
        os.kill(qemu, signal.SIGSTOP)
        time.sleep(0.12)
        os.kill(qemu, signal.SIGCONT)
        time.sleep(0.03)
    assert difference() < 5
    r = c.exec("cat", "/sys/devices/system/clocksource/clocksource0/current_clocksource", timeout=BOOT).ok()
    assert r.out == "tsc\n"
    # Even a guest whose clock was set wrongly gets the host's time again.
    c.exec("date", "-s", "@1000000", timeout=BOOT)
    os.kill(monitor, signal.SIGCONT)
    wait_for(lambda: difference() < 5, "the guest's clock to be right", timeout=BOOT)
    c.delete("--force")


def test_output_and_errors_that_are_one_stay_in_order(vm):
    loop = "i=0; while [ $i -lt 300 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    want = [w + str(i) for i in range(300) for w in "oe"]
    c = vm("sh", "-c", loop + "; sleep 1000")
    r, w = os.pipe()
    with os.fdopen(r) as out:
        c.write()
        subprocess.run(c.rt.argv("create", "--bundle", c.bundle, *QEMU, c.id), stdin=subprocess.DEVNULL, stdout=w, stderr=w,
                       timeout=BOOT + 30, check=True)
        os.close(w)
        c.start()
        said = [next(out).strip() for _ in range(600)]
    assert said == want
    # The exec's streams come to the monitor after it has entered its jail.
    p = subprocess.run(c.rt.argv("exec", c.id, "sh", "-c", loop), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=BOOT, check=True)
    assert p.stdout.split() == want
    p = subprocess.run(c.rt.argv("exec", c.id, "sh", "-c", loop), stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, timeout=BOOT, check=True)
    assert p.stdout.split() == want[::2] and p.stderr.split() == want[1::2]
    c.delete("--force")


def test_acls_of_the_root_and_of_a_directory_hold(vm, tmp):
    """The ACL user::rw- user:1000:r-- group::--- mask::r-- other::--- holds: without it, mode 0640 would let group 0
    read."""
    acl = struct.pack("<I" + "HHI" * 5, 2, 1, 6, 2**32 - 1, 2, 4, 1000, 4, 0, 2**32 - 1, 16, 4, 2**32 - 1, 32, 0, 2**32 - 1)
    c = vm("sleep", "1000")
    data = os.path.join(tmp, "data")
    os.mkdir(data)
    for path in (os.path.join(data, "f"), os.path.join(c.bundle, "rootfs", "f")):
        with open(path, "w", encoding="ascii") as f:
            f.write("secret")
        os.setxattr(path, "system.posix_acl_access", acl)
        assert os.stat(path).st_mode & 0o777 == 0o640
    c.conf["mounts"].append({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]})
    up(c)
    for file in ("/data/f", "/f"):
        assert c.exec("cat", file, opts=("-u", "1000:1000"), timeout=BOOT).ok().out == "secret"
        r = c.exec("cat", file, opts=("-u", "1001:0"), timeout=BOOT)
        assert r.rc == 1 and r.out == "", r
    c.delete("--force")


def test_user_namespace_confines_the_share(vm, tmp):
    """A container with a user namespace works on its share. tests/unit/test_vmfs_ids.c tests what the host's kernel
    refuses to a hostile guest."""
    c = vm("sleep", "1000")
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    for held in c.conf["process"]["capabilities"].values():
        held += ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"]
    c.conf["linux"]["namespaces"].append({"type": "user"})
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = maps
    data = os.path.join(tmp, "data")
    os.mkdir(data)
    os.chown(data, 100000, 100000)
    for name, mode, owner in (("private", 0o600, 0), ("public", 0o644, 0), ("own", 0o600, 100007)):
        path = os.path.join(data, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(name)
        os.chown(path, owner, owner)
        os.chmod(path, mode)
    c.conf["mounts"].append({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]})
    os.mkdir(os.path.join(c.rootfs, "data"))
    up(c)
    with open(f"/proc/{part(c, 'caisson-fs')}/uid_map", encoding="ascii") as f:
        assert f.read().split() == ["100000", "100000", "65536"]
    r = c.exec("sh", "-c", "cd /data; cat own public; cat private; echo x >new; chmod 4755 new; ln own second; "
               "mkdir d; chown 7:8 d; stat -c '%u %g %n' *; chown 70000 new", timeout=BOOT)
    assert r.out == "ownpublic7 8 d\n0 0 new\n7 7 own\n65534 65534 private\n65534 65534 public\n7 7 second\n", r
    assert "'private': Permission denied" in r.err and r.rc == 1, r
    st = os.stat(os.path.join(data, "new"))
    assert (st.st_uid, st.st_mode & 0o7777) == (100000, 0o4755)
    st = os.stat(os.path.join(data, "d"))
    assert (st.st_uid, st.st_gid) == (100007, 100008)
    c.delete("--force")


@pytest.mark.parametrize("text", ["yes", "1", "", "TRUE"])
def test_nested_is_neither_true_nor_false(vm, text):
    vm(annotations={"io.caisson.vm.nested": text}).run(*QEMU).failed(
        "annotation io.caisson.vm.nested", f'"{text}"', "expected true or false")


@pytest.mark.parametrize("text, offered", [(None, False), ("false", False), ("true", True)])
def test_virtualization_is_offered_only_on_request(vm, text, offered):
    """QEMU offers virtualization only on request. test_vm_cpuid.c and tests/host/test_vm_guest.py test this for the
    built-in machine."""
    c = vm("grep", "-m1", "^flags", "/proc/cpuinfo", annotations={"io.caisson.vm.nested": text} if text else {})
    r = c.run(*QEMU, timeout=BOOT + 30)
    assert r.rc == 0 and bool({"svm", "vmx"} & set(r.out.split())) == offered, r


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


# WAIT is left out if the guest cannot give up waiting for a lock.
LOCKING = """
echo held >f
for kind in flock posix; do
	lock $kind f 4 &
	sleep 0.7
	lock try-$kind f 0; echo "$kind tried: $?"
	WAIT timeout 1 lock $kind f 0; echo "$kind waited: $?"
	wait
	lock try-$kind f 0; echo "$kind freed: $?"
done
echo ready
while ! [ -e go ]; do sleep 0.1; done
lock try-flock f 0; echo "flock of the host: $?"
lock try-posix f 0; echo "posix of the host: $?"
"""


@pytest.fixture(scope="session")
def lock(work):
    program = os.path.join(work, "lock")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, os.path.join(os.path.dirname(__file__), "lock.c")], check=True)
    return program


@pytest.mark.parametrize("where", ["guest", "host", None])
def test_locks_in_shares(vm, lock, where):
    """Locks in shares work. virtio-fs sends no interrupts, so a program that waits can give up only a lock of the
    guest's own."""
    local = where != "host"
    c = vm("sh", "-c", LOCKING.replace("WAIT ", "" if local else ": "),
           annotations={"io.caisson.vm.locks": where} if where else None)
    c.conf["root"]["readonly"] = False
    c.write()
    shutil.copy(lock, c.path("bin/lock"))
    out = os.path.join(c.bundle, "out")
    with open(out, "wb") as f:
        p = c.rt.popen("run", "--bundle", c.bundle, *QEMU, c.id, stdout=f)
        runtime.wait_for(lambda: "ready" in open(out).read() or p.poll() is not None, "the guest", BOOT)
        with open(c.path("f"), "r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            fcntl.lockf(held, fcntl.LOCK_EX)
            open(c.path("go"), "w").close()
            p.wait(30)
    host = 0 if local else 1
    assert open(out).read().splitlines() == [
        *[f"{kind} {what}" for kind in ("flock", "posix") for what in ("tried: 1", f"waited: {143 if local else 0}", "freed: 0")],
        "ready", f"flock of the host: {host}", f"posix of the host: {host}"]


def test_files_are_read_ahead(vm):
    """One request to the file server reads much of a file, which makes a program of the share start sooner."""
    out = vm("sh", "-c", "read _ _ device _ </proc/self/mountinfo; cat /sys/class/bdi/$device/read_ahead_kb").run(*QEMU, timeout=BOOT).ok().out
    assert out == "512\n"


def test_unknown_place_for_locks(vm):
    vm(annotations={"io.caisson.vm.locks": "here"}).run(*QEMU).failed("annotation io.caisson.vm.locks", '"here"', "guest", "host")


def test_privileged_gets_the_guests_devices(vm):
    """An engine's --privileged allows all devices and lists the host's. The guest gets only devices that it has."""
    c = vm("sh", "-c", "ls -d /dev/autofs /dev/xfuse; : </dev/xfuse; echo $?")
    c.conf["linux"]["devices"] = [{"path": "/dev/autofs", "type": "c", "major": 10, "minor": 235},
                                  {"path": "/dev/xfuse", "type": "c", "major": 10, "minor": 229}]
    c.run(*QEMU).failed("linux.devices[0]: /dev/autofs (c 10:235)")
    c.conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
    r = c.run(*QEMU, timeout=BOOT)
    assert r.rc == 0 and r.out.split() == ["/dev/xfuse", "0"], r
    assert "in software" not in r.err + log_of(c), "it was asked for"
    assert "linux.devices: left out 1 of the host's devices (/dev/autofs)" in log_of(c)


# ---- a hypervisor that an attacker in the guest controls ----

@pytest.mark.parametrize("what", ["noise", "length", "request", "memory", "kick", "descriptors"])
@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_qemu_sends_garbage(vm, fake, id, what):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", id, what]}}, timeout=20)
    t = time.monotonic()
    c.run().failed("vhost-user", *(["file server"] if id == "fs" else []))
    assert time.monotonic() - t < 15, "noticed by the time limit only"


@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_qemu_closes_its_socket(vm, fake, id):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "closes", id]}}, timeout=20)
    c.run().failed("closed its connection to the", "file server" if id == "fs" else "vsock device")


@pytest.mark.parametrize("id", ["fs", "vsock"])
def test_qemu_sends_half_a_message(vm, fake, id):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", id, "half"]}}, timeout=2)
    c.run().failed("did not get ready in 2 seconds")


def test_qemu_listens_to_nobody(vm, fake):
    """QEMU has no debugger and no listening socket, and only the sockets of its devices and one for caisson's commands."""
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
                       "-smp", "-m", "-object", "-kernel", "-initrd", "-append", "-sandbox", "-chardev", "-device", "-mon", "-S",
                       "-fake"}, words
    chardevs = [re.fullmatch(r"socket,id=(\w+),fd=(\d+)", v) for o, v in zip(words, words[1:]) if o == "-chardev"]
    assert [m[1] for m in chardevs] == ["qmp", "console", "fs", "vsock"], words
    assert {n for n, to in fds.items() if n > 2 and to.startswith("socket:")} == {int(m[2]) for m in chardevs}, fds
    assert {to for n, to in fds.items() if not to.startswith("socket:")} - {fds[1]} == {"/dev/null"}, fds


def test_noise_on_the_console(vm, fake):
    c = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "sends", "console", "noise"]}}, timeout=2)
    r = c.run().failed("did not get ready in 2 seconds", "the guest's last words")
    assert not [ch for ch in r.err[:-1] if ord(ch) < 32] and len(r.err) < 4096, r


def test_qemu_floods_standard_error(vm, fake):
    t = time.monotonic()
    r = vm(vm={"hypervisor": {"path": fake, "parameters": ["-fake", "floods"]}}, timeout=60).run()
    r.failed("QEMU ended with exit code 1")
    assert not [ch for ch in r.err[:-1] if ord(ch) < 32] and len(r.err) < 4096, r
    assert time.monotonic() - t < 20, "noticed by the time limit only"


LISTENER = r"""import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind("\0caisson-jail"); s.listen(); print("ready", flush=True); sys.stdin.read()"""


def test_qemu_reaches_nobody(vm, fake):
    """A hijacked QEMU reaches nobody in the container's network namespace, as far as this kernel's version of Landlock
    can prevent it."""
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
    vm().run(*QEMU, env={**os.environ, "CAISSON_LIBEXEC": tmp}).failed(tmp + "/caisson-guest", "CAISSON_LIBEXEC")


def test_network_of_the_host_is_refused(vm):
    """The interfaces of the network would go into the guest, so the host's own network namespace is refused."""
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
    # QEMU needs longer than this to reach the guest's init.
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
    """SIGKILL works although the guest no longer answers."""
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


# ---- streams ----

def test_slow_monitor(vm, tmp):
    """The program's output is not lost if the monitor gets no processor, while the guest connects its streams, for
    longer than Linux itself waits for an answer (two seconds)."""
    c = vm("sh", "-c", "echo to the output; echo to the error >&2; exit 7").write()
    log = os.path.join(tmp, "log")
    p = c.rt.popen("--debug", "run", *QEMU, "--bundle", c.bundle, c.id, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runtime.wait_for(lambda: os.path.exists(log) and "microvm: hello" in open(log, encoding="utf-8").read(), "the guest's hello", BOOT)
    # c.pid() is 0 until the container exists, so the pid comes from /proc.
    with open(f"/proc/{p.pid}/task/{p.pid}/children", encoding="ascii") as f:
        monitor = int(f.read().split()[0])
    os.kill(monitor, signal.SIGSTOP)
    time.sleep(4)
    os.kill(monitor, signal.SIGCONT)
    out, err = p.communicate(timeout=60)
    assert (p.returncode, out) == (7, "to the output\n") and "to the error\n" in err, (p.returncode, out, err)


def test_standard_streams(vm, tmp):
    """Standard streams between a guest's process and the caller of a command work, even if one of them does not read.
    """
    c = up(vm("sh", "-c", "while :; do sleep 0.05; done"))
    data = random.Random(4).randbytes(10 << 20)
    with open(os.path.join(tmp, "in"), "wb") as f:
        f.write(data)
    with open(os.path.join(tmp, "in"), "rb") as f:
        r = c.exec("cat", stdin=f, timeout=60).ok()
    assert hashlib.sha256(r.raw).digest() == hashlib.sha256(data).digest(), "10 MB did not come back as they were"

    # The process does not read its input, or only its beginning.
    with open(os.path.join(tmp, "in"), "rb") as f:
        assert c.exec("head", "-c", "5", stdin=f).ok().raw == data[:5]
    with open(os.path.join(tmp, "in"), "rb") as f:
        assert c.exec("sh", "-c", "exec <&-; exit 3", stdin=f).rc == 3

    # The caller stops reading. The process gets an error, as with a pipe.
    p = c.rt.popen("exec", c.id, "sh", "-c", "yes; echo $? >/ended", stdout=subprocess.PIPE)
    assert p.stdout.read(2) == b"y\n"
    p.stdout.close()
    p.wait(30)
    with open(c.path("ended")) as f:
        assert f.read() in ("141\n", "1\n")

    # The caller does not read for a while. Other commands go on, and no output is lost.
    p = c.rt.popen("exec", c.id, "sh", "-c", "dd if=/dev/zero bs=64k count=64 2>/dev/null; echo end >&2",
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(3):
        time.sleep(0.5)
        assert c.exec("echo", "beside").ok().out == "beside\n"
    out, err = p.communicate(timeout=60)
    assert p.returncode == 0 and out == bytes(64 << 16) and err == b"end\n", (p.returncode, len(out), err)

    # Many commands run at once.
    ps = [c.rt.popen("exec", c.id, "sh", "-c", f"cat; echo {i} >&2; exit {i}", stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(50)]
    for i, p in enumerate(ps):
        out, err = p.communicate(b"in %d" % i, timeout=120)
        assert (p.returncode, out, err) == (i, b"in %d" % i, b"%d\n" % i)
    assert c.exec("true").rc == 0
    c.stop()
