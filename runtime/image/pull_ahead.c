/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pull_ahead.h"

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/libexec.h"
#include "base/log.h"

#define IMAGE_PROGRAM "caisson-image"

/*
 * Executes `caisson-image ahead` in the child process. The child's standard input is the pipe `in`,
 * through which its parent says that the pull is complete.
 */
static _Noreturn void run_ahead(const char *program, const struct image_globals *g,
	const struct store *s, const struct digest *manifest, int in)
{
	const char *argv[12] = {program, "--store", s->path};
	size_t n = 3;

	if (g->quiet)
		argv[n++] = "--quiet";
	if (g->no_sync)
		argv[n++] = "--no-sync";
	if (g->debug)
		argv[n++] = "--debug";
	argv[n++] = "ahead";
	argv[n++] = manifest->text;
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
		execv(program, (char **)(uintptr_t)argv);
	_exit(127);
}

void pull_ahead_start(struct pull_ahead *p, const struct image_globals *g, const struct store *s,
	const struct digest *manifest)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_fd_ int in = -EBADF;
	const char *program;
	int ends[2];

	*p = (struct pull_ahead)PULL_AHEAD_INIT;
	if (libexec_program(&a, IMAGE_PROGRAM, &program) < 0 || access(program, X_OK) < 0 ||
		pipe2(ends, O_CLOEXEC) < 0) {
		log_debug("the image is not unpacked ahead");
		err_clear();
		return;
	}
	in = ends[0];
	p->pipe = ends[1];
	pid_t pid = fork();
	if (pid == 0)
		run_ahead(program, g, s, manifest, in);
	if (pid < 0) {
		log_debug("the image is not unpacked ahead: %s", strerror(errno));
		fd_close(&p->pipe);
		return;
	}
	p->pid = pid;
}

void pull_ahead_end(struct pull_ahead *p, bool complete)
{
	const char byte = 1;

	if (p->pid == 0)
		return;
	if (complete)
		(void)!write(p->pipe, &byte, 1);
	else
		fd_close(&p->pipe);
	/*
	 * An error of waitpid() sets no error message, because the pull may have failed before and
	 * have set a message, which must stay.
	 */
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	fd_close(&p->pipe);
	p->pid = 0;
}
