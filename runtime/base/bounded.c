/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bounded.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/interrupt.h"

/* What the new process reports. The new process and the caller share the structure's memory. */
struct answer {
	int result;
	char message[ERR_MAX];
};

/* Closes all descriptors but those to keep. The standard streams become /dev/null. */
static int close_others(const struct bounded *b)
{
	int r = fd_set_streams(-EBADF, -EBADF, -EBADF);

	return r < 0 ? r : fd_close_all_but(b->keep, b->nkeep);
}

static _Noreturn void answer(const struct bounded *b, pid_t parent, struct answer *a)
{
	/* The caller's locks end with the caller, and then nothing may be changed any more. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	int r = close_others(b);
	if (r >= 0)
		r = b->fn(b->data);
	if (r < 0)
		snprintf(a->message, sizeof(a->message), "%s", err_msg());
	a->result = r;
	_exit(0);
}

/* Waits until the process has ended. Returns -ETIMEDOUT or -EINTR as bounded_run() does. */
static int wait_for(int pidfd, int interrupt, int timeout_ms)
{
	const int64_t end = clock_ms() + timeout_ms;
	struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = interrupt, .events = POLLIN}};

	for (;;) {
		const int64_t left = end - clock_ms();
		const int n = poll(p, ARRAY_SIZE(p), left > 0 ? (int)left : 0);
		if (n < 0 && errno != EINTR)
			return err_sys("wait for a process");
		if (n > 0 && p[0].revents)
			return 0;
		int r = n > 0 ? interrupt_read(interrupt) : 0;
		if (r < 0)
			return r;
		if (left <= 0)
			return err_set(ETIMEDOUT,
				"a file system of the container, such as FUSE, did not answer in "
				"%d seconds",
				timeout_ms / 1000);
	}
}

static int run(const struct bounded *b, int interrupt, struct answer *a)
{
	const pid_t self = getpid(), pid = fork();

	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0)
		answer(b, self, a);
	_cleanup_fd_ int pidfd = pidfd_open(pid, 0);
	int r = pidfd < 0 ? err_sys("open a process") : wait_for(pidfd, interrupt, b->timeout_ms);
	if (r < 0) {
		/*
		 * The killed process may wait for a file system for long, so this process does not
		 * wait for its end, but leaves it to the process that reaps orphans.
		 */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, WNOHANG);
		return r;
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return a->result < 0 ? err_set(-a->result, "%s", a->message) : a->result;
}

int bounded_run(const struct bounded *b)
{
	struct answer *a =
		mmap(NULL, sizeof(*a), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (a == MAP_FAILED)
		return err_sys("get memory for a process");
	a->result = -ESRCH;
	snprintf(a->message, sizeof(a->message),
		"the process that should make the change was killed");
	_cleanup_fd_ int interrupt = interrupt_block();
	int r = interrupt < 0 ? interrupt : run(b, interrupt, a);
	interrupt_unblock();
	munmap(a, sizeof(*a));
	return r;
}
