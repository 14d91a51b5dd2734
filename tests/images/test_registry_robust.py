# SPDX-License-Identifier: Apache-2.0
"""Pulls and pushes that are killed, cut, refused or sent through a proxy: each ends in an image or in one clear error, and the
store stays whole."""
import email.utils
import hashlib
import json
import os
import shutil
import subprocess
import time

import pytest

from harness import oci
from harness.registry import DockerRegistry, Hostile, Proxy, free_port, make_certificate, make_client
from test_registry import auths, certificates, digest_of_layer, env, hostile, on, pull, write  # noqa: F401 (fixtures)
from test_store import counts

NAME = "registry.test"  # no name server knows it


# ---- kill -9

CALLS = ["openat", "renameat", "fsync", "write", "flock", "ftruncate", "unlinkat", "mkdirat", "close", "clone3", "connect", "sendto", "recvfrom",
         "poll", "fchmod", "lseek", "exit_group"]
SAMPLES = 40


def check_blobs(images):
    """Every blob under its final name has the digest that its name says."""
    top = os.path.join(images.store, "images/blobs")
    for algorithm in os.listdir(top):
        for name in os.listdir(os.path.join(top, algorithm)):
            with open(os.path.join(top, algorithm, name), "rb") as f:
                assert hashlib.new(algorithm, f.read()).hexdigest() == name


def blobs(images):
    return set(os.listdir(os.path.join(images.store, "images/blobs/sha256")))


def test_kill_at_each_call(hostile, images, env, tmp):
    """SIGKILL at any call of pull: a listed image is whole, the next pull succeeds, and prune removes the rest."""
    _, m = hostile.image(layers=[oci.tar(oci.entry("f", data=os.urandom(300000))), oci.tar(oci.entry("g", data=os.urandom(9000)))])
    hostile.image("old", layers=[oci.tar(oci.entry("h"))])
    images("pull", f"{hostile.host}/a:old", env=env)
    old = blobs(images)
    clean = tmp + "/clean"
    shutil.copytree(images.store, clean, symlinks=True)
    argv = [images.program, "-q", "--store", images.store, "pull", f"{hostile.host}/a:t"]
    n = counts(["env", "-i", *[f"{k}={v}" for k, v in env.items()], *argv], tmp + "/log")
    whole = blobs(images)
    points = [(c, i) for c in CALLS for i in range(1, n.get(c, 0) + 1)]
    assert len(points) > 100 and len(whole) == len(old) + 4
    killed = 0
    for call, nth in points[::max(1, len(points) // SAMPLES)]:
        shutil.rmtree(images.store)
        shutil.copytree(clean, images.store, symlinks=True)
        p = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *argv],
                           env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        killed += p.returncode != 0
        check_blobs(images)
        names = images("-q", "ls").split()
        assert f"{hostile.host}/a:old" in names
        for name in names:
            images("unpack", name, tmp + "/r")
            shutil.rmtree(tmp + "/r")
        if p.returncode != 0 and f"{hostile.host}/a:t" not in names:
            images("prune")
            assert blobs(images) == old and os.listdir(images.store + "/partial") == [], (call, nth)
        images("-q", "pull", f"{hostile.host}/a:t", env=env)
        images("prune")
        assert blobs(images) == whole and os.listdir(images.store + "/partial") == [], (call, nth)
        # The pull has unpacked the layers, and there is no other one.
        assert {os.readlink(f"{images.store}/chains/{n}") for n in os.listdir(images.store + "/chains")} == set(os.listdir(images.store + "/layers"))
        assert len(os.listdir(images.store + "/chains")) == 3
    # The other kills hit the process that unpacks meanwhile, without which a pull succeeds.
    assert killed > SAMPLES // 4


def test_kill_run_that_pulls(rt, images, hostile, template, env, tmp):
    """SIGKILL at any call of any process of a `run --image` that pulls: the next run works, and nothing is left."""
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    _, m = hostile.image(layers=[base, oci.tar(oci.entry("d/", "dir"), oci.entry("d/new", data=b"2"))])
    name = f"{hostile.host}/a:t"
    images("ls")
    options = ["--image", name, "--store", images.store, "--network", "none", "--rm"]
    argv = rt.argv("run", *options, "--name", "b1", "/bin/true")
    calls = ["openat", "renameat", "write", "clone3", "recvfrom", "execve", "wait4", "symlinkat", "flock", "exit_group", "mkdirat", "read"]
    n = counts(["env", "-i", *[f"{k}={v}" for k, v in env.items()], *argv], tmp + "/log")
    assert n["recvfrom"] > 2 and n["execve"] > 2
    for call in calls:
        for nth in {1, n.get(call, 0) // 4, n.get(call, 0) // 8} - {0}:
            for tag in images("-q", "ls").split():
                images("rm", tag)
            subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *argv],
                           env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
            check_blobs(images)
            r = rt("run", *options, "--name", "b2", "/bin/cat", "/d/new", env=env)
            assert r.rc == 0 and r.out == "2", (call, nth, r)
            rt("delete", "--force", "b1").ok()
            images("rm", name)
            images("prune")
            left = {d: os.listdir(os.path.join(images.store, d)) for d in ("containers", "layers", "chains", "partial")}
            assert not any(left.values()) and not blobs(images), (call, nth, left)


# ---- a full disk

@pytest.fixture
def disk(images, tmp):
    """A store on a disk of 4 MiB. Returns what makes the disk larger."""
    where = tmp + "/disk"
    os.mkdir(where)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "test", where], check=True)
    images.store = where + "/store"
    yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", where], check=True)
    subprocess.run(["umount", where], check=True)


