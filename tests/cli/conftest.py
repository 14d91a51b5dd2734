# SPDX-License-Identifier: Apache-2.0
"""
The suite in VM mode (CAISSON_ISOLATION=vm): the tests that make a container, each in a microVM, but for the
differences of vm_differences.tsv. CAISSON_VM_TESTS=some takes those of vm_selection.txt only.
"""
import os

import pytest
from harness import mode

HERE = os.path.dirname(os.path.abspath(__file__))


def name_of(item):
    """test_exec.py::test_user[1-1-0]"""
    return os.path.basename(item.path) + "::" + item.name


def why_no_kernel():
    from harness import rootfs
    if mode.tuned_kernel() or mode.packaged_kernel(rootfs.CACHE):
        return None
    return "no guest kernel: build the tuned one (images/kernel/build) or fetch Debian's (tests/lib/guest-kernel)"


def pytest_collection_modifyitems(config, items):
    if not mode.VM:
        return
    ours = [i for i in items if str(i.path).startswith(HERE + os.sep)]
    table = mode.differences(os.path.join(HERE, "vm_differences.tsv"))
    lists = {"core": "vm_core.txt", "some": "vm_selection.txt"}
    chosen = lists.get(os.environ.get("CAISSON_VM_TESTS"))
    patterns = mode.selection(os.path.join(HERE, chosen)) if chosen else ["*"]
    keep, drop = [i for i in items if i not in ours], []
    lacking = why_no_kernel()
    for i in ours:
        # Without a container of the test's own there is nothing that a microVM could change.
        wanted = "ctr" in i.fixturenames and mode.selected(name_of(i), patterns)
        (keep if wanted else drop).append(i)
        d = next((d for d in table if d.fits(name_of(i))), None)
        if d:
            d.used = True
        if not wanted:
            continue
        if lacking:
            i.add_marker(pytest.mark.skip(reason=lacking))
        elif d and d.how == "skip":
            i.add_marker(pytest.mark.skip(reason=str(d)))
        elif d:
            i.add_marker(pytest.mark.xfail(strict=True, reason=str(d)))
    items[:] = keep
    config.hook.pytest_deselected(items=drop)
    # Only where the files were collected whole can a line be told to fit none of their tests.
    whole = all(os.path.abspath(a).rstrip("/") == HERE for a in config.args) and not config.option.keyword
    unused = [d.pattern for d in table if not d.used]
    unused += [p for p in patterns if not any(mode.selected(name_of(i), [p]) for i in ours)]
    if whole and unused:
        pytest.exit("vm_differences.tsv, vm_selection.txt: no such test: " + ", ".join(unused), 3)
