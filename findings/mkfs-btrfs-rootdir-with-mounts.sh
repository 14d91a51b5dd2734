#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes a btrfs image of a tree that has mounts in it, such as a container's root with its volumes.
#
# mkfs.btrfs --rootdir (btrfs-progs 6.2, Debian 12) goes into mounts below the directory, and takes the inode number
# without the device to tell which names are one file. Two mounts often have the same numbers: each tmpfs counts from 1.
# So the root folders of two volumes become one folder, and their first files one file: the second volume's content is
# not in the image, its place shows the first one's. mkfs.btrfs says nothing and exits with 0; `btrfs check`
# finds the folder with two names.
#
# Needs root, because it mounts two tmpfs in a mount namespace of its own.
#
# Observed output of this script:
#   tree: one/config=first two/settings=second
#   mkfs.btrfs: exit 0
#   image: one/config=first two/config=first
#   btrfs check: exit 1, link count wrong
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q btrfs-progs=6.2-1+deb12u2 liblzo2-2=2.10-2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
# The other libraries of btrfs-progs are those of any Debian 12.
mkdir -p tree/one tree/two out
cat >try.sh <<'TRY'
mount -t tmpfs none tree/one
mount -t tmpfs none tree/two
echo first >tree/one/config
echo second >tree/two/settings
run() { LD_LIBRARY_PATH=root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu "$@"; }
show() { (cd "$1" && for name in */*; do printf ' %s=%s' "$name" "$(cat "$name")"; done); }
echo "tree:$(show tree)"
status=0
run root/sbin/mkfs.btrfs -q --rootdir tree disk.img >/dev/null 2>&1 || status=$?
echo "mkfs.btrfs: exit $status"
run root/bin/btrfs restore disk.img out >/dev/null
echo "image:$(show out)"
status=0
run root/bin/btrfs check disk.img >check.out 2>&1 || status=$?
echo "btrfs check: exit $status, $(grep -o -m 1 'link count wrong' check.out)"
TRY
found=$(unshare --mount bash -e try.sh)
echo "$found"
[ "$found" = "tree: one/config=first two/settings=second
mkfs.btrfs: exit 0
image: one/config=first two/config=first
btrfs check: exit 1, link count wrong" ]
