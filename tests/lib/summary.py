#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""summary.py DIR: adds up what the suites left in DIR (JUnit XML, meson's log, plain.tsv) and prints one line."""
import collections
import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

TAP = re.compile(r"^(not )?ok\b(?:\s+\d+)?(?:\s*-\s*)?([^#]*)(#\s*(?:skip|todo)\b.*)?", re.I)


def junit(path):
    for case in ET.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        kinds = {c.tag: c for c in case}
        # An error in a fixture, such as something left on the machine, fails the test once.
        if "failure" in kinds or "error" in kinds:
            k = kinds.get("failure", kinds.get("error"))
            yield "failed", name, (k.get("message") or "").splitlines()[:1]
        elif "skipped" in kinds:
            yield "skipped", name, [kinds["skipped"].get("message") or "no reason given"]
        else:
            yield "passed", name, []


def meson(path):
    suite = os.path.basename(path)[len("meson-"):-len(".json")]
    for line in open(path):
        t = json.loads(line)
        name = f"{suite}/{t['name']}"
        bad = 0
        cases = [m for m in map(TAP.match, t.get("stdout", "").splitlines()) if m]
        # cmocka's skips carry no reason; our unit tests print "skipped: REASON", in the same order.
        reasons = [l for l in t.get("stderr", "").splitlines() if l.startswith("skipped: ")]
        for m in cases:
            what = m.group(2).strip()
            if m.group(3) and m.group(3).lower().lstrip("# ").startswith("skip"):
                yield "skipped", f"{name}: {what}", [reasons.pop(0)[9:] if reasons else m.group(3).lstrip("# ")]
            elif m.group(1):
                bad += 1
                yield "failed", f"{name}: {what}", []
            else:
                yield "passed", f"{name}: {what}", []
        if t["result"] == "SKIP" and not cases:
            yield "skipped", name, ["the test program says so (exit 77)"]
        elif t["result"] not in ("OK", "EXPECTEDFAIL", "SKIP") and not bad:
            yield "failed", name, [f"{t['result']}, exit {t.get('returncode')}: it did not report a failed case"]
        elif not cases and t["result"] == "OK":
            yield "passed", name, []


def plain(path):
    for line in open(path):
        kind, name, reason = line.rstrip("\n").split("\t", 2)
        yield kind, name, [reason] if reason else []


def main(d):
    n, skips = collections.Counter(), collections.Counter()
    rows = []
    readers = (("*.xml", junit), ("meson-*.json", meson), ("plain.tsv", plain))
    for pattern, reader in readers:
        for path in sorted(glob.glob(os.path.join(d, pattern))):
            try:
                rows += list(reader(path))
            except (ET.ParseError, ValueError, KeyError) as e:
                rows.append(("failed", os.path.basename(path), [f"unreadable results: {e}"]))
    for kind, name, why in rows:
        n[kind] += 1
        if kind == "failed":
            print(f"FAILED {name}: {' '.join(why)[:300]}")
        elif kind == "skipped":
            skips[" ".join(why)] += 1
    for why, count in sorted(skips.items()):
        print(f"skipped {count}: {why}")
    print(f"{n['passed']} passed, {n['failed']} failed, {n['skipped']} skipped")
    return 1 if n["failed"] or not n["passed"] else 0


sys.exit(main(sys.argv[1]))
