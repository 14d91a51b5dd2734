# SPDX-License-Identifier: Apache-2.0
"""Adapts the suite to VM mode (CAISSON_ISOLATION=vm): it runs the tests that make a container, each in a microVM, and
treats those of vm_differences.tsv (with CAISSON_USER=1 also of user_differences.tsv) as the table says. CAISSON_VM_TESTS=some runs only those of vm_selection.txt."""
import os

import pytest
from harness import mode, user

HERE = os.path.dirname(os.path.abspath(__file__))


def why_no_kernel():
    from harness import rootfs
    if mode.tuned_kernel() or mode.packaged_kernel(rootfs.CACHE):
        return None
    return "no guest kernel: build the tuned one (images/kernel/build) or fetch Debian's (tests/lib/guest-kernel)"


def pytest_configure():
    if mode.LOG:
        with open(mode.LOG, "a"):
            os.chmod(mode.LOG, 0o666)  # an ordinary user's commands write it too


def pytest_terminal_summary(terminalreporter):
    if mode.LOG:
        terminalreporter.write_line("microVMs: %d were built, %d of them from a template" % mode.starts())


def pytest_collection_modifyitems(config, items):
    if not mode.VM:
        return
    ours = [i for i in items if str(i.path).startswith(HERE + os.sep)]
    table = mode.differences(os.path.join(HERE, "vm_differences.tsv"))
    if user.ALL:
        table = mode.differences(os.path.join(HERE, "user_differences.tsv")) + table
    lists = {"core": "vm_core.txt", "some": "vm_selection.txt"}
    chosen = lists.get(os.environ.get("CAISSON_VM_TESTS"))
    patterns = mode.selection(os.path.join(HERE, chosen)) if chosen else ["*"]
    # A test that makes no container of its own would not use a microVM.
    wanted = [i for i in ours if "ctr" in i.fixturenames and mode.selected(mode.name_of(i), patterns)]
    lacking = why_no_kernel()
    if lacking:
        for i in wanted:
            i.add_marker(pytest.mark.skip(reason=lacking))
    unused = mode.mark(ours, table)
    drop = [i for i in ours if i not in wanted]
    items[:] = [i for i in items if i not in drop]
    config.hook.pytest_deselected(items=drop)
    # A line of the tables can be called unused only if all files were collected.
    whole = all(os.path.abspath(a).rstrip("/") == HERE for a in config.args) and not config.option.keyword
    unused += [p for p in patterns if not any(mode.selected(mode.name_of(i), [p]) for i in ours)]
    if whole and unused:
        pytest.exit("vm_differences.tsv, vm_selection.txt: no such test: " + ", ".join(unused), 3)
