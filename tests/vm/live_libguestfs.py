# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of Debian's libguestfs-tools beside caisson's on the same disks (`tests/run libguestfs` in the test host, this
file by name on the build machine; pytest does not collect it with the others, because each command boots an appliance). libguestfs.tsv has the differences and their reasons. For the disk of
test_inside.py, the answers must also be those that tests/vm/libguestfs has; with CAISSON_RECORD they are written there."""
import concurrent.futures
import json
import os
import shutil
import stat
import subprocess
import tarfile
import xml.etree.ElementTree

import pytest

from harness import rootfs
from libguestfs_answers import HERE, Answers, df_lines, recorded
from test_inside import DPKG, MiB, Disk, make_disk, make_tree, put, run
from test_inside_kinds import SPEC

SCRIPT = os.path.join(rootfs.TESTS, "lib", "libguestfs")
LIMIT = 1500
RECORDED = {
    "df": ["virt-df"], "ls": ["virt-ls", "/odd"], "ls-lR": ["virt-ls", "-lR", "/odd"], "inspector.xml": ["virt-inspector"],
    "cat": ["virt-cat", "/etc/hostname", "/odd/absolute", "/srv/sub/file"], "filesystems": ["virt-filesystems", "--all", "--long", "--uuid", "--csv"]}
DEBIAN = {
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
    "etc/debian_version": "12.11\n", "etc/fstab": "/dev/mapper/vg--x-root / ext4 defaults 0 1\n/dev/mapper/vg--x-home /home btrfs defaults 0 2\n/dev/mapper/vg--x-swap none swap sw 0 0\n",
    # libguestfs leaves out a last paragraph that no empty line ends.
    "var/lib/dpkg/status": DPKG + "\n"}
# libguestfs cannot open a whole disk that is LUKS read-only, because QEMU then guesses the format from its first bytes.
VOLUMES = """set -e
cryptsetup -q --type luks1 --iter-time 10 luksFormat /dev/vda1 /keys/0
cryptsetup --key-file /keys/0 open /dev/vda1 c
lvm pvcreate -q /dev/mapper/c; lvm vgcreate -q vg-x /dev/mapper/c
for v in root:80M home:120M swap:16M; do lvm lvcreate -q -Wn -Zn -n ${v%:*} -L ${v#*:} vg-x; done
mke2fs -q -t ext4 -L root /dev/mapper/vg--x-root; mkfs.btrfs -q -L home /dev/mapper/vg--x-home; mkswap -L pages /dev/mapper/vg--x-swap
lvm vgchange -an vg-x; cryptsetup close c
"""
FEDORA = """set -e
for s in root home; do btrfs -q subvolume create /sysroot/$s; done
tar -xf - -C /sysroot/root
"""


@pytest.fixture
def disk(rt, tmp, monkeypatch):
    monkeypatch.setenv("TMPDIR", tmp)
    return Disk(rt, tmp)


def libguestfs(folder, *command, fails=None):
    r = subprocess.run([SCRIPT, folder, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False)
    assert fails in r.stderr and r.returncode if fails else r.returncode == 0, (command, r)
    return r.stdout


def together(*calls):
    """Makes two calls at a time. Returns what each of them returns."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return [f.result() for f in [pool.submit(c) for c in calls]]


def steady(name, text):
    """The answer without what differs from one appliance to the next: for which device libguestfs takes fstab's sdb1, which the disk lacks. That
    device is also in the list of file systems, without a type or a second time."""
    if name != "inspector.xml":
        return text
    report = xml.etree.ElementTree.fromstring(text)
    for m in report.iter("mountpoint"):
        if m.text == "/not/here":
            assert m.get("dev") in ("/dev/sda1", "/dev/sdb1")
            m.set("dev", "sdb1 of fstab")
    for filesystems in report.iter("filesystems"):
        seen = set()
        for f in list(filesystems):
            if f.find("type") is None or f.get("dev") in seen:
                filesystems.remove(f)
            seen.add(f.get("dev"))
    return xml.etree.ElementTree.canonicalize(xml.etree.ElementTree.tostring(report, "unicode"), strip_text=True)


def test_the_recorded_answers(tmp):
    folder, tree = os.path.join(tmp, "mnt"), os.path.join(tmp, "tree")
    os.mkdir(folder)
    os.mkdir(tree)
    make_tree(tree)
    make_disk(os.path.join(folder, "disk.raw"), tmp, tree)
    answers = together(*(lambda c=c: libguestfs(folder, c[0], "--format=raw", "-a", "/mnt/disk.raw", *c[1:]) for c in RECORDED.values()))
    found = {**dict(zip(RECORDED, answers)), "version": subprocess.run([SCRIPT, "--version"], check=True, capture_output=True, text=True).stdout}
    if os.environ.get("CAISSON_RECORD"):
        for name, text in found.items():
            put(os.path.join(HERE, "libguestfs"), name, text)
    assert {name: steady(name, text) for name, text in found.items()} == {name: steady(name, recorded(name)) for name in found}


def make_debian(disk, folder):
    """A system in a volume group in a LUKS partition, whose key is beside it."""
    tree, tar = os.path.join(disk.tmp, "debian"), os.path.join(disk.tmp, "debian.tar")
    image, key = put(folder, "debian.raw"), put(folder, "key", "a passphrase")
    os.mkdir(tree)
    make_tree(tree)
    for name, text in DEBIAN.items():
        put(tree, name, text)
    os.mkdir(tree + "/home")
    run("tar", "-C", tree, "--xattrs", "-cSf", tar, ".")
    os.truncate(image, 302 * MiB)
    run("sfdisk", image, input=b"label: gpt\nstart=1MiB, size=300MiB, type=L\n")
    disk("shell", "--write", "--key", key, image, "sh", "-c", VOLUMES).ok()
    disk("tar-in", "--key", key, "-m", "vg-x/root", image, "/", tar).ok()
    return image, key


def make_fedora(disk, folder):
    """A system with rpm in a subvolume of btrfs."""
    tree, image, spec = os.path.join(disk.tmp, "fedora"), put(folder, "fedora.raw"), put(disk.tmp, "kettle.spec", SPEC)
    put(tree, "etc/os-release", 'ID=fedora\nVERSION_ID=39\nPRETTY_NAME="Fedora Linux 39"\n')
    put(tree, "etc/fedora-release", "Fedora release 39 (Thirty Nine)\n")
    put(tree, "etc/hostname", "kitchen\n")
    put(tree, "etc/fstab", "LABEL=subs / btrfs subvol=root 0 0\nLABEL=subs /home btrfs subvol=home 0 0\n")
    put(tree, "usr/bin/dnf", "#!\n", 0o755)
    with open("/bin/busybox", "rb") as f:
        put(tree, "bin/sh", f.read(4096), 0o755)
    os.mkdir(tree + "/home")
    run("rpmbuild", "-bb", "--define", f"_topdir {disk.tmp}/build", spec)
    run("rpm", "--root", tree, "--dbpath", "/usr/lib/sysimage/rpm", "--justdb", "--nodeps", "-i", f"{disk.tmp}/build/RPMS/noarch/kettle-1.2~rc1-4.el9.noarch.rpm")
    os.makedirs(tree + "/var/lib")
    os.symlink("../../usr/lib/sysimage/rpm", tree + "/var/lib/rpm")
    os.truncate(image, 114 * MiB)
    run("mkfs.btrfs", "-L", "subs", image)
    run("tar", "-C", tree, "-cf", tree + ".tar", ".")
    with open(tree + ".tar", "rb") as f:
        disk("shell", "--write", image, "sh", "-c", FEDORA, input=f.read()).ok()
    return image


def tree_of(top):
    """Returns what is in a directory: (type, size, target), by name."""
    found = {}
    for at, folders, files in os.walk(top):
        for path in (os.path.join(at, n) for n in folders + files):
            st = os.lstat(path)
            size = st.st_size if stat.S_ISREG(st.st_mode) else 0
            found[os.path.relpath(path, top)] = (stat.S_IFMT(st.st_mode), size, os.readlink(path) if os.path.islink(path) else "")
    return found


def check_copies(answers, theirs, ours):
    """Both have copied the directory odd to these directories, as files and as odd.tar."""
    a, b = tree_of(theirs + "/odd"), tree_of(ours + "/odd")
    answers.same("copy-out: a device and a FIFO", "made" if "null" in a and "fifo" in a else "?", "left out" if "null" not in b and "fifo" not in b else "?")
    assert {n: v for n, v in a.items() if n not in ("null", "fifo")} == b
    owned = lambda top: [(os.stat(f"{top}/odd/{n}").st_uid, stat.S_IMODE(os.stat(f"{top}/odd/{n}").st_mode)) for n in ("a file", "setuid")]
    answers.same("copy-out: owners and modes", "the disk's" if owned(theirs) == [(1000, 0o640), (0, 0o4755)] else owned(theirs),
                 "the caller's, without set-user-ID" if owned(ours) == [(0, 0o640), (0, 0o755)] else owned(ours))
    stored = lambda path: "sparse" if os.stat(path).st_blocks < 2048 else "40 MiB"
    answers.same("copy-out: a file of 40 MiB with one block of data", stored(theirs + "/odd/sparse"), stored(ours + "/odd/sparse"))
    answers.same("tar-out: a file of 40 MiB with one block of data", *("sparse" if os.path.getsize(d + "/odd.tar") < MiB else "40 MiB" for d in (theirs, ours)))
    answers.done("copy-out")
    answers.done("tar-out")
    members = []
    for folder in (theirs, ours):
        with tarfile.open(folder + "/odd.tar") as t:
            # Which name of a file is the link depends on the order of the directory.
            members.append({m.name.removeprefix("./"): (m.mode, m.uid, m.gid, int(m.mtime), m.issym() and m.linkname, m.ischr(), m.isfifo(),
                                                        m.devmajor * m.ischr(), {k: v for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")})
                            for m in t.getmembers()})
    assert members[0] == members[1]


SESSION = """tar-out /odd /mnt/theirs/odd.tar xattrs:true
copy-out /odd /etc/hostname /mnt/theirs
statvfs /
statvfs /home
cat /odd/absolute
find0 / /mnt/theirs/find
"""


def usage_of(text):
    """Returns the answers of guestfish' statvfs as (KiB, KiB used, KiB available)."""
    values = dict(line.split(": ") for line in text.splitlines() if ": " in line)
    unit = int(values["bsize"])
    return tuple(int(n) * unit // 1024 for n in (values["blocks"], int(values["blocks"]) - int(values["bfree"]), values["bavail"]))


def test_debian(disk):
    """A Debian with its root and /home in logical volumes in LUKS."""
    folder, ours = os.path.join(disk.tmp, "mnt"), os.path.join(disk.tmp, "ours")
    os.makedirs(folder + "/theirs")
    os.mkdir(ours)
    debian, key = make_debian(disk, folder)
    put(folder, "session", SESSION)
    secret = ["--key", "/dev/sda1:file:/mnt/key"]
    inspector, session = together(
        lambda: libguestfs(folder, "virt-inspector", "--format=raw", "-a", "/mnt/debian.raw", *secret),
        lambda: libguestfs(folder, "guestfish", "--ro", "--format=raw", "-a", "/mnt/debian.raw", *secret, "-i", "-f", "/mnt/session"))
    answers = Answers("debian")
    said = json.loads(disk("inspect", "--json", "--key", key, debian).ok().out)
    report = answers.inspector(inspector, said["operating_systems"][0])
    answers.filesystems([(f.get("dev"), *(f.findtext(t) for t in ("type", "label", "uuid"))) for f in report.iter("filesystem")], said["devices"])
    usage = {u["device"]: tuple(u[k] // 1024 for k in ("size", "used", "available")) for u in json.loads(disk("df", "--json", "--key", key, debian).ok().out)}
    blocks = session.split("bsize: ")
    answers.same("df: names of volumes", " ".join(m.get("dev") for m in report.iter("mountpoint")), " ".join(usage))
    answers.done("df")
    assert [usage_of("bsize: " + b) for b in blocks[1:3]] == list(usage.values()), usage
    assert disk("cat", "--key", key, debian, "/odd/absolute").ok().out == "inner\n" and session.rstrip().endswith("inner")
    disk("tar-out", "--key", key, debian, "/odd", ours + "/odd.tar").ok()
    disk("cp", "--key", key, debian, ":/odd", ":/etc/hostname", ours).ok()
    check_copies(answers, folder + "/theirs", ours)
    with open(folder + "/theirs/find", "rb") as f:
        theirs = {n.decode() for n in f.read().split(b"\0") if n}
    found = disk("shell", "--key", key, debian, "sh", "-c", "cd /sysroot && find . -print0").ok().out
    assert {n.removeprefix("./") for n in found.split("\0") if n not in ("", ".")} == theirs
    shutil.rmtree(folder + "/theirs")


def test_fedora(disk):
    """A Fedora in subvolumes of btrfs."""
    folder = os.path.join(disk.tmp, "mnt")
    os.mkdir(folder)
    fedora = make_fedora(disk, folder)
    words = ("virt-inspector", "--format=raw", "-a", "/mnt/fedora.raw")
    inspector, _ = together(lambda: libguestfs(folder, *words, "--no-applications"), lambda: libguestfs(folder, *words, fails="rpmtsInitIterator"))
    said = json.loads(disk("inspect", "--json", fedora).ok().out)
    assert [p["name"] for p in said["operating_systems"][0]["packages"]] == ["kettle"]
    Answers("fedora").inspector(inspector, said["operating_systems"][0])
