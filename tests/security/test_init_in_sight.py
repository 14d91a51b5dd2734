# SPDX-License-Identifier: Apache-2.0
"""
Nothing of the host is within reach while a container is made. A process of the container looks at INIT (look.c) in every
way that the kernel offers and in every phase: while it is set up, in "created", while startContainer hooks run, at
execve(2), and as the first stage of an exec. What must hold:

- without CAP_SYS_PTRACE nothing can be read;
- with it INIT has nothing: its standard streams and its channel, a fixed command line, an empty environment, a program
  that is not the runtime and cannot be written, the container's filter, and no capability beyond the container's;
- with CAP_SYS_PTRACE in a user namespace of the container's own, nothing can be read either.
"""
import hashlib
import json
import os
import re
import shutil
import stat
import struct

import pytest
import sight
from harness import config, machine, runtime
from harness.machine import proc_stat
from harness.runtime import status_of, wait_for
from sight import WHO, Agent, Report, Streams

MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
TRACERS = [w for w in WHO if WHO[w]["traces"]]
OTHERS = [w for w in WHO if not WHO[w]["traces"]]
GETPRIORITY = "140"


def payload(ctr, who="root-with-the-default-capabilities", **more):
    """Makes a container whose program can be told from INIT by its name, under a filter."""
    c = ctr("/bin/payload", "wait", **more)
    sight.with_caps(c, WHO[who]["caps"])
    return sight.with_filter(c)


def in_userns(c):
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = MAP
    os.chmod(c.bundle, 0o755)
    for d, dirs, files in os.walk(c.rootfs):
        for n in [d, *(os.path.join(d, x) for x in dirs + files)]:
            os.lchown(n, 100000, 100000)
    return c


def assert_shut(report, what="INIT"):
    assert not report.opened(), f"{what} can be looked into: {report.opened()}"
    # The kernel was asked and refused; a process that was gone would have answered ESRCH.
    assert {"environ", "maps", "mem", "exe", "ptrace", "vm-readv"} <= set(report.denied()), report.lines


def assert_empty(report, c, streams, binary, hook=False):
    """Checks that a tracer finds nothing of the host in INIT from "created" on. While a hook runs, INIT has the hook's
    pidfd too."""
    assert report.one("cmdline") == ("ok", sight.INIT_CMDLINE), report.one("cmdline")
    assert report.all("environ") == [""], report.all("environ")
    for number, (kind, ino, fs) in sorted(report.fds().items()):
        if hook and report.all(f"fd/{number}") == ["anon_inode:[pidfd]"]:
            continue
        assert ino in streams.known or kind in (sight.FIFOS, sight.SOCKETS), \
            f"descriptor {number} is neither a standard stream nor the channel: {kind} {ino} {report.all(f'fd/{number}')}"
        assert fs != sight.PROC_SUPER_MAGIC, f"descriptor {number} is of a procfs"
    assert_program(report, binary)
    state = c.rt.root
    for text in report.all("maps") + report.all("map_files") + report.all("environ"):
        assert state not in text and c.bundle not in text and "/libc" not in text, text


def assert_program(report, binary):
    """Checks that INIT's program is small, mapped from memory alone, and not the runtime's file."""
    kind, ino, _ = report.all("exe-path")[0].split()
    assert ino != sight.identity(binary), "INIT is executed from the runtime's own file"
    assert "exe-write" not in report.opened(), "INIT's program can be opened for writing"
    mapped = set(re.findall(r"/\S+", " ".join(report.all("maps"))))
    assert all(m.startswith("/memfd:") for m in mapped), f"INIT maps files of the host: {mapped}"


def assert_confined(status, caps, uid=0, filtered=True):
    """Checks INIT's rights, which /proc/PID/status tells."""
    allowed = config.cap_mask(caps)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert not sight.mask(status, name) & ~allowed, f"{name} {status[name]} beyond the container's {allowed:x}"
    assert status["Uid"].split() == [str(uid)] * 4, status["Uid"]
    if filtered:
        assert status["Seccomp"] == "2", "the container's filter is not in force"
    assert status["NoNewPrivs"] == "1"


# ---- the looking program itself ----

@pytest.mark.parametrize("who", WHO)
def test_control_the_program_sees_what_is_not_hidden(ctr, who):
    """The control: look sees everything of a process of the same user that has no more capabilities, because that
    process has nothing to hide."""
    c = payload(ctr, who, user={"uid": WHO[who]["uid"], "gid": WHO[who]["uid"]}).up()
    r = sight.look_from(c, who, 1)
    assert {"environ", "maps", "mem", "exe", "exe-path", "cwd", "root", "fd/0", "fdinfo/0", "getfd/0", "vm-readv",
            "kcmp", "ptrace"} <= set(r.opened()), r.lines
    assert r.one("cmdline") == ("ok", "/bin/payload wait")


