/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the writer of initramfs archives. A reader in this file and cpio(1) read its archives back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/fd.h"
#include "images/guest/initramfs.h"

#define ATTR(...) (&(struct initramfs_attr){__VA_ARGS__})

static void read_back(int fd, struct strbuf *ret)
{
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, ret, 64 << 20, "archive"), 0);
}

static uint32_t field(const char *header, int i)
{
	char digits[9] = "";

	memcpy(digits, header + 6 + 8 * i, 8);
	for (int d = 0; d < 8; d++)
		assert_non_null(strchr("0123456789ABCDEF", digits[d]));
	return (uint32_t)strtoul(digits, NULL, 16);
}

/*
 * Lists archives as the kernel reads them (buffer-format.rst): one archive after the other, with
 * zeros in between, all aligned to 4 bytes. Each entry becomes a line "mode uid:gid rmajor:rminor
 * name [data]".
 */
static void list(const struct strbuf *b, struct strbuf *ret)
{
	size_t at = 0;

	while (at < b->len) {
		const char *h = b->s + at;
		if (*h == '\0') {
			at++;
			continue;
		}
		assert_int_equal(at % 4, 0);
		assert_true(b->len - at >= 110);
		assert_memory_equal(h, "070701", 6);
		assert_int_equal(field(h, 5), 0);  /* the modification time is always 0 */
		assert_int_equal(field(h, 12), 0); /* the checksum is always 0 */
		size_t size = field(h, 6), name_len = field(h, 11);
		size_t data = (at + 110 + name_len + 3) & ~(size_t)3;
		assert_true(data + size <= b->len);
		assert_int_equal(strlen(h + 110), name_len - 1);
		if (!streq(h + 110, "TRAILER!!!"))
			assert_int_equal(strbuf_addf(ret, "%o %u:%u %u:%u %s [%.*s]\n", field(h, 1),
						 field(h, 2), field(h, 3), field(h, 9),
						 field(h, 10), h + 110, (int)size, b->s + data),
				0);
		else
			assert_int_equal(strbuf_addf(ret, "end\n"), 0);
		at = (data + size + 3) & ~(size_t)3;
		assert_true(at <= b->len);
	}
}

static void assert_listing(int fd, const char *expected)
{
	_cleanup_strbuf_ struct strbuf bytes = {0}, listing = {0};

	read_back(fd, &bytes);
	list(&bytes, &listing);
	assert_string_equal(strbuf_str(&listing), expected);
}

static int archive(struct initramfs *w)
{
	int fd = initramfs_memfd("test");

	assert_true(fd >= 0);
	assert_int_equal(initramfs_begin(w, fd, "test archive"), 0);
	return fd;
}

static void add_data(struct initramfs *w, const char *name, const char *text)
{
	struct strbuf data = {.s = (char *)text, .len = strlen(text)};

	assert_int_equal(initramfs_data(w, name, ATTR(.mode = 0644), &data), 0);
}

/* Adds the smallest possible entry to the archive, which has a name and no data. */
static int add_fifo(struct initramfs *w, const char *name)
{
	return initramfs_node(w, name, ATTR(.mode = S_IFIFO | 0644), 0, 0);
}

static void test_golden(void **state)
{
	/* clang-format off */
	static const char expected[] =
		/*
		 * The header's fields: magic ino mode uid gid nlink mtime size major minor rmajor
		 * rminor name check
		 */
		"070701" "00000001" "000041ED" "00000000" "00000000" "00000002" "00000000" "00000000"
		"00000000" "00000000" "00000000" "00000000" "00000004" "00000000" "dev\0\0\0"
		"070701" "00000002" "00002180" "00000000" "00000005" "00000001" "00000000" "00000000"
		"00000000" "00000000" "00000005" "00000001" "0000000C" "00000000" "dev/console\0\0\0"
		"070701" "00000003" "000089ED" "000003E8" "000003E8" "00000001" "00000000" "00000003"
		"00000000" "00000000" "00000000" "00000000" "00000005" "00000000" "init\0\0" "#!a\0"
		"070701" "00000000" "00000000" "00000000" "00000000" "00000001" "00000000" "00000000"
		"00000000" "00000000" "00000000" "00000000" "0000000B" "00000000" "TRAILER!!!\0\0\0\0";
	/* clang-format on */
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	_cleanup_fd_ int fd = archive(&w);
	struct strbuf script = {.s = (char *)"#!a", .len = 3};

	assert_int_equal(initramfs_dir(&w, "dev", ATTR(.mode = 0755)), 0);
	assert_int_equal(
		initramfs_node(&w, "dev/console", ATTR(.mode = S_IFCHR | 0600, .gid = 5), 5, 1), 0);
	assert_int_equal(
		initramfs_data(&w, "init", ATTR(.mode = 04755, .uid = 1000, .gid = 1000), &script),
		0);
	assert_int_equal(initramfs_end(&w), 0);
	read_back(fd, &bytes);
	assert_int_equal(w.offset, bytes.len);
	assert_int_equal(bytes.len, sizeof(expected) - 1);
	assert_memory_equal(bytes.s, expected, bytes.len);
}

