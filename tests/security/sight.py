# SPDX-License-Identifier: Apache-2.0
"""
Tools of test_init_in_sight.py and of tests/vm/test_guest_init.py: the reports of look.c, and a seccomp agent that holds
processes at execve(2).
"""
import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import threading
import time

from harness import config, mode
from harness.runtime import status_of, wait_for

# What a process may do without any right: the kernel gives the command line to everybody (proc_pid_cmdline(5)), and the
# numbers of descriptors to uid 0.
OPEN_TO_ALL = ("cmdline", "caught", "end")

PROC_SUPER_MAGIC, FIFOS, SOCKETS = 0x9fa0, "p", "s"
INIT_CMDLINE = "caisson-init"

# The processes that look: user and capabilities, and whether these let the process trace others in its user namespace.
WHO = {
    "root-without-capabilities": dict(uid=0, caps=[], traces=False),
    "root-with-the-default-capabilities": dict(uid=0, caps=config.CAPS, traces=False),
    "user": dict(uid=1000, caps=[], traces=False),
    "ptrace": dict(uid=0, caps=["CAP_SYS_PTRACE"], traces=True),
    "ptrace-and-dac": dict(uid=0, caps=["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"], traces=True),
}


def build_look(dest):
    """Compiles the program look."""
    here = os.path.dirname(os.path.abspath(__file__))
    sources = [os.path.join(here, f) for f in ("look.c", "look_at.c")]
    subprocess.run(["gcc", "-O1", "-static", "-Wall", "-Werror", "-o", dest, *sources], check=True)
    return dest


class Report:
    """A report of look.c, as lines: (thing, "ok" or an errno's name, text)."""

    def __init__(self, text):
        self.lines = [tuple(l.split("\t", 2)) for l in text.splitlines() if l.count("\t") >= 2]
        assert self.lines and self.lines[-1][0] == "end", f"the looking program did not finish: {text!r}"

    def all(self, thing):
        return [t for w, code, t in self.lines if w == thing and code == "ok"]

    def one(self, thing):
        found = [(code, t) for w, code, t in self.lines if w == thing]
        assert found, f"the looking program did not try {thing}"
        return found[0]

    def opened(self):
        """Returns the accesses that the kernel allowed although they need a right."""
        return sorted({w for w, code, _ in self.lines if code == "ok" and w not in OPEN_TO_ALL})

    def denied(self):
        return sorted({w for w, code, _ in self.lines if code in ("EACCES", "EPERM")})

    def fds(self):
        """Returns {number: (type, "device:inode", file system)} of the descriptors that look could look through."""
        out = {}
        for w, code, t in self.lines:
            if code == "ok" and ((w.startswith("fd/") and w.endswith("-path")) or w.startswith("getfd/")):
                kind, ino, fs = t.split()
                out[int(w.replace("-path", "").split("/")[1])] = (kind, ino, int(fs.split("=")[1], 16))
        return out


def identity(path):
    """Returns a file as look.c describes it."""
    st = os.stat(path)
    return f"{st.st_dev}:{st.st_ino}"


