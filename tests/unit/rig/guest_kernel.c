/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/guest_kernel.h"

#include <elf.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "images/guest/guest_kernel.h"

static char dir[64]; /* path of the test's directory, which is also the current directory */

void put_file(const char *path, const void *data, size_t len)
{
	char copy[256];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy; (p = strchr(p + 1, '/'));) {
		*p = '\0';
		mkdir(copy, 0755);
		*p = '/';
	}
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
}

void put_text(const char *path, const char *text)
{
	put_file(path, text, strlen(text));
}

size_t make_bzimage(unsigned char image[2048], const char *release)
{
	memset(image, 0, 2048);
	image[0x1f1] = 2;
	image[0x1f4] = 4; /* setup header: size of the code, in units of 16 bytes */
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	memcpy(image + 0x202, "HdrS\x0f\x02", 6);
	image[0x20f] = 1; /* setup header: the version string is at 0x300, which is 0x200 + 0x100 */
	snprintf((char *)image + 0x300, 128, "%s (someone@somewhere) #1 SMP", release);
	return 3 * 512 + 64;
}

void put_vmlinuz(const char *path, const char *release)
{
	unsigned char image[2048];
	size_t len = make_bzimage(image, release);

	put_file(path, image, len);
}

void put_vmlinux(const char *path, const char *release, size_t size, size_t at)
{
	Elf64_Ehdr e = {.e_ident = ELFMAG "\2\1\1",
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(e),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1};
	Elf64_Phdr p = {.p_type = PT_LOAD, .p_filesz = size, .p_memsz = size};
	_cleanup_free_ char *image = calloc(1, size);

	assert_non_null(image);
	memcpy(image, &e, sizeof(e));
	memcpy(image + sizeof(e), &p, sizeof(p));
	memcpy(image + sizeof(e) + sizeof(p), "Linux version %s", 16);
	if (release)
		snprintf(image + at, size - at, "Linux version %s (someone) #1\n", release);
	put_file(path, image, size);
}

void put_modules(const char *base, const char *release, const char *dep, const char *suffix)
{
	char path[256], names[512] = FILES, *save;

	snprintf(path, sizeof(path), "%s/%s/modules.dep", base, release);
	put_text(path, dep);
	for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
		snprintf(path, sizeof(path), "%s/%s/k/%s.ko%s", base, release, n, suffix);
		put_text(path, n);
	}
}

int kernel_tree_setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/caisson-kernel.XXXXXX");
	umask(022);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	put_text("caisson-guest", "#!init");
	err_clear();
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int kernel_tree_teardown(void **state)
{
	assert_int_equal(chdir("/"), 0);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void find_fails(const char *kernel, int code, const char *text)
{
	_cleanup_arena_ struct arena a = {0};
	struct guest_kernel k;

	err_clear();
	int r = guest_kernel_find(
		&a, &(struct guest_kernel_request){.kernel = kernel, .root = "root"}, &k);
	if (r != -code || !strstr(err_msg(), text))
		fail_msg("got %d \"%s\", expected %d \"%s\"", r, err_msg(), -code, text);
}
