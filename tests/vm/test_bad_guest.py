# SPDX-License-Identifier: Apache-2.0
"""Tests guests that misbehave, and kernels that cannot be a guest's: the container fails with one message that says
why. The guests run on QEMU in software, so that the results are the same everywhere."""
import json
import os
import shutil
import struct
import subprocess
import time

import pytest
from hypervisor import BOOT, HERE, QEMU, kernel, log_of, packaged, rt, run, vm  # noqa: F401 (fixtures too)


# ---- guests that misbehave ----

@pytest.fixture(scope="session")
def evil(work):
    """evil_guest.c as a program, and an initrd that has it as /evil."""
    program, initrd = os.path.join(work, "evil_guest"), os.path.join(work, "evil.cpio")
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program,
                    os.path.join(HERE, "evil_guest.c")], check=True)
    with open(program, "rb") as f, open(initrd, "wb") as g:
        g.write(cpio_entry("evil", 0o100755, f.read()) + cpio_entry("TRAILER!!!", 0, b""))
    return program, initrd


def cpio_entry(name, mode_, data):
    """Returns an entry of a cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = (0, mode_, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


# unit/test_monitor_guest.c tests other messages of an agent. After a panic the last words are the kernel's.
EVIL = [
    ("console", ["switched itself off", "last words"]),
    ("reboot", ["switched itself off", "evil: reboot"]),
    ("panic", ["switched itself off", "Kernel panic"]),
    ("agent-noise", ["a message of the agent has wrong lengths"]),
    ("agent-close", ["the guest's init has gone"]),
    ("agent-hello", ["did not get ready in 12 seconds"]),
]


@pytest.mark.parametrize("what,said", EVIL, ids=[w for w, _ in EVIL])
def test_evil_guest(vm, kernel, evil, what, said):
    c = vm(vm={"kernel": {"path": kernel, "initrd": evil[1], "parameters": ["rdinit=/evil", "evil=" + what]}},
           timeout=12 if what == "agent-hello" else BOOT)
    r = run(c).failed(*said)
    assert not [ch for ch in r.err if ord(ch) < 32 and ch != "\n"], r
    # The monitor has understood the failure and was not killed by a signal or by its jail's filter.
    assert "killed by" not in r.err and "was killed" not in r.err, r


def test_vsock_from_the_container(vm, evil):
    """
    Only the guest's init may connect to the host. Other processes may not, even if they know the names of its
    streams.
    """
    c = vm("/evil", "knock")
    with open(evil[0], "rb") as f, open(c.path("evil"), "wb") as g:
        g.write(f.read())
    os.chmod(c.path("evil"), 0o755)
    r = run(c)
    assert "evil: knocked: 0 answered, 0 not refused" in r.out, r
    r.ok()


def test_without_kvm_and_cache(vm):
    """If KVM cannot run Linux, `auto` says so once, in the log and not on standard error, which is the container's
    unless it is a terminal. A cache that cannot be written is no error: the initramfs is packed anew."""
    c = vm("echo", "here")
    c.rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /dev/kvm; mkdir -p /var/cache/caisson && '
                   'mount -t tmpfs -o ro none /var/cache/caisson && exec "$@"', "sh"]
    notice = "the microVM runs in software, on QEMU: /dev/kvm "
    r = c.run("--hypervisor", "auto", timeout=BOOT).ok()
    assert r.out == "here\n"
    assert r.err == "", r
    logged, = log_of(c).splitlines()
    assert "level=info" in logged and notice in logged
    # The notice comes before the machine is made. In JSON it has the same text.
    os.unlink(c.rt.options[1])
    c.rt.options += ["--log-format", "json"]
    c.conf["vm"]["kernel"]["path"] = "/no/such"
    c.run().failed("vm.kernel.path")
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
    """A kernel without modules is booted, because nothing says which drivers it has, and ends by itself."""
    path = bare_kernel(packaged, os.path.join(tmp, "k"))
    release = modules_of(packaged)[0].encode()
    with open(path, "r+b") as f:
        # The same kernel under a version for which no modules are installed.
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
    # Without vsock there is no way to the monitor, so the message goes to the console, whose driver is a module too.
    ("vsock_init", ["switched itself off", "caisson-guest: the guest's kernel has no vsock", "vmw_vsock_virtio_transport"]),
], ids=["virtiofs", "vsock"])
def test_kernel_without_a_driver(vm, packaged, blacklist, said):
    """If a module does not load, the kernel boots, and its init says what is missing."""
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
