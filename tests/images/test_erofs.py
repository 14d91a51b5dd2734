# SPDX-License-Identifier: Apache-2.0
"""Tests `run --image --isolation vm --root-disk erofs`: the store has one EROFS image for each chain of layers, which all microVMs
of the image read as a disk. What a container writes stays in its guest."""
import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import mode, rootfs
from harness.oci import entry, tar, whiteout
from harness.runtime import wait_for
from test_ids import SEEN, STAT, accounts, user  # fixtures  # noqa: F401
from test_run import Box

VM = ("--isolation", "vm", "--root-disk", "erofs")
CAP_DAC_OVERRIDE = b"\x01\0\0\x02\x02\0\0\0" + b"\0" * 12
LOOK = ("cd /; for f in $(find bin/busybox d dir fifo null zero old link hard two -xdev | sort); do "
        "stat -c '%n %f %u:%g %Y %h %t,%T' $f; done; cat two; readlink link; stat -c '%a %u' /")


@pytest.fixture
def box(rt, images, layout, template):
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    files = tar(entry("./", "dir", mode=0o751, uid=3), entry("d/", "dir"), entry("d/old"), entry("two", data=b"2" * 5000, mode=0o6755, uid=7, gid=8,
                                                                                                mtime=-5),
                entry("hard", "hard", link="two"), entry("link", "link", link="/d/../two"), entry("fifo", "fifo"), entry("gone"),
                entry("null", "char", dev=(1, 3), mode=0o622), entry("dir/", "dir", mode=0o1770, gid=9, mtime=1), entry("old", mtime=1 << 32))
    with open(template + "/bin/busybox", "rb") as f:
        files = files[:-1024] + tar(entry("cap/cat", data=f.read(), mode=0o755, xattrs={"security.capability": CAP_DAC_OVERRIDE}),
                                    entry("secret", data=b"s", mode=0o600))
    top = tar(whiteout(".wh.gone"), whiteout(".wh.d"), entry("d/", "dir"), entry("d/new", data=b"3"), entry("zero", data=b""))
    layout.image([base, files, top], "box", config={"Env": ["PATH=/bin"]})
    images("import", f"oci:{layout.path}:box")
    b = Box(rt, images, mode.guest_kernel(rootfs.CACHE))
    yield b
    for n in b.names:
        rt("rm", "-f", n)
    assert b.dirs() == []


def disks(images):
    return [n for n in os.listdir(images.store + "/layers") if n.endswith(".erofs")]


@pytest.fixture
def fake(tmp, monkeypatch):
    """fake(SCRIPT) puts a shell script in the place of mkfs.erofs. REAL in the script stands for the path of the real mkfs.erofs."""
    real = subprocess.run(["sh", "-c", "command -v mkfs.erofs"], check=True, capture_output=True, text=True).stdout.strip()
    path = os.environ["PATH"]

    def fake(script):
        d = os.path.join(tmp, "bin")
        os.makedirs(d, exist_ok=True)
        with open(d + "/mkfs.erofs", "w") as f:
            f.write("#!/bin/sh\n" + script.replace("REAL", real) + "\n")
        os.chmod(d + "/mkfs.erofs", 0o755)
        monkeypatch.setenv("PATH", d + ":" + path)
    return fake


def test_microvms(box):
    """Two machines at once have the tree that a container in namespaces has, and each machine has its own changes."""
    if not box.kernel:
        pytest.skip("no kernel for a guest")
    want = box.sh(LOOK).ok().out
    assert "two 8ded 7:8 -5 2 0,0" in want and want.count("2" * 5000) == 1 and "d/old" not in want
    box("-d", *VM, "--kernel", box.kernel, "-u", "0", "sh", "-c", "rm -r /d; echo 1 > /two; sleep 1000", name="b1", timeout=120).ok()
    disk, = disks(box.images)
    before = os.stat(os.path.join(box.images.store, "layers", disk))
    script = LOOK + "; rm -r /d; mkdir /d; echo new > /d/x; ls /d; chown 5:5 /old && stat -c %u /old"
    r = box.sh(script, *VM, "--kernel", box.kernel, timeout=120).ok()
    assert r.out == want + "x\n5\n"
    # A file's capability is in the image.
    assert box.rt("exec", "--user", "33", "b1", "/cap/cat", "/secret", timeout=60).ok().out == "s"
    assert "denied" in box.rt("exec", "--user", "33", "b1", "cat", "/secret", timeout=60).err
    # The first machine has its own changes; nothing of them is on the host.
    assert box.rt("exec", "b1", "sh", "-c", "cat /two; ls / | grep -c '^d$'", timeout=60).out == "1\n0\n"
    after = os.stat(os.path.join(box.images.store, "layers", disk))
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert not os.path.exists(os.path.join(box.images.store, "containers/b1/upper"))
    for command in (("diff", "b1"), ("commit", "b1", "made")):
        box.images.fails(*command, saying="keeps its changes in the memory of its microVM (--root-disk erofs)")
    box.images("rm", "box")
    assert disks(box.images) == [disk]  # is kept, because a machine reads it
    box.rt("rm", "-f", "b1", timeout=60).ok()
    box.images("prune")
    assert os.listdir(box.images.store + "/layers") == []


def test_ordinary_user(user):  # noqa: F811
    """The image has the owners of the container, which the guest maps to the ids of the user's ranges."""
    kernel = mode.guest_kernel(rootfs.CACHE)
    if not kernel:
        pytest.skip("no kernel for a guest")
    script = STAT + "; echo 1 > /www/mine && stat -c %u:%g /www/mine; wc -l < /proc/self/uid_map"
    out = user.box(script, *VM, "--kernel", kernel, "-u", "33:34", timeout=120).splitlines()
    assert out == SEEN[:-1] + ["33", "33:34", "2"]
    user("image", "rm", "box", "far")
    assert user.dirs("layers") == []


