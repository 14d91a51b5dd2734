# SPDX-License-Identifier: Apache-2.0
"""Tries the published attacks on container runtimes against caisson. The root file system is hostile, the config is
trusted. In every case caisson may refuse the container or run it; the assertions say what must hold."""
import ctypes
import hashlib
import os
import subprocess
import threading
import time

import pytest
from harness import config, machine, mode, user
from harness.runtime import status_of, wait_for

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
RENAME_EXCHANGE = 2
AT_FDCWD = -100


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def tree(path):
    """Lists everything beneath path with type, size and mode, so that a test can see that the host is unchanged."""
    out = {}
    for d, dirs, files in os.walk(path):
        for n in dirs + files:
            p = os.path.join(d, n)
            st = os.lstat(p)
            out[os.path.relpath(p, path)] = (st.st_mode, st.st_uid, st.st_rdev, st.st_size if not os.path.isdir(p) else 0)
    return out


@pytest.fixture
def victim(tmp):
    """A directory of the host that the container must not touch."""
    d = os.path.join(tmp, "victim")
    os.makedirs(os.path.join(d, "dir"))
    with open(os.path.join(d, "file"), "w") as f:
        f.write("precious\n")
    if user.ALL:
        user.own(d)  # otherwise the user's caisson could not change it, whatever it did
    before = tree(d)
    yield d
    assert tree(d) == before, "the host was changed"
    with open(os.path.join(d, "file")) as f:
        assert f.read() == "precious\n"


class Swapper:
    """Exchanges two names as fast as it can (renameat2 RENAME_EXCHANGE) while the test runs."""

    def __init__(self, a, b):
        self.a, self.b, self.n, self.stop = a.encode(), b.encode(), 0, threading.Event()
        self.libc = ctypes.CDLL(None)
        self.thread = threading.Thread(target=self._go)

    def _go(self):
        while not self.stop.is_set():
            for _ in range(50):
                self.libc.renameat2(AT_FDCWD, self.a, AT_FDCWD, self.b, RENAME_EXCHANGE)
            self.n += 50

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


# ---- CVE-2019-5736: the runtime's binary overwritten through /proc/self/exe ----

@pytest.mark.parametrize("how", ["run", "exec"])
def test_2019_5736_entrypoint_is_proc_self_exe(ctr, binary, how):
    before = sha(binary)
    if how == "run":
        c = ctr("/proc/self/exe", "list")
        r = c.run(timeout=15)
    else:
        c = ctr.idle().up()
        r = c.exec("/proc/self/exe", timeout=15)
    assert sha(binary) == before
    # The runtime must never start again inside of the container.
    assert "OWNER" not in r.out and r.rc != 0, r


def test_2019_5736_script_with_the_interpreter_proc_self_exe(ctr, binary):
    before = sha(binary)
    c = ctr("/bin/evil")
    with open(c.path("/bin/evil"), "w") as f:
        f.write("#!/proc/self/exe\n")
    os.chmod(c.path("/bin/evil"), 0o755)
    r = c.run(timeout=15)
    assert r.rc != 0 and sha(binary) == before


def test_2019_5736_exec_process_cannot_be_opened_for_writing(ctr, binary):
    """A process inside watches for the joining runtime and tries to open its /proc/PID/exe for writing."""
    before = sha(binary)
    watch = ("n=0; while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] && continue; "
             "l=$(readlink $p/exe 2>/dev/null) || continue; case $l in /bin/*) continue;; esac; echo \"seen $l\"; "
             "(echo overwritten > $p/exe) 2>/dev/null && echo WRITTEN; done; done")
    c = ctr.sh(watch)
    config.all_caps(c.conf)
    c.up()
    for _ in range(mode.times(30)):
        c.exec("true").ok()
    assert "WRITTEN" not in c.output()
    assert sha(binary) == before


