/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the base64 texts of base/base64.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"

/* The test vectors of RFC 4648, all bytes, and texts that no encoder writes. */
static void test_base64(void **state)
{
	static const char *const known[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
		{"foobar", "Zm9vYmFy"}, {"\xff\xff\xfe", "///+"}};
	static const char *const wrong[] = {"Z", "Zg",
		"Zg=", "Zg==Zg==", "=g==", "Z===", "====", "Zh==", "Zm9=", "Zm8=\n", "Zm 8", "Zm-_",
		"Zg=a", "Zm9v=AAA", "Zm\x80="};
	_cleanup_strbuf_ struct strbuf all = {0}, text = {0}, back = {0};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		_cleanup_strbuf_ struct strbuf b = {0}, c = {0};
		assert_int_equal(base64_encode(&b, known[i][0], strlen(known[i][0])), 0);
		assert_string_equal(strbuf_str(&b), known[i][1]);
		assert_int_equal(base64_decode(&c, known[i][1], strlen(known[i][1])), 0);
		assert_string_equal(strbuf_str(&c), known[i][0]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_strbuf_ struct strbuf b = {0};
		assert_int_equal(base64_decode(&b, wrong[i], strlen(wrong[i])), -EINVAL);
	}
	for (unsigned i = 0; i < 65536; i++)
		assert_int_equal(strbuf_add(&all, (uint16_t[]){(uint16_t)i}, 2), 0);
	assert_int_equal(base64_encode(&text, all.s, all.len), 0);
	assert_int_equal(base64_decode(&back, text.s, text.len), 0);
	assert_int_equal(back.len, all.len);
	assert_memory_equal(back.s, all.s, all.len);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_base64)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
