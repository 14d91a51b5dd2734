# SPDX-License-Identifier: Apache-2.0
"""Makes root file systems: a tiny one of busybox for every test, and Debian for tests of real programs."""
import contextlib
import os
import shutil
import subprocess

from . import machine

CACHE = os.environ.get("CAISSON_CACHE", "/var/cache/caisson-tests")
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(os.path.dirname(HERE))

APPLETS = """sh ash cat echo ls id true false sleep mkdir rmdir touch rm ln mv cp chmod chown stat env printf
 head tail wc sort grep sed awk tr cut test kill ps mount umount hostname dnsdomainname readlink
 pwd dd mknod df find seq stty tty dmesg nc ip ifconfig ping wget httpd date uname sync sysctl nproc
 mkfifo realpath whoami cmp md5sum ulimit setsid usleep tee xargs expr basename""".split()

PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
GROUP = "root:x:0:\nuser:x:1000:\naudio:x:29:user\nnogroup:x:65534:\n"


def build_probe(dest):
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", dest, os.path.join(HERE, "probe.c")],
                   check=True)
    return dest


def make_busybox(dest, probe):
    """Makes a root file system of about 2 MB: busybox, /bin/probe, passwd and group."""
    for d in "bin dev etc home/user proc root run sys tmp var/tmp usr/bin".split():
        os.makedirs(os.path.join(dest, d))
    os.chmod(os.path.join(dest, "tmp"), 0o1777)
    shutil.copy("/bin/busybox", os.path.join(dest, "bin/busybox"))
    shutil.copy(probe, os.path.join(dest, "bin/probe"))
    for a in APPLETS:
        os.symlink("busybox", os.path.join(dest, "bin", a))
    with open(os.path.join(dest, "etc/passwd"), "w") as f:
        f.write(PASSWD)
    with open(os.path.join(dest, "etc/group"), "w") as f:
        f.write(GROUP)
    return dest


def copy(template, dest):
    """Makes a test's own copy, which it may change. Regular files are copied and not linked."""
    shutil.copytree(template, dest, symlinks=True)
    return dest


@contextlib.contextmanager
def overlays(ctr):
    """
    Returns a function that makes a bundle whose root is a new overlay over a tree. Afterwards the containers are
    removed, then the overlays.
    """
    mounted = []

    def bundle(lower):
        b = ctr.bundle(copy=False)
        for d in ("rootfs", "up", "wk"):
            os.mkdir(os.path.join(b, d))
        machine.mount("overlay", b + "/rootfs", "overlay", data=f"lowerdir={lower},upperdir={b}/up,workdir={b}/wk")
        mounted.append(b + "/rootfs")
        return b

    try:
        yield bundle
    finally:
        ctr.clean()
        for path in mounted:
            machine.umount(path, 0)


def debian(*packages):
    """Returns the path of a cached, unpacked Debian with these packages, or, without packages, with those that most
    tests share (lib/debian-rootfs). Tests must not write to it: they use it as a lower layer."""
    r = machine.outside([os.path.join(TESTS, "lib", "debian-rootfs"), *packages],
                        stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if r.returncode:
        raise RuntimeError("tests/lib/debian-rootfs failed")
    return r.stdout.strip().splitlines()[-1]
