# SPDX-License-Identifier: Apache-2.0
"""Pulls and pushes against a registry that lies, and names: what is wrong is one clear error, and the store stays as it was."""
import base64
import json
import os
import socket
import stat
import subprocess
import time

import pytest

from harness import oci
from harness.registry import Hostile, TYPES, free_port, make_certificate


@pytest.fixture
def hostile():
    r = Hostile()
    yield r
    r.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificate(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture
def env(tmp):
    """An environment in which no file of this machine counts."""
    e = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "REGISTRY_", "DOCKER_", "CONTAINERS_")) and "proxy" not in k.lower()}
    os.makedirs(tmp + "/home", exist_ok=True)
    conf = tmp + "/registries.conf"
    open(conf, "w").close()
    return {**e, "HOME": tmp + "/home", "XDG_RUNTIME_DIR": tmp + "/run", "CONTAINERS_REGISTRIES_CONF": conf}


@pytest.fixture
def pull(images, env):
    """Pulls; returns the image's name. fails: expects an error that says this, and that no image came."""
    def pull(name, *options, fails=None, env=env):
        if fails is None:
            return images("pull", *options, name, env=env).strip()
        last = images.fails("pull", *options, name, saying=fails, env=env)
        assert json.loads(images("ls", "--json")) == []
        return last
    return pull


def on(method, part, times=None):
    """A rule for requests whose path holds this text: the decorated function answers; `times` limits how often."""
    def make(f):
        left = [times]

        def rule(h):
            if h.command != method or part not in h.path or left[0] == 0:
                return False
            if left[0] is not None:
                left[0] -= 1
            f(h)
            return True
        return rule
    return make


def digest_of_layer(manifest, i=0):
    return manifest["layers"][i]["digest"]


# ---- what is right

def test_pull(hostile, pull, images, tmp):
    _, m = hostile.image(layers=[oci.tar(oci.entry("f", data=b"1")), oci.tar(oci.entry("g"))])
    name = pull(f"{hostile.host}/a:t")
    assert name == f"{hostile.host}/a:t"
    images("unpack", name, tmp + "/r")
    assert sorted(os.listdir(tmp + "/r")) == ["f", "g"]
    accept = [h["Accept"] for method, path, h in hostile.seen if "manifests" in path][0]
    assert all(t in accept for t in ("image.index", "image.manifest", "manifest.list.v2", "manifest.v2")) and "*" not in accept


def test_pull_by_digest(hostile, pull, images):
    d, _ = hostile.image()
    name = pull(f"{hostile.host}/a@{d['digest']}")
    assert name == f"{hostile.host}/a@{d['digest']}"
    hostile.manifests["a", d["digest"]] = (b'{"schemaVersion":2}', TYPES["manifest"])
    images.fails("pull", f"{hostile.host}/a@{d['digest']}", saying="other bytes")


def test_index_and_platforms(hostile, pull, images, tmp):
    entries = []
    for arch, variant in (("arm", "v6"), ("arm", "v7"), ("arm64", "v8"), ("amd64", None)):
        d, _ = hostile.image(arch + (variant or ""), [oci.tar(oci.entry(arch + (variant or "")))], platform=(arch, "linux"))
        entries.append({**d, "platform": {"architecture": arch, "os": "linux", **({"variant": variant} if variant else {})}})
    hostile.add_manifest({"schemaVersion": 2, "mediaType": TYPES["index"], "manifests": entries}, "t", kind="index")
    for platform, file in (("linux/arm/v7", "armv7"), ("linux/arm/v6", "armv6"), ("linux/arm64", "arm64v8"), ("linux/amd64", "amd64")):
        pull(f"{hostile.host}/a:t", "--platform", platform)
        images("unpack", "--platform", platform, f"{hostile.host}/a:t", tmp + "/" + file)
        assert os.listdir(tmp + "/" + file) == [file]
    images.fails("pull", "--platform", "linux/s390x", f"{hostile.host}/a:t", saying="does not exist for the platform linux/s390x; it is for: linux/arm/v6")
    images("rm", f"{hostile.host}/a:t")
    pull(f"{hostile.host}/a:t", "--all-platforms")
    hostile.manifests.clear()
    images("push", f"{hostile.host}/a:t", f"{hostile.host}/b:all")
    assert len(hostile.manifests) == 5 + 1 and json.loads(hostile.manifests["b", "all"][0])["manifests"] == entries


