# SPDX-License-Identifier: Apache-2.0
"""Tests two commands at once on one container, ten containers at once, and signals during every phase."""
import fcntl
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest
from harness import machine, mode
from harness.runtime import Runtime, wait_for


def together(*jobs):
    out = [None] * len(jobs)

    def go(i):
        try:
            out[i] = jobs[i]()
        except BaseException as e:
            out[i] = e

    ts = [threading.Thread(target=go, args=(i,)) for i in range(len(jobs))]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    for o in out:
        if isinstance(o, BaseException):
            raise o
    return out


def test_ten_containers_at_once(ctr):
    cs = [ctr.sh(f"echo {i}; exit {i}") for i in range(10)]
    for i, r in enumerate(together(*[c.run for c in cs])):
        assert (r.rc, r.out) == (i, f"{i}\n"), r


def test_same_id_at_once(ctr):
    """Exactly one create succeeds, and the others say that the container exists."""
    first = ctr.idle().write()
    rs = together(*[lambda: first.rt("create", "--bundle", first.bundle, first.id, stdout=open("/dev/null", "wb"))] * 6)
    assert sorted(r.rc == 0 for r in rs) == [False] * 5 + [True], rs
    for r in rs:
        if r.rc:
            r.failed("exist")
    assert first.status() == "created"


def test_start_twice_at_once(ctr):
    c = ctr.idle()
    c.create()
    rs = together(*[lambda: c.start(check=False)] * 4)
    assert [r.rc == 0 for r in rs].count(True) == 1, rs
    assert c.status() == "running"


def test_delete_at_once(ctr):
    c = ctr.idle().up()
    rs = together(*[lambda: c.delete("--force", check=False)] * 4)
    assert all(r.rc == 0 for r in rs), rs
    assert not c.exists()


def test_delete_while_creating(ctr):
    for i in range(mode.times(8)):
        c = ctr.idle(id=None)
        a, b = together(lambda: c.create(check=False), lambda: (time.sleep(i * 0.0015 * mode.SCALE), c.delete("--force", check=False))[1])
        assert b.rc == 0 or b.err, (a, b)
        c.delete("--force")
        assert not c.exists()


def test_exec_while_others_exec(ctr):
    c = ctr.idle().up()
    rs = together(*[lambda n=n: c.exec("sh", "-c", f"echo {n}; exit {n}") for n in range(8)])
    assert [(r.rc, r.out) for r in rs] == [(n, f"{n}\n") for n in range(8)], rs


def test_kill_while_exec(ctr):
    c = ctr.idle().up()
    rs = together(*[lambda: c.exec("sleep", "5")] * 4, lambda: (time.sleep(0.1), c.kill("KILL"))[1])
    assert all(r.rc != 0 for r in rs[:4]), rs


def test_state_and_list_during_create_and_delete(ctr):
    """Readers see a complete container or none."""
    stop = threading.Event()
    bad = []

    def reader(rt):
        while not stop.is_set():
            r = rt("list", "--format", "json")
            if r.rc != 0:
                bad.append(r)
            else:
                r.json()

    # The programs are copied before, because a fork of a reader would hold a copied program open for writing and
    # cause ETXTBSY.
    cs = [ctr("true").write() for _ in range(mode.times(15))]
    t = threading.Thread(target=reader, args=(ctr.rt,))
    t.start()
    try:
        for c in cs:
            c.run().ok()
    finally:
        stop.set()
        t.join()
    assert not bad, bad[:3]


def test_pause_resume_storm(ctr):
    c = ctr.idle().up()
    together(*[lambda: [c.rt(x, c.id) for x in ("pause", "resume") * 5]] * 3)
    c.rt("resume", c.id)
    wait_for(lambda: c.status() == "running", "running")
    c.exec("true").ok()


@pytest.mark.parametrize("s", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_during_every_phase(ctr, s):
    """The runtime gets a signal at sampled moments of `run`. It must end, and `delete` must be able to remove
    everything that is left."""
    t0 = time.monotonic()
    ctr("true").run().ok()
    whole = time.monotonic() - t0
    rng = random.Random(7)
    for i in range(mode.times(25)):
        c = ctr("true").write()
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, whole))
        try:
            p.send_signal(s)
        except ProcessLookupError:
            pass
        p.wait(10)
        c.delete("--force")
        assert not c.exists()


def test_caller_goes_away_during_create(ctr):
    """
    The caller closes the pipe from which it reads errors. The runtime must neither hang nor die of SIGPIPE half way.
    """
    c = ctr("no-such-program").write()
    r, w = os.pipe()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=w, stderr=w)
    os.close(w)
    os.close(r)
    assert p.wait(10) != 0
    c.delete("--force")


def test_refused_create_leaves_the_other_container_alone(ctr, tmp, binary):
    """Two containers have the same ID and cgroup path, in two state directories: the second create fails and must not
    remove the first one's cgroup."""
    c = ctr.idle().up()
    other = Runtime(binary, os.path.join(tmp, "other"))
    r = other("run", "--detach", "--bundle", c.bundle, c.id)
    if machine.cgroup2_mount():
        r.failed("cgroup")
    assert c.status() == "running"
    other("delete", "--force", c.id).ok()
    assert c.status() == "running"


def is_locked(c):
    """Returns whether a command holds the lock on the state directory; `run` releases it when the program runs."""
    fd = os.open(os.path.join(c.rt.root, c.id), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_run_whose_container_was_replaced(ctr):
    """`run` learns late that its container was deleted. It must not remove another one that has the ID by now."""
    c = ctr.idle().write()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=subprocess.DEVNULL)
    wait_for(lambda: c.exists() and c.status() == "running" and not is_locked(c), "running")
    p.send_signal(signal.SIGSTOP)
    c.delete("--force")
    c.up()
    p.send_signal(signal.SIGCONT)
    assert p.wait(10) == 128 + signal.SIGKILL
    assert c.status() == "running"


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to delay the runtime at one call")
@pytest.mark.parametrize("force", [True, False])
def test_delete_between_the_directory_and_its_lock(ctr, force):
    c = ctr("true").write()
    p = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e",
                          "inject=flock:delay_enter=1000000:when=1", *c.rt.argv("create", "--bundle", c.bundle, c.id)],
                         # no pipe, because the container would keep it open
                         stdout=subprocess.DEVNULL, stderr=open(c.log, "wb"))
    wait_for(lambda: os.path.isdir(os.path.join(c.rt.root, c.id)), "state directory")
    assert not c.exists()
    r = c.delete(*["--force"] * force, check=force)
    p.wait(20)
    err = c.output()
    if force:
        assert p.returncode != 0 and "deleted while" in err, err
        assert not c.exists()
    else:  # the directory is no container yet
        r.failed("does not exist")
        assert p.returncode == 0 and c.status() == "created", err


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace, to delay the runtime at one call")
@pytest.mark.parametrize("call, moment", [("setns", 0.7), ("clone", 0.7)])
def test_container_ends_under_an_exec(ctr, call, moment):
    """An exec fails cleanly if the container ends while exec enters it. The stage enters the container by setns(2),
    and forks by clone(2) last; strace delays it at these calls."""
    c = ctr.idle().up()
    p = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:delay_enter=1000000:when=1", *c.rt.argv("exec", c.id, "true")],
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(moment)
    c.kill("KILL")
    c.wait()
    err = p.communicate(timeout=20)[1].decode()
    assert p.returncode == 255 and "container not running" in err, err
