#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever opens disks for QEMU and hands it the descriptors by -add-fd or QMP's add-fd.
#
# A set of descriptors (/dev/fdset/N) answers an open by a descriptor whose access mode is the one asked for. A
# descriptor that can do more is no match: QEMU 7.2 (Debian 12) does not take a descriptor of O_RDWR for a node with
# read-only=on, and says "Permission denied". So one image that is read by one node and written by another needs two
# descriptors in one set, each opened anew (dup() keeps the mode).
#
# Observed output of this script:
#   read-only node, O_RDONLY: exit 0
#   read-only node, O_RDWR: exit 1, Could not dup FD for /dev/fdset/1 flags 0: Permission denied
#   read-only node, both in the set: exit 0
#   writable node, O_RDONLY: exit 1, Could not dup FD for /dev/fdset/1 flags 2: Permission denied
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3" "qemu-system-common=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
for p in ./*.deb; do dpkg -x "$p" root; done
# The libraries of QEMU are those of any Debian 12 that has qemu-system-x86's dependencies.
truncate -s 1M disk.raw
# try NAME READ-ONLY MODE...: QEMU opens the disk from a set that holds one descriptor of each MODE.
try() {
	local name=$1 readonly=$2 fd=10 status=0 args=()
	shift 2
	for mode; do
		case $mode in
		O_RDONLY) eval "exec $fd<disk.raw" ;;
		O_RDWR) eval "exec $fd<>disk.raw" ;;
		esac
		args+=(-add-fd "fd=$fd,set=1")
		fd=$((fd + 1))
	done
	echo quit | QEMU_MODULE_DIR=$dir/root/usr/lib/x86_64-linux-gnu/qemu root/usr/bin/qemu-system-x86_64 -M none -display none -nodefaults -monitor stdio "${args[@]}" \
		-blockdev "driver=file,filename=/dev/fdset/1,node-name=disk,read-only=$readonly,locking=off" >/dev/null 2>error || status=$?
	while [ $fd -gt 10 ]; do
		fd=$((fd - 1))
		eval "exec $fd<&-"
	done
	echo "$name: exit $status$(sed -n 's/.*\(Could not .*\)/, \1/p' error)"
}
found=$(
	try "read-only node, O_RDONLY" on O_RDONLY
	try "read-only node, O_RDWR" on O_RDWR
	try "read-only node, both in the set" on O_RDWR O_RDONLY
	try "writable node, O_RDONLY" off O_RDONLY
)
echo "$found"
[ "$found" = 'read-only node, O_RDONLY: exit 0
read-only node, O_RDWR: exit 1, Could not dup FD for /dev/fdset/1 flags 0: Permission denied
read-only node, both in the set: exit 0
writable node, O_RDONLY: exit 1, Could not dup FD for /dev/fdset/1 flags 2: Permission denied' ]
