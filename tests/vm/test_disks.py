# SPDX-License-Identifier: Apache-2.0
"""Tests vm.image in formats other than raw, which caisson-disk serves. The hypervisor is QEMU, or KVM on the test host.
qemu-img of Debian makes the images and checks them afterwards."""
import hashlib
import os
import re
import signal
import subprocess

import pytest

from harness import config, mode, rootfs, runtime
from test_jail import BOOT, NAMELESS, VM, Proc, assert_own_user, assert_powerless, children, read, vm, written  # noqa: F401

BACKING = "io.caisson.vm.image.backing"
SERIAL = "io.caisson.vm.image.serial"


def img(*args, **kwargs):
    return subprocess.run(["qemu-img", *args], check=True, capture_output=True, text=True, **kwargs).stdout


def sound(image, leaks=False):
    """Asserts that qemu-img finds no error in the image; with `leaks` unused clusters that are not free are no error."""
    r = subprocess.run(["qemu-img", "check", "-f", "qcow2", image], capture_output=True, text=True, check=False)
    assert r.returncode in ((0, 3) if leaks else (0,)), r.stdout + r.stderr


@pytest.fixture
def disk(vm, tmp):
    """Makes a container whose root is a disk of the given format, and the raw image that has the same content."""
    def make(script, form="qcow2", size="64M", readonly=False, annotations=None, options=()):
        c = vm("sh", "-c", script)
        raw, image = (os.path.join(tmp, n) for n in ("root.raw", "root." + form))
        img("create", "-q", "-f", "raw", raw, size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", c.rootfs, raw], check=True)
        img("convert", "-f", "raw", "-O", {"vhd": "vpc"}.get(form, form), *options, raw, image)
        c.conf["vm"]["image"] = {"path": image, "format": form}
        c.conf["root"]["readonly"] = readonly
        c.conf["annotations"] = annotations or {}
        return c, image, raw

    def second(image, form):
        c = vm("true")
        c.conf["vm"]["image"] = {"path": image, "format": form}
        return c

    make.second = second
    return make


def on(c, path, form="qcow2", **annotations):
    c.conf["vm"]["image"] = {"path": path, "format": form}
    c.conf["annotations"] = {BACKING: v for v in annotations.values()}
    return c


def content(image, tmp):
    """The file that the guest wrote, read by the host from an image of any format."""
    raw = os.path.join(tmp, "content")
    img("convert", "-f", "qcow2", "-O", "raw", image, raw)
    return written(raw)


def server(c):
    return next(p for p in map(Proc, children(c.pid())) if p.name == "caisson-disk")


@pytest.mark.skipif(mode.HYPERVISOR != "qemu", reason="only QEMU's machine has firmware")
def test_firmware_that_could_read_the_disk(disk):
    """The kernel does not make the firmware read a disk. SeaBIOS would do so below 1 MiB, where the server has no memory of the guest."""
    c, _, _ = disk("echo up")
    # Debian 12 has qboot for SeaBIOS, which knows no disks. The kernel is a bzImage, because its real-mode code would ask.
    c.conf["vm"]["kernel"] = {"path": mode.packaged_kernel(rootfs.CACHE)}
    c.conf["vm"]["hypervisor"] = {"path": "", "parameters": ["-bios", "/usr/share/seabios/bios-microvm.bin"]}
    assert c.run(timeout=BOOT).ok().out == "up\n"


def test_overlay_is_written(disk, tmp):
    """The root is an overlay of a compressed image, with several queues. What the guest writes is in the overlay, and the
    base stays as it is. A second start sees what the first has written, and the image is sound after each."""
    c, base, _ = disk("cat /sys/block/vda/queue/discard_granularity; ls /sys/block/vda/mq | wc -l; cat /sys/block/vda/serial; "
                      "echo; fstrim / || echo no trim; cat /written; echo from the guest >>/written; "
                      "dd if=/dev/urandom of=/large bs=64k count=200 2>/dev/null; sync; md5sum </large; "
                      "echo 3 >/proc/sys/vm/drop_caches; md5sum </large", options=["-c"])
    before = read_bytes(base)
    overlay = os.path.join(tmp, "overlay.qcow2")
    img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    on(c, overlay, backing="on")
    c.conf["vm"]["hwConfig"] = {"vcpus": 2}
    config.all_caps(c.conf)
    c.conf["linux"].pop("readonlyPaths", None)
    first = c.run(*VM, timeout=BOOT).ok().out.split()
    assert first[:3] == ["65536", "2", "image"] and "no" not in first, first
    sums = [w for w in first if re.fullmatch("[0-9a-f]{32}", w)]
    assert len(sums) == 2 and sums[0] == sums[1], first
    assert content(overlay, tmp) == b"from the guest\n"
    sound(overlay)
    second = c.run(*VM, timeout=BOOT).ok().out
    assert "from the guest" in second
    assert content(overlay, tmp) == b"from the guest\n" * 2
    sound(overlay)
    assert read_bytes(base) == before


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def test_backing_files_have_to_be_named(disk, tmp):
    """The guest may have written the name of a backing file, so it is not followed unless config.json says so."""
    c, base, _ = disk("true")
    overlay = os.path.join(tmp, "overlay.qcow2")
    img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    on(c, overlay)
    c.run(*VM, timeout=BOOT).failed("vm.image", "backing")
    on(c, overlay, backing="off").run(*VM, timeout=BOOT).failed("vm.image", "backing")
    other = os.path.join(tmp, "other")
    os.mkdir(other)
    on(c, overlay, backing=other).run(*VM, timeout=BOOT).failed("vm.image", other)
    on(c, overlay, backing="sometimes").run(*VM, timeout=BOOT).failed("annotation " + BACKING, '"sometimes"', "expected off, on")
    on(c, overlay, backing=tmp).run(*VM, timeout=BOOT).ok()


@pytest.mark.parametrize("form", ["vdi", "vmdk", "vhd", "vhdx"])
def test_read_only_formats(disk, form):
    """Formats that are only read can be the root if it is read-only. Otherwise the error says what to do."""
    c, _, _ = disk("grep ' / ' /proc/mounts; cat /etc/group", form, readonly=True)
    out = c.run(*VM, timeout=BOOT).ok().out
    assert " ext4 ro" in out and out.endswith(read(c.path("etc/group"))), out
    c.conf["root"]["readonly"] = False
    c.run(*VM).failed("vm.image.format", f'"{form}"', "root.readonly", "caisson disk create -f qcow2 -b ")


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_another_writer_is_refused(disk, form):
    """The image is locked while the machine runs, as QEMU locks it, for QEMU and for caisson. In this machine each write
    of the guest is on the disk before the guest goes on."""
    c, image, raw = disk("until test -e /end; do sleep 0.1; done", annotations={"io.caisson.vm.image-cache": "writethrough", SERIAL: "data_1.x-Y"})
    if form == "raw":
        image = c.conf["vm"]["image"]["path"] = raw
        c.conf["vm"]["image"]["format"] = form
    c.up(*VM, timeout=BOOT)
    r = subprocess.run(["qemu-img", "resize", "-f", form, image, "+1M"], capture_output=True, text=True, check=False)
    assert r.returncode != 0 and "lock" in r.stderr, r.stderr
    # A second microVM with the same image.
    disk.second(image, form).run(*VM, timeout=BOOT).failed("vm.image", image, "another process")
    assert c.exec("cat", "/sys/block/vda/queue/write_cache").out == "write through\n"
    assert c.exec("cat", "/sys/block/vda/serial").out.strip() == "data_1.x-Y"
    c.exec("touch", "/end").ok()
    c.wait(timeout=60)
    c.delete()
    if form == "qcow2":
        sound(image)


def test_server_is_confined(disk, tmp):
    c, image, _ = disk("sleep 1000")
    c.up(*VM, timeout=BOOT)
    p = server(c)
    assert_powerless(p)
    assert_own_user(p, Proc(c.pid()))
    assert p.root == [] and p.cgroup() == Proc(c.pid()).cgroup()
    named = [f for f in p.fds.values() if not NAMELESS.match(f)]
    assert named == [image], named
    if mode.HYPERVISOR == "qemu":
        c.rt("checkpoint", "--image-path", os.path.join(tmp, "checkpoint"), c.id).failed("on QEMU", "a vhost-user server serves one of its disks")
        assert c.status() == "running" and not os.path.exists(os.path.join(tmp, "checkpoint"))
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()
    sound(image)


def test_killed_server(disk, tmp):
    """If caisson-disk is killed while the guest writes, the machine ends and the error names it. The image can still be
    checked and used."""
    c, image, _ = disk("i=0; while true; do dd if=/dev/urandom of=/f$((i % 5)) bs=48k count=20 conv=fsync 2>/dev/null; "
                       "i=$((i+1)); echo $i; done", size="128M")
    c.rt.options = ["--log", os.path.join(tmp, "log")]
    c.up(*VM, timeout=BOOT)
    c.wait_output("\n5\n", BOOT)
    os.kill(server(c).pid, signal.SIGKILL)
    c.wait(timeout=60)
    log = read(c.rt.options[1])
    assert "vm.image" in log and "caisson-disk" in log and "signal 9" in log, log
    c.delete()
    sound(image, leaks=True)
    c.conf["process"]["args"] = ["cat", "/f0"]
    c.run(*VM, timeout=BOOT).ok()


def test_killed_monitor(disk):
    """If the monitor is killed, caisson-disk finds its socket closed, writes what it holds, and ends by itself."""
    c, image, _ = disk("while true; do dd if=/dev/urandom of=/f bs=48k count=20 2>/dev/null; echo written; done")
    c.up(*VM, timeout=BOOT)
    c.wait_output("written", BOOT)
    pid = server(c).pid
    os.kill(c.pid(), signal.SIGKILL)
    runtime.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the end of caisson-disk", 30)
    c.delete("--force")
    sound(image)


def test_refused(disk, tmp):
    c, image, _ = disk("true")
    c.conf["annotations"] = {"io.caisson.vm.image-cache": "none"}
    c.run(*VM).failed("annotation io.caisson.vm.image-cache", "raw", '"qcow2"')
    for serial in ("", "a,b", "x" * 21):
        c.conf["annotations"] = {SERIAL: serial}
        c.run(*VM).failed(f"annotation {SERIAL}", f'"{serial}"', "1 to 20 letters")
    c.conf["annotations"] = {}
    with open(image, "r+b") as f:
        f.write(b"not a qcow2")
    c.run(*VM).failed("vm.image", image)


# --- encrypted images ---

KEY = "io.caisson.vm.image.key"
PASSPHRASE = "a passphrase that is nowhere else"


@pytest.fixture
def encrypted(disk, tmp):
    """Makes a container whose root is a qcow2 image that qemu-img has encrypted, and the key's file."""
    def make(script):
        c, image, raw = disk(script)
        key = os.path.join(tmp, "key")
        with open(key, "w") as f:
            f.write(PASSPHRASE)
        secret = ["--object", f"secret,id=s,file={key}"]
        for _ in range(20):  # With so short an iter-time QEMU sometimes fails to measure the processor.
            r = subprocess.run(["qemu-img", "convert", *secret, "-f", "raw", "-O", "qcow2", "-o",
                                "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", raw, image],
                               capture_output=True, text=True, check=False)
            if r.returncode == 0:
                break
        assert r.returncode == 0, r.stderr
        c.conf["annotations"] = {KEY: key}
        return c, image, [*secret, "--image-opts", f"driver=qcow2,file.filename={image},encrypt.key-secret=s"]
    return make


def bytes_of(pid, text):
    """Whether the process has the text anywhere in its memory that can be written."""
    for line in read(f"/proc/{pid}/maps").splitlines():
        area, flags, *_ = line.split()
        start, end = (int(n, 16) for n in area.split("-"))
        if "w" not in flags or end - start > 64 << 20:
            continue
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as f:
            f.seek(start)
            try:
                if text in (f.read(end - start) or b""):
                    return True
            except OSError:
                pass
    return False


def test_encrypted_root(encrypted, tmp):
    """The root is an encrypted image. caisson-disk has neither the key's file nor the passphrase any more when it serves."""
    c, image, opts = encrypted("echo from the guest >/written; sync; until test -e /end; do sleep 0.1; done")
    c.up(*VM, timeout=BOOT)
    p = server(c)
    assert_powerless(p)
    assert [f for f in p.fds.values() if not NAMELESS.match(f)] == [image], p.fds
    assert not bytes_of(p.pid, PASSPHRASE.encode())
    c.exec("touch", "/end").ok()
    c.wait(timeout=60)
    c.delete()
    subprocess.run(["qemu-img", "check", *opts], check=True, capture_output=True)
    raw = os.path.join(tmp, "content")
    subprocess.run(["qemu-img", "convert", *opts, "-O", "raw", raw], check=True)
    assert written(raw) == b"from the guest\n"
    assert b"from the guest" not in read_bytes(image)


def test_encrypted_snapshot(encrypted):
    """What the guest writes to the temporary overlay of an encrypted image is encrypted too."""
    c, image, _ = encrypted("while true; do echo attack at dawn >>/written; sync; echo done; sleep 0.2; done")
    c.conf["annotations"]["io.caisson.vm.image.snapshot"] = "true"
    before = read_bytes(image)
    c.up(*VM, timeout=BOOT)
    c.wait_output("done\ndone\n", BOOT)
    p = server(c)
    number = next(n for n, f in p.fds.items() if f.endswith(" (deleted)") and "memfd:" not in f)
    overlay = read_bytes(f"{p.dir}/fd/{number}")
    assert overlay[:4] == b"QFI\xfb" and len(overlay) > 2 << 20 and b"attack at dawn" not in overlay
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()
    assert read_bytes(image) == before


def test_encrypted_refused(encrypted, tmp):
    c, image, _ = encrypted("true")
    key = c.conf["annotations"][KEY]
    wrong = os.path.join(tmp, "wrong")
    with open(wrong, "w") as f:
        f.write("wrong")
    for annotations, said in (({}, ["vm.image", "encrypted (LUKS)", KEY]), ({KEY: wrong}, ["vm.image", "key slots"]),
                              ({KEY: "key"}, ["annotation " + KEY, '"key"', "absolute"]),
                              ({KEY: key + "-"}, ["annotation " + KEY, key + "-", "does not exist"])):
        c.conf["annotations"] = annotations
        c.run(*VM, timeout=BOOT).failed(*said)
    c.conf["annotations"] = {KEY: key}
    c.conf["vm"]["image"] = {"path": os.path.join(tmp, "root.raw"), "format": "raw"}
    c.run(*VM).failed("annotation " + KEY, "only qcow2")


def test_disk_beside_the_root(disk, tmp):
    """With the annotations the image is a disk beside the root of root.path, and what the guest writes to it is dropped.
    This works with a raw image and with a format that is only read."""
    c, image, raw = disk("mknod /dev/d b $(sed 's/:/ /' /sys/block/vda/dev); cat /etc/hostname; dd if=/dev/d bs=1k skip=1 count=1 "
                         "2>/dev/null | md5sum; echo written >/dev/d; sync; head -c 8 /dev/d; touch /here", "vmdk")
    put_hostname(c, "of the share\n")
    config.all_caps(c.conf)
    c.conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
    use = {"io.caisson.vm.image.use": "disk", "io.caisson.vm.image.snapshot": "true"}
    with open(raw, "rb") as f:
        want = hashlib.md5(f.read(2048)[1024:]).hexdigest()
    for path, form in ((image, "vmdk"), (raw, "raw")):
        c.conf["vm"]["image"] = {"path": path, "format": form}
        c.conf["annotations"] = use
        before = read_bytes(path)
        out = c.run(*VM, timeout=BOOT).ok().out
        assert out == f"of the share\n{want}  -\nwritten\n", out
        assert read_bytes(path) == before and os.path.exists(c.path("here"))
    c.conf["annotations"] = {**use, "io.caisson.vm.image.use": "root-ish"}
    c.run(*VM).failed("annotation io.caisson.vm.image.use", '"root-ish"', "expected root")
    c.conf["annotations"] = {**use, "io.caisson.vm.image.snapshot": "yes"}
    c.run(*VM).failed("annotation io.caisson.vm.image.snapshot", '"yes"', "expected true")


def put_hostname(c, text):
    with open(c.path("etc/hostname"), "w") as f:
        f.write(text)


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_resize_while_it_runs(disk, tmp, form):
    """`caisson disk resize` makes the disk of a running machine larger, and the guest sees it at once. The machine's disk
    does not become smaller."""
    c, image, raw = disk("mknod /dev/d b $(sed 's/:/ /' /sys/block/vda/dev); until test -e /end; do sleep 0.1; done", annotations={})
    if form == "raw":
        image = c.conf["vm"]["image"]["path"] = raw
        c.conf["vm"]["image"]["format"] = form
    config.all_caps(c.conf)
    c.conf["linux"].setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
    c.conf["annotations"] = {"io.caisson.vm.image.use": "disk"}
    c.up(*VM, timeout=BOOT)

    def resize(size):
        return c.rt("disk", "resize", "-f", form, image, size)

    def sectors():
        return int(c.exec("cat", "/sys/block/vda/size").ok().out)

    assert sectors() == 64 << 11
    assert resize("96M").ok().out == "Image resized.\n"
    runtime.wait_for(lambda: sectors() == 96 << 11, "the guest to see the larger disk", timeout=60)
    resize("+4M").ok()
    runtime.wait_for(lambda: sectors() == 100 << 11, "the guest to see the larger disk", timeout=60)
    c.exec("sh", "-c", "echo at the end | dd of=/dev/d bs=1M seek=99 conv=fsync 2>/dev/null").ok()
    resize("64M").failed("in use", "only grows")
    c.rt("update", "--disk-size", "64M", c.id).failed("--disk-size", "more")
    # Nothing makes the disk smaller again, so it only grows when all else is done.
    c.rt("update", "--disk-size", "120M", "--add-disk", "nothing", c.id).failed("--add-disk nothing")
    c.rt("update", "--disk-size", "120M", "--rm-disk", "/dev/none", c.id).failed("--rm-disk /dev/none")
    c.rt("update", "--disk-size", "120M", "--memory", "900g", c.id).failed("memory.limit")
    c.rt("update", "--disk-size", "120M", "--cpu-rt-period", "5", c.id).failed("cpu.realtimePeriod")
    c.rt("update", "--pids-limit", "500", c.id).ok()
    c.rt("update", "--disk-size", "64M", "--pids-limit", "400", c.id).failed("--disk-size", "more")
    c.rt("update", "--pids-limit", "400", "--disk-size", "large", c.id).failed("--disk-size large", "expected a size")
    assert c.exec("cat", "/sys/fs/cgroup/pids.max").ok().out == "500\n"
    assert sectors() == 100 << 11
    c.exec("touch", "/end").ok()
    c.wait(timeout=60)
    c.delete()
    if form == "qcow2":
        sound(image)
    assert '"virtual-size": 104857600,' in img("info", "--output=json", "-f", form, image)
    img("convert", "-f", form, "-O", "raw", image, os.path.join(tmp, "content"))
    assert read_bytes(os.path.join(tmp, "content"))[99 << 20:].startswith(b"at the end\n")
