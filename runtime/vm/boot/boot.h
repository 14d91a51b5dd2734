/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a kernel file to a guest that can start: an ELF vmlinux with Xen's PVH entry, or a bzImage
 * by Linux's 64-bit boot protocol. Which of the two the file's magic says.
 *
 *	boot_load_kernel(&m, fd, &kernel)          into guest memory
 *	boot_load_initramfs(&m, &kernel, fd, &i)   as high as it fits below the hole
 *	boot_write_info(&m, &kernel, &info)        what the kernel is handed
 *	arch_set_entry(vcpu 0, {mode, kernel.entry, argument})   by kernel.protocol
 *
 * Guest memory must be fresh: what a segment does not fill is taken to be zero. The files are not
 * trusted: each offset and length is checked against the file and against guest memory.
 */
#pragma once
#include "vm/memory.h"

enum boot_protocol {
	BOOT_PVH,     /* ARCH_PVH, argument ARCH_START_INFO */
	BOOT_LINUX64, /* ARCH_LONG, argument ARCH_ZERO_PAGE */
};

struct boot_kernel {
	enum boot_protocol protocol;
	uint64_t entry;         /* guest-physical */
	uint64_t start, end;    /* of all it uses before it has looked at the memory map */
	uint64_t initramfs_end; /* the initramfs must end here or below; 0: anywhere */
	uint32_t cmdline_max;   /* bytes without the NUL */
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
int boot_write_info(const struct vm_memory *m, const struct boot_kernel *kernel,
	const struct boot_info *info) must_check;

/* --- for boot/ only --- */

#define BOOT_MAP_MAX (2 + VM_MEMORY_REGIONS_MAX)
#define BOOT_RAM 1 /* as E820 and PVH both number them */
#define BOOT_RESERVED 2
#define BOOT_CMDLINE_MAX 2047 /* x86 Linux cuts what is longer, silently */

struct boot_map_entry {
	uint64_t at, len;
	uint32_t type;
};

/* The memory map for the kernel; the number of entries. */
unsigned boot_map(const struct vm_memory *m, struct boot_map_entry ret[BOOT_MAP_MAX]);

/* Reads all of [at, at + len) of the file into guest memory. The range was checked. */
int boot_read(int fd, void *to, uint64_t at, uint64_t len, const char *what) must_check;

/* fd is a regular file of `file` bytes. ELF: magic was seen. */
int boot_load_elf(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
	must_check;
/* Puts the setup header into the zero page, too. */
int boot_load_bzimage(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
	must_check;

int boot_write_pvh(const struct vm_memory *m, const struct boot_info *info) must_check;
int boot_write_zero_page(const struct vm_memory *m, const struct boot_info *info) must_check;
