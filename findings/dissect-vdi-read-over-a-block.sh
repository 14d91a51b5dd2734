#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads VirtualBox's, Hyper-V's or Parallels' disks from Python, for evidence, packages or secrets.
#
# A VDI disk's blocks stand in the file in the order in which they were first written. dissect.hypervisor 3.21 (PyPI) looks up
# only the first block of a read, and takes the rest from what follows there in the file. So a disk whose blocks were not
# written from first to last is read with blocks in wrong places, and where it has a hole the read is short. A read within
# one block is right, so a test that looks at single sectors passes. In a Parallels disk it looks up every block, but
# counts a hole from 0 and then asks whether the next block follows in the file: where a hole is as long as the place
# of the next block is far from the file's beginning, that block is read as zeros. In a VHDX disk it looks up every block,
# but takes a whole block's length from the place where a read begins in a block. So a read of the whole disk is right, and
# one that begins within a block and ends behind it has the wrong bytes. No error is raised in the four cases.
#
# Observed output of this script, each letter the first byte of 1 MiB:
#   VDI, written 0 2 1 3: QEMU A B C D, one read A C B D, four reads A B C D
#   VDI, a hole: QEMU A 0 0 D, one read A D, four reads A 0 0 D
#   Parallels, hole of 1 MiB: QEMU 0 B 0 0, one read 0 0 0 0, four reads 0 B 0 0
#   Parallels, hole of 2 MiB: QEMU 0 0 C 0, one read 0 0 C 0, four reads 0 0 C 0
#   VHDX, written 0 2 1 3: QEMU A B C D, one read A B C D, four reads A B C D
#   VHDX, every 512 KiB from 512 KiB on: QEMU A B B C C D D, one read A C B D C B D
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check dissect.hypervisor==3.21 dissect.cstruct==4.7 dissect.util==3.24 defusedxml==0.7.1
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
dpkg -x ./*.deb root
# The libraries of qemu-img are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
make() { # NAME FORMAT BLOCK=BYTE...: an image of 4 MiB, to which the blocks are written in this order
	local image=$1 format=$2 block options=()
	shift 2
	[ "$format" != vhdx ] || options=(-o block_size=1M)
	"$bin/qemu-img" create -q -f "$format" "${options[@]}" "$image" 4M
	for block; do "$bin/qemu-io" -f "$format" -c "write -P ${block#*=} ${block%=*}M 1M" "$image" >/dev/null; done
	"$bin/qemu-img" convert -f "$format" -O raw "$image" "$image.raw"
}
make order.vdi vdi 0=65 2=67 1=66 3=68
make hole.vdi vdi 0=65 3=68
make order.vhdx vhdx 0=65 2=67 1=66 3=68
make one.hds parallels 1=66
make two.hds parallels 2=67
cat >read.py <<'PY'
from dissect.hypervisor.disk.hdd import HDS
from dissect.hypervisor.disk.vdi import VDI
from dissect.hypervisor.disk.vhdx import VHDX

MIB = 1 << 20


def show(disk, step=MIB):
    return " ".join("0" if not byte else chr(byte) for byte in disk[::step])


def line(what, name, opened):
    whole = opened().read(4 * MIB)
    parts = b""
    for n in range(4):
        stream = opened()
        stream.seek(n * MIB)
        parts += stream.read(MIB)
    print(f"{what}: QEMU {show(open(name + '.raw', 'rb').read())}, one read {show(whole)}, four reads {show(parts)}")


line("VDI, written 0 2 1 3", "order.vdi", lambda: VDI(open("order.vdi", "rb")).open())
line("VDI, a hole", "hole.vdi", lambda: VDI(open("hole.vdi", "rb")).open())
line("Parallels, hole of 1 MiB", "one.hds", lambda: HDS(open("one.hds", "rb")))
line("Parallels, hole of 2 MiB", "two.hds", lambda: HDS(open("two.hds", "rb")))
line("VHDX, written 0 2 1 3", "order.vhdx", lambda: VHDX(open("order.vhdx", "rb")))
half, stream = MIB // 2, VHDX(open("order.vhdx", "rb"))
stream.seek(half)
qemu = open("order.vhdx.raw", "rb").read()[half:]
print(f"VHDX, every 512 KiB from 512 KiB on: QEMU {show(qemu, half)}, one read {show(stream.read(len(qemu)), half)}")
PY
found=$(venv/bin/python read.py)
echo "$found"
[ "$found" = "VDI, written 0 2 1 3: QEMU A B C D, one read A C B D, four reads A B C D
VDI, a hole: QEMU A 0 0 D, one read A D, four reads A 0 0 D
Parallels, hole of 1 MiB: QEMU 0 B 0 0, one read 0 0 0 0, four reads 0 B 0 0
Parallels, hole of 2 MiB: QEMU 0 0 C 0, one read 0 0 C 0, four reads 0 0 C 0
VHDX, written 0 2 1 3: QEMU A B C D, one read A B C D, four reads A B C D
VHDX, every 512 KiB from 512 KiB on: QEMU A B B C C D D, one read A C B D C B D" ]
