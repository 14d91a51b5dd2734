# SPDX-License-Identifier: Apache-2.0
"""Selects the isolation that the containers of a run get: CAISSON_ISOLATION=vm makes microVMs of them, by the
program's other name. A table (cli/vm_differences.tsv) lists the tests that differ in a microVM, each with its reason:
such a test is expected to fail, or is not run. A test that is expected to fail and passes is a failure, because the
table is wrong then.
"""
import fnmatch
import os
import re
import subprocess

import pytest

from . import machine

VM = os.environ.get("CAISSON_ISOLATION", "ns") == "vm"
# A microVM boots in two to six seconds if QEMU runs it in software, and everything in it is slower in proportion.
SCALE = 4.0 if VM else 1.0

# The number of microVMs at once, because KVM can run Linux only in the test host.
HYPERVISOR = "kvm" if machine.ON_TEST_HOST else "qemu"

PREFIX = "/usr/local"  # where tests/run's build looks for the installed kernel (images/guest/guest_kernel.h)


def times(n):
    """
    Returns how often a test is repeated with microVMs, each of which takes seconds to boot, if it is repeated n times
    with containers.
    """
    return max(3, n // 5) if VM else n

# A file for the log of the commands that make microVMs, by which a run counts those that start from a template. It is in
# no directory that the tests compare.
LOG = os.environ.get("CAISSON_VM_LOG") if VM else None
WARNING = re.compile(r'^time="[^"]*" level=warning msg="((?:[^"\\]|\\.)*)"$', re.M)


def log_options(command, options):
    """
    Returns the options that make the command log what it does. A command with global options of the test's own gets none,
    because they may be about the log. Warnings of other commands stay on standard error.
    """
    return ["--debug", "--log", LOG] if LOG and not options and command in ("create", "run") else []


def log_size():
    return os.path.getsize(LOG) if LOG else 0


def warnings_since(at):
    """Returns the warnings in the log from this offset on, as they would be on standard error without the log."""
    if not LOG:
        return ""
    with open(LOG, "rb") as f:
        f.seek(at)
        text = f.read().decode(errors="replace")
    return "".join("caisson: warning: " + re.sub(r"\\(.)", r"\1", w) + "\n" for w in WARNING.findall(text))


def starts():
    """Returns how many microVMs were built according to the log, and how many of them from a template."""
    with open(LOG, errors="replace") as f:
        text = f.read()
    return text.count("microvm: built"), text.count("microvm: starts from a template")


def tuned_kernel():
    for d in (PREFIX + "/lib/caisson/kernel", "/usr/lib/caisson/kernel"):
        if os.path.exists(os.path.join(d, "bzImage")) or os.path.exists(os.path.join(d, "vmlinux")):
            return d
    return None


def packaged_kernel(cache):
    """Debian's cloud kernel, fetched and unpacked once (lib/guest-kernel), with its modules beside it."""
    path = os.path.join(cache, "guest-kernel", "vmlinuz")
    if not os.path.exists(path):
        script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest-kernel")
        subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
    return path if os.path.exists(path) else None


def guest_kernel(cache):
    """
    The kernel for a vm section: caisson's own, or else Debian's. QEMU boots that unpacked, in less time. The built-in machine
    boots the bzImage, as it does for users.
    """
    tuned = tuned_kernel()
    if tuned:
        return os.path.join(tuned, "vmlinux")
    packaged = packaged_kernel(cache)
    unpacked = packaged and os.path.join(os.path.dirname(packaged), "vmlinux")
    return unpacked if unpacked and HYPERVISOR == "qemu" and os.path.exists(unpacked) else packaged


class Difference:
    HOW = ("fails", "skip")

    def __init__(self, line, where):
        fields = line.split("\t")
        if len(fields) != 4 or fields[1] not in self.HOW or not all(f.strip() for f in fields):
            raise ValueError(f"{where}: expected TEST, {' or '.join(self.HOW)}, WHAT DIFFERS and REASON with tabs between")
        self.pattern, self.how, self.what, self.reason = fields
        self.used = False

    def fits(self, name):
        # Square brackets come from pytest here and are no pattern.
        return name == self.pattern or fnmatch.fnmatchcase(name, self.pattern.replace("[", "[[]"))

    def __str__(self):
        return f"{self.what}: {self.reason}"


def differences(path):
    with open(path) as f:
        return [Difference(l.rstrip("\n"), f"{path}:{i}") for i, l in enumerate(f, 1) if l.strip() and l[0] != "#"]


def mark(items, table):
    """
    Marks the tests that the table has a line for as skipped or expected to fail. The first of a test's lines counts. Returns
    the lines without a test.
    """
    for i in items:
        lines = [d for d in table if d.fits(name_of(i))]
        for d in lines:
            d.used = True
        for d in lines[:1]:
            i.add_marker(pytest.mark.skip(reason=str(d)) if d.how == "skip" else pytest.mark.xfail(strict=True, reason=str(d)))
    return [d.pattern for d in table if not d.used]


def name_of(item):
    """Returns the name of a test, such as test_exec.py::test_user[1-1-0]."""
    return os.path.basename(item.path) + "::" + item.name


def selection(path):
    """Returns the patterns of a file that lists tests, one in each line."""
    with open(path) as f:
        return [l.strip() for l in f if l.strip() and l[0] != "#"]


def selected(name, patterns):
    return any(name == p or fnmatch.fnmatchcase(name, p.replace("[", "[[]")) for p in patterns)
