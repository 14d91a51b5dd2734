# SPDX-License-Identifier: Apache-2.0
"""Tests config.json's `process`, by what the program can see of itself."""
import json
import os
import socket
import struct
import subprocess
import threading

import pytest
from harness import config, mode, user
from harness.runtime import status_of

ALL = config.all_caps({"process": {}})["process"]["capabilities"]["bounding"]
SETS = {"bounding": "CapBnd", "effective": "CapEff", "permitted": "CapPrm", "inheritable": "CapInh", "ambient": "CapAmb"}


def info(ctr, **process):
    return status_of(ctr("probe", "info", **process).run().ok().out)


def test_args_with_everything_in_them(ctr):
    args = ["printf", "[%s]", "", "two words", "üñí", "a\nb", "$HOME", "-x"]
    assert ctr(*args).run().ok().out == "[][two words][üñí][a\nb][$HOME][-x]"


def test_env(ctr):
    s = ctr("env", env=["PATH=/bin", "A=1", "B=x=y", "EMPTY="]).run().ok().out.splitlines()
    assert {"PATH=/bin", "A=1", "B=x=y", "EMPTY="} <= set(s)
    # As with runc, HOME comes from the container's passwd file. Nothing else of the host's environment is added.
    assert {l.split("=")[0] for l in s} <= {"PATH", "A", "B", "EMPTY", "HOME"}


def test_home_comes_from_passwd(ctr):
    assert "HOME=/root" in ctr("env").run().ok().out.splitlines()
    assert "HOME=/home/user" in ctr("env", user={"uid": 1000, "gid": 1000}).run().ok().out.splitlines()
    env = ["PATH=/bin", "HOME=/given"]
    assert "HOME=/given" in ctr("env", env=env).run().ok().out.splitlines()


def test_path_of_the_container_finds_the_program(ctr):
    c = ctr("hello", env=["PATH=/opt/bin:/bin"])
    os.makedirs(c.path("/opt/bin"))
    with open(c.path("/opt/bin/hello"), "w") as f:
        f.write("#!/bin/sh\necho found\n")
    os.chmod(c.path("/opt/bin/hello"), 0o755)
    assert c.run().ok().out == "found\n"


def test_cwd(ctr):
    assert ctr("pwd", cwd="/tmp").run().ok().out == "/tmp\n"


def test_cwd_is_made(ctr):
    """runc and crun make a missing working directory; images rely on it (WORKDIR)."""
    assert ctr("pwd", cwd="/new/dir").run().ok().out == "/new/dir\n"


def test_cwd_only_the_user_can_enter(ctr):
    c = ctr("pwd", cwd="/secret", user={"uid": 1000, "gid": 1000})
    os.mkdir(c.path("/secret"), 0o700)
    os.chown(c.path("/secret"), 1000, 1000)
    assert c.run().ok().out == "/secret\n"


def test_cwd_not_a_directory(ctr):
    ctr("pwd", cwd="/etc/passwd").run().failed("cwd")


def test_user_and_groups(ctr):
    large = 60000 if user.ALL else 4000000  # an ordinary user has 65537 ids
    s = info(ctr, user={"uid": 1000, "gid": 100, "additionalGids": [5, 29, large]})
    assert s["Uid"].split() == ["1000"] * 4
    assert s["Gid"].split() == ["100"] * 4
    assert set(s["Groups"].split()) - {"100"} == {"5", "29", str(large)}


def test_user_is_root_where_not_given(ctr):
    s = info(ctr, user={})
    assert s["Uid"].split() == ["0"] * 4 and s["Gid"].split() == ["0"] * 4


def test_groups_of_the_caller_are_kept(ctr, rt):
    """podman's --group-add keep-groups sets this annotation."""
    c = ctr.idle()
    c.conf["annotations"] = {"run.oci.keep_original_groups": "1"}
    rt.prefix = ["setpriv", "--groups", "7,8,9"]
    c.up()
    s = status_of(c.exec("probe", "info").ok().out)
    assert set(s["Groups"].split()) == {"7", "8", "9"}
    assert "Groups:\t7 8 9" in c.exec("cat", "/proc/1/status").ok().out


