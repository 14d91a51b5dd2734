# SPDX-License-Identifier: Apache-2.0
"""Tests id-mapped mounts, and bind mounts from directories that only the host's root can read."""
import os
import shutil

import pytest
from harness import config, machine


@pytest.fixture
def disk(tmp):
    """A directory on a file system on which every supported kernel can map ids (tmpfs can only since Linux 6.3)."""
    d = f"{'/scratch' if os.environ.get('CAISSON_TEST_HOST') else '/var/tmp'}/caisson-idmap.{os.getpid()}"
    os.makedirs(d)
    yield d
    shutil.rmtree(d)


MS_BIND = 4096
MAP = [{"containerID": 0, "hostID": 5000, "size": 1000}]


def test_idmapped_mount(ctr, disk):
    """Ids 0 to 999 on disk appear as 5000 to 5999, and writing maps back."""
    open(os.path.join(disk, "f"), "w").close()
    os.chown(os.path.join(disk, "f"), 3, 4)
    c = ctr.sh("stat -c %u:%g /m/f")
    config.add_mount(c, "/m", "bind", disk, ["rbind", "idmap"], uidMappings=MAP, gidMappings=MAP)
    assert c.run().ok().out == "5003:5004\n"


def test_idmapped_with_the_containers_mapping(ctr, disk):
    """With a user namespace, files that belong to root on disk belong to root in the container."""
    open(os.path.join(disk, "f"), "w").close()
    os.chmod(disk, 0o755)
    c = ctr.sh("stat -c %u:%g /m/f; touch /m/new")
    os.mkdir(c.path("/m"))  # the mapped root may not make the directory, because the rootfs does not belong to it
    config.namespaces(c.conf, "user")
    m = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = m
    config.add_mount(c, "/m", "bind", disk, ["rbind", "idmap"], uidMappings=m, gidMappings=m)
    assert c.run().ok().out == "0:0\n"
    assert os.stat(os.path.join(disk, "new")).st_uid == 0


def test_idmap_option_with_ids(ctr, disk):
    """crun's option: 3:4 on disk appears as 5003:5004. The second range is relative to the container's own mapping."""
    for n, uid in ("f", 3), ("g", 20):
        open(os.path.join(disk, n), "w").close()
        os.chown(os.path.join(disk, n), uid, 4)
    os.chmod(disk, 0o755)
    c = ctr.sh("stat -c %u:%g /m/f /m/g")
    config.add_mount(c, "/m", "bind", disk, ["rbind", "idmap=uids=0-5000-10#20-7000-1;gids=0-5000-10"])
    assert c.run().ok().out == "5003:5004\n7000:5004\n"


@pytest.mark.parametrize("opt,inner", [("idmap", "1:1"), ("ridmap", "5001:5001")])
def test_ridmap_is_recursive(ctr, disk, opt, inner):
    sub = os.path.join(disk, "sub")
    src = os.path.join(disk, "src")
    os.makedirs(sub)
    os.makedirs(src)
    open(os.path.join(src, "f"), "w").close()
    os.chown(os.path.join(src, "f"), 1, 1)
    machine.mount(src, sub, flags=MS_BIND)
    try:
        c = ctr.sh("stat -c %u:%g /m/sub/f")
        config.add_mount(c, "/m", "bind", disk, ["rbind", opt], uidMappings=MAP, gidMappings=MAP)
        assert c.run().ok().out == inner + "\n"
    finally:
        machine.umount(sub)


def test_mappings_only_for_one_of_uid_and_gid(ctr, disk):
    config.add_mount(c := ctr("true"), "/m", "bind", disk, ["rbind", "idmap"], uidMappings=MAP)
    r = c.run()
    assert r.rc != 0 and "gidMappings" in r.err, r


def test_idmap_where_the_file_system_cannot(ctr):
    c = config.add_mount(ctr("true"), "/m", "bind", "/proc/sys", ["rbind", "idmap"], uidMappings=MAP, gidMappings=MAP)
    c.run().failed("mounts[7]", "idmap", "/proc/sys")


def test_bind_from_a_directory_the_mapped_root_cannot_read(ctr, tmp):
    """podman volumes are in 0700 directories, so the source must be opened before the user namespace is entered."""
    secret = os.path.join(tmp, "secret")
    os.makedirs(os.path.join(secret, "vol"))
    with open(os.path.join(secret, "vol", "f"), "w") as f:
        f.write("reached\n")
    os.chmod(secret, 0o700)
    c = ctr.sh("cat /m/f")
    os.mkdir(c.path("/m"))
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 65536}]
    config.add_mount(c, "/m", "bind", os.path.join(secret, "vol"), ["rbind", "ro"])
    assert c.run().ok().out == "reached\n"
