/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the JSON parser (base/json.h) with hostile texts: deeply nested ones and large objects. */
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

/* Writes an object with n members, of which the last one has the name of the member `twice`. */
static void write_object(struct strbuf *b, int n, int twice)
{
	int r = strbuf_addf(b, "{");

	for (int i = 0; i < n && r >= 0; i++)
		r = strbuf_addf(b, "%s\"k%d\":{}", i ? "," : "",
			i == n - 1 && twice >= 0 ? twice : (i * 7919) % 8192);
	if (r >= 0)
		r = strbuf_addf(b, "}");
	assert_int_equal(r, 0);
}

static int parse_object(int n, int twice, bool nested)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf b = {0};
	struct json *j;

	assert_int_equal(strbuf_addf(&b, "%s", nested ? "[1,{\"a\":" : ""), 0);
	write_object(&b, n, twice);
	assert_int_equal(strbuf_addf(&b, "%s", nested ? ",\"b\":2}]" : ""), 0);
	int r = json_parse(&a, b.s, b.len, "the text", &j);
	if (r >= 0 && !nested)
		assert_int_equal(j->count, n);
	return r;
}

/* A property that an object has twice is an error, in small objects and in large ones. */
static void test_given_twice(void **state)
{
	static const int sizes[] = {2, 31, 32, 33, 34, 35, 100, JSON_MAX_MEMBERS};
	char name[32];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		const int n = sizes[i / 2];
		const bool nested = i % 2;
		const int places[] = {0, (n / 2 * 7919) % 8192, ((n - 2) * 7919) % 8192};
		assert_int_equal(parse_object(n, -1, nested), 0);
		for (size_t k = 0; k < ARRAY_SIZE(places); k++) {
			if (k == 1 && n == 2)
				continue;
			assert_int_equal(parse_object(n, places[k], nested), -EINVAL);
			snprintf(name, sizeof(name), "\"k%d\" is given twice", places[k]);
			assert_non_null(strstr(err_msg(), name));
		}
	}
	assert_int_equal(parse_object(JSON_MAX_MEMBERS + 1, -1, false), -EINVAL);
	assert_non_null(strstr(err_msg(), "more than"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_memory), cmocka_unit_test(test_given_twice)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
