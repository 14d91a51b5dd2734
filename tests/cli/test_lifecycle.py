# SPDX-License-Identifier: Apache-2.0
"""Tests create, start, state, kill, delete, run and list: runtime.md's operations and their order."""
import json
import os
import re
import signal
import stat
import subprocess
import time

import pytest
from harness import config, mode
from harness.machine import alive
from harness.runtime import wait_for


def test_create_start_delete(ctr):
    c = ctr.sh("echo ran; exit 3")
    c.create()
    s = c.state()
    assert s["status"] == "created" and s["id"] == c.id
    assert s["bundle"] == c.bundle
    assert re.fullmatch(r"1\.\d+\.\d+", s["ociVersion"])
    assert alive(s["pid"])
    assert "ran" not in c.output(), "the program must not run before start"
    c.start()
    c.wait("stopped")
    assert c.output() == "ran\n"
    s = c.state()
    assert s["status"] == "stopped"
    assert s.get("pid", 0) == 0
    c.delete()
    assert not c.exists()


def test_running_then_killed(ctr):
    c = ctr.idle().up()
    assert c.status() == "running"
    pid = c.pid()
    assert alive(pid)
    c.kill("KILL")
    c.wait("stopped")
    assert not alive(pid)
    c.delete()


def test_state_has_annotations(ctr):
    c = ctr.idle()
    c.conf["annotations"] = {"com.example.key": "value", "empty": ""}
    c.create()
    assert c.state()["annotations"] == {"com.example.key": "value", "empty": ""}


def test_unknown_container(rt):
    for args in (["state", "nope"], ["start", "nope"], ["kill", "nope", "TERM"], ["delete", "nope"], ["exec", "nope", "true"],
                 ["ps", "nope"], ["pause", "nope"], ["resume", "nope"], ["events", "--stats", "nope"],
                 ["update", "--pids-limit", "5", "nope"]):
        rt(*args).failed("does not exist")


def test_delete_force_unknown_is_quiet(rt):
    rt("delete", "--force", "nope").ok()


@pytest.mark.parametrize("when", ["created", "running", "stopped"])
def test_start_only_once(ctr, when):
    c = ctr.idle()
    c.create()
    if when == "created":
        c.start()
        return
    c.start()
    if when == "stopped":
        c.kill()
        c.wait()
    r = c.start(check=False)
    assert r.rc != 0, r
    assert ("running" in r.err or "stopped" in r.err), r


def test_delete_needs_stopped(ctr):
    c = ctr.idle().up()
    r = c.delete(check=False)
    assert r.rc != 0 and "not stopped" in r.err, r
    assert c.status() == "running"
    c.delete("--force")
    assert not c.exists()


def test_delete_created(ctr):
    """runtime.md demands an error here too, but runc and crun delete the container, and scripts rely on it."""
    c = ctr("true")
    c.create()
    c.delete()
    assert not c.exists()


@pytest.mark.parametrize("when", ["created", "running", "stopped"])
def test_delete_force(ctr, when):
    c = ctr.idle()
    c.create()
    if when != "created":
        c.start()
    if when == "stopped":
        c.kill()
        c.wait()
    c.delete("--force")
    assert not c.exists()


def test_kill_stopped(ctr):
    c = ctr("true").up()
    c.wait()
    c.kill("TERM", check=False).failed("not running")


def test_kill_created(ctr):
    c = ctr.idle()
    c.create()
    c.kill("KILL")
    c.wait()
    c.delete()


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_kill_created_without_force(ctr, name):
    """The first process of a pid namespace gets no signal that it does not handle."""
    c = ctr.idle()
    c.create()
    c.kill(name)
    c.wait()
    c.delete()


def test_kill_zero_asks_only(ctr):
    c = ctr.idle().up()
    c.kill("0")
    assert c.status() == "running"
    c.kill()
    c.wait()
    c.kill("0", check=False).failed("not running")


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "term", "15"])
def test_kill_names(ctr, name):
    c = ctr.sh("trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done").up()
    c.wait_output("up")
    c.kill(name)
    c.wait_output("got")
    c.wait()


