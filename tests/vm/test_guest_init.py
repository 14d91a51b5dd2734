# SPDX-License-Identifier: Apache-2.0
"""
What a process of the container finds when it looks at INIT in a guest: as on the host (tests/security), nothing of the one
that made it. It looks by exec before "start", from a startContainer hook, and at the INIT of further execs.
"""
import errno
import os
import re
import shutil
import signal
import struct
import sys

import pytest
from agent_fixtures import guest, process_of, sh, status_exit  # noqa: F401 (fixtures too)
from harness import config, machine
from harness.runtime import status_of, wait_for

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "security"))
import sight  # noqa: E402
from sight import WHO, Report  # noqa: E402

TRACERS = [w for w in WHO if WHO[w]["traces"]]
OTHERS = [w for w in WHO if not WHO[w]["traces"]]
# A filter that refuses getpriority(2), compiled for x86-64.
FILTER = b"".join(struct.pack("<HBBI", *i) for i in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 140), (0x06, 0, 0, 0x00050063), (0x06, 0, 0, 0x7fff0000)))


@pytest.fixture(scope="session")
def look(work):
    return sight.build_look(os.path.join(work, "look-guest"))


@pytest.fixture
def host(guest, look):
    """An agent whose container has the looking program, also as /bin/payload."""
    h = guest()
    for name in ("look", "payload"):
        shutil.copy(look, os.path.join(h.work, "share-source/0/bin", name))
    os.chmod(os.path.join(h.work, "share-source/0/tmp"), 0o1777)
    return h


def payload(**more):
    c = config.default("/bin/payload", "wait", **more)
    c["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                             "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}
    return c


def created(h, c, stdio=(0, 1, 2)):
    s = h.create(c, stdio, seccomp=FILTER, attached=False)
    h.expect("reached", process=0, barrier="created")
    return s


def start(h):
    h.send("start", process=0)
    h.expect("running", process=0)


def up(h, c):
    created(h, c)
    start(h)


def look_from(h, who, *args, number=1):
    s = h.exec(number, sight.process(who, "/bin/look", *args), stdio=(1,), seccomp=FILTER)
    out = s[1].read_all().decode()
    assert h.expect("exited", process=number)["status"] == 0, out
    return out


def assert_shut(r):
    assert not r.opened(), f"INIT can be looked into: {r.opened()}"
    assert {"environ", "maps", "mem", "exe", "ptrace", "vm-readv"} <= set(r.denied()), r.lines


def assert_empty(r, most):
    """What a tracer finds: pipes, the channel, and a program in a memfd that cannot be written."""
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE), r.one("cmdline")
    assert r.all("environ") == [""], r.all("environ")
    fds = r.fds()
    assert len(fds) <= most, fds
    for number, (kind, _ino, fs) in fds.items():
        assert kind in (sight.FIFOS, sight.SOCKETS), (number, kind, r.all(f"fd/{number}"))
        assert fs != sight.PROC_SUPER_MAGIC
    assert "exe-write" not in r.opened()
    mapped = set(re.findall(r"/\S+", " ".join(r.all("maps"))))
    assert mapped and all(m.startswith("/memfd:") for m in mapped), mapped


@pytest.mark.parametrize("who", WHO)
def test_control_a_program_can_be_looked_into(host, who):
    """The same look at a program that hides nothing sees it, so that the tests below would see INIT."""
    w = WHO[who]
    rights = {k: w["caps"] for k in ("bounding", "effective", "permitted")}
    up(host, payload(user={"uid": w["uid"], "gid": w["uid"]}, capabilities=rights))
    r = Report(look_from(host, who, "at", "1"))
    assert {"environ", "maps", "mem", "exe", "fd/0", "vm-readv", "ptrace"} <= set(r.opened()), r.lines


@pytest.mark.parametrize("who", OTHERS)
def test_created_is_shut(host, who):
    created(host, payload())
    r = Report(look_from(host, who, "at", "1"))
    assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE), r.one("cmdline")
    start(host)


