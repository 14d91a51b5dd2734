# SPDX-License-Identifier: Apache-2.0
"""Tests what `checkpoint` and `restore` refuse. tests/host/test_criu.py tests them with CRIU, which needs a kernel that it
knows, and tests/host/test_vm_snapshot.py with microVMs."""
import os
import subprocess

import pytest

# The options of runc 1.1 to 1.5, and of crun: --network-lock, --tcp-close.
OPTIONS = """image-path work-path tcp-established ext-unix-sk shell-job file-locks link-remap manage-cgroups-mode auto-dedup
empty-ns lazy-pages network-lock"""


@pytest.fixture
def place(tmp):
    """A directory for images, which the containers and their state are not in."""
    d = os.path.join(tmp, "place")
    os.mkdir(d)
    return d


@pytest.fixture
def without_criu(place):
    """Returns an environment in which no program criu is found."""
    os.makedirs(os.path.join(place, "empty"), exist_ok=True)
    return {"PATH": os.path.join(place, "empty")}


def test_checkpoint_names_what_is_missing(ctr, place, without_criu):
    c = ctr.idle()
    c.up()
    image = os.path.join(place, "image")
    c.rt("checkpoint", "--image-path", image, c.id, env=without_criu).failed("checkpoint: criu is not installed", "apt install criu")
    assert not os.path.exists(image)
    assert c.status() == "running"
    c.stop()


def test_attached_mount(ctr, place, without_criu):
    """A restore would not find it, and the container has ended by then."""
    c = ctr.idle()
    c.conf["root"]["readonly"] = False
    c.up()
    checkpoint = ["checkpoint", "--image-path", os.path.join(place, "image"), c.id]
    c.rt("update", "--add-mount", f"{place}:/data", c.id).ok()
    c.rt(*checkpoint, env=without_criu).failed("checkpoint: mount /data was attached", "detach it first")
    assert c.status() == "running"
    c.rt("update", "--rm-mount", "/data", c.id).ok()
    c.rt(*checkpoint, env=without_criu).failed("criu is not installed")
    c.stop()


def test_restore_names_what_is_missing(ctr, place, without_criu):
    c = ctr("true").write()
    restore = ["restore", "--image-path", place, "--bundle", c.bundle, c.id]
    c.rt(*restore, env=without_criu).failed("--image-path", "no checkpoint of a container in namespaces", "descriptors.json")
    with open(os.path.join(place, "descriptors.json"), "w") as f:
        f.write('["/dev/null", "pipe:[1]"]')
    c.rt(*restore, env=without_criu).failed("descriptors.json: expected 3 texts")
    with open(os.path.join(place, "descriptors.json"), "w") as f:
        f.write('["/dev/null", "pipe:[1]", "pipe:[2]"]')
    c.rt(*restore, env=without_criu).failed("criu is not installed", "apt install criu")
    os.unlink(os.path.join(place, "descriptors.json"))
    assert not c.exists()


@pytest.mark.parametrize("option, texts", [
    (["--manage-cgroups-mode", "hard"], ["--manage-cgroups-mode hard", "expected soft"]),
    (["--empty-ns", "pid", "--empty-ns", "network"], ["--empty-ns pid", "expected network"]),
    (["--network-lock", "no"], ["--network-lock no", "expected iptables, nftables or skip"]),
])
def test_wrong_options(ctr, place, option, texts):
    c = ctr.idle()
    c.up()
    c.rt("checkpoint", "--image-path", os.path.join(place, "image"), *option, c.id).failed(*texts)
    assert c.status() == "running"
    for isolation in ("ns", "vm"):
        c.rt("restore", "--isolation", isolation, "--image-path", place, "--bundle", c.bundle, *option, c.id + "-2").failed(*texts)
    c.stop()


def test_options_that_belong_together(ctr, place, without_criu):
    """A wrong value is refused before CRIU is looked for. The directory of --image-path is made, with those above it, as runc does."""
    c = ctr.idle()
    c.up()
    image = os.path.join(place, "new", "image")

    def checkpoint(*options, **process):
        return c.rt("checkpoint", "--image-path", image, *options, c.id, env=without_criu, **process)

    checkpoint("--status-fd", "1").failed("--status-fd", "add --lazy-pages")
    checkpoint("--lazy-pages", "--pre-dump").failed("--lazy-pages", "--pre-dump", "leave one of them out")
    checkpoint("--lazy-pages", "--status-fd", "77").failed("--status-fd 77", "Bad file descriptor")
    with open("/dev/null") as f:
        checkpoint("--lazy-pages", "--status-fd", str(f.fileno()), pass_fds=[f.fileno()]).failed("--status-fd", "can be written")
    checkpoint("--lazy-pages").failed("--lazy-pages", "add --page-server ADDRESS:PORT")
    assert not os.path.exists(image)
    checkpoint("--parent-path", "../nothing").failed("--parent-path ../nothing", "does not exist")
    with open(os.path.join(place, "new", "file"), "w"):
        checkpoint("--parent-path", "../file").failed("--parent-path ../file: expected a directory")
    for wrong in ("nowhere", "1.2.3.4:0", "1.2.3.4:65536", ":5", "[]:"):
        checkpoint("--page-server", wrong).failed(f"--page-server {wrong}: expected ADDRESS:PORT")
    checkpoint("--page-server", "somewhere:27", "--lazy-pages").failed("--page-server somewhere", "expected an IP address")
    for right in ("somewhere:27", "[::1]:27", "10.0.0.1:27"):
        checkpoint("--page-server", right).failed("criu is not installed")
    assert c.status() == "running"
    c.stop()


