# SPDX-License-Identifier: Apache-2.0
"""Tests linux.namespaces: new, shared with the host, joined by path; time offsets; id mappings; network devices."""
import os
import subprocess
import time

import pytest
from harness import config, machine, mode, network
from harness.runtime import status_of

FILES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "time": "time",
         "user": "user"}
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def inside(c):
    c.conf["process"]["args"] = ["sh", "-c", "for n in pid net ipc uts mnt cgroup time user; do readlink /proc/self/ns/$n; done"]
    return dict(l.split(":", 1) for l in c.run().ok().out.splitlines())


# The inode numbers of the kernel's initial namespaces (include/linux/proc_ns.h). The numbers of the other types vary.
FIRST = {"ipc": 0xEFFFFFFF, "uts": 0xEFFFFFFE, "user": 0xEFFFFFFD, "pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB, "time": 0xEFFFFFFA}


def host(f):
    """Returns the namespace that a container without one of its own has: this process's or, in a microVM, the guest
    kernel's initial one."""
    if mode.VM:
        return f"[{FIRST[f]}]" if f in FIRST else None
    return os.readlink(f"/proc/self/ns/{f}").split(":", 1)[1]


def with_user(c, m=MAP):
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = m
    return c


@pytest.mark.parametrize("kind", FILES)
def test_new_namespaces(ctr, kind):
    c = ctr()
    if kind == "user":
        with_user(c)
    else:
        config.namespaces(c.conf, kind)
    assert inside(c)[FILES[kind]] != host(FILES[kind])


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "cgroup", "time", "user"])
def test_not_listed_is_the_callers(ctr, kind):
    c = ctr()
    config.namespaces(c.conf, drop=(kind,))
    if kind == "ipc":
        c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] != "mqueue"]
    assert inside(c)[FILES[kind]] == host(FILES[kind])


def test_uts_of_the_host(ctr):
    c = ctr()
    config.namespaces(c.conf, drop=("uts",))
    del c.conf["hostname"]
    assert inside(c)["uts"] == host("uts")


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_joined_by_path(ctr, kind):
    """As in a pod, the second container is in the first one's namespace."""
    a = ctr.idle()
    config.namespaces(a.conf, kind)
    a.up()
    path = f"/proc/{a.pid()}/ns/{FILES[kind]}"
    want = os.readlink(path)
    b = ctr.idle()
    config.namespaces(b.conf, kind, paths={kind: path})
    if kind == "uts":
        del b.conf["hostname"]
    b.up()
    if kind == "network":  # in a microVM the process that stands for the container's is in the namespace
        assert os.readlink(f"/proc/{b.pid()}/ns/net") == want
    else:
        assert b.exec("readlink", f"/proc/1/ns/{FILES[kind]}").ok().out.strip() == want
    assert a.status() == "running"


def test_joined_user_namespace(ctr):
    a = with_user(ctr.idle()).up()
    path = f"/proc/{a.pid()}/ns/user"
    b = ctr()
    config.namespaces(b.conf, "user", paths={"user": path})
    assert inside(b)["user"] == os.readlink(path).split(":", 1)[1]


def test_joined_user_and_network_namespaces(ctr):
    """As in a pod of rootless podman, the network namespace belongs to the user namespace that is joined too."""
    a = with_user(ctr.idle()).up()
    b = ctr()
    paths = {"user": f"/proc/{a.pid()}/ns/user", "network": f"/proc/{a.pid()}/ns/net"}
    config.namespaces(b.conf, "user", paths=paths)
    got = inside(b)
    assert got["net"] == os.readlink(paths["network"]).split(":", 1)[1]


def test_joined_mount_namespace(ctr):
    """A container can join a mount namespace, in which the root file system is then looked up; config-linux.md allows
    it."""
    p = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        p.stdout.readline()
        c = ctr()
        config.namespaces(c.conf, paths={"mount": f"/proc/{p.pid}/ns/mnt"})
        r = c.write().run()
        # The runtime may refuse it by name, and must not change the namespace.
        if r.rc != 0:
            assert "mount" in r.err and "namespace" in r.err, r
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def test_netns_by_bind_mounted_path(ctr):
    with network.namespace("cai-test") as path:
        network.ip("-n", "cai-test", "link", "add", "dummy-in", "type", "veth", "peer", "name", "other")
        c = ctr("ls", "/sys/class/net")
        config.namespaces(c.conf, paths={"network": path})
        assert "dummy-in" in c.run().ok().out


def test_path_of_the_wrong_type(ctr):
    c = ctr("true")
    config.namespaces(c.conf, paths={"network": "/proc/self/ns/uts"})
    r = c.run()
    assert r.rc != 0 and "/proc/self/ns/uts" in r.err, r


@pytest.mark.parametrize("path", ["/no/such/namespace", "/etc/passwd"])
def test_path_that_is_no_namespace(ctr, path):
    c = ctr("true")
    config.namespaces(c.conf, paths={"network": path})
    r = c.run()
    assert r.rc != 0 and path in r.err, r


def test_namespace_twice(ctr):
    c = ctr("true")
    c.conf["linux"]["namespaces"].append({"type": "pid"})
    c.run().failed("namespaces", "pid")


def test_unknown_namespace(ctr):
    c = ctr("true")
    c.conf["linux"]["namespaces"].append({"type": "made-up"})
    c.run().failed("namespaces", "made-up")


def test_loopback_is_up_in_a_new_network_namespace(ctr):
    assert "UP" in ctr("ip", "link", "show", "lo").run().ok().out


