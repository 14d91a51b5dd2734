/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the search for the guest's kernel, with fake kernels and modules: a kernel is a header with
 * a version, a module is a line of text.
 */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "images/guest/guest_kernel.h"
#include "images/guest/kernel_image.h"
#include "unit/rig/guest_kernel.h"

static void find(const char *kernel, const char *expect)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;

	err_clear();
	assert_int_equal(
		guest_kernel_find(
			&a, &(struct guest_kernel_request){.kernel = kernel, .root = "root"}, &k),
		0);
	assert_string_equal(k.release, expect);
	assert_true(k.kernel >= 0 && k.initramfs < 0);
	assert_int_equal(k.tuned, strstr(expect, "-caisson") != NULL);
	assert_string_equal(err_msg(), "");
}

static void read_image(const char *path, enum kernel_format format, const char *release)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct kernel_image image;

	if (kernel_image_read(&a, fd, path, &image) != 0)
		fail_msg("%s", err_msg());
	assert_int_equal(image.format, format);
	assert_string_equal(image.release, release);
}

static void test_formats(void **state)
{
	char longest[65];

	put_vmlinuz("bz", "6.1.0-56-amd64");
	read_image("bz", KERNEL_BZIMAGE, "6.1.0-56-amd64");
	/*
	 * The search must find the version string wherever it is in the file: across the end of a
	 * chunk that the search reads at a time, and at the end of the file.
	 */
	for (size_t at = 65536 - 90; at < 65536 + 20; at++) {
		put_vmlinux("elf", "6.1.192-caisson", 70000, at);
		read_image("elf", KERNEL_ELF, "6.1.192-caisson");
	}
	memset(longest, '7', 64);
	longest[64] = '\0';
	put_vmlinux("elf", longest, 300, 200);
	read_image("elf", KERNEL_ELF, longest);
}

static void test_no_kernel(void **state)
{
	unsigned char image[2048];

	find_fails("absent", ENOENT, "vm.kernel.path: kernel absent: does not exist");
	find_fails(".", EINVAL, "expected a kernel, not a directory");
	find_fails("/dev/null", EINVAL, "expected a kernel, not a special file");
	put_file("empty", "", 0);
	find_fails("empty", ENOEXEC, "empty: not a kernel: neither ELF (vmlinux) nor bzImage");
	put_text("script", "#!/bin/sh\n");
	find_fails("script", ENOEXEC, "starts with 23 21 2f 62");
	find_fails("/bin/sh", ENOEXEC, "a program of user space");
	put_vmlinux("elf", NULL, 4096, 0);
	find_fails("elf", ENOEXEC, "not a Linux kernel");
	put_vmlinux("elf", "6.1\t", 4096, 512);
	find_fails("elf", ENOEXEC, "not a Linux kernel");
	put_vmlinux("elf", "6.1.0", 4096, 512);
	for (off_t size = 4095; size >= 4; size /= 2) {
		assert_int_equal(truncate("elf", size), 0);
		find_fails("elf", EINVAL, "elf: truncated");
	}
	size_t len = make_bzimage(image, "6.1.0");
	put_file("bz", image, len - 1);
	find_fails("bz", EINVAL, "bz: truncated: a bzImage of 1600 bytes, of which 1599");
	put_file("bz", image, 0x210);
	find_fails("bz", EINVAL, "bz: truncated");
	memset(image + 0x300, 'x', 200);
	put_file("bz", image, len);
	find_fails("bz", ENOEXEC, "names no kernel version");
	memcpy(image + 0x20e, "\xff\xff", 2);
	put_file("bz", image, len);
	find_fails("bz", ENOEXEC, "names no kernel version");
}

/*
 * Changes four bytes of the ELF header, at each offset in turn. The reader must return an error or
 * the same release as for the good header, and must not crash.
 */
static void test_damaged_elf(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	static const unsigned char bad[] = {0, 1, 0x7f, 0x80, 0xff};

	for (size_t at = 0; at < sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr); at += 2)
		for (size_t i = 0; i < sizeof(bad); i++) {
			struct kernel_image image;

			put_vmlinux("elf", "6.1.0", 1024, 512);
			_cleanup_fd_ int fd = open("elf", O_RDWR | O_CLOEXEC);
			unsigned char value[4] = {bad[i], bad[i], bad[i], bad[i]};
			assert_int_equal(pwrite(fd, value, 4, (off_t)at), 4);
			int r = kernel_image_read(&a, fd, "elf", &image);
			assert_true(r == -EINVAL || r == -ENOEXEC ||
				    (r == 0 && streq(image.release, "6.1.0")));
		}
}

