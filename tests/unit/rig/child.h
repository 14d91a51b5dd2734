/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a test in a forked child, because some steps change the process for good. The child must not
 * use cmocka's assertions, because they would jump back into the parent's list of tests. Instead
 * the child uses CHECK(), which ends the child, and then in_child() fails the test.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
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

/* Checks, in the child, that the message of the last error contains this text. */
#define CHECK_MSG(text) \
	do { \
		if (!strstr(err_msg(), (text))) { \
			fprintf(stderr, "%s:%d: \"%s\" does not mention \"%s\"\n", __FILE__, \
				__LINE__, err_msg(), (text)); \
			_exit(1); \
		} \
	} while (0)

/* Runs f in a child and returns the child's wait status. */
int child_status(void (*f)(void));
/*
 * Runs f in a child. Skips the test if the child exits with CHILD_SKIPPED, and fails it if the
 * child exits with any other status except 0.
 */
void in_child(void (*f)(void));

/*
 * Reads the hexadecimal number behind `name`, such as "CapEff:", in /proc/PID/status. Ends this
 * process, as CHECK() does, if there is none.
 */
uint64_t status_number(pid_t pid, const char *name);

#define needs_root() \
	do { \
		if (geteuid() != 0) { \
			print_message("skipped: needs root\n"); \
			skip(); \
		} \
	} while (0)

/* Defines test_NAME, which runs run_NAME in a child. */
#define CHILD_TEST(name) \
	static void test_##name(void **state) \
	{ \
		in_child(run_##name); \
	}

/* Defines test_NAME, which runs run_NAME in a child, and skips itself if the user is not root. */
#define ROOT_CHILD_TEST(name) \
	static void test_##name(void **state) \
	{ \
		needs_root(); \
		in_child(run_##name); \
	}