/*
 * Checks the padding: names and data have every length modulo 4, because both are padded to 4
 * bytes. Data comes from memory and from files.
 */
static void test_alignment(void **state)
{
	_cleanup_strbuf_ struct strbuf expected = {0};
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int fd = archive(&w);
	char name[32];

	for (int n = 1; n <= 5; n++) {
		for (int size = 0; size <= 5; size++) {
			_cleanup_fd_ int source = memfd_create("source", MFD_CLOEXEC);

			snprintf(name, sizeof(name), "%d%.*s", size, n, "xxxxx");
			add_data(&w, name, &"12345"[5 - size]);
			assert_int_equal(strbuf_addf(&expected, "100644 0:0 0:0 %s [%s]\n", name,
						 &"12345"[5 - size]),
				0);
			snprintf(name, sizeof(name), "%d%.*s", size, n, "yyyyy");
			assert_int_equal(write(source, "abcde", (size_t)size), size);
			assert_int_equal(initramfs_file(&w, name, ATTR(.mode = 0600), source), 0);
			assert_int_equal(strbuf_addf(&expected, "100600 0:0 0:0 %s [%.*s]\n", name,
						 size, "abcde"),
				0);
			/*
			 * Checks that the reading position of the source file, which belongs to the
			 * caller, has not changed.
			 */
			assert_int_equal(lseek(source, 0, SEEK_CUR), size);
		}
	}
	assert_int_equal(initramfs_end(&w), 0);
	assert_int_equal(strbuf_addf(&expected, "end\n"), 0);
	assert_listing(fd, strbuf_str(&expected));
}

static void test_large_file(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	_cleanup_fd_ int source = memfd_create("source", MFD_CLOEXEC), fd = archive(&w);
	size_t size = 1000003;
	char *data = malloc(size);

	assert_non_null(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 7 + i / 251);
	assert_int_equal(fd_write_all(source, data, size), 0);
	assert_int_equal(initramfs_file(&w, "large", ATTR(.mode = 0644), source), 0);
	assert_int_equal(initramfs_end(&w), 0);
	read_back(fd, &bytes);
	assert_memory_equal(bytes.s + 116, data, size);
	free(data);
}

static void test_concatenation(void **state)
{
	_cleanup_initramfs_ struct initramfs first = {0}, second = {0};
	_cleanup_fd_ int fd = archive(&first), cached = -EBADF;
	struct initramfs third;

	add_data(&first, "a", "1");
	assert_int_equal(initramfs_end(&first), 0);
	/*
	 * Checks an archive of another program, which may end at any offset: the next archive must
	 * begin at a multiple of 4.
	 */
	assert_int_equal(write(fd, "\0\0\0\0\0", 5), 5);
	assert_int_equal(initramfs_begin(&second, fd, "second"), 0);
	assert_int_equal(second.offset % 4, 0);
	/* an entry of a later archive may replace a file of an earlier one */
	add_data(&second, "a", "2");
	assert_int_equal(initramfs_end(&second), 0);

	cached = archive(&third);
	assert_int_equal(add_fifo(&third, "b"), 0);
	assert_int_equal(initramfs_end(&third), 0);
	initramfs_release(&third);
	assert_int_equal(write(fd, "", 1), 1);
	assert_int_equal(initramfs_append(fd, cached, "cached"), 0);
	assert_listing(fd, "100644 0:0 0:0 a [1]\nend\n100644 0:0 0:0 a [2]\nend\n"
			   "10644 0:0 0:0 b []\nend\n");
}

