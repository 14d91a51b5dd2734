#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes a NoCloud seed (an ISO image "cidata") in Go, and reads or checks it with another tool.
#
# ECMA-119 requires path tables, and Rock Ridge writes a file's serial number as 32 bits in both byte orders. Linux looks at
# neither, so a guest finds its seed. kdomanski/iso9660 0.4.0 writes a path table of size 0. bsdtar 3.6.2 (Debian 12)
# then does not take the file for an ISO image, but for an archive without entries, because it begins with zeros: it lists
# and unpacks nothing, and exits with 0. pycdlib 1.22.0 (PyPI) ends with an IndexError. go-diskfs 1.9.4 (2026) writes the
# serial number as 64 bits in one order. bsdtar reads that, and pycdlib refuses the image as invalid. With a path table
# put behind the first image, both read it. bsdtar also wants 48 KiB: it takes any smaller ISO image for an empty archive, so
# that this script pads them.
#
# Needs Go.
#
# Observed output of this script:
#   kdomanski: isoinfo 2 files; bsdtar 0 files, exit 0; pycdlib IndexError: list index out of range
#   kdomanski with path tables: isoinfo 2 files; bsdtar 2 files, exit 0; pycdlib 2 files
#   go-diskfs: isoinfo 2 files; bsdtar 2 files, exit 0; pycdlib PyCdlibInvalidISO: PX record big and little-endian file serial number do not agree
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
mkdir module
cat >module/go.mod <<'MOD'
module seed

go 1.25

require (
	github.com/diskfs/go-diskfs v1.9.4
	github.com/kdomanski/iso9660 v0.4.0
)
MOD
cat >module/main.go <<'GO'
package main

import (
	"os"
	"strings"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
	diskfsiso "github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/kdomanski/iso9660"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	writer, err := iso9660.NewWriter()
	check(err)
	d, err := diskfs.Create("go-diskfs.iso", 1<<20, diskfs.SectorSizeDefault)
	check(err)
	d.LogicalBlocksize = 2048
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{FSType: filesystem.TypeISO9660, VolumeLabel: "cidata"})
	check(err)
	for _, name := range []string{"meta-data", "user-data"} {
		check(writer.AddFile(strings.NewReader("#"+name+"\n"), name))
		f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
		check(err)
		_, err = f.Write([]byte("#" + name + "\n"))
		check(err)
		check(f.Close())
	}
	check(fs.(*diskfsiso.FileSystem).Finalize(diskfsiso.FinalizeOptions{RockRidge: true, VolumeIdentifier: "cidata"}))
	out, err := os.Create("kdomanski.iso")
	check(err)
	check(writer.WriteTo(out, "cidata"))
	check(writer.Cleanup())
}
GO
(cd module && go mod tidy && go build -o ../seed .) >build.log 2>&1 || { cat build.log; exit 1; }
./seed
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check pycdlib==1.22.0
apt-get download -q libarchive-tools=3.6.2-1+deb12u5 genisoimage=9:1.1.11-3.4 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done # their libraries are those of any Debian 12 that has libarchive13
cat >table.py <<'PY'
import struct

image = bytearray(open("kdomanski.iso", "rb").read())
volume, table = 16 * 2048, len(image) // 2048


def both(at, number):
    image[at:at + 8] = struct.pack("<I", number) + struct.pack(">I", number)


both(volume + 80, table + 2)  # the volume's size in blocks
both(volume + 132, 10)  # the size of the path table: one entry, the root directory in block 18
image[volume + 140:volume + 144], image[volume + 148:volume + 152] = struct.pack("<I", table), struct.pack(">I", table + 1)
for order in "<>":
    image += struct.pack(order + "BBIHBB", 1, 0, 18, 1, 0, 0).ljust(2048, b"\0")
open("table.iso", "wb").write(image)
PY
python3 table.py
truncate -s 64K kdomanski.iso table.iso
cat >read.py <<'PY'
import sys

import pycdlib

iso = pycdlib.PyCdlib()
try:
    iso.open(sys.argv[1])
    print(sum(child.is_file() for child in iso.list_children(iso_path="/")), "files")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
PY
line() { # WHAT FILE
	local status=0
	root/usr/bin/bsdtar -tf "$2" >list || status=$?
	echo "$1: isoinfo $(root/usr/bin/isoinfo -R -l -i "$2" | grep -c -- '-data') files;" \
		"bsdtar $(grep -c -- '-data' list || :) files, exit $status; pycdlib $(venv/bin/python read.py "$2")"
}
found=$(
	line kdomanski kdomanski.iso
	line 'kdomanski with path tables' table.iso
	line go-diskfs go-diskfs.iso
)
echo "$found"
[ "$found" = "kdomanski: isoinfo 2 files; bsdtar 0 files, exit 0; pycdlib IndexError: list index out of range
kdomanski with path tables: isoinfo 2 files; bsdtar 2 files, exit 0; pycdlib 2 files
go-diskfs: isoinfo 2 files; bsdtar 2 files, exit 0; pycdlib PyCdlibInvalidISO: PX record big and little-endian file serial number do not agree" ]
