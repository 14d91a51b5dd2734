# SPDX-License-Identifier: Apache-2.0
"""Tests containerd with its runc shim: `ctr run --runc-binary caisson`. README.md lists what ctr 1.6 cannot do."""
import json
import os
import re

import pytest
from harness.engines import IMAGE, SYSTEMD, Terminal, cgroup_of, read, run, runtime, wait_for

STATE = "/run/containerd/runc/default"  # the --root that the shim passes

# ctr sets the window's size after the program has started.
SHOW_TERMINAL = "tty; until stty size 2>/dev/null | grep .; do sleep 0.1; done; "


@pytest.fixture
def clean_machine():
    """Replaces the session's fixture, because containerd itself changes /run. test_nothing_is_left checks at the end."""


class Ctr:
    def __init__(self, containerd, binary):
        self.containerd, self.binary, self.env = containerd, binary, containerd.env

    def __call__(self, *args, **kw):
        return run("ctr", *args, env=self.env, **kw)

    def argv(self, name, *command, options=()):
        return ["run", "--runc-binary", self.binary, *options, IMAGE, name, *command]

    def run(self, name, *command, options=(), **kw):
        """Runs a container in the foreground; it is removed when it ends."""
        return self(*self.argv(name, *command, options=("--rm", *options)), **kw)

    def start(self, name, *command, options=()):
        self(*self.argv(name, *command, options=("-d", *options)), check=0)
        return self.tasks()[name][0]

    def tasks(self):
        """Returns the tasks: {name: (pid, status)}."""
        lines = self("task", "ls", check=0).stdout.splitlines()[1:]
        return {w[0]: (int(w[1]), w[2]) for w in (line.split() for line in lines)}

    def remove(self, name, signal="KILL"):
        """Kills and removes the task. Returns its exit code."""
        self("task", "kill", "-s", signal, name)
        wait_for(f"{name} to stop", lambda: self.tasks().get(name, (0, "STOPPED"))[1] == "STOPPED")
        code = self.exit_code(self("task", "rm", name, check=0))
        self("container", "rm", name, check=0)
        return code

    @staticmethod
    def exit_code(rm):
        """Returns the task's exit code, which `ctr task rm` reports in a warning."""
        m = re.search(r"non-zero exit code (\d+)", rm.stderr)
        return int(m.group(1)) if m else 0


@pytest.fixture(scope="module")
def ctr(containerd, image_file, binary):
    c = Ctr(containerd, runtime(binary))
    c("image", "import", image_file, check=0)
    return c