static void test_append_checks(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int expected;
	} cases[] = {{"", 0, -EINVAL}, {"07070", 5, -EINVAL}, {"070707......", 12, -EINVAL},
		{"#!/bin/sh\n", 10, -EINVAL}, {"\x1f\x8b\x08\0\0", 5, 0},
		{"\x28\xb5\x2f\xfd\0", 5, 0}, {"\xfd\x37zXZ\0", 6, 0}};
	_cleanup_fd_ int fd = initramfs_memfd("test");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_fd_ int source = memfd_create("source", MFD_CLOEXEC);

		assert_int_equal(write(source, cases[i].bytes, cases[i].len), cases[i].len);
		err_clear();
		assert_int_equal(initramfs_append(fd, source, "the cached one"), cases[i].expected);
		if (cases[i].expected < 0)
			assert_non_null(strstr(err_msg(), "the cached one: not an initramfs"));
	}
	assert_int_equal(lseek(fd, 0, SEEK_END), 8 + 8 + 6);
}

static void test_names(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int fd = archive(&w);
	static const char *const bad[] = {"", "/", "/init", "a/", "a//b", ".", "..", "./a", "../a",
		"a/..", "a/../b", "a/.", "TRAILER!!!"};
	char name[INITRAMFS_MAX_NAME + 2];

	assert_int_equal(initramfs_dir(&w, "a", ATTR(.mode = 0755)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(add_fifo(&w, bad[i]), -EINVAL);
		assert_non_null(strstr(err_msg(), "test archive"));
		assert_non_null(strstr(err_msg(), bad[i]));
	}
	static const char *const good[] = {"...", "..a", ".a", "a/..b", "a/TRAILER!!!", "b c"};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(add_fifo(&w, good[i]), 0);

	memset(name, 'n', 256);
	name[256] = '\0';
	assert_int_equal(add_fifo(&w, name), -ENAMETOOLONG);
	name[255] = '\0';
	assert_int_equal(add_fifo(&w, name), 0);
	memset(name, 'n', sizeof(name));
	name[INITRAMFS_MAX_NAME + 1] = '\0';
	assert_int_equal(add_fifo(&w, name), -ENAMETOOLONG);
}

static void test_order(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int fd = archive(&w);

	assert_int_equal(add_fifo(&w, "d/l"), -ENOENT);
	assert_string_equal(
		err_msg(), "test archive: d/l: its directory \"d\" must be written before it");
	add_data(&w, "f", "");
	assert_int_equal(add_fifo(&w, "f/l"), -ENOTDIR);
	assert_int_equal(initramfs_dir(&w, "d", ATTR(.mode = 0700)), 0);
	assert_int_equal(initramfs_dir(&w, "d/e", ATTR(.mode = 0700)), 0);
	assert_int_equal(add_fifo(&w, "d/e/l"), 0);
	assert_int_equal(add_fifo(&w, "d/e/l"), -EEXIST);
	assert_int_equal(initramfs_dir(&w, "d", ATTR(.mode = 0700)), -EEXIST);
}

static void test_modes(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int fd = archive(&w);
	struct strbuf none = {0};

	assert_int_equal(initramfs_dir(&w, "d", ATTR(.mode = S_IFDIR | 0755)), -EINVAL);
	assert_int_equal(initramfs_data(&w, "f", ATTR(.mode = S_IFREG | 0644), &none), -EINVAL);
	assert_int_equal(initramfs_node(&w, "n", ATTR(.mode = 0644), 1, 3), -EINVAL);
	assert_int_equal(initramfs_node(&w, "n", ATTR(.mode = S_IFREG | 0644), 0, 0), -EINVAL);
	assert_int_equal(initramfs_node(&w, "n", ATTR(.mode = S_IFIFO | 0644), 0, 1), -EINVAL);
	assert_int_equal(initramfs_node(&w, "n", ATTR(.mode = S_IFCHR | 0644), 4096, 0), -EINVAL);
	assert_int_equal(
		initramfs_node(&w, "n", ATTR(.mode = S_IFBLK | 0644), 0, 1 << 20), -EINVAL);
	assert_non_null(strstr(err_msg(), "0:1048576"));
	assert_int_equal(initramfs_node(&w, "n", ATTR(.mode = S_IFBLK | 01644), 4095, 1048575), 0);
	assert_int_equal(initramfs_node(&w, "p", ATTR(.mode = S_IFIFO | 0600), 0, 0), 0);
	assert_int_equal(initramfs_data(&w, "zero", ATTR(.mode = 0), &none), 0);
	assert_int_equal(initramfs_end(&w), 0);
	assert_listing(fd, "61644 0:0 4095:1048575 n []\n10600 0:0 0:0 p []\n"
			   "100000 0:0 0:0 zero []\nend\n");
}

static void test_sources(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0}, full = {0};
	_cleanup_fd_ int fd = archive(&w), pipe_end = -EBADF, other_end = -EBADF;
	/*
	 * Checks that a file is an error if it grows while it is read. For /proc/self/status the
	 * kernel reports the size 0 although the file has content, so the writer sees the same as
	 * for a file that grows.
	 */
	_cleanup_fd_ int proc = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int huge = memfd_create("huge", MFD_CLOEXEC), null = open("/dev/full", O_RDWR);
	int ends[2];

	assert_int_equal(initramfs_file(&w, "status", ATTR(.mode = 0644), proc), -EIO);
	assert_non_null(strstr(err_msg(), "test archive: status: its length changed"));
	assert_int_equal(ftruncate(huge, 1LL << 32), 0);
	assert_int_equal(initramfs_file(&w, "huge", ATTR(.mode = 0644), huge), -EFBIG);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pipe_end = ends[0];
	other_end = ends[1];
	assert_int_equal(initramfs_file(&w, "pipe", ATTR(.mode = 0644), pipe_end), -EINVAL);
	assert_int_equal(initramfs_file(&w, "closed", ATTR(.mode = 0644), -EBADF), -EBADF);
	assert_int_equal(initramfs_begin(&full, pipe_end, "a pipe"), -ESPIPE);
	assert_int_equal(initramfs_begin(&full, null, "full disk"), 0);
	assert_int_equal(initramfs_dir(&full, "d", ATTR(.mode = 0755)), -ENOSPC);
	assert_non_null(strstr(err_msg(), "full disk: write d: No space left"));
}

