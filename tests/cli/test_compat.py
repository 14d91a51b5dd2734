# SPDX-License-Identifier: Apache-2.0
"""Tests what scripts written for runc and crun rely on: the texts of errors, and the ways to write options."""
import json
import os
import subprocess

import pytest
from harness import config
from harness.machine import alive
from harness.runtime import wait_for


# ---- runc's words ----

def test_words_for_a_container_of_the_wrong_state(ctr):
    c = ctr.idle().up()
    c.delete(check=False).failed(f"cannot delete container {c.id} that is not stopped: running")
    c.start(check=False).failed("cannot start an already running container")
    c.kill("KILL")
    c.wait()
    c.exec("true").failed("cannot exec in a stopped container", "container not running")
    c.start(check=False).failed("cannot start a container that has stopped")
    c.rt("events", "--stats", c.id).failed(f"container with id {c.id} is not running")
    c.delete()
    for command in ("state", "start", "kill", "delete", "ps", "pause", "resume", "events", "update"):
        c.rt(command, c.id).failed("container does not exist")
    c.exec("true").failed("container does not exist")


def test_words_for_a_paused_container(ctr):
    c = ctr.idle().up()
    c.rt("pause", c.id).ok()
    c.exec("true").failed("cannot exec in a paused container (use --ignore-paused to override)")
    c.start(check=False).failed("cannot start a container in the paused state")


def without(*path):
    def change(conf):
        for key in path[:-1]:
            conf = conf[key]
        del conf[path[-1]]
    return change


def without_namespace(name):
    return lambda conf: config.namespaces(conf, drop=(name,))


def user_namespace_without_maps(conf):
    conf["linux"]["namespaces"].append({"type": "user"})


@pytest.mark.parametrize("change,words", [
    (without("root"), "root must be specified"),
    (without_namespace("uts"), "unable to set hostname without a private UTS namespace"),
    (user_namespace_without_maps, "User namespaces enabled, but no uid mappings found"),
    (lambda conf: conf["process"].update(terminal=True), "cannot allocate tty if runc will detach without setting console socket"),
])
def test_words_for_a_config(ctr, change, words):
    c = ctr("true")
    c.conf["hostname"] = "box"
    change(c.conf)
    c.create(check=False).failed(words)


def test_words_for_options(ctr, rt, tmp):
    c = ctr("true").write()
    c.create("--console-socket", "/x", check=False).failed("cannot use console socket if runc will not detach or allocate tty")
    rt("create", "--bundle", c.bundle, "a/b").failed("invalid container ID format")
    rt("create", "--bundle", tmp, "x").failed("JSON specification file config.json not found")
    rt("spec", "--bundle", c.bundle).failed("File config.json exists. Remove it first")
    for bad in ("0", "-5s"):
        rt("events", "--interval", bad, "x").failed("duration interval must be greater than 0")
    rt("list", "--format", "yaml").failed("invalid format option")
    rt("ps", "--format", "yaml", "x").failed("invalid format option")
    c.conf["process"]["terminal"] = True
    c.run("--detach").failed("cannot allocate tty if runc will detach without setting console socket")
    d = ctr.idle().up()
    d.exec("true", opts=("-d", "-t")).failed("cannot allocate tty if runc will detach without setting console socket")


# ---- ways to write options ----

def test_several_letters_in_one_word(ctr):
    c = ctr.idle().up()
    r = c.exec("sh", "-c", "id -u; id -g; echo $A; pwd", opts=("-u1000:5", "-eA=b=c", "-cwd", "/tmp"))
    assert r.ok().out == "1000\n5\nb=c\n/tmp\n"
    # -t takes no value. The error is about the terminal, so both options were read.
    c.exec("true", opts=("-dt",)).failed("console socket")
    assert c.exec("echo", "x", opts=("-e", "B=1", "-no-new-privs")).ok().out == "x\n"
    c.exec("true", opts=("-tx",)).failed("unknown option -tx")
    assert "Usage: caisson exec" in c.rt("exec", "-th").ok().out


def test_empty_values_are_none(ctr, rt):
    """Scripts pass "$VARIABLE", which may be empty; runc takes "" as an option that was not given."""
    c = ctr.idle().write()
    run = ("run", "--detach", "--pid-file=", "--console-socket=", "--pidfd-socket=", "--config", "", "--bundle=", c.id)
    with open(c.log, "wb") as log:
        rt(*run, cwd=c.bundle, stdout=log).ok()
    assert c.exec("pwd", opts=("--cwd", "", "--user", "", "--process", "", "--cgroup", "")).ok().out == "/\n"
    assert [x["id"] for x in json.loads(rt("list", "-f", "json").ok().out)] == [c.id]
    rt.options = ["--log=", "--log-format=", "--log-level=", "--cgroup-manager", "", "--rootless="]
    assert c.state()["status"] == "running"


