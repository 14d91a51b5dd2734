# SPDX-License-Identifier: Apache-2.0
"""Tests `caisson checkpoint` and `caisson restore` of containers in namespaces, by CRIU (package criu), which needs a kernel
that it knows: the test host's."""
import os
import socket
import subprocess
import time

import pytest
from harness import config, pty_
from harness.counter import counts
from harness.runtime import Result, wait_for

# Counts in memory and in a file that stays open. `sleep` is a second process most of the time.
COUNTER = """exec 3>>/counts; i=0
while :; do i=$((i+1)); echo $i >&3; echo out $i; sleep 0.5; done"""


def grows(c):
    before = len(counts(c))
    wait_for(lambda: len(counts(c)) > before + 1, "the counter to go on", timeout=60)


def run(c, *command, **kw):
    """Runs a command that makes the container. Its standard error is a named file, because CRIU cannot open files again
    that were opened with O_NOFOLLOW, as Python's temporary files are."""
    c.write()
    with open(c.log, "ab") as log, open(c.log + ".err", "wb") as err:
        p = c.rt.popen(*command, c.id, stdout=log, stderr=err, **kw)
        rc = p.wait(timeout=120)
    with open(c.log + ".err") as err:
        return Result(command, rc, b"", err.read())


def up(c):
    run(c, "create", "--bundle", c.bundle).ok()
    c.start()


@pytest.fixture
def counter(ctr):
    c = ctr("sh", "-c", COUNTER)
    c.image = os.path.join(c.bundle, "image")
    c.data = os.path.join(c.bundle, "data")
    os.mkdir(c.data)
    with open(os.path.join(c.data, "name"), "w") as f:
        f.write("first\n")
    c.conf["mounts"].append({"destination": "/data", "source": c.data, "type": "bind", "options": ["rbind", "ro"]})
    c.conf["linux"]["resources"] = {"memory": {"limit": 96 << 20}, "pids": {"limit": 30}}
    up(c)
    grows(c)
    return c


def checkpoint(c, *opts):
    return c.rt("checkpoint", "--image-path", c.image, *opts, c.id, timeout=120)


def restore(c, *opts):
    return run(c, "restore", "--detach", "--image-path", c.image, "--bundle", c.bundle, *opts)


def end(c):
    c.kill("KILL")
    c.wait(timeout=60)
    c.delete()


def log_of(c, name="dump.log"):
    with open(os.path.join(c.image, name)) as f:
        return f.read()[-3000:]


def test_a_counter_goes_on(counter):
    c = counter
    r = checkpoint(c)
    assert r.rc == 0, (r, log_of(c))
    assert not c.exists()
    seen = counts(c)
    pid_file = os.path.join(c.bundle, "pid")
    r = restore(c, "--pid-file", pid_file)
    assert r.rc == 0, (r, log_of(c, "restore.log"))
    state = c.state()
    assert state["status"] == "running"
    with open(pid_file) as f:
        assert int(f.read()) == state["pid"]
    grows(c)
    assert counts(c) == list(range(1, len(counts(c)) + 1)) and len(counts(c)) > len(seen)
    wait_for(lambda: f"out {len(seen) + 2}" in c.output(), "the output to go on", timeout=60)
    assert c.exec("cat", "/data/name").ok().out == "first\n"
    end(c)


def test_it_stays_or_becomes_another(counter):
    """--leave-running lets the container go on. A second container of the checkpoint has an ID, a cgroup and a bind source of its own."""
    c = counter
    checkpoint(c, "--pre-dump").ok()
    assert c.status() == "running"
    parent, c.image = c.image, os.path.join(c.bundle, "second-image")
    checkpoint(c, "--leave-running", "--parent-path", "../" + os.path.basename(parent)).ok()
    assert c.status() == "running"
    grows(c)
    c.rt("pause", c.id).ok()
    c.rt("resume", c.id).ok()
    end(c)
    before = counts(c)
    with open(os.path.join(c.bundle, "other"), "w") as f:
        f.write("second\n")
    os.mkdir(os.path.join(c.bundle, "data2"))
    os.rename(os.path.join(c.bundle, "other"), os.path.join(c.bundle, "data2", "name"))
    c.conf["mounts"][-1]["source"] = os.path.join(c.bundle, "data2")
    c.conf["linux"]["resources"]["pids"]["limit"] = 40
    c.id += "-second"
    restore(c).ok()
    grows(c)
    # The second container goes on from the checkpoint, so it counts again what the first one has counted after the checkpoint.
    after = counts(c)[len(before):]
    assert after[0] <= before[-1] and after == list(range(after[0], after[0] + len(after)))
    assert c.exec("cat", "/data/name").ok().out == "second\n"
    assert c.exec("cat", "/proc/1/cgroup").ok().out == "0::/\n"
    assert c.exec("readlink", "/proc/self/ns/cgroup").ok().out == c.exec("readlink", "/proc/1/ns/cgroup").ok().out
    cgroup = f"/sys/fs/cgroup/caisson-{c.id}"
    with open(f"{cgroup}/pids.max") as f:
        assert f.read() == "40\n"
    with open(f"{cgroup}/memory.max") as f:
        assert int(f.read()) == 96 << 20
    with open(f"{cgroup}/cgroup.procs") as f:
        assert str(c.pid()) in f.read().split()
    end(c)


