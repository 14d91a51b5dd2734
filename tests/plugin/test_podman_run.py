# SPDX-License-Identifier: Apache-2.0
"""Tests podman's options, by what can be seen inside the container. test_podman.py tests its commands."""
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import mode, podman, rootfs
from harness.runtime import status_of, wait_for


@pytest.fixture(autouse=True)
def clean_machine():
    """Replaces the fixture for single containers, because podman's own daemons and files stay between tests."""
    yield
    lines = podman.nothing_left()
    assert not lines, "left on the machine:\n  " + "\n  ".join(lines)


@pytest.fixture(params=["root", "user"])
def engine(request):
    return request.getfixturevalue(request.param + "_podman")


@pytest.fixture(scope="session")
def debian():
    """The cached Debian tree. tests/run makes it on the build machine, because the test host cannot reach the archive.
    """
    script = os.path.join(rootfs.TESTS, "lib", "debian-rootfs")
    p = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=True)
    return p.stdout.split()[-1]


def fields(lines):
    """Returns "key value" lines as a dict."""
    return dict(line.split(" ", 1) for line in lines if " " in line)


def test_mounts(engine, tmp):
    """Volumes, bind mounts, tmpfs and a read-only root with its writable places work."""
    os.mkdir(tmp + "/src")
    os.chmod(tmp + "/src", 0o777)
    with open(tmp + "/src/f", "w", encoding="utf-8") as f:
        f.write("bound\n")
    script = r"""
w() { if echo x 2>/dev/null >$1/new; then echo w$1 yes; else echo w$1 no; fi; }
w /; w /vol; w /home; w /ro; w /rw; w /t; w /tmp; w /run; w /dev/shm; w /etc
echo ro $(cat /ro/f); echo copied $(cat /home/seen)
grep ' /t ' /proc/mounts
dd if=/dev/zero of=/t/big bs=1k count=2000 2>/dev/null; echo size $(stat -c %s /t/big)
"""
    try:
        out = engine.sh("--read-only", "-v", "v:/vol", "-v", f"{tmp}/src:/ro:ro", "-v", f"{tmp}/src:/rw", "--tmpfs",
                        "/t:size=1m,mode=1777,noexec", "--mount", "type=tmpfs,dst=/home,tmpcopyup", script)
        got = fields(out)
        assert {k[1:]: v for k, v in got.items() if k.startswith("w/")} == {
            "/": "no", "/etc": "no", "/ro": "no", "/vol": "yes", "/home": "yes", "/rw": "yes", "/t": "yes", "/tmp": "yes",
            "/run": "yes", "/dev/shm": "yes"}
        assert got["ro"] == "bound" and 1000000 < int(got["size"]) <= 1 << 20
        assert "noexec" in got["tmpfs"] and "nosuid" in got["tmpfs"], got["tmpfs"]
        with open(engine.service.call("GET", "volumes/v/json")["Mountpoint"] + "/new", encoding="ascii") as f:
            assert f.read() == "x\n"
    finally:
        engine.service.request("DELETE", "volumes/v?force=true")


def test_process(engine):
    """The process has the user, groups, capabilities, limits, environment, host name, working directory, umask and oom
    score that the options give."""
    out = engine("run", "--rm", "-u", "1000:1000", "--group-add", "audio", "--cap-drop", "all", "--cap-add", "net_raw",
                 "--ulimit", "nofile=100:200", "--ulimit", "core=0", "-h", "named", "-w", "/home/user", "-e", "A=b c", "--umask",
                 "0027", "--oom-score-adj", "500", "box", "sh", "-c",
                 "/bin/probe info; echo X-host: $(hostname); echo X-dir: $(pwd); echo X-env: $A; echo X-nofile: $(ulimit -Sn) "
                 "$(ulimit -Hn); echo X-umask: $(umask); echo X-oom: $(cat /proc/self/oom_score_adj)")
    got = status_of(out)
    assert got["Uid"].split() == ["1000"] * 4 and got["Gid"].split() == ["1000"] * 4
    assert "29" in got["Groups"].split()
    assert int(got["CapBnd"], 16) == 1 << 13  # net_raw
    assert (got["X-host"], got["X-dir"], got["X-env"], got["X-nofile"], got["X-umask"], got["X-oom"]) == \
        ("named", "/home/user", "b c", "100 200", "0027", "500")