def test_progress(hostile, images, env):
    _, m = hostile.image(layers=[os.urandom(3 << 20)])
    images("pull", "--json", f"{hostile.host}/a:t", env=env)
    events = [json.loads(x) for x in images.err.splitlines()]
    assert events[0] == {"event": "plan", "blobs": 2, "size": m["config"]["size"] + m["layers"][0]["size"]}
    assert {(e["digest"], e["state"]) for e in events if e["event"] == "blob"} == {
        (d["digest"], s) for d in (m["config"], m["layers"][0]) for s in ("begun", "done")}
    images("pull", f"{hostile.host}/a:t", env=env)
    assert images.err.count("in the store already") == 2
    images("-q", "pull", f"{hostile.host}/a:t", env=env)
    assert images.err == ""
    images("rm", f"{hostile.host}/a:t")
    seen = subprocess.run(["script", "-qec", f"{images.program} --no-sync --store {images.store} pull {hostile.host}/a:t", "/dev/null"],
                          env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    assert "[########################]" in seen or "blobs, " in seen
    assert "2 of 2 blobs" in seen


# ---- bytes that are wrong

def test_wrong_digest(hostile, pull, images):
    _, m = hostile.image(layers=[b"right" * 300])
    hostile.blobs[digest_of_layer(m)] = b"wrong" * 300
    pull(f"{hostile.host}/a:t", fails="its bytes have the digest")
    # Of the other blob, whose download was ended, there may be a part, which the next pull goes on with. A file "chain-..." is the lock of
    # whoever unpacks the layer.
    assert not [n for n in os.listdir(images.store + "/partial") if digest_of_layer(m).split(":")[1] in n and not n.startswith("chain-")]


@pytest.mark.parametrize("change, why", [(b"x", "the registry has 1501 bytes of it, its size is 1500"), (None, "the registry has 1499 bytes of it")])
def test_wrong_size(hostile, pull, change, why):
    _, m = hostile.image(layers=[b"right" * 300])
    d = digest_of_layer(m)
    hostile.blobs[d] = hostile.blobs[d] + change if change else hostile.blobs[d][:-1]
    pull(f"{hostile.host}/a:t", fails=why)


def test_endless_blob(hostile, pull, images):
    """Without Content-Length the bytes are counted."""
    _, m = hostile.image(layers=[b"right" * 300])
    hostile.rules.append(on("GET", digest_of_layer(m))(lambda h: h.reply(200, b"right" * 300 + b"y" * 100000, length="none", cut=200000)))
    pull(f"{hostile.host}/a:t", fails="more bytes than its size")


def test_manifest_that_the_header_contradicts(hostile, pull):
    hostile.image()
    data, kind = hostile.manifests["a", "t"]
    hostile.rules.append(on("GET", "/manifests/")(lambda h: h.reply(200, data, {"Content-Type": kind, "Docker-Content-Digest": "sha256:" + "0" * 64})))
    pull(f"{hostile.host}/a:t", fails="but its bytes are")


def test_child_of_another_size(hostile, pull):
    d, _ = hostile.image("x")
    hostile.add_manifest({"schemaVersion": 2, "mediaType": TYPES["index"], "manifests": [
        {**d, "size": d["size"] + 1, "platform": {"architecture": "amd64", "os": "linux"}}]}, "t", kind="index")
    pull(f"{hostile.host}/a:t", fails="the index says")


def test_type_that_differs_from_the_documents(hostile, pull):
    hostile.image()
    data, _ = hostile.manifests["a", "t"]
    hostile.manifests["a", "t"] = (data, TYPES["index"])
    pull(f"{hostile.host}/a:t", fails="but came as")


@pytest.mark.parametrize("doc, why", [
    (b"[" * 10000 + b"]" * 10000, "expected an object"), (b'{"a":' * 10000 + b"1" + b"}" * 10000, ""), (b"x" * (5 << 20), "more than"),
    (b"", "empty manifest"), (b"not json", ""), (b'{"schemaVersion":1}', "schema 1"), (b'{"schemaVersion":2}', "config is missing"),
    (b'{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}', "expected 64 lower-case"),
    (b'{"schemaVersion":2,"config":{"digest":"sha256:%s","size":-1},"layers":[]}' % (b"0" * 64), "size")], ids=range(9))
def test_invalid_documents(hostile, pull, doc, why):
    hostile.add_manifest(doc, "t")
    pull(f"{hostile.host}/a:t", fails=why)


def test_index_of_ten_thousand(hostile, pull):
    d, _ = hostile.image("x")
    many = [{**d, "digest": "sha256:%064x" % i, "platform": {"architecture": "arm", "os": "plan9"}} for i in range(10000)]
    hostile.add_manifest({"schemaVersion": 2, "manifests": [*many, {**d, "platform": {"architecture": "amd64", "os": "linux"}}]}, "t", kind="index")
    assert pull(f"{hostile.host}/a:t")


def test_urls_of_a_descriptor_are_not_followed(hostile, pull):
    other = Hostile()
    d, m = hostile.image(layers=[b"right" * 300])
    layer = m["layers"][0]
    m["layers"][0] = {**layer, "urls": [f"{other.url}/evil"]}
    hostile.add_manifest(m, "t")
    del hostile.blobs[layer["digest"]]
    pull(f"{hostile.host}/a:t", fails="has no " + layer["digest"])
    assert other.seen == []
    other.close()


# ---- connections that fail

@pytest.mark.parametrize("tenth", range(10))
def test_cut_and_resumed(hostile, pull, images, tenth):
    data = os.urandom(1 << 20)
    _, m = hostile.image(layers=[data])
    d, at = digest_of_layer(m), (1 << 20) * tenth // 10
    hostile.rules.append(on("GET", d, 1)(lambda h: h.reply(200, data, cut=at)))
    pull(f"{hostile.host}/a:t")
    ranges = [h.get("Range") for method, path, h in hostile.seen if d in path]
    assert ranges[0] is None and len(ranges) == 2
    if tenth:
        assert 0 < int(ranges[1][6:-1]) <= at


def test_resumed_by_a_later_process(hostile, pull, images, env):
    data = os.urandom(4 << 20)
    _, m = hostile.image(layers=[data])
    d = digest_of_layer(m)
    stop = []

    def slow(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:2 << 20])
        h.wfile.flush()
        while not stop:
            time.sleep(0.05)
    hostile.rules.append(on("GET", d, 1)(slow))
    p = subprocess.Popen([images.program, "--no-sync", "--store", images.store, "pull", f"{hostile.host}/a:t"], env=env, stderr=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL)
    partial = f"{images.store}/partial/sha256-{d[7:]}"
    for _ in range(200):
        if os.path.exists(partial) and os.path.getsize(partial) >= 1 << 20:
            break
        time.sleep(0.05)
    p.kill()
    p.wait()
    stop.append(1)
    have = os.path.getsize(partial)
    assert have >= 1 << 20
    pull(f"{hostile.host}/a:t")
    assert [h.get("Range") for _, path, h in hostile.seen if d in path][-1] == f"bytes={have}-"


