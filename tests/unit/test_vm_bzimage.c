/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the loading of bzImages: good and hostile setup headers, the zero page, and Debian's own
 * kernel if the test host's cache has it. With /dev/kvm it also tests the start in long mode.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <asm/bootparam.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/machine.h"

#define MIB (UINT64_C(1) << 20)
#define SETUP_LEN (2 * 512)
#define CODE_LEN 2048

struct __attribute__((packed)) image {
	uint8_t sector[0x1f1];
	struct setup_header h;
	uint8_t rest[SETUP_LEN - 0x1f1 - sizeof(struct setup_header)];
	uint8_t code[CODE_LEN];
	uint8_t signature[100];
};

/*
 * The code at the kernel's 64-bit entry. It switches the machine off if RSI points to the zero page
 * with the kernel's header in it, and faults otherwise.
 */
static const uint8_t entry64[] = {0x81, 0xfe, 0x00, 0x70, 0x00, 0x00, 0x75,
	0x14,                                                       /* cmp $0x7000,%esi; jne */
	0x81, 0xbe, 0x02, 0x02, 0x00, 0x00, 0x48, 0x64, 0x72, 0x53, /* cmpl "HdrS",0x202(%rsi) */
	0x75, 0x08,                                                 /* jne */
	0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4,             /* outb S5; hlt */
	0x0f, 0x0b};                                                /* ud2 */

static struct image good(void)
{
	struct image k = {
		.h = {.setup_sects = 1,
			.syssize = CODE_LEN / 16,
			.boot_flag = 0xaa55,
			.jump = 0x6aeb,
			.header = 0x53726448,
			.version = 0x20f,
			.loadflags = LOADED_HIGH,
			.initrd_addr_max = 0x7fffffff,
			.kernel_alignment = 0x200000,
			.relocatable_kernel = 1,
			.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
			.cmdline_size = 2047,
			.setup_data = 0x1234,
			.pref_address = 4 * MIB,
			.init_size = 65536},
	};

	memset(k.rest, 0xee, sizeof(k.rest));
	memcpy(k.code + 0x200, entry64, sizeof(entry64));
	memset(k.signature, 0x55, sizeof(k.signature));
	return k;
}

static int file_of(const void *data, size_t len)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, len), len);
	return fd;
}

static int load_in(const struct image *k, size_t len, uint64_t memory, struct boot_kernel *ret,
	struct vm_memory *m)
{
	_cleanup_fd_ int fd = file_of(k, len);

	assert_int_equal(vm_memory_init(m, &(struct vm_memory_options){.size = memory}), 0);
	return boot_load_kernel(m, fd, ret);
}

