# SPDX-License-Identifier: Apache-2.0
"""Tests qcow2 images that are encrypted with LUKS: caisson and qemu-img read what the other writes, and key files and LUKS
headers that are wrong are told by their field. cryptsetup takes the header too, because it is a plain LUKS 1 header."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import time
import zlib

import pytest

from conftest import MiB, call, pattern, qemu
from test_crash import SIZE
from test_qcow2 import drive_path

PASSPHRASE = "correct horse\n"
FAST = "encrypt.format=luks,encrypt.iter-time=10"
# Options of qemu-img and caisson, which name them alike.
CIPHERS = ["", "encrypt.cipher-alg=aes-128", "encrypt.hash-alg=sha1", "encrypt.hash-alg=sha512",
           "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain64",
           "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256",
           "encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256"]
SHAPES = ["compat=0.10", "cluster_size=512", "cluster_size=2M", "extended_l2=on", "refcount_bits=1", "lazy_refcounts=on"]
KINDS = [(c, "") for c in CIPHERS] + [("", s) for s in SHAPES]


def join(*options):
    return ",".join(o for o in options if o)


class Luks:
    """The two programs with the key file `key`."""

    def __init__(self, disk):
        self.disk, self.tmp, self.key = disk, disk.tmp, disk.path("key")
        with open(self.key, "w") as f:
            f.write(PASSPHRASE)
        self.secret = ["--object", f"secret,id=s,file={self.key}"]

    def opts(self, image, **more):
        names = {"driver": "qcow2", "file.filename": image, "encrypt.key-secret": "s", **more}
        return [*self.secret, "--image-opts", ",".join(f"{k}={v}" for k, v in names.items())]

    def qemu_make(self, verb, *args, options=""):
        """Runs `qemu-img create` or `qemu-img convert` with an encrypted target. With so short an iter-time QEMU sometimes
        fails to measure the processor."""
        for _ in range(20):
            r = qemu(verb, *self.secret, "-O" if verb == "convert" else "-f", "qcow2", "-o",
                     join(FAST, "encrypt.key-secret=s", options), *args)
            if "accurate CPU usage" not in r.err:
                break
        return r.ok()

    def make(self, verb, *args, options=""):
        return self.disk(verb, "--key", self.key, "-O" if verb == "convert" else "-f", "qcow2", "-o", join(FAST, options), *args)

    def sound(self, image):
        qemu("check", *self.opts(image)).ok()
        self.disk("check", image).ok()

    def plain(self, image, name="plain.raw", **more):
        """The path of the image's content, which qemu-img has decrypted."""
        qemu("convert", *self.opts(image, **more), "-O", "raw", self.disk.path(name)).ok()
        return self.disk.path(name)

    def holds(self, image, raw, **more):
        """Checks that both programs find the content of `raw` in the image, by their own ways of reading."""
        assert same_bytes(self.plain(image, **more), raw)
        self.disk("compare", "--backing", self.tmp, "--key", self.key, "-f", "qcow2", "-F", "raw", image, raw).ok()
        self.disk("convert", "--backing", self.tmp, "--key", self.key, "-f", "qcow2", image, self.disk.path("mine.raw")).ok()
        assert same_bytes(self.disk.path("mine.raw"), raw)


def same_bytes(a, b):
    return call("cmp", a, b).rc == 0


@pytest.fixture
def luks(disk):
    return Luks(disk)


def write(path, text):
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def header_place(image):
    """Offset and length of the LUKS header, as the extension of the qcow2 header says."""
    with open(image, "rb") as f:
        head = f.read(4096)
    at = struct.unpack(">I", head[100:104])[0] if head[7] == 3 else 72
    while True:
        kind, n = struct.unpack(">II", head[at:at + 8])
        if kind == 0x0537be77:
            return (at + 8, *struct.unpack(">QQ", head[at + 8:at + 24]))
        assert kind, "the qcow2 header has no LUKS extension"
        at += 8 + (n + 7) // 8 * 8


def qemu_info_text(image):
    """What `qemu-img info` says as text, without what QEMU 10 (Debian 13) says of the file beneath."""
    return qemu("info", image).ok().out.split("Child node '/file':")[0]


def qemu_info(image):
    """What `qemu-img info` says as text, and its object "encrypt", without what QEMU 10 (Debian 13) says more than QEMU 7.2."""
    text = qemu_info_text(image)
    encrypt = json.loads(qemu("info", "--output", "json", image).ok().out)["format-specific"]["data"]["encrypt"]
    encrypt.pop("detached-header", None)
    return "".join(l for l in text.splitlines(True) if "detached header:" not in l), encrypt


