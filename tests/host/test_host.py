# SPDX-License-Identifier: Apache-2.0
"""Tests the properties of the test host on which the other suites rely."""

import fcntl
import os
import subprocess

MODE = os.environ["CAISSON_TEST_HOST"]
CONTROLLERS = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_pure_cgroup_v2_with_every_controller():
    assert set(read("/sys/fs/cgroup/cgroup.controllers").split()) == CONTROLLERS
    kinds = {line.split(" - ")[1].split()[0] for line in read("/proc/self/mountinfo").splitlines()}
    assert "cgroup2" in kinds and "cgroup" not in kinds


def test_controllers_are_enabled_for_children():
    enabled = set(read("/sys/fs/cgroup/cgroup.subtree_control").split())
    assert enabled == CONTROLLERS if MODE == "plain" else enabled >= {"memory", "pids"}


def test_kvm_takes_a_machine():
    kvm = os.open("/dev/kvm", os.O_RDWR)
    assert fcntl.ioctl(kvm, KVM_GET_API_VERSION, 0) == 12
    os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    os.close(kvm)


def test_only_loopback_and_it_is_up():
    assert os.listdir("/sys/class/net") == ["lo"]
    assert int(read("/sys/class/net/lo/flags"), 16) & 1


def test_modules_come_on_demand():
    run("ip", "link", "add", "th0", "type", "dummy")
    run("ip", "link", "add", "th1", "type", "veth", "peer", "name", "th2")
    run("ip", "link", "add", "th3", "type", "bridge")
    for name in ("th0", "th1", "th3"):
        run("ip", "link", "del", name)


def test_overlay_stands_on_the_scratch_disk(tmp_path):
    assert str(tmp_path).startswith("/scratch/")
    for d in ("lower", "upper", "work", "merged"):
        (tmp_path / d).mkdir()
    (tmp_path / "lower" / "f").write_text("below")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    run("mount", "-t", "overlay", "-o", options, "overlay", f"{tmp_path}/merged")
    (tmp_path / "merged" / "f").write_text("above")
    run("umount", f"{tmp_path}/merged")
    assert (tmp_path / "upper" / "f").read_text() == "above"


def test_engine_stores_are_on_a_disk():
    for store in ("containers", "docker", "containerd"):
        assert os.stat(f"/var/lib/{store}").st_dev == os.stat("/scratch").st_dev


def test_a_user_namespace_without_root():
    out = run("setpriv", "--reuid", "2000", "--regid", "2000", "--clear-groups", "unshare", "-Ur", "id", "-u")
    assert out.strip() == "0"


def test_output_directory_is_shared():
    with open(os.path.join(os.environ["CAISSON_OUT"], "test_host.txt"), "w", encoding="utf-8") as f:
        f.write(MODE)
    kinds = {line.split()[4]: line.split(" - ")[1].split()[0] for line in read("/proc/self/mountinfo").splitlines()}
    assert kinds[os.environ["CAISSON_OUT"]] == "9p"


def test_process_1():
    assert read("/proc/1/comm").strip() == ("systemd" if MODE == "systemd" else "busybox")
    if MODE == "systemd":
        assert run("systemctl", "is-system-running").strip() == "running"
        assert "org.freedesktop.login1" in run("busctl", "list")
