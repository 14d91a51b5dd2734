# SPDX-License-Identifier: Apache-2.0
"""Tests images from and to other tools, a store that other programs use too, and bundles that runtimes run."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from harness import oci, rootfs
from harness.oci import entry, tar, whiteout


def sh(*args, **kw):
    p = subprocess.run(args, capture_output=True, text=kw.pop("text", True), timeout=120, **kw)
    assert p.returncode == 0, f"{' '.join(map(str, args))}: {p.stderr}"
    return p.stdout


@pytest.fixture(scope="session")
def skopeo(work):
    """skopeo, which accepts every image here."""
    policy = os.path.join(work, "policy.json")
    with open(policy, "w") as f:
        f.write('{"default":[{"type":"insecureAcceptAnything"}]}')
    return lambda *args: sh("skopeo", "--policy", policy, "--tmpdir", work, *args)


@pytest.fixture
def busybox(layout, template, tmp):
    """A layout with an image of the tests' busybox root, in two layers, with a configuration."""
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    files = tar(entry("etc/passwd", data=b"root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n"),
                entry("etc/group", data=b"root:x:0:\nweb:x:1001:\nmore:x:1002:root,web\nother:x:1003:webb\n"), entry("gone"), entry("data/", "dir", uid=1000))
    config = {"Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id; pwd; echo $A"], "User": "web", "WorkingDir": "/data/new",
              "StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
              "Labels": {"com.example.ok": "1", "io.caisson.isolation": "vm", "run.oci.handler": "krun", "org.systemd.property.MemoryMax": "1",
                         "module.wasm.image/variant": "compat", "io.katacontainers.config.hypervisor.path": "/x", "Run.OCI.hooks": "x",
                         "isolation": "vm"}}
    layout.image([base, files, tar(whiteout(".wh.gone"))], "bb", config, author="me", created="2020-01-02T03:04:05Z")
    return f"oci:{layout.path}:bb"


def test_import_forms(images, busybox, layout, skopeo, tmp):
    """One image that skopeo has converted to each form becomes the same image in the store, and the same tree."""
    skopeo("copy", busybox, f"dir:{tmp}/dir")
    skopeo("copy", busybox, f"oci-archive:{tmp}/oci.tar:x")
    skopeo("copy", busybox, f"docker-archive:{tmp}/docker.tar:example.com/bb:1")
    sh("gzip", "-k", tmp + "/docker.tar")
    assert images("import", busybox) == "bb\n"
    assert images("import", f"dir:{tmp}/dir", "dir") == "dir\n"
    assert images("import", f"oci-archive:{tmp}/oci.tar", "oa") == "oa\n"
    assert images("import", f"docker-archive:{tmp}/docker.tar") == "example.com/bb:1\n"
    assert images("import", f"docker-archive:-", "piped", input=open(tmp + "/docker.tar.gz", "rb").read()) == "piped\n"
    listed = {i["name"]: i for i in json.loads(images("ls", "--json"))}
    assert set(listed) == {"bb", "dir", "oa", "example.com/bb:1", "piped"}
    assert listed["bb"]["digest"] == listed["oa"]["digest"] == listed["dir"]["digest"]
    trees = []
    for name in listed:
        root = os.path.join(tmp, "r-" + name.replace("/", "_"))
        images("unpack", name, root)
        trees.append(oci.look(root))
        assert trees[-1] == trees[0], name
        shutil.rmtree(root)
    assert "gone" not in trees[0]


