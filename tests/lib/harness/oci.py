# SPDX-License-Identifier: Apache-2.0
"""Writes OCI image layouts entry by entry, and describes trees so that tests can compare them."""
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile

TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
         "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}


def entry(name, kind="file", data=b"", link="", mode=None, uid=0, gid=0, mtime=1600000000, dev=(0, 0), pax=None, xattrs=None):
    """Returns a tar entry: (TarInfo, data). xattrs is {name: bytes}."""
    t = tarfile.TarInfo(name)
    t.type = TYPES.get(kind, kind)
    t.mode = mode if mode is not None else 0o755 if kind == "dir" else 0o644
    t.uid, t.gid, t.mtime, t.linkname = uid, gid, mtime, link
    t.devmajor, t.devminor = dev
    t.pax_headers = dict(pax or {})
    for k, v in (xattrs or {}).items():
        t.pax_headers["SCHILY.xattr." + k] = v.decode("utf-8", "surrogateescape")
    t.size = len(data) if t.type == tarfile.REGTYPE else 0
    return t, data


def tar(*entries, end=True):
    """Returns the bytes of a tar archive of the entries; bytes among them are put in unchanged."""
    out = []
    for e in entries:
        if isinstance(e, bytes):
            out.append(e)
            continue
        info, data = e
        out.append(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        if info.type == tarfile.REGTYPE:
            out += data, b"\0" * (-len(data) % 512)
    return b"".join(out) + (b"\0" * 1024 if end else b"")


def whiteout(name):
    return entry(name)


def record(key, value):
    """Returns a well-formed PAX record."""
    body = b" " + key.encode() + b"=" + value + b"\n"
    n = len(body)
    while len(str(n)) + len(body) != n:
        n = len(str(n)) + len(body)
    return str(n).encode() + body


def header(name=b"x", typeflag=b"0", size=0, magic=b"ustar\x0000", link=b"", mode=0o644, mtime=b"%011o\0" % 0, prefix=b"",
           size_field=None):
    """Returns a raw tar header with a correct checksum."""
    h = bytearray(512)
    h[0:len(name)] = name
    h[100:108] = b"%07o\0" % mode
    h[108:116] = h[116:124] = b"%07o\0" % 0
    h[124:136] = size_field or b"%011o\0" % size
    h[136:148] = mtime
    h[156:157] = typeflag
    h[157:157 + len(link)] = link
    h[257:265] = magic
    h[345:345 + len(prefix)] = prefix
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


def pad(data):
    return data + b"\0" * (-len(data) % 512)


def pax(records, typeflag=b"x"):
    """Returns a PAX header entry of raw bytes."""
    return header(b"pax", typeflag, len(records)) + pad(records)


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI image layout in a directory."""

    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs/sha256"), exist_ok=True)
        self.write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self.manifests = []

    def write(self, name, data):
        with open(os.path.join(self.path, name), "wb") as f:
            f.write(data)

    def blob(self, data, media_type, **more):
        d = sha256(data)
        self.write("blobs/sha256/" + d[7:], data)
        return {"mediaType": media_type, "digest": d, "size": len(data), **more}

    def image(self, layers, tag="latest", config=None, compress=True, **top):
        """Adds an image. layers are tar archives, or (blob, tar, media type); config is the "config" object. Returns
        the manifest's descriptor."""
        descriptors, diff_ids = [], []
        for layer in layers:
            kind = "application/vnd.oci.image.layer.v1.tar"
            if isinstance(layer, tuple):
                data, plain, kind = layer
            else:
                plain = layer
                data = gzip.compress(plain, 1) if compress else plain
                kind += "+gzip" if compress else ""
            descriptors.append(self.blob(data, kind))
            diff_ids.append(sha256(plain))
        whole = {"architecture": "amd64", "os": "linux", "config": config or {},
                 "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [{"created_by": "a test"} for _ in layers], **top}
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": self.blob(json.dumps(whole).encode(), "application/vnd.oci.image.config.v1+json"),
                    "layers": descriptors}
        return self.add(manifest, tag)

    def add(self, manifest, tag, platform=None):
        d = self.blob(json.dumps(manifest).encode(), manifest["mediaType"])
        if platform:
            d["platform"] = platform
        self.manifests = [m for m in self.manifests if m["annotations"]["org.opencontainers.image.ref.name"] != tag]
        self.manifests.append({**d, "annotations": {"org.opencontainers.image.ref.name": tag}})
        self.write("index.json", json.dumps({"schemaVersion": 2, "manifests": self.manifests}).encode())
        return d


def look(path):
    """Describes a tree: {name: properties}, "." for its root; links of one inode have one number."""
    inodes, tree = {}, {}

    def add(name, p):
        st = os.lstat(p)
        e = {"type": stat.S_IFMT(st.st_mode), "mode": stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid,
             "mtime": st.st_mtime_ns}
        if stat.S_ISREG(st.st_mode):
            with open(p, "rb") as f:
                e["data"] = hashlib.sha256(f.read()).hexdigest()
            e["size"] = st.st_size
        if stat.S_ISLNK(st.st_mode):
            e["link"] = os.readlink(p)
            e.pop("mode")
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            e["dev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            e["inode"] = inodes.setdefault(st.st_ino, name)
        e["xattrs"] = {x: os.getxattr(p, x, follow_symlinks=False).hex() for x in sorted(os.listxattr(p, follow_symlinks=False))}
        tree[name] = e

    add(".", path)
    for d, dirs, files in os.walk(path):
        for n in sorted(dirs + files):
            p = os.path.join(d, n)
            add(os.path.relpath(p, path), p)
    return tree


class Images:
    """caisson-image with a store of its own."""

    def __init__(self, program, store):
        self.program, self.store = program, store

    def __call__(self, *args, input=None, env=None, prefix=(), check=True):
        p = subprocess.run([*prefix, self.program, "--no-sync", "--store", self.store, *args], input=input, capture_output=True, env=env,
                           timeout=120)
        self.err = p.stderr.decode(errors="replace")
        self.code = p.returncode
        if check:
            assert p.returncode == 0, f"caisson-image {' '.join(args)}: exit code {p.returncode}: {self.err}"
        return p.stdout.decode(errors="replace")

    def fails(self, *args, saying="", **kw):
        """Checks that the command fails with exit code 1 and one line of error that has the text."""
        self(*args, check=False, **kw)
        assert self.code == 1, f"exit code {self.code}: {self.err}"
        # Progress lines come first; the error is the last line.
        last = self.err.rstrip("\n").split("\n")[-1]
        assert saying in last, f"{last!r}: expected {saying!r}"
        return last
