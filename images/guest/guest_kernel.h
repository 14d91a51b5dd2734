/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the guest's kernel, and makes its first root file system.
 *
 *	guest_kernel_open(&arena, &(struct guest_kernel_request){
 *		.init = "/usr/local/libexec/caisson/caisson-init",
 *		.cache = "/var/cache/caisson"}, &k);
 *	... k.kernel and k.initramfs go to the monitor, from their offset 0
 *	guest_kernel_release(&k);
 *
 * The kernel is the first of these that exists: vm.kernel.path; the installed caisson kernel
 * (images/kernel/build) in PREFIX/lib/caisson/kernel or /usr/lib/caisson/kernel; one of the host's
 * own kernels, /boot/vmlinuz-*, that has what the guest needs, first the running release, then the
 * highest one.
 *
 * The modules of a kernel are in modules/RELEASE beside it, else in /lib/modules/RELEASE. A kernel
 * without modules must have everything built in, which its configuration tells (config or
 * config-RELEASE beside it, or in /boot). If there is no configuration either, vm.kernel.path is
 * accepted unchecked, and the guest's init reports what is missing.
 *
 * The initramfs holds /init, the directories dev, proc, sys, run and tmp, /dev/console, and the
 * modules in /modules. /modules.list names them in the order of loading, one path a line. A module
 * stays compressed if the kernel can unpack it (CONFIG_MODULE_DECOMPRESS: finit_module(2) with
 * MODULE_INIT_COMPRESSED_FILE). With vm.kernel.initrd the archive is the user's initrd followed by
 * ours (Documentation/driver-api/early-userspace/buffer-format.rst), so that our files replace
 * those of the same name, above all /init.
 *
 * The archive is kept in the cache directory as initramfs-HASH, where HASH is the hash of
 * everything that it is made from. An entry is used only if the caller owns it and the directory,
 * and nobody else may write to them. Without a usable cache the archive is made in memory each
 * time.
 *
 * The files belong to the host's administrator. They are checked as untrusted ones are, with
 * bounded lengths and loops, but the kernel itself is run. A call belongs to one thread; any number
 * of processes may call at once.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

#define GUEST_KERNEL_SUFFIX "-caisson" /* CONFIG_LOCALVERSION of images/kernel/guest.config */

struct guest_kernel_request {
	const char *kernel; /* vm.kernel.path, or NULL: look for a kernel */
	const char *initrd; /* vm.kernel.initrd or NULL */
	const char *init;   /* path of the static caisson-init */
	const char *cache;  /* directory, made with mode 0700 if it is missing; NULL: no cache */
	/* The root directory that has /boot, /lib and /usr. NULL and "" are the host's own. */
	const char *root;
};

struct guest_kernel {
	int kernel;    /* open for reading */
	int initramfs; /* open for reading; -EBADF after guest_kernel_find() */
	const char *path;
	const char *release; /* what uname -r prints in the guest */
	/* The kernel takes memory up to here when it starts, without the initramfs; 0: unknown. */
	uint64_t memory_end;
	bool tuned; /* caisson's own kernel, which has all that the guest needs built in */
};

#define GUEST_KERNEL_INIT \
	{ \
		.kernel = -EBADF, .initramfs = -EBADF \
	}

/*
 * Finds and checks a kernel, and makes no initramfs; init and cache are not used. Strings live in
 * the arena. -ENOENT: there is no kernel, and the message says what to install; -ENOEXEC, -EINVAL:
 * the file is no kernel, or is truncated; -EOPNOTSUPP: the kernel lacks what the guest needs, which
 * the message names.
 */
int guest_kernel_find(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

/* Finds and checks a kernel as guest_kernel_find() does, and makes or finds its initramfs. */
int guest_kernel_open(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

void guest_kernel_release(struct guest_kernel *k);
#define _cleanup_guest_kernel_ __attribute__((cleanup(guest_kernel_release), unused))
