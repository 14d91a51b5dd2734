/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the function that finds out whether KVM can run Linux: its answer, the reason that it gives
 * and its duration, compared with what the kernel says.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "vm/kvm.h"

/*
 * Returns whether the flags in /proc/cpuinfo have this word. kvm.c, which is under test, asks the
 * processor by CPUID instead.
 */
static bool cpuinfo_has(const char *flag)
{
	char line[16384], *save;
	FILE *f = fopen("/proc/cpuinfo", "re");
	bool found = false;

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f))
		if (str_starts(line, "flags"))
			for (char *w = strtok_r(line, " \t\n", &save); w && !found;
				w = strtok_r(NULL, " \t\n", &save))
				found = streq(w, flag);
	fclose(f);
	return found;
}

static void test_device(void **state)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{"/dev/no-such-kvm", "is absent: this host has no KVM"},
		{"/dev/null", "is not KVM"},
		{"/dev", "/dev"},
	};
	char reason[512], cut[8];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(vm_kvm_runs_linux(cases[i].path, reason, sizeof(reason)), 0);
		assert_non_null(strstr(reason, cases[i].text));
		assert_non_null(strstr(reason, cases[i].path));
		assert_string_equal(err_msg(), "");
	}
	assert_int_equal(vm_kvm_runs_linux("/dev/no-such-kvm", cut, sizeof(cut)), 0);
	assert_string_equal(cut, "/dev/no");
}

/*
 * Checks the error for a user who may not open /dev/kvm. It must advise to add the user to the
 * device's group only if the members of the group may open the device.
 */
static void test_not_permitted(void **state)
{
	static const struct {
		mode_t mode;
		const char *text;
	} cases[] = {
		{0660, "may not be opened by user 65534: add the user to the group "},
		{0600, "may not be opened by user 65534, nor by the members of a group"},
	};
	char path[] = "/tmp/kvm-test.XXXXXX", reason[512];

	if (geteuid() != 0) {
		print_message("skipped: needs root\n");
		skip();
	}
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* The user of this test is no member of the group 4242. */
		assert_int_equal(fchown(fd, 0, 4242), 0);
		assert_int_equal(fchmod(fd, cases[i].mode), 0);
		assert_int_equal(seteuid(65534), 0);
		int r = vm_kvm_runs_linux(path, reason, sizeof(reason));
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(r, 0);
		assert_non_null(strstr(reason, path));
		assert_non_null(strstr(reason, cases[i].text));
	}
	assert_int_equal(unlink(path), 0);
	close(fd);
}

static void test_this_machine(void **state)
{
	bool device = access("/dev/kvm", R_OK | W_OK) == 0;
	bool vmx = cpuinfo_has("vmx"), svm = cpuinfo_has("svm");
	struct timespec a, b;
	char reason[512];
	long best = -1;

	for (int i = 0; i < 20; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		int r = vm_kvm_runs_linux("/dev/kvm", reason, sizeof(reason));
		clock_gettime(CLOCK_MONOTONIC, &b);
		long ns = (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec;

		assert_int_equal(r, device && (vmx || svm));
		if (best < 0 || ns < best)
			best = ns;
	}
	if (device)
		assert_non_null(strstr(reason, vmx   ? "with Intel VT-x"
					       : svm ? "with AMD-V"
						     : "paravirtual KVM"));
	print_message("%s; decided in %ld us\n", reason, best / 1000);
	assert_true(best < 1000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_device),
		cmocka_unit_test(test_not_permitted), cmocka_unit_test(test_this_machine)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
