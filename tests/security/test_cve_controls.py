# SPDX-License-Identifier: Apache-2.0
"""Tests the defences that commands themselves have against published attacks, each with a control that shows that the
same thing works where it should. tests/cli/test_cve.py tries the attacks as a whole; README.md in this directory has
the table.
"""
import os

import pytest
from harness import config, machine
from harness.runtime import status_of

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]


# ---- CVE-2024-21626: descriptors that leaked into the runtime ----

LEAK = ["bash", "-c", 'exec 7</ 8</sys/fs/cgroup 9<>/dev/null 20</etc/passwd; exec "$@"', "sh"]


def fds(r):
    return [l.split()[0] for l in r.ok().out.splitlines()]


def test_leaked_descriptors_stay_outside_of_run(ctr, rt):
    rt.prefix = LEAK
    assert fds(ctr("probe", "fds").run()) == ["0", "1", "2"]


def test_leaked_descriptors_stay_outside_of_create(ctr, rt):
    c = ctr.sh("probe fds > /tmp/fds; sleep 100")
    rt.prefix = LEAK
    c.create()
    rt.prefix = []
    c.start()
    from harness.runtime import wait_for
    wait_for(lambda: os.path.exists(c.path("/tmp/fds")) and open(c.path("/tmp/fds")).read().count("\n") >= 3, "list of descriptors")
    assert [l.split()[0] for l in open(c.path("/tmp/fds"))] == ["0", "1", "2"]


def test_leaked_descriptors_stay_outside_of_exec(ctr, rt):
    c = ctr.idle().up()
    rt.prefix = LEAK
    assert fds(c.exec("probe", "fds")) == ["0", "1", "2"]