static void test_too_many(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char name[32];

	assert_int_equal(initramfs_begin(&w, null, "many"), 0);
	for (int i = 0; i < INITRAMFS_MAX_ENTRIES; i++) {
		snprintf(name, sizeof(name), "%d", i);
		assert_int_equal(initramfs_dir(&w, name, ATTR(.mode = 0755)), 0);
	}
	assert_int_equal(initramfs_dir(&w, "last", ATTR(.mode = 0755)), -E2BIG);
}

/* Returns what a shell command prints when it reads the archive on standard input. */
static void run_on(int fd, const char *command, struct strbuf *ret)
{
	char line[512];
	FILE *out;

	snprintf(line, sizeof(line), "%s </proc/%d/fd/%d 2>&1", command, getpid(), fd);
	out = popen(line, "r");
	assert_non_null(out);
	assert_int_equal(fd_read_all(fileno(out), ret, 1 << 20, command), 0);
	assert_int_equal(pclose(out), 0);
}

static void test_read_by_cpio(void **state)
{
	_cleanup_initramfs_ struct initramfs w = {0};
	_cleanup_fd_ int fd = archive(&w);
	static const char *const readers[] = {"cpio", "bsdcpio"};
	int found = 0;

	assert_int_equal(initramfs_dir(&w, "dev", ATTR(.mode = 0755)), 0);
	assert_int_equal(initramfs_node(&w, "dev/null", ATTR(.mode = S_IFCHR | 0666), 1, 3), 0);
	add_data(&w, "hello", "hello, guest\n");
	assert_int_equal(add_fifo(&w, "init"), 0);
	assert_int_equal(initramfs_end(&w), 0);
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		_cleanup_strbuf_ struct strbuf names = {0}, details = {0};
		char command[128];

		snprintf(command, sizeof(command), "command -v %s >/dev/null", readers[i]);
		if (system(command) != 0)
			continue;
		found++;
		snprintf(command, sizeof(command), "%s -it --quiet", readers[i]);
		run_on(fd, command, &names);
		assert_string_equal(strbuf_str(&names), "dev\ndev/null\nhello\ninit\n");
		snprintf(command, sizeof(command), "TZ=UTC %s -itvn --quiet", readers[i]);
		run_on(fd, command, &details);
		assert_non_null(strstr(strbuf_str(&details), "drwxr-xr-x"));
		assert_non_null(strstr(strbuf_str(&details), "crw-rw-rw-"));
		assert_non_null(strstr(strbuf_str(&details), "prw-r--r--"));
		assert_non_null(strstr(strbuf_str(&details), "1970"));
	}
	if (found == 0) {
		print_message(
			"skipped: neither cpio nor bsdcpio (libarchive-tools) is installed\n");
		skip();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_large_file),
		cmocka_unit_test(test_concatenation),
		cmocka_unit_test(test_append_checks),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_read_by_cpio),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
