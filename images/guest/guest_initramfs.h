/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the initramfs of one kernel, or takes it from the cache. Only guest_kernel.c uses this
 * header.
 */
#pragma once
#include "images/guest/modules.h"

struct guest_initramfs {
	const char *release; /* the kernel's release, such as "6.1.0-56-amd64" */
	const char *init;    /* path of caisson-init on the host */
	const char *initrd;  /* path of the user's initrd on the host, or NULL */
	const char *cache;   /* path of the cache directory, or NULL */
	/*
	 * descriptor of the directory to which the modules' paths are relative; not used if there
	 * are no modules
	 */
	int modules_dir;
	const char *modules_path; /* path of modules_dir, which error messages use */
	struct module_list modules;
	/*
	 * decompress the modules before packing the initramfs, because the kernel cannot decompress
	 * them
	 */
	bool unpack;
};

/* Returns a descriptor that is open for reading at the beginning of the initramfs. */
int guest_initramfs_open(struct arena *a, const struct guest_initramfs *g) must_check;