def test_export_forms(images, busybox, skopeo, tmp):
    """skopeo and umoci read an exported image, and importing it gives the same digest."""
    images("import", busybox, "docker.io/library/bb:1")
    want = json.loads(skopeo("inspect", busybox))["Digest"]
    images("export", "bb:1", f"oci:{tmp}/o")
    images("export", "bb:1", f"oci:{tmp}/o:second")
    images("export", "bb:1", f"oci-archive:{tmp}/o.tar:t")
    images("export", "bb:1", f"docker-archive:{tmp}/d.tar")
    images("export", "bb:1", f"dir:{tmp}/d")
    for ref in (f"oci:{tmp}/o:docker.io/library/bb:1", f"oci:{tmp}/o:second", f"oci-archive:{tmp}/o.tar:t", f"dir:{tmp}/d"):
        assert json.loads(skopeo("inspect", ref))["Digest"] == want, ref
    assert json.loads(skopeo("inspect", f"docker-archive:{tmp}/d.tar:bb:1"))["Labels"]["com.example.ok"] == "1"
    sh("umoci", "unpack", "--image", f"{tmp}/o:second", tmp + "/u")
    for source in (f"oci:{tmp}/o:second", f"oci-archive:{tmp}/o.tar:t", f"dir:{tmp}/d"):
        images("import", source, "again")
        assert json.loads(images("inspect", "again"))["manifest"]["digest"] == want
    images("import", f"docker-archive:{tmp}/d.tar", "again")
    images("unpack", "again", tmp + "/r")
    piped = subprocess.run([images.program, "--store", images.store, "export", "bb:1", "docker-archive:-"], capture_output=True, check=True)
    assert piped.stdout == open(tmp + "/d.tar", "rb").read()


def test_store_is_a_layout_that_others_read_in_place(images, busybox, skopeo, tmp):
    images("import", busybox, "docker.io/library/bb:1")
    ref = f"{images.store}/images:docker.io/library/bb:1"
    assert json.loads(skopeo("inspect", "oci:" + ref))["Labels"]["com.example.ok"] == "1"
    images("tag", "bb:1", "plain")
    sh("umoci", "unpack", "--image", f"{images.store}/images:plain", tmp + "/u")


UMOCI_RICH = set()
# podman 4.3.1 makes the root of an image itself; image-spec (layer.md) applies an entry "./" like that of any directory. It gives a file the
# owner, mode and time of an entry that is a hard link to it; POSIX (pax, ustar) says that a link has those of the file, and umoci and
# GNU tar leave them. Its overlay still counts the name that a later layer has replaced.
PODMAN_RICH = {(".", "mode"), (".", "uid"), (".", "mtime"), ("hard", "uid"), ("hard", "gid"), ("hard", "mode"), ("hard", "mtime"), ("hard", "inode")}
# The differences of umoci 0.4.7; the comments say why caisson's result is right.
UMOCI_DIFFERS = {
    # umoci gives parents that no layer lists the time at which it made them.
    "etc": {"mtime"},
}


def test_tree_equals_that_of_umoci(images, busybox, tmp):
    images("import", busybox, "bb")
    images("unpack", "bb", tmp + "/r")
    sh("umoci", "unpack", "--image", f"{images.store}/images:bb", tmp + "/u")
    ours, theirs = oci.look(tmp + "/r"), oci.look(tmp + "/u/rootfs")
    assert set(ours) == set(theirs)
    differences = {(n, k) for n in ours for k in ours[n] if ours[n][k] != theirs[n].get(k)}
    assert {d for d in differences if d[1] not in UMOCI_DIFFERS.get(d[0], ())} == set()


def rich_image(layout):
    """An image of three layers with each kind of file and property that a layer can have, and that no tool is known to do otherwise."""
    lower = tar(entry("./", "dir", mode=0o751, uid=9), entry("d/", "dir", mode=0o1777, gid=5), entry("d/gone"), entry("d/sub/", "dir"), entry("d/sub/x"),
                entry("f", data=b"1", mode=0o6755, uid=70000, gid=80000, pax={"mtime": "1600000000.123456789"}), entry("hard", "hard", link="f"),
                entry("opaque/", "dir"), entry("opaque/old"), entry("file", data=b"f"), entry("dir/", "dir"), entry("dir/in"),
                entry("cap", data=b"c", xattrs={"security.capability": bytes.fromhex("0100000200040000000000000000000000000000"), "user.note": b"n"}),
                entry("n" * 200 + "/", "dir"), entry("n" * 200 + "/" + "m" * 200, data=b"long"), entry("l" * 150, "link", link="t" * 300))
    middle = tar(entry("./", "dir", mode=0o751, uid=9), entry("d/", "dir", mode=0o1777, gid=5), whiteout("d/.wh.gone"), whiteout("d/.wh.sub"),
                 entry("opaque/", "dir"), whiteout("opaque/.wh..wh..opq"), entry("opaque/new"), whiteout(".wh.file"), entry("file/", "dir"),
                 entry("file/in"), whiteout(".wh.dir"), entry("dir", data=b"now a file"))
    upper = tar(entry("./", "dir", mode=0o751, uid=9), entry("char", "char", dev=(1, 3), mode=0o640), entry("block", "block", dev=(7, 200)), entry("fifo", "fifo", mode=0o600),
                entry("link", "link", link="../../etc/passwd", uid=3), entry("f", data=b"2", mode=0o4711))
    layout.image([lower, middle, upper], "rich")
    return f"oci:{layout.path}:rich"


