#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever unpacks tar files that hold a disk (Google Cloud's images, layers, exports) from Node.js or Rust.
#
# A disk with holes is written into a tar file as a sparse entry: by `tar -S` in GNU's old form, which Google Cloud asks for
# (--format=oldgnu), by `tar -S --format=posix` in the form of PAX, and by `bsdtar -c` in that form without being asked.
# npm's tar 7.5.23 leaves the old form out: the disk is not unpacked, and no error is raised, not even with strict: true, which
# makes errors of warnings. tar-fs 3.1.3 refuses it. modern-tar 0.8.6 (2026) gives the data without the holes, moved
# together. Of the form of PAX all three and Rust's tar 0.4.46 make a file of another name, in a directory GNUSparseFile.N,
# with a list of numbers before the data, and raise no error. Python's tarfile reads all forms, as GNU tar does.
#
# Needs Node.js, npm and Rust's cargo.
#
# Observed output of this script, the disk has 1048576 bytes and begins with "start":
#   GNU tar: tar -S: disk.img 1048576 start; bsdtar: disk.img 1048576 start
#   npm tar: tar -S: nothing; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
#   tar-fs: tar -S: refused; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
#   modern-tar: tar -S: disk.img 8192 start; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
#   Rust tar: tar -S: disk.img 1048576 start; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export CARGO_HOME=$dir/cargo
apt-get download -q libarchive-tools=3.6.2-1+deb12u5 >/dev/null 2>&1
dpkg -x ./*.deb root # bsdtar's libraries are those of any Debian 12 that has libarchive13
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts tar@7.5.23 tar-fs@3.1.3 modern-tar@0.8.6 >/dev/null
mkdir -p src files
cat >Cargo.toml <<'END'
[package]
name = "unpack"
version = "0.1.0"
edition = "2021"

[dependencies]
tar = "=0.4.46"
END
cat >src/main.rs <<'END'
fn main() {
    let args: Vec<String> = std::env::args().collect();
    tar::Archive::new(std::fs::File::open(&args[1]).unwrap()).unpack(&args[2]).unwrap();
}
END
cargo build -q 2>build.log || { cat build.log; exit 1; }
cat >unpack.mjs <<'JS'
import * as fs from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { unpackTar } from 'modern-tar/fs'
import tarFs from 'tar-fs'
import * as tar from 'tar'

const [tool, file, cwd] = process.argv.slice(2)
if (tool === 'npm') await tar.x({ file, cwd, strict: true })
else await pipeline(fs.createReadStream(file), tool === 'tar-fs' ? tarFs.extract(cwd) : unpackTar(cwd))
JS
truncate -s 1M files/disk.img
printf start | dd of=files/disk.img conv=notrunc status=none
printf middle | dd of=files/disk.img bs=1 seek=512K conv=notrunc status=none
tar -C files -cS --format=oldgnu -f gnu.tar disk.img
root/usr/bin/bsdtar -C files -cf bsd.tar disk.img
unpacked() { # FILE COMMAND...: what the command makes of the tar file
	rm -rf out && mkdir out
	"${@:2}" "$1" out >/dev/null 2>&1 || { echo refused; return; }
	(cd out && find . -type f | cut -c3- | while read -r name; do
		echo "$name $(stat -c %s "$name") $(head -c 5 "$name" | sed ':a;N;$!ba;s/\n/\\n/g')"
	done | grep . || echo nothing)
}
gnu() { tar -xf "$1" -C "$2"; }
line() { echo "$1: tar -S: $(unpacked gnu.tar "${@:2}"); bsdtar: $(unpacked bsd.tar "${@:2}")"; }
found=$(
	line 'GNU tar' gnu
	line 'npm tar' node unpack.mjs npm
	line tar-fs node unpack.mjs tar-fs
	line modern-tar node unpack.mjs modern-tar
	line 'Rust tar' target/debug/unpack
)
echo "$found"
[ "$found" = 'GNU tar: tar -S: disk.img 1048576 start; bsdtar: disk.img 1048576 start
npm tar: tar -S: nothing; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
tar-fs: tar -S: refused; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
modern-tar: tar -S: disk.img 8192 start; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4
Rust tar: tar -S: disk.img 1048576 start; bsdtar: GNUSparseFile.0/disk.img 8704 3\n0\n4' ]