def test_disk_full_during_a_blob(hostile, images, env, disk, tmp):
    hostile.image("small", layers=[oci.tar(oci.entry("f", data=b"1"))])
    images("pull", f"{hostile.host}/a:small", env=env)
    before = blobs(images)
    hostile.image("big", layers=[oci.tar(oci.entry("g", data=os.urandom(3 << 20))), oci.tar(oci.entry("h", data=os.urandom(3 << 20)))])
    last = images.fails("pull", f"{hostile.host}/a:big", saying="No space left on device", env=env)
    assert "/partial/sha256-" in last
    check_blobs(images)
    images("-q", "unpack", f"{hostile.host}/a:small", tmp + "/r")
    images("prune")
    assert blobs(images) == before and os.listdir(images.store + "/partial") == []
    disk("64m")
    images("pull", f"{hostile.host}/a:big", env=env)
    images("unpack", f"{hostile.host}/a:big", tmp + "/r2")
    assert sorted(os.listdir(tmp + "/r2")) == ["g", "h"]


def test_disk_full_during_unpack(images, layout, disk, tmp):
    """Unpacking leaves 16 MiB of the disk free, so it stops before the disk is full."""
    disk("24m")
    layout.image([oci.tar(oci.entry("f", data=b"1")), oci.tar(oci.entry("g", data=bytes(range(256)) * (64 << 10)))], "big")
    images("import", f"oci:{layout.path}:big")
    before = blobs(images)
    images.fails("unpack", "big", saying="bytes that are left")
    assert len(os.listdir(images.store + "/layers")) == len(os.listdir(images.store + "/chains")) == 1
    assert blobs(images) == before
    disk("64m")
    images("unpack", "big")
    assert len(os.listdir(images.store + "/layers")) == len(os.listdir(images.store + "/chains")) == 2
    images("rm", "big")
    assert os.listdir(images.store + "/layers") == []


def listed(images, directory):
    path = os.path.join(images.store, directory)
    return os.listdir(path) if os.path.exists(path) else []


