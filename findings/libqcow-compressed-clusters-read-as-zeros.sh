#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads a cloud image (a compressed qcow2 image) with libqcow, for evidence, packages or secrets.
#
# Debian's and Ubuntu's cloud images are compressed qcow2 images. libqcow 20260703 (PyPI libqcow-python, 2026) reads many of
# their clusters as zeros: here every second one, and half of them in a small ext4 image with programs. No error is raised,
# the size is right, and an image that is not compressed is read right. The libqcow of 2020 in Debian 12 reads the same
# image right, so it is an update of the library that loses the data.
#
# Observed output of this script, each letter a cluster of 64 KiB:
#   qemu-img check: exit 0
#   plain: QEMU ABCDEFGHIJKLMNOP, libqcow 20201213 ABCDEFGHIJKLMNOP, libqcow 20260703 ABCDEFGHIJKLMNOP
#   compressed: QEMU ABCDEFGHIJKLMNOP, libqcow 20201213 ABCDEFGHIJKLMNOP, libqcow 20260703 A0C0E0G0I0K0M0O0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check libqcow-python==20260703
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" python3-libqcow=20201213-1+b2 libqcow1=20201213-1+b2 libbfio1 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
# The other libraries are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
writes=()
for n in {0..15}; do writes+=(-c "write -P $((65 + n)) $((n * 64))k 64k"); done
truncate -s 1M disk.raw
"$bin/qemu-io" -f raw "${writes[@]}" disk.raw >/dev/null
"$bin/qemu-img" convert -f raw -O qcow2 disk.raw plain.qcow2
"$bin/qemu-img" convert -c -f raw -O qcow2 disk.raw compressed.qcow2
cat >read.py <<'PY'
import sys

import pyqcow

image = pyqcow.file()
image.open(sys.argv[1])
disk = b"".join(image.read_buffer_at_offset(1 << 16, n << 16) for n in range(16))
# A cluster is shown by its byte, which all its bytes have.
print("".join(chr(set(disk[n << 16:(n + 1) << 16]).pop() or 48) for n in range(16)), pyqcow.get_version())
PY
read_debian() { LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu PYTHONPATH=$dir/root/usr/lib/python3/dist-packages /usr/bin/python3 read.py "$1"; }
line() { # IMAGE
	local old new
	read -r -a old < <(read_debian "$1.qcow2")
	read -r -a new < <(venv/bin/python read.py "$1.qcow2")
	echo "$1: QEMU $("$bin/qemu-img" convert -O raw "$1.qcow2" out.raw && python3 -c 'print(open("out.raw").read()[::1 << 16])')," \
		"libqcow ${old[1]} ${old[0]}, libqcow ${new[1]} ${new[0]}"
}
status=0
"$bin/qemu-img" check -q compressed.qcow2 >/dev/null || status=$?
found="qemu-img check: exit $status
$(line plain)
$(line compressed)"
echo "$found"
[ "$found" = 'qemu-img check: exit 0
plain: QEMU ABCDEFGHIJKLMNOP, libqcow 20201213 ABCDEFGHIJKLMNOP, libqcow 20260703 ABCDEFGHIJKLMNOP
compressed: QEMU ABCDEFGHIJKLMNOP, libqcow 20201213 ABCDEFGHIJKLMNOP, libqcow 20260703 A0C0E0G0I0K0M0O0' ]
