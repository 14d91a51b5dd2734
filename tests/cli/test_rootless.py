# SPDX-License-Identifier: Apache-2.0
"""Tests caisson as an ordinary user: with /etc/subuid ranges (newuidmap) and without."""
import json
import os
import pwd
import shutil
import subprocess

import pytest
from harness import machine, runtime, user as ordinary
from harness.runtime import status_of
from harness.user import UID


@pytest.fixture(scope="session")
def accounts(work):
    return ordinary.make_accounts(work)


@pytest.fixture(params=["subids", "no-subids"])
def subids(request):
    return request.param == "subids"


@pytest.fixture
def user(accounts, subids, binary, template, tmp, clean_machine):
    """A runtime run by the user, and a factory for it."""
    mounted = ordinary.mount_accounts(accounts, subids)
    home = os.path.join(tmp, "home")
    run = os.path.join(tmp, "run")
    for d in (home, run):
        os.mkdir(d, 0o700)
        os.chown(d, UID, UID)
    exe = os.path.join(tmp, "caisson")  # where the user can execute it, whatever the modes of the build directory
    shutil.copy(binary, exe)
    os.chmod(exe, 0o755)
    rt = runtime.Runtime(exe, os.path.join(run, "caisson"))
    rt.prefix = ordinary.prefix(run, home)
    f = runtime.Factory(rt, template, home)
    yield f
    f.clean()
    for real in reversed(mounted):
        machine.umount(real)


def prepare(c, subids):
    """Gives the bundle to the user, and puts the mappings that the user may make in config.json."""
    ns = [n for n in c.conf["linux"]["namespaces"] if n["type"] not in ("network", "cgroup")]
    c.conf["linux"]["namespaces"] = ns
    c.conf["mounts"] = [x for x in c.conf["mounts"] if x["type"] not in ("sysfs", "cgroup")]
    ordinary.map_ids(c.conf, subids)
    c.write()
    ordinary.own(c.bundle)
    open(c.log, "w").close()
    os.chmod(c.log, 0o666)
    return c


def test_run(user, subids):
    c = prepare(user.sh("id -u; id -g; cat /proc/self/uid_map"), subids)
    r = c.run().ok()
    uid, gid, *maps = r.out.splitlines()
    assert (uid, gid) == ("0", "0") and len(maps) == (2 if subids else 1)


def test_life_cycle_and_exec(user, subids):
    c = prepare(user.idle(), subids)
    c.up()
    assert c.status() == "running"
    with open(f"/proc/{c.pid()}/status") as f:
        assert status_of(f.read())["Uid"].split()[0] == str(UID)
    r = c.exec("sh", "-c", "id -u; exit 7")
    assert (r.rc, r.out) == (7, "0\n"), r
    c.kill("TERM")
    c.wait()
    c.delete()


def test_other_user_in_the_container(user, subids):
    c = prepare(user("probe", "info", user={"uid": 1000, "gid": 1000}), subids)
    r = c.run()
    if subids:
        assert status_of(r.ok().out)["Uid"].split()[0] == "1000"
    else:
        r.failed("1000")


def test_spec_rootless_runs(user, subids):
    c = user("true")
    r = c.rt("spec", "--rootless", "--bundle", "/dev/null")
    os.chown(c.bundle, UID, UID)
    c.rt("spec", "--rootless", "--bundle", c.bundle).ok()
    path = os.path.join(c.bundle, "config.json")
    with open(path) as f:
        j = json.load(f)
    j["process"].update(terminal=False, args=["echo", "rootless"])
    with open(path, "w") as f:
        json.dump(j, f)
    ordinary.own(c.bundle)
    r = c.rt("run", "--bundle", c.bundle, c.id)
    assert r.rc == 0 and r.out == "rootless\n", r


def test_ranges_that_are_not_the_users(user, subids):
    c = prepare(user("true"), subids)
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 500000, "size": 65536}]
    r = c.run()
    assert r.rc != 0 and "map" in r.err.lower(), r


def test_without_user_namespace_is_refused_clearly(user, subids):
    c = user("true")
    prepare(c, subids)
    c.conf["linux"]["namespaces"] = [n for n in c.conf["linux"]["namespaces"] if n["type"] != "user"]
    del c.conf["linux"]["uidMappings"], c.conf["linux"]["gidMappings"]
    c.run().failed("user")


