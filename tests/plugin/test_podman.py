# SPDX-License-Identifier: Apache-2.0
"""Tests podman's commands: a container's life, as root and rootless, with both cgroup managers. test_podman_run.py
tests its options."""
import json
import os
import re
import signal
import subprocess
import time

import pytest
from harness import mode, podman
from harness.runtime import wait_for


@pytest.fixture(autouse=True)
def clean_machine():
    """Replaces the fixture for single containers, because podman's own daemons and files stay between tests."""
    yield
    lines = podman.nothing_left()
    assert not lines, "left on the machine:\n  " + "\n  ".join(lines)


@pytest.fixture(params=["root-systemd", "root-cgroupfs", "user-systemd", "user-cgroupfs"])
def engine(request):
    who, manager = request.param.split("-")
    same = request.getfixturevalue(who + "_podman")
    return podman.Podman(same.user, manager, cgroup=same.cgroup, service=same.service)


def cgroup_of(pid):
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        return "/sys/fs/cgroup" + re.search(r"^0::(.*)$", f.read(), re.M).group(1)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read().strip()


def test_life(engine):
    """A container's life works: run -d, exec, logs, stop, inspect, rm."""
    cid = engine("run", "-d", "--name", "ct", "box", "sh", "-c", podman.IDLE)
    try:
        assert re.fullmatch("[0-9a-f]{64}", cid)
        state = engine.inspect("ct")["State"]
        assert state["Status"] == "running"
        cgroup = cgroup_of(state["Pid"])
        if engine.manager == "systemd":
            assert f"/libpod-{cid}.scope" in cgroup
            assert ("/user@" in cgroup) == engine.rootless
        elif not engine.rootless:
            assert cgroup.startswith(f"/sys/fs/cgroup/libpod_parent/libpod-{cid}")
        r = engine.try_("exec", "-i", "-u", "user", "-w", "/tmp", "-e", "A=b", "ct", "sh", "-c",
                        'id -u; pwd; echo $A; cat; cat /proc/self/cgroup; echo err >&2; exit 7', stdin="in\n")
        assert (r.rc, r.out.split()[:4], r.err.strip()) == (7, ["1000", "/tmp", "b", "in"], "err")
        assert r.out.split()[4] == "0::/", "exec is in the container's cgroup"
        wait_for(lambda: "started" in engine.logs("ct"), "output in the logs", 30)
        began = time.monotonic()
        engine("stop", "-t", "60", "ct")
        assert time.monotonic() - began < 50, "it took SIGKILL to stop it"
        assert engine("logs", "ct") == "started\nterm"
        state = engine.inspect("ct")["State"]
        assert (state["Status"], state["ExitCode"], state["OOMKilled"], state["Pid"]) == ("exited", 3, False, 0)
    finally:
        engine("rm", "-f", "-t", "0", "ct")
    assert not os.path.exists(cgroup)


def test_exit_codes(root_podman):
    """podman returns the exit codes of podman-run(1): 125 for its own error, 126 for a program that cannot be
    executed, 127 for one that is not found, else the program's."""
    for argv, rc in ((["--no-such-option", "box", "true"], 125),
                     (["box", "/etc/passwd"], 126),
                     (["box", "no-such-command"], 127),
                     (["-w", "/etc/passwd", "box", "true"], 126),  # podman itself checks this, with any runtime
                     (["box", "sh", "-c", "exit 42"], 42),
                     (["--init", "box", "sh", "-c", "kill -KILL $$"], 137)):
        r = root_podman.try_("run", "--rm", *argv)
        assert r.rc == rc, (argv, r)


def test_exec_exit_codes(root_podman):
    root_podman("run", "-d", "--name", "ct", "box", "sleep", "1000")
    try:
        for argv, rc in ((["--no-such-option", "ct", "true"], 125), (["ct", "/etc"], 126), (["ct", "/no/such/command"], 127),
                         (["ct", "sh", "-c", "kill -TERM $$"], 143)):
            r = root_podman.try_("exec", *argv)
            assert r.rc == rc, (argv, r)
        # exec -d ends alone, and the container goes on.
        root_podman("exec", "-d", "ct", "sh", "-c", "echo done >/tmp/d")
        wait_for(lambda: root_podman.try_("exec", "ct", "cat", "/tmp/d").out == "done\n", "detached exec", 30)
    finally:
        root_podman.remove("ct")


@pytest.mark.parametrize("who", ["root_podman", "user_podman"])
def test_terminal(who, request):
    """run -it and exec -it get a terminal with the caller's size and input."""
    engine = request.getfixturevalue(who)
    script = "tty; stty size; echo ready; read x; echo got-$x; exit 5"
    rc, out = engine.on_terminal("run", "--rm", "-it", "box", "sh", "-c", script, type_="abc\n", until=b"ready")
    assert rc == 5 and "/dev/" in out and "got-abc" in out, out
    engine("run", "-dt", "--name", "ct", "box", "sleep", "1000")
    try:
        rc, out = engine.on_terminal("exec", "-it", "ct", "sh", "-c", "tty; sleep 1; " + script, type_="abc\n", until=b"ready")
        assert rc == 5 and "/dev/pts/" in out and "30 90" in out and "got-abc" in out, out
    finally:
        engine.remove("ct")


