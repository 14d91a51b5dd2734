#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads XFS disk images from Go or Rust, for packages, secrets or evidence, as scanners do.
#
# XFS counts a file's extents in its inode. With the feature nrext64, which mkfs.xfs 6.13 (Debian 13) switches on by itself
# and 6.1 (Debian 12) does not, a data fork's count stands elsewhere, as 64 bits, and its old place has the count of the
# extended attributes. go-xfs-filesystem (April 2026) and xfs-core 0.1.6 (2026) don't ask for the feature and read the old
# place: 0 extents. So each file is one hole: it has its name, size and mode, and reads as zeros, without an error. The
# program that looks for a package database or a key finds none. A directory whose names stand in its inode is read, and
# one that has a block of its own is an error in both. With -i nrext64=0 all is right. dissect.xfs 3.13 (PyPI) reads both.
#
# Needs Go and Rust's cargo.
#
# Observed output of this script:
#   nrext64=0: dissect.xfs: hello: hello, many: 100 names
#   nrext64=0: Go: hello: hello, many: 100 names
#   nrext64=0: Rust: hello: hello, many: 100 names
#   default: dissect.xfs: hello: hello, many: 100 names
#   default: Go: hello: 5 zero bytes, many: directory extents tree bmbtRecs is empty error
#   default: Rust: hello: 5 zero bytes, many: unrecognized data-block magic 0x00000000
#   xfs_repair -n: exit 0 0
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
apt-get "${apt[@]}" download xfsprogs=6.13.0-2+deb13u1 libc6 libinih1 liburcu8t64 libblkid1 libuuid1 libedit2 libbsd0 \
	libmd0 libtinfo6 >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
loader=$(find root -name ld-linux-x86-64.so.2 | head -n 1)
run() { "$loader" --library-path root/usr/lib/x86_64-linux-gnu "root/usr/sbin/$1" "${@:2}"; }
printf hello >hello
{
	printf '/\n0 0\nd--755 0 0\nhello ---644 0 0 hello\nmany d--755 0 0\n'
	for n in {100..199}; do echo "file$n ---644 0 0 hello"; done
	printf '$\n$\n'
} >proto
truncate -s 300M old.img new.img
run mkfs.xfs -q -p proto -i nrext64=0 old.img
run mkfs.xfs -q -p proto new.img

export GOPATH=$dir/go GOFLAGS=-modcacherw GOCACHE=$dir/cache CGO_ENABLED=0
mkdir module
cat >module/go.mod <<'MOD'
module read

go 1.25

require github.com/masahiro331/go-xfs-filesystem v0.0.0-20260422061116-d21e5e4481bb
MOD
cat >module/main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/masahiro331/go-xfs-filesystem/xfs"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	f, err := os.Open(os.Args[1])
	check(err)
	info, err := f.Stat()
	check(err)
	x, err := xfs.NewFS(*io.NewSectionReader(f, 0, info.Size()), nil)
	check(err)
	file, err := x.Open("hello")
	check(err)
	data, err := io.ReadAll(file)
	check(err)
	told := string(data)
	if strings.Trim(told, "\x00") == "" {
		told = fmt.Sprint(len(data), " zero bytes")
	}
	entries, err := x.ReadDir("many")
	names := fmt.Sprint(len(entries), " names")
	if err != nil {
		names = err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
	}
	fmt.Printf("Go: hello: %s, many: %s\n", told, names)
}
GO
(cd module && go mod tidy && go build -o ../read .) >build.log 2>&1 || { cat build.log; exit 1; }

export CARGO_HOME=$dir/cargo
mkdir -p crate/src
cat >crate/Cargo.toml <<'TOML'
[package]
name = "read"
version = "0.1.0"
edition = "2021"

[dependencies]
xfs-core = "=0.1.6"
TOML
cat >crate/src/main.rs <<'RUST'
fn main() {
    let image = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let fs = xfs::Superblock::parse(&image).unwrap();
    let root = fs.read_dir(&image, &fs.read_inode(&image, fs.rootino).unwrap()).unwrap();
    let inode = |name: &str| {
        let entry = root.iter().find(|e| e.name == name.as_bytes()).unwrap();
        fs.read_inode(&image, entry.inode).unwrap()
    };
    let data = fs.read_file(&image, &inode("hello")).unwrap();
    let told = match data.iter().all(|b| *b == 0) {
        true => format!("{} zero bytes", data.len()),
        false => String::from_utf8(data).unwrap(),
    };
    let many = match fs.read_dir(&image, &inode("many")) {
        Ok(names) => format!("{} names", names.iter().filter(|e| e.name.starts_with(b"file")).count()),
        Err(error) => error.to_string().split(": ").nth(2).unwrap().split(" (").next().unwrap().to_string(),
    };
    println!("Rust: hello: {told}, many: {many}");
}
RUST
(cd crate && cargo build -q --release) >build.log 2>&1 || { cat build.log; exit 1; }

python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check dissect.xfs==3.13 dissect.cstruct==4.7 dissect.util==3.24
cat >read.py <<'PY'
import sys

from dissect.xfs import XFS

fs = XFS(open(sys.argv[1], "rb"))
names = [name for name in fs.get("many").listdir() if name.startswith("file")]
print(f'dissect.xfs: hello: {fs.get("hello").open().read().decode()}, many: {len(names)} names')
PY
found=$(
	for image in old new; do
		[ $image = old ] && what=nrext64=0 || what=default
		echo "$what: $(venv/bin/python read.py $image.img)"
		echo "$what: $(./read $image.img)"
		echo "$what: $(crate/target/release/read $image.img)"
	done
	repair=()
	for image in old new; do
		status=0
		run xfs_repair -n $image.img >/dev/null 2>&1 || status=$?
		repair+=($status)
	done
	echo "xfs_repair -n: exit ${repair[*]}"
)
echo "$found"
[ "$found" = 'nrext64=0: dissect.xfs: hello: hello, many: 100 names
nrext64=0: Go: hello: hello, many: 100 names
nrext64=0: Rust: hello: hello, many: 100 names
default: dissect.xfs: hello: hello, many: 100 names
default: Go: hello: 5 zero bytes, many: directory extents tree bmbtRecs is empty error
default: Rust: hello: 5 zero bytes, many: unrecognized data-block magic 0x00000000
xfs_repair -n: exit 0 0' ]
