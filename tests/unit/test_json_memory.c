/* SPDX-License-Identifier: Apache-2.0 */
/* Tests how much memory the JSON parser (base/json.h) takes for a hostile text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/fd.h"
#include "base/json.h"

/* Returns how many pages of memory the process has. */
static unsigned long pages(void)
{
	_cleanup_strbuf_ struct strbuf b = {0};
	unsigned long n = 0;

	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/statm", &b, 4096), 0);
	assert_int_equal(sscanf(b.s, "%*u %lu", &n), 1);
	return n;
}

/* A text that is nested deeply costs memory in proportion to its length, not to its square. */
static void test_json_memory(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	static char deep[300001];
	struct json *n;
	const unsigned long before = pages();

	memset(deep, '[', sizeof(deep) - 1);
	assert_int_equal(json_parse(&a, deep, sizeof(deep) - 1, "the text", &n), -EINVAL);
	assert_true(pages() < before + (64 << 20) / 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_json_memory)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
