/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements what is the same for both boot protocols: detects which protocol a kernel file uses,
 * and loads the initramfs and the command line.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

#define BZIMAGE_MAGIC_AT 0x202
#define BZIMAGE_MAGIC "HdrS"
#define HEAD_LEN (BZIMAGE_MAGIC_AT + 4)

int boot_load_kernel(const struct vm_memory *m, int fd, struct boot_kernel *ret)
{
	uint8_t head[HEAD_LEN] = {0};
	struct stat st;

	*ret = (struct boot_kernel){.cmdline_max = BOOT_CMDLINE_MAX};
	if (fstat(fd, &st) < 0)
		return err_sys("kernel: read its size");
	uint64_t file = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	if (!S_ISREG(st.st_mode) || file < sizeof(Elf64_Ehdr))
		return err_set(ENOEXEC, "kernel: expected a regular file of at least %zu bytes",
			sizeof(Elf64_Ehdr));
	int r = boot_read(fd, head, 0, file < sizeof(head) ? file : sizeof(head), "kernel");
	if (r < 0)
		return err_ctx(r, "kernel");
	if (memcmp(head, ELFMAG, SELFMAG) == 0)
		r = boot_load_elf(m, fd, file, ret);
	else if (memcmp(head + BZIMAGE_MAGIC_AT, BZIMAGE_MAGIC, 4) == 0)
		r = boot_load_bzimage(m, fd, file, ret);
	else
		r = err_set(ENOEXEC,
			"not a kernel: expected an ELF file (vmlinux) or a bzImage (vmlinuz), "
			"found bytes %02x %02x %02x %02x at its start",
			head[0], head[1], head[2], head[3]);
	return r < 0 ? err_ctx(r, "kernel") : 0;
}

int boot_load_initramfs(
	const struct vm_memory *m, const struct boot_kernel *kernel, int fd, struct boot_range *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("initramfs: read its size");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return err_set(EINVAL, "initramfs: expected a regular file that is not empty");
	uint64_t len = (uint64_t)st.st_size, top = m->regions[0].size;
	if (kernel->initramfs_end > 0 && kernel->initramfs_end < top)
		top = kernel->initramfs_end;
	uint64_t room = kernel->end < top ? top - kernel->end : 0;
	/*
	 * The initramfs goes to the highest address that has room for it, because a kernel uses the
	 * memory right behind itself before it reserves the initramfs.
	 */
	if (len > room || ((top - len) & ~UINT64_C(4095)) < kernel->end)
		return err_set(ENOSPC,
			"initramfs of %" PRIu64
			" KiB: memory behind the kernel has room for %" PRIu64
			" KiB; give the machine more memory",
			len >> 10, room >> 10);
	*ret = (struct boot_range){(top - len) & ~UINT64_C(4095), len};
	void *to = vm_memory_at(m, ret->at, len);
	if (!to)
		return err_set(ENOSPC,
			"initramfs: found no place in guest memory; give the machine more memory");
	return boot_read(fd, to, 0, len, "initramfs");
}

static int write_cmdline(const struct vm_memory *m, const char *cmdline, uint32_t max)
{
	size_t len = strlen(cmdline);

	if (len > max)
		return err_set(EINVAL,
			"kernel command line of %zu bytes: expected %" PRIu32
			" at most, which is what this kernel reads",
			len, max);
	return vm_memory_write(m, ARCH_CMDLINE, cmdline, len + 1, "kernel command line");
}

int boot_write_info(
	const struct vm_memory *m, const struct boot_kernel *kernel, const struct boot_info *info)
{
	int r = write_cmdline(m, info->cmdline, kernel->cmdline_max);

	if (r < 0)
		return r;
	return kernel->protocol == BOOT_PVH ? boot_write_pvh(m, info)
					    : boot_write_zero_page(m, info);
}
