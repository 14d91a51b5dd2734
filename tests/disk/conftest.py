# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that compare `caisson disk` with the distribution's qemu-img: the same images must give the
same answers."""
import json
import os
import random
import shutil
import subprocess

import pytest

MiB = 1 << 20


class Result:
    def __init__(self, args, p):
        self.args, self.rc, self.out, self.err = args, p.returncode, p.stdout, p.stderr

    def __repr__(self):
        return f"{self.args}: exit code {self.rc}\n{self.out[-2000:]}\n{self.err[-2000:]}"

    def ok(self):
        assert self.rc == 0, self
        return self

    def failed(self, *texts, rc=1):
        assert self.rc == rc and len(self.err.strip().split("\n")) == 1, self
        assert all(t in self.err for t in texts), self
        return self


def call(*args, timeout=100):
    args = [str(a) for a in args]
    return Result(args, subprocess.run(args, capture_output=True, text=True, timeout=timeout))


def qemu(*args):
    return call("qemu-img", *args)


class Disk:
    """Runs `caisson disk`: disk("info", ...) runs the command. The methods are checks that several tests make."""

    def __init__(self, binary, tmp):
        self.binary, self.tmp = binary, tmp

    def __call__(self, *args):
        return call(self.binary, "disk", *args)

    def path(self, name):
        return os.path.join(self.tmp, name)

    def info(self, image, fmt="qcow2"):
        return json.loads(self("info", "-f", fmt, "--json", image).ok().out)

    def sound(self, image):
        """Checks that neither program finds a fault in the image, not even a leak."""
        qemu("check", "-f", "qcow2", image).ok()
        self("check", "-f", "qcow2", image).ok()

    def same(self, a, a_format, b, b_format):
        """Checks that both programs call the two disks identical."""
        qemu("compare", "-f", a_format, "-F", b_format, a, b).ok()
        self("compare", "--backing", self.tmp, "-f", a_format, "-F", b_format, a, b).ok()


@pytest.fixture
def disk(binary, tmp):
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is missing (tests/run installs qemu-utils)")
    return Disk(binary, tmp)


def pattern(path, size, seed=1, pieces=40):
    """Writes a raw file that is mostly a hole, with data of all sizes and alignments, written zeros, and an odd end."""
    r = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for _ in range(pieces):
            n = r.choice([1, 512, 4096, 70000, 300000])
            f.seek(r.randrange(0, max(1, size - n)))
            f.write(r.choice([r.randbytes(n), b"abcd" * (n // 4 + 1), bytes(n)])[:n])
        f.truncate(size)
    return path


@pytest.fixture
def raw(tmp):
    return pattern(os.path.join(tmp, "source.raw"), 12 * MiB + 512)


@pytest.fixture
def drive(binary):
    """The program that makes and checks random requests."""
    for d in (os.environ.get("CAISSON_BUILD"), os.path.dirname(os.path.dirname(binary))):
        p = os.path.join(d or "", "tests/disk_drive")
        if d and os.access(p, os.X_OK):
            return lambda *args, **kw: call(p, *args, **kw)
    pytest.fail("tests/disk_drive is not in the build directory")
