# SPDX-License-Identifier: Apache-2.0
"""`caisson volume`, and `caisson run --image -v NAME:PATH`: what is in a volume, who uses it, and what a kill leaves."""
import json
import os

import pytest

from harness.oci import entry, tar
from harness.runtime import Runtime, wait_for
from test_run import CONFIG, box, volumes  # noqa: F401


@pytest.fixture
def volume(rt, images):
    def call(command, *args, **kw):
        return rt("volume", command, "--store", images.store, *args, **kw)
    return call


def content(box, name):
    return os.path.join(box.images.store, "volumes", name, "data")


def test_commands(box, volume):
    assert volume("create", "--label", "a=1", "--label", "b", "data").ok().out == "data\n"
    volume("create", "data").failed('there is a volume "data" already')
    assert volume("ls", "-q").ok().out == "data\n"
    table = volume("ls").ok().out.splitlines()
    assert table[0].split() == ["NAME", "CREATED", "CONTAINER"] and table[1].split()[0::2] == ["data", "-"]
    one, = json.loads(volume("inspect", "data").ok().out)
    assert one["labels"] == {"a": "1", "b": ""} and one["mountpoint"] == content(box, "data") and "container" not in one
    assert json.loads(volume("ls", "--json").ok().out) == [one]
    volume("rm", "data").ok()
    assert json.loads(volume("ls", "--json").ok().out) == []
    volume("rm", "data").failed('there is no volume "data"')
    volume("rm", "-f", "data").ok()
    volume("inspect", "data").failed('there is no volume "data"')
    assert os.listdir(os.path.join(box.images.store, "volumes")) == [".lock"]


@pytest.mark.parametrize("name", ["", "_x", ".x", "-x", "a/b", "..", "a b", "é", "x" * 128, "lock/../x"])
def test_names_that_cannot_be(volume, box, name):
    volume("create", "--", name).failed("the volume's name")
    volume("rm", "--", name).failed("the volume's name")
    if not name or name[0] not in ".-" and "/" not in name:
        box.sh("true", "-v", f"{name}:/x").failed("the volume's name")
    assert set(os.listdir(os.path.join(box.images.store, "volumes"))) <= {".lock"}


def test_a_label_that_is_given_twice(volume, box):
    """The last one holds, as in docker. With both, no command could read the volume any more."""
    volume("create", "--label", "a=1", "--label", "ab=2", "--label", "a", "--label", "a=3", "v").ok()
    assert volume("inspect", "v").json()[0]["labels"] == {"ab": "2", "a": "3"}
    assert "v" in volume("ls").ok().out
    volume("rm", "v").ok()


def test_a_label_without_a_key(volume, box):
    volume("create", "--label", "=1", "v").failed("expected KEY=VALUE")
    assert os.listdir(os.path.join(box.images.store, "volumes")) == [".lock"]


def test_a_volume_outlives_its_containers(box, volume):
    box.sh("echo 1 > /x/f; chown 5:6 /x/f", "-v", "data:/x").ok()
    assert box.sh("cat /y/f; stat -c %u:%g /y/f", "-v", "data:/y:ro").ok().out == "1\n5:6\n"
    assert "Read-only" in box.sh("touch /y/g", "-v", "data:/y:ro").err
    assert box.sh("cat /z/f", "--mount", "type=volume,source=data,target=/z").ok().out == "1\n"
    with open(os.path.join(content(box, "data"), "f"), encoding="ascii") as f:
        assert f.read() == "1\n"


def test_a_new_volume_begins_with_what_the_image_has(box, volume, volumes):
    assert volumes("--rm", "-u", "0", "-v", "a:/data", "ls", "/data").ok().out.split() == ["f", "l", "sub"]
    volumes("--rm", "-u", "0", "-v", "a:/data", "sh", "-c", "rm -r /data/*; touch /data/mine").ok()
    assert volumes("--rm", "-v", "a:/data", "ls", "/data").ok().out == "mine\n"
    # One that was made before is filled by its first user, but not if that user says no, and not with a place that the image has not.
    volume("create", "b").ok()
    assert volumes("--rm", "-u", "0", "-v", "b:/data:nocopy", "ls", "/data").ok().out == ""
    assert volumes("--rm", "-u", "0", "--mount", "type=volume,src=b,dst=/data,volume-nocopy", "ls", "/data").ok().out == ""
    assert volumes("--rm", "-u", "0", "-v", "b:/nowhere", "ls", "/nowhere").ok().out == ""
    assert volumes("--rm", "-u", "0", "-v", "b:/data", "ls", "/data").ok().out.split() == ["f", "l", "sub"]
    same = [os.stat(content(box, n)).st_mode for n in "ab"]
    assert same[0] == same[1]


