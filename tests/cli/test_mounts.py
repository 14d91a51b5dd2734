# SPDX-License-Identifier: Apache-2.0
"""Tests config.json's `mounts` and `root`: every kind, their options, and where destinations may lead."""
import os

import pytest
from harness import config, machine, mode


MS_SHARED, MS_SLAVE, MS_REC, MS_BIND = 1 << 20, 1 << 19, 0x4000, 4096


def mounted(text, where):
    """Returns (options, fstype, source, super options, optional fields) of the topmost mount at `where`."""
    found = None
    for l in text.splitlines():
        w = l.split()
        if len(w) > 6 and w[4] == where:
            d = w.index("-")
            found = (set(w[5].split(",")), w[d + 1], w[d + 2], set(w[d + 3].split(",")), w[6:d])
    assert found, (where, text)
    return found


def mountinfo(c):
    c.conf["process"]["args"] = ["cat", "/proc/self/mountinfo"]
    return c.run().ok().out


@pytest.fixture
def vol(tmp):
    d = os.path.join(tmp, "vol")
    os.makedirs(os.path.join(d, "sub"))
    for n in ("file", "sub/file"):
        with open(os.path.join(d, n), "w") as f:
            f.write("from the host\n")
    return d


def test_only_the_mounts_of_the_config(ctr):
    """No mount of the host is visible, and no other mount exists."""
    c = ctr()
    points = {l.split()[4] for l in mountinfo(c).splitlines()}
    allowed = {"/", "/dev/console"} | {m["destination"] for m in c.conf["mounts"]}
    allowed |= set(c.conf["linux"]["maskedPaths"] + c.conf["linux"]["readonlyPaths"])
    # Default devices may be bind mounts (in a user namespace) but never something else.
    extra = {p for p in points - allowed if not p.startswith("/dev/")}
    assert not extra


def test_mounted_in_order(ctr, vol):
    """The order of the list counts, for mounts beneath and above earlier ones."""
    c = ctr.sh("cat /mnt/inner/file; ls /mnt")
    config.add_mount(c, "/mnt", "tmpfs", "tmpfs")
    config.add_mount(c, "/mnt/inner", "bind", vol, ["rbind"])
    assert c.run().ok().out == "from the host\ninner\n"


def test_bind_directory(ctr, vol):
    c = config.add_mount(ctr.sh("cat /data/file; echo written > /data/new"), "/data", "bind", vol, ["bind"])
    assert c.run().ok().out == "from the host\n"
    assert open(os.path.join(vol, "new")).read() == "written\n"


def test_bind_file(ctr, vol):
    c = config.add_mount(ctr.sh("cat /etc/given"), "/etc/given", "bind", os.path.join(vol, "file"), ["bind", "ro"])
    assert c.run().ok().out == "from the host\n"


def test_bind_over_existing_file(ctr, vol):
    c = config.add_mount(ctr.sh("cat /etc/passwd"), "/etc/passwd", "bind", os.path.join(vol, "file"), ["bind"])
    assert c.run().ok().out == "from the host\n"


def test_bind_option_without_type(ctr, vol):
    for opts in (["bind"], ["rbind"]):
        c = ctr.sh("cat /data/file")
        c.conf["mounts"].append({"destination": "/data", "source": vol, "options": opts})
        assert c.run().ok().out == "from the host\n"


def test_bind_source_relative_to_the_bundle(ctr):
    c = ctr.sh("cat /data/x")
    os.mkdir(os.path.join(c.bundle, "rel"))
    with open(os.path.join(c.bundle, "rel", "x"), "w") as f:
        f.write("relative\n")
    config.add_mount(c, "/data", "bind", "rel", ["bind"])
    assert c.run(cwd="/").ok().out == "relative\n"


def test_bind_source_is_a_symlink_on_the_host(ctr, vol, tmp):
    os.symlink(vol, os.path.join(tmp, "link"))
    c = config.add_mount(ctr.sh("cat /data/file"), "/data", "bind", os.path.join(tmp, "link"), ["bind"])
    assert c.run().ok().out == "from the host\n"


