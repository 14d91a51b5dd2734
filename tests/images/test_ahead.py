# SPDX-License-Identifier: Apache-2.0
"""`caisson image pull` unpacks the layers while they come. Nothing of a layer is used before its digest was checked."""
import gzip
import os
import time

import pytest

from harness import oci
from harness.oci import entry, tar, whiteout
from harness.registry import Hostile
from test_registry import digest_of_layer, on


@pytest.fixture
def hostile():
    h = Hostile()
    yield h
    h.close()


@pytest.fixture
def env(tmp):
    open(tmp + "/registries.conf", "w").close()
    return {**os.environ, "HOME": tmp, "XDG_RUNTIME_DIR": tmp + "/run", "CONTAINERS_REGISTRIES_CONF": tmp + "/registries.conf"}


def chains(images):
    return os.listdir(images.store + "/chains")


def unpacked(images):
    """The regular files of the layers that are unpacked, or being unpacked."""
    return {f for _, _, files in os.walk(images.store + "/layers") for f in files}


LAYERS = [tar(entry("./", "dir"), entry("d/", "dir"), entry("d/old"), entry("keep", data=b"1", mode=0o4755, uid=7)),
          tar(whiteout("d/.wh.old"), entry("d/new", data=b"2")), tar(entry("keep2", "hard", link="keep"))]


def test_layers_are_unpacked(hostile, images, env, tmp):
    """Afterwards `unpack` has nothing to do, and the tree is the one that it would have made."""
    hostile.image(layers=LAYERS)
    name = f"{hostile.host}/a:t"
    images("pull", name, env=env)
    assert len(chains(images)) == 3
    before = os.stat(images.store + "/layers").st_mtime_ns
    found = images("unpack", name).strip().split(":")
    assert os.stat(images.store + "/layers").st_mtime_ns == before and len(found) == 4
    other = oci.Images(images.program, tmp + "/other")
    other("pull", "--no-unpack", name, env=env)
    assert chains(other) == [] and unpacked(other) == set()
    want = other("unpack", name).strip().split(":")
    for ours, theirs in zip(found[1:], want[1:]):
        a, b = oci.look(f"{found[0]}/{ours}"), oci.look(f"{want[0]}/{theirs}")
        for tree in (a, b):
            for e in tree.values():
                e["xattrs"] = {k: v for k, v in e["xattrs"].items() if k not in ("trusted.overlay.origin", "trusted.overlay.uuid")}  # ids
                e.pop("mtime")
        assert a == b