@pytest.mark.parametrize("cipher,shape", KINDS)
def test_qemu_writes(luks, raw, cipher, shape):
    image = luks.disk.path("q.qcow2")
    luks.qemu_make("convert", "-f", "raw", raw, image, options=join(cipher, shape))
    luks.holds(image, raw)
    text, encrypt = qemu_info(image)
    mine = luks.disk.info(image)
    assert mine["encrypted"] is True
    assert mine["format-specific"]["data"]["encrypt"] == encrypt
    assert luks.disk("info", image).ok().out == text
    luks.sound(image)


@pytest.mark.parametrize("cipher,shape", KINDS)
def test_caisson_writes(luks, raw, cipher, shape):
    image = luks.disk.path("c.qcow2")
    luks.make("convert", "-f", "raw", raw, image, options=join(cipher, shape)).ok()
    luks.holds(image, raw)
    luks.sound(image)
    theirs = qemu_info(image)[1]
    assert luks.disk.info(image)["format-specific"]["data"]["encrypt"] == theirs
    asked = dict(o[len("encrypt."):].split("=") for o in cipher.split(",") if o)
    default = {"cipher-alg": "aes-256", "cipher-mode": "xts", "ivgen-alg": "plain64", "hash-alg": "sha256"}
    assert {k: theirs[k] for k in default | asked} == default | asked
    part = pattern(luks.disk.path("part.raw"), 12 * MiB + 512, seed=7)
    luks.disk("convert", "-n", "--key", luks.key, "-f", "raw", part, image).ok()
    luks.holds(image, part)
    luks.sound(image)


def test_nothing_is_plain(luks):
    """Neither the data, nor written zeros, nor the passphrase are in the file."""
    image, source = luks.disk.path("c.qcow2"), luks.disk.path("text.raw")
    write(source, b"attack at dawn!!" * 65536)
    luks.make("convert", source, image).ok()
    data = open(image, "rb").read()
    assert b"attack" not in data and PASSPHRASE.encode().strip() not in data


def test_master_keys_differ(luks):
    """Two images with one passphrase have different keys, salts and names."""
    a, b = (luks.disk.path(n) for n in ("a.qcow2", "b.qcow2"))
    for image in (a, b):
        luks.make("create", image, "1M").ok()
    heads = []
    for image in (a, b):
        _, at, _ = header_place(image)
        with open(image, "rb") as f:
            f.seek(at)
            heads.append(f.read(592))
    for start, end in ((112, 132), (132, 164), (168, 208), (216, 248)):
        assert heads[0][start:end] != heads[1][start:end]
    assert heads[0][256:592] == heads[1][256:592], "the other slots are unused"


def test_cryptsetup(luks, raw):
    """cryptsetup opens the header with the key, and adds a second passphrase, which caisson then takes."""
    if not shutil.which("cryptsetup"):
        pytest.fail("cryptsetup is missing (tests/run installs it)")
    image, header, second = (luks.disk.path(n) for n in ("c.qcow2", "header", "second"))
    luks.make("convert", "-f", "raw", raw, image).ok()
    write(second, "another one")
    _, at, length = header_place(image)
    with open(image, "rb") as f:
        f.seek(at)
        write(header, f.read(length))
    with open(header, "ab") as f:
        f.truncate(length + MiB)
    call("cryptsetup", "open", "--type", "luks1", "--test-passphrase", "--key-file", luks.key, header).ok()
    call("cryptsetup", "luksAddKey", "-q", "--pbkdf-force-iterations", "1000", "--key-file", luks.key, header, second).ok()
    with open(image, "r+b") as f:
        f.seek(at)
        f.write(open(header, "rb").read()[:length])
    luks.holds(image, raw)
    luks.disk("compare", "--key", second, "-f", "qcow2", "-F", "raw", image, raw).ok()
    assert [s["active"] for s in luks.disk.info(image)["format-specific"]["data"]["encrypt"]["slots"]] == [True] * 2 + [False] * 6