def test_leaked_descriptors_stay_outside_of_hooks(ctr, rt):
    c = ctr("true")
    c.conf["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "probe fds > /tmp/fds"], "env": ["PATH=/bin"]}]}
    rt.prefix = LEAK
    c.run().ok()
    # The hook has its standard streams and no descriptor of the host's.
    with open(c.path("/tmp/fds")) as f:
        assert {l.split()[0] for l in f} <= {"0", "1", "2"}


def test_control_preserved_descriptors_do_get_in(ctr, rt):
    """The test above would also pass if the probe saw no descriptor at all."""
    rt.prefix = ["bash", "-c", 'exec 3</etc/passwd 4</etc/group; exec "$@"', "sh"]
    assert fds(ctr("probe", "fds").run("--preserve-fds", "2")) == ["0", "1", "2", "3", "4"]


# ---- CVE-2022-27650, 2022-29162, 2025-27612: inheritable capabilities ----

@pytest.mark.parametrize("user", [[], ["--user", "1000"]])
def test_exec_with_more_capabilities_inherits_none(ctr, user):
    c = ctr.idle().up()
    s = status_of(c.exec("probe", "info", opts=["--cap", "CAP_NET_RAW", *user]).ok().out)
    assert int(s["CapInh"], 16) == 0 and int(s["CapAmb"], 16) == 0, s
    # This control shows that the capability was granted at all.
    assert int(s["CapBnd"], 16) & config.cap_mask(["CAP_NET_RAW"]), s


def test_control_inheritable_capabilities_are_seen(ctr):
    c = ctr("probe", "info")
    for k in ("inheritable", "ambient"):
        c.conf["process"]["capabilities"][k] = ["CAP_KILL"]
    s = status_of(c.run().ok().out)
    assert int(s["CapInh"], 16) == config.cap_mask(["CAP_KILL"]) == int(s["CapAmb"], 16)


# ---- CVE-2026-30892: numbers of exec --user ----

@pytest.mark.parametrize("user", ["1x", "0x1", " 1", "1 ", "+1", "-1", ":", ":1", "1:", "1:x", "4294967295", "4294967296",
                                  "4294967297", "18446744073709551617", "1:4294967296", "1:4294967295", "1.0", "root", "user"])
def test_exec_refuses_what_is_no_user_number(ctr, user):
    """exec refuses a user that is no number. A number that is cut off, or read up to its first letter, would become
    another user: 0."""
    c = ctr.idle().up()
    r = c.exec("id", "-u", opts=["--user", user])
    assert r.rc != 0 and "--user" in r.err and not r.out, r


@pytest.mark.parametrize("user,want", [("1", "1 0"), ("1:2", "1 2"), ("0:5", "0 5"), ("4294967294", "4294967294 0")])
def test_control_exec_takes_user_numbers(ctr, user, want):
    c = ctr.idle().up()
    assert c.exec("sh", "-c", "echo $(id -u) $(id -g)", opts=["--user", user]).ok().out.strip() == want


@pytest.mark.parametrize("gid", ["4294967296", "x", "-1"])
def test_exec_refuses_what_is_no_group_number(ctr, gid):
    c = ctr.idle().up()
    r = c.exec("id", "-G", opts=["--additional-gids", gid])
    assert r.rc != 0 and "--additional-gids" in r.err, r


# ---- CVE-2023-25809: the host's cgroups in a user namespace ----

@pytest.mark.parametrize("options", [["rw"], ["nosuid"], ["rw", "nosuid", "noexec", "nodev"]])
def test_cgroups_of_the_host_are_read_only_in_a_user_namespace(ctr, options):
    c = ctr.sh("mkdir /sys/fs/cgroup/caisson-escape && rmdir /sys/fs/cgroup/caisson-escape && echo WRITTEN; grep ' /sys/fs/cgroup ' /proc/mounts")
    config.namespaces(c.conf, "user", drop=("cgroup",))
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = MAP
    for m in c.conf["mounts"]:
        if m["type"] == "cgroup":
            m["options"] = options
    os.chmod(c.bundle, 0o755)
    r = c.run()
    if r.rc == 0 or r.out:
        assert "WRITTEN" not in r.out, r
        assert [l for l in r.out.splitlines() if " /sys/fs/cgroup " in l and l.split()[3].split(",")[0] == "ro"], r


# ---- CVE-2025-52881: the host's procfs, with something mounted over a part of it ----

@pytest.fixture
def over_proc():
    """A function that mounts something on /proc in this suite's own mount namespace; the mounts are removed
    afterwards."""
    made = []

    def mount(source, target):
        machine.mount(source, target, flags=4096)
        made.append(target)
    yield mount
    for target in reversed(made):
        machine.umount(target)


def test_a_mount_over_the_hosts_proc_is_not_written(ctr, tmp, over_proc):
    fake = os.path.join(tmp, "fake")
    with open(fake, "w") as f:
        f.write("untouched\n")
    over_proc(fake, "/proc/sys/kernel/shmmax")
    c = ctr.sh("cat /proc/sys/kernel/shmmax")
    c.conf["linux"]["sysctl"] = {"kernel.shmmax": "123456"}
    r = c.run()
    with open(fake) as f:
        assert f.read() == "untouched\n", "the value was written into what is mounted over /proc"
    assert r.rc != 0 and "sysctl" in r.err or r.out == "123456\n", r


def test_control_sysctls_are_written_without_the_mount(ctr):
    c = ctr.sh("cat /proc/sys/kernel/shmmax")
    c.conf["linux"]["sysctl"] = {"kernel.shmmax": "123456"}
    assert c.run().ok().out == "123456\n"


def test_a_proc_that_is_none_is_refused(ctr, rt, tmp):
    """caisson refuses to work if the host's /proc is not a procfs, because everything that it reads or writes there
    would be forged."""
    fake = os.path.join(tmp, "proc")
    os.mkdir(fake)
    rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc; exec "$@"', fake]
    r = ctr("true").run()
    rt.prefix = []
    assert r.rc != 0 and "proc" in r.err, r
    assert os.listdir(fake) == []


# ---- CVE-2025-31133: the host's /dev/null is something else ----

def test_masked_paths_need_a_real_null_device(ctr, rt, tmp):
    fake = os.path.join(tmp, "null")
    with open(fake, "w") as f:
        f.write("forged")
    c = ctr("cat", "/etc/hidden")
    with open(c.path("/etc/hidden"), "w") as f:
        f.write("secret")
    c.conf["linux"]["maskedPaths"].append("/etc/hidden")
    rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /dev/null; exec "$@"', fake]
    r = c.run()
    rt.prefix = []
    r.failed("maskedPaths", "1:3")
    assert "forged" not in r.out and "secret" not in r.out


def test_the_mask_cannot_change_the_hosts_null(ctr, rt, tmp):
    """A container cannot change mode and owner of the device that masks its paths, because it is the host's."""
    null = os.path.join(tmp, "null")  # replaces the machine's own /dev/null, which a broken runtime would change
    os.mknod(null, 0o20666, os.makedev(1, 3))
    os.chmod(null, 0o666)
    c = ctr.sh("chmod 600 /etc/hidden; chown 1:1 /etc/hidden")
    with open(c.path("/etc/hidden"), "w"):
        pass
    c.conf["linux"]["maskedPaths"].append("/etc/hidden")
    config.all_caps(c.conf)
    rt.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /dev/null; exec "$@"', null]
    r = c.run()
    rt.prefix = []
    after = os.stat(null)
    assert (after.st_mode, after.st_uid) == (0o20666, 0), "the host's /dev/null was changed"
    assert r.err.count("Read-only file system") == 2, r


# ---- CVE-2021-43784: lengths that overflow ----

def test_long_values_arrive_whole_or_are_refused(ctr):
    """Long values are not cut at 16 bits: the program gets the whole value, or the container is refused."""
    value = "x" * 70000
    c = ctr.sh("echo ${#LONG}", env=["PATH=/bin", f"LONG={value}"])
    assert c.run().ok().out == "70000\n"


# ---- CVE-2025-24965: no file is written into a root file system by the runtime itself ----

def test_the_runtime_makes_no_file_of_its_own_in_the_root(ctr):
    c = ctr("true")
    names = lambda: {os.path.join(d, n) for d, dirs, files in os.walk(c.rootfs) for n in dirs + files}
    before = names()
    c.run().ok()
    made = {os.path.relpath(n, c.rootfs) for n in names() - before}
    assert made <= {"proc", "dev", "sys", "dev/pts", "dev/shm", "dev/mqueue", "sys/fs", "sys/fs/cgroup"}, made