@pytest.fixture
def etc_criu():
    """An empty /etc/criu, which is there only for this test."""
    made = not os.path.isdir("/etc/criu")
    if made:
        os.mkdir("/etc/criu")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/criu"], check=True)
    yield "/etc/criu"
    subprocess.run(["umount", "/etc/criu"], check=True)
    if made:
        os.rmdir("/etc/criu")


def test_configuration_of_criu(ctr, place, etc_criu):
    """CRIU gets the file of the annotation, or else the one of the host. A program in its place writes down the request, and what that file has."""
    requests = os.path.join(place, "request")
    with open(os.path.join(place, "criu"), "w") as f:
        f.write(f"#!/bin/bash\ndd bs=65536 count=1 <&$2 of={requests} 2>/dev/null\n"
                f"for f in /proc/self/fd/*; do case $(readlink $f) in /memfd:criu.conf*) cat $f >{requests}.conf;; esac; done\nexit 1\n")
    os.chmod(f.name, 0o755)
    env = {**os.environ, "PATH": place + ":" + os.environ["PATH"]}
    streams = os.path.join(place, "descriptors.json")
    file = os.path.join(place, "own.conf")

    def asked(*options, text):
        """Returns which files a checkpoint and a restore of a container with this annotation name."""
        c = ctr.idle()
        c.conf["annotations"] = {} if text is None else {"org.criu.config": text}
        c.up()
        found = []
        try:
            for command in (["checkpoint", "--image-path", os.path.join(place, "image"), *options, c.id],
                            ["restore", "--image-path", place, "--bundle", c.bundle, c.id + "-2"]):
                with open(streams, "w") as f:
                    f.write('["/dev/null", "pipe:[1]", "pipe:[2]"]')
                c.rt(*command, env=env).failed("criu")
                with open(requests, "rb") as f:
                    _, _, rest = f.read().partition(b"\x9a\x03")  # the tag of the field config_file
                found.append(rest[1:1 + rest[0]].decode() if rest else None)
        finally:
            c.stop()
        return found

    open(file, "w").close()
    assert asked(text=None) == [None, None]
    for name in ("runc.conf", "caisson.conf"):
        with open(f"{etc_criu}/{name}", "w") as f:
            f.write("skip-in-flight\n")
        assert asked(text=None) == [f"{etc_criu}/{name}"] * 2
    assert asked(text=file) == [file, file]
    assert asked(text="") == [None, None]
    lazy = asked("--lazy-pages", "--page-server", "10.0.0.1:27", text=None)
    assert lazy[0].startswith("/proc/self/fd/") and lazy[1] == f"{etc_criu}/caisson.conf"
    with open(requests + ".conf") as f:
        assert f.read() == "skip-in-flight\n\naddress 10.0.0.1\n"


@pytest.mark.parametrize("text, texts", [("relative", ["expected the absolute path"]), ("/no/such/file", ["/no/such/file: ", "does not exist"])])
def test_wrong_configuration_of_criu(ctr, place, text, texts):
    c = ctr.idle()
    c.conf["annotations"] = {"org.criu.config": text}
    c.up()
    c.rt("checkpoint", "--image-path", os.path.join(place, "image"), c.id).failed("annotation org.criu.config", *texts)
    assert c.status() == "running"
    c.stop()


@pytest.mark.parametrize("option", ["--lazy-pages", "--tcp-close", "--lsm-profile=apparmor:x", "--lsm-mount-context=x"])
def test_restore_of_a_microvm_refuses(ctr, place, option):
    c = ctr("true").write()
    c.rt("restore", "--isolation", "vm", "--image-path", place, "--bundle", c.bundle, option, c.id).failed(
        option.split("=")[0] + ": ", "leave the option out")
    assert not c.exists()


def test_options_of_runc(rt):
    only = {"checkpoint": "leave-running pre-dump parent-path page-server status-fd tcp-skip-in-flight",
            "restore": "bundle detach console-socket pid-file no-pivot no-subreaper lsm-profile lsm-mount-context tcp-close"}
    for command, options in only.items():
        text = rt(command, "--help").ok().out
        for option in (OPTIONS + " " + options).split():
            assert f"--{option}" in text, (command, option)


def test_no_such_container(rt):
    rt("checkpoint", "nobody").failed("nobody", "does not exist")
