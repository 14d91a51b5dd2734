# SPDX-License-Identifier: Apache-2.0
"""Tests `checkpoint` and `restore` of containers in namespaces, which are refused. tests/host/test_vm_snapshot.py tests
them with microVMs."""
import os


def test_checkpoint_names_what_is_missing(ctr, work):
    c = ctr.idle()
    c.up()
    image = os.path.join(work, "image")
    c.rt("checkpoint", "--image-path", image, c.id).failed("cannot checkpoint container", "in namespaces", "CRIU")
    assert not os.path.exists(image) and c.status() == "running"
    c.stop()


def test_restore_names_what_is_missing(ctr, work):
    c = ctr("true").write()
    r = c.rt("restore", "--image-path", work, "--bundle", c.bundle, c.id)
    r.failed("restore: only a container in a microVM can be restored", "CRIU")
    assert not c.exists()


def test_options_of_runc(rt):
    options = "image-path work-path leave-running tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode"
    for command in ("checkpoint", "restore"):
        text = rt(command, "--help").ok().out
        for option in options.split():
            assert f"--{option}" in text or (command, option) == ("restore", "leave-running"), (command, option)


def test_no_such_container(rt):
    rt("checkpoint", "nobody").failed("nobody", "does not exist")