def test_limit_it_cannot_set_is_an_error(user, subids):
    c = prepare(user("true"), subids)
    c.conf["linux"]["resources"] = {"pids": {"limit": 10}}
    r = c.run()
    assert r.rc != 0 and ("cgroup" in r.err or "pids" in r.err), r


def test_default_state_directory_is_the_users(user, subids):
    """Without --root the state is beneath XDG_RUNTIME_DIR and not in /run."""
    c = prepare(user("echo", "ok"), subids)
    argv = [*c.rt.prefix, c.rt.binary, "run", "--bundle", c.bundle, c.id]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0 and r.stdout == "ok\n", r


TMP_STATE = f"/tmp/caisson-{UID}"


def without_runtime_dir(c, *args):
    """Runs a command as the user, without XDG_RUNTIME_DIR and without --root."""
    prefix = [w for w in c.rt.prefix if not w.startswith("XDG_RUNTIME_DIR=")]
    return subprocess.run([*prefix, "env", "-u", "XDG_RUNTIME_DIR", c.rt.binary, *args],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)


@pytest.fixture
def tmp_state():
    yield TMP_STATE
    if os.path.islink(TMP_STATE):
        os.unlink(TMP_STATE)
    shutil.rmtree(TMP_STATE, ignore_errors=True)


def test_state_directory_in_tmp(user, subids, tmp_state):
    """Without XDG_RUNTIME_DIR the state directory is made in /tmp, for this user only, and used again."""
    c = prepare(user("echo", "ok"), subids)
    for _ in range(2):
        r = without_runtime_dir(c, "run", "--bundle", c.bundle, c.id)
        assert r.returncode == 0 and r.stdout == "ok\n", r
        st = os.stat(tmp_state)
        assert (st.st_uid, st.st_mode & 0o7777) == (UID, 0o700)


@pytest.mark.parametrize("made", ["by another user", "by root", "0755", "0770", "link", "file"])
def test_state_directory_in_tmp_that_another_could_change(user, subids, tmp_state, tmp, made):
    c = prepare(user("echo", "ok"), subids)
    if made == "link":
        os.mkdir(tmp + "/elsewhere", 0o700)
        os.chown(tmp + "/elsewhere", UID, UID)
        os.symlink(tmp + "/elsewhere", tmp_state)
    elif made == "file":
        open(tmp_state, "w").close()
    else:
        os.mkdir(tmp_state)
        owner = {"by another user": UID + 1, "by root": 0}.get(made, UID)
        os.chown(tmp_state, owner, UID)
        os.chmod(tmp_state, int(made, 8) if made.isdigit() else 0o700)
    try:
        for command in (["run", "--bundle", c.bundle, c.id], ["list"], ["state", c.id], ["delete", "--force", c.id]):
            r = without_runtime_dir(c, *command)
            assert r.returncode != 0 and r.stdout == "" and len(r.stderr.splitlines()) == 1, r
            assert tmp_state in r.stderr and "XDG_RUNTIME_DIR" in r.stderr, r
    finally:
        if made == "file":
            os.unlink(tmp_state)


def test_root_refuses_the_users_state_directory(user, subids, tmp):
    """root refuses the user's state directory, because whoever can write to it can have hooks run as the user of it."""
    c = prepare(user("echo", "ok"), subids)
    state = os.path.join(tmp, "shared")
    os.mkdir(state)
    for owner, mode in ((UID, 0o700), (0, 0o777), (0, 0o1777)):
        os.chown(state, owner, UID)
        os.chmod(state, mode)
        r = subprocess.run([c.rt.binary, "--root", state, "list"], capture_output=True, text=True, timeout=30)
        assert r.returncode != 0 and state in r.stderr, r
        # An ordinary user accepts a directory of root's that anyone can read, but not one that anyone can write to.
        r = subprocess.run([*c.rt.prefix, c.rt.binary, "--root", state, "list"], capture_output=True, text=True, timeout=30)
        assert (r.returncode == 0) == (owner == UID), r
    os.chown(state, 0, 0)
    os.chmod(state, 0o755)
    r = subprocess.run([*c.rt.prefix, c.rt.binary, "--root", state, "list"], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r


def test_cgroup_tree_cannot_be_written(user, subids):
    """The container cannot write to /sys/fs/cgroup if it shares the host's cgroup namespace (CVE-2023-25809)."""
    c = user.sh("mkdir /sys/fs/cgroup/x; echo 1 > /sys/fs/cgroup/cgroup.procs; true")
    prepare(c, subids)
    c.conf["mounts"] += [{"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]},
                         {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                          "options": ["nosuid", "noexec", "nodev", "ro"]}]
    r = c.run()
    if r.rc == 0:
        assert r.err.count("Read-only file system") + r.err.count("Permission denied") >= 2, r


def test_namespaces_of_the_host(user, subids):
    """A container with the host's namespaces works: the user who writes the id maps sees the new process, although
    other processes are hidden."""
    c = prepare(user("id", "-u"), subids)
    c.conf["linux"]["namespaces"] = [n for n in c.conf["linux"]["namespaces"] if n["type"] != "pid"]
    c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] != "proc"]
    c.conf["linux"]["maskedPaths"] = c.conf["linux"]["readonlyPaths"] = []
    assert c.run().ok().out == "0\n"


