/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The runtime waits until INIT, the container's first process, has executed
 * the program. execve(2) closes INIT's descriptors, so the runtime sees the end of the channel, or
 * of result.fifo. But a process of the container that may trace INIT can open INIT's descriptors,
 * or copy them (pidfd_getfd(2)), and keep them open. Then the end never comes. So the runtime also
 * looks at INIT itself: at its pidfd, and at the file that it executes.
 */
#include "launch/watch.h"

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/interrupt.h"

/*
 * How long, in ms, the runtime waits between two checks of which file the container's first process
 * executes: FIRST_MS at first, and twice as long after each check, up to MOST_MS.
 */
#define FIRST_MS 4
#define MOST_MS 64

bool init_has_executed(const struct init_watch *w)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/exe", w->pid);
	if (stat(path, &st) < 0)
		return errno == ENOENT || errno == ESRCH;
	return st.st_dev != w->dev || st.st_ino != w->ino;
}

int init_watch_wait(const struct init_watch *w, int fd)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = w->pidfd, .events = POLLIN},
		{.fd = w->interrupt, .events = POLLIN}};
	int pause = FIRST_MS;

	for (;;) {
		int n = poll(p, ARRAY_SIZE(p), w->ino ? pause : -1);
		if (n < 0 && errno != EINTR)
			return err_sys("wait for the container's first process");
		if (n < 0)
			continue;
		if (p[0].revents)
			return 1;
		/*
		 * The descriptor fd is polled once more, because INIT (the container's first
		 * process) may have written a last message just before it ended.
		 */
		if (p[1].revents || (w->ino && init_has_executed(w)))
			return poll(p, 1, 0) > 0;
		int r = p[2].revents ? interrupt_read(w->interrupt) : 0;
		if (r < 0)
			return r;
		pause = pause < MOST_MS ? pause * 2 : MOST_MS;
	}
}
