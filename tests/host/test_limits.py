# SPDX-License-Identifier: Apache-2.0
"""Tests the command line on a host where cgroup v2 has every controller: all of linux.resources, `update` and
`events`, checked in the kernel's files, and an ordinary user in a cgroup that was delegated to the user.
test_cgroup_effects.c tests what a limit does to a program.
"""
import json
import os
import shutil
import subprocess

import pytest
from harness import config, runtime, user
from harness.runtime import wait_for

CGROUPS = "/sys/fs/cgroup"
MIB = 1 << 20
USER = 2000  # the user `tester`, and its ranges in /etc/subuid
SUBIDS = 200000
# The cpu.weight of an idle cgroup reads as 0 up to Linux 6.11, and as 1 since Linux 6.12.
IDLE_WEIGHT = "0" if tuple(int(n) for n in os.uname().release.split(".")[:2]) < (6, 12) else "1"


@pytest.fixture(scope="module")
def devices():
    """An RDMA device, and a block device beside the disk: "MAJOR:MINOR" of both disks. The devices stay, because Linux
    6.1 crashes if an RDMA device is removed for which an already removed cgroup had limits."""
    subprocess.run(["modprobe", "-a", "brd", "ib_uverbs", "rdma_rxe"], check=True)
    if not os.path.exists("/sys/class/infiniband/rxe0"):
        subprocess.run(["rdma", "link", "add", "rxe0", "type", "rxe", "netdev", "lo"], check=True)
    return tuple(read("/sys/block", name, "dev") for name in ("vda", "ram0"))


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read().strip()


def files(c, names):
    """Returns the contents of these files of the container's cgroup. Lines may have any order."""
    return {n: set(read(CGROUPS, c.conf["linux"]["cgroupsPath"].lstrip("/"), n).splitlines()) for n in names}


def lines(**want):
    return {n.replace("__", "."): {v} if isinstance(v, str) else set(v) for n, v in want.items()}


def on(device, **rest):
    major, minor = map(int, device.split(":"))
    return [{"major": major, "minor": minor, **rest}]


def limits(disk, other):
    return {
        "memory": {"limit": 96 * MIB, "swap": 160 * MIB, "reservation": 32 * MIB, "checkBeforeUpdate": True},
        "cpu": {"shares": 2048, "quota": 60000, "period": 120000, "burst": 20000, "idle": 1, "cpus": "0", "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 500, "weightDevice": on(disk, weight=300), "throttleReadBpsDevice": on(disk, rate=4 * MIB),
                    "throttleWriteBpsDevice": on(disk, rate=5 * MIB), "throttleReadIOPSDevice": on(disk, rate=600),
                    "throttleWriteIOPSDevice": on(disk, rate=700)},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "rdma": {"rxe0": {"hcaHandles": 3, "hcaObjects": 5}},
        "unified": {"memory.high": str(64 * MIB), "io.max": f"{disk} riops=300\n{other} wbps={3 * MIB}\n"},
    }


