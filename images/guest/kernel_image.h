/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the headers of a kernel file: its format, its release, and whether it is complete.
 *
 * No length in the headers is trusted. The monitor itself checks, when it loads the kernel, whether
 * it can start the kernel (PVH, 64-bit boot protocol). The functions keep no state, so any thread
 * may call them.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

enum kernel_format {
	KERNEL_ELF,     /* an ELF file, vmlinux (System V ABI, ELF-64) */
	KERNEL_BZIMAGE, /* a bzImage, vmlinuz (Documentation/arch/x86/boot.rst) */
};

struct kernel_image {
	enum kernel_format format;
	/* the release that uname -r prints, such as "6.1.0-56-amd64"; lives in the arena */
	const char *release;
	/*
	 * End of the physical memory that the kernel takes when it starts, or 0 if the end is
	 * unknown.
	 */
	uint64_t memory_end;
};

/*
 * Reads the kernel in file fd, which is open for reading; `what` is the file's path, for messages.
 * Returns -ENOEXEC if the file is no kernel, not Linux, or for another machine, and -EINVAL if it
 * is no regular file or is truncated.
 */
int kernel_image_read(struct arena *a, int fd, const char *what, struct kernel_image *ret)
	must_check;