@pytest.mark.parametrize("who", TRACERS)
def test_created_has_nothing(host, who):
    created(host, payload())
    assert_empty(Report(look_from(host, who, "at", "1")), most=4)
    start(host)


def test_created_is_shut_in_a_user_namespace(host):
    c = payload()
    config.namespaces(c, "user")
    c["linux"]["uidMappings"] = c["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    share = os.path.join(host.work, "share-source/0")
    for d, dirs, files in os.walk(share):
        for n in [d, *(os.path.join(d, x) for x in dirs + files)]:
            os.lchown(n, 100000, 100000)
    created(host, c)
    for i, who in enumerate(WHO):
        assert_shut(Report(look_from(host, who, "at", "1", number=i + 1)))
    start(host)


def test_created_has_the_rights_of_the_program(host):
    """The filter is in force before anybody may look, and so are user and capabilities."""
    created(host, payload(user={"uid": 7, "gid": 8}))
    s = host.exec(1, process_of(payload(), "/bin/cat", "/proc/1/status"), stdio=(1,), seccomp=FILTER)
    status = status_of(s[1].read_all().decode())
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == ["7"] * 4 and status["Gid"].split() == ["8"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert not sight.mask(status, name) & ~config.cap_mask(config.CAPS), (name, status[name])


@pytest.mark.parametrize("who", ["root-without-capabilities", "ptrace-and-dac"])
def test_hook_looks(host, who):
    c = payload(capabilities={k: WHO[who]["caps"] for k in ("bounding", "effective", "permitted")})
    c["hooks"] = {"startContainer": [{"path": "/bin/look", "args": ["look", "-o", "/tmp/seen", "at", "1"]}]}
    created(host, c)
    start(host)
    with open(os.path.join(host.work, "share-source/0/tmp/seen")) as f:
        r = Report(f.read())
    if not WHO[who]["traces"]:
        return assert_shut(r)
    assert r.one("cmdline") == ("ok", sight.INIT_CMDLINE)
    assert r.all("environ") == [""]
    assert not [f for f in r.fds().values() if f[2] == sight.PROC_SUPER_MAGIC]


@pytest.mark.parametrize("who", ["root-without-capabilities", "root-with-the-default-capabilities", "ptrace-and-dac"])
def test_watched_exec(host, who):
    """The INIT of an exec, met by one who never stops looking. A long environment makes its last call take longer."""
    up(host, payload())
    watcher = host.exec(1, sight.process(who, "/bin/look", "-o", "/tmp/watched", "watch", "120", "/bin/payload"),
                        stdio=(1,), seccomp=FILTER)
    watcher[1].read_until(b"watching\n")
    tmp = os.path.join(host.work, "share-source/0/tmp")
    env = ["PATH=/bin", *(f"SECRET_{i}=do-not-show" + "x" * 100000 for i in range(8))]
    for number in range(2, 400):
        if number > 30 and os.path.exists(os.path.join(tmp, "caught")):
            break
        host.exec(number, process_of(payload(), "/bin/payload", "nothing", env=env), stdio=(), seccomp=FILTER)
        assert host.expect("exited", process=number)["status"] == 0
    open(os.path.join(tmp, "stop"), "w").close()
    assert host.expect("exited", process=1)["status"] == 0
    with open(os.path.join(tmp, "watched")) as f:
        r = Report(f.read())
    assert int(r.all("caught")[0]) > 0, "the watcher met no INIT at all"
    assert set(r.all("cmdline")) == {sight.INIT_CMDLINE}, r.all("cmdline")
    assert set(r.all("environ")) <= {""}, r.all("environ")
    assert "do-not-show" not in " ".join(" ".join(l) for l in r.lines)
    if not WHO[who]["traces"]:
        assert not r.opened(), f"INIT could be looked into: {r.opened()}"
    assert not [l for l in r.lines if l[1] == "ok" and "fs=9fa0" in l[2] and l[0].startswith(("fd/", "getfd/"))], r.lines


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read()
    except OSError:
        return None


def inits(h):
    """The pids, on the host, of the processes in the container's cgroup that are caisson-init."""
    with open(f"{machine.cgroup2_mount()}{h.cgroup}/cgroup.procs") as f:
        return [int(p) for p in f.read().split() if cmdline(p) == b"caisson-init\0"]


def test_exec_that_dies_before_it_forks(host):
    """Nobody but the agent learns of its end, and the exec's client has to be told. A process that ended meanwhile is reaped."""
    up(host, payload())
    host.exec(1, process_of(payload(), "/bin/payload", "wait"), stdio=(), seccomp=FILTER)
    host.expect("running", process=1)
    assert host.ask("freeze", frozen=True)["errno"] == 0
    host.exec(2, process_of(payload(), "/bin/payload", "nothing"), stdio=(), seccomp=FILTER, ignore_paused=True)
    wait_for(lambda: inits(host), "INIT of the exec")
    host.send("signal", process=1, signal=9)
    assert host.expect("exited", process=1)["status"] == 9, "an exec's end is not told while another one is made"
    for pid in inits(host):
        os.kill(pid, 9)
    f = host.expect("failed", process=2)
    assert "signal 9" in f["message"], f
    assert host.ask("freeze", frozen=False)["errno"] == 0
    host.exec(3, process_of(payload(), "/bin/payload", "nothing"), stdio=(), seccomp=FILTER)
    assert host.expect("exited", process=3)["status"] == status_exit(0)


def test_exec_that_ends_before_the_agent_knows_it(host):
    """Its process is a child of the agent's that the agent hears of only after it has ended."""
    up(host, payload())
    host.exec(1, process_of(payload(), "/bin/look", "wait"), stdio=(), seccomp=FILTER)
    host.expect("running", process=1)
    assert host.ask("freeze", frozen=True)["errno"] == 0
    host.exec(2, process_of(payload(), "/bin/payload", "nothing"), stdio=(), seccomp=FILTER, ignore_paused=True)
    wait_for(lambda: inits(host), "INIT of the exec")
    agent, = machine._children(host.process.pid)
    waits, = [p for p in machine._children(agent) if cmdline(p) == b"/bin/look\0wait\0"]
    os.kill(agent, signal.SIGSTOP)
    # The agent hears of this end first, and then looks for children that have ended.
    os.kill(waits, signal.SIGKILL)
    wait_for(lambda: machine.proc_stat(waits)[1] == "Z", "end of the first exec")
    with open(f"{machine.cgroup2_mount()}{host.cgroup}/cgroup.freeze", "w") as f:
        f.write("0")
    wait_for(lambda: sum(machine.proc_stat(p)[1] == "Z" for p in machine._children(agent)) == 3, "end of the second exec")
    os.kill(agent, signal.SIGCONT)
    assert host.expect("exited", process=1)["status"] == 9
    host.expect("running", process=2)
    assert host.expect("exited", process=2)["status"] == 0


def test_signal_before_the_exec_runs(host):
    """A signal that comes while the container is frozen, before the process of the exec exists, is the program's."""
    host.run(sh("while :; do sleep 0.05; done"), stdio=())
    assert host.ask("freeze", frozen=True)["errno"] == 0
    host.exec(1, process_of(sh(""), "/bin/payload", "wait"), stdio=(), ignore_paused=True)
    host.send("signal", process=1, signal=15)
    assert host.ask("freeze", frozen=False)["errno"] == 0
    assert host.expect("exited", process=1)["status"] == 15


def test_exec_into_a_frozen_container(host):
    host.run(sh("while :; do sleep 0.05; done"), stdio=())
    assert host.ask("freeze", frozen=True)["errno"] == 0
    host.exec(1, process_of(sh(""), "/bin/payload", "wait"), stdio=())
    failed = host.expect("failed", process=1)
    assert failed["errno"] == errno.EBUSY and "frozen" in failed["message"]
