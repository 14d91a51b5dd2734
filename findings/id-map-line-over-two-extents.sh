#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes /proc/PID/uid_map inside a user namespace, as engines and runtimes do in rootless containers.
#
# user_namespaces(7) says that the ids of a line must be mapped in the parent namespace. That is not enough: Linux wants all ids
# of one line in one line of the parent's map. Rootless engines always have two, the user's own id and the range of
# /etc/subuid, so a map that joins neighbours ("0 0 65537") is refused there with EPERM, the same error as for a missing
# privilege, also where both lines lead to neighbouring ids outside. The same ids in two lines are taken.
#
# Needs root and Python 3.9 or later. The behaviour is the kernel's (map_id_range_down()); seen with Linux 6.18.
#
# Observed output of this script:
#   parent "0 0 65537", child "0 0 65537": taken
#   parent "0 0 1, 1 1 65536", child "0 0 65537": Operation not permitted
#   parent "0 0 1, 1 1 65536", child "1 1 65536": taken
#   parent "0 0 1, 1 1 65536", child "0 0 1, 1 1 65536": taken
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/try.py" <<'PY'
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000


def in_namespace(id_map, then):
    """Runs then() in a new user namespace with this map. Returns what it returns, or the error of writing the map."""
    ready, go, answer = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        if libc.unshare(CLONE_NEWUSER) != 0:
            os._exit(1)
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os.write(answer[1], then().encode())
        os._exit(0)
    os.read(ready[0], 1)
    with open(f"/proc/{pid}/gid_map", "wb", buffering=0) as f:
        f.write(b"0 0 1\n")
    try:
        with open(f"/proc/{pid}/uid_map", "wb", buffering=0) as f:
            f.write(id_map.replace(", ", "\n").encode() + b"\n")
        result = None
    except OSError as e:
        result = e.strerror
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    told = os.read(answer[0], 100).decode()
    return result or told


one, two = "0 0 65537", "0 0 1, 1 1 65536"
for parent, child in (one, one), (two, one), (two, "1 1 65536"), (two, two):
    print(f'parent "{parent}", child "{child}":', in_namespace(parent, lambda: in_namespace(child, lambda: "taken")))
PY
found=$(python3 "$dir/try.py")
echo "$found"
[ "$found" = 'parent "0 0 65537", child "0 0 65537": taken
parent "0 0 1, 1 1 65536", child "0 0 65537": Operation not permitted
parent "0 0 1, 1 1 65536", child "1 1 65536": taken
parent "0 0 1, 1 1 65536", child "0 0 1, 1 1 65536": taken' ]
