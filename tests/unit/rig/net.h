/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes network namespaces for tests of netsetup/ on the real kernel. The set-up function of a test
 * makes the namespaces that the test needs; the kernel removes their interfaces when the last
 * descriptor is closed. All of this needs root; without root nets_of() skips the test.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct nets {
	int before; /* namespace in which the test program was started */
	int box;    /* namespace of the container */
	int host;
	int guest; /* namespace that stands for the guest's kernel */
	int peer;  /* namespace that stands for the outside world */
};

/*
 * Allocates a struct nets whose descriptors are all -1 except `before`. Returns NULL if this
 * process is not root or memory ran out.
 */
struct nets *nets_new(void);
/* Goes back to the namespace `before` and closes every namespace. n may be NULL. */
void nets_release(struct nets *n);
/*
 * Set-up function for cmocka: makes the namespaces `box` and `host`, and leaves the test in `host`.
 * Without root each test skips itself.
 */
int nets_setup(void **state);
int nets_teardown(void **state);
/*
 * Returns the namespaces that the set-up function has made. Skips the test if it could make none.
 */
struct nets *nets_of(void **state);

/* Makes a network namespace and enters it. */
int net_namespace_new(void);
void net_namespace_enter(int net);

/* Runs a shell command. The test fails if the command fails. */
void run_shell(const char *command);
/*
 * Runs a shell command and stores its standard output in buf. The test fails if the command fails.
 * Returns buf.
 */
const char *shell_output(const char *command, char *buf, size_t size);
void assert_ok(int r);
/*
 * Checks that the result r of a library call is `want`, and that the error message contains the
 * text `words`.
 */
void assert_error(int r, int want, const char *words);
