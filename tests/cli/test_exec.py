# SPDX-License-Identifier: Apache-2.0
"""Tests exec, which runs a further process in a running container."""
import json
import os
import signal
import subprocess

import pytest
from harness import config, mode
from harness.machine import alive
from harness.runtime import status_of, wait_for


@pytest.fixture
def c(ctr):
    return ctr.idle().up()


def test_exec(c):
    r = c.exec("echo", "hello").ok()
    assert r.out == "hello\n" and r.err == ""


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(c, code):
    assert c.exec("sh", "-c", f"exit {code}").rc == code


@pytest.mark.parametrize("s", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_killed_is_128_plus_signal(c, s):
    assert c.exec("probe", "signal", str(int(s))).rc == 128 + s


def test_same_namespaces_as_init(c):
    script = "for n in /proc/1/ns/* ; do readlink $n; done"
    mine = c.exec("sh", "-c", script.replace("/1/", "/self/")).ok().out
    assert mine == c.exec("sh", "-c", script).ok().out
    assert os.readlink("/proc/self/ns/mnt") not in mine


def test_same_cgroup_as_init(c):
    r = c.exec("sh", "-c", "cat /proc/1/cgroup; echo; cat /proc/self/cgroup").ok().out.split("\n\n")
    assert r[0].strip() == r[1].strip()


def test_stdin_goes_through(c):
    data = bytes(range(256)) * 2000
    assert c.exec("cat", input=data).ok().raw == data


def test_options_after_the_id_belong_to_the_program(c):
    assert c.exec("echo", "--user", "-e").ok().out == "--user -e\n"


def test_env(c):
    out = c.exec("env", opts=["--env", "A=1", "-e", "B=2 3"]).ok().out.splitlines()
    assert "A=1" in out and "B=2 3" in out
    assert any(l.startswith("PATH=/usr/local/sbin") for l in out), "config.json's environment is the start"


def test_env_replaces(c):
    out = c.exec("env", opts=["--env", "TERM=dumb"]).ok().out.splitlines()
    assert [l for l in out if l.startswith("TERM=")] == ["TERM=dumb"]


def test_cwd(c):
    assert c.exec("pwd", opts=["--cwd", "/tmp"]).ok().out == "/tmp\n"


@pytest.mark.parametrize("user,uid,gid", [("1000:100", "1000", "100"), ("1", "1", "0"), ("0:5", "0", "5")])
def test_user(c, user, uid, gid):
    s = status_of(c.exec("probe", "info", opts=["--user", user]).ok().out)
    assert s["Uid"].split() == [uid] * 4 and s["Gid"].split() == [gid] * 4


def test_bad_user(c):
    c.exec("true", opts=["--user", "not-a-number"]).failed("user")


def test_additional_gids(c):
    s = status_of(c.exec("probe", "info", opts=["--user", "1000:1000", "--additional-gids", "5", "-g", "29"]).ok().out)
    assert {"5", "29"} <= set(s["Groups"].split())


def test_cap(c):
    s = status_of(c.exec("probe", "info", opts=["--cap", "CAP_NET_RAW", "-c", "CAP_CHOWN"]).ok().out)
    added = config.cap_mask(["CAP_NET_RAW", "CAP_CHOWN"])
    assert int(s["CapEff"], 16) & added == added
    assert int(s["CapBnd"], 16) & added == added
    assert int(s["CapInh"], 16) == 0, "CVE-2022-29162"


def test_capabilities_are_the_containers(c):
    s = status_of(c.exec("probe", "info").ok().out)
    assert int(s["CapEff"], 16) == config.cap_mask(config.CAPS)


def test_no_new_privs(ctr):
    c = ctr.idle(noNewPrivileges=False).up()
    assert status_of(c.exec("probe", "info").ok().out)["NoNewPrivs"] == "0"
    assert status_of(c.exec("probe", "info", opts=["--no-new-privs"]).ok().out)["NoNewPrivs"] == "1"


def test_no_new_privs_false(c):
    assert status_of(c.exec("probe", "info", opts=["--no-new-privs=false"]).ok().out)["NoNewPrivs"] == "0"


def test_process_file(c, tmp):
    p = {"args": ["probe", "info"], "cwd": "/tmp", "env": ["PATH=/bin", "X=y"],
         "user": {"uid": 1000, "gid": 1000, "additionalGids": [29], "umask": 0o27},
         "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                          "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
         "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}], "noNewPrivileges": True, "oomScoreAdj": 300}
    path = os.path.join(tmp, "p.json")
    with open(path, "w") as f:
        json.dump(p, f)
    s = status_of(c.rt("exec", "--process", path, c.id).ok().out)
    assert s["Uid"].split()[0] == "1000" and s["Cwd"] == "/tmp" and s["env X"] == "y"
    assert s["Umask"] == "0027" and s["RLIMIT_NOFILE"] == "50 60" and s["NoNewPrivs"] == "1"
    assert int(s["CapEff"], 16) == config.cap_mask(["CAP_KILL"])
    assert s["OomScoreAdj"] == "300" and "29" in s["Groups"].split()


def test_process_file_leaves_the_rest_to_the_container(ctr):
    c = ctr.idle(user={"uid": 1000, "gid": 100}, oomScoreAdj=100,
                 rlimits=[{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]).up()
    p = {"args": ["probe", "info"], "cwd": "/", "env": ["PATH=/bin"]}
    s = status_of(c.rt("exec", "--process", "-", c.id, input=json.dumps(p)).ok().out)
    assert int(s["CapBnd"], 16) == config.cap_mask(config.CAPS) and s["Uid"].split()[0] == "1000"
    assert s["OomScoreAdj"] == "100" and s["RLIMIT_NOFILE"] == "50 60" and s["NoNewPrivs"] == "0"
    s = status_of(c.rt("exec", "--process", "-", c.id, input=json.dumps({**p, "user": {}})).ok().out)
    assert s["Uid"].split()[0] == "0"


@pytest.mark.parametrize("text,field", [("", ""), ("{", ""), ("[]", ""), ('{"args": "x", "cwd": "/"}', "args"),
                                        ('{"args": ["x"], "cwd": "relative"}', "cwd"), ('{"args": [], "cwd": "/"}', "args")])
def test_bad_process_file(c, tmp, text, field):
    path = os.path.join(tmp, "p.json")
    with open(path, "w") as f:
        f.write(text)
    c.rt("exec", "--process", path, c.id).failed(field)
    c.rt("exec", "--process", path + ".missing", c.id).failed(".missing")


def test_detach_and_pid_file(c):
    pf = os.path.join(c.bundle, "exec.pid")
    with open(os.path.join(c.bundle, "out"), "wb") as out:
        c.rt("exec", "--detach", "--pid-file", pf, c.id, "sleep", "100", stdout=out).ok()
    pid = int(open(pf).read())
    assert alive(pid)
    n = len(c.rt("ps", "-f", "json", c.id).json())
    # In a microVM the pid file has the pid of the host's process that stands for the guest's.
    assert mode.VM or pid in c.rt("ps", "-f", "json", c.id).json()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "its end")
    wait_for(lambda: len(c.rt("ps", "-f", "json", c.id).json()) < n, "end of the program")
    assert c.status() == "running"


def test_forwards_signals(c):
    out = os.path.join(c.bundle, "out")
    with open(out, "wb") as f:
        p = c.rt.popen("exec", c.id, "sh", "-c", "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done",
                       stdout=f)
    wait_for(lambda: "up" in open(out).read(), "up")
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 9


def test_nohup_outlives_the_terminal(c):
    out = os.path.join(c.bundle, "out")
    with open(out, "wb") as f:
        p = c.rt.popen("exec", c.id, "sh", "-c", "trap 'exit 8' HUP; trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done",
                       stdout=f, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: "up" in open(out).read(), "up")
    p.send_signal(signal.SIGHUP)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 9


def test_dies_with_the_container(c):
    p = c.rt.popen("exec", c.id, "sh", "-c", "echo ready; sleep 100", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert p.stdout.readline().strip() in (b"ready", "ready")
    c.kill("KILL")
    assert p.wait(10) == 128 + signal.SIGKILL


def test_not_found(c):
    c.exec("no-such-program").failed("executable file not found in $PATH")
    c.exec("/no/such/program").failed("no such file or directory")


def test_no_args(c):
    r = c.exec()
    assert r.rc != 0 and r.err, r


@pytest.mark.parametrize("when", ["created", "stopped"])
def test_needs_running(ctr, when):
    c = ctr("true")
    c.create()
    if when == "stopped":
        c.start()
        c.wait()
        r = c.exec("true")
        assert r.rc != 0 and "not running" in r.err, r
    else:
        # Like runc, caisson allows exec in a created container, because engines use it (podman exec after init).
        c.exec("true").ok()


def test_ignore_paused(c):
    c.rt("pause", c.id).ok()
    out = open(os.path.join(c.bundle, "out"), "wb")
    p = c.rt.popen("exec", "--ignore-paused", c.id, "true", stdout=out, stderr=out)
    c.rt("resume", c.id).ok()
    assert p.wait(10) == 0


def test_preserve_fds(c):
    c.rt.prefix = ["sh", "-c", 'exec 3</etc/passwd 4</etc/group 5</etc/hosts; exec "$@"', "sh", *c.rt.prefix]
    out = c.rt("exec", "--preserve-fds", "2", c.id, "probe", "fds").ok().out.splitlines()
    assert [l.split()[0] for l in out] == ["0", "1", "2", "3", "4"]


def test_no_descriptor_leaks_in(c):
    out = c.exec("probe", "fds").ok().out.splitlines()
    assert [l.split()[0] for l in out] == ["0", "1", "2"]


def test_into_user_namespace(ctr):
    c = ctr.idle()
    config.namespaces(c.conf, "user")
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    for d, dirs, files in os.walk(c.rootfs):
        for n in dirs + files + ["."]:
            os.chown(os.path.join(d, n), 100000, 100000, follow_symlinks=False)
    c.up()
    s = status_of(c.exec("probe", "info", opts=["--user", "5:6"]).ok().out)
    assert s["Uid"].split()[0] == "5" and s["Gid"].split()[0] == "6"
    assert int(s["CapEff"], 16) == 0


def test_keeps_seccomp(ctr):
    c = ctr.idle()
    c.conf["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                  "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}
    c.up()
    r = c.exec("mkdir", "/tmp/x")
    assert r.rc == 1 and "Permission denied" in r.err


def test_many_in_sequence_leave_no_process(c):
    for _ in range(20):
        c.exec("true").ok()
    assert len(c.rt("ps", "-f", "json", c.id).json()) <= 2


def test_sub_cgroup_must_exist(c):
    r = c.rt("exec", "--cgroup", "no-such", c.id, "true")
    assert r.rc != 0, r


def test_failed_exec_leaves_no_pid_file(ctr, tmp):
    """A failed exec leaves no pid file. It fails here after it has written the file, because nobody takes the pidfd."""
    c = ctr.idle().up()
    f = os.path.join(tmp, "pid")
    c.exec("sleep", "100", opts=["--detach", "--pid-file", f, "--pidfd-socket", os.path.join(tmp, "nobody")]).failed("pidfd")
    assert not os.path.exists(f)