def test_defaults(engine):
    """By default a container has podman's capabilities, seccomp filter and masked paths; with --init catatonit is
    process 1 and reaps."""
    out = engine.sh("--init", "cat /proc/1/cmdline | tr '\\0' ' '; echo; (sleep 0.1 &) ; sleep 1; ps -o args | grep -c '^\\[sleep'; "
                    "grep -cE ' /proc/(kcore|keys|bus|sys|timer_list)' /proc/mounts; /bin/probe info")
    assert "podman-init" in out[0] and out[1] == "0" and int(out[2]) >= 4, out
    got = status_of("\n".join(out[3:]))
    assert got["Seccomp"] == "2" and got["CapEff"] == "00000000800405fb", got


def test_privileged(engine):
    got = status_of(engine("run", "--rm", "--privileged", "box", "/bin/probe", "info"))
    assert got["Seccomp"] == "0" and int(got["CapEff"], 16) >= (1 << 38) - 1


def test_security_options(engine, tmp):
    """The security options work: a seccomp profile, no-new-privileges, masked and unmasked paths; AppArmor is left
    alone."""
    profile = tmp + "/seccomp.json"
    with open(profile, "w", encoding="utf-8") as f:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}, f)
    script = "mkdir /x 2>&1; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; cat /proc/version | wc -c; ls /tmp | wc -l"
    out = engine.sh("--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges", "--security-opt",
                    "mask=/proc/version", script)
    assert "Function not implemented" in out[0], out
    assert out[1].split() == ["NoNewPrivs:", "1"] and out[2].split() == ["Seccomp:", "2"] and out[3] == "0", out
    out = engine.sh("--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL",
                    "grep Seccomp: /proc/self/status; grep -cE ' /proc/(kcore|keys|bus|sys|timer_list)' /proc/mounts; true")
    assert out == ["Seccomp:\t0", "0"], out


def test_devices(root_podman):
    """A --device has its permissions; a device that is not listed cannot be opened."""
    out = root_podman.sh("--device", "/dev/fuse:/dev/xfuse:r", "--cap-add", "mknod",
                         "mknod /dev/k c 10 232; for d in 'xfuse r' 'xfuse w' 'k r' 'null w' 'zero r'; do set -- $d; "
                         "echo $1-$2 $(/bin/probe open /dev/$1 $2); done")
    got = fields(out)
    assert got["xfuse-r"].startswith("ok") and got["null-w"].startswith("ok") and got["zero-r"].startswith("ok"), out
    assert got["k-r"].startswith("1 "), out  # EPERM
    assert got["xfuse-w"].startswith("1 "), out


def test_user_namespaces(root_podman):
    out = root_podman.sh("--userns=auto:size=2000", "-v", "/scratch:/s:ro", "id -u; cat /proc/self/uid_map; stat -c %u /bin /s")
    assert out[0] == "0" and out[1].split()[0] == "0" and out[1].split()[1:] == ["300000", "2000"], out
    assert out[2:] == ["0", "65534"], out
    out = root_podman.sh("--uidmap", "0:100000:1000", "--gidmap", "0:200000:1000", "cat /proc/self/uid_map /proc/self/gid_map")
    assert [line.split() for line in out] == [["0", "100000", "1000"], ["0", "200000", "1000"]]


def test_users_own_namespaces(user_podman):
    out = user_podman.sh("--userns=keep-id", "id -u; id -un; touch /tmp/f; stat -c %u /tmp/f")
    assert out == ["2000", "tester", "2000"]
    out = user_podman.sh("--userns=nomap", "id -u; cat /proc/self/uid_map")
    assert out[0] == "0" and out[1].split()[:2] != ["0", "0"], out