def test_one_image_of_a_chain(box, fake, tmp):
    """Several processes at the same time make one EROFS image, which is complete, also for another name of the same layers."""
    fake(f"echo x >> {tmp}/made; sleep 0.3; exec REAL \"$@\"")
    box.images("tag", "box", "second")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: box.images("resolve", "--root-disk", "erofs", name), ["box", "second", "box", "second"]))
    assert open(tmp + "/made").read() == "x\n"
    disk, = disks(box.images)
    subprocess.run(["fsck.erofs", os.path.join(box.images.store, "layers", disk)], check=True, capture_output=True)
    assert not [n for n in os.listdir(box.images.store + "/partial") if n.startswith("erofs")]


@pytest.mark.parametrize("script, text", [
    ("echo half > $2; echo 'no space: \x1b[2J' >&2; exit 3", "--root-disk erofs: mkfs.erofs of "), ("kill -9 $$", "--root-disk erofs: mkfs.erofs of ")])
def test_program_that_fails(box, fake, script, text):
    """If mkfs.erofs fails, the command reports an error and leaves no incomplete image, and the next command makes the image."""
    fake(script)
    box.images.fails("resolve", "--root-disk", "erofs", "box", saying=text)
    assert disks(box.images) == [] and not [n for n in os.listdir(box.images.store + "/partial") if n.startswith("erofs")]
    fake('exec REAL "$@"')
    box.images("resolve", "--root-disk", "erofs", "box")
    assert len(disks(box.images)) == 1


def test_program_that_fails_beside_others(box, fake, tmp):
    """After the failure of one process, those that wait for it and those that come later still make the image one by one."""
    fake(f"echo x >> {tmp}/made; if [ $(wc -l < {tmp}/made) = 1 ]; then while ! [ -e {tmp}/go ]; do sleep 0.05; done; exit 3; fi; "
         f"mkdir {tmp}/busy || touch {tmp}/overlap; while ! [ -e {tmp}/end ]; do sleep 0.05; done; REAL \"$@\"; r=$?; rmdir {tmp}/busy; exit $r")

    def start():
        return subprocess.Popen([box.images.program, "--store", box.images.store, "resolve", "--root-disk", "erofs", "box"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def made(n):
        return os.path.exists(tmp + "/made") and len(open(tmp + "/made").read().split()) == n

    def waits(p):
        """Whether the process waits for a lock."""
        return any("->" in line and f" {p.pid} " in line for line in open("/proc/locks"))

    first = start()
    wait_for(lambda: made(1), "first call of mkfs.erofs", timeout=30)
    second = start()
    wait_for(lambda: waits(second), "second process at the lock", timeout=30)
    open(tmp + "/go", "w").close()
    wait_for(lambda: made(2), "second call of mkfs.erofs", timeout=30)
    third = start()
    wait_for(lambda: waits(third) or made(3), "third process at the lock", timeout=30)
    open(tmp + "/end", "w").close()
    assert [p.wait(60) for p in (first, second, third)] == [1, 0, 0]
    assert made(2) and not os.path.exists(tmp + "/overlap")
    disk, = disks(box.images)
    subprocess.run(["fsck.erofs", os.path.join(box.images.store, "layers", disk)], check=True, capture_output=True)


def test_program_that_is_missing(box, tmp):
    box.images.fails("resolve", "--root-disk", "erofs", "box", saying="install the package erofs-utils", env={**os.environ, "PATH": tmp})
    assert disks(box.images) == []


def test_kill_while_it_is_made(box, fake):
    """If the process is killed, no process uses the incomplete image, and the next process makes the image anew."""
    fake("echo half > $2; kill -9 $PPID; while :; do :; done")
    p = subprocess.run([box.images.program, "--store", box.images.store, "resolve", "--root-disk", "erofs", "box"], capture_output=True, timeout=30, check=False)
    assert p.returncode == -signal.SIGKILL and disks(box.images) == []
    assert [n for n in os.listdir(box.images.store + "/partial") if n.startswith("erofs")]
    fake('exec REAL "$@"')
    box.images("resolve", "--root-disk", "erofs", "box")
    disk, = disks(box.images)
    subprocess.run(["fsck.erofs", os.path.join(box.images.store, "layers", disk)], check=True, capture_output=True)


def test_collection(box):
    """`prune` keeps the image as long as its layers are needed, and counts its bytes."""
    box.images("resolve", "--root-disk", "erofs", "box")
    disk, = disks(box.images)
    size = os.stat(os.path.join(box.images.store, "layers", disk)).st_blocks * 512
    box.images("prune")
    assert disks(box.images) == [disk]
    assert json.loads(box.images("df", "--json"))["disks"] == {"count": 1, "bytes": size}
    p = subprocess.run([box.images.program, "--store", box.images.store, "rm", "box"], capture_output=True, text=True, check=True)
    assert disks(box.images) == []
    assert float(p.stderr.split()[1]) * 1e6 > size


@pytest.mark.parametrize("options, text", [
    (("--root-disk", "erofs"), "--root-disk erofs: only a microVM has a disk: add --isolation vm"),
    (("--root-disk", "ext4", "--isolation", "vm"), "--root-disk ext4: expected share or erofs")])
def test_refused(box, options, text):
    assert text in box(*options, "true").failed(text).err
    box.images.fails("resolve", "--root-disk", "ext4", "box", saying="--root-disk ext4: expected erofs")
