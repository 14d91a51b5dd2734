/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a bzImage by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst). The file
 * holds 16-bit setup code and then the protected-mode kernel, which unpacks itself. The kernel's
 * 64-bit entry is 0x200 bytes after its start (XLF_KERNEL_64). RSI points to the zero page, struct
 * boot_params, which contains the file's own setup header. The processor is in long mode with the
 * first 4 GiB mapped 1:1 (regs.c).
 */
#include <asm/bootparam.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

#define HEADER_AT 0x1f1
#define BOOT_FLAG 0xaa55
/* oldest supported boot protocol, 2.12 (Linux 3.8), the first with xloadflags */
#define VERSION_MIN 0x020c
#define ENTRY64 0x200
#define SECTOR 512
#define SETUP_SECTS_DEFAULT 4 /* setup_sects of 0 means this number of sectors */
#define LOADER_UNDEFINED 0xff
/* shortest setup header: everything up to init_size */
#define HEADER_LEN_MIN offsetof(struct setup_header, handover_offset)

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_AT, "boot.rst");
_Static_assert(sizeof(struct boot_params) == 4096, "one page");

/*
 * Returns the length of the setup header in the file. The header ends where the jump at 0x200 leads
 * (boot.rst). Members that the file's header does not have stay zero, and members that struct
 * setup_header does not have are not copied.
 */
static size_t header_len(const struct setup_header *h)
{
	size_t end = 0x202 + (size_t)(h->jump >> 8) - HEADER_AT;

	return end < sizeof(*h) ? end : sizeof(*h);
}

static int check_header(const struct setup_header *h)
{
	if (h->boot_flag != BOOT_FLAG)
		return err_set(ENOEXEC, "a bzImage whose boot flag is 0x%04x: expected 0x%04x",
			h->boot_flag, BOOT_FLAG);
	if (h->version < VERSION_MIN)
		return err_set(ENOEXEC,
			"a bzImage of boot protocol %u.%02u: expected 2.12 or later (Linux 3.8)",
			h->version >> 8, h->version & 0xff);
	if (header_len(h) < HEADER_LEN_MIN)
		return err_set(ENOEXEC,
			"a bzImage whose setup header has %zu bytes: expected at least %zu",
			header_len(h), HEADER_LEN_MIN);
	if (!(h->xloadflags & XLF_KERNEL_64))
		return err_set(ENOEXEC,
			"a bzImage without a 64-bit entry (xloadflags 0x%x): expected a kernel for "
			"x86-64",
			h->xloadflags);
	if (!(h->loadflags & LOADED_HIGH))
		return err_set(ENOEXEC,
			"a zImage (loadflags 0x%x): expected a kernel that is loaded above 1 MiB",
			h->loadflags);
	return 0;
}

/*
 * Finds a guest address for `size` bytes of kernel: the address that the kernel prefers if it is
 * free, otherwise the lowest one that the kernel's alignment allows. Sets *ret to it.
 */
static int find_place(
	const struct vm_memory *m, const struct setup_header *h, uint64_t size, uint64_t *ret)
{
	uint64_t align = h->kernel_alignment;

	*ret = h->pref_address;
	if (*ret >= ARCH_KERNEL && vm_memory_at(m, *ret, size))
		return 0;
	if (h->relocatable_kernel) {
		if (align == 0 || (align & (align - 1)))
			return err_set(ENOEXEC,
				"a bzImage with kernel_alignment 0x%" PRIx64
				": expected a power of two",
				align);
		*ret = align > ARCH_KERNEL ? align : ARCH_KERNEL;
		if (vm_memory_at(m, *ret, size))
			return 0;
	}
	if (*ret < ARCH_KERNEL)
		return err_set(ENOEXEC,
			"a bzImage for address 0x%" PRIx64 ": expected one above 1 MiB", *ret);
	return err_set(ENOSPC,
		"the kernel needs %" PRIu64 " MiB at 0x%" PRIx64
		" to start, which do not fit into the machine's memory of %" PRIu64
		" MiB; give the machine more memory",
		(size + (1 << 20) - 1) >> 20, *ret, m->size >> 20);
}

int boot_load_bzimage(const struct vm_memory *m, int fd, uint64_t file, struct boot_kernel *ret)
{
	struct setup_header h = {0};
	struct boot_params *zero = vm_memory_at(m, ARCH_ZERO_PAGE, sizeof(*zero));

	if (!zero)
		return err_set(EFAULT, "guest memory has no room for the zero page");
	if (file < HEADER_AT + sizeof(h))
		return err_set(ENOEXEC, "truncated: a bzImage of %" PRIu64 " bytes", file);
	int r = boot_read(fd, &h, HEADER_AT, sizeof(h), "kernel");
	if (r >= 0)
		r = check_header(&h);
	if (r < 0)
		return r;
	uint64_t setup =
		SECTOR * (1 + (uint64_t)(h.setup_sects ? h.setup_sects : SETUP_SECTS_DEFAULT));
	uint64_t code = 16 * (uint64_t)h.syssize;
	/*
	 * Accepts a file that is longer than setup code and kernel together, because a signature
	 * may follow them.
	 */
	if (code <= ENTRY64 || setup > file || code > file - setup)
		return err_set(ENOEXEC,
			"truncated: a bzImage of %" PRIu64 " bytes, with %" PRIu64
			" of setup code and %" PRIu64 " of kernel",
			file, setup, code);
	uint64_t size = code > h.init_size ? code : h.init_size;
	r = find_place(m, &h, size, &ret->start);
	if (r >= 0)
		r = boot_read(fd, vm_memory_at(m, ret->start, size), setup, code, "kernel");
	if (r < 0)
		return r;
	ret->protocol = BOOT_LINUX64;
	ret->entry = ret->start + ENTRY64;
	ret->end = ret->start + size;
	/*
	 * initrd_addr_max is a limit only for kernels that cannot use an initramfs above 4 GiB
	 * (protocol 2.12).
	 */
	if (!(h.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G))
		ret->initramfs_end = (uint64_t)h.initrd_addr_max + 1;
	if (h.cmdline_size < ret->cmdline_max)
		ret->cmdline_max = h.cmdline_size;
	memcpy(&zero->hdr, &h, header_len(&h));
	return 0;
}

int boot_write_zero_page(const struct vm_memory *m, const struct boot_info *info)
{
	struct boot_params *zero = vm_memory_at(m, ARCH_ZERO_PAGE, sizeof(*zero));
	struct boot_map_entry map[BOOT_MAP_MAX];

	if (!zero)
		return err_set(EFAULT, "guest memory has no room for the zero page");
	zero->hdr.type_of_loader = LOADER_UNDEFINED;
	zero->hdr.loadflags &= (uint8_t)~CAN_USE_HEAP;
	zero->hdr.setup_data = 0;
	zero->hdr.cmd_line_ptr = ARCH_CMDLINE;
	zero->hdr.ramdisk_image = (uint32_t)info->initramfs.at;
	zero->hdr.ramdisk_size = (uint32_t)info->initramfs.len;
	zero->ext_ramdisk_image = (uint32_t)(info->initramfs.at >> 32);
	zero->ext_ramdisk_size = (uint32_t)(info->initramfs.len >> 32);
	zero->acpi_rsdp_addr = info->rsdp;
	unsigned n = boot_map(m, map);
	for (unsigned i = 0; i < n; i++)
		zero->e820_table[i] = (struct boot_e820_entry){map[i].at, map[i].len, map[i].type};
	zero->e820_entries = (uint8_t)n;
	return 0;
}