def test_2019_5736_create_leaves_no_way_to_the_binary(ctr, binary):
    """Between create and start the container's process runs the runtime's code. Its /proc/PID/exe must not be the
    host's file."""
    c = ctr("true")
    c.create()
    before = sha(binary)
    exe = f"/proc/{c.pid()}/exe"
    try:
        fd = os.open(exe, os.O_WRONLY)
    except OSError:
        fd = -1  # ETXTBSY or EPERM, as it should be
    if fd >= 0:
        os.close(fd)
        assert os.stat(exe).st_ino != os.stat(binary).st_ino, "the host's own file could be opened for writing"
    c.start()
    c.wait()
    assert sha(binary) == before


# ---- CVE-2019-16884: a volume over /proc defeats the LSM label ----

def test_2019_16884_volume_over_proc(ctr, tmp):
    fake = os.path.join(tmp, "fake-proc")
    os.makedirs(os.path.join(fake, "self", "attr"))
    for n in ("self/attr/exec", "self/attr/current", "self/status"):
        open(os.path.join(fake, n), "w").close()
    c = ctr("true", apparmorProfile="container-default")
    c.conf["mounts"].append({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]})
    r = c.run()
    assert open(os.path.join(fake, "self/attr/exec")).read() == "", "the label was written to a file of the image"
    if not (os.path.exists("/sys/module/apparmor/parameters/enabled")
            and open("/sys/module/apparmor/parameters/enabled").read().startswith("Y")):
        assert r.rc != 0, "a label was asked for that nothing can enforce"


# ---- CVE-2019-18837: making a mount point follows a symlink of the rootfs ----

def test_2019_18837_mount_point_through_a_symlink(ctr, victim, tmp):
    src = os.path.join(tmp, "resolv.conf")
    open(src, "w").close()
    c = ctr("true")
    os.symlink(os.path.join(victim, "new"), c.path("/etc/resolv.conf"))
    os.symlink(victim, c.path("/opt"))
    c.conf["mounts"] += [{"destination": "/etc/resolv.conf", "type": "bind", "source": src, "options": ["bind"]},
                         {"destination": "/opt/a/b", "type": "tmpfs", "source": "tmpfs"}]
    c.run()


# ---- CVE-2019-19921, 2023-27561, 2023-28642, 2025-54867: /proc or /sys are symlinks ----

@pytest.mark.parametrize("name", ["proc", "sys"])
def test_2019_19921_proc_is_a_symlink(ctr, victim, name):
    c = ctr("true")
    os.rmdir(c.path(name))
    os.symlink("/tmp", c.path(name))
    r = c.run()
    assert r.rc != 0 and name in r.err, r


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_2025_54867_symlink_to_the_host(ctr, victim, name):
    c = ctr("true")
    os.rmdir(c.path(name))
    os.symlink("../" * 20 + victim, c.path(name))
    assert c.run().rc != 0


def test_2023_27561_proc_symlink_race_on_a_shared_volume(ctr, tmp):
    vol = os.path.join(tmp, "vol")
    os.makedirs(os.path.join(vol, "proc-dir"))
    os.symlink("/etc", os.path.join(vol, "proc-link"))
    with Swapper(os.path.join(vol, "proc-dir"), os.path.join(vol, "proc-link")) as s:
        for _ in range(mode.times(15)):
            c = ctr("true")
            os.rmdir(c.path("/proc"))
            os.symlink("/vol/proc-dir", c.path("/proc"))
            c.conf["mounts"].insert(0, {"destination": "/vol", "type": "bind", "source": vol, "options": ["bind"]})
            assert c.run().rc != 0
    assert s.n > 100


# ---- CVE-2021-30465, 2024-45310: a mount destination is swapped for a symlink while the container is made ----

