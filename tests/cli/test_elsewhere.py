# SPDX-License-Identifier: Apache-2.0
"""Tests configurations that run with other runtimes: they run with caisson too, and mean the same."""
import json
import os
import socket
import subprocess

import pytest
from harness import config, machine, mode
from harness.runtime import status_of, wait_for


# podman 4.3.1 writes 0 for --pids-limit=0 and -1. The guest has the controller, whatever the host has.
@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_of_processes_before_1_3(ctr, limit):
    c = ctr.sh("(echo one | cat); (echo two | cat)")
    c.conf["ociVersion"] = "1.0.2-dev"
    c.conf["linux"]["resources"] = {"pids": {"limit": limit}}
    assert c.run().ok().out == "one\ntwo\n"


def test_update_to_no_limit_of_processes_before_1_3(ctr):
    c = ctr.idle()
    c.conf["ociVersion"] = "1.0.2"
    c.up()
    c.rt("update", "--pids-limit", "0", c.id).ok()
    c.rt("update", "--resources", "-", c.id, input=json.dumps({"pids": {"limit": 0}})).ok()
    assert c.exec("sh", "-c", "(echo one | cat)").ok().out == "one\n"


@pytest.mark.parametrize("user", [{"uid": 2**32 - 1, "gid": 0}, {"uid": 0, "gid": 2**32 - 1},
                                  {"uid": 1, "gid": 1, "additionalGids": [2**32 - 1]}], ids=["uid", "gid", "group"])
def test_no_id_is_minus_one(ctr, user):
    """An id of -1 is refused, because setresuid(-1) changes nothing and the program would run as root."""
    ctr("id", user=user).run().failed("process.user.", "4294967294, found 4294967295")
    c = ctr.idle().up()
    process = json.dumps({"args": ["id"], "cwd": "/", "user": user})
    c.exec(opts=["--process", "-"], input=process).failed("user.", "found 4294967295")


def test_io_priority_without_a_number(ctr):
    """ioPriority may have no number, because the class IDLE has none and people leave it out."""
    c = ctr("probe", "info", ioPriority={"class": "IOPRIO_CLASS_IDLE"})
    assert status_of(c.run().ok().out)["IoPrio"] == str(3 << 13)


def test_device_without_zeros(ctr):
    """A device may lack numbers that are zero, because Go programs leave zeros out: /dev/tty is 5:0."""
    c = ctr("stat", "-c", "%t:%T", "/dev/zero-minor")
    c.conf["linux"]["devices"] = [{"path": "/dev/zero-minor", "type": "c", "major": 5}]
    assert c.run().ok().out == "5:0\n"


def in_root(c, path, dest, *options):
    return {"destination": dest, "type": "bind", "source": os.path.join(c.rootfs, path), "options": ["bind", *options]}


def test_source_that_an_earlier_mount_makes(ctr):
    """A bind mount takes its source from an earlier mount of the list, because config.md mounts in that order: here
    the tmpfs, and not the directory beneath it."""
    c = ctr.sh("echo x >/data/file; cat /again/file /dir/file; ls /host; grep -c ' /again ' /proc/mounts")
    os.makedirs(c.path("data"))
    os.makedirs(c.path("other"))
    with open(c.path("other", "seen"), "w"):
        pass
    c.conf["mounts"] += [
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs"},
        in_root(c, "data", "/again"),
        {"destination": "/dir", "type": "bind", "source": "rootfs//./data", "options": ["rbind", "ro"]},
        in_root(c, "other", "/host")]
    assert c.run().ok().out == "x\nx\nseen\n1\n"


def test_source_beneath_an_earlier_mount(ctr):
    """A bind mount's source may exist only in an earlier mount, made with tmpcopyup or by a mount of mounts."""
    c = ctr.sh("echo y >/vol/sub/file; cat /sub/file; echo z >/sub/new; cat /vol/sub/new")
    inner = os.path.join(c.bundle, "inner")
    os.makedirs(os.path.join(inner, "sub"))
    c.conf["mounts"] += [{"destination": "/vol", "type": "bind", "source": inner, "options": ["bind"]},
                         in_root(c, "vol/sub", "/sub")]
    assert c.run().ok().out == "y\nz\n"