@pytest.mark.parametrize("compress", [False, True])
def test_a_layer_is_unpacked_while_it_comes(hostile, images, env, compress):
    """The registry sends the second half of a layer only when the first half is unpacked. This is no shared layer yet."""
    plain = tar(entry("first", data=os.urandom(3 << 20)), entry("middle", data=os.urandom(3 << 20)), entry("last", data=os.urandom(3 << 20)))
    data = gzip.compress(plain, 1) if compress else plain
    _, m = hostile.image(layers=[plain])
    seen = []
    if compress:
        m["layers"][0].update(digest=hostile.add(data), size=len(data))
        hostile.add_manifest(m, "t")

    def slow(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        end = time.monotonic() + 60
        while "first" not in unpacked(images) and time.monotonic() < end:
            time.sleep(0.01)
        seen.append((unpacked(images), chains(images)))
        h.wfile.write(data[len(data) // 2:])
    hostile.rules.append(on("GET", digest_of_layer(m), 1)(slow))
    images("pull", f"{hostile.host}/a:t", env=env)
    assert "first" in seen[0][0] and "last" not in seen[0][0] and seen[0][1] == []
    assert len(chains(images)) == 1 and unpacked(images) >= {"first", "middle", "last"}


def test_bytes_that_are_wrong_are_not_used(hostile, images, env):
    """The registry sends another layer of the same size, which is a tar that can be unpacked."""
    good, bad = (tar(entry("f", data=x * 3000000)) for x in (b"1", b"2"))
    _, m = hostile.image(layers=[good])
    hostile.rules.append(on("GET", digest_of_layer(m))(lambda h: h.reply(200, bad)))
    images.fails("pull", f"{hostile.host}/a:t", env=env, saying="its bytes have the digest")
    assert chains(images) == []
    hostile.rules.clear()
    images("pull", f"{hostile.host}/a:t", env=env)
    where, name = images("unpack", f"{hostile.host}/a:t").strip().split(":")
    with open(f"{where}/{name}/f", "rb") as f:
        assert f.read(5) == b"11111"
    images("prune")
    assert len(os.listdir(where)) == 1


def test_download_that_begins_anew(hostile, images, env):
    """The first half is wrong and the connection is cut; the registry knows no ranges, so the blob begins anew, with the right bytes."""
    good, bad = (tar(*(entry(f"f{i}", data=x * 500000) for i in range(8))) for x in (b"1", b"2"))
    _, m = hostile.image(layers=[good])
    hostile.rules.append(on("GET", digest_of_layer(m), 1)(lambda h: h.reply(200, bad, cut=len(bad) // 2)))
    hostile.rules.append(on("GET", digest_of_layer(m))(lambda h: h.reply(200, good)))
    images("pull", f"{hostile.host}/a:t", env=env)
    where, name = images("unpack", f"{hostile.host}/a:t").strip().split(":")
    for i in range(8):
        with open(f"{where}/{name}/f{i}", "rb") as f:
            assert f.read() == b"1" * 500000
    images("prune")
    assert len(os.listdir(where)) == 1


def test_what_cannot_be_unpacked_is_pulled(hostile, images, env):
    """An artifact, or a layer that is no tar, can be pulled and pushed. Only `unpack` fails, and says why."""
    hostile.image(layers=[LAYERS[0], b"no tar" * 1000])
    name = f"{hostile.host}/a:t"
    assert images("pull", name, env=env) == name + "\n" and "no tar" not in images.err
    assert len(chains(images)) == 1 and len(os.listdir(images.store + "/layers")) == 1
    images.fails("unpack", name, saying="layer 2 of 2")


def test_pull_that_fails_ends_the_unpacking(hostile, images, env):
    """The second layer never comes. The first one is whole and stays; the process that waits for the second one ends."""
    _, m = hostile.image(layers=LAYERS)
    hostile.rules.append(on("GET", m["layers"][1]["digest"])(lambda h: h.reply(404, b"")))
    images.fails("pull", f"{hostile.host}/a:t", env=env, saying="has no")
    assert len(chains(images)) <= 1 and len(os.listdir(images.store + "/layers")) == len(chains(images))


def test_other_platforms_are_not_unpacked(hostile, images, env):
    d, _ = hostile.image("amd", layers=[tar(entry("amd"))])
    e, _ = hostile.image("arm", layers=[tar(entry("arm"))], platform=("arm64", "linux"))
    hostile.add_manifest({"schemaVersion": 2, "manifests": [{**d, "platform": {"architecture": "amd64", "os": "linux"}},
                                                            {**e, "platform": {"architecture": "arm64", "os": "linux"}}]}, "t", kind="index")
    images("pull", "--platform", "linux/arm64", f"{hostile.host}/a:t", env=env)
    images("pull", "--all-platforms", f"{hostile.host}/a:t", env=env)
    assert chains(images) == []
    images("pull", f"{hostile.host}/a:t", env=env)
    assert unpacked(images) == {"amd"}


def test_a_users_layers_are_unpacked(hostile, images, env, tmp):
    """The process that unpacks becomes the root of a user namespace; the one that pulls does not."""
    hostile.image(layers=LAYERS)
    os.chmod(tmp, 0o777)
    mine = oci.Images(images.program, tmp + "/user-store")
    user = {"env": {**env, "HOME": "/nonexistent"}, "prefix": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]}
    name = f"{hostile.host}/a:t"
    mine("pull", name, **user)
    assert len(chains(mine)) == 3 and {os.stat(f"{mine.store}/layers/{n}").st_uid for n in os.listdir(mine.store + "/layers")} == {65534}
    before = os.stat(mine.store + "/layers").st_mtime_ns
    mine("unpack", name, **user)
    assert os.stat(mine.store + "/layers").st_mtime_ns == before
