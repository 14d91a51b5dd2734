# SPDX-License-Identifier: Apache-2.0
"""Tests images of an ordinary user with and without ranges of ids in /etc/subuid and /etc/subgid: who owns the files in the
store, in a directory and in containers, and that the user can remove all of them."""
import json
import os
import stat
import struct
import subprocess

import pytest

from harness import machine, mode, rootfs, user as ordinary
from harness.oci import entry, tar, whiteout
from harness.registry import Hostile
from harness.user import SUBIDS, UID

CAP = b"\x01\x00\x00\x02\x00\x04" + b"\0" * 14  # cap_net_bind_service, revision 2
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in (
    (1, 7, 0xffffffff), (2, 4, 33), (4, 5, 0xffffffff), (16, 5, 0xffffffff), (32, 5, 0xffffffff)))
WWW = [entry("www/", "dir", mode=0o700, uid=33, gid=34), entry("www/f", data=b"1", mode=0o4755, uid=33, gid=34, xattrs={
           "security.capability": CAP, "system.posix_acl_access": ACL}),
       entry("www/old", uid=33, gid=34), entry("last", uid=65536, gid=65536), entry("link", "link", link="www", mode=0o777, uid=33, gid=34)]
TOP = [whiteout("www/.wh.old"), entry("www/new", data=b"2", uid=1000, gid=1001), entry("vol/", "dir", mode=0o700, uid=7, gid=7),
       entry("vol/f", data=b"v", mode=0o600, uid=7, gid=7)]
STAT = "stat -c '%n %u:%g %a' /www /www/f /www/new /last /link; ls /www; stat -c %u /proc/1"
SEEN = ["/www 33:34 700", "/www/f 33:34 4755", "/www/new 1000:1001 644", "/last 65536:65536 644", "/link 33:34 777", "f", "new", "0"]
NO_RANGE = "this user has no range of ids in /etc/subuid and /etc/subgid (usermod --add-subuids"


class User:
    """Runs caisson as the ordinary user; the store is the user's own."""

    def __init__(self, exe, tmp):
        self.exe, self.run_dir, self.home = exe, os.path.join(tmp, "run"), os.path.join(tmp, "home")
        self.store = self.home + "/.local/share/caisson"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
        for d in (self.home, self.run_dir):
            os.mkdir(d, 0o700)
            ordinary.own(d)

    def call(self, *args, rc=0, timeout=60):
        p = subprocess.run([*ordinary.prefix(self.run_dir, self.home), self.exe, *args], capture_output=True, text=True, env=self.env,
                           stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        assert p.returncode == rc, p
        return p

    def __call__(self, *args, **kw):
        return self.call(*args, **kw).stdout

    def box(self, script, *options, image="box", **kw):
        return self("run", "--image", image, "--rm", "--network", "none", *options, "sh", "-c", script, **kw)

    def dirs(self, name):
        return os.listdir(os.path.join(self.store, name))

    def files(self, name):
        """Returns the paths of the files of this name in the unpacked layers."""
        return [os.path.join(d, name) for d, _, files in os.walk(self.store + "/layers") if name in files]


@pytest.fixture
def accounts(tmp):
    """Mounts the user's accounts, with the ranges that a test asks for, and unmounts them at the end."""
    made = ordinary.make_accounts(tmp)
    mounted = []

    def accounts(subids):
        while mounted:
            machine.umount(mounted.pop())
        mounted.extend(ordinary.mount_accounts(made, subids))
    yield accounts
    while mounted:
        machine.umount(mounted.pop())


@pytest.fixture
def user(binary, layout, template, tmp, accounts):
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "--owner=0", "--group=0", "-C", template, "."], check=True,
                          capture_output=True).stdout
    layout.image([base, tar(*WWW), tar(*TOP)], "box", config={"Env": ["PATH=/bin"]})
    layout.image([base, tar(entry("far", uid=65537))], "far", config={"Env": ["PATH=/bin"]})
    u = User(ordinary.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(tmp, "installed")), tmp)
    ordinary.own(layout.path)
    accounts(True)
    for tag in ("box", "far"):
        u("image", "import", f"oci:{layout.path}:{tag}")
    yield u
    for name in u.dirs("containers") if os.path.isdir(u.store) else ():
        u("rm", "-f", name)


