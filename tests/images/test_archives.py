# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson image save` and `load`, beside docker's archives as skopeo, podman and crane read and write them."""
import io
import json
import os
import re
import subprocess
import tarfile

import pytest

from harness import oci
from harness.oci import entry, tar
from harness.registry import DockerRegistry


def sh(*args, **kw):
    p = subprocess.run(args, capture_output=True, text=kw.pop("text", True), timeout=120, check=False, **kw)
    assert p.returncode == 0, f"{' '.join(map(str, args))}: {p.stderr}"
    return p.stdout


@pytest.fixture
def two(images, layout):
    """A store with two images that share a layer. The first one has two names."""
    shared = tar(entry("etc/", "dir"), entry("etc/shared", data=os.urandom(100000), mode=0o4755, uid=3))
    layout.image([shared, tar(entry("a"))], "a", {"Env": ["A=1"]})
    layout.image([shared, tar(entry("b"))], "b", {"Labels": {"k": "v"}})
    images("import", f"oci:{layout.path}:a", "docker.io/library/a:1")
    images("tag", "a:1", "localhost/x/y:2")
    images("import", f"oci:{layout.path}:b", "example.com:5000/b:latest")
    return ["a:1", "localhost/x/y:2", "example.com:5000/b"]


NAMES = ["docker.io/library/a:1", "example.com:5000/b:latest", "localhost/x/y:2"]


def listed(images):
    return {i["name"]: i["digest"] for i in json.loads(images("ls", "--json"))}


@pytest.fixture
def other(images, tmp):
    return oci.Images(images.program, tmp + "/other")


def trees(images, names, tmp, prefix):
    found = {}
    for i, n in enumerate(names):
        images("unpack", n, f"{tmp}/{prefix}{i}")
        found[n] = oci.look(f"{tmp}/{prefix}{i}")
        del found[n]["."]["mtime"]  # no layer lists the root
    return found


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_save_and_load(images, two, other, form, tmp):
    """Every name comes back, with the same tree, by a file and by a pipe, compressed too; a shared layer is there once."""
    images("save", "--format", form, "-o", tmp + "/f.tar", *two, two[0])
    piped = subprocess.run([images.program, "--store", images.store, "save", "--format", form, *two], capture_output=True, check=True).stdout
    assert open(tmp + "/f.tar", "rb").read() == piped
    members = tarfile.open(fileobj=io.BytesIO(piped)).getnames()
    assert len(members) == len(set(members))
    assert sorted(other("load", "-i", tmp + "/f.tar").splitlines()) == ["Loaded image: " + n for n in NAMES]
    assert set(listed(other)) == set(NAMES)
    assert trees(other, NAMES, tmp, "o") == trees(images, NAMES, tmp, "i")
    if form == "oci-archive":
        assert listed(other) == listed(images)
    third = oci.Images(images.program, tmp + "/third")
    assert sorted(third("--quiet", "load", input=__import__("gzip").compress(piped)).split()) == NAMES
    assert {n["name"] for n in json.loads(third("load", "--json", "-i", tmp + "/f.tar"))} == set(NAMES)


def test_skopeo_reads_saved_images(images, two, tmp):
    images("save", "-o", tmp + "/d.tar", *two)
    images("save", "-o", tmp + "/o.tar", "--format=oci-archive", *two)
    for name in NAMES:
        ours = json.loads(images("inspect", name))
        assert json.loads(sh("skopeo", "inspect", f"oci-archive:{tmp}/o.tar:{name}"))["Digest"] == ours["manifest"]["digest"]
        env = json.loads(sh("skopeo", "inspect", "--config", f"docker-archive:{tmp}/d.tar:{name}"))["config"]
        assert env == ours["config"]["config"]


