/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A root file system in which tests look programs up. Tests that run real programs use the
 * machine's own.
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

/* Changes the root of the test's child and returns a context for the steps that are tested. */
struct step_ctx exec_rootfs_enter(const char *root);

/* Looks up the program that p names, from the beginning. */
int find_program(struct step_ctx *c, const struct spec_process *p);

/* The value in the environment that the program will get. NULL: it is not there. */
const char *env_of(const struct step_ctx *c, const char *name);

/* For cmocka */
int make_rootfs(void **state);

int remove_rootfs(void **state);
