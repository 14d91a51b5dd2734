/* SPDX-License-Identifier: Apache-2.0 */
#include "base/aside.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/sys.h"

/*
 * What the new process that runs aside_run()'s function reports to the caller. The new process and
 * the caller share the memory of this structure.
 */
struct answer {
	int result;
	char message[ERR_MAX];
	int fds[];
};

static size_t answer_size(size_t n)
{
	return sizeof(struct answer) + n * sizeof(int);
}

/*
 * Takes the result that a process of aside_run() has left in *a before it ended. Gives the caller
 * the descriptors that the process opened, or closes them if the process failed.
 */
static int take_answer(struct answer *a, int *fds, size_t n)
{
	if (a->result >= 0) {
		memcpy(fds, a->fds, n * sizeof(*fds));
		return a->result;
	}
	for (size_t i = 0; i < n; i++)
		fd_close(&a->fds[i]);
	return err_set(-a->result, "%s", a->message);
}

int aside_run(uint64_t flags, int (*fn)(void *data, int *fds), void *data, int *fds, size_t n)
{
	struct clone_args args = {.flags = flags | CLONE_FILES, .exit_signal = SIGCHLD};

	for (size_t i = 0; i < n; i++)
		fds[i] = -EBADF;
	struct answer *a = mmap(
		NULL, answer_size(n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (a == MAP_FAILED)
		return err_sys("get memory for a helper process");
	a->result = -ESRCH;
	snprintf(a->message, sizeof(a->message), "a helper process ended early");
	for (size_t i = 0; i < n; i++)
		a->fds[i] = -EBADF;
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		int r = fn(data, a->fds);
		if (r < 0)
			snprintf(a->message, sizeof(a->message), "%s", err_msg());
		a->result = r;
		_exit(0);
	}
	int r = pid < 0 ? err_sys("make a helper process") : 0;
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r >= 0)
		r = take_answer(a, fds, n);
	munmap(a, answer_size(n));
	return r;
}
