# SPDX-License-Identifier: Apache-2.0
"""Tests the output that programs parse: --version, --help, --log, features, spec, plan, events, update."""
import fcntl
import json
import os
import re
import time

import pytest
from harness import config, machine, mode, user
from harness.runtime import wait_for

COMMANDS = "create start state kill delete run exec ps list pause resume update events features spec plan doctor".split()


def test_version(rt):
    """docker parses "X version Y" and "commit: Z"."""
    r = rt("--version").ok()
    first, *rest = r.out.splitlines()
    assert re.fullmatch(r"caisson version \d+\.\d+\.\d+\S*", first), first
    assert any(re.fullmatch(r"commit: \S+", l) for l in rest) and "spec: 1.3.0" in rest, r
    assert r.err == ""


@pytest.mark.parametrize("cmd", COMMANDS)
def test_help(rt, cmd):
    r = rt(cmd, "--help").ok()
    assert cmd in r.out and r.err == ""


def test_main_help_names_every_command(rt):
    out = rt("--help").ok().out
    assert all(re.search(rf"^\s+{c}\b", out, re.M) for c in COMMANDS), out


@pytest.mark.parametrize("args,text", [
    (["create"], "--bundle --config --pid-file --console-socket --pidfd-socket --preserve-fds --no-pivot --no-new-keyring --isolation"),
    (["run"], "--bundle --config --pid-file --console-socket --pidfd-socket --preserve-fds --no-pivot --no-new-keyring --isolation "
              "--detach --keep"),
    (["exec"], "--process --detach --pid-file --console-socket --tty --cwd --env --user --additional-gids --cap --no-new-privs "
               "--preserve-fds --ignore-paused --apparmor --process-label --cgroup"),
    (["kill"], "--all --regex"), (["delete"], "--force --regex"), (["ps"], "--format"), (["list"], "--format --quiet"),
    (["update"], "--resources --memory --memory-reservation --memory-swap --cpu-share --cpu-quota --cpu-period --cpu-burst --cpu-idle "
                 "--cpuset-cpus --cpuset-mems --pids-limit --blkio-weight"),
    (["events"], "--stats --interval"), (["doctor"], "--json"), (["spec"], "--bundle --file --rootless"), (["plan"], "--bundle --json --isolation"),
    ([], "--root --log --log-format --log-level --debug --systemd-cgroup --rootless --cgroup-manager --version"),
])
def test_help_lists_the_options(rt, args, text):
    out = rt(*args, "--help").ok().out
    missing = [o for o in text.split() if o not in out]
    assert not missing, missing


# ---- log ----

def test_log_json_to_a_file(ctr, rt, tmp):
    """The log in JSON has one object in each line; podman reads the file as exactly one."""
    log = os.path.join(tmp, "log")
    rt.options = ["--log", log, "--log-format", "json"]
    rt("state", "nope").failed()
    with open(log) as f:
        lines = f.read().splitlines()
    assert len(lines) == 1
    j = json.loads(lines[0])
    assert j["level"] == "error" and "does not exist" in j["msg"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", j["time"])


def test_log_json_escapes(rt, tmp):
    log = os.path.join(tmp, "log")
    rt.options = ["--log", log, "--log-format", "json"]
    rt("run", "--bundle", '/no/"quoted"\n\\\x01/\udcff'.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), "x")
    with open(log, "rb") as f:
        for l in f.read().splitlines():
            assert "quoted" in json.loads(l.decode("utf-8"))["msg"]


def test_log_json_on_stderr(rt):
    rt.options = ["--log-format", "json"]
    r = rt("state", "nope").failed()
    assert json.loads(r.err)["level"] == "error"


def test_log_file_is_appended_to(rt, tmp):
    log = os.path.join(tmp, "log")
    rt.options = ["--log", log, "--log-format", "json"]
    rt("state", "a")
    rt("state", "b")
    with open(log) as f:
        assert len(f.readlines()) == 2


