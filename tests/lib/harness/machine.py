# SPDX-License-Identifier: Apache-2.0
"""Gives the session a private corner of the machine, and proves that a test has left nothing in it.

Theory of operation. enter() forks. The parent becomes a child subreaper: every process that a test orphans (a
container's init, a runtime's helper) becomes its child, even after a double fork, and it reaps dead processes at once
as an init does. So the processes that a test has left are exactly the parent's descendants, other than pytest. The
child (pytest) then makes mount and network namespaces of its own, with fresh tmpfs on /run, /tmp, /dev/shm, /etc/caisson
(the machine's networks) and the work directory. All mounts and interfaces that appear there belong to the tests: no other program on the machine
disturbs the comparison, and they disappear if the test run is killed.

cgroups cannot be private in the same way, because a runtime must use the machine's own hierarchy. So cgroup
directories of other programs are recognised by the processes in them.
"""
import ctypes
import os
import re
import signal
import socket
import subprocess
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)

ON_TEST_HOST = "CAISSON_TEST_HOST" in os.environ  # set by tests/host/run
OUTER = 0  # pid of the reaping parent; 0 before enter()
WORK = ""  # the session's own directory, on a tmpfs (on the test host: on its ext4 disk)


def _check(r, what):
    if r < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")
    return r


def mount(source, target, fstype=None, flags=0, data=None):
    enc = lambda s: s.encode() if s is not None else None
    _check(_libc.mount(enc(source), enc(target), enc(fstype), ctypes.c_ulong(flags), enc(data)),
           f"mount {target}")


def umount(target, flags=MNT_DETACH):
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def _reap(child):
    """Runs as the subreaper: waits for all processes, and ends with pytest's exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda sig, _: os.kill(child, sig))
    status = None
    while status is None:
        try:
            pid, st = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            status = st
    for pid, _ in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os._exit(os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 128 + os.WTERMSIG(status))


def _private_tmp(keep):
    """Makes a private /tmp in which the needed directories of the old one keep their paths."""
    keep = [k for k in keep if k.startswith("/tmp/") and os.path.exists(k)]
    fds = [os.open(k, os.O_PATH) for k in keep]
    mount("tmpfs", "/tmp", "tmpfs", data="mode=1777")
    for k, fd in zip(keep, fds):
        os.makedirs(k, exist_ok=True)
        mount(f"/proc/self/fd/{fd}", k, flags=4096 | MS_REC)
        os.close(fd)


def enter(work="/var/tmp", keep=()):
    """Enters the private corner. keep: directories beneath /tmp that the tests need (the source tree, the build)."""
    global OUTER, WORK
    if OUTER:
        return
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    outer = os.getpid()
    child = os.fork()
    if child:
        _reap(child)
    OUTER = outer
    if ON_TEST_HOST:
        # The test host is private already, except /tmp, which has files of the build machine. Its suites need its own
        # /run, where systemd and D-Bus are.
        _private_tmp([*keep, os.environ["CAISSON_OUT"]])
        WORK = os.path.join(os.environ["TMPDIR"], f"caisson-tests.{outer}")
        os.makedirs(WORK)
        return
    WORK = os.path.join(work, f"caisson-tests.{outer}")
    os.makedirs(WORK, exist_ok=True)
    unshare(CLONE_NEWNS | CLONE_NEWNET)
    mount(None, "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", "/run", "tmpfs", data="mode=755")
    for d in ("/dev/shm", "/etc/caisson"):
        os.makedirs(d, exist_ok=True)
        mount("tmpfs", d, "tmpfs", data="mode=755" if d == "/etc/caisson" else None)
    _private_tmp(keep)
    mount("tmpfs", WORK, "tmpfs", data="mode=755")
    if os.environ.get("CAISSON_TEST_PURE_CGROUP2"):
        # A pure hierarchy allows a comparison with a runtime that refuses hybrid hosts (crun).
        umount("/sys/fs/cgroup")
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def leave():
    """Removes the empty mount point under /var/tmp, which is the only thing that outlives the namespaces."""
    os.chdir("/")
    if ON_TEST_HOST:
        return  # nothing outlives the test host
    umount(WORK)
    try:
        os.rmdir(WORK)
    except OSError:
        pass


def outside(argv, **kw):
    """Runs a command in the namespaces from before enter(), because it needs the machine's network."""
    enter_outer = ["nsenter", f"--net=/proc/{OUTER}/ns/net", f"--mount=/proc/{OUTER}/ns/mnt", "--"] if OUTER else []
    return subprocess.run([*enter_outer, *argv], **kw)


# ---- state of the machine ----

def _children(pid):
    out = []
    try:
        for t in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{t}/children") as f:
                out += [int(p) for p in f.read().split()]
    except OSError:
        pass
    return out


