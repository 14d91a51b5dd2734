#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever starts several machines from one snapshot of a Debian cloud image.
#
# A virtual machine that was copied or restored draws the same random numbers as its siblings, unless the hypervisor's
# generation id (VMGENID) tells its kernel. Linux has the driver since 5.18, and Debian 12's generic kernel has it built in.
# Debian's kernel for clouds, which the images "genericcloud" have, and which is meant for virtual machines only, has not:
# it leaves out the menu of drivers for virtual machines as a whole (CONFIG_VIRT_DRIVERS), with it AMD's SEV guest. So
# `dmesg` there never says "crng reseeded due to virtual machine fork", whatever the hypervisor does.
#
# Observed output of this script:
#   amd64: CONFIG_SEV_GUEST=m CONFIG_VIRTIO_MEM=m CONFIG_VIRT_DRIVERS=y CONFIG_VMGENID=y
#   cloud-amd64: CONFIG_VIRTIO_MEM=m
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q linux-config-6.1=6.1.192-3 >/dev/null 2>&1 # the configurations of the kernel packages of this version
dpkg -x ./*.deb root
found=$(for flavour in amd64 cloud-amd64; do
	echo "$flavour:" "$(xzcat "root/usr/src/linux-config-6.1/config.amd64_none_$flavour.xz" |
		grep -E '^CONFIG_(VIRT_DRIVERS|VMGENID|SEV_GUEST|VIRTIO_MEM)=' | sort -t= -k1,1 | paste -sd' ')"
done)
echo "$found"
[ "$found" = "amd64: CONFIG_SEV_GUEST=m CONFIG_VIRTIO_MEM=m CONFIG_VIRT_DRIVERS=y CONFIG_VMGENID=y
cloud-amd64: CONFIG_VIRTIO_MEM=m" ]