def test_wrong_bytes_of_an_earlier_download_are_replaced(hostile, pull, images):
    data = os.urandom(1 << 20)
    _, m = hostile.image(layers=[data])
    images("ls")
    with open(f"{images.store}/partial/sha256-{digest_of_layer(m)[7:]}", "wb") as f:
        f.write(b"x" * 1000)
    pull(f"{hostile.host}/a:t")


@pytest.mark.parametrize("answer", ["ignores", "416", "elsewhere"])
def test_ranges_that_a_server_does_not_know(hostile, pull, answer):
    data = os.urandom(1 << 20)
    _, m = hostile.image(layers=[data])

    def no_range(h):
        if "Range" not in h.headers:
            return h.reply(200, data, cut=500000)
        if answer == "ignores":
            return h.reply(200, data)
        if answer == "416":
            return h.reply(416, b"no")
        return h.reply(206, data[5:], {"Content-Range": f"bytes 5-{len(data) - 1}/{len(data)}"})
    hostile.rules.append(on("GET", digest_of_layer(m), 2)(no_range))
    if answer == "elsewhere":
        pull(f"{hostile.host}/a:t", fails="is not what was asked for")
    else:
        pull(f"{hostile.host}/a:t")


def test_no_range_at_the_end(hostile, pull, images):
    """A blob whose every byte is there is finished, without a request."""
    data = os.urandom(100000)
    _, m = hostile.image(layers=[data])
    d = digest_of_layer(m)
    images("ls")
    with open(f"{images.store}/partial/sha256-{d[7:]}", "wb") as f:
        f.write(data)
    pull(f"{hostile.host}/a:t")
    assert not [path for _, path, _ in hostile.seen if d in path]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_temporary_failure_is_tried_again(hostile, pull, status):
    _, m = hostile.image(layers=[b"right" * 300])
    for part in ("/v2/", "/manifests/", digest_of_layer(m)):
        hostile.rules.append(on("GET", part, 2)(lambda h: h.reply(status, b"later")))
    pull(f"{hostile.host}/a:t")


