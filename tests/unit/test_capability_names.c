/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares caisson's table of capability names with libcap, name by name and number by number.
 * caisson has a table of its own, because caisson-init, which prints the names too, is not linked
 * with libcap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/capability.h>

#include "spec/spec.h"

static void test_names_are_libcaps(void **state)
{
	const char *const *known = spec_known_capabilities();
	size_t n = 0;

	for (; known[n]; n++) {
		cap_value_t number;
		unsigned ours;

		assert_int_equal(cap_from_name(known[n], &number), 0);
		assert_int_equal(spec_parse_capability(known[n], &ours), 0);
		assert_int_equal(ours, number);
	}
	/* The kernel's headers may know more capabilities than libcap has names for. */
	assert_true(n >= CAP_LAST_CAP + 1);
}

static void test_every_number_has_its_name(void **state)
{
	for (cap_value_t i = 0; i <= CAP_LAST_CAP; i++) {
		char *name = cap_to_name(i);
		unsigned ours;

		assert_non_null(name);
		for (char *c = name; *c; c++)
			if (*c >= 'a' && *c <= 'z')
				*c = (char)(*c - 'a' + 'A');
		assert_int_equal(spec_parse_capability(name, &ours), 0);
		assert_int_equal(ours, i);
		cap_free(name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_libcaps),
		cmocka_unit_test(test_every_number_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
