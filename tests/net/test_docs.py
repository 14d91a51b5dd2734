# SPDX-License-Identifier: Apache-2.0
"""--help and caisson-net(8) say the same, and the examples of --help run."""
import os
import re
import shlex

import pytest

from conftest import call

MAN = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "runtime/man/caisson-net.8.scd")
COMMANDS = "create ls inspect rm attach detach reload".split()


def sections():
    text = open(MAN, encoding="utf-8").read().split("\n# COMMANDS\n")[1].split("\n# ")[0]
    return {re.match(r"caisson net (\w+)", p)[1]: p for p in re.split(r"^## ", text, flags=re.M)[1:]}


def options(text):
    return re.findall(r"^  (--[a-z-]+)(?: ([^ ,]+))?(?:, (-\w))?  *\S", text, re.M)


def options_of_man(text):
    return re.findall(r"^\*(--[a-z-]+)\*(?: _(\S+)_)?(?:, \*(-\w)\*)?$", text.replace("\\", ""), re.M)


def test_commands(net):
    help_ = net("--help").ok().out
    assert re.findall(r"^  (\w+) ", help_.split("Commands:\n")[1].split("Options:\n")[0], re.M) == COMMANDS == list(sections())
    man = open(MAN, encoding="utf-8").read().split("\n# OPTIONS\n")[1].split("\n# ")[0]
    assert options(help_.split("Options:\n")[1]) == options_of_man(man) != []


@pytest.mark.parametrize("command", COMMANDS)
def test_options(net, command):
    text = net(command, "--help").ok().out
    assert options(text) == options_of_man(sections()[command]) != []
    assert sections()[command].split("\n")[0] == re.match(r"Usage: (.*)", text)[1]


def test_examples_run(net, ctr):
    """Those of --help, with a container of its name."""
    c = ctr.idle()
    c.up()
    net.namespace("box")
    for command in COMMANDS:
        for line in re.findall(r"^  caisson net (.*)", net(command, "--help").ok().out.split("Options:")[0], re.M):
            words = [c.id if w == "first" else w for w in shlex.split(line)]
            call(net.binary, "net", "--config", net.config, "--state", net.state, "--root", c.rt.root, *words).ok()
    net("rm", "--force", "web", "lab").ok()
    c.delete("--force")


def test_completion_offers_commands(net):
    script = ('compopt() { :; }; . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _caisson; printf "%s\\n" "${COMPREPLY[@]}"')
    path = os.path.join(os.path.dirname(MAN), "caisson.bash-completion")
    offered = call("bash", "-euc", script, "bash", path, net.binary, "net", "").ok().out.split()
    assert sorted(offered) == sorted(COMMANDS)