def test_no_groups_of_the_caller(ctr, rt):
    c = ctr("probe", "info").write()
    rt.prefix = ["setpriv", "--groups", "7,8,9"]
    assert set(status_of(c.run().ok().out)["Groups"].split()) <= {"0"}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0, 0o777])
def test_umask(ctr, umask):
    assert int(info(ctr, user={"uid": 0, "gid": 0, "umask": umask})["Umask"], 8) == umask


def test_default_umask_is_022(ctr, rt):
    c = ctr("probe", "info").write()
    rt.prefix = ["sh", "-c", 'umask 077; exec "$@"', "sh", *rt.prefix]
    assert int(status_of(c.run().ok().out)["Umask"], 8) == 0o022


@pytest.mark.parametrize("which", SETS)
def test_each_capability_set(ctr, which):
    """Each set holds what was asked for, limited only by the kernel's rules."""
    want = {"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]}
    # The user is not root, because exec(2) gives root the whole bounding set.
    s = info(ctr, user={"uid": 1000, "gid": 1000}, capabilities=want)
    mask = int(s[SETS[which]], 16)
    if which in ("permitted", "effective"):
        # After exec(2) a program without file capabilities has its ambient set.
        assert mask == config.cap_mask(want["ambient"])
    else:
        assert mask == config.cap_mask(want[which])


def test_capabilities_of_root(ctr):
    want = ["CAP_KILL", "CAP_CHOWN"]
    s = info(ctr, capabilities={"bounding": want, "permitted": want, "effective": want})
    assert {s[k] for k in ("CapBnd", "CapPrm", "CapEff")} == {f"{config.cap_mask(want):016x}"}
    assert int(s["CapInh"], 16) == int(s["CapAmb"], 16) == 0


def test_no_capabilities(ctr):
    for caps in ({}, {"bounding": [], "effective": []}):
        s = info(ctr, capabilities=caps)
        assert all(int(s[k], 16) == 0 for k in SETS.values()), s
    c = ctr("probe", "info")
    del c.conf["process"]["capabilities"]
    s = status_of(c.run().ok().out)
    assert int(s["CapEff"], 16) == int(s["CapAmb"], 16) == 0


def test_unknown_capability(ctr):
    """config.md: what can't be mapped to a kernel interface MUST be logged as a warning, and SHOULD NOT fail."""
    r = ctr("true", capabilities={"bounding": ["CAP_MADE_UP"]}).run().ok()
    assert "CAP_MADE_UP" in r.err and "process.capabilities.bounding[0]" in r.err, r


def test_capability_that_the_caller_does_not_have(ctr, rt):
    """
    Root of the build machine lacks CAP_SYS_RESOURCE. Engines ask for it (--privileged), and the container goes
    without.
    """
    s = info(ctr, capabilities={"bounding": ALL, "permitted": ALL, "effective": ALL})
    with open("/proc/self/status") as f:
        mine = status_of(f.read())["CapBnd"]
    # The guest's root has all capabilities, whatever this machine's root has.
    assert s["CapBnd"] == (f"{config.cap_mask(ALL):016x}" if mode.VM else mine)


def test_no_new_privileges(ctr):
    assert info(ctr, noNewPrivileges=True)["NoNewPrivs"] == "1"
    assert info(ctr, noNewPrivileges=False)["NoNewPrivs"] == "0"


def test_rlimits(ctr):
    s = info(ctr, rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                           {"type": "RLIMIT_FSIZE", "soft": 1 << 40, "hard": 1 << 41},
                           {"type": "RLIMIT_AS", "soft": 2**64 - 1, "hard": 2**64 - 1}])
    assert s["RLIMIT_NOFILE"] == "100 200" and s["RLIMIT_CORE"] == "0 0"
    assert s["RLIMIT_FSIZE"] == f"{1 << 40} {1 << 41}"
    assert s["RLIMIT_AS"] == f"{2**64 - 1} {2**64 - 1}"


