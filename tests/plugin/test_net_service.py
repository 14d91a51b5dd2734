# SPDX-License-Identifier: Apache-2.0
"""The unit caisson-net.service: a firewall that is reloaded or restarted flushes all rules, and those of the networks come back."""
import json
import os

import pytest
from harness.engines import read, run, wait_for

UNIT = "/run/systemd/system/caisson-net.service"


@pytest.fixture
def clean_machine():
    """Replaces the session's fixture, because systemd itself changes /run."""


def rules():
    return run("nft", "list", "ruleset", check=0).stdout


def port():
    """Returns where the published port leads, as nftables says it."""
    return next((line for line in rules().splitlines() if "tcp . 8095 : 10.87.0.2 . 80" in line), None)


@pytest.fixture
def published(binary):
    """Debian's nftables.service runs, and a namespace has a published port."""
    run("systemctl", "start", "nftables", check=0)
    run("ip", "netns", "add", "box", check=0)
    run(binary, "net", "create", "--subnet", "10.87.0.0/24", "--no-dns", "web", check=0)
    run(binary, "net", "attach", "web", "/run/netns/box", "-p", "8095:80", check=0)
    yield
    run("systemctl", "stop", "caisson-net", "nftables")
    run(binary, "net", "rm", "--force", "web", check=0)
    run("ip", "netns", "del", "box", check=0)


@pytest.fixture(scope="module")
def unit(binary):
    """All tests have the unit from the first one on that asks for it, because systemd reads its units again in many seconds."""
    text = read(os.environ["CAISSON_BUILD"], "runtime/engines/caisson-net.service")
    installed = next(line.split("=")[1].split(" ")[0] for line in text.splitlines() if line.startswith("ExecStart="))
    assert os.path.basename(installed) == "caisson"
    os.makedirs(os.path.dirname(UNIT), exist_ok=True)
    with open(UNIT, "w", encoding="utf-8") as f:
        f.write(text.replace(installed, binary))
    run("systemctl", "daemon-reload", check=0)
    yield
    os.unlink(UNIT)
    run("systemctl", "daemon-reload", check=0)


def test_without_the_unit_the_rules_are_gone(published):
    """What the unit is for."""
    assert port()
    run("systemctl", "reload", "nftables", check=0)
    assert not port() and "chain input" in rules()


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_the_rules_come_back(published, unit, binary, verb):
    run("systemctl", "start", "caisson-net", check=0)
    before = port()
    assert before
    run("systemctl", verb, "nftables", check=0)
    wait_for("the published port", port, 60)
    assert "chain input" in rules(), "those of the firewall are there too"
    assert json.loads(run(binary, "net", "inspect", "--check", "web", check=0).stdout)["faults"] == []


def test_the_rules_come_back_after_a_stop_and_a_start(published, unit, binary):
    """A stop of the firewall stops the unit with it. The start of the firewall starts the unit too, because the unit is enabled."""
    run("systemctl", "enable", "--runtime", "--now", "caisson-net", check=0)
    try:
        assert port()
        run("systemctl", "stop", "nftables", check=0)
        assert not port()
        run("systemctl", "start", "nftables", check=0)
        wait_for("the published port", port, 60)
        assert "chain input" in rules(), "those of the firewall are there too"
    finally:
        run("systemctl", "disable", "--runtime", "caisson-net", check=0)


def test_at_the_start_of_the_machine(published, unit, binary):
    """Bridges that a network's file describes are made."""
    run("ip", "link", "del", "caisson0", check=0)
    run("systemctl", "start", "caisson-net", check=0)
    assert json.loads(run("ip", "-j", "link", "show", "caisson0", check=0).stdout)
    assert run("systemctl", "is-active", "caisson-net").stdout == "active\n"