def test_the_rest_of_a_fill_that_was_killed_is_not_used(box, volume, volumes):
    volume("create", "a").ok()
    new = os.path.join(box.images.store, "volumes", "a", "new")
    os.makedirs(new + "/half")
    assert volumes("--rm", "-u", "0", "-v", "a:/data", "ls", "/data").ok().out.split() == ["f", "l", "sub"]
    assert sorted(os.listdir(os.path.dirname(new))) == ["data", "volume.json"]


def test_a_volume_in_use_stays(box, volume):
    box("-d", "-v", "data:/x", "-v", "more:/y", "sh", "-c", "sleep 1000", name="b1").ok()
    volume("rm", "data").failed('the volume "data" is mounted in the container "b1"', "caisson rm b1")
    assert volume("ls").ok().out.splitlines()[1].split()[2] == "b1"
    assert json.loads(volume("inspect", "more").ok().out)[0]["container"] == "b1"
    box.rt("rm", "-f", "b1").ok()
    volume("rm", "data", "more").ok()
    assert volume("ls", "-q").ok().out == ""


def test_attached_to_a_container_that_runs(box, volume):
    """A volume is mounted into a running container, counts as used, and is detached when no process uses it."""
    box("-d", "-u", "0", "sh", "-c", "sleep 1000", name="b1").ok()
    for name in ("data", "more"):
        volume("create", name).ok()
    volume("attach", "data", "b1", "/in/data").ok()
    volume("attach", "--read-only", "more", "b1", "/more").ok()
    box.rt("exec", "b1", "sh", "-c", "echo kept > /in/data/file").ok()
    assert "Read-only" in box.rt("exec", "b1", "touch", "/more/x").err
    assert open(os.path.join(content(box, "data"), "file")).read() == "kept\n"

    volume("attach", "data", "b1", "/other").failed("attached to container", "already, at /in/data")
    volume("attach", "none", "b1", "/none").failed('there is no volume "none"')
    volume("attach", "data", "nobody", "/x").failed("nobody")
    volume("detach", "data", "nobody").failed("nobody")
    volume("rm", "data").failed('the volume "data" is mounted in the container "b1"', "`caisson volume detach data b1` or `caisson rm b1`")
    assert [line.split()[2] for line in volume("ls").ok().out.splitlines()[1:]] == ["b1", "b1"]

    box.rt("exec", "-d", "b1", "sh", "-c", "cd /in/data && touch busy && exec sleep 77777").ok()
    wait_for(lambda: os.path.exists(os.path.join(content(box, "data"), "busy")), "the process in the volume", timeout=30)
    volume("detach", "data", "b1").failed("a process of the container uses it")
    box.rt("exec", "b1", "sh", "-c", "kill $(pidof sleep | tr ' ' '\\n' | head -n 1)")
    wait_for(lambda: volume("detach", "data", "b1").rc == 0, "the end of the process in the volume", timeout=30)
    volume("detach", "data", "b1").failed("nothing of", "was mounted")
    assert box.rt("exec", "b1", "ls", "/in/data").ok().out == ""
    volume("rm", "data").ok()
    box.rt("rm", "-f", "b1").ok()
    volume("rm", "more").ok()  # the container and its mount have been removed


def test_attached_to_two_containers_of_one_id(ctr, volume, rt, images, tmp):
    """Containers below two --root directories may have the same id. The volume is in use until both have been detached from it."""
    other = Runtime(rt.binary, os.path.join(tmp, "other"))

    def in_other(command):  # --root may be relative
        return Runtime(rt.binary, "other")("volume", command, "--store", images.store, "data", "twin", *["/data"][:command == "attach"], cwd=tmp)

    for r in (rt, other):
        c = ctr("sleep", "1000", id="twin", rt=r)
        c.conf["root"]["readonly"] = False
        c.conf["linux"]["cgroupsPath"] = f"/caisson-twin-{os.path.basename(r.root)}"
        c.create()
        c.start()
    volume("create", "data").ok()
    volume("attach", "data", "twin", "/data").ok()
    in_other("attach").ok()
    volume("detach", "data", "twin").ok()
    volume("rm", "data").failed('the volume "data" is mounted in the container "twin"')
    in_other("detach").ok()
    volume("rm", "data").ok()


