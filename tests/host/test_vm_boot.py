# SPDX-License-Identifier: Apache-2.0
"""Tests that the built-in machine runs Debian's kernel on the test host's KVM, as a bzImage and as the ELF file in it,
with two processors, a disk and a virtio-fs share."""

import glob
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

CACHE = "/var/cache/caisson-tests"
BUILD = os.environ.get("CAISSON_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
MODULES = ("virtio_ring", "virtio", "virtio_mmio", "virtio_console", "virtio_blk", "virtiofs", "virtio_balloon")
TIMEOUT = 300
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for m in $(cat /mod/order); do insmod /mod/$m || echo "no $m" >/dev/kmsg; done
exec >/dev/hvc0 2>&1
echo "booted $(uname -m) with $(nproc) processors"
mount -t virtiofs share /mnt && cat /mnt/from-host && echo "from the guest" >/mnt/from-guest && ls /mnt
dmesg >/mnt/dmesg
dd if=/dev/vda bs=512 count=1 skip=3 2>/dev/null && echo disk
dd if=/dev/zero of=/dev/vda bs=512 count=1 seek=3 conv=fsync 2>/dev/null
while [ "$(awk '/balloon_inflate/ { print $2 }' /proc/vmstat)" -lt 4096 ]; do sleep 0.2; done
grep -q linger /proc/cmdline && sleep 600
umount /mnt
poweroff -f
"""


def kernel_dir():
    found = glob.glob(f"{CACHE}/kernel-*/vmlinuz")
    assert found, f"no vmlinuz in {CACHE}/kernel-*: tests/host/run --rebuild fetches Debian's kernel anew"
    return os.path.dirname(found[-1])


def module_files():
    tree = glob.glob(f"{kernel_dir()}/modules/*")[0]
    files = []
    with open(f"{tree}/modules.dep", encoding="utf-8") as f:
        needs = {os.path.basename(k).split(".")[0]: [k, *v.split()] for k, v in (line.split(":") for line in f)}
    for name in MODULES:
        for file in reversed(needs.get(name, [])):  # Debian 13's kernel has virtio_ring and others built in
            if f"{tree}/{file}" not in files:
                files.append(f"{tree}/{file}")
    return files


@pytest.fixture(scope="module", name="initramfs")
def make_initramfs(tmp_path_factory):
    root = tmp_path_factory.mktemp("initramfs")
    for d in ("bin", "dev", "proc", "mnt", "mod"):
        (root / d).mkdir()
    shutil.copy("/bin/busybox", root / "bin")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    for file in module_files():
        shutil.copy(file, root / "mod")
    (root / "mod" / "order").write_text("\n".join(os.path.basename(f) for f in module_files()))
    out = tmp_path_factory.mktemp("out") / "initramfs"
    with open(out, "wb") as f:
        subprocess.run("find . | cpio -o -H newc -R 0:0 --quiet", shell=True, cwd=root, stdout=f, check=True)
    return out


class Machine:
    """Runs vm_boot with a share and a disk. After wait() stdout and stderr are text."""

    def __init__(self, tmp, kernel, initramfs, words=""):
        self.share = tmp / "share"
        self.share.mkdir()
        (self.share / "from-host").write_text("from the host\n")
        self.disk = tmp / "disk"
        self.disk.write_bytes(b"".join(bytes([65 + i]) * 511 + b"\n" for i in range(64)))
        sock = tmp / "fs.sock"
        self.server = subprocess.Popen([f"{BUILD}/tests/vmfs_main", sock, self.share], stdout=subprocess.PIPE)
        assert self.server.stdout.readline() == b"ready\n"
        self.run = subprocess.Popen(
            [f"{BUILD}/tests/vm_boot", "-m", "512", "-c", "2", "-b", "4096", "-d", self.disk, "-s", f"share={sock}", kernel, initramfs,
             f"console=hvc0 quiet reboot=t panic=-1 pci=off cryptomgr.notests {words}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait(self):
        try:
            out, err = self.run.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            self.run.kill()
            out, err = self.run.communicate()
            pytest.fail(f"the guest did not end within {TIMEOUT} s: {out}\n{err}")
        finally:
            self.end_server()
        return self.run.returncode, out.replace("\r", ""), err + self.dmesg()

    def dmesg(self):
        path = self.share / "dmesg"
        return path.read_text(errors="replace") if path.exists() else ""

    def end_server(self):
        try:
            self.server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.server.kill()
            raise


def test_boots(tmp_path, initramfs):
    """Boots the bzImage. The next test boots the ELF file."""
    m = Machine(tmp_path, f"{kernel_dir()}/vmlinuz", initramfs)
    code, out, err = m.wait()
    print(out, err)
    assert code == 0, out + err
    assert "booted x86_64 with 2 processors" in out
    assert "from the host\n" in out and "from-guest" in out
    assert (m.share / "from-guest").read_text() == "from the guest\n"
    assert "D" * 511 in out and "\ndisk\n" in out
    assert m.disk.read_bytes()[3 * 512 : 4 * 512] == bytes(512)
    assert m.disk.read_bytes()[4 * 512 : 4 * 512 + 511] == b"E" * 511
    # When the balloon's driver is switched off, the guest gives no more pages, and the host keeps those that it has.
    assert int(re.search(r"balloon: \d+ pages given, (\d+) discarded", err)[1]) >= 4096
    assert "end: poweroff" in err
    assert m.server.returncode == 0


def test_a_server_that_dies_ends_the_machine(tmp_path, initramfs):
    m = Machine(tmp_path, f"{kernel_dir()}/vmlinux", initramfs, "linger")
    end = time.monotonic() + TIMEOUT
    while not (m.share / "from-guest").exists() and time.monotonic() < end:
        time.sleep(0.2)
    m.server.send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, out, err = m.wait()
    assert code == 3, out + err
    assert "end: lost (the server of share 'share': it has hung up)" in err
    assert time.monotonic() - began < 30


def spoil(kernel, code):
    """Overwrites the ELF kernel's first instructions, at the address of its PVH note (Xen, 18)."""
    table, size, n = struct.unpack_from("<Q", kernel, 32)[0], *struct.unpack_from("<HH", kernel, 54)
    segments = [struct.unpack_from("<IIQQQQ", kernel, table + i * size) for i in range(n)]
    at, end = next((s[2], s[2] + s[5]) for s in segments if s[0] == 4)  # PT_NOTE
    while at < end:
        name, length, kind = struct.unpack_from("<III", kernel, at)
        value = at + 12 + (name + 3 & ~3)
        if kind == 18 and kernel[at + 12 : at + 15] == b"Xen":
            entry = int.from_bytes(kernel[value : value + length], "little")
        at = value + (length + 3 & ~3)
    place = next(s[2] + entry - s[4] for s in segments if s[0] == 1 and s[4] <= entry < s[4] + s[5])
    kernel[place : place + len(code)] = code


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_kvm_that_fails_names_the_other_choice(ctr, tmp, log_format):
    """If a guest dies at its first instruction, or never reaches its second, as with a KVM that cannot run Linux, the
    error names the other hypervisor."""
    path, log = os.path.join(tmp, "vmlinux"), os.path.join(tmp, "log")
    code, said = {"text": (b"\x0f\x0b", ["the microVM failed: vCPU 0: triple fault", "rip="]),
                  "json": (b"\xfa\xf4\xeb\xfd", ["did not get ready in 2 seconds"])}[log_format]
    with open(f"{kernel_dir()}/vmlinux", "rb") as f:
        kernel = bytearray(f.read())
    spoil(kernel, code)
    with open(path, "wb") as f:
        f.write(kernel)
    c = ctr("true")
    c.conf["vm"] = {"kernel": {"path": path}}
    c.conf["annotations"] = {"io.caisson.vm.boot-timeout": "2"}
    c.rt.options += ["--log", log, "--log-format", log_format]
    r = c.run("--isolation", "vm", "--hypervisor", "kvm", timeout=TIMEOUT)
    r.failed(*said, "the guest said nothing; --hypervisor qemu runs it in software")
    with open(log, encoding="utf-8") as f:
        line, = f.readlines()
    message = json.loads(line)["msg"] if log_format == "json" else re.search('msg="(.*)"$', line)[1]
    assert r.err == f"caisson: {message}\n"
