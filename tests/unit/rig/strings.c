/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/strings.h"

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

void check_strings(struct spec_strings list, const char *const *expected, int line)
{
	size_t n = 0;

	for (; expected[n]; n++)
		if (n >= list.n || !streq(list.v[n], expected[n]))
			fail_msg("line %d: string %zu is not \"%s\"", line, n, expected[n]);
	assert_int_equal(list.n, n);
	assert_null(list.v[n]);
}
