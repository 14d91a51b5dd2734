# SPDX-License-Identifier: Apache-2.0
"""Tests docker with caisson as a runtime in daemon.json.

Theory of operation. A `docker run` takes many seconds on the test host, nearly all of it docker's own programs. So the
ten containers that the tests look at are started first, some at once (which is a test of its own), and a test asks one of
them, mostly over docker's HTTP interface, which starts no program. README.md lists what docker 20.10 cannot do.
"""
import concurrent.futures
import json
import os
import re
import socket
import stat
import subprocess
import time

import pytest
from harness.engines import SYSTEMD, TIMEOUT, Daemon, Terminal, cgroup_of, demultiplex, read, request, run, runtime, wait_for
from harness import config

MIB = 1 << 20
AT_ONCE = 4  # number of `docker run` at a time


@pytest.fixture
def clean_machine():
    """Replaces the session's fixture, because docker itself changes /run. test_nothing_is_left checks at the end."""


def shipped(binary):
    """Installs daemon.json as caisson does, and the binary at the path in it."""
    build = os.environ.get("CAISSON_BUILD") or os.path.dirname(os.path.dirname(binary))
    conf = json.loads(read(build, "runtime", "engines", "docker-daemon.json"))
    path = conf["runtimes"]["caisson"]["path"]
    if os.path.lexists(path):
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(runtime(binary), path)  # in the test host's throw-away root
    return conf


class Docker:
    def __init__(self, directory, containerd, conf, driver, *options):
        d = directory
        self.runtime = conf["runtimes"]["caisson"]["path"]
        self.driver, self.socket, self.state = driver, f"{d}/docker.sock", f"/run/caisson-docker-{driver}"
        self.env = {**os.environ, "DOCKER_HOST": "unix://" + self.socket, "DOCKER_CONFIG": f"{d}/client"}
        with open(f"{d}/daemon.json", "w", encoding="utf-8") as f:
            json.dump({
                **conf,
                "default-runtime": "caisson",
                "exec-opts": [f"native.cgroupdriver={driver}"],
                "containerd": containerd.address,
                "containerd-namespace": f"docker-{driver}",
                "containerd-plugins-namespace": f"docker-{driver}-plugins",
                "data-root": f"/var/lib/docker/tests-{driver}",
                "exec-root": self.state,
                "pidfile": f"{d}/docker.pid",
                "hosts": [f"unix://{self.socket}"],
                # docker would need half a minute for firewall rules here. docker-proxy serves a published port
                # without them.
                "iptables": False, "ip-masq": False,
            }, f)
        self.daemon = Daemon(["dockerd", "--config-file", f"{d}/daemon.json", *options], f"{d}/dockerd.log")
        self.daemon.wait_until(self.answers)

    def answers(self):
        try:
            return self.api("GET", "/_ping") == "OK"
        except OSError:
            return False

    def __call__(self, *args, **kw):
        """Runs the docker command."""
        return run("docker", *args, env=self.env, **kw)

    def request(self, method, path, body=None):
        return request(self.socket, method, path, body)

    def api(self, method, path, body=None):
        status, data = self.request(method, path, body)
        assert status < 400, f"{method} {path}: {status} {data.decode()}"
        if data[:1] in (b"{", b"["):
            return json.loads(data)
        return data.decode(errors="replace")

    def inspect(self, name):
        return self.api("GET", f"/containers/{name}/json")

    def status(self, name):
        return self.inspect(name)["State"]["Status"]

    def wait(self, name):
        return self.api("POST", f"/containers/{name}/wait")["StatusCode"]

    def logs(self, name, out=1, err=1):
        _, data = self.request("GET", f"/containers/{name}/logs?stdout={out}&stderr={err}")
        return demultiplex(data)

    def exec(self, name, *command, **options):
        """Runs a command in a container. Returns (exit code, output)."""
        body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, **options}
        e = self.api("POST", f"/containers/{name}/exec", body)["Id"]
        status, data = self.request("POST", f"/exec/{e}/start", {"Detach": False})
        text = demultiplex(data) if status == 200 else data.decode()
        return wait_for("the exec to end", lambda: ended(self.api("GET", f"/exec/{e}/json"))), text

    def start_all(self, commands):
        # With ten at a time, docker 26 on a busy machine passed limits of its own: the client waits 10 s for the daemon's
        # version, and the daemon 16 s for docker-proxy.
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = {n: pool.submit(self, *a) for n, a in commands.items()}
        return {n: j.result() for n, j in jobs.items()}


