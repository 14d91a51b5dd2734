# SPDX-License-Identifier: Apache-2.0
"""Disk images that are shipped as images of containers (KubeVirt's containerdisks) are found."""
import json
import os

from harness.oci import entry, tar, whiteout
from test_run import Box

QCOW2 = b"QFI\xfb" + bytes(1000)


def disks(images, name):
    return json.loads(images("inspect", name)).get("disks")


def add(images, layout, tag, *layers, **config):
    layout.image([tar(*x) for x in layers], tag, config=config)
    images("import", f"oci:{layout.path}:{tag}")


def test_containerdisk(images, layout):
    """What a Dockerfile of `FROM scratch`, `ADD fedora.qcow2 /disk/` makes. It is known once the image is unpacked."""
    add(images, layout, "d", [entry("disk/", "dir", mode=0o555, uid=107), entry("disk/fedora.qcow2", data=QCOW2, mode=0o440, uid=107)])
    assert disks(images, "d") is None
    layer = images("unpack", "d").strip().replace(":", "/")
    assert disks(images, "d") == [{"path": "/disk/fedora.qcow2", "file": layer + "/disk/fedora.qcow2", "size": 1004}]
    with open(disks(images, "d")[0]["file"], "rb") as f:
        assert f.read() == QCOW2


def test_several_layers(images, layout):
    """Each disk is in the topmost layer that has it; whiteouts count. Other files of /disk are none, nor are links, devices and FIFOs."""
    add(images, layout, "d", [entry("disk/", "dir"), entry("disk/a.img", data=b"old"), entry("disk/gone.raw"), entry("disk/b.raw", data=b"bb")],
        [entry("disk/a.img", data=b"newer"), whiteout("disk/.wh.gone.raw"), entry("disk/README"), entry("disk/.img"), entry("disk/dir.img/", "dir"),
         entry("disk/l.qcow2", "link", link="/etc/passwd"), entry("disk/f.raw", "fifo"), entry("x.raw"), entry("disk/sub/", "dir"), entry("disk/sub/y.raw")])
    images("unpack", "d")
    found = disks(images, "d")
    assert [(d["path"], d["size"]) for d in found] == [("/disk/a.img", 5), ("/disk/b.raw", 2)]
    assert [open(d["file"], "rb").read() for d in found] == [b"newer", b"bb"]


def test_images_without_disks(images, layout):
    add(images, layout, "none", [entry("etc/", "dir"), entry("etc/x.raw")])
    add(images, layout, "link", [entry("etc/", "dir"), entry("etc/x.raw"), entry("disk", "link", link="etc")])
    add(images, layout, "file", [entry("disk", data=b"1")])
    for t in ("none", "link", "file"):
        images("unpack", t)
        assert disks(images, t) == [], t


def test_run_names_the_disk(rt, images, layout):
    """`run --image` has no program to run, and says what the image is. A program that is given on the command line is run."""
    add(images, layout, "d", [entry("disk/", "dir"), entry("disk/fedora.qcow2", data=QCOW2)])
    box = Box(rt, images)
    box(image="d").failed("no program to run, but a disk for a microVM, /disk/fedora.qcow2: its file is " + images.store, "--isolation vm --image d")
    box("sh", image="d").failed("sh")
    assert box.dirs() == []
