#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes disks of container layers with Microsoft's tar2ext4 (hcsshim), and reads them with QEMU's
# tools.
#
# tar2ext4 -vhd (hcsshim 0.15.0) writes a fixed VHD whose footer has the size in bytes ("current size"), but a geometry of
# zero cylinders, heads and sectors, and no creator. qemu-img 7.2 takes the size from the geometry unless it knows the
# creator. So it shows 0 bytes, and `convert` makes an empty file of it, says nothing, and exits with 0. Read as raw, the
# ext4 file system is there.
#
# Needs Go.
#
# Observed output of this script:
#   footer: creator '\0\0\0\0', current size 32768, cylinders 0, heads 0, sectors 0
#   qemu-img info: virtual size 0
#   qemu-img convert: exit 0, 0 bytes written
#   the same file, read as raw: ext4 magic ef53
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache
# `go install` refuses hcsshim, because its go.mod has replace directives.
mkdir module && cd module
go mod init example.invalid/try 2>/dev/null
go get github.com/Microsoft/hcsshim/cmd/tar2ext4@v0.15.0 2>/dev/null
go build -o ../tar2ext4 github.com/Microsoft/hcsshim/cmd/tar2ext4
cd ..
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
dpkg -x ./*.deb root
# The libraries of qemu-img are those of any Debian 12 that has qemu-utils' dependencies.
img=$dir/root/usr/bin/qemu-img
mkdir tree
echo hello >tree/file
tar -C tree -cf layer.tar .
./tar2ext4 -vhd -i layer.tar -o layer.vhd
found=$(python3 - <<'PYTHON'
import struct
with open("layer.vhd", "rb") as f:
    f.seek(-512, 2)
    footer = f.read()
    f.seek(1024 + 56)
    magic = struct.unpack("<H", f.read(2))[0]
creator = "".join(f"\\{b}" for b in footer[28:32])
size, cylinders, heads, sectors = struct.unpack(">QHBB", footer[48:60])
print(f"footer: creator '{creator}', current size {size}, cylinders {cylinders}, heads {heads}, sectors {sectors}")
print(f"magic {magic:x}")
PYTHON
)
status=0
"$img" convert -f vpc -O raw layer.vhd out.raw || status=$?
found="$(head -n 1 <<<"$found")
qemu-img info: virtual size $("$img" info --output=json -f vpc layer.vhd | python3 -c 'import json,sys; print(json.load(sys.stdin)["virtual-size"])')
qemu-img convert: exit $status, $(stat -c %s out.raw) bytes written
the same file, read as raw: ext4 $(tail -n 1 <<<"$found")"
echo "$found"
[ "$found" = "footer: creator '\\0\\0\\0\\0', current size 32768, cylinders 0, heads 0, sectors 0
qemu-img info: virtual size 0
qemu-img convert: exit 0, 0 bytes written
the same file, read as raw: ext4 magic ef53" ]