def test_retry_after(hostile, pull, images):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/", 1)(lambda h: h.reply(429, b"later", {"Retry-After": "3"})))
    start = time.monotonic()
    pull(f"{hostile.host}/a:t")
    assert time.monotonic() - start >= 3
    assert f"the registry {hostile.host} answers with status 429 and asks for a pause: the next try is in 3 seconds\n" in images.err


def test_pause_during_a_blob_is_announced(hostile, pull, images):
    """A thread that fetches a blob waits; the events of the others come between whole lines."""
    hostile.image()
    hostile.rules.append(on("GET", "/blobs/", 1)(lambda h: h.reply(503, b"later", {"Retry-After": "1"})))
    pull(f"{hostile.host}/a:t", "--json")
    events = [json.loads(x) for x in images.err.splitlines()]
    assert [e["text"] for e in events if e["event"] == "notice"] == [
        f"the registry {hostile.host} answers with status 503 and asks for a pause: the next try is in 1 second"]


@pytest.mark.parametrize("status, why", [(404, "has no a:t"), (401, "denies access"), (403, "denies access"), (400, "status 400"), (418, "status 418")])
def test_permanent_failure_is_not_tried_again(hostile, pull, status, why):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/")(lambda h: h.reply(status, b'{"errors":[{"code":"C","message":"told you"}]}')))
    last = pull(f"{hostile.host}/a:t", fails=why)
    assert "C: told you" in last
    assert len([1 for _, path, _ in hostile.seen if "manifests" in path]) == 1


def test_no_registry(pull):
    pull(f"localhost:{free_port()}/a", fails="onnect")


# ---- where credentials go

def test_token(hostile, pull, env, tmp):
    """One token serves all requests of a repository, with the scope that is needed."""
    hostile.image()
    hostile.realm = hostile.url + "/token"
    pull(f"{hostile.host}/a:t")
    asked = [path for _, path, _ in hostile.seen if path.startswith("/token")]
    assert asked == ["/token?service=test%20service&scope=repository%3Aa%3Apull"]


def auths(tmp, entries, **more):
    path = tmp + "/auth.json"
    with open(path, "w") as f:
        json.dump({"auths": {k: {"auth": base64.b64encode(v.encode()).decode()} for k, v in entries.items()}, **more}, f)
    return path


def test_credentials_of_the_narrowest_key(hostile, pull, tmp):
    hostile.image(repository="a/b")
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    file = auths(tmp, {hostile.host: "other:x", hostile.host + "/a": "me:secret", hostile.host + "/a/bc": "no:no"})
    pull(f"{hostile.host}/a/b:t", "--authfile", file)
    hostile.token_user = ("other", "x")
    pull(f"{hostile.host}/a/b:t", "--authfile", auths(tmp, {hostile.host: "other:x", hostile.host + "/a/bc": "no:no"}))


def test_wrong_credentials(hostile, pull, tmp):
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    pull(f"{hostile.host}/a:t", fails="log in by `caisson image login")
    pull(f"{hostile.host}/a:t", "--creds", "me:wrong", fails="with the credentials that are known")


def test_identity_token(hostile, pull, tmp):
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "refresh-me")
    with open(tmp + "/auth.json", "w") as f:
        json.dump({"auths": {hostile.host: {"identitytoken": "refresh-me"}}}, f)
    pull(f"{hostile.host}/a:t", "--authfile", tmp + "/auth.json")
    assert [(m, p) for m, p, h in hostile.seen if "token" in p] == [("POST", "/token")]


