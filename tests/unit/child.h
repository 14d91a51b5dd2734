/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of steps that change the process for good run in a forked child. cmocka's assertions must
 * not be used there (they would jump back into the parent's list of tests): CHECK() ends the child,
 * and in_child() fails the test.
 */
#pragma once
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

#define CHILD_SKIPPED 77

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s: not so (%s)\n", __FILE__, __LINE__, \
				#condition, err_msg()); \
			_exit(1); \
		} \
	} while (0)

/* The error of the step that was just tried mentions this. */
#define CHECK_MSG(text) \
	do { \
		if (!strstr(err_msg(), (text))) { \
			fprintf(stderr, "%s:%d: \"%s\" does not mention \"%s\"\n", __FILE__, \
				__LINE__, err_msg(), (text)); \
			_exit(1); \
		} \
	} while (0)

/* The wait status of a child that ran f. */
static inline int child_status(void (*f)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		f();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static inline void in_child(void (*f)(void))
{
	int status = child_status(f);

	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPPED)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child ended with wait status 0x%x", status);
}

#define needs_root() \
	do { \
		if (geteuid() != 0) { \
			print_message("skipped: needs root\n"); \
			skip(); \
		} \
	} while (0)
