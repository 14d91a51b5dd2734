# SPDX-License-Identifier: Apache-2.0
"""Tests kill -9 of the runtime at any point: after `delete --force` no mount, cgroup, interface, process or file is
left.

No code in caisson takes part: strace kills the runtime at its Nth call of a kind (inject=...:signal=KILL), for every
kind of call that changes something, with N sampled over the whole run. strace traces only the runtime's own process
(no -f), because its helpers and the container's process must then go away by themselves.
"""
import os
import re
import resource
import shutil
import subprocess
import time

import pytest
from harness import machine, mode
from harness.runtime import wait_for

CALLS = ["openat", "openat2", "mkdirat", "mkdir", "write", "pwrite64", "renameat", "renameat2", "rename", "unlinkat", "unlink", "rmdir",
         "clone3", "clone", "fork", "vfork", "mount", "umount2", "fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr",
         "setns", "unshare", "bpf", "sendmsg", "recvmsg", "sendto", "read", "close", "dup3", "waitid", "wait4", "pidfd_send_signal",
         "kill", "fchmod", "fchown", "ftruncate", "flock", "fcntl", "ioctl", "socketpair", "connect", "memfd_create", "linkat",
         "symlinkat", "mknodat", "epoll_wait", "ppoll", "poll", "exit_group", "execve"]
# number of moments in one command at which it is killed; fewer if it has fewer
SAMPLES = int(os.environ.get("CAISSON_TEST_FAULTS", "20" if mode.VM else "500"))
# The part of the kills that must have happened. The number of calls varies from run to run: a microVM's `delete` makes up
# to a fifth more of them if the monitor has not ended when the cgroup is first removed.
HITS = 0.7 if mode.VM else 0.9