def test_source_in_the_root_cannot_leave_it(ctr, tmp):
    """A link in an earlier mount is followed inside the container's root, as every link in the root is."""
    with open(os.path.join(tmp, "secret"), "w") as f:
        f.write("host\n")
    c = ctr("cat", "/got")
    inner = os.path.join(c.bundle, "inner")
    os.makedirs(inner)
    os.symlink(os.path.join(tmp, "secret"), os.path.join(inner, "link"))
    c.conf["mounts"] += [{"destination": "/vol", "type": "bind", "source": inner, "options": ["bind"]},
                         in_root(c, "vol/link", "/got")]
    c.run().failed("mounts[8]: source: /vol/link does not exist in the root file system")


@pytest.mark.parametrize("type,key,value,field", [
    ("network", "net.ipv4.ip_default_ttl", "65", "linux.sysctl: net.ipv4.ip_default_ttl"),
    ("ipc", "kernel.shm_rmid_forced", "1", "linux.sysctl: kernel.shm_rmid_forced"),
    ("uts", None, None, "hostname"), ("uts", "kernel.domainname", "x", "linux.sysctl: kernel.domainname")])
def test_the_hosts_own_namespace_by_path(ctr, type, key, value, field):
    """A path to the host's own namespace is like no namespace of that type: settings that would change the host are
    refused (runc refuses the network's)."""
    c = ctr("true")
    config.namespaces(c.conf, paths={type: f"/proc/self/ns/{dict(network='net').get(type, type)}"})
    if key:
        del c.conf["hostname"]
        c.conf["linux"]["sysctl"] = {key: value}
    if type == "network":
        c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] not in ("sysfs", "cgroup")]
    # caisson runs in new namespaces, so that a failure of this test does not change the machine.
    c.rt.prefix = ["unshare", "--uts", "--ipc", "--net"]
    c.run().failed(f"the {type} namespace of the host, and {field} would change it")


def test_sysctl_in_a_joined_namespace(ctr):
    """sysctls may be set in a joined namespace of another container, as in a pod, because the path asks for that."""
    first = ctr.idle().up()
    second = ctr.sh("cat /proc/sys/net/ipv4/ip_default_ttl; hostname")
    config.namespaces(second.conf, paths={"network": f"/proc/{first.pid()}/ns/net", "uts": f"/proc/{first.pid()}/ns/uts"})
    second.conf["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "65"}
    second.conf["hostname"] = "pod"
    assert second.run().ok().out == "65\npod\n"


@pytest.mark.parametrize("how", ["create", "exec", "update"])
def test_unknown_members_however_deep(ctr, how):
    """An unknown member is accepted however deep it nests: "MUST NOT generate an error if they encounter an unknown
    property"."""
    deep = "[" * 5000 + '{"a": {"b": [1, "x", null, true]}}' + "]" * 5000
    if how == "create":
        c = ctr("echo", "fine").write()
        path = os.path.join(c.bundle, "config.json")
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text[:-1] + f', "com.example.deep": {deep}' + "}")
        assert c.rt("run", "--bundle", c.bundle, c.id).ok().out == "fine\n"
        return
    c = ctr.idle().up()
    if how == "exec":
        process = '{"x": %s, "args": ["echo", "fine"], "cwd": "/"}' % deep
        assert c.exec(opts=["--process", "-"], input=process).ok().out == "fine\n"
    else:
        c.rt("update", "--resources", "-", c.id, input='{"x": %s}' % deep).ok()


def test_misspelt_option_of_a_bind_mount(ctr, tmp):
    c = ctr("true")
    c.conf["mounts"].append({"destination": "/mnt", "type": "bind", "source": tmp, "options": ["rbind", "nosiud"]})
    c.run().failed("mounts[7].options: expected options that a bind mount can have", '"nosiud"')


def test_parameter_of_a_file_system_at_a_bind_mount(ctr, tmp):
    """A parameter of a file system, such as size=64m, is only a warning at a bind mount. Engines leave it in the list
    when they bind what was a tmpfs, and it protects nothing."""
    c = ctr("ls", "/mnt")
    c.conf["mounts"].append({"destination": "/mnt", "type": "bind", "source": tmp, "options": ["rbind", "size=64m", "x-mine", "nofail"]})
    r = c.run().ok()
    assert mode.VM or 'mounts[7].options: "size=64m" has no effect on a bind mount' in r.err and "x-mine" not in r.err, r