def test_map(luks, raw):
    """qemu-img's map names no offset of encrypted data, and neither does ours."""
    image = luks.disk.path("c.qcow2")
    luks.make("convert", "-f", "raw", raw, image).ok()
    theirs = json.loads(qemu("map", "--output", "json", *luks.opts(image)).ok().out)
    mine = json.loads(luks.disk("map", "--json", "--key", luks.key, image).ok().out)
    keys = "start length depth present zero data offset".split()
    assert [[e.get(k) for k in keys] for e in mine] == [[e.get(k) for k in keys] for e in theirs]
    assert any(e["data"] for e in mine)
    assert "encrypted" in luks.disk("map", "--key", luks.key, image).ok().out


def test_data_file(luks, raw):
    """The data in an external data file is encrypted too, and numbered by its place in that file."""
    for name in ("mine", "theirs"):
        image, data = luks.disk.path(name + ".qcow2"), luks.disk.path(name + ".data")
        make = luks.make if name == "mine" else luks.qemu_make
        make("create", image, 12 * MiB + 512, options=f"data_file={data}").ok()
        if name == "mine":
            luks.disk("convert", "-n", "--key", luks.key, "-f", "raw", raw, image).ok()
        else:
            qemu("convert", "-n", *luks.secret, "-f", "raw", "--target-image-opts", raw,
                 f"driver=qcow2,file.filename={image},encrypt.key-secret=s").ok()
        luks.holds(image, raw)
        luks.sound(image)
        assert b"abcdabcdabcdabcd" in open(raw, "rb").read() and b"abcdabcdabcdabcd" not in open(data, "rb").read()


