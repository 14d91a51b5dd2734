# SPDX-License-Identifier: Apache-2.0
"""
Tests what an ordinary user's overlay remembers of its backing files: a container of the user can set the same attribute on a
file that it shares with the host, and must not open other files of the user by it.
"""
import os
import subprocess

import pytest
from harness import user

from conftest import Result

USER, ATTRIBUTE = 12345, "user.caisson.backing-directory"


@pytest.fixture
def mine(disk):
    """Runs `caisson disk` as an ordinary user, in the user's home directory."""
    home = disk.path("home")
    os.mkdir(home)
    os.chown(home, USER, USER)
    binary = user.install(disk.binary, os.environ.get("CAISSON_BUILD"), disk.path("program"))

    def call(*args):
        args = [binary, "disk", *args]
        return Result(args, subprocess.run(args, capture_output=True, text=True, timeout=100, user=USER, group=USER, extra_groups=[],
                                           cwd=home, env={"HOME": home, "PATH": os.environ["PATH"]}))

    call.home = home
    call("create", "-f", "qcow2", "base.qcow2", "1M").ok()
    call("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "over.qcow2").ok()
    return call


def forbidden(mine, name):
    mine("map", name).failed("no directory is allowed")


def test_the_users_own_overlay(mine):
    mine("map", "over.qcow2").ok()
    key = f"{mine.home}/.local/share/caisson/backing.key"
    assert os.stat(key).st_size == 32 and os.stat(key).st_mode & 0o777 == 0o600
    # One key serves all overlays.
    mine("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "another.qcow2").ok()
    mine("map", "over.qcow2").ok()
    mine("map", "another.qcow2").ok()


@pytest.mark.parametrize("value", [b"/", b"/" * 32 + b"/", b"", bytes(33)])
def test_what_a_container_wrote(mine, value):
    os.setxattr(f"{mine.home}/over.qcow2", ATTRIBUTE, value)
    forbidden(mine, "over.qcow2")


def test_another_directory_with_the_same_code(mine):
    path = f"{mine.home}/over.qcow2"
    value = os.getxattr(path, ATTRIBUTE)
    assert value[32:].decode() == mine.home
    os.setxattr(path, ATTRIBUTE, value[:32] + b"/")
    forbidden(mine, "over.qcow2")
    os.setxattr(path, ATTRIBUTE, value)
    mine("map", "over.qcow2").ok()


def test_another_file_with_the_same_value(mine):
    value = os.getxattr(f"{mine.home}/over.qcow2", ATTRIBUTE)
    with open(f"{mine.home}/over.qcow2", "rb") as f, open(f"{mine.home}/copy.qcow2", "wb") as g:
        g.write(f.read())
    os.chown(f"{mine.home}/copy.qcow2", USER, USER)
    os.setxattr(f"{mine.home}/copy.qcow2", ATTRIBUTE, value)
    forbidden(mine, "copy.qcow2")


@pytest.mark.parametrize("change", ["readable", "short", "another", "link", "gone"])
def test_a_key_that_is_not_the_users_secret(mine, change):
    key = f"{mine.home}/.local/share/caisson/backing.key"
    if change == "readable":
        os.chmod(key, 0o644)
    elif change == "short":
        os.truncate(key, 31)
    elif change == "another":
        with open(key, "wb") as f:
            f.write(bytes(32))
    else:
        os.rename(key, key + ".old")
        if change == "link":
            os.symlink("backing.key.old", key)
    forbidden(mine, "over.qcow2")
    # It is no error that nothing can be remembered.
    mine("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "another.qcow2").ok()
    mine("map", "--backing", "on", "over.qcow2").ok()
