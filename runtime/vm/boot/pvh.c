/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the data that a PVH kernel reads at its start
 * (xen/include/public/arch-x86/hvm/start_info.h).
 */
#include <stddef.h>

#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

#define START_MAGIC 0x336ec578

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
	struct map_entry map[BOOT_MAP_MAX];
};

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
	struct boot_map_entry entries[BOOT_MAP_MAX];
	unsigned n = boot_map(m, entries);

	for (unsigned i = 0; i < n; i++)
		p.map[i] = (struct map_entry){entries[i].at, entries[i].len, entries[i].type, 0};
	p.info.map_count = n;
	return vm_memory_write(m, ARCH_START_INFO, &p, sizeof(p), "PVH start info");
}
