# SPDX-License-Identifier: Apache-2.0
"""Tests the kernels of guests with the initramfs that caisson makes for them, on QEMU's microvm machine in software:
everything that a guest needs is there and finds its devices by ACPI. The kernels are Debian's, and caisson's own if it
is built.
"""
import os
import re
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
CACHE = os.environ.get("CAISSON_TEST_CACHE", "/var/cache/caisson-tests")
TUNED = "/usr/local/lib/caisson/kernel/vmlinux"
DRIVERS = {"virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon", "virtiofs",
           "vmw_vsock_virtio_transport"}
DEVICES = ("virtio-serial-device", "virtio-rng-device", "virtio-balloon-device", "virtio-blk-device,drive=disk",
           "virtio-net-device,netdev=net")


def tool(name):
    build = os.environ.get("CAISSON_BUILD", os.path.join(os.path.dirname(TESTS), "build"))
    path = os.path.join(build, "tests", name)
    assert os.access(path, os.X_OK), f"{path} is not built"
    return path


def tsc_khz():
    """Returns the frequency of the TSC in kHz for the kernel's command line, because without KVM's clock and with
    hardware-reduced ACPI Linux cannot measure it."""
    with open("/proc/cpuinfo") as f:
        return int(float(re.search(r"^cpu MHz\s*: ([\d.]+)", f.read(), re.M)[1]) * 1000)


def boot(work, kernel):
    """Boots the kernel. Returns what kernel_guest has found: {subject: [words]}."""
    initramfs, disk = os.path.join(work, "initramfs"), os.path.join(work, "disk")
    r = subprocess.run([tool("kernel_main"), tool("kernel_guest"), initramfs, kernel], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    path, release = r.stdout.split()
    with open(disk, "wb") as f:
        f.truncate(1 << 20)
    cmd = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
           "-machine", "microvm,acpi=on,rtc=off", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "256M",
           "-global", "virtio-mmio.force-legacy=false", "-kernel", path, "-initrd", initramfs, "-serial", "stdio",
           "-append", f"console=ttyS0 quiet panic=-1 pci=off tsc_early_khz={tsc_khz()}",
           "-drive", f"if=none,id=disk,format=raw,file={disk}", "-netdev", "user,id=net",
           *(w for d in DEVICES for w in ("-device", d))]
    r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace", timeout=90)
    assert "\ndone" in r.stdout, r.stdout[-4000:]
    said = {}
    for line in r.stdout.splitlines():
        what, _, rest = line.strip().partition(" ")
        said.setdefault(what, []).append(rest)
    said["text"] = r.stdout
    assert said["release"] == [release], said["text"]
    return said


def check(said):
    assert DRIVERS <= set(said["driver"]), DRIVERS - set(said["driver"])
    # ACPI has described each device, and its driver has found it.
    assert sorted(said["bound"]) == ["virtio_balloon", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng"]
    systems = {l.split()[-1] for l in said["filesystem"]}
    assert {"overlay", "ext4", "virtiofs", "tmpfs", "cgroup2", "mqueue"} <= systems, systems
    assert {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} <= set(said["namespace"])
    assert {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"} <= set(said["controllers"][0].split())


def test_debian_kernel(tmp):
    image = subprocess.run(["bash", os.path.join(TESTS, "host/image.sh"), CACHE], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()[-1]
    said = boot(tmp, os.path.join(image, "vmlinux"))
    assert len(said["module"]) > 10
    failed = [m for m in said["module"] if not m.endswith(" loaded")]
    # The module for the processor's own crc32c is left out, because not every processor has the instruction.
    assert [m for m in failed if "crc32c_intel" not in m] == [], said["text"]
    check(said)


def test_tuned_kernel(tmp):
    if not os.path.exists(TUNED):
        pytest.skip(f"no {TUNED}: images/kernel/build makes it, in ten minutes")
    said = boot(tmp, TUNED)
    assert "module" not in said
    check(said)
    assert int(said["pid_max"][0]) >= 32768, "CONFIG_BASE_FULL"
    assert "ACPI Error" not in said["text"]
    systems = {l.split()[-1] for l in said["filesystem"]}
    assert {"erofs", "devpts", "hugetlbfs", "bpf"} <= systems, systems
