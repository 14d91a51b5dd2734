# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson run --disk --firmware`: EDK2 on QEMU starts the boot loader of a disk that has no other way to boot. The
disk has a GPT, an EFI system partition and GRUB, which starts Debian's kernel or switches the machine off."""
import glob
import json
import os
import subprocess

import pytest

from harness import rootfs
from test_inside import MiB, put, run
from test_machine import LOOK, KEY, machines  # pylint: disable=unused-import

DESCRIPTIONS = "/usr/share/qemu/firmware"
TEMPLATE = "/usr/share/OVMF/OVMF_VARS_4M.fd"
MODULES = ("part_gpt", "fat", "linux", "echo", "normal", "boot", "configfile", "halt")


@pytest.fixture
def efi_disk(tmp):
    """efi_disk(TEXT) makes a raw disk whose GRUB does what the text of grub.cfg says, and returns its path."""
    def efi_disk(text, *files):
        path, esp, loader = (os.path.join(tmp, n) for n in ("disk.raw", "esp", "BOOTX64.EFI"))
        config = put(tmp, "grub.cfg", f"echo 'this is GRUB'\n{text}\n")
        run("grub-mkimage", "-O", "x86_64-efi", "-o", loader, "-p", "/EFI", "-c", config, *MODULES)
        for name, size in ((path, 64), (esp, 60)):
            with open(name, "wb") as f:
                f.truncate(size * MiB)
        subprocess.run(["sfdisk", "-q", path], input="label: gpt\nstart=1MiB, size=60MiB, type=U\n", text=True, check=True)
        run("mformat", "-i", esp, "-F", "-c1", "::")
        run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
        for source, name in ((loader, "EFI/BOOT/BOOTX64.EFI"), *files):
            run("mcopy", "-i", esp, source, "::/" + name)
        run("dd", f"if={esp}", f"of={path}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
        return path
    return efi_disk


def test_boot_loader_and_kernel(machines, efi_disk):
    """The firmware starts GRUB, and GRUB starts the kernel. The variables are kept with the machine, and go with it."""
    (kernel,) = glob.glob(os.path.join(rootfs.CACHE, "kernel-*", "vmlinuz"))[:1]
    disk = efi_disk("linux (hd0,gpt1)/vmlinuz console=ttyS0\nboot", (kernel, "vmlinuz"))
    p = subprocess.Popen(machines.rt.argv(*machines.words("--disk", disk, "--ephemeral", "--firmware", "efi", "fw")),
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = b""
    try:
        while b"efi: EFI v" not in said:
            more = p.stdout.read1(65536)
            assert more, (said[-2000:], p.stderr.read())
            said += more
        assert said.index(b"BdsDxe: starting") < said.index(b"this is GRUB") < said.index(b"Linux version")
        (bundle,) = os.listdir(machines.dir)
        # The firmware has written its boot entries.
        with open(os.path.join(machines.dir, bundle, "firmware-vars.fd"), "rb") as ours, open(TEMPLATE, "rb") as theirs:
            now, before = ours.read(), theirs.read()
        assert len(now) == len(before) and "Boot0001".encode("utf-16-le") in now and "Boot0001".encode("utf-16-le") not in before
    finally:
        machines.rt("kill", "fw", "KILL")
        p.communicate(timeout=60)
    assert os.listdir(machines.dir) == []


def test_variables_that_stay(machines, efi_disk, tmp):
    """--firmware-vars names a file that is made once and used by one machine at a time. --firmware may name the code, and
    the variables' template is beside it. The disk is a qcow2 image, which caisson-disk serves. GRUB switches the machine
    off."""
    disk, variables = os.path.join(tmp, "d.qcow2"), os.path.join(tmp, "vars.fd")
    run("qemu-img", "convert", "-O", "qcow2", efi_disk("halt"), disk)
    for name in ("CODE", "VARS"):
        run("cp", f"/usr/share/OVMF/OVMF_{name}_4M.fd", os.path.join(tmp, f"MY_{name}.fd"))
    words = ["--disk", disk, "--ephemeral", "--firmware", os.path.join(tmp, "MY_CODE.fd"), "--firmware-vars", variables]
    r = machines.run(*words, timeout=LOOK)
    assert r.rc == 0 and "this is GRUB" in r.out, r
    with open(variables, "rb") as f:
        assert "Boot0001".encode("utf-16-le") in f.read()
    with open(variables, "r+b") as f:
        import fcntl
        import struct
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
        machines.run(*words).failed("--firmware-vars", variables, "another process")
    before = os.stat(variables).st_ino
    os.unlink(os.path.join(tmp, "MY_VARS.fd"))
    r = machines.run(*words, timeout=LOOK)
    assert r.rc == 0 and "this is GRUB" in r.out and os.stat(variables).st_ino == before, r


def test_wrong_firmware(machines, rt, tmp):
    """caisson reports wrong options before the machine boots, and leaves no bundle."""
    disk = put(tmp, "d.raw", b"\0" * MiB)
    code, variables = put(tmp, "code.fd", b"x"), os.path.join(tmp, "new.fd")
    base = ["--disk", disk, "--ephemeral"]
    rt("run", "--isolation", "vm", "--hypervisor", "kvm", *base, "--firmware", "efi").failed("--firmware", "--hypervisor qemu")
    for options, texts in (
            (("--firmware", "efi", "--kernel", code), ("--kernel", "--firmware")),
            (("--firmware", "efi", "--append", "x"), ("--append", "--firmware")),
            (("--firmware-vars", variables), ("--firmware-vars", "--firmware efi")),
            (("--firmware", "/nosuch"), ("--firmware /nosuch", "efi")),
            (("--firmware", code), ("--firmware", "VARS", "--firmware-vars")),
            (("--firmware", "efi", "--firmware-vars", tmp), ("--firmware-vars",)),
            (("--firmware", "efi", "--ssh-key", put(tmp, "id.pub", KEY), "--ssh-user", "-oX"), ("--ssh-user",))):
        machines.run(*base, *options).failed(*texts)
        assert not os.path.isdir(machines.dir) or os.listdir(machines.dir) == []
    # A file that this command has made is removed when a later step fails.
    machines.run(*base, "--firmware", "efi", "--firmware-vars", variables, "--cpus", "0").failed("--cpus")
    assert not os.path.exists(variables)
    run("mount", "-t", "tmpfs", "none", DESCRIPTIONS)
    try:
        machines.run(*base, "--firmware", "efi").failed(DESCRIPTIONS, "apt install ovmf")
        # caisson skips a description that it cannot use or cannot read.
        with open(os.path.join(DESCRIPTIONS, "1.json"), "w", encoding="utf-8") as f:
            f.write("{")
        for i, change in enumerate(({"features": ["requires-smm"]}, {"interface-types": ["bios"]}, {"targets": []}, {"mapping": []})):
            with open(os.path.join(DESCRIPTIONS, f"2{i}.json"), "w", encoding="utf-8") as f:
                json.dump({"interface-types": ["uefi"], "features": [],
                           "mapping": {"device": "flash", "executable": {"filename": code, "format": "raw"},
                                       "nvram-template": {"filename": code, "format": "raw"}},
                           "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}], **change}, f)
        machines.run(*base, "--firmware", "efi").failed(DESCRIPTIONS, "apt install ovmf")
    finally:
        run("umount", DESCRIPTIONS)


def test_annotations(ctr):
    """The annotations of a bundle with firmware belong together, and take the kernel's place."""
    with open(os.path.join(rootfs.TESTS, "golden", "vm-foreign.json"), encoding="utf-8") as f:
        golden = json.load(f)
    code, variables = "io.caisson.vm.firmware", "io.caisson.vm.firmware.vars"
    for annotations, texts in (
            ({code: "/x"}, (code, variables)), ({code: "x", variables: "/y"}, ("absolute path",)), ({variables: "/y"}, (variables,)),
            ({code: "/x", variables: "/y"}, ("vm.kernel.path", code))):
        c = ctr("init")
        c.conf.clear()
        c.conf.update(golden, annotations={**golden["annotations"], **annotations})
        c.run("--isolation", "vm", "--hypervisor", "qemu").failed(*texts)
