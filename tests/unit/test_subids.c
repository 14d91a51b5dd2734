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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_several_ranges),
		cmocka_unit_test(test_numbers_that_are_no_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