def different(ours, theirs):
    assert set(ours) == set(theirs)
    return {(n, k) for n in ours for k in {*ours[n], *theirs[n]} if ours[n].get(k) != theirs[n].get(k)}


def test_trees_of_umoci_and_podman(images, layout, podman, tmp):
    """All three make the same tree of an image with every kind of file, from an archive that each reads. The differences of the two
    others, each of which image-spec or the tar decides, are the table."""
    images("import", rich_image(layout), "localhost/rich:1")
    images("unpack", "localhost/rich:1", tmp + "/r")
    images("save", "-o", tmp + "/rich.tar", "localhost/rich:1")
    ours = oci.look(tmp + "/r")
    sh("umoci", "unpack", "--image", f"{layout.path}:rich", tmp + "/u")
    podman.driver = "overlay"
    podman("load", "-q", *podman.policy, "-i", tmp + "/rich.tar")
    theirs = oci.look(podman("image", "mount", "localhost/rich:1").strip())
    podman("image", "umount", "localhost/rich:1")
    assert different(ours, oci.look(tmp + "/u/rootfs")) == UMOCI_RICH
    assert different(ours, theirs) == PODMAN_RICH


def test_names_of_images(images, busybox):
    images("import", busybox, "docker.io/library/bb:latest")
    digest = json.loads(images("inspect", "bb"))["manifest"]["digest"]
    config = json.loads(images("inspect", "bb"))["configuration"]["digest"]
    for name in ("bb", "bb:latest", "library/bb", "docker.io/library/bb", digest, digest[7:], digest[7:15], config[:20]):
        assert json.loads(images("inspect", name))["manifest"]["digest"] == digest, name
    images.fails("inspect", "bb:2", saying='no image "bb:2"')
    images.fails("inspect", "0123456789ab", saying="no image")
    images.fails("inspect", digest[7:11], saying="no image")
    images("tag", "bb", "x:1", "y/z:2")
    assert images("--quiet", "ls").split() == ["docker.io/library/bb:latest", "x:1", "y/z:2"]
    assert json.loads(images("inspect", "bb", "--config"))["author"] == "me"
    assert "a test" in images("history", "bb") and len(json.loads(images("history", "--json", "bb"))) == 3


def test_remove_and_prune(images, busybox, layout):
    blobs = lambda: {f for _, _, fs in os.walk(images.store + "/images/blobs") for f in fs}
    images("import", busybox, "a")
    first = blobs()
    layout.image([tar(entry("x"))], "other")
    images("import", f"oci:{layout.path}:other", "b")
    images("tag", "a", "c")
    images("rm", "a")
    assert first <= blobs()
    images("rm", "b")
    assert blobs() == first
    images("rm", "c")
    assert blobs() == set()
    images.fails("rm", "c", saying="no image")


def test_no_blob_is_removed_while_another_process_has_the_store_open(images, busybox, tmp):
    """While another process uses the store, rm removes a name at once but no blob, and says that the disk is freed
    later."""
    images("import", busybox, "a")
    hold = subprocess.Popen(["flock", "-s", images.store + "/lock", "cat"], stdin=subprocess.PIPE)
    time.sleep(0.3)
    images("rm", "a")
    assert "in use by another process" in images.err and images("--quiet", "ls") == ""
    images.fails("prune", saying="in use by another process")
    assert any(fs for _, _, fs in os.walk(images.store + "/images/blobs"))
    hold.communicate()
    images("prune")
    assert not any(fs for _, _, fs in os.walk(images.store + "/images/blobs"))