def test_another_program_fills_the_disk_during_unpack(images, layout, tmp):
    """ENOSPC of any call that takes room, as strace injects it: one error, no half-made layer, and the next unpack works."""
    layout.image([oci.tar(oci.entry("f", data=b"1" * 5000)), oci.tar(oci.entry("d/", "dir"), oci.entry("d/g", data=b"2" * 5000), oci.entry("l", "link", link="f"))], "x")
    images("import", f"oci:{layout.path}:x")
    argv = [images.program, "--store", images.store, "unpack", "x"]
    n = counts(argv, tmp + "/log")
    images("unpack", "x")
    for call in ("write", "mkdirat", "symlinkat", "openat2"):
        for nth in sorted({1, n.get(call, 0) // 2, n.get(call, 0) - 1} - {0, -1}):
            for d in ("layers", "chains"):
                shutil.rmtree(f"{images.store}/{d}")
            images("unpack", "x", check=False, prefix=["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                                       f"inject={call}:error=ENOSPC:when={nth}"])
            if images.code:
                assert "No space left" in images.err.rstrip("\n").split("\n")[-1], (call, nth, images.err)
                assert len(listed(images, "layers")) == len(listed(images, "chains")) < 2
            images("unpack", "x")
            assert len(os.listdir(images.store + "/layers")) == len(os.listdir(images.store + "/chains")) == 2


def test_no_room_for_the_tag(hostile, images, env, disk):
    """The disk is full when the image gets its name: the old index stays."""
    hostile.image("small", layers=[oci.tar(oci.entry("f", data=b"1"))])
    images("pull", f"{hostile.host}/a:small", env=env)
    with open(images.store + "/../filler", "wb") as f:
        try:
            while f.write(b"x" * 4096):
                f.flush()
        except OSError:
            pass
        try:
            f.close()
        except OSError:
            pass
    images.fails("tag", f"{hostile.host}/a:small", "other:1", saying="No space left on device")
    assert images("-q", "ls").split() == [f"{hostile.host}/a:small"]
    os.unlink(images.store + "/../filler")
    images("tag", f"{hostile.host}/a:small", "other:1")


@pytest.mark.parametrize("command", [["import", "oci:layout:big"], ["unpack", "big", "tree"], ["save", "-o", "tar", "big"],
                                     ["pull", "big"]], ids=lambda c: c[0])
def test_size_limit(hostile, images, layout, env, tmp, command):
    """A file that would exceed RLIMIT_FSIZE (ulimit -f) is an error that names the limit, and SIGXFSZ ends no command."""
    layers = [oci.tar(oci.entry("g", data=os.urandom(3 << 20)))]
    layout.image(layers, "big")
    hostile.image("big", layers=layers)
    if command[0] in ("unpack", "save"):
        images("import", f"oci:{layout.path}:big")
    names = {"oci:layout:big": f"oci:{layout.path}:big", "tree": tmp + "/tree", "tar": tmp + "/tar"}
    if command[0] == "pull":
        names["big"] = f"{hostile.host}/a:big"
    words = [names.get(w, w) for w in command]
    images.fails(*words, saying="RLIMIT_FSIZE (ulimit -f)", env=env, prefix=["prlimit", "--fsize=1048576"])
    images(*words, env=env)


# ---- proxies

@pytest.fixture(scope="session")
def named(tmp_path_factory):
    """Certificates for a name that only the proxy knows, and a client's."""
    d = make_certificate(str(tmp_path_factory.mktemp("named")), NAME)
    make_client(d)
    return d


@pytest.fixture
def proxy():
    made = []

    def make(names, **kw):
        made.append(Proxy(names, **kw))
        return made[-1]
    yield make
    for p in made:
        p.close()


@pytest.fixture
def ca(named, tmp):
    os.mkdir(tmp + "/ca")
    shutil.copy(named + "/ca.crt", tmp + "/ca")
    return ["--cert-dir", tmp + "/ca"]


@pytest.fixture
def tls(named):
    r = Hostile(tls=named, token_user=("me", "secret"))
    r.image()
    r.realm = f"https://{NAME}:5443/token"
    yield r
    r.close()


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_https_proxy(pull, proxy, tls, ca, env, variable):
    """TLS goes through the proxy, which sees neither the credentials nor the tokens."""
    p = proxy({f"{NAME}:5443": tls.port})
    assert pull(f"{NAME}:5443/a:t", *ca, "--creds", "me:secret", env={**env, variable: "http://" + p.address})
    assert {(m, t) for m, t, _ in p.seen} == {("CONNECT", f"{NAME}:5443")}
    assert not [h for _, _, h in p.seen if "authorization" in h]
    assert [h for _, _, h in tls.seen if h.get("Authorization", "").startswith("Bearer good-")]


@pytest.mark.parametrize("refuse", [True, False])
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_http_proxy(pull, proxy, hostile, env, variable, refuse):
    """Without TLS, where the user allows that, also if the proxy refuses CONNECT."""
    hostile.image()
    p = proxy({f"{NAME}:5000": hostile.port}, refuse=refuse)
    assert pull(f"{NAME}:5000/a:t", "--insecure", env={**env, variable: "http://" + p.address, "https_proxy": "http://" + p.address})
    assert ("GET", f"http://{NAME}:5000/v2/a/manifests/t") in [(m, t) for m, t, _ in p.seen]


def test_http_proxy_is_not_taken_from_a_web_client(pull, proxy, hostile, env):
    """In a CGI program HTTP_PROXY is the header "Proxy" of a client."""
    p = proxy({f"{NAME}:5000": hostile.port}, refuse=True)
    pull(f"{NAME}:5000/a:t", "--insecure", env={**env, "HTTP_PROXY": "http://" + p.address, "https_proxy": "http://" + p.address, "REQUEST_METHOD": "GET"},
         fails="the proxy refuses the connection")
    assert {m for m, _, _ in p.seen} == {"CONNECT"}


@pytest.fixture
def elsewhere():
    """A registry on an address that is not loopback."""
    subprocess.run(["ip", "addr", "add", "192.0.2.7/32", "dev", "lo"], check=True)
    r = Hostile(address="192.0.2.7")
    r.image()
    yield r
    r.close()
    subprocess.run(["ip", "addr", "del", "192.0.2.7/32", "dev", "lo"], check=True)


@pytest.mark.parametrize("variable, value, direct", [
    ("no_proxy", "192.0.2.7", True), ("NO_PROXY", "192.0.2.7", True), ("no_proxy", "a.test, 192.0.2.7", True), ("no_proxy", "*", True),
    ("no_proxy", "192.0.2.0/24", True), ("no_proxy", "192.0.2.70", False), ("no_proxy", "2.7", False)])
@pytest.mark.parametrize("http", ["http_proxy", "HTTP_PROXY"])
def test_no_proxy(pull, proxy, elsewhere, env, variable, value, direct, http):
    p = proxy({})
    assert pull(f"{elsewhere.host}/a:t", "--insecure", env={**env, http: "http://" + p.address, "https_proxy": "http://" + p.address, variable: value})
    assert bool(p.seen) != direct


def test_no_proxy_for_this_machine(pull, proxy, hostile, env):
    hostile.image()
    p = proxy({})
    assert pull(f"{hostile.host}/a:t", env={**env, "http_proxy": "http://" + p.address, "https_proxy": "http://" + p.address})
    assert p.seen == []


def test_proxy_with_a_password(pull, images, proxy, tls, hostile, ca, env):
    p = proxy({f"{NAME}:5443": tls.port, f"{NAME}:5000": hostile.port}, user=("alice", "pr0xy"))
    fine = {**env, "https_proxy": "http://alice:pr0xy@" + p.address}
    assert pull(f"{NAME}:5443/a:t", *ca, "--creds", "me:secret", env=fine)
    images("rm", f"{NAME}:5443/a:t")
    p.seen.clear()
    last = pull(f"{NAME}:5443/a:t", *ca, env={**env, "https_proxy": "http://alice:wr0ng@" + p.address}, fails="the proxy refuses the connection, with status 407")
    assert "wr0ng" not in images.err and f"https://{NAME}:5443" in last and len(p.seen) == 1
    hostile.image()
    pull(f"{NAME}:5000/a:t", "--insecure", env={**env, "https_proxy": "http://" + p.address, "http_proxy": "http://" + p.address},
         fails="the proxy wants a user and a password")


def test_no_such_proxy(pull, tls, ca, env):
    pull(f"{NAME}:5443/a:t", *ca, env={**env, "https_proxy": f"http://127.0.0.1:{free_port()}"}, fails="onnect")


# ---- client certificates

@pytest.fixture(scope="module")
def locked(program, tmp_path_factory):
    """docker-registry that wants a client's certificate, with the directory of all certificates and an image a:t."""
    d = make_certificate(str(tmp_path_factory.mktemp("locked")))
    make_client(d)
    r = DockerRegistry(str(tmp_path_factory.mktemp("registry")), tls=d, want_client=True)
    layout, images = oci.Layout(d + "/layout"), oci.Images(program, d + "/store")
    layout.image([oci.tar(oci.entry("f"))], "t")
    images("import", f"oci:{d}/layout:t")
    images("push", "--cert-dir", d, "t", f"{r.host}/a:t")
    yield r, d
    r.close()


def with_etc(tmp, where, files):
    """Words that execute a program with these files added to /etc."""
    for d in ("up", "work"):
        os.makedirs(f"{tmp}/{d}", exist_ok=True)
    os.makedirs(f"{tmp}/up/{where}")
    for f in files:
        shutil.copy(f, f"{tmp}/up/{where}")
    return ["unshare", "-m", "sh", "-c", f'mount -t overlay -o lowerdir=/etc,upperdir={tmp}/up,workdir={tmp}/work test /etc && exec "$@"', "sh"]


def test_a_machine_without_ca_certificates(images, hostile, certificates, env):
    """Debian without the package ca-certificates: a registry with plain HTTP serves, one whose CA is named serves, and for others the error says
    what to install."""
    prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /etc/ssl/certs && exec "$@"', "sh"]
    hostile.image()
    assert images("pull", f"{hostile.host}/a:t", env=env, prefix=prefix)
    images("rm", f"{hostile.host}/a:t")
    r = Hostile(tls=certificates)
    r.image()
    assert images("pull", "--cert-dir", certificates, f"{r.host}/a:t", env=env, prefix=prefix)
    images("rm", f"{r.host}/a:t")
    images.fails("pull", f"{r.host}/a:t", env=env, prefix=prefix, saying="install the package ca-certificates")
    r.close()


@pytest.mark.parametrize("where", ["containers", "docker"])
def test_certificates_of_the_machine(images, locked, env, tmp, where):
    r, d = locked
    prefix = with_etc(tmp, f"{where}/certs.d/{r.host}", [f"{d}/{n}" for n in ("ca.crt", "client.cert", "client.key")])
    assert images("pull", f"{r.host}/a:t", env=env, prefix=prefix)


def test_certificates_of_a_user(images, locked, env, tmp):
    r, d = locked
    os.chmod(tmp, 0o755)
    certs = f"{tmp}/config/containers/certs.d/{r.host}"
    os.makedirs(certs)
    for n in ("ca.crt", "client.cert", "client.key"):
        shutil.copy(f"{d}/{n}", certs)
        os.chmod(f"{certs}/{n}", 0o644)
    os.mkdir(tmp + "/user", mode=0o777)
    os.chmod(tmp + "/user", 0o777)
    mine = oci.Images(images.program, tmp + "/user/store")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert mine("pull", f"{r.host}/a:t", env={**env, "XDG_CONFIG_HOME": tmp + "/config"}, prefix=user)
    # Root does not read a user's directory.
    images.fails("pull", f"{r.host}/a:t", env={**env, "XDG_CONFIG_HOME": tmp + "/config"}, saying="certificate")


@pytest.mark.parametrize("files, why", [
    ({}, "it wants a client's certificate"), ({"client.cert": None}, "has no key"), ({"client.key": None}, "has no certificate"),
    ({"client.cert": b"no certificate", "client.key": None}, "certificate"), ({"client.cert": None, "client.key": b"no key"}, "key")], ids=range(5))
def test_client_certificates_that_do_not_work(pull, locked, tmp, files, why):
    r, d = locked
    certs = tmp + "/certs"
    os.mkdir(certs)
    shutil.copy(d + "/ca.crt", certs)
    for n, data in files.items():
        if data is None:
            shutil.copy(f"{d}/{n}", certs)
        else:
            with open(f"{certs}/{n}", "wb") as f:
                f.write(data)
    pull(f"{r.host}/a:t", "--cert-dir", certs, fails=why)


def test_client_of_another_ca(pull, locked, tmp):
    r, d = locked
    make_certificate(tmp + "/other")
    make_client(tmp + "/other")
    os.mkdir(tmp + "/certs")
    shutil.copy(d + "/ca.crt", tmp + "/certs")
    for n in ("client.cert", "client.key"):
        shutil.copy(f"{tmp}/other/{n}", tmp + "/certs")
    pull(f"{r.host}/a:t", "--cert-dir", tmp + "/certs", fails="it wants a client's certificate")


# ---- tokens that expire

def refuse(hostile, method, part, times):
    """Answers such requests by 401, so many times."""
    hostile.rules.append(on(method, part, times)(lambda h: h.reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {
        "WWW-Authenticate": f'Bearer realm="{hostile.realm}",service="test service",error="invalid_token"'})))


def tokens(hostile):
    return len([1 for _, path, _ in hostile.seen if path.startswith("/token")])


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_token_expires_during_a_pull(hostile, pull, images, part):
    hostile.image(layers=[oci.tar(oci.entry("f"))])
    hostile.realm = hostile.url + "/token"
    refuse(hostile, "GET", part, 1)
    assert pull(f"{hostile.host}/a:t")
    assert tokens(hostile) == 2
    # A new token that is refused too is an error, not a loop.
    images("rm", f"{hostile.host}/a:t")
    hostile.rules.clear()
    hostile.seen.clear()
    refuse(hostile, "GET", part, None)
    pull(f"{hostile.host}/a:t", "-j", "1", fails="denies access")
    assert len([1 for _, path, _ in hostile.seen if part in path]) == 2


def test_token_expires_in_the_midst_of_a_blob(hostile, pull):
    """The connection is cut, and the token is too old when the download goes on."""
    data = os.urandom(1 << 20)
    _, m = hostile.image(layers=[data])
    hostile.realm = hostile.url + "/token"
    d = digest_of_layer(m)
    hostile.rules.append(on("GET", d, 1)(lambda h: h.reply(200, data, cut=500000)))
    refuse(hostile, "GET", d, 1)
    assert pull(f"{hostile.host}/a:t", "-j", "1")
    ranges = [h.get("Range") for _, path, h in hostile.seen if d in path]
    assert ranges[0] is None and len(ranges) == 3 and ranges[1] == ranges[2] and tokens(hostile) == 2


@pytest.mark.parametrize("method, part", [("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PATCH", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")])
def test_token_expires_during_a_push(hostile, images, env, layout, method, part):
    data = oci.tar(oci.entry("f", data=os.urandom(20 << 20)))
    layout.image([data], "x", compress=False)
    images("import", f"oci:{layout.path}:x", "x")
    hostile.realm = hostile.url + "/token"
    refuse(hostile, method, part, 1)
    images("push", "-j", "1", "x", f"{hostile.host}/a:x", env=env)
    assert tokens(hostile) == 2 and oci.sha256(data) in hostile.blobs and ("a", "x") in hostile.manifests
    hostile.rules.clear()
    hostile.blobs.clear()
    refuse(hostile, method, part, None)
    hostile.seen.clear()
    images.fails("push", "-j", "1", "x", f"{hostile.host}/a:y", saying="denies access", env=env)
    assert len([1 for m, path, _ in hostile.seen if m == method and part in path]) == 2 and ("a", "y") not in hostile.manifests


# ---- Retry-After

def test_retry_after_a_date(hostile, pull):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/", 1)(lambda h: h.reply(503, b"later", {"Retry-After": email.utils.formatdate(time.time() + 4, usegmt=True)})))
    start = time.monotonic()
    pull(f"{hostile.host}/a:t")
    assert 2.5 <= time.monotonic() - start


@pytest.mark.parametrize("value", ["0", "Thu, 01 Jan 1998 00:00:00 GMT", "soon", "-5"])
def test_retry_after_that_asks_for_no_pause(hostile, pull, value):
    hostile.image()
    hostile.rules.append(on("GET", "/manifests/", 2)(lambda h: h.reply(429, b"later", {"Retry-After": value})))
    pull(f"{hostile.host}/a:t")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["3600", "99999999999999999999", "date"])
def test_retry_after_that_is_too_far_away(hostile, pull, status, value):
    """A pause of an hour is respected: the registry is not asked again, and the message says when it may be."""
    hostile.image()
    far = email.utils.formatdate(time.time() + 7200, usegmt=True) if value == "date" else value
    hostile.rules.append(on("GET", "/manifests/")(lambda h: h.reply(status, b"later", {"Retry-After": far})))
    if value.startswith("9"):
        hostile.rules[0] = on("GET", "/manifests/")(lambda h: h.reply(status, b"later", {"Retry-After": "9999999999"}))
    start = time.monotonic()
    pull(f"{hostile.host}/a:t", fails="it may be asked again in ")
    assert time.monotonic() - start < 30
    assert len([1 for _, path, _ in hostile.seen if "manifests" in path]) == 1


# ---- credential helpers

def helper(tmp, env, script):
    os.makedirs(tmp + "/bin", exist_ok=True)
    path = tmp + "/bin/docker-credential-test"
    write(path, "#!/bin/sh\n" + script + "\n")
    os.chmod(path, 0o755)
    return {**env, "PATH": tmp + "/bin:" + env["PATH"]}


BAD_HELPERS = [
    ("echo it is broken; exit 3", "docker-credential-test: exit code 3: it is broken"), ("kill -9 $$", "docker-credential-test was killed by signal 9"),
    ("echo no json", "docker-credential-test"), ("echo '[]'", "docker-credential-test"), ("echo '{\"Username\":5,\"Secret\":\"x\"}'", "Username"),
    ("echo '{\"Username\":\"me\",\"Secret\":{}}'", "Secret"), ("exec yes 2>/dev/null", "prints more than"), ("printf '\\033]0;evil\\007'; exit 1", "exit code 1"),
    ("exit 0", "docker-credential-test")]


@pytest.mark.parametrize("how", ["credHelpers", "credsStore"])
@pytest.mark.parametrize("script, why", BAD_HELPERS, ids=range(len(BAD_HELPERS)))
def test_helpers_that_fail(hostile, images, env, tmp, how, script, why):
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    file = auths(tmp, {}, **{how: {hostile.host: "test"} if how == "credHelpers" else "test"})
    last = images.fails("pull", f"{hostile.host}/a:t", "--authfile", file, env=helper(tmp, env, script), saying=why)
    assert "\033" not in last and hostile.host in last


@pytest.mark.parametrize("script", ["exec sleep 1000", "exec >&-; exec sleep 1000"])
def test_helper_that_hangs(hostile, images, env, tmp, script):
    """strace lets the time pass at once: the poll that waits for the helper returns 0."""
    hostile.image()
    file = auths(tmp, {}, credsStore="test")
    nth = 2 if ">&-" in script else 1  # the first poll is for the end of the output
    inject = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=poll", "-e", f"inject=poll:retval=0:when={nth}"]
    start = time.monotonic()
    images.fails("pull", f"{hostile.host}/a:t", "--authfile", file, env=helper(tmp, env, script), prefix=inject,
                 saying="docker-credential-test has not answered within 60 seconds")
    assert time.monotonic() - start < 50


def test_helper_that_is_missing(hostile, images, env, tmp):
    hostile.image()
    images.fails("pull", f"{hostile.host}/a:t", "--authfile", auths(tmp, {}, credsStore="nosuch"), env=env, saying="docker-credential-nosuch")


def test_helper_without_these_credentials(hostile, pull, env, tmp):
    """A helper that has none for this registry is no error: a public image needs none."""
    hostile.image()
    pull(f"{hostile.host}/a:t", "--authfile", auths(tmp, {}, credsStore="test"), env=helper(tmp, env, "echo credentials not found in native keychain; exit 1"))


# ---- lists in pages

def descriptor(i):
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:%064x" % i, "size": 10 + i, "artifactType": "a/b"}


def page(hostile, links, count=3):
    """Serves the list of referrers in pages; links[i] is the header Link of page i."""
    def rule(h):
        if "/referrers/" not in h.path:
            return False
        i = int(h.path.split("page=")[1]) if "page=" in h.path else 0
        body = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                           "manifests": [descriptor(i * count + k) for k in range(count)]}).encode()
        h.reply(200, body, {"Content-Type": "application/vnd.oci.image.index.v1+json", **({"Link": links[i]} if i < len(links) and links[i] else {})})
        return True
    hostile.rules.append(rule)


def test_referrers_in_pages(hostile, images, env):
    d, _ = hostile.image()
    path = f"/v2/a/referrers/{d['digest']}"
    page(hostile, [f'<{path}?page=9>; rel="prev", <{path}?page=1>; title="a, b>"; rel="next"', f"<{path}?page=2>;rel=next", None])
    got = json.loads(images("referrers", "--json", f"{hostile.host}/a:t", env=env))["referrers"]
    assert [x["size"] for x in got] == list(range(10, 19))


def test_referrers_in_a_ring(hostile, images, env):
    d, _ = hostile.image()
    page(hostile, [f'</v2/a/referrers/{d["digest"]}?page=0>; rel="next"'])
    images.fails("referrers", f"{hostile.host}/a:t", env=env, saying="more than 100 pages")


def test_next_page_elsewhere_gets_no_token(hostile, images, env):
    other = Hostile()
    hostile.image()
    hostile.realm, hostile.token_user = hostile.url + "/token", ("me", "secret")
    page(hostile, [f'<{other.url}/v2/x>; rel="next"'])
    images.fails("referrers", "--creds", "me:secret", f"{hostile.host}/a:t", env=env, saying="referrers")
    assert other.seen and not [h for _, _, h in other.seen if "Authorization" in h]
    other.close()


@pytest.mark.parametrize("link", ["", "<", "<x", "x", ">;rel=next", "<>; rel=prev", "<http://[>; rel=prev", ";rel=next", "<x>;=;rel", "<x>; rel=\"nex", ",,,"])
def test_links_that_lead_nowhere(hostile, images, env, link):
    hostile.image()
    page(hostile, [link])
    assert len(json.loads(images("referrers", "--json", f"{hostile.host}/a:t", env=env))["referrers"]) == 3


# ---- where uploads and pages may not lead

def test_upload_from_tls_to_plain(certificates, images, env, layout):
    """A registry behind TLS that sends an upload to plain HTTP gets no byte of it."""
    r, other = Hostile(tls=certificates), Hostile()
    layout.image([oci.tar(oci.entry("f"))], "x")
    images("import", f"oci:{layout.path}:x", "x")
    r.rules.append(on("POST", "/uploads/")(lambda h: h.reply(202, b"", {"Location": f"{other.url}/v2/a/blobs/uploads/u"})))
    images.fails("push", "--cert-dir", certificates, "x", f"{r.host}/a:x", env=env, saying="plain HTTP")
    assert other.seen == []
    r.close()
    other.close()


@pytest.mark.parametrize("content_range", ["bytes 500000-", "bytes -1-5", "bytes 500000-1048575/5", "bytes 500000-1048575/18446744073709551616",
                                           "bytes 500000-99999999999999999999/*", "500000", "", "bytes 500000-1048575/1048576 x"])
def test_ranges_that_are_malformed(hostile, pull, content_range):
    data = os.urandom(1 << 20)
    _, m = hostile.image(layers=[data])

    def partial(h):
        if "Range" not in h.headers:
            return h.reply(200, data, cut=500000)
        return h.reply(206, data[int(h.headers["Range"][6:-1]):], {"Content-Range": content_range})
    hostile.rules.append(on("GET", digest_of_layer(m))(partial))
    pull(f"{hostile.host}/a:t", fails="is not what was asked for")


# ---- policy.json of what is no registry

def test_policy_of_files(images, layout, env, tmp):
    """import obeys policy.json as pull does; root reads the machine's file, a user the user's."""
    layout.image([oci.tar(oci.entry("f"))], "x")
    images("import", f"oci:{layout.path}:x", "x")
    images("export", "x", f"oci-archive:{tmp}/o.tar:x")
    images("export", "x", f"docker-archive:{tmp}/d.tar")
    images("export", "x", f"dir:{tmp}/d")
    os.makedirs(tmp + "/config/containers")
    for d, _, files in os.walk(tmp):
        for f in files:
            os.chmod(os.path.join(d, f), 0o755)
        os.chmod(d, 0o755)
    os.mkdir(tmp + "/user")
    os.chmod(tmp + "/user", 0o777)
    mine = oci.Images(images.program, tmp + "/user/store")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    accept, reject, sign = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}], [{"type": "sigstoreSigned", "keyPath": "/x"}]
    sources = {"oci": f"oci:{layout.path}:x", "oci-archive": f"oci-archive:{tmp}/o.tar:x", "docker-archive": f"docker-archive:{tmp}/d.tar", "dir": f"dir:{tmp}/d"}
    paths = {"oci": [f"{layout.path}:x", layout.path, tmp], "oci-archive": [f"{tmp}/o.tar:x", f"{tmp}/o.tar", tmp], "dir": [f"{tmp}/d", tmp], "docker-archive": []}
    os.symlink(tmp, tmp + "/again")

    def check(doc, source, why=None):
        write(tmp + "/config/containers/policy.json", json.dumps(doc))
        e = {**env, "XDG_CONFIG_HOME": tmp + "/config"}
        if why:
            mine.fails("import", source, "name", saying=why, env=e, prefix=user)
            assert mine("-q", "ls") == ""
        else:
            mine("import", source, "name", env=e, prefix=user)
            mine("rm", "name", env=e, prefix=user)
    for transport, source in sources.items():
        check({"default": reject}, source, "rejects the image")
        check({"default": accept, "transports": {transport: {"": reject}}}, source, "rejects the image")
        check({"default": accept, "transports": {transport: {"": sign}}}, source, "cannot check")
        check({"default": reject, "transports": {transport: {"": accept}}}, source)
        check({"default": reject, "transports": {"docker": {"": accept}}}, source, "rejects the image")
        for scope in paths[transport]:
            check({"default": reject, "transports": {transport: {scope: accept}}}, source)
            check({"default": accept, "transports": {transport: {scope: reject, "": accept}}}, source, "rejects the image")
            check({"default": accept, "transports": {transport: {scope: reject}}}, source.replace(tmp, tmp + "/again"), "rejects the image")
            check({"default": accept, "transports": {transport: {scope + "x": reject, "/": reject}}}, source)
    write(tmp + "/config/containers/policy.json", json.dumps({"default": accept, "transports": {"docker-archive": {"": reject}}}))
    with open(tmp + "/d.tar", "rb") as f:
        mine.fails("import", "docker-archive:-", "name", input=f.read(), saying="rejects the image", env={**env, "XDG_CONFIG_HOME": tmp + "/config"}, prefix=user)


# ---- what registries do differently

def test_digest_header_of_another_algorithm(hostile, pull):
    """Registries send the sha256 of a manifest, also if it was asked for by its sha512."""
    hostile.image()
    data, kind = hostile.manifests["a", "t"]
    d = "sha512:" + hashlib.sha512(data).hexdigest()
    hostile.manifests["a", d] = (data, kind)
    assert pull(f"{hostile.host}/a@{d}") == f"{hostile.host}/a@{d}"


def big(images, layout):
    data = oci.tar(oci.entry("f", data=os.urandom(20 << 20)))
    layout.image([data], "x", compress=False)
    images("import", f"oci:{layout.path}:x", "x")
    return data


@pytest.mark.parametrize("kept", [0, 1])
def test_upload_state_that_means_none_or_one_byte(hostile, images, env, layout, kept):
    """An upload is cut with no byte or one byte at the registry, whose answer is "0-0" both times: it begins anew."""
    data = big(images, layout)

    def drop(h):
        name = h.path.split("uploads/")[-1].split("?")[0]
        hostile.uploads[name] += h.body[:kept]
        h.reply(503, b"")
    left = [1]

    def rule(h):
        if h.command != "PATCH" or int(h.headers["Content-Length"]) < 100000 or not left:
            return False
        left.pop()
        drop(h)
        return True
    hostile.rules.append(rule)
    images("push", "-j", "1", "x", f"{hostile.host}/a:x", env=env)
    assert oci.sha256(data) in hostile.blobs and [1 for m, path, _ in hostile.seen if m == "GET" and "/uploads/" in path]


def test_registry_that_loses_a_chunk(hostile, images, env, layout):
    """docker-registry 2.8 takes a chunk at a wrong offset: the digest at the end tells, and no manifest is sent."""
    big(images, layout)

    def lose(h):
        name = h.path.split("uploads/")[-1].split("?")[0]
        hostile.uploads[name] += h.body[:-1]
        h.reply(202, b"", {"Location": f"/v2/a/blobs/uploads/{name}?state=again", "Range": f"0-{len(hostile.uploads[name])}"})
    hostile.rules.append(on("PATCH", "/uploads/")(lose))
    images.fails("push", "-j", "1", "x", f"{hostile.host}/a:x", env=env, saying="DIGEST_INVALID")
    assert not hostile.manifests
