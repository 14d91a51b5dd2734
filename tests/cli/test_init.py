# SPDX-License-Identifier: Apache-2.0
"""Tests what processes of the container can see of its first process (INIT) before it becomes the program, and of the
process with which an exec starts."""
import errno
import fcntl
import json
import os
import stat
import subprocess

import pytest
from harness import config, mode
from harness.pty_ import Receiver

pytestmark = pytest.mark.skipif(mode.VM, reason="the guest has no processes of the host")

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
GETPRIORITY = {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}
# A script by which a process tries to look into another one. It prints a line for each attempt that succeeds.
LOOK = """
p=/proc/%s
for f in environ maps auxv; do [ -s $p/$f ] && n=$(wc -c < $p/$f 2>/dev/null) && [ "$n" != 0 ] && echo "$f $n"; done
ls -l $p/fd 2>/dev/null | grep -- '->' && echo fd
(exec 9<> $p/mem) 2>/dev/null && echo mem
(exec 9< $p/exe) 2>/dev/null && echo exe
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (exec 30<> $p/fd/$n) 2>/dev/null && echo "opened $n"; done
true
"""


def seccomp(c, *rules, **more):
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}
    return c


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)


def descriptors(pid):
    d = f"/proc/{pid}/fd"
    return {int(n): os.readlink(f"{d}/{n}") for n in os.listdir(d)}


