# SPDX-License-Identifier: Apache-2.0
"""Tests the commands of `caisson disk` that look into a disk, or copy into or out of it. Debian's tools make the disk from
a tree, without mounting anything, so the tree says what the commands have to find. tests/vm/libguestfs has what libguestfs' commands print for
the same disk, and tests/vm/libguestfs.tsv where that differs. `tests/run libguestfs` runs these commands (live_libguestfs.py)."""
import io
import json
import os
import re
import signal
import stat
import subprocess
import tarfile
import time

import pytest

from harness import machine, mode, rootfs
from libguestfs_answers import Answers, csv_rows, df_lines, recorded

BOOT = 120 if mode.HYPERVISOR == "qemu" else 400
MiB = 1 << 20
ROOT_UUID = "11111111-2222-3333-4444-555555555555"
DATA_UUID = "66666666-7777-8888-9999-aaaaaaaaaaaa"
FSTAB = f"""UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1
UUID=1234-ABCD /boot/efi vfat umask=0077 0 1
LABEL=data /srv btrfs defaults 0 2
/dev/sdb1 /not/here ext4 defaults 0 2
tmpfs /tmp tmpfs defaults 0 0
"""
OS_RELEASE = 'PRETTY_NAME="Test Linux 7 (Unquiet)"\nID=testlinux\nVERSION_ID="7.2"\nVERSION_CODENAME=unquiet\n'
DPKG = """Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4+deb12u11

Package: removed-one
Status: deinstall ok config-files
Architecture: all
Version: 1.0-1

Package: vim
Status: install ok installed
Architecture: amd64
Description: an editor
 Package: not a package
Version: 2:9.0.1378-2+deb12u2
"""


def run(*args, **kw):
    # mkfs.btrfs would otherwise leave libblkid's cache in /run.
    return subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env={**os.environ, "BLKID_FILE": "/dev/null"}, **kw)