def proc_stat(pid):
    """Returns (comm, state, ppid, starttime), or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            s = f.read()
    except OSError:
        return None
    comm, rest = s[s.index("(") + 1:s.rindex(")")], s[s.rindex(")") + 2:].split()
    return comm, rest[0], int(rest[1]), int(rest[19])


def alive(pid):
    st = proc_stat(pid)
    return st is not None and st[1] not in "ZX"


def descendants(root):
    out, todo = [], _children(root)
    while todo:
        p = todo.pop()
        st = proc_stat(p)
        if st:
            out.append((p, st))
            todo += _children(p)
    return out


def processes():
    """Returns {(pid, start time): command} of everything that tests started."""
    me = os.getpid()
    return {(p, st[3]): st[0] for p, st in descendants(OUTER or me) if p != me}


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


def mounts():
    """Returns {mount id: text} of this mount namespace."""
    out = {}
    with open("/proc/self/mountinfo") as f:
        for line in f:
            w = line.split()
            dash = w.index("-")
            out[int(w[0])] = f"{w[4]} {w[dash + 1]} {w[dash + 2]}"
    return out


def cgroup_mounts():
    return [w[4] for w in (l.split() for l in open("/proc/self/mountinfo")) if w[w.index("-") + 1] in
            ("cgroup", "cgroup2")]


def cgroup2_mount():
    for l in open("/proc/self/mountinfo"):
        w = l.split()
        if w[w.index("-") + 1] == "cgroup2":
            return w[4]
    return None


def cgroups():
    out = set()
    for m in cgroup_mounts():
        for d, dirs, _ in os.walk(m):
            out.update(os.path.join(d, x) for x in dirs)
    return out


def cgroup_is_foreign(path):
    """Returns whether the cgroup is in use by processes that no test started."""
    ours = {p for p, _ in processes()} | {os.getpid()}
    found = False
    for d, _, _ in os.walk(path):
        try:
            with open(os.path.join(d, "cgroup.procs")) as f:
                pids = [int(x) for x in f.read().split()]
        except OSError:
            continue
        found = found or bool(pids)
        if any(p in ours for p in pids):
            return False
    return found


def interfaces():
    return {n for _, n in socket.if_nameindex()}


def files():
    """Returns everything in the directories that are this session's own."""
    out = {"/tmp/" + n for n in os.listdir("/tmp")}
    for top in ("/run", "/dev/shm"):
        for d, dirs, names in os.walk(top):
            out.update(os.path.join(d, x) for x in names)
            out.update(os.path.join(d, x) + "/" for x in dirs)
    return out


# These are made on first use and stay: the directory of state directories, the cache of compiled filters, and the lock of
# caisson-net.
KEPT = re.compile(r"^/run/(caisson(/|/seccomp(-cache)?/.*)?|runc/|crun/(\.cache/(.*))?|caisson-net/|netns/|mount/|lock/|caisson-net/lock)$")


class Snapshot:
    def __init__(self):
        self.mounts = mounts()
        self.cgroups = cgroups()
        self.interfaces = interfaces()
        self.processes = processes()
        self.files = files()

    def since(self, old):
        """Returns what has appeared since then, as lines of text."""
        out = []
        for i in self.mounts.keys() - old.mounts.keys():
            out.append(f"mount {self.mounts[i]}")
        for i in old.mounts.keys() - self.mounts.keys():
            out.append(f"mount gone: {old.mounts[i]}")
        for c in sorted(self.cgroups - old.cgroups):
            if os.path.isdir(c) and not cgroup_is_foreign(c):
                out.append(f"cgroup {c}")
        out += [f"interface {n}" for n in sorted(self.interfaces - old.interfaces)]
        out += [f"interface gone: {n}" for n in sorted(old.interfaces - self.interfaces)]
        for k in self.processes.keys() - old.processes.keys():
            out.append(f"process {k[0]} {self.processes[k]}: {cmdline(k[0])}")
        out += [f"file {f}" for f in sorted(self.files - old.files) if not KEPT.match(f)]
        return out


def leftovers(before, wait=3.0, wait_for_cgroups=40.0):
    """
    Differences from the snapshot that last longer than `wait` seconds: a process that was just killed needs some
    milliseconds. If only cgroups are left, they may be those of another suite on this machine, which has not yet deleted a
    container that has ended. Such a cgroup is empty, and so nobody can say whose it is, but it goes.
    """
    start = time.monotonic()
    while True:
        left = Snapshot().since(before)
        only_cgroups = all(line.startswith("cgroup ") for line in left)
        if not left or time.monotonic() > start + (wait_for_cgroups if only_cgroups else wait):
            return left
        time.sleep(0.02)


def sweep(before):
    """Removes what a failed test left, so that the next one starts clean. Best effort."""
    now = Snapshot()
    for pid, _ in now.processes.keys() - before.processes.keys():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    for i in sorted(now.mounts.keys() - before.mounts.keys(), reverse=True):
        try:
            umount(now.mounts[i].split()[0])
        except OSError:
            pass
    time.sleep(0.1)
    for c in sorted(now.cgroups - before.cgroups, reverse=True):
        try:
            os.rmdir(c)
        except OSError:
            pass
    for n in now.interfaces - before.interfaces:
        subprocess.run(["ip", "link", "del", n], stderr=subprocess.DEVNULL)
    for f in sorted(now.files - before.files, reverse=True):
        try:
            os.rmdir(f) if f.endswith("/") else os.unlink(f)
        except OSError:
            pass