@pytest.mark.parametrize("who", ["root_podman", "user_podman"])
def test_watch_and_change(who, request):
    """These commands work: pause, unpause, stats, top, update, kill."""
    engine = request.getfixturevalue(who)
    engine("run", "-d", "--name", "ct", "--memory", "100m", "box", "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.1; done")
    try:
        pid = engine.inspect("ct")["State"]["Pid"]
        cgroup = cgroup_of(pid)
        while os.path.basename(cgroup) == "container":
            cgroup = os.path.dirname(cgroup)
        # The host's cgroup of a microVM limits the whole machine, and the guest's the container, which is frozen
        # there. podman's top shows processes of the host.
        def memory_limit():
            return engine("exec", "ct", "cat", "/sys/fs/cgroup/memory.max") if mode.VM else read(cgroup, "memory.max")
        assert memory_limit() == str(100 << 20)
        engine("pause", "ct")
        assert mode.VM or read(cgroup, "cgroup.events").split()[-1] == "1"
        assert engine.inspect("ct")["State"]["Status"] == "paused"
        engine("unpause", "ct")
        assert mode.VM or read(cgroup, "cgroup.events").split()[-1] == "0"
        stats = json.loads(engine("stats", "--no-stream", "--format", "json", "ct"))[0]
        assert int(stats["pids"]) >= 1, stats
        if not mode.VM:
            assert stats["mem_usage"].split(" / ")[1] == "104.9MB", stats
            assert "sh -c trap" in engine("top", "ct", "pid", "args")
        engine("update", "--memory", "64m", "--cpus", "0.5", "--cpu-shares", "512", "ct")
        assert memory_limit() == str(64 << 20)
        assert read(cgroup, "cpu.max") == "50000 100000"
        assert read(cgroup, "cpu.weight") == "59"
        engine("kill", "-s", "USR1", "ct")
        assert engine.wait("ct") == 9
    finally:
        engine.remove("ct")


@pytest.mark.parametrize("who", ["root_podman", "user_podman"])
def test_files(who, request):
    """diff and commit work: files that a container writes are in its layer."""
    engine = request.getfixturevalue(who)
    engine("run", "-d", "--name", "ct", "box", "sh", "-c", "echo new >/new; rm /etc/group; exec sleep 1000")
    try:
        wait_for(lambda: engine.try_("exec", "ct", "test", "-e", "/etc/group").rc == 1, "its changes", 30)
        diff = set(engine("diff", "ct").splitlines())
        assert {"A /new", "D /etc/group"} <= diff, diff
        # skipped for a user: the runtime takes no part, and it takes twice as long as all of the above
        if not engine.rootless:
            engine("commit", "-q", "ct", "committed")
            assert engine("run", "--rm", "committed", "sh", "-c", "cat /new; test ! -e /etc/group") == "new"
    finally:
        engine.remove("ct")
        engine.service.request("DELETE", "images/committed?force=true")


def test_cp(root_podman, tmp):
    """podman cp works into and out of a running container. podman enters the mount namespace for it, and the runtime
    has no other part."""
    path = os.path.join(tmp, "cp-test")
    with open(path, "w", encoding="utf-8") as f:
        f.write("data\n")
    os.chmod(path, 0o644)
    root_podman("run", "-d", "--name", "ct", "box", "sleep", "1000")
    try:
        root_podman("cp", path, "ct:/tmp/f")
        assert root_podman("exec", "ct", "cat", "/tmp/f") == "data"
        root_podman("cp", "ct:/tmp/f", path + "2")
        assert read(path + "2") == "data"
    finally:
        root_podman.remove("ct")


def test_healthcheck(root_podman):
    root_podman("run", "-d", "--name", "ct", "--health-cmd", "test ! -e /sick || exit 1", "--health-interval", "disable",
                "--health-retries", "1", "box", "sh", "-c", podman.IDLE)
    try:
        root_podman("healthcheck", "run", "ct")
        assert root_podman.inspect("ct")["State"]["Health"]["Status"] == "healthy"
        root_podman("exec", "ct", "touch", "/sick")
        assert root_podman.try_("healthcheck", "run", "ct").rc == 1
        assert root_podman.inspect("ct")["State"]["Health"]["Status"] == "unhealthy"
    finally:
        root_podman.remove("ct")


