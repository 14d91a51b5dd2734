# SPDX-License-Identifier: Apache-2.0
"""Tests `run --disk --vnc` and `console --vnc`: a VNC viewer sees the machine's screen."""
import os
import signal
import socket
import stat
import struct
import subprocess

from harness.pvh import pvh_kernel
from test_inside import MiB, put
from test_machine import machines  # pylint: disable=unused-import


def take(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        assert more, data
        data += more
    return data


def look(s):
    """Speaks RFB 3.8 as a viewer does. Returns the size of the screen and the pixels of its first row."""
    assert take(s, 12) == b"RFB 003.008\n"
    s.sendall(b"RFB 003.008\n")
    assert 1 in take(s, take(s, 1)[0])  # the security type None
    s.sendall(b"\x01")
    assert take(s, 4) == bytes(4)
    s.sendall(b"\x01")
    width, height = struct.unpack(">HH", take(s, 4))
    bits = take(s, 16)[0]
    take(s, struct.unpack(">I", take(s, 4))[0])
    s.sendall(struct.pack(">BBHi", 2, 0, 1, 0) + struct.pack(">BBHHHH", 3, 0, 0, 0, width, 1))
    kind, rectangles = struct.unpack(">BxH", take(s, 4))
    assert kind == 0 and rectangles >= 1
    _, _, w, h, encoding = struct.unpack(">HHHHi", take(s, 12))
    assert encoding == 0
    return width, height, take(s, w * h * bits // 8)


def listen(m, where, name):
    p = subprocess.Popen(m.rt.argv("console", "--vnc", where, name), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return p, p.stdout.readline().strip()


def test_screen(machines, tmp):
    """Viewers connect at a port and at a Unix socket, several at the same time. The command ends with a signal, or with the
    machine."""
    disk, path = put(tmp, "d.raw", bytes(MiB)), os.path.join(tmp, "viewers")
    machines.run("--disk", disk, "--ephemeral", "--firmware", "efi", "--vnc", "-d", "v1").ok()
    port, address = listen(machines, "0", "v1")
    unix, said = listen(machines, path, "v1")
    try:
        assert address.startswith("127.0.0.1:") and said == path and stat.S_IMODE(os.stat(path).st_mode) == 0o600
        one = socket.create_connection(address.split(":"), timeout=60)
        two = socket.socket(socket.AF_UNIX)
        two.settimeout(60)
        two.connect(path)
        for s in (one, two):
            width, height, row = look(s)
            assert width >= 320 and height >= 200 and len(row) >= width
        unix.send_signal(signal.SIGINT)
        assert unix.wait(30) == 0 and not os.path.exists(path)
        # The viewer that is connected stays connected.
        two.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, 16, 1))
        assert take(two, 1) == b"\0"
        for where, text in (("0.0.0.0:5901", "ssh -L"), ("x:1", "port"), ("127.0.0.1:99999", "port"), ("/nosuch/s", "/nosuch/s")):
            machines.rt("console", "--vnc", where, "v1").failed("--vnc", text)
        machines.rt("kill", "v1", "KILL").ok()
        assert port.wait(60) == 0
        one.close()
        two.close()
    finally:
        for p in (port, unix):
            p.kill()
            p.communicate()


def test_without_firmware(machines, tmp):
    """A machine that boots a kernel directly can have a screen. On KVM, and for a machine without --vnc, it is an error."""
    kernel = put(tmp, "k", pvh_kernel())
    r = machines.run("--kernel", kernel, "--vnc", timeout=60)
    assert r.rc == 0 and "PVH: " in r.out, r
    machines.rt("run", "--isolation", "vm", "--hypervisor", "kvm", "--kernel", kernel, "--vnc").failed("--vnc", "--hypervisor qemu")
    machines.run("--disk", put(tmp, "d.raw", bytes(MiB)), "--ephemeral", "--firmware", "efi", "-d", "plain").ok()
    machines.rt("console", "--vnc", "0", "plain").failed("no screen", "--vnc")
