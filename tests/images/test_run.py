# SPDX-License-Identifier: Apache-2.0
"""`caisson run --image`: docker's options, the commands that follow it, and what is left of it (nothing)."""
import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import mode, oci, rootfs, user as ordinary
from harness.oci import entry, tar, whiteout
from harness.runtime import wait_for
from test_store import CALLS, counts

CONFIG = {"Env": ["PATH=/bin:/sbin", "A=1"], "Cmd": ["sh", "-c", "id -u; pwd; echo $A"], "User": "web", "WorkingDir": "/data/new",
          "StopSignal": "SIGINT", "Labels": {"com.example.x": "1", "io.caisson.isolation": "vm", "io.caisson.stop-signal": "KILL",
                                             "run.oci.hooks.stdout": "/x", "org.systemd.property.MemoryMax": "1"}}


class Box:
    """Runs containers from images of one store; the names are b1, b2, ..."""

    def __init__(self, rt, images, kernel=None):
        self.rt, self.images, self.kernel = rt, images, kernel
        self.names = []

    def argv(self, *args, command="run", image="box"):
        if not {"--network", "-p"} & set(args):
            args = ("--network", "none", *args)  # tests/net has the networks, which leave a bridge behind
        return [command, "--image", image, "--store", self.images.store, *args]

    def __call__(self, *args, command="run", image="box", name=None, **kw):
        if name:
            self.names.append(name)
            args = ("--name", name, *args)
        return self.rt(*self.argv(*args, command=command, image=image), **kw)

    def sh(self, script, *options, **kw):
        return self("--rm", "-u", "0", *options, "sh", "-c", script, **kw)

    def dirs(self):
        return os.listdir(os.path.join(self.images.store, "containers"))


@pytest.fixture
def box(rt, images, layout, template, tmp):
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    files = tar(entry("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n0:x:0:0::/:/bin/sh\n"),
                entry("etc/group", data=b"root:x:0:\nweb:x:1001:\n"), entry("gone"), entry("d/", "dir"), entry("d/old"))
    top = tar(whiteout(".wh.gone"), whiteout(".wh.d"), entry("d/", "dir"), entry("d/new", data=b"2"))
    layout.image([base, files, top], "box", config=CONFIG)
    images("import", f"oci:{layout.path}:box")
    b = Box(rt, images)
    yield b
    for n in b.names:
        rt("rm", "-f", n)
    assert b.dirs() == []


def config_of(box, name):
    with open(os.path.join(box.images.store, "containers", name, "config.json")) as f:
        return json.load(f)


def test_settings_of_the_image_are_used(box):
    assert box("--rm").ok().out == "1000\n/data/new\n1\n"


def test_tree(box):
    r = box.sh("ls -d /gone /d/old /d/new; echo x > /d/new; cat /d/new; rm -r /d; mkdir /d; ls -a /d").out
    assert r.split() == ["/d/new", "x", ".", ".."]
    # The next container has its own writable layer.
    assert box.sh("cat /d/new").ok().out == "2"


def test_exit_code_and_input(box):
    assert box("--rm", "sh", "-c", "exit 7").rc == 7
    assert box("--rm", "-i", "cat", input="hello").ok().out == "hello"
    assert box("--rm", "cat", input="hello").ok().out == ""


