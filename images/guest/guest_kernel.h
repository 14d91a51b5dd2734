/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's kernel and its first root file system.
 *
 *	guest_kernel_open(&arena, &(struct guest_kernel_request){
 *		.init = "/usr/local/libexec/caisson/caisson-init",
 *		.cache = "/var/cache/caisson"}, &k);
 *	... k.kernel and k.initramfs go to the monitor, from their offset 0
 *	guest_kernel_release(&k);
 *
 * Where a kernel comes from, the first that is there: vm.kernel.path; the installed caisson kernel
 * (images/kernel/build) in PREFIX/lib/caisson/kernel or /usr/lib/caisson/kernel; one of the host's
 * own, /boot/vmlinuz-*, that has what the guest needs: the running release, then the highest.
 *
 * Where its modules are: beside it in modules/RELEASE, else in /lib/modules/RELEASE. A kernel
 * without either is judged by its configuration (config or config-RELEASE beside it, or in /boot),
 * and must have all built in. Where there is none of these either, vm.kernel.path is taken at its
 * word and the guest's init says what is missing.
 *
 * The initramfs holds /init, the directories dev proc sys run tmp, /dev/console, and the modules in
 * /modules, with their paths in the order of loading in /modules.list, a line each. A module stays
 * compressed where the kernel unpacks it itself (CONFIG_MODULE_DECOMPRESS: finit_module(2) with
 * MODULE_INIT_COMPRESSED_FILE). With vm.kernel.initrd ours follows theirs in one concatenation
 * (Documentation/driver-api/early-userspace/buffer-format.rst): what both have, /init above all, is
 * ours.
 *
 * It is kept in the cache directory as initramfs-HASH, HASH being of everything that it is made
 * from. An entry, and the directory, are believed only if the caller owns them and nobody else may
 * write. Without a usable cache it is made anew, in memory.
 *
 * Files belong to the host's administrator: they are checked as untrusted ones are, lengths and
 * loops bounded, but the kernel itself is run. One thread a call; any number of processes at once.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

#define GUEST_KERNEL_SUFFIX "-caisson" /* CONFIG_LOCALVERSION of images/kernel/guest.config */

struct guest_kernel_request {
	const char *kernel; /* vm.kernel.path, or NULL: look for one */
	const char *initrd; /* vm.kernel.initrd or NULL */
	const char *init;   /* path of the static caisson-init */
	const char *cache;  /* directory, made with mode 0700 where missing; NULL: no cache */
	/* The root that /boot, /lib and /usr are looked for in, "" for the host's own; NULL is "".
	 */
	const char *root;
};

struct guest_kernel {
	int kernel;    /* open for reading */
	int initramfs; /* open for reading; -EBADF after guest_kernel_find() */
	const char *path;
	const char *release; /* as uname -r says it in the guest */
	uint64_t
		memory_end; /* of what it takes when it starts, without the initramfs; 0: unknown */
	bool tuned;         /* caisson's own: all that the guest needs is built in */
};

#define GUEST_KERNEL_INIT \
	{ \
		.kernel = -EBADF, .initramfs = -EBADF \
	}

/*
 * Finds and checks a kernel; makes nothing (init and cache are not looked at). Strings live in the
 * arena. -ENOENT: there is none, and the message says what to install; -ENOEXEC, -EINVAL: no
 * kernel, or truncated; -EOPNOTSUPP: it lacks what the guest needs, which the message names.
 */
int guest_kernel_find(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

/* The same, and its initramfs. */
int guest_kernel_open(
	struct arena *a, const struct guest_kernel_request *q, struct guest_kernel *ret) must_check;

void guest_kernel_release(struct guest_kernel *k);
#define _cleanup_guest_kernel_ __attribute__((cleanup(guest_kernel_release), unused))
