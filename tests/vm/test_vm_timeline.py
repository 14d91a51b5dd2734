# SPDX-License-Identifier: Apache-2.0
"""Tests --timeline of a microVM on QEMU: host, monitor, guest and INIT are on one axis, in the file and on the page."""
import json
import os
import re

from harness.timeline import browse, check_order, check_steps, only, plan
from hypervisor import BOOT, QEMU, kernel, packaged, rt, vm  # noqa: F401 (fixtures)

PARTIES = ["host", "monitor", "guest", "init"]


def run(c, path):
    c.write()
    return c.rt("run", *QEMU, "--timeline", path, "--bundle", c.bundle, c.id, timeout=BOOT)


def of(spans, place):
    return [s for s in spans if s["place"] == place]


def test_steps_of_all_parties(vm, tmp):
    path = os.path.join(tmp, "t.json")
    c = vm("true")
    run(c, path).ok()
    with open(path) as f:
        t = json.load(f)
    spans = t["spans"]
    assert t["result"] == "running"
    check_order(spans, t["total"])
    check_steps(spans, plan(c), PARTIES)
    # What must have come before what, whichever clock has measured it.
    kernel_boots = only(spans, "guest", "the kernel boots")
    assert only(spans, "monitor", "machine")["end"] <= kernel_boots["start"] + 1
    assert kernel_boots["end"] <= min(s["start"] for s in of(spans, "guest") if "number" in s)
    assert only(spans, "guest", "clone")["end"] <= min(s["start"] for s in of(spans, "init"))
    created = next(s for s in of(spans, "init") if s["step"] == "barrier" and s["what"].startswith("created"))
    seen = next(s for s in of(spans, "host") if s.get("number") == created["number"])
    assert seen["waits"] and created["start"] < seen["end"]
    # The kernel takes most of the time, and the guest's steps are in what is left of it.
    assert t["total"] / 3 < kernel_boots["end"] - kernel_boots["start"] < t["total"]


def test_page_in_a_browser(vm, tmp):
    path = os.path.join(tmp, "t.html")
    c = vm("true")
    run(c, path).ok()
    with open(path) as f:
        page = f.read()
    assert not re.search(r"(src|href)=|url\(|@import", page), "the page needs something else than itself"
    seen = browse(page, tmp)
    bars = seen["bars"]
    assert len({b["fill"] for b in bars}) == len(PARTIES)
    assert len(bars) >= len(plan(c))
    assert all(seen["left"] <= b["x"] and b["x"] + b["width"] <= seen["right"] for b in bars)
    assert [b["x"] for b in bars] == sorted(b["x"] for b in bars), "the rows are in the order of their begin"
    parties = {t["text"] for t in seen["texts"]} & set(PARTIES)
    assert parties == set(PARTIES)


def test_failed_start(vm, tmp):
    """What the guest has done before the failure is in the file."""
    path = os.path.join(tmp, "t.json")
    c = vm("/no/such/program")
    run(c, path).failed("/no/such/program")
    with open(path) as f:
        t = json.load(f)
    assert t["result"] == "failed"
    check_order(t["spans"], t["total"])
    assert only(t["spans"], "init", "pivot") and not [s for s in t["spans"] if s["step"] == "exec"]