def test_lazy_pages(counter):
    """The second container runs before it has its memory. `criu lazy-pages` fetches a page when a process uses it, from CRIU's page
    server, which listens on no address but that of --page-server: on all of them, anyone could fetch the memory."""
    c = counter
    image, work = c.image, os.path.join(c.bundle, "lazy-work")
    os.mkdir(work)
    c.conf["annotations"] = {"org.criu.config": os.path.join(c.bundle, "criu.conf")}
    for path, log in (("/etc/criu/caisson.conf", "of-the-host.log"), (c.conf["annotations"]["org.criu.config"], "of-the-annotation.log")):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(f"log-file {log}")
    ready, its = os.pipe()
    with open(c.log + ".dump", "wb") as log:
        first = c.rt.popen("checkpoint", "--image-path", image, "--lazy-pages", "--page-server", "127.0.0.1:2727", "--status-fd",
                           str(its), c.id, stdout=log, stderr=log, pass_fds=[its])
    os.close(its)
    daemon = None
    try:
        assert os.read(ready, 8) == b"\0", log_of(c)
        with open("/proc/net/tcp") as f:
            assert [line.split()[1] for line in f if ":0AA7" in line] == ["0100007F:0AA7"]
        with open(os.path.join(work, "out"), "wb") as log:
            daemon = subprocess.Popen(["criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "2727",
                                       "-D", image, "-W", work, "-v4", "-o", "lazy.log"], stdout=log, stderr=log)
        wait_for(lambda: os.path.exists(os.path.join(work, "lazy-pages.socket")), "criu lazy-pages", timeout=60)
        seen, name = counts(c), c.id
        c.id += "-second"
        r = restore(c, "--lazy-pages", "--work-path", work)
        assert r.rc == 0, r
        assert os.path.exists(os.path.join(image, "of-the-host.log")) and os.path.exists(os.path.join(work, "of-the-annotation.log"))
        grows(c)
        assert counts(c) == list(range(1, len(counts(c)) + 1)) and len(counts(c)) > len(seen)
        # The first container ends when the second one has all of its memory.
        assert first.wait(timeout=60) == 0 and daemon.wait(timeout=60) == 0
        c.rt("state", name).failed("does not exist")
        end(c)
    finally:
        os.unlink("/etc/criu/caisson.conf")
        os.close(ready)
        for p in (first, daemon):
            if p and p.poll() is None:
                p.kill()
                p.wait()


def test_a_terminal(ctr):
    """The restored shell goes on, on a new terminal whose master --console-socket gets."""
    c = ctr("sh", "-c", "while read line; do echo got $line; done", terminal=True)
    c.image = os.path.join(c.bundle, "image")
    with pty_.Receiver(os.path.join(c.bundle, "s")) as s:
        run(c, "create", "--bundle", c.bundle, "--console-socket", s.path).ok()
        c.start()
        fd = s.wait(60)
        os.write(fd, b"one\n")
        pty_.read_until(fd, b"got one", timeout=60)
        checkpoint(c).ok()
    restore(c).failed("console socket")
    assert not c.exists()
    with pty_.Receiver(os.path.join(c.bundle, "s")) as s:
        restore(c, "--console-socket", s.path).ok()
        fd = s.wait(60)
        os.write(fd, b"two\n")
        pty_.read_until(fd, b"got two", timeout=60)
        end(c)


