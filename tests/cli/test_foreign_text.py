# SPDX-License-Identifier: Apache-2.0
"""Tests that text from images, hooks and configurations reaches terminals and logs only as text: without control
characters, and not as a line of its own."""
import json
import os
import re

import pytest
from harness import mode

# The text has ESC [ and its one-character form U+009B, which clear the screen, then a line that only caisson may write,
# and the end of a quotation.
EVIL = "\x1b[2J\u009b2J\ncaisson: forged\rtime=\"x\" level=error msg=\"forged\"\u202e\\"


def harmless(text):
    bad = [c for c in text if c != "\n" and (ord(c) < 32 or 0x7f <= ord(c) < 0xa0 or ord(c) in (0x202e, 0xfffd))]
    assert not bad, (bad, text)


def check(r, log):
    harmless(r.err)
    harmless(r.out)
    assert not [l for l in r.err.splitlines() if l.startswith("caisson: forged")], r
    with open(log, encoding="utf-8", errors="replace") as f:
        said = f.read()
    harmless(said)
    for l in said.splitlines():
        if l.startswith("{"):
            harmless(json.loads(l)["msg"])
        else:  # logrus and its parsers use a quoted string as Go writes it
            assert re.fullmatch(r'time="[^"]*" level=(error|warning|debug|info) msg="(\\.|[^"\\])*"', l), l
    return said


@pytest.fixture(params=["text", "json"])
def log(request, rt, tmp):
    path = os.path.join(tmp, "the.log")
    rt.options = ["--log", path, "--log-format", request.param, "--debug"]
    return path


def test_name_in_an_image(ctr, log):
    """The error about a file that tmpcopyup cannot copy has the file's name, without control characters."""
    c = ctr("true")
    os.makedirs(c.path("data", EVIL))
    c.conf["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=4k"]})
    with open(c.path("data", EVIL, "file"), "wb") as f:
        f.write(b"x" * 100000)
    r = c.run()
    assert r.rc != 0 and "tmpcopyup" in r.err, r
    assert "forged" in check(r, log)


def test_program_and_directory(ctr, log):
    for process in ({"args": ["/bin/" + EVIL]}, {"cwd": "/etc/passwd/" + EVIL}):
        c = ctr("true", **process)
        r = c.run()
        assert r.rc != 0 and "forged" in r.err, r
        assert "forged" in check(r, log)


@pytest.mark.parametrize("rc", [0, 1])
def test_output_of_a_hook(ctr, log, rc):
    c = ctr("true")
    hook = os.path.join(c.bundle, "hook")
    with open(hook, "w") as f:
        f.write(f"#!/bin/sh\ncat '{hook}.txt'; exit {rc}\n")
    with open(hook + ".txt", "wb") as f:
        f.write(EVIL.encode() + b"\xff\x9b")
    os.chmod(hook, 0o755)
    c.conf["hooks"] = {"createRuntime": [{"path": hook}]}
    r = c.run()
    assert (r.rc != 0) == bool(rc), r
    assert "forged" in check(r, log)


def test_bundle_in_a_list(ctr, rt, tmp):
    c = ctr.idle()
    evil = os.path.join(tmp, EVIL.replace("/", ""))
    os.rename(c.bundle, evil)
    c.bundle, c.rootfs, c.log = evil, os.path.join(evil, "rootfs"), os.path.join(evil, "output")
    c.up()
    r = rt("list").ok()
    harmless(r.out)
    assert len(r.out.splitlines()) == 2, r
    assert [x["bundle"] for x in rt("list", "--format", "json").json()] == [evil]


def test_plan(ctr):
    c = ctr("true")
    c.conf["linux"]["maskedPaths"] = ["/" + EVIL]
    c.write()
    r = c.rt("plan", "--bundle", c.bundle).ok()
    harmless(r.out)
    assert not [l for l in r.out.splitlines() if l.startswith("caisson: forged")], r


def test_processes(ctr):
    c = ctr("sh", "-c", "while :; do sleep 0.05; done", EVIL).up()
    r = c.rt("ps", c.id).ok()
    harmless(r.out)
    assert (not mode.VM or "forged" in r.out) and not [l for l in r.out.splitlines() if l.startswith("caisson: forged")], r
