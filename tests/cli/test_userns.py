# SPDX-License-Identifier: Apache-2.0
"""User namespaces, with what they do not own: device nodes, other containers' namespaces, and joined id maps."""
import os
import shutil

import pytest
from harness import config, mode

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "user": "user"}
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
OTHER = [{"containerID": 0, "hostID": 300000, "size": 65536}]
# What needs the namespace itself, so that engines bind it from the host where the namespace is another's.
OWNED = {"network": ["sysfs", "cgroup"], "ipc": ["mqueue"], "pid": ["proc"], "cgroup": ["cgroup"]}


def with_user(c, m=MAP):
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = m
    return c


def joined_user(c, other):
    config.namespaces(c.conf, "user", paths={"user": f"/proc/{other.pid()}/ns/user"})
    return c


def without_owned_mounts(c, kind):
    c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] not in OWNED.get(kind, [])]
    if kind == "pid":
        config.add_mount(c, "/proc", "bind", "/proc", ["rbind"])
    if kind == "uts":
        del c.conf["hostname"]


def device(path, major, minor, **more):
    return {"path": path, "type": "c", "major": major, "minor": minor, **more}


SEE = "stat -c '%n %a %u:%g %t:%T' /dev/mine /dev/full; head -c 4 /dev/mine | wc -c"
NODES = [device("/dev/mine", 1, 5, fileMode=0o640, uid=5, gid=6), device("/dev/full", 1, 7, fileMode=0o600, uid=7)]
SEEN = "/dev/mine 640 5:6 1:5\n/dev/full 600 7:0 1:7\n4\n"
CAPS = config.CAPS + ["CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_MKNOD"]


def test_devices_have_their_own_path_owner_and_mode(ctr):
    c = with_user(ctr.sh(SEE))
    c.conf["process"]["capabilities"] = {k: CAPS for k in ("bounding", "effective", "permitted")}
    c.conf["linux"]["devices"] = NODES
    assert c.run().ok().out == SEEN


def test_devices_without_owner_are_roots(ctr):
    """Go programs leave zeros out; the mode that the specification does not name is 0666, as for the default devices."""
    c = with_user(ctr("stat", "-c", "%a %u:%g", "/dev/mine"))
    c.conf["linux"]["devices"] = [device("/dev/mine", 1, 5)]
    assert c.run().ok().out == "666 0:0\n"


def test_devices_in_a_joined_user_namespace(ctr):
    first = with_user(ctr.idle(), OTHER).up()
    c = joined_user(ctr.sh(SEE), first)
    c.conf["process"]["capabilities"] = {k: CAPS for k in ("bounding", "effective", "permitted")}
    c.conf["linux"]["devices"] = NODES
    assert c.run().ok().out == SEEN


def test_device_mount_holds_the_node_alone(ctr):
    """Neither the directory of the nodes nor another node is within reach, and the mount has no programs."""
    c = with_user(ctr.sh("grep ' /dev/mine ' /proc/self/mountinfo; mknod /dev/more c 1 5 2>/dev/null || echo no"))
    c.conf["process"]["capabilities"] = {k: CAPS for k in ("bounding", "effective", "permitted")}
    c.conf["linux"]["devices"] = NODES
    line, no = c.run().ok().out.splitlines()
    words = line.split()
    assert words[3] == "/0" and words[words.index("-") + 1] == "tmpfs", line
    assert {"nosuid", "noexec"} <= set(words[5].split(",")) and "nodev" not in words[5], line
    assert no == "no"


@pytest.mark.parametrize("who", ["uid", "gid"])
def test_device_of_an_unmapped_owner(ctr, who):
    c = with_user(ctr("true"))
    c.conf["linux"]["devices"] = [device("/dev/mine", 1, 5, **{who: 70000})]
    c.run().failed(f"linux.devices[0]: {who}: 70000 is not mapped", f"linux.{who}Mappings")


def no_mknod(c):
    c.rt.prefix = ["setpriv", "--bounding-set", "-mknod", "--inh-caps", "-mknod", *c.rt.prefix]


def test_devices_without_the_right_to_make_any(ctr):
    """The host's node is bound then, and what is lost is said."""
    c = with_user(ctr("stat", "-c", "%t:%T", "/dev/full"))
    c.conf["linux"]["devices"] = [device("/dev/full", 1, 7, fileMode=0o600, uid=7)]
    no_mknod(c)
    r = c.run().ok()
    assert r.out == "1:7\n"
    assert "linux.devices[0]: /dev/full is bound from the host" in r.err and "fileMode, uid and gid have no effect" in r.err


def test_device_that_cannot_be_made_or_bound(ctr):
    c = with_user(ctr("true"))
    c.conf["linux"]["devices"] = [device("/dev/mine", 1, 5)]
    no_mknod(c)
    c.run().failed("linux.devices[0]: /dev/mine: making device nodes is not permitted here", "the host has none")


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "time", "pid"])
def test_new_user_namespace_with_anothers_namespace(ctr, kind):
    """As with podman's --uidmap and --network ns:PATH. The other namespace belongs to the host's user namespace."""
    first = ctr.idle()
    config.namespaces(first.conf, kind)
    first.up()
    path = f"/proc/{first.pid()}/ns/{FILES[kind]}"
    want = os.readlink(path)
    c = with_user(ctr.idle())
    config.namespaces(c.conf, kind, paths={kind: path})
    without_owned_mounts(c, kind)
    c.up()
    assert os.readlink(f"/proc/{c.pid()}/ns/{FILES[kind]}") == want
    assert c.exec("sh", "-c", "id -u; head -n 1 /proc/self/uid_map").ok().out.split() == ["0", "0", "100000", "65536"]
    if not mode.VM:
        assert os.readlink(f"/proc/{c.pid()}/ns/user") != os.readlink("/proc/self/ns/user")