static void loads(void **state)
{
	struct image k = good();
	struct boot_kernel got;
	struct vm_memory m;
	struct boot_params *zero;
	struct boot_info info = {
		.cmdline = "quiet", .initramfs = {0x300000, 0x1234}, .rsdp = 0xe0000};

	if (load_in(&k, sizeof(k), 16 * MIB, &got, &m) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(got.protocol, BOOT_LINUX64);
	assert_int_equal(got.start, 4 * MIB);
	assert_int_equal(got.entry, 4 * MIB + 0x200);
	assert_int_equal(got.end, 4 * MIB + 65536);
	assert_int_equal(got.initramfs_end, 0);
	assert_memory_equal(vm_memory_at(&m, 4 * MIB, CODE_LEN), k.code, CODE_LEN);
	/*
	 * The image file has a signature behind the kernel's code, which must not be loaded into
	 * guest memory.
	 */
	assert_int_equal(*(uint8_t *)vm_memory_at(&m, 4 * MIB + CODE_LEN, 1), 0);
	assert_int_equal(boot_write_info(&m, &got, &info), 0);
	zero = vm_memory_at(&m, ARCH_ZERO_PAGE, 4096);
	assert_int_equal(zero->hdr.header, 0x53726448);
	assert_int_equal(zero->hdr.type_of_loader, 0xff);
	assert_int_equal(zero->hdr.setup_data, 0);
	assert_int_equal(zero->hdr.ramdisk_image, 0x300000);
	assert_int_equal(zero->hdr.ramdisk_size, 0x1234);
	assert_int_equal(zero->acpi_rsdp_addr, 0xe0000);
	assert_string_equal(vm_memory_at(&m, zero->hdr.cmd_line_ptr, 6), "quiet");
	assert_int_equal(zero->e820_entries, 3);
	assert_int_equal(zero->e820_table[0].size, ARCH_LOW_END);
	assert_int_equal(zero->e820_table[1].type, 2);
	assert_int_equal(zero->e820_table[2].addr, MIB);
	assert_int_equal(zero->e820_table[2].size, 15 * MIB);
	assert_int_equal(zero->sentinel, 0);
	/*
	 * The setup code that follows the header in the image must not be copied behind the header
	 * in the zero page, because the kernel would read it as more fields.
	 */
	assert_int_equal(*((uint8_t *)&zero->hdr + sizeof(zero->hdr)), 0);
	vm_memory_release(&m);
}

static void places(void **state)
{
	struct image k = good();
	struct boot_kernel got;
	struct vm_memory m;

	/*
	 * If memory ends before the kernel's preferred address, the kernel must be loaded at the
	 * lowest address with the right alignment.
	 */
	assert_int_equal(load_in(&k, sizeof(k), 4 * MIB, &got, &m), 0);
	assert_int_equal(got.start, 2 * MIB);
	vm_memory_release(&m);
	k.h.kernel_alignment = 4096;
	assert_int_equal(load_in(&k, sizeof(k), 4 * MIB, &got, &m), 0);
	assert_int_equal(got.start, MIB);
	vm_memory_release(&m);
	/*
	 * The initramfs of a kernel that cannot use it above 4 GiB must be loaded below
	 * initrd_addr_max.
	 */
	k.h.xloadflags = XLF_KERNEL_64;
	k.h.initrd_addr_max = 3 * MIB - 1;
	assert_int_equal(load_in(&k, sizeof(k), 4 * MIB, &got, &m), 0);
	assert_int_equal(got.initramfs_end, 3 * MIB);
	struct boot_range at;
	_cleanup_fd_ int small = file_of("0707", 4);
	assert_int_equal(boot_load_initramfs(&m, &got, small, &at), 0);
	assert_int_equal(at.at, 3 * MIB - 4096);
	got.initramfs_end = MIB;
	assert_int_equal(boot_load_initramfs(&m, &got, small, &at), -ENOSPC);
	vm_memory_release(&m);
	/* A command line that is longer than the kernel's header allows must be refused. */
	k.h.cmdline_size = 4;
	assert_int_equal(load_in(&k, sizeof(k), 4 * MIB, &got, &m), 0);
	assert_int_equal(
		boot_write_info(&m, &got, &(struct boot_info){.cmdline = "quiet"}), -EINVAL);
	assert_non_null(strstr(err_msg(), "5 bytes: expected 4 at most"));
	assert_int_equal(boot_write_info(&m, &got, &(struct boot_info){.cmdline = "a=bc"}), 0);
	vm_memory_release(&m);
}

static void expect(const struct image *k, size_t len, int code, const char *text)
{
	struct boot_kernel got;
	struct vm_memory m;
	int r = load_in(k, len, 16 * MIB, &got, &m);

	if (r != code || !strstr(err_msg(), text) || !str_starts(err_msg(), "kernel: "))
		fail_msg("expected %d with '%s', got %d: %s", code, text, r, err_msg());
	vm_memory_release(&m);
}

#define DAMAGED(change, code, text) \
	do { \
		struct image k = good(); \
		change; \
		expect(&k, sizeof(k), code, text); \
	} while (0)

static void damaged(void **state)
{
	DAMAGED(k.h.header = 0, -ENOEXEC, "an ELF file (vmlinux) or a bzImage (vmlinuz)");
	DAMAGED(k.h.boot_flag = 0, -ENOEXEC, "boot flag is 0x0000");
	DAMAGED(k.h.version = 0x20b, -ENOEXEC, "boot protocol 2.11: expected 2.12");
	DAMAGED(k.h.version = 0, -ENOEXEC, "boot protocol 0.00");
	DAMAGED(k.h.jump = 0x00eb, -ENOEXEC, "setup header has 17 bytes");
	DAMAGED(k.h.jump = 0x61eb, -ENOEXEC, "setup header has 114 bytes");
	DAMAGED(k.h.xloadflags = 0, -ENOEXEC, "64-bit entry");
	DAMAGED(k.h.loadflags = 0, -ENOEXEC, "zImage");
	DAMAGED(k.h.syssize = 0, -ENOEXEC, "truncated");
	/* the size in the header makes the code end before the 64-bit entry */
	DAMAGED(k.h.syssize = 0x20, -ENOEXEC, "truncated");
	DAMAGED(k.h.syssize = CODE_LEN / 16 + 7, -ENOEXEC, "truncated");
	DAMAGED(k.h.syssize = UINT32_MAX, -ENOEXEC, "truncated");
	DAMAGED(k.h.setup_sects = 255, -ENOEXEC, "truncated");
	DAMAGED(k.h.setup_sects = 0, -ENOEXEC, "truncated");
	DAMAGED(k.h.init_size = UINT32_MAX, -ENOSPC, "4096 MiB at 0x200000");
	DAMAGED(k.h.init_size = 15 * MIB, -ENOSPC, "15 MiB at 0x200000");
	DAMAGED((k.h.pref_address = UINT64_MAX, k.h.relocatable_kernel = 0), -ENOSPC, "16 MiB");
	DAMAGED((k.h.pref_address = 16 * MIB - 4096, k.h.relocatable_kernel = 0), -ENOSPC,
		"1 MiB at 0xfff000");
	DAMAGED((k.h.pref_address = 0x9000, k.h.relocatable_kernel = 0), -ENOEXEC, "above 1 MiB");
	DAMAGED((k.h.pref_address = 0, k.h.kernel_alignment = 0), -ENOEXEC, "power of two");
	DAMAGED((k.h.pref_address = 0, k.h.kernel_alignment = 0x300000), -ENOEXEC, "power of two");
	DAMAGED((k.h.pref_address = 0, k.h.kernel_alignment = 1U << 31), -ENOSPC, "0x80000000");
}

static void cut_anywhere(void **state)
{
	struct image k = good();

	for (size_t len = 0; len < sizeof(k) - sizeof(k.signature); len += len < 1024 ? 1 : 64)
		expect(&k, len, -ENOEXEC, "");
}

/*
 * Changes each byte of the setup header to values that a careless reader would trust. The reader
 * must refuse the kernel, or load it within guest memory.
 */
static void every_byte(void **state)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};

	for (size_t i = 0; i < sizeof(struct setup_header); i++) {
		for (size_t v = 0; v < sizeof(values); v++) {
			struct image k = good();
			struct boot_kernel got;
			struct vm_memory m;

			((uint8_t *)&k.h)[i] = values[v];
			int r = load_in(&k, sizeof(k), 16 * MIB, &got, &m);
			if (r == 0) {
				assert_true(got.start >= ARCH_KERNEL && got.end <= 16 * MIB);
				assert_true(got.entry > got.start && got.entry < got.end);
				r = boot_write_info(&m, &got, &(struct boot_info){.cmdline = ""});
				assert_int_equal(r, 0);
			} else {
				assert_true(r == -ENOEXEC || r == -ENOSPC);
			}
			vm_memory_release(&m);
		}
	}
}

