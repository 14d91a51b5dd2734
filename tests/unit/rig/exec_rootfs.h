/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a root file system in which tests look up programs. Tests that run real programs use the
 * machine's own root.
 */
#pragma once
#include "step/step.h"
#include "unit/rig/child.h"

#define STRINGS(...) \
	{ \
		(const char *const[]){__VA_ARGS__, NULL}, \
			sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
	}
#define NO_SUCH_FILE "no such file or directory"

const char *exec_rootfs(void);

/*
 * Changes the root of the test's child process to `root`. Returns a context for the steps under
 * test.
 */
struct step_ctx exec_rootfs_enter(const char *root);

/*
 * Looks up the program that p names, as if no program had been looked up before. Returns the
 * program's descriptor or -errno.
 */
int find_program(struct step_ctx *c, const struct spec_process *p);

/*
 * Returns the value of a variable in the environment that the program will get, or NULL if it has
 * no such variable.
 */
const char *env_of(const struct step_ctx *c, const char *name);

/* Set-up function for cmocka: makes the root file system. */
int make_rootfs(void **state);

int remove_rootfs(void **state);