def test_copy_symlink(ctr, vol, tmp):
    """crun's option copy-symlink, which podman uses for no-dereference, copies the link itself; anything that is no
    link is mounted."""
    os.symlink("/a/b", os.path.join(tmp, "link"))
    opts = ["rbind", "copy-symlink"]
    script = "readlink /new/dir/link; readlink /link; cat /data/file; grep -c link /proc/mounts"
    c = config.add_mount(config.add_mount(ctr.sh(script), "/new/dir/link", "bind", os.path.join(tmp, "link"), opts), "/data", "bind", vol, opts)
    os.symlink("/a/b", c.path("/link"))
    config.add_mount(c, "/link", "bind", os.path.join(tmp, "link"), opts)
    assert c.run().out == "/a/b\n/a/b\nfrom the host\n0\n"
    # What exists at the destination stays, and a directory that leads out of the root does not.
    for other in ("/etc", "file"):
        c = config.add_mount(ctr("true"), "/link", "bind", os.path.join(tmp, "link"), opts)
        if other == "file":
            open(c.path("/link"), "w").close()
        else:
            os.symlink(other, c.path("/link"))
        c.run().failed("mounts[", "destination: /link is there already", "/a/b")
    c = config.add_mount(ctr("true"), "/out/link", "bind", os.path.join(tmp, "link"), opts)
    os.symlink(tmp, c.path("/out"))
    os.unlink(os.path.join(tmp, "link"))
    c.run().failed("mounts[", "source:", "does not exist on the host")
    os.symlink("/a/b", os.path.join(tmp, "link"))
    c.run().ok()
    assert os.readlink(c.path(tmp + "/link")) == "/a/b"


def test_nofollow(ctr, vol, tmp):
    """With crun's nofollow options a link as source is bound itself, and a link as destination is mounted on."""
    os.symlink("/proc/self/cmdline", os.path.join(tmp, "link"))
    link, file = os.path.join(tmp, "link"), os.path.join(vol, "file")
    c = config.add_mount(ctr.sh("readlink /l; cat /d; cat /t"), "/l", "bind", link, ["bind", "src-nofollow"])
    config.add_mount(c, "/d", "bind", file, ["bind", "dest-nofollow"])
    os.symlink("/t", c.path("/d"))
    with open(c.path("/t"), "w") as f:
        f.write("the target\n")
    assert c.run().ok().out == "/proc/self/cmdline\nfrom the host\nthe target\n"


def test_destination_missing_in_proc(ctr, vol):
    c = config.add_mount(ctr("true"), "/proc/no/such", "bind", os.path.join(vol, "file"), ["bind"])
    c.run().failed("mounts[", "destination: /proc/no/such does not exist", "nothing can be made in a procfs")


def test_bind_source_missing(ctr):
    c = config.add_mount(ctr("true"), "/data", "bind", "/no/such/source", ["bind"])
    r = c.run()
    assert r.rc != 0 and "/no/such/source" in r.err, r


def test_bind_socket_and_fifo(ctr, vol):
    os.mkfifo(os.path.join(vol, "fifo"))
    c = config.add_mount(ctr.sh("stat -c %F /run/fifo"), "/run/fifo", "bind", os.path.join(vol, "fifo"), ["bind"])
    assert c.run().ok().out == "fifo\n"


def test_bind_is_not_recursive_unless_asked(ctr, vol):
    machine.mount("tmpfs", os.path.join(vol, "sub"), "tmpfs")
    try:
        open(os.path.join(vol, "sub", "mounted"), "w").close()
        assert "mounted" not in config.add_mount(ctr.sh("ls /d/sub"), "/d", "bind", vol, ["bind"]).run().ok().out
        assert "mounted" in config.add_mount(ctr.sh("ls /d/sub"), "/d", "bind", vol, ["rbind"]).run().ok().out
    finally:
        machine.umount(os.path.join(vol, "sub"))


def test_ro(ctr, vol):
    c = config.add_mount(ctr.sh("echo x > /d/new"), "/d", "bind", vol, ["bind", "ro"])
    r = c.run()
    assert r.rc == 1 and "Read-only file system" in r.err
    assert "ro" in mounted(mountinfo(config.add_mount(ctr(), "/d", "bind", vol, ["bind", "ro"])), "/d")[0]


