/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of cgroups on a real kernel share: a cgroup per test, and processes in it. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* Runs in a process of the cgroup; its result is the exit status. */
typedef int child_fn(void *arg);

/* Forks, attaches the child, and lets it run only then. */
static inline pid_t fixture_spawn(struct fixture *f, child_fn *fn, void *arg)
{
	int go[2];
	char c;

	assert_int_equal(pipe(go), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(99);
		_exit(fn(arg));
	}
	close(go[0]);
	f->children[f->nchildren++] = pid;
	OK(cg_attach(&f->arena, &f->cg, &f->opt, NULL, pid));
	assert_int_equal(write(go[1], "x", 1), 1);
	close(go[1]);
	return pid;
}

static inline int fixture_wait(struct fixture *f, pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < f->nchildren; i++)
		if (f->children[i] == pid)
			f->children[i] = f->children[--f->nchildren];
	return status;
}

static inline int fixture_run(struct fixture *f, child_fn *fn, void *arg)
{
	int status = fixture_wait(f, fixture_spawn(f, fn, arg));

	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static inline int sleep_for_ever(void *arg)
{
	while (pause() < 0)
		;
	return 0;
}

/* A control file's text. */
static inline const char *fixture_read(struct fixture *f, const char *file)
{
	static char text[4096];
	int dir = cg_open(&f->cg);

	OK(dir);
	int r = cg_read(dir, file, text, sizeof(text));
	close(dir);
	if (r < 0)
		snprintf(text, sizeof(text), "(%s: %s)", file, strerror(-r));
	return text;
}

static inline bool fixture_has(struct fixture *f, const char *file)
{
	int dir = cg_open(&f->cg);

	OK(dir);
	bool has = faccessat(dir, file, F_OK, 0) == 0;
	close(dir);
	return has;
}

static inline int fixture_release(struct fixture *f)
{
	int r = cg_destroy(&f->cg);

	for (size_t i = 0; i < f->nchildren; i++) {
		kill(f->children[i], SIGKILL);
		waitpid(f->children[i], NULL, 0);
	}
	if (r < 0)
		fprintf(stderr, "clean-up: %s\n", err_msg());
	arena_release(&f->arena);
	free(f);
	return r;
}
