# SPDX-License-Identifier: Apache-2.0
"""Tests the six kinds of hooks: order, namespaces, state on stdin, environment, failing, hanging."""
import json
import os
import signal
import time

import pytest
from harness import config, mode
from harness.machine import proc_stat
from harness.runtime import wait_for

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
# whether the path is looked up in the container and not on the host
IN_CONTAINER = {"createContainer": False, "startContainer": True}


@pytest.fixture
def out(tmp):
    d = os.path.join(tmp, "out")
    os.mkdir(d, 0o777)
    os.chmod(d, 0o777)
    return d


def hook(script, **more):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **more}


def with_hooks(c, out, hooks):
    """Adds hooks that write to the directory `out`, which has the same path in the container, for the hooks that run
    there."""
    c.conf["mounts"].append({"destination": out, "type": "bind", "source": out, "options": ["bind"]})
    c.conf["hooks"] = hooks
    return c


def lines(out, name="log"):
    try:
        with open(os.path.join(out, name)) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def test_order(ctr, out):
    c = with_hooks(ctr.sh(f"echo program >> {out}/log"), out,
                   {k: [hook(f"echo {k}1 >> {out}/log"), hook(f"echo {k}2 >> {out}/log")] for k in KINDS})
    c.create()
    assert lines(out) == [f"{k}{i}" for k in KINDS[:3] for i in (1, 2)]
    c.start()
    c.wait()
    got = lines(out)
    assert got[6:8] == ["startContainer1", "startContainer2"]
    # The program and poststart run at the same time: start returns when poststart is done.
    assert sorted(got[8:11]) == ["poststart1", "poststart2", "program"]
    c.delete()
    assert lines(out)[11:] == ["poststop1", "poststop2"]


def test_a_large_file_ends_a_hook(ctr, out):
    """caisson itself survives SIGXFSZ (test_faults), but hooks get its default action, as programs expect."""
    c = with_hooks(ctr("true"), out, {k: [hook(f"echo {k} $(grep SigIgn /proc/self/status) >>{out}/log")] for k in KINDS})
    c.run().ok()
    got = lines(out)
    assert got[::3] == KINDS and not any(int(s, 16) & 1 << (signal.SIGXFSZ - 1) for s in got[2::3]), got