@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_binary_of_the_users_own_is_protected(user, subids, mode):
    """The runtime's binary is protected even if it belongs to the user: the container's root owns it and could change
    a mode that forbids writing (CVE-2019-5736)."""
    exe = user.rt.binary
    os.chown(exe, UID, UID)
    os.chmod(exe, mode)
    c = prepare(user("true"), subids)
    c.create()
    st = os.stat(f"/proc/{c.pid()}/exe")
    assert (st.st_dev, st.st_ino) != (os.stat(exe).st_dev, os.stat(exe).st_ino)
    c.delete("--force")


def test_exec_with_an_oom_score(user, subids):
    """exec can raise the oom score, which anybody may. While the process enters, its files in /proc belong to nobody.
    """
    c = prepare(user.idle(), subids)
    c.create()
    c.start()
    p = dict(c.conf["process"], args=["cat", "/proc/self/oom_score_adj"], oomScoreAdj=900,
             rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}])
    f = os.path.join(c.bundle, "process.json")
    with open(f, "w") as out:
        json.dump(p, out)
    os.chmod(f, 0o644)
    assert c.exec(opts=["--process", f]).ok().out == "900\n"
    c.stop()


def test_map_helpers_inherit_nothing(user, subids, tmp):
    """newuidmap is set-uid root, so it must get neither the runtime's blocked signals nor the container's descriptors."""
    if not subids:
        return  # without ranges no helper takes part, see test_run
    d = os.path.join(tmp, "bin")
    os.mkdir(d, 0o755)
    seen = os.path.join(tmp, "home", "seen")
    helper = os.path.join(d, "newuidmap")
    with open(helper, "w") as f:
        f.write(f'#!/bin/sh\n(ls /proc/$$/fd; grep SigBlk /proc/$$/status) > {seen}\nexec {shutil.which("newuidmap")} "$@"\n')
    os.chmod(helper, 0o755)
    user.rt.prefix = user.rt.prefix + [f"PATH={d}:/usr/bin:/bin:/usr/sbin:/sbin"]
    c = prepare(user("true"), subids)
    user.rt.prefix = ["sh", "-c", 'exec "$@" 3</dev/null', "sh"] + user.rt.prefix
    c.run("--preserve-fds", "1").ok()
    with open(seen) as f:
        *fds, blocked = f.read().splitlines()
    assert set(fds) <= {"0", "1", "2", "10"}, "10 is what dash keeps its script in"
    assert int(blocked.split()[1], 16) == 0


def test_devices_are_bound(user, subids):
    """An ordinary user can make no device nodes: what is lost is said, and what is not on the host is refused."""
    c = prepare(user("stat", "-c", "%t:%T", "/dev/full"), subids)
    c.conf["linux"]["devices"] = [{"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600}]
    c.write()
    r = c.run().ok()
    assert r.out == "1:7\n"
    assert "linux.devices[0]: /dev/full is bound from the host" in r.err and "mode 0666" in r.err, r


def test_device_that_the_host_lacks(user, subids):
    c = prepare(user("true"), subids)
    c.conf["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5}]
    c.write()
    c.run().failed("linux.devices[0]: path: /dev/mine does not exist on the host", "run it as root")
