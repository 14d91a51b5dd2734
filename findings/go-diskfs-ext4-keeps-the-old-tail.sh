#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever writes a configuration file into the ext4 file system of a disk image from Go, without a mount.
#
# go-diskfs 1.9.4 (2026) takes os.O_TRUNC for a file of ext4, and truncates nothing: the new content is written over the
# beginning of the old one, and the rest of the old content stays behind it. The size stays too. e2fsck finds no fault,
# because the file system has none. The same calls on FAT32 give a file with the new content only.
#
# Needs Go.
#
# Observed output of this script:
#   FAT32 "host=b\n" over "host=first\nport=80\n": "host=b\n"
#   ext4 "host=b\n" over "host=first\nport=80\n": "host=b\nrst\nport=80\n"
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
cat >go.mod <<'MOD'
module truncates
go 1.25
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/filesystem"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func write(fs filesystem.FileSystem, name, text string) {
	f, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_TRUNC)
	check(err)
	_, err = f.Write([]byte(text))
	check(err)
	check(f.Close())
}

func try(kind string, t filesystem.Type) {
	d, err := diskfs.Create(kind+".img", 64<<20, diskfs.SectorSizeDefault)
	check(err)
	fs, err := d.CreateFilesystem(disk.FilesystemSpec{Partition: 0, FSType: t})
	check(err)
	const first, second = "host=first\nport=80\n", "host=b\n"
	write(fs, "app.conf", first)
	write(fs, "app.conf", second)
	f, err := fs.OpenFile("app.conf", os.O_RDONLY)
	check(err)
	found, err := io.ReadAll(f)
	check(err)
	fmt.Printf("%s %q over %q: %q\n", kind, second, first, found)
}

func main() {
	try("FAT32", filesystem.TypeFat32)
	try("ext4", filesystem.TypeExt4)
}
GO
go get github.com/diskfs/go-diskfs@v1.9.4 >/dev/null 2>&1
found=$(go run .)
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo root/lib/*-linux-gnu):$(echo root/usr/lib/*-linux-gnu) root/sbin/e2fsck -fn ext4.img >/dev/null 2>&1
echo "$found"
[ "$found" = 'FAT32 "host=b\n" over "host=first\nport=80\n": "host=b\n"
ext4 "host=b\n" over "host=first\nport=80\n": "host=b\nrst\nport=80\n"' ]