def test_every_limit_and_every_flag_of_update(ctr, devices):
    disk, other = devices
    c = ctr.idle()
    c.conf["linux"].update(cgroupsPath="/limits-test/box", resources=limits(disk, other))
    c.up()
    want = lines(
        memory__max=str(96 * MIB), memory__swap__max=str(64 * MIB), memory__low=str(32 * MIB), memory__high=str(64 * MIB),
        cpu__weight=IDLE_WEIGHT, cpu__idle="1", cpu__max="60000 120000", cpu__max__burst="20000", cpuset__cpus="0", cpuset__mems="0",
        pids__max="50", io__bfq__weight=["default 500", f"{disk} 300"],
        io__max=[f"{disk} rbps={4 * MIB} wbps={5 * MIB} riops=300 wiops=700", f"{other} rbps=max wbps={3 * MIB} riops=max wiops=max"],
        hugetlb__2MB__max=str(4 * MIB), hugetlb__2MB__rsvd__max=str(4 * MIB), rdma__max="rxe0 hca_handle=3 hca_object=5")
    assert files(c, want) == want
    c.rt("update", "--blkio-weight", "250", "--cpu-period", "100000", "--cpu-quota", "50000", "--cpu-burst", "10000",
         "--cpu-share", "512", "--cpu-idle", "0", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--memory", "80m",
         "--memory-reservation", "16m", "--memory-swap", "120m", "--kernel-memory", "1m", "--kernel-memory-tcp", "1m",
         "--pids-limit", "33", c.id).ok()
    want.update(lines(
        memory__max=str(80 * MIB), memory__swap__max=str(40 * MIB), memory__low=str(16 * MIB), cpu__weight="59", cpu__idle="0",
        cpu__max="50000 100000", cpu__max__burst="10000", pids__max="33",
        io__bfq__weight="default 250"))  # in the kernel, setting a weight for all removes those of devices
    assert files(c, want) == want
    more = {"memory": {"swap": -1}, "pids": {"limit": -1}, "rdma": {"rxe0": {"hcaHandles": 7}}, "unified": {"memory.high": "max"},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}], "blockIO": {"throttleReadBpsDevice": on(disk, rate=0)}}
    c.rt("update", "--resources", "-", c.id, input=json.dumps(more)).ok()
    want.update(lines(
        memory__swap__max="max", pids__max="max", rdma__max="rxe0 hca_handle=7 hca_object=5", memory__high="max",
        hugetlb__2MB__max=str(2 * MIB), hugetlb__2MB__rsvd__max=str(2 * MIB),
        io__max=[f"{disk} rbps=max wbps={5 * MIB} riops=300 wiops=700", f"{other} rbps=max wbps={3 * MIB} riops=max wiops=max"]))
    assert files(c, want) == want
    less = {"memory": {"limit": 4096, "checkBeforeUpdate": True}}
    c.rt("update", "--resources", "-", c.id, input=json.dumps(less)).failed("linux.resources.memory.limit", "checkBeforeUpdate")
    c.rt("update", "--cpus", "1.5", "--resources", "-", c.id, input=json.dumps({"cpu": {"quota": 1000}})).ok()  # --cpus overrides
    want.update(lines(cpu__max="150000 100000"))
    assert files(c, want) == want
    c.rt("update", "--cpu-rt-runtime", "1000", c.id).failed("cpu.realtimeRuntime", "cgroup v2")
    c.rt("update", "--cpu-rt-period", "1000", c.id).failed("cpu.realtimePeriod", "cgroup v2")
    assert files(c, want) == want
    # The last setting is refused, so all files are again as they were, also those with a line for each device.
    c.rt("update", "--resources", "-", c.id, input=json.dumps({"blockIO": {"weightDevice": on(disk, weight=700)}})).ok()
    want.update(lines(io__bfq__weight=["default 250", f"{disk} 700"]))
    other_limits = {
        **limits(disk, other), "pids": {"limit": 9}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "memory": {"limit": 90 * MIB, "swap": 99 * MIB, "reservation": 3 * MIB},
        "unified": {"memory.high": "1000000", "io.max": f"{other} wbps=5", "pids.nothing": "1"}}
    c.rt("update", "--resources", "-", c.id, input=json.dumps(other_limits)).failed('unified["pids.nothing"]')
    assert files(c, want) == want
    c.stop()
    assert not os.path.exists(CGROUPS + "/limits-test")


@pytest.mark.parametrize("resources", [{"pids": {"limit": 0}}, {"unified": {"pids.max": "0"}}], ids=["limit", "unified"])
def test_no_process_but_the_first(ctr, resources):
    c = ctr.sh("read limit </sys/fs/cgroup/pids.max; echo $limit; ls /; echo not reached")
    c.conf["linux"]["resources"] = resources
    r = c.run()
    assert r.out == "1\n" and "can't fork" in r.err and r.rc != 0, r


