#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who meets this: whoever gives QEMU's microvm machine a disk by vhost-user-blk, as qemu-storage-daemon and SPDK serve it, and
# moves from Debian 12 to another system.
#
# With -kernel nothing should read the disk before Linux does. But the real-mode code of a bzImage asks the firmware for the
# boot sector of each disk (EDD). SeaBIOS reads it by a request that lies below 1 MiB, in memory that QEMU does not share with
# the process that serves the disk. qemu-storage-daemon then says "invalid address for buffers" and gives up the device, so
# that the machine never finds its disk. Debian 12's package hides that: its bios-microvm.bin is a link to qboot.rom, a
# firmware that knows no disks. Debian 13's is SeaBIOS. The parameter edd=off keeps the kernel from asking. An ELF kernel
# (vmlinux) has no real-mode code.
#
# Needs busybox-static, cpio, and the libraries that QEMU 7.2 of Debian 12 is linked with. Boots Debian's cloud kernel in software.
#
# Observed output of this script:
#   Debian 12's bios-microvm.bin is qboot.rom
#   qboot: Linux reads the disk
#   SeaBIOS: invalid address for buffers
#   SeaBIOS and edd=off: Linux reads the disk
set -euo pipefail
dir=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon"; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q linux-image-6.1.0-57-cloud-amd64=6.1.192-3 seabios=1.16.2-1 qemu-system-data="1:7.2+dfsg-7+deb12u18" \
	qemu-system-{x86,common}="1:7.2+dfsg-7+deb12u18+b3" >/dev/null 2>&1
for deb in *.deb; do dpkg -x "$deb" root; done
link=$(readlink root/usr/share/qemu/bios-microvm.bin)
truncate -s 8M disk
mkdir -p initrd/bin initrd/lib
cp /bin/busybox initrd/bin/
modules=(virtio/virtio virtio/virtio_ring virtio/virtio_mmio block/virtio_blk)
for module in "${modules[@]}"; do cp root/lib/modules/*/kernel/drivers/$module.ko initrd/lib/; done
cat >initrd/init <<'INIT'
#!/bin/busybox sh
for module in virtio_ring virtio virtio_mmio virtio_blk; do /bin/busybox insmod /lib/$module.ko; done
/bin/busybox mount -t devtmpfs dev /dev
[ -b /dev/vda ] && /bin/busybox dd if=/dev/vda of=/dev/null bs=4096 count=1 2>/dev/null && echo "Linux reads the disk"
/bin/busybox reboot -f
INIT
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet) >initrd.cpio
try() { # FIRMWARE PARAMETER
	root/usr/bin/qemu-storage-daemon --blockdev driver=file,node-name=disk,filename=disk \
		--export type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path=socket >said 2>&1 &
	daemon=$!
	until [ -S socket ]; do sleep 0.1; done
	timeout 60 root/usr/bin/qemu-system-x86_64 -M microvm,acpi=on,pic=off,pit=off,rtc=on,memory-backend=ram -accel tcg -cpu max -m 256 \
		-nodefaults -no-user-config -no-reboot -display none -bios "$1" -kernel root/boot/vmlinuz-* -initrd initrd.cpio \
		-append "console=ttyS0 quiet panic=-1 tsc=reliable tsc_early_khz=2000000 lpj=2000000 $2" -serial file:serial -L root/usr/share/qemu \
		-object memory-backend-memfd,id=ram,size=256M,share=on -global virtio-mmio.force-legacy=false \
		-chardev socket,id=disk,path=socket -device vhost-user-blk,chardev=disk >/dev/null 2>&1 || true
	kill "$daemon" 2>/dev/null || true
	wait "$daemon" 2>/dev/null || true
	daemon=
	rm -f socket
	cat said serial | grep -aoE 'invalid address for buffers|Linux reads the disk' | sort -u
}
seabios=root/usr/share/seabios/bios-microvm.bin
found=$(echo "Debian 12's bios-microvm.bin is $link"
	echo "qboot: $(try root/usr/share/qemu/qboot.rom "")"
	echo "SeaBIOS: $(try $seabios "")"
	echo "SeaBIOS and edd=off: $(try $seabios edd=off)")
echo "$found"
[ "$found" = "Debian 12's bios-microvm.bin is qboot.rom
qboot: Linux reads the disk
SeaBIOS: invalid address for buffers
SeaBIOS and edd=off: Linux reads the disk" ]