# A plug-in for `subid` in nsswitch.conf, as sssd's, with one range for the user (shadow's subid.h has the types).
PLUG_IN = """
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct subid_range {
	unsigned long start, count;
};

int shadow_subid_has_range(const char *owner, unsigned long start, unsigned long count, int type, bool *result)
{
	*result = strcmp(owner, USER) == 0 && start >= FIRST && start + count <= FIRST + 65536;
	return 0;
}

int shadow_subid_list_owner_ranges(const char *owner, int type, struct subid_range **ranges, int *count)
{
	if (strcmp(owner, USER) != 0)
		return 1;
	*ranges = malloc(sizeof(**ranges));
	**ranges = (struct subid_range){FIRST, 65536};
	*count = 1;
	return 0;
}

int shadow_subid_find_subid_owners(unsigned long id, int type, uid_t **uids, int *count)
{
	return 3;
}

void shadow_subid_free(void *p)
{
	free(p);
}
"""


@pytest.fixture
def elsewhere(tmp, user, accounts):
    """nsswitch.conf names a plug-in as the source of ranges. The test puts the plug-in where set-uid programs find it, by an overlay."""
    accounts(False)
    conf, plug_ins = os.path.join(tmp, "nsswitch.conf"), os.path.join(tmp, "plug-ins")
    os.mkdir(plug_ins, 0o755)
    with open("/etc/nsswitch.conf", encoding="utf-8") as real, open(conf, "w", encoding="utf-8") as f:
        f.write("subid: stub\n" + real.read())
    os.chmod(conf, 0o644)
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", f'-DUSER="{ordinary.NAME}"', f"-DFIRST={SUBIDS}", "-o", f"{plug_ins}/libsubid_stub.so", "-"],
                   input=PLUG_IN, text=True, check=True)
    libraries = os.path.dirname(os.path.realpath(subprocess.run(["gcc", "-print-file-name=libc.so.6"], stdout=subprocess.PIPE, text=True, check=True)
                                                 .stdout.strip()))
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={plug_ins}:{libraries}", "stub", libraries], check=True)
    machine.mount(conf, "/etc/nsswitch.conf", flags=4096)
    yield user
    machine.umount("/etc/nsswitch.conf")
    subprocess.run(["umount", "--lazy", libraries], check=True)


def test_ranges_of_a_plug_in(elsewhere):
    """The ranges come from the plug-in that nsswitch.conf names: an image's files have their owners, as with ranges in /etc/subuid."""
    assert elsewhere.box(STAT).splitlines() == SEEN
    f, = (x for x in elsewhere.files("f") if "/www/" in x)
    assert os.stat(f).st_uid == SUBIDS + 32


@pytest.mark.parametrize("script, rc, said", [
    ("echo 'Error fetching ranges' >&2; exit 1", 0, "getsubids of the package uidmap names no ranges of ids for this user"),
    ("echo 0: $1 lots", 1, "getsubids printed"),
    ("yes", 1, "getsubids printed"),
])
def test_getsubids_that_fails_or_prints_something_else(elsewhere, tmp, script, rc, said):
    bin = os.path.join(tmp, "stub-bin")
    os.mkdir(bin, 0o755)
    with open(os.path.join(bin, "getsubids"), "w", opener=lambda p, f: os.open(p, f, 0o755), encoding="ascii") as f:
        f.write("#!/bin/sh\n" + ("yes | head -c 1000000\n" if script == "yes" else script + "\n"))
    os.chmod(os.path.join(bin, "getsubids"), 0o755)
    elsewhere.env["PATH"] = bin + ":" + elsewhere.env["PATH"]
    p = elsewhere.call("run", "--image", "box", "--rm", "--network", "none", "id", "-u", rc=rc)
    assert said in p.stderr and (p.stdout == "0\n") == (rc == 0), p


def vm_options():
    kernel = mode.guest_kernel(rootfs.CACHE)
    return ["--isolation", "vm", "--kernel", kernel] if kernel else None


