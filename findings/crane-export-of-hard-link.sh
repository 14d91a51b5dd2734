#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever makes one tree of an image with `crane export`, `crane flatten` or mutate.Extract,
# where a later layer replaced or removed a file that had two names.
#
# A layer has the file "first" and the hard link "second" to it. Where a later layer replaces "first", every store keeps
# the old content under "second", because unpacking replaces the name and not the inode. go-containerregistry 0.22.1 reads
# the layers from the top, keeps the newest entry of each name, and copies the link's entry unchanged: it now names the
# new file, so "second" silently changes its content. Where a later layer removes "first", the link's target is in no
# layer's output, and the tar file that comes out can't be unpacked.
#
# Needs Go.
#
# Observed output of this script:
#   replaced, layers unpacked in order: first=new second=old
#   replaced, mutate.Extract: first=new second=new
#   removed, layers unpacked in order: second=old
#   removed, mutate.Extract: tar exit 2
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache
mkdir module base new gone
cat >module/main.go <<'GO'
package main

import (
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Writes the tree of an image, whose layers are the files named by the arguments, to the standard output.
func main() {
	image := empty.Image
	for _, name := range os.Args[1:] {
		layer, err := tarball.LayerFromFile(name)
		check(err)
		image, err = mutate.AppendLayers(image, layer)
		check(err)
	}
	_, err := io.Copy(os.Stdout, mutate.Extract(image))
	check(err)
}
GO
(
	cd module
	go mod init example.invalid/try 2>/dev/null
	go get github.com/google/go-containerregistry@v0.22.1 2>/dev/null
	go mod tidy 2>/dev/null
	go build -o ../extract .
)
echo old >base/first
ln base/first base/second
echo new >new/first
touch gone/.wh.first
tar -C base -cf base.tar first second
tar -C new -cf new.tar first
tar -C gone -cf gone.tar .wh.first
show() { (cd "$1" && for name in *; do printf ' %s=%s' "$name" "$(cat "$name")"; done); }
mkdir replaced replaced.go removed removed.go
tar -C replaced -xf base.tar
tar -C replaced -xf new.tar
tar -C removed -xf base.tar
rm removed/first
./extract base.tar new.tar | tar -C replaced.go -xf -
status=0
./extract base.tar gone.tar >removed.tar
tar -C removed.go -xf removed.tar 2>/dev/null || status=$?
found="replaced, layers unpacked in order:$(show replaced)
replaced, mutate.Extract:$(show replaced.go)
removed, layers unpacked in order:$(show removed)
removed, mutate.Extract: tar exit $status"
echo "$found"
[ "$found" = "replaced, layers unpacked in order: first=new second=old
replaced, mutate.Extract: first=new second=new
removed, layers unpacked in order: second=old
removed, mutate.Extract: tar exit 2" ]
