#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever looks with dump.erofs at the modes in an EROFS image, to find or to compare set-user-id programs.
#
# dump.erofs 1.8.6 (Debian 13), as 1.5 of Debian 12, prints a file's mode twice: as an octal number of four digits, and as
# letters. Both leave out set-user-id, set-group-id and the sticky bit, so that su has 0755 and rwxr-xr-x, and /tmp 0777.
# The four digits make it look as if the first one were told. The image has the bits: fsck.erofs --extract
# brings them back. So two images that differ in these bits only are the same to this program.
#
# Needs root, because fsck.erofs keeps modes for root only.
#
# Observed output of this script:
#   su: tree 4755; dump.erofs 1.8.6 0755/rwxr-xr-x, 1.5 0755/rwxr-xr-x; fsck.erofs --extract 4755
#   wall: tree 2755; dump.erofs 1.8.6 0755/rwxr-xr-x, 1.5 0755/rwxr-xr-x; fsck.erofs --extract 2755
#   tmp: tree 1777; dump.erofs 1.8.6 0777/rwxrwxrwx, 1.5 0777/rwxrwxrwx; fsck.erofs --extract 1777
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Debian 13's programs run with Debian 13's libraries, by their own loader.
mkdir -p apt/{lists,archives}/partial root old
touch apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >apt/sources
apt=(-q -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" -o APT::Architecture=amd64
	-o Dir::Etc::SourceList="$dir/apt/sources" -o Dir::Etc::SourceParts=- -o Dir::Etc::PreferencesParts=-)
apt-get "${apt[@]}" update >/dev/null 2>&1
apt-get "${apt[@]}" download erofs-utils=1.8.6-1 libc6 liblzma5 libdeflate0 libzstd1 liblz4-1 libselinux1 libpcre2-8-0 libuuid1 \
	zlib1g libfuse3-4 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
rm ./*.deb
# The libraries of Debian 12's program are those of any Debian 12.
apt-get download -q erofs-utils=1.5-1 liblz4-1 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" old; done
loader=$(find root -name ld-linux-x86-64.so.2 | head -n 1)
run() { "$loader" --library-path root/usr/lib/x86_64-linux-gnu "root/usr/bin/$1" "${@:2}"; }
run_old() { LD_LIBRARY_PATH=old/usr/lib/x86_64-linux-gnu "old/usr/bin/$1" "${@:2}"; }
access() { sed -n 's/.*Access: //p'; }

mkdir -p tree/tmp
touch tree/su tree/wall
chmod 4755 tree/su
chmod 2755 tree/wall
chmod 1777 tree/tmp
run mkfs.erofs --quiet image tree
run fsck.erofs --extract=out image >/dev/null
found=$(
	for name in su wall tmp; do
		echo "$name: tree $(stat -c %a tree/$name); dump.erofs 1.8.6 $(run dump.erofs --path=/$name image | access)," \
			"1.5 $(run_old dump.erofs --path=/$name image | access); fsck.erofs --extract $(stat -c %a out/$name)"
	done
)
echo "$found"
[ "$found" = 'su: tree 4755; dump.erofs 1.8.6 0755/rwxr-xr-x, 1.5 0755/rwxr-xr-x; fsck.erofs --extract 4755
wall: tree 2755; dump.erofs 1.8.6 0755/rwxr-xr-x, 1.5 0755/rwxr-xr-x; fsck.erofs --extract 2755
tmp: tree 1777; dump.erofs 1.8.6 0777/rwxrwxrwx, 1.5 0777/rwxrwxrwx; fsck.erofs --extract 1777' ]