# ---- "created", from an exec'd process ----

@pytest.mark.parametrize("who", OTHERS)
def test_created_is_shut(ctr, tmp, who):
    c = payload(ctr)
    c.create()
    r = sight.look_from(c, who, 1)
    assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE), r.one("cmdline")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("caps", ["root-without-capabilities", "ptrace"])
def test_created_is_shut_in_a_user_namespace(ctr, who, caps):
    """In "created" INIT cannot be looked at from its user namespace, because its program belongs to the host's root
    and is unreadable."""
    c = in_userns(payload(ctr, caps))
    c.create()
    assert_shut(sight.look_from(c, who, 1))
    c.start()


@pytest.mark.parametrize("who", TRACERS)
@pytest.mark.parametrize("caps", ["root-with-the-default-capabilities", "ptrace-and-dac"])
def test_created_has_nothing(ctr, tmp, binary, who, caps):
    c, streams = payload(ctr, caps).write(), Streams(os.path.join(tmp, "streams"))
    env = dict(os.environ, SECRET_OF_THE_CALLER="do-not-show")
    kw = streams.keywords()
    assert c.rt.popen("create", "--bundle", c.bundle, c.id, env=env, **kw).wait(20) == 0, streams.err()
    assert_empty(sight.look_from(c, who, 1), c, streams, binary)
    assert_confined(sight.host_status(c.pid()), WHO[caps]["caps"])


def test_created_has_nothing_of_many_mounts(ctr, tmp, binary):
    """In "created" INIT has no descriptor left of copies of mounts, namespaces to join, a log file or preserved
    descriptors, each of which was a descriptor of the host."""
    c, streams = payload(ctr), Streams(os.path.join(tmp, "streams"))
    for i in range(8):
        src = os.path.join(tmp, f"src{i}")
        os.mkdir(src)
        c.conf["mounts"].append({"destination": f"/mnt/{i}", "type": "bind", "source": src, "options": ["bind"]})
    config.namespaces(c.conf, paths={"network": "/proc/self/ns/net", "ipc": "/proc/self/ns/ipc"})
    c.conf["mounts"].append({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    c.conf["linux"]["devices"] = [{"path": "/dev/made", "type": "c", "major": 1, "minor": 7}]
    c.rt.options = ["--log", os.path.join(tmp, "log"), "--log-format", "json", "--debug"]
    streams.run(c.write(), "create", "--bundle", c.bundle, c.id)
    assert_empty(sight.look_from(c, "ptrace", 1), c, streams, binary)
    assert_confined(sight.host_status(c.pid()), config.CAPS)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("filtered", [True, False])
def test_created_is_confined(ctr, uid, filtered):
    c = ctr("/bin/payload", "wait", user={"uid": uid, "gid": uid})
    if filtered:
        sight.with_filter(c)
    c.create()
    assert_confined(sight.host_status(c.pid()), config.CAPS, uid, filtered)
    c.start()
    wait_for(lambda: "/bin/payload" in open(f"/proc/{c.pid()}/cmdline").read(), "the program")
    after = sight.host_status(c.pid())
    assert_confined(after, config.CAPS, uid, filtered)
    # While it waited, INIT had only what the program has.
    assert uid or after["CapPrm"] == f"{config.cap_mask(config.CAPS):016x}"


def test_created_is_confined_without_no_new_privileges(ctr):
    """Without no_new_privs loading a filter needs CAP_SYS_ADMIN, which INIT must not have any more while it waits."""
    c = payload(ctr, noNewPrivileges=False)
    c.create()
    s = sight.host_status(c.pid())
    assert s["Seccomp"] == "2" and not sight.mask(s, "CapPrm") & ~config.cap_mask(config.CAPS), s


def test_created_under_a_profile_of_allowed_calls(ctr):
    """A profile as engines write it denies everything that is not listed. It lists all that INIT needs, so the filter
    is in force early."""
    with open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") as f:
        names = re.findall(r"__NR_(\w+)", f.read())
    c = ctr("/bin/payload", "wait")
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": [n for n in names if n not in ("mount", "ptrace", "bpf", "keyctl", "unshare")], "action": "SCMP_ACT_ALLOW"}]}
    c.create()
    assert sight.host_status(c.pid())["Seccomp"] == "2"


def denying(c, call):
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}
    return c


@pytest.mark.parametrize("call", ["read", "write", "close", "capset", "prctl", "rt_sigreturn", "fcntl", "ppoll", "setsid"])
def test_a_profile_that_denies_what_init_needs_still_works(ctr, call):
    """A profile that denies a call that INIT needs still works: the filter is in force later, and the program, which
    needs none of these calls, runs."""
    denying(ctr("/bin/payload", "nothing"), call).run().ok()
    c = denying(ctr("/bin/payload", "wait"), call).up()
    wait_for(lambda: sight.host_status(c.pid())["Seccomp"] == "2", "filter in force in the program")


def test_a_profile_that_denies_execve_is_an_error(ctr):
    denying(ctr("/bin/payload", "nothing"), "execve").run().failed("/bin/payload")


@pytest.fixture
def suid_dumpable():
    """Sets fs.suid_dumpable=1, with which a process stays dumpable after execve(2) of an unreadable program. It is a
    sysctl of the whole machine, so only the test host may change it."""
    if not machine.ON_TEST_HOST:
        pytest.skip("fs.suid_dumpable is the machine's: changed in the test host only (tests/security/mutate)")
    path = "/proc/sys/fs/suid_dumpable"
    with open(path) as f:
        before = f.read()
    with open(path, "w") as f:
        f.write("1")
    yield
    with open(path, "w") as f:
        f.write(before)


def test_created_is_shut_whatever_suid_dumpable_says(ctr, suid_dumpable):
    """INIT is shut even with suid_dumpable=1. Then an unreadable program does not make INIT non-dumpable, so INIT has
    to do that itself."""
    c = payload(ctr)
    c.create()
    for who in OTHERS:
        assert_shut(sight.look_from(c, who, 1))


UID = 23457


@pytest.fixture
def rootless(ctr, binary, template, tmp):
    """A factory of containers of an ordinary user, who maps only the user's own id."""
    for d in ("home", "run"):
        os.mkdir(os.path.join(tmp, d), 0o700)
        os.chown(os.path.join(tmp, d), UID, UID)
    exe = os.path.join(tmp, "caisson")  # where the user can execute it, whatever the modes of the build directory
    shutil.copy(binary, exe)
    os.chmod(exe, 0o755)
    rt = runtime.Runtime(exe, os.path.join(tmp, "run", "caisson"))
    rt.prefix = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all", "env",
                 f"XDG_RUNTIME_DIR={tmp}/run", f"HOME={tmp}/home"]
    f = runtime.Factory(rt, template, os.path.join(tmp, "home"))
    yield f
    f.clean()