def test_new_user_namespace_with_several_others(ctr):
    """All of a pod's, and a private time namespace, which also needs a process before the container's."""
    first = ctr.idle().up()
    kinds = ["network", "ipc", "uts"]
    c = with_user(ctr.sh("for n in net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/self/timens_offsets"))
    config.namespaces(c.conf, "time", paths={k: f"/proc/{first.pid()}/ns/{FILES[k]}" for k in kinds})
    c.conf["linux"]["timeOffsets"] = {"boottime": {"secs": 1000}}
    for k in kinds:
        without_owned_mounts(c, k)
    lines = c.run().ok().out.splitlines()
    assert lines[:3] == [os.readlink(f"/proc/{first.pid()}/ns/{FILES[k]}") for k in kinds]
    assert lines[-1].split() == ["boottime", "1000", "0"]


@pytest.mark.parametrize("kind", ["network", "ipc", "uts"])
def test_joined_user_namespace_with_anothers_namespace(ctr, kind):
    """The user namespace of one container, and a namespace of another that is none of the first's."""
    users = with_user(ctr.idle()).up()
    first = ctr.idle().up()
    path = f"/proc/{first.pid()}/ns/{FILES[kind]}"
    c = joined_user(ctr.sh(f"readlink /proc/self/ns/{FILES[kind]}; readlink /proc/self/ns/user"), users)
    config.namespaces(c.conf, paths={kind: path})
    without_owned_mounts(c, kind)
    assert c.run().ok().out.split() == [os.readlink(path), os.readlink(f"/proc/{users.pid()}/ns/user")]


@pytest.mark.parametrize("joined", [False, True])
def test_parameters_of_anothers_namespaces(ctr, joined):
    """podman has net.ipv4.ping_group_range in every config.json. The user namespace has no rights in the other one."""
    first = ctr.idle().up()
    c = ctr.sh("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shm_rmid_forced; hostname; cat /proc/sys/user/max_net_namespaces")
    if joined:
        joined_user(c, with_user(ctr.idle()).up())
    else:
        with_user(c)
    kinds = ["network", "ipc", "uts"]
    config.namespaces(c.conf, paths={k: f"/proc/{first.pid()}/ns/{FILES[k]}" for k in kinds})
    for k in kinds[:2]:
        without_owned_mounts(c, k)
    c.conf["hostname"] = "pod"
    c.conf["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "65", "kernel/shm_rmid_forced": "1", "user.max_net_namespaces": "7"}
    assert c.run().ok().out == "65\n1\npod\n7\n"


def test_plan_of_a_stage_before_the_user_namespace(ctr):
    """`caisson plan` shows the order: the other's namespace, then the user namespace."""
    c = with_user(ctr("true"))
    config.namespaces(c.conf, paths={"network": "/run/netns/x"})
    c.write()
    lines = [l.split(None, 3) for l in c.rt("plan", "--bundle", c.bundle).ok().out.splitlines()]
    steps = [(l[2], l[3] if len(l) > 3 else "") for l in lines]
    names = [s for s, _ in steps]
    assert names.index("clone") < names.index("join") < names.index("fork") < names.index("id-map")
    assert dict(steps)["clone"] == "new: none" and "user" in dict(steps)["fork"]


@pytest.fixture
def disk(tmp):
    d = f"{'/scratch' if os.environ.get('CAISSON_TEST_HOST') else '/var/tmp'}/caisson-userns.{os.getpid()}"
    os.makedirs(d, mode=0o755)
    yield d
    shutil.rmtree(d)


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_with_a_joined_user_namespace(ctr, disk, option):
    """podman's `--userns container:u1 -v SRC:/mnt:idmap`: the ids of the namespace that is joined."""
    open(os.path.join(disk, "f"), "w").close()
    os.chown(os.path.join(disk, "f"), 3, 4)
    first = with_user(ctr.idle(), OTHER).up()
    c = joined_user(ctr.sh("stat -c %u:%g /m /m/f; touch /m/new"), first)
    os.mkdir(c.path("/m"))
    config.add_mount(c, "/m", "bind", disk, ["rbind", option])
    assert c.run().ok().out == "0:0\n3:4\n"
    assert os.stat(os.path.join(disk, "new")).st_uid == 0


def test_idmap_of_its_own_with_a_joined_user_namespace(ctr, disk):
    """The mount's own mappings come first."""
    open(os.path.join(disk, "f"), "w").close()
    os.chown(os.path.join(disk, "f"), 3, 4)
    first = with_user(ctr.idle(), OTHER).up()
    c = joined_user(ctr("stat", "-c", "%u:%g", "/m/f"), first)
    os.mkdir(c.path("/m"))
    own = [{"containerID": 0, "hostID": 300010, "size": 100}]
    config.add_mount(c, "/m", "bind", disk, ["rbind", "idmap"], uidMappings=own, gidMappings=own)
    assert c.run().ok().out == "13:14\n"