def test_kill_default_is_term(ctr):
    c = ctr.sh("trap 'echo got; exit 0' TERM; echo up; while :; do sleep 0.05; done").up()
    c.wait_output("up")
    c.rt("kill", c.id).ok()
    c.wait_output("got")


def test_kill_realtime(ctr):
    c = ctr.sh("trap 'echo got; exit 0' %d; echo up; while :; do sleep 0.05; done" % (signal.SIGRTMIN + 3)).up()
    c.wait_output("up")
    c.kill("SIGRTMIN+3")
    c.wait_output("got")


def test_kill_bad_signal(ctr):
    c = ctr.idle().up()
    for bad in ("NOPE", "99", "SIGNOPE"):
        r = c.rt("kill", c.id, bad)
        assert r.rc != 0 and "signal" in r.err, r
    assert c.status() == "running"


def test_kill_all(ctr):
    c = ctr.sh("trap '' TERM; sleep 100 & sleep 100 & echo up; wait").up()
    c.wait_output("up")
    wait_for(lambda: len(c.rt("ps", "--format", "json", c.id).json()) == 3, "three processes")
    c.rt("kill", "--all", c.id, "KILL").ok()
    c.wait()


def test_kill_all_without_pid_namespace(ctr):
    """Without a pid namespace the init's death does not end the other processes, so kill --all and delete must."""
    c = ctr.sh("sleep 100 & sleep 100 & echo up; wait")
    config.namespaces(c.conf, drop=("pid",))
    c.up()
    c.wait_output("up")
    pids = c.rt("ps", "--format", "json", c.id).json()
    assert len(pids) == 3
    c.kill("KILL")
    c.rt("kill", "--all", c.id, "KILL")
    wait_for(lambda: not any(alive(p) for p in pids), "end of all processes")
    c.delete()


def test_delete_kills_orphans_without_pid_namespace(ctr):
    c = ctr.sh("sleep 100 & sleep 100 & echo up; exit 0")
    config.namespaces(c.conf, drop=("pid",))
    c.up()
    c.wait_output("up")
    c.wait()
    c.delete()


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_run_exit_code(ctr, code):
    assert ctr.sh(f"exit {code}").run().rc == code


def test_run_killed_from_outside(ctr):
    # Of all signals that kill by default, only SIGKILL ends an init of another pid namespace.
    c = ctr("probe", "pause").write()
    p = c.rt.popen("run", "--bundle", c.bundle, c.id, stderr=subprocess.DEVNULL)
    wait_for(lambda: c.exists() and c.status() == "running", "running")
    os.kill(c.pid(), signal.SIGKILL)
    assert p.wait(10) == 128 + signal.SIGKILL


@pytest.mark.parametrize("s", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1, signal.SIGRTMIN + 1])
def test_run_killed_is_128_plus_signal(ctr, s):
    c = ctr("probe", "signal", str(int(s)))
    config.namespaces(c.conf, drop=("pid",))
    assert c.run().rc == 128 + s


def test_run_stdio_untouched(ctr):
    """Bytes pass unchanged, and the program sees the end of input."""
    data = bytes(range(256)) * 5000
    r = ctr("cat").run(input=data)
    assert r.rc == 0 and r.raw == data


def test_run_stderr_is_separate(ctr):
    r = ctr.sh("echo out; echo err >&2").run()
    assert (r.out, r.err) == ("out\n", "err\n")


def test_run_deletes_the_container(ctr):
    c = ctr("true")
    c.run().ok()
    assert not c.exists()


def test_run_keep(ctr):
    c = ctr.sh("exit 4")
    assert c.run("--keep").rc == 4
    assert c.status() == "stopped"
    c.delete()