def test_zero_processes_are_no_limit_before_1_3(ctr):
    c = ctr.sh("read limit </sys/fs/cgroup/pids.max; echo $limit; ls / | head -n 1")
    c.conf["ociVersion"] = "1.0.2-dev"
    c.conf["linux"]["resources"] = {"pids": {"limit": 0}}
    r = c.run().ok()
    assert r.out.splitlines()[0] == "max" and len(r.out.splitlines()) == 2, r


def test_events_tell_of_memory_that_ran_out(ctr):
    c = ctr.sh("until test -e /go; do sleep 0.1; done; tail /dev/zero; sleep 1000")
    c.conf["linux"]["resources"] = {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
    c.up()
    log = os.path.join(c.bundle, "events")
    with open(log, "wb") as f:
        p = c.rt.popen("events", "--interval", "1s", c.id, stdout=f)

    def events():
        with open(log, encoding="utf-8") as f:
            return [json.loads(line) for line in f.read().splitlines()]
    wait_for(events, "the first statistics")
    assert not [e for e in events() if e["type"] == "oom"]
    with open(c.path("/go"), "w", encoding="ascii"):
        pass
    wait_for(lambda: [e for e in events() if e["type"] == "oom"], "the event", 30)
    assert [e["id"] for e in events() if e["type"] == "oom"] == [c.id]
    c.stop()
    assert p.wait(10) == 0


def test_exec_if_the_containers_cgroup_takes_no_process(ctr):
    """exec joins the cgroup of the container's first process if the container has shared out its own, as a systemd in it does."""
    top = "/sys/fs/cgroup"
    c = ctr.sh(f"mkdir {top}/sub && echo $$ >{top}/sub/cgroup.procs; until test -e /go; do sleep 0.1; done; "
               f"echo +pids >{top}/cgroup.subtree_control && echo shared out; sleep 1000")
    config.writable_cgroup(c.conf)
    c.up()
    assert c.exec("tail", "-n1", "/proc/self/cgroup").ok().out == "0::/\n"
    with open(c.path("/go"), "w", encoding="ascii"):
        pass
    c.wait_output("shared out")
    assert c.exec("tail", "-n1", "/proc/self/cgroup").ok().out == "0::/sub\n"
    c.stop()


def shape(theirs, ours, where="data"):
    """Lists where `ours` lacks a key of `theirs`, or has another type there."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            return [f"{where}: {ours!r} for an object"]
        return sum((shape(v, ours[k], f"{where}.{k}") if k in ours else [f"{where}.{k}: not there"] for k, v in theirs.items()), [])
    if isinstance(theirs, list) and isinstance(ours, list):
        return shape(theirs[0], ours[0], where + "[0]") if theirs and ours else [f"{where}: empty"] if theirs else []
    numbers = int, float
    same = isinstance(theirs, numbers) and isinstance(ours, numbers) if isinstance(theirs, numbers) else type(theirs) is type(ours)
    return [] if same else [f"{where}: {ours!r} for {theirs!r}"]


def test_statistics_have_the_shape_of_runc(ctr, tmp):
    """`events --stats` has each key that Debian's runc writes, with its type, for the same container."""
    script = "dd if=/dev/zero of=/file bs=64k count=4 conv=fsync 2>/dev/null; echo done; exec sleep 1000"
    stats = []
    for rt in None, runtime.Runtime(shutil.which("runc"), os.path.join(tmp, "runc")):
        c = ctr.sh(script, rt=rt)
        c.conf["ociVersion"] = "1.0.2"
        c.conf["linux"].update(cgroupsPath=f"/stats-{len(stats)}", resources={
            "memory": {"limit": 64 * MIB}, "pids": {"limit": 20}, "cpu": {"quota": 50000, "period": 100000}})
        c.up()
        c.wait_output("done")
        stats.append(c.rt("events", "--stats", c.id).json())
        c.stop()
    ours, theirs = stats
    assert theirs["data"]["blkio"].get("ioServiceBytesRecursive") and theirs["data"]["memory"]["raw"], theirs
    assert theirs.keys() <= ours.keys()
    assert shape(theirs["data"], ours["data"]) == []


@pytest.fixture
def delegated():
    """A cgroup that belongs to the user, and one in it for the user's processes."""
    path = CGROUPS + "/delegated"
    os.makedirs(path + "/shell")
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "shell", "shell/cgroup.procs"):
        os.chown(os.path.join(path, name), USER, USER)
    yield path
    os.rmdir(path + "/shell")
    os.rmdir(path)