def test_concurrent_imports(images, busybox):
    ps = [subprocess.Popen([images.program, "-q", "--store", images.store, "import", busybox, f"t:{i}"], stdout=subprocess.DEVNULL) for i in range(8)]
    assert [p.wait(60) for p in ps] == [0] * 8
    assert len(images("-q", "ls").split()) == 8 and os.listdir(images.store + "/partial") == []


@pytest.mark.parametrize("call", ["rename", "renameat", "write", "fsync", "ftruncate"])
def test_killed_import(images, layout, call):
    """After kill -9 at any of these calls every listed image is whole, and the next import succeeds."""
    layout.image([tar(entry("f", data=os.urandom(600000)))], "x")
    for n in range(1, 12):
        p = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={n}", images.program, "--store",
                            images.store, "import", f"oci:{layout.path}:x"], capture_output=True)
        for name in images("-q", "ls").split():
            images("unpack", name, images.store + "/r")
            shutil.rmtree(images.store + "/r")
        if p.returncode == 0:
            break
    images("import", f"oci:{layout.path}:x")
    images("prune")
    assert os.listdir(images.store + "/partial") == []


def test_damaged_and_false_sources(images, layout, tmp):
    layout.image([tar(entry("f", data=b"x" * 100000))], "x")
    m = json.load(open(os.path.join(layout.path, "blobs/sha256", layout.manifests[0]["digest"][7:])))
    blob = os.path.join(layout.path, "blobs/sha256", m["layers"][0]["digest"][7:])
    data = open(blob, "rb").read()
    for damaged, why in ((b"X" + data[1:], "its bytes have the digest"), (data[:-1], "ends after"), (data + b"x", "more bytes than its size")):
        open(blob, "wb").write(damaged)
        images.fails("import", f"oci:{layout.path}:x", saying=why)
        assert images("-q", "ls") == ""
    os.unlink(blob)
    images.fails("import", f"oci:{layout.path}:x", saying="has no blob")
    images.fails("import", f"oci:{layout.path}:y", saying='has no image "y"; it has: x')
    images.fails("import", f"oci:{tmp}/nothing", saying="does not exist")
    images.fails("import", "docker://debian", saying="expected oci:DIR")
    # The size differs from the blob's, or the descriptor of the manifest is false.
    for key, value in (("size", -1), ("size", 2**63), ("digest", "sha256:../../etc/passwd"), ("digest", "md5:00")):
        bad = {**m, "layers": [{**m["layers"][0], key: value}]}
        layout.add(bad, "bad")
        images.fails("import", f"oci:{layout.path}:bad", saying="layers[0]")


def test_fifo_in_place_of_a_document(images, layout, tmp):
    """A directory that a stranger wrote cannot make a command wait for ever."""
    layout.image([tar(entry("f"))], "x")
    images("import", f"oci:{layout.path}:x")
    for name in ("layout/index.json", "dir/manifest.json", "out/index.json"):
        os.makedirs(os.path.join(tmp, os.path.dirname(name)), exist_ok=True)
        path = os.path.join(tmp, name)
        if os.path.exists(path):
            os.unlink(path)
        os.mkfifo(path)
    images.fails("import", f"oci:{layout.path}:x", saying="index.json is not a regular file")
    images.fails("import", f"dir:{tmp}/dir", "y", saying="manifest.json is not a regular file")
    images.fails("export", "x", f"oci:{tmp}/out", saying="index.json is not a regular file")


def test_urls_of_a_descriptor_are_ignored(images, layout):
    layout.image([tar(entry("f"))], "x")
    m = json.load(open(os.path.join(layout.path, "blobs/sha256", layout.manifests[0]["digest"][7:])))
    foreign = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": oci.sha256(b"away"), "size": 4,
               "urls": ["file:///etc/passwd", "http://127.0.0.1:1/"]}
    layout.add({**m, "layers": [foreign]}, "bad")
    images.fails("import", f"oci:{layout.path}:bad", saying="has no blob")


