# SPDX-License-Identifier: Apache-2.0
"""Compares answers of libguestfs' commands with caisson's. Where they differ, libguestfs.tsv has both answers and the reason, and a row that does not
come true is a failure."""
import os
import re
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))


def recorded(name):
    with open(os.path.join(HERE, "libguestfs", name), encoding="utf-8") as f:
        return f.read()


class Answers:
    """The comparison for one disk of the table, which is sda for libguestfs and vda for caisson."""

    def __init__(self, disk):
        with open(os.path.join(HERE, "libguestfs.tsv"), encoding="utf-8") as f:
            rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
        assert all(len(r) == 5 and all(r) for r in rows), rows
        self.known = {r[1]: (r[2], r[3]) for r in rows if r[0] == disk}

    def same(self, what, theirs, ours):
        if what in self.known:
            assert (str(theirs), str(ours)) == self.known.pop(what), what
        else:
            assert theirs == ours, what

    def done(self, command):
        left = [what for what in self.known if what.startswith(command + ":")]
        assert not left, f"libguestfs.tsv: no such difference: {left}"

    def device(self, name):
        if name.startswith("/dev/sda"):
            return "vda" + name.removeprefix("/dev/sda")
        if name.startswith("btrfsvol:"):
            return self.device(name.removeprefix("btrfsvol:").rpartition("/")[0])  # a subvolume
        group, volume = re.fullmatch("/dev/(.*)/(.*)", name).groups()
        return group.replace("-", "--") + "-" + volume.replace("-", "--")

    def inspector(self, text, system):
        """Compares virt-inspector's report of one operating system. Returns theirs."""
        (theirs,) = xml.etree.ElementTree.fromstring(text).findall("operatingsystem")
        version = (*system["version"].split("."), "0")
        for tag, ours in (("arch", system["arch"]), ("distro", system["distro"]), ("product_name", system["product_name"]),
                          ("hostname", system.get("hostname")), ("major_version", version[0]), ("minor_version", version[1]),
                          ("package_format", system.get("package_format")), ("package_management", system.get("package_management"))):
            self.same(f"inspector: {tag}", theirs.findtext(tag), ours)
        self.same("inspector: root", self.device(theirs.findtext("root")), system["root"])
        mounts = {f"{self.device(m.get('dev'))} on {m.text}" for m in theirs.iter("mountpoint")}
        ours = {f"{m['device']} on {m['path']}" for m in system["mountpoints"]}
        self.same("inspector: other mounts", " ".join(mounts - ours) or "none", " ".join(ours - mounts) or "none")
        package = lambda p: tuple(p(k) or "" for k in ("name", "epoch", "version", "release", "arch"))
        packages = sorted(package(a.findtext) for a in theirs.iter("application"))
        if "inspector: packages" in self.known:
            self.same("inspector: packages", len(packages), len(system["packages"]))
        else:
            assert packages == sorted(package(p.get) for p in system["packages"])
        self.done("inspector")
        return theirs

    def filesystems(self, theirs, devices):
        """Compares (device, type, label, UUID) of file systems, those of libguestfs and those that `inspect` lists."""
        kinds = ("crypto_LUKS", "LVM2_member")
        ours = {d["device"]: (d["type"], d.get("label") or "", d.get("uuid") or "") for d in devices if d.get("type") and d["type"] not in kinds}
        assert {self.device(name): (kind, label or "", uuid or "") for name, kind, label, uuid in theirs} == ours

    def df(self, theirs, usage):
        """Compares lines of (device, KiB, KiB used, KiB available)."""
        assert [(self.device(name), *map(int, sizes)) for name, *sizes in theirs] == [
            (u["device"].removeprefix("/dev/"), *(u[k] // 1024 for k in ("size", "used", "available"))) for u in usage]


def df_lines(text):
    """Returns the lines of virt-df as (device, KiB, KiB used, KiB available), and the percentages."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return [(r[0].split(":")[1], *r[1:4]) for r in rows], [r[4] for r in rows]


def csv_rows(text):
    """Returns the rows of `virt-filesystems --csv` as dicts."""
    head, *rows = (line.split(",") for line in text.split("\n") if line)
    return [dict(zip(head, r)) for r in rows]