def test_2021_30465_destination_swapped(ctr, tmp, victim):
    vol = os.path.join(tmp, "vol")
    os.makedirs(os.path.join(vol, "dest"))
    os.symlink("../" * 20 + victim, os.path.join(vol, "link"))
    started = time.monotonic()
    runs = 0
    with Swapper(os.path.join(vol, "dest"), os.path.join(vol, "link")) as s:
        while s.n < 10000 or runs < mode.times(25):
            c = ctr("true")
            c.conf["mounts"] += [{"destination": "/vol", "type": "bind", "source": vol, "options": ["rbind"]},
                                 {"destination": "/vol/dest", "type": "tmpfs", "source": "tmpfs"},
                                 {"destination": "/vol/dest/sub/deep", "type": "tmpfs", "source": "tmpfs"}]
            c.run()
            runs += 1
            assert time.monotonic() - started < 60 * mode.SCALE


def test_2024_45310_mkdir_all_race(ctr, tmp, victim):
    vol = os.path.join(tmp, "vol")
    os.makedirs(os.path.join(vol, "a"))
    os.symlink("../" * 20 + victim, os.path.join(vol, "b"))
    with Swapper(os.path.join(vol, "a"), os.path.join(vol, "b")):
        for i in range(mode.times(25)):
            c = ctr("true")
            c.conf["mounts"] += [{"destination": "/vol", "type": "bind", "source": vol, "options": ["rbind"]},
                                 {"destination": f"/vol/a/x{i}/y/z", "type": "tmpfs", "source": "tmpfs"}]
            c.run()


# ---- CVE-2021-43784: a 16-bit length overflows ----

def test_2021_43784_namespace_paths_longer_than_64_kib(ctr):
    c = ctr("true")
    config.namespaces(c.conf, paths={"network": "/" + "x/" * 40000})
    c.run().failed()


def test_2021_43784_many_mappings_and_long_strings(ctr):
    c = ctr("true")
    config.namespaces(c.conf, "user")
    m = [{"containerID": i, "hostID": 100000 + 2 * i, "size": 1} for i in range(5000)]
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = m
    r = c.run()
    assert r.rc != 0, "the kernel takes 340; the rest must not be lost silently"


# ---- CVE-2022-27650, 2022-29162, 2025-27612: exec sets inheritable capabilities ----

@pytest.mark.parametrize("opts", [[], ["--cap", "CAP_SYS_PTRACE"], ["--user", "1000"], ["--user", "1000", "--cap", "CAP_NET_RAW"]])
def test_2022_29162_exec_has_no_inheritable_capabilities(ctr, opts):
    c = ctr.idle().up()
    s = status_of(c.exec("probe", "info", opts=opts).ok().out)
    assert int(s["CapInh"], 16) == 0 and int(s["CapAmb"], 16) == 0


def test_2025_27612_default_spec_has_no_inheritable_capabilities(ctr, rt):
    import json
    b = ctr.bundle()
    rt("spec", "--bundle", b).ok()
    with open(os.path.join(b, "config.json")) as f:
        caps = json.load(f)["process"]["capabilities"]
    assert not caps.get("inheritable") and not caps.get("ambient")


# ---- CVE-2023-25809: /sys/fs/cgroup writable (rootless: test_rootless.py) ----

def test_2023_25809_cgroup_mount_without_a_cgroup_namespace(ctr):
    c = ctr.sh("mkdir /sys/fs/cgroup/x; echo 1 > /sys/fs/cgroup/cgroup.procs")
    config.namespaces(c.conf, drop=("cgroup",))
    r = c.run()
    assert r.rc != 0 and r.err.count("Read-only file system") == 2, r


# ---- CVE-2024-21626: leaked descriptors and a working directory through them ----

@pytest.mark.parametrize("fd", range(3, 21))
def test_2024_21626_cwd_through_a_descriptor(ctr, fd):
    c = ctr.sh("ls; cat ../../../../etc/hostname", cwd=f"/proc/self/fd/{fd}")
    r = c.run()
    assert r.rc != 0 and "cwd" in r.err, r


def test_2024_21626_symlinked_cwd(ctr):
    for fd in (3, 5, 7, 8, 9):
        c = ctr("pwd", cwd="/work")
        os.symlink(f"/proc/self/fd/{fd}", c.path("/work"))
        r = c.run()
        assert r.rc != 0, r