@pytest.mark.parametrize("how", ["credHelpers", "credsStore"])
def test_credential_helpers(hostile, pull, images, env, tmp, how):
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    os.mkdir(tmp + "/bin")
    helper = tmp + "/bin/docker-credential-test"
    with open(helper, "w") as f:
        f.write(f'#!/bin/sh\nread -r host\n[ "$1 $host" = "get {hostile.host}" ] || {{ echo credentials not found; exit 1; }}\n'
                'echo \'{"ServerURL":"x","Username":"me","Secret":"secret"}\'\n')
    os.chmod(helper, 0o755)
    file = auths(tmp, {}, **({how: {hostile.host: "test"}} if how == "credHelpers" else {how: "test"}))
    e = {**env, "PATH": tmp + "/bin:" + env["PATH"]}
    pull(f"{hostile.host}/a:t", "--authfile", file, env=e)
    file = auths(tmp, {}, **({how: {hostile.host: "../test"}} if how == "credHelpers" else {how: "../test"}))
    images.fails("pull", f"{hostile.host}/a:t", "--authfile", file, env=e, saying="no name of a credential helper")


def test_realm_elsewhere_gets_no_credentials(hostile, pull, images, tmp):
    """The registry's 401 may name any server: credentials go there only if the user lists it."""
    other = Hostile(token_user=("me", "secret"))
    hostile.image()
    hostile.realm = other.url + "/token"
    pull(f"{hostile.host}/a:t", "--creds", "me:secret", fails="plain HTTP")
    assert other.seen == []
    assert pull(f"{hostile.host}/a:t", "--creds", "me:secret", "--trust-realm", other.url)
    other.close()


def test_realm_elsewhere_by_tls(hostile, pull, certificates):
    other = Hostile(tls=certificates, token_user=("me", "secret"))
    hostile.image()
    hostile.realm = other.url + "/token"
    pull(f"{hostile.host}/a:t", "--creds", "me:secret", fails="another server")
    assert other.seen == []
    other.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_elsewhere_gets_no_token(hostile, pull, status):
    """A blob may come from a storage server, which is told nothing."""
    other = Hostile()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    _, m = hostile.image(layers=[b"right" * 300])
    d = digest_of_layer(m)
    other.blobs[d] = hostile.blobs[d]
    hostile.rules.append(on("GET", d)(lambda h: h.reply(status, b"", {"Location": f"{other.url}/v2/a/blobs/{d}?X-Signature=s3cr3t"})))
    pull(f"{hostile.host}/a:t", "--creds", "me:secret")
    assert len(other.seen) == 1 and "Authorization" not in other.seen[0][2] and "Cookie" not in other.seen[0][2]
    other.close()


def test_signed_urls_are_redacted(hostile, pull):
    _, m = hostile.image(layers=[b"right" * 300])
    port = free_port()
    hostile.rules.append(on("GET", digest_of_layer(m))(lambda h: h.reply(307, b"", {"Location": f"http://u:p4ss@127.0.0.1:{port}/x?X-Signature=s3cr3t"})))
    last = pull(f"{hostile.host}/a:t", fails="127.0.0.1")
    assert "s3cr3t" not in last and "p4ss" not in last
    hostile.rules[:] = [on("GET", digest_of_layer(m))(lambda h: h.reply(307, b"", {"Location": f"http://127.0.0.1:{port}/x?X-Signature=s3cr3t"}))]
    last = pull(f"{hostile.host}/a:t", fails="127.0.0.1")
    assert "s3cr3t" not in last and "/x?..." in last


def test_redirect_loops(hostile, pull):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/")(lambda h: h.reply(302, b"", {"Location": h.path})))
    pull(f"{hostile.host}/a:t", fails="more than 5 redirects")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://x/", "http://", "", "https://[", "ftp://localhost/x", "//", "http://a b/"])
def test_redirect_to_an_invalid_url(hostile, pull, location):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/")(lambda h: h.reply(302, b"", {"Location": location})))
    pull(f"{hostile.host}/a:t", fails="")


def test_redirect_from_tls_to_plain(pull, certificates):
    r, other = Hostile(tls=certificates), Hostile()
    _, m = r.image(layers=[b"right" * 300])
    r.rules.append(on("GET", digest_of_layer(m))(lambda h: h.reply(307, b"", {"Location": other.url + "/x"})))
    pull(f"{r.host}/a:t", "--cert-dir", certificates, fails="redirect to plain HTTP")
    assert other.seen == []
    r.close()
    other.close()