def test_time_offsets(ctr):
    c = ctr("cut", "-d.", "-f1", "/proc/uptime")
    config.namespaces(c.conf, "time")
    c.conf["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}, "monotonic": {"secs": 5000}}
    up = int(c.run().ok().out)
    with open("/proc/uptime") as f:
        # A microVM's clock starts with the container.
        assert abs(up - (0 if mode.VM else float(f.read().split()[0])) - 1000000) < 30 * mode.SCALE


def test_time_offsets_without_the_namespace(ctr):
    c = ctr("true")
    c.conf["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}
    c.run().failed("timeOffsets")


def test_exec_in_a_time_namespace(ctr):
    c = ctr.idle()
    config.namespaces(c.conf, "time")
    c.conf["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000}}
    c.up()
    assert int(c.exec("cut", "-d.", "-f1", "/proc/uptime").ok().out) > 1000000


def test_user_namespace_mappings(ctr):
    c = with_user(ctr.sh("cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups; id -u"))
    words = c.run().ok().out.split()
    assert words == ["0", "100000", "65536"] * 2 + ["allow", "0"]


def test_several_mappings(ctr):
    m = [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 10, "hostID": 0, "size": 1},
         {"containerID": 20, "hostID": 200000, "size": 100}]
    c = with_user(ctr("cat", "/proc/self/uid_map"), m)
    assert [l.split() for l in c.run().ok().out.splitlines()] == [[str(x[k]) for k in ("containerID", "hostID", "size")] for x in m]


def test_user_namespace_process_is_the_mapped_user(ctr):
    c = with_user(ctr.idle(user={"uid": 7, "gid": 8})).up()
    if mode.VM:
        assert [l.split()[0] for l in c.rt("ps", c.id).ok().out.splitlines()[1:]] == ["100007"]
        return
    with open(f"/proc/{c.pid()}/status") as f:
        s = status_of(f.read())
    assert s["Uid"].split()[0] == "100007" and s["Gid"].split()[0] == "100008"


def test_user_namespace_has_its_own_devices_and_sysfs(ctr):
    c = with_user(ctr.sh("echo x > /dev/null && head -c 3 /dev/zero | wc -c; mount | grep -c sysfs"))
    assert c.run().ok().out == "3\n1\n"


def test_unmapped_user_is_refused(ctr):
    c = with_user(ctr("true", user={"uid": 70000, "gid": 0}))
    r = c.run()
    assert r.rc != 0 and "70000" in r.err, r


@pytest.mark.parametrize("bad", [
    [{"containerID": 0, "hostID": 100000, "size": 0}],
    [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 5, "hostID": 200000, "size": 10}],
    [{"containerID": 0, "hostID": 4294967295, "size": 10}],
])
def test_bad_mappings(ctr, bad):
    r = with_user(ctr("true"), bad).run()
    assert r.rc != 0 and "Mappings" in r.err, r


def test_user_namespace_without_mappings(ctr):
    c = config.namespaces((x := ctr("true")).conf, "user") and x
    c.run().failed("uidMappings")


def test_mappings_without_user_namespace(ctr):
    c = ctr("true")
    c.conf["linux"]["uidMappings"] = MAP
    c.run().failed("uidMappings")


def test_three_hundred_mappings(ctr):
    m = [{"containerID": i, "hostID": 100000 + 2 * i, "size": 1} for i in range(300)]
    c = with_user(ctr.sh("wc -l < /proc/self/uid_map"), m)
    assert c.run().ok().out == "300\n"


# ---- linux.netDevices ----

@pytest.fixture
def dummy():
    subprocess.run("ip link add cai-dum0 type veth peer name cai-dum1 && ip addr add 10.9.8.7/24 dev cai-dum0 && ip link set cai-dum0 mtu 1400",
                   shell=True, check=True)
    yield "cai-dum0"
    subprocess.run(["ip", "link", "del", "cai-dum0"], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("name", [None, "eth7"])
def test_net_device(ctr, dummy, name):
    c = ctr("ip", "addr")
    c.conf["linux"]["netDevices"] = {dummy: {"name": name} if name else {}}
    out = c.run().ok().out
    # In a microVM the interface is a virtio device and not one end of a veth pair.
    assert f" {name or dummy}" + (":" if mode.VM else "@") in out and "10.9.8.7/24" in out and "mtu 1400" in out


def test_net_device_missing(ctr):
    c = ctr("true")
    c.conf["linux"]["netDevices"] = {"no-such-if": {}}
    r = c.run()
    assert r.rc != 0 and "no-such-if" in r.err, r


def test_net_device_without_network_namespace(ctr, dummy):
    c = ctr("true")
    config.namespaces(c.conf, drop=("network",))
    c.conf["linux"]["netDevices"] = {dummy: {}}
    c.run().failed("netDevices")
    assert dummy in machine.interfaces()


@pytest.mark.parametrize("name", ["a/b", "x" * 16, "", ".", "with space"])
def test_net_device_bad_name(ctr, dummy, name):
    c = ctr("true")
    c.conf["linux"]["netDevices"] = {dummy: {"name": name}}
    if name == "":
        c.run()  # the specification says that an empty name keeps the name
        return
    c.run().failed("netDevices")
    assert dummy in machine.interfaces()


def test_user_sysctls_are_the_user_namespaces(ctr):
    path = "/proc/sys/user/max_ipc_namespaces"
    with open(path) as f:
        before = f.read()
    c = ctr("cat", path)
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 65536}]
    c.conf["linux"]["sysctl"] = {"user.max_ipc_namespaces": "7"}
    assert c.run().ok().out == "7\n"
    with open(path) as f:
        assert f.read() == before
