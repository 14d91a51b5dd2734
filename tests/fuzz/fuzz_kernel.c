/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the loading of kernels: the input is a hostile kernel, an ELF file or a bzImage, that is
 * loaded into 4 MiB of guest memory. If it is refused, the message must name the kernel. If it is
 * accepted, its entry point must be inside the memory that it occupies, which must be above 1 MiB
 * and inside guest memory.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/boot/boot.h"

#define RAM (UINT64_C(4) << 20)
#define FILE_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct boot_info info = {.cmdline = "console=hvc0", .rsdp = ARCH_ACPI};
	struct boot_kernel k;
	struct vm_memory m;

	if (size > FILE_MAX)
		return 0;
	_cleanup_fd_ int fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size ||
		vm_memory_init(&m, &(struct vm_memory_options){.size = RAM}) < 0)
		abort();
	int r = boot_load_kernel(&m, fd, &k);
	if (r < 0) {
		if (!str_starts(err_msg(), "kernel: ") || r == -EFAULT)
			abort();
	} else {
		if (k.start < ARCH_KERNEL || k.end > RAM || k.entry < k.start || k.entry >= k.end)
			abort();
		/*
		 * boot_write_info() may fail with -EINVAL only if the kernel does not accept a
		 * command line of this length.
		 */
		r = boot_write_info(&m, &k, &info);
		if (r < 0 && (r != -EINVAL || k.cmdline_max >= strlen(info.cmdline)))
			abort();
	}
	err_clear();
	vm_memory_release(&m);
	return 0;
}
