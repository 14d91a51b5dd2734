# SPDX-License-Identifier: Apache-2.0
"""Checks of what --timeline has written: its spans beside the plan, and its page in a browser."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import pytest


def plan(c):
    """The plan of `run`. That of `create`, which `caisson plan` prints, has the barrier "recorded" too."""
    steps = c.rt("plan", "--json", "--bundle", c.bundle, c.id).ok().json()
    return [s for s in steps if (s["step"], s.get("what")) != ("barrier", "recorded")]


def check_order(spans, total):
    """Within a party a span begins when the one before it has ended, or later, and nothing is outside of the whole."""
    last = {}
    for s in spans:
        assert last.get(s["place"], 0) <= s["start"] <= s["end"] <= total, s
        last[s["place"]] = s["end"]
    starts = [s["start"] for s in spans]
    assert starts == sorted(starts)
    host = [s for s in spans if s["place"] == "host"]
    assert host[0]["start"] == 0
    assert all(a["end"] == b["start"] for a, b in zip(host, host[1:])), "the host's spans have gaps"


def check_steps(spans, steps, places):
    """Each party did all of its steps of the plan, in order, and what else it did are waits at barriers."""
    for s in spans:
        if "number" not in s:
            continue
        step = steps[s["number"] - 1]
        assert (s["step"], s.get("field"), s.get("what")) == (step["step"], step.get("field"), step.get("what"))
        if s["place"] != step["place"]:
            assert s["step"] == "barrier" and s["waits"], s
    for place in places:
        done = [s["number"] for s in spans if s["place"] == place and "number" in s
                and steps[s["number"] - 1]["place"] == place]
        assert done == [n for n, s in enumerate(steps, 1) if s["place"] == place], place


def only(spans, place, step):
    found = [s for s in spans if s["place"] == place and s["step"] == step]
    assert len(found) == 1, (place, step, found)
    return found[0]


# What the browser says about the page: the bars and the text that it has laid out, and what it would fetch.
LOOK = """<script>
const bars = [...document.querySelectorAll("svg rect.bar")].map(b => {
  const r = b.getBoundingClientRect(), f = getComputedStyle(b);
  return {x: r.x, y: r.y, width: r.width, height: r.height, fill: f.fill, opacity: f.fillOpacity};
});
const texts = [...document.querySelectorAll("svg text")].map(t => {
  const r = t.getBoundingClientRect();
  return {text: t.textContent, x: r.x, y: r.y, right: r.right};
});
const svg = document.querySelector("svg").getBoundingClientRect();
document.body.textContent = "SEEN" + JSON.stringify({bars, texts, left: svg.left, right: svg.right,
  title: document.title, scripts: document.scripts.length,
  fetched: performance.getEntriesByType("resource").length}) + "NEES";
</script></body>"""


def browse(page, tmp):
    """Opens the page in headless Chromium, and returns what the script LOOK sees there."""
    chromium = shutil.which("chromium")
    if not chromium and not os.environ.get("CI"):
        pytest.skip("chromium is not installed (tests/run installs it)")
    assert chromium, "chromium is not installed: tests/run installs it"
    assert page.count("</body>") == 1
    path = os.path.join(tmp, "look.html")
    with open(path, "w") as f:
        f.write(page.replace("</body>", LOOK))
    # Chromium's socket would have too long a path in tmp on the test host.
    with tempfile.TemporaryDirectory(prefix="chromium.", dir="/tmp") as home:
        r = subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                            "--no-first-run", "--disable-extensions", "--disable-breakpad", f"--user-data-dir={home}/profile",
                            "--virtual-time-budget=2000", "--dump-dom", f"file://{path}"], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=180,
                           env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, "XDG_RUNTIME_DIR": home})
    seen = re.search(r"SEEN(.*)NEES", r.stdout, re.S)
    assert r.returncode == 0 and seen, r
    return json.loads(seen[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
