# SPDX-License-Identifier: Apache-2.0
"""Boots a whole Debian whose first process is sysvinit and whose services OpenRC starts, with caisson's agent put in by `caisson machine
install-agent` (`tests/run openrc`; pytest does not collect this file with the others, because the boot takes 45 s of CPU time in software).
test_install_agent.py has OpenRC without a boot."""
import os
import subprocess

from harness import rootfs
from test_machine import BOOT, SSH, machines, until, with_agent  # noqa: F401

NAME = "o1"
# The agent's end closes the pipes of an exec, and a write to one of them would end rc-service.
RESTART = "exec rc-service caisson-agent restart >/run/restart 2>&1"


def test_openrc(machines, tmp):  # noqa: F811
    """OpenRC starts the agent, which runs commands and lists processes. It comes back after a kill and after a restart, and powers the machine off."""
    m, rt = machines, machines.rt
    script = os.path.join(rootfs.TESTS, "lib", "debian-disk")
    disk = with_agent(m, subprocess.run([script, "openrc"], check=True, capture_output=True, text=True).stdout.split("\n")[-2], tmp)
    m.run("--disk", disk, "--backing", "/", "-m", "512M", "-d", NAME).ok()
    inside = lambda *words, **kw: rt("exec", NAME, *words, timeout=SSH, **kw)
    until(lambda: m.agent(NAME) == "answers", BOOT)
    assert inside("readlink", "/proc/1/exe").ok().out == "/usr/sbin/init\n"
    assert inside("sh", "-c", "cat; exit 7", input="in").rc == 7
    assert "status: started" in inside("rc-service", "caisson-agent", "status").ok().out
    out = rt("ps", NAME, timeout=SSH).ok().out
    assert "supervise-daemon caisson-agent" in out and "udevd" in out, out
    agent = lambda: inside("sh", "-c", "pgrep -P $(cat /run/caisson-agent.pid)").out
    first = agent()
    inside("pkill", "-9", "-P", inside("cat", "/run/caisson-agent.pid").ok().out.strip())
    second = until(lambda: {agent()} - {first, ""}, BOOT).pop()
    rt("exec", "--detach", NAME, "sh", "-c", RESTART, timeout=SSH).ok()
    assert until(lambda: {agent()} - {first, second, ""}, BOOT)
    out = until(lambda: inside("cat", "/run/restart").out, BOOT)
    assert "Stopping caisson-agent" in out and "Starting caisson-agent" in out, out
    rt("kill", NAME).ok()
    until(lambda: m.status(NAME) == "stopped", BOOT)
    rt("delete", NAME).ok()
    assert os.listdir(m.dir) == []