def test_upload_elsewhere_gets_no_token(hostile, pull, images, env, layout):
    """The Location of an upload may lead to another server, which is told nothing."""
    other = Hostile()
    layout.image([oci.tar(oci.entry("f"))], "x")
    images("import", f"oci:{layout.path}:x", "x")
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    hostile.rules.append(on("POST", "/uploads/")(lambda h: (other.uploads.setdefault("u", b""), h.reply(202, b"", {
        "Location": f"{other.url}/v2/a/blobs/uploads/u"}))))
    images("push", "--creds", "me:secret", "x", f"{hostile.host}/a:x", env=env, check=False)
    assert other.seen and not [h for _, _, h in other.seen if "Authorization" in h]
    other.close()


def test_tokens_that_no_header_may_have(hostile, pull):
    hostile.image()
    hostile.realm = hostile.url + "/token"
    hostile.rules.append(on("GET", "/token")(lambda h: h.reply(200, b'{"token":"a\\r\\nX-Evil: 1"}')))
    pull(f"{hostile.host}/a:t", fails="a character that no header may have")


# ---- TLS

def test_tls(pull, certificates, images, env, tmp):
    r = Hostile(tls=certificates)
    r.image()
    pull(f"{r.host}/a:t", fails="certificate")
    assert pull(f"{r.host}/a:t", "--cert-dir", certificates)
    images("rm", f"{r.host}/a:t")
    assert pull(f"{r.host}/a:t", "--insecure")
    images("rm", f"{r.host}/a:t")
    with open(tmp + "/registries.conf", "w") as f:
        f.write(f'[[registry]]\nlocation = "{r.host}"\ninsecure = true\n')
    assert pull(f"{r.host}/a:t")
    r.close()


def test_plain_http_only_on_loopback(pull, hostile, env):
    """A name that is not this machine's own is not spoken to without TLS."""
    address = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    if not address or address[0].startswith("127."):
        pytest.skip("this machine has only loopback")
    pull(f"{address[0]}:{hostile.port}/a:t", fails="onnect")
    assert hostile.seen == []


# ---- names

@pytest.mark.parametrize("name", ["", "A", "a//b", "a/", "/a", "a:", "a@sha256:0", "a@md5:" + "0" * 32, "a b", "x" * 256, "a:" + "t" * 129, "a:-t", "a..b",
                                  "a___b", "a_", "h.x/-a", "h.o-:5/a", "h:0/a", "h:65536/a", "h:x/a", "[::1/a", "http://h/a", "h.x/a?b", "h.x/a/../b",
                                  "h.x/a%2e", "0" * 64, "h.x/A", "é/a"])
def test_invalid_names(images, env, name):
    images.fails("pull", name, env=env)
    assert "is no name" in images.err or "digest" in images.err or "usage" in images.err


@pytest.mark.parametrize("transport", ["oci:x", "dir:x", "docker-archive:x", "containers-storage:x"])
def test_other_transports(images, env, transport):
    images.fails("pull", transport, saying="caisson image import", env=env)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def test_short_names(hostile, pull, images, tmp):
    conf = tmp + "/registries.conf"
    hostile.image(repository="library/x")
    hostile.image(repository="x")
    pull("x:t", fails='"x" is a short name')
    write(conf, f'[aliases]\n"x" = "{hostile.host}/library/x"\n')
    assert pull("x:t") == f"{hostile.host}/library/x:t"
    assert "an alias in" in images.err
    images("rm", f"{hostile.host}/library/x:t")
    write(conf, f'unqualified-search-registries = ["{hostile.host}"]\n')
    assert pull("x:t") == f"{hostile.host}/x:t"
    images("rm", f"{hostile.host}/x:t")
    other = free_port()
    write(conf, f'unqualified-search-registries = ["localhost:{other}", "{hostile.host}"]\n')
    pull("x:t", fails="could be any of")
    write(conf, f'unqualified-search-registries = ["localhost:{other}", "{hostile.host}"]\nshort-name-mode = "permissive"\n')
    assert pull("x:t") == f"{hostile.host}/x:t"


