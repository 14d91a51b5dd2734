/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the loading of good and damaged kernels, the place of the initramfs, and PVH's start info.
 * With /dev/kvm it also boots a whole machine with a guest of vm_guests.S as an ELF kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/str.h"
#include "unit/rig/descriptors.h"
#include "vm/arch/x86_64/arch.h"
#include "vm/machine.h"

#define MIB (UINT64_C(1) << 20)
#define LOAD_AT 0x100000

extern const uint8_t guest_pvh[], guest_pvh_end[], guest_triple[], guest_triple_end[];

struct kernel {
	Elf64_Ehdr h;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint64_t entry;
	} xen;
	uint8_t code[512];
};

static struct kernel good(void)
{
	struct kernel k = {
		.h = {.e_ident = ELFMAG,
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_phoff = offsetof(struct kernel, load),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2},
		.load = {.p_type = PT_LOAD,
			.p_offset = offsetof(struct kernel, code),
			.p_paddr = LOAD_AT,
			.p_filesz = sizeof(k.code),
			.p_memsz = 8192},
		.note = {.p_type = PT_NOTE,
			.p_offset = offsetof(struct kernel, xen),
			.p_filesz = sizeof(k.xen)},
		.xen = {{4, 8, 18}, "Xen", LOAD_AT},
	};

	k.h.e_ident[EI_CLASS] = ELFCLASS64;
	k.h.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(k.code, guest_pvh, (size_t)(guest_pvh_end - guest_pvh));
	return k;
}

static int file_of(const void *data, size_t len)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, len), len);
	return fd;
}

static int load(const void *data, size_t len, struct boot_kernel *ret)
{
	struct vm_memory m;
	_cleanup_fd_ int fd = file_of(data, len);

	assert_int_equal(vm_memory_init(&m, &(struct vm_memory_options){.size = 4 * MIB}), 0);
	int r = boot_load_kernel(&m, fd, ret);
	if (r == 0)
		assert_memory_equal(
			vm_memory_at(&m, LOAD_AT, 4), ((const struct kernel *)data)->code, 4);
	vm_memory_release(&m);
	return r;
}

static void loads(void **state)
{
	struct kernel k = good();
	struct boot_kernel got;

	assert_int_equal(load(&k, sizeof(k), &got), 0);
	assert_int_equal(got.entry, LOAD_AT);
	assert_int_equal(got.start, LOAD_AT);
	assert_int_equal(got.end, LOAD_AT + 8192);
}

static Elf32_Phdr narrow(const Elf64_Phdr *p)
{
	return (Elf32_Phdr){.p_type = p->p_type,
		.p_offset = (Elf32_Off)p->p_offset,
		.p_paddr = (Elf32_Addr)p->p_paddr,
		.p_filesz = (Elf32_Word)p->p_filesz,
		.p_memsz = (Elf32_Word)p->p_memsz};
}

/* Makes the kernel a 32-bit ELF, whose program headers take the place of the 64-bit ones. */
static struct kernel good32(void)
{
	struct kernel k = good();
	const Elf32_Phdr phdrs[] = {narrow(&k.load), narrow(&k.note)};
	Elf32_Ehdr h = {.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_phoff = offsetof(struct kernel, load),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 2};

	memcpy(h.e_ident, k.h.e_ident, sizeof(h.e_ident));
	h.e_ident[EI_CLASS] = ELFCLASS32;
	memset(&k.h, 0, sizeof(k.h));
	memcpy(&k.h, &h, sizeof(h));
	memcpy(&k.load, phdrs, sizeof(phdrs));
	return k;
}

