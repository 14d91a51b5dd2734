# SPDX-License-Identifier: Apache-2.0
"""
The store of unpacked layers: shared, whole after kill -9 at any call, safe beside other processes, collected.

That its trees are right is in test_layers.py, whose tests run on both forms.
"""
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import oci
from harness.oci import entry, whiteout

CALLS = ["openat", "openat2", "mkdirat", "symlinkat", "linkat", "renameat2", "unlinkat", "fsopen", "fsmount", "flock", "write", "pwrite64", "fchmod",
         "fchown", "fsetxattr", "utimensat", "close", "exit_group", "clone3", "fsconfig"]
SAMPLES = 60  # of the moments of one command

BASE = [entry("./", "dir", mode=0o750, uid=3, mtime=1500000000, xattrs={"user.root": b"1"}), entry("d/", "dir", mode=0o1777, uid=7), entry("d/old"),
        entry("f", data=b"f", mode=0o4755), entry("g", "hard", link="f"), entry("h", "hard", link="f"), entry("lib", "link", link="d")]
TOP = [whiteout("d/.wh.old"), entry("lib/new", data=b"n"), entry("k", "hard", link="g"), entry("c", "char", dev=(1, 3))]


def mount(images, tag, where):
    """Mounts the layers as `unpack` prints them. Returns the directories."""
    lower = images("unpack", tag).strip().split(":")
    dirs = [os.path.join(lower[0], n) for n in lower[1:]]
    os.makedirs(where, exist_ok=True)
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(dirs), "test", where], check=True)
    return dirs


def tree(images, tag, tmp):
    where = os.path.join(tmp, "mounted")
    mount(images, tag, where)
    try:
        return oci.look(where)
    finally:
        subprocess.run(["umount", where], check=True)


def add(images, layout, tag, *layers, **kw):
    layout.image([oci.tar(*x) for x in layers], tag, **kw)
    images("import", f"oci:{layout.path}:{tag}")


def held(images):
    """How many layers are in the store, all of them whole."""
    layers, chains = (os.listdir(os.path.join(images.store, d)) for d in ("layers", "chains"))
    assert len(layers) == len(chains) == len({os.readlink(os.path.join(images.store, "chains", c)) for c in chains})
    return len(layers)


def test_names_of_a_lower_file_stay_together(images, layout, tmp):
    """A layer links a new name to a file of three names below: all four are one file, as in one tree."""
    add(images, layout, "a", [entry("d/", "dir", mtime=5), entry("d/1", data=b"x", mtime=7), entry("d/2", "hard", link="d/1"),
                              entry("3", "hard", link="d/1")], [entry("4", "hard", link="d/2")])
    t = tree(images, "a", tmp)
    assert len({t[n]["inode"] for n in ("d/1", "d/2", "3", "4")}) == 1
    assert t["d"]["mtime"] == 5 * 10**9 and t["d/1"]["mtime"] == 7 * 10**9


def test_names_that_the_layer_replaced_are_not_linked(images, layout, tmp):
    add(images, layout, "a", [entry("1", data=b"old"), entry("2", "hard", link="1"), entry("3", "hard", link="1")],
        [entry("2", data=b"new"), whiteout(".wh.3"), entry("4", "hard", link="1")])
    t = tree(images, "a", tmp)
    assert t["1"]["inode"] == t["4"]["inode"] and "inode" not in t["2"] and "3" not in t
    assert t["2"]["data"] == oci.sha256(b"new")[7:]


def test_root_of_each_layer(images, layout, tmp):
    """A layer without an entry for ./ keeps the root's mode, owner, attributes and time."""
    add(images, layout, "a", BASE, TOP)
    root = tree(images, "a", tmp)["."]
    assert (root["mode"], root["uid"], root["mtime"], root["xattrs"]) == (0o750, 3, 1500000000 * 10**9, {"user.root": "31"})


def test_layers_are_shared(images, layout, tmp):
    """Two images with the same two layers at the bottom keep them once; the same layer above others is another one."""
    add(images, layout, "a", BASE, TOP, [entry("a")])
    add(images, layout, "b", BASE, TOP, [entry("b")])
    add(images, layout, "c", TOP[1:2], BASE)
    one = images("unpack", "a").strip().split(":")
    assert images("unpack", "b").strip().split(":")[2:] == one[2:]
    assert held(images) == 4
    images("unpack", "c")
    assert held(images) == 6


def test_unpacked_once(images, layout, tmp):
    """The second unpack reads no layer: it works without the layers' blobs."""
    add(images, layout, "a", BASE, TOP)
    first = images("unpack", "a")
    manifest = images("inspect", "a")
    for digest in re.findall(r'"digest": "sha256:([0-9a-f]+)"', manifest.split('"layers"')[1].split('"config"')[0]):
        os.unlink(os.path.join(images.store, "images/blobs/sha256", digest))
    assert images("unpack", "a") == first
    images("--no-sync", "tag", "a", "b")
    assert images("unpack", "b") == first