@pytest.mark.parametrize("isolation", ["ns", "vm"])
def test_owners(user, isolation):
    """A container sees the image's owners, its programs can be other users, and all that they leave is removed."""
    options = vm_options() if isolation == "vm" else []
    if options is None:
        pytest.skip("no kernel for a guest")
    script = STAT + "; id -u; echo x > /www/mine; mkdir -m 700 /www/d; echo y > /www/d/f; chmod 0 /www/d"
    out = user.box(script, "-u", "33:34", *options, timeout=120).splitlines()
    assert out == SEEN[:-1] + ["33", "33"]
    f, = (x for x in user.files("f") if "/www/" in x)
    st = os.stat(f)
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (SUBIDS + 32, SUBIDS + 33, 0o4755)
    assert os.getxattr(f, "security.capability")[-4:] == struct.pack("<I", UID)
    assert struct.pack("<HHI", 2, 4, SUBIDS + 32) in os.getxattr(f, "system.posix_acl_access")
    if isolation == "ns":
        assert "denied" in user.box("touch /www/mine 2>&1", "-u", "34", rc=1)
    assert user.dirs("containers") == []
    user("image", "rm", "box", "far")
    assert user.dirs("layers") == user.dirs("chains") == []


def test_named_container(user):
    """Tests exec as another user, diff, commit with owners, logs and rm with a container in the background."""
    user("run", "--image", "box", "-d", "--name", "b1", "--network", "none", "sleep", "100")
    user("exec", "b1", "sh", "-c", "echo 1 > /www/made && chown 5:6 /www/made && mkdir -m 700 /d && touch /d/f && chown -R 8:9 /d && rm /www/new")
    assert user("exec", "--user", "33:34", "b1", "sh", "-c", "cat /www/f") == "1"
    changes = user("image", "diff", "b1").splitlines()
    assert sorted(c for c in changes if "/etc" not in c) == ["A /d", "A /d/f", "A /www/made", "C /www", "D /www/new"]
    user("image", "commit", "b1", "made")
    user("rm", "-f", "b1")
    assert user.dirs("containers") == []
    out = user.box("stat -c '%n %u:%g' /www/made /d /d/f; ls /www", image="made").splitlines()
    assert out == ["/www/made 5:6", "/d 8:9", "/d/f 8:9", "f", "made"]


def test_volumes(user):
    """A new volume has the files of the image's directory with their owners, and the user can remove the volume."""
    assert user.box("stat -c %u:%g /v /v/f; echo more > /v/g; chown 9:9 /v/g", "-v", "data:/v", "--mount", "type=volume,source=data,target=/vol") != ""
    out = user.box("stat -c '%n %u:%g' /vol /vol/f; cat /vol/f", "-v", "copy:/vol").split()
    assert out == ["/vol", "7:7", "/vol/f", "7:7", "v"]
    assert user.box("echo w > /vol/f; cat /vol/f", "-u", "7:7", "-v", "copy:/vol") == "w\n"
    user("volume", "rm", "copy", "data")
    assert set(user.dirs("volumes")) <= {".lock"}


def test_df(user):
    """`image df` counts the files of other ids, also in directories that only their owner may read."""
    user("run", "--image", "box", "--name", "b1", "--network", "none", "sh", "-c", "head -c 300000 /dev/zero > /www/big; mkdir -m 0 /www/shut")
    df = json.loads(user("image", "df", "--json"))
    assert df["containers"]["count"] == 1 and 300000 < df["containers"]["bytes"] < 600000


def test_pull(user, accounts):
    """Layers that are unpacked while they are pulled have the same owners, and `run --image` unpacks nothing again."""
    h = Hostile()
    try:
        h.image(layers=[tar(entry("./", "dir"), *WWW), tar(*TOP)])
        user("image", "pull", f"{h.host}/a:t")
        f, = user.files("new")
        assert (os.stat(f).st_uid, os.stat(f).st_gid) == (SUBIDS + 999, SUBIDS + 1000)
        names = set(user.dirs("layers"))
        user("image", "unpack", f"{h.host}/a:t")
        assert set(user.dirs("layers")) == names and len(names) == 2
    finally:
        h.close()


def test_without_ranges(user, accounts):
    """All files belong to the user, a warning gives the reason and the fix, and the container has the user's id only."""
    accounts(False)
    p = user.call("image", "unpack", "box")
    assert NO_RANGE in p.stderr and "www gets this user as its owner, and others may too" in p.stderr and p.stderr.count(NO_RANGE) == 2
    assert all(os.lstat(f).st_uid == UID for f in user.files("new") + user.files("last"))
    assert user.box("stat -c %u:%g /www /last; cat /www/new; echo; wc -l < /proc/self/uid_map").split() == ["0:0", "0:0", "2", "1"]
    user("image", "rm", "box", "far")
    assert user.dirs("layers") == []


