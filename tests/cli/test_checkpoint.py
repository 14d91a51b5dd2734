# SPDX-License-Identifier: Apache-2.0
"""Tests what `checkpoint` and `restore` refuse. tests/host/test_criu.py tests them with CRIU, which needs a kernel that it
knows, and tests/host/test_vm_snapshot.py with microVMs."""
import os

import pytest

OPTIONS = """image-path work-path tcp-established ext-unix-sk shell-job file-locks link-remap manage-cgroups-mode auto-dedup
empty-ns lazy-pages"""


@pytest.fixture
def without_criu(work):
    """Returns an environment in which no program criu is found."""
    os.makedirs(os.path.join(work, "empty"), exist_ok=True)
    return {"PATH": os.path.join(work, "empty")}


def test_checkpoint_names_what_is_missing(ctr, work, without_criu):
    c = ctr.idle()
    c.up()
    c.rt("checkpoint", "--image-path", os.path.join(work, "image"), c.id, env=without_criu).failed(
        "checkpoint: criu is not installed", "apt install criu")
    assert c.status() == "running"
    c.stop()


def test_attached_mount(ctr, work, without_criu):
    """A restore would not find it, and the container has ended by then."""
    c = ctr.idle()
    c.conf["root"]["readonly"] = False
    c.up()
    checkpoint = ["checkpoint", "--image-path", os.path.join(work, "image"), c.id]
    c.rt("update", "--add-mount", f"{work}:/data", c.id).ok()
    c.rt(*checkpoint, env=without_criu).failed("checkpoint: mount /data was attached", "detach it first")
    assert c.status() == "running"
    c.rt("update", "--rm-mount", "/data", c.id).ok()
    c.rt(*checkpoint, env=without_criu).failed("criu is not installed")
    c.stop()


def test_restore_names_what_is_missing(ctr, work, without_criu):
    c = ctr("true").write()
    restore = ["restore", "--image-path", work, "--bundle", c.bundle, c.id]
    c.rt(*restore, env=without_criu).failed("--image-path", "no checkpoint of a container in namespaces", "descriptors.json")
    with open(os.path.join(work, "descriptors.json"), "w") as f:
        f.write('["/dev/null", "pipe:[1]"]')
    c.rt(*restore, env=without_criu).failed("descriptors.json: expected 3 texts")
    with open(os.path.join(work, "descriptors.json"), "w") as f:
        f.write('["/dev/null", "pipe:[1]", "pipe:[2]"]')
    c.rt(*restore, env=without_criu).failed("criu is not installed", "apt install criu")
    os.unlink(os.path.join(work, "descriptors.json"))
    assert not c.exists()


@pytest.mark.parametrize("option, texts", [
    (["--lazy-pages"], ["--lazy-pages: not supported"]),
    (["--manage-cgroups-mode", "hard"], ["--manage-cgroups-mode hard", "expected soft"]),
    (["--empty-ns", "pid"], ["--empty-ns pid", "expected network"]),
])
def test_wrong_options(ctr, work, option, texts):
    c = ctr.idle()
    c.up()
    c.rt("checkpoint", "--image-path", os.path.join(work, "image"), *option, c.id).failed(*texts)
    assert c.status() == "running"
    c.rt("restore", "--image-path", work, "--bundle", c.bundle, *option, c.id + "-2").failed(*texts)
    c.stop()


def test_options_of_runc(rt):
    only = {"checkpoint": "leave-running pre-dump parent-path page-server", "restore": "bundle detach console-socket pid-file"}
    for command, options in only.items():
        text = rt(command, "--help").ok().out
        for option in (OPTIONS + " " + options).split():
            assert f"--{option}" in text, (command, option)


def test_no_such_container(rt):
    rt("checkpoint", "nobody").failed("nobody", "does not exist")