def put(root, path, text="", mode=0o644):
    path = os.path.join(root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    os.chmod(path, mode)
    return path


def make_tree(root):
    """A small system, and what is easily got wrong: links of all kinds, odd names, a device, holes, attributes."""
    put(root, "etc/fstab", FSTAB)
    put(root, "etc/os-release", OS_RELEASE)
    put(root, "etc/hostname", "inner\n")
    put(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    put(root, "var/lib/dpkg/status", DPKG)
    put(root, "usr/bin/apt-get", "#!\n", 0o755)
    put(root, "boot/vmlinuz-6.1.0-9-amd64", "kernel")
    put(root, "boot/grub/grub.cfg", "menuentry x {}\n")
    os.makedirs(os.path.join(root, "boot/efi"))
    os.makedirs(os.path.join(root, "srv"))
    os.makedirs(os.path.join(root, "bin"))
    with open("/bin/busybox", "rb") as f:
        put(root, "bin/sh", f.read(4096), 0o755)
    d = os.path.join(root, "odd")
    put(d, "a file", "x" * 100000, 0o640)
    put(d, "new\nline", "1")
    put(d, "setuid", "s", 0o4755)
    put(d, ".wh.hidden", "an ordinary name on a disk")
    os.link(os.path.join(d, "a file"), os.path.join(d, "second name"))
    os.symlink("/etc/hostname", os.path.join(d, "absolute"))
    os.symlink("../../../../../../../../etc/shadow", os.path.join(d, "out"))
    os.symlink("/", os.path.join(d, "root"))
    os.mknod(os.path.join(d, "null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(os.path.join(d, "fifo"))
    os.chown(os.path.join(d, "a file"), 1000, 2000)
    with open(os.path.join(d, "sparse"), "wb") as f:
        f.truncate(40 * MiB)
        f.seek(20 * MiB)
        f.write(b"in the middle")
    os.setxattr(os.path.join(d, "setuid"), "user.test", b"value")
    os.utime(os.path.join(d, "setuid"), (1, 1_000_000_000))


def make_disk(path, tmp, tree):
    """GPT with FAT, ext4 and btrfs."""
    parts = {"efi": 33, "root": 64, "data": 114}
    with open(path, "wb") as f:
        f.truncate((sum(parts.values()) + 3) * MiB)
    table = "label: gpt\n" + "".join(f"size={m}MiB, name={n}, type={'U' if n == 'efi' else 'L'}\n" for n, m in parts.items())
    run("sfdisk", path, input=table.encode())
    for n, m in parts.items():
        with open(os.path.join(tmp, n), "wb") as f:
            f.truncate(m * MiB)
    efi, root, data = (os.path.join(tmp, n) for n in parts)
    run("mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "1234ABCD", efi)
    run("mcopy", "-i", efi, os.path.join(tree, "etc/hostname"), "::Hello.txt")
    # libguestfs' recorded answers are of a disk of Debian 12, whose mke2fs makes no orphan file of its own accord.
    run("mke2fs", "-t", "ext4", "-O", "^orphan_file", "-L", "rootfs", "-U", ROOT_UUID, "-d", tree, root)
    put(os.path.join(tmp, "data.d"), "sub/file", "on btrfs\n")
    run("mkfs.btrfs", "-L", "data", "-U", DATA_UUID, "-r", os.path.join(tmp, "data.d"), data)
    at = 1
    for n, m in parts.items():
        run("dd", f"if={os.path.join(tmp, n)}", f"of={path}", "bs=1M", f"seek={at}", "conv=notrunc,sparse")
        at += m
    return path


class Disk:
    def __init__(self, rt, tmp):
        self.rt, self.tmp = rt, tmp
        self.kernel = mode.packaged_kernel(rootfs.CACHE)

    def __call__(self, command, *args, **kw):
        return self.rt("disk", command, "--kernel", self.kernel, "--hypervisor", mode.HYPERVISOR, *args, timeout=BOOT, **kw)


@pytest.fixture
def disk(rt, tmp, monkeypatch):
    monkeypatch.setenv("TMPDIR", tmp)
    d = Disk(rt, tmp)
    d.tree = os.path.join(tmp, "tree")
    os.mkdir(d.tree)
    make_tree(d.tree)
    d.image = make_disk(os.path.join(tmp, "disk.raw"), tmp, d.tree)
    before = sorted(os.listdir(tmp))
    yield d
    left = [n for n in os.listdir(tmp) if n.startswith("caisson-disk")]
    assert not left, (left, before)


def check_df(answers, usage, text):
    theirs, percent = df_lines(recorded("df"))
    answers.df(theirs, usage)
    answers.same("df: percent", " ".join(percent), " ".join(line.split()[4] for line in text.splitlines()[1:]))
    answers.done("df")


def digest(path):
    return subprocess.run(["md5sum", path], check=True, capture_output=True, text=True).stdout.split()[0]


def test_inspect_and_df(disk):
    """The report has what was put into the disk, and the disk is not changed."""
    before = digest(disk.image)
    said = json.loads(disk("inspect", "--json", disk.image).ok().out)
    (system,) = said["operating_systems"]
    assert {k: system.get(k) for k in ("root", "distro", "product_name", "version", "codename", "hostname", "arch", "kernels",
                                       "boot_loader", "package_format", "package_management", "package_count")} == {
        "root": "vda2", "distro": "testlinux", "product_name": "Test Linux 7 (Unquiet)", "version": "7.2",
        "codename": "unquiet", "hostname": "inner", "arch": "x86_64", "kernels": ["6.1.0-9-amd64"], "boot_loader": "grub",
        "package_format": "deb", "package_management": "apt", "package_count": 2}
    assert system["packages"] == [
        {"name": "base-files", "version": "12.4+deb12u11", "release": "", "arch": "amd64"},
        {"name": "vim", "epoch": "2", "version": "9.0.1378", "release": "2+deb12u2", "arch": "amd64"}]
    assert [(m["path"], m["device"], m["type"]) for m in system["mountpoints"]] == [
        ("/", "vda2", "ext4"), ("/boot/efi", "vda1", "vfat"), ("/srv", "vda3", "btrfs")]
    assert [(d["device"], d.get("type"), d.get("label"), d.get("partition_label")) for d in said["devices"]] == [
        ("vda", None, None, None), ("vda1", "vfat", "ESP", "efi"), ("vda2", "ext4", "rootfs", "root"), ("vda3", "btrfs", "data", "data")]
    usage = json.loads(disk("df", "--json", disk.image).ok().out)
    assert [(u["device"], u["type"]) for u in usage] == [("/dev/vda1", "vfat"), ("/dev/vda2", "ext4"), ("/dev/vda3", "btrfs")]
    answers = Answers("plain")
    answers.inspector(recorded("inspector.xml"), system)
    rows = [r for r in csv_rows(recorded("filesystems")) if r["Type"] == "filesystem"]
    answers.filesystems([(r["Name"], r["VFS"], r["Label"], r["UUID"]) for r in rows], said["devices"])
    assert {answers.device(r["Name"]): int(r["Size"]) for r in csv_rows(recorded("filesystems")) if r["Type"] != "filesystem"} == {
        d["device"]: d["size"] for d in said["devices"]}
    check_df(answers, usage, disk("df", disk.image).ok().out)
    assert digest(disk.image) == before


def test_the_recorded_answers_are_of_the_packaged_version():
    """A correction of Debian changes what is behind the last dash only, and no answer. If this fails, `CAISSON_RECORD=1 tests/run libguestfs` records anew."""
    packaged = machine.outside([os.path.join(rootfs.TESTS, "lib", "libguestfs"), "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    if not packaged:
        pytest.skip("this machine's package sources have no Debian 12, whose libguestfs gave the answers")
    assert packaged.rpartition("-")[0] == recorded("version").rpartition("-")[0] != ""


def listing(top):
    """What `ls -lR` says of a tree, as mode, links, owner, group, size and name."""
    lines = []
    for at, dirs, files in os.walk(top):
        for n in dirs + files:
            st = os.lstat(os.path.join(at, n))
            size = f"{os.major(st.st_rdev)},{os.minor(st.st_rdev)}" if stat.S_ISCHR(st.st_mode) else str(st.st_size)
            name = os.path.relpath(os.path.join(at, n), top)
            target = f" -> {os.readlink(os.path.join(at, n))}" if stat.S_ISLNK(st.st_mode) else ""
            lines.append((stat.filemode(st.st_mode), str(st.st_nlink), str(st.st_uid), str(st.st_gid), size, name + target))
    return sorted(lines, key=lambda l: l[5])


def test_ls_and_cat(disk):
    """The listing is that of the tree. Links are followed inside the disk, and not out of it."""
    text = disk("ls", "-lR", disk.image, "/odd").ok().out
    line = re.compile(r"^([-dlcbps][-rwxsStT]{9}) +(\d+) +(\d+) +(\d+) +([\d,]+) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*(?:\nline)?)$", re.M)
    assert sorted(line.findall(text), key=lambda l: l[5]) == listing(os.path.join(disk.tree, "odd"))
    assert "2001-09-09 01:46:40 setuid\n" in text
    # virt-ls -lR: type, mode, size and path; the size of a device is a dash there.
    theirs = re.findall(r"^([-dlcbps]) (\d{4}) +(\S+) /odd/(.*(?:\nline)?)$", recorded("ls-lR"), re.M)
    modes = {name.split(" -> ")[0]: (mode_, size) for mode_, _, _, _, size, name in listing(os.path.join(disk.tree, "odd"))}
    assert {n.split(" -> ")[0]: (kind, int(mode_, 8)) for kind, mode_, _, n in theirs} == {
        n: (m[0], stat.S_IMODE(os.lstat(os.path.join(disk.tree, "odd", n)).st_mode)) for n, (m, _) in modes.items()}
    said = disk("cat", disk.image, "/odd/absolute", "/odd/root/etc/hostname", "/boot/efi/Hello.txt", "/srv/sub/file").ok().out
    assert said == "inner\n" * 3 + "on btrfs\n" and set(recorded("cat")) <= set(said)
    disk("cat", disk.image, "/odd/out").failed("/odd/out", "does not exist")


def test_tar_out(disk):
    """The tar has all that the tree has: owners, modes, times, links, a device, attributes, and holes that take no room."""
    out = os.path.join(disk.tmp, "odd.tar")
    disk("tar-out", disk.image, "/odd", out).ok()
    assert os.path.getsize(out) < MiB
    with tarfile.open(out) as t:
        found = {m.name.removeprefix("./"): m for m in t.getmembers()}
        assert t.extractfile(found["sparse"]).read()[20 * MiB:20 * MiB + 13] == b"in the middle"
    want = os.listdir(os.path.join(disk.tree, "odd"))
    assert sorted(found) == sorted([".", *want])
    for name in want:
        st, m = os.lstat(os.path.join(disk.tree, "odd", name)), found[name]
        if not m.islnk():
            assert (m.mode, m.uid, m.gid, int(m.mtime)) == (st.st_mode & 0o7777, st.st_uid, st.st_gid, int(st.st_mtime)), name
    assert found["out"].linkname == "../../../../../../../../etc/shadow" and found["null"].ischr() and found["fifo"].isfifo()
    assert {found["a file"].islnk(), found["second name"].islnk()} == {True, False}
    assert found["setuid"].pax_headers["SCHILY.xattr.user.test"] == "value"


def test_names_that_are_no_text(rt, tmp, monkeypatch):
    """A name may have any bytes. Commands take it as they list it."""
    monkeypatch.setenv("TMPDIR", tmp)
    disk, name = Disk(rt, tmp), "caf\udce9 \\303\\ é\nx"
    disk.image = os.path.join(tmp, "e.raw")
    put(os.path.join(tmp, "in"), name, "coffee")
    os.symlink(name, os.path.join(tmp, "in/link"))
    run("truncate", "-s", "16M", disk.image)
    run("mkfs.ext4", "-q", "-d", os.path.join(tmp, "in"), disk.image)
    out = os.path.join(tmp, "out")
    os.mkdir(out)
    disk("cp", disk.image, ":/" + name, ":/link", out).ok()
    assert sorted(os.listdir(out)) == sorted([name, "link"]) and os.readlink(os.path.join(out, "link")) == name
    with open(os.path.join(out, name)) as f:
        assert f.read() == "coffee"
    disk("cp", disk.image, os.path.join(out, name), ":/2" + name).ok()
    listed = subprocess.run(["debugfs", "-R", "ls -p /", disk.image], check=True, capture_output=True).stdout
    assert os.fsencode("/2" + name + "/6/") in listed


def test_cp_out(disk):
    """Copies belong to the caller, without set-user-ID bits. Devices stay in the disk, and links are copied as links."""
    out = os.path.join(disk.tmp, "out")
    os.mkdir(out)
    r = disk("cp", disk.image, ":/odd", ":/etc/hostname", out).ok()
    assert r.err.count("devices and FIFOs are not copied") == 1
    with open(os.path.join(out, "hostname")) as f:
        assert f.read() == "inner\n"
    odd = os.path.join(out, "odd")
    assert sorted(os.listdir(odd)) == sorted(n for n in os.listdir(os.path.join(disk.tree, "odd")) if n not in ("null", "fifo"))
    st = os.stat(os.path.join(odd, "setuid"))
    assert stat.S_IMODE(st.st_mode) == 0o755 and st.st_mtime == 1_000_000_000 and os.listxattr(os.path.join(odd, "setuid")) == []
    assert os.stat(os.path.join(odd, "a file")).st_uid == 0 and os.stat(os.path.join(odd, "a file")).st_nlink == 2
    assert os.stat(os.path.join(odd, "sparse")).st_blocks < 2048
    assert os.readlink(os.path.join(odd, "out")).endswith("etc/shadow")
    # A file of the disk does not replace a directory of the host.
    os.makedirs(os.path.join(out, "hostname.d/hostname/kept"))
    disk("cp", disk.image, ":/etc/hostname", os.path.join(out, "hostname.d")).failed("hostname", "is a directory")
    assert os.path.isdir(os.path.join(out, "hostname.d/hostname/kept"))
    disk("cp", disk.image, ":/etc/nosuch", os.path.join(disk.tmp, "new")).failed("/etc/nosuch", "does not exist")


def test_cp_and_tar_into(disk):
    """Files go into a qcow2 image, to the file system that fstab says, and the image is sound afterwards."""
    image = os.path.join(disk.tmp, "disk.qcow2")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.image, image)
    disk("cp", image, os.path.join(disk.tree, "odd/a file"), ":/srv/copy").ok()
    tar = os.path.join(disk.tmp, "in.tar")
    with tarfile.open(tar, "w") as t:
        for name, data, mode_ in (("x/.wh.y", b"kept", 0o4711), ("x/z", b"more", 0o600)):
            m = tarfile.TarInfo(name)
            m.size, m.mode, m.uid, m.gid = len(data), mode_, 5, 6
            t.addfile(m, io.BytesIO(data))
    disk("tar-in", image, "/srv", tar).ok()
    run("qemu-img", "check", "-f", "qcow2", image)
    text = disk("shell", image, "sh", "-c", "cd srv && stat -c '%n %u %g %a %s' copy x/.wh.y x/z; touch y; exit 7")
    assert text.rc == 7 and "Read-only" in text.err, text
    assert text.out == "copy 0 0 640 100000\nx/.wh.y 5 6 4711 4\nx/z 5 6 600 4\n"


def until(what):
    end = time.monotonic() + BOOT
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@pytest.mark.parametrize("sig,command", [("SIGINT", "shell"), ("SIGTERM", "out"), ("SIGINT", "in")])
def test_signal_ends_the_command(rt, tmp, monkeypatch, sig, command):
    """A signal ends a command while its microVM runs, and nothing stays: no process, no container, no bundle."""
    monkeypatch.setenv("TMPDIR", tmp)
    tree, image, target = (os.path.join(tmp, n) for n in ("tree", "d.raw", "target"))
    os.mkdir(tree)
    os.mkdir(target)
    with open(os.path.join(tree, "large"), "wb") as f:
        f.truncate(64 << 30)
    with open(image, "wb") as f:
        f.truncate(64 * MiB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, image)
    large = os.path.join(tree, "large")
    words = {"shell": ["shell", image, "sh", "-c", "echo begun; sleep 1000"], "out": ["cp", image, ":/large", target],
             "in": ["cp", image, large, ":/in"]}[command]
    words[1:1] = ["--kernel", mode.packaged_kernel(rootfs.CACHE), "--hypervisor", mode.HYPERVISOR]
    p = subprocess.Popen(rt.argv("disk", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if command == "shell":
            assert p.stdout.readline() == b"begun\n"
        else:
            until(lambda: [c["status"] for c in rt("list", "--format", "json").json() or []] == ["running"])
        p.send_signal(getattr(signal, sig))
        err = p.communicate(timeout=BOOT)[1].decode()
        assert p.returncode not in (0, -signal.SIGKILL), err
        assert command == "shell" or "ended by signal" in err, err
    finally:
        p.kill()
    assert rt("list", "--format", "json").json() in ([], None)
    assert [n for n in os.listdir(tmp) if n.startswith("caisson-disk")] == []


def test_bad_disks(disk):
    """What cannot be mounted gives one clear error that says what is on the disk."""
    garbage = put(disk.tmp, "garbage.raw", b"\x5a" * MiB)
    disk("ls", garbage).failed("found nothing on the disk that can be mounted")
    with open(disk.image, "r+b") as f:  # the group descriptors of ext4; its superblock stays
        f.seek(34 * MiB + 2048)
        f.write(b"\xff" * 64 * 1024)
    disk("cat", disk.image, "-m", "vda2", "/etc/passwd").failed("vda2: mount it as ext4")
    disk("ls", disk.image).failed("no operating system", "choose with --mount", "vda1 (vfat)", "vda3 (btrfs)")
    disk("ls", "-m", "vdz", disk.image).failed("--mount", "no such device", "vda2 (ext4)")


def test_encrypted_volumes(disk):
    """A volume group in LUKS, made by the host's tools in the microVM, is opened with the passphrase and not without."""
    image = put(disk.tmp, "crypt.raw", b"")
    os.truncate(image, 96 * MiB)
    key = put(disk.tmp, "key", "a passphrase")
    script = ("set -e; cryptsetup -q --type luks1 --iter-time 10 luksFormat /dev/vda /keys/0; "
              "cryptsetup --key-file /keys/0 open /dev/vda c; lvm pvcreate -q /dev/mapper/c; lvm vgcreate -q vg-x /dev/mapper/c; "
              "lvm lvcreate -q -Wn -Zn -n root -L 40M vg-x; mke2fs -q -t ext4 /dev/mapper/vg--x-root; "
              "mount /dev/mapper/vg--x-root /sysroot; echo deep >/sysroot/file; umount /sysroot; lvm vgchange -an vg-x; "
              "cryptsetup close c")
    disk("shell", "--write", "--key", key, image, "sh", "-c", script).ok()
    disk("ls", image).failed("vda (crypto_LUKS", "--key")
    assert disk("cat", "--key", key, image, "/file").ok().out == "deep\n"
    assert disk("ls", "--key", "vda:" + key, "-m", "vg-x/root", image).ok().out == "file\nlost+found\n"


def test_btrfs_subvolumes(rt, tmp, monkeypatch):
    """A distribution that has its root and /home in subvolumes of btrfs is found, and its fstab chooses the subvolumes."""
    monkeypatch.setenv("TMPDIR", tmp)
    disk, image = Disk(rt, tmp), put(tmp, "subs.raw")
    os.truncate(image, 114 * MiB)
    run("mkfs.btrfs", "-L", "subs", image)
    script = ("set -e; for s in @ @home; do btrfs -q subvolume create /sysroot/$s; done; cd /sysroot/@; mkdir bin etc home usr; "
              "printf 'ID=subs\\nPRETTY_NAME=Subs\\n' >etc/os-release; echo in home >../@home/file; "
              "printf 'LABEL=subs / btrfs subvol=@ 0 0\\nLABEL=subs /home btrfs defaults,subvol=@home 0 0\\n' >etc/fstab")
    disk("shell", "--write", image, "sh", "-c", script).ok()
    (system,) = json.loads(disk("inspect", "--json", image).ok().out)["operating_systems"]
    assert (system["distro"], system["root"], sorted(m["path"] for m in system["mountpoints"])) == ("subs", "vda", ["/", "/home"])
    assert disk("cat", image, "/etc/os-release", "/home/file").ok().out == "ID=subs\nPRETTY_NAME=Subs\nin home\n"


def test_mbr_and_apk(rt, tmp, monkeypatch):
    """A disk with an MBR, a logical partition, and an Alpine on it, whose packages are those of apk."""
    monkeypatch.setenv("TMPDIR", tmp)
    disk, image, tree, part = Disk(rt, tmp), put(tmp, "mbr.raw"), os.path.join(tmp, "alpine"), put(tmp, "part")
    put(tree, "etc/os-release", 'ID=alpine\nNAME="Alpine Linux"\nVERSION_ID=3.19.1\nPRETTY_NAME="Alpine Linux v3.19"\n')
    put(tree, "etc/fstab", "/dev/sda5 / ext4 rw 0 1\n")
    put(tree, "lib/apk/db/installed", "C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the libc\n\nP:busybox\nV:1.36.1-r15\nA:x86_64\n\n")
    put(tree, "sbin/apk", "#!\n", 0o755)
    put(tree, "boot/vmlinuz-virt", "kernel")
    put(tree, "boot/extlinux.conf", "LABEL virt\n  LINUX vmlinuz-virt\n")
    os.truncate(image, 48 * MiB)
    os.truncate(part, 24 * MiB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, part)
    run("sfdisk", image, input=b"label: dos\nstart=2048, size=40M, type=5\nstart=6144, size=24M, type=83\n")
    run("dd", f"if={part}", f"of={image}", "bs=512", "seek=6144", "conv=notrunc,sparse")
    said = json.loads(disk("inspect", "--json", image).ok().out)
    (system,) = said["operating_systems"]
    assert (system["root"], system["distro"], system["package_format"], system["package_management"]) == ("vda5", "alpine", "apk", "apk"), said
    assert [(p["name"], p["version"], p["release"], p["arch"]) for p in system["packages"]] == [
        ("musl", "1.2.4", "r2", "x86_64"), ("busybox", "1.36.1", "r15", "x86_64")]


def test_encrypted_image(disk):
    """The image itself is encrypted: its key does not go to the microVM that looks into the disk."""
    tree, raw, image = (os.path.join(disk.tmp, n) for n in ("small", "plain.raw", "crypt.qcow2"))
    put(tree, "file", "deep\n")
    put(disk.tmp, "plain.raw")
    os.truncate(raw, 32 * MiB)
    run("mkfs.ext4", "-q", "-F", "-d", tree, raw)
    key = put(disk.tmp, "key", "a passphrase")
    disk.rt("disk", "convert", "--key", key, "-o", "encrypt.format=luks,encrypt.iter-time=10", raw, image).ok()
    disk("ls", image).failed("encrypted (LUKS)", "--image-key")
    disk("ls", "--image-key", key + "-", image).failed("--image-key", "does not exist")
    assert disk("cat", "--image-key", key, image, "/file").ok().out == "deep\n"
    assert disk("shell", "--image-key", key, image, "ls", "/keys").ok().out == ""


class Evil:
    """A program in place of caisson, whose output is what a microVM in the power of its disk might send."""

    def __init__(self, disk):
        self.disk = disk

    def __call__(self, tar, *args):
        out = os.path.join(self.disk.tmp, "evil")
        os.makedirs(out, exist_ok=True)
        put(self.disk.tmp, "tar", tar)
        fake = put(self.disk.tmp, "fake", "#!/bin/sh\nexec cat " + os.path.join(self.disk.tmp, "tar") + "\n", 0o755)
        inside = os.path.join(os.path.dirname(self.disk.rt.binary), "caisson-inside")
        env = {**os.environ, "CAISSON_DISK_RUNTIME": fake}
        p = subprocess.run([inside, "cp", "--kernel", self.disk.kernel, *args, self.disk.image, ":/a", out], env=env,
                           capture_output=True, text=True, timeout=60, check=False)
        # The guard removes what caisson would have removed.
        until(lambda: not [n for n in os.listdir(self.disk.tmp) if n.startswith("caisson-disk")])
        return p, out


def evil_tar(*entries):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=tarfile.GNU_FORMAT) as t:
        for name, kind, link in entries:
            m = tarfile.TarInfo(name)
            m.type, m.linkname = kind, link
            m.size = 4 if kind == tarfile.REGTYPE else 0
            t.addfile(m, io.BytesIO(b"evil") if m.size else None)
    return b.getvalue()


@pytest.mark.parametrize("entries,text", [
    ([("../a", tarfile.REGTYPE, "")], "not asked for"),
    ([("/etc/evil", tarfile.REGTYPE, "")], "not asked for"),
    ([("b", tarfile.REGTYPE, "")], "not asked for"),
    ([("a/../../b", tarfile.REGTYPE, "")], '".."'),
    ([("a", tarfile.DIRTYPE, ""), ("a/l", tarfile.LNKTYPE, "/etc/passwd")], "not asked for"),
    ([("a", tarfile.DIRTYPE, ""), ("a/l", tarfile.LNKTYPE, "a/../../passwd")], '".."'),
])
def test_hostile_output_is_refused(disk, entries, text):
    """Only what was asked for is made, and only beneath the target."""
    p, out = Evil(disk)(evil_tar(*entries))
    assert p.returncode != 0 and text in p.stderr and os.listdir(out) in ([], ["a"]), (p, os.listdir(out))
    assert not os.path.exists("/etc/evil")


def test_links_of_hostile_output_stay_beneath(disk):
    """A link that the disk sends is not followed out of the target by what it sends next."""
    p, out = Evil(disk)(evil_tar(("a", tarfile.SYMTYPE, "/tmp"), ("a/file", tarfile.REGTYPE, "")))
    assert p.returncode != 0 or not os.path.exists("/tmp/file"), p
    assert not os.path.exists("/tmp/file") and os.readlink(os.path.join(out, "a")) == "/tmp"
    p, out = Evil(disk)(evil_tar(("a", tarfile.DIRTYPE, ""), ("a/dev", tarfile.CHRTYPE, ""), ("a/ok", tarfile.REGTYPE, "")), "-a")
    assert p.returncode == 0 and "devices and FIFOs" in p.stderr and not os.path.islink(os.path.join(out, "a")), p
    assert os.listdir(os.path.join(out, "a")) == ["ok"] and not os.path.exists("/tmp/ok"), p


def test_options(disk):
    disk("ls", disk.image + "x").failed(disk.image + "x", "does not exist")
    other = os.path.join(disk.tmp, "disk.bin")
    os.link(disk.image, other)
    disk("ls", other).failed("name it with -f")
    disk("cp", disk.image, "a", "b").failed('":"')
    disk("cp", disk.image, ":/", disk.tmp).failed("ends in a name")
    disk("cat", disk.image).failed("missing arguments", "Usage: caisson disk cat")
    disk("ls", "--memory", "lots", disk.image).failed("--memory lots")
    disk("ls", "--memory", "1", disk.image).failed("--memory: 1 bytes", "at least")
    disk("ls", "--memory", "64M", disk.image).failed("--memory: 67108864 bytes: the kernel ", "initramfs")
    disk("ls", "--memory", "1000T", disk.image).failed("--memory: ", "this host has")
    disk("ls", "--kernel", "/etc/passwd", disk.image).failed("--kernel: /etc/passwd: not a kernel")
    disk("ls", "--kernel", "/nope", disk.image).failed("--kernel: kernel /nope: does not exist")
    disk("ls", "-f", "qcow9", disk.image).failed('"qcow9"')


if __name__ == "__main__":
    import sys
    import tempfile
    with tempfile.TemporaryDirectory() as work:
        os.mkdir(os.path.join(work, "tree"))
        make_tree(os.path.join(work, "tree"))
        make_disk(sys.argv[1], work, os.path.join(work, "tree"))
