# SPDX-License-Identifier: Apache-2.0
"""Runs the program under test as an ordinary user, with or without ranges of ids in /etc/subuid.

CAISSON_USER=1 makes the CLI suite do so for every container of its tests: the bundle gets a user namespace with the ids
that the user may map, and belongs to the user. A table (cli/user_differences.tsv) lists the tests that differ then.
"""
import os
import shutil

from . import machine, runtime

UID = 23456
NAME = "caisson-test"
SUBIDS = 300000  # the first of the ids in /etc/subuid and /etc/subgid
KVM_GID = 23460  # a number of the tests', because the group kvm comes with packages
ALL = os.environ.get("CAISSON_USER") == "1"


def make_accounts(directory):
    """Makes copies of /etc/passwd, group, subuid and subgid with the user. Returns pairs of a copy and its original."""
    made = []
    for name, line in (("passwd", f"{NAME}:x:{UID}:{UID}::/nonexistent:/bin/sh\n"), ("group", f"{NAME}:x:{UID}:\n"),
                       ("subuid", f"{NAME}:{SUBIDS}:65536\n"), ("subgid", f"{NAME}:{SUBIDS}:65536\n")):
        real = "/etc/" + name
        if not os.path.exists(real):
            open(real, "w").close()
        copy = os.path.join(directory, "etc-" + name)
        shutil.copy(real, copy)
        os.chmod(copy, 0o644)
        with open(copy, "a") as f:
            f.write(line)
        made.append((copy, real))
    return made


def mount_accounts(accounts, subids):
    """Mounts the copies over the originals, in this mount namespace only. Returns what was mounted."""
    wanted = [a for a in accounts if subids or "sub" not in a[1]]
    for copy, real in wanted:
        machine.mount(copy, real, flags=4096)
    return [real for _, real in wanted]


def install(binary, build, directory, name="caisson"):
    """Copies the program and its helpers to where the user can execute them, whatever the modes of the build directory."""
    helpers = os.path.join(directory, "libexec", "caisson")
    programs = os.path.join(directory, "bin")
    for d in (helpers, programs):
        os.makedirs(d, exist_ok=True)
    exe = os.path.join(programs, name)
    shutil.copy(os.path.realpath(binary), exe)
    for d in {os.path.dirname(os.path.realpath(binary)), build or ""}:
        for sub in ("", "guest", "runtime", "runtime/guest", "cgroups"):
            for n in ("guest", "disk", "net", "image", "registry", "systemd", "inside"):
                helper = os.path.join(d, sub, "caisson-" + n)
                if d and os.path.isfile(helper):
                    shutil.copy(helper, helpers)
    for d in (directory, helpers, programs):
        for n in os.listdir(d):
            os.chmod(os.path.join(d, n), 0o755)
    return exe


def prefix(run, home, groups=()):
    """Returns the words that run a command as the user. The groups are those that the user has besides its own."""
    extra = ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return ["setpriv", "--reuid", str(UID), "--regid", str(UID), *extra, "--inh-caps=-all", "env",
            f"XDG_RUNTIME_DIR={run}", f"HOME={home}", f"USER={NAME}"]


def kvm_groups():
    """Returns the groups that let the user open /dev/kvm. On the test host only the group kvm may open it then, as on Debian."""
    if not machine.ON_TEST_HOST:
        return ()
    os.chown("/dev/kvm", 0, KVM_GID)
    os.chmod("/dev/kvm", 0o660)
    return (KVM_GID,)


def own(path):
    """Gives a tree to the user."""
    os.chown(path, UID, UID, follow_symlinks=False)
    for d, dirs, files in os.walk(path):
        for n in [*dirs, *files]:
            os.chown(os.path.join(d, n), UID, UID, follow_symlinks=False)


def map_ids(conf, subids):
    """Gives config.json a user namespace with the ids that the user may map."""
    linux = conf["linux"]
    if not any(n["type"] == "user" for n in linux["namespaces"]):
        linux["namespaces"] = linux["namespaces"] + [{"type": "user"}]
    m = [{"containerID": 0, "hostID": UID, "size": 1}]
    if subids:
        m.append({"containerID": 1, "hostID": SUBIDS, "size": 65536})
    linux["uidMappings"] = linux["gidMappings"] = m
    for x in conf["mounts"]:
        if x.get("type") == "devpts" and not subids:
            x["options"] = [o for o in x["options"] if not o.startswith("gid=")]


class Container(runtime.Container):
    """A container of the user's. The test's files are given to the user when config.json is written."""

    def write(self):
        if "uidMappings" not in self.conf["linux"]:
            map_ids(self.conf, True)
        super().write()
        own(os.path.dirname(self.bundle))  # with what else the test has made there for the container
        return self


class Factory(runtime.Factory):
    kind = Container
