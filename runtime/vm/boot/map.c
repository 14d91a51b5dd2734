/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds what both boot protocols use: the memory map for the kernel, and the function that reads
 * from the kernel's file.
 */
#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

unsigned boot_map(const struct vm_memory *m, struct boot_map_entry ret[BOOT_MAP_MAX])
{
	unsigned n = 0;

	ret[n++] = (struct boot_map_entry){0, ARCH_LOW_END, BOOT_RAM};
	ret[n++] = (struct boot_map_entry){ARCH_LOW_END, ARCH_KERNEL - ARCH_LOW_END, BOOT_RESERVED};
	ret[n++] = (struct boot_map_entry){ARCH_KERNEL, m->regions[0].size - ARCH_KERNEL, BOOT_RAM};
	for (unsigned i = 1; i < m->count && !m->regions[i].hot; i++)
		ret[n++] =
			(struct boot_map_entry){m->regions[i].guest, m->regions[i].size, BOOT_RAM};
	return n;
}

int boot_read(int fd, void *to, uint64_t at, uint64_t len, const char *what)
{
	for (uint64_t done = 0; done < len;) {
		ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read the %s", what);
		if (n == 0)
			return err_set(ENOEXEC, "the %s became shorter while it was read", what);
		done += (uint64_t)n;
	}
	return 0;
}
