#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads files out of ext4, ext3 or ext2 disk images from Rust with ext4-view, as boot loaders and scanners do.
#
# ext4-view 1.0.0 (2026) names as its first aim that all valid file systems are readable. ext4 marks blocks that are reserved
# and not yet written by the length of their extent, and they read as zeros. The crate subtracts the mark and reads the
# blocks: what a deleted file left there appears in the file, and no error is raised. Reserved blocks are common: journald,
# databases and swap files call posix_fallocate(). ext2 and ext3 write a hole as block number 0. The crate knows this for data,
# but not for the tables of block numbers: a hole that spans a whole table (4 MiB at blocks of 4 KiB) has none. There it calls
# the file system corrupt, and the file cannot be read at all, while a smaller hole is read as zeros. e2fsck finds no fault.
#
# Needs Rust's cargo.
#
# Observed output of this script:
#   ext4, 4096 bytes written of 32768: e2fsprogs 4096 x A, 28672 x 0; ext4-view 4096 x A, 28672 x S
#   ext2, 4096 bytes after a hole of 28672: e2fsprogs 28672 x 0, 4096 x A; ext4-view 28672 x 0, 4096 x A
#   ext2, 4096 bytes after a hole of 5242880: e2fsprogs 5242880 x 0, 4096 x A; ext4-view corrupt filesystem
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export CARGO_HOME=$dir/cargo
apt-get download -q e2fsprogs=1.47.0-2+b2 libext2fs2=1.47.0-2+b2 libss2=1.47.0-2+b2 libcom-err2=1.47.0-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
e2() { LD_LIBRARY_PATH=$(echo root/lib/*-linux-gnu):$(echo root/usr/lib/*-linux-gnu) "root/sbin/$1" "${@:2}"; }
mkdir -p src tree
cat >Cargo.toml <<'END'
[package]
name = "read"
version = "0.1.0"
edition = "2021"

[dependencies]
ext4-view = "=1.0.0"
END
cat >src/main.rs <<'END'
fn main() {
    let image = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    match ext4_view::Ext4::load(Box::new(image)).unwrap().read("/file") {
        Ok(data) => std::fs::write("read.out", data).unwrap(),
        Err(error) => print!("{}", error.to_string().split(':').next().unwrap()),
    }
}
END
cargo build -q 2>build.log || { cat build.log; exit 1; }
# A disk that was in use before: its free blocks hold old data.
for image in ext4 ext2.28672 ext2.5242880; do head -c 16M /dev/zero | tr '\0' S >$image.img; done
head -c 4096 /dev/zero | tr '\0' A >written
e2 mke2fs -q -F -t ext4 -b 4096 -E nodiscard ext4.img
e2 debugfs -w -R "write written file" ext4.img >/dev/null 2>&1
e2 debugfs -w -R "fallocate file 1 7" ext4.img 2>/dev/null
e2 debugfs -w -R "set_inode_field file size 32768" ext4.img 2>/dev/null
for hole in 28672 5242880; do
	truncate -s 0 tree/file
	truncate -s $hole tree/file
	cat written >>tree/file
	e2 mke2fs -q -F -t ext2 -b 4096 -E nodiscard -d tree ext2.$hole.img
done
for image in *.img; do e2 e2fsck -fn "$image" >/dev/null 2>&1; done
runs() { # FILE: how often each byte stands there in a row
	python3 -c 'import sys, itertools
print(", ".join(f"{len(list(run))} x {chr(byte or 48)}" for byte, run in itertools.groupby(open(sys.argv[1], "rb").read())))' "$1"
}
line() { # IMAGE WHAT
	e2 debugfs -R "dump file dump.out" "$1.img" 2>/dev/null
	rm -f read.out
	told=$(target/debug/read "$1.img")
	[ ! -e read.out ] || told=$(runs read.out)
	echo "$2: e2fsprogs $(runs dump.out); ext4-view $told"
}
found=$(
	line ext4 'ext4, 4096 bytes written of 32768'
	for hole in 28672 5242880; do line ext2.$hole "ext2, 4096 bytes after a hole of $hole"; done
)
echo "$found"
[ "$found" = "ext4, 4096 bytes written of 32768: e2fsprogs 4096 x A, 28672 x 0; ext4-view 4096 x A, 28672 x S
ext2, 4096 bytes after a hole of 28672: e2fsprogs 28672 x 0, 4096 x A; ext4-view 28672 x 0, 4096 x A
ext2, 4096 bytes after a hole of 5242880: e2fsprogs 5242880 x 0, 4096 x A; ext4-view corrupt filesystem" ]
