# SPDX-License-Identifier: Apache-2.0
"""Runs podman on the test host, as root and as the user "tester", with the drop-in file that caisson installs.

Starting a process is slow there, and podman starts several for each command. So tests put the questions to one
container into one shell script, and run it once. Requests that only look at a container or remove it go to podman's
REST service, which is started once for each of the two users.
"""
import json
import os
import pty
import pwd
import re
import select
import shutil
import subprocess
import tempfile
import time
from types import SimpleNamespace

from . import engines, machine, mode, rootfs

DROP_IN = "/etc/containers/containers.conf.d/caisson.conf"
# the directories of drop-ins and of helpers, as in a default build
BINARY = "/usr/local/bin/caisson"
LIBEXEC = "/usr/local/libexec/caisson"
RUNTIME = "caisson-vm" if mode.VM else "caisson"
KERNEL = "/usr/local/lib/caisson/kernel"  # where caisson looks for a kernel of its own
USER = "tester"
UNIT = "commands"
# Scripts of idle containers. They end with 3 at SIGTERM, or at once if the signal does not matter.
IDLE = "trap 'echo term; exit 3' TERM; echo started; while :; do sleep 0.2; done"

# No network unless a test asks: podman's bridge costs 10 s a container here. Logs and events to files: there is no journal
# that an ordinary user may read.
TEST_CONF = """[containers]
netns = "none"
log_driver = "k8s-file"
[engine]
events_logger = "file"
"""


def install(binary, build):
    """Installs caisson into the test host's root, which is thrown away."""
    drop_in = os.path.join(build, "runtime", "engines", "podman-caisson.conf")
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    shutil.copy(drop_in, DROP_IN)
    with open(os.path.dirname(DROP_IN) + "/zz-tests.conf", "w", encoding="utf-8") as f:
        f.write(TEST_CONF)
    if os.path.lexists(BINARY):
        os.unlink(BINARY)
    shutil.copy(binary, BINARY)
    os.chmod(BINARY, 0o755)
    shutil.rmtree(LIBEXEC, ignore_errors=True)
    os.makedirs(LIBEXEC)
    shutil.copy(os.path.join(build, "cgroups", "caisson-systemd"), LIBEXEC)
    if mode.VM:
        os.symlink(os.path.basename(BINARY), os.path.join(os.path.dirname(BINARY), "caisson-vm"))
        shutil.copy(os.path.join(build, "runtime", "guest", "caisson-guest"), LIBEXEC)
        # podman's bundles name no kernel, and a fresh machine has none that fits.
        if not os.path.exists(KERNEL):
            os.makedirs(os.path.dirname(KERNEL), exist_ok=True)
            os.symlink(os.path.dirname(mode.guest_kernel(rootfs.CACHE)), KERNEL)
    for name in ("subuid", "subgid"):
        # the user name under which podman looks for the ranges of --userns=auto
        append(f"/etc/{name}", "containers:", "containers:300000:655360")


def append(path, start, line):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if not re.search("^" + re.escape(start), text, re.M):
        with open(path, "a", encoding="utf-8") as f:
            f.write(line + "\n")


def user_session():
    """Starts a systemd for the user, with a cgroup in which commands are started."""
    append("/etc/shadow", USER + ":", USER + ":*:19000::::::")  # PAM refuses users that have no line there
    user = pwd.getpwnam(USER)
    subprocess.run(["loginctl", "enable-linger", USER], check=True)
    subprocess.run(["systemctl", "start", f"user@{user.pw_uid}.service"], check=True)
    subprocess.run(["systemd-run", "--user", "-M", USER + "@", "-q", "--unit=" + UNIT, "-p", "Delegate=yes", "sleep",
                    "infinity"], check=True)
    if mode.VM:
        # As udev's rule has it, a group may open the device.
        os.chown("/dev/kvm", 0, user.pw_gid)
        os.chmod("/dev/kvm", 0o660)
    conf = user.pw_dir + "/.config/containers"
    os.makedirs(conf)
    with open(conf + "/storage.conf", "w", encoding="utf-8") as f:
        f.write('[storage]\ndriver = "overlay"\n')
    for d in (user.pw_dir + "/.config", conf):
        os.chown(d, user.pw_uid, user.pw_gid)
    return f"/sys/fs/cgroup/user.slice/user-{user.pw_uid}.slice/user@{user.pw_uid}.service/app.slice/{UNIT}.service"