@pytest.mark.parametrize("opts,inner_ro", [(["rbind", "ro"], False), (["rbind", "rro"], True)])
def test_rro_is_recursive_and_ro_is_not(ctr, vol, opts, inner_ro):
    machine.mount("tmpfs", os.path.join(vol, "sub"), "tmpfs")
    try:
        c = config.add_mount(ctr.sh("echo x > /d/new; echo y > /d/sub/new"), "/d", "bind", vol, opts)
        c.run()
        assert not os.path.exists(os.path.join(vol, "new"))
        assert os.path.exists(os.path.join(vol, "sub", "new")) == (not inner_ro)
    finally:
        machine.umount(os.path.join(vol, "sub"))


@pytest.mark.parametrize("opt,flag", [("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime"),
                                      ("nodiratime", "nodiratime"), ("relatime", "relatime"), ("nosymfollow", "nosymfollow")])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_attribute_options(ctr, vol, opt, flag, kind):
    c = config.add_mount(ctr(), "/m", kind, vol if kind == "bind" else "tmpfs", ([kind] if kind == "bind" else []) + [opt])
    assert flag in mounted(mountinfo(c), "/m")[0]


@pytest.mark.parametrize("opt,flag", [("rnosuid", "nosuid"), ("rnodev", "nodev"), ("rnoexec", "noexec"), ("rnoatime", "noatime"),
                                      ("rnodiratime", "nodiratime"), ("rnosymfollow", "nosymfollow")])
def test_recursive_attribute_options(ctr, vol, opt, flag):
    machine.mount("tmpfs", os.path.join(vol, "sub"), "tmpfs")
    try:
        info = mountinfo(config.add_mount(ctr(), "/m", "bind", vol, ["rbind", opt]))
        # A microVM has the source and its mounts as one file system.
        assert flag in mounted(info, "/m")[0] and (mode.VM or flag in mounted(info, "/m/sub")[0])
    finally:
        machine.umount(os.path.join(vol, "sub"))


def test_later_option_wins(ctr, vol):
    info = mountinfo(config.add_mount(ctr(), "/m", "bind", vol, ["bind", "nosuid", "suid", "ro", "rw", "exec", "noexec"]))
    flags = mounted(info, "/m")[0]
    assert "noexec" in flags and "nosuid" not in flags and "rw" in flags


def test_bind_keeps_the_sources_flags_that_are_not_mentioned(ctr, vol):
    """A read-only bind mount of a nosuid,nodev source must keep these flags."""
    machine.mount("tmpfs", os.path.join(vol, "sub"), "tmpfs", 2 | 4)  # MS_NOSUID | MS_NODEV
    try:
        flags = mounted(mountinfo(config.add_mount(ctr(), "/m", "bind", os.path.join(vol, "sub"), ["bind", "ro"])), "/m")[0]
        assert {"ro", "nosuid", "nodev"} <= flags
    finally:
        machine.umount(os.path.join(vol, "sub"))


def test_unknown_option_goes_to_the_file_system_and_fails(ctr):
    c = config.add_mount(ctr("true"), "/m", "tmpfs", "tmpfs", ["made_up_option=3"])
    r = c.run()
    assert r.rc != 0 and "made_up_option" in r.err, r


def test_tmpfs_data(ctr):
    c = config.add_mount(ctr.sh("stat -c %a:%u:%g /m; df -k /m | tail -1"), "/m", "tmpfs", "tmpfs",
            ["mode=1730", "uid=5", "gid=6", "size=4m"])
    out = c.run().ok().out
    assert out.startswith("1730:5:6\n") and "4096" in out


def test_tmpcopyup(ctr):
    c = ctr.sh("cat /m/file; cat /m/d/inner; readlink /m/link; stat -c %a:%u /m/file /m; touch /m/new; ls /m")
    os.makedirs(c.path("/m/d"))
    for n, t in (("file", "top\n"), ("d/inner", "inner\n")):
        with open(c.path("/m", n), "w") as f:
            f.write(t)
    os.chmod(c.path("/m/file"), 0o604)
    os.chown(c.path("/m/file"), 1000, 1000)
    os.symlink("/etc/passwd", c.path("/m/link"))
    config.add_mount(c, "/m", "tmpfs", "tmpfs", ["tmpcopyup"])
    out = c.run().ok().out
    assert out.startswith("top\ninner\n/etc/passwd\n604:1000\n")
    assert out.splitlines()[-4:] == ["d", "file", "link", "new"]
    assert not os.path.exists(c.path("/m/new")), "the copy is on the tmpfs"