DEFAULTS = {"cpu": {"shares": 1024, "period": 100000, "quota": -1, "burst": 0, "idle": 0},
            "memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]},
            "unified": {"memory.high": "max", "memory.low": "0", "pids.max": "max", "cpu.weight": "100", "io.weight": "default 100"}}


@pytest.mark.parametrize("part", DEFAULTS)
def test_limit_that_is_the_kernels_default(ctr, part):
    """Limits that are the kernel's default need no controller. containerd always writes 1024 shares."""
    c = ctr("echo", "ran")
    c.conf["linux"]["resources"] = {part: DEFAULTS[part]}
    if part == "blockIO" and "io" in open(os.path.join(machine.cgroup2_mount(), "cgroup.controllers")).read().split():
        pytest.skip("the kernel looks for the disk 8:0 here")
    r = c.run().ok()
    assert r.out == "ran\n" and r.err == "", r


def test_exec_joins_the_containers_own_cgroup(ctr):
    """exec joins the container's own cgroup, as with runc and crun, wherever the first process has moved to."""
    c = ctr.sh("mkdir /sys/fs/cgroup/sub && echo $$ >/sys/fs/cgroup/sub/cgroup.procs && echo moved; sleep 1000")
    config.writable_cgroup(c.conf)
    c.up()
    c.wait_output("moved")
    assert c.exec("cat", "/proc/self/cgroup").ok().out.splitlines()[-1] == "0::/"


def test_cgroup_mount_without_a_cgroup_namespace(ctr):
    """A cgroup mount without "ro" is writable, as with runc and crun and as any mount is; in a user namespace it never
    is."""
    def options(c):
        return c.run().ok().out.split()[3].split(",")
    c = ctr("grep", " /sys/fs/cgroup ", "/proc/mounts")
    config.namespaces(c.conf, drop=["cgroup"])
    mount = [m for m in c.conf["mounts"] if m["type"] == "cgroup"][0]
    mount["options"] = ["nosuid"]
    assert "rw" in options(c)
    mount["options"] = ["nosuid", "rro"]
    assert "ro" in options(c)
    mount["options"] = ["nosuid"]
    config.namespaces(c.conf, "user")
    ids = [{"containerID": 0, "hostID": 0, "size": 65536}]
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = ids
    assert "ro" in options(c)


def test_hooks_have_the_callers_umask(ctr):
    """Hooks have the caller's umask, even createContainer hooks, which INIT runs."""
    c = ctr("true")
    names = ["prestart", "createRuntime", "createContainer", "poststop"]
    c.conf["hooks"] = {n: [{"path": "/bin/sh", "args": ["sh", "-c", f"umask >>{c.bundle}/umasks; touch {c.bundle}/{n}"]}] for n in names}
    c.rt.prefix = ["sh", "-c", 'umask 027; exec "$@"', "sh", *c.rt.prefix]
    c.run().ok()
    with open(os.path.join(c.bundle, "umasks")) as f:
        assert f.read().split() == ["0027"] * 4
    assert {os.stat(os.path.join(c.bundle, n)).st_mode & 0o777 for n in names} == {0o640}