def test_compressed_clusters_are_plain(luks):
    """No program makes an encrypted image with compressed clusters, but QEMU reads one: such clusters are not encrypted."""
    disk, image, ones = luks.disk, luks.disk.path("c.qcow2"), luks.disk.path("ones.raw")
    write(ones, b"\1" * MiB)
    luks.make("convert", ones, image).ok()
    z = zlib.compressobj(wbits=-12)
    packed = z.compress(b"attack at dawn!!" * 4096) + z.flush()
    host = (os.path.getsize(image) + 65535) // 65536 * 65536
    with open(image, "r+b") as f:
        f.seek(40)
        l1, = struct.unpack(">Q", f.read(8))
        f.seek(l1)
        l2, = struct.unpack(">Q", f.read(8))
        f.seek(host)
        f.write(packed.ljust(65536, b"\0"))
        f.seek(l2 & 0x00fffffffffffe00)
        f.write(struct.pack(">Q", 1 << 62 | (len(packed) - 1) // 512 << 54 | host))
    want = write(disk.path("want.raw"), b"attack at dawn!!" * 4096 + b"\1" * (MiB - 65536))
    luks.holds(image, want)


def test_preallocated(luks):
    """Reserved clusters of zeros read as noise, in QEMU too. So caisson refuses to make them, and reads those of QEMU."""
    image, mine = luks.disk.path("q.qcow2"), luks.disk.path("mine.raw")
    luks.qemu_make("create", image, "1M", options="preallocation=metadata")
    theirs = luks.plain(image)
    luks.disk("convert", "--key", luks.key, image, mine).ok()
    assert same_bytes(mine, theirs) and bytes(512) not in open(theirs, "rb").read()
    luks.sound(image)


# --- keys ---


def test_keys(luks, raw):
    image, out = luks.disk.path("c.qcow2"), luks.disk.path("out.raw")
    luks.make("convert", "-f", "raw", raw, image).ok()
    wrong, cut = write(luks.disk.path("wrong"), "wrong"), write(luks.disk.path("cut"), PASSPHRASE.rstrip("\n"))
    for program in ("convert", "map", "resize", "compare"):
        args = {"convert": [image, out], "map": [image], "resize": [image, "20M"], "compare": ["-F", "raw", image, raw]}[program]
        rc = 2 if program == "compare" else 1
        luks.disk(program, *args).failed("c.qcow2", "encrypted (LUKS)", "--key", rc=rc)
        luks.disk(program, "--key", wrong, *args).failed("c.qcow2", "key slots", rc=rc)
    assert os.path.getsize(out) == 0 if os.path.exists(out) else True
    # The line end in the file is a part of the passphrase, for QEMU too.
    luks.disk("map", "--key", cut, image).failed("key slots")
    qemu("map", "--object", f"secret,id=s,file={cut}", "--image-opts",
         f"driver=qcow2,file.filename={image},encrypt.key-secret=s").failed("Invalid password")
    luks.disk("map", "--key", luks.disk.path("none"), image).failed("--key", "none", "does not exist")
    luks.disk("map", "--key", luks.tmp, image).failed("--key", "Is a directory")
    luks.disk("map", "--key", write(luks.disk.path("empty"), ""), image).failed("--key", "no bytes")
    luks.disk("map", "--key", write(luks.disk.path("long"), b"x" * 65537), image).failed("--key", "65536")
    p = subprocess.run([luks.disk.binary, "disk", "map", "--key", "-", image], input=PASSPHRASE, capture_output=True, text=True,
                       check=False)
    assert p.returncode == 0 and "encrypted" in p.stdout, p
    # A key for an image that needs none is no error.
    luks.disk("compare", "--key", wrong, "-f", "raw", "-F", "raw", raw, raw).ok()


def test_no_key_is_needed(luks, raw):
    """Commands that read and change only the tables need no key: info, check, snapshot, rebase -u."""
    image = luks.disk.path("c.qcow2")
    luks.make("convert", "-f", "raw", raw, image).ok()
    luks.disk("info", image).ok()
    over = luks.disk.path("over.qcow2")
    luks.disk("create", "-u", "-f", "qcow2", "-b", "c.qcow2", "-F", "qcow2", over, "13M").ok()
    below = json.loads(luks.disk("info", "--backing-chain", "--backing", "on", "--json", over).ok().out)[1]
    assert below["filename"] == image and below["encrypted"] is True
    luks.disk("check", "-r", "all", image).ok()
    luks.disk("snapshot", "-c", "one", image).ok()
    assert "one" in luks.disk("snapshot", "-l", image).ok().out
    luks.disk("snapshot", "-a", "one", image).ok()
    luks.disk("snapshot", "-d", "one", image).ok()
    luks.disk("rebase", "-u", "-b", "base.raw", "-F", "raw", image).ok()
    luks.disk("rebase", "-u", "-b", "", image).ok()
    luks.holds(image, raw)
    luks.sound(image)


def test_two_keys(luks, raw):
    """convert and compare take a key for each of their images."""
    a, b, other = (luks.disk.path(n) for n in ("a.qcow2", "b.qcow2", "other"))
    write(other, "another one")
    luks.make("convert", "-f", "raw", raw, a).ok()
    luks.disk("convert", "--key", luks.key, "--target-key", other, "-o", FAST, a, b).ok()
    luks.disk("compare", "--key", luks.key, "--second-key", other, a, b).ok()
    luks.disk("compare", "--key", other, "--second-key", luks.key, b, a).ok()
    luks.disk("compare", "--key", luks.key, a, b).failed("b.qcow2", "key slots", rc=2)
    luks.disk("convert", "--key", "-", "--target-key", "-", "-o", FAST, a, b).failed("--target-key", "only once")
    # Within a chain one key serves all images.
    luks.disk("convert", "--key", luks.key, a, luks.disk.path("plain.raw")).ok()
    assert same_bytes(luks.disk.path("plain.raw"), raw)


@pytest.mark.parametrize("options,said", [
    ("encrypt.format=aes", "expected luks"), ("encrypt.cipher-alg=serpent-256,encrypt.format=luks", "aes-256 or aes-128"),
    ("encrypt.format=luks,encrypt.cipher-mode=ecb", "xts or cbc"), ("encrypt.format=luks,encrypt.hash-alg=md5", "sha256"),
    ("encrypt.format=luks,encrypt.ivgen-alg=essiv", "encrypt.cipher-mode=cbc"), ("encrypt.hash-alg=sha1", "encrypt.format=luks"),
    ("encrypt.format=luks,encrypt.iter-time=0", "milliseconds"), ("encrypt.format=luks,encrypt.iter-time=x", "milliseconds"),
    ("encrypt.format=luks,encrypt.key-secret=s", "--key FILE"), ("encrypt.format=luks,encrypt.color=red", "encrypt.color"),
    ("encrypt.format=luks,preallocation=metadata", "preallocation"), ("encrypt.format=luks,preallocation=full", "preallocation"),
    ("encrypt.format=luks,data_file=d,data_file_raw=on", "data_file_raw")])
def test_create_refused(luks, options, said):
    image = luks.disk.path("c.qcow2")
    luks.disk("create", "--key", luks.key, "-f", "qcow2", "-o", options, image, "1M").failed(said)
    assert not os.path.exists(image)


def test_refused(luks, raw):
    image = luks.disk.path("c.qcow2")
    luks.disk("create", "-f", "qcow2", "-o", FAST, image, "1M").failed("encrypt.format=luks", "--key FILE")
    luks.disk("convert", "-f", "raw", "-o", FAST, raw, image).failed("encrypt.format=luks", "--target-key FILE")
    luks.disk("create", "--key", luks.key, "-f", "raw", "-o", FAST, image, "1M").failed("encrypt.format", "raw images")
    luks.make("convert", "-c", "-f", "raw", raw, image).failed("-c", "compressed")
    assert not os.path.exists(image)
    luks.make("create", image, 13 * MiB).ok()
    before = open(image, "rb").read()
    for text in (b"\xff\xfe", b"a\0b"):
        luks.disk("create", "--key", write(luks.disk.path("bytes"), text), "-f", "qcow2", "-o", FAST, image, "1M").failed("UTF-8")
    assert open(image, "rb").read() == before, "a key that is refused costs nothing of an image that is there"
    luks.disk("convert", "-n", "-c", "--key", luks.key, "-f", "raw", raw, image).failed("c.qcow2", "compressed")
    luks.disk("commit", image).failed("c.qcow2")


def test_old_encryption(luks):
    """QEMU's method before LUKS is told by info, as qemu-img tells it, and refused where data is read."""
    image = luks.disk.path("aes.qcow2")
    qemu("create", "-f", "qcow2", *luks.secret, "-o", "encrypt.format=aes,encrypt.key-secret=s", image, "1M").ok()
    assert luks.disk("info", image).ok().out == qemu_info_text(image)
    luks.disk("check", image).ok()
    for args in (["map", image], ["convert", image, luks.disk.path("out.raw")], ["resize", image, "2M"]):
        luks.disk(args[0], "--key", luks.key, *args[1:]).failed("aes.qcow2", "crypt_method: AES", "qemu-img convert")


def test_iter_time(luks):
    """The iterations follow the time that is asked for, and the least number is 1000."""
    found = []
    for ms in (1, 40, 400):
        image = luks.disk.path(f"{ms}.qcow2")
        luks.disk("create", "--key", luks.key, "-f", "qcow2", "-o", f"encrypt.format=luks,encrypt.iter-time={ms}", image, "1M").ok()
        found.append(luks.disk.info(image)["format-specific"]["data"]["encrypt"]["slots"][0]["iters"])
    assert 1000 <= found[0] < found[1] < found[2], found


# --- writes ---


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("cipher,shape,piece", [("", "", 65536), (CIPHERS[5], "", 65536), ("", "cluster_size=512", 512),
                                                ("", "extended_l2=on", 65536), ("", "compat=0.10", 65536)])
@pytest.mark.parametrize("backed", [False, True])
def test_random_requests(luks, drive, cipher, shape, piece, threads, backed, monkeypatch):
    monkeypatch.setenv("DRIVE_KEY", PASSPHRASE)
    disk, ops, seed = luks.disk, 200, random.randrange(1 << 30)
    image, below = disk.path("w.qcow2"), 0
    args = []
    if backed:
        below = SIZE - 51200
        drive("fill", disk.path("base.raw"), below).ok()
        args = ["--backing", "on", "-b", "base.raw", "-F", "raw"]
        piece = 0 if "0.10" in shape else piece
    luks.make("create", *args, image, SIZE, options=join(cipher, shape)).ok()
    drive("run", image, "qcow2", seed, ops, threads, disk.tmp, "-").ok()
    done = ",".join([str(ops)] * threads)
    drive("verify", image, "qcow2", seed, ops, threads, disk.tmp, done, piece, below).ok()
    luks.sound(image)
    drive("verify", luks.plain(image), "raw", seed, ops, threads, "-", done, piece, below).ok()


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("kind", ["luks", "plain"])
def test_bytes(luks, drive, kind, threads, monkeypatch):
    """Writes that begin and end anywhere, of several threads to the bytes of the same sectors, do not harm each other."""
    image = luks.disk.path("w.qcow2")
    if kind == "luks":
        monkeypatch.setenv("DRIVE_KEY", PASSPHRASE)
        luks.make("create", image, "1M", options="cluster_size=4k").ok()
    else:
        luks.disk("create", "-f", "qcow2", "-o", "cluster_size=4k", image, "1M").ok()
    drive("bytes", image, "qcow2", random.randrange(1 << 30), 3000, threads).ok()
    if kind == "luks":
        luks.sound(image)


@pytest.mark.parametrize("backed", [False, True])
def test_killed(luks, drive, backed, monkeypatch):
    """After kill -9 what was flushed is there, and the image has at most leaks."""
    monkeypatch.setenv("DRIVE_KEY", PASSPHRASE)
    disk, image, log = luks.disk, luks.disk.path("w.qcow2"), luks.disk.path("log")
    below = SIZE - 51200 if backed else 0
    args = ["--backing", "on", "-b", "base.raw", "-F", "raw"] if backed else []
    if backed:
        drive("fill", disk.path("base.raw"), below).ok()
    for threads in (1, 4):
        seed, ops = random.randrange(1 << 30), 4000
        luks.make("create", *args, image, SIZE).ok()
        if os.path.exists(log):
            os.unlink(log)
        p = subprocess.Popen([drive_path(drive), "run", image, "qcow2", str(seed), str(ops), str(threads), disk.tmp, log])
        time.sleep(random.uniform(0.1, 0.5))
        p.send_signal(signal.SIGKILL)
        p.wait()
        flushed = [0] * threads
        for line in open(log) if os.path.exists(log) else []:
            t, n = line.split()
            flushed[int(t)] = int(n)
        assert qemu("check", *luks.opts(image)).rc in (0, 3)
        disk("check", "-q", "-r", "leaks", image).ok()
        luks.sound(image)
        r = drive("verify", image, "qcow2", seed, ops, threads, disk.tmp, ",".join(map(str, flushed)), 65536, below)
        assert r.rc == 0, (seed, threads, flushed, r)


# --- chains, snapshots, sizes ---


def overlay(luks, name, base, base_format, encrypted, program):
    """Makes an overlay of a base by that program, and returns its path."""
    image = luks.disk.path(name)
    back = ["-b", os.path.basename(base), "-F", base_format]
    if program == "qemu":
        if encrypted:
            luks.qemu_make("create", "-u", *back, image, 12 * MiB + 512)
        else:
            qemu("create", "-u", "-f", "qcow2", *back, image, 12 * MiB + 512).ok()
    else:
        options = ["-o", FAST] if encrypted else []
        luks.disk("create", "--key", luks.key, "--backing", "on", "-f", "qcow2", *options, *back, image).ok()
    return image


def io(luks, image, *commands, **more):
    args = [w for c in commands for w in ("-c", c)]
    r = call("qemu-io", *luks.opts(image, **more), *args)
    assert r.rc == 0 and "failed" not in r.out + r.err, r


@pytest.mark.parametrize("program", ["qemu", "caisson"])
@pytest.mark.parametrize("above,below", [(True, False), (False, True), (True, True)])
def test_chain(luks, raw, above, below, program):
    """An overlay of an image, of which one or both are encrypted: reads, writes, rebase and commit."""
    disk, base = luks.disk, luks.disk.path("base.qcow2")
    (luks.make("convert", "-f", "raw", raw, base) if below else disk("convert", raw, base)).ok()
    image = overlay(luks, "over.qcow2", base, "qcow2", above, program)
    more = {"backing.driver": "qcow2", "backing.file.filename": base}
    if below:
        more["backing.encrypt.key-secret"] = "s"
    top = {} if above else {"encrypt.key-secret": None}

    def opts(**extra):
        names = {"driver": "qcow2", "file.filename": image, "encrypt.key-secret": "s", **more, **extra, **top}
        return [*luks.secret, "--image-opts", ",".join(f"{k}={v}" for k, v in names.items() if v is not None)]

    def holds(want):
        qemu("convert", *opts(), "-O", "raw", disk.path("q.raw")).ok()
        assert same_bytes(disk.path("q.raw"), want)
        disk("compare", "--backing", "on", "--key", luks.key, "-f", "qcow2", "-F", "raw", image, want).ok()

    holds(raw)
    # QEMU writes pieces that are no whole clusters, so that old bytes of the base are copied around them.
    want = disk.path("want.raw")
    shutil.copy(raw, want)
    r = call("qemu-io", *opts(), "-c", "write -P 65 100k 3k", "-c", "write -z 1M 64k", "-c", "write -P 66 5M 1M")
    assert r.rc == 0, r
    with open(want, "r+b") as f:
        for at, data in ((100 * 1024, b"A" * 3072), (MiB, bytes(65536)), (5 * MiB, b"B" * MiB)):
            f.seek(at)
            f.write(data)
    holds(want)
    # A third image above, in which everything is rebased to a plain copy of the base.
    shutil.copy(raw, disk.path("base.raw"))
    disk("rebase", "--backing", "on", "--key", luks.key, "-b", "base.raw", "-F", "raw", image).ok()
    more.clear()
    more.update({"backing.driver": "raw", "backing.file.filename": disk.path("base.raw")})
    holds(want)
    disk("rebase", "--backing", "on", "--key", luks.key, "-b", "base.qcow2", "-F", "qcow2", image).ok()
    more.update({"backing.driver": "qcow2", "backing.file.filename": base, **({"backing.encrypt.key-secret": "s"} if below else {})})
    holds(want)
    before = open(base, "rb").read()
    disk("commit", "--backing", "on", image).failed("encrypted (LUKS)", "--key")
    assert open(base, "rb").read() == before
    disk("commit", "--backing", "on", "--key", luks.key, image).ok()
    holds(want)
    disk("compare", "--key", luks.key, "-f", "qcow2", "-F", "raw", base, want).ok()


def test_snapshots(luks, raw):
    """Each program reads the snapshots of the other, and writes after a snapshot do not change it."""
    disk, image = luks.disk, luks.disk.path("c.qcow2")
    luks.make("convert", "-f", "raw", raw, image).ok()
    disk("snapshot", "-c", "mine", image).ok()
    io(luks, image, "write -P 65 0 3k", "write -P 66 1M 2M")
    qemu("snapshot", "-c", "theirs", *luks.opts(image)).ok()
    after = shutil.copy(luks.plain(image), disk.path("after.raw"))
    part = pattern(disk.path("part.raw"), 12 * MiB + 512, seed=9)
    disk("convert", "-n", "--key", luks.key, "-f", "raw", part, image).ok()
    luks.holds(image, part)
    for name, want in (("mine", raw), ("theirs", after)):
        disk("convert", "--key", luks.key, "-l", name, image, disk.path("s.raw")).ok()
        assert same_bytes(disk.path("s.raw"), want)
    disk("snapshot", "-a", "theirs", image).ok()
    luks.holds(image, after)
    qemu("snapshot", "-a", "mine", *luks.opts(image)).ok()
    luks.holds(image, raw)
    luks.sound(image)


def test_resize(luks, raw):
    disk, image = luks.disk, luks.disk.path("c.qcow2")
    luks.make("convert", "-f", "raw", raw, image).ok()
    disk("resize", "--key", luks.key, image, "20M").ok()
    want = shutil.copy(raw, disk.path("want.raw"))
    os.truncate(want, 20 * MiB)
    luks.holds(image, want)
    disk("resize", "--key", luks.key, "--shrink", image, 5 * MiB + 1024).ok()
    os.truncate(want, 5 * MiB + 1024)
    luks.holds(image, want)
    # Growing again shows zeros and not the bytes that were there before.
    disk("resize", "--key", luks.key, image, "6M").ok()
    os.truncate(want, 6 * MiB)
    luks.holds(image, want)
    luks.sound(image)


# --- damaged headers ---

# Offset and form of the fields of the LUKS header, values that must be refused, and what the message says.
BAD = [("magic", 0, ">I", 0x4c554b54, "magic"), ("version", 6, ">H", 2, "version"), ("version", 6, ">H", 0, "version"),
       ("cipher", 8, "8s", b"serpent\0", "serpent"), ("cipher", 8, "8s", b"\x1b[2Jaes\0", "cipher_name"),
       ("mode", 40, "12s", b"ecb\0", "cipher_mode"), ("mode", 40, "12s", b"xts-plain\0", "xts-plain"), ("hash", 72, "8s", b"md5\0", "md5"),
       ("hash", 72, "32s", b"x" * 32, "hash_spec"), ("payload", 104, ">I", 0xffffffff, "payload_offset"),
       ("payload", 104, ">I", 8, "key_material_offset"), ("key bytes", 108, ">I", 0, "key_bytes"),
       ("key bytes", 108, ">I", 48, "key_bytes"), ("key bytes", 108, ">I", 0xffffffff, "key_bytes"),
       ("digest", 112, ">I", 0x12345678, "key slots"), ("digest salt", 132, ">I", 0x12345678, "key slots"),
       ("digest iterations", 164, ">I", 0, "mk_digest_iterations"), ("digest iterations", 164, ">I", 1 << 31, "mk_digest_iterations"),
       ("slot", 208, ">I", 1, "key slot 0"), ("slot", 208, ">I", 0xdead, "key slots"), ("iterations", 212, ">I", 0, "iterations"),
       ("iterations", 212, ">I", 0xffffffff, "iterations"), ("salt", 216, ">I", 0x12345678, "key slots"),
       ("offset", 248, ">I", 0, "key_material_offset"), ("offset", 248, ">I", 1, "key_material_offset"),
       ("offset", 248, ">I", 0xffffffff, "key_material_offset"), ("offset", 248, ">I", 16, "key slots"),
       ("stripes", 252, ">I", 0, "stripes"), ("stripes", 252, ">I", 0xffffffff, "stripes"),
       ("slot 7", 208 + 7 * 48, ">I", 7, "key slot 7"), ("key data", 4096 + 255999, "B", None, "key slots")]


@pytest.fixture
def image(luks):
    path = luks.disk.path("bad.qcow2")
    luks.make("create", path, "1M").ok()
    return path


def put(path, at, form, value):
    with open(path, "r+b") as f:
        f.seek(at)
        old = f.read(struct.calcsize(form))
        f.seek(at)
        f.write(struct.pack(form, old[0] ^ 1 if value is None else value))


@pytest.mark.parametrize("field,at,form,value,said", BAD)
def test_damaged(luks, image, field, at, form, value, said):
    _, start, _ = header_place(image)
    put(image, start + at, form, value)
    r = luks.disk("map", "--key", luks.key, image).failed("bad.qcow2", said)
    assert "\x1b" not in r.err
    luks.disk("check", image).ok()


def test_slots_overlap(luks, image):
    _, start, _ = header_place(image)
    with open(image, "r+b") as f:
        f.seek(start + 208)
        slot = f.read(48)
        f.seek(start + 256)
        f.write(slot)
    luks.disk("map", "--key", luks.key, image).failed("bad.qcow2", "key slots 0 and 1")


@pytest.mark.parametrize("offset,length,said", [(0, None, "offset"), (77, None, "offset"), (1 << 63, None, "offset"),
                                                (1 << 40, None, "LUKS header"), (None, 0, "length"), (None, 591, "length"),
                                                (None, 1 << 62, "length"), (None, 4096, "payload_offset")])
def test_place(luks, image, offset, length, said):
    """The extension of the qcow2 header says wrongly where the LUKS header is."""
    at, old_offset, old_length = header_place(image)
    put(image, at, ">Q", old_offset if offset is None else offset)
    put(image, at + 8, ">Q", old_length if length is None else length)
    luks.disk("map", "--key", luks.key, image).failed("bad.qcow2", said)


def test_extension(luks, image):
    at, _, _ = header_place(image)
    put(image, at - 4, ">I", 8)
    luks.disk("info", image).failed("bad.qcow2", "LUKS extension")
    put(image, at - 4, ">I", 16)
    put(image, 32, ">I", 0)
    luks.disk("info", image).failed("bad.qcow2", "crypt_method")
    put(image, 32, ">I", 2)
    put(image, at - 8, ">I", 0x12345678)
    luks.disk("info", image).failed("bad.qcow2", "0x0537be77")


def test_cut_short(luks, image):
    _, start, _ = header_place(image)
    for length in (start + 4096 + 1000, start + 591, start):
        with open(image, "r+b") as f:
            f.truncate(length)
        luks.disk("map", "--key", luks.key, image).failed("bad.qcow2", "cut short")


def test_header_is_guarded(luks, image):
    """Data is not written over the LUKS header if an L2 entry of a damaged image leads there."""
    disk, ones = luks.disk, luks.disk.path("ones.raw")
    write(ones, b"\1" * MiB)
    disk("convert", "-n", "--key", luks.key, "-f", "raw", ones, image).ok()
    _, start, length = header_place(image)
    with open(image, "rb") as f:
        f.seek(40)
        l1, = struct.unpack(">Q", f.read(8))
        f.seek(l1)
        l2, = struct.unpack(">Q", f.read(8))
        f.seek(start)
        before = f.read(length)
    put(image, l2 & 0x00fffffffffffe00, ">Q", start + 65536 | 1 << 63)
    disk("convert", "-n", "--key", luks.key, "-f", "raw", ones, image).failed("damaged", "LUKS header")
    with open(image, "rb") as f:
        f.seek(start)
        assert f.read(length) == before