def of_the_user(c):
    """Changes a container to what an ordinary user may ask for, in a bundle that belongs to the user."""
    config.namespaces(c.conf, "user", drop=("network", "cgroup"))
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": UID, "size": 1}]
    c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] not in ("sysfs", "cgroup")]
    for m in c.conf["mounts"]:
        m["options"] = [o for o in m.get("options", []) if not o.startswith("gid=")]
    c.write()
    with open(c.log, "w"):
        pass
    for d, dirs, files in os.walk(c.bundle):
        for n in [d, *(os.path.join(d, x) for x in dirs + files)]:
            os.lchown(n, UID, UID)
    return c


@pytest.mark.parametrize("who", ["root-without-capabilities", "root-with-the-default-capabilities"])
def test_created_of_an_ordinary_user_is_shut(rootless, who):
    """An ordinary user's INIT is shut in "created". It has to be dumpable only until the user has written its id maps.
    """
    c = of_the_user(payload(rootless))
    c.create()
    path = os.path.join(c.bundle, "look.json")
    with open(path, "w") as f:
        json.dump(sight.process(who, "/bin/look", "at", "1"), f)
    os.chmod(path, 0o644)
    r = Report(c.rt("exec", "--process", path, c.id).ok().out)
    assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE)
    assert_confined(sight.host_status(c.pid()), config.CAPS, UID)
    c.start()


# ---- INIT's program ----

@pytest.mark.parametrize("caps", ["ptrace-and-dac"])
def test_the_program_of_init_cannot_be_overwritten(ctr, caps, binary):
    """INIT's program cannot be overwritten (CVE-2019-5736). The attacker keeps it open until INIT has become the
    container's program and nothing executes the file any more."""
    c = payload(ctr, caps)
    c.create()
    path = os.path.join(c.bundle, "keep.json")
    with open(path, "w") as f:
        json.dump(sight.process("ptrace-and-dac", "/bin/look", "-o", "/tmp/kept", "keep-exe", "1"), f)
    before = hashlib.sha256(open(binary, "rb").read()).hexdigest()
    with open(c.log, "ab") as log:
        p = c.rt.popen("exec", "--process", path, c.id, stdout=log, stderr=log)
    c.wait_output("kept")
    c.start()
    assert p.wait(30) == 0, c.output()
    with open(c.path("/tmp/kept")) as f:
        r = Report(f.read())
    assert r.all("exe-path"), r.lines
    assert not r.all("overwrite") and not r.all("truncate"), f"INIT's program could be written: {r.lines}"
    # If the file can be opened, its seals must protect it.
    if r.all("reopen"):
        assert int(r.all("seals")[0], 16) & 0xf == 0xf, r.lines
    assert hashlib.sha256(open(binary, "rb").read()).hexdigest() == before