def test_rlimit_that_the_kernel_refuses(ctr):
    # The limit is above fs.nr_open, which even CAP_SYS_RESOURCE may not exceed.
    r = ctr("true", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 2**31, "hard": 2**31}]).run()
    r.failed("RLIMIT_NOFILE")


def test_rlimit_twice(ctr):
    l = {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    ctr("true", rlimits=[l, l]).run().failed("RLIMIT_CORE")


def test_oom_score_adj(ctr):
    assert info(ctr, oomScoreAdj=500)["OomScoreAdj"] == "500"


def test_oom_score_adj_unset_is_the_callers(ctr):
    with open("/proc/self/oom_score_adj") as f:
        assert info(ctr)["OomScoreAdj"] == f.read().strip()


@pytest.mark.parametrize("sched,want", [
    ({"policy": "SCHED_BATCH", "nice": 5}, "3 0 5 0 "),
    ({"policy": "SCHED_OTHER", "nice": 7}, "0 0 7 0 "),
    ({"policy": "SCHED_IDLE"}, f"5 0 {os.nice(0)} 0 "),  # the kernel leaves the caller's nice value
    ({"policy": "SCHED_FIFO", "priority": 10}, "1 0 0 10 "),
    ({"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "2 1 0 3 "),
])
def test_scheduler(ctr, sched, want):
    assert info(ctr, scheduler=sched)["Sched"].startswith(want)


def test_scheduler_deadline(ctr):
    s = info(ctr, scheduler={"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 20000000, "period": 30000000})
    assert s["Sched"].split()[0] == "6" and s["Sched"].split()[-3:] == ["1000000", "20000000", "30000000"]


def test_scheduler_bad(ctr):
    ctr("true", scheduler={"policy": "SCHED_MADE_UP"}).run().failed("scheduler.policy")


@pytest.mark.parametrize("cls,prio,want", [("IOPRIO_CLASS_BE", 4, (2 << 13) | 4), ("IOPRIO_CLASS_RT", 1, (1 << 13) | 1),
                                           ("IOPRIO_CLASS_IDLE", 0, 3 << 13)])
def test_io_priority(ctr, cls, prio, want):
    assert int(info(ctr, ioPriority={"class": cls, "priority": prio})["IoPrio"]) == want


def test_personality(ctr):
    c = ctr("probe", "info")
    c.conf["linux"]["personality"] = {"domain": "LINUX32"}
    s = status_of(c.run().ok().out)
    assert s["Personality"] == "8" and s["Machine"] == "i686"


def test_hostname_and_domainname(ctr):
    c = ctr("probe", "info")
    c.conf["hostname"], c.conf["domainname"] = "sluice", "example.org"
    s = status_of(c.run().ok().out)
    assert (s["Hostname"], s["Domainname"]) == ("sluice", "example.org")


def test_hostname_without_uts_namespace(ctr):
    """Without a uts namespace the name would be the host's, so it is refused."""
    c = ctr("true")
    config.namespaces(c.conf, drop=("uts",))
    host = socket.gethostname()
    c.run().failed("hostname")
    assert socket.gethostname() == host


def test_exec_cpu_affinity(ctr):
    c = ctr.idle(execCPUAffinity={"initial": "0", "final": "0"}).up()
    assert status_of(c.exec("probe", "info").ok().out)["Cpus_allowed_list"] == "0"


def test_cpus_of_the_caller_are_not_inherited(ctr, rt):
    script = "grep Cpus_allowed_list /proc/self/status"
    want = ctr.sh(script).run().ok().out
    rt.prefix = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0))), *rt.prefix]
    assert ctr.sh(script).run().ok().out == want
    c = ctr.idle().up()
    assert c.exec("sh", "-c", script).ok().out == want


def test_no_descriptor_leaks_in(ctr, rt):
    """The container gets the descriptors 0, 1 and 2, whatever the caller has open."""
    c = ctr("probe", "fds").write()
    rt.prefix = ["bash", "-c", 'exec 5</etc 9</etc/passwd 47>/dev/null; exec "$@"', "sh", *rt.prefix]
    fds = [int(l.split()[0]) for l in c.run().ok().out.splitlines()]
    assert fds == [0, 1, 2]


def test_created_process_holds_nothing_of_the_host(ctr):
    c = ctr("true")
    c.create()
    fds = {f: os.readlink(f"/proc/{c.pid()}/fd/{f}") for f in os.listdir(f"/proc/{c.pid()}/fd")}
    dirs = [t for t in fds.values() if t.startswith("/") and os.path.isdir(t) and not t.startswith(c.bundle)]
    assert not dirs, fds


@pytest.mark.parametrize("n", [1, 3])
def test_preserve_fds(ctr, n):
    c = ctr("probe", "fds").write()
    fds = []
    try:
        for want in range(3, 3 + n + 1):  # one descriptor more than is kept
            fd = os.open("/etc/passwd", os.O_RDONLY)
            fds.append(fd)
        script = " ".join(f"{k}</etc/passwd" for k in range(3, 3 + n + 1))
        c.rt.prefix = ["sh", "-c", f'exec {script}; exec "$@"', "sh", *c.rt.prefix]
        r = c.rt("run", "--preserve-fds", n, "--bundle", c.bundle, c.id).ok()
    finally:
        for fd in fds:
            os.close(fd)
    got = dict(l.split(" ", 1) for l in r.out.splitlines())
    assert sorted(map(int, got)) == list(range(3 + n)), got
    assert got["3"].endswith("/etc/passwd")


def test_preserve_fds_that_are_not_open(ctr):
    """Of the preserved descriptors those that are open are passed on with their numbers, and caisson's own files never
    get the numbers between."""
    c = ctr("probe", "fds").write()
    c.rt.prefix = ["sh", "-c", 'exec 4</etc/passwd 7</etc/group; exec "$@"', "sh", *c.rt.prefix]
    for opt, want in (("1", "0 1 2"), ("3", "0 1 2 4"), ("100000", "0 1 2 4 7")):
        r = c.rt("run", "--preserve-fds", opt, "--bundle", c.bundle, c.id).ok()
        assert " ".join(l.split()[0] for l in r.out.splitlines()) == want, r
        assert r.err.count("\n") == 1 and f"--preserve-fds {opt}: only {len(want.split()) - 3} of the descriptors 3 to" in r.err, r


def test_preserve_fds_that_are_not_open_by_exec(ctr):
    c = ctr.idle().up()
    c.rt.prefix = ["sh", "-c", 'exec 4</etc/passwd; exec "$@"', "sh", *c.rt.prefix]
    r = c.rt("exec", "--preserve-fds", "2", c.id, "probe", "fds").ok()
    assert [l.split()[0] for l in r.out.splitlines()] == ["0", "1", "2", "4"] and "only 1 of" in r.err, r


def test_listen_fds_of_another_process(ctr):
    """LISTEN_FDS is ignored without LISTEN_PID, or with another process's, as sd_listen_fds(3) says."""
    c = ctr.sh("echo ${LISTEN_FDS-none}; probe fds").write()
    c.rt.prefix = ["sh", "-c", 'exec 3</etc/passwd; exec "$@"', "sh", *c.rt.prefix]
    for env in ({}, {"LISTEN_PID": "2"}):
        r = c.run(env={**os.environ, "LISTEN_FDS": "1", **env}).ok()
        assert [l.split()[0] for l in r.out.splitlines()] == ["none", "0", "1", "2"], r


@pytest.mark.parametrize("how", ["process", "config"])
def test_configuration_from_a_descriptor(ctr, tmp, how):
    """A configuration can be read from a descriptor: bash writes /dev/fd/63 for <(COMMAND)."""
    c = ctr.sh("echo from a pipe; probe fds") if how == "config" else ctr.idle().up()
    text = json.dumps(c.conf if how == "config" else {"args": ["sh", "-c", "echo from a pipe; probe fds"], "cwd": "/"})
    r, w = os.pipe()
    os.write(w, text.encode())
    os.close(w)
    # Only the owner of a pipe can open it by /dev/fd, and the owner is the caller, as of a pipe that the caller's shell makes.
    os.fchown(r, user.UID if user.ALL else -1, -1)
    try:
        if how == "config":
            got = c.rt("run", "--bundle", c.bundle, "--config", f"/dev/fd/{r}", c.id, pass_fds=[r])
        else:
            got = c.rt("exec", "--process", f"/dev/fd/{r}", c.id, pass_fds=[r])
    finally:
        os.close(r)
    first, *fds = got.ok().out.splitlines()
    assert first == "from a pipe" and [l.split()[0] for l in fds] == ["0", "1", "2"], got


def test_listen_fds(ctr):
    c = ctr.sh("echo $LISTEN_FDS $LISTEN_PID $$; probe fds").write()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.join(c.bundle, "sock"))
        s.listen()
        script = f'exec 3<&{s.fileno()}; LISTEN_PID=$$ exec "$@"'
        c.rt.prefix = ["bash", "-c", script, "sh", *c.rt.prefix]
        r = c.run(env={**os.environ, "LISTEN_FDS": "1"}, pass_fds=[s.fileno()]).ok()
    first, *fds = r.out.splitlines()
    assert first == "1 1 1"
    assert [l.split()[0] for l in fds] == ["0", "1", "2", "3"] and "socket:" in fds[3], fds