def test_error_reaches_stderr_as_well(rt, tmp):
    """With --log an error still appears on standard error too, because conmon reads it there."""
    rt.options = ["--log", os.path.join(tmp, "log")]
    rt("state", "nope").failed("does not exist")


def test_log_text(rt, tmp):
    log = os.path.join(tmp, "log")
    rt.options = ["--log", log, "--log-format", "text"]
    rt("state", "nope").failed()
    with open(log) as f:
        t = f.read()
    assert "level=error" in t and "does not exist" in t


def test_log_fifo_without_a_reader(rt, tmp):
    log = os.path.join(tmp, "log")
    os.mkfifo(log)
    rt.options = ["--log", log]
    rt("list", timeout=10).failed("--log", log, "nobody reads")


def test_log_fifo_that_is_full(ctr, rt, tmp):
    """A command does not wait for the reader of its log. The lines that the FIFO cannot take are lost."""
    log = os.path.join(tmp, "log")
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    size = fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    writer = os.open(log, os.O_WRONLY)
    os.write(writer, b"-" * (size - 200))  # there is room for some lines only
    rt.options = ["--log", log, "--debug"]
    assert ctr("echo", "ran").run(timeout=30).ok().out == "ran\n"
    text = os.read(reader, 1 << 20)
    assert b"cgroup-create" in text and size - 120 < len(text) <= size, text
    os.close(reader)
    os.close(writer)


def test_log_format_unknown(rt):
    rt.options = ["--log-format", "xml"]
    rt("list").failed("xml")


def test_log_file_that_cannot_be_opened(rt):
    rt.options = ["--log", "/no/such/dir/log"]
    rt("list").failed("/no/such/dir/log")


def test_debug_says_more_and_nothing_without_it(ctr, rt, tmp):
    log = os.path.join(tmp, "log")
    rt.options = ["--log", log]
    ctr("true").run().ok()
    if os.path.exists(log):
        with open(log) as f:  # if QEMU is used for lack of KVM, the log says so
            assert not [line for line in f if "runs in software" not in line]
    rt.options = ["--debug", "--log", log, "--log-format", "json"]
    ctr("true").run().ok()
    with open(log) as f:
        lines = [json.loads(l) for l in f if l.startswith("{")]
    assert lines and all({"level", "msg", "time"} <= l.keys() for l in lines)


def test_container_cannot_reach_the_log(ctr, rt, tmp):
    rt.options = ["--debug", "--log", os.path.join(tmp, "log")]
    out = ctr("probe", "fds").run().ok().out
    assert "/log" not in out


# ---- features ----

