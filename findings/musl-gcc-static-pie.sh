#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever builds a first process for a container or a guest, which has to run where no loader is.
#
# Debian 12's musl-gcc (musl-tools 1.2.3-1, gcc 12.2) accepts -static-pie without a word, and links a dynamic program: it
# has an interpreter, /lib/ld-musl-x86_64.so.1, and needs libc.so. Its specs know -static and -shared only, and gcc's own
# meaning of -static-pie is not in them. -static gives a static program, which is not position-independent.
#
# Observed output of this script:
#   -static-pie: interpreter /lib/ld-musl-x86_64.so.1, needs libc.so
#   -static: no interpreter
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q musl=1.2.3-1 musl-dev=1.2.3-1 musl-tools=1.2.3-1 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
# musl-dev's link to the library is absolute too.
ln -sf "$(find "$dir/root" -type f -name 'libc.so' -o -type f -name 'ld-musl-x86_64.so.1' | head -n 1)" \
	root/usr/lib/x86_64-linux-musl/libc.so
# The specs hold absolute paths of where the package is usually installed.
specs=$dir/musl-gcc.specs
sed "s#/usr/\(lib\|include\)/x86_64-linux-musl#$dir/root/usr/\1/x86_64-linux-musl#g" \
	root/usr/lib/x86_64-linux-musl/musl-gcc.specs >"$specs"
echo 'int main(void) { return 0; }' >main.c
gcc -specs "$specs" -static-pie -o static-pie main.c
gcc -specs "$specs" -static -o static main.c
interpreter() { readelf -lW "$1" | sed -n 's/.*Requesting program interpreter: \(.*\)\]/\1/p'; }
found="-static-pie: interpreter $(interpreter static-pie), needs $(readelf -d static-pie | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p')
-static: $(interpreter static | grep . || echo 'no interpreter')"
echo "$found"
[ "$found" = "-static-pie: interpreter /lib/ld-musl-x86_64.so.1, needs libc.so
-static: no interpreter" ]
