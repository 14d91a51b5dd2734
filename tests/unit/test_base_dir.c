/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/dir.h"

/* Checks that a descriptor from which no directory stream can be made is closed. */
static void test_dir_take_fd(void **state)
{
	int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = dir_take_fd(folder);

	assert_true(file >= 0 && d && readdir(d));
	closedir(d);
	assert_null(dir_take_fd(file));
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(fcntl(file, F_GETFD), -1);
	assert_null(dir_take_fd(-EBADF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_dir_take_fd)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
