# SPDX-License-Identifier: Apache-2.0
"""Tests that nothing waits for ever: whatever does not answer, a command that waits for it can be ended, and undoes
what it has made."""
import fcntl
import os
import pty
import signal
import subprocess
import time

import pytest
from harness import config, machine, mode
from harness.runtime import wait_for


def top():
    return machine.cgroup2_mount() or pytest.skip("no cgroup2 mount")


def start_waiting(c, tmp, command, kind="createRuntime", script=""):
    """Starts a command that makes a container, and one of whose hooks never ends. Returns once the hook runs."""
    mark = os.path.join(tmp, "hook-runs")
    c.conf["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"{script}\ntouch {mark}; exec sleep 1000"]}],
                       "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {tmp}/poststop"]}]}
    c.write()
    with open(c.log, "wb") as log:
        p = c.rt.popen(*command, "--bundle", c.bundle, c.id, stdout=log, stderr=subprocess.PIPE)
    wait_for(lambda: os.path.exists(mark), "the hook")
    return p


def ended(p, *texts, timeout=10):
    err = p.communicate(timeout=timeout)[1].decode()
    assert p.returncode > 0 and len([l for l in err.splitlines() if "runs in software" not in l]) == 1, (p.returncode, err)
    for t in texts:
        assert t in err, err


COMMANDS = [["create"], ["run"], ["run", "--detach"]]


@pytest.mark.parametrize("sig", ["TERM", "INT", "HUP", "QUIT"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_signal_while_a_hook_runs(ctr, tmp, command, sig):
    c = ctr("true")
    p = start_waiting(c, tmp, command)
    p.send_signal(getattr(signal, "SIG" + sig))
    ended(p, f"signal {int(getattr(signal, 'SIG' + sig))}", "createRuntime")
    assert not c.exists() and os.path.exists(tmp + "/poststop")


@pytest.mark.parametrize("kind", ["createContainer", "startContainer", "poststart"])
def test_signal_while_another_hook_runs(ctr, tmp, kind):
    """A signal ends a command that waits for a hook of another kind. INIT runs the first two kinds, and the command
    waits for INIT."""
    c = ctr.idle()
    c.conf["mounts"].append({"destination": tmp, "type": "bind", "source": tmp, "options": ["bind", "rw"]})
    p = start_waiting(c, tmp, ["run"], kind)
    p.send_signal(signal.SIGTERM)
    ended(p, "signal 15")
    assert not c.exists()


@pytest.mark.parametrize("how", ["delete", "delete --regex", "kill"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_container_in_the_making(ctr, tmp, command, how):
    """delete --force of a container that is being made and has no process yet ends the command that makes it, and
    names it."""
    c = ctr("true")
    p = start_waiting(c, tmp, command)
    r = c.kill() if how == "kill" else c.delete("--force", *how.split()[1:])
    assert f"process {p.pid}" in r.err and c.id in r.err, r
    ended(p, "signal 15")
    wait_for(lambda: not c.exists(), "end of the container")


def test_maker_that_does_not_answer(ctr, tmp):
    """If the command that makes the container does not answer, delete kills it and undoes what it has made."""
    c = ctr("true")
    p = start_waiting(c, tmp, ["run"])
    p.send_signal(signal.SIGSTOP)
    c.delete("--force")
    assert p.wait(5) == -signal.SIGKILL and not c.exists()
    p.communicate()


@pytest.mark.slow
def test_delete_while_start_waits_for_a_hook(ctr, tmp):
    c = ctr.idle()
    c.conf["hooks"] = {"poststart": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}
    c.create()
    p = c.rt.popen("start", c.id)
    wait_for(lambda: c.status() == "running", "the program")
    assert str(p.pid) in c.delete("--force", check=True).err
    assert p.wait(5) != 0 and not c.exists()


def test_other_signals_do_not_end_a_command_that_makes(ctr, tmp):
    c = ctr.sh("exit 3")
    mark = tmp + "/go"
    c.conf["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {tmp}/in; while ! [ -e {mark} ]; do sleep 0.05; done"]}]}
    c.write()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id)
    wait_for(lambda: os.path.exists(tmp + "/in"), "the hook")
    p.send_signal(signal.SIGWINCH)
    p.send_signal(signal.SIGCHLD)
    open(mark, "w").close()
    assert p.wait(10) == 3


