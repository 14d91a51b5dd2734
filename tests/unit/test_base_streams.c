/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "rig/child.h"

/* Returns whether both descriptors refer to the same file. */
static bool same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Returns whether the standard streams are open and survive an execve(). */
static bool streams_stay(void)
{
	return fcntl(0, F_GETFD) == 0 && fcntl(1, F_GETFD) == 0 && fcntl(2, F_GETFD) == 0;
}

/* Checks a pipe as one stream and /dev/null as the others, and that no descriptor is left open. */
static void streams_are_replaced(void)
{
	int ends[2];

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	const int next = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	CHECK(next >= 0 && close(next) == 0);
	CHECK(fd_set_streams(-EBADF, ends[1], -EBADF) == 0);
	CHECK(streams_stay());
	CHECK(fd_is_null(0) && same_file(1, ends[1]) && fd_is_null(2));
	CHECK((fcntl(0, F_GETFL) & O_ACCMODE) == O_RDWR);
	CHECK(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) == next);
}

/* Checks that standard streams stay what they are if the caller names them. */
static void streams_are_kept(void)
{
	const int out = fcntl(1, F_DUPFD_CLOEXEC, 3), err = fcntl(2, F_DUPFD_CLOEXEC, 3);

	CHECK(out >= 0 && err >= 0 && fcntl(1, F_SETFD, FD_CLOEXEC) == 0);
	CHECK(fd_set_streams(-EBADF, 1, 2) == 0);
	CHECK(streams_stay());
	CHECK(fd_is_null(0) && same_file(1, out) && same_file(2, err));
}

/* Checks a process that has no standard streams, as process 1 of a machine has none. */
static void streams_were_closed(void)
{
	for (int i = 0; i <= STDERR_FILENO; i++)
		close(i);
	CHECK(fd_set_streams(-EBADF, -EBADF, -EBADF) == 0);
	/* fd_is_null() takes a closed descriptor for /dev/null too. */
	CHECK(streams_stay());
	CHECK(fd_is_null(0) && fd_is_null(1) && fd_is_null(2));
}

/*
 * Checks that a stream of the caller takes no place of /dev/null, which open(2) gives the number of
 * a closed stream.
 */
static void one_stream_was_closed(void)
{
	int ends[2];

	CHECK(pipe2(ends, O_CLOEXEC) == 0);
	for (int i = 0; i <= STDERR_FILENO; i++)
		close(i);
	CHECK(fd_set_streams(ends[0], -EBADF, -EBADF) == 0);
	CHECK(streams_stay());
	CHECK(same_file(0, ends[0]) && fd_is_null(1) && fd_is_null(2));
	close(1);
	CHECK(fd_set_streams(-EBADF, ends[1], -EBADF) == 0);
	CHECK(streams_stay());
	CHECK(fd_is_null(0) && same_file(1, ends[1]) && fd_is_null(2));
}

static void streams_of_a_closed_descriptor(void)
{
	CHECK(fd_set_streams(1000, -EBADF, -EBADF) == -EBADF);
	CHECK(strstr(err_msg(), "standard stream 0"));
}

static void test_streams(void **state)
{
	assert_int_equal(child_status(streams_are_replaced), 0);
	assert_int_equal(child_status(streams_are_kept), 0);
	assert_int_equal(child_status(streams_were_closed), 0);
	assert_int_equal(child_status(one_stream_was_closed), 0);
	assert_int_equal(child_status(streams_of_a_closed_descriptor), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_streams)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