def test_platforms(images, layout):
    a = layout.image([tar(entry("amd64"))], "a", architecture="amd64")
    b = layout.image([tar(entry("arm"))], "b", architecture="arm64")
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
             "manifests": [{**b, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
                           {**a, "platform": {"os": "linux", "architecture": "amd64"}}]}
    layout.add(index, "both")
    images("import", f"oci:{layout.path}:both", "here")
    images("import", "--platform", "linux/arm64", f"oci:{layout.path}:both", "there")
    images("import", "--all", f"oci:{layout.path}:both", "all")
    one = lambda name, *o: json.loads(images("inspect", *o, name))["config"]["architecture"]
    assert (one("here"), one("there"), one("all"), one("all", "--platform", "arm64")) == ("amd64", "arm64", "amd64", "arm64")
    images.fails("import", "--platform", "linux/s390x", f"oci:{layout.path}:both", "no", saying="it is for: linux/arm64/v8, linux/amd64")
    images("rm", "here", "there")
    assert one("all", "--platform", "arm64") == "arm64"


def test_docker_archive_of_other_shapes(images, tmp):
    """Archives of other tools can be imported. crane: a config without .json, compressed layers, the same layer twice.
    skopeo: symbolic links to layers."""
    layer = __import__("gzip").compress(tar(entry("f", data=b"1")))
    config = json.dumps({"architecture": "", "os": "", "rootfs": {"type": "layers", "diff_ids": [oci.sha256(tar(entry("f", data=b"1")))] * 3}}).encode()
    manifest = [{"Config": "sha256:abc", "RepoTags": ["a:1", "b:2"], "Layers": ["l.tar.gz", "l.tar.gz", "ID/layer.tar"]}]
    archive = tar(entry("ID/layer.tar", "link", link="../l.tar.gz"), entry("sha256:abc", data=config), entry("./l.tar.gz", data=layer),
                  entry("manifest.json", data=json.dumps(manifest).encode()))
    assert images("import", "docker-archive:-", input=archive).split() == ["a:1", "b:2"]
    images("unpack", "a:1", tmp + "/r")
    assert os.listdir(tmp + "/r") == ["f"]
    for change, why in (({"Config": "x"}, "manifest.json names x"), ({"Layers": ["../../../etc/passwd"]}, "which is not there"),
                        ({"Layers": [1]}, "expected a string")):
        bad = tar(entry("sha256:abc", data=config), entry("l.tar.gz", data=layer), entry("manifest.json", data=json.dumps([{**manifest[0], **change}]).encode()))
        images.fails("import", "docker-archive:-", input=bad, saying=why)


def test_buildahs_image(images, tmp, template):
    """An image that buildah has built from scratch, with a file, a capability and a configuration, is imported."""
    env = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", "HOME": tmp}
    b = lambda *a: sh("buildah", "--root", tmp + "/b", "--runroot", tmp + "/br", *a, env=env).strip()
    c = b("from", "scratch")
    b("add", c, template, "/")
    b("config", "--cmd", "/bin/true", "--user", "5", "--workingdir", "/w", "--label", "a.b=1", c)
    b("commit", "--signature-policy", policy(tmp), c, f"oci:{tmp}/out:x")
    b("rm", c)
    images("import", f"oci:{tmp}/out:x")
    images("bundle", "x", tmp + "/bundle")
    conf = json.load(open(tmp + "/bundle/config.json"))
    assert conf["process"]["args"] == ["/bin/true"] and conf["process"]["user"] == {"uid": 5, "gid": 0} and conf["process"]["cwd"] == "/w"
    assert set(os.listdir(template)) <= set(os.listdir(tmp + "/bundle/rootfs"))
    shutil.rmtree("/run/containers", ignore_errors=True)


def policy(tmp):
    p = tmp + "/policy.json"
    with open(p, "w") as f:
        f.write('{"default":[{"type":"insecureAcceptAnything"}]}')
    return p


# ---- bundles ----

def bundle_config(images, busybox, tmp, *args, name="b"):
    images("import", busybox, "bb")
    images("bundle", "bb", f"{tmp}/{name}", *args)
    return json.load(open(f"{tmp}/{name}/config.json"))


