#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes EROFS images of container layers, as containerd's erofs differ does (mkfs.erofs --tar).
#
# mkfs.erofs 1.8.6 (Debian 13) reads a layer as a tar file. A sparse file of GNU tar's form (tar -S), which Go's archive/tar
# and GNU tar unpack, is not in the image, and mkfs.erofs prints nothing and exits with 0. A sparse file in the form of
# PAX is there under another name (GNUSparseFile.N), with the list of its data before the data. A fraction of a second in
# a PAX time is taken for a number of nanoseconds: half a second, "1.5", becomes 5 ns. A directory that the layer does
# not list (Bazel's and other builders' layers leave it out) gets mode 0777 and the time of the build, so that
# every user may write to it, and two images of one layer differ. GNU tar takes the umask for such a directory (0755).
#
# Observed output of this script:
#   tar -S: after before, exit 0, messages: 0
#   tar -S --format=posix: GNUSparseFile.0 after before
#   time 1.5: 1970-01-01 00:00:01.000000005
#   directory that is not listed: 0777
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Debian 13's program runs with Debian 13's libraries, by their own loader.
mkdir -p apt/{lists,archives}/partial root
touch apt/status
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >apt/sources
apt=(-q -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" -o APT::Architecture=amd64
	-o Dir::Etc::SourceList="$dir/apt/sources" -o Dir::Etc::SourceParts=- -o Dir::Etc::PreferencesParts=-)
apt-get "${apt[@]}" update >/dev/null 2>&1
apt-get "${apt[@]}" download erofs-utils=1.8.6-1 libc6 liblzma5 libdeflate0 libzstd1 liblz4-1 libselinux1 libpcre2-8-0 libuuid1 \
	zlib1g libfuse3-4 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
loader=$(find root -name ld-linux-x86-64.so.2 | head -n 1)
run() { "$loader" --library-path root/usr/lib/x86_64-linux-gnu "root/usr/bin/$1" "${@:2}"; }
names() { run dump.erofs --ls --path=/ "$1" | awk '$1 ~ /^[0-9]+$/ && $3 !~ /^\.\.?$/ { print $3 }' | paste -s -d ' '; }

mkdir layer
cd layer
echo 1 >before
truncate -s 1M disk.img
printf data | dd of=disk.img bs=1 seek=600000 conv=notrunc status=none
echo 1 >after
tar -S -cf ../gnu.tar before disk.img after
tar -S --format=posix --pax-option=globexthdr.name=g,exthdr.name=x -cf ../posix.tar before disk.img after
mkdir -p bin
echo 1 >bin/program
touch -d @1.5 late
tar --format=posix --no-recursion -cf ../plain.tar bin/program late
cd ..

rc=0
run mkfs.erofs --quiet --tar=f gnu.erofs gnu.tar >messages 2>&1 || rc=$?
run mkfs.erofs --quiet --tar=f posix.erofs posix.tar
run mkfs.erofs --quiet --tar=f plain.erofs plain.tar
found="tar -S: $(names gnu.erofs), exit $rc, messages: $(wc -l <messages)
tar -S --format=posix: $(names posix.erofs | sed 's/GNUSparseFile\.[0-9]*/GNUSparseFile.0/')
time 1.5: $(run dump.erofs --path=/late plain.erofs | sed -n 's/^Timestamp: //p')
directory that is not listed: $(run dump.erofs --path=/bin plain.erofs | sed -n 's/.*Access: \(0[0-7]*\).*/\1/p')"
echo "$found"
[ "$found" = 'tar -S: after before, exit 0, messages: 0
tar -S --format=posix: GNUSparseFile.0 after before
time 1.5: 1970-01-01 00:00:01.000000005
directory that is not listed: 0777' ]