def test_detached(box):
    r = box("-d", "--label", "a.b=c", "-u", "0", "sh", "-c", "trap 'echo bye; exit' INT; echo up; while :; do sleep 0.05; done", name="b1").ok()
    assert r.out == "b1\n"
    wait_for(lambda: box.rt("logs", "b1").ok().out == "up\n", "the container")
    assert box.rt("exec", "b1", "cat", "/d/new").ok().out == "2"
    assert "b1" in box.rt("ps").ok().out and "sleep" in box.rt("exec", "b1", "ps").ok().out
    assert "exists" in box("-d", "sleep", "9", name="b1").failed().err
    notes = box.rt("state", "b1").json()["annotations"]
    assert notes["a.b"] == "c" and notes["com.example.x"] == "1" and notes["io.caisson.stop-signal"] == "SIGINT"
    assert not [k for k in notes if k.startswith(("run.oci", "org.systemd")) or k == "io.caisson.isolation"]
    follow = box.rt.popen("logs", "-f", "b1", stdout=subprocess.PIPE)
    start = time.monotonic()
    box.rt("stop", "b1").ok()
    assert time.monotonic() - start < 8 * mode.SCALE
    assert follow.communicate(timeout=10)[0] == b"up\nbye\n"
    assert box.rt("state", "b1").json()["status"] == "stopped"
    box.rt("stop", "b1").ok()
    box.rt("rm", "b1").ok()
    assert box.dirs() == []
    assert "does not exist" in box.rt("logs", "b1").failed().err


def test_stop_kills_a_program_that_ignores_the_signal(box):
    box("-d", "-u", "0", "sh", "-c", "trap '' INT TERM; echo up; while :; do sleep 0.05; done", name="b1").ok()
    wait_for(lambda: box.rt("logs", "b1").out == "up\n", "the container")
    box.rt("stop", "-t", "1", "b1").ok()
    assert box.rt("state", "b1").json()["status"] == "stopped"


def test_detached_with_rm(box):
    box("-d", "--rm", "sleep", "0.3", name="b1").ok()
    wait_for(lambda: box.dirs() == [] and box.rt("list", "-q").out == "", "the container")


def test_create_and_start(box):
    box("sh", "-c", "echo started", name="b1", command="create").ok()
    assert box.rt("state", "b1").json()["status"] == "created"
    box.rt("start", "b1").ok()
    wait_for(lambda: box.rt("logs", "b1").out == "started\n", "the container")


def test_without_rm_the_container_stays(box):
    box("true", name="b1").ok()
    assert box.rt("state", "b1").json()["status"] == "stopped" and box.dirs() == ["b1"]
    box.images("prune")
    assert box.dirs() == ["b1"]


def test_missing_program(box):
    assert '"nosuch"' in box("nosuch", name="b1").failed("no such file or directory").err
    assert '"nosuch"' in box("-d", "nosuch", name="b1").failed("no such file or directory").err
    assert box.dirs() == []


def test_missing_image(box):
    """It is pulled, which fails here: no registry is named, or there is no network."""
    r = box("true", image="localhost:1/nosuch")
    assert r.rc == 1 and "localhost:1" in r.err and "caisson image import" in r.err, r
    assert box.dirs() == []


def test_environment(box, tmp, monkeypatch):
    with open(os.path.join(tmp, "env"), "w") as f:
        f.write("# no\n\nF=from file\nA=2\nFROM\n")
    monkeypatch.setenv("FROM", "outside")
    monkeypatch.delenv("NONE", raising=False)
    out = box.sh("env", "--env-file", os.path.join(tmp, "env"), "-e", "A=3", "-e", "NONE", "-eX=y=z", "--hostname", "host1").ok().out.splitlines()
    assert {"F=from file", "A=3", "FROM=outside", "X=y=z", "HOSTNAME=host1", "HOME=/root", "PATH=/bin:/sbin"} <= set(out)
    assert not [x for x in out if x.startswith("NONE")]


def test_mounts(box, tmp):
    src = os.path.join(tmp, "src")
    os.mkdir(src)
    with open(src + "/f", "w") as f:
        f.write("x")
    made = os.path.join(tmp, "made")
    r = box.sh("cat /v/f /m/f; touch /v/g; touch /m/g || echo ro; df -h /t | tail -n 1; touch /t/sub/x /an/x /deep/er/y; mount | grep -c ' /made '",
               "-v", src + "/f:/v/f:ro", "-v", src + ":/v", "--mount", f"type=bind,source={src},target=/m,readonly", "--tmpfs", "/t/sub:size=1m,mode=700",
               "--tmpfs", "/t:size=2m", "-v", "/an", "-v", made + ":/made", "--mount", "type=tmpfs,dst=/deep/er,tmpfs-size=64k").ok().out
    assert r.startswith("xxro\n") and "2.0M" in r and r.endswith("1\n")
    assert sorted(os.listdir(src)) == ["f", "g"] and os.path.isdir(made)