def test_run_detach(ctr):
    c = ctr.idle()
    pf = os.path.join(c.bundle, "pid")
    with open(c.log, "wb") as log:
        c.run("--detach", "--pid-file", pf, stdout=log).ok()
    assert c.status() == "running"
    assert int(open(pf).read()) == c.pid()


def test_run_forwards_signals(ctr):
    c = ctr.sh("trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done")
    c.write()
    with open(c.log, "wb") as log:
        p = c.rt.popen("run", "--bundle", c.bundle, c.id, stdout=log)
    c.wait_output("up")
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 9
    assert "got" in c.output()


@pytest.mark.parametrize("cmd", ["create", "run"])
def test_pid_file(ctr, cmd):
    c = ctr.idle()
    pf = os.path.join(c.bundle, "pidfile")
    if cmd == "create":
        c.create("--pid-file", pf)
    else:
        with open(c.log, "wb") as log:
            c.run("-d", "--pid-file", pf, stdout=log).ok()
    text = open(pf).read()
    assert re.fullmatch(r"\d+", text), "a bare number: engines parse it as it is"
    assert int(text) == c.pid()


@pytest.mark.parametrize("cmd", ["create", "run", "exec"])
@pytest.mark.parametrize("kind", ["device", "fifo", "link", "dangling link", "beside P.tmp"])
def test_pid_file_replaces_nothing_else(ctr, tmp, cmd, kind):
    """A pid file that is no regular file stays and is written to; a file that happens to be named P.tmp is not
    touched."""
    c = ctr.idle()
    pf, other, reader = os.path.join(tmp, "pidfile"), os.path.join(tmp, "other"), None
    if kind == "device":
        os.mknod(pf, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "fifo":
        os.mkfifo(pf)
        reader = os.open(pf, os.O_RDONLY | os.O_NONBLOCK)
    elif "link" in kind:
        os.symlink(other, pf)
        if kind == "link":
            open(other, "w").write("something longer than a pid")
    else:
        os.mkfifo(pf + ".tmp")
    kept = os.lstat(pf + ".tmp" if kind == "beside P.tmp" else pf)
    if cmd == "exec":
        c.up()
        c.exec("true", opts=["--pid-file", pf]).ok()
        pid = None
    else:
        with open(c.log, "wb") as log:
            c.write().rt(cmd, *(["-d"] if cmd == "run" else []), "--bundle", c.bundle, "--pid-file", pf, c.id, stdout=log).ok()
        pid = str(c.pid())
    now = os.lstat(pf + ".tmp" if kind == "beside P.tmp" else pf)
    assert (now.st_mode, now.st_ino, now.st_rdev) == (kept.st_mode, kept.st_ino, kept.st_rdev)
    if reader is not None:
        said = os.read(reader, 100).decode()
        os.close(reader)
    else:
        said = "" if kind == "device" else open(pf).read()
    assert kind == "device" or (said == pid if pid else re.fullmatch(r"\d+", said)), said
    assert sorted(os.listdir(tmp)) == sorted({os.path.basename(c.bundle), "state", "pidfile"} |
                                             ({"other"} if "link" in kind else set()) |
                                             ({"pidfile.tmp"} if kind == "beside P.tmp" else set()))


@pytest.mark.parametrize("cmd", ["create", "exec"])
def test_failure_leaves_a_device_as_pid_file(ctr, tmp, cmd):
    """If the command fails after it has written to a device as pid file, the device stays: undoing removes only what
    the command made."""
    c = ctr.idle()
    pf = os.path.join(tmp, "null")
    os.mknod(pf, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    opts = ["--pid-file", pf, "--pidfd-socket", os.path.join(tmp, "nobody")]
    if cmd == "exec":
        c.up()
        c.exec("true", opts=opts).failed("pidfd")
    else:
        c.create(*opts, check=False).failed("pidfd")
    assert stat.S_ISCHR(os.lstat(pf).st_mode)


def test_fifo_as_pid_file_without_a_reader(ctr, tmp):
    c = ctr.idle()
    pf = os.path.join(tmp, "fifo")
    os.mkfifo(pf)
    c.create("--pid-file", pf, check=False, timeout=10).failed("--pid-file", pf, "nobody reads")
    assert not c.exists() and stat.S_ISFIFO(os.lstat(pf).st_mode)


def test_full_disk_is_said_of_the_file_that_was_to_be_written(ctr, tmp):
    """The message does not name the temporary file with a random name, because nobody knows that name."""
    small = os.path.join(tmp, "small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "small", small], check=True)
    try:
        with open(small + "/filler", "wb") as f:
            f.write(bytes(4096))
        c = ctr.idle()
        c.create("--pid-file", small + "/pid", check=False).failed("--pid-file", f"write {small}/pid: No space left")
        c.rt.options = ["--root", small + "/state"]
        c.create(check=False).failed("write config.json: No space left")
        os.rmdir(small + "/state")
    finally:
        subprocess.run(["umount", small], check=True)
        os.rmdir(small)


def test_missing_directory_of_the_pid_file(ctr, tmp):
    c = ctr.idle()
    c.create("--pid-file", tmp + "/no/pid", check=False).failed("--pid-file", f"write {tmp}/no/pid:")


def test_temporary_file_of_a_killed_command_is_removed(ctr):
    c = ctr.idle()
    c.create()
    open(os.path.join(c.rt.root, c.id, ".caisson-0123456789abcdef"), "w").close()
    c.delete("--force")


def test_bundle_defaults_to_cwd(ctr):
    c = ctr.sh("echo here").write()
    r = c.rt("run", c.id, cwd=c.bundle)
    assert r.rc == 0 and r.out == "here\n", r


def test_config_option(ctr):
    c = ctr("false").write()
    other = os.path.join(c.bundle, "other.json")
    with open(other, "w") as f:
        json.dump({**c.conf, "process": {**c.conf["process"], "args": ["echo", "other"]}}, f)
    r = c.rt("run", "--bundle", c.bundle, "--config", other, c.id)
    assert r.rc == 0 and r.out == "other\n", r


def test_changes_to_config_after_create_have_no_effect(ctr):
    """runtime.md: "Any updates to config.json after this step MUST NOT affect the container"."""
    c = ctr("echo", "first")
    c.create()
    with open(os.path.join(c.bundle, "config.json"), "w") as f:
        json.dump(config.default("echo", "second"), f)
    c.start()
    c.wait()
    assert c.output() == "first\n"


def test_duplicate_id(ctr):
    c = ctr.idle().up()
    r = c.create(check=False)
    r.failed("already exists", c.id)
    assert c.status() == "running", "the first container is untouched"


def test_list(ctr):
    a, b = ctr.idle(), ctr.idle()
    a.up()
    b.create()
    j = {x["id"]: x for x in a.rt("list", "--format", "json").json()}
    assert j[a.id]["status"] == "running" and j[b.id]["status"] == "created"
    assert j[a.id]["pid"] == a.pid() and j[a.id]["bundle"] == a.bundle
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", j[a.id]["created"])
    assert sorted(a.rt("list", "--quiet").ok().out.split()) == sorted([a.id, b.id])
    table = a.rt("list").ok().out.splitlines()
    assert table[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert any(l.split()[:3] == [a.id, str(a.pid()), "running"] for l in table)


def test_list_empty(rt):
    assert rt("list", "--quiet").ok().out == ""
    assert rt("list", "--format", "json").ok().out.strip() in ("[]", "null")


def test_ps(ctr):
    c = ctr.sh("sleep 100 & sleep 100 & echo up; wait").up()
    c.wait_output("up")
    wait_for(lambda: len(c.rt("ps", "--format", "json", c.id).json()) == 3, "three processes")
    pids = c.rt("ps", "-f", "json", c.id).json()
    # In a microVM the guest's pids differ from this machine's.
    assert mode.VM or (c.pid() in pids and all(alive(p) for p in pids))
    table = c.rt("ps", c.id).ok().out.splitlines()
    assert "PID" in table[0] and len(table) == 4
    # Arguments after the ID go to ps(1), which can't see processes of a microVM.
    if mode.VM:
        c.rt("ps", c.id, "-o", "pid,comm").failed("microVM")
        return
    table = c.rt("ps", c.id, "-o", "pid,comm").ok().out.splitlines()
    assert table[0].split() == ["PID", "COMMAND"] and len(table) == 4


@pytest.mark.skipif(mode.VM, reason="ps(1) cannot look into a microVM")
def test_ps_prints_what_ps_prints(ctr):
    """`ps` works without ps(1), also for a user without a name and for blanks and line ends in arguments."""
    c = ctr.sh("sh -c 'echo up; read a; :' 'a  b' '\n\t' </dev/zero & exec sleep 100", user={"uid": 12345, "gid": 0}).up()
    # Until a process has executed its program, its command line is that of the shell that made it.
    c.wait_output("up")
    wait_for(lambda: any(l.split(None, 7)[7] == "sleep 100" for l in c.rt("ps", c.id).ok().out.splitlines()), "sleep")

    def columns(lines):
        # ps(1) prints "." for a control character in this locale, and "?" in others, as caisson does.
        return [[f[i].replace("?", ".") for i in (0, 1, 2, 5, 7)] for f in (l.split(None, 7) for l in lines)]

    def minutes(lines):
        return [int(h) * 60 + int(m) for h, m in (l.split()[4].split(":") for l in lines)]
    theirs = subprocess.run(["ps", "-efww"], stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout.splitlines()
    pids = {str(p) for p in c.rt("ps", "-f", "json", c.id).json()}
    ours = c.rt("ps", c.id, env={"PATH": "/nowhere"}).ok().out.splitlines()
    assert ours[0].split() == theirs[0].split()
    assert len(ours) == len(pids) + 1 >= 3
    theirs = [l for l in theirs[1:] if l.split()[1] in pids]
    assert columns(ours[1:]) == columns(theirs)
    # ps(1) computes when the machine has started from the time and the uptime, both in whole seconds, so its STIME may be that of the second before.
    assert {(a - b) % 1440 for a, b in zip(minutes(ours[1:]), minutes(theirs), strict=True)} <= {0, 1, 1439}
    # Options are passed to ps(1), so they need it.
    c.rt("ps", c.id, "-f", env={"PATH": "/nowhere"}).failed("procps")


def test_pause_resume(ctr):
    c = ctr.sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done").up()
    c.wait_output("3")
    c.rt("pause", c.id).ok()
    assert c.status() == "paused"
    n = c.output()
    time.sleep(0.15)
    assert c.output() == n, "it still runs"
    r = c.exec("true")
    assert r.rc != 0 and "paused" in r.err, r
    c.rt("resume", c.id).ok()
    assert c.status() == "running"
    wait_for(lambda: c.output() != n, "progress after resume")
    r = c.rt("resume", c.id)
    assert r.rc != 0 and "paused" in r.err, r


def test_delete_force_paused(ctr):
    c = ctr.idle().up()
    c.rt("pause", c.id).ok()
    c.delete("--force")


def test_pause_stopped(ctr):
    c = ctr("true").up()
    c.wait()
    r = c.rt("pause", c.id)
    assert r.rc != 0, r


def test_start_closes_over_exec_failure(ctr):
    """If the program is missing, create or start fails with the text that engines know, and nothing is left."""
    c = ctr("no-such-program")
    c.run().failed("executable file not found in $PATH")
    assert not c.exists()


def test_init_is_pid_1_and_session_leader(ctr):
    r = ctr("probe", "info").run().ok()
    from harness.runtime import status_of
    s = status_of(r.out)
    assert s["Pid2"] == "1" and s["Session"] == "1" and s["Pgrp"] == "1"
    assert s["Pdeathsig"] == "0"
    assert s["SigBlk"] == "0" * 16 and s["SigIgn"] == "0" * 16
