# SPDX-License-Identifier: Apache-2.0
"""Tests the guest's agent with a running container: exec, signals, freeze, ps, stats, update."""
import os
import signal
import subprocess
import tempfile
import time

import pytest
from harness import machine
from harness.runtime import wait_for
from agent_fixtures import guest, process_of, running, status_exit  # noqa: F401 (fixtures too)


def test_exec(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "cat; echo err >&2; ls /proc | grep -c '^1$'; exit 4"))
    s[0].send(b"in\n")
    s[0].end()
    h.expect("running", process=1)
    assert s[1].read_all() == b"in\n1\n" and s[2].read_all() == b"err\n"
    assert h.expect("exited", process=1)["status"] == status_exit(4)


def test_exec_fails(running):
    h, c = running
    h.exec(1, process_of(c, "/no/such"))
    f = h.expect("failed", process=1)
    assert "no such file or directory" in f["message"] and f["errno"] == 2
    s = h.exec(2, process_of(c, "/bin/echo", "still"))
    assert s[1].read_all() == b"still\n"
    assert h.expect("exited", process=2)["status"] == 0
    assert not [f for f in h.frames if f.get("process") == 1], "nothing follows of one that failed"


def test_exec_terminal(running):
    h, c = running
    s = h.exec(5, process_of(c, "/bin/sh", "-c", "tty; stty size", terminal=True,
                             consoleSize={"height": 10, "width": 20}), stdio=(3,))
    out = s[3].read_until(b"10 20")
    assert b"/dev/pts/0" in out
    assert h.expect("exited", process=5)["status"] == 0


def test_many_execs_at_once(running):
    h, c = running
    n = 24
    streams = {i: h.exec(i, process_of(c, "/bin/sh", "-c", f"sleep 0.2; echo {i}; exit {i}"), stdio=(1,))
               for i in range(1, n + 1)}
    for i, s in streams.items():
        assert s[1].read_all() == f"{i}\n".encode()
        assert h.expect("exited", process=i)["status"] == status_exit(i)


def test_exec_leaves_a_daemon(running):
    """If an exec leaves a daemon, the agent reports the exec's exit at once, and what the daemon writes still arrives.
    """
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "(sleep 2; echo late) & echo now"), stdio=(1,))
    began = time.monotonic()
    assert s[1].read_until(b"now\n")
    assert h.expect("exited", process=1)["status"] == 0
    assert time.monotonic() - began < 1.8
    assert s[1].read_all() == b"late\n"


@pytest.mark.parametrize("when", ["before its end", "after its end"])
def test_signal_to_an_exec_whose_output_nobody_takes(running, when):
    """After a signal the agent reports the exit of an exec soon after its end, although its output is still in the
    guest because nobody takes it."""
    h, c = running
    end = "sleep 1" if when == "before its end" else "sleep 0.2"
    h.exec(1, process_of(c, "/bin/sh", "-c", f"yes & trap : TERM; {end}; exit 3"), stdio=(1,))
    h.expect("running", process=1)
    time.sleep(0.6)
    h.send("signal", process=1, signal=int(signal.SIGTERM))
    began = time.monotonic()
    assert h.expect("exited", process=1)["status"] == status_exit(3)
    assert time.monotonic() - began < 5


def test_exec_ends_with_the_container(running):
    h, c = running
    h.exec(1, process_of(c, "/bin/sleep", "1000"), stdio=())
    h.expect("running", process=1)
    h.send("signal", process=0, signal=int(signal.SIGTERM))
    assert h.expect("exited", process=0)["status"] == status_exit(9)
    assert h.expect("exited", process=1)["status"] == signal.SIGKILL
    h.exec(2, process_of(c, "/bin/true"), stdio=())
    assert h.expect("failed", process=2)["message"] == "container not running"


def test_exec_user_and_environment(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "id -u; echo $A; pwd", user={"uid": 77, "gid": 78},
                             env=["PATH=/bin", "A=b c"], cwd="/tmp"), stdio=(1,))
    assert s[1].read_all() == b"77\nb c\n/tmp\n"


def test_exec_affinity_is_its_own(running):
    h, c = running
    p = process_of(c, "/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status", execCPUAffinity={"initial": "0"})
    s = h.exec(1, p, stdio=(1,))
    assert s[1].read_all().split() == [b"Cpus_allowed_list:", b"0"]
    s = h.exec(2, process_of(c, "/bin/grep", "Cpus_allowed_list", "/proc/self/status"), stdio=(1,))
    with open("/proc/self/status") as f:
        ours = [line.split()[1] for line in f if line.startswith("Cpus_allowed_list")]
    assert s[1].read_all().split()[1].decode() == ours[0]


def test_nothing_of_the_agents_is_inherited(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "ls /proc/self/fd; ls /proc/1/fd"), stdio=(0, 1, 2))
    out = s[1].read_all().split()
    # One more descriptor is the directory that ls reads.
    assert out[:4] == [b"0", b"1", b"2", b"3"] and b"4" not in out


# ---- requests of commands ----

def test_signals(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done"),
               stdio=(1,))
    s[1].read_until(b"up\n")
    h.send("signal", process=1, signal=int(signal.SIGUSR1))
    s[1].read_until(b"usr1\n")
    h.send("signal", process=1, signal=int(signal.SIGKILL))
    assert h.expect("exited", process=1)["status"] == signal.SIGKILL
    h.send("signal", process=99, signal=9)
    h.exec(2, process_of(c, "/bin/sleep", "1000"), stdio=())
    h.expect("running", process=2)
    h.send("signal", process=0, signal=int(signal.SIGKILL), all=True)
    assert h.expect("exited", process=0)["status"] == signal.SIGKILL
    assert h.expect("exited", process=2)["status"] == signal.SIGKILL