def test_config_of_a_bundle(images, busybox, tmp):
    c = bundle_config(images, busybox, tmp)
    p = c["process"]
    assert p["args"] == ["/bin/sh", "-c", "id; pwd; echo $A"] and p["env"] == ["PATH=/bin", "A=1"] and p["cwd"] == "/data/new"
    assert p["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1002]}
    assert p["capabilities"]["effective"] == [] and "CAP_CHOWN" in p["capabilities"]["bounding"] and "CAP_SYS_ADMIN" not in p["capabilities"]["bounding"]
    assert c["root"] == {"path": "rootfs", "readonly": False} and os.path.isdir(tmp + "/b/rootfs/data/new")
    a = c["annotations"]
    assert a == {"org.opencontainers.image.os": "linux", "org.opencontainers.image.architecture": "amd64", "org.opencontainers.image.author": "me",
                 "org.opencontainers.image.created": "2020-01-02T03:04:05Z", "org.opencontainers.image.stopSignal": "SIGINT",
                 "org.opencontainers.image.exposedPorts": "80/tcp,53/udp", "com.example.ok": "1"}
    assert images.err.count("is left out: its name may mean something to a runtime") == 7


def test_annotations_of_a_manifest_mean_nothing(images, layout, tmp):
    """Annotations of the manifest and of the index are no settings of a container."""
    evil = {"io.caisson.isolation": "vm", "run.oci.hooks.stderr": "/x", "org.systemd.property.MemoryMax": "1", "com.example.a": "1"}
    d = layout.image([tar(entry("f"))], "a", config={"Cmd": ["/f"]})
    with open(layout.path + "/blobs/sha256/" + d["digest"][7:]) as f:
        layout.add({**json.load(f), "annotations": evil}, "a")
    with open(layout.path + "/index.json") as f:
        index = json.load(f)
    index["annotations"] = evil
    index["manifests"][0]["annotations"].update(evil)
    with open(layout.path + "/index.json", "w") as f:
        json.dump(index, f)
    images("import", f"oci:{layout.path}:a", "a")
    images("bundle", "a", tmp + "/b")
    assert json.loads(images("inspect", "a"))["annotations"] == evil
    with open(tmp + "/b/config.json") as f:
        assert not set(json.load(f)["annotations"]) & set(evil)


def test_options_of_bundle(images, busybox, tmp):
    c = bundle_config(images, busybox, tmp, "--", "echo", "--x")
    assert c["process"]["args"] == ["/bin/sh", "-c", "echo", "--x"]
    images("bundle", "--entrypoint", "/bin/ls", "-e", "A=2", "-e", "B=3", "-e", "B=4", "--user", "0:web", "-w", "/x/y", "--tty", "--read-only", "bb", tmp + "/c")
    c = json.load(open(tmp + "/c/config.json"))
    assert c["process"]["args"] == ["/bin/ls"] and c["process"]["env"] == ["TERM=xterm", "PATH=/bin", "A=2", "B=4"]
    assert c["process"]["user"] == {"uid": 0, "gid": 1001} and c["process"]["terminal"] and c["root"]["readonly"] and c["process"]["cwd"] == "/x/y"
    assert "CAP_CHOWN" in c["process"]["capabilities"]["effective"]
    images("bundle", "--no-entrypoint", "bb", tmp + "/d", "--", "ls")
    assert json.load(open(tmp + "/d/config.json"))["process"]["args"] == ["ls"]
    images.fails("bundle", "--no-entrypoint", "bb", tmp + "/e", saying="names no program")
    images.fails("bundle", "bb", tmp + "/d", saying="is not empty")


@pytest.mark.parametrize("runtime", ["caisson", "crun", "runc"])
def test_bundle_runs(images, busybox, tmp, binary, runtime):
    bundle_config(images, busybox, tmp, name=runtime)
    if runtime != "caisson" and not shutil.which(runtime):
        pytest.skip(runtime + " is not installed")
    program = binary if runtime == "caisson" else runtime
    options = ["--cgroup-manager", "disabled"] if runtime == "crun" else []
    p = subprocess.run([program, "--root", tmp + "/state", *options, "run", "--bundle", f"{tmp}/{runtime}", "img-" + runtime], capture_output=True, text=True, timeout=60)
    # crun and runc make a cgroup for every container, which this machine's hierarchy may not allow.
    if runtime != "caisson" and p.returncode and "cgroup" in p.stderr:
        pytest.skip(f"{runtime} needs cgroups that this machine has not: {p.stderr.strip()[:100]}")
    assert p.returncode == 0, p.stderr
    assert p.stdout == "uid=1000(web) gid=1001(web) groups=1002(more)\n/data/new\n1\n" or \
        p.stdout == "uid=1000(web) gid=1001(web) groups=1001(web),1002(more)\n/data/new\n1\n"


@pytest.mark.parametrize("user, want", [
    (None, {"uid": 0, "gid": 0}), ("", {"uid": 0, "gid": 0}), ("7", {"uid": 7, "gid": 70, "additionalGids": [5]}), ("u:99", {"uid": 7, "gid": 99}),
    ("u:g", {"uid": 7, "gid": 6}), ("88", {"uid": 88, "gid": 0}), ("0:g", {"uid": 0, "gid": 6}), ("4294967294", {"uid": 4294967294, "gid": 0}),
    ("4294967295", "not a number from 0"), ("99999999999999999999", "not a number from 0"), ("u:4294967296", "not a number from 0"),
    ("nobody", "not in its /etc/passwd"), ("u:nobody", "not in its /etc/group"), (":5", "expected USER"), ("u:", "expected USER"), ("-1", "not in its /etc/passwd")])
def test_users(images, layout, tmp, user, want):
    """A user of only digits is a number or an error, even if the image's passwd has it as a name (CVE-2026-46680)."""
    passwd = b"4294967295:x:0:0::/:\n99999999999999999999:x:0:0::/:\nbroken\n#c\nbad:x:x:0::/:\nu:x:7:70::/:/bin/sh\n"
    group = b"4294967296:x:0:\ng:x:6:\nh:x:5:a,u,b\ni:x:8:uu\n"
    layout.image([tar(entry("etc/passwd", data=passwd), entry("etc/group", data=group))], "u", {"Cmd": ["x"], **({"User": user} if user is not None else {})})
    images("import", f"oci:{layout.path}:u")
    if isinstance(want, str):
        images.fails("bundle", "u", tmp + "/b", saying=want)
    else:
        images("bundle", "u", tmp + "/b")
        assert json.load(open(tmp + "/b/config.json"))["process"]["user"] == want


def test_hostile_passwd(images, layout, tmp):
    """A hostile passwd does no harm: absolute links stay in the root, a FIFO does not block, a huge file is refused,
    and a huge line is skipped."""
    def bundle(*entries, user="u"):
        layout.image([tar(*entries)], "u", {"Cmd": ["x"], "User": user})
        images("import", f"oci:{layout.path}:u")
        shutil.rmtree(tmp + "/b", ignore_errors=True)
        return ["bundle", "u", tmp + "/b"]
    images(*bundle(entry("etc/passwd", "link", link="/static/passwd"), entry("static/passwd", data=b"u:x:5:5::/:\n")))
    assert json.load(open(tmp + "/b/config.json"))["process"]["user"]["uid"] == 5
    images.fails(*bundle(entry("etc/passwd", "link", link="/etc/../../../etc/shadow"), user="root"), saying="not in its /etc/passwd")
    images.fails(*bundle(entry("etc/passwd", "fifo")), saying="not a regular file")
    images.fails(*bundle(entry("etc/passwd", "link", link="/dev/zero"), entry("dev/zero", "char", dev=(1, 5))), saying="not a regular file")
    images.fails(*bundle(entry("etc/passwd", data=b"x" * (17 << 20))), saying="the limit is")
    images(*bundle(entry("etc/passwd", data=b"v:" + b"y" * 200000 + b"u:x:9:9::/:\nu:x:5:5::/:\n")))
    assert json.load(open(tmp + "/b/config.json"))["process"]["user"]["uid"] == 5


def test_working_directory_is_made_in_the_root_only(images, layout, tmp):
    """A link in the working directory does not lead out of the root (CVE-2026-55686: podman created and chowned a
    directory of the host)."""
    layout.image([tar(entry("w", "link", link=tmp + "/outside"))], "u", {"Cmd": ["x"], "WorkingDir": "/w/made"})
    images("import", f"oci:{layout.path}:u")
    images("bundle", "u", tmp + "/b")
    assert not os.path.exists(tmp + "/outside") and os.path.isdir(f"{tmp}/b/rootfs{tmp}/outside/made")


def test_artifact_is_no_image(images, layout):
    m = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": layout.blob(b"{}", "application/vnd.oci.empty.v1+json"),
         "layers": [layout.blob(b"{}", "application/json")]}
    layout.add(m, "art")
    images("import", f"oci:{layout.path}:art")
    images.fails("inspect", "art", saying="is not a container image")
    assert "damaged" in images("ls") or "?" in images("ls")