@pytest.fixture
def frozen():
    path = f"{top()}/caisson-frozen-{os.getpid()}"
    os.mkdir(path)
    yield path
    with open(path + "/cgroup.freeze", "w") as f:
        f.write("0")
    os.rmdir(path)


def freeze(path):
    with open(path + "/cgroup.freeze", "w") as f:
        f.write("1")
    wait_for(lambda: "frozen 1" in open(path + "/cgroup.events").read(), "frozen cgroup")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_beneath_a_frozen_cgroup(ctr, frozen, command):
    c = ctr("true")
    c.conf["linux"]["cgroupsPath"] = frozen[len(top()):] + "/c"
    freeze(frozen)
    c.write().rt(*command, "--bundle", c.bundle, c.id, timeout=10).failed("cgroup", "frozen", "thaw")
    assert not c.exists() and os.listdir(frozen).count("c") == 0


@pytest.mark.parametrize("by", ["TERM", "delete"])
def test_cgroup_frozen_while_the_container_is_made(ctr, tmp, frozen, by):
    c = ctr("true")
    c.conf["linux"]["cgroupsPath"] = frozen[len(top()):] + "/c"
    c.conf["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo 1 > {frozen}/cgroup.freeze"]}]}
    c.write()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stderr=subprocess.PIPE)
    wait_for(lambda: open(frozen + "/cgroup.events").read().split()[-1] == "1" and os.path.exists(frozen + "/c"), "frozen cgroup")
    time.sleep(0.2)
    assert p.poll() is None
    if by == "TERM":
        p.send_signal(signal.SIGTERM)
    else:
        c.delete("--force")
    ended(p, "signal 15")
    assert not c.exists()


def test_exec_in_a_frozen_sub_cgroup(ctr):
    """exec into a sub-cgroup that the container has frozen does not hang."""
    top()
    c = ctr.sh("cd /sys/fs/cgroup && mkdir sub && { sleep 1000 & echo $! >sub/cgroup.procs; } && "
               "echo 1 >sub/cgroup.freeze; until grep 'frozen 1' sub/cgroup.events; do sleep 0.1; done; sleep 1000")
    config.writable_cgroup(c.conf)
    c.up()
    c.wait_output("frozen")
    c.exec("true", opts=["--cgroup", "sub"], timeout=10).failed("cannot exec in a paused container", "frozen")
    p = c.rt.popen("exec", "--ignore-paused", "--cgroup", "sub", c.id, "true", stderr=subprocess.PIPE)
    time.sleep(0.3)
    assert p.poll() is None
    p.send_signal(signal.SIGTERM)
    ended(p, "signal 15")
    c.delete("--force")


@pytest.mark.parametrize("detach", [False, True])
def test_exec_that_waits_for_resume(ctr, detach):
    c = ctr.idle().up()
    c.rt("pause", c.id).ok()
    p = c.rt.popen("exec", "--ignore-paused", *(["--detach"] if detach else []), c.id, "true", stderr=subprocess.PIPE)
    time.sleep(0.3)
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    ended(p, "signal 2")
    c.rt("resume", c.id).ok()
    assert len(c.rt("ps", "--format", "json", c.id).json()) <= 2  # only the shell and its sleep