def test_order_in_run(ctr, out):
    c = with_hooks(ctr("true"), out, {k: [hook(f"echo {k} >> {out}/log")] for k in KINDS})
    c.run().ok()
    assert lines(out) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_state_on_stdin(ctr, out, kind):
    c = with_hooks(ctr("true") if kind == "poststop" else ctr.sh(f"while [ ! -s {out}/state ]; do sleep 0.01; done"), out,
                   {kind: [hook(f"cat > {out}/s; sleep 0.1; mv {out}/s {out}/state")]})
    c.conf["annotations"] = {"a": "b"}
    c.run().ok()
    with open(os.path.join(out, "state")) as f:
        text = f.read()
    assert "\n" not in text, "a shell's `read` takes one line"
    s = json.loads(text)
    assert s["id"] == c.id and s["bundle"] == c.bundle and s["annotations"] == {"a": "b"} and s["ociVersion"]
    want = {"prestart": "creating", "createRuntime": "creating", "createContainer": "creating", "startContainer": "created",
            "poststart": "running", "poststop": "stopped"}
    assert s["status"] == want[kind]
    if kind != "poststop":
        assert s["pid"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ns", ["mnt", "net"])
def test_namespaces(ctr, out, kind, ns):
    c = with_hooks(ctr("true"), out, {kind: [hook(f"readlink /proc/self/ns/{ns} > {out}/ns; id -u >> {out}/ns")]})
    c.run().ok()
    link, uid = lines(out, "ns")
    assert (link == os.readlink(f"/proc/self/ns/{ns}")) == (kind not in IN_CONTAINER)
    assert uid == "0"


def test_startcontainer_hook_is_the_containers_file(ctr, out):
    c = with_hooks(ctr("true"), out, {"startContainer": [{"path": "/only-inside"}]})
    with open(c.path("/only-inside"), "w") as f:
        f.write(f"#!/bin/sh\necho inside > {out}/log\n")
    os.chmod(c.path("/only-inside"), 0o755)
    c.run().ok()
    assert lines(out) == ["inside"]


def test_createcontainer_hook_is_the_hosts_file(ctr, out):
    path = os.path.join(out, "..", "host-hook")
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\necho host > {out}/log\n")
    os.chmod(path, 0o755)
    c = with_hooks(ctr("true"), out, {"createContainer": [{"path": os.path.abspath(path)}]})
    c.run().ok()
    assert lines(out) == ["host"]


def test_args_and_env(ctr, out):
    c = with_hooks(ctr("true"), out, {"createRuntime": [
        {"path": "/bin/bash", "args": ["zero", "-c", f'echo "$0" "$1" > {out}/log; env >> {out}/log', "nought", "one"],
         "env": ["A=1", "B=x"]}]})
    c.run(env={**os.environ, "SECRET": "no"}).ok()
    got = lines(out)
    assert got[:2] == ["nought", "one"] and "A=1" in got and "B=x" in got
    assert not any(l.startswith("SECRET") for l in got)


@pytest.mark.parametrize("env", [None, []])
def test_no_args_and_no_env(ctr, out, env):
    """
    A hook without env gets the runtime's, as with runc and crun. With [] it gets none. Without args, args[0] is the
    path.
    """
    path = os.path.join(out, "hook")
    with open(path, "w") as f:
        f.write(f"#!/bin/bash\ntr '\\0' '\\n' < /proc/$$/environ > {out}/env\necho done > {out}/log\n")
    os.chmod(path, 0o755)
    c = with_hooks(ctr("true"), out, {"createRuntime": [{"path": path, **({} if env is None else {"env": env})}]})
    c.run(env={**os.environ, "OURS": "yes"}).ok()
    assert lines(out) == ["done"]
    assert "OURS=yes" in lines(out, "env") if env is None else lines(out, "env") == []


def test_startcontainer_hook_without_env_has_the_programs(ctr, out):
    c = with_hooks(ctr("true", env=["PATH=/bin", "MINE=1"]), out,
                   {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", f"env > {out}/env"]}]})
    c.run(env={**os.environ, "OURS": "yes"}).ok()
    assert "MINE=1" in lines(out, "env") and "OURS=yes" not in lines(out, "env")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_failing_before_create_ends(ctr, out, kind):
    c = with_hooks(ctr.sh(f"echo program >> {out}/log"), out,
                   {kind: [hook("exit 3"), hook(f"echo second >> {out}/log")], "poststop": [hook(f"echo poststop >> {out}/log")]})
    r = c.create(check=False)
    r.failed("hook", kind)
    assert "3" in r.err
    assert not c.exists()
    # runtime.md: on an error in these hooks the container is destroyed, and "the lifecycle continues at step 12": poststop.
    assert lines(out) == ["poststop"]


def test_failing_startcontainer(ctr, out):
    c = with_hooks(ctr.sh(f"echo program >> {out}/log"), out,
                   {"startContainer": [hook("exit 4")], "poststop": [hook(f"echo poststop >> {out}/log")]})
    c.create()
    r = c.start(check=False)
    r.failed("startContainer")
    # runtime.md, lifecycle: step 7 goes on at step 12, the container is destroyed, and 13, poststop.
    assert lines(out) == ["poststop"] and not c.exists()


def test_failing_poststart(ctr, out):
    """runtime.md (1.2 and later): an error in poststart is an error of start, and the container is stopped."""
    c = with_hooks(ctr.idle(), out, {"poststart": [hook("exit 5")], "poststop": [hook(f"echo poststop >> {out}/log")]})
    c.create()
    r = c.start(check=False)
    r.failed("poststart")
    # runtime.md, lifecycle: step 9 goes on at step 12, the container is destroyed, and 13, poststop.
    assert lines(out) == ["poststop"] and not c.exists()


@pytest.mark.parametrize("detach", [False, True])
def test_failing_poststart_of_run(ctr, out, detach):
    c = with_hooks(ctr.idle(), out, {"poststart": [hook("exit 5")], "poststop": [hook(f"echo poststop >> {out}/log")]})
    c.run(*(["--detach"] if detach else [])).failed("poststart")
    assert lines(out) == ["poststop"] and not c.exists()


def test_program_that_cannot_be_started_stays_stopped(ctr, out):
    """A container whose program cannot be started stays stopped until delete. No hook failed, so nothing else deletes
    it, as with runc and crun."""
    c = with_hooks(ctr("/bin/data"), out, {"poststop": [hook(f"echo poststop >> {out}/log")]})
    with open(c.path("bin/data"), "w") as f:
        f.write("\0 no program")
    os.chmod(c.path("bin/data"), 0o755)
    c.create()
    c.start(check=False).failed("/bin/data")
    assert c.status() == "stopped" and lines(out) == []
    c.delete()
    assert lines(out) == ["poststop"]


def test_failing_poststop_is_a_warning(ctr, out):
    """runtime.md: "an error ... MUST log a warning, but the remaining hooks and lifecycle continue"."""
    c = with_hooks(ctr("true"), out, {"poststop": [hook("exit 6"), hook(f"echo second >> {out}/log")]})
    c.up()
    c.wait()
    r = c.delete()
    assert "poststop" in r.err
    assert lines(out) == ["second"] and not c.exists()


def test_hook_stderr_reaches_the_message(ctr, out):
    c = with_hooks(ctr("true"), out, {"createRuntime": [hook("echo it broke like this >&2; exit 1")]})
    r = c.create(check=False)
    assert r.rc != 0 and "it broke like this" in r.err, r


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_hanging_hook_is_killed(ctr, out, kind):
    c = with_hooks(ctr.idle(), out, {kind: [hook("exec sleep 1000", timeout=1)]})
    started = time.monotonic()
    r = c.run()
    assert r.rc != 0 and kind in r.err and "1" in r.err, r
    assert 0.9 < time.monotonic() - started < 10 * mode.SCALE
    assert not c.exists()


def test_hanging_poststop_is_killed(ctr, out):
    c = with_hooks(ctr("true"), out, {"poststop": [hook("exec sleep 1000", timeout=1)]})
    r = c.run(timeout=15)
    assert "poststop" in r.err and not c.exists(), r


def test_hanging_hooks_children_are_killed_too(ctr, out):
    """When a hook's time is over, its children are killed too, because a hook is often a shell script and the process
    that hangs is its child."""
    c = with_hooks(ctr("true"), out, {"createRuntime": [hook("sleep 1000; true", timeout=1)]})
    r = c.run()
    assert r.rc != 0 and "createRuntime" in r.err, r


def test_output_to_files(ctr, out, tmp):
    """The output of hooks goes to files that crun's annotations name."""
    o, e = os.path.join(tmp, "stdout"), os.path.join(tmp, "stderr")
    c = with_hooks(ctr("true"), out, {k: [hook(f"echo {k}; echo error of {k} >&2")] for k in KINDS})
    c.conf["annotations"] = {"run.oci.hooks.stdout": o, "run.oci.hooks.stderr": e}
    open(o, "w").write("before\n")
    c.run().ok()
    kinds = [k for k in KINDS if not (mode.VM and k == "startContainer")]
    assert open(o).read() == "".join(f"{l}\n" for l in ["before", *kinds])
    assert open(e).read() == "".join(f"error of {k}\n" for k in kinds)


def test_output_to_one_file(ctr, out, tmp):
    """If the annotations name one file, the other stream is in the error's message, as without annotations."""
    c = with_hooks(ctr("true"), out, {"createRuntime": [hook("echo gone; echo seen >&2; exit 1")]})
    c.conf["annotations"] = {"run.oci.hooks.stdout": os.path.join(tmp, "stdout")}
    r = c.create(check=False).failed("createRuntime", "seen")
    assert "gone" not in r.err
    c.conf["annotations"] = {"run.oci.hooks.stdout": "relative"}
    c.create(check=False).failed("annotation run.oci.hooks.stdout", "relative")


def test_hook_within_its_timeout(ctr, out):
    with_hooks(ctr("true"), out, {"createRuntime": [hook("sleep 0.2", timeout=5)]}).run().ok()


def test_hook_missing(ctr, out):
    c = with_hooks(ctr("true"), out, {"createRuntime": [{"path": "/no/such/hook"}]})
    r = c.create(check=False)
    r.failed("createRuntime", "/no/such/hook")


@pytest.mark.parametrize("bad,field", [({"path": "relative"}, "path"), ({}, "path"), ({"path": "/x", "timeout": 0}, "timeout"),
                                       ({"path": "/x", "timeout": -1}, "timeout"), ({"path": "/x", "env": "A"}, "env")])
def test_bad_hook(ctr, bad, field):
    c = ctr("true")
    c.conf["hooks"] = {"poststop": [bad]}
    c.run().failed("hooks.poststop[0]", field)


def test_hook_killed_by_a_signal(ctr, out):
    c = with_hooks(ctr("true"), out, {"createRuntime": [hook("kill -9 $$")]})
    r = c.create(check=False)
    r.failed("createRuntime")
    assert "signal" in r.err or "SIGKILL" in r.err or "9" in r.err


def test_createruntime_hook_sets_up_the_network(ctr, out):
    """A createRuntime hook can set up the network as CNI does: it finds the pid in the state and moves an interface
    there, which the program then has."""
    script = (f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -1 | tr -dc 0-9); "
              f"ip link add caihook0 type veth peer name eth0 netns $pid && echo ok > {out}/log")
    c = with_hooks(ctr("ls", "/sys/class/net"), out, {"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", script.replace("pid=$(sed", "pid=$(tr -d '\\n' | sed")],
         "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]})
    r = c.run().ok()
    assert lines(out) == ["ok"] and "eth0" in r.out
    wait_for(lambda: "caihook0" not in os.listdir("/sys/class/net"), "end of the veth pair")


def test_hook_does_not_get_the_runtimes_descriptors(ctr, out):
    c = with_hooks(ctr("true"), out, {"createRuntime": [hook(f"ls -l /proc/self/fd > {out}/fds")]})
    c.run().ok()
    with open(os.path.join(out, "fds")) as f:
        n = [l for l in f if " -> " in l]
    assert len(n) <= 4, n
