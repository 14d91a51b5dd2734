# SPDX-License-Identifier: Apache-2.0
"""`caisson image commit` and `diff`: what a container changed becomes a layer that every tool reads, and comes back by a registry."""
import contextlib
import json
import os
import socket
import subprocess

import pytest

from harness import mode, oci, rootfs
from harness.oci import entry, tar
from harness.registry import DockerRegistry
from harness.runtime import wait_for
from test_run import Box

# Each kind of change that a layer can express, and some that it can only express in one way.
SCRIPT = r"""
set -e
cd /
rm gone; rm -r d; mkdir -m 700 d; echo new > d/new
rm -r dir; echo file > dir; rm file; mkdir file; touch file/in
chmod 4711 keep; chown 5:6 keep
ln keep hard; mkdir sub; ln keep sub/hard2
ln -s /nowhere/at/all link; mkfifo -m 600 fifo; mknod -m 640 node c 1 3
echo x > "$(printf 'name\351 with a blank')"
long=$(printf 'n%.0s' $(seq 200)); mkdir -p $long/$long; echo deep > $long/$long/f; ln $long/$long/f $long/g
touch -d '2001-02-03 04:05:06' old; touch -d '1960-01-01 00:00:00' older
head -c 3000000 /dev/urandom > big; chmod 1777 tmp2; mkdir -p empty/er
rm up/a; echo b > up/b
echo done > /done
sleep 1000
"""
# The runtime makes these for its mounts.
MOUNT_POINTS = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"]


@pytest.fixture
def box(rt, images, layout, template):
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    files = tar(entry("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\n"), entry("gone"), entry("d/", "dir"), entry("d/old"), entry("dir/", "dir"),
                entry("dir/x"), entry("file", data=b"1"), entry("keep", data=b"kept"), entry("tmp2/", "dir"), entry("up/", "dir", mode=0o750, uid=3),
                entry("up/a"), entry("same", data=b"s"))
    layout.image([base, files], "box", config={"Env": ["PATH=/bin:/sbin", "A=1"], "Cmd": ["sh"], "Labels": {"a": "b"}})
    images("import", f"oci:{layout.path}:box")
    b = Box(rt, images)
    yield b
    for n in b.names:
        rt("rm", "-f", n)
    assert b.dirs() == []