def test_features(rt):
    r = rt("features").ok()
    assert r.err == "", "CRI-O reads stdout and stderr together"
    f = json.loads(r.out)
    assert f["ociVersionMin"] == "1.0.0" and re.match(r"1\.3\.", f["ociVersionMax"])
    assert set(f["hooks"]) == {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
    assert {"ro", "rro", "bind", "rbind", "idmap", "ridmap", "tmpcopyup", "nosymfollow", "rnosymfollow"} <= set(f["mountOptions"])
    l = f["linux"]
    assert set(l["namespaces"]) == {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}
    assert "CAP_SYS_ADMIN" in l["capabilities"]
    assert l["cgroup"]["v2"] is True and l["cgroup"]["v1"] is False
    s = l["seccomp"]
    assert s["enabled"] and "SCMP_ACT_NOTIFY" in s["actions"] and "SCMP_ARCH_X86_64" in s["archs"]
    assert "SCMP_CMP_MASKED_EQ" in s["operators"] and "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in s["knownFlags"]
    assert set(s["supportedFlags"]) <= set(s["knownFlags"])
    assert l["mountExtensions"]["idmap"]["enabled"] is True
    assert "enabled" in l["intelRdt"] and "enabled" in l["apparmor"] and "enabled" in l["selinux"]
    assert l["netDevices"]["enabled"] is True


def test_features_tells_the_truth_about_capabilities(ctr, rt):
    """Every capability in `features` is accepted in a config."""
    caps = rt("features").json()["linux"]["capabilities"]
    c = ctr("true", capabilities={"bounding": caps})
    c.run().ok()


@pytest.mark.parametrize("what,field", [("actions", "action"), ("archs", "arch"), ("operators", "op"), ("supportedFlags", "flag")])
def test_features_tells_the_truth_about_seccomp(ctr, rt, tmp, what, field):
    for v in rt("features").json()["linux"]["seccomp"][what]:
        if v == "SCMP_ACT_NOTIFY" or "WAIT_KILLABLE" in v or "NEW_LISTENER" in v:
            continue  # these actions need a listener, see test_security.py
        c = ctr("true")
        s = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO"}]}
        if field == "action":
            s["syscalls"][0]["action"] = v
        elif field == "arch":
            s["architectures"] = [v]
        elif field == "op":
            s["syscalls"][0]["args"] = [{"index": 0, "value": 1, "op": v}]
        else:
            s["flags"] = [v]
        c.conf["linux"]["seccomp"] = s
        r = c.run()
        # The runtime recognizes architectures that one filter can't have beside x86-64, such as those of another byte
        # order.
        assert r.rc == 0 or (field == "arch" and "X86" not in v and "cannot be in one filter" in r.err), (v, r)


def test_features_tells_the_truth_about_mount_options(ctr, rt, tmp):
    src = os.path.join(tmp, "src")
    os.mkdir(src)
    skip = {"bind", "rbind", "idmap", "ridmap", "tmpcopyup", "remount", "mand", "nomand"}
    if mode.VM:  # nothing propagates out of a microVM, see test_mounts.py
        skip |= {"shared", "rshared"}
    c = ctr("true")
    for i, o in enumerate(sorted(set(rt("features").json()["mountOptions"]) - skip)):
        c.conf["mounts"].append({"destination": f"/o{i}", "type": "bind", "source": src, "options": ["rbind", o]})
    c.conf["linux"]["rootfsPropagation"] = "rshared"
    c.run().ok()


# ---- spec ----

def test_spec_runs_unchanged(ctr, rt):
    """This works on hybrid hosts too. The config's terminal is true, so the test's pty stands for the user's."""
    c = ctr("true")
    if user.ALL:
        user.own(c.bundle)
    rt("spec", *["--rootless"] * user.ALL, "--bundle", c.bundle).ok()
    with open(os.path.join(c.bundle, "config.json")) as f:
        j = json.load(f)
    assert j["process"]["args"] == ["sh"] and j["process"]["terminal"] is True and j["root"]["path"] == "rootfs"
    if "vm" in c.conf:  # no kernel is installed for microVMs, so the harness names one
        j["vm"] = c.conf["vm"]
        with open(os.path.join(c.bundle, "config.json"), "w") as f:
            json.dump(j, f)
    import pty
    from harness.pty_ import read_until
    fd, slave = pty.openpty()
    p = rt.popen("run", "--bundle", c.bundle, c.id, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.write(fd, b"echo an''swer; exit 5\n")
    read_until(fd, b"answer")
    assert p.wait(10) == 5
    os.close(fd)
    os.close(slave)


def test_spec_in_the_current_directory_and_not_over_a_file(ctr, rt):
    c = ctr("true")
    rt("spec", cwd=c.bundle).ok()
    before = open(os.path.join(c.bundle, "config.json")).read()
    r = rt("spec", cwd=c.bundle)
    assert r.rc != 0 and "config.json" in r.err and "exists" in r.err, r
    assert open(os.path.join(c.bundle, "config.json")).read() == before


def test_spec_rootless(ctr, rt):
    c = ctr("true")
    rt("spec", "--rootless", "--bundle", c.bundle).ok()
    with open(os.path.join(c.bundle, "config.json")) as f:
        j = json.load(f)
    assert "user" in [n["type"] for n in j["linux"]["namespaces"]] and j["linux"]["uidMappings"][0]["size"] == 1
    assert "network" not in [n["type"] for n in j["linux"]["namespaces"]]


# ---- plan ----

def test_plan(ctr, rt):
    c = ctr("true").write()
    r = rt("plan", "--bundle", c.bundle).ok()
    assert "mount" in r.out and "/proc" in r.out and r.err == ""
    j = rt("plan", "--json", "--bundle", c.bundle).json()
    assert j
    assert rt("list", "-q").ok().out == "", "a plan makes nothing"


def test_plan_is_the_same_every_time(ctr, rt):
    c = ctr("true").write()
    a, b = (rt("plan", "--bundle", c.bundle).ok().out for _ in range(2))
    assert a == b


def test_plan_without_privilege(ctr, rt):
    c = ctr("true").write()
    os.chmod(os.path.join(c.bundle, "config.json"), 0o644)
    rt.prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    rt("plan", "--bundle", c.bundle).ok()


def test_plan_reports_what_is_wrong(ctr, rt):
    c = ctr("true", cwd="relative").write()
    rt("plan", "--bundle", c.bundle).failed("process.cwd")


# ---- events and update ----

def test_events_stats(ctr):
    """The JSON has runc's shape, because containerd and docker parse it."""
    c = ctr.idle().up()
    j = c.rt("events", "--stats", c.id).json()
    assert j["type"] == "stats" and j["id"] == c.id
    assert {"cpu", "memory", "pids", "blkio"} <= j["data"].keys()
    assert "usage" in j["data"]["cpu"] and "usage" in j["data"]["memory"]


def test_events_interval(ctr):
    c = ctr.idle().up()
    out = os.path.join(c.bundle, "events")
    with open(out, "wb") as f:
        p = c.rt.popen("events", "--interval", "200ms", c.id, stdout=f)
    wait_for(lambda: len(open(out).read().splitlines()) >= 2, "two lines of statistics")
    for l in open(out).read().splitlines():
        assert json.loads(l)["type"] == "stats"
    c.kill("KILL")
    assert p.wait(10) == 0, "events ends with the container"


def test_events_bad_interval(ctr):
    c = ctr.idle().up()
    for bad in ("0s", "-1s", "x"):
        r = c.rt("events", "--interval", bad, c.id)
        assert r.rc != 0 and "interval" in r.err, r


def test_events_not_running(ctr):
    c = ctr("true").up()
    c.wait()
    r = c.rt("events", "--stats", c.id)
    assert r.rc != 0 and "not running" in r.err, r


def test_update_without_a_controller(ctr):
    c = ctr.idle().up()
    with open(os.path.join(machine.cgroup2_mount(), "cgroup.controllers")) as f:
        if mode.VM or "pids" in f.read().split():  # the guest's kernel has the controller, whoever holds the host's
            c.rt("update", "--pids-limit", "77", c.id).ok()
            return
    c.rt("update", "--pids-limit", "77", c.id).failed("pids")
    assert c.status() == "running"


def test_limits_without_a_cgroup(ctr):
    """
    With --cgroup-manager disabled one message names what is not applied, and there is none if nothing was asked for.
    """
    c = ctr("true")
    c.rt.options = ["--cgroup-manager", "disabled"]
    assert c.run().ok().err == ""
    c.conf["linux"]["resources"] = {"cpu": {"quota": 50000}}
    err = c.run().ok().err
    assert err.count("\n") == 1 and "linux.resources: the limits are not applied: the cgroup manager is disabled" in err, err


def test_update_without_a_cgroup(ctr, tmp_path):
    """An update without limits is no error for a container without a cgroup, and one with limits changes nothing."""
    (tmp_path / "file").write_text("hello\n")
    c = ctr("sleep", "1000")
    c.rt.options = ["--cgroup-manager", "disabled"]
    c.conf["root"]["readonly"] = False
    c.create()
    c.start()
    try:
        c.rt("update", c.id).ok()
        c.rt("update", "--resources", "-", c.id, input="{}").ok()
        c.rt("update", "--memory", "-1", c.id).ok()
        c.rt("update", "--add-mount", f"{tmp_path}:/data", "--cpu-quota", "50000", c.id, timeout=120).failed("it has no cgroup")
        c.exec("test", "!", "-e", "/data").ok()
        r = c.rt("update", "--add-mount", f"{tmp_path}:/data", c.id, timeout=120).ok()
        assert r.err == "" and c.exec("cat", "/data/file").ok().out == "hello\n"
        c.rt("update", "--rm-mount", "/data", c.id, timeout=120).ok()
    finally:
        c.kill("KILL")
        c.wait()
        c.delete()


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_update_devices_live(ctr, tmp, how):
    """update changes the device rules of a running container, from a file or standard input. Devices need no
    controller, so this works on every host."""
    c = ctr.sh("while :; do sleep 0.05; done")
    for s in ("bounding", "effective", "permitted"):
        c.conf["process"]["capabilities"][s] = config.CAPS + ["CAP_MKNOD"]
    c.conf["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"}]}
    c.up()
    # Anyone may write to /dev/kmsg if the device rules allow it.
    probe = ["sh", "-c", "[ -e /tmp/k ] || mknod /tmp/k c 1 11; probe open /tmp/k w"]
    assert c.exec(*probe).ok().out.startswith("1 ")
    new = json.dumps({"devices": [{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}]})
    if how == "file":
        path = os.path.join(tmp, "res.json")
        with open(path, "w") as f:
            f.write(new)
        r = c.rt("update", "--resources", path, c.id)
    else:
        r = c.rt("update", "--resources", "-", c.id, input=new)
    assert r.rc == 0, r
    assert c.exec(*probe).ok().out.startswith("ok")