def test_options_of_runc_and_crun(ctr, rt, tmp):
    rt.options = ["--criu", "/usr/sbin/criu"]
    c = ctr("true")
    c.create("--no-subreaper")
    c.delete("--force")
    assert subprocess.run([rt.binary, "-V"], capture_output=True).stdout.startswith(b"caisson version")
    rt("spec", "-b", tmp, "--file", "other.json").ok()
    rt("spec", "-b", tmp, "-f", "other.json").ok()
    with open(os.path.join(tmp, "other.json")) as f:
        assert json.load(f)["process"]["args"] == ["sh"]
    assert not os.path.exists(os.path.join(tmp, "config.json"))


def test_log_level(ctr, rt):
    """Warnings appear at the log level "error" too; "debug" shows as much as --debug."""
    c = ctr("true")
    gone = {**os.environ, "NOTIFY_SOCKET": "/no/such/socket"}
    assert "warning: NOTIFY_SOCKET" in c.run(env=gone).ok().err
    rt.options = ["--log-level", "error"]
    assert c.run(env=gone).ok().err == ""
    rt("state", "x").failed("does not exist")
    rt.options = ["--log-level=debug"]
    assert "clone" in c.run().ok().err
    rt.options = ["--log-level=loud"]
    rt("list").failed("--log-level", "loud", "error, warning or debug")


def test_config_of_the_callers_directory(ctr, rt, tmp):
    """A relative --config starts at the caller's directory, as with crun, and then in the bundle."""
    c = ctr("echo", "bundle").write()
    os.rename(os.path.join(c.bundle, "config.json"), os.path.join(c.bundle, "mine.json"))
    run = ("run", "--bundle", c.bundle, "--config", "mine.json", c.id)
    assert rt(*run, cwd=tmp).ok().out == "bundle\n"
    c.conf["process"]["args"] = ["echo", "caller"]
    with open(os.path.join(tmp, "mine.json"), "w") as f:
        json.dump(c.conf, f)
    assert rt(*run, cwd=tmp).ok().out == "caller\n"
    assert "mine.json not found" in rt("run", "--bundle", c.bundle, "--config", "nope/mine.json", c.id).err


def test_help_of_a_command(rt):
    assert rt("help", "exec").ok().out == rt("h", "exec").ok().out == rt("exec", "--help").ok().out
    assert rt("h").ok().out == rt("help").ok().out == rt("--help").ok().out
    rt("help", "nope").failed('unknown command "nope"')


# ---- several containers, none, and IDs that match nothing ----

def test_kill_and_delete_take_a_pattern(ctr, rt):
    """kill and delete act on all containers whose ID matches the pattern. A failure with one of them is a warning, and
    the command goes on with the others."""
    many = [ctr.idle(id=i) for i in ("web-1", "web-2", "db-1")]
    for c in many:
        c.up()
    os.mkdir(os.path.join(rt.root, "web-none"))
    r = rt("delete", "--regex", "^web-1$")
    assert r.rc == 0 and "not stopped" in r.err and many[0].status() == "running", r
    rt("kill", "-r", "^web-[0-9]", "KILL").ok()
    for c in many[:2]:
        c.wait()
    assert many[2].status() == "running"
    r = rt("kill", "-r", "web-1|db-1", "TERM")
    assert r.rc == 0 and "container not running" in r.err, r
    many[2].wait()
    r = rt("delete", "-r", "web|-1").ok()
    assert r.err == "" and not any(c.exists() for c in many), r
    rt("delete", "--regex", "no-such").ok()
    rt("delete", "--regex", "(").failed("--regex")
    os.rmdir(os.path.join(rt.root, "web-none"))


def test_list_leaves_out_what_is_no_container(ctr, rt):
    c = ctr.idle().up()
    stray = os.path.join(rt.root, "stray")
    os.mkdir(stray)
    try:
        for args in ((), ("-q",), ("-f", "json")):
            r = rt("list", *args).ok()
            assert c.id in r.out and "stray" not in r.out and f"warning: {stray} is not a container" in r.err, r
        rt("delete", "--force", "stray").ok()
        assert not os.path.exists(stray)
    finally:
        if os.path.exists(stray):
            os.rmdir(stray)


def test_sigkill_without_a_pid_namespace_is_for_all(ctr):
    """SIGKILL to a container without a pid namespace kills all its processes, even after the first one has ended, as
    with runc >= 1.2."""
    for end in ("wait", "exit 0"):
        c = ctr.sh(f"sleep 100 & echo up; {end}")
        config.namespaces(c.conf, drop=("pid",))
        c.up()
        c.wait_output("up")
        if end != "wait":
            c.wait()
        pids = c.rt("ps", "--format", "json", c.id).json()
        assert len(pids) == (2 if end == "wait" else 1)
        c.kill("KILL")
        wait_for(lambda: not any(alive(p) for p in pids), "end of all processes")
        c.delete()