class Streams:
    """Standard streams, each of which is a file of its own, so that a descriptor of one can be told from anything
    else."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.paths = [os.path.join(directory, n) for n in ("stdin", "stdout", "stderr")]
        for p in self.paths:
            with open(p, "ab"):
                pass
            os.chmod(p, 0o666)
        self.known = {identity(p) for p in self.paths}

    def keywords(self):
        """Returns the keywords for subprocess: Popen(..., **streams.keywords())."""
        return {"stdin": open(self.paths[0], "rb"), "stdout": open(self.paths[1], "ab"), "stderr": open(self.paths[2], "ab")}

    def err(self):
        with open(self.paths[2], errors="replace") as f:
            return f.read()

    def run(self, c, *args, timeout=20):
        """Runs a command of the runtime to its end with these streams."""
        p = self.start(c, *args)
        assert p.wait(timeout) == 0, (args, self.err())

    def start(self, c, *args):
        kw = self.keywords()
        p = c.rt.popen(*args, **kw)
        for f in kw.values():
            f.close()
        return p


def with_filter(c, **more):
    """Adds a profile under which INIT can work, so that it can be in force early."""
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", **more, "syscalls": [
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}, *more.get("syscalls", [])]}
    return c


def with_caps(c, names):
    c.conf["process"]["capabilities"] = {k: list(names) for k in ("bounding", "effective", "permitted")}
    return c


def process(who, *args):
    """Returns a process document for exec --process, with exactly this user and these capabilities."""
    w = WHO[who]
    return {"user": {"uid": w["uid"], "gid": w["uid"]}, "args": list(args), "cwd": "/", "env": ["PATH=/bin"],
            "noNewPrivileges": True, "capabilities": {k: w["caps"] for k in ("bounding", "effective", "permitted")}}


def exec_as(c, who, *args, check=True):
    """Runs a program in the container by exec, with exactly the rights of `who`."""
    path = os.path.join(c.bundle, f"process-{who}.json")
    with open(path, "w") as f:
        json.dump(process(who, *args), f)
    r = c.rt("exec", "--process", path, c.id)
    return r.ok() if check else r


def look_from(c, who, pid):
    return Report(exec_as(c, who, "/bin/look", "at", str(pid)).out)


def host_status(pid):
    with open(f"/proc/{pid}/status") as f:
        return status_of(f.read())


def pid_inside(host_pid):
    """Returns the pid in the innermost pid namespace."""
    return int(host_status(host_pid)["NSpid"].split()[-1])


def wait_file(path, what, timeout=15):
    wait_for(lambda: os.path.exists(path), what, timeout)


class Agent:
    """A seccomp agent that lets each call continue, except those of the listeners in `hold`, which are numbered from 0
    in the order of their arrival. A held call waits until release()."""
    RECV, SEND = 0xC0502100, 0xC0182101
    CONTINUE = 1

    def __init__(self, path, hold=()):
        self.path, self.hold, self.states = path, set(hold), []
        self.held, self.free, self.stop = {}, threading.Event(), False
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(16)
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            fds = array.array("i")
            data, anc, _, _ = conn.recvmsg(65536, socket.CMSG_SPACE(4 * 8))
            for _, _, body in anc:
                fds.frombytes(body[:len(body) - len(body) % 4])
            conn.close()
            t = threading.Thread(target=self._serve, args=(fds[0], len(self.states)), daemon=True)
            self.states.append(json.loads(data))
            self.threads.append(t)
            t.start()

    def _serve(self, fd, number):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        try:
            while not self.stop:
                events = dict(poll.poll(200)).get(fd, 0)
                if events & select.POLLHUP:
                    return  # the filter's last process has ended
                if not events & select.POLLIN:
                    continue
                req = bytearray(80)
                try:
                    fcntl.ioctl(fd, self.RECV, req)
                except OSError as e:
                    if e.errno in (errno.EINTR, errno.ENOENT):
                        continue  # the process has given up the call meanwhile
                    return
                id_, pid, _, nr = struct.unpack_from("QIIi", req)
                if number in self.hold and not self.free.is_set():
                    self.held[number] = pid
                    self.free.wait(60)
                try:
                    fcntl.ioctl(fd, self.SEND, bytearray(struct.pack("QqiI", id_, 0, 0, self.CONTINUE)))
                except OSError:
                    pass  # the process was killed meanwhile
        finally:
            os.close(fd)

    def wait_held(self, number, timeout=15):
        """Waits until a process is held. Returns its pid on the host."""
        wait_for(lambda: number in self.held, f"call of listener {number} held (states {self.states})", timeout)
        return self.held[number]

    def release(self):
        self.free.set()

    def close(self):
        self.stop = True
        self.release()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.threads[0].join(5)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def with_agent(c, path, names):
    """Adds the profile under which these calls wait for the agent."""
    return with_filter(c, listenerPath=path, syscalls=[{"names": list(names), "action": "SCMP_ACT_NOTIFY"}])


def mask(status, name):
    return int(status[name], 16)


def pause_of(seconds):
    time.sleep(seconds * mode.SCALE)
