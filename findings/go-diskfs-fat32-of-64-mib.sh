#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes a FAT32 seed disk for cloud-init, or a boot partition, from Go.
#
# The two first entries of a FAT are reserved. go-diskfs 1.9.4 (2026) forgets them when it computes the FAT's size, so where
# the clusters fill its last sector, the FAT is one sector short: of the sizes from 40 to 140 MiB, 64 and 129 MiB are
# hit. And it makes FAT32 of any size, with no error, also below 65525 clusters (about 32 MiB), where a FAT of this many
# clusters is FAT16 by Microsoft's specification. mtools and fsck.fat refuse both disks as a whole; go-diskfs itself
# reads them. Other sizes work, so a test with one of them shows nothing.
#
# Needs Go.
#
# Observed output of this script:
#   16 MiB: go-diskfs "hello"; mtools: Error reading FAT; fsck.fat: but has only 32232 clusters, less than the required minimum of 65525.
#   63 MiB: go-diskfs "hello"; mtools: ::/user-data; fsck.fat: no fault
#   64 MiB: go-diskfs "hello"; mtools: Too few sectors in FAT; fsck.fat: Filesystem has 129024 clusters but only space for 129022 FAT entries.
#   65 MiB: go-diskfs "hello"; mtools: ::/user-data; fsck.fat: no fault
#   of 60 to 70 and 126 to 130 MiB, refused by mtools: 64 129
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
cat >go.mod <<'MOD'
module seed
go 1.25
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Makes the disk seed.img of ARGS[1] MiB with a file user-data, and prints the file's content.
func main() {
	size, err := strconv.ParseInt(os.Args[1], 10, 64)
	check(err)
	d, err := diskfs.Create("seed.img", size<<20, diskfs.SectorSizeDefault)
	check(err)
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: 0, FSType: filesystem.TypeFat32, VolumeLabel: "cidata"})
	check(err)
	f, err := fs.OpenFile("user-data", os.O_CREATE|os.O_RDWR)
	check(err)
	_, err = f.Write([]byte("hello"))
	check(err)
	fs, err = d.GetFilesystem(0)
	check(err)
	f, err = fs.OpenFile("user-data", os.O_RDONLY)
	check(err)
	found, err := io.ReadAll(f)
	check(err)
	fmt.Printf("%q", found)
}
GO
go get github.com/diskfs/go-diskfs@v1.9.4 >/dev/null 2>&1
go build -o make .
apt-get download -q mtools=4.0.33-1+really4.0.32-1 dosfstools=4.2-1 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
made() { rm -f seed.img && ./make "$1"; }
listed() { root/usr/bin/mdir -b -i seed.img :: 2>&1 | head -n 1; }
checked() {
	local told
	told=$(root/sbin/fsck.fat -n seed.img 2>&1 | grep -o 'but has only .*\|^Filesystem has [0-9]* clusters but.*') || :
	echo "${told:-no fault}"
}
found=$(
	for size in 16 63 64 65; do echo "$size MiB: go-diskfs $(made $size); mtools: $(listed); fsck.fat: $(checked)"; done
	refused=
	for size in {60..70} {126..130}; do
		made "$size" >/dev/null
		[ "$(listed)" = ::/user-data ] || refused+=" $size"
	done
	echo "of 60 to 70 and 126 to 130 MiB, refused by mtools:$refused"
)
echo "$found"
[ "$found" = '16 MiB: go-diskfs "hello"; mtools: Error reading FAT; fsck.fat: but has only 32232 clusters, less than the required minimum of 65525.
63 MiB: go-diskfs "hello"; mtools: ::/user-data; fsck.fat: no fault
64 MiB: go-diskfs "hello"; mtools: Too few sectors in FAT; fsck.fat: Filesystem has 129024 clusters but only space for 129022 FAT entries.
65 MiB: go-diskfs "hello"; mtools: ::/user-data; fsck.fat: no fault
of 60 to 70 and 126 to 130 MiB, refused by mtools: 64 129' ]