def test_hooks_and_the_foreground(counter):
    """`restore` without --detach ends with the container, and runs the hooks as `run` does."""
    c = counter
    checkpoint(c).ok()
    seen = os.path.join(c.bundle, "hooks")
    for name in ("createRuntime", "poststart", "poststop"):
        c.conf.setdefault("hooks", {})[name] = [
            {"path": "/bin/sh", "args": ["sh", "-c", f"echo {name} $(grep -o '\"status\":\"[a-z]*\"') >>{seen}"]}]
    c.write()
    with open(c.log, "ab") as log, open(c.log + ".err", "wb") as err:
        p = c.rt.popen("restore", "--image-path", c.image, "--bundle", c.bundle, c.id, stdout=log, stderr=err)
    wait_for(lambda: p.poll() is not None or c.exists() and c.status() == "running", "the restore", timeout=60)
    assert p.poll() is None, c.output()
    grows(c)
    c.kill("TERM")
    c.kill("KILL")
    assert p.wait(timeout=60) in (137, 143)
    assert not c.exists()
    with open(seen) as f:
        assert f.read() == ('createRuntime "status":"creating"\npoststart "status":"running"\n'
                            'poststop "status":"stopped"\n')


def test_namespaces_of_others(ctr):
    """The restored container joins the network namespace again that the container had joined by path."""
    owner = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    netns = f"/proc/{owner.pid}/ns/net"
    wait_for(lambda: os.stat(netns).st_ino != os.stat("/proc/self/ns/net").st_ino, "the namespace")
    try:
        c = ctr("sh", "-c", COUNTER)
        c.image = os.path.join(c.bundle, "image")
        config.namespaces(c.conf, paths={"network": netns})
        up(c)
        grows(c)
        checkpoint(c).ok()
        restore(c).ok()
        assert os.stat(f"/proc/{c.pid()}/ns/net").st_ino == os.stat(netns).st_ino
        grows(c)
        end(c)
    finally:
        owner.kill()
        owner.wait()


def test_what_is_refused(counter, ctr):
    """If a checkpoint is refused, the container goes on. If a restore fails, no container is left."""
    c = counter
    checkpoint(c, "--manage-cgroups-mode", "hard").failed("--manage-cgroups-mode hard", "expected soft")
    checkpoint(c, "--parent-path", "/abs").failed("--parent-path /abs", "relative to --image-path")
    checkpoint(c, "--page-server", "nowhere").failed("--page-server nowhere", "expected ADDRESS:PORT")
    c.rt("checkpoint", "--image-path", c.image, c.id, env={"PATH": "/nonexistent"}).failed(
        "criu is not installed", "apt install criu")
    grows(c)
    checkpoint(c).ok()
    os.rename(os.path.join(c.image, "core-1.img"), os.path.join(c.image, "core-1.away"))
    restore(c).failed("criu:", "restore.log")
    assert not c.exists()
    os.rename(os.path.join(c.image, "core-1.away"), os.path.join(c.image, "core-1.img"))
    os.rename(c.data, c.data + ".away")
    restore(c).failed("mounts[7]", "source")
    assert not c.exists()
    os.rename(c.data + ".away", c.data)
    run(c, "restore", "--detach", "--image-path", c.bundle, "--bundle", c.bundle).failed("descriptors.json")
    assert not c.exists()


def test_a_failed_checkpoint(ctr):
    """The error message has CRIU's reason, and the container goes on."""
    c = ctr("sh", "-c", COUNTER)
    c.image = os.path.join(c.bundle, "image")
    ours, its = socket.socketpair()
    with ours, its:
        run(c, "create", "--bundle", c.bundle, stdin=its).ok()
    c.start()
    grows(c)
    checkpoint(c).failed("checkpoint: criu:", "Unix socket", "dump.log")
    grows(c)
    end(c)


def test_killed_commands(counter):
    """Wherever `restore` is killed, `delete --force` removes what it has made, and the checkpoint can still be restored."""
    c = counter
    checkpoint(c).ok()
    c.write()
    for delay in (0.05, 0.4, 0.8, 1.5):
        with open(c.log, "ab") as log:
            p = c.rt.popen("restore", "--detach", "--image-path", c.image, "--bundle", c.bundle, c.id, stdout=log, stderr=log)
        time.sleep(delay)
        p.kill()
        p.wait()
        if c.exists() or os.path.exists(os.path.join(c.rt.root, c.id)):
            c.delete("--force")
        wait_for(lambda: not os.path.exists(f"/sys/fs/cgroup/caisson-{c.id}"), "the cgroup's end", timeout=60)
    restore(c).ok()
    grows(c)
    end(c)