def test_the_program_of_init_is_unreadable_and_sealed(ctr, binary):
    """INIT's program has mode 0111 and every seal of the content, and is not the runtime, as the host's root sees it.
    """
    import fcntl
    c = payload(ctr)
    c.create()
    exe = f"/proc/{c.pid()}/exe"
    st = os.stat(exe)
    assert stat.S_IMODE(st.st_mode) == 0o111, oct(st.st_mode)
    assert st.st_size < os.stat(binary).st_size
    fd = os.open(exe, os.O_RDONLY)
    try:
        seals = fcntl.fcntl(fd, 1034)  # F_GET_SEALS
    except OSError:
        seals = None  # with vm.memfd_noexec=2 it is a file on a read-only mount
    finally:
        os.close(fd)
    noexec = "/proc/sys/vm/memfd_noexec"
    if not os.path.exists(noexec) or open(noexec).read().strip() != "2":
        assert seals is not None and seals & 0xf == 0xf, f"seals {seals}"


def test_two_containers_do_not_share_the_program_of_init(ctr):
    """Two containers do not share the file of INIT's program, because modes, owners, times and locks of a sealed memfd
    can be changed."""
    a, b = payload(ctr), payload(ctr)
    a.create()
    b.create()
    assert sight.identity(f"/proc/{a.pid()}/exe") != sight.identity(f"/proc/{b.pid()}/exe")


# ---- startContainer hooks: the program comes from the image ----

def hooked(ctr, who, script=None, **more):
    c = payload(ctr, who, **more)
    args = ["sh", "-c", script] if script else ["look", "-o", "/tmp/report", "at", "1"]
    c.conf["hooks"] = {"startContainer": [{"path": "/bin/" + args[0], "args": args, "env": ["PATH=/bin"]}]}
    return c


def hook_report(c):
    with open(c.path("/tmp/report")) as f:
        return f.read()


@pytest.mark.parametrize("who", OTHERS)
def test_hook_finds_init_shut(ctr, who):
    c = hooked(ctr, who, user={"uid": WHO[who]["uid"], "gid": WHO[who]["uid"]}).up()
    r = Report(hook_report(c))
    assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE)


@pytest.mark.parametrize("who", TRACERS)
def test_hook_finds_nothing_in_init(ctr, tmp, binary, who):
    c, streams = hooked(ctr, who).write(), Streams(os.path.join(tmp, "streams"))
    streams.run(c, "create", "--bundle", c.bundle, c.id)
    c.start()
    assert_empty(Report(hook_report(c)), c, streams, binary, hook=True)


@pytest.mark.parametrize("who", [w for w in WHO if not WHO[w]["uid"]])
def test_hook_finds_init_shut_in_a_user_namespace(ctr, who):
    assert_shut(Report(hook_report(in_userns(hooked(ctr, who)).up())))


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("how", ["start", "run"])
def test_hook_runs_confined_as_the_program(ctr, nnp, how):
    """A hook runs with the filter, the capabilities and the user of the program's process, as with runc and crun."""
    c = hooked(ctr, "root-with-the-default-capabilities",
               f"cat /proc/self/status > /tmp/status; probe syscall {GETPRIORITY} > /tmp/call; cat /proc/1/status > /tmp/init",
               noNewPrivileges=nnp)
    if how == "run":
        c.conf["process"]["args"] = ["/bin/true"]
        c.run().ok()
    else:
        c.up()
    for name in ("status", "init"):
        with open(c.path("/tmp", name)) as f:
            s = status_of(f.read())
        assert s["Seccomp"] == "2" and s["NoNewPrivs"] == str(int(nnp)), s
        for k in ("CapPrm", "CapEff", "CapBnd", "CapInh"):
            assert not sight.mask(s, k) & ~config.cap_mask(config.CAPS), (k, s[k])
    with open(c.path("/tmp/call")) as f:
        assert f.read().startswith("99 "), "the filter does not apply to the hook"


@pytest.mark.parametrize("call", ["pidfd_send_signal", "getppid", "ppoll", "clone3"])
def test_hook_runs_under_a_profile_that_init_cannot_work_under(ctr, call):
    """A hook runs under a profile that denies a call which INIT needs to watch the hook: the filter is in force in the
    hook, and not in INIT."""
    c = hooked(ctr, "root-with-the-default-capabilities", f"cat /proc/self/status > /tmp/status; probe syscall {GETPRIORITY} > /tmp/call")
    c.conf["linux"]["seccomp"]["syscalls"].append({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 98})
    c.up()
    with open(c.path("/tmp/status")) as f:
        assert status_of(f.read())["Seccomp"] == "2"
    with open(c.path("/tmp/call")) as f:
        assert f.read().startswith("99 ")


