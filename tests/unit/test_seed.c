/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the cloud-init seed, which is a small FAT file system: a reader in this file reads it back.
 * tests/vm/test_machine.py also has a seed read by fsck.vfat, mtools and a guest's kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "images/guest/seed.h"

static unsigned le16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

struct reader {
	uint8_t *b;
	size_t fat, root, data, cluster;
	unsigned entries;
};

static void open_seed(struct reader *r, const struct seed_file *files, size_t n)
{
	int fd = memfd_create("seed", 0);

	assert_int_equal(seed_write(fd, files, n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), SEED_SIZE);
	r->b = mmap(NULL, SEED_SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(r->b, MAP_FAILED);
	close(fd);
	size_t sector = le16(r->b + 11);
	r->cluster = sector * r->b[13];
	r->fat = sector * le16(r->b + 14);
	r->root = r->fat + r->b[16] * sector * le16(r->b + 22);
	r->entries = le16(r->b + 17);
	r->data = r->root + r->entries * 32;
	assert_int_equal(le16(r->b + 510), 0xaa55);
	assert_int_equal(le16(r->b + 19) * sector, SEED_SIZE);
	/*
	 * The file system's two FATs must be the same. It must have at least 4085 clusters, because
	 * with fewer a reader would take it for FAT12 instead of FAT16.
	 */
	assert_memory_equal(
		r->b + r->fat, r->b + r->fat + sector * le16(r->b + 22), sector * le16(r->b + 22));
	assert_true((SEED_SIZE - r->data) / r->cluster >= 4085);
}

/* Returns the directory entry of the file with this long name, or NULL. */
static const uint8_t *find(const struct reader *r, const char *wanted)
{
	static const int places[] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	char name[256] = "";

	for (unsigned i = 0; i < r->entries; i++) {
		const uint8_t *e = r->b + r->root + i * 32;
		if (!e[0])
			return NULL;
		if (e[11] != 0x0f) {
			if (strcmp(name, wanted) == 0)
				return e;
			memset(name, 0, sizeof(name));
			continue;
		}
		for (int k = 0; k < 13; k++) {
			unsigned c = le16(e + places[k]);
			if (c && c != 0xffff)
				name[((e[0] & 0x3f) - 1) * 13 + k] = (char)c;
		}
	}
	return NULL;
}

static void check_file(const struct reader *r, const struct seed_file *f)
{
	const uint8_t *e = find(r, f->name);
	size_t at = 0;

	assert_non_null(e);
	assert_int_equal(le32(e + 28), f->len);
	unsigned cluster = le16(e + 26);
	assert_true(f->len == 0 ? cluster == 0 : cluster >= 2);
	for (; at < f->len; at += r->cluster, cluster = le16(r->b + r->fat + 2 * cluster)) {
		size_t n = f->len - at < r->cluster ? f->len - at : r->cluster;
		assert_true(cluster >= 2 && cluster < 0xfff0);
		assert_memory_equal(
			r->b + r->data + (cluster - 2) * r->cluster, (const char *)f->data + at, n);
	}
	assert_true(f->len == 0 || cluster >= 0xfff8);
}

static void files(void **state)
{
	char *big = malloc(SEED_FILE_MAX);
	struct reader r;

	assert_non_null(big);
	for (size_t i = 0; i < SEED_FILE_MAX; i++)
		big[i] = (char)(i * 7 + i / 4096);
	const struct seed_file all[] = {{"meta-data", "{}", 2}, {"user-data", big, SEED_FILE_MAX},
		{"vendor-data", "", 0}, {"network-config", big + 5, 2048}};
	open_seed(&r, all, 4);
	assert_memory_equal(r.b + r.root, "CIDATA     \x08", 12);
	assert_memory_equal(r.b + 43, "CIDATA     FAT16   ", 19);
	for (size_t i = 0; i < 4; i++)
		check_file(&r, &all[i]);
	assert_null(find(&r, "user-dat"));
	munmap(r.b, SEED_SIZE);
	free(big);
}

static void too_large(void **state)
{
	static char big[SEED_FILE_MAX + 1];
	const struct seed_file one = {"user-data", big, sizeof(big)};
	const struct seed_file name = {"a-name-of-twenty-seven-char", "", 0};
	int fd = memfd_create("seed", 0);

	assert_int_equal(seed_write(fd, &one, 1), -EFBIG);
	assert_non_null(strstr(err_msg(), "user-data: 1048577 bytes"));
	assert_int_equal(seed_write(fd, &name, 1), -EFBIG);
	assert_int_equal(seed_write(fd, &one, SEED_FILES_MAX + 1), -E2BIG);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files),
		cmocka_unit_test(too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
