/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the kernel for the guest, and makes the initramfs that is the guest's first root file
 * system.
 *
 *	guest_kernel_open(&arena, &(struct guest_kernel_request){
 *		.init = "/usr/local/libexec/caisson/caisson-guest",
 *		.cache = "/var/cache/caisson"}, &k);
 *	... k.kernel and k.initramfs go to the monitor, from their offset 0
 *	guest_kernel_release(&k);
 *
 * The kernel is the first of these that exists: vm.kernel.path; the installed caisson kernel
 * (images/kernel/build) in PREFIX/lib/caisson/kernel or /usr/lib/caisson/kernel; one of the host's
 * own kernels, /boot/vmlinuz-*, that has what the guest needs: the release that the host runs is
 * preferred, then the highest.
 *
 * The modules of a kernel are in modules/RELEASE beside it, else in /lib/modules/RELEASE. A kernel
 * without modules must have everything built in, which is checked in its configuration (config or
 * config-RELEASE beside it, or in /boot). If there is no configuration either, vm.kernel.path is
 * accepted unchecked, and the guest's init reports what is missing.
 *
 * The initramfs holds /init, the directories dev, proc, sys, run and tmp, /dev/console, and the
 * modules in /modules. /modules.list names them in the order of loading, one path a line. A module
 * stays compressed if the kernel can unpack it (CONFIG_MODULE_DECOMPRESS: finit_module(2) with
 * MODULE_INIT_COMPRESSED_FILE). With vm.kernel.initrd the archive is the user's initrd followed by
 * caisson's archive (Documentation/driver-api/early-userspace/buffer-format.rst), so that caisson's
 * files replace those of the same name, above all /init.
 *
 * The archive is kept in the cache directory as initramfs-HASH, where HASH is the hash of
 * everything that it is made from. An entry is used only if the caller owns it and the directory,
 * and nobody else may write to them. Without a usable cache the archive is made in memory each
 * time.
 *
 * The files belong to the host's administrator. Nevertheless the code bounds every length and loop
 * when it reads them, as for untrusted files. The kernel itself is trusted, because the guest runs
 * it. Several processes may call these functions at the same time, but an arena belongs to one
 * thread.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

/*
 * suffix of the release of caisson's own kernel: CONFIG_LOCALVERSION in images/kernel/guest.config
 */
#define GUEST_KERNEL_SUFFIX "-caisson"

struct guest_kernel_request {
	/* path of the kernel (vm.kernel.path); NULL: guest_kernel_open() looks for a kernel */
	const char *kernel;
	/*
	 * where the user can name the kernel, for error messages, such as "--kernel"; NULL:
	 * vm.kernel.path
	 */
	const char *field;
	const char *initrd; /* path of the user's initrd (vm.kernel.initrd), or NULL */
	const char *init;   /* path of the static program caisson-guest */
	/*
	 * path of the cache directory, which is made with mode 0700 if it is missing; NULL: no
	 * cache
	 */
	const char *cache;
	/*
	 * Directory that contains /boot, /lib and /usr. NULL and "" mean the root directory of the
	 * host.
	 */
	const char *root;
	/*
	 * whether the host's own kernels are preferred to caisson's, because the host's kernels
	 * have modules for all file systems
	 */
	bool distribution;
};

struct guest_kernel {
	int kernel; /* descriptor of the kernel's file, open for reading */
	/* descriptor of the initramfs, open for reading; -EBADF after guest_kernel_find() */
	int initramfs;
	const char *path;
	/* path of the directory with the kernel's modules; NULL: the kernel has no modules */
	const char *modules;
	const char *release; /* release of the kernel, as uname -r prints it in the guest */
	/*
	 * End of the physical memory that the kernel takes when it starts, without the initramfs;
	 * 0: the end is not known.
	 */
	uint64_t memory_end;
	bool tuned; /* the kernel is caisson's own, which has all that the guest needs built in */
};

#define GUEST_KERNEL_INIT \
	{ \
		.kernel = -EBADF, .initramfs = -EBADF \
	}

/*
 * Finds and checks a kernel, but makes no initramfs, so the members init and cache of the request
 * are not used. Strings in *ret live in the arena. Returns -ENOENT if there is no kernel, with a
 * message that says what to install; -ENOEXEC or -EINVAL if the file is no kernel or is truncated;
 * -EOPNOTSUPP if the kernel lacks something that the guest needs, which the message names.
 */
int guest_kernel_find(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

/*
 * Finds and checks a kernel like guest_kernel_find(). Also makes the initramfs for the kernel, or
 * takes it from the cache.
 */
int guest_kernel_open(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

void guest_kernel_release(struct guest_kernel *k);
#define _cleanup_guest_kernel_ __attribute__((cleanup(guest_kernel_release), unused))