def test_rootless_limits_in_a_delegated_cgroup(delegated, ctr, binary, tmp):
    home = os.path.join(tmp, "home")
    os.mkdir(home)
    program = user.install(binary, os.environ.get("CAISSON_BUILD"), os.path.join(tmp, "installed"))
    rt = runtime.Runtime(program, os.path.join(home, "state"))
    rt.prefix = ["sh", "-c", f'echo $$ >{delegated}/shell/cgroup.procs; exec "$@"', "sh", "setpriv", f"--reuid={USER}", f"--regid={USER}",
                 "--clear-groups", "--inh-caps=-all", "env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}"]
    c = ctr.sh("exec 2>&1; until test -e /go; do sleep 0.1; done; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done", rt=rt)
    linux = c.conf["linux"]
    linux["namespaces"] += [{"type": "user"}]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1},
                                                   {"containerID": 1, "hostID": SUBIDS, "size": 65536}]
    linux["resources"] = {"memory": {"limit": 48 * MIB}, "cpu": {"shares": 512, "quota": 50000}, "pids": {"limit": 8}}
    for d, dirs, names in os.walk(c.bundle):
        for n in [".", *dirs, *names]:
            os.chown(os.path.join(d, n), USER, USER, follow_symlinks=False)
    os.chown(home, USER, USER)
    c.up()
    own = f"{delegated}/caisson-{c.id}"
    assert [read(own, n) for n in ("memory.max", "cpu.weight", "cpu.max", "pids.max")] == [str(48 * MIB), "59", "50000 100000", "8"]
    c.rt("update", "--memory", "40m", "--pids-limit", "6", c.id).ok()
    assert [read(own, n) for n in ("memory.max", "pids.max")] == [str(40 * MIB), "6"]
    assert c.rt("events", "--stats", c.id).json()["data"]["pids"]["limit"] == 6
    with open(c.path("/go"), "w", encoding="ascii"):
        pass
    c.wait_output("can't fork")
    c.wait()
    c.delete()
    assert not os.path.exists(own)


def test_bounds_are_named(ctr):
    """The error about a limit out of range names its bounds, where the kernel would only say EINVAL."""
    c = ctr("true")
    c.conf["linux"]["resources"] = {"cpu": {"quota": 500}}
    c.run().failed("linux.resources.cpu.quota: expected a quota of 1000 us or more")
    c.conf["linux"]["resources"] = {"cpu": {"cpus": "9000"}}
    c.run().failed("linux.resources.cpu.cpus: expected a list of this machine's CPUs, 0", 'found "9000"')


def test_out_of_memory_while_it_is_made(ctr):
    c = ctr("true")
    c.conf["linux"]["resources"] = {"memory": {"limit": 4096}}
    r = c.run()
    assert r.rc != 0 and "signal 9" not in r.err and "memory" in r.err, r


def test_update_below_what_is_in_use(ctr):
    c = ctr.idle()
    c.conf["linux"]["resources"] = {"memory": {"limit": 64 * MIB}}
    c.up()
    r = c.rt("update", "--memory", "1k", c.id)
    assert "linux.resources.memory.limit: 1024 is below the" in r.err, r
