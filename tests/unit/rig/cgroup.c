/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void fixture_open(struct fixture *f, void **ret)
{
	*ret = f;
	if (geteuid() == 0 && cg_resolve(&f->arena, &f->opt, &f->cg) >= 0 &&
		cg_create(&f->cg, NULL) >= 0)
		return;
	fprintf(stderr, "no cgroup to test with: %s\n", geteuid() ? "not root" : err_msg());
	arena_release(&f->arena);
	free(f);
	*ret = NULL;
}

pid_t fixture_spawn(struct fixture *f, child_fn *fn, void *arg)
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

int fixture_wait(struct fixture *f, pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < f->nchildren; i++)
		if (f->children[i] == pid)
			f->children[i] = f->children[--f->nchildren];
	return status;
}

int fixture_run(struct fixture *f, child_fn *fn, void *arg)
{
	int status = fixture_wait(f, fixture_spawn(f, fn, arg));

	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

int sleep_for_ever(void *arg)
{
	while (pause() < 0)
		;
	return 0;
}

const char *fixture_read(struct fixture *f, const char *file)
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

bool fixture_has(struct fixture *f, const char *file)
{
	int dir = cg_open(&f->cg);

	OK(dir);
	bool has = faccessat(dir, file, F_OK, 0) == 0;
	close(dir);
	return has;
}

int fixture_release(struct fixture *f)
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
