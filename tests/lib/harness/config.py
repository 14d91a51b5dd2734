# SPDX-License-Identifier: Apache-2.0
"""Makes config.json as a dict, independent of what caisson writes with `spec` (which has tests of its own)."""
import copy

CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
# Further capabilities that a server needs to change to a user of its own.
DAEMON_CAPS = ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_DAC_OVERRIDE"]

DEFAULT = {
    "ociVersion": "1.3.0",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS},
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "caisson",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def default(*args, **process):
    """Returns a fresh copy. args are the program and its arguments, keywords are members of `process`."""
    c = copy.deepcopy(DEFAULT)
    if args:
        c["process"]["args"] = list(args)
    c["process"].update(process)
    return c


def namespaces(c, *types, drop=(), paths=None):
    """Adds namespaces, removes `drop`, sets paths {type: path}."""
    ns = [n for n in c["linux"]["namespaces"] if n["type"] not in drop]
    have = {n["type"] for n in ns}
    ns += [{"type": t} for t in types if t not in have]
    for n in ns:
        if paths and n["type"] in paths:
            n["path"] = paths[n["type"]]
    c["linux"]["namespaces"] = ns
    return c


def all_caps(c):
    with open("/proc/sys/kernel/cap_last_cap") as f:
        last = int(f.read())
    c["process"]["capabilities"] = {k: CAP_NAMES[:last + 1] for k in ("bounding", "effective", "permitted")}
    return c


def writable_cgroup(c):
    """Lets the container write to its cgroup."""
    for m in c["mounts"]:
        if m["type"] == "cgroup":
            m["options"].remove("ro")
    return c


CAP_NAMES = ["CAP_" + n for n in """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
 LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
 SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
 AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
 CHECKPOINT_RESTORE""".split()]


def cap_mask(names):
    return sum(1 << CAP_NAMES.index(n) for n in names)


def add_mount(c, destination, type="bind", source=None, options=(), **more):
    """Adds a mount to a container's config.json, and returns the container."""
    c.conf["mounts"].append({"destination": destination, "type": type, "options": list(options),
                             **({"source": source} if source else {}), **more})
    return c