def test_2024_21626_exec_cwd(ctr):
    c = ctr.idle().up()
    for fd in range(3, 21):
        r = c.exec("pwd", opts=["--cwd", f"/proc/self/fd/{fd}"])
        assert r.rc != 0, r


def test_2024_21626_program_through_a_descriptor(ctr):
    for fd in range(3, 12):
        c = ctr(f"/proc/self/fd/{fd}/../../../../../../bin/true")
        assert c.run().rc != 0


def test_2024_21626_only_stdio_is_open(ctr, rt):
    rt.prefix = ["bash", "-c", 'exec 8</ 9</sys/fs/cgroup; exec "$@"', "sh", *rt.prefix]
    c = ctr("probe", "fds").write()
    assert [l.split()[0] for l in c.run().ok().out.splitlines()] == ["0", "1", "2"]


# ---- CVE-2025-24965: a configuration file is written through a symlink ----

def test_2025_24965_files_of_the_rootfs_are_symlinks(ctr, victim):
    """Files that the runtime creates in a rootfs must not go through links of the image."""
    c = ctr("true")
    for n in (".krun_config.json", ".krun_vm.json", "run/.containerenv", "etc/hostname", "etc/mtab", "etc/resolv.conf"):
        os.makedirs(os.path.dirname(c.path(n)), exist_ok=True)
        os.symlink(os.path.join(victim, "new-" + os.path.basename(n)), c.path(n))
    c.run()


# ---- CVE-2025-31133, 2025-62161: masking binds the attacker's /dev/null ----

@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/etc/passwd", "/dev/zero"])
def test_2025_31133_dev_null_of_the_rootfs(ctr, victim, target):
    """Masked files are empty even if the root file system's /dev/null is a link and no /dev is mounted over it."""
    c = ctr.sh("cat /etc/hidden; echo x > /etc/hidden; ls -l /dev/null")
    with open(c.path("/etc/hidden"), "w") as f:
        f.write("secret")
    os.symlink(target, c.path("/dev/null"))
    c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
    c.conf["linux"]["maskedPaths"].append("/etc/hidden")
    passwd = sha(c.path("/etc/passwd"))
    before = open("/proc/sys/kernel/core_pattern").read()
    r = c.run()
    if r.rc == 0:
        assert "root:" not in r.out and "secret" not in r.out, r
    assert sha(c.path("/etc/passwd")) == passwd
    assert open("/proc/sys/kernel/core_pattern").read() == before


def test_2025_31133_masked_path_is_the_null_device(ctr):
    c = ctr.sh("stat -c '%F %t:%T' /etc/hidden")
    open(c.path("/etc/hidden"), "w").close()
    c.conf["linux"]["maskedPaths"].append("/etc/hidden")
    assert c.run().ok().out == "character special file 1:3\n"


def test_2025_31133_null_is_a_regular_file_of_the_image(ctr):
    c = ctr.sh("cat /etc/hidden")
    with open(c.path("/etc/hidden"), "w") as f:
        f.write("secret")
    with open(c.path("/dev/null"), "w") as f:
        f.write("attacker")
    c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
    c.conf["linux"]["maskedPaths"].append("/etc/hidden")
    r = c.run()
    assert "secret" not in r.out and "attacker" not in r.out, r


# ---- CVE-2025-52565: /dev/console binds a swapped pts ----

def test_2025_52565_pts_is_a_symlink(ctr, tmp, victim):
    from harness.pty_ import Receiver, read_all
    c = ctr.sh("stat -c %F /dev/console; echo x > /dev/console", terminal=True)
    c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
    os.makedirs(c.path("/dev"), exist_ok=True)
    os.symlink("../" * 20 + victim + "/dir", c.path("/dev/pts"))
    os.symlink("../" * 20 + victim + "/file", c.path("/dev/console"))
    with Receiver(os.path.join(tmp, "console")) as rcv:
        r = c.create("--console-socket", rcv.path, check=False)
        if r.rc == 0:
            rcv.wait()
            c.start()
            c.wait()