def test_hook_has_the_user_of_the_program(ctr):
    c = hooked(ctr, "user", "id -u > /tmp/uid", user={"uid": 1000, "gid": 1000}).up()
    assert open(c.path("/tmp/uid")).read() == "1000\n"


def test_exec_while_a_hook_runs(ctr, tmp):
    """A process that exec has put into the container finds INIT shut while a hook keeps INIT waiting."""
    c = hooked(ctr, "root-with-the-default-capabilities",
               "echo > /tmp/running; while [ ! -e /tmp/go ]; do usleep 20000; done")
    c.create()
    p = c.rt.popen("start", c.id)
    try:
        sight.wait_file(c.path("/tmp/running"), "running hook")
        reports = {w: sight.look_from(c, w, 1) for w in WHO}
        status = sight.host_status(c.pid())
    finally:
        open(c.path("/tmp/go"), "w").close()
    assert p.wait(15) == 0
    for w in OTHERS:
        assert_shut(reports[w])
    for w in TRACERS:
        assert reports[w].all("environ") == [""] and reports[w].one("cmdline") == ("ok", sight.INIT_CMDLINE)
    assert_confined(status, config.CAPS)


# ---- another container in the same pid namespace ----

def sharing(ctr, other, **more):
    c = payload(ctr, **more)
    config.namespaces(c.conf, paths={"pid": f"/proc/{other.pid()}/ns/pid"})
    return c


@pytest.mark.parametrize("who", OTHERS)
def test_sharer_finds_created_shut(ctr, who):
    a = payload(ctr).up()
    b = sharing(ctr, a)
    b.create()
    r = sight.look_from(a, who, sight.pid_inside(b.pid()))
    assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE)


@pytest.mark.parametrize("who", TRACERS)
def test_sharer_finds_nothing_in_created(ctr, tmp, binary, who):
    a, streams = payload(ctr).up(), Streams(os.path.join(tmp, "streams"))
    b = sharing(ctr, a).write()
    streams.run(b, "create", "--bundle", b.bundle, b.id)
    assert_empty(sight.look_from(a, who, sight.pid_inside(b.pid())), b, streams, binary)
    assert_confined(sight.host_status(b.pid()), config.CAPS)


def in_user_namespace(c):
    """The pid namespace is not its own there, so it has no procfs at all."""
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    c.conf["mounts"] = [m for m in c.conf["mounts"] if m["type"] != "proc"]


@pytest.mark.parametrize("users", ["the-same-users", "users-of-its-own"])
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_sharer_looks_while_init_is_set_up(ctr, tmp, kind, users):
    """While INIT is set up it has descriptors of what it mounts, but no process that cannot trace it can see them, and
    INIT says nothing about its caller."""
    a = payload(ctr).up()
    b = sharing(ctr, a)
    if users == "users-of-its-own":
        in_user_namespace(b)
        os.chmod(tmp, 0o777)  # the hook's user is not the host's root
    b.conf["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp}/told; while [ ! -e {tmp}/go ]; do sleep 0.02; done"],
                               "env": ["PATH=/usr/bin:/bin"]}]}
    with open(b.log, "ab") as log:
        p = b.write().rt.popen("create", "--bundle", b.bundle, b.id, stdout=log, stderr=log,
                               env=dict(os.environ, SECRET_OF_THE_CALLER="do-not-show"))
    try:
        def state():
            try:
                return json.load(open(f"{tmp}/told"))
            except (OSError, ValueError):
                return None
        wait_for(lambda: state() or p.poll() is not None, "state on the hook's standard input")
        assert state(), b.output()
        pid = sight.pid_inside(state()["pid"])
        reports = {w: sight.look_from(a, w, pid) for w in WHO}
    finally:
        open(f"{tmp}/go", "w").close()
    assert p.wait(15) == 0, b.output()
    for w in OTHERS:
        assert_shut(reports[w])
    for w, r in reports.items():
        assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE), r.one("cmdline")
        assert "do-not-show" not in " ".join(r.all("environ"))
        for number, (kind, ino, fs) in r.fds().items():
            # A private procfs shows the container's pids only.
            text = " ".join(r.all(f"fd/{number}"))
            assert b.rt.root not in text or kind in (sight.FIFOS, sight.SOCKETS), f"descriptor {number}: {text}"
            assert text != "/proc", "INIT holds the host's /proc"


# ---- execve(2), where a call to the agent holds the process ----

