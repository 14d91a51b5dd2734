# SPDX-License-Identifier: Apache-2.0
"""Tests --timeline: the file says where the time of a start went, step by step, with the steps of `caisson plan`."""
import json
import os
import re
import subprocess
import time
import xml.etree.ElementTree as xml

import pytest
from harness import mode
from harness.timeline import browse, check_order, check_steps, only, plan

SVG = "{http://www.w3.org/2000/svg}"
PARTIES = ["host", "init"] + (["monitor", "guest"] if mode.VM else [])


def read(path):
    with open(path) as f:
        return f.read()


def timeline(c, tmp, command="run", ending="json", **kw):
    """Starts the container, and returns what its timeline says and how long the command took, in ns."""
    path = os.path.join(tmp, f"{command}.{ending}")
    before = time.monotonic_ns()
    r = c.write().rt(command, "--timeline", path, "--bundle", c.bundle, c.id, **kw)
    took = time.monotonic_ns() - before
    r.ok()
    text = read(path)
    return (json.loads(text) if ending == "json" else text), took


def test_steps_are_those_of_the_plan(ctr, tmp):
    c = ctr("sleep", "0.3")
    t, took = timeline(c, tmp)
    spans = t["spans"]
    assert (t["command"], t["id"], t["result"], t["unit"]) == ("run", c.id, "running", "ns")
    check_steps(spans, plan(c), PARTIES)
    check_order(spans, t["total"])
    # The file ends with the start: the program's own time is not in it.
    assert 0 < t["total"] < took - 300_000_000
    assert t["begin"] > 0 and t["begin"] + t["total"] < time.monotonic_ns()
    # INIT does nothing before the host has cloned it, and the host sees "created" after INIT has said so.
    first = min(s["start"] for s in spans if s["place"] == "init")
    assert first >= only(spans, "guest" if mode.VM else "host", "clone")["start"]
    said = next(s for s in spans if s["place"] == "init" and s["step"] == "barrier" and s["what"].startswith("created"))
    seen = next(s for s in spans if s["place"] == "host" and s.get("number") == said["number"])
    assert seen["waits"] and seen["end"] >= said["start"]
    assert only(spans, "init", "wait-start")["waits"]
    assert only(spans, "init", "exec")["end"] <= only(spans, "host", "record that it runs")["start"]


