# SPDX-License-Identifier: Apache-2.0
"""Debian's docker-registry and distribution 3.1, with skopeo (it has podman's and buildah's library) and crane as others who push and
pull."""
import json
import os
import shutil
import subprocess

import pytest

from harness import oci
from harness.registry import DockerRegistry, make_certificate


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificate(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
def plain(tmp_path_factory, registry_program):
    r = DockerRegistry(str(tmp_path_factory.mktemp("plain")), program=registry_program)
    yield r
    r.close()


@pytest.fixture(scope="session")
def locked(tmp_path_factory, certificates, registry_program):
    """TLS and basic authentication."""
    r = DockerRegistry(str(tmp_path_factory.mktemp("locked")), certificates, ("alice", "pass:word"), program=registry_program)
    yield r
    r.close()


@pytest.fixture
def env(tmp):
    e = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "REGISTRY_", "DOCKER_", "CONTAINERS_"))}
    os.makedirs(tmp + "/home", exist_ok=True)
    open(tmp + "/registries.conf", "w").close()
    return {**e, "HOME": tmp + "/home", "XDG_RUNTIME_DIR": tmp + "/run", "CONTAINERS_REGISTRIES_CONF": tmp + "/registries.conf"}


@pytest.fixture
def image(layout):
    """An image of three layers, one of them twice."""
    base = oci.tar(oci.entry("bin/", "dir"), oci.entry("bin/f", data=os.urandom(300000), mode=0o4755, uid=5))
    layout.image([base, oci.tar(oci.entry("g")), base], "x", {"Env": ["A=1"], "Labels": {"a": "b"}})
    return f"oci:{layout.path}:x"


def sh(*args, **kw):
    p = subprocess.run(args, capture_output=True, text=True, timeout=120, **kw)
    assert p.returncode == 0, f"{args}: {p.stdout}{p.stderr}"
    return p.stdout


def look(path):
    """The tree without the time of its root, which no layer of these images has."""
    tree = oci.look(path)
    del tree["."]["mtime"]
    return tree


def digest(images, name):
    return {i["name"]: i["digest"] for i in json.loads(images("ls", "--json"))}[name]


def test_round_trip(plain, images, image, env, tmp):
    """Push, pull into another store, and push from there: the same digest and tree everywhere."""
    images("import", image, "x")
    name = f"{plain.host}/team/x:1"
    images("push", "x", name, env=env)
    other = oci.Images(images.program, tmp + "/other")
    assert other("pull", name, env=env) == name + "\n"
    assert digest(other, name) == digest(images, "x")
    images("unpack", "x", tmp + "/a")
    other("unpack", name, tmp + "/b")
    assert look(tmp + "/a") == look(tmp + "/b")
    other("push", name, f"{plain.host}/second/x", env=env)
    assert json.loads(sh("skopeo", "inspect", "--tls-verify=false", f"docker://{plain.host}/second/x"))["Digest"] == digest(images, "x")


def test_skopeo_reads_what_is_pushed(plain, images, image, env, tmp):
    images("import", image, "x")
    images("push", "x", f"{plain.host}/x:1", env=env)
    sh("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{plain.host}/x:1", f"oci:{tmp}/o:x")
    sh("umoci", "unpack", "--image", f"{tmp}/o:x", tmp + "/u")
    images("unpack", "x", tmp + "/r")
    assert look(tmp + "/u/rootfs") == look(tmp + "/r")


def test_crane_pushes_and_pulls(plain, crane, images, image, env, tmp):
    """crane pushes the store's own layout and an image that it makes by `append`, whose configuration names no architecture. What it
    pulls of ours has our digest."""
    images("import", image, "x")
    images("push", "x", f"{plain.host}/ours:1", env=env)
    assert sh(crane, "digest", "--insecure", f"{plain.host}/ours:1").strip() == digest(images, "x")
    sh(crane, "validate", "--insecure", "--remote", f"{plain.host}/ours:1")
    sh(crane, "pull", "--insecure", "--format", "oci", f"{plain.host}/ours:1", tmp + "/crane")
    sh(crane, "push", "--insecure", tmp + "/crane", f"{plain.host}/crane/x:1")
    images("pull", f"{plain.host}/crane/x:1", env=env)
    assert digest(images, f"{plain.host}/crane/x:1") == digest(images, "x")
    with open(tmp + "/more.tar", "wb") as f:
        f.write(oci.tar(oci.entry("more", data=b"m", uid=3)))
    sh(crane, "append", "--insecure", "-b", f"{plain.host}/ours:1", "-f", tmp + "/more.tar", "-t", f"{plain.host}/appended:1")
    sh(crane, "append", "--insecure", "--oci-empty-base", "-f", tmp + "/more.tar", "-t", f"{plain.host}/fresh:1")
    for name, files in (("appended", {".", "bin", "bin/f", "g", "more"}), ("fresh", {".", "more"})):
        images("pull", f"{plain.host}/{name}:1", env=env)
        images("unpack", f"{plain.host}/{name}:1", f"{tmp}/{name}")
        assert set(look(f"{tmp}/{name}")) == files


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_pulls_what_skopeo_pushed(plain, images, image, env, tmp, form):
    """An OCI manifest, and docker's schema 2."""
    name = f"{plain.host}/skopeo/{form}:1"
    sh("skopeo", "copy", "-q", "--dest-tls-verify=false", "-f", form, image, "docker://" + name)
    images("pull", name, env=env)
    images("unpack", name, tmp + "/r")
    assert open(tmp + "/r/bin/f", "rb").read() and os.path.exists(tmp + "/r/g")
    want = json.loads(sh("skopeo", "inspect", "--tls-verify=false", "docker://" + name))["Digest"]
    assert digest(images, name) == want
    images("pull", f"{plain.host}/skopeo/{form}@{want}", env=env)
    images("push", name, f"{plain.host}/again/{form}:2", env=env)
    assert json.loads(sh("skopeo", "inspect", "--tls-verify=false", f"docker://{plain.host}/again/{form}:2"))["Digest"] == want