def ended(e):
    return None if e["Running"] or e["ExitCode"] is None else str(e["ExitCode"])


SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}

# A script that prints the restrictions of a container.
HARDENED = """
exec 2>&1; id; cat /proc/self/status; echo nofile $(ulimit -Sn) $(ulimit -Hn); hostname
touch /x; touch /tmpfs/x && echo wrote-tmpfs; dd if=/dev/zero of=/tmpfs/big bs=1M count=3
echo from-inside >/vol/new && cat /volro/given; touch /volro/y; mkdir /tmpfs/d
: </dev/xfuse && echo read-device; (: >/dev/xfuse) || echo no-write; ls /sys/class/net
"""


def options(d):
    """Returns {name: arguments of `docker`} for the ten containers."""
    return {
        "web": ["run", "-d", "--name=web", "-p", "127.0.0.1:18080:80", "--init", "--health-interval=1s",
                "--health-retries=1", "--health-cmd=test -e /tmp/healthy", "box", "sh", "-c",
                "trap 'exit 7' TERM; httpd -p 80 -h /www; while :; do sleep 0.2; done"],
        "limits": ["run", "-d", "--name=limits", "--network=none", "--memory=64m", "--memory-swap=64m", "--cpus=0.5",
                   "--pids-limit=40", "--cpuset-cpus=0", "--ipc=shareable", "--restart=always", "-e", "GIVEN=1", "box",
                   "sh", "-c", "mkdir /dev/shm/shared; exec sleep 1000"],
        "hardened": ["run", "-d", "--name=hardened", "--network=none", "--read-only", "--tmpfs=/tmpfs:size=2m",
                     "--user=1000:29", "--security-opt=no-new-privileges", f"--security-opt=seccomp={d}/seccomp.json",
                     "--cap-drop=ALL", "--ulimit=nofile=100:200", f"--device={d}/fuse:/dev/xfuse:r",
                     f"--volume={d}/vol:/vol", f"--volume={d}/volro:/volro:ro", "--hostname=inside",
                     "--group-add=1234", "box", "sh", "-c", HARDENED],
        "caps": ["run", "-d", "--name=caps", "--network=host", "--cap-add=NET_ADMIN", "--cap-drop=CHOWN",
                 "--sysctl=kernel.shmmni=1000", "box", "sh", "-c",
                 "exec 2>&1; grep CapEff /proc/self/status; mknod /fuse c 10 229 && (: </fuse); cat /proc/sys/kernel/shmmni /proc/self/attr/current"],
        "privileged": ["run", "-d", "--name=privileged", "--network=host", "--privileged", "box", "sh", "-c",
                       "grep CapEff /proc/self/status; ls /dev; mknod /fuse c 10 229 && : </fuse && echo opened; mkdir /tmp/m && mount -t tmpfs x /tmp/m && echo mounted"],
        "oom": ["run", "-d", "--name=oom", "--network=host", "--memory=16m", "--memory-swap=16m", "box",
                "sh", "-c", "trap : USR1; echo ready; sleep 1000 & wait; dd if=/dev/zero of=/dev/null bs=64M; code=$?; "
                "sleep 5; exit $code"],
        "code": ["run", "-d", "--name=code", "--network=host", "box", "sh", "-c",
                 "echo out; echo err >&2; echo changed >/new; rm /www/index.html; exit 3"],
        "again": ["run", "-d", "--name=again", "--network=host", "--restart=on-failure:1", "box", "false"],
        "absent": ["run", "--name=absent", "--network=host", "box", "nonexistent"],
        "forbidden": ["run", "--name=forbidden", "--network=host", "box", "/etc/passwd"],
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    d = tmp_path_factory.mktemp("docker")
    for p in (d, *d.parents):
        if str(p).startswith("/scratch/tmp/"):
            p.chmod(0o755)
    for name in ("vol", "volro", "client"):
        (d / name).mkdir()
    (d / "vol").chmod(0o777)
    (d / "volro" / "given").write_text("given\n")
    os.mknod(d / "fuse", 0o666 | stat.S_IFCHR, os.makedev(10, 229))
    (d / "fuse").chmod(0o666)
    (d / "seccomp.json").write_text(json.dumps(SECCOMP))
    return str(d)


@pytest.fixture(scope="module")
def docker(directory, containerd, image_file, binary):
    d = Docker(directory, containerd, shipped(binary), "systemd" if SYSTEMD else "cgroupfs")
    d("load", "-i", image_file, check=0)
    yield d
    for c in d.api("GET", "/containers/json?all=1"):
        d.api("DELETE", f"/containers/{c['Id']}?force=1")
    d.daemon.stop()


@pytest.fixture(scope="module")
def ten(docker, directory):
    return docker.start_all(options(directory))


def test_info_shows_the_runtime(docker):
    info = docker.api("GET", "/info")
    assert info["Runtimes"]["caisson"]["path"] == docker.runtime
    assert (info["DefaultRuntime"], info["CgroupDriver"], info["CgroupVersion"]) == ("caisson", docker.driver, "2")
    assert "caisson" in docker("info", "--format", "{{json .Runtimes}}", check=0).stdout


def test_ten_containers(ten, docker):
    wrong = {n: p.stderr for n, p in ten.items() if (p.returncode != 0) != (n in ("absent", "forbidden"))}
    assert not wrong
    assert {c["Names"][0] for c in docker.api("GET", "/containers/json?all=1")} == {"/" + n for n in ten}


def test_exit_codes_of_docker_run(ten, docker):
    assert ten["absent"].returncode == 127, ten["absent"].stderr
    assert "nonexistent" in ten["absent"].stderr
    assert ten["forbidden"].returncode == 126, ten["forbidden"].stderr
    assert "ermission denied" in ten["forbidden"].stderr
    p = docker("run", "--rm", "--network=none", "--sysctl=kernel.nonexistent=1", "box", "true")
    assert p.returncode == 125, p.stderr


def test_exit_code_and_logs(ten, docker):
    assert docker.wait("code") == 3
    assert docker.logs("code", err=0) == "out\n"
    assert docker.logs("code", out=0) == "err\n"


def test_diff_cp_and_commit(ten, docker, directory):
    docker.wait("code")
    changes = {c["Path"]: c["Kind"] for c in docker.api("GET", "/containers/code/changes")}
    assert changes["/new"] == 1 and changes["/www/index.html"] == 2
    docker("cp", "code:/new", f"{directory}/copied", check=0)
    assert read(directory, "copied") == "changed\n"
    docker("cp", f"{directory}/copied", "limits:/tmp/into", check=0)
    assert docker.exec("limits", "cat", "/tmp/into") == ("0", "changed\n")
    docker.api("POST", "/commit?container=code&repo=committed")


def test_killed_for_memory(ten, docker):
    """The program exceeds its memory after the start, and the container outlives it for a moment. README.md says why."""
    wait_for("the program", lambda: docker.logs("oom") == "ready\n")
    docker.api("POST", "/containers/oom/kill?signal=USR1")
    assert docker.wait("oom") == 137
    assert docker.inspect("oom")["State"]["OOMKilled"] is True


def test_restart_policy(ten, docker):
    wait_for("the second start", lambda: docker.inspect("again")["RestartCount"] == 1)
    wait_for("the second end", lambda: docker.status("again") == "exited")
    assert docker.inspect("again")["State"]["ExitCode"] == 1


@pytest.fixture(scope="module")
def hardened(ten, docker):
    docker.wait("hardened")
    return docker.logs("hardened")


def field(text, name):
    return re.search(rf"^{name}:\s+(.*)$", text, re.M).group(1)


def test_user_and_groups(hardened):
    assert re.search(r"^uid=1000.* gid=29.* groups=29\S*,1234", hardened, re.M), hardened


def test_no_capabilities_no_new_privileges(hardened):
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(field(hardened, kind), 16) == 0
    assert field(hardened, "NoNewPrivs") == "1"


def test_seccomp_profile_of_ours(hardened):
    assert field(hardened, "Seccomp") == "2"
    assert "can't create directory '/tmpfs/d': Operation not supported" in hardened


def test_read_only_root_and_tmpfs(hardened):
    assert "touch: /x: Read-only file system" in hardened
    assert "wrote-tmpfs" in hardened and "No space left on device" in hardened


def test_volumes(hardened, directory):
    assert read(directory, "vol", "new") == "from-inside\n"
    assert "\ngiven\n" in hardened and "touch: /volro/y: Read-only file system" in hardened


def test_ulimit_hostname_and_no_network(hardened):
    assert "nofile 100 200\n" in hardened
    assert "\ninside\n" in hardened
    assert hardened.endswith("\nlo\n")


def test_device(hardened):
    """The permissions of --device hold, although the node's mode lets everybody write."""
    assert "\nread-device\n" in hardened
    assert "can't create /dev/xfuse: Operation not permitted\nno-write\n" in hardened


def test_a_device_that_was_not_given(ten, docker):
    """The container makes the node itself. If all devices are allowed, the same device can be opened."""
    docker.wait("caps"), docker.wait("privileged")
    assert "can't open /fuse: Operation not permitted" in docker.logs("caps")
    assert "\nopened\n" in docker.logs("privileged")


def test_capabilities_added_and_dropped(ten, docker):
    assert docker.wait("caps") == 0
    out = docker.logs("caps")
    caps = int(field(out, "CapEff"), 16)
    assert caps & config.cap_mask(["CAP_NET_ADMIN"]) and not caps & config.cap_mask(["CAP_CHOWN"])
    assert "\n1000\n" in out
    if os.path.exists("/sys/kernel/security/apparmor"):
        assert "docker-default (enforce)" in out


def test_privileged(ten, docker):
    assert docker.wait("privileged") == 0
    out = docker.logs("privileged")
    # the capabilities that docker 20.10 knows
    every = config.cap_mask(config.CAP_NAMES[:config.CAP_NAMES.index("CAP_PERFMON")])
    assert int(field(out, "CapEff"), 16) & every == every
    assert "kvm" in out.split() and "mounted" in out


def test_a_published_port_on_the_bridge(ten, docker):
    s = socket.create_connection(("127.0.0.1", 18080), 60)
    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    data = b""
    while chunk := s.recv(4096):
        data += chunk
    s.close()
    assert data.endswith(b"served from the container\n")


def test_healthcheck(ten, docker):
    health = lambda: docker.inspect("web")["State"]["Health"]["Status"]
    wait_for("an unhealthy container", lambda: health() == "unhealthy")
    assert docker.exec("web", "touch", "/tmp/healthy") == ("0", "")
    wait_for("a healthy container", lambda: health() == "healthy")


def test_init_and_top(ten, docker):
    processes = docker.api("GET", "/containers/web/top")
    assert processes["Processes"][0][-1].startswith("/sbin/docker-init"), processes
    assert docker.exec("web", "cat", "/proc/1/comm") == ("0", "docker-init\n")


def test_stop_lets_the_program_end(ten, docker):
    docker.api("POST", "/containers/web/stop?t=60")
    assert docker.inspect("web")["State"]["ExitCode"] == 7


def limit(docker, name, file):
    return read(cgroup_of(docker.inspect(name)["State"]["Pid"]), file).strip()


def test_cgroup_and_limits(ten, docker):
    c = docker.inspect("limits")
    cg = cgroup_of(c["State"]["Pid"])
    assert cg == "/sys/fs/cgroup" + (f"/system.slice/docker-{c['Id']}.scope" if SYSTEMD else f"/docker/{c['Id']}")
    assert limit(docker, "limits", "memory.max") == str(64 * MIB)
    assert limit(docker, "limits", "memory.swap.max") == "0"
    assert limit(docker, "limits", "cpu.max") == "50000 100000"
    assert limit(docker, "limits", "pids.max") == "40"
    assert limit(docker, "limits", "cpuset.cpus") == "0"


def test_exec_codes(ten, docker):
    assert docker.exec("limits", "sh", "-c", "echo $GIVEN; exit 5") == ("5", "1\n")
    assert docker.exec("limits", "sh", "-c", "id -u; pwd; echo $E", User="1000", WorkingDir="/tmp", Env=["E=e"]) == (
        "0", "1000\n/tmp\ne\n")
    p = docker("exec", "limits", "nonexistent")
    assert p.returncode in (126, 127) and "nonexistent" in p.stdout + p.stderr


def test_exec_with_input(ten, docker):
    assert docker("exec", "-i", "limits", "sh", "-c", "tr a-z A-Z", stdin="text\n", check=0).stdout == "TEXT\n"


def test_exec_on_a_terminal(ten, docker):
    with Terminal("docker", "exec", "-it", "limits", "sh", env=docker.env) as t:
        t.type("until stty size 2>/dev/null | grep .; do sleep 0.1; done; exit 6\n")
        t.expect("30 100")
        assert t.end() == 6


def test_stats(ten, docker):
    s = docker.api("GET", "/containers/limits/stats?stream=0")
    assert s["memory_stats"]["limit"] == 64 * MIB and 0 < s["memory_stats"]["usage"] < 64 * MIB
    assert s["pids_stats"]["current"] == 1 and s["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_update(ten, docker):
    docker("update", "--memory=96m", "--memory-swap=96m", "--cpus=0.25", "--pids-limit=50", "limits", check=0)
    assert limit(docker, "limits", "memory.max") == str(96 * MIB)
    assert limit(docker, "limits", "cpu.max") == "25000 100000"
    assert limit(docker, "limits", "pids.max") == "50"
    assert limit(docker, "limits", "cpuset.cpus") == "0"


def test_pause(ten, docker):
    docker.api("POST", "/containers/limits/pause")
    assert docker.status("limits") == "paused"
    assert "frozen 1" in limit(docker, "limits", "cgroup.events")
    docker.api("POST", "/containers/limits/unpause")
    assert docker.exec("limits", "echo", "back") == ("0", "back\n")


def test_namespaces_of_another_container(ten, docker):
    """--pid, --ipc and --network=container:, with the committed image, on a terminal."""
    with Terminal("docker", "run", "--rm", "-it", "--pid=container:limits", "--ipc=container:limits",
                  "--network=container:limits", "committed", "sh", env=docker.env) as t:
        t.type("cat /new; ps; ls /dev/shm; ls /www | wc -l; until stty size 2>/dev/null | grep .; do sleep 0.1; done; exit 9\n")
        out = t.expect("30 100")
        assert "changed" in out and "sleep 1000" in out and "shared" in out and "\n0\r" in out
        assert t.end() == 9


def test_a_failing_program_is_started_again(ten, docker):
    """A container that docker kills stays down. One that dies by itself is started again."""
    pid = docker.inspect("limits")["State"]["Pid"]
    os.kill(pid, 9)
    wait_for("the restart", lambda: docker.inspect("limits")["State"]["Pid"] not in (0, pid))
    docker.api("POST", "/containers/limits/kill?signal=KILL")
    assert docker.wait("limits") == 137
    time.sleep(1)
    assert docker.status("limits") == "exited"


def test_the_other_cgroup_driver(docker, containerd, image_file, binary, tmp_path):
    """docker works with the cgroupfs driver, on a host whose process 1 is systemd."""
    if docker.driver == "cgroupfs":
        pytest.skip("the whole suite ran with cgroupfs; the systemd driver needs tests/host/run --systemd")
    d = Docker(str(tmp_path), containerd, shipped(binary), "cgroupfs", "--bridge=none")
    try:
        d("load", "-i", image_file, check=0)
        d("run", "-d", "--name=fs", "--network=host", "--memory=64m", "--cpus=0.5", "box", "sleep", "1000", check=0)
        c = d.inspect("fs")
        assert cgroup_of(c["State"]["Pid"]) == f"/sys/fs/cgroup/docker/{c['Id']}"
        assert limit(d, "fs", "memory.max") == str(64 * MIB) and limit(d, "fs", "cpu.max") == "50000 100000"
        d.api("POST", "/containers/fs/update", {"Memory": 32 * MIB, "MemorySwap": 32 * MIB})
        assert limit(d, "fs", "memory.max") == str(32 * MIB)
        assert d.exec("fs", "true")[0] == "0"
        d.api("DELETE", "/containers/fs?force=1")
        assert not os.path.exists(f"/sys/fs/cgroup/docker/{c['Id']}")
    finally:
        d.daemon.stop()


def test_nothing_is_left(ten, docker):
    for c in docker.api("GET", "/containers/json?all=1"):
        docker.api("DELETE", f"/containers/{c['Id']}?force=1")
    wait_for("the shims to go", lambda: "containerd-shim" not in run("ps", "-ww", "-eo", "args").stdout)
    left = subprocess.run(["find", "/sys/fs/cgroup", "-type", "d", "(", "-name", "docker-*.scope", "-o", "-path",
                           "/sys/fs/cgroup/docker/*", ")"], capture_output=True, text=True, check=True).stdout
    assert left == ""
    for top, dirs, _ in os.walk(docker.state):
        if os.path.basename(top) == f"docker-{docker.driver}" and "runtime" in top:
            assert [n for n in dirs if not n.startswith(".")] == []
    mounts = [line.split()[4] for line in read("/proc/self/mountinfo").splitlines()]
    assert not [m for m in mounts if "/overlay2/" in m or "/rootfs" in m]
