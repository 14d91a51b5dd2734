/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a kernel file so that the guest can start: an ELF vmlinux with Xen's PVH entry, or a
 * bzImage by Linux's 64-bit boot protocol. The magic number of the file decides which.
 *
 *	boot_load_kernel(&m, fd, &kernel)          loads the kernel into guest memory
 *	boot_load_initramfs(&m, &kernel, fd, &i)   loads the initramfs, as high as possible
 *	                                           below the MMIO hole
 *	boot_write_info(&m, &kernel, &info)        writes the data that the kernel reads first
 *	arch_set_entry(vcpu 0, {mode, kernel.entry, argument})   with the mode of kernel.protocol
 *
 * Guest memory must be all zero before the first call, because the functions do not clear the parts
 * that no segment of the kernel fills. The files are not trusted: each offset and length is checked
 * against the file and against guest memory.
 */
#pragma once
#include "vm/memory.h"

enum boot_protocol {
	BOOT_PVH, /* Xen's PVH protocol: start in mode ARCH_PVH with argument ARCH_START_INFO */
	/* Linux's 64-bit protocol: start in mode ARCH_LONG with argument ARCH_ZERO_PAGE */
	BOOT_LINUX64,
};

struct boot_kernel {
	enum boot_protocol protocol;
	uint64_t entry; /* guest-physical address of the first instruction */
	/* guest-physical range that the kernel uses before it reads the memory map */
	uint64_t start, end;
	/* the initramfs must end at or below this guest address; 0: no limit */
	uint64_t initramfs_end;
	/* the longest command line that the kernel accepts, in bytes without the NUL */
	uint32_t cmdline_max;
};

struct boot_range {
	uint64_t at, len;
};

struct boot_info {
	const char *cmdline;
	/* place of the initramfs in guest memory; len is 0 if there is no initramfs */
	struct boot_range initramfs;
	uint64_t rsdp;
};

/*
 * Loads the kernel from `fd` into guest memory and describes it in *ret. Returns -ENOEXEC if the
 * file is no kernel, is damaged, or is of a kind that cannot be started, and -ENOSPC if the guest's
 * memory is too small.
 */
int boot_load_kernel(const struct vm_memory *m, int fd, struct boot_kernel *ret) must_check;
int boot_load_initramfs(const struct vm_memory *m, const struct boot_kernel *kernel, int fd,
	struct boot_range *ret) must_check;
int boot_write_info(const struct vm_memory *m, const struct boot_kernel *kernel,
	const struct boot_info *info) must_check;

/* --- What only the files in boot/ use --- */

#define BOOT_MAP_MAX (2 + VM_MEMORY_REGIONS_MAX)
#define BOOT_RAM 1 /* type "usable RAM"; E820 and PVH use the same number */
#define BOOT_RESERVED 2
#define BOOT_CMDLINE_MAX 2047 /* x86 Linux cuts a longer command line without a message */

struct boot_map_entry {
	uint64_t at, len;
	uint32_t type;
};

/* Fills `ret` with the memory map for the kernel, and returns the number of entries (map.c). */
unsigned boot_map(const struct vm_memory *m, struct boot_map_entry ret[BOOT_MAP_MAX]);

/*
 * Reads the bytes [at, at + len) of the file to `to`, which points into guest memory (map.c). The
 * caller has checked the range. `what` names the data in error messages.
 */
int boot_read(int fd, void *to, uint64_t at, uint64_t len, const char *what) must_check;

/*
 * Loads an ELF kernel. fd is a regular file of `file` bytes that begins with the ELF magic number.
 */
int boot_load_elf(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
	must_check;
/* Loads a bzImage of `file` bytes, and copies its setup header into the zero page. */
int boot_load_bzimage(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
	must_check;

int boot_write_pvh(const struct vm_memory *m, const struct boot_info *info) must_check;
int boot_write_zero_page(const struct vm_memory *m, const struct boot_info *info) must_check;