def test_df(images, layout, tmp):
    """`image df` counts the same bytes as du, and counts a file with many names once."""
    layout.image([oci.tar(oci.entry("d/", "dir"), oci.entry("d/f", data=b"x" * 300000), *(oci.entry(f"d/l{i}", "hard", link="d/f") for i in range(40))),
                  oci.tar(oci.entry("d/g", data=b"y" * 100000))], "a")
    images("import", f"oci:{layout.path}:a")
    images("unpack", "a")
    df = json.loads(images("df", "--json"))
    used = {n: int(subprocess.run(["du", "-s", "-B1", f"{images.store}/{n}"], check=True, capture_output=True, text=True).stdout.split()[0])
            for n in ("layers", "images/blobs/sha256")}
    assert df["layers"]["count"] == 2 and df["blobs"]["count"] == 4 and df["disks"] == {"count": 0, "bytes": 0}
    for kind, name in (("layers", "layers"), ("blobs", "images/blobs/sha256")):
        # du counts the directory itself as well.
        assert abs(df[kind]["bytes"] + os.stat(f"{images.store}/{name}").st_blocks * 512 - used[name]) < 512
    lines = images("df").splitlines()
    assert lines[0].split() == ["WHAT", "COUNT", "SIZE"] and lines[-1].startswith("all") and len(lines) == 8
    images("rm", "a")
    assert json.loads(images("df", "--json"))["layers"] == {"count": 0, "bytes": 0}


def test_prune_keeps_what_tags_need(images, layout, tmp):
    add(images, layout, "a", BASE, TOP, [entry("a")])
    add(images, layout, "b", BASE, TOP, [entry("b")])
    images("unpack", "a")
    images("unpack", "b")
    images("rm", "a")
    assert held(images) == 3
    tree(images, "b", tmp)
    images("rm", "b")
    assert held(images) == 0


def test_ten_at_once(images, layout, tmp):
    """Ten processes unpack one image: each layer is unpacked by one of them, and all get the same layers."""
    add(images, layout, "a", BASE, TOP, [entry(f"x{i}", data=b"x" * 1000) for i in range(300)])
    with ThreadPoolExecutor(10) as pool:
        lines = set(pool.map(lambda i: oci.Images(images.program, images.store)("unpack", "a"), range(10)))
    assert len(lines) == 1 and held(images) == 3


def test_a_bad_layer_leaves_those_below(images, layout, tmp):
    add(images, layout, "a", BASE, TOP, [entry("../x")])
    images.fails("unpack", "a", saying='a component ".."')
    assert held(images) == 2


def counts(argv, log):
    subprocess.run(["strace", "-f", "-qq", "-o", log, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    n = {}
    with open(log, errors="replace") as f:
        for line in f:
            m = re.match(r"(?:\d+\s+)?(\w+)\(", line)
            if m:
                n[m.group(1)] = n.get(m.group(1), 0) + 1
    return n


def test_kill_at_each_call(images, layout, tmp):
    """SIGKILL at any call of unpack: what is named is whole, the next unpack gives the right tree, and prune removes the rest."""
    if not shutil.which("strace"):
        pytest.fail("no strace")
    add(images, layout, "a", BASE, TOP)
    right = tree(images, "a", tmp)
    argv = [images.program, "--store", images.store, "unpack", "a"]
    clean = os.path.join(tmp, "clean")
    for d in ("layers", "chains"):
        shutil.rmtree(os.path.join(images.store, d))
    shutil.copytree(images.store, clean)
    n = counts(argv, os.path.join(tmp, "log"))
    points = [(c, i) for c in CALLS for i in range(1, n.get(c, 0) + 1)]
    assert len(points) > 100
    for call, nth in points[::max(1, len(points) // SAMPLES)]:
        shutil.rmtree(images.store)
        shutil.copytree(clean, images.store)
        subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *argv],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        named = os.path.join(images.store, "chains")
        for c in os.listdir(named) if os.path.exists(named) else []:
            assert os.path.isdir(os.path.join(images.store, "layers", os.readlink(os.path.join(named, c)))), (call, nth)
        assert tree(images, "a", tmp) == right, (call, nth)
        images("prune")
        assert held(images) == 2, (call, nth)
        assert os.listdir(os.path.join(images.store, "partial")) == []
        assert tree(images, "a", tmp) == right, (call, nth)


def test_path_too_long_for_fsconfig(program, layout, template, rt, tmp):
    """The store's path is longer than a value of fsconfig(2), so mount(2) mounts the layers, as it does before Linux 6.8."""
    images = oci.Images(program, os.path.join(tmp, *(["x" * 100] * 4), "store"))
    base = subprocess.run(["tar", "-c", "-C", template, "."], check=True, capture_output=True).stdout
    layers = [base] + [oci.tar(entry("n", data=b"%d" % i), entry("d/%d" % i), whiteout("d/.wh.%d" % (i - 2))) for i in range(130)]
    layout.image(layers, "many", config={"Env": ["PATH=/bin"]})
    images("import", f"oci:{layout.path}:many")
    r = rt("run", "--image", "many", "--store", images.store, "--rm", "--network", "none", "sh", "-c", "cat /n; ls /d; touch /d/x; grep -c ' / overlay ' /proc/mounts").ok()
    assert r.out.split() == ["129128", "129", "1"]
    assert held(images) == 131
    images("rm", "many")