def test_podman_reads_and_writes(images, two, other, podman, tmp):
    """podman load reads every image of both forms, and what podman save --multi-image-archive writes is loaded."""
    for form in ("docker-archive", "oci-archive"):
        images("save", "-o", f"{tmp}/{form}.tar", "--format", form, *two)
    said = podman("load", *podman.policy, "-i", tmp + "/docker-archive.tar")
    assert all(n in said for n in NAMES)
    podman("save", "--multi-image-archive", "-o", tmp + "/p.tar", *NAMES)
    assert sorted(re.findall("Loaded image: (.*)", other("load", "-i", tmp + "/p.tar"))) == NAMES
    assert trees(other, NAMES, tmp, "o") == trees(images, NAMES, tmp, "i")
    podman("rmi", "--all", "--force")
    images("save", "-o", tmp + "/one.tar", "--format", "oci-archive", "a:1")
    podman("load", *podman.policy, "-i", tmp + "/one.tar")
    assert json.loads(podman("inspect", "docker.io/library/a:1"))[0]["Config"]["Env"] == ["A=1"]
    podman("save", "--format", "oci-archive", "-o", tmp + "/po.tar", "docker.io/library/a:1")
    assert "docker.io/library/a:1" in oci.Images(images.program, tmp + "/third")("load", "-i", tmp + "/po.tar")


def test_crane_reads_and_writes(images, two, other, crane, tmp):
    """crane pushes what is saved, and what it pulls is loaded."""
    registry = DockerRegistry(tmp + "/registry")
    try:
        images("save", "-o", tmp + "/a.tar", "a:1")
        name = f"{registry.host}/team/a:1"
        sh(crane, "push", "--insecure", tmp + "/a.tar", name)
        sh(crane, "pull", "--insecure", name, tmp + "/c.tar")
    finally:
        registry.close()
    assert other("load", "-i", tmp + "/c.tar") == f"Loaded image: {name}\n"
    assert list(trees(other, [name], tmp, "o").values()) == list(trees(images, ["a:1"], tmp, "i").values())


def test_docker_with_an_index(images, layout, tmp):
    """docker 25 and later write both documents. The index keeps the digest, and containerd's annotation has the full name. If
    the index lacks a name, manifest.json has it."""
    d = layout.image([tar(entry("f"))], "t", {"Env": ["A=1"]})
    manifest = json.loads(open(f"{layout.path}/blobs/sha256/{d['digest'][7:]}", "rb").read())
    docker = [{"Config": "blobs/sha256/" + manifest["config"]["digest"][7:], "RepoTags": ["img:2"],
               "Layers": ["blobs/sha256/" + x["digest"][7:] for x in manifest["layers"]]}]
    blobs = [entry("blobs/sha256/" + n, data=open(f"{layout.path}/blobs/sha256/{n}", "rb").read()) for n in os.listdir(layout.path + "/blobs/sha256")]
    index = lambda **a: json.dumps({"schemaVersion": 2, "manifests": [{**d, "annotations": a}]}).encode()
    both = lambda i: tar(*blobs, entry("index.json", data=i), entry("manifest.json", data=json.dumps(docker).encode()), entry("oci-layout", data=b"{}"))
    named = index(**{"io.containerd.image.name": "docker.io/library/img:2", "org.opencontainers.image.ref.name": "2"})
    assert images("load", input=both(named)) == "Loaded image: docker.io/library/img:2\n"
    assert listed(images) == {"docker.io/library/img:2": d["digest"]}
    assert images("load", input=both(index(x="y"))) == "Loaded image: img:2\n"
    images.fails("load", input=tar(*blobs, entry("index.json", data=index(x="y"))), saying="no name: use `caisson image import oci-archive:FILE NAME`")


def test_all_platforms_are_kept(images, layout, other, tmp):
    entries = []
    for arch in ("amd64", "arm64"):
        d = layout.image([tar(entry(arch))], arch, architecture=arch)
        entries.append({**d, "platform": {"architecture": arch, "os": "linux"}})
    layout.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}, "m")
    images("import", "--all", f"oci:{layout.path}:m", "m")
    images("save", "-o", tmp + "/m.tar", "--format", "oci-archive", "m")
    other("load", "-i", tmp + "/m.tar")
    assert listed(other) == listed(images)
    other("unpack", "--platform", "arm64", "m", tmp + "/r")
    assert os.listdir(tmp + "/r") == ["arm64"]
    other("load", "--platform", "linux/arm64", "-i", tmp + "/m.tar")
    assert listed(other) == {"m": entries[1]["digest"]}


