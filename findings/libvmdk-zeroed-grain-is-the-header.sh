#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever reads a VMware disk (VMDK) with libvmdk, for evidence, packages or secrets.
#
# A VMDK file may say of a grain (64 KiB) that it is zero: with the flag for zeroed grains in its header, the number 1 in a
# grain table means zeros and not a place. QEMU writes such tables with zeroed_grain=on when a guest zeroes or discards.
# libvmdk 20260714 (PyPI libvmdk-python, 2026), as 20200926 of Debian 12, takes the 1 for sector 1. It returns what stands
# there: the text of the file's own descriptor and its tables. No error is raised. dissect.hypervisor 3.21 reads zeros.
#
# Observed output of this script:
#   qemu-img check: exit 0
#   QEMU: grain 0 begins with 16 zero bytes, grain 1 with AAAAAAAAAAAAAAAA
#   dissect.hypervisor 3.21: grain 0 begins with 16 zero bytes, grain 1 with AAAAAAAAAAAAAAAA
#   libvmdk 20200926: grain 0 begins with # Disk Descripto, grain 1 with AAAAAAAAAAAAAAAA
#   libvmdk 20260714: grain 0 begins with # Disk Descripto, grain 1 with AAAAAAAAAAAAAAAA
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check libvmdk-python==20260714 \
	dissect.hypervisor==3.21 dissect.cstruct==4.7 dissect.util==3.24 defusedxml==0.7.1
apt-get download -q "qemu-utils=1:7.2+dfsg-7+deb12u18+b3" python3-libvmdk=20200926-2+b2 libvmdk1=20200926-2+b2 >/dev/null 2>&1
for deb in ./*.deb; do dpkg -x "$deb" root; done
# The other libraries are those of any Debian 12 that has qemu-utils' dependencies.
bin=$dir/root/usr/bin
"$bin/qemu-img" create -q -f vmdk -o zeroed_grain=on disk.vmdk 1M
"$bin/qemu-io" -f vmdk -c 'write -P 65 0 1M' -c 'write -z 0 64k' disk.vmdk >/dev/null
"$bin/qemu-img" convert -f vmdk -O raw disk.vmdk disk.raw
cat >read.py <<'PY'
import sys
from pathlib import Path


def show(name, disk):
    begin = [disk[n << 16:(n << 16) + 16] for n in (0, 1)]
    told = [b.decode() if any(b) else f"{len(b)} zero bytes" for b in begin]
    print(f"{name}: grain 0 begins with {told[0]}, grain 1 with {told[1]}")


if sys.argv[1] == "libvmdk":
    import pyvmdk

    handle = pyvmdk.handle()
    handle.open("disk.vmdk")
    handle.open_extent_data_files()
    show("libvmdk " + pyvmdk.get_version(), handle.read_buffer_at_offset(handle.get_media_size(), 0))
else:
    from dissect.hypervisor.disk.vmdk import VMDK

    show("QEMU", open("disk.raw", "rb").read())
    show("dissect.hypervisor 3.21", VMDK(Path("disk.vmdk")).read(1 << 20))
PY
status=0
"$bin/qemu-img" check -q disk.vmdk >/dev/null || status=$?
found="qemu-img check: exit $status
$(venv/bin/python read.py dissect)
$(LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu PYTHONPATH=$dir/root/usr/lib/python3/dist-packages /usr/bin/python3 read.py libvmdk)
$(venv/bin/python read.py libvmdk)"
echo "$found"
[ "$found" = "qemu-img check: exit 0
QEMU: grain 0 begins with 16 zero bytes, grain 1 with AAAAAAAAAAAAAAAA
dissect.hypervisor 3.21: grain 0 begins with 16 zero bytes, grain 1 with AAAAAAAAAAAAAAAA
libvmdk 20200926: grain 0 begins with # Disk Descripto, grain 1 with AAAAAAAAAAAAAAAA
libvmdk 20260714: grain 0 begins with # Disk Descripto, grain 1 with AAAAAAAAAAAAAAAA" ]