@pytest.mark.parametrize("option, text", [
    (("-v", ":/x"), "the volume's name"), (("-v", "/:x"), "absolute path"), (("-v", "/etc:/x:wrong"), "unknown option"),
    (("-v", "/etc:/x", "--tmpfs", "/x"), "two mounts"), (("--mount", "type=bind,source=/nosuch,target=/x"), "/nosuch"),
    (("--mount", "type=nfs,target=/x"), "expected bind"), (("--mount", "wrong=1"), "unknown word"), (("--tmpfs", "x"), "absolute"),
    (("-v", "/etc:/"), "absolute path"),
    (("--cap-add", "NOSUCH"), "no capability"), (("--cpus", "many"), "--cpus"), (("--cpus", "nan"), "--cpus"), (("--memory", "0"), "--memory"), (("--pids-limit", "x"), "--pids-limit"),
    (("--ulimit", "nofile"), "--ulimit"), (("--ulimit", "wrong=1"), "RLIMIT_WRONG"), (("--device", "/etc/passwd"), "no device"),
    (("--device", "/nosuch"), "/nosuch"), (("--security-opt", "wrong"), "--security-opt"), (("--network", "ns:x"), "absolute path"),
    (("--network", "none", "-p", "80:80"), "-p 80:80"), (("--network", "host", "--network", "none"), "no other --network"),
    (("--label", "io.caisson.x=1"), "may mean something"), (("--env-file", "/nosuch"), "/nosuch"), (("-u", "nobodyhere"), "nobodyhere"),
    (("-u", "99999999999"), "not a number"), (("--stop-signal", "WRONG"), "stop-signal"), (("-d", "-t"), "terminal"), (("--isolation", "x"), "ns or vm"),
    (("--name", "../x"), "name"), (("--name", "a b"), "container ID"), (("--platform", "linux/s390x"), None)])
def test_refused(box, option, text):
    """Each wrong option is one clear error, and nothing is left."""
    r = box(*option, "true")
    if text is None:
        assert r.rc in (0, 1)
        box.names += [n for n in box.dirs()]
        return
    r.failed(text)
    assert box.dirs() == []


def test_user_of_digits_is_a_number(box):
    """The image has a user whose name is "0"."""
    assert box("--rm", "-u", "0", "id", "-u").ok().out == "0\n"
    assert box("--rm", "-u", "web:0", "id", "-g").ok().out == "0\n"
    assert box("--rm", "-u", "4000", "id", "-u").ok().out == "4000\n"


def test_entrypoint(box):
    assert box("--rm", "--entrypoint", "echo", "a", "b").ok().out == "a b\n"
    assert box("--rm", "--entrypoint", "", "-w", "/d", "pwd").ok().out == "/d\n"
    assert box("--rm", "--entrypoint", "id").ok().out.startswith("uid=1000")
    assert box("--rm", "-w", "/not/there/yet", "pwd").ok().out == "/not/there/yet\n"


def test_read_only(box):
    assert box.sh("touch /x || echo ro; touch /dev/shm/x", "--read-only").ok().out == "ro\n"


def caps(box, *options):
    out = box.sh("grep CapEff /proc/self/status", *options).ok().out
    return int(out.split()[1], 16)