@pytest.mark.parametrize("who", WHO)
def test_init_held_at_execve(ctr, tmp, binary, who):
    """In INIT's last moment, at execve(2), its filter is in force, and it has nothing but what the program gets."""
    with Agent(os.path.join(tmp, "agent"), hold={0}) as agent:
        c, streams = payload(ctr).write(), Streams(os.path.join(tmp, "streams"))
        sight.with_agent(c, agent.path, ["execve", "execveat"]).write()
        streams.run(c, "create", "--bundle", c.bundle, c.id)
        p = streams.start(c, "start", c.id)
        assert agent.wait_held(0) == c.pid()
        r = sight.look_from(c, who, 1)
        status = sight.host_status(c.pid())
        agent.release()
        assert p.wait(15) == 0, streams.err()
    if WHO[who]["traces"]:
        assert_empty(r, c, streams, binary)
    else:
        assert_shut(r)
    assert_confined(status, config.CAPS)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("terminal", [False, True])
def test_exec_held_at_execve(ctr, tmp, binary, who, terminal):
    """The process of an exec has, in the last moment before it becomes the program, nothing but what the program gets.
    Every process of the container can see it."""
    with Agent(os.path.join(tmp, "agent"), hold={1}) as agent:
        c, streams = payload(ctr), Streams(os.path.join(tmp, "streams"))
        sight.with_agent(c, agent.path, ["execve", "execveat"])
        c.up()
        kw = streams.keywords()
        tty = ["--tty", "--detach", "--console-socket", os.path.join(tmp, "console")] if terminal else []
        from harness.pty_ import Receiver
        receiver = Receiver(os.path.join(tmp, "console")) if terminal else None
        p = c.rt.popen("exec", *tty, "--env", "SECRET_OF_EXEC=do-not-show", c.id, "/bin/payload", "nothing", **kw,
                       env=dict(os.environ, SECRET_OF_THE_CALLER="do-not-show"))
        pid = agent.wait_held(1)
        r = sight.look_from(c, who, sight.pid_inside(pid))
        status = sight.host_status(pid)
        agent.release()
        rc = p.wait(15)
        if receiver:
            receiver.close()
        assert rc == 0, streams.err()
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE), r.one("cmdline")
    if WHO[who]["traces"]:
        if terminal:
            streams.known |= {ino for number, (kind, ino, _) in r.fds().items() if kind == "c"}
        assert_empty(r, c, streams, binary)
    else:
        assert_shut(r)
    assert_confined(status, config.CAPS)


# ---- the moments in between, which only somebody who never stops looking meets ----

def watch(c, who, target):
    """Starts look in container c, where it goes on until the returned function is called, which returns its report."""
    path = os.path.join(c.bundle, "watch.json")
    with open(path, "w") as f:
        json.dump(sight.process(who, "/bin/look", "-o", "/tmp/watched", "watch", "120", target), f)
    os.chmod(c.path("/tmp"), 0o1777)
    with open(c.log, "ab") as log:
        p = c.rt.popen("exec", "--process", path, c.id, stdout=log, stderr=log)
    c.wait_output("watching")

    def stop():
        open(c.path("/tmp/stop"), "w").close()
        assert p.wait(20) == 0, c.output()
        with open(c.path("/tmp/watched")) as f:
            return Report(f.read())
    return stop


def until_caught(c, do, stop, enough, most=400):
    """Calls `do` often enough for the watcher in c to meet INIT. Returns what the watcher saw."""
    for i in range(most):
        if i >= enough and os.path.exists(c.path("/tmp/caught")):
            break
        do()
    r = stop()
    assert int(r.all("caught")[0]) > 0, "the watcher met no INIT at all: it was never in sight"
    return r


def assert_watched(r, who):
    """Checks what was seen of INIT at any moment."""
    assert set(r.all("cmdline")) == {sight.INIT_CMDLINE}, r.all("cmdline")
    assert "do-not-show" not in " ".join(" ".join(l) for l in r.lines)
    assert set(r.all("environ")) <= {""}, r.all("environ")
    if not WHO[who]["traces"]:
        assert not r.opened(), f"INIT could be looked into: {r.opened()}"


@pytest.mark.parametrize("who", ["root-without-capabilities", "root-with-the-default-capabilities", "ptrace-and-dac"])
def test_watched_exec(ctr, who):
    """A process that looks all the time finds nothing in the first stage of exec. A long environment makes its last
    call take longer."""
    c = payload(ctr).up()
    stop = watch(c, who, "/bin/payload")
    long = [x for i in range(10) for x in ("--env", f"SECRET_{i}=do-not-show{'x' * 100000}")]
    r = until_caught(c, lambda: c.exec("/bin/payload", "nothing", opts=long).ok(), stop, 60)
    assert_watched(r, who)
    for w, code, text in r.lines:
        if code == "ok" and re.fullmatch(r"fd/\d+", w):
            assert re.match(r"(socket|pipe):|/dev/null|/dev/pts|/tmp/|/|.*\(deleted\)", text) and "/proc" not in text, (w, text)
    procfs = [l for l in r.lines if l[1] == "ok" and l[0].endswith("-path") and l[0].startswith("fd/") and "fs=9fa0" in l[2]]
    assert not procfs, f"exec's process holds a directory of a procfs: {procfs}"