def test_mirrors(hostile, pull, images, tmp):
    conf = tmp + "/registries.conf"
    mirror = Hostile()
    d, _ = mirror.image(repository="m/a")
    write(conf, f'''# a comment
[[registry]]
prefix = "example.invalid/team"
location = "{hostile.host}/moved"
[[registry.mirror]]
location = "{mirror.host}/m" # first
[[registry]]
prefix = "*.blocked.invalid"
blocked = true
''')
    assert pull("example.invalid/team/a:t") == "example.invalid/team/a:t"
    assert hostile.seen == []
    images("rm", "example.invalid/team/a:t")
    mirror.close()
    hostile.image(repository="moved/a")
    assert pull("example.invalid/team/a:t") == "example.invalid/team/a:t"
    assert "the mirror" in images.err
    images("rm", "example.invalid/team/a:t")
    pull("x.blocked.invalid/a", fails="is blocked by")
    write(conf, f'[[registry]]\nlocation="example.invalid"\n[[registry.mirror]]\nlocation="{hostile.host}/moved"\npull-from-mirror="digest-only"\n')
    d, _ = hostile.image(repository="moved/a")
    assert pull(f"example.invalid/a@{d['digest']}")


@pytest.mark.parametrize("text, why", [
    ("x", "line 1: expected = behind a key"), ("a = ", "line 1"), ('a = "x', "without end"), ("\n\n[x", "line 3"), ("a = 1.5", "line 1"), ("a = 1\na = 2", "given twice"),
    ('a = """x"""', "several lines"), ("a.b = 1", "with dots"), ("[" * 100, "line 1"), ("a = " + "[" * 100, "nested too deep"), ('a = "\\q"', "escape"),
    ('a = "\\ud800"', "no character"), ("[registries.search]\nregistries = []", "version 1"), ("a = 1 2", "end of the line"), ('[[registry]]\nlocation = 5', "expected"),
    ('[[registry]]\nblocked = true', "neither prefix nor location"), ('unqualified-search-registries = "x"', "expected an array"), ("a\0 = 1", "NUL"),
    ("short-name-mode = 1", "short-name-mode")])
def test_broken_registries_conf(images, env, tmp, text, why):
    write(tmp + "/registries.conf", text)
    name = "short" if "search" in text or "short" in text else "localhost:1/a"
    if "short-name-mode" in text:
        write(tmp + "/registries.conf", text + '\nunqualified-search-registries = ["a.b"]\n')
    images.fails("pull", name, saying=why, env=env)


def test_policy(hostile, images, env, tmp):
    """A user's policy.json; root reads the machine's."""
    os.chmod(tmp, 0o755)
    hostile.image()
    os.makedirs(tmp + "/config/containers", exist_ok=True)
    store = tmp + "/user"
    os.makedirs(store, mode=0o777)
    os.chmod(store, 0o777)
    e = {**env, "XDG_CONFIG_HOME": tmp + "/config"}
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    mine = oci.Images(images.program, store + "/s")

    def policy(doc):
        write(tmp + "/config/containers/policy.json", json.dumps(doc))
    accept, reject = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
    cases = [
        ({"default": reject}, "rejects the image"), ({"default": reject, "transports": {"docker": {"": accept}}}, None),
        ({"default": reject, "transports": {"docker": {hostile.host: accept}}}, None),
        ({"default": accept, "transports": {"docker": {hostile.host + "/a": reject}}}, "rejects the image"),
        ({"default": accept, "transports": {"docker": {hostile.host + "/a:t": [{"type": "sigstoreSigned", "keyPath": "/x"}]}}}, "cannot check"),
        ({"default": [{"type": "signedBy"}]}, "cannot check"), ({"default": []}, "expected a list"), ({}, "default is missing"),
        ({"default": [{"type": "new"}]}, "cannot check")]
    for doc, why in cases:
        policy(doc)
        if why:
            mine.fails("pull", f"{hostile.host}/a:t", saying=why, env=e, prefix=user)
        else:
            mine("pull", f"{hostile.host}/a:t", env=e, prefix=user)


# ---- pushes