/* Tests Debian's bzImage, which tests/host/image.sh stores in the cache of the test host. */
static void kernel_of_debian(void **state)
{
	struct boot_kernel got;
	struct vm_memory m;
	glob_t found;

	if (glob("/var/cache/caisson-tests/kernel-*/vmlinuz", 0, NULL, &found) != 0) {
		print_message("skipped: no vmlinuz in /var/cache/caisson-tests (tests/host/run "
			      "puts one there)\n");
		skip();
	}
	_cleanup_fd_ int fd = open(found.gl_pathv[0], O_RDONLY | O_CLOEXEC);
	assert_int_equal(vm_memory_init(&m, &(struct vm_memory_options){.size = 256 * MIB}), 0);
	if (boot_load_kernel(&m, fd, &got) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(got.start, 16 * MIB);
	assert_true(got.end > 48 * MIB && got.end < 128 * MIB);
	vm_memory_release(&m);
	uint64_t small = (got.end - got.start) / (2 * MIB) * (2 * MIB);
	assert_int_equal(vm_memory_init(&m, &(struct vm_memory_options){.size = small}), 0);
	assert_int_equal(boot_load_kernel(&m, fd, &got), -ENOSPC);
	vm_memory_release(&m);
	globfree(&found);
}

static void entered_in_long_mode(void **state)
{
	struct image k = good();
	_cleanup_fd_ int fd = file_of(&k, sizeof(k));
	struct machine_options o = {.kvm = "/dev/kvm",
		.memory.size = 16 * MIB,
		.cpus = 1,
		.kernel = fd,
		.initramfs = -EBADF,
		.cmdline = "quiet",
		.console_in = -EBADF,
		.console_out = -EBADF};
	struct machine *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	if (machine_build(m, &o) < 0)
		fail_msg("%s", err_msg());
	if (machine_run(m) != VM_END_POWEROFF)
		fail_msg("%s", m->cpus.why);
	machine_release(m);
	free(m);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(loads),
		cmocka_unit_test(places),
		cmocka_unit_test(damaged),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(every_byte),
		cmocka_unit_test(kernel_of_debian),
	};
	const struct CMUnitTest with_kvm[] = {
		cmocka_unit_test(entered_in_long_mode),
	};
	int failed = cmocka_run_group_tests(plain, NULL, NULL);

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: the entry in long mode needs /dev/kvm\n");
		return failed ? failed : 77;
	}
	return failed + cmocka_run_group_tests(with_kvm, NULL, NULL);
}