def test_capabilities(box):
    assert caps(box) == 0xa80425fb  # docker's fourteen
    assert caps(box, "--cap-drop", "all") == 0
    assert caps(box, "--cap-drop", "ALL", "--cap-add", "chown") == 1
    assert caps(box, "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "net_raw") == 0xa80425fb & ~(1 << 13) | 1 << 21
    assert bin(caps(box, "--cap-add", "ALL")).count("1") >= 38
    assert box("--rm", "sh", "-c", "grep CapEff /proc/self/status").ok().out.split()[1] == "0" * 16


def test_security(box):
    said = box.sh("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; ls /proc/asound | wc -l; echo x > /proc/sys/kernel/hostname || echo no",
                  "--security-opt", "no-new-privileges").ok().out.split()
    assert said == ["NoNewPrivs:", "1", "Seccomp:", "2", "0", "no"]
    said = box.sh("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; echo x > /proc/sys/kernel/hostname && hostname", "--security-opt", "seccomp=unconfined",
                  "--security-opt", "systempaths=unconfined").ok().out.split()
    assert said == ["NoNewPrivs:", "0", "Seccomp:", "0", "x"]


CALLS_PROBE = r"""
import ctypes, errno, json, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(nr, *a):
    ctypes.set_errno(0)
    return errno.errorcode.get(ctypes.get_errno()) if libc.syscall(nr, *a) < 0 else "ok"
def sock(f):
    try:
        socket.socket(f, socket.SOCK_SEQPACKET if f == 38 else socket.SOCK_STREAM).close()
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
print(json.dumps({"io_uring_setup": call(425, 1, 0), "unshare": call(272, 0x10000000), "mount": call(165, 0, 0, 0, 0, 0), "clone3": call(435, 0, 0),
    "keyctl": call(250, 0, 0, 0), "bpf": call(321, 0, 0, 0), "unknown": call(999), "alg": sock(38), "vsock": sock(40), "inet": sock(2), "unix": sock(1),
    "netlink": sock(16) , "clone": call(56, 0x10000000 | 17, 0, 0, 0, 0), "personality": call(135, ctypes.c_ulong(0xffffffff)), "personality_odd": call(135, 0x0400000),
    "getpid": call(39)}))
"""


def test_system_calls(box, tmp, debian):
    """The default filter: AF_ALG, io_uring and new namespaces are refused, a call that no kernel has is ENOSYS."""
    with open(os.path.join(tmp, "p.py"), "w") as f:
        f.write(CALLS_PROBE)
    binds = [x for d in ("usr", "lib", "lib64", "etc") if os.path.exists("/" + d) for x in ("-v", f"/{d}:/{d}:ro")]
    run = lambda *o: json.loads(box("--rm", "-u", "0", *binds, "-v", f"{tmp}/p.py:/p.py", *o, "/usr/bin/python3", "/p.py").ok().out)
    got = run()
    denied = {k: v for k, v in got.items() if v != "ok"}
    assert denied.pop("alg") in ("ENOSYS", "EPERM") and denied.pop("vsock") in ("ENOSYS", "EPERM")
    denied.pop("netlink", None)  # of a type that it does not have
    assert denied == {"io_uring_setup": "EPERM", "unshare": "EPERM", "mount": "EPERM", "clone3": "ENOSYS", "keyctl": "EPERM", "bpf": "EPERM",
                      "unknown": "ENOSYS", "clone": "ENOSYS", "personality_odd": "ENOSYS"}
    more = run("--cap-add", "SYS_ADMIN")
    assert more["unshare"] == "ok" and more["mount"] not in ("EPERM", "ENOSYS") and more["io_uring_setup"] == "EPERM"


def test_limits(box):
    conf = box("--memory", "64m", "--cpus", "1.5", "--pids-limit", "100", "--ulimit", "nofile=100:200", "--ulimit", "core=0", "--device", "/dev/zero:/dev/z:rw",
               "--cgroup-parent", "/caisson-test", "--network", "host", command="create", name="b1")
    if conf.rc != 0:  # no controller here: the message says so, and tests/host has the effect
        assert "controller" in conf.err
        return
    c = config_of(box, "b1")
    assert c["linux"]["resources"]["memory"] == {"limit": 64 << 20} and c["linux"]["resources"]["pids"] == {"limit": 100}
    assert c["linux"]["resources"]["cpu"] == {"period": 100000, "quota": 150000} and c["linux"]["cgroupsPath"] == "/caisson-test/b1"
    assert {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200} in c["process"]["rlimits"]
    assert "network" not in [n["type"] for n in c["linux"]["namespaces"]]


def test_ulimit_and_device(box):
    out = box.sh("ulimit -n; ulimit -c; head -c 3 /dev/z | wc -c; touch /dev/z && echo w", "--ulimit", "nofile=100:200", "--ulimit", "core=0",
                 "--device", "/dev/zero:/dev/z:r").out.split()
    assert out[:3] == ["100", "0", "3"]


def test_networks(box):
    assert box.sh("ls /sys/class/net").ok().out.split() == ["lo"]
    here = os.readlink("/proc/self/ns/net")
    assert box.sh("readlink /proc/self/ns/net", "--network", "host").ok().out.strip() == here
    assert box.sh("readlink /proc/self/ns/net", "--network", "ns:/proc/self/ns/net").ok().out.strip() == here
    assert "localhost" in box.sh("cat /etc/hosts").ok().out


def test_terminal(box):
    master, slave = os.openpty()
    with os.fdopen(slave, "rb+", buffering=0) as s:
        p = box.rt.popen(*box.argv("--rm", "-it", "sh", "-c", "tty; echo $TERM"), stdin=s, stdout=s, stderr=s, start_new_session=True)
        assert p.wait(20) == 0
        out = os.read(master, 1000)
    os.close(master)
    assert b"/dev/" in out and b"xterm" in out


def test_ten_at_once(box):
    """Ten runs of an image that nobody has unpacked."""
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda i: box.sh(f"echo {i}; cat /d/new; touch /d/mine; ls /d | wc -l"), range(10)))
    assert [r.ok().out.split() for r in results] == [[str(i), "22"] for i in range(10)]
    assert len(os.listdir(os.path.join(box.images.store, "layers"))) == 3