/* Checks that a 32-bit ELF loads as the 64-bit one does, and that damage in it is found. */
static void loads_32_bits(void **state)
{
	struct kernel k = good32();
	struct boot_kernel got;

	assert_int_equal(load(&k, sizeof(k), &got), 0);
	assert_int_equal(got.entry, LOAD_AT);
	assert_int_equal(got.start, LOAD_AT);
	assert_int_equal(got.end, LOAD_AT + 8192);
	((Elf32_Phdr *)&k.load)->p_filesz = UINT32_MAX;
	assert_int_equal(load(&k, sizeof(k), &got), -ENOEXEC);
	assert_non_null(strstr(err_msg(), "truncated: segment 0"));
	k = good32();
	((Elf32_Ehdr *)&k.h)->e_phoff = sizeof(k) - 40;
	assert_int_equal(load(&k, sizeof(k), &got), -ENOEXEC);
	assert_non_null(strstr(err_msg(), "program headers end past"));
	k = good32();
	((Elf32_Ehdr *)&k.h)->e_machine = EM_X86_64;
	assert_int_equal(load(&k, sizeof(k), &got), -ENOEXEC);
	assert_non_null(strstr(err_msg(), "another machine"));
}

static void expect(const struct kernel *k, size_t len, int code, const char *text)
{
	struct boot_kernel got;
	int r = load(k, len, &got);

	if (r != code || !strstr(err_msg(), text) || !str_starts(err_msg(), "kernel: "))
		fail_msg("expected %d with '%s', got %d: %s", code, text, r, err_msg());
}

#define DAMAGED(change, code, text) \
	do { \
		struct kernel k = good(); \
		change; \
		expect(&k, sizeof(k), code, text); \
	} while (0)

static void damaged(void **state)
{
	DAMAGED(k.h.e_ident[0] = 'M', -ENOEXEC, "not a kernel");
	DAMAGED(k.h.e_ident[EI_CLASS] = ELFCLASS32, -ENOEXEC, "another machine");
	DAMAGED(k.h.e_machine = EM_AARCH64, -ENOEXEC, "another machine");
	DAMAGED(k.h.e_type = ET_REL, -ENOEXEC, "ELF type 1");
	DAMAGED(k.h.e_phnum = 0, -ENOEXEC, "program headers");
	DAMAGED(k.h.e_phnum = 65535, -ENOEXEC, "program headers");
	DAMAGED(k.h.e_phentsize = 1, -ENOEXEC, "program headers");
	DAMAGED(k.h.e_phoff = UINT64_MAX - 50, -ENOEXEC, "program headers end past");
	DAMAGED(k.h.e_phoff = sizeof(k), -ENOEXEC, "program headers end past");
	DAMAGED(k.load.p_offset = UINT64_MAX, -ENOEXEC, "truncated: segment 0");
	DAMAGED(k.load.p_filesz = UINT64_MAX, -ENOEXEC, "truncated: segment 0");
	DAMAGED(k.note.p_offset = sizeof(k) - 4, -ENOEXEC, "truncated: segment 1");
	DAMAGED(k.load.p_memsz = 1, -ENOEXEC, "bytes in memory and");
	DAMAGED(k.load.p_paddr = 0x9000, -ENOEXEC, "above 1 MiB");
	DAMAGED(k.load.p_paddr = UINT64_MAX - 100, -ENOSPC, "does not fit");
	DAMAGED(k.load.p_memsz = UINT64_MAX, -ENOSPC, "does not fit");
	DAMAGED(k.load.p_paddr = 4 * MIB - 4096, -ENOSPC, "does not fit");
	DAMAGED(k.load.p_paddr = VM_HOLE_START, -ENOSPC, "does not fit");
	DAMAGED(k.xen.head.n_type = 17, -ENOEXEC, "no PVH entry");
	DAMAGED(k.xen.head.n_namesz = UINT32_MAX, -ENOEXEC, "no PVH entry");
	DAMAGED(k.xen.head.n_descsz = UINT32_MAX, -ENOEXEC, "no PVH entry");
	DAMAGED(k.note.p_filesz = 11, -ENOEXEC, "no PVH entry");
	DAMAGED(k.note.p_type = PT_NULL, -ENOEXEC, "no PVH entry");
	DAMAGED(k.xen.entry = LOAD_AT + 8192, -ENOEXEC, "is in no segment");
	DAMAGED(k.xen.entry = LOAD_AT - 1, -ENOEXEC, "is in no segment");
}