def test_push_mounts_what_another_repository_has(hostile, images, env, layout):
    layout.image([oci.tar(oci.entry("f", data=b"1"))], "x")
    images("import", f"oci:{layout.path}:x", f"{hostile.host}/first:x")
    images("push", f"{hostile.host}/first:x", env=env)
    hostile.seen.clear()
    hostile.rules.append(on("HEAD", "/v2/second/blobs/")(lambda h: h.reply(404)))
    images("push", f"{hostile.host}/first:x", f"{hostile.host}/second:x", env=env)
    posts = [p for m, p, _ in hostile.seen if m == "POST"]
    assert len(posts) == 2 and all("mount=sha256:" in p and "from=first" in p for p in posts)
    assert not [1 for m, _, _ in hostile.seen if m == "PATCH"]


def test_push_in_chunks_that_are_cut(hostile, images, env, layout):
    data = oci.tar(oci.entry("f", data=os.urandom(40 << 20)))
    layout.image([data], "x", compress=False)
    images("import", f"oci:{layout.path}:x", "x")

    def drop(h):
        name = h.path.split("/")[-1].split("?")[0]
        hostile.uploads[name] += h.body[:1 << 20]
        h.close_connection = True
        h.connection.shutdown(socket.SHUT_RDWR)

    def second(h):
        return h.command == "PATCH" and h.headers["Content-Range"].startswith("16777216-")
    dropped = []

    def rule(h):
        if not second(h) or dropped:
            return False
        dropped.append(1)
        drop(h)
        return True
    hostile.rules.append(rule)
    images("push", "x", f"{hostile.host}/a:x", env=env)
    ranges = [h["Content-Range"] for m, _, h in hostile.seen if m == "PATCH" and int(h["Content-Length"]) > 100000]
    # libcurl itself tries the second chunk once more, on a new connection; the registry says 416 to that.
    assert ranges[0] == "0-16777215" and [r for r in ranges if r.startswith(f"{16777216 + (1 << 20)}-")]
    assert oci.sha256(data) in hostile.blobs


def test_referrers_by_tag(hostile, images, env, layout):
    """A registry without the API: the pusher keeps the list under a tag, and the reader finds it there."""
    subject = layout.image([oci.tar(oci.entry("f"))], "x")
    images("import", f"oci:{layout.path}:x", "x")
    images("push", "x", f"{hostile.host}/a:x", env=env)
    assert json.loads(images("referrers", "--json", f"{hostile.host}/a:x", env=env)) == {"subject": subject["digest"], "referrers": []}
    empty = layout.blob(b"{}", "application/vnd.oci.empty.v1+json")
    for kind in ("application/spdx+json", "application/vnd.test"):
        layout.add({"schemaVersion": 2, "mediaType": TYPES["manifest"], "artifactType": kind, "config": empty,
                    "layers": [layout.blob(kind.encode(), kind)], "subject": subject, "annotations": {"k": kind}}, "ref")
        images("import", f"oci:{layout.path}:ref", "ref")
        images("push", "ref", f"{hostile.host}/a:ref", env=env)
    images("push", "ref", f"{hostile.host}/a:ref", env=env)
    got = json.loads(images("referrers", "--json", f"{hostile.host}/a:x", env=env))["referrers"]
    assert [(d["artifactType"], d["annotations"]) for d in got] == [(k, {"k": k}) for k in ("application/spdx+json", "application/vnd.test")]
    assert images("referrers", "--artifact-type", "application/vnd.test", f"{hostile.host}/a:x", env=env).split()[1] == "application/vnd.test"


# ---- login

def test_login_and_logout(hostile, images, env, tmp, pull):
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    images.fails("login", "-u", "me", "--password-stdin", hostile.host, input=b"wrong\n", env=env, saying="")
    images("login", "-u", "me", "--password-stdin", hostile.host, input=b"secret\n", env=env)
    file = tmp + "/run/containers/auth.json"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert json.load(open(file)) == {"auths": {hostile.host: {"auth": base64.b64encode(b"me:secret").decode()}}}
    assert "secret" not in images.err
    pull(f"{hostile.host}/a:t")
    doc = json.load(open(file))
    doc["credHelpers"] = {"x.y": "z"}
    doc["auths"]["other.example"] = {"auth": "eDp5"}
    write(file, json.dumps(doc))
    images("logout", hostile.host, env=env)
    assert json.load(open(file)) == {"auths": {"other.example": {"auth": "eDp5"}}, "credHelpers": {"x.y": "z"}}
    images.fails("logout", hostile.host, saying="there are no credentials for", env=env)