@pytest.mark.parametrize("who", ["root_podman", "user_podman"])
def test_out_of_memory(who, request):
    """The kernel's kill is counted in the cgroup that conmon watches, and podman reports it: OOMKilled, 137.

    conmon 2.1.6 gives up its watch when memory.events first changes ("max", before any "oom"), and looks once more when
    the container ended, by when systemd may have removed the scope: another process keeps it. It says so by a file
    in its working directory, which podman 4.3 looks for in the bundle and does not set: podman is started there.
    With any runtime it is the same (README.md).
    """
    engine = request.getfixturevalue(who)
    engine("create", "--name", "ct", "--memory", "24m", "--memory-swap", "24m", "box", "sh", "-c",
           "tail /dev/zero; echo child $?; grep oom_kill /sys/fs/cgroup/memory.events; "
           "until test -e /go; do sleep 0.2; done; exec tail /dev/zero")
    try:
        engine("start", "ct", cwd=engine.inspect("ct")["StaticDir"])
        wait_for(lambda: "oom_kill " in engine.logs("ct"), "the kernel's first kill", 60)
        assert engine.logs("ct").splitlines()[-2:] == ["child 137", "oom_kill 1"]
        cgroup = cgroup_of(engine.inspect("ct")["State"]["Pid"])
        assert read(cgroup, "memory.max") == str(24 << 20)
        with subprocess.Popen(["sleep", "1000"]) as lodger:
            try:
                with open(cgroup + "/cgroup.procs", "w", encoding="ascii") as f:
                    f.write(str(lodger.pid))
                engine("exec", "ct", "touch", "/go")
                assert engine.wait("ct") == 137
            finally:
                lodger.kill()
        state = engine.inspect("ct")["State"]
        assert state["OOMKilled"] is True and state["ExitCode"] == 137, state
    finally:
        engine.remove("ct")


@pytest.mark.parametrize("who", ["root_podman", "user_podman"])
def test_pod(who, request):
    """Two containers beside the infra container share the pod's namespaces, and end with the pod."""
    engine = request.getfixturevalue(who)
    engine("pod", "create", "--name", "p", "--share", "net,ipc,uts,pid", "--hostname", "podhost")
    try:
        # nc -l serves one connection and ends.
        engine("run", "-d", "--pod", "p", "--name", "p1", "box", "sh", "-c",
               "echo x >/dev/shm/x; while :; do nc -l -p 77 -e echo hi; done")
        out = engine("run", "--rm", "--pod", "p", "box", "sh", "-c",
                     "hostname; ps -o args; cat /dev/shm/x; nc 127.0.0.1 77; readlink /proc/self/ns/net; cat /proc/self/cgroup")
        assert out.startswith("podhost\n") and "nc -l -p 77" in out and "catatonit" in out and "\nx\nhi\n" in out, out
        net = os.readlink(f"/proc/{engine.inspect('p1')['State']['Pid']}/ns/net")
        assert net in out and net != os.readlink("/proc/self/ns/net"), (net, out)

        def states():
            return {c["Names"][0]: c["State"] for c in json.loads(engine("ps", "-a", "--pod", "--format", "json"))}
        if not engine.rootless:  # only for root, because a single container's pause is tested for both
            engine("pod", "pause", "p")
            assert sorted(states().values()) == ["paused", "paused"], states()
            engine("pod", "unpause", "p")
            assert sorted(states().values()) == ["running", "running"], states()
        engine("pod", "stop", "-t", "1", "p")
        assert sorted(states().values()) == ["exited", "exited"], states()
    finally:
        engine("pod", "rm", "-f", "-t", "0", "p")


def test_play_kube(root_podman, tmp):
    """podman play kube makes a pod of two containers, which reach each other on localhost and share a volume."""
    path = os.path.join(tmp, "pod.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("""
apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: server
    image: localhost/box:latest
    imagePullPolicy: Never
    command: [sh, -c, "mkdir /w; echo page >/w/index.html; echo vol >/shared/f; exec httpd -f -p 8080 -h /w"]
    volumeMounts: [{name: shared, mountPath: /shared}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
  - name: client
    image: localhost/box:latest
    imagePullPolicy: Never
    command: [sh, -c, "until wget -qO /dev/null http://127.0.0.1:8080/; do sleep 0.3; done; wget -qO- http://127.0.0.1:8080/; cat /shared/f; id -u; exec sleep 1000"]
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
    securityContext: {runAsUser: 1000, allowPrivilegeEscalation: false}
""")
    try:
        root_podman("play", "kube", "--network", "none", path)
        wait_for(lambda: root_podman.logs("kube-client").split() == ["page", "vol", "1000"], "the client's answer", 60)
        pid = root_podman.inspect("kube-server")["State"]["Pid"]
        assert read(cgroup_of(pid), "memory.max") == str(64 << 20) or \
            read(os.path.dirname(cgroup_of(pid)), "memory.max") == str(64 << 20)
    finally:
        root_podman("play", "kube", "--down", path)


def test_signal_proxy(root_podman):
    """SIGTERM to `podman run` in the foreground reaches the program, whose exit code it returns."""
    p = root_podman.popen("run", "--rm", "--name", "ct", "box", "sh", "-c", podman.IDLE, stdout=-1, text=True)
    try:
        assert p.stdout.readline() == "started\n"
        time.sleep(3)  # podman 4.3 passes signals on only some time after the start, which cannot be seen from outside
        p.send_signal(signal.SIGTERM)
        out, _ = p.communicate(timeout=60)
        assert (p.returncode, out) == (3, "term\n")
    finally:
        root_podman.remove("ct")
