# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all pytest suites. See lib/harness and README.md."""
import os
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

from harness import config, machine, mode, rootfs, runtime, user  # noqa: E402

BINARY = None  # found before /tmp becomes private to the session
REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


# Programs that the tests start would inherit the signals that nohup(1) or a shell's background job ignores, and caisson
# leaves them ignored. exec(2) sets a signal with a handler back to its default.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if config.option.collectonly or os.geteuid() != 0:
        return
    # The suites of host/ and plugin/ have a whole machine to themselves, and need its /run.
    if any(os.path.abspath(a).startswith((REPO + "/tests/host", REPO + "/tests/plugin")) for a in config.args):
        return
    global BINARY
    BINARY = find_binary()
    machine.enter(keep=[REPO, os.path.dirname(BINARY)])
    config.option.basetemp = os.path.join(machine.WORK, "tmp")


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0 and "CAISSON_TEST_HOST" not in os.environ:
        for i in items:
            i.add_marker(pytest.mark.skip(reason="needs root: it makes mounts and namespaces"))


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(call):
    """A test that is expected to fail must leave nothing either: pytest would take what its teardown finds for the
    expected failure."""
    outcome = yield
    report = outcome.get_result()
    if call.when == "teardown" and call.excinfo and hasattr(report, "wasxfail"):
        del report.wasxfail
        report.outcome = "failed"


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    """
    What made a test run again is printed, because the summary has only the tests' names. On the test host a failure is
    printed at once too, because that machine may end before the summary.
    """
    if report.outcome == "rerun" or report.failed and "CAISSON_TEST_HOST" in os.environ:
        print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext}", flush=True)


def pytest_unconfigure(config):
    if machine.OUTER:
        machine.leave()


def find_binary():
    b = os.environ.get("CAISSON")
    if not b:
        for d in (os.environ.get("CAISSON_BUILD"), os.path.join(REPO, "build")):
            for n in ("caisson", "runtime/caisson"):
                if not b and d and os.access(os.path.join(d, n), os.X_OK):
                    b = os.path.join(d, n)
    if not b or not os.access(b, os.X_OK):
        pytest.exit("no caisson binary: build first (tests/run does) or set CAISSON=/path/to/caisson", 3)
    return os.path.realpath(b)


@pytest.fixture(scope="session")
def work():
    """The session's directory, on a tmpfs of its own. If the last test is run again, the session begins again too."""
    d = os.path.join(machine.WORK, "session")
    if os.path.exists(d):
        d += "-again"
    os.makedirs(d)
    return d


@pytest.fixture(scope="session")
def binary(work):
    b = BINARY or find_binary()
    if user.ALL:
        return user.install(b, os.environ.get("CAISSON_BUILD"), os.path.join(work, "installed"),
                            "caisson-vm" if mode.VM else "caisson")
    if not mode.VM:
        return b
    # Engines give this name to a second runtime. Under it create, run and plan make microVMs.
    name = os.path.join(work, "caisson-vm")
    os.symlink(b, name)
    return name


@pytest.fixture(scope="session")
def probe(work):
    # Compiling takes long in the test host, so a program that starts a suite there many times passes the compiled probe
    # (security/mutate).
    return os.environ.get("CAISSON_PROBE") or rootfs.build_probe(os.path.join(work, "probe"))


@pytest.fixture(scope="session")
def template(work, probe):
    """The busybox root file system that every test gets a copy of."""
    return rootfs.make_busybox(os.path.join(work, "rootfs"), probe)


@pytest.fixture(scope="session")
def debian():
    """A Debian tree with nginx and redis: read-only, for overlays."""
    return rootfs.debian()


@pytest.fixture
def tmp(tmp_path):
    """A directory that container processes with mapped ids can pass through."""
    for d in (tmp_path, *tmp_path.parents):
        if str(d).startswith(machine.WORK):
            os.chmod(d, 0o755)
    yield str(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def account(work):
    """Makes the user as whom all containers run (CAISSON_USER=1). Returns the home directory."""
    if not user.ALL:
        yield None
        return
    home = os.path.join(work, "home")
    os.mkdir(home, 0o700)
    user.own(home)
    mounted = user.mount_accounts(user.make_accounts(work), True)
    yield home
    for real in reversed(mounted):
        machine.umount(real)


@pytest.fixture
def root(tmp):
    """The test's directory for --root. It must be empty of containers at the test's end."""
    d = os.path.join(tmp, "state")
    if user.ALL:
        os.mkdir(d, 0o700)
        user.own(tmp)
    return d


@pytest.fixture(autouse=True)
def clean_machine(request):
    """After every test the machine is as it was before: mounts, cgroups, interfaces, processes, files."""
    if not machine.OUTER:
        yield None  # not in a private corner of the machine, so there is nothing to compare with
        return
    before = machine.Snapshot()
    yield before
    left = machine.leftovers(before)
    if left:
        machine.sweep(before)
    assert not left, "left on the machine:\n  " + "\n  ".join(left)


@pytest.fixture
def rt(account, binary, root, tmp, clean_machine):
    r = runtime.Runtime(binary, root)
    if user.ALL:
        r.prefix = user.prefix(root, account, user.kvm_groups())
    yield r
    left = [n for n in (os.listdir(root) if os.path.isdir(root) else []) if not n.startswith(".")
            and n not in ("seccomp", "seccomp-cache")]
    # A container of a test that failed would be in the way of the test's second try, if both give it the same name.
    for n in left:
        r("delete", "--force", n)
    assert not left, f"left in the state directory: {left}"


@pytest.fixture
def ctr(rt, template, tmp):
    """Makes containers: ctr("true"), ctr.sh("echo hi"), ctr(conf={...}). Deletes what the test left."""
    f = (user.Factory if user.ALL else runtime.Factory)(rt, template, tmp)
    yield f
    f.clean()


@pytest.fixture
def conf():
    return config.default
