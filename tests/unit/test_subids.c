/* SPDX-License-Identifier: Apache-2.0 */
/* Tests how the ranges of ids in /etc/subuid are found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/subids.h"

static void check(const char *text, const char *name, uint32_t first, uint32_t count)
{
	uint32_t found, n;

	assert_true(subids_next(&text, name, 1000, &found, &n));
	assert_int_equal(found, first);
	assert_int_equal(n, count);
	assert_false(subids_next(&text, name, 1000, &found, &n));
}

static void test_lines(void **state)
{
	check("bob:1:2\nanna:100000:65536\nann:5:6\n", "anna", 100000, 65536);
	check("1000:7:8", "anna", 7, 8);
	check("anna:7:8\n1000:9:10\n", NULL, 9, 10);
	check("\n::\nanna\nanna:1\nanna:1:2:3\nanna:7:8\n", "anna", 7, 8);
}

static void test_several_ranges(void **state)
{
	const char *text = "anna:1:2\nbob:9:9\n1000:3:4";
	uint32_t first, count;

	assert_true(subids_next(&text, "anna", 1000, &first, &count));
	assert_int_equal(first, 1);
	assert_true(subids_next(&text, "anna", 1000, &first, &count));
	assert_int_equal(first, 3);
	assert_int_equal(count, 4);
	assert_false(subids_next(&text, "anna", 1000, &first, &count));
}

static void test_numbers_that_are_no_range(void **state)
{
	static const char *const lines[] = {"anna:0x10:5", "anna:1:", "anna::5", "anna:1:0",
		"anna:-1:5", "anna: 1:5", "anna:4294967295:1", "anna:4294967294:2",
		"anna:99999999999999999999:1", "anna:1:4294967297", "anna:1:5 "};
	uint32_t first, count;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *text = lines[i];
		assert_false(subids_next(&text, "anna", 1000, &first, &count));
	}
	check("anna:4294967294:1", "anna", 4294967294, 1);
}

static void test_source(void **state)
{
	static const char *const files[] = {"", "subid:", "subid: files\n", "subid:\tfiles sss\n",
		"# subid: sss\n", "passwd: sss\nsubid: files", "asubid: sss",
		"subid:\nsubid: files"};
	static const char *const others[] = {"subid: sss", "passwd: files\nsubid:sss\n",
		"SUBID: filesystem\n", "subid: \nsubid: sss files\n"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_false(subids_names_source(files[i]));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_true(subids_names_source(others[i]));
}

static void test_printed(void **state)
{
	static const char *const wrong[] = {"Error", "\n", "0: anna 1", "0: anna 1 0",
		"0: anna 1 5 ", "0: anna 1 5 6", "0 anna 1 5", ": anna 1 5", "x: anna 1 5",
		"0:  1 5", "0: anna -1 5", "0: anna 4294967295 1", "0: anna 4294967290 6",
		"0: anna 0x1 5", "0: anna 1 5\n\n", "0: anna 1 5\r\n", "0: anna\t1 5\n"};
	_cleanup_strbuf_ struct strbuf map = {0};

	assert_int_equal(subids_add_printed("", &map), 0);
	assert_int_equal(map.len, 0);
	assert_int_equal(subids_add_printed("0: anna 100 5\n1: anna 4294967294 1\n", &map), 0);
	assert_string_equal(strbuf_str(&map), "1 100 5\n6 4294967294 1\n");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(subids_add_printed(wrong[i], &map), -EPROTO);
		assert_non_null(strstr(err_msg(), "getsubids printed"));
	}
}

/* The kernel takes 340 lines, of which the caller writes one. */
static void test_more_ranges_than_the_kernel_takes(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0}, map = {0};
	size_t lines = 0;

	for (int i = 0; i < 500; i++)
		assert_int_equal(strbuf_addf(&text, "%d: anna %d 1\n", i, 1000 + 2 * i), 0);
	assert_int_equal(subids_add_printed(strbuf_str(&text), &map), 0);
	for (const char *p = strbuf_str(&map); *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 339);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_several_ranges),
		cmocka_unit_test(test_numbers_that_are_no_range),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_printed),
		cmocka_unit_test(test_more_ranges_than_the_kernel_takes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
