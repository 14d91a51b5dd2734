# SPDX-License-Identifier: Apache-2.0
"""Tests the virtio-fs server with a real guest: Debian's kernel on QEMU, in software. The guest's /init
(virtiofs_guest.c) runs one case after the other on a read-write and a read-only share. This file reads the results,
and compares on the host what the guest has left.
"""
import ctypes
import glob
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
CACHE = os.environ.get("CAISSON_TEST_CACHE", "/var/cache/caisson-tests")
MODULES = ("virtio_pci", "virtiofs")
CASES = ("create append rename link symlink xattr acl acl_submount posix_locks flock mmap large sparse fallocate copy_range tmpfile "
         "unlink_open directories readdir remove_while_reading permissions set_id mknod times statfs submount programs read_only "
         "host_changes").split()
TIMEOUT = 85


def tool(name):
    """Returns the path of a program of the test build."""
    build = os.environ.get("CAISSON_BUILD", os.path.join(os.path.dirname(TESTS), "build"))
    path = os.path.join(build, "tests", name)
    assert os.access(path, os.X_OK), f"{path} is not built"
    return path


def load_order(tree, names):
    """Returns the files of the modules and of those that they need, in the order of loading."""
    deps = {}
    with open(os.path.join(tree, "modules.dep")) as f:
        for line in f:
            file, needs = line.split(":")
            name = os.path.basename(file).split(".")[0].replace("-", "_")
            deps[name] = list(reversed(needs.split())) + [file]
    files = []
    for n in names:
        for f in deps.get(n, ()):  # a module without a file is built into the kernel
            if f not in files:
                files.append(f)
    return files


def make_initramfs(work, modules):
    root = os.path.join(work, "initramfs.d")
    for d in ("bin", "dev", "proc", "mod", "etc", "rw", "ro"):
        os.makedirs(os.path.join(root, d))
    shutil.copy("/bin/busybox", os.path.join(root, "bin"))
    os.symlink("busybox", os.path.join(root, "bin/sh"))
    shutil.copy(tool("virtiofs_guest"), os.path.join(root, "init"))
    tree = glob.glob(os.path.join(modules, "*"))[0]
    with open(os.path.join(root, "mod/order"), "w") as order:
        for f in load_order(tree, MODULES):
            shutil.copy(os.path.join(tree, f), os.path.join(root, "mod"))
            order.write(os.path.basename(f) + "\n")
    out = os.path.join(work, "initramfs")
    subprocess.run(f"find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet >{out}", shell=True, check=True, cwd=root)
    return out


def mount_new(where, kind):
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"vmfs-test", where.encode(), kind.encode(), 0, None) == 0, os.strerror(ctypes.get_errno())