static void test_search(void **state)
{
	struct utsname uts;

	find_fails(NULL, ENOENT, "apt-get install linux-image-amd64");
	find_fails(NULL, ENOENT, "images/kernel/build");
	put_text("root/boot/vmlinuz-broken", "?");
	find_fails(NULL, ENOENT, "root/boot/vmlinuz-broken: not a kernel");
	put_vmlinuz("root/boot/vmlinuz-5", "5.9.0-1");
	find_fails(NULL, ENOENT, "no modules for it in /lib/modules/5.9.0-1");
	put_modules("root/lib/modules", "5.9.0-1", DEP, "");
	find(NULL, "5.9.0-1");
	put_vmlinuz("root/boot/vmlinuz-10", "5.10.0-1");
	put_modules("root/usr/lib/modules", "5.10.0-1", DEP, "");
	find(NULL, "5.10.0-1");
	/*
	 * The kernel 6.1 is newer than 5.10.0-1, but the search must not choose it, because it
	 * lacks modules that guests need.
	 */
	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	put_modules("root/lib/modules", "6.1", "k/virtio_mmio.ko:\n", "");
	find(NULL, "5.10.0-1");
	assert_int_equal(uname(&uts), 0);
	put_vmlinuz("root/boot/vmlinuz-running", uts.release);
	put_modules("root/lib/modules", uts.release, DEP, "");
	find(NULL, uts.release);
	put_vmlinux("root/usr/lib/caisson/kernel/vmlinux", "4.9-caisson", 1024, 512);
	put_text("root/usr/lib/caisson/kernel/config", CONFIG "CONFIG_EXT4_FS=y\n");
	find(NULL, "4.9-caisson");
	/*
	 * Checks that a damaged kernel in caisson's own directory is an error, and that the search
	 * does not go on to another kernel.
	 */
	assert_int_equal(truncate("root/usr/lib/caisson/kernel/vmlinux", 700), 0);
	find_fails(NULL, EINVAL, "the installed caisson kernel: ");
}

static void test_kernel_lacks(void **state)
{
	static const struct {
		const char *module, *text;
	} cases[] = {
		{"k/virtiofs.ko", "no virtiofs (CONFIG_VIRTIO_FS, virtio-fs, its root"},
		{"k/vmw_vsock_virtio_transport.ko", "(CONFIG_VIRTIO_VSOCKETS, vsock"},
		{"k/virtio_mmio.ko", "no virtio_mmio"},
		{"k/virtio-rng.ko", "no virtio_rng"},
	};

	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char dep[] = DEP;

		strstr(dep, cases[i].module)[3] = 'X';
		put_modules("root/lib/modules", "6.1", dep, "");
		find_fails("root/boot/vmlinuz-6", EOPNOTSUPP, cases[i].text);
		find_fails(NULL, ENOENT, cases[i].text);
		/*
		 * A driver that modules.builtin says is built into the kernel must need no module.
		 */
		put_text("root/lib/modules/6.1/modules.builtin", cases[i].module);
		find(NULL, "6.1");
		assert_int_equal(unlink("root/lib/modules/6.1/modules.builtin"), 0);
	}
}

static void test_named_kernel(void **state)
{
	put_vmlinuz("k/vmlinuz", "6.6");
	/*
	 * The kernel must be accepted, because no configuration file is there to say which features
	 * it has.
	 */
	find("k/vmlinuz", "6.6");
	put_text("k/config-6.6", CONFIG "CONFIG_EXT4_FS=m\n");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no ext4");
	put_text("k/config-6.6", CONFIG "# CONFIG_EXT4_FS is not set\nCONFIG_EXT4_FS=yes\n");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no ext4");
	put_text("k/config-6.6", CONFIG "CONFIG_EXT4_FS=y");
	find("k/vmlinuz", "6.6");
	put_modules("k/modules", "6.6", "k/ext4.ko:\n", "");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no virtio_mmio");
	put_modules("k/modules", "6.6", DEP, "");
	find("k/vmlinuz", "6.6");
	put_text("k/modules/6.6/modules.dep", "no colon\n");
	find_fails("k/vmlinuz", EINVAL, "modules of k/vmlinuz: k/modules/6.6/modules.dep: line 1");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kernel_tree_setup, kernel_tree_teardown)
	const struct CMUnitTest tests[] = {
		T(test_formats),
		T(test_no_kernel),
		T(test_damaged_elf),
		T(test_search),
		T(test_kernel_lacks),
		T(test_named_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