@pytest.fixture(scope="module")
def box(ctr):
    """A container with limits that runs until the end of the module."""
    options = ["--memory-limit", str(64 << 20), "--cpus", "0.5", "--env", "GIVEN=1"]
    ctr.start("box", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.2; done", options=options)
    yield "box"
    if "box" in ctr.tasks():
        ctr.remove("box")


def test_the_shipped_configuration():
    """containerd understands the whole file that caisson installs for the CRI."""
    build = os.environ["CAISSON_BUILD"]
    text = run("containerd", "-c", f"{build}/runtime/engines/containerd-config.toml", "config", "dump", check=0).stdout
    section = re.search(r'^ *\[plugins\."io\.containerd\.grpc\.v1\.cri"\.containerd\.runtimes\.caisson.options\]\n((?: *\w.*\n)*)', text, re.M)
    assert section and re.search(r'BinaryName = "/.*/caisson"', section[1]) and "SystemdCgroup = true" in section[1], text


def test_run_in_the_foreground(ctr):
    p = ctr.run("fg", "sh", "-c", "echo out; echo err >&2; echo $FROM_IMAGE; id -u; exit 3")
    assert (p.returncode, p.stdout.split()) == (3, ["out", "yes", "0"]), p.stderr
    assert p.stderr.splitlines() == ["err"]


def test_terminal(ctr):
    with Terminal("ctr", *ctr.argv("tty", "sh", options=("--rm", "-t")), env=ctr.env) as t:
        t.type(SHOW_TERMINAL + "exit 4\n")
        out = t.expect("30 100")
        assert "/dev/pts/0" in out
        assert t.end() == 4


def test_read_only_root(ctr):
    p = ctr.run("ro", "sh", "-c", "touch /x; touch /dev/shm/x && echo shm", options=("--read-only",), check=0)
    assert "/x: Read-only file system" in p.stderr and p.stdout == "shm\n"


def test_user_namespace(ctr):
    options = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    p = ctr.run("userns", "sh", "-c", "cat /proc/self/uid_map; id -u; touch /x && stat -c %u /x", options=options)
    assert p.returncode == 0, p.stderr
    assert p.stdout.split() == ["0", "100000", "65536", "0", "0"]


def test_seccomp_and_apparmor_profiles(ctr):
    options = ("--seccomp", "--apparmor-default-profile", "caisson-ctr-tests")
    p = ctr.run("sec", "sh", "-c", "grep Seccomp: /proc/self/status; cat /proc/self/attr/current; unshare -U true",
                options=options)
    assert re.search(r"Seccomp:\s+2", p.stdout), p.stderr
    if os.path.exists("/sys/kernel/security/apparmor"):
        assert "caisson-ctr-tests (enforce)" in p.stdout


def test_an_executable_that_is_not_there(ctr):
    p = ctr.run("none", "nonexistent")
    assert p.returncode != 0
    assert re.search(r'exec.*nonexistent.*(not found in \$PATH|no such file or directory)', p.stderr), p.stderr
    ctr("container", "rm", "none")


def test_a_working_directory_that_cannot_be(ctr):
    p = ctr.run("cwd", "true", options=("--cwd", "/etc/passwd"))
    assert p.returncode != 0 and "/etc/passwd" in p.stderr, p.stderr
    ctr("container", "rm", "cwd")


def test_limits_are_set(ctr, box):
    cg = cgroup_of(ctr.tasks()[box][0])
    assert cg == "/sys/fs/cgroup/default/box"
    assert read(cg, "memory.max") == f"{64 << 20}\n"
    quota, period = map(int, read(cg, "cpu.max").split())
    assert quota * 2 == period


def test_exec(ctr, box):
    p = ctr("task", "exec", "--exec-id", "e1", box, "sh", "-c", "echo $GIVEN; exit 5")
    assert (p.returncode, p.stdout) == (5, "1\n"), p.stderr
    p = ctr("task", "exec", "--exec-id", "e2", "--user", "1000", "--cwd", "/tmp", box, "sh", "-c", "id -u; pwd")
    assert p.stdout.split() == ["1000", "/tmp"], p.stderr


def test_exec_on_a_terminal(ctr, box):
    with Terminal("ctr", "task", "exec", "-t", "--exec-id", "e3", box, "sh", env=ctr.env) as t:
        t.type(SHOW_TERMINAL + "exit 6\n")
        t.expect("30 100")
        assert t.end() == 6


def test_exec_of_nothing(ctr, box):
    p = ctr("task", "exec", "--exec-id", "e4", box, "nonexistent")
    assert p.returncode != 0 and "nonexistent" in p.stderr, p.stderr


def test_ps(ctr, box):
    pids = [int(line.split()[0]) for line in ctr("task", "ps", box, check=0).stdout.splitlines()[1:]]
    assert ctr.tasks()[box][0] in pids


def test_metrics(ctr, box):
    m = json.loads(ctr("task", "metrics", "--format", "json", box, check=0).stdout)
    assert int(m["pids"]["current"]) >= 1
    assert int(m["memory"]["usage_limit"]) == 64 << 20


def test_pause_and_resume(ctr, box):
    pid, _ = ctr.tasks()[box]
    ctr("task", "pause", box, check=0)
    assert ctr.tasks()[box][1] == "PAUSED"
    assert "frozen 1" in read(cgroup_of(pid), "cgroup.events")
    p = ctr("task", "exec", "--exec-id", "e5", box, "true")
    assert p.returncode != 0 and "paused" in p.stderr, p.stderr
    ctr("task", "resume", box, check=0)
    assert ctr.tasks()[box][1] == "RUNNING"


def test_checkpoint(ctr, box):
    """The task goes on after a checkpoint, which becomes an image."""
    ctr("task", "checkpoint", box, check=0)
    assert ctr.tasks()[box][1] == "RUNNING"
    assert "checkpoint" in ctr("image", "ls", "-q", check=0).stdout


def test_delete_of_a_running_task_is_refused(ctr, box):
    p = ctr("task", "rm", box)
    assert p.returncode != 0 and "must be stopped" in p.stderr, p.stderr


def test_kill_and_delete(ctr, box):
    pid, _ = ctr.tasks()[box]
    ctr("task", "kill", "-s", "TERM", box, check=0)
    wait_for("the task to end", lambda: ctr.tasks()[box][1] == "STOPPED")
    p = ctr("task", "kill", "-s", "TERM", box)
    assert p.returncode != 0 and re.search("not found|already finished", p.stderr), p.stderr
    assert ctr.exit_code(ctr("task", "rm", box, check=0)) == 7
    ctr("container", "rm", box, check=0)
    assert not os.path.exists(f"/proc/{pid}") and not os.path.exists("/sys/fs/cgroup/default/box")


def test_the_runtime_is_not_there(ctr):
    p = ctr("run", "--rm", "--runc-binary", "/nonexistent/runtime", IMAGE, "norun", "true")
    assert p.returncode != 0 and "/nonexistent/runtime" in p.stderr
    ctr("container", "rm", "norun")


def test_a_pid_namespace_that_is_not_there(ctr):
    """The runtime's messages reach the user through the shim's log file."""
    p = ctr.run("nons", "true", options=("--with-ns", "pid:/proc/1/ns/nonexistent"))
    assert p.returncode != 0 and "/proc/1/ns/nonexistent" in p.stderr, p.stderr
    ctr("container", "rm", "nons")


@pytest.mark.skipif(not SYSTEMD, reason="needs systemd as process 1: the suite runs with tests/host/run --systemd")
def test_systemd_cgroup(ctr):
    options = ("--runc-systemd-cgroup", "--cgroup", "system.slice:caisson:sd", "--memory-limit", str(32 << 20))
    pid = ctr.start("sd", "sleep", "1000", options=options)
    cg = cgroup_of(pid)
    assert cg == "/sys/fs/cgroup/system.slice/caisson-sd.scope"
    assert read(cg, "memory.max") == f"{32 << 20}\n"
    assert run("systemctl", "is-active", "caisson-sd.scope").stdout == "active\n"
    assert f"MemoryMax={32 << 20}" in run("systemctl", "show", "-p", "MemoryMax", "caisson-sd.scope").stdout
    assert ctr.remove("sd") == 137
    assert not os.path.exists(cg)
    assert "inactive" in run("systemctl", "is-active", "caisson-sd.scope").stdout


def test_nothing_is_left(ctr):
    assert ctr.tasks() == {}
    wait_for("the shims to go", lambda: "containerd-shim" not in run("ps", "-ww", "-eo", "args").stdout)
    assert not os.path.isdir(STATE) or [f for f in os.listdir(STATE) if not f.startswith(".")] == []
    assert not os.path.isdir("/sys/fs/cgroup/default") or not [
        e for e in os.scandir("/sys/fs/cgroup/default") if e.is_dir()]
    assert " /run/containerd/io.containerd.runtime" not in read("/proc/self/mountinfo")