@pytest.fixture
def changed(box):
    box("-d", "-u", "0", "sh", "-c", SCRIPT, name="b1").ok()
    wait_for(lambda: os.path.exists(upper(box) + "/done"), "the container's script")
    os.setxattr(upper(box) + "/keep", "user.note", b"n\0\xff")
    os.setxattr(upper(box) + "/keep", "user.empty", b"")
    os.setxattr(upper(box) + "/big", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    return box


def upper(box, name="b1"):
    return os.path.join(box.images.store, "containers", name, "upper")


@contextlib.contextmanager
def merged(box, path, name="b1"):
    """The kernel's own view of the container's files."""
    store = box.images.store
    with open(f"{store}/containers/{name}/uses.json") as f:
        layers = json.load(f)["layers"].split(":")
    os.mkdir(path)
    lower = ":".join([upper(box, name), *(f"{store}/layers/{n}" for n in layers)])
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={lower}", "test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def look(path):
    tree = oci.look(path)
    for n in MOUNT_POINTS:
        tree.pop(n, None)
    return tree


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_image_is_what_the_container_had(changed, tmp, compression):
    images = changed.images
    images("commit", "--compression", compression, "b1", "new")
    images("unpack", "new", tmp + "/tree")
    with merged(changed, tmp + "/merged") as there:
        want, got = look(there), look(tmp + "/tree")
    assert got.keys() == want.keys()
    assert {n: (want[n], got[n]) for n in want if want[n] != got[n]} == {}
    assert os.stat(tmp + "/tree/keep").st_nlink == 3 and os.path.samefile(tmp + "/tree/keep", tmp + "/tree/sub/hard2")
    assert not os.path.exists(tmp + "/tree/gone") and os.listdir(tmp + "/tree/d") == ["new"]


def test_umoci_reads_the_same_tree(changed, tmp):
    images = changed.images
    images("commit", "b1", "new")
    images("unpack", "new", tmp + "/tree")
    images("export", "new", f"oci:{tmp}/out:new")
    subprocess.run(["umoci", "unpack", "--image", tmp + "/out:new", tmp + "/umoci"], check=True, capture_output=True)
    want, got = look(tmp + "/umoci/rootfs"), look(tmp + "/tree")
    for n in ("keep", "hard", "sub/hard2"):
        assert got[n]["xattrs"].pop("user.empty") == ""  # umoci 0.4.7 leaves out attributes without a value
    assert {n: (want.get(n), got.get(n)) for n in want.keys() | got.keys() if want.get(n) != got.get(n)} == {}


def test_podman_has_the_same_tree(changed, podman, tmp):
    """containers/storage applies the committed layer to the tree that the container had. podman mounts it in its own store."""
    changed.images("commit", "b1", "localhost/new:1")
    changed.images("save", "-o", tmp + "/new.tar", "localhost/new:1")
    podman.driver = "overlay"
    podman("load", "-q", *podman.policy, "-i", tmp + "/new.tar")
    where = podman("image", "mount", "localhost/new:1").strip()
    try:
        theirs = look(where)
    finally:
        podman("image", "umount", "localhost/new:1")
    changed.images("unpack", "localhost/new:1", tmp + "/r")
    ours = look(tmp + "/r")
    assert set(ours) == set(theirs)
    differ = {(n, k) for n in ours for k in {*ours[n], *theirs[n]} if ours[n].get(k) != theirs[n].get(k)}
    # podman gives its own mode and time to the root of a layer that does not list it, and takes a time before 1970 for 0. Version 4.3.1
    # (Debian 12) also leaves out attributes without a value, and version 5.4 (Debian 13) keeps them.
    without_value = {("keep", "xattrs"), ("hard", "xattrs"), ("sub/hard2", "xattrs")}
    assert differ - without_value == {(".", "mode"), (".", "mtime"), ("older", "mtime")} and differ & without_value in (set(), without_value)
    assert theirs["older"]["mtime"] == 0 and {**theirs["keep"]["xattrs"], "user.empty": ""} == ours["keep"]["xattrs"]


def test_the_same_changes_give_the_same_image(changed):
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    first, again = (changed.images("commit", "b1", n, env=env) for n in ("one", "two"))
    assert first == again
    config = json.loads(changed.images("inspect", "--config", "one"))
    assert config["created"] == "2023-11-14T22:13:20Z" and len(config["rootfs"]["diff_ids"]) == 3


def test_changes_of_the_configuration(changed):
    changed.images("commit", "-a", "me", "-m", "why", "-c", 'CMD ["echo", "hi"]', "-c", "ENV A=2", "-c", "ENV B=x y", "-c", "USER 5", "-c", "WORKDIR /d",
                   "-c", "LABEL c=d", "-c", "EXPOSE 80/tcp", "-c", "ENTRYPOINT exec x", "-c", "STOPSIGNAL INT", "-c", "VOLUME /v", "b1", "new")
    config = json.loads(changed.images("inspect", "--config", "new"))
    assert config["config"] == {"Env": ["PATH=/bin:/sbin", "A=2", "B=x y"], "Cmd": ["echo", "hi"], "Labels": {"a": "b", "c": "d"}, "User": "5",
                                "WorkingDir": "/d", "ExposedPorts": {"80/tcp": {}}, "Entrypoint": ["/bin/sh", "-c", "exec x"], "StopSignal": "INT",
                                "Volumes": {"/v": {}}}
    assert config["author"] == "me" and config["history"][-1]["comment"] == "why"


def test_diff(changed):
    lines = changed.images("diff", "b1").splitlines()
    assert {"D /gone", "C /d", "D /d/old", "A /d/new", "C /keep", "A /hard", "C /dir", "C /file", "A /file/in", "D /up/a", "A /up/b", "A /big"} <= set(lines)
    assert not [x for x in lines if x[2:].startswith(("/same", "/dev", "/proc", "/sys", "/etc/host"))]
    assert changed.images("diff", "--json", "b1") and len(json.loads(changed.images("diff", "--json", "b1"))) == len(lines)


def test_diff_of_images_is_that_of_the_container(changed):
    """What the container changed is what its image has other than the one that the container came from."""
    changed.images("commit", "b1", "new")
    kinds = {"A": 1, "C": 1, "D": 1}
    container, image = (set(changed.images("diff", *x).splitlines()) for x in (["b1"], ["box", "new"]))
    assert {x[0] for x in image} == set(kinds)
    # The kernel copies a directory up for a name in it that was changed back, or to mount something there.
    assert image <= container and all(x.startswith("C ") for x in container - image), (container - image, image - container)


def test_what_a_layer_cannot_have(box):
    box("-d", "-u", "0", "sh", "-c", "sleep 1000", name="b1").ok()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(upper(box) + "/s")
        box.images("commit", "b1", "new")
        assert "/s is a socket" in box.images.err
    box.images.fails("commit", "b1", "a b", saying="a tag's name")
    box.images.fails("commit", "--compression", "xz", "b1", saying="expected gzip")
    box.images.fails("commit", "-c", "ENV A", "b1", saying="expected NAME=VALUE")
    box.images.fails("commit", "-c", "RUN x", "b1", saying="expected CMD")
    box.images.fails("commit", "b2", saying="no container")
    open(upper(box) + "/.wh.x", "w").close()
    box.images.fails("commit", "b1", "bad", saying=".wh.x")
    assert "bad" not in box.images("--quiet", "ls")


def test_commit_of_a_container_whose_image_is_gone(box):
    """The name goes, and prune keeps what the container came from, because a commit needs it."""
    box("-d", "-u", "0", "sh", "-c", "echo 1 > /mine; sleep 1000", name="b1").ok()
    wait_for(lambda: os.path.exists(upper(box) + "/mine"), "the container's file")
    box.images("rm", "box")
    box.images("prune")
    box.images("commit", "b1", "new")
    assert box("--rm", "-u", "0", "cat", "/mine", "/same", image="new").ok().out == "1\ns"


def round_trip(box, tmp, program, *options):
    registry = DockerRegistry(tmp + "/registry", program=program)
    env = {**os.environ, "CONTAINERS_REGISTRIES_CONF": "/dev/null"}
    try:
        name = f"{registry.host}/team/box:1"
        box.images("push", "box", name, env=env)
        box.images("rm", "box")
        box("-d", "-u", "0", *options, "sleep", "1000", image=name, name="b1", env=env, timeout=120).ok()
        box.rt("exec", "b1", "sh", "-c", "echo 2 > /made; rm /gone; sync", timeout=120).ok()
        box.rt("stop", "-t", "1", "b1", timeout=120).ok()
        box.images("commit", "b1", f"{registry.host}/team/box:2")
        box.images("push", f"{registry.host}/team/box:2", env=env)
        box.images("rm", name, f"{registry.host}/team/box:2")
        box.rt("rm", "b1").ok()
        other = Box(box.rt, oci.Images(box.images.program, tmp + "/other"))
        r = other("--rm", "-u", "0", *options, "sh", "-c", "cat /made /same; ls /gone", image=f"{registry.host}/team/box:2", env=env, timeout=120)
        assert r.out.replace("\r", "") == "2\ns" and "/gone" in r.out + r.err
        assert other.dirs() == []
    finally:
        registry.close()


def test_round_trip_by_a_registry(box, tmp, registry_program):
    """Pull, run, exec, commit, push; pull into another store, run."""
    round_trip(box, tmp, registry_program)


def test_round_trip_of_a_microvm(box, tmp):
    kernel = mode.guest_kernel(rootfs.CACHE)
    if not kernel:
        pytest.skip("no kernel for a guest")
    round_trip(box, tmp, "docker-registry", "--isolation", "vm", "--kernel", kernel)
