#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes an XFS image of a tree without a mount, by xfs_protofile and mkfs.xfs -p.
#
# A line of such a file has a letter each for set-user-id and set-group-id, and then the permissions as three octal digits.
# xfs_protofile 6.13 (Debian 13) writes the whole mode behind the letters: "-u-4755". mkfs.xfs takes its first three
# digits, 475, and skips the fourth. So 0755 becomes 0475 in each program that is set-user-id: the letter keeps that, its owner
# may no longer write to it, and its group may. /tmp (1777) becomes 0177: the sticky bit is lost, and its owner has no
# read permission. Modes of three digits are right. Nothing is reported, mkfs.xfs exits with 0, and xfs_repair finds no
# fault, since there is none in the file system. A hard link becomes a file of its own.
#
# Observed output of this script:
#   bin/cat: tree 0755, links 1; image 0755, links 1
#   bin/su: tree 4755, links 2; image 4475, links 1
#   bin/wall: tree 2755, links 1; image 2275, links 1
#   mail: tree 2775, links 2; image 2277, links 2
#   tmp: tree 1777, links 2; image 0177, links 2
#   mkfs.xfs: exit 0, xfs_repair -n: exit 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Debian 13's programs run with Debian 13's libraries, by their own loader.
mkdir -p apt/{lists,archives}/partial root
touch apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >apt/sources
apt=(-q -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" -o APT::Architecture=amd64
	-o Dir::Etc::SourceList="$dir/apt/sources" -o Dir::Etc::SourceParts=- -o Dir::Etc::PreferencesParts=-)
apt-get "${apt[@]}" update >/dev/null 2>&1
apt-get "${apt[@]}" download xfsprogs=6.13.0-2+deb13u1 libc6 libinih1 liburcu8t64 libblkid1 libuuid1 libedit2 libbsd0 \
	libmd0 libtinfo6 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
loader=$(find root -name ld-linux-x86-64.so.2 | head -n 1)
run() { "$loader" --library-path root/usr/lib/x86_64-linux-gnu "root/usr/sbin/$1" "${@:2}"; }

mkdir -p tree/{bin,mail,tmp}
for name in cat su wall; do echo "$name" >tree/bin/$name; done
chmod 755 tree/bin/cat
chmod 4755 tree/bin/su
chmod 2755 tree/bin/wall
chmod 2775 tree/mail
chmod 1777 tree/tmp
ln tree/bin/su tree/bin/sudo
python3 root/usr/sbin/xfs_protofile tree >proto
truncate -s 300M disk.img
made=0 checked=0
run mkfs.xfs -q -p proto disk.img || made=$?
run xfs_repair -n disk.img >/dev/null 2>&1 || checked=$?
image() { # FILE FIELD
	run xfs_db -r -c "path /$1" -c "print core.$2" disk.img | sed 's/.* = //'
}
found=$(
	for name in bin/cat bin/su bin/wall mail tmp; do
		mode=$(image $name mode)
		printf '%s: tree %04o, links %s; image %s, links %s\n' $name "0$(stat -c %a tree/$name)" "$(stat -c %h tree/$name)" \
			"${mode: -4}" "$(image $name nlinkv2)"
	done
	echo "mkfs.xfs: exit $made, xfs_repair -n: exit $checked"
)
echo "$found"
[ "$found" = 'bin/cat: tree 0755, links 1; image 0755, links 1
bin/su: tree 4755, links 2; image 4475, links 1
bin/wall: tree 2755, links 1; image 2275, links 1
mail: tree 2775, links 2; image 2277, links 2
tmp: tree 1777, links 2; image 0177, links 2
mkfs.xfs: exit 0, xfs_repair -n: exit 0' ]
