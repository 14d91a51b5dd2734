/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests which of the CPU features that KVM offers the guest can see, on processors of Intel and of
 * AMD.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"

#define VMX (1U << 5)
#define SVM (1U << 2)
#define TSC_DEADLINE (1U << 24)

/*
 * Returns the CPUID leaves that KVM would offer if its module was loaded with nested=1, so that
 * guests can run guests of their own. All other features in these leaves are set too.
 */
static struct kvm_cpuid2 *offer(bool intel)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ARCH_CPUID_MAX * sizeof(c->entries[0]));
	const struct kvm_cpuid_entry2 entries[] = {
		{.function = 0, .eax = 0x1f, .ebx = intel ? 0x756e6547 : 0x68747541},
		{.function = 1, .ecx = intel ? ~0U : ~VMX, .edx = ~0U},
		{.function = 0x80000001, .ecx = intel ? ~SVM : ~0U, .edx = ~0U},
		{.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = ~0U},
		{.function = 0x80000008, .eax = 0x3030},
	};

	assert_non_null(c);
	memcpy(c->entries, entries, sizeof(entries));
	c->nent = ARRAY_SIZE(entries);
	/* An Intel processor has no leaf 0x8000000a. */
	if (intel)
		c->entries[3] = c->entries[--c->nent];
	return c;
}

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *c, uint32_t function)
{
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == function)
			return &c->entries[i];
	return NULL;
}

static void no_guest_runs_guests_by_default(void **state)
{
	for (int intel = 0; intel < 2; intel++) {
		struct kvm_cpuid2 *c = offer(intel);

		arch_filter_cpuid(c, &(struct arch_cpu){.count = 2}, true);
		assert_int_equal(leaf(c, 1)->ecx & VMX, 0);
		assert_int_equal(leaf(c, 0x80000001)->ecx & SVM, 0);
		assert_null(leaf(c, 0x8000000a));
		/*
		 * Features that have nothing to do with running guests inside of the guest must
		 * stay visible.
		 */
		assert_int_equal(leaf(c, 1)->ecx & TSC_DEADLINE, TSC_DEADLINE);
		assert_int_equal(leaf(c, 0x80000001)->edx, ~0U);
		free(c);
	}
}

static void a_guest_runs_guests_on_request(void **state)
{
	for (int intel = 0; intel < 2; intel++) {
		struct kvm_cpuid2 *c = offer(intel);

		arch_filter_cpuid(c, &(struct arch_cpu){.count = 2, .nested = true}, true);
		assert_int_equal(leaf(c, 1)->ecx & VMX, intel ? VMX : 0);
		assert_int_equal(leaf(c, 0x80000001)->ecx & SVM, intel ? 0 : SVM);
		assert_int_equal(leaf(c, 0x8000000a) != NULL, !intel);
		free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_guest_runs_guests_by_default),
		cmocka_unit_test(a_guest_runs_guests_on_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