def test_an_ignored_signal_ends_no_exec(ctr):
    """nohup(1) ignores SIGHUP."""
    c = ctr.idle().up()
    c.rt("pause", c.id).ok()
    p = c.rt.popen("exec", "--ignore-paused", c.id, "true", stderr=subprocess.PIPE,
                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    time.sleep(0.3)
    p.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert p.poll() is None, p.communicate()
    c.rt("resume", c.id).ok()
    assert p.wait(30) == 0, p.communicate()


def on_unread(c, kind, argv):
    """Starts a command on a terminal that nobody reads, or whose standard output is a full pipe that nobody reads."""
    master, slave = pty.openpty()
    fds = [master, slave]
    stdout = slave
    if kind == "full pipe":
        r, w = os.pipe()
        fds += [r, w]
        os.set_blocking(w, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(w, b"x" * 4096)
        os.set_blocking(w, True)
        stdout = w
    return c.rt.popen(*argv, stdin=slave, stdout=stdout, stderr=subprocess.DEVNULL), fds


@pytest.mark.parametrize("kind", ["terminal", "full pipe"])
@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize("when", ["the process has ended", "it still runs"])
def test_output_that_nobody_reads(ctr, tmp, kind, how, when):
    """Signals work whether or not anybody reads the output of the process."""
    gone = tmp + "/gone" if when == "the process has ended" else None
    script = ("head -c 300000 /dev/zero | tr '\\0' z & sleep 0.3; touch /up; exit 5" if gone else
              "trap 'exit 6' TERM; yes & touch /up; while :; do sleep 0.05; done")
    c = ctr.sh(script, terminal=True) if how == "run" else ctr.idle().up()
    c.write()
    argv = ["run", "--bundle", c.bundle, c.id] if how == "run" else ["exec", "-t", c.id, "sh", "-c", script]
    p, fds = on_unread(c, kind, argv)
    try:
        wait_for(lambda: os.path.exists(c.path("/up")), "the process")
        time.sleep(0.5 * mode.SCALE)
        assert p.poll() is None
        p.send_signal(signal.SIGTERM)
        assert p.wait(5) == (5 if gone else 6)
    finally:
        p.kill()
        p.wait()
        for fd in fds:
            os.close(fd)


def test_slow_reader_loses_nothing(ctr):
    """A slow reader loses nothing, because the wait for it has no time limit."""
    c = ctr.sh("head -c 200000 /dev/zero | tr '\\0' z", terminal=True)
    c.write()
    r, w = os.pipe()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=w)
    os.close(w)
    time.sleep(1.5)
    got = 0
    while True:
        d = os.read(r, 65536)
        if not d:
            break
        got += len(d)
    os.close(r)
    assert (got, p.wait(5)) == (200000, 0)


def test_exec_ends_with_its_process(ctr, tmp):
    """exec ends with its own process, and not with the last process that has its standard output. What the process
    wrote is passed on, and what the others write later flows."""
    c = ctr.idle().up()
    out = tmp + "/out"
    began = time.monotonic()
    with open(out, "wb") as f:
        p = c.rt.popen("exec", c.id, "sh", "-c", "(sleep 4; echo later) & head -c 200000 /dev/zero | tr '\\0' z; echo hi; exit 7", stdout=f)
        assert p.wait(3) == 7
    took = time.monotonic() - began
    assert os.path.getsize(out) == 200003 and took < 3 * mode.SCALE
    wait_for(lambda: open(out).read().endswith("later\n"), "what the other process writes", 10)


def test_exec_whose_other_process_writes_on(ctr):
    """exec ends although another process with its output never stops writing, or writes and is not read."""
    c = ctr.idle().up()
    r, w = os.pipe()
    p = c.rt.popen("exec", c.id, "sh", "-c", "yes & sleep 0.3; exit 3", stdout=w)
    os.close(w)
    end = time.monotonic() + 10 * mode.SCALE
    os.set_blocking(r, False)
    while p.poll() is None and time.monotonic() < end:
        try:
            os.read(r, 65536)
        except BlockingIOError:
            time.sleep(0.001)
    os.close(r)
    assert p.wait(1) == 3


@pytest.mark.parametrize("sig", ["TERM", "INT"])
def test_exec_whose_output_nobody_takes(ctr, sig):
    """An exec without a terminal whose output nobody takes ends: in a container the rest of the output is lost with
    the process; in a microVM a signal says not to wait for it."""
    c = ctr.idle().up()
    r, w = os.pipe()
    p = c.rt.popen("exec", c.id, "sh", "-c", "yes & sleep 0.5; exit 3", stdout=w)
    try:
        time.sleep(1.5 * mode.SCALE)
        if p.poll() is None:
            p.send_signal(getattr(signal, "SIG" + sig))
        assert p.wait(5) == 3
    finally:
        p.kill()
        p.wait()
        os.close(r)
        os.close(w)


FILTERS = {
    "EPERM": {"defaultAction": "SCMP_ACT_ERRNO"},
    "nothing happens": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0},
    "ENOSYS": {"defaultAction": "SCMP_ACT_TRACE"},
}


@pytest.mark.parametrize("name", FILTERS)
def test_filter_that_forbids_to_end(ctr, name):
    """A filter that refuses even exit_group and execve ends INIT by a fault. INIT does not try again for ever."""
    c = ctr("true")
    c.conf["linux"]["seccomp"] = FILTERS[name]
    r = c.write().rt("run", "--bundle", c.bundle, c.id, timeout=10 * mode.SCALE)
    assert r.rc > 0, r
    assert not c.exists()
