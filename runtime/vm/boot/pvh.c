/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a PVH kernel is handed (xen/include/public/arch-x86/hvm/start_info.h) and where its
 * initramfs is.
 */
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "arch.h"
#include "boot.h"

#define START_MAGIC 0x336ec578
#define MAP_RAM 1
#define MAP_RESERVED 2

struct module {
	uint64_t at, len, cmdline, reserved;
};

struct map_entry {
	uint64_t at, len;
	uint32_t type, reserved;
};

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_count, reserved;
};

struct page {
	struct start_info info;
	struct module module;
	struct map_entry map[5];
};

int boot_load_initramfs(
	const struct vm_memory *m, const struct boot_kernel *kernel, int fd, struct boot_range *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("initramfs");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return err_set(EINVAL, "initramfs: expected a regular file that is not empty");
	uint64_t len = (uint64_t)st.st_size, low = m->regions[0].size;
	uint64_t room = kernel->end < low ? low - kernel->end : 0;
	/* At the top: a kernel uses memory right behind itself before it reserves the initramfs. */
	if (len > room || ((low - len) & ~UINT64_C(4095)) < kernel->end)
		return err_set(ENOSPC,
			"initramfs of %" PRIu64 " KiB: behind the kernel there are %" PRIu64
			" KiB; give the machine more memory",
			len >> 10, room >> 10);
	*ret = (struct boot_range){(low - len) & ~UINT64_C(4095), len};
	void *to = vm_memory_at(m, ret->at, len);
	if (!to)
		return err_set(ENOSPC, "initramfs: no place in guest memory");
	return boot_read(fd, to, 0, len, "initramfs");
}

static int write_cmdline(const struct vm_memory *m, const char *cmdline)
{
	size_t len = strlen(cmdline) + 1;

	/* x86 Linux cuts what is longer than 2047 bytes, silently: then better an error. */
	if (len > 2048)
		return err_set(
			EINVAL, "kernel command line of %zu bytes: expected 2047 at most", len - 1);
	return vm_memory_write(m, ARCH_CMDLINE, cmdline, len, "kernel command line");
}

int boot_write_pvh(const struct vm_memory *m, const struct boot_info *info)
{
	const uint64_t modules = ARCH_START_INFO + offsetof(struct page, module);
	const uint64_t map = ARCH_START_INFO + offsetof(struct page, map);
	struct page p = {
		.info = {.magic = START_MAGIC,
			.version = 1,
			.module_count = info->initramfs.len > 0,
			.modules = info->initramfs.len > 0 ? modules : 0,
			.cmdline = ARCH_CMDLINE,
			.rsdp = info->rsdp,
			.map = map},
		.module = {.at = info->initramfs.at, .len = info->initramfs.len},
	};
	const struct vm_memory_region *low = &m->regions[0];
	uint32_t n = 0;
	int r = write_cmdline(m, info->cmdline);

	if (r < 0)
		return r;
	p.map[n++] = (struct map_entry){0, ARCH_LOW_END, MAP_RAM, 0};
	p.map[n++] = (struct map_entry){ARCH_LOW_END, ARCH_KERNEL - ARCH_LOW_END, MAP_RESERVED, 0};
	p.map[n++] = (struct map_entry){ARCH_KERNEL, low->size - ARCH_KERNEL, MAP_RAM, 0};
	if (m->count > 1)
		p.map[n++] =
			(struct map_entry){m->regions[1].guest, m->regions[1].size, MAP_RAM, 0};
	p.info.map_count = n;
	return vm_memory_write(m, ARCH_START_INFO, &p, sizeof(p), "PVH start info");
}
