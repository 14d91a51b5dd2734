# SPDX-License-Identifier: Apache-2.0
"""Tests that `caisson disk` looks into disks of kinds that need a program of the host: a distribution with rpm's database, and a RAID of md."""
import contextlib
import json
import os
import sqlite3
import struct
import subprocess

import pytest

from test_inside import Disk, MiB, put, run

SPEC = """Name: kettle
Epoch: 3
Version: 1.2~rc1
Release: 4.el9
Summary: boils water
License: none
BuildArch: noarch
%description
It boils water.
%files
"""


@pytest.fixture
def disk(rt, tmp, monkeypatch):
    monkeypatch.setenv("TMPDIR", tmp)
    return Disk(rt, tmp)


def ext4(path, tree, megabytes):
    put(os.path.dirname(path), os.path.basename(path))
    os.truncate(path, megabytes * MiB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, path)
    return path


@pytest.mark.parametrize("folder", ["usr/lib/sysimage/rpm", "var/lib/rpm"])
def test_rpm(disk, tmp, folder):
    """The host's rpm reads the database of the disk, wherever that is, and not a database at the place of the host's own."""
    tree = os.path.join(tmp, "tree")
    put(tree, "etc/os-release", 'ID=fedora\nVERSION_ID=39\nPRETTY_NAME="Fedora Linux 39"\n')
    put(tree, "etc/fstab", "/dev/sda / ext4 defaults 0 1\n")
    put(tree, "usr/bin/dnf", "#!\n", 0o755)
    os.makedirs(tree + "/bin")
    spec = put(tmp, "kettle.spec", SPEC)
    run("rpmbuild", "-bb", "--define", f"_topdir {tmp}/build", spec)
    package = f"{tmp}/build/RPMS/noarch/kettle-1.2~rc1-4.el9.noarch.rpm"
    run("rpm", "--root", tree, "--dbpath", "/" + folder, "--justdb", "--nodeps", "-i", package)
    database = f"{tree}/{folder}/rpmdb.sqlite"
    if folder == "var/lib/rpm":
        # As after a clean end of rpm, which leaves no log. SQLite cannot make one on a disk that is read-only.
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert os.path.exists(database + "-wal") == (folder != "var/lib/rpm")
    image = ext4(os.path.join(tmp, "disk.raw"), tree, 32)
    (system,) = json.loads(disk("inspect", "--json", image).ok().out)["operating_systems"]
    assert (system["distro"], system["package_format"], system["package_management"]) == ("fedora", "rpm", "dnf"), system
    assert system["packages"] == [{"name": "kettle", "epoch": "3", "version": "1.2~rc1", "release": "4.el9", "arch": "noarch"}], system


def test_package_databases_that_cannot_be_read(disk, tmp):
    """`inspect` says of each system on the disk why there are no packages, and tells the rest of what it knows of the system."""
    systems = [("lib/rpm/rpmdb.sqlite", 257 * MiB, "larger than"), ("lib/dpkg/status", 257 * MiB, "larger than"), ("lib/rpm/Packages.db", 100, "found no package")]
    image = put(tmp, "disk.raw")
    os.truncate(image, 64 * MiB)
    run("sfdisk", image, input=b"label: gpt\n" + b"".join(b"start=%dMiB, size=16MiB\n" % (1 + 17 * i) for i in range(len(systems))))
    for i, (name, size, _problem) in enumerate(systems):
        tree = os.path.join(tmp, f"tree{i}")
        put(tree, "etc/os-release", f"ID=system{i}\nVERSION_ID=1\n")
        put(tree, "etc/fstab", f"/dev/sda{i + 1} / ext4 defaults 0 1\n")
        os.makedirs(tree + "/bin")
        os.truncate(put(tree, "var/" + name), size)
        with open(ext4(os.path.join(tmp, f"part{i}"), tree, 16), "rb") as data, open(image, "r+b") as f:
            f.seek((1 + 17 * i) * MiB)
            f.write(data.read())
    found = {s["distro"]: s for s in json.loads(disk("inspect", "--json", image).ok().out)["operating_systems"]}
    assert sorted(found) == ["system0", "system1", "system2"], found
    for i, (_name, _size, problem) in enumerate(systems):
        assert found[f"system{i}"]["packages"] == [] and problem in found[f"system{i}"]["packages_problem"], found


def md_superblock(number, sectors):
    """Returns the superblock of one half of a RAID 1, in version 1.2: 8 sectors behind the start, as mdadm writes it. (struct mdp_superblock_1 of
    Linux; the build machine's kernel has no md with which mdadm could make it.)"""
    data, roles = 2048, struct.pack("<2H", 0, 1)
    head = struct.pack("<4I16s32sQ2IQ2Ii", 0xa92b4efc, 1, 0, 0, b"u" * 16, b"here:mirror", 1, 1, 0, sectors - data, 0, 2, 0)
    head += struct.pack("<IQ4I", 0, 0, 0, 0, 0, 0)
    head += struct.pack("<4Q2I16s4BI", data, sectors - data, 8, 0, number, 0, bytes([number]) * 16, 0, 0, 0, 0, 0)
    head += struct.pack("<3Q", 1, 1, (1 << 64) - 1)
    tail = struct.pack("<I32x", 2) + roles
    assert len(head) == 216
    total = sum(struct.unpack("<54I", head)) + sum(struct.unpack("<10I", tail))
    return head + struct.pack("<I", (total + (total >> 32)) & 0xffffffff) + tail


@pytest.mark.parametrize("missing", [False, True])
def test_raid(disk, tmp, missing):
    """Two partitions are the halves of a RAID 1. caisson reads it also if one half is missing."""
    tree, image = os.path.join(tmp, "tree"), put(tmp, "raid.raw")
    put(tree, "file", "on both\n")
    half = ext4(os.path.join(tmp, "half"), tree, 16)
    os.truncate(image, 48 * MiB)
    run("sfdisk", image, input=b"label: gpt\nstart=1MiB, size=20MiB, type=R\nstart=22MiB, size=20MiB, type=R\n")
    with open(image, "r+b") as f, open(half, "rb") as data:
        content = data.read()
        for number, start in enumerate([1 * MiB, 22 * MiB]):
            if missing and number == 0:
                continue
            f.seek(start + 8 * 512)
            f.write(md_superblock(number, 20 * MiB // 512))
            f.seek(start + MiB)
            f.write(content)
    found = json.loads(disk("inspect", "--json", image).ok().out)["devices"]
    (mirror,) = [d for d in found if d.get("type") == "ext4"]
    assert mirror["device"].startswith("md"), found
    assert disk("cat", "-m", mirror["device"], image, "/file").ok().out == "on both\n"