class Manager:
    """A service manager's end of NOTIFY_SOCKET. It collects [(sender's pid, text)] and answers barriers."""

    def __init__(self, path):
        self.env, self.got = {**os.environ, "NOTIFY_SOCKET": path}, []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind("\0" + path[1:] if path[0] == "@" else path)
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while True:
            text, control, _, _ = self.sock.recvmsg(4096, 4096)
            pid = 0
            for level, kind, data in control:
                if kind == socket.SCM_CREDENTIALS:
                    pid = struct.unpack("3i", data)[0]
                else:
                    os.close(struct.unpack("i", data)[0])
            if text == b"END":
                return
            self.got.append((pid, text.decode()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Returns all messages so far."""
        if self.sock:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.sendto(b"END", self.sock.getsockname())
            self.thread.join()
            self.sock.close()
            self.sock = None
        return self.got


SAYS = "probe notify 'STATUS=soon\nMAINPID=1\nFDSTORE=1'; probe notify READY=1; probe notify STATUS=later"


def test_notify_socket(ctr, tmp):
    """In the foreground `run` relays every message of the program, because the service's pid is that of `run`."""
    path = os.path.join(tmp, "notify.sock")
    with Manager(path) as m:
        c = ctr.sh(SAYS.replace("\\n", "\n"))
        with open(c.log, "wb") as log:
            p = c.write().rt.popen("run", "--bundle", c.bundle, c.id, env=m.env, stdout=log)
            assert p.wait(20) == 0, c.output()
        assert m.end() == [(p.pid, "STATUS=soon"), (p.pid, f"READY=1\nMAINPID={p.pid}"), (p.pid, "STATUS=later")]
    assert c.output().splitlines() == ["sent to /run/notify/notify.sock"] * 3


def test_notify_socket_in_the_background(ctr, tmp):
    """`run --detach` and `start` return at READY=1, and report the container's first process as the service's main
    process. A user of the container may send messages; nobody in it can put anything into the socket's directory."""
    path = os.path.join(tmp, "notify.sock")
    script = f"sleep 0.3; {SAYS}; touch /run/notify/x 2>&1; echo done; exec sleep 1000".replace("\\n", "\n")
    for how in ("run", "start"):
        with Manager(path) as m:
            c = ctr.sh(script, user={"uid": 1000, "gid": 1000})
            if how == "run":
                with open(c.log, "wb") as log:
                    c.run("--detach", env=m.env, stdout=log).ok()
            else:
                c.create(env=m.env).ok()
                c.start(env=m.env)
            got = [text for _, text in m.end()]
            assert got[:2] == ["STATUS=soon", f"READY=1\nMAINPID={c.pid()}"] and got[-1] == "BARRIER=1", got
        os.unlink(path)
        c.wait_output("done")
        assert "Read-only file system" in c.output() or "Permission denied" in c.output(), c.output()
        c.exec("true").ok()
        c.delete("--force")


def test_notify_socket_that_nobody_reports_to(ctr, tmp):
    """A program that ends without READY=1 ends the waiting; a caller's socket that is gone is a warning. An abstract
    socket works like a path. If /run/notify is mounted already, as podman does it, it is left alone."""
    path = f"@caisson-test-{os.getpid()}"
    with Manager(path) as m:
        c = ctr("sleep", "0.2")
        c.run("--detach", env=m.env).ok()
        c.wait("stopped")
        c.delete()
        with open(c.log, "wb") as log:
            c = ctr("probe", "notify", "READY=1")
            c.run(env=m.env, stdout=log).ok()
        assert [text.split("\n")[0] for _, text in m.end()] == ["READY=1"]
    r = ctr("true").run(env={**os.environ, "NOTIFY_SOCKET": os.path.join(tmp, "gone")})
    assert r.rc == 0 and "warning" in r.err and "NOTIFY_SOCKET" in r.err, r
    c = ctr("sh", "-c", "echo $NOTIFY_SOCKET; ls /run/notify", env=["PATH=/bin", "NOTIFY_SOCKET=/mine"])
    c.conf["mounts"].append({"destination": "/run/notify", "type": "tmpfs", "source": "tmpfs"})
    r = c.run(env={**os.environ, "NOTIFY_SOCKET": os.path.join(tmp, "gone")})
    assert r.rc == 0 and r.out == "/mine\n" and r.err == "", r


def test_program_of_a_user_without_exec_permission(ctr):
    c = ctr("/bin/private", user={"uid": 1000, "gid": 1000})
    with open(c.path("/bin/private"), "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(c.path("/bin/private"), 0o700)
    r = c.run()
    assert r.rc != 0 and "permission denied" in r.err.lower(), r
    assert "no such file or directory" not in r.err.lower()


def test_the_log_is_no_preserved_descriptor(ctr, tmp):
    """--log is opened before descriptors are counted. Its own descriptor must not count as the missing third one."""
    c = ctr("true")
    c.rt.options = ["--log", os.path.join(tmp, "log")]
    c.conf["process"]["args"] = ["probe", "fds"]
    r = c.run("--preserve-fds", "1").ok()
    assert [l.split()[0] for l in r.out.splitlines()] == ["0", "1", "2"], r


@pytest.mark.parametrize("how", ["run", "exec"])
def test_closed_standard_descriptors(ctr, tmp, how):
    """Closed standard streams become /dev/null, because files of the runtime would get their numbers otherwise."""
    script = "for i in 0 1 2; do readlink /proc/self/fd/$i; done > /seen 2>&1"
    if how == "run":
        c = ctr.sh(script).write()
        args = ["run", "--bundle", c.bundle, c.id]
    else:
        c = ctr.idle().up()
        args = ["exec", c.id, "sh", "-c", script]
    p = subprocess.Popen(["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *c.rt.argv(*args)])
    assert p.wait(20) == 0
    with open(c.path("/seen")) as f:
        assert f.read().split("\n")[0] == "/dev/null"