@pytest.mark.parametrize("who", ["root-without-capabilities", "root-with-the-default-capabilities"])
def test_watched_create_and_start(ctr, who):
    """A process that looks all the time finds nothing in another container's INIT, from its first moment in the shared
    pid namespace until it becomes the program."""
    a = payload(ctr).up()
    stop = watch(a, who, "/bin/payload")

    def once():
        b = sharing(ctr, a, env=["PATH=/bin", "SECRET=do-not-show" + "x" * 100000])
        b.conf["process"]["args"] = ["/bin/payload", "nothing"]
        b.run(env=dict(os.environ, SECRET_OF_THE_CALLER="do-not-show")).ok()
    assert_watched(until_caught(a, once, stop, 15), who)


# ---- what is shared with the host or with other containers cannot be written or locked through INIT ----

def vandal(c, who, pid=1):
    """Tries to write to everything that INIT has open, and keeps every lock that it gets. Returns the report."""
    path = os.path.join(c.bundle, "vandal.json")
    with open(path, "w") as f:
        json.dump(sight.process(who, "/bin/look", "-o", "/tmp/vandal", "vandal", str(pid)), f)
    os.chmod(c.path("/tmp"), 0o1777)
    with open(c.log, "ab") as log:
        c.rt("exec", "--detach", "--process", path, c.id, stdout=log).ok()
    sight.wait_file(c.path("/tmp/vandal"), "report of the vandal")
    with open(c.path("/tmp/vandal")) as f:
        return Report(f.read())


def contents(top, but=()):
    out = {}
    for d, _, files in os.walk(top):
        for n in files:
            p = os.path.join(d, n)
            if stat.S_ISREG(os.lstat(p).st_mode) and n not in but:
                with open(p, "rb") as f:
                    out[os.path.relpath(p, top)] = hashlib.sha256(f.read()).hexdigest()
    return out


@pytest.mark.parametrize("who", ["root-without-capabilities", "ptrace-and-dac"])
def test_the_cache_of_filters_cannot_be_replaced(ctr, who):
    """A container cannot replace a filter in the cache, because otherwise every later container with that profile
    would run without its filter."""
    c = payload(ctr, who)
    c.create()
    before = contents(c.rt.root)
    vandal(c, who)
    assert contents(c.rt.root) == before, "a file of the state directory was overwritten from the container"
    later = payload(ctr)
    later.conf["process"]["args"] = ["probe", "syscall", GETPRIORITY]
    assert later.run().ok().out.startswith("99 "), "a later container runs without its filter"


@pytest.mark.parametrize("who", ["root-without-capabilities", "ptrace-and-dac"])
def test_the_log_cannot_be_written(ctr, tmp, who):
    log = os.path.join(tmp, "caisson.log")
    ctr.rt.options = ["--log", log, "--debug"]
    c = payload(ctr, who)
    c.create()
    ctr.rt.options = []
    before = open(log, "rb").read()
    assert before, "--debug wrote nothing, so that this test would see nothing"
    vandal(c, who)
    c.start()
    assert open(log, "rb").read() == before, "the host's log was written from the container"


@pytest.mark.parametrize("who", ["root-without-capabilities", "root-with-the-default-capabilities", "ptrace-and-dac"])
def test_created_and_running_cannot_be_confused_by_locks(ctr, who):
    c = payload(ctr, who)
    c.create()
    assert c.status() == "created"
    vandal(c, who)
    assert c.status() == "created"
    c.start()
    assert c.status() == "running", "a lock that a process of the container holds hides that the program runs"
    r = c.delete(check=False)
    assert r.rc != 0 and proc_stat(c.pid())[1] != "Z", "delete without --force ended a running container"
    assert c.start(check=False).rc != 0
    assert c.status() == "running"


@pytest.mark.parametrize("how", ["start", "run"])
def test_the_runtime_does_not_wait_for_a_descriptor_that_is_held(ctr, how):
    """The runtime does not wait for the end of the channel, or of result.fifo, which never comes if a process of the
    container keeps a copy of INIT's descriptor."""
    c = payload(ctr, "ptrace-and-dac")
    c.conf["hooks"] = {"startContainer": [
        {"path": "/bin/look", "args": ["look", "-o", "/tmp/held", "hold", "1"], "env": ["PATH=/bin"]}]}
    if how == "start":
        c.create()
        c.start()
    else:
        c.run("--detach").ok()
    with open(c.path("/tmp/held")) as f:
        held = [w for w, code, _ in Report(f.read()).lines if code == "ok" and w.startswith("hold/")]
    assert len(held) > 3, f"no descriptor but the standard streams was copied: {held}"
    assert c.status() == "running"