static void cut_anywhere(void **state)
{
	struct kernel k = good();
	struct boot_kernel got;

	for (size_t len = 0; len < sizeof(k); len++) {
		assert_int_equal(load(&k, len, &got), -ENOEXEC);
		assert_true(str_starts(err_msg(), "kernel: "));
	}
}

static void initramfs_and_start_info(void **state)
{
	const struct boot_kernel kernel = {
		.start = LOAD_AT, .end = 2 * MIB, .cmdline_max = BOOT_CMDLINE_MAX};
	struct boot_range at = {0};
	struct vm_memory m;
	char longest[2049];
	_cleanup_fd_ int small = file_of("0707", 4);
	_cleanup_fd_ int large = memfd_create("initramfs", MFD_CLOEXEC);

	assert_int_equal(vm_memory_init(&m, &(struct vm_memory_options){.size = 4 * MIB}), 0);
	assert_int_equal(boot_load_initramfs(&m, &kernel, small, &at), 0);
	assert_int_equal(at.at, 4 * MIB - 4096);
	assert_memory_equal(vm_memory_at(&m, at.at, 4), "0707", 4);
	assert_int_equal(ftruncate(large, 2 * MIB), 0);
	assert_int_equal(boot_load_initramfs(&m, &kernel, large, &at), 0);
	assert_int_equal(at.at, 2 * MIB);
	assert_int_equal(ftruncate(large, 2 * MIB + 1), 0);
	assert_int_equal(boot_load_initramfs(&m, &kernel, large, &at), -ENOSPC);
	assert_int_equal(ftruncate(large, 0), 0);
	assert_int_equal(boot_load_initramfs(&m, &kernel, large, &at), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[2048] = '\0';
	struct boot_info info = {.cmdline = longest, .initramfs = {0x300000, 4}, .rsdp = 0xe0000};
	assert_int_equal(boot_write_info(&m, &kernel, &info), -EINVAL);
	assert_non_null(strstr(err_msg(), "2048 bytes: expected 2047 at most"));
	longest[2047] = '\0';
	assert_int_equal(boot_write_info(&m, &kernel, &info), 0);
	const uint32_t *w = vm_memory_at(&m, ARCH_START_INFO, 56);
	assert_int_equal(w[0], 0x336ec578);
	/* number of modules in PVH's start info, here the initramfs alone */
	assert_int_equal(w[3], 1);
	assert_int_equal(w[8], 0xe0000);
	assert_int_equal(w[12], 3); /* number of entries in the memory map of PVH's start info */
	const uint64_t *module = vm_memory_at(&m, w[4], 32);
	assert_int_equal(module[0], 0x300000);
	const uint64_t *map = vm_memory_at(&m, w[10], 72);
	assert_int_equal(map[6], MIB);
	assert_int_equal(map[7], 3 * MIB);
	assert_string_equal(vm_memory_at(&m, w[6], 2048), longest);
	vm_memory_release(&m);
}

static struct machine_options options(int kernel)
{
	return (struct machine_options){.kvm = "/dev/kvm",
		.memory.size = 16 * MIB,
		.cpus = 2,
		.kernel = kernel,
		.initramfs = -EBADF,
		.cmdline = "quiet",
		.console_in = -EBADF,
		.console_out = -EBADF};
}

static void whole_machine(void **state)
{
	struct kernel k = good();
	struct machine m;
	_cleanup_fd_ int fd = file_of(&k, sizeof(k));
	_cleanup_fd_ int disk_fd = memfd_create("disk", MFD_CLOEXEC);
	struct machine_disk disk = {.fd = disk_fd, .serial = "disk"};
	struct machine_options o = options(fd);

	assert_int_equal(ftruncate(disk_fd, 4096), 0);
	o.disks = &disk;
	o.disk_count = 1;
	if (machine_build(&m, &o) < 0)
		fail_msg("%s", err_msg());
	assert_int_equal(machine_run(&m), VM_END_POWEROFF);
	machine_release(&m);
	memcpy(k.code, guest_triple, (size_t)(guest_triple_end - guest_triple));
	_cleanup_fd_ int bad = file_of(&k, sizeof(k));
	o.kernel = bad;
	assert_int_equal(machine_build(&m, &o), 0);
	assert_int_equal(machine_run(&m), VM_END_FAULT);
	assert_non_null(strstr(m.cpus.why, "rip="));
	machine_release(&m);
}

/*
 * Checks that no descriptor is left open if building the machine fails, whichever of its options is
 * wrong.
 */
static void build_fails_clean(void **state)
{
	struct kernel k = good();
	struct machine m;
	_cleanup_fd_ int fd = file_of(&k, sizeof(k));
	_cleanup_fd_ int junk = file_of("junk", 4);
	struct machine_disk disk = {.fd = junk, .serial = ""};
	unsigned before = descriptors_below(256);
	struct machine_options o = options(fd);

	o.kvm = "/nonexistent";
	assert_int_equal(machine_build(&m, &o), -ENOENT);
	assert_non_null(strstr(err_msg(), VM_KVM_INSTEAD));
	o = options(fd);
	o.memory.size = MIB;
	assert_int_equal(machine_build(&m, &o), -EINVAL);
	o = options(fd);
	o.cpus = 1000;
	assert_int_equal(machine_build(&m, &o), -EINVAL);
	o = options(junk);
	assert_int_equal(machine_build(&m, &o), -ENOEXEC);
	assert_null(strstr(err_msg(), VM_KVM_INSTEAD));
	o = options(fd);
	o.disks = &disk;
	o.disk_count = 1;
	assert_int_equal(machine_build(&m, &o), -EINVAL);
	assert_true(str_starts(err_msg(), "disk 0: "));
	o.disk_count = MACHINE_DISKS_MAX + 1;
	assert_int_equal(machine_build(&m, &o), -EINVAL);
	assert_int_equal(descriptors_below(256), before);
}

/*
 * Makes KVM_CREATE_VM fail with EBUSY in this process from now on, as if another hypervisor used
 * the processor.
 */
static int take_processor(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_CREATE_VM, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBUSY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = {ARRAY_SIZE(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0 ? -errno : 0;
}

/*
 * Checks the error if /dev/kvm exists but another hypervisor uses the processor: the error must
 * name QEMU as the other way to run the guest.
 */
static void busy(void **state)
{
	struct kernel k = good();
	struct machine m;
	_cleanup_fd_ int fd = file_of(&k, sizeof(k));
	const struct machine_options o = options(fd);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int r = take_processor();
		if (r >= 0)
			r = machine_build(&m, &o);
		fprintf(stderr, "%s\n", err_msg());
		_exit(!(r == -EBUSY && strstr(err_msg(), "another hypervisor") &&
			strstr(err_msg(), VM_KVM_INSTEAD)));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(loads),
		cmocka_unit_test(loads_32_bits),
		cmocka_unit_test(damaged),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(initramfs_and_start_info),
	};
	const struct CMUnitTest with_kvm[] = {
		cmocka_unit_test(whole_machine),
		cmocka_unit_test(build_fails_clean),
		cmocka_unit_test(busy),
	};
	int failed = cmocka_run_group_tests(plain, NULL, NULL);

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		fprintf(stderr, "skipped: the tests of a whole machine need /dev/kvm\n");
		return failed ? failed : 77;
	}
	return failed + cmocka_run_group_tests(with_kvm, NULL, NULL);
}