@pytest.mark.skipif(mode.VM, reason="INIT is in the guest")
def test_times_are_where_the_time_goes(ctr, tmp):
    """A hook that sleeps is a long step, and the other party waits as long."""
    c = ctr("true")
    c.conf["hooks"] = {"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "0.4"]}]}
    t, _ = timeline(c, tmp)
    hook = only(t["spans"], "init", "hooks")
    assert 400_000_000 <= hook["end"] - hook["start"] < t["total"]
    waits = sum(s["end"] - s["start"] for s in t["spans"] if s["place"] == "host" and s.get("waits"))
    assert waits >= 390_000_000
    rest = sum(s["end"] - s["start"] for s in t["spans"] if s["place"] == "init" and s is not hook and not s.get("waits"))
    assert rest < 400_000_000


def test_create_ends_at_created(ctr, tmp):
    c = ctr("true")
    t, _ = timeline(c, tmp, "create", stdout=subprocess.DEVNULL)
    assert t["command"] == "create" and t["result"] == "created"
    check_order(t["spans"], t["total"])
    assert not [s for s in t["spans"] if s["step"] in ("wait-start", "exec")]
    if not mode.VM:
        done = [s["number"] for s in t["spans"] if s["place"] == "init" and "number" in s]
        assert len(done) > 20 and done == sorted(done)
    assert c.status() == "created"
    c.start()
    c.wait()


def test_exec(ctr, tmp):
    c = ctr.idle().up()
    path = os.path.join(tmp, "exec.json")
    c.rt("exec", "--timeline", path, c.id, "true").ok()
    t = json.loads(read(path))
    assert t["command"] == "exec" and t["result"] == "running"
    check_order(t["spans"], t["total"])
    done = [s["number"] for s in t["spans"] if s["place"] == "init" and "number" in s]
    assert done == sorted(done)
    names = {p: {s["step"] for s in t["spans"] if s["place"] == p} for p in ("guest", "init")}
    assert {"capabilities", "exec"} | (set() if mode.VM else {"enter", "fork"}) <= names["init"]
    assert ({"clone", "cgroup-attach"} <= names["guest"]) if mode.VM else not names["guest"]


@pytest.mark.skipif(mode.VM, reason="INIT is in the guest")
@pytest.mark.parametrize("offset", [-1, 1000000])
def test_clock_of_a_time_namespace(ctr, tmp, offset):
    """INIT's steps stay between the host's, though the monotonic clock of INIT's time namespace differs."""
    c = ctr("true")
    c.conf["linux"]["namespaces"].append({"type": "time"})
    c.conf["linux"]["timeOffsets"] = {"monotonic": {"secs": offset, "nanosecs": 0}}
    t, _ = timeline(c, tmp)
    check_order(t["spans"], t["total"])
    check_steps(t["spans"], plan(c), ["host", "init"])


@pytest.mark.skipif(mode.VM, reason="INIT is in the guest")
def test_user_namespace(ctr, tmp):
    """With id maps a stage makes INIT, and the steps of both are there."""
    c = ctr("true")
    c.conf["linux"]["namespaces"].append({"type": "user"})
    c.conf["linux"]["uidMappings"] = c.conf["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 65536}]
    t, _ = timeline(c, tmp)
    check_order(t["spans"], t["total"])
    check_steps(t["spans"], plan(c), ["host", "init"])


def test_failed_start(ctr, tmp):
    c = ctr("/no/such/program").write()
    path = os.path.join(tmp, "t.json")
    c.rt("run", "--timeline", path, "--bundle", c.bundle, c.id).failed("/no/such/program")
    t = json.loads(read(path))
    assert t["result"] == "failed" and len(t["spans"]) > 5
    check_order(t["spans"], t["total"])


@pytest.mark.parametrize("name,text", [
    ("t.png", "expected a name that ends in .svg, .json or .html"),
    ("timeline", "expected a name that ends in .svg, .json or .html"),
    ("svg", "expected a name that ends in .svg, .json or .html"),
    ("t.SVG", "expected a name that ends in .svg, .json or .html"),
    ("none/t.json", "does not exist"),
    ("directory.html", "is a directory")])
@pytest.mark.parametrize("command", ["run", "create", "exec"])
def test_bad_file(ctr, tmp, root, command, name, text):
    """A name that cannot be used is an error before anything is started."""
    os.mkdir(os.path.join(tmp, "directory.html"))
    path = os.path.join(tmp, name)
    c = ctr.idle() if command == "exec" else ctr("touch", "/started")
    if command == "exec":
        c.up()
        r = c.rt("exec", "--timeline", path, c.id, "touch", "/started")
    else:
        c.conf["root"]["readonly"] = False
        c.conf["hooks"] = {"createRuntime": [{"path": "/bin/touch", "args": ["touch", os.path.join(tmp, "hook")]}]}
        c.write()
        r = c.rt(command, "--timeline", path, "--bundle", c.bundle, c.id)
    r.failed(f"--timeline {path}", text)
    assert not os.path.exists(c.path("started")) and not os.path.exists(os.path.join(tmp, "hook"))
    assert not os.path.isfile(path)
    if command != "exec":
        c.rt("state", c.id).failed("does not exist")


def test_bad_file_of_a_bundle_that_is_removed(ctr, tmp):
    c = ctr("true").write()
    r = c.rt("run", "--remove-bundle", "--timeline", os.path.join(tmp, "t.png"), "--bundle", c.bundle, c.id)
    r.failed("--timeline", ".svg, .json or .html")
    assert not os.path.exists(c.bundle)


def test_full_disk_is_a_warning(ctr, tmp):
    """The container runs, because it is running already when the file is written."""
    os.symlink("/dev/full", os.path.join(tmp, "t.json"))
    c = ctr("echo", "runs").write()
    r = c.rt("run", "--timeline", os.path.join(tmp, "t.json"), "--bundle", c.bundle, c.id).ok()
    assert r.out == "runs\n" and "--timeline" in r.err and "No space left" in r.err


@pytest.mark.skipif(mode.VM, reason="--preserve-fds is refused")
def test_file_is_not_for_the_container(ctr, tmp):
    """Not even with --preserve-fds, which passes on numbers that the file could have got."""
    c = ctr.sh("ls -l /proc/self/fd").write()
    before = c.rt.prefix
    c.rt.prefix = ["sh", "-c", 'exec "$@" 3</dev/null', "sh", *before]
    r = c.rt("run", "--preserve-fds", "1", "--timeline", os.path.join(tmp, "t.json"), "--bundle", c.bundle, c.id).ok()
    c.rt.prefix = before
    assert "3 -> /dev/null" in r.out and "t.json" not in r.out


HOSTILE = "</title></svg><script>document.title='hacked'</script>&\x1b[31m"


def rows_of(root):
    return [g for g in root.iter(SVG + "g")]


@pytest.mark.skipif(mode.VM, reason="INIT is in the guest")
def test_svg_has_a_row_for_each_step(ctr, tmp):
    c = ctr("true", HOSTILE)
    root = xml.fromstring(timeline(c, tmp, ending="svg")[0])
    assert root.tag == SVG + "svg" and not list(root.iter(SVG + "script"))
    rows, steps = rows_of(root), plan(c)
    titles = [g.find(SVG + "title").text for g in rows]
    for n, s in enumerate(steps, 1):
        assert [t for t in titles if t.startswith(f"{n} {s['step']}")], (n, s)
    width = float(root.get("width"))
    for g in rows:
        bar = g.find(SVG + "rect")
        assert 0 < float(bar.get("x")) and float(bar.get("x")) + float(bar.get("width")) <= width
    assert [t for t in titles if "<script>" in t], "the program's arguments are not shown"


def test_page_in_a_browser(ctr, tmp):
    """Chromium draws a bar for each step in the colour of its party, each in a row of its own, with readable text."""
    c = ctr("true", HOSTILE)
    page, _ = timeline(c, tmp, ending="html")
    assert not re.search(r"(src|href)=|url\(|@import", page), "the page needs something else than itself"
    seen = browse(page, tmp)
    assert seen["title"].startswith(f"caisson run {c.id}: ") and seen["title"].endswith(" ms, running")
    assert seen["scripts"] == 1 and seen["fetched"] == 0, "only the test's own script is there"
    bars, texts = seen["bars"], seen["texts"]
    assert len(bars) >= len(plan(c))
    assert all(b["width"] >= 1 and b["height"] > 5 for b in bars)
    assert all(seen["left"] <= b["x"] and b["x"] + b["width"] <= seen["right"] for b in bars)
    ys = [b["y"] for b in bars]
    assert ys == sorted(set(ys)) and min(b - a for a, b in zip(ys, ys[1:])) >= bars[0]["height"]
    assert [b["x"] for b in bars] == sorted(b["x"] for b in bars), "the rows are in the order of their begin"
    # Each party has a colour of its own; waits are paler than work.
    assert len({b["fill"] for b in bars}) == len(PARTIES)
    assert {b["opacity"] for b in bars} == {"1", "0.25"}
    assert all(seen["left"] <= t["x"] and t["right"] <= seen["right"] for t in texts)
    labels = [t for t in texts if re.match(r"\d+ (mount|pivot|clone)", t["text"])]
    assert len(labels) > 5
    # No label reaches into the bars, which begin at the right of all labels.
    assert max(t["right"] for t in labels) < min(b["x"] for b in bars)
