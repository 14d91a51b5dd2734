/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs of one kernel, for guest_kernel.c: packed, or taken from the cache. */
#pragma once
#include "images/guest/modules.h"

struct guest_initramfs {
	const char *release; /* the kernel's release */
	const char *init;    /* a path of the host */
	const char *initrd;  /* a path of the host, or NULL */
	const char *cache;   /* a directory, or NULL */
	int modules_dir;     /* the directory of the modules' paths; not used without modules */
	const char *modules_path; /* path of that directory, for messages */
	struct module_list modules;
	bool unpack; /* unpack compressed modules, because the kernel cannot */
};

/* Returns a descriptor of the archive, open for reading at its beginning. */
int guest_initramfs_open(struct arena *a, const struct guest_initramfs *g) must_check;
