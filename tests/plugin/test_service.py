# SPDX-License-Identifier: Apache-2.0
"""Tests caisson as the command of a systemd service of Type=notify, with the default NotifyAccess=main."""
import subprocess

import pytest

UNIT = "caisson-notify"


def show(prop):
    return subprocess.run(["systemctl", "show", "-P", prop, UNIT], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("how", ["foreground", "background"])
def test_type_notify(ctr, rt, how):
    """
    The service is active when the program sends READY=1. Its main process is `run`, or with --detach the container's
    first process.
    """
    c = ctr.sh("sleep 1; probe notify STATUS=fine; probe notify READY=1; exec sleep 1000").write()
    options = ["--detach"] if how == "background" else []
    command = rt.argv("run", "--bundle", c.bundle, *options, c.id)
    try:
        subprocess.run(["systemd-run", "--quiet", "--unit", UNIT, "--service-type=notify", *command], check=True, timeout=60)
        assert show("ActiveState") == "active" and show("StatusText") == "fine"
        main = int(show("MainPID"))
        assert c.status() == "running"
        if how == "background":
            assert main == c.pid()
        else:
            with open(f"/proc/{main}/comm") as f:
                assert main != c.pid() and f.read() == "caisson\n"
    finally:
        c.kill("KILL", check=False)
        subprocess.run(["systemctl", "stop", UNIT])
        subprocess.run(["systemctl", "reset-failed", UNIT], stderr=subprocess.DEVNULL)
