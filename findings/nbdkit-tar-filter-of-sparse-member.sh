#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever serves a disk image out of a tar file with nbdkit's tar filter.
#
# nbdkit-tar-filter (nbdkit 1.32.5, Debian 12) asks tar for the place and the size of the member, and serves that many
# bytes from there. A member that was written as a sparse file holds only its data, close together (and in PAX format a
# list of numbers before it), so the disk has the right size and the wrong bytes, without an error: what follows the hole
# is moved to its beginning, and the rest comes from the next member of the tar file. `bsdtar -c` writes sparse members
# without being asked, GNU tar with -S.
#
# Observed output of this script:
#   tar -c: size 1048576, at 0 'start', at 524288 'middle', the next member is not in it
#   tar -cS: size 1048576, at 0 'start', at 524288 'nnnnnn', the next member is in it
#   tar -cS --format=posix: size 1048576, at 0 '3\n0\n4', at 524288 'nnnnnn', the next member is in it
#   bsdtar -c: size 1048576, at 0 '3\n0\n4', at 524288 'nnnnnn', the next member is in it
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q nbdkit=1.32.5-1 libnbd-bin=1.14.2-1 libnbd0=1.14.2-1 libarchive-tools=3.6.2-1+deb12u5 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
# The other libraries of these programs are those of any Debian 12.
export LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu
bin=$dir/root/usr/bin nbdkit=$dir/root/usr/lib/x86_64-linux-gnu/nbdkit
truncate -s 1M disk.img
printf start | dd of=disk.img conv=notrunc status=none
printf middle | dd of=disk.img bs=1 seek=512K conv=notrunc status=none
head -c 2M /dev/zero | tr '\0' n >next
found=$(
	for make in 'tar -c' 'tar -cS' 'tar -cS --format=posix' 'bsdtar -c'; do
		PATH=$bin:$PATH $make -f disk.tar disk.img next
		rm -f out
		"$bin/nbdkit" -U - -r --filter="$nbdkit/filters/nbdkit-tar-filter.so" "$nbdkit/plugins/nbdkit-file-plugin.so" disk.tar \
			tar-entry=disk.img --run "$bin/nbdcopy \"\$uri\" out"
		python3 - "$make" <<'PYTHON'
import sys
disk = open("out", "rb").read()
show = lambda at, n: repr(disk[at:at + n].decode())
print(f"{sys.argv[1]}: size {len(disk)}, at 0 {show(0, 5)}, at 524288 {show(524288, 6)}, the next member",
      "is in it" if b"nnnnnnnn" in disk else "is not in it")
PYTHON
	done
)
echo "$found"
[ "$found" = "tar -c: size 1048576, at 0 'start', at 524288 'middle', the next member is not in it
tar -cS: size 1048576, at 0 'start', at 524288 'nnnnnn', the next member is in it
tar -cS --format=posix: size 1048576, at 0 '3\\n0\\n4', at 524288 'nnnnnn', the next member is in it
bsdtar -c: size 1048576, at 0 '3\\n0\\n4', at 524288 'nnnnnn', the next member is in it" ]