def test_command_line_and_environment_say_nothing(ctr, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    c = ctr.idle()
    c.create()
    with open(f"/proc/{c.pid()}/cmdline") as f:
        assert f.read() == "caisson-init\0"
    with open(f"/proc/{c.pid()}/environ") as f:
        assert f.read() == ""


def test_created_holds_only_its_channel(ctr, tmp):
    """In "created" INIT has no descriptor of the cache of compiled filters, of --log, of the state directory, or of
    the host's /proc."""
    log = os.path.join(tmp, "log")
    c = seccomp(ctr.idle(), GETPRIORITY)
    for _ in range(2):  # The second time the filter comes from the cache.
        c.write().rt("--log", log, "create", "--bundle", c.bundle, c.id, stdout=open(os.devnull, "w")).ok()
        left = {n: to for n, to in descriptors(c.pid()).items() if n > 2}
        fifos = sorted(os.path.basename(to) for to in left.values() if not to.startswith("socket:"))
        assert fifos == ["result.fifo", "start.fifo"] and len(left) == 3, left
        c.delete("--force")


@pytest.mark.parametrize("process", [{}, {"capabilities": {}}], ids=["default capabilities", "none"])
def test_created_cannot_be_looked_into(ctr, process):
    c = ctr.idle(**process)
    c.create()
    assert c.exec("sh", "-c", LOOK % 1).ok().out == ""


def test_created_cannot_be_looked_into_with_a_user_namespace(ctr):
    """A process with all capabilities of the container's user namespace cannot look into INIT either."""
    c = ctr.idle()
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = MAP
    config.all_caps(c.conf)
    c.create()
    assert c.exec("sh", "-c", LOOK % 1).ok().out == ""


def test_created_has_the_filter_and_the_capabilities(ctr):
    c = seccomp(ctr.idle(noNewPrivileges=False, capabilities={k: ["CAP_CHOWN"] for k in ("bounding", "effective", "permitted")}),
                GETPRIORITY)
    c.create()
    s = status(c.pid())
    assert s["Seccomp"] == "2" and s["CapEff"] == s["CapPrm"] == s["CapBnd"] == "0000000000000001", s
    assert s["CapInh"] == s["CapAmb"] == "0000000000000000", s


def test_filter_that_forbids_waiting_is_loaded_late(ctr):
    """A filter that kills for read(2), by which INIT waits, is loaded later, and still holds for the program and for
    hooks."""
    c = seccomp(ctr("probe", "syscall", "140"), {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}, GETPRIORITY)
    c.create()
    assert status(c.pid())["Seccomp"] == "0"
    c.start()
    c.wait()
    assert c.output().startswith("99 ")


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("late", [False, True])
def test_start_container_hooks_run_under_the_filter(ctr, nnp, late):
    c = ctr("true", noNewPrivileges=nnp)
    # Neither busybox nor the program needs dup3, but INIT does for hooks.
    rules = [GETPRIORITY] + ([{"names": ["dup2", "dup3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}] if late else [])
    seccomp(c, *rules)
    c.conf["hooks"] = {"startContainer": [{"path": "/bin/probe", "args": ["probe", "syscall", "140"]},
                                          {"path": "/bin/grep", "args": ["grep", "-q", "Seccomp:.2", "/proc/self/status"]}]}
    c.run().ok()


def test_start_container_hooks_under_a_profile_without_clone3(ctr):
    """startContainer hooks run under a profile that answers clone3 with ENOSYS, as engines' profiles do so that
    programs use clone."""
    c = seccomp(ctr("true"), {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    c.conf["hooks"] = {"startContainer": [{"path": "/bin/grep", "args": ["grep", "-q", "Seccomp:.2", "/proc/self/status"]}]}
    c.create()
    assert status(c.pid())["Seccomp"] == "2"
    c.start()
    c.wait()


@pytest.mark.parametrize("how", ["create", "run", "exec"])
def test_no_agent_takes_the_listener(ctr, tmp, how):
    """If nobody takes the seccomp listener, create fails, not start, and nothing of the container's program has run."""
    path = os.path.join(tmp, "agent")
    c = seccomp(ctr.sh("touch /ran; sleep 100"), {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=path)
    c.conf["root"]["readonly"] = False
    if how == "exec":
        with Receiver(path) as rcv:
            c.up()
            rcv.wait()
        for _ in range(5):
            c.exec("touch", "/executed").failed("linux.seccomp.listenerPath")
        assert not os.path.exists(c.path("/executed"))
        return
    r = c.create(check=False) if how == "create" else c.run()
    r.failed("linux.seccomp.listenerPath")
    assert not os.path.exists(c.path("/ran")) and not c.exists()


def test_listener_is_sent_while_creating(ctr, tmp):
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c = seccomp(ctr.idle(), {"names": ["mkdir", "sendmsg"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=rcv.path)
        c.create()
        rcv.wait()
        assert json.loads(rcv.data)["state"]["status"] == "creating"
        c.start()


def test_exec_with_a_listener_into_a_created_container(ctr, tmp):
    """exec with a listener works in a created container with a user namespace, although INIT cannot be looked at from
    inside any more, not even to enter its namespaces."""
    c = seccomp(ctr.idle(), {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=os.path.join(tmp, "agent"))
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = MAP
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c.create()
        rcv.wait()
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        assert c.exec("grep", "-c", "Seccomp:.2", "/proc/self/status").ok().out == "1\n"
        rcv.wait()


def test_exec_shows_a_finished_process(ctr):
    """A process in the container that looks at every other process, again and again while commands are executed, never
    sees one with a descriptor that is not the program's, without the filter, or with more capabilities."""
    watch = r"""
    while :; do for p in /proc/[0-9]*; do
        [ $p = /proc/$$ ] && continue
        read -r line < $p/cmdline 2>/dev/null
        case "$line" in caisson-init*)
            found=met
            grep -q 'Seccomp:.2' $p/status 2>/dev/null || found="no filter"
            ls -l $p/fd 2>/dev/null | grep -q -- '->' && found="looked into fd"
            # It may have become the program meanwhile.
            read -r line < $p/cmdline 2>/dev/null || line=
            case "$line" in caisson-init*) echo $found;; esac;; esac
    done; done
    """
    c = seccomp(ctr.sh(watch), GETPRIORITY).up()
    for _ in range(mode.times(40)):
        c.exec("true", opts=("--env", "SECRET=1")).ok()
    c.kill()
    c.wait()
    assert not set(c.output().split("\n")) - {"met", ""}


def test_image_is_this_containers_own(ctr, binary):
    """Two containers do not share the file that their first process is executed from, and nobody can write to it."""
    a, b = ctr.idle(), ctr.idle()
    a.create()
    b.create()
    sa, sb = (os.stat(f"/proc/{c.pid()}/exe") for c in (a, b))
    assert (sa.st_dev, sa.st_ino) != (sb.st_dev, sb.st_ino)
    assert stat.S_IMODE(sa.st_mode) == 0o111
    assert os.stat(binary).st_ino not in (sa.st_ino, sb.st_ino)
    fd = os.open(f"/proc/{a.pid()}/exe", os.O_RDONLY)
    try:
        F_GET_SEALS, write, grow, shrink, seal = 1034, 8, 4, 2, 1
        assert fcntl.fcntl(fd, F_GET_SEALS) & (write | grow | shrink | seal) == write | grow | shrink | seal
    finally:
        os.close(fd)


def test_container_cannot_forge_its_status(ctr):
    """The status is "created", then "running", whatever the program does; a killed first process makes it "stopped"."""
    c = ctr.idle()
    c.create()
    assert c.status() == "created"
    c.start()
    assert c.status() == "running"
    d = ctr.idle()
    d.create()
    d.kill()
    d.wait()
    assert d.status() == "stopped"
    d.start(check=False).failed("stopped")


def test_debug_tells_the_steps_of_init(ctr):
    c = ctr("true").write()
    r = c.rt("--debug", "run", "--bundle", c.bundle, c.id).ok()
    assert "init: pivot" in r.err and "init: mount mounts[0]" in r.err and " us)" in r.err


@pytest.fixture(params=["1", "2"])
def memfd_noexec(request, rt):
    """A pid namespace with vm.memfd_noexec, from which the runtime is called. 2: no memfd can be executed."""
    script = f"echo {request.param} >/proc/sys/vm/memfd_noexec; echo; exec sleep 1000"
    p = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc", script],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if not p.stdout.readline():
            pytest.skip("this kernel has no vm.memfd_noexec in a pid namespace of its own")
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            holder = f.read().split()[0]
        rt.prefix = ["nsenter", "--target", holder, "--pid", "--mount"]
        yield request.param
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


# What INIT was executed from: can it be opened for writing? Its seals are those of a memfd; a file has none.
WRITE = "(exec 9<>/proc/$1/exe) && echo written; readlink /proc/$1/exe; stat -L -c %a /proc/$1/exe"


def test_where_no_memfd_can_be_executed(ctr, rt, memfd_noexec):
    c = ctr.idle()
    c.create()
    pid = str(c.rt("state", c.id).json()["pid"])
    r = subprocess.run([*rt.prefix, "sh", "-c", WRITE, "sh", pid], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "written" not in r.stdout and r.stderr, r
    path, mode_of_it = r.stdout.split("\n")[:2]
    assert path.startswith("/memfd:caisson-init") == (memfd_noexec == "1") and mode_of_it == "111", r
    c.start()
    assert c.exec("sh", "-c", "echo $((6 * 7))").ok().out == "42\n"
    c.delete("--force")
    assert ctr("echo", "run").run().ok().out == "run\n"


def test_rootless_where_no_memfd_can_be_executed(ctr, rt, memfd_noexec, tmp):
    """An ordinary user has no read-only mount for the file, but starts containers all the same."""
    user = ["setpriv", "--reuid", "4321", "--regid", "4321", "--clear-groups", "--inh-caps=-all"]
    c = ctr("id", "-u")
    c.conf["linux"]["namespaces"] = [{"type": t} for t in ("pid", "ipc", "uts", "mount", "user")]
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 4321, "size": 1}]
    c.conf["mounts"] = [{**m, "options": [o for o in m.get("options", []) if o != "gid=5"]} for m in c.conf["mounts"]
                        if m["type"] not in ("sysfs", "cgroup")]
    for d, dirs, files in os.walk(c.write().bundle):
        for n in [".", *dirs, *files]:
            os.chown(os.path.join(d, n), 4321, 4321, follow_symlinks=False)
    state = os.path.join(c.bundle, "state")
    os.makedirs(state, mode=0o700)
    os.chown(state, 4321, 4321)
    rt.prefix, rt.root = [*rt.prefix, *user], state
    assert c.rt("run", "--bundle", c.bundle, c.id).ok().out == "0\n"
