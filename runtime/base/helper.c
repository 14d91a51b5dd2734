/* SPDX-License-Identifier: Apache-2.0 */
#include "base/helper.h"

#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/process.h"

int helper_streams_open(struct helper_streams *s, const void *input, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->fd); i++) {
		s->fd[i] = memfd_create("helper", MFD_CLOEXEC);
		if (s->fd[i] < 0)
			return err_sys("make a memfd");
	}
	int r = fd_write_all(s->fd[0], input, len);
	if (r < 0 || lseek(s->fd[0], 0, SEEK_SET) < 0)
		return err_set(r < 0 ? -r : errno, "write a memfd");
	return 0;
}

void helper_streams_close(struct helper_streams *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->fd); i++)
		fd_close(&s->fd[i]);
}

int helper_read(const struct helper_streams *s, int stream, struct strbuf *ret, size_t max)
{
	if (lseek(s->fd[stream], 0, SEEK_SET) < 0)
		return err_sys("read a memfd");
	return fd_read_all(s->fd[stream], ret, max, "the helper's output");
}

/*
 * Executes the program. Returns only on failure. execvp(3) would execute a file that is no program
 * as a shell script, so it is called only for a `path` without a slash, the name of a program of
 * the distribution.
 */
static void run(const char *path, char *const argv[])
{
	if (strchr(path, '/'))
		execv(path, argv);
	else
		execvp(path, argv);
}

/*
 * Replaces the child process by the helper program, and never returns. Before that, the child asks
 * the kernel to kill the helper as soon as the process that called helper_run() ends, because no
 * process would then be left to undo what the helper makes.
 */
static _Noreturn void become_helper(
	const struct helper_streams *s, const char *path, const char *const *argv, pid_t parent)
{
	sigset_t none;

	sigemptyset(&none);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
		dup2(s->fd[0], 0) == 0 && dup2(s->fd[1], 1) == 1 && dup2(s->fd[2], 2) == 2 &&
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 && setpgid(0, 0) == 0 &&
		sigprocmask(SIG_SETMASK, &none, NULL) == 0)
		run(path, (char *const *)argv);
	dprintf(2, "execute it: %s\n", err_text(errno));
	_exit(127);
}

int helper_run(
	const struct helper_streams *s, const char *path, const char *const *argv, int *ret_status)
{
	pid_t self = getpid(), pid = fork();

	if (pid < 0)
		return err_sys("fork");
	if (pid == 0)
		become_helper(s, path, argv, self);
	return process_wait(pid, path, ret_status);
}

const char *helper_last_line(struct strbuf *text)
{
	if (!text->len)
		return "";
	if (text->s[text->len - 1] == '\n')
		text->s[text->len - 1] = '\0';
	char *newline = strrchr(text->s, '\n');
	return newline ? newline + 1 : text->s;
}
