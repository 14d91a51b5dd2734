#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads a cloud image through an overlay that was made larger than it, from Python.
#
# The usual way to start a machine is `qemu-img create -b cloud.img -F … overlay.qcow2 20G`: the overlay is larger than its
# backing file, and QEMU reads zeros behind the backing file's end. dissect.hypervisor 3.21 (PyPI) says the right size,
# but one read() leaves out the clusters that neither file has, instead of filling them with zeros: what comes behind the
# hole is moved to its beginning, and the result is short. A seek to the data reads the right bytes. No error is raised.
#
# Observed output of this script:
#   size: QEMU 4194304, dissect 4194304
#   read of the whole disk: QEMU 4194304 bytes, dissect 1114112 bytes
#   byte at 3 MiB, after a seek there: QEMU 79, dissect 79
#   byte at 1 MiB of that read, where the hole begins: QEMU 0, dissect 79
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
truncate -s 1M base.raw
"$bin/qemu-io" -f raw -c 'write -P 66 0 1M' base.raw >/dev/null
"$bin/qemu-img" create -q -f qcow2 -b base.raw -F raw overlay.qcow2 4M
"$bin/qemu-io" -f qcow2 -c 'write -P 79 3M 64k' overlay.qcow2 >/dev/null
"$bin/qemu-img" convert -f qcow2 -O raw overlay.qcow2 flat.raw
found=$(venv/bin/python - <<'PYTHON'
from pathlib import Path
from dissect.hypervisor.disk.qcow2 import QCow2
flat = Path("flat.raw").read_bytes()
disk = QCow2(Path("overlay.qcow2")).open()
print(f"size: QEMU {len(flat)}, dissect {disk.size}")
whole = disk.read(disk.size)
print(f"read of the whole disk: QEMU {len(flat)} bytes, dissect {len(whole)} bytes")
disk.seek(3 << 20)
print(f"byte at 3 MiB, after a seek there: QEMU {flat[3 << 20]}, dissect {disk.read(1)[0]}")
print(f"byte at 1 MiB of that read, where the hole begins: QEMU {flat[1 << 20]}, dissect {whole[1 << 20]}")
PYTHON
)
echo "$found"
[ "$found" = "size: QEMU 4194304, dissect 4194304
read of the whole disk: QEMU 4194304 bytes, dissect 1114112 bytes
byte at 3 MiB, after a seek there: QEMU 79, dissect 79
byte at 1 MiB of that read, where the hole begins: QEMU 0, dissect 79" ]