def test_several_platforms(plain, images, layout, env, tmp):
    """A list that buildah writes; each platform is pulled for itself, and all together."""
    entries = []
    for arch in ("amd64", "arm64"):
        d = layout.image([oci.tar(oci.entry(arch))], arch, architecture=arch)
        entries.append({**d, "platform": {"architecture": arch, "os": "linux"}})
    layout.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}, "multi")
    name = f"{plain.host}/multi:1"
    sh("skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", f"oci:{layout.path}:multi", "docker://" + name)
    for arch in ("amd64", "arm64"):
        images("pull", "--platform", "linux/" + arch, name, env=env)
        images("unpack", "--platform", "linux/" + arch, name, tmp + "/" + arch)
        assert os.listdir(tmp + "/" + arch) == [arch]
    images.fails("pull", "--platform", "linux/riscv64", name, saying="it is for: linux/amd64, linux/arm64", env=env)
    images("pull", "--all-platforms", name, env=env)
    images("push", name, f"{plain.host}/multi:2", env=env)
    raw = [sh("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{plain.host}/multi:{t}") for t in "12"]
    assert raw[0] == raw[1]


def test_tls_and_login(locked, images, image, certificates, env, tmp):
    images("import", image, "x")
    name = f"{locked.host}/x:1"
    images.fails("push", "x", name, saying="certificate", env=env)
    # skopeo takes a *.key for a client's.
    os.mkdir(tmp + "/ca")
    shutil.copy(certificates + "/ca.crt", tmp + "/ca")
    certificates = tmp + "/ca"
    ca = ["--cert-dir", certificates]
    images.fails("push", *ca, "x", name, saying="log in by", env=env)
    images.fails("login", *ca, "-u", "alice", "--password-stdin", locked.host, input=b"wrong", saying="does not take the user", env=env)
    images("login", *ca, "-u", "alice", "--password-stdin", locked.host, input=b"pass:word", env=env)
    images("push", *ca, "x", name, env=env)
    images("rm", "x")
    images("pull", *ca, name, env=env)
    # skopeo reads the same file of credentials.
    file = tmp + "/run/containers/auth.json"
    assert json.loads(sh("skopeo", "inspect", "--cert-dir", certificates, "--authfile", file, "docker://" + name))["Digest"] == digest(images, name)
    images("logout", locked.host, env=env)
    images.fails("pull", *ca, name, saying="log in by", env=env)
    # And caisson reads what skopeo writes.
    sh("skopeo", "login", "--cert-dir", certificates, "--authfile", file, "-u", "alice", "-p", "pass:word", locked.host)
    images("pull", *ca, name, env=env)


def test_referrers_fall_back_to_the_tag(plain, images, image, layout, env):
    """Neither registry has an API of referrers: both answer 404 in plain text."""
    images("import", image, "x")
    images("push", "x", f"{plain.host}/ref:x", env=env)
    assert images("referrers", f"{plain.host}/ref:x", env=env) == ""


def test_sha512_blobs(plain, images, layout, env):
    """Both registries take blobs by sha512, which few clients name."""
    import hashlib
    data = oci.tar(oci.entry("f", data=b"512"))
    d = "sha512:" + hashlib.sha512(data).hexdigest()
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [oci.sha256(data)]}}).encode()
    os.makedirs(layout.path + "/blobs/sha512", exist_ok=True)
    with open(layout.path + "/blobs/sha512/" + d[7:], "wb") as f:
        f.write(data)
    layout.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": layout.blob(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d, "size": len(data)}]}, "s")
    images("import", f"oci:{layout.path}:s", "s")
    images("push", "s", f"{plain.host}/s512:1", env=env)
    images("rm", "s")
    images("pull", f"{plain.host}/s512:1", env=env)
    # Both refuse a manifest by sha512, and caisson says so with the registry's answer.
    images.fails("pull", f"{plain.host}/s512@sha512:" + "0" * 128, env=env, saying="sha512:000")
