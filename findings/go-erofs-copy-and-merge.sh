#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever copies or merges EROFS images of container layers from Go with go-erofs.
#
# go-erofs 0.3.1 (July 2026) builds an image from others by Writer.CopyFrom, and with Merge() it applies whiteouts. The mode
# that an image's FileInfo has is the number on disk with Go's type bits set in it. Go keeps set-user-id and sticky in
# other places, so fs.ModeSetuid and fs.ModeSticky are never set, and the copy has lost them: sudo runs as its caller, and in
# /tmp any user may remove another's files. Stat.Mode from Sys() has them, and so has a copy that is made with
# MetadataOnly(). A file with two names becomes two files. Merge() takes the layer's names in the order of bytes, and its
# opaque whiteout removes what is in the directory by then, the layer's own files too. Most names come after
# ".wh..wh..opq", but .bashrc and .config come before it. No error is returned, and fsck.erofs finds no fault.
#
# Needs Go, and root, because fsck.erofs keeps modes for root only.
#
# Observed output of this script:
#   FileInfo of bin/su: setuid false; Stat: setuid true
#   mkfs.erofs, unpacked: bin/su 4755, tmp 1777, links 2
#   CopyFrom, unpacked: bin/su 755, tmp 777, links 1
#   CopyFrom with MetadataOnly: setuid true
#   files of home: base .profile notes; layer .bashrc .wh..wh..opq work; merged work
#   fsck.erofs: exit 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
# Debian 13's programs run with Debian 13's libraries, by their own loader.
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

export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
mkdir module
cat >module/go.mod <<'MOD'
module layers

go 1.25

require github.com/erofs/go-erofs v0.3.1
MOD
cat >module/main.go <<'GO'
package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/erofs/go-erofs"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func open(name string) fs.FS {
	f, err := os.Open(name)
	check(err)
	image, err := erofs.Open(f)
	check(err)
	return image
}

func write(name string, add func(*erofs.Writer)) {
	out, err := os.Create(name)
	check(err)
	writer := erofs.Create(out)
	add(writer)
	check(writer.Close())
	check(out.Close())
}

func main() {
	base := open("base.erofs")
	write("copy.erofs", func(w *erofs.Writer) { check(w.CopyFrom(base)) })
	write("index.erofs", func(w *erofs.Writer) { check(w.CopyFrom(base, erofs.MetadataOnly())) })
	write("merged.erofs", func(w *erofs.Writer) {
		check(w.CopyFrom(base))
		check(w.CopyFrom(open("layer.erofs"), erofs.Merge()))
	})
	setuid := func(image fs.FS) (bool, bool) {
		info, err := fs.Stat(image, "bin/su")
		check(err)
		return info.Mode()&fs.ModeSetuid != 0, info.Sys().(*erofs.Stat).Mode&fs.ModeSetuid != 0
	}
	mode, stat := setuid(base)
	fmt.Printf("FileInfo of bin/su: setuid %v; Stat: setuid %v\n", mode, stat)
	_, stat = setuid(open("index.erofs"))
	fmt.Printf("CopyFrom with MetadataOnly: setuid %v\n", stat)
}
GO
(cd module && go mod tidy && go build -o ../layers .) >build.log 2>&1 || { cat build.log; exit 1; }

mkdir -p base/{bin,home,tmp} layer/home
echo su >base/bin/su
ln base/bin/su base/bin/sudo
chmod 4755 base/bin/su
chmod 1777 base/tmp
touch base/home/{.profile,notes} layer/home/{.bashrc,.wh..wh..opq,work}
for name in base layer; do run mkfs.erofs --quiet $name.erofs $name; done
stats=$(./layers)

names() { run dump.erofs --ls --path=/home "$1" | awk '$1 ~ /^[0-9]+$/ && $3 !~ /^\.\.?$/ { print $3 }' | paste -s -d ' '; }
line() { # WHAT IMAGE
	run fsck.erofs --extract="$2.tree" "$2" >/dev/null
	echo "$1, unpacked: bin/su $(stat -c %a "$2.tree/bin/su"), tmp $(stat -c %a "$2.tree/tmp"), links $(stat -c %h "$2.tree/bin/su")"
}
status=0
run fsck.erofs merged.erofs >/dev/null 2>&1 || status=$?
found=$(
	head -n 1 <<<"$stats"
	line mkfs.erofs base.erofs
	line CopyFrom copy.erofs
	tail -n 1 <<<"$stats"
	echo "files of home: base $(names base.erofs); layer $(names layer.erofs); merged $(names merged.erofs)"
	echo "fsck.erofs: exit $status"
)
echo "$found"
[ "$found" = 'FileInfo of bin/su: setuid false; Stat: setuid true
mkfs.erofs, unpacked: bin/su 4755, tmp 1777, links 2
CopyFrom, unpacked: bin/su 755, tmp 777, links 1
CopyFrom with MetadataOnly: setuid true
files of home: base .profile notes; layer .bashrc .wh..wh..opq work; merged work
fsck.erofs: exit 0' ]
