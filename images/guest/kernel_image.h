/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file is that is said to be a kernel: its format, whether it is whole, and its release.
 *
 * Reads headers only and believes no length in them. Whether a monitor can enter it (PVH, 64-bit
 * boot protocol) is the monitor's to say. No state, any thread.
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
	const char *release; /* as uname -r says it there: "6.1.0-56-amd64"; in the arena */
	uint64_t memory_end; /* of what it takes when it starts, physical; 0: it does not say */
};

/*
 * fd: open for reading; what: its path, for messages. -ENOEXEC: not a kernel, or not Linux, or for
 * another machine; -EINVAL: not a regular file, or truncated.
 */
int kernel_image_read(struct arena *a, int fd, const char *what, struct kernel_image *ret)
	must_check;