# ---- CVE-2025-52881, 2025-62596: a write to /proc is redirected ----

def test_2025_52881_tmpfs_over_proc_self_attr(ctr, tmp):
    """If something is mounted over the files in /proc that the runtime writes, the runtime must use a private procfs
    or refuse the container."""
    c = ctr("cat", "/proc/sys/net/ipv4/ip_forward")
    c.conf["mounts"] += [{"destination": "/proc/sys/net", "type": "tmpfs", "source": "tmpfs"}]
    c.conf["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    with open("/proc/sys/net/ipv4/ip_forward") as f:
        before = f.read()
    c.run()
    with open("/proc/sys/net/ipv4/ip_forward") as f:
        assert f.read() == before, "the sysctl went to the host's namespace"


@pytest.mark.parametrize("over", ["/proc/self/attr", "/proc/sys", "/proc/thread-self", "/proc/1"])
def test_2025_52881_sysctl_and_labels_land_where_they_should(ctr, tmp, over, victim):
    c = ctr.sh("cat /proc/sys/kernel/shmmax")
    src = os.path.join(tmp, "fake")
    os.makedirs(os.path.join(src, "kernel"))
    os.symlink("../" * 20 + victim + "/file", os.path.join(src, "kernel", "shmmax"))
    os.symlink("../" * 20 + victim + "/file", os.path.join(src, "exec"))
    c.conf["mounts"].append({"destination": over, "type": "bind", "source": src, "options": ["bind"]})
    c.conf["linux"]["sysctl"] = {"kernel.shmmax": "123456"}
    c.run()


# ---- CVE-2026-30892: exec -u 1 becomes uid 0 ----

@pytest.mark.parametrize("user", ["1", "1:1", "65534", "2:0"])
def test_2026_30892_exec_user(ctr, user):
    c = ctr.idle().up()
    uid, _, gid = user.partition(":")
    assert c.exec("sh", "-c", "id -u; id -g", opts=["-u", user]).ok().out.split() == [uid, gid or "0"]


# ---- CVE-2026-47766, 2026-41579: /dev of the rootfs leads to the host ----

@pytest.mark.parametrize("with_mounts", [True, False])
def test_2026_47766_dev_is_a_symlink(ctr, victim, with_mounts):
    c = ctr("true")
    os.rmdir(c.path("/dev"))
    os.symlink("../" * 20 + victim, c.path("/dev"))
    if not with_mounts:
        c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
    c.conf["linux"]["devices"] = [{"path": "/dev/file", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 7, "gid": 7}]
    c.run()


# ---- CVE-2026-88264, 2026-88265: /dev/console and /dev/null with symlinks and no /dev mount ----

def test_2026_88264_no_dev_mount_and_symlinks(ctr, victim, tmp):
    from harness.pty_ import Receiver
    for terminal in (False, True):
        c = ctr("true", terminal=terminal)
        c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
        for n in ("console", "null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr"):
            os.symlink("../" * 20 + os.path.join(victim, "file" if n in ("console", "null") else "new-" + n), c.path("/dev", n))
        if terminal:
            with Receiver(os.path.join(tmp, "console")) as rcv:
                if c.create("--console-socket", rcv.path, check=False).rc == 0:
                    rcv.wait()
                    c.start()
                    c.wait()
        else:
            c.run()


def test_device_nodes_of_the_image_are_not_taken_for_ours(ctr):
    """The image's /dev/null is another device (1:1 is /dev/mem). It must be replaced or refused."""
    c = ctr.sh("stat -c '%t:%T' /dev/null")
    os.mknod(c.path("/dev/null"), 0o20666, os.makedev(1, 1))
    c.conf["mounts"] = [m for m in c.conf["mounts"] if not m["destination"].startswith("/dev")]
    r = c.run()
    assert r.rc != 0 or r.out == "1:3\n", r