def test_prune_keeps_what_a_container_uses(box):
    box("-d", "sleep", "100", name="b1").ok()
    box.images("rm", "box")
    box.images("prune")
    assert box.rt("exec", "b1", "cat", "/d/new").ok().out == "2"
    box.rt("stop", "-t", "0", "b1").ok()
    box.images("prune")
    assert len(os.listdir(os.path.join(box.images.store, "layers"))) == 3
    box.rt("rm", "b1").ok()
    box.images("prune")
    assert os.listdir(os.path.join(box.images.store, "layers")) == []


def test_a_killed_run_leaves_its_name_free(box):
    """kill -9 between the making of the directory and the container: prune, or the next of that name, removes the directory."""
    inject = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", "inject=clone3:signal=KILL:when=1"]
    argv = box.rt.argv(*box.argv("--name", "b1", "--rm", "true"))
    subprocess.run([*inject, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
    box.rt("delete", "--force", "b1").ok()
    shutil.rmtree(os.path.join(box.rt.root, "b1"), ignore_errors=True)
    assert box("--rm", "echo", "hi", name="b1").ok().out == "hi\n"


def test_kill_at_each_call(box, tmp):
    """SIGKILL at any call of `run --image`: delete --force and prune leave nothing, and the next run works."""
    box.images("unpack", "box")
    argv = box.rt.argv(*box.argv("--rm", "--name", "b1", "true"))
    box.names.append("b1")

    def prunes():
        """A helper of the killed command may hold the store for a moment yet."""
        box.images("prune", check=False)
        assert box.images.code == 0 or "in use by another process" in box.images.err, box.images.err
        return box.images.code == 0
    calls = [*CALLS, "mkdir", "clone", "move_mount", "open_tree", "mount", "setns", "unshare", "execve", "wait4", "waitid", "poll", "ppoll"]
    n = counts(argv, os.path.join(tmp, "log"))
    points = [(c, i) for c in calls for i in range(1, n.get(c, 0) + 1)]
    for call, nth in points[::max(1, len(points) // 50)]:
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *argv],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        box.rt("delete", "--force", "b1").ok()
        wait_for(prunes, "the store", timeout=30)
        assert box.dirs() == [], (call, nth)
        assert not os.path.exists(os.path.join(box.rt.root, "b1")), (call, nth)
    assert box("--rm", "cat", "/d/new", name="b1").ok().out == "2"


def test_without_overlayfs(rt, images, layout, template, tmp):
    """The store is on an overlay, on which no other can be stacked: each container gets a copy, which --debug says."""
    for d in ("low", "up", "work", "on"):
        os.mkdir(os.path.join(tmp, d))
    on = os.path.join(tmp, "on")
    subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={tmp}/low,upperdir={tmp}/up,workdir={tmp}/work", "test", on], check=True)
    try:
        nested = oci.Images(images.program, os.path.join(on, "store"))
        base = subprocess.run(["tar", "-c", "-C", template, "."], check=True, capture_output=True).stdout
        layout.image([base, tar(entry("a", data=b"1")), tar(whiteout(".wh.a"), entry("b", data=b"2"))], "box", config={"Env": ["PATH=/bin"]})
        nested("import", f"oci:{layout.path}:box")
        r = rt("--debug", "run", "--image", "box", "--store", nested.store, "--rm", "--network", "none", "sh", "-c", "ls /a; cat /b").ok()
        assert r.out == "2" and "copied for each container" in r.err
        assert os.listdir(os.path.join(nested.store, "containers")) == []
    finally:
        subprocess.run(["umount", on], check=True)


@pytest.mark.parametrize("isolation", ["ns", "vm"])
def test_rootless(binary, layout, template, tmp, isolation):
    """An ordinary user: layers with user.overlay.* marks, a container in a user namespace, and nothing left of what it wrote."""
    home = os.path.join(tmp, "home")
    exe = ordinary.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(tmp, "installed"))
    options = []
    if isolation == "vm":
        options = ["--isolation", "vm", "--kernel", mode.guest_kernel(rootfs.CACHE)]
    os.makedirs(home + "/run")
    base = subprocess.run(["tar", "-c", "-C", template, "."], check=True, capture_output=True).stdout
    layout.image([base, tar(entry("d/", "dir"), entry("d/old"), entry("gone")),
                  tar(whiteout(".wh.d"), entry("d/", "dir"), entry("d/new", data=b"2"), whiteout(".wh.gone"))], "box", config={"Env": ["PATH=/bin"]})
    subprocess.run(["chown", "-R", "1000:1000", home, layout.path], check=True)
    os.chmod(home + "/run", 0o700)
    env = {"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home + "/run", "XDG_DATA_HOME": home + "/data"}

    def user(*args, rc=0):
        p = subprocess.run(["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", *args], env=env, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=120)
        assert p.returncode == rc, p
        return p.stdout
    user(exe, "image", "import", f"oci:{layout.path}:box")
    script = "id -u; ls /d /gone; grep -c ' / overlay \\| / virtiofs ' /proc/mounts; mkdir -m 0 /zero; mkdir /z; touch /z/f; chmod 0 /z"
    assert user(exe, "run", "--image", "box", "--rm", *options, "sh", "-c", script).split() == ["0", "/d:", "new", "1"]
    store = home + "/data/caisson"
    assert os.listdir(store + "/containers") == []
    if isolation == "vm":
        user(exe, "run", "--image", "box", "-d", "--name", "b1", *options, "sleep", "1000")
        assert user(exe, "exec", "b1", "cat", "/d/new") == "2"
        user(exe, "stop", "-t", "1", "b1")
        user(exe, "rm", "b1")
        assert os.listdir(store + "/containers") == []
    user(exe, "image", "rm", "box")
    assert os.listdir(store + "/layers") == []


@pytest.fixture
def volumes(box, layout, template):
    """An image with volumes, some of which it has files for."""
    base = subprocess.run(["tar", "-c", "--format=pax", "--numeric-owner", "-C", template, "."], check=True, capture_output=True).stdout
    files = tar(entry("etc/passwd", data=b"web:x:1000:1001::/:/bin/sh\n"), entry("data/", "dir", mode=0o1770, uid=1000, gid=1001, mtime=1500000000),
                entry("data/f", data=b"image's", mode=0o640, uid=1000, xattrs={"user.x": b"1"}), entry("data/l", "link", link="f"),
                entry("data/sub/", "dir", uid=5), entry("data/sub/p", "fifo"), entry("data/old"), entry("real/", "dir"), entry("real/r", data=b"r"),
                entry("linked", "link", link="/real"), entry("out", "link", link="../../../../etc"), entry("file"))
    top = tar(whiteout("data/.wh.old"), entry("data/sub/g", data=b"g"))
    layout.image([base, files, top], "vol", {"Env": ["PATH=/bin"], "User": "web", "Volumes": {"/data": {}, "/linked/": {}, "/none": {}, "/out": {}}})
    layout.image([base, files], "bad", {"Env": ["PATH=/bin"], "Volumes": {"/file": {}}})
    layout.image([base, files], "root", {"Env": ["PATH=/bin"], "Volumes": {"/": {}}})
    for tag in ("vol", "bad", "root"):
        box.images("import", f"oci:{layout.path}:{tag}")
    return lambda *a, **kw: box(*a, image=kw.pop("image", "vol"), **kw)


def test_volumes_of_the_image(box, volumes):
    """Each is a directory of the container's own with what the image has there, and goes with the container."""
    script = "stat -c '%a %u %g %Y' /data; stat -c '%a %u %F' /data/f; cat /data/l /data/sub/g; ls /data /data/sub /none; cat /linked/r; ls /out/passwd"
    out = volumes("--rm", "-u", "0", "sh", "-c", script).ok().out
    assert out.startswith("1770 1000 1001 1500000000\n640 1000 regular file\nimage'sg") and "old" not in out and out.endswith("r/out/passwd\n")
    # The link /out led to the image's own /etc, not to the host's.
    assert volumes("--rm", "-u", "0", "cat", "/out/passwd").ok().out == "web:x:1000:1001::/:/bin/sh\n"
    # What a container writes stays in its volume, until the container is removed.
    volumes("sh", "-c", "echo mine >> /data/f; echo x > /data/new", name="b1").ok()
    where = [d for d in os.listdir(f"{box.images.store}/containers/b1") if d.startswith("volume") and
             os.path.exists(f"{box.images.store}/containers/b1/{d}/new")]
    assert len(where) == 1 and os.listxattr(f"{box.images.store}/containers/b1/{where[0]}/f") == ["user.x"]
    assert not os.path.exists(f"{box.images.store}/containers/b1/upper/data/new")
    assert volumes("--rm", "cat", "/data/f").ok().out == "image's"
    box.rt("rm", "b1").ok()
    assert box.dirs() == []
    # Volumes can be written where the root cannot.
    assert volumes("--rm", "--read-only", "-u", "0", "sh", "-c", "touch /x || touch /data/x && echo ok").ok().out == "ok\n"


def test_the_users_mounts_come_before_the_images_volumes(box, volumes, tmp):
    src = os.path.join(tmp, "src")
    os.mkdir(src)
    assert volumes("--rm", "-u", "0", "-v", src + ":/data/", "ls", "/data").ok().out == ""
    assert volumes("--rm", "-u", "0", "--tmpfs", "/data", "ls", "/data").ok().out == ""
    # A volume without a source, of the user, begins as the image's do.
    assert volumes("--rm", "-v", "/data", "-u", "0", "ls", "/data").ok().out.split() == ["f", "l", "sub"]
    assert volumes("--rm", "--mount", "type=volume,target=/real", "ls", "/real").ok().out == "r\n"


def test_volumes_that_cannot_be(box, volumes):
    volumes("true", image="bad").failed("the volume on /file: the image has a file there")
    volumes("true", image="root").failed("a volume of the image: a mount on \"/\"")
    assert volumes("--rm", "-v", "/etc:/file", "true", image="bad").rc != 127 and box.dirs() == []


def test_microvm(box, work):
    """The same in a microVM: overlay on the host, shared with the guest; output, exit code, exec, nothing left."""
    kernel = mode.guest_kernel(rootfs.CACHE)
    if not kernel:
        pytest.skip("no kernel for a guest")
    script = "cat /d/new; ls /gone; touch /x && rm -r /d && ls /; exit 3"
    r = box("--rm", "--isolation", "vm", "--kernel", kernel, "-u", "0", "sh", "-c", script, timeout=120)
    assert r.rc == 3 and r.out.startswith("2") and "x" in r.out.split() and "d" not in r.out.split(), r
    assert box.dirs() == []
    assert box.sh("cat /d/new").ok().out == "2"
    box("-d", "--isolation", "vm", "--kernel", kernel, "-u", "0", "sleep", "1000", name="b1", timeout=120).ok()
    assert box.rt("exec", "b1", "cat", "/d/new", timeout=120).ok().out == "2"
    box.rt("stop", "-t", "1", "b1", timeout=120).ok()
    box.rt("rm", "b1").ok()
    box.sh("echo 1 > /v/f; ls /d2", "-v", "vol:/v", "-v", "copy:/d", "--isolation", "vm", "--kernel", kernel, timeout=120)
    assert box.sh("cat /v/f /d/new", "-v", "vol:/v", "-v", "copy:/d").ok().out == "1\n2"


def notes(box):
    d = os.path.join(box.images.store, "resolved")
    return [os.path.join(d, n) for n in os.listdir(d)]


def helper_calls(box, tmp, *args):
    """Runs a container and counts how often caisson executes caisson-image."""
    log = os.path.join(tmp, "execs")
    p = subprocess.run(["strace", "-f", "-qq", "-o", log, "-e", "trace=execve", *box.rt.argv(*box.argv("--rm", "-u", "0", *args))],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stderr
    with open(log) as f:
        return f.read().count("/caisson-image\""), p.stdout


def test_the_second_run_reads_a_note(box, tmp):
    """caisson-image runs once. A name that is given to another image, a damaged note, and a prune are noticed."""
    assert helper_calls(box, tmp, "cat", "/d/new") == (1, "2")
    assert helper_calls(box, tmp, "cat", "/d/new") == (0, "2")
    note, = notes(box)
    with open(note, "r+b") as f:
        f.seek(200)
        f.write(b"x")
    assert helper_calls(box, tmp, "cat", "/d/new") == (1, "2")
    os.truncate(note, 100)
    assert helper_calls(box, tmp, "cat", "/d/new") == (1, "2")
    box.images("prune")
    assert not os.path.exists(note)
    assert helper_calls(box, tmp, "cat", "/d/new") == (1, "2")


def test_a_note_ends_with_its_tag(box, layout, template, tmp):
    """Another image of the same name is run at once, also if index.json is replaced again and again without a pause."""
    base = subprocess.run(["tar", "-c", "-C", template, "."], check=True, capture_output=True).stdout
    for i in range(8):
        layout.image([base, tar(entry("which", data=b"%d" % i))], f"t{i}", config={"Env": ["PATH=/bin"]})
        box.images("import", f"oci:{layout.path}:t{i}", f"t{i}")
    for i in range(8):
        box.images("tag", f"t{i}", "moving")
        assert box("--rm", "cat", "/which", image="moving").ok().out == str(i)
    box.images("rm", "moving")
    r = box("--rm", "cat", "/which", image="moving")
    assert r.rc == 1 and "short name" in r.err and "is not in the store" in r.err
    assert box.dirs() == []


def test_a_note_is_of_one_platform(box):
    assert box("--rm", "--platform", "linux/amd64", "cat", "/d/new").ok().out == "2"
    assert box("--rm", "cat", "/d/new").ok().out == "2"
    assert len(notes(box)) == 2