@pytest.mark.parametrize("how", ["start", "run"])
def test_a_failure_is_told_although_a_descriptor_is_held(ctr, how):
    """A failure is reported even if a process holds a descriptor. Here the program's interpreter does not exist, which
    the kernel reports at execve(2), after the hook."""
    c = payload(ctr, "ptrace-and-dac")
    with open(c.path("/bin/broken"), "w") as f:
        f.write("#!/bin/nothing-of-this-name\n")
    os.chmod(c.path("/bin/broken"), 0o755)
    c.conf["process"]["args"] = ["/bin/broken"]
    c.conf["hooks"] = {"startContainer": [
        {"path": "/bin/look", "args": ["look", "-o", "/tmp/held", "hold", "1"], "env": ["PATH=/bin"]}]}
    if how == "run":
        c.run().failed("/bin/broken")
    else:
        c.create()
        c.start(check=False).failed("/bin/broken")
    assert os.path.exists(c.path("/tmp/held")), "the hook did not run"


# ---- the listener of SCMP_ACT_NOTIFY ----

def test_listener_comes_while_the_container_is_created(ctr, tmp):
    """The agent gets the listener before create ends, with the status "creating", as config-linux.md says."""
    with Agent(os.path.join(tmp, "agent")) as agent:
        c = sight.with_agent(ctr("/bin/true"), agent.path, ["getpriority"])
        c.create()
        # The message is on the socket when create ends. The agent's thread may read it a moment later.
        wait_for(lambda: agent.states, "the listener, before start")
        assert agent.states[0]["state"]["status"] == "creating"
        c.start()
        c.wait()
        assert len(agent.states) == 1


@pytest.mark.parametrize("how", ["create", "run", "run-detached"])
def test_nobody_listens(ctr, tmp, how):
    """If nobody listens, the container is refused, and not one instruction of the program runs."""
    for i in range(5):
        c = sight.with_agent(ctr.sh("echo ran > /tmp/ran"), os.path.join(tmp, "nobody"), ["getpriority"])
        if how == "create":
            r = c.create(check=False)
        else:
            r = c.run(*(["--detach"] if how == "run-detached" else []))
        r.failed("listenerPath" if "listenerPath" in r.err else "nobody")
        assert not c.exists()
        assert not os.path.exists(c.path("/tmp/ran")), "the program ran"


def test_nobody_listens_to_an_exec(ctr, tmp):
    with Agent(os.path.join(tmp, "agent")) as agent:
        c = sight.with_agent(ctr.idle(), agent.path, ["getpriority"])
        c.up()
    for i in range(15):
        r = c.exec("sh", "-c", "echo ran > /tmp/ran")
        assert r.rc != 0, r
        assert not os.path.exists(c.path("/tmp/ran")), "the program ran although nobody listens"


@pytest.mark.parametrize("call", ["sendmsg", "sendto", "recvmsg", "socket", "connect", "fcntl", "poll"])
def test_notify_on_a_call_that_hands_things_over(ctr, tmp, call):
    """A profile may notify of calls that pass descriptors, as agents that forward sockets need. The runtime itself
    must do without these calls once the filter is in force."""
    with Agent(os.path.join(tmp, "agent")) as agent:
        c = sight.with_agent(ctr("/bin/look", "send"), agent.path, [call])
        assert c.run().ok().out == "EBADF\n"
        assert len(agent.states) == 1


@pytest.mark.parametrize("call", ["sendmsg", "sendto", "connect"])
def test_notify_on_a_call_that_hands_things_over_in_exec(ctr, tmp, call):
    with Agent(os.path.join(tmp, "agent")) as agent:
        c = sight.with_agent(ctr("/bin/payload", "wait"), agent.path, [call])
        c.up()
        assert c.exec("/bin/look", "send").ok().out == "EBADF\n"
        assert len(agent.states) == 2 and agent.states[1]["state"]["status"] == "running"


def test_the_agent_decides_about_sendmsg(ctr, tmp):
    """sendmsg returns the agent's answer, which shows that the calls did go to the agent."""
    import fcntl
    import errno
    from harness.pty_ import Receiver
    with Receiver(os.path.join(tmp, "agent")) as rcv:
        c = sight.with_agent(ctr("/bin/look", "send"), rcv.path, ["sendmsg"]).write()
        with open(c.log, "wb") as log:
            p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=log, stderr=log)
        fd = rcv.wait()
        req = bytearray(80)
        fcntl.ioctl(fd, Agent.RECV, req)
        fcntl.ioctl(fd, Agent.SEND, bytearray(struct.pack("QqiI", struct.unpack_from("Q", req)[0], 0, -errno.EDOM, 0)))
        assert p.wait(10) == 0
        assert c.output() == "EDOM\n"
