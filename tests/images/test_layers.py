# SPDX-License-Identifier: Apache-2.0
"""Tests layers as image-spec's layer.md defines them: each layer in turn is applied to one tree. Where overlay stores
and other unpackers get another tree from the same valid layers, the test names them."""
import gzip
import io
import json
import os
import shutil
import stat
import struct
import subprocess

import pytest

from harness import oci
from harness.oci import entry, header, pad, pax, record, tar, whiteout

ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in (
    (1, 7, 0xffffffff), (2, 5, 1000), (4, 5, 0xffffffff), (16, 7, 0xffffffff), (32, 4, 0xffffffff)))
CAP = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


def names(root):
    return sorted(n for n in oci.look(root) if n != ".")


def test_plain_tree(unpack):
    root = unpack([entry("./", "dir", mode=0o750, uid=5, gid=6, mtime=1500000000), entry("./a/", "dir", mode=0o1777),
                   entry("./a/f", data=b"hello", mode=0o4711, uid=1000, gid=1001), entry("./l", "link", link="a/f"),
                   entry("./p", "fifo", mode=0o600), entry("./null", "char", dev=(1, 3), mode=0o666),
                   entry("./loop", "block", dev=(7, 9), mode=0o660), entry("./h", "hard", link="./a/f")])
    t = oci.look(root)
    assert (t["."]["mode"], t["."]["uid"], t["."]["gid"], t["."]["mtime"]) == (0o750, 5, 6, 1500000000 * 10**9)
    assert t["a"]["mode"] == 0o1777 and t["a"]["mtime"] == 1600000000 * 10**9
    assert (t["a/f"]["mode"], t["a/f"]["uid"], t["a/f"]["gid"]) == (0o4711, 1000, 1001)
    assert t["h"]["inode"] == t["a/f"]["inode"]
    assert t["l"]["link"] == "a/f" and stat.S_ISFIFO(t["p"]["type"])
    assert t["null"]["dev"] == (1, 3) and t["null"]["mode"] == 0o666 and t["loop"]["dev"] == (7, 9)


def test_opaque_mark_at_the_top_empties_the_root(unpack):
    """An opaque mark at the top of a layer empties the root. Overlay stores keep all lower files, because the kernel
    ignores the mark on a layer's root."""
    root = unpack([entry("old"), entry("d/", "dir"), entry("d/x")], [entry("new"), whiteout(".wh..wh..opq"), entry("d/", "dir")])
    assert names(root) == ["d", "new"]


def test_opaque_mark_is_for_what_is_below_the_layer(unpack):
    root = unpack([entry("d/", "dir"), entry("d/old"), entry("d/s/", "dir"), entry("d/s/old")],
                  [entry("d/", "dir"), entry("d/s/new"), entry("d/new"), whiteout("d/.wh..wh..opq"), entry("d/later")])
    assert names(root) == ["d", "d/later", "d/new", "d/s", "d/s/new"]


def test_whiteout_then_the_same_directory(unpack):
    """A whiteout followed by the same directory leaves nothing of the lower one. Overlay stores bring d/old back."""
    root = unpack([entry("d/", "dir", mode=0o700), entry("d/old")], [whiteout(".wh.d"), entry("d/", "dir"), entry("d/new")])
    assert names(root) == ["d", "d/new"]


def test_whiteout_behind_a_file_of_its_layer(unpack):
    root = unpack([entry("foo", data=b"old"), entry("d/", "dir"), entry("d/old")],
                  [entry("foo", data=b"new"), whiteout(".wh.foo"), entry("d/new"), whiteout(".wh.d")])
    assert names(root) == ["d", "d/new", "foo"]
    assert open(root + "/foo").read() == "new"


def test_whiteouts_below_a_file(unpack):
    """umoci 0.4.7 and 0.6.0 write whiteouts below a file that was a directory. They have no effect; docker, podman and containerd
    refuse the layer."""
    lower = [entry("d/", "dir"), entry("d/old"), entry("e/", "dir"), entry("e/s/", "dir"), entry("e/s/old")]
    root = unpack(lower, [entry("d", data=b"file"), whiteout("d/.wh.old"), entry("e", "link", link="d"), whiteout("e/.wh.s"),
                          whiteout("d/.wh..wh..opq")])
    assert names(root) == ["d", "e"] and open(root + "/d").read() == "file"


def test_whiteouts(unpack):
    """A whiteout removes a directory, or a link and not its target; it may name nothing, or be in a new directory."""
    root = unpack([entry("d/", "dir"), entry("d/e/", "dir"), entry("d/e/f"), entry("l", "link", link="keep"), entry("keep")],
                  [whiteout(".wh.d"), whiteout(".wh.l"), whiteout(".wh.nothing"), entry("n/", "dir"), whiteout("n/.wh.x"),
                   whiteout("no/where/.wh.x")])
    assert names(root) == ["keep", "n"]