def test_freeze(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/sh", "-c", "while :; do echo x; sleep 0.02; done"), stdio=(1,))
    s[1].read_until(b"x\n")
    assert h.ask("freeze", frozen=True)["errno"] == 0
    time.sleep(0.2)
    s[1].sock.setblocking(False)
    try:
        while s[1].sock.recv(65536):
            pass
    except BlockingIOError:
        pass
    time.sleep(0.3)
    with pytest.raises(BlockingIOError):
        s[1].sock.recv(1)
    assert h.ask("freeze", frozen=False)["errno"] == 0
    s[1].sock.settimeout(5)
    assert s[1].sock.recv(1)


def test_changes_keep_their_order(running):
    """Requests that change something are done one after another, in the order in which they came."""
    h, _ = running
    ids = range(1000, 1060)
    for n in ids:
        h.send("freeze", id=n, frozen=n % 2 == 0)
    replies = [h.expect("reply") for _ in ids]
    assert [r["id"] for r in replies] == list(ids) and not any(r["errno"] for r in replies)
    with open(machine.cgroup2_mount() + h.cgroup + "/cgroup.freeze", encoding="ascii") as f:
        assert f.read() == "0\n"


@pytest.fixture
def stuck():
    """A process in a system call that ends only with the process: a look at a file system that no one serves."""
    at = tempfile.mkdtemp(prefix="stuck.", dir="/tmp")
    fuse = os.open("/dev/fuse", os.O_RDWR)
    machine.mount("stuck", at, "fuse", 0, f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
    p = subprocess.Popen(["stat", "-f", at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: machine.proc_stat(p.pid)[1] == "D", "the process that waits for the file system")
        yield p
    finally:
        p.kill()
        p.wait()
        os.close(fuse)
        machine.umount(at)
        os.rmdir(at)


def test_change_that_waits_holds_no_descriptors(running, stuck):
    """A change that waits for the one before it does not keep the streams of other processes open."""
    h, _ = running
    with open(machine.cgroup2_mount() + h.cgroup + "/cgroup.procs", "w", encoding="ascii") as f:
        f.write(str(stuck.pid))
    agent, = machine._children(h.process.pid)
    before = set(machine._children(agent))
    h.send("freeze", id=1, frozen=True)
    wait_for(lambda: len(set(machine._children(agent)) - before) == 1, "the first change")
    first, = set(machine._children(agent)) - before
    # Stopped, the change does not end when its time is over, and the agent does not kill it then.
    os.kill(first, signal.SIGSTOP)
    h.send("freeze", id=2, frozen=False)
    wait_for(lambda: len(set(machine._children(agent)) - before) == 2, "the second change")
    second, = set(machine._children(agent)) - before - {first}
    os.kill(agent, signal.SIGSTOP)
    try:
        # Its standard streams, the pipe for its reply, and the change for which it waits.
        wait_for(lambda: len(os.listdir(f"/proc/{second}/fd")) == 5, "a change without the descriptors of others")
    finally:
        stuck.kill()
        for pid in (first, agent):
            os.kill(pid, signal.SIGCONT)
    assert [h.expect("reply")["id"] for _ in range(2)] == [1, 2]


def test_exec_while_frozen(running):
    """An exec into a frozen container waits until the container goes on, and other requests do not wait for the exec.
    """
    h, c = running
    assert h.ask("freeze", frozen=True)["errno"] == 0
    s = h.exec(1, process_of(c, "/bin/echo", "thawed"), stdio=(1,), ignore_paused=True)
    assert h.ask("ps")["errno"] == 0
    with pytest.raises(AssertionError):
        h.expect("running", process=1, timeout=0.3)
    assert h.ask("freeze", frozen=False)["errno"] == 0
    h.expect("running", process=1)
    assert s[1].read_all() == b"thawed\n"
    assert h.expect("exited", process=1)["status"] == 0


def test_exec_is_in_the_cgroup(running):
    h, c = running
    s = h.exec(1, process_of(c, "/bin/cat", "/proc/self/cgroup"), stdio=(1,))
    assert b"0::/\n" in s[1].read_all(), "the root of the container's own cgroup namespace"


def test_ps(running):
    h, c = running
    h.exec(1, process_of(c, "/bin/sleep", "1234", user={"uid": 55, "gid": 55}), stdio=())
    h.expect("running", process=1)
    reply = h.ask("ps")
    assert reply["errno"] == 0
    ours = [p for p in reply["processes"] if p["command"] == "/bin/sleep 1234"]
    assert len(ours) == 1 and ours[0]["uid"] == 55 and ours[0]["tty"] == "?"
    assert abs(ours[0]["stime"] - time.time()) < 60 and ours[0]["time"] == 0
    assert any("while" in p["command"] for p in reply["processes"])


def test_stats(running):
    h, c = running
    reply = h.ask("stats")
    assert reply["errno"] == 0, reply
    assert "cgroup2" in reply["stats"] and "pids" in reply["stats"]


def test_update(running):
    h, c = running
    limits = h.make_blob(resources={"devices": [{"allow": True, "type": "c", "major": 1, "access": "rwm"}]})
    for bad in (b"", limits[:-1], limits[:8] + b"\0" + limits[9:]):
        assert h.ask("update", bad)["errno"], bad
    assert h.ask("update", limits)["errno"] == 0
    # The host limits CPU time, so the guest does nothing.
    assert h.update({"cpu": {"shares": 512}})["errno"] == 0
