#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever moves a QEMU image to XCP-ng or backs it up with the qcow2 reader of Xen Orchestra.
#
# @xen-orchestra/qcow2 1.3.1 (npm, 2026) knows extended L2 tables: it reads entries of 16 bytes. But it uses only the first
# half of an entry, so a subcluster that the image does not have is not looked up in the backing file. A cluster of which
# the guest wrote 4 KiB is read as these 4 KiB and 60 KiB of zeros, and a copy so made hides the backing file's data.
# The package looks neither at the compression bit nor at the zero bit. A cluster of `qemu-img convert -c` is read as bytes
# of the deflate stream, and a cluster that was zeroed in place is read as its old data. No error is raised in the three
# cases, and the sizes and the block numbers are right. The package imports @vates/read-chunk, which its package.json does
# not name, so this script installs it too.
#
# Observed output of this script:
#   extended L2, 4 KiB of 64 KiB written: QEMU 4096 x 79 and 61440 x 66, Xen Orchestra 4096 x 79 and 61440 x 0
#   compressed: QEMU 65536 x 66, Xen Orchestra other bytes, 0 of them in common
#   zeroed in place: QEMU 65536 x 0, Xen Orchestra 65536 x 79
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @xen-orchestra/qcow2@1.3.1 @xen-orchestra/disk-transform@1.3.3 @vates/read-chunk@1.2.1 >/dev/null
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
dpkg -x ./*.deb root
# The libraries of qemu-img are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
truncate -s 64k base.raw
"$bin/qemu-io" -f raw -c 'write -P 66 0 64k' base.raw >/dev/null
"$bin/qemu-img" create -q -f qcow2 -o extended_l2=on -b base.raw -F raw extended.qcow2
"$bin/qemu-io" -f qcow2 -c 'write -P 79 0 4k' extended.qcow2 >/dev/null
"$bin/qemu-img" convert -c -f raw -O qcow2 base.raw compressed.qcow2
"$bin/qemu-img" create -q -f qcow2 zeroed.qcow2 64k
"$bin/qemu-io" -f qcow2 -c 'write -P 79 0 64k' -c 'write -z 0 64k' zeroed.qcow2 >/dev/null
for image in extended compressed zeroed; do
	"$bin/qemu-img" convert -f qcow2 -O raw $image.qcow2 $image.raw
done
cat >read.mjs <<'JS'
import { open, readFile } from 'node:fs/promises'
import { QCowAccessor } from '@xen-orchestra/qcow2'

const files = { openFile: path => open(path), closeFile: file => file.close(),
	read: (file, buffer, offset) => file.read(buffer, 0, buffer.length, offset) }

function counts(bytes) {
	const found = new Map()
	for (const byte of bytes) found.set(byte, (found.get(byte) ?? 0) + 1)
	return [...found].map(([byte, n]) => `${n} x ${byte}`).join(' and ')
}

async function read(name) {
	const disk = new QCowAccessor(files, name + '.qcow2')
	await disk.init()
	const { data } = await disk.readBlock(0)
	await disk.close()
	return { qemu: await readFile(name + '.raw'), data }
}

let { qemu, data } = await read('extended')
console.log(`extended L2, 4 KiB of 64 KiB written: QEMU ${counts(qemu)}, Xen Orchestra ${counts(data)}`);
({ qemu, data } = await read('compressed'))
const common = qemu.filter((byte, i) => byte === data[i]).length
console.log(`compressed: QEMU ${counts(qemu)}, Xen Orchestra other bytes, ${common} of them in common`);
({ qemu, data } = await read('zeroed'))
console.log(`zeroed in place: QEMU ${counts(qemu)}, Xen Orchestra ${counts(data)}`)
JS
found=$(node read.mjs)
echo "$found"
[ "$found" = "extended L2, 4 KiB of 64 KiB written: QEMU 4096 x 79 and 61440 x 66, Xen Orchestra 4096 x 79 and 61440 x 0
compressed: QEMU 65536 x 66, Xen Orchestra other bytes, 0 of them in common
zeroed in place: QEMU 65536 x 0, Xen Orchestra 65536 x 79" ]
