/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads from a file that is said to be a kernel its format, its release, and whether it is
 * complete.
 *
 * Only headers are read, and no length in them is trusted. The monitor checks whether it can start
 * the kernel (PVH, 64-bit boot protocol). Any thread may call; no state is kept.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

enum kernel_format {
	KERNEL_ELF,     /* vmlinux: System V ABI, ELF-64 */
	KERNEL_BZIMAGE, /* vmlinuz: Documentation/arch/x86/boot.rst */
};

struct kernel_image {
	enum kernel_format format;
	const char *release; /* what uname -r prints: "6.1.0-56-amd64"; in the arena */
	/* The kernel takes physical memory up to here when it starts; 0: unknown. */
	uint64_t memory_end;
};

/*
 * fd is open for reading; what is its path, for messages. -ENOEXEC: the file is no kernel, not
 * Linux, or for another machine; -EINVAL: it is no regular file, or is truncated.
 */
int kernel_image_read(struct arena *a, int fd, const char *what, struct kernel_image *ret)
	must_check;
