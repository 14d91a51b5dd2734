# SPDX-License-Identifier: Apache-2.0
"""Fixtures that set each engine up once for the session. They run only on the test host, because they need systemd and
change /etc."""
import glob
import os
import shutil
import tempfile

import pytest
from harness import engines, mode, podman

HERE = os.path.dirname(os.path.abspath(__file__))


def pytest_configure(config):
    if os.environ.get("CAISSON_TEST_HOST") != "systemd" and not config.option.collectonly:
        pytest.exit("these suites run in the test host: tests/host/run --systemd -- python3 -m pytest tests/plugin", 4)


def pytest_collection_modifyitems(config, items):
    """Adapts podman's suites to VM mode (CAISSON_ISOLATION=vm), by the differences of vm_differences.tsv."""
    if not mode.VM:
        return
    unused = mode.mark([i for i in items if os.path.dirname(i.path) == HERE], mode.differences(os.path.join(HERE, "vm_differences.tsv")))
    # A line of the table can be called unused only if all files were collected.
    files = {os.path.abspath(a) for a in config.args}
    if unused and not config.option.keyword and files.issuperset(glob.glob(HERE + "/test_podman*.py")):
        pytest.exit("vm_differences.tsv: no such test: " + ", ".join(unused), 3)


@pytest.fixture(scope="session")
def binary():
    path = os.environ.get("CAISSON")
    if not path or not os.access(path, os.X_OK):
        pytest.exit("set CAISSON to the caisson to test (tests/run does)", 3)
    return os.path.realpath(path)


def directory():
    d = tempfile.mkdtemp(prefix="engines.")
    os.chmod(d, 0o755)
    return d


@pytest.fixture(scope="session")
def work():
    return directory()


@pytest.fixture
def tmp():
    """A directory that the engines' containers and users can pass through."""
    d = directory()
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="session")
def podman_host(binary, work):
    """Installs caisson for podman and a busybox image "box" for root. Returns the image's tar."""
    build = os.environ.get("CAISSON_BUILD") or os.path.dirname(os.path.dirname(binary))
    podman.install(binary, build)
    tar = podman.make_image(work)
    podman.Podman()("import", "-q", tar, "box")
    return tar


@pytest.fixture(scope="session")
def podman_user(podman_host):
    """Starts the user's systemd and loads the image. Returns the cgroup in which the user's commands start."""
    cgroup = podman.user_session()
    podman.Podman(podman.USER, cgroup=cgroup)("import", "-q", podman_host, "box")
    return cgroup


@pytest.fixture(scope="session")
def root_podman(podman_host):
    p = podman.Podman()
    yield p
    p.service.stop()


@pytest.fixture(scope="session")
def user_podman(podman_user):
    p = podman.Podman(podman.USER, cgroup=podman_user)
    yield p
    p.service.stop()


@pytest.fixture(scope="session")
def image_file(tmp_path_factory):
    """A docker-archive of the image "box", for containerd and docker."""
    return engines.write_image(str(tmp_path_factory.mktemp("image") / "box.tar"))


@pytest.fixture(scope="session")
def containerd(tmp_path_factory):
    """A containerd with a state of this session's. docker uses it too, which saves the start of another one."""
    daemon = engines.start_containerd(str(tmp_path_factory.mktemp("containerd")))
    yield daemon
    daemon.stop()
