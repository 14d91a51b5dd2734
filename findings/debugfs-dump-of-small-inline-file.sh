#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever copies files out of an ext4 disk image with debugfs, because that needs no mount and no root.
#
# With ext4's feature inline_data, a small file stands in its inode, the first 60 bytes of it where the list of blocks would be.
# debugfs 1.47.0 (Debian 12) copies these 60 bytes whole, however long the file is: `dump`, `cat` and `rdump` write the text
# and zero bytes after it, and an empty file comes out with 60 of them. No message is printed, and `stat` in the same
# program shows the right size. Files of 60 bytes and more are right. fuse2fs of the same version
# reads by the same library and does not show it, because the kernel cuts what it is given at the file's size.
#
# Observed output of this script:
#   0 bytes in the image: stat 0, dump 60, cat 60, rdump 60
#   5 bytes in the image: stat 5, dump 60, cat 60, rdump 60
#   60 bytes in the image: stat 60, dump 60, cat 60, rdump 60
#   61 bytes in the image: stat 61, dump 61, cat 61, rdump 61
#   the file of 5 bytes, dumped: hello and 55 zero bytes
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
e2() { LD_LIBRARY_PATH=$(echo root/lib/*-linux-gnu):$(echo root/usr/lib/*-linux-gnu) "root/sbin/$1" "${@:2}"; }
debugfs() { e2 debugfs -R "$1" disk.img 2>/dev/null; }
mkdir tree all
for size in 0 60 61; do head -c $size /dev/zero | tr '\0' x >tree/$size; done
printf hello >tree/5
truncate -s 16M disk.img
e2 mke2fs -q -F -t ext4 -O inline_data -d tree disk.img
e2 e2fsck -fn disk.img >/dev/null 2>&1
debugfs 'rdump / all'
found=$(
	for size in 0 5 60 61; do
		debugfs "dump $size dump.$size"
		echo "$size bytes in the image: stat $(debugfs "stat $size" | sed -n '1,3s/.* Size: //p'), dump $(stat -c %s dump.$size)," \
			"cat $(debugfs "cat $size" | wc -c), rdump $(stat -c %s all/$size)"
	done
	echo "the file of 5 bytes, dumped: $(tr -d '\0' <dump.5) and $(tr -dc '\0' <dump.5 | wc -c) zero bytes"
)
echo "$found"
[ "$found" = "0 bytes in the image: stat 0, dump 60, cat 60, rdump 60
5 bytes in the image: stat 5, dump 60, cat 60, rdump 60
60 bytes in the image: stat 60, dump 60, cat 60, rdump 60
61 bytes in the image: stat 61, dump 61, cat 61, rdump 61
the file of 5 bytes, dumped: hello and 55 zero bytes" ]