@pytest.mark.parametrize("text,field", [("", ""), ("{", ""), ("[]", ""), ('{"memory": {"limit": "x"}}', "limit"),
                                        ('{"pids": {"limit": 1.5}}', "limit"), ('{"cpu": []}', "cpu")])
def test_update_bad_resources(ctr, text, field):
    c = ctr.idle().up()
    c.rt("update", "--resources", "-", c.id, input=text).failed(field)


def test_update_bad_flag_value(ctr):
    c = ctr.idle().up()
    for a in (["--memory", "x"], ["--memory", "1.5XiB"], ["--cpu-share", "-1"], ["--pids-limit", "1.5"], ["--cpuset-cpus", "a-b"]):
        r = c.rt("update", *a, c.id)
        assert r.rc != 0 and r.err.strip(), r


def test_list_shows_containers_only(rt, ctr):
    """Other files may be in the state directory. A damaged container is named, and the others are listed."""
    c = ctr.idle().up()
    for n in ("a file", "file.json"):
        with open(os.path.join(rt.root, n), "w") as f:
            f.write("{}")
    assert rt("list", "-q").ok().out.split() == [c.id]
    assert [x["id"] for x in json.loads(rt("list", "--format", "json").ok().out)] == [c.id]
    os.mkdir(os.path.join(rt.root, "broken"))
    with open(os.path.join(rt.root, "broken", "state.json"), "w") as f:
        f.write('{"half')
    assert sorted(rt("list", "-q").ok().out.split()) == sorted([c.id, "broken"])
    r = rt("list").ok()
    assert c.id in r.out and "broken" in r.err
    rt("delete", "--force", "broken").ok()
    for n in ("a file", "file.json"):
        os.unlink(os.path.join(rt.root, n))


def test_update_refused_before_anything_is_changed(rt, ctr):
    """A refused update changes nothing. The check comes before the limits, because a limit without a controller would
    be reported first."""
    c = ctr.idle().up()
    r = rt("update", "--pids-limit", "77", "--l3-cache-schema", "L3:0=f", c.id).failed("intelRdt")
    assert "pids" not in r.err
