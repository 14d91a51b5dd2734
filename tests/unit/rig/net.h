/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network namespaces for tests of netsetup/ against the kernel. A test's setup makes those that it
 * needs; the kernel removes their interfaces when the last descriptor is closed. All of this needs
 * root, and nets_of() skips the test without it.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct nets {
	int before; /* where the test program was started */
	int box;    /* the container's */
	int host;
	int guest; /* stands for the guest's kernel */
	int peer;  /* the world outside */
};

/* NULL: this process is not root, or memory ran out. Each namespace but `before` is still -1. */
struct nets *nets_new(void);
/* Goes back to `before` and closes every namespace. n may be NULL. */
void nets_release(struct nets *n);
/*
 * For cmocka: `box` and `host`, which is then the current one. Without root each test skips itself.
 */
int nets_setup(void **state);
int nets_teardown(void **state);
/* A test's nets, or the test is skipped. */
struct nets *nets_of(void **state);

/* Makes a network namespace and enters it. */
int net_namespace_new(void);
void net_namespace_enter(int net);

/* Runs a shell command, which must succeed. */
void run_shell(const char *command);
/* What a shell command, which must succeed, writes to standard output. Returns buf. */
const char *shell_output(const char *command, char *buf, size_t size);
void assert_ok(int r);
/* The library has returned `want`, and its message has the text `words` in it. */
void assert_error(int r, int want, const char *words);