def test_ranges_that_come_later(user, accounts):
    """When a user gets ranges, caisson unpacks the layers again that it unpacked without ranges, and `prune` removes the old ones."""
    accounts(False)
    assert user.box("stat -c %u /www") == "0\n"
    old = set(user.dirs("layers"))
    user("run", "--image", "box", "--name", "old", "--network", "none", "true")
    accounts(True)
    assert user.box(STAT).splitlines() == SEEN
    user("image", "prune")
    assert old < set(user.dirs("layers"))  # the container "old" uses them
    user("rm", "old")
    user("image", "prune")
    assert not old & set(user.dirs("layers")) and user.box(STAT).splitlines() == SEEN
    accounts(False)
    # Without the ranges the user may not remove files that belong to ids of these ranges.
    p = user.call("image", "prune", rc=1)
    assert "as root, because it has files of ids that this user may no longer map" in p.stderr


def test_newuidmap_that_fails(user, tmp):
    """If newgidmap or newuidmap fails, the store and the container are as without ranges, and the warning names the programs."""
    bin_ = os.path.join(tmp, "bin")
    os.mkdir(bin_)
    for name in ("newuidmap", "newgidmap"):
        with open(os.path.join(bin_, name), "w") as f:
            f.write("#!/bin/sh\nexit 1\n" if name == "newgidmap" else f"#!/bin/sh\nexec /usr/bin/{name} \"$@\"\n")
        os.chmod(os.path.join(bin_, name), 0o755)
    user.env["PATH"] = bin_ + ":" + user.env["PATH"]
    p = user.call("image", "unpack", "box")
    assert "newuidmap and newgidmap of the package uidmap did not map this user's ranges" in p.stderr
    os.remove(os.path.join(bin_, "newuidmap"))
    with open(os.path.join(bin_, "newuidmap"), "w") as f:
        f.write("#!/bin/sh\nexit 1\n")
    os.chmod(os.path.join(bin_, "newuidmap"), 0o755)
    assert user.box("stat -c %u:%g /www; wc -l < /proc/self/uid_map").split() == ["0:0", "1"]


def test_owner_beyond_the_ranges(user):
    """If a file's owner is beyond the ranges, the error names the file and the id, and the store has nothing of the layer."""
    p = user.call("run", "--image", "far", "--rm", "--network", "none", "true", rc=1)
    assert "far belongs to 65537:0, which is beyond the ids that this user may map" in p.stderr and "/etc/subuid" in p.stderr
    assert user.dirs("containers") == [] and user.files("far") == [] and len(user.dirs("layers")) == 1


def test_directory(user, tmp):
    """`unpack` and `bundle` give the files in a directory the image's owners, mapped by the ranges, or with --squash the caller."""
    d = user.home + "/d"
    user("image", "unpack", "box", d)
    st = os.stat(d + "/www/f")
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (SUBIDS + 32, SUBIDS + 33, 0o4755)
    p = user.call("image", "unpack", "--squash", "box", user.home + "/s")
    assert "owner" not in p.stderr and os.stat(user.home + "/s/www/f").st_uid == UID and os.stat(user.home + "/s/last").st_gid == UID
    assert "give a DIR" in user.call("image", "unpack", "--squash", "box", rc=1).stderr
    user("image", "bundle", "-w", "/", "box", user.home + "/b", "--", "sh", "-c", STAT)
    with open(user.home + "/b/config.json") as f:
        maps = json.load(f)["linux"]["uidMappings"]
    assert maps == [{"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": SUBIDS, "size": 65536}]
    assert user("run", "--bundle", user.home + "/b", "c").splitlines() == SEEN


def test_inspect_sees_disks(user, layout):
    """`inspect` finds the disk in an image, because it mounts the layers in the user's own namespace."""
    layout.image([tar(entry("disk/", "dir", uid=107, gid=107)), tar(entry("disk/d.raw", data=b"\0" * 512, uid=107, gid=107))], "disk")
    ordinary.own(layout.path)
    user("image", "import", f"oci:{layout.path}:disk")
    user("image", "unpack", "disk")
    assert [d["path"] for d in json.loads(user("image", "inspect", "disk"))["disks"]] == ["/disk/d.raw"]