def test_tmpcopyup_keeps_holes(ctr):
    c = ctr.sh("stat -c '%s %b' /data/*; head -c 3 /data/begin-end; tail -c 3 /data/begin-end")
    os.makedirs(c.path("data"))
    for name, data in (("all-hole", []), ("begin-end", [(0, b"abc"), (64 << 20, b"xyz")]), ("plain", [(0, b"q" * 5000)])):
        with open(c.path("data", name), "wb") as f:
            for at, text in data:
                f.seek(at)
                f.write(text)
            f.truncate(64 << 20 if not data else None)
    c.conf["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]})
    *stats, last = c.run().ok().out.splitlines()
    assert [s.split()[0] for s in stats] == [str(64 << 20), str((64 << 20) + 3), "5000"]
    assert int(stats[0].split()[1]) == 0 and int(stats[1].split()[1]) <= 64
    assert last == "abcxyz"


def test_no_profile_without_apparmor(ctr):
    """The profile "unconfined" is accepted without AppArmor, because the container is unconfined anyway."""
    ctr("true", apparmorProfile="unconfined").run().ok()


@pytest.mark.parametrize("change,message", [
    # config.md: "If set, timeout MUST be greater than zero"; runc kills such a hook at once, crun takes it for no limit.
    (lambda c: c.update(hooks={"poststop": [{"path": "/bin/true", "timeout": 0}]}), "hooks.poststop[0].timeout: expected a number from 1"),
    # The kernel refuses this with EINVAL, whatever the runtime.
    (lambda c: c["linux"].update(resources={"cpu": {"quota": 1000, "burst": 1001}}), "cpu.burst: expected at most the quota, 1000, found 1001"),
    # runc refuses this too, because a tmpfs of the container is shared with nobody.
    (lambda c: c["mounts"].append({"destination": "/t", "type": "tmpfs", "options": ["idmap"]}), "mounts[7]: options: \"idmap\" is for bind mounts"),
    (lambda c: c["mounts"].append({"destination": "/", "type": "tmpfs"}), "mounts[7]: destination: / is the root itself"),
    # runc and crun make the mounts of such a container in the host's mount namespace, where they stay.
    (lambda c: config.namespaces(c, drop=["mount"]), "linux.namespaces: there is no mount namespace"),
])
def test_refused_by_decision(ctr, change, message):
    c = ctr("true")
    change(c.conf)
    c.run().failed(message)


@pytest.mark.parametrize("users", ["the-hosts-users", "users-of-its-own"])
def test_private_time_namespace(ctr, users):
    """A container can have a time namespace of its own. docker 29.5 asks for one in every config.json, and has one beside
    the user namespace with --userns-remap."""
    c = ctr.sh("readlink /proc/self/ns/time; cat /proc/self/timens_offsets; id -u; sleep 1000")
    config.namespaces(c.conf, "time")
    if users == "users-of-its-own":
        config.namespaces(c.conf, "user")
        c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c.up()
    c.wait_output("\n0\n")
    out = c.output().split()
    assert out[0].startswith("time:") and (mode.VM or out[0] != os.readlink("/proc/self/ns/time"))
    assert out[1:-1] == ["monotonic", "0", "0", "boottime", "0", "0"] and out[-1] == "0", out
    assert c.exec("readlink", "/proc/self/ns/time").ok().out.strip() == out[0]


def test_state_for_hooks_is_one_line(ctr):
    c = ctr("true")
    c.conf["annotations"] = {"a/b": "c/d"}
    c.conf["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >{c.bundle}/state"]}]}
    c.run().ok()
    with open(os.path.join(c.bundle, "state")) as f:
        text = f.read()
    assert text.count("\n") == 0 and "\\/" not in text and json.loads(text)["annotations"] == {"a/b": "c/d"}


def test_pidfd_receiver(ctr, tmp):
    """crun's annotation for a pidfd receiver works like --pidfd-socket."""
    c = ctr("true")
    path = os.path.join(tmp, "pidfd")
    c.conf["annotations"] = {"run.oci.pidfd_receiver": path}
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen()
        s.settimeout(10 * mode.SCALE)
        c.create()
        with s.accept()[0] as conn:
            _, fds, _, _ = socket.recv_fds(conn, 64, 1)
    with open(f"/proc/self/fdinfo/{fds[0]}") as f:
        assert f"\nPid:\t{c.pid()}\n" in f.read()
    os.close(fds[0])


def test_user_namespace_that_maps_every_id(ctr):
    """A container runs in a user namespace that maps every id, as systemd 260 gives to services. Root there can make
    no device nodes, so they are bound."""
    c = ctr("true").write()
    assert "open-source        /dev/null" not in c.rt("plan", "--bundle", c.bundle).ok().out
    holder = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/user") != os.readlink("/proc/self/ns/user"), "namespace")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{holder.pid}/{name}", "w") as f:
                f.write("0 0 4294967295")
        c.rt.prefix = ["nsenter", "--user", "-t", str(holder.pid)]
        assert "open-source        /dev/null" in c.rt("plan", "--bundle", c.bundle).ok().out
    finally:
        holder.kill()
        holder.wait()


def test_pidfd_receiver_that_is_not_there(ctr, tmp):
    c = ctr("true")
    c.conf["annotations"] = {"run.oci.pidfd_receiver": os.path.join(tmp, "none")}
    c.run().failed("annotation run.oci.pidfd_receiver", "no such socket")
