#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever keeps the data of a qcow2 image in an external data file, and starts tools in another directory.
#
# QEMU 7.2 (Debian 12) looks for a relative backing file beside the image, but for a relative data file in the working
# directory, when it is made and when it is opened. Started elsewhere, `convert` fails, unless a file of that name happens
# to be there: then it takes that file for the disk without a word. `qemu-img info` shows no difference, since it
# does not open the data file.
#
# Observed output of this script:
#   made: data.raw in the working directory, image in images/
#   backing file, from elsewhere: exit 0
#   data file, from the directory where it was made: first byte 65
#   data file, from elsewhere: info exit 0, convert exit 1
#   data file, from a directory with another data.raw: convert exit 0, first byte 66
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
dpkg -x ./*.deb root
# The libraries of qemu-img are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
mkdir images elsewhere other
"$bin/qemu-img" create -q -f qcow2 -o data_file=data.raw images/disk.qcow2 1M
found="made: $([ -e data.raw ] && [ ! -e images/data.raw ] && echo 'data.raw in the working directory, image in images/')"
"$bin/qemu-io" -f qcow2 -c 'write -P 65 0 1M' images/disk.qcow2 >/dev/null
truncate -s 1M images/base.raw
(cd images && "$bin/qemu-img" create -q -f qcow2 -b base.raw -F raw overlay.qcow2)
# Converts the image from the current directory, and prints the exit code and the first byte.
convert() {
	local status=0
	"$bin/qemu-img" convert -f qcow2 -O raw "$dir/images/$1" "$dir/out.raw" 2>/dev/null || status=$?
	echo "exit $status$([ "$status" != 0 ] || echo ", first byte $(head -c 1 "$dir/out.raw" | od -An -tu1 | tr -d ' ')")"
}
first=$(convert disk.qcow2)
cd elsewhere
info=0
"$bin/qemu-img" info -f qcow2 ../images/disk.qcow2 >/dev/null || info=$?
backing=$(convert overlay.qcow2) missing=$(convert disk.qcow2)
cd ../other
head -c 1M /dev/zero | tr '\0' B >data.raw
wrong=$(convert disk.qcow2)
found="$found
backing file, from elsewhere: ${backing%,*}
data file, from the directory where it was made: ${first#*, }
data file, from elsewhere: info exit $info, convert $missing
data file, from a directory with another data.raw: convert $wrong"
echo "$found"
[ "$found" = "made: data.raw in the working directory, image in images/
backing file, from elsewhere: exit 0
data file, from the directory where it was made: first byte 65
data file, from elsewhere: info exit 0, convert exit 1
data file, from a directory with another data.raw: convert exit 0, first byte 66" ]