def test_caisson_image_executes_it(binary, tmp):
    """`caisson image` executes caisson-image with the same arguments and returns its exit code; caisson itself links
    none of its libraries."""
    p = subprocess.run([binary, "image", "--store", tmp + "/s", "-q", "ls"], capture_output=True, text=True)
    assert (p.returncode, p.stdout) == (0, ""), p
    p = subprocess.run([binary, "image", "--store", tmp + "/s", "rm", "nothing"], capture_output=True, text=True)
    assert p.returncode == 1 and 'no image "nothing"' in p.stderr
    p = subprocess.run([binary, "image", "nonsense"], capture_output=True, text=True)
    assert p.returncode == 1 and 'unknown command "image nonsense"' in p.stderr
    needed = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
    assert not any(l in needed for l in ("libcrypto", "libzstd", "libisal", "libcurl"))


def test_help_and_manual_have_the_same_commands_and_options(program, binary):
    """`--help` of each command has the same options as its section in caisson-image(1)."""
    import re
    page = open(os.path.join(os.path.dirname(__file__), "../../runtime/man/caisson-image.1.scd")).read()
    top = sh(program, "--help")
    commands = re.findall(r"^  (\S+)", top.split("\nCommands:\n")[1].split("\n\n")[0], re.M)
    sections = {re.match(r"caisson image (\w+)", s)[1]: s for s in re.split(r"^## ", page.split("\n# COMMANDS\n")[1].split("\n# ")[0], flags=re.M)[1:]}
    assert sorted(sections) == sorted(commands)
    for c in commands:
        text = sh(program, c, "--help")
        assert sections[c].split("\n")[0] == text.split("\n")[0].removeprefix("Usage: ").rstrip(), c
        in_help = set(re.findall(r"^  (--[a-z-]+)(?: ([^ ,]+))?(?:, (-[a-z]))?(?= |$)", text, re.M))
        in_man = {(n, a, l) for n, a, l in re.findall(r"^\*(--[a-z0-9-]+)\*(?: _(\S+)_)?(?:, \*(-[a-z])\*)?$", sections[c], re.M)}
        assert in_help == in_man, c
    run = page.split("\n# CONTAINERS FROM IMAGES\n")[1].split("\n# ")[0]
    text = sh(binary, "run", "--image", "x", "--help")
    own, of_machines = text.split("\n  --ephemeral", 1)  # the options that are only for the disk in an image have another page
    assert set(re.findall(r"^  (--[a-z-]+)", own, re.M)) == set(re.findall(r"^\*(--[a-z-]+)\*", run, re.M))
    with open(os.path.join(os.path.dirname(__file__), "../../runtime/man/caisson-machine.7.scd")) as f:
        machine = f.read()
    for name in ["--ephemeral", *re.findall(r"^  (--[a-z-]+)", of_machines, re.M)]:
        assert f"*{name}*" in machine, name
    letters = set(re.findall(r"^  --[a-z-]+[^\n]*?, (-[a-z])(?= )", text, re.M))
    assert letters == set(re.findall(r", \*(-[a-z])\*$", run, re.M)) and "-v" in letters
