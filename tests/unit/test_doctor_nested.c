/* SPDX-License-Identifier: Apache-2.0 */
/* Tests which kernels `caisson doctor` calls safe for guests that run guests of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/str.h"
#include "doctor/doctor.h"

static void the_fix_is_found_by_the_number(void **state)
{
	static const struct {
		/*
		 * first fixed release, which the message must name; NULL: the kernel is fixed
		 * already
		 */
		const char *release, *version, *fix;
	} kernels[] = {
		{"6.1.176", "#1 SMP", "6.1.177"},
		{"6.1.177", "#1 SMP", NULL},
		{"6.1.200-cloud", "#1 SMP", NULL},
		{"6.12.94+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.94-1 (2026-05-01)",
			"6.12.95"},
		{"6.1.0-56-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-03-01)",
			"6.1.177"},
		{"6.1.0-60-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.177-1 (2026-09-01)", NULL},
		{"5.14.0-687.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC", "5.15.211"},
		{"5.10.260", "#1", NULL},
		{"4.19.300", "#1", "5.10.260"},
		{"6.17.13", "#1", "6.18.38"},
		{"6.18.37", "#1", "6.18.38"},
		{"6.18.44-fc-v782", "#1 SMP PREEMPT_DYNAMIC @0", NULL},
		{"6.19.2", "#1", "7.1.3"},
		{"7.0.20", "#1", "7.1.3"},
		{"7.1.3", "#1", NULL},
		{"7.2.0-rc1", "#1", NULL},
		{"7.2-rc1", "#1", NULL},
		{"8.0.0", "#1", NULL},
		{"something", "#1", "5.10.260"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		const char *fix = NULL;
		bool fixed = doctor_nested_fixed(kernels[i].release, kernels[i].version, &fix);

		if (fixed != !kernels[i].fix)
			fail_msg("%s: %s", kernels[i].release, fixed ? "fixed" : "not fixed");
		if (!fixed)
			assert_string_equal(fix, kernels[i].fix);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_fix_is_found_by_the_number)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
