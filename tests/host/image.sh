#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# image.sh CACHE_DIR [PACKAGE ...]: makes what the test host boots from, and prints the directory that holds it.
# The run needs these packages on this machine, because it shares the machine's root.
#
#	vmlinux       Debian's kernel, unpacked (the unpacking is slow in software); beside it in
#	              kernel-VERSION, vmlinuz: as it came, for machines that the suites boot
#	initramfs     busybox, guest/initramfs-init and the modules that reach the root file system
#	modules/      the kernel's modules with modules.dep, seen in the guest as /lib/modules
#	scratch.raw   an empty ext4 image, sparse; every run writes to a throw-away snapshot of it
#
# Each is made once, and again only if its sources have changed. The kernel stays the one that was fetched
# first; delete CACHE_DIR/kernel-* (or run with --rebuild) to get Debian's present one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../lib/packages.sh
. "$here/../lib/packages.sh"
cache=$1
scratch_size=24G

# The modules for the root file system, and those that nothing loads on demand, because there is no udev. The kernel
# itself calls modprobe for the rest (veth, bridge, nf_tables, sch_ingress and others) when it is first needed.
boot_modules=(virtio_pci 9pnet_virtio 9p overlay virtio_blk ext4 crc32c_generic virtio_console
	bfq kvm_amd fuse loop tun vhost_vsock vsock_loopback)

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

# Fetches the kernel package that linux-image-amd64 stands for and unpacks it into $cache/kernel-VERSION.
fetch_kernel() {
	local package work=$cache/tmp.kernel
	package=$(kernel_package)
	if [ -z "$package" ]; then
		apt_quiet update
		export CAISSON_APT_UPDATED=1
		package=$(kernel_package)
	fi
	[ -n "$package" ] || {
		echo "test host: apt knows no linux-image-amd64: check the machine's Debian sources" >&2
		return 1
	}
	echo "test host: fetching $package" >&2
	rm -rf "$work"
	mkdir -p "$work/x"
	# The package list may name a version that the mirror has replaced. Then it is updated, and the download repeated.
	(cd "$work" && apt-get -q download "$package" >/dev/null 2>&1) || {
		apt_quiet update
		(cd "$work" && apt_quiet download "$package")
	}
	local version
	version=$(kernel_unpack "$work/$package"_*.deb "$work/x")
	mkdir "$work/done"
	mv "$work/x/lib/modules" "$work/done/modules"
	kernel_elf "$work"/x/boot/vmlinuz-* "$work/done/vmlinux"
	mv "$work"/x/boot/vmlinuz-* "$work/done/vmlinuz"
	rm -rf "$cache/kernel-$version"
	mv "$work/done" "$cache/kernel-$version"
	rm -rf "$work"
}

kernel_package() {
	apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }'
}

# Prints the files of the named modules and of all modules that they depend on, in the order of loading. modules.dep
# lists after each module the modules that it needs, with the deepest dependency last.
load_order() {
	local tree=$1
	shift
	awk -v want="$*" '
		{ file = $1; sub(/:$/, "", file); name = file; sub(/.*\//, "", name); sub(/\.ko.*/, "", name)
		  gsub(/-/, "_", name); deps = ""; for (i = NF; i >= 2; i--) deps = deps " " $i
		  need[name] = deps " " file }
		END {
			n = split(want, names, " ")
			for (i = 1; i <= n; i++) {
				gsub(/-/, "_", names[i])
				# A module that has no file is built into the kernel.
				m = split(need[names[i]], files, " ")
				for (j = 1; j <= m; j++) if (!seen[files[j]]++) print files[j]
			}
		}' "$tree/modules.dep"
}

make_initramfs() {
	local kernel=$1 out=$2 tree work=$cache/tmp.initramfs file
	tree=$(echo "$kernel"/modules/*)
	rm -rf "$work"
	mkdir -p "$work"/{bin,dev,proc,sys,mod,lower,rw,newroot}
	cp /bin/busybox "$work/bin/"
	install -m 755 "$here/guest/initramfs-init" "$work/init"
	load_order "$tree" "${boot_modules[@]}" | while read -r file; do
		cp "$tree/$file" "$work/mod/"
		basename "$file"
	done >"$work/mod/order"
	# The archive is not compressed, because the guest would unpack it in software.
	(cd "$work" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet) >"$out.tmp"
	mv "$out.tmp" "$out"
	rm -rf "$work"
}

need qemu-system-x86 busybox-static cpio kmod e2fsprogs "${@:2}" >&2

kernel=$(find "$cache" -maxdepth 1 -name 'kernel-*' -exec test -e {}/vmlinuz \; -print | sort -V | tail -n 1)
if [ -z "$kernel" ]; then
	fetch_kernel
	kernel=$(echo "$cache"/kernel-*)
fi

key=$(cat "$here/image.sh" "$here/guest/initramfs-init" /bin/busybox "$kernel"/modules/*/modules.dep |
	sha256sum | cut -c 1-16)
image=$cache/image-$key
if [ ! -e "$image/ready" ]; then
	echo "test host: making the initramfs and the scratch disk" >&2
	rm -rf "$cache"/image-*
	mkdir "$image"
	ln -s "$kernel/vmlinux" "$image/vmlinux"
	ln -s "$kernel/modules" "$image/modules"
	make_initramfs "$kernel" "$image/initramfs"
	truncate -s "$scratch_size" "$image/scratch.raw"
	mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$image/scratch.raw"
	touch "$image/ready"
fi
echo "$image"