def test_a_container_that_cannot_be_made_leaves_no_volume_of_a_wrong_option(box, volume):
    box.sh("true", "-v", "data:x").failed("absolute path")
    box.sh("true", "-v", "data:/x:wrong").failed("unknown option")
    box.sh("true", "--mount", "type=bind,source=data,target=/x").failed("type=volume takes the name of a volume")
    assert volume("ls", "-q").ok().out == ""


def test_a_volume_that_is_mounted_is_not_filled(box, volume, volumes):
    """Filling a volume puts a new directory in its place, which a container that mounts the old one would not see."""
    volumes("-d", "-u", "0", "-v", "a:/nowhere", "sh", "-c", "sleep 1000", name="b1").ok()
    assert volumes("--rm", "-u", "0", "-v", "a:/data", "sh", "-c", "ls /data; touch /data/mine").ok().out == ""
    assert box.rt("exec", "b1", "ls", "/nowhere").ok().out == "mine\n"


def test_labels_that_are_too_long(volume, box):
    volume("create", *(x for i in range(70) for x in ("--label", f"k{i}=" + "a" * 1000)), "v").failed("--label", "at most 65536")
    assert volume("ls", "-q").ok().out == ""


def test_a_volume_may_be_called_lock(box, volume):
    box.sh("touch /x/f", "-v", "lock:/x").ok()
    assert volume("ls", "-q").ok().out == "lock\n"
    volume("rm", "lock").ok()


def damage(box, name, text):
    path = os.path.join(box.images.store, "volumes", name, "volume.json")
    if text is None:
        os.unlink(path)
    else:
        with open(path, "wb") as f:
            f.write(text)


@pytest.mark.parametrize("text", [None, b"", b"{", b'{"created": "\xff"}', b"x" * 70000, b'{"pool": "qcow2", "size": 1}'],
                         ids=["missing", "empty", "cut", "utf8", "large", "no-disk"])
def test_a_damaged_volume_hides_no_other(box, volume, text):
    for name in ("a", "bad", "c"):
        volume("create", name).ok()
    damage(box, "bad", text)
    for args in (["ls", "-q"], ["ls"], ["ls", "--json"], ["rescan"]):
        r = volume(*args).failed('the volume "bad"', "warning")
        assert args[0] == "rescan" or [n in r.out for n in ("a", "bad", "c")] == [True, False, True], r
    volume("inspect", "bad").failed('the volume "bad"')
    volume("rm", "bad").failed('the volume "bad"', "caisson volume rm --force")
    volume("rm", "-f", "a", "bad", "gone").ok()
    assert volume("ls", "-q").ok().out == "c\n"
    volume("rescan").ok()
    assert sorted(os.listdir(os.path.join(box.images.store, "volumes"))) == [".lock", "c"]


def test_a_file_system_for_volumes(box, volume):
    """ext4 has a directory lost+found, which is no volume."""
    volume("create", "a").ok()
    os.mkdir(os.path.join(box.images.store, "volumes", "lost+found"))
    assert volume("ls", "-q").ok().out == "a\n"
    volume("rescan").ok()


def test_a_damaged_volume_in_use_stays(box, volume):
    box("-d", "-u", "0", "-v", "data:/x", "sh", "-c", "sleep 1000", name="b1").ok()
    volume("create", "more").ok()
    volume("attach", "more", "b1", "/more").ok()
    for name in ("data", "more"):
        damage(box, name, b"{")
        volume("rm", "--force", name).failed(f'the volume "{name}" is mounted in the container "b1": `caisson rm b1` first')
    box.rt("rm", "-f", "b1").ok()
    volume("rm", "--force", "data", "more").ok()
    assert volume("ls", "-q").ok().out == ""


def test_links_in_a_volume_lead_nowhere(box, volume, tmp):
    """What a container leaves in a volume is hostile: neither filling nor removing follows it."""
    outside = os.path.join(tmp, "outside")
    os.mkdir(outside)
    with open(outside + "/f", "w", encoding="ascii") as f:
        f.write("kept")
    box.sh(f"ln -s {outside} /x/l; mkfifo /x/p; mkdir -p /x/d/e; chmod 0 /x/d", "-v", "data:/x").ok()
    volume("rm", "data").ok()
    assert os.listdir(outside) == ["f"]