def counts(rt, argv, log):
    """Returns how often the command makes each call."""
    subprocess.run(["strace", "-qq", "-o", log, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=60)
    n = {}
    with open(log, errors="replace") as f:
        for l in f:
            m = re.match(r"(?:\d+\s+)?(\w+)\(", l)
            if m:
                n[m.group(1)] = n.get(m.group(1), 0) + 1
    return n


def points(n):
    """
    Picks (call, nth) over the whole run: every call that is made few times, and evenly spread samples of the others.
    """
    all_ = [(c, i) for c in CALLS for i in range(1, n.get(c, 0) + 1)]
    step = max(1, len(all_) // SAMPLES)
    return all_[::step]


def rich(ctr, out):
    """Makes a container with something of every kind that could be left behind."""
    c = ctr.idle()
    c.conf["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    c.conf["mounts"].append({"destination": "/b", "type": "bind", "source": out, "options": ["rbind", "ro"]})
    c.conf["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}
    return c


def strike(c, argv, call, nth):
    inject = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"]
    p = subprocess.Popen([*inject, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return p.wait(20 * mode.SCALE)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
        raise AssertionError(f"{argv} hangs with SIGKILL at {call} {nth}") from None


def check_gone(c, before, what):
    r = c.rt("delete", "--force", c.id)
    assert r.rc == 0, (what, r)
    left = machine.leftovers(before, wait=5 * mode.SCALE)
    assert not left, f"{what}: " + "; ".join(left)
    assert not os.path.exists(os.path.join(c.rt.root, c.id)), what
    assert c.id not in c.rt("list", "-q").ok().out, what


@pytest.fixture
def out(tmp):
    d = os.path.join(tmp, "out")
    os.mkdir(d)
    return d


@pytest.mark.slow
@pytest.mark.parametrize("command", ["create", "run"])
def test_killed_while_making(ctr, out, tmp, command):
    c = rich(ctr, out)
    if command == "run":
        c.conf["process"]["args"] = ["true"]
    argv = c.write().rt.argv(command, "--bundle", c.bundle, c.id)
    ps = points(counts(c.rt, argv, os.path.join(tmp, "trace")))
    c.delete("--force")
    before = machine.Snapshot()
    assert len(ps) >= min(50, SAMPLES), "too few moments: is strace tracing the runtime?"
    hit = 0
    for call, nth in ps:
        # Each run has a fresh state directory, so that it makes the calls that were counted, including those for the
        # first use.
        shutil.rmtree(c.rt.root, ignore_errors=True)
        hit += strike(c, argv, call, nth) == -9
        check_gone(c, before, f"{command}, SIGKILL at {call} {nth}")
    assert hit >= HITS * len(ps), f"{hit} of {len(ps)}"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["start", "kill", "delete", "pause", "exec"])
def test_killed_during(ctr, out, tmp, command):
    args = {"start": ["start"], "kill": ["kill"], "delete": ["delete", "--force"], "pause": ["pause"], "exec": ["exec"]}[command]
    c = rich(ctr, out).write()

    def prepare():
        c.create(stdout=subprocess.DEVNULL)
        if command != "start":
            c.start()

    after = {"kill": ["KILL"], "exec": ["true"]}.get(command, [])
    argv = c.rt.argv(*args, c.id, *after)

    def count():
        prepare()
        n = counts(c.rt, argv, os.path.join(tmp, "trace"))
        c.delete("--force")
        return n
    # A busy machine may make the command wait in more steps, which it has not every time.
    first, second = count(), count()
    ps = points({call: min(n, second.get(call, 0)) for call, n in first.items()})
    before, hit = machine.Snapshot(), 0
    for call, nth in ps:
        prepare()
        hit += strike(c, argv, call, nth) == -9
        check_gone(c, before, f"{command}, SIGKILL at {call} {nth}")
    assert hit >= HITS * len(ps), f"{hit} of {len(ps)}"


@pytest.mark.slow
def test_killed_during_run_at_moments(ctr, out):
    """`delete` cleans up after `run` and its whole process group were killed at moments of time."""
    c = rich(ctr, out)
    c.conf["process"]["args"] = ["true"]
    c.write()
    t0 = time.monotonic()
    c.run().ok()
    whole = time.monotonic() - t0
    before = machine.Snapshot()
    for i in range(mode.times(30)):
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * i / mode.times(30))
        p.kill()
        p.wait()
        check_gone(c, before, f"run, SIGKILL after {i}/{mode.times(30)}")


@pytest.mark.parametrize("command", ["create", "run"])
def test_too_few_descriptors(ctr, out, command):
    """Whatever the limit of open files is, a command works, or it prints one message and leaves nothing, without any
    delete."""
    c = rich(ctr, out)
    c.conf["process"]["args"] = ["true"]
    c.write()
    before, worked, reported = machine.Snapshot(), [], []
    for limit in (4, 16, 24, 64, 300) if mode.VM else range(4, 84, 2):
        r = c.rt(command, "--bundle", c.bundle, c.id, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        if r.rc == 0:
            worked.append(limit)
            if command == "create":
                c.delete("--force")
        else:
            r.failed("open files" if mode.VM and limit == 64 else "")  # a monitor that may not raise it to what it needs
            reported.append(limit)
            assert not c.exists(), (limit, r)
        left = machine.leftovers(before, wait=5)
        assert not left, f"limit {limit}, exit {r.rc}, {r.err}: " + "; ".join(left)
    assert 16 in reported and worked, (reported, worked)


@pytest.mark.parametrize("command", ["create", "run"])
def test_too_small_a_limit_of_file_sizes(ctr, out, command):
    """Whatever RLIMIT_FSIZE (ulimit -f) is, a command works, or it prints one message that names the limit and leaves
    nothing. SIGXFSZ never ends it."""
    c = rich(ctr, out)
    c.conf["process"]["args"] = ["true"]
    c.write()
    before, worked, reported = machine.Snapshot(), [], []
    for limit in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 20, 1 << 40):  # the message itself may go to a file
        r = c.rt(command, "--bundle", c.bundle, c.id, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        if r.rc == 0:
            worked.append(limit)
            if command == "create":
                c.delete("--force")
        else:
            r.failed("RLIMIT_FSIZE")
            reported.append(limit)
            assert not c.exists(), (limit, r)
        left = machine.leftovers(before, wait=5)
        assert not left, f"limit {limit}, exit {r.rc}, {r.err}: " + "; ".join(left)
    assert 1 << 10 in reported and 1 << 40 in worked, (reported, worked)


def test_call_failures_during_create(ctr, out, tmp):
    """If one call of any kind fails with ENOMEM or EIO, create prints an error, returns an exit code and leaves
    nothing, without any delete."""
    c = rich(ctr, out).write()
    argv = c.rt.argv("create", "--bundle", c.bundle, c.id)
    n = counts(c.rt, argv, os.path.join(tmp, "trace"))
    c.delete("--force")
    before = machine.Snapshot()
    tried = 0
    for call in ("mkdirat", "mkdir", "clone3", "openat2", "bpf", "renameat", "renameat2", "rename", "socketpair", "sendmsg", "recvmsg",
                 "memfd_create", "open_tree", "move_mount", "setns"):
        for nth in range(1, min(n.get(call, 0), 1 if mode.VM else 6) + 1):
            err = os.path.join(tmp, "err")
            with open(err, "wb") as e:
                p = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                      f"inject={call}:error=ENOMEM:when={nth}", *argv], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=e)
                rc = p.wait(20 * mode.SCALE)
            tried += 1
            # If QEMU is used for lack of KVM, a message says so.
            said = [line for line in open(err, errors="replace").read().strip().splitlines() if "runs in software" not in line]
            if rc == 0:
                c.delete("--force")  # create could do without that call
            else:
                assert len(said) == 1, (call, nth, said)
                assert not c.exists(), (call, nth)
            left = machine.leftovers(before, wait=5)
            assert not left, f"{call} {nth} failed with ENOMEM (exit {rc}, {said}): " + "; ".join(left)
    assert tried >= 10