def test_shared_namespaces(root_podman):
    names = "pid ipc uts net cgroup"
    host = {n: os.readlink(f"/proc/self/ns/{n}") for n in names.split()}
    look = f"for n in {names}; do echo $n $(readlink /proc/self/ns/$n); done"
    got = fields(root_podman.sh("--pid=host", "--ipc=host", "--uts=host", "--net=host", "--cgroupns=host", look))
    assert got == host
    root_podman("run", "-d", "--name", "ct", "box", "sleep", "1000")
    try:
        theirs = fields(root_podman("exec", "ct", "sh", "-c", look).splitlines())
        assert not set(theirs.values()) & set(host.values())
        got = fields(root_podman.sh("--pid=container:ct", "--net=container:ct", "--ipc=container:ct", look))
        assert {n for n in got if got[n] == theirs[n]} == {"pid", "net", "ipc"}
    finally:
        root_podman.remove("ct")


def test_user_namespace_with_others_namespaces(root_podman, tmp):
    """Namespaces that the container's user namespace does not own, and the ids of one that it joins."""
    subprocess.run(["ip", "netns", "add", "other"], check=True)
    root_podman("run", "-d", "--name", "ct", "box", "sleep", "1000")
    root_podman("run", "-d", "--name", "u1", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "box", "sleep", "1000")
    try:
        maps = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]
        out = root_podman.sh(*maps, "--network", "ns:/run/netns/other", "id -u; stat -Lc %i /proc/self/ns/net")
        assert out == ["0", str(os.stat("/run/netns/other").st_ino)]
        theirs = root_podman("exec", "ct", "stat", "-Lc", "%i", "/proc/self/ns/net").split()
        assert root_podman.sh(*maps, "--network", "container:ct", "id -u; stat -Lc %i /proc/self/ns/net") == ["0", *theirs]
        source = "/scratch/idmap"
        os.makedirs(source, mode=0o755, exist_ok=True)
        os.chmod("/scratch", 0o755)
        assert root_podman.sh("--userns", "container:u1", "-v", source + ":/mnt:idmap", "stat -c %u /mnt") == ["0"]
    finally:
        root_podman.remove("ct")
        root_podman.remove("u1")
        subprocess.run(["ip", "netns", "del", "other"], check=True)


LIMITS = {"memory.max": str(64 << 20), "memory.swap.max": str(32 << 20), "memory.low": str(32 << 20), "cpu.max": "150000 100000",
          "cpu.weight": "59", "pids.max": "77"}  # 512 shares: 59 by the formula of runc and crun since 2025


def test_limits(engine):
    files = dict(LIMITS)
    options = ["--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "1.5", "--cpu-shares", "512",
               "--pids-limit", "77"]
    if not engine.rootless:  # systemd delegates only cpu, memory and pids to users
        options += ["--cpuset-cpus", "0", "--blkio-weight", "200"]
        files.update({"cpuset.cpus": "0"})
    out = engine.sh(*options, "cd /sys/fs/cgroup; for f in *.max *.low cpu.weight cpuset.cpus; do echo $f $(cat $f); done; "
                    "w() { echo x >$1/x; }; touch x 2>/dev/null && echo writable yes; "
                    "cat io.weight io.bfq.weight 2>/dev/null | sed 's/^/weight /'")
    if mode.VM:  # in a microVM the limits of processors are in the host's cgroup around the whole machine
        files = {k: v for k, v in files.items() if not k.startswith("cpu")}
    got = fields(out)
    assert {k: got.get(k) for k in files} == files
    assert "writable" not in got
    if not engine.rootless and not mode.VM:
        assert any(line.startswith("weight ") and line.split()[-1] in ("200", "1818", "1910") for line in out), out


