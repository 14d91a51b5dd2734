# SPDX-License-Identifier: Apache-2.0
"""`caisson image diff IMAGE1 IMAGE2`, beside podman's."""
import json
import os

import pytest

from harness.oci import entry, tar, whiteout

BASE = [entry("./", "dir"), entry("same/", "dir"), entry("same/f", data=b"s"), entry("d/", "dir"), entry("d/gone"), entry("d/sub/", "dir"),
        entry("d/sub/x"), entry("mode", data=b"1"), entry("owner"), entry("time"), entry("data", data=b"12"), entry("size", data=b"1"),
        entry("link", "link", link="a"), entry("file", data=b"f"), entry("dir/", "dir"), entry("dir/in"), entry("xattr", xattrs={"user.a": b"1"}),
        entry("dirmode/", "dir"), entry("deep/a/b/", "dir"), entry("fifo", "fifo"), entry("hard1", data=b"h"), entry("hard2", "hard", link="hard1")]
LAYER = [entry("d/", "dir"), entry("d/new"), whiteout("d/.wh.gone"), whiteout("d/.wh.sub"), entry("mode", data=b"1", mode=0o600), entry("owner", uid=1),
         entry("time", mtime=1600000001), entry("data", data=b"21"), entry("size", data=b"123"), entry("link", "link", link="b"), whiteout(".wh.file"),
         entry("file/", "dir"), entry("file/in"), whiteout(".wh.dir"), entry("dir", data=b"now a file"), entry("xattr", xattrs={"user.a": b"2"}),
         entry("dirmode/", "dir", mode=0o700), entry("deep/a/b/c"), entry("fifo", "fifo", mtime=5), entry("hard2", data=b"h"), entry("new/", "dir"),
         entry("new/x"), entry("new/\nD x\x1b", data=b"")]
WANT = ["C /d", "D /d/gone", "A /d/new", "D /d/sub", "C /data", "C /deep", "C /deep/a", "C /deep/a/b", "A /deep/a/b/c", "C /dir", "C /dirmode", "C /fifo",
        "C /file", "A /file/in", "C /link", "C /mode", "A /new", "A /new/|D x?", "A /new/x", "C /owner", "C /size", "C /time", "C /xattr"]


@pytest.fixture
def pair(images, layout):
    layout.image([tar(*BASE)], "one")
    layout.image([tar(*BASE), tar(*LAYER)], "two")
    # The same tree as "two", from other layers.
    layout.image([tar(*BASE, entry("more")), tar(whiteout(".wh.more")), tar(*LAYER), tar()], "three")
    for t in ("one", "two", "three"):
        images("import", f"oci:{layout.path}:{t}")


def test_each_kind(images, pair):
    assert images("diff", "one", "two").splitlines() == WANT
    assert images("diff", "one", "three").splitlines() == WANT
    assert images("diff", "two", "three") == images("diff", "one", "one") == ""
    back = [{"A": "D", "D": "A", "C": "C"}[x[0]] + x[1:] for x in WANT]
    back = [x for x in back if not x.startswith(("D /new/", "D /file/"))] + ["A /d/sub/x", "A /dir/in"]
    assert sorted(images("diff", "two", "one").splitlines()) == sorted(back)


def test_json(images, pair):
    found = json.loads(images("diff", "--json", "one", "two"))
    assert [x["kind"] for x in found] == [x[0] for x in WANT]
    assert found[WANT.index("A /new/|D x?")] == {"kind": "A", "path": "/new/\nD x\x1b"}


def test_beside_podman(images, pair, podman, tmp):
    """podman lists the same, in another order, but neither /data nor /link: their size and time are the same, and it compares neither
    the bytes of a file nor the target of a link."""
    for t in ("one", "two"):
        images("tag", t, f"localhost/{t}:1")
        images("save", "-o", f"{tmp}/{t}.tar", f"localhost/{t}:1")
        podman("load", "-q", *podman.policy, "-i", f"{tmp}/{t}.tar")
    theirs = json.loads(podman("diff", "--format", "json", "localhost/two:1", "localhost/one:1"))
    listed = {(k[0].upper(), p) for k, paths in theirs.items() for p in paths}
    ours = {(x["kind"], x["path"]) for x in json.loads(images("diff", "--json", "one", "two"))}
    assert listed < ours and ours - listed == {("C", "/data"), ("C", "/link")}


def test_errors(images, pair):
    images.fails("diff", "one", "absent", saying='no image "absent"')
    images.fails("diff", "one", "two", "three", saying="usage: caisson image diff")
    images.fails("diff", saying="usage: caisson image diff")
    assert not os.path.exists(images.store + "/containers/one")
