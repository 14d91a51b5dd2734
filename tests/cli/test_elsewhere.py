# SPDX-License-Identifier: Apache-2.0
"""Configurations that run with other runtimes: they run here, and mean the same."""
import json
import os
import subprocess

import pytest
from harness import config, machine, mode


# podman 4.3.1 writes 0 for --pids-limit=0 and -1. The guest has the controller, whatever the host has.
@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_of_processes_before_1_3(ctr, limit):
    c = ctr.sh("(echo one | cat); (echo two | cat)")
    c.conf["ociVersion"] = "1.0.2-dev"
    c.conf["linux"]["resources"] = {"pids": {"limit": limit}}
    assert c.run().ok().out == "one\ntwo\n"


def test_update_to_no_limit_of_processes_before_1_3(ctr):
    c = ctr.idle()
    c.conf["ociVersion"] = "1.0.2"
    c.up()
    c.rt("update", "--pids-limit", "0", c.id).ok()
    c.rt("update", "--resources", "-", c.id, input=json.dumps({"pids": {"limit": 0}})).ok()
    assert c.exec("sh", "-c", "(echo one | cat)").ok().out == "one\n"