def test_proc_sysfs_mqueue_devpts(ctr):
    info = mountinfo(ctr())
    assert mounted(info, "/proc")[1] == "proc"
    assert mounted(info, "/sys")[1] == "sysfs" and "ro" in mounted(info, "/sys")[0]
    assert mounted(info, "/dev/mqueue")[1] == "mqueue"
    assert mounted(info, "/dev/pts")[1] == "devpts"


def test_cgroup_mount_shows_the_containers_own(ctr):
    """The v2 hierarchy is read-only, and its root is the container's cgroup."""
    c = ctr.sh("cat /proc/self/cgroup; ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x")
    r = c.run()
    assert r.rc == 1 and "Read-only" in r.err, r
    assert "0::/\n" in r.out and "cgroup.procs" in r.out, r


def test_destination_symlink_stays_inside(ctr, vol, tmp):
    """An absolute symlink in the rootfs leads to the container's /opt and not to the host's."""
    c = ctr.sh("cat /opt/inside/file")
    victim = os.path.join(tmp, "victim")
    os.mkdir(victim)
    os.symlink(victim, c.path("/escape"))
    os.makedirs(c.path("/opt/inside"))
    os.symlink("/opt/inside", c.path("/link"))
    config.add_mount(c, "/link", "bind", vol, ["bind"])
    config.add_mount(c, "/escape/below", "bind", vol, ["bind"])
    assert c.run().ok().out == "from the host\n"
    assert os.listdir(victim) == []
    assert os.path.isdir(c.path(victim, "below")), "made beneath the rootfs"


def test_destination_dotdot_stays_inside(ctr, vol, tmp):
    c = ctr.sh("cat /caught/file")
    config.add_mount(c, "/../../../../../../caught", "bind", vol, ["bind"])
    assert c.run().ok().out == "from the host\n"


def test_destination_is_made(ctr):
    c = config.add_mount(ctr.sh("grep -q ' /a/b/c tmpfs ' /proc/mounts"), "/a/b/c", "tmpfs", "tmpfs")
    assert c.run().rc == 0


def test_destination_relative(ctr):
    """A relative destination is deprecated, but runc takes it as relative to the root."""
    c = config.add_mount(ctr.sh("grep -q ' /rel tmpfs ' /proc/mounts"), "rel", "tmpfs", "tmpfs")
    assert c.run().rc == 0


def test_destination_root_is_refused(ctr, vol):
    r = config.add_mount(ctr("true"), "/", "bind", vol, ["bind"]).run()
    assert r.rc != 0 and "mounts[7]" in r.err, r


def test_directory_over_file_is_refused(ctr, vol):
    r = config.add_mount(ctr("true"), "/etc/passwd", "bind", vol, ["bind"]).run()
    assert r.rc != 0 and "/etc/passwd" in r.err, r


def test_unknown_file_system(ctr):
    r = config.add_mount(ctr("true"), "/m", "no_such_fs", "x").run()
    assert r.rc != 0 and "no_such_fs" in r.err, r


def test_readonly_rootfs(ctr):
    c = ctr.sh("echo x > /new; echo $?; echo y > /dev/shm/ok; echo $?; mount | head -1")
    c.conf["root"]["readonly"] = True
    out = c.run().ok().out.splitlines()
    assert out[:2] == ["1", "0"]
    assert not os.path.exists(c.path("/new"))


def test_readonly_rootfs_does_not_touch_the_hosts_mount(ctr):
    c = ctr("true")
    c.conf["root"]["readonly"] = True
    c.run().ok()
    open(c.path("/still-writable"), "w").close()


def test_absolute_root_path(ctr):
    c = ctr("echo", "ok")
    c.conf["root"]["path"] = c.rootfs
    assert c.run().ok().out == "ok\n"


