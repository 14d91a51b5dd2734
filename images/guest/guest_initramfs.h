/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs of one kernel: packed, or from the cache. For guest_kernel.c, which see. */
#pragma once
#include "images/guest/modules.h"

struct guest_initramfs {
	const char *release; /* the kernel's */
	const char *init;    /* a path of the host */
	const char *initrd;  /* a path of the host, or NULL */
	const char *cache;   /* a directory, or NULL */
	int modules_dir;     /* what the modules' paths are relative to; not used without modules */
	const char *modules_path; /* its path, for messages */
	struct module_list modules;
	bool unpack; /* compressed modules: the kernel cannot do it */
};

/* A descriptor of the archive, open for reading at its beginning. */
int guest_initramfs_open(struct arena *a, const struct guest_initramfs *g) must_check;
