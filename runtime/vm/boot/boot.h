/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a kernel file to a guest that can start: an ELF vmlinux with Xen's PVH entry.
 *
 *	boot_load_kernel(&m, fd, &kernel)          segments into guest memory
 *	boot_load_initramfs(&m, &kernel, fd, &i)   as high as it fits below the hole
 *	boot_write_pvh(&m, &info)                  what the kernel is handed, at ARCH_START_INFO
 *	arch_set_entry(vcpu 0, {ARCH_PVH, kernel.entry, ARCH_START_INFO})
 *
 * Guest memory must be fresh: what a segment does not fill is taken to be zero. The files are not
 * trusted: each offset and length is checked against the file and against guest memory.
 */
#pragma once
#include "memory.h"

struct boot_kernel {
	uint64_t entry;      /* guest-physical */
	uint64_t start, end; /* of all segments */
};

struct boot_range {
	uint64_t at, len;
};

struct boot_info {
	const char *cmdline;
	struct boot_range initramfs; /* len 0: none */
	uint64_t rsdp;
};

/* -ENOEXEC: not a kernel, damaged or of a kind that can't be started; -ENOSPC: memory too small. */
int boot_load_kernel(const struct vm_memory *m, int fd, struct boot_kernel *ret) must_check;
int boot_load_initramfs(const struct vm_memory *m, const struct boot_kernel *kernel, int fd,
	struct boot_range *ret) must_check;
int boot_write_pvh(const struct vm_memory *m, const struct boot_info *info) must_check;

/*
 * Reads all of [at, at + len) of the file into guest memory. The range was checked. For boot/
 * only.
 */
int boot_read(int fd, void *to, uint64_t at, uint64_t len, const char *what) must_check;
