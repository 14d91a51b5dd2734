#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever looks for packages or secrets in disk images of virtual machines from Go, as scanners do.
#
# go-ext4-filesystem (April 2026) finds a name in the blocks of its directory, and reads the inode of each file that the
# directory has, because it makes a directory entry with size, mode and times of every one. Each inode is one read of the
# image, and nothing is kept for the next file. So opening one file costs as many reads as the directory has files, and a
# walk over n files costs n * n of them: nine million for a directory of 3,000 files, as /var/lib/dpkg/info is on a large
# installation, where the directory itself is a few blocks. A test with ten files shows nothing of this.
#
# Needs Go.
#
# Observed output of this script:
#   a file of a directory with 10 files: 18 reads of the image to open and read it
#   a file of a directory with 100 files: 109 reads of the image to open and read it
#   a file of a directory with 1000 files: 1020 reads of the image to open and read it
#   all files of a directory with 100 files: 10900 reads of the image
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
libraries=$(echo root/lib/*-linux-gnu):$(echo root/usr/lib/*-linux-gnu)
for n in 10 100 1000; do
	mkdir -p "tree$n/dir"
	for i in $(seq "$n"); do echo x >"tree$n/dir/$i"; done
	truncate -s 64M "$n.img"
	LD_LIBRARY_PATH=$libraries root/sbin/mke2fs -q -t ext4 -d "tree$n" "$n.img"
done
cat >go.mod <<'MOD'
module reads
go 1.25
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/masahiro331/go-ext4-filesystem/ext4"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// An image that counts how often it is read.
type image struct {
	file  *os.File
	reads int
}

func (i *image) ReadAt(p []byte, at int64) (int, error) {
	i.reads++
	return i.file.ReadAt(p, at)
}

func open(files int) (*image, fs.FS) {
	file, err := os.Open(fmt.Sprintf("%d.img", files))
	check(err)
	info, err := file.Stat()
	check(err)
	i := &image{file: file}
	tree, err := ext4.NewFS(*io.NewSectionReader(i, 0, info.Size()), nil)
	check(err)
	i.reads = 0
	return i, tree
}

func main() {
	for _, files := range []int{10, 100, 1000} {
		i, tree := open(files)
		_, err := fs.ReadFile(tree, "/dir/1")
		check(err)
		fmt.Printf("a file of a directory with %d files: %d reads of the image to open and read it\n", files, i.reads)
	}
	i, tree := open(100)
	for n := 1; n <= 100; n++ {
		_, err := fs.ReadFile(tree, fmt.Sprintf("/dir/%d", n))
		check(err)
	}
	fmt.Printf("all files of a directory with 100 files: %d reads of the image\n", i.reads)
}
GO
go get github.com/masahiro331/go-ext4-filesystem/ext4@v0.0.0-20260423010602-fe51f5b5e52b >/dev/null 2>&1
found=$(go run .)
echo "$found"
[ "$found" = "a file of a directory with 10 files: 18 reads of the image to open and read it
a file of a directory with 100 files: 109 reads of the image to open and read it
a file of a directory with 1000 files: 1020 reads of the image to open and read it
all files of a directory with 100 files: 10900 reads of the image" ]