def test_rootfs_on_overlay(ctr, tmp):
    c = ctr.sh("echo new > /new; cat /etc/group | head -1")
    lower = os.path.join(c.bundle, "lower")
    os.rename(c.rootfs, lower)
    for d in ("rootfs", "up", "wk"):
        os.mkdir(os.path.join(c.bundle, d))
    machine.mount("overlay", c.rootfs, "overlay",
                  data=f"lowerdir={lower},upperdir={c.bundle}/up,workdir={c.bundle}/wk")
    try:
        assert c.run().ok().out == "root:x:0:\n"
        assert os.path.exists(os.path.join(c.bundle, "up", "new"))
    finally:
        machine.umount(c.rootfs)


# ---- propagation ----

@pytest.mark.parametrize("opt,field", [("private", None), ("rprivate", None), ("slave", "master"), ("rslave", "master"),
                                       ("shared", "shared"), ("rshared", "shared"), ("unbindable", "unbindable"),
                                       ("runbindable", "unbindable")])
def test_mount_propagation(ctr, vol, opt, field):
    machine.mount(vol, vol, flags=MS_BIND)
    machine.mount(None, vol, flags=MS_SHARED)
    try:
        c = config.add_mount(ctr(), "/m", "bind", vol, ["rbind", opt])
        # A bind mount can be shared with the host only if every mount above it is, which runc demands too.
        c.conf["linux"]["rootfsPropagation"] = "rshared" if "shared" in opt else "rslave"
        kinds = {f.split(":")[0] for f in mounted(mountinfo(c), "/m")[4]}
        assert (field in kinds) if field else not kinds & {"shared", "master", "unbindable"}, kinds
    finally:
        machine.umount(vol)


def test_slave_receives_mounts_from_the_host(ctr, vol):
    machine.mount(vol, vol, flags=MS_BIND)
    machine.mount(None, vol, flags=MS_SHARED)
    try:
        c = ctr.sh("while [ ! -e /m/sub/late ]; do sleep 0.02; done; echo seen")
        config.add_mount(c, "/m", "bind", vol, ["rbind", "rslave"])
        c.conf["linux"]["rootfsPropagation"] = "rslave"
        c.up()
        machine.mount("tmpfs", os.path.join(vol, "sub"), "tmpfs")
        open(os.path.join(vol, "sub", "late"), "w").close()
        c.wait()
        assert c.output() == "seen\n"
        machine.umount(os.path.join(vol, "sub"))
    finally:
        machine.umount(vol)


def test_default_propagation_leaks_nothing_to_the_host(ctr, vol, tmp):
    """Mounts made in the container's namespace must not appear on a host whose mounts are shared."""
    machine.mount(tmp, tmp, flags=MS_BIND | MS_REC)
    machine.mount(None, tmp, flags=MS_SHARED | MS_REC)
    before = machine.mounts()
    try:
        config.add_mount(ctr("true"), "/m", "tmpfs", "tmpfs").run().ok()
        assert machine.mounts().keys() == before.keys()
    finally:
        machine.umount(tmp)


@pytest.mark.parametrize("value,want", [("private", set()), ("slave", {"master"}), ("shared", {"shared"}),
                                        ("unbindable", {"unbindable"})])
def test_rootfs_propagation(ctr, value, want):
    c = ctr()
    c.conf["linux"]["rootfsPropagation"] = value
    machine.mount(c.rootfs, c.rootfs, flags=MS_BIND)
    machine.mount(None, c.rootfs, flags=MS_SHARED)
    try:
        kinds = {f.split(":")[0] for f in mounted(mountinfo(c), "/")[4]}
        assert kinds & {"shared", "unbindable"} == want & {"shared", "unbindable"}
    finally:
        machine.umount(c.rootfs)


def test_a_hundred_mounts(ctr, vol):
    c = ctr()
    for i in range(100):
        config.add_mount(c, f"/many/{i}", "bind", vol, ["rbind", "ro"])
    info = mountinfo(c)
    assert sum(l.split()[4].startswith("/many/") for l in info.splitlines()) == 100