class Service:
    """podman's REST service, started when it is first asked."""

    def __init__(self, engine):
        self.engine = engine
        self.process = None

    def start(self):
        directory = tempfile.mkdtemp(prefix="podman.")
        self.path = directory + "/sock"
        if self.engine.user:
            shutil.chown(directory, self.engine.user)
        self.process = self.engine.popen("system", "service", "--time", "0", "unix://" + self.path, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60 * mode.SCALE
        while not os.path.exists(self.path):
            assert self.process.poll() is None and time.monotonic() < end, "podman's service did not come up"
            time.sleep(0.1)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(60)
            shutil.rmtree(os.path.dirname(self.path))
            self.process = None

    def request(self, method, path, body=None):
        """Sends a request to the service. Returns (status, body)."""
        if not self.process:
            self.start()
        return engines.request(self.path, method, "/v4.0.0/libpod/" + path, body)

    def call(self, method, path, body=None):
        status, data = self.request(method, path, body)
        assert status < 300, f"{method} {path}: {status} {data.decode(errors='replace')}"
        return json.loads(data) if data else None


class Podman:
    """Runs podman: podman(...) fails unless podman exits with 0; podman.try_(...) returns the exit code as well."""

    def __init__(self, user=None, manager="systemd", cgroup=None, runtime=RUNTIME, service=None):
        self.user, self.manager, self.cgroup = user, manager, cgroup
        self.rootless = user is not None
        self.argv = ["podman", "--runtime", runtime, "--cgroup-manager", manager]
        self.env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
                    "TERM": "xterm"}
        if user:
            pw = pwd.getpwnam(user)
            run = f"/run/user/{pw.pw_uid}"
            self.env.update(HOME=pw.pw_dir, USER=user, XDG_RUNTIME_DIR=run, DBUS_SESSION_BUS_ADDRESS=f"unix:path={run}/bus")
            self.argv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all", *self.argv]
        self.cwd = self.env["HOME"]
        self.service = service or Service(self)

    def _enter(self):
        if self.cgroup:
            with open(self.cgroup + "/cgroup.procs", "w", encoding="ascii") as f:
                f.write(str(os.getpid()))

    def popen(self, *args, env=None, cwd=None, **kw):
        return subprocess.Popen([*self.argv, *args], env={**self.env, **(env or {})}, cwd=cwd or self.cwd,
                                preexec_fn=self._enter, **kw)

    def try_(self, *args, stdin=None, timeout=120, env=None, cwd=None):
        p = self.popen(*args, env=env, cwd=cwd, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = p.communicate(stdin, timeout * mode.SCALE)
        except subprocess.TimeoutExpired:
            p.kill()
            raise
        return SimpleNamespace(rc=p.returncode, out=out, err=err)

    def __call__(self, *args, **kw):
        r = self.try_(*args, **kw)
        assert r.rc == 0, f"podman {' '.join(args)}: exit code {r.rc}\n{r.err}{r.out}"
        return r.out.rstrip("\n")

    def sh(self, *args):
        """Runs `podman run --rm OPTIONS IMAGE sh -c SCRIPT`. Returns its output as lines."""
        *options, script = args
        return self("run", "--rm", *options, "box", "sh", "-c", script).splitlines()

    def inspect(self, name):
        return self.service.call("GET", f"containers/{name}/json")

    def logs(self, name):
        """Returns the container's standard output."""
        status, data = self.service.request("GET", f"containers/{name}/logs?stdout=true")
        assert status == 200, data
        return engines.demultiplex(data).rstrip("\n")

    def wait(self, name):
        """Waits for the container's end. Returns its exit code."""
        return self.service.call("POST", f"containers/{name}/wait")

    def remove(self, name):
        """Removes the container, as `rm -f -t 0` does. It is no error if the container does not exist."""
        status, data = self.service.request("DELETE", f"containers/{name}?force=true&timeout=0")
        assert status < 300 or status == 404, data

    def on_terminal(self, *args, type_="", until=b"", timeout=60):
        """Runs podman on a terminal of 30 rows and 90 columns, and types type_ once `until` was read. Returns (exit
        code, output)."""
        main, sub = pty.openpty()
        subprocess.run(["stty", "rows", "30", "cols", "90"], stdin=sub, check=True)
        p = self.popen(*args, stdin=sub, stdout=sub, stderr=sub, start_new_session=True)
        os.close(sub)
        out, end, typed = b"", time.monotonic() + timeout, False
        while True:
            if not typed and until in out:
                os.write(main, type_.encode())
                typed = True
            assert time.monotonic() < end, f"podman {' '.join(args)} still runs; output: {out!r}"
            if not select.select([main], [], [], 0.2)[0]:
                if p.poll() is not None:
                    break
                continue
            try:
                data = os.read(main, 4096)
            except OSError:
                break
            if not data:
                break
            out += data
        os.close(main)
        return p.wait(30), out.decode()


def make_image(directory):
    """Makes a tar archive of the busybox root file system with the probe."""
    tree = rootfs.make_busybox(os.path.join(directory, "bb"), rootfs.build_probe(os.path.join(directory, "probe")))
    tar = os.path.join(directory, "bb.tar")
    subprocess.run(["tar", "-C", tree, "-cf", tar, "."], check=True)
    os.chmod(tar, 0o644)
    return tar


def left():
    """Lists what containers have left on the machine."""
    out = []
    for d, dirs, _ in os.walk("/sys/fs/cgroup"):
        # conmon's scopes count too. A pod's slice stays until the pod is removed.
        out += [f"cgroup {d}/{n}" for n in dirs if n.startswith(("libpod-", "machine-libpod_pod", "user-libpod_pod", "caisson-"))]
    for root in ("/run/caisson", f"/run/user/{pwd.getpwnam(USER).pw_uid}/caisson"):
        if os.path.isdir(root):
            out += [f"state {root}/{n}" for n in os.listdir(root) if n != ".seccomp"]
    out += [f"mount {m}" for m in machine.mounts().values() if re.search(r"/(merged|userdata/shm) |/run/netns/", m)]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        st = machine.proc_stat(pid)
        if st and st[0] in ("conmon", "caisson", "podman") and st[1] not in "ZX":
            line = machine.cmdline(pid)
            if "system service" not in line:
                out.append(f"process {pid} {line[:100]}")
    out += [f"interface {n}" for n in machine.interfaces() if n.startswith("veth")]
    return out


told = set()  # leftovers that an earlier test has reported, so that they fail only one test


def nothing_left(timeout=20):
    """Checks that containers have left nothing. podman cleans up in the background after a container's end, so it
    waits for that."""
    end = time.monotonic() + timeout
    while True:
        lines = [line for line in left() if line not in told]
        if not lines or time.monotonic() > end:
            told.update(lines)
            return lines
        time.sleep(0.5)
