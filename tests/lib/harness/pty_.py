# SPDX-License-Identifier: Apache-2.0
"""Receives descriptors that a runtime sends over a Unix socket (--console-socket, --pidfd-socket, seccomp's
listenerPath), and runs commands on a terminal."""
import array
import fcntl
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import threading
import time

from . import mode


class Receiver:
    """Listens at path and keeps the first descriptor, and the bytes that came with it."""

    def __init__(self, path):
        self.path, self.fd, self.data = path, None, b""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        os.chmod(self.path, 0o666)  # an ordinary user connects too (CAISSON_USER)
        self.sock.listen(1)
        self.conn = None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        try:
            conn, _ = self.sock.accept()
        except OSError:
            return
        fds = array.array("i")
        data, anc, _, _ = conn.recvmsg(65536, socket.CMSG_SPACE(4 * 8))
        for level, type_, body in anc:
            if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(body[:len(body) - len(body) % 4])
        self.data = data
        self.fds = list(fds)
        self.fd = fds[0] if fds else None
        self.conn = conn
        self.done.set()

    def wait(self, timeout=10):
        assert self.done.wait(timeout * mode.SCALE), f"nothing came over {self.path}"
        assert self.fd is not None, f"no descriptor with {self.data!r}"
        return self.fd

    def close(self):
        # shutdown() wakes accept(); close() alone would leave the thread in it.
        for f in (lambda: self.sock.shutdown(socket.SHUT_RDWR), self.sock.close,
                  lambda: self.conn and self.conn.close(), lambda: self.fd is not None and os.close(self.fd)):
            try:
                f()
            except OSError:
                pass
        self.thread.join(5)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_until(fd, text, timeout=10):
    """Reads a terminal until the text comes. Returns everything that was read."""
    end, out, searched = time.monotonic() + timeout * mode.SCALE, bytearray(), 0
    while out.find(text, searched) < 0:
        searched = max(0, len(out) - len(text))
        left = end - time.monotonic()
        assert left > 0, f"no {text!r} at the end of {out[-500:]!r}"
        if select.select([fd], [], [], left)[0]:
            try:
                d = os.read(fd, 4096)
            except OSError:
                d = b""
            assert d, f"end of terminal before {text!r}: {out[-500:]!r}"
            out += d
    return bytes(out)


def read_all(fd, timeout=10):
    """Reads a terminal until its other side closes."""
    end, out = time.monotonic() + timeout * mode.SCALE, b""
    while True:
        left = end - time.monotonic()
        assert left > 0, f"terminal still open: {out!r}"
        if select.select([fd], [], [], left)[0]:
            try:
                d = os.read(fd, 4096)
            except OSError:
                return out
            if not d:
                return out
            out += d


def set_size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class OnTerminal:
    """Runs a command in a session of its own, whose stdin, stdout and stderr are one of the test's terminals."""

    def __init__(self, rt, *args, rows=24, cols=80):
        self.fd, slave = pty.openpty()
        set_size(self.fd, rows, cols)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.p = subprocess.Popen(rt.argv(*args), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        os.close(self.slave)
        os.close(self.fd)