def test_errors(images, two, tmp):
    open(tmp + "/kept", "w").write("x")
    images.fails("save", "-o", tmp + "/kept", "a:1", "absent", saying='no image "absent"')
    assert open(tmp + "/kept").read() == "x"
    images.fails("save", saying="usage: caisson image save")
    images.fails("save", "--format", "zip", "a:1", saying="--format zip: expected docker-archive or oci-archive")
    images.fails("save", "-o", tmp + "/no/f", "a:1", saying="/no/f")
    images.fails("load", "-i", tmp + "/absent", saying="/absent")
    images.fails("load", "-i", tmp, saying="Is a directory")
    images.fails("load", input=tar(entry("x", data=b"1")), saying="neither manifest.json nor index.json")
    images.fails("load", input=b"no archive", saying="standard input")
    before = listed(images)
    images("save", "-o", tmp + "/f.tar", *two)
    data = open(tmp + "/f.tar", "rb").read()
    for cut in (100, 600, len(data) // 2, len(data) - 2000):
        images.fails("load", input=data[:cut], saying="")
    assert listed(images) == before
    subprocess.run(["script", "-qec", f"{images.program} --store {images.store} save a:1", "/dev/null"], stdout=open(tmp + "/said", "wb"), check=False)
    assert b"standard output is a terminal" in open(tmp + "/said", "rb").read()


def test_policy_of_an_archive(images, two, tmp):
    """policy.json is asked for the form that the archive has."""
    archives = {}
    for form in ("docker-archive", "oci-archive"):
        archives[form] = subprocess.run([images.program, "--store", images.store, "save", "--format", form, "a:1"], capture_output=True, check=True).stdout
    os.makedirs(tmp + "/config/containers")
    os.mkdir(tmp + "/user")
    for d in (tmp, tmp + "/config", tmp + "/config/containers", tmp + "/user"):
        os.chmod(d, 0o777)
    with open(tmp + "/config/containers/policy.json", "w") as f:
        json.dump({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker-archive": {"": [{"type": "reject"}]}}}, f)
    user = {"env": {**os.environ, "XDG_CONFIG_HOME": tmp + "/config"}, "prefix": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]}
    mine = oci.Images(images.program, tmp + "/user/store")
    mine.fails("load", input=archives["docker-archive"], saying="policy.json", **user)
    assert listed(mine) == {}
    assert mine("load", input=archives["oci-archive"], **user) == "Loaded image: docker.io/library/a:1\n"


@pytest.mark.parametrize("where", ["blobs", "blobs/sha256"])
def test_export_follows_no_link_of_a_layout(images, two, tmp, where):
    """A layout may be a stranger's: what it links to elsewhere is not written, and no file of it is opened for writing."""
    os.makedirs(f"{tmp}/l/{os.path.dirname(where)}")
    os.mkdir(tmp + "/elsewhere")
    os.symlink(tmp + "/elsewhere", f"{tmp}/l/{where}")
    images.fails("export", "a:1", f"oci:{tmp}/l:x", saying="symbolic link")
    assert os.listdir(tmp + "/elsewhere") == []


def test_export_replaces_links_and_writes_no_file_that_is_there(images, two, tmp):
    open(tmp + "/victim", "w").write("kept")
    for form, names in (("oci", ["index.json", "oci-layout"]), ("dir", ["version", "manifest.json"])):
        os.mkdir(f"{tmp}/{form}")
        for n in names:
            os.symlink(tmp + "/victim", f"{tmp}/{form}/{n}")
            os.link(tmp + "/victim", f"{tmp}/{form}/{n}.caisson-new")
        if form == "oci":
            images.fails("export", "a:1", f"{form}:{tmp}/{form}", saying="index.json is not a regular file")
            os.unlink(f"{tmp}/{form}/index.json")
        images("export", "a:1", f"{form}:{tmp}/{form}")
        assert open(tmp + "/victim").read() == "kept"
        assert all(os.path.isfile(f"{tmp}/{form}/{n}") and not os.path.islink(f"{tmp}/{form}/{n}") for n in names)
    digest = json.loads(images("inspect", "a:1"))["configuration"]["digest"][7:]
    os.unlink(f"{tmp}/dir/{digest}")
    os.symlink("x" * json.loads(images("inspect", "a:1"))["configuration"]["size"], f"{tmp}/dir/{digest}")
    images("export", "a:1", f"dir:{tmp}/dir")
    assert not os.path.islink(f"{tmp}/dir/{digest}")
