# SPDX-License-Identifier: Apache-2.0
"""The progress of `caisson disk convert`, `compare`, `commit` and `rebase`, which programs read in qemu-img's form."""
import re
import signal
import subprocess
import time

import pytest

from conftest import qemu

STEPS = rb"(    \(\d+\.\d\d/100%\)\r)+"
FORM = STEPS + rb"\n"


@pytest.fixture
def chain(disk, raw):
    """A raw disk, a copy of it, an overlay of the copy, and the four commands on them."""
    qemu("convert", "-O", "qcow2", raw, disk.path("base.qcow2")).ok()
    disk("create", "-f", "qcow2", "-b", disk.path("base.qcow2"), "-F", "qcow2", disk.path("overlay.qcow2")).ok()
    return {"convert": [raw, disk.path("new.qcow2")], "compare": [raw, disk.path("base.qcow2")],
            "commit": [disk.path("overlay.qcow2")], "rebase": ["-b", "", disk.path("overlay.qcow2")]}


@pytest.mark.parametrize("command", ["convert", "compare", "commit", "rebase"])
def test_progress_of(disk, chain, command):
    p = subprocess.run([disk.binary, "disk", command, "-p", *chain[command]], capture_output=True, timeout=60)
    assert p.returncode == 0 and p.stderr == b"", p
    line = re.match(FORM, p.stdout)
    assert line and p.stdout[line.end():] in (b"", b"Images are identical.\n", b"Image committed.\n"), p
    shown = [float(s) for s in re.findall(rb"\((\d+\.\d\d)/", line[0])]
    assert shown[0] == 0 and shown[-1] == 100
    # It rises in steps of 1 % or more; the last line is there even if that was said already.
    assert all(b >= a + 0.99 for a, b in zip(shown[:-1], shown[1:-1])), shown
    if command != "commit":  # qemu-img commit has nothing to do for an empty overlay, and says nothing in between.
        theirs = subprocess.run(["qemu-img", command, "-p", *chain[command]], capture_output=True, timeout=60)
        assert re.match(STEPS, theirs.stdout) and b"\n" in theirs.stdout, theirs
    p = subprocess.run([disk.binary, "disk", command, "-q", "-p", *chain[command]], capture_output=True, timeout=60)
    assert p.stdout == b"" and p.stderr == b"", p


def is_blocked(pid, sig):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return int(re.search(r"^SigBlk:\s*(\w+)", f.read(), re.M)[1], 16) >> (sig - 1) & 1


@pytest.mark.parametrize("command", ["convert", "compare", "commit", "rebase"])
@pytest.mark.parametrize("option", [[], ["-p"]])
def test_sigusr1_asks_for_the_progress(disk, chain, command, option):
    """The command waits for a passphrase when the signal comes, and answers with its first line."""
    p = subprocess.Popen([disk.binary, "disk", command, "--key", "-", *option, *chain[command]], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not is_blocked(p.pid, signal.SIGUSR1):
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    p.send_signal(signal.SIGUSR1)
    out, err = p.communicate(b"key", timeout=60)
    assert p.returncode == 0 and err == (b"" if option else b"    (0.00/100%)\n"), (p.returncode, out, err)
    assert bool(re.match(FORM, out)) == bool(option), out