def fill_shares(rw, ro):
    os.makedirs(os.path.join(rw, "many"))
    for i in range(10000):
        with open(os.path.join(rw, "many", f"f{i}"), "wb") as f:
            f.write(b"x" * i if i % 100 == 0 or i < 100 else b"")
            f.truncate(i)
    os.mknod(os.path.join(rw, "host-null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkdir(os.path.join(rw, "mounted"))
    mount_new(os.path.join(rw, "mounted"), "tmpfs")
    with open(os.path.join(rw, "mounted/host"), "w") as f:
        f.write("under")
    # For ramfs, as for tmpfs before Linux 6.6, a position in a directory is a number of entries.
    os.makedirs(os.path.join(rw, "crowded"))
    mount_new(os.path.join(rw, "crowded"), "ramfs")
    for d in ("slow", "fast"):
        os.mkdir(os.path.join(rw, "crowded", d))
        for i in range(1000):
            os.mknod(os.path.join(rw, "crowded", d, f"f{i}"))
    with open(os.path.join(ro, "file"), "w") as f:
        f.write("read only")


class Guest:
    """Runs the guest once, with both shares."""

    def __init__(self, work, image):
        self.work, self.image = work, image
        self.rw, self.ro = os.path.join(work, "rw"), os.path.join(work, "ro")
        self.lines, self.times, self.servers, self.jail = [], [], {}, {}
        self.rc, self.stuck = None, []

    def start_server(self, name, *options):
        sock = os.path.join(self.work, name + ".sock")
        p = subprocess.Popen([tool("vmfs_main"), sock, os.path.join(self.work, name), *options],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "ready\n", p.stderr.read()
        self.servers[name] = p
        return ["-chardev", f"socket,id={name},path={sock}",
                "-device", f"vhost-user-fs-pci,chardev={name},tag={name},queue-size=256"]

    def run(self):
        kernel, modules = os.path.join(self.image, "vmlinux"), os.path.join(self.image, "modules")
        cmd = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-machine", "q35,memory-backend=ram", "-accel", "tcg", "-cpu", "max", "-m", "384M",
               "-object", "memory-backend-memfd,id=ram,size=384M,share=on",
               "-kernel", kernel, "-initrd", make_initramfs(self.work, modules),
               "-append", "console=ttyS0 quiet panic=-1", "-serial", "stdio",
               *self.start_server("rw", "locks"), *self.start_server("ro", "ro")]
        qemu = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, errors="replace")
        timer = threading.Timer(TIMEOUT, self.give_up, (qemu,))
        timer.start()
        # A guest would wait without end for a server that has died.
        for p in self.servers.values():
            threading.Thread(target=lambda s=p: (s.wait(), time.sleep(2), qemu.kill()), daemon=True).start()
        began = time.monotonic()
        for line in qemu.stdout:
            self.lines.append(line.strip())
            self.times.append(time.monotonic() - began)
            if line.startswith("# host: change"):
                self.change()
            if line.startswith("ok create"):
                self.jail = {n: self.look(p.pid) for n, p in self.servers.items()}
        self.rc = qemu.wait()
        timer.cancel()
        # The monitor has ended, so the servers end by themselves.
        self.ends = {n: self.end(p) for n, p in self.servers.items()}

    def give_up(self, qemu):
        """Reports that the time is over, with the servers' stacks, which show which side hangs."""
        for name, p in self.servers.items():
            for what in ("stack", "syscall"):
                try:
                    with open(f"/proc/{p.pid}/{what}") as f:
                        self.stuck.append(f"{name} {what}: " + f.read().replace("\n", " "))
                except OSError as e:
                    self.stuck.append(f"{name} {what}: {e}")
        qemu.kill()

    def log(self):
        lines = [f"[{t:6.2f}] {line}" for t, line in zip(self.times, self.lines)]
        return "\n".join([*lines[-60:], *self.stuck, f"QEMU: {self.rc}, servers: {self.ends}"])

    def change(self):
        time.sleep(0.5)
        with open(os.path.join(self.rw, "seen"), "w") as f:
            f.write("second!")
        with open(os.path.join(self.rw, "made-by-host"), "w") as f:
            f.write("yes")

    @staticmethod
    def look(pid):
        """Reads the server's confinement while it serves."""
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        with open(f"/proc/{pid}/mountinfo") as f:
            mounts = [line.split() for line in f]
        with open(f"/proc/{pid}/net/dev") as f:
            interfaces = [line.split(":")[0].strip() for line in f if ":" in line]
        return {"status": status, "mounts": mounts, "interfaces": interfaces}

    @staticmethod
    def end(p):
        try:
            rc = p.wait(10)
        except subprocess.TimeoutExpired:
            p.kill()
            rc = "did not end"
        return rc, p.stderr.read()


@pytest.fixture(scope="module")
def guest():
    image = subprocess.run(["bash", os.path.join(TESTS, "host/image.sh"), CACHE], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.split()[-1]
    # The shares are not on a tmpfs, because extended attributes, O_TMPFILE and holes must be those of a disk's file
    # system.
    work = tempfile.mkdtemp(prefix="caisson-virtiofs.", dir="/var/tmp")
    g = Guest(work, image)
    try:
        os.mkdir(g.rw)
        os.mkdir(g.ro)
        fill_shares(g.rw, g.ro)
        g.run()
        yield g
    finally:
        for p in g.servers.values():
            if p.poll() is None:
                p.send_signal(signal.SIGKILL)
                p.wait()
        subprocess.run(["umount", os.path.join(g.rw, "mounted"), os.path.join(g.rw, "crowded")], check=False)
        shutil.rmtree(work)


def test_guest_ran_to_its_end(guest):
    assert "done" in guest.lines and guest.rc == 0, guest.log()
    print(guest.log())


@pytest.mark.parametrize("case", CASES)
def test_case(guest, case):
    at = next((i for i, line in enumerate(guest.lines) if line.split(":")[0] in (f"ok {case}", f"not ok {case}")), None)
    assert at is not None, "the guest did not come to it:\n" + "\n".join(guest.lines[-20:])
    assert guest.lines[at] == f"ok {case}", "\n".join(guest.lines[max(0, at - 5):at + 1])


def test_servers_end_with_the_monitor(guest):
    assert guest.ends == {"rw": (0, ""), "ro": (0, "")}


def path(guest, *parts):
    return os.path.join(guest.rw, *parts)


def read(guest, *parts):
    with open(path(guest, *parts), "rb") as f:
        return f.read()


def test_large_file_has_arrived(guest):
    assert read(guest, "large/large") == b"".join(bytes([i + 1]) * (1 << 20) for i in range(32))


def test_owners_on_the_host(guest):
    st = os.stat(path(guest, "permissions/open/mine"))
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 1000, 0o644)
    st = os.stat(path(guest, "permissions/group/file"))
    assert (st.st_uid, st.st_gid) == (1000, 2000)
    assert os.stat(path(guest, "create/new")).st_uid == 0
    assert stat.S_IMODE(os.stat(path(guest, "set_id/set-id")).st_mode) == 0o777


def test_attributes_on_the_host(guest):
    st = os.stat(path(guest, "times/file"))
    assert st.st_atime_ns == 1000000001123456789
    assert os.getxattr(path(guest, "xattr/file"), "user.two") == b"v" * 2000
    assert "system.posix_acl_access" in os.listxattr(path(guest, "acl/shared"))


def test_links_on_the_host(guest):
    assert os.readlink(path(guest, "symlink/abs")) == "/etc/passwd"
    assert read(guest, "rename/e/c") == b"A"
    assert read(guest, "tmpfile/named") == b"nameless"
    assert os.stat(path(guest, "programs/v/a/b/f1")).st_nlink == 2


def test_no_device_reached_the_host(guest):
    assert stat.S_ISFIFO(os.stat(path(guest, "mknod/fifo")).st_mode)
    assert sorted(os.listdir(path(guest, "mknod"))) == ["fifo", "socket", "whiteout"]
    st = os.stat(path(guest, "mknod/whiteout"))
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def test_deleted_files_are_gone(guest):
    left = set(os.listdir(path(guest, "many")))
    assert left == {f"f{i}" for i in range(10000) if i % 10}
    assert sorted(os.listdir(path(guest, "programs"))) == ["busybox", "t.tar", "v"]


def test_read_only_share_is_as_it_was(guest):
    assert os.listdir(guest.ro) == ["file"]
    with open(os.path.join(guest.ro, "file")) as f:
        assert f.read() == "read only"
    # Writing is refused twice: by the server, and by a read-only mount that the server can't change.
    assert "ro" in guest.jail["ro"]["mounts"][0][5].split(",")


@pytest.mark.parametrize("name", ["rw", "ro"])
def test_server_is_confined(guest, name):
    jail = guest.jail[name]
    points = [m[4] for m in jail["mounts"]]
    assert points == (["/", "/mounted", "/crowded"] if name == "rw" else ["/"])
    for m in jail["mounts"]:
        assert {"nosuid", "nodev", "noexec", "nosymfollow"} <= set(m[5].split(",")), m
    assert jail["interfaces"] == ["lo"]
    # CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID SETGID SETUID MKNOD SETFCAP
    assert int(jail["status"]["CapPrm"], 16) == 0x880000DF
    assert int(jail["status"]["CapBnd"], 16) == int(jail["status"]["CapAmb"], 16) == 0
    assert jail["status"]["Seccomp"] == "2" and jail["status"]["NoNewPrivs"] == "1"
