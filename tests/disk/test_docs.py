# SPDX-License-Identifier: Apache-2.0
"""Tests that --help and caisson-disk(1) say the same, and that the examples of --help run."""
import os
import re
import shlex

import pytest

from conftest import pattern

MAN = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "runtime/man/caisson-disk.1.scd")
# The last of them need a microVM: tests/vm/test_inside.py runs them.
INSIDE = "ls cat cp tar-out tar-in df inspect shell mount umount".split()
IMAGES = "create info map convert resize snapshot commit rebase check compare".split()
COMMANDS = IMAGES + INSIDE


def sections():
    text = open(MAN, encoding="utf-8").read().split("\n# COMMANDS\n")[1].split("\n# ")[0]
    return {re.match(r"caisson disk ([\w-]+)", p)[1]: p for p in re.split(r"^## ", text, flags=re.M)[1:]}


def test_commands(disk):
    listed = re.findall(r"^  ([\w-]+) ", disk("--help").ok().out.split("Commands:\n")[1], re.M)
    assert listed == COMMANDS == list(sections())


@pytest.mark.parametrize("command", COMMANDS)
def test_options(disk, command):
    text = disk(command, "--help").ok().out
    said = re.findall(r"^  (--[a-z-]+)(?: ([^ ,]+(?:,\.\.\.)?))?(?:, (-\w))?  *\S", text, re.M)
    man = re.findall(r"^\*(--[a-z-]+)\*(?: _(\S+)_)?(?:, \*(-\w)\*)?$", sections()[command].replace("\\", ""), re.M)
    assert (said or command == "umount") and said == man
    assert sections()[command].split("\n")[0] == re.match(r"Usage: (.*)", text)[1]


def test_examples_run(disk, raw):
    os.rename(raw, disk.path("disk.raw"))
    disk("convert", disk.path("disk.raw"), disk.path("base.qcow2")).ok()
    for command in IMAGES:
        for line in re.findall(r"^  caisson disk (.*)", disk(command, "--help").ok().out.split("Options:")[0], re.M):
            words = [disk.path(w) if re.search(r"\w\.(qcow2|raw)$", w) and w != "base.qcow2" else w for w in shlex.split(line)]
            disk(*words).ok()