def test_without_cgroups(root_podman):
    """
    --cgroups=disabled, which podman offers only with runtimes that it has in a list. The process stays in conmon's
    cgroup.
    """
    root_podman("run", "-d", "--name", "ct", "--cgroups=disabled", "box", "sleep", "1000")
    try:
        state = root_podman.inspect("ct")["State"]
        own, conmon = (open(f"/proc/{state[k]}/cgroup", encoding="ascii").read() for k in ("Pid", "ConmonPid"))
        assert own == conmon and "libpod" not in own
    finally:
        root_podman("rm", "-f", "-t", "0", "ct")


def test_sdnotify(root_podman, tmp):
    """--sdnotify=container: the program's READY=1 reaches the process that started podman, and nothing comes before."""
    path = tmp + "/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(60)
        root_podman("run", "-d", "--name", "ct", "--sdnotify=container", "box", "sh", "-c",
                    "/bin/probe notify READY=1; exec sleep 1000", env={"NOTIFY_SOCKET": path})
        try:
            got = []
            while not any("READY=1" in g for g in got):
                got.append(s.recv(4096).decode())
            assert any(f"MAINPID={root_podman.inspect('ct')['State']['ConmonPid']}" in g for g in got), got
        finally:
            root_podman.remove("ct")


def test_systemd(root_podman, debian):
    """systemd as the container's process 1 starts, runs a service, and shuts down on podman stop."""
    root_podman("run", "-d", "--name", "sd", "--systemd=always", "--rootfs", debian + ":O", "/lib/systemd/systemd")
    try:
        def running():
            return root_podman.try_("exec", "sd", "systemctl", "is-system-running", "--wait").out.strip() in ("running", "degraded")
        wait_for(running, "systemd in the container", 150)
        out = root_podman("exec", "sd", "sh", "-c", "systemctl is-active multi-user.target dbus.socket; systemctl --failed "
                          "--plain --no-legend; cat /proc/1/comm /proc/1/cgroup; stat -fc %T /run /tmp")
        assert out.split("\n")[:2] == ["active", "active"] and "systemd\n0::/init.scope" in out, out
        assert "failed" not in out, out
        root_podman("stop", "-t", "90", "sd")
        state = root_podman.inspect("sd")["State"]
        assert state["ExitCode"] in (0, 130), state  # 137 would mean that it had to be killed
    finally:
        root_podman.remove("sd")


def test_network(root_podman, debian):
    """A bridge network, and a port of the host that leads to nginx."""
    root_podman("run", "-d", "--name", "web", "--network", "podman", "-p", "8080:80", "--rootfs", debian + ":O", "nginx", "-g",
                "daemon off;", timeout=400)
    try:
        ip = root_podman.inspect("web")["NetworkSettings"]["IPAddress"]
        for host in (f"{ip}:80", "127.0.0.1:8080"):
            def page():
                return "Welcome to nginx" in subprocess.run(["curl", "-s", "-m", "5", f"http://{host}/"], stdout=subprocess.PIPE,
                                                            text=True, check=False).stdout
            wait_for(page, f"page from {host}", 60)
    finally:
        root_podman.remove("web")


def whole_life(engine, number):
    """Runs a container from beginning to end through podman's service, with an exit code of its own."""
    code = 3 + number
    cid = engine.service.call("POST", "containers/create", {
        "image": "box", "command": ["sh", "-c", f"exit {code}"], "oci_runtime": podman.RUNTIME, "netns": {"nsmode": "none"}})["Id"]
    engine.service.call("POST", f"containers/{cid}/start")
    got = engine.wait(cid)
    engine.remove(cid)
    assert got == code, f"exit code {got}, not {code}"


MANY = 4  # docker's suite has ten at once; here each costs podman ten seconds


def test_many(root_podman, capsys):
    """Many containers can run at once. tests/bench/density.py compares figures of runtimes, without an engine."""
    began = time.monotonic()
    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lambda n: whole_life(root_podman, n), range(MANY)))
    together = time.monotonic() - began
    with capsys.disabled():
        print(f"\npodman's service: {MANY} at once {together:.1f} s")
