/* SPDX-License-Identifier: Apache-2.0 */
/* Gives each test that uses cgroups of the real kernel a cgroup of its own, and processes in it. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cgroups/cg_internal.h"

#define OK(r) \
	do { \
		if ((r) < 0) \
			fail_msg("%s: %s", #r, err_msg()); \
	} while (0)

struct fixture {
	struct arena arena;
	struct cgroup cg;
	struct cg_options opt;
	pid_t children[8];
	size_t nchildren;
};

/*
 * A function that fixture_spawn() runs in a process in the cgroup. Its return value becomes the
 * process's exit status.
 */
typedef int child_fn(void *arg);

/*
 * Creates the cgroup that f->opt describes, and stores f in *ret. If the machine has no cgroup to
 * test with, the function frees f and stores NULL, which makes the test skip itself.
 */
void fixture_open(struct fixture *f, void **ret);

/* Forks a child process and attaches it to the cgroup. Only then does the child run fn(arg). */
pid_t fixture_spawn(struct fixture *f, child_fn *fn, void *arg);
int fixture_wait(struct fixture *f, pid_t pid);
int fixture_run(struct fixture *f, child_fn *fn, void *arg);
int sleep_for_ever(void *arg);

/* Returns the content of a file of the cgroup, in a buffer that the next call overwrites. */
const char *fixture_read(struct fixture *f, const char *file);
bool fixture_has(struct fixture *f, const char *file);
int fixture_release(struct fixture *f);