def test_whiteout_of_a_hard_linked_name(unpack):
    """A whiteout removes the lower layer's name, even if this layer links the same file anew."""
    root = unpack([entry("f", data=b"x")], [entry("g", "hard", link="f"), whiteout(".wh.f")])
    assert names(root) == ["g"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh."])
def test_whiteouts_of_no_name(refuse, name):
    refuse([entry("d/", "dir"), whiteout(name)], saying="hides no name")


def test_whiteout_through_a_symbolic_link(unpack, tmp):
    os.makedirs(tmp + "/outside/x")
    root = unpack([entry("usr/lib/f"), entry("lib", "link", link="usr/lib"), entry("out", "link", link=tmp + "/outside")],
                  [whiteout("lib/.wh.f"), whiteout("out/.wh.x"), whiteout("out/.wh..wh..opq")])
    assert "usr/lib/f" not in names(root)
    assert os.path.isdir(tmp + "/outside/x")


def test_missing_parent_keeps_the_lower_directory(unpack):
    """A parent that the layer does not list keeps the lower directory's mode and owner. docker and podman give it 0755
    and root."""
    root = unpack([entry("tmp/", "dir", mode=0o1777, uid=7, gid=8, mtime=1400000000, xattrs={"user.a": b"1"})], [entry("tmp/x")])
    t = oci.look(root)["tmp"]
    assert (t["mode"], t["uid"], t["gid"], t["xattrs"]) == (0o1777, 7, 8, {"user.a": b"1".hex()})
    assert t["mtime"] == 1400000000 * 10**9


def test_new_parents_are_roots(unpack):
    t = oci.look(unpack([entry("a/b/c/x", uid=5)]))
    assert [(t[n]["mode"], t[n]["uid"]) for n in ("a", "a/b", "a/b/c")] == [(0o755, 0)] * 3


def test_file_through_a_lower_symbolic_link(unpack):
    """A file whose path goes through a lower symbolic link is put where the link leads. Overlay stores hide the link
    by a directory."""
    root = unpack([entry("usr/lib/", "dir"), entry("lib", "link", link="usr/lib")], [entry("lib/x", data=b"1")])
    assert names(root) == ["lib", "usr", "usr/lib", "usr/lib/x"]


def test_parents_that_lead_outside_the_tree(unpack, tmp):
    """Parents that are links stay in the root: an absolute link, one with too many "..", and one in the middle of the
    path."""
    os.mkdir(tmp + "/outside")
    root = unpack([entry("abs", "link", link=tmp + "/outside"), entry("up", "link", link="../" * 40 + tmp.strip("/") + "/outside"),
                   entry("a/", "dir"), entry("a/b", "link", link="../abs")],
                  [entry("abs/x"), entry("up/y"), entry("a/b/z")])
    assert os.listdir(tmp + "/outside") == []
    inside = tmp.strip("/") + "/outside"
    assert {n for n in names(root) if n.startswith(inside + "/")} == {inside + "/x", inside + "/y", inside + "/z"}


def test_hard_link_to_a_lower_layers_file(unpack):
    """A hard link to a file of a lower layer is made; the entry's own owner, mode and time are ignored. Overlay stores
    refuse such a link."""
    root = unpack([entry("bin/", "dir"), entry("bin/f", data=b"x", mode=0o4755, uid=3, xattrs={"security.capability": CAP})],
                  [entry("g", "hard", link="bin/f", mode=0o600, uid=9, mtime=1)])
    t = oci.look(root)
    assert t["g"]["inode"] == t["bin/f"]["inode"]
    assert (t["g"]["mode"], t["g"]["uid"], t["g"]["mtime"]) == (0o4755, 3, 1600000000 * 10**9)
    assert t["g"]["xattrs"] == {"security.capability": CAP.hex()}


def test_hard_link_through_symbolic_links(unpack, tmp):
    os.mkdir(tmp + "/outside")
    open(tmp + "/outside/secret", "w").write("host")
    root = unpack([entry("usr/lib/f", data=b"x"), entry("lib", "link", link="usr/lib"), entry("g", "hard", link="/lib/f"),
                   entry("s", "hard", link="lib")])
    t = oci.look(root)
    assert t["g"]["inode"] == t["usr/lib/f"]["inode"] and t["s"]["link"] == "usr/lib"


@pytest.mark.parametrize("target, why", [("../../../../etc/hostname", 'a component ".."'), ("out/secret", "does not exist"),
                                         ("nothing", "does not exist"), ("d", "link x to d"), (".", "the root directory")])
def test_invalid_hard_links(refuse, tmp, target, why):
    os.makedirs(tmp + "/outside", exist_ok=True)
    open(tmp + "/outside/secret", "w").write("host")
    refuse([entry("d/", "dir"), entry("out", "link", link=tmp + "/outside"), entry("x", "hard", link=target)], saying=why)
    assert os.stat(tmp + "/outside/secret").st_nlink == 1


def test_hard_link_to_itself(unpack):
    assert names(unpack([entry("f", data=b"x"), entry("f", "hard", link="f"), entry("./f", "hard", link="/f")])) == ["f"]


def test_types_that_replace_each_other(unpack):
    root = unpack([entry("d/", "dir"), entry("d/x"), entry("f"), entry("l", "link", link="d"), entry("p", "fifo")],
                  [entry("d", data=b"file"), entry("f/", "dir"), entry("f/y"), entry("l/", "dir"), entry("l/z"), entry("p", "link", link="f")])
    assert names(root) == ["d", "f", "f/y", "l", "l/z", "p"]
    assert open(root + "/d").read() == "file" and os.path.isdir(root + "/l") and os.readlink(root + "/p") == "f"


def test_symbolic_link_then_directory_of_the_same_name(unpack, tmp):
    """A directory that replaces a symbolic link does not change the link's target, as tar-rs did (RUSTSEC-2026-0113).
    """
    os.mkdir(tmp + "/outside", 0o700)
    root = unpack([entry("x", "link", link=tmp + "/outside"), entry("x/", "dir", mode=0o777, uid=5)])
    assert os.stat(tmp + "/outside").st_mode & 0o7777 == 0o700 and os.stat(tmp + "/outside").st_uid == 0
    assert not os.path.islink(root + "/x")


def test_last_of_duplicate_entries_counts(unpack):
    assert open(unpack([entry("f", data=b"1"), entry("f", data=b"2", mode=0o600)]) + "/f").read() == "2"


def test_overlays_own_marks_do_not_act(unpack, images):
    root = unpack([entry("wh", "char", dev=(0, 0)), entry("c", "char", dev=(0, 1)),
                   entry("d/", "dir", xattrs={"trusted.overlay.opaque": b"y", "user.overlay.opaque": b"y", "user.ok": b"1"})])
    t = oci.look(root)
    assert "wh" not in t and t["c"]["dev"] == (0, 1) and t["d"]["xattrs"] == {"user.ok": b"1".hex()}
    assert "overlayfs" in images.err


def test_attributes_that_caisson_trusts_are_not_set(unpack, images):
    """An overlay's file says in such an attribute where its backing files may be. An image must not say that."""
    root = unpack([entry("disk/", "dir"), entry("disk/a.qcow2", xattrs={"trusted.caisson.backing-directory": b"/", "user.ok": b"1",
                                                                       "user.caisson.backing-directory": b"/"})])
    assert oci.look(root)["disk/a.qcow2"]["xattrs"] == {"user.ok": b"1".hex()}
    assert "trusted.caisson.backing-directory" in images.err


def test_extended_attributes(unpack, images):
    """Extended attributes are set. containerd drops trusted.*, umoci drops empty values, and docker fails on unknown
    namespaces."""
    root = unpack([entry("f", xattrs={"user.empty": b"", "user.a": b"x=\ny", "trusted.t": b"1", "security.capability": CAP,
                                      "weird.ns": b"1", "system.posix_acl_access": ACL}),
                   entry("d/", "dir", xattrs={"system.posix_acl_default": ACL, "system.posix_acl_access": ACL}),
                   entry("l", "link", link="f", xattrs={"user.a": b"other", "trusted.l": b"2"})])
    t = oci.look(root)
    assert t["f"]["xattrs"] == {"user.empty": "", "user.a": b"x=\ny".hex(), "trusted.t": b"1".hex(),
                                "security.capability": CAP.hex(), "system.posix_acl_access": ACL.hex()}
    assert set(t["d"]["xattrs"]) == {"system.posix_acl_default", "system.posix_acl_access"}
    assert t["l"]["xattrs"] == {"trusted.l": b"2".hex()}
    assert "f does not get its extended attribute weird.ns" in images.err


def test_global_header_is_skipped(unpack):
    """A global PAX header is skipped and applies to no entry. git archive writes one for a commit; umoci refuses it."""
    root = unpack(pax(record("comment", b"0" * 40) + record("path", b"evil") + record("size", b"3"), b"g") + tar(entry("f", data=b"1234")))
    assert names(root) == ["f"] and open(root + "/f").read() == "1234"


def test_old_directory_entry(unpack):
    """An entry of type 0 whose name ends in a slash is a directory."""
    root = unpack(header(b"d/", b"0", mode=0o711) + header(b"e/", b"\0", magic=b"\0" * 8, mode=0o700) + tar(entry("d/f")))
    t = oci.look(root)
    assert t["d"]["mode"] == 0o711 and stat.S_ISDIR(t["e"]["type"]) and "d/f" in t


def test_times(unpack):
    root = unpack([entry("old", mtime=-86400), entry("late", pax={"mtime": "8589934593.25"}), entry("fine", pax={"mtime": "1.123456789"}),
                   entry("before", pax={"mtime": "-1.25"}), entry("l", "link", link="x", pax={"mtime": "5.5"}),
                   entry("d/", "dir", pax={"mtime": "77.5"}), entry("d/x")], [entry("d/y")])
    t = oci.look(root)
    assert {n: t[n]["mtime"] for n in ("old", "late", "fine", "before", "l", "d")} == {
        "old": -86400 * 10**9, "late": 8589934593250000000, "fine": 1123456789, "before": -1250000000, "l": 5500000000,
        "d": 77500000000}


def test_tools_leftovers(unpack):
    root = unpack([entry(".wh..wh.plnk/", "dir"), entry(".wh..wh.plnk/5.6"), entry(".wh..wh.aufs"), entry("f"),
                   entry(".no.prefetch.landmark"), entry("stargz.index.json"), entry("d/stargz.index.json")])
    assert names(root) == ["d", "d/stargz.index.json", "f"]


@pytest.mark.parametrize("size", [0, 512, 1024, 10240])
@pytest.mark.parametrize("compress", [True, False])
def test_empty_layers(unpack, size, compress):
    assert names(unpack(b"\0" * size, compress=compress)) == []


def test_ends(unpack):
    assert names(unpack(tar(entry("f", data=b"x"), end=False))) == ["f"]
    assert names(unpack(tar(entry("f"), end=False) + b"\0" * 512)) == ["f"]
    assert names(unpack(header(b"f", size=3) + b"abc")) == ["f"]


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_zeros_in_the_midst(refuse, blocks):
    refuse(tar(entry("a"), end=False) + b"\0" * 512 * blocks + tar(entry("b")), saying="bytes behind its end mark")


def compressions():
    plain = tar(entry("f", data=b"content" * 10000), entry("g"))
    half = len(plain) // 2
    z = lambda d, *a: subprocess.run(["zstd", "-q", "-c", *a], input=d, capture_output=True, check=True).stdout
    skippable = struct.pack("<II", 0x184d2a50, 7) + b"skipped"
    gz = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {
        "zstd": (z(plain), plain, "application/vnd.oci.image.layer.v1.tar+zstd"),
        "zstd labelled gzip": (z(plain), plain, gz),
        "plain labelled gzip": (plain, plain, gz),
        "gzip labelled plain": (gzip.compress(plain), plain, "application/vnd.oci.image.layer.v1.tar"),
        "gzip labelled docker": (gzip.compress(plain), plain, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        "zeros behind gzip": (gzip.compress(plain) + b"\0" * 700000, plain, gz),
        "several gzip members": (gzip.compress(plain[:half]) + gzip.compress(b"") + gzip.compress(plain[half:]), plain, gz),
        "a gzip member a byte": (b"".join(gzip.compress(plain[i:i + 4096], 0) for i in range(0, len(plain), 4096)), plain, gz),
        "gzip with a name": (subprocess.run(["gzip", "-c", "/dev/stdin"], input=plain, capture_output=True).stdout, plain, gz),
        "zstd behind a skippable frame": (skippable + z(plain), plain, gz),
        "several zstd frames": (z(plain[:half]) + skippable + z(plain[half:], "-19") + skippable, plain, gz),
    }


@pytest.mark.parametrize("which", ["zstd", "zstd labelled gzip", "plain labelled gzip", "gzip labelled plain", "gzip labelled docker",
                                   "zeros behind gzip", "several gzip members", "a gzip member a byte", "gzip with a name",
                                   "zstd behind a skippable frame", "several zstd frames"])
def test_compression_is_told_by_the_bytes(unpack, which):
    assert names(unpack(compressions()[which])) == ["f", "g"]


@pytest.mark.parametrize("prefix", ["io.containers.zstd-chunked.", "io.github.containers.zstd-chunked."])
def test_zstd_chunked(images, layout, tmp, prefix):
    """A layer of zstd:chunked is read as zstd, whichever keys its annotations have, and even if they are wrong."""
    plain = tar(entry("f", data=b"content" * 1000))
    z = lambda d: subprocess.run(["zstd", "-q", "-c"], input=d, capture_output=True, check=True).stdout
    footer = struct.pack("<II", 0x184d2a50, 72) + struct.pack("<QQQQQQQQ", 1, 2, 3, 4, 5, 6, 7, 8) + b"GNUlInUx"
    data = z(plain) + struct.pack("<II", 0x184d2a50, 5) + b"index" + footer
    layout.image([(data, plain, "application/vnd.oci.image.layer.v1.tar+zstd")], "x")
    with open(os.path.join(layout.path, "blobs/sha256", layout.manifests[0]["digest"][7:])) as f:
        m = json.load(f)
    m["layers"][0]["annotations"] = {prefix + "manifest-checksum": "sha256:" + "0" * 64, prefix + "manifest-position": "1:2:3:1"}
    layout.add(m, "x")
    images("import", f"oci:{layout.path}:x")
    images("unpack", "x", tmp + "/r")
    assert names(tmp + "/r") == ["f"]


def test_decompression_is_in_process(images, layout, tmp):
    """No other program is executed for a layer, whatever its compression."""
    plain = tar(entry("f"))
    zstd = subprocess.run(["zstd", "-q", "-c"], input=plain, capture_output=True, check=True).stdout
    layout.image([plain, (zstd, plain, "application/vnd.oci.image.layer.v1.tar+zstd")], "x")
    images("import", f"oci:{layout.path}:x")
    images("unpack", "x", tmp + "/r", prefix=["strace", "-f", "-qq", "-e", "trace=execve", "-o", tmp + "/log"])
    with open(tmp + "/log") as f:
        assert f.read().count("execve(") == 1


def test_no_copy_where_a_link_fails(images, layout, tmp):
    """If the file system takes no more links (EMLINK, as strace injects it), that is an error and no copy of the file."""
    layout.image([tar(entry("f", data=b"x"), entry("g", "hard", link="f"))], "x")
    images("import", f"oci:{layout.path}:x")
    images.fails("unpack", "x", tmp + "/r", saying="Too many links",
                 prefix=["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:error=EMLINK"])
    assert not os.path.exists(tmp + "/r/g")


def test_broken_streams(refuse):
    plain = tar(entry("f", data=os.urandom(100000)))
    gz, gzip_type = gzip.compress(plain), "application/vnd.oci.image.layer.v1.tar+gzip"
    for data, why in ((gz[:len(gz) // 2], "the gzip stream is incomplete"), (gz[:-4], "the gzip stream is incomplete"),
                      (gz[:-8] + b"\0" * 8, "checksum of the gzip stream"), (gz + b"junk", "no gzip"),
                      (gz[:1000] + b"\xff" * 500 + gz[1500:], "gzip stream"),
                      (subprocess.run(["zstd", "-qc"], input=plain, capture_output=True).stdout[:-9000], "the zstd stream is incomplete"),
                      (subprocess.run(["zstd", "-qc", "--long=27", "--ultra", "-20"], input=plain * 400, capture_output=True).stdout,
                       "a window of more than 32 MiB"),
                      (subprocess.run(["xz", "-c"], input=plain, capture_output=True).stdout, "compressed by xz"),
                      (subprocess.run(["bzip2", "-c"], input=plain, capture_output=True).stdout, "compressed by bzip2")):
        refuse((data, plain, gzip_type), saying=why)


def test_wrong_diff_id(refuse):
    plain = tar(entry("f"))
    refuse((plain, plain + b"\0" * 512, "application/vnd.oci.image.layer.v1.tar"), saying="diff_id")


@pytest.mark.parametrize("name, why", [
    ("../x", 'a component ".."'), ("a/../../x", 'a component ".."'), ("a/..", 'a component ".."'), ("x" * 300, "a component of 300 bytes"),
    ("/".join(["y" * 100] * 50), "the limit is 4095"), (".wh.a/b", "goes through a whiteout")])
def test_names_that_are_refused(refuse, name, why):
    refuse([entry(name)], saying=why)


def test_absolute_names_are_in_the_root(unpack):
    assert names(unpack([entry("/etc/", "dir"), entry("//etc//./x"), entry("./././y")])) == ["etc", "etc/x", "y"]


def test_long_names(unpack):
    """Long names work: a component of 255 bytes, a path of some 4000, a GNU long name and long link, and a name that
    is not UTF-8."""
    long = "/".join(["d" * 250] * 15) + "/f"
    raw = b"\xff\xfe\x80"
    gnu = header(b"././@LongLink", b"L", len(long) + 1, b"ustar  \0") + pad(long.encode() + b"\0") + header(long.encode()[:100], magic=b"ustar  \0")
    link = header(b"././@LongLink", b"K", 201, b"ustar  \0") + pad(b"t" * 200 + b"\0") + header(b"l", b"2", magic=b"ustar  \0")
    root = unpack(gnu + link + header(raw) + header(b"name", prefix=b"a/prefix") + tar(entry("n" * 255)))
    assert os.path.exists(root + "/" + long) and os.readlink(root + "/l") == "t" * 200
    assert os.path.exists(os.fsencode(root) + b"/" + raw) and os.path.exists(root + "/a/prefix/name") and os.path.exists(root + "/" + "n" * 255)


def test_pax_sizes_win(unpack):
    """The size in a PAX record overrides that in the header. Readers that disagree on a size see different entries
    (CVE-2025-62518)."""
    inner = tar(entry("smuggled"), end=False)
    body = pad(inner)
    root = unpack(pax(record("size", b"%d" % len(body))) + header(b"f", size=0) + body + tar(entry("g")))
    assert names(root) == ["f", "g"] and os.path.getsize(root + "/f") == len(body)
    # Links have no data, whatever their size says, as in Go's reader.
    root = unpack(header(b"l", b"2", size=512, link=b"x") + tar(entry("h")))
    assert names(root) == ["h", "l"]


def test_only_files_have_data(unpack, refuse):
    """libarchive alone guesses whether a hard link has data: it obeys the size once a PAX header was seen."""
    hard = header(b"h", b"1", size=512, link=b"f")
    root = unpack(tar(entry("f", data=b"1"), end=False) + pax(record("comment", b"x")) + hard + tar(entry("g")))
    assert names(root) == ["f", "g", "h"] and os.stat(root + "/h").st_size == 1
    root = unpack(header(b"d", b"5", size=512) + tar(entry("g")))
    assert names(root) == ["d", "g"]
    for kind in (b"1", b"2", b"3", b"5", b"6"):
        refuse(pax(record("size", b"512")) + header(b"h", kind, link=b"f") + tar(entry("g")), saying='PAX record "size"')
    refuse(header(b"d/", b"0", size=512) + b"x" * 512 + tar(entry("g")), saying="is a directory and has data")


def test_what_readers_read_differently(refuse):
    """libarchive alone takes each of these, and some other reader sees another entry in it."""
    twice = pax(record("path", b"a")) + pax(record("path", b"b")) + header(b"f")
    name = header(b"././@LongLink", b"L", 2, b"ustar  \0") + pad(b"x\0")
    refuse(twice, saying="two PAX headers")
    refuse(name + name + header(b"f"), saying="two long names")
    refuse(name + pax(record("path", b"a")) + header(b"f"), saying="two long names")
    refuse(pax(record("SCHILY.realsize", b"5")) + header(b"f"), saying="SCHILY.realsize")
    refuse(pax(record("SUN.holesdata", b" 0 5")) + header(b"f"), saying="SUN.holesdata")
    refuse(pax(record("size", b"")) + header(b"f", size=512) + b"x" * 512, saying="a size is empty")
    refuse(header(b"f", magic=b"ustar\0\0\0", prefix=b"p"), saying="has a prefix")
    refuse(header(b"f", b"S"), saying="sparse file")
    refuse(header(b"f", b"A"), saying="type 0x41")
    refuse(header(b"f", b"X", 6) + pad(b"6 a=b\n") + header(b"f"), saying="type 0x58")
    refuse(pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0")) + header(b"d", b"5"), saying="that is no file")
    for bad in ([("major", b"2"), ("minor", b"0")], [("major", b"1")], [("offset", b"0"), ("numbytes", b"1")], [("other", b"1")],
                [("numblocks", b"1"), ("numbytes", b"1")], [("numblocks", b"1"), ("offset", b"1")], [("size", b"")]):
        refuse(pax(b"".join(record("GNU.sparse." + k, v) for k, v in bad)) + header(b"f"), saying="PAX record")


def test_properties_that_others_take(unpack):
    """Only SCHILY.xattr gives attributes, only the header devices and only it an id that the record leaves empty."""
    root = unpack(pax(record("LIBARCHIVE.xattr.user.l", b"MQ==") + record("RHT.security.selinux", b"x") + record("uid", b"") +
                      record("gid", b"7") + record("SCHILY.xattr.user.s", b"1")) + header(b"f") +
                  tar(entry("c", "char", dev=(1, 3), pax={"SCHILY.devmajor": "8", "SCHILY.devminor": "0"})))
    t = oci.look(root)
    assert t["f"]["xattrs"] == {"user.s": b"1".hex()} and (t["f"]["uid"], t["f"]["gid"]) == (0, 7)
    assert t["c"]["dev"] == (1, 3)


def test_sparse_fields_of_an_ordinary_gnu_header(unpack):
    """They mean nothing there; libarchive alone reads them."""
    h = bytearray(header(b"f", size=512, magic=b"ustar  \0"))
    h[386:410] = b"%011o\0%011o\0" % (0, 5)
    h[483:495] = b"%011o\0" % 4096
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % sum(h)
    root = unpack(bytes(h) + b"x" * 512 + tar(entry("g")))
    assert names(root) == ["f", "g"] and os.path.getsize(root + "/f") == 512


@pytest.mark.parametrize("name", ["cafe\u0301".encode(), "caf\u00e9".encode(), b"\xff\xfe", b"a\xcc"])
def test_names_are_bytes(unpack, name):
    """libarchive composes characters in a UTF-8 locale. Long enough for a PAX record, with a link of the same name."""
    long = b"/".join([b"d" * 100] * 2) + b"/" + name
    root = os.fsencode(unpack(pax(record("path", long)) + header(b"f") + pax(record("linkpath", name)) + header(b"l", b"2", link=b"?")))
    assert os.path.exists(root + b"/" + long) and os.readlink(root + b"/l") == name


def test_map_without_end(images, layout, tmp):
    """A map of 64 MiB in a file's data is stopped before it takes memory."""
    m = b"9000000\n" + b"0\n0\n" * (16 << 20)
    layout.image([pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0") + record("GNU.sparse.realsize", b"4096") +
                      record("size", b"%d" % len(m))) + header(b"f") + pad(m)], "map")
    images("import", f"oci:{layout.path}:map")
    images.fails("unpack", "map", tmp + "/r", saying="the map of a sparse file", prefix=["/usr/bin/env", "time", "-f", "%M", "-o", tmp + "/rss"])
    assert int(open(tmp + "/rss").read().split()[-1]) < 160 << 10


@pytest.mark.parametrize("bad", [b"5 a=b\n", b"7 a=b\n", b"x a=b\n", b"06 a=b\n\n", b" 6 a=b\n", b"6 a=bX", b"6 abc\n", b"6 =bc\n", b"6\0a=b\n",
                                 b"99999999999 a=b\n", b"", record("size", b"-1"), record("size", b"1x"), record("mtime", b"1.2.3"),
                                 record("mtime", b""), record("uid", b"99999999999999999999"), record("path", b"a\0b"),
                                 record("SCHILY.xattr.", b"v"), record("GNU.sparse.map", b"1,2,3"), record("size", b"9223372036854775808")])
def test_pax_records(images, layout, tmp, bad):
    """A malformed PAX record is an error; an empty one withdraws a value and is no error."""
    fine = bad in (b"", record("mtime", b""))
    layout.image([pax(bad) + tar(entry("f"))], "bad")
    images("import", f"oci:{layout.path}:bad")
    if fine:
        images("unpack", "bad", tmp + "/r")
    else:
        images.fails("unpack", "bad", tmp + "/r", saying="PAX record")
    shutil.rmtree(tmp + "/r")


@pytest.mark.parametrize("data, why", [
    (b"x" * 512, "checksum is wrong"), (header(b"f", size=10), "ends in the midst"), (header(b"f", b"x", 100), "ends in the midst"),
    (header(b"f", b"V"), "type 0x56"), (header(b"f", b"M"), "type 0x4d"), (header(b"f", b"x", 2 << 20), "the limit is"),
    (header(b"f", size_field=b"\xff" * 12), "negative"), (header(b"f", size_field=b"0000000009x\0"), "not a number"),
    (header(b"f")[:300], "ends in the midst"), (pax(record("a", b"b")), "ends in the midst"), (header(b""), "has no name"),
    (header(b"l", b"2"), "has no target"), (header(b".", b"0"), "the root directory is no directory")])
def test_broken_tars(refuse, data, why):
    refuse(data, saying=why)


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=pax", "--sparse-version=0.0"], ["--format=pax", "--sparse-version=0.1"],
                                     ["--format=pax", "--sparse-version=1.0"]])
def test_sparse_files(unpack, tmp, options):
    """Sparse files in GNU tar's four forms have the same contents, and their holes stay holes."""
    src = tmp + "/src"
    os.mkdir(src)
    with open(src + "/sparse", "wb") as f:
        for i in range(40):
            f.seek(i << 20)
            f.write(b"piece %d" % i)
        f.truncate(64 << 20)
    with open(src + "/hole", "wb") as f:
        f.truncate(3 << 20)
    data = subprocess.run(["tar", "-cS", *options, "-C", src, "sparse", "hole"], check=True, capture_output=True).stdout
    assert len(data) < 4 << 20
    root = unpack(data)
    for n in ("sparse", "hole"):
        assert open(f"{root}/{n}", "rb").read() == open(f"{src}/{n}", "rb").read()
        assert os.stat(f"{root}/{n}").st_blocks * 512 < 2 << 20


def test_broken_sparse_maps(refuse):
    def sparse(m, size=512):
        return pax(record("GNU.sparse.major", b"1") + record("GNU.sparse.minor", b"0") + record("GNU.sparse.realsize", b"4096")) + \
            header(b"f", size=size + 512) + (pad(m) or b"\0" * 512) + b"x" * 512
    refuse(sparse(b"1\n0\n512\n")[:-1], saying="ends in the midst")
    for m in (b"1\n0\n513\n", b"2\n512\n256\n0\n256\n", b"1\n4000\n512\n", b"1\n-1\n512\n", b"", b"999999\n", b"1\n18446744073709551615\n512\n"):
        refuse(sparse(m), saying="sparse file")


def test_bomb_is_stopped_before_the_disk_is_full(images, layout, tmp):
    """A file of an exabyte is refused at its header; holes take no room on the disk."""
    layout.image([pax(record("size", b"%d" % (1 << 60))) + header(b"f") + b"x" * 512], "bad")
    images("import", f"oci:{layout.path}:bad")
    images.fails("unpack", "bad", tmp + "/r", saying="bytes that are left")


def test_deep_directories(unpack, images, layout, tmp):
    """A thousand nested directories can be made, and removed by a whiteout. So can more levels than one path can name.
    """
    deep = "/".join(["d"] * 1000)
    assert names(unpack([entry(deep + "/f")], [whiteout(".wh.d")])) == []
    far = [entry("s0", "link", link="d")] + [entry(deep + "/f")]
    for i in range(1, 4):
        far += [entry(f"s{i - 1}x", "link", link="/".join(["d"] * 900)), entry(deep.replace("d", f"e{i}", 1) + "/g")]
    assert names(unpack(far, [whiteout(".wh..wh..opq")])) == []


def test_many_entries_stay_small_in_memory(images, layout, tmp):
    """Unpacking 100,000 files in 10,000 directories takes at most 48 MiB of memory."""
    out = io.BytesIO()
    for d in range(10000):
        out.write(header(b"d%d/" % d, b"5", mode=0o755))
        for f in range(10):
            out.write(header(b"d%d/f%d" % (d, f)))
    layout.image([out.getvalue()], "many")
    images("import", f"oci:{layout.path}:many")
    images("unpack", "many", tmp + "/r", prefix=["/usr/bin/env", "time", "-f", "%M", "-o", tmp + "/rss"])
    assert len(os.listdir(tmp + "/r")) == 10000
    assert int(open(tmp + "/rss").read()) < 48 << 10


def test_fifty_layers(images, layout, tmp):
    """Each layer adds a file, changes one and removes another. The shared layers give the tree that one directory has."""
    layers = [tar(entry("./", "dir", mtime=i), entry("d/", "dir", mtime=i + 1), entry("d/changed", data=b"%d" % i), entry(f"d/f{i}", uid=i), *(
        [whiteout(f"d/.wh.f{i - 2}")] if i > 1 else [])) for i in range(50)]
    layout.image(layers, "fifty")
    images("import", f"oci:{layout.path}:fifty")
    images("unpack", "fifty", tmp + "/r")
    assert names(tmp + "/r") == ["d", "d/changed", "d/f48", "d/f49"] and open(tmp + "/r/d/changed").read() == "49"
    lower = images("unpack", "fifty").strip().split(":")
    assert len(lower) == 51
    os.mkdir(tmp + "/m")
    subprocess.run(["mount", "-t", "overlay", "-o", "ro,lowerdir=" + ":".join(lower[1:]), "test", tmp + "/m"], cwd=lower[0], check=True)
    try:
        assert oci.look(tmp + "/m") == oci.look(tmp + "/r")
    finally:
        subprocess.run(["umount", tmp + "/m"], check=True)


def test_a_gibibyte_stays_small_in_memory(images, layout, tmp):
    """caisson unpacks a file of 1 GiB from a zstd layer of a few kilobytes, byte for byte, with at most 48 MiB of memory."""
    size = 1 << 30
    head, end = header(b"big", size=size), b"\0" * 1024
    with open(tmp + "/plain", "wb") as f:
        f.write(head)
        f.truncate(len(head) + size + len(end))
        f.seek(len(head) + size // 2)
        f.write(b"middle")
    digest = subprocess.run(["sha256sum", tmp + "/plain"], check=True, capture_output=True, text=True).stdout.split()[0]
    packed = subprocess.run(["zstd", "-q", "-1", "-c", tmp + "/plain"], check=True, capture_output=True).stdout
    os.remove(tmp + "/plain")
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]}}).encode()
    layout.add({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": layout.blob(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [layout.blob(packed, "application/vnd.oci.image.layer.v1.tar+zstd")]}, "big")
    images("import", f"oci:{layout.path}:big")
    images("unpack", "big", tmp + "/r", prefix=["/usr/bin/env", "time", "-f", "%M", "-o", tmp + "/rss"])
    assert os.stat(tmp + "/r/big").st_size == size and int(open(tmp + "/rss").read()) < 48 << 10
    with open(tmp + "/r/big", "rb") as f:
        f.seek(size // 2 - 6)
        assert f.read(18) == b"\0" * 6 + b"middle" + b"\0" * 6


def test_shifted_ids(unpack, refuse, images, layout, tmp):
    m = ["--uid-map", "0:100000:65536", "--gid-map", "0:200000:1000,1000:300000:1000"]
    root = unpack([entry("f", uid=1000, gid=1001, xattrs={"system.posix_acl_access": ACL, "security.capability": CAP}), entry("g")], options=m)
    t = oci.look(root)
    assert (t["f"]["uid"], t["f"]["gid"], t["g"]["uid"], t["g"]["gid"]) == (101000, 300001, 100000, 200000)
    acl = bytes.fromhex(t["f"]["xattrs"]["system.posix_acl_access"])
    assert struct.unpack_from("<I", acl, 4 + 8 + 4)[0] == 101000
    cap = subprocess.run(["getcap", "-n", root + "/f"], capture_output=True, text=True)
    assert "rootid=100000" in cap.stdout, cap
    layout.image([tar(entry("f", uid=70000))], "far")
    images("import", f"oci:{layout.path}:far")
    images.fails("unpack", *m, "far", tmp + "/far", saying="the user 70000 is not in the map of ids")


def test_rootless(program, layout, tmp):
    """Without root, files of other users become the caller's, devices are left out, and modes that shut the owner out
    do no harm."""
    os.chmod(tmp, 0o777)
    layout.image([tar(entry("./", "dir", mode=0o755), entry("shut/", "dir", mode=0o555, uid=5), entry("shut/f", uid=1000, mode=0o400, data=b"x"),
                      entry("null", "char", dev=(1, 3)), entry("p", "fifo")), tar(entry("shut/g"), whiteout("shut/.wh.f"))], "u")
    images = oci.Images(program, tmp + "/user-store")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    images("import", f"oci:{layout.path}:u", prefix=nobody)
    images("unpack", "u", tmp + "/r", prefix=nobody)
    t = oci.look(tmp + "/r")
    assert set(t) == {".", "shut", "shut/g", "p"} and {e["uid"] for e in t.values()} == {65534}
    assert t["shut"]["mode"] == 0o555 and "null is not made" in images.err
